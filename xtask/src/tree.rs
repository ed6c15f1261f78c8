//! Where things lie: the sources, what is built, and the marks that say what has been done.
//!
//! Used by every command. A mark holds a key made from all that the work depends on, so work is done again when
//! one of those has changed and not otherwise; it is written last, so work that was cut off is done again.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The project's folders.
pub struct Tree {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's target folder: everything that we make is under it.
    pub target: PathBuf,
}

impl Tree {
    /// The tree that this xtask was built from.
    pub fn find() -> Result<Tree> {
        // Cargo sets it for `cargo run`; what was compiled in serves a binary that is started by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask lies in no workspace")?.to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => env::current_dir()?.join(folder),
            None => root.join("target"),
        };
        Ok(Tree { root, target })
    }

    /// Set-up's own folder: logs, marks and what was downloaded.
    pub fn setup(&self) -> PathBuf {
        self.target.join("setup")
    }

    /// The folder of guest images, one folder each.
    pub fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    /// Waits until no other xtask sets this tree up, and keeps others waiting while the file is held.
    pub fn lock(&self) -> Result<File> {
        fs::create_dir_all(self.setup())?;
        let file = File::create(self.setup().join("lock"))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            eprintln!("==> waiting for another xtask to finish its set-up");
        }
        file.lock().context("cannot lock target/setup")?;
        Ok(file)
    }

    /// Whether the work `name` has been done for exactly `key`.
    pub fn is_done(&self, name: &str, key: &str) -> bool {
        fs::read_to_string(self.mark(name)).is_ok_and(|mark| mark == key)
    }

    /// Remembers that the work `name` has been done for `key`.
    pub fn done(&self, name: &str, key: &str) -> Result<()> {
        let mark = self.mark(name);
        fs::create_dir_all(self.setup())?;
        fs::write(&mark, key).with_context(|| format!("cannot write {}", mark.display()))
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.setup().join(format!("{name}.done"))
    }
}

/// FNV-1a over the parts, each closed by its length: tells contents apart, guards against nobody.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for &byte in part.iter().chain(&(part.len() as u64).to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// Every file and folder under `folder`, as paths relative to it, sorted, folders before what they hold.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = folder.join(&relative);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
            let entry = entry?;
            let relative = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(relative.clone());
            }
            found.push(relative);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_tells_apart_where_parts_end() {
        assert_ne!(fingerprint([&b"ab"[..], b"c"]), fingerprint([&b"a"[..], b"bc"]));
        assert_eq!(fingerprint([&b"ab"[..]]), fingerprint([&b"ab"[..]]));
    }
}
