//! The documents on disk. Opened once, written by one thread.
//!
//! ```text
//!   ports                    each file: the whole document, then the changes since, each made durable before the next
//!   vpc-0123456789abcdef0
//!   .NAME.new                a whole document that has not taken its name yet
//!   NAME.held                a document that was held back: for people
//!   NAME.damaged-N           what could not be read: for people
//! ```
//!
//! Damage in a file costs what stands behind it: the document is then an older one, which is whole and was true once.
//!
//! What another process appended may stand in memory alone, after a flush that failed. So a file with changes in it is
//! written anew, whole, before anything is acted on; and so is one after any failure.

use super::frame::{self, OtherVersion};
use super::ports::PortsRecord;
use super::stored::{Frame, Record, Stored};
use super::vpc::VpcRecord;
use super::{DocumentName, Write};
use base::disk::Disk;
use base::generation::Term;
use base::ids::VpcId;
use base::random::Random;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// How many copies of a damaged file are kept.
const DAMAGED_MAX: u32 = 4;

/// What can be wrong with the documents' directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file cannot be used.
    #[error("cannot {action} {name}")]
    File {
        /// `read`, `write`...
        action: &'static str,
        /// Which file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that this program does not read.
    #[error("{name} is of format {version}, which this version of nephos does not read")]
    Version {
        /// Which file.
        name: String,
        /// Its format.
        version: u32,
    },
    /// After a failure a document can only be written whole.
    #[error("{name} cannot be appended to after a failure")]
    Unsure {
        /// Which file.
        name: String,
    },
}

fn file_error<'a>(action: &'static str, name: &'a str) -> impl FnOnce(io::Error) -> DirectoryError + 'a {
    move |source| DirectoryError::File { action, name: name.to_owned(), source }
}

/// What the disk holds at start.
#[derive(Debug, Default)]
pub struct Found {
    /// The highest term seen.
    pub(super) term: Term,
    pub(super) ports: PortsRecord,
    pub(super) vpcs: BTreeMap<VpcId, VpcRecord>,
    /// What is damaged, for people; see [`Found::damage`].
    pub(super) damage: BTreeMap<DocumentName, String>,
    /// Documents that could not be written anew: they are true, and may be lost by a power cut.
    pub(super) unsure: BTreeSet<DocumentName>,
}

impl Found {
    /// What is damaged, for people. Empty when all is well.
    pub fn damage(&self) -> impl Iterator<Item = &str> {
        self.damage.values().map(String::as_str)
    }
}

/// The documents' files.
pub struct DocumentDirectory {
    disk: Box<dyn Disk>,
    random: Random,
    /// Files that can be appended to: their keys and lengths.
    files: BTreeMap<DocumentName, (u64, u64)>,
}

impl DocumentDirectory {
    /// Reads all documents of a disk. What it answers is durable, but see [`Found`].
    pub fn open(disk: Box<dyn Disk>, random: Random) -> Result<(Self, Found), DirectoryError> {
        let mut directory = DocumentDirectory { disk, random, files: BTreeMap::new() };
        let mut found = Found::default();
        for file in directory.disk.list().map_err(file_error("list", "the documents"))? {
            if file.starts_with('.') {
                directory.disk.remove(&file).map_err(file_error("remove", &file))?;
            } else if let Some(name) = DocumentName::of_file(&file) {
                directory.read(name, &mut found)?;
            }
        }
        directory.disk.sync_directory().map_err(file_error("sync", "the documents"))?;
        Ok((directory, found))
    }

    fn read(&mut self, name: DocumentName, found: &mut Found) -> Result<(), DirectoryError> {
        let file = name.file();
        let bytes = self.disk.read(&file).map_err(file_error("read", &file))?;
        let pieces = frame::read(&bytes)
            .map_err(|OtherVersion(version)| DirectoryError::Version { name: file.clone(), version })?;
        let mut damage = pieces.damaged.then(|| format!("{file} is damaged at byte {}", pieces.end));
        let mut record = None;
        let mut frames = 0;
        for payload in &pieces.payloads {
            match take(name, &mut record, payload) {
                Ok(term) => found.term = found.term.max(term),
                Err(why) => {
                    damage = Some(format!("{file} cannot be used from its frame {frames} on: {why}"));
                    break;
                }
            }
            frames += 1;
        }
        if record.is_none() && damage.is_none() {
            // It was durable before it took its name.
            damage = Some(format!("{file} holds nothing whole"));
        }
        let torn = pieces.end < bytes.len();
        if torn && damage.is_none() {
            tracing::warn!(
                file,
                at = pieces.end,
                "the last change to a document was not finished; it is cut off"
            );
        }
        if damage.is_some() {
            self.keep_aside(&file, &bytes);
        }
        if frames == 1 && !torn && damage.is_none() {
            self.files.insert(name, (pieces.key, bytes.len() as u64));
        } else if let Some(record) = &record {
            let whole = record.whole(name, found.term).encode_to_vec();
            if let Err(error) = self.replace(name, &whole) {
                // A full disk must not keep the ports from being served.
                tracing::error!(%error, file, "cannot write a document anew; it is gone on with as it was read");
                found.unsure.insert(name);
            }
        } else {
            self.disk.remove(&file).map_err(file_error("remove", &file))?;
        }
        found.damage.extend(damage.map(|what| (name, what)));
        match (name, record) {
            (DocumentName::Vpc(id), Some(Record::Vpc(record))) => drop(found.vpcs.insert(id, *record)),
            (DocumentName::Ports, Some(Record::Ports(record))) => found.ports = record,
            _ => {}
        }
        Ok(())
    }

