//! The ledger on disk. Opened once by [`crate::serve`]; written by one thread, one change after the other.
//!
//! A change is one frame at the journal's end and one flush. When the journal has grown longer than the state, the
//! state is written as a new snapshot, which names a new journal: at any time the two are bounded by the state.
//!
//! ```text
//!   journal N+1 made, durable ──► snapshot that names it written beside ──► renamed, durable ──► journal N removed
//!                                 (a failure up to here changes nothing)
//! ```
//!
//! Each change has a sequence number; a snapshot has that of the last change in it. A journal that held changes is
//! never gone on with by another process: what that one reads may stand in memory alone, after a flush that failed, so
//! it is written as a new snapshot before anything is acted on.
//!
//! Damage is reported, kept as `ledger.*.damaged-N` for whoever wants to look at it, and gone on from with what is
//! certain. VMs that have files here and no record any more are left alone until a document names them (see
//! [`Ledger::damaged`]).

use super::frame::{self, FILE_HEAD_BYTES, FileKind, OtherVersion};
use super::journal::{self, Journal};
use super::replay::{Files, JOURNAL, Replay, SNAPSHOT};
use super::stored::{StoredChange, vm_encode};
use super::{HostRecord, Ledger, LedgerChange};
use base::ids::InstanceId;
use base::random::Random;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where a snapshot is written before it takes its name.
const SNAPSHOT_NEW: &str = ".ledger.snapshot.new";
/// A journal shorter than this is not worth a snapshot.
const JOURNAL_BYTES_MIN: u64 = 256 * 1024;
/// How often the length that is worth a snapshot a journal may grow to, while none can be written.
const JOURNAL_GROWTH_MAX: u64 = 16;
/// How many copies of a damaged file are kept.
const DAMAGED_MAX: u32 = 16;

/// What can be wrong with the ledger's directory.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write`...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A ledger that this program does not read.
    #[error("{path} is of another version of nephos ({what}), which this one does not read")]
    Version {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError::File { action, path: path.to_owned(), source }
}

/// The ledger on disk.
#[derive(Debug)]
pub struct LedgerDirectory {
    directory: PathBuf,
    state: State,
    journal: Journal,
    /// How long the journal gets before the next snapshot is tried.
    snapshot_due: u64,
    snapshot_bytes: u64,
    /// A newer snapshot, which names another journal, may have taken the name or not.
    snapshot_unsure: bool,
}

/// What a snapshot holds.
#[derive(Debug)]
struct State {
    /// Of the last change.
    sequence: u64,
    host: HostRecord,
    /// Each VM's record as it is stored.
    vms: BTreeMap<InstanceId, Bytes>,
}

/// A snapshot could not be written.
struct SnapshotFailure {
    error: LedgerError,
    /// It may have taken the name all the same.
    unsure: bool,
}

