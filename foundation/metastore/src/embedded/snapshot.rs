//! Snapshots: the whole state at one revision, written block by block between the commits and installed by
//! rename; after that the log before it goes.
//!
//! ```text
//!   00000000000000070123.snapshot   an image
//!   snapshot.new                    the same, being written; of no meaning, removed at the next start
//! ```
//!
//! Invariant: an installed snapshot is whole and durable, so anything wrong in one is corruption. Nothing is
//! removed before the rename that replaces it is durable.

use super::format::{FileKind, Head, StreamError};
use super::image::{ImageReader, ImageWriter};
use super::map::MultiVersionMap;
use crate::contract::Revision;
use base::disk::Disk;
use std::io::{self, Read};

/// The snapshot that is being written.
pub(crate) const SNAPSHOT_NEW: &str = "snapshot.new";
/// What is read of a snapshot's file at a time.
const READ_BYTES: usize = 1 << 20;

/// The file name of the installed snapshot at this revision.
pub(crate) fn snapshot_name(revision: Revision) -> String {
    format!("{:020}.snapshot", revision.0)
}

/// A snapshot that is being written: what is written so far.
#[derive(Debug)]
pub(crate) struct SnapshotWriter(ImageWriter);

impl SnapshotWriter {
    /// Begins the snapshot of the state at `revision`, which the map must be able to read until it is done.
    pub(crate) fn begin(disk: &mut dyn Disk, incarnation: u64, revision: Revision) -> io::Result<Self> {
        let head = Head { kind: FileKind::Snapshot, incarnation, revision };
        disk.append(SNAPSHOT_NEW, &head.encode())?;
        Ok(SnapshotWriter(ImageWriter::new(head)))
    }

    pub(crate) fn revision(&self) -> Revision {
        self.0.head.revision
    }

    /// Collects the next block of about `bytes`; returns how many entries it has. 0: none are left.
    pub(crate) fn collect(&mut self, map: &MultiVersionMap, bytes: usize) -> u32 {
        self.0.collect(map, bytes)
    }

    /// Takes a block of another image.
    pub(crate) fn copy(&mut self, body: &[u8]) {
        self.0.copy(body);
    }

    /// Writes the block of `count` entries that was collected or copied.
    pub(crate) fn write(&mut self, disk: &mut dyn Disk, count: u32) -> io::Result<()> {
        disk.append(SNAPSHOT_NEW, self.0.seal(count))?;
        // Each block is synced, so that no sync at the end holds the commits up for long.
        disk.sync(SNAPSHOT_NEW)
    }

    /// Installs the snapshot, whose end block is written, durably.
    pub(crate) fn install(self, disk: &mut dyn Disk) -> io::Result<()> {
        disk.rename(SNAPSHOT_NEW, &snapshot_name(self.revision()))?;
        disk.sync_directory()
    }

    /// Removes what was written.
    pub(crate) fn discard(self, disk: &mut dyn Disk) -> io::Result<()> {
        disk.remove(SNAPSHOT_NEW)
    }
}

/// Reads the state in the installed snapshot of this revision, block by block.
pub(crate) fn snapshot_read(
    disk: &dyn Disk,
    incarnation: u64,
    revision: Revision,
) -> Result<MultiVersionMap, StreamError> {
    let file = DiskFile { disk, name: snapshot_name(revision), offset: 0 };
    let source = io::BufReader::with_capacity(READ_BYTES, file);
    let mut image = ImageReader::open(FileKind::Snapshot, source)?;
    let head = image.head();
    if head.incarnation != incarnation || head.revision != revision {
        let why = "the snapshot is another store's, or another revision's";
        return Err(StreamError::Corrupt { offset: 0, why });
    }
    let mut map = MultiVersionMap::at_snapshot(revision);
    loop {
        let offset = image.bytes();
        let block = image.block(|key, value, modified| map.load(key, value, modified))?;
        if block.count == 0 {
            if !block.body.is_empty() {
                return Err(StreamError::Corrupt { offset, why: "the snapshot's last block is not empty" });
            }
            image.end()?;
            return Ok(map);
        }
    }
}

/// A file of a disk, read from its begin to its end.
struct DiskFile<'a> {
    disk: &'a dyn Disk,
    name: String,
    offset: u64,
}

impl Read for DiskFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.disk.read_at(&self.name, self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}
