//! One journal file: changes appended to it, each with one flush. Called by [`super::directory`], which knows when a
//! new one begins.

use super::frame::{self, FILE_HEAD_BYTES, FileKind};
use super::replay::{JOURNAL, Tail};
use super::stored::StoredChange;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The journal that changes go to.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    file: File,
    key: u64,
    /// Where the next frame goes.
    pub(super) bytes: u64,
    /// Behind that may be what a failed write left.
    tail_unknown: bool,
}

impl Journal {
    /// Begins an empty journal, in a file of its own. Its content is durable; its name is once the directory is.
    pub(super) fn create(directory: &Path, number: u64, key: u64) -> io::Result<Self> {
        let path = path(directory, number);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all_at(&frame::file_begin(FileKind::Journal, key), 0)?;
        file.sync_all()?;
        Ok(Journal { number, path, file, key, bytes: FILE_HEAD_BYTES as u64, tail_unknown: false })
    }

    /// Goes on with a journal that was read as `content`. A flush that failed before may have left on the disk less
    /// than what was read from memory: so all of it is written once more, to where it stands.
    pub(super) fn rewrite(directory: &Path, tail: Tail, content: &[u8]) -> io::Result<Self> {
        let path = path(directory, tail.number);
        let file = File::options().write(true).open(&path)?;
        file.set_len(tail.torn_at as u64)?;
        file.write_all_at(&content[..tail.torn_at], 0)?;
        file.sync_all()?;
        let bytes = tail.torn_at as u64;
        Ok(Journal { number: tail.number, path, file, key: tail.key, bytes, tail_unknown: false })
    }

    /// Makes a change durable. After an error it may be so after a crash; it, or another one, can be written again.
    pub(super) fn append(&mut self, sequence: u64, change: &StoredChange) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, self.key, self.bytes, sequence, change);
        if self.tail_unknown {
            // A longer frame would show from behind a shorter one that is written in its place.
            self.file.set_len(self.bytes)?;
        }
        self.tail_unknown = true;
        self.file.write_all_at(&bytes, self.bytes)?;
        self.file.sync_data()?;
        self.tail_unknown = false;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// No change is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == FILE_HEAD_BYTES as u64
    }
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{JOURNAL}{number}"))
}