impl LedgerDirectory {
    /// Reads the ledger of `directory`, which is made if it does not exist. What it answers is durable.
    pub fn open(directory: &Path) -> Result<(Self, Ledger), LedgerError> {
        let vms = directory.join("vms");
        std::fs::create_dir_all(&vms).map_err(file_error("make", &vms))?;
        older_refuse(directory)?;
        let files = files_read(directory)?;
        let Replay { host, vms: records, sequence, damage, tail, .. } =
            Replay::read(&files).map_err(|(name, OtherVersion(version))| LedgerError::Version {
                path: directory.join(name),
                what: format!("format {version}"),
            })?;
        let mut ledger = Ledger { host, host_damaged: damage.join("; "), ..Ledger::default() };
        let mut state = State { sequence, host, vms: BTreeMap::new() };
        for (id, (record, bytes)) in records {
            ledger.vms.insert(id, record);
            state.vms.insert(id, bytes);
        }
        unrecorded_find(&vms, &mut ledger)?;
        if !damage.is_empty() {
            let journals = files.journals.keys().map(|number| journal::path(directory, *number));
            journals.chain([directory.join(SNAPSHOT)]).for_each(|path| keep_aside(&path));
        }
        let content = tail.and_then(|tail| files.journals.get(&tail.number)).map_or(&[][..], Vec::as_slice);
        if let Some(tail) = tail.filter(|tail| tail.torn_at < content.len()) {
            tracing::warn!(
                journal = tail.number,
                at = tail.torn_at,
                bytes = content.len() - tail.torn_at,
                "the last change to the ledger was not finished; it is cut off"
            );
        }
        let number_next = files.journals.keys().next_back().copied().max(tail.map(|tail| tail.number));
        let snapshot_bytes = files.snapshot.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rewrite = |tail| {
            let path = directory.join(SNAPSHOT);
            Journal::rewrite(directory, tail, content).map_err(file_error("rewrite the journal of", &path))
        };
        let (journal, snapshot_bytes, snapshot_unsure) = match tail {
            Some(tail) if damage.is_empty() && content.len() == FILE_HEAD_BYTES => {
                (rewrite(tail)?, snapshot_bytes, false)
            }
            tail => match state.snapshot_write(directory, number_next.unwrap_or(0) + 1) {
                Ok((journal, bytes)) => (journal, bytes, false),
                Err(SnapshotFailure { error, unsure }) => {
                    // A full disk must not keep the host's VMs from being looked after.
                    let Some(tail) = tail else { return Err(error) };
                    tracing::error!(error = %error, "cannot write a snapshot of the ledger; its journal goes on");
                    (rewrite(tail)?, snapshot_bytes, unsure)
                }
            },
        };
        sync_directory(directory)?;
        if !snapshot_unsure {
            let others = files.journals.keys().filter(|number| **number != journal.number);
            others.for_each(|number| remove(&journal::path(directory, *number)));
        }
        let mut disk = LedgerDirectory {
            directory: directory.to_owned(),
            state,
            journal,
            snapshot_due: 0,
            snapshot_bytes,
            snapshot_unsure,
        };
        disk.snapshot_due = disk.journal_worth();
        Ok((disk, ledger))
    }

    /// Makes a change durable, whole. After an error it may be so after a crash; it, or another one, can be written
    /// again.
    pub fn write(&mut self, change: LedgerChange) -> Result<(), LedgerError> {
        if self.snapshot_unsure || self.journal.bytes > self.snapshot_due {
            self.snapshot_try()?;
        }
        let mut vms = Vec::with_capacity(change.vms.len());
        let mut stored = StoredChange { host: change.host.map(Into::into), ..StoredChange::default() };
        for (id, record) in change.vms {
            let kept = record.is_some();
            let bytes = vm_encode(id, record);
            stored.vms.push(bytes.clone());
            vms.push((id, kept.then_some(bytes)));
        }
        let sequence = self.state.sequence + 1;
        let written = self.journal.append(sequence, &stored);
        written.map_err(|source| file_error("write", &self.journal.path)(source))?;
        self.state.sequence = sequence;
        self.state.host = change.host.unwrap_or(self.state.host);
        for (id, bytes) in vms {
            match bytes {
                Some(bytes) => self.state.vms.insert(id, bytes),
                None => self.state.vms.remove(&id),
            };
        }
        Ok(())
    }

    /// Writes a snapshot; if that fails, the journal goes on as long as it may.
    fn snapshot_try(&mut self) -> Result<(), LedgerError> {
        let Err(error) = self.snapshot_write() else { return Ok(()) };
        if self.snapshot_unsure || self.journal.bytes > JOURNAL_GROWTH_MAX * self.journal_worth() {
            return Err(error);
        }
        tracing::error!(error = %error, "cannot write a snapshot of the ledger; its journal goes on");
        self.snapshot_due = self.journal.bytes + JOURNAL_BYTES_MIN;
        Ok(())
    }

    /// Writes the state as it is now, and begins a new journal.
    fn snapshot_write(&mut self) -> Result<(), LedgerError> {
        let written = self.state.snapshot_write(&self.directory, self.journal.number + 1);
        let (journal, bytes) = written.map_err(|failure| {
            self.snapshot_unsure |= failure.unsure;
            failure.error
        })?;
        remove(&self.journal.path);
        self.journal = journal;
        self.snapshot_unsure = false;
        self.snapshot_bytes = bytes;
        self.snapshot_due = self.journal_worth();
        Ok(())
    }

    /// From which length on a journal is worth a snapshot.
    fn journal_worth(&self) -> u64 {
        self.snapshot_bytes.max(JOURNAL_BYTES_MIN)
    }
}

