//! The write-ahead log: segments of batches, written by the engine, one batch at a time.
//!
//! ```text
//!   00000000000000000000.log   head, base 0    | batch | batch | ... | batch |   revisions      1 ..= 70_123
//!   00000000000000070123.log   head, base 70123| batch | batch |                 revisions 70_124 ..
//! ```
//!
//! The identity names the newest segment, so that its loss is noticed too; it is replaced when a segment is begun,
//! before that segment's first batch, which costs nothing per commit.
//!
//! Invariant: a batch is written only after the batch before it is durable, and a segment is made (head and
//! directory entry durable) only after the segment before it is. So a batch's mark, and a segment's name, prove
//! that everything before them was durable once, which is how recovery tells corruption from a torn tail.

use super::format::{FileKind, HEAD_BYTES, Head, frame_begin, frame_seal};
use crate::contract::Revision;
use base::disk::Disk;
use std::collections::VecDeque;
use std::io;

/// The file name of the segment with this base.
pub(crate) fn segment_name(base: Revision) -> String {
    format!("{:020}.log", base.0)
}

/// A file that belongs to the log: the last durable revision before its first batch, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub base: Revision,
    pub bytes: u64,
}

/// The log, as its writer sees it.
#[derive(Debug)]
pub(crate) struct Log {
    pub incarnation: u64,
    /// Oldest first; the last one is written to.
    pub segments: VecDeque<Segment>,
}

impl Log {
    /// All bytes of the log.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The bytes of the segment that is written to.
    pub(crate) fn active_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.bytes)
    }

    /// Appends the batch in `buffer` (begun with [`frame_begin`]) and makes it durable. `durable` is the last
    /// durable revision before it.
    pub(crate) fn append(
        &mut self,
        disk: &mut dyn Disk,
        buffer: &mut [u8],
        durable: Revision,
        count: u32,
    ) -> io::Result<()> {
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::Error::other("the log has no segment"));
        };
        let head = Head { kind: FileKind::Log, incarnation: self.incarnation, revision: segment.base };
        frame_seal(buffer, &head, segment.bytes, durable.0, count);
        let name = segment_name(segment.base);
        disk.append(&name, buffer)?;
        disk.sync(&name)?;
        segment.bytes += buffer.len() as u64;
        Ok(())
    }

    /// Writes that everything up to `durable` is durable, for an orderly stop: without it, nothing tells rot in
    /// the very last batch from a torn tail.
    pub(crate) fn append_mark(&mut self, disk: &mut dyn Disk, durable: Revision) -> io::Result<()> {
        let mut buffer = Vec::new();
        frame_begin(&mut buffer);
        self.append(disk, &mut buffer, durable, 0)
    }

    /// Begins a new segment after `durable`, unless the present one has no commit yet.
    pub(crate) fn rotate(&mut self, disk: &mut dyn Disk, durable: Revision) -> io::Result<()> {
        if self.segments.back().is_some_and(|segment| segment.base == durable) {
            return Ok(());
        }
        let segment = segment_create(disk, self.incarnation, durable)?;
        identity_write(disk, self.incarnation, durable)?;
        self.segments.push_back(segment);
        Ok(())
    }

    /// Removes the segments that hold nothing after `revision`. A removal that a crash undoes does no harm.
    pub(crate) fn remove_up_to(&mut self, disk: &mut dyn Disk, revision: Revision) -> io::Result<()> {
        while self.segments.get(1).is_some_and(|next| next.base <= revision) {
            disk.remove(&segment_name(self.segments[0].base))?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

/// The file that says which store this is, and which segment of its log is the newest.
pub(crate) const IDENTITY: &str = "identity";
pub(crate) const IDENTITY_NEW: &str = "identity.new";

/// Says durably which store this is, and that the log's newest segment, which must be durable, has this base.
pub(crate) fn identity_write(disk: &mut dyn Disk, incarnation: u64, newest: Revision) -> io::Result<()> {
    disk.append(IDENTITY_NEW, &Head { kind: FileKind::Identity, incarnation, revision: newest }.encode())?;
    disk.sync(IDENTITY_NEW)?;
    disk.rename(IDENTITY_NEW, IDENTITY)?;
    disk.sync_directory()
}

/// Makes an empty segment, durably.
pub(crate) fn segment_create(disk: &mut dyn Disk, incarnation: u64, base: Revision) -> io::Result<Segment> {
    let name = segment_name(base);
    disk.append(&name, &Head { kind: FileKind::Log, incarnation, revision: base }.encode())?;
    disk.sync(&name)?;
    disk.sync_directory()?;
    Ok(Segment { base, bytes: HEAD_BYTES as u64 })
}
