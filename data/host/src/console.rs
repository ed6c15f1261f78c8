//! A VM's serial console: its newest output, bounded on disk whatever the guest writes.
//!
//! ```text
//!   guest ─► QEMU `ringbuf` (256 KiB of its memory) ─ ringbuf-read, every second and before each look ─► console.log
//! ```
//!
//! The guest never waits for anybody. While no agent runs, QEMU keeps the newest 256 KiB, and the next agent takes
//! them. Lost is what exceeds that between two reads, and, if QEMU itself dies, what it had written since the last
//! one (a second at the most while the agent runs). `console.log` outlives a stop of the VM, and is never larger
//! than [`FILE_BYTES_MAX`]; it is the agent's file, which QEMU's user cannot touch.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What is kept for sure, in bytes: what AWS keeps.
pub const KEPT_BYTES: usize = 64 * 1024;
/// The largest that the file becomes, in bytes.
pub const FILE_BYTES_MAX: usize = 2 * KEPT_BYTES;
/// Of the buffer in QEMU's memory; a power of two.
pub const RING_BYTES: usize = 256 * 1024;

/// One VM's console file.
#[derive(Clone, Debug)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    /// The console at `path`, which need not exist.
    pub fn at(path: &Path) -> Self {
        Console { path: path.to_owned() }
    }

    /// Appends output. When the file is full, its older half goes.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut file = self.open(true)?;
        let length = file.seek(SeekFrom::End(0))? as usize;
        if length + bytes.len() <= FILE_BYTES_MAX {
            return file.write_all(bytes);
        }
        let mut newest = self.newest(KEPT_BYTES)?.0;
        newest.extend_from_slice(bytes);
        let from = newest.len().saturating_sub(KEPT_BYTES);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&newest[from..])
    }

    /// The newest `bytes_max` bytes, and when the last of them was written, in milliseconds since the epoch
    /// (0 if none was).
    pub fn newest(&self, bytes_max: usize) -> io::Result<(Vec<u8>, u64)> {
        let mut file = match self.open(false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        let bytes_max = bytes_max.min(FILE_BYTES_MAX) as u64;
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written_unix_ms = if bytes.is_empty() { 0 } else { written.as_millis() as u64 };
        Ok((bytes, written_unix_ms))
    }

    fn open(&self, create: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(create).create(create).truncate(false).mode(0o600).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_output_is_kept_within_the_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console.log");
        let console = Console::at(&path);
        assert_eq!(console.newest(10).unwrap(), (Vec::new(), 0));
        let mut everything = Vec::new();
        for number in 0..2_000 {
            let line = format!("line {number} {}\n", "x".repeat(number % 300));
            console.append(line.as_bytes()).unwrap();
            everything.extend_from_slice(line.as_bytes());
            assert!(std::fs::metadata(&path).unwrap().len() <= FILE_BYTES_MAX as u64);
        }
        let (newest, written) = console.newest(KEPT_BYTES).unwrap();
        assert_eq!(newest, everything[everything.len() - KEPT_BYTES..]);
        assert!(written > 0);
        console.append(&vec![b'y'; 3 * FILE_BYTES_MAX]).unwrap();
        assert_eq!(console.newest(usize::MAX).unwrap().0, vec![b'y'; KEPT_BYTES]);
    }
}