impl State {
    /// Makes a new journal, and a durable snapshot that names it. Returns it and the snapshot's length.
    fn snapshot_write(&self, directory: &Path, number: u64) -> Result<(Journal, u64), SnapshotFailure> {
        let mut random = Random::from_os();
        let sure = |error| SnapshotFailure { error, unsure: false };
        let journal = Journal::create(directory, number, random.u64())
            .map_err(file_error("make", &journal::path(directory, number)))
            .map_err(sure)?;
        debug_assert!(journal.is_empty());
        let bytes = self.snapshot_encode(random.u64(), number);
        let (staged, path) = (directory.join(SNAPSHOT_NEW), directory.join(SNAPSHOT));
        stage(&staged, &bytes).map_err(file_error("write", &staged)).map_err(sure)?;
        sync_directory(directory).map_err(sure)?;
        let named = std::fs::rename(&staged, &path).map_err(file_error("write", &path));
        let named = named.and_then(|()| sync_directory(directory));
        named.map_err(|error| SnapshotFailure { error, unsure: true })?;
        Ok((journal, bytes.len() as u64))
    }

    fn snapshot_encode(&self, key: u64, journal: u64) -> Vec<u8> {
        let head = StoredChange {
            host: Some(self.host.into()),
            vms: Vec::new(),
            snapshot_vms: Some(self.vms.len() as u32),
            journal: Some(journal),
        };
        let mut bytes = frame::file_begin(FileKind::Snapshot, key);
        let vms = self.vms.values();
        let vms = vms.map(|vm| StoredChange { vms: vec![vm.clone()], ..StoredChange::default() });
        for stored in std::iter::once(head).chain(vms) {
            let at = bytes.len() as u64;
            frame::write(&mut bytes, key, at, self.sequence, &stored);
        }
        bytes
    }
}

/// Writes a file that has no meaning yet, durably. What an earlier failure left of it is gone first.
fn stage(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The disk may be full: what is of no use does not stay.
        remove(path);
    }
    written
}

/// What earlier versions wrote.
fn older_refuse(directory: &Path) -> Result<(), LedgerError> {
    for (name, what) in [("host.pb", "one file for each VM"), ("ledger.journal", "format 2")] {
        let path = directory.join(name);
        if path.exists() {
            return Err(LedgerError::Version { path, what: what.into() });
        }
    }
    Ok(())
}

fn files_read(directory: &Path) -> Result<Files, LedgerError> {
    let path = directory.join(SNAPSHOT);
    let snapshot = match std::fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.map_err(file_error("read", &path))?),
    };
    let mut files = Files { snapshot, ..Files::default() };
    for entry in std::fs::read_dir(directory).map_err(file_error("list", directory))? {
        let entry = entry.map_err(file_error("list", directory))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(JOURNAL)?.parse::<u64>().ok());
        if let Some(number) = number {
            let path = journal::path(directory, number);
            files.journals.insert(number, std::fs::read(&path).map_err(file_error("read", &path))?);
        }
    }
    Ok(files)
}

/// Finds VMs that have files here and no record.
fn unrecorded_find(vms: &Path, ledger: &mut Ledger) -> Result<(), LedgerError> {
    for entry in std::fs::read_dir(vms).map_err(file_error("list", vms))? {
        let entry = entry.map_err(file_error("list", vms))?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()) else {
            continue;
        };
        if !ledger.vms.contains_key(&id) {
            ledger.damaged.insert(id, "the ledger has no record of it, and its files are here".into());
        }
    }
    Ok(())
}

/// Keeps a damaged file under another name, beside those from before. A second name of the same file takes no space;
/// the ledger goes on without it if there can be none.
fn keep_aside(path: &Path) {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    for number in 1..=DAMAGED_MAX {
        match std::fs::hard_link(path, name(number)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return tracing::warn!(path = %path.display(), error = %e, "cannot keep a damaged file");
            }
            Ok(()) | Err(_) => return,
        }
    }
    tracing::warn!(path = %path.display(), "too many damaged files are kept already; this one is not");
}

/// Removes a file that has no meaning any more. If that fails it only takes up space, until the next start.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "cannot remove a file of the ledger");
        }
        _ => {}
    }
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

#[cfg(test)]
mod tests;
