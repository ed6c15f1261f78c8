//! Golden files: what each version of a record type has written, kept so that new code proves that it reads it.
//!
//! A file `NAME.VERSION.bin` is never changed once a version that wrote it was released. When a record grows, its
//! newest file no longer equals what is written now: a new one is added, and the old one must still be read.
//! Called by the tests of the crates that store records.

use super::Record;
use std::path::{Path, PathBuf};

/// What is wrong with the golden files of a record type; each sentence says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GoldenError {
    /// There is none yet, or the bytes have changed since the newest.
    #[error(
        "{name} is written differently from {}: if that is meant, and old bytes are still read as they should be, \
         run again with NEPHOS_GOLDEN=write and commit {}",
        newest.as_ref().map_or("any golden file".into(), |path| path.display().to_string()), next.display()
    )]
    Changed {
        /// The record type's name.
        name: String,
        /// The newest file.
        newest: Option<PathBuf>,
        /// The file to be added.
        next: PathBuf,
    },
    /// An older version's bytes are not read any more.
    #[error("{file} is not read any more: {why}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {file}: {why}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

/// Checks `sample`, a record with every field filled, against the files `NAME.1.bin`, `NAME.2.bin`... of `folder`:
/// every one is read, and the newest is what is written now. Gives the records that were read, oldest first, for the
/// caller to say what the fields that they lack have become. With `NEPHOS_GOLDEN=write` it adds the missing file.
pub fn check<R: Record>(folder: &Path, name: &str, id: &R::Id, sample: &R) -> Result<Vec<R>, GoldenError> {
    let path = |version: usize| folder.join(format!("{name}.{version}.bin"));
    let file_error = |file: &Path| {
        let file = file.to_owned();
        move |error: std::io::Error| GoldenError::File { file, why: error.to_string() }
    };
    let mut read = Vec::new();
    let mut newest = None;
    let mut next = path(1);
    for version in 1.. {
        next = path(version);
        if !next.exists() {
            break;
        }
        let bytes = std::fs::read(&next).map_err(file_error(&next))?;
        let record = R::decode(id, &bytes);
        read.push(record.map_err(|why| GoldenError::Unreadable { file: next.clone(), why })?);
        newest = Some((next.clone(), bytes));
    }
    let written = sample.encode();
    if newest.as_ref().is_some_and(|(_, bytes)| *bytes == written) {
        return Ok(read);
    }
    if std::env::var_os("NEPHOS_GOLDEN").is_some_and(|wanted| wanted == "write") {
        std::fs::create_dir_all(folder).map_err(file_error(folder))?;
        std::fs::write(&next, &written).map_err(file_error(&next))?;
        read.push(R::decode(id, &written).map_err(|why| GoldenError::Unreadable { file: next, why })?);
        return Ok(read);
    }
    Err(GoldenError::Changed { name: name.to_owned(), newest: newest.map(|(path, _)| path), next })
}
