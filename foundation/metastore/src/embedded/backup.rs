//! Backups: the state at one revision, taken while commits go on, in one file that can be carried anywhere; and what
//! is in such a file.
//!
//! ```text
//!   store.backup    head (incarnation, revision) | block of entries | ... | end block: when it was taken
//! ```
//!
//! A backup is the state alone: no history, so watches begin anew after a restore; leases are in it, and get their
//! whole time to live anew.
//!
//! Invariant: a commit never waits for a backup longer than one block takes to copy in memory. A backup that is too
//! slow for the commits ends, see `EngineOptions::backup_history_bytes`.
//! Invariant: a file that was cut off anywhere is not taken for a backup, for want of its end.

use super::format::{Fields, FileKind, Head, StreamError};
use super::image::{ImageReader, ImageWriter};
use super::lease::{self, Leases};
use super::map::MultiVersionMap;
use super::reader::Reader;
use super::recovery::OpenError;
use crate::contract::{ReadError, Revision, USER_KEYS_BEGIN};
use base::clock::Timestamp;
use base::generation::INCARNATION_MAX;
use bytes::Bytes;
use std::io::{self, Read};

/// A block of a backup, about.
const BLOCK_BYTES: usize = 1 << 20;

/// A store that is restored goes on from its revision, and must be able to.
const REVISION_MAX: Revision = Revision(1 << 62);

/// Why a backup ended before its end. What was written of it is no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It was read too slowly for the commits that came meanwhile.
    #[error("the backup was too slow for the commits that came meanwhile: try again")]
    Overtaken,
    /// The store's engine makes no backups of this kind.
    #[error("this store cannot be backed up so: {0}")]
    Unsupported(String),
    /// The store has failed or is closed.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// A backup under way: the file's bytes, piece by piece. Dropping it ends it.
pub struct Backup {
    reader: Reader,
    image: ImageWriter,
    taken: Timestamp,
    next: Piece,
}

enum Piece {
    Head,
    Block,
    Nothing,
}

impl Backup {
    pub(super) fn begin(reader: Reader, taken: Timestamp) -> Result<Backup, ReadError> {
        let revision = {
            let mut state = reader.state_mut();
            state.alive()?;
            let revision = state.map.revision();
            *state.backups.entry(revision).or_default() += 1;
            revision
        };
        let head = Head { kind: FileKind::Backup, incarnation: reader.incarnation(), revision };
        Ok(Backup { reader, image: ImageWriter::new(head), taken, next: Piece::Head })
    }

    /// The revision whose state it holds.
    pub fn revision(&self) -> Revision {
        self.image.head.revision
    }

    /// How long the file will be, about.
    pub fn bytes_expected(&self) -> u64 {
        self.reader.state().map.live_bytes()
    }

    /// The next bytes of the file, about a MiB; `None`: that was all. Takes about a millisecond, and waits for
    /// nothing.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        match self.next {
            Piece::Head => {
                self.next = Piece::Block;
                Ok(Some(self.image.head.encode().to_vec()))
            }
            Piece::Block => {
                let count = {
                    let state = self.reader.state();
                    state.alive().map_err(|error| BackupError::Failed(error.to_string()))?;
                    state.map.readable(Some(self.revision())).map_err(|_| BackupError::Overtaken)?;
                    self.image.collect(&state.map, BLOCK_BYTES)
                };
                if count == 0 {
                    self.image.copy(&self.taken.unix_ms().to_le_bytes());
                    self.next = Piece::Nothing;
                }
                Ok(Some(self.image.seal(count).to_vec()))
            }
            Piece::Nothing => Ok(None),
        }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        let revision = self.revision();
        let mut state = self.reader.state_mut();
        if let Some(count) = state.backups.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                state.backups.remove(&revision);
            }
        }
        state.trim();
    }
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The incarnation of the store that it was taken of.
    pub incarnation: u64,
    /// The revision whose state it holds.
    pub revision: Revision,
    /// When it was taken, by the clock of the store's machine.
    pub taken: Timestamp,
    /// Keys in it, the engine's own included.
    pub entries: u64,
    /// Its length.
    pub bytes: u64,
}

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    /// It is damaged, cut off, or no backup.
    #[error("it is no whole backup: at offset {offset}: {why}")]
    Corrupt {
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// Written by a newer version of the program.
    #[error("its format is version {version}, which is newer than this program's")]
    TooNew {
        /// The version of the file's format.
        version: u32,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

impl From<StreamError> for BackupFileError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Corrupt { offset, why } => BackupFileError::Corrupt { offset, why: why.to_owned() },
            StreamError::TooNew { version } => BackupFileError::TooNew { version },
            StreamError::Io(error) => BackupFileError::Io(error),
        }
    }
}

