//! Snapshots: the whole state at one revision, written block by block between the commits and installed by
//! rename; after that the log before it goes.
//!
//! ```text
//!   00000000000000070123.snapshot   head | block of entries | ... | block of entries | end block (count 0)
//!   snapshot.new                    the same, being written; of no meaning, removed at the next start
//! ```
//!
//! Invariant: an installed snapshot is whole and durable, so anything wrong in one is corruption. Nothing is
//! removed before the rename that replaces it is durable.

use super::format::{
    Fields, FileKind, HEAD_BYTES, Head, HeadError, entry_decode, entry_encode, frame_begin, frame_decode,
    frame_seal,
};
use super::map::MultiVersionMap;
use crate::contract::Revision;
use base::disk::Disk;
use bytes::Bytes;
use std::io;

/// The snapshot that is being written.
pub(crate) const SNAPSHOT_NEW: &str = "snapshot.new";

/// The file name of the installed snapshot at this revision.
pub(crate) fn snapshot_name(revision: Revision) -> String {
    format!("{:020}.snapshot", revision.0)
}

/// A snapshot that is being written: what is written so far.
#[derive(Debug)]
pub(crate) struct SnapshotWriter {
    head: Head,
    /// The last key written.
    cursor: Option<Bytes>,
    bytes: u64,
    entries: u64,
    buffer: Vec<u8>,
}

impl SnapshotWriter {
    /// Begins the snapshot of the state at `revision`, which the map must be able to read until it is done.
    pub(crate) fn begin(disk: &mut dyn Disk, incarnation: u64, revision: Revision) -> io::Result<Self> {
        let head = Head { kind: FileKind::Snapshot, incarnation, revision };
        disk.append(SNAPSHOT_NEW, &head.encode())?;
        Ok(SnapshotWriter { head, cursor: None, bytes: HEAD_BYTES as u64, entries: 0, buffer: Vec::new() })
    }

    pub(crate) fn revision(&self) -> Revision {
        self.head.revision
    }

    /// Collects the next block of about `bytes`; returns how many entries it has. 0: none are left.
    pub(crate) fn collect(&mut self, map: &MultiVersionMap, bytes: usize) -> u32 {
        frame_begin(&mut self.buffer);
        let mut count = 0;
        let mut last = None;
        for (key, value, modified) in map.live(&[], self.cursor.as_deref(), None, self.head.revision) {
            if self.buffer.len() >= bytes {
                break;
            }
            entry_encode(&mut self.buffer, key, value, modified);
            count += 1;
            last = Some(key);
        }
        if let Some(last) = last {
            self.cursor = Some(last.clone());
        }
        count
    }

    /// Writes the block of `count` entries that was collected.
    pub(crate) fn write(&mut self, disk: &mut dyn Disk, count: u32) -> io::Result<()> {
        frame_seal(&mut self.buffer, &self.head, self.bytes, self.entries, count);
        disk.append(SNAPSHOT_NEW, &self.buffer)?;
        // Each block is synced, so that no sync at the end holds the commits up for long.
        disk.sync(SNAPSHOT_NEW)?;
        self.bytes += self.buffer.len() as u64;
        self.entries += u64::from(count);
        Ok(())
    }

    /// Installs the snapshot, whose end block is written, durably.
    pub(crate) fn install(self, disk: &mut dyn Disk) -> io::Result<()> {
        disk.rename(SNAPSHOT_NEW, &snapshot_name(self.head.revision))?;
        disk.sync_directory()
    }
}

/// Why a snapshot cannot be read.
#[derive(Debug)]
pub(crate) enum SnapshotError {
    Corrupt { offset: u64, why: &'static str },
    TooNew { version: u32 },
}

/// The state in a snapshot's bytes.
pub(crate) fn snapshot_decode(
    bytes: &[u8],
    incarnation: u64,
    revision: Revision,
) -> Result<MultiVersionMap, SnapshotError> {
    let corrupt = |offset: usize, why| SnapshotError::Corrupt { offset: offset as u64, why };
    let head = Head::decode(FileKind::Snapshot, bytes).map_err(|error| match error {
        HeadError::Damaged(why) => corrupt(0, why),
        HeadError::TooNew(version) => SnapshotError::TooNew { version },
    })?;
    if head.incarnation != incarnation || head.revision != revision {
        return Err(corrupt(0, "the snapshot is another store's, or another revision's"));
    }
    let mut map = MultiVersionMap::at_snapshot(revision);
    let (mut offset, mut entries) = (HEAD_BYTES, 0);
    loop {
        let frame = frame_decode(&head, bytes, offset).map_err(|why| corrupt(offset, why))?;
        if frame.mark != entries {
            return Err(corrupt(offset, "a block of entries is missing"));
        }
        let mut fields = Fields(frame.body);
        for _ in 0..frame.count {
            let entry = entry_decode(&mut fields);
            let (key, value, modified) = entry.ok_or_else(|| corrupt(offset, "an entry cannot be read"))?;
            map.load(key, value, modified);
        }
        entries += u64::from(frame.count);
        if frame.count == 0 {
            return match frame.end == bytes.len() {
                true => Ok(map),
                false => Err(corrupt(frame.end, "there are bytes after the snapshot's end")),
            };
        }
        offset = frame.end;
    }
}
