//! The disk seam of the metadata engine: the few operations that a log and its snapshots need, so that a test or
//! the simulator can put a disk beneath it that loses un-synced writes, tears, fills up or fails.
//!
//! Names are plain file names inside one directory that the disk owns.
//!
//! ```text
//!   append ──► visible to read_at at once ──► durable after sync (of that file)
//!   create / rename / remove ──► durable after sync_directory
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub mod memory;

/// One directory of files, written by appending.
pub trait Disk: Send {
    /// Names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Fills `buffer` from the file's bytes at `offset`; returns how many there were: fewer only at its end.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Appends `bytes` to the file, which is made if it does not exist. A short write is an error, after which
    /// any prefix of `bytes` may be there.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's content durable (fdatasync).
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Puts `from` in the place of `to`, atomically.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A directory of the machine. Holds each appended file open.
pub struct RealDisk {
    directory: PathBuf,
    open: BTreeMap<String, (File, u64)>,
}

impl RealDisk {
    /// The directory, made (mode 0700) if it does not exist.
    pub fn open(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Ok(RealDisk { directory: directory.to_owned(), open: BTreeMap::new() })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut (File, u64)> {
        if !self.open.contains_key(name) {
            let path = self.directory.join(name);
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
            let length = file.metadata()?.len();
            self.open.insert(name.to_owned(), (file, length));
        }
        self.open.get_mut(name).ok_or_else(|| io::Error::other("file was just opened"))
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.directory.join(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = File::open(self.directory.join(name))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, length) = self.file(name)?;
        file.write_all_at(bytes, *length)?;
        *length += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.0.sync_data()
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let (file, known) = self.file(name)?;
        file.set_len(length)?;
        *known = length;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.join(from), self.directory.join(to))?;
        self.open.remove(to);
        if let Some(moved) = self.open.remove(from) {
            self.open.insert(to.to_owned(), moved);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        std::fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Replaces the file at `path` by `bytes`, durably: after a crash it holds the old bytes or the new ones, never a
/// mixture. `mode` is the new file's permission bits.
pub fn file_replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = path.parent().ok_or_else(|| io::Error::other("path has no directory"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("path has no file name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    let temporary = directory.join(temporary);
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_disk_keeps_what_was_appended() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = RealDisk::open(directory.path()).unwrap();
        disk.append("log", b"one").unwrap();
        disk.append("log", b"two").unwrap();
        disk.sync("log").unwrap();
        assert_eq!(disk.read("log").unwrap(), b"onetwo");
        disk.truncate("log", 3).unwrap();
        disk.append("log", b"2").unwrap();
        disk.rename("log", "log.1").unwrap();
        disk.append("log.1", b"3").unwrap();
        disk.sync_directory().unwrap();
        assert_eq!(RealDisk::open(directory.path()).unwrap().read("log.1").unwrap(), b"one23");
        let mut middle = [0; 3];
        assert_eq!((disk.read_at("log.1", 2, &mut middle).unwrap(), &middle), (3, b"e23"));
        assert_eq!((disk.read_at("log.1", 4, &mut middle).unwrap(), &middle[..1]), (1, &b"3"[..]));
        assert_eq!(disk.read_at("log.1", 9, &mut middle).unwrap(), 0);
        assert_eq!(disk.list().unwrap(), ["log.1"]);
        disk.remove("log.1").unwrap();
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        file_replace(&path, b"old", 0o600).unwrap();
        file_replace(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