    /// Makes all of it durable. After an error any of it may be, now or after a crash; what was to be appended to is to
    /// be replaced then.
    pub fn write(&mut self, writes: &[Write]) -> Result<(), DirectoryError> {
        let mut result = Ok(());
        for write in writes {
            let written = match write {
                Write::Append { name, changes } => self.append(*name, changes),
                Write::Replace { name, whole } => self.replace(*name, whole),
                Write::Aside { name, document } => {
                    // For people: nobody waits for it.
                    self.aside(*name, document.as_deref());
                    Ok(())
                }
                Write::Remove { name } => self.remove(*name),
            };
            if let Err(error) = written {
                let (Write::Append { name, .. }
                | Write::Replace { name, .. }
                | Write::Aside { name, .. }
                | Write::Remove { name }) = write;
                self.files.remove(name);
                result = Err(error);
            }
        }
        result
    }

    fn append(&mut self, name: DocumentName, changes: &[Vec<u8>]) -> Result<(), DirectoryError> {
        let file = name.file();
        let Some((key, length)) = self.files.get(&name).copied() else {
            return Err(DirectoryError::Unsure { name: file });
        };
        let mut bytes = Vec::new();
        frame::write(&mut bytes, key, length, &Frame { stored: changes.to_vec() }.encode_to_vec());
        self.disk.append(&file, &bytes).map_err(file_error("write", &file))?;
        self.disk.sync(&file).map_err(file_error("write", &file))?;
        let end = length + bytes.len() as u64;
        self.files.insert(name, (key, end));
        Ok(())
    }

    fn replace(&mut self, name: DocumentName, whole: &[u8]) -> Result<(), DirectoryError> {
        let file = name.file();
        let staged = format!(".{file}.new");
        let (key, bytes) = self.file_of(whole);
        self.stage(&staged, &file, &bytes).map_err(file_error("write", &file))?;
        self.files.insert(name, (key, bytes.len() as u64));
        Ok(())
    }

    /// A file with one frame, and its key.
    fn file_of(&mut self, stored: &[u8]) -> (u64, Vec<u8>) {
        let key = self.random.u64();
        let mut bytes = frame::file_begin(key);
        let at = bytes.len() as u64;
        frame::write(&mut bytes, key, at, &Frame { stored: vec![stored.to_vec()] }.encode_to_vec());
        (key, bytes)
    }

    fn stage(&mut self, staged: &str, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.remove_if_there(staged)?;
        let written = self.disk.append(staged, bytes).and_then(|()| self.disk.sync(staged));
        if let Err(error) = written {
            // The disk may be full: what is of no use does not stay.
            let _ = self.remove_if_there(staged);
            return Err(error);
        }
        self.disk.rename(staged, file)?;
        self.disk.sync_directory()
    }

    fn remove(&mut self, name: DocumentName) -> Result<(), DirectoryError> {
        let file = name.file();
        self.files.remove(&name);
        self.remove_if_there(&format!("{file}.held")).map_err(file_error("remove", &file))?;
        self.remove_if_there(&file).map_err(file_error("remove", &file))?;
        self.disk.sync_directory().map_err(file_error("remove", &file))
    }

    fn aside(&mut self, name: DocumentName, document: Option<&[u8]>) {
        let file = format!("{}.held", name.file());
        let removed = self.remove_if_there(&file);
        let kept = removed.and_then(|()| match document {
            Some(document) => {
                let (_, bytes) = self.file_of(document);
                self.disk.append(&file, &bytes)
            }
            None => Ok(()),
        });
        if let Err(error) = kept {
            tracing::warn!(%error, file, "cannot keep a document that was held back");
        }
    }

    /// Keeps a copy of a damaged file, beside those from before. The documents go on without if there can be none.
    fn keep_aside(&mut self, file: &str, bytes: &[u8]) {
        let held = self.disk.list().unwrap_or_default();
        let mut names = (1..=DAMAGED_MAX).map(|number| format!("{file}.damaged-{number}"));
        match names.find(|name| !held.contains(name)) {
            Some(name) => {
                if let Err(error) = self.disk.append(&name, bytes).and_then(|()| self.disk.sync(&name)) {
                    tracing::warn!(%error, file, "cannot keep a damaged file");
                }
            }
            None => tracing::warn!(file, "too many damaged files are kept already; this one is not"),
        }
    }

    fn remove_if_there(&mut self, name: &str) -> io::Result<()> {
        match self.disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes one frame into the record; returns the term that it was written in.
fn take(name: DocumentName, record: &mut Option<Record>, payload: &[u8]) -> Result<Term, String> {
    let frame = Frame::decode(payload).map_err(|error| error.to_string())?;
    let mut term = Term(0);
    for bytes in &frame.stored {
        let stored = Stored::decode(&bytes[..]).map_err(|error| error.to_string())?;
        term = term.max(Term(stored.term));
        match record {
            Some(record) => record.go_on(stored)?,
            None => *record = Some(Record::begin(name, stored)?),
        }
    }
    Ok(term)
}
