//! The table's records in a file that a later process maps again.
//!
//! ```text
//!   0          8         12            16         24        40        44           4096
//!   NEPHCONN   version   record size   capacity   boot id   crc       0 ...        records
//! ```
//! Numbers little endian. The file belongs in a memory file system: it is of no use after a reboot, and on a disk its
//! pages would be written back all the time.
//!
//! Invariant: a file that is not adopted is begun anew; nothing of it is believed.

use super::record::Record;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

const MAGIC: [u8; 8] = *b"NEPHCONN";
/// Of the records' layout. 1: 2026-11.
const VERSION: u32 = 1;
const HEADER: usize = 44;
const RECORDS_AT: u64 = 4096;

/// Why the file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is used by another process", .0.display())]
    InUse(PathBuf),
    /// It cannot be opened, given its size, or mapped.
    #[error("cannot map {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Why what was in the file was not adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There was no file, or an empty one.
    Absent,
    /// It is not such a file, its header is damaged, or it was not finished.
    Damaged,
    /// Of another version or layout.
    Layout,
    /// For another number of connections.
    Capacity,
    /// From before the host was started: its times mean nothing.
    Boot,
}

/// The records of a file, mapped.
#[derive(Debug)]
pub struct Mapped {
    records: NonNull<Record>,
    count: usize,
    /// Holds the lock.
    _file: File,
}

// SAFETY: the mapping belongs to this value alone, and is no more tied to a thread than a Box is.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps the file, and says why it was begun anew, if it was.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, count: usize, boot: u128) -> Result<(Mapped, Option<Refusal>), OpenError> {
        let failed = |source: std::io::Error| OpenError::Io { path: path.to_owned(), source };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => OpenError::InUse(path.to_owned()),
            error => failed(error.into()),
        })?;
        let header = header(count as u64, boot);
        let refusal = refusal(&file, &header).map_err(failed)?;
        if refusal.is_some() {
            begin(&file, &header, count).map_err(failed)?;
        }
        let records = map(&file, count).map_err(failed)?;
        Ok((Mapped { records, count, _file: file }, refusal))
    }

    /// The records.
    #[inline]
    pub fn records(&self) -> &[Record] {
        // SAFETY: `records` points to a mapping of `count` records that lives as long as `self`; any bytes are a
        // Record; the file is locked, has all its blocks, and nobody of ours shortens it while it is.
        unsafe { std::slice::from_raw_parts(self.records.as_ptr(), self.count) }
    }

    /// The records, to be changed.
    #[inline]
    pub fn records_mut(&mut self) -> &mut [Record] {
        // SAFETY: as above; `&mut self` is the only way to them in this process.
        unsafe { std::slice::from_raw_parts_mut(self.records.as_ptr(), self.count) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and nothing refers to it any more.
        let _ = unsafe { rustix::mm::munmap(self.records.as_ptr().cast(), length(self.count)) };
    }
}

fn length(count: usize) -> usize {
    count * size_of::<Record>()
}

fn map(file: &File, count: usize) -> std::io::Result<NonNull<Record>> {
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
    let address = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), length(count), protection, flags, file, RECORDS_AT)?
    };
    NonNull::new(address.cast()).ok_or_else(|| std::io::ErrorKind::OutOfMemory.into())
}

fn header(count: u64, boot: u128) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let fields = MAGIC
        .into_iter()
        .chain(VERSION.to_le_bytes())
        .chain((size_of::<Record>() as u32).to_le_bytes())
        .chain(count.to_le_bytes())
        .chain(boot.to_le_bytes());
    for (to, from) in header.iter_mut().zip(fields) {
        *to = from;
    }
    let sum = crc_fast::crc32_iscsi(&header[..HEADER - 4]).to_le_bytes();
    header[HEADER - 4..].copy_from_slice(&sum);
    header
}

/// Compares a file's header with what it should be.
fn refusal(file: &File, wanted: &[u8; HEADER]) -> std::io::Result<Option<Refusal>> {
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(Some(Refusal::Absent));
    }
    let mut found = [0; HEADER];
    if let Err(error) = file.read_exact_at(&mut found, 0) {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Ok(Some(Refusal::Damaged)),
            _ => Err(error),
        };
    }
    let whole = crc_fast::crc32_iscsi(&found[..HEADER - 4]).to_le_bytes() == found[HEADER - 4..];
    let differs = |from: usize, to: usize| found[from..to] != wanted[from..to];
    Ok(if differs(0, 8) || !whole {
        Some(Refusal::Damaged)
    } else if differs(8, 16) {
        Some(Refusal::Layout)
    } else if differs(16, 24) {
        Some(Refusal::Capacity)
    } else if differs(24, 40) {
        Some(Refusal::Boot)
    } else {
        let count = u64::from_le_bytes(wanted[16..24].try_into().unwrap_or_default());
        let complete = size == RECORDS_AT + count * size_of::<Record>() as u64;
        (!complete).then_some(Refusal::Damaged)
    })
}

/// Empties the file; its header comes last, so that half of this is no file.
fn begin(file: &File, header: &[u8; HEADER], count: usize) -> std::io::Result<()> {
    let size = RECORDS_AT + length(count) as u64;
    file.set_len(0)?;
    file.set_len(size)?;
    // Without its blocks, a full file system would be told of by a signal, at some packet.
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size)?;
    file.write_all_at(header, 0)
}