/// Reads all of a backup, block by block, and says what is in it: every checksum, the order of its keys, and that its
/// leases are whole.
pub fn backup_verify(source: impl Read) -> Result<BackupSummary, BackupFileError> {
    let mut backup = BackupReader::open(source)?;
    loop {
        if let Some(summary) = backup.block(|_, _| ())? {
            return Ok(summary);
        }
    }
}

/// Reads a backup, and believes nothing of it.
pub(super) struct BackupReader<R> {
    image: ImageReader<R>,
    /// Of the state, what leases are about: their own entries, which come first, and the keys that these name.
    leases: MultiVersionMap,
}

impl<R: Read> BackupReader<R> {
    pub(super) fn open(source: R) -> Result<Self, BackupFileError> {
        let image = ImageReader::open(FileKind::Backup, source)?;
        let Head { incarnation, revision, .. } = image.head();
        let corrupt = |why: String| Err(BackupFileError::Corrupt { offset: 0, why });
        if revision > REVISION_MAX {
            return corrupt("no store has ever had so many revisions".to_owned());
        }
        if incarnation > INCARNATION_MAX {
            return corrupt(format!(
                "{incarnation} is too high for an incarnation: at most {INCARNATION_MAX}"
            ));
        }
        Ok(BackupReader { leases: MultiVersionMap::at_snapshot(image.head().revision), image })
    }

    pub(super) fn head(&self) -> Head {
        self.image.head()
    }

    /// Reads the next block and gives its body and its number of entries away; the summary: that was the last.
    pub(super) fn block(
        &mut self,
        each: impl FnOnce(&[u8], u32),
    ) -> Result<Option<BackupSummary>, BackupFileError> {
        let Head { incarnation, revision, .. } = self.image.head();
        let offset = self.image.bytes();
        let corrupt = |why: &str| BackupFileError::Corrupt { offset, why: why.to_owned() };
        let leases = &mut self.leases;
        let block = self.image.block(|key: Bytes, value, modified| {
            if &key[..] < USER_KEYS_BEGIN || lease::is_held(leases, &key) {
                leases.load(key, value, modified);
            }
        })?;
        if block.count > 0 {
            each(block.body, block.count);
            return Ok(None);
        }
        let mut fields = Fields(block.body);
        let taken = fields.u64().filter(|_| fields.0.is_empty());
        let taken =
            Timestamp::from_unix_ms(taken.ok_or_else(|| corrupt("the last block does not say when"))?);
        Leases::load(&self.leases)
            .map_err(|key| corrupt(&format!("a lease's key cannot be understood: {}", key.escape_ascii())))?;
        self.image.end()?;
        let (entries, bytes) = (self.image.entries(), self.image.bytes());
        Ok(Some(BackupSummary { incarnation, revision, taken, entries, bytes }))
    }
}

impl From<BackupFileError> for OpenError {
    fn from(error: BackupFileError) -> Self {
        let file = "the backup".to_owned();
        match error {
            BackupFileError::Corrupt { offset, why } => OpenError::Corrupt { file, offset, why },
            BackupFileError::TooNew { version } => OpenError::TooNew { version },
            BackupFileError::Io(source) => OpenError::Io { what: "read the backup".into(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_that_cannot_be_is_no_backups() {
        let of = |incarnation| {
            let head = Head { kind: FileKind::Backup, incarnation, revision: Revision(1) }.encode();
            BackupReader::open(&head[..]).map(|reader| reader.head().incarnation)
        };
        assert_eq!(of(INCARNATION_MAX).ok(), Some(INCARNATION_MAX));
        let refused = of(INCARNATION_MAX + 1).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("too high for an incarnation"), "{refused}");
    }
}
