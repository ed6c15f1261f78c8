//! The ledger on disk. Opened once by [`crate::serve`]; written by one thread, one change after the other.
//!
//! A change is one frame at the journal's end and one flush. When the journal has grown longer than the state, the
//! state is written as a new snapshot, and the journal begins again: at any time the two are bounded by the state.
//! Each change has a sequence number; a snapshot has that of the last change in it, and what the journal still holds
//! from before is passed over.
//!
//! Damage is reported, put aside as `ledger.journal.damaged` or `ledger.snapshot.damaged`, and gone on from with what
//! is certain. Damage in a snapshot costs the VMs that it hits; damage in the journal may hide a newer word about
//! *any* VM (that it was stopped, that it is gone), so only what stands behind it is believed. VMs that have files
//! here and no record any more are left alone until a document names them (see [`Ledger::damaged`]).

use super::stored::{StoredChange, vm_decode, vm_encode};
use super::{HostRecord, Ledger, LedgerChange, VmRecord, frame};
use base::generation::{Generation, Term};
use base::ids::InstanceId;
use frame::Piece;
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const SNAPSHOT: &str = "ledger.snapshot";
const JOURNAL: &str = "ledger.journal";
/// A journal shorter than this is not worth a snapshot.
const JOURNAL_BYTES_MIN: u64 = 256 * 1024;

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
    journal: File,
    /// Where the next frame goes.
    journal_bytes: u64,
    /// Behind that may be what a failed write left.
    tail_unknown: bool,
    snapshot_bytes: u64,
    /// Of the last change.
    sequence: u64,
    host: HostRecord,
    /// Each VM's record as it is stored.
    vms: BTreeMap<InstanceId, Vec<u8>>,
}

impl LedgerDirectory {
    /// Reads the ledger of `directory`, which is made if it does not exist.
    pub fn open(directory: &Path) -> Result<(Self, Ledger), LedgerError> {
        let vms = directory.join("vms");
        std::fs::create_dir_all(&vms).map_err(file_error("make", &vms))?;
        let old = directory.join("host.pb");
        if old.exists() {
            return Err(LedgerError::Version { path: old, what: "one file for each VM".into() });
        }
        let mut replay = Replay::default();
        let snapshot_path = directory.join(SNAPSHOT);
        let snapshot = read_file(&snapshot_path)?;
        replay.snapshot(&snapshot).map_err(|version| version_error(&snapshot_path, version))?;
        let journal_path = directory.join(JOURNAL);
        let journal_read = read_file(&journal_path)?;
        let torn_at =
            replay.journal(&journal_read).map_err(|version| version_error(&journal_path, version))?;
        let mut options = File::options();
        let journal = options.create(true).truncate(false).write(true).mode(0o600).open(&journal_path);
        let journal = journal.map_err(file_error("open", &journal_path))?;
        let mut ledger = Ledger { host: replay.host, ..Ledger::default() };
        ledger.host_damaged = replay.damage.join("; ");
        let mut kept = BTreeMap::new();
        for (id, (record, bytes)) in replay.vms {
            ledger.vms.insert(id, record);
            kept.insert(id, bytes);
        }
        unrecorded_find(&vms, &mut ledger)?;
        let mut disk = LedgerDirectory {
            directory: directory.to_owned(),
            journal,
            journal_bytes: torn_at as u64,
            tail_unknown: false,
            snapshot_bytes: snapshot.len() as u64,
            sequence: replay.sequence,
            host: replay.host,
            vms: kept,
        };
        if torn_at < journal_read.len() {
            tracing::info!(at = torn_at, "the last change to the ledger was not finished; it is cut off");
        }
        if !ledger.host_damaged.is_empty() {
            for path in [&snapshot_path, &journal_path] {
                copy_aside(path)?;
            }
            disk.snapshot_write()?;
        }
        // That the journal exists, and that what was torn from it is gone.
        disk.journal.set_len(disk.journal_bytes).map_err(file_error("cut", &journal_path))?;
        disk.journal.sync_all().map_err(file_error("sync", &journal_path))?;
        sync_directory(directory)?;
        Ok((disk, ledger))
    }

    /// Makes a change durable, whole. After an error it may be so after a crash; it, or another one, can be written
    /// again.
    pub fn write(&mut self, change: LedgerChange) -> Result<(), LedgerError> {
        if self.journal_bytes > self.snapshot_bytes.max(JOURNAL_BYTES_MIN) {
            self.snapshot_write()?;
        }
        let encode =
            |(id, record): (InstanceId, Option<VmRecord>)| (id, record.is_some(), vm_encode(id, record));
        let vms: Vec<(InstanceId, bool, Vec<u8>)> = change.vms.into_iter().map(encode).collect();
        let stored = StoredChange {
            host: change.host.map(Into::into),
            vms: vms.iter().map(|(_, _, bytes)| bytes.clone()).collect(),
            snapshot_vms: None,
        };
        let mut bytes = Vec::new();
        frame::write(&mut bytes, self.sequence + 1, &stored.encode_to_vec());
        self.append(&bytes).map_err(file_error("write", &self.directory.join(JOURNAL)))?;
        self.sequence += 1;
        self.host = change.host.unwrap_or(self.host);
        for (id, kept, bytes) in vms {
            match kept {
                true => self.vms.insert(id, bytes),
                false => self.vms.remove(&id),
            };
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tail_unknown {
            // A longer frame would show from behind a shorter one that is written in its place.
            self.journal.set_len(self.journal_bytes)?;
        }
        self.tail_unknown = true;
        self.journal.write_all_at(bytes, self.journal_bytes)?;
        self.journal.sync_data()?;
        self.tail_unknown = false;
        self.journal_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes the state as it is now, and begins the journal again.
    fn snapshot_write(&mut self) -> Result<(), LedgerError> {
        let head = StoredChange {
            host: Some(self.host.into()),
            vms: Vec::new(),
            snapshot_vms: Some(self.vms.len() as u32),
        };
        let mut bytes = Vec::new();
        frame::write(&mut bytes, self.sequence, &head.encode_to_vec());
        for vm in self.vms.values() {
            let one = StoredChange { vms: vec![vm.clone()], ..StoredChange::default() };
            frame::write(&mut bytes, self.sequence, &one.encode_to_vec());
        }
        let path = self.directory.join(SNAPSHOT);
        base::disk::file_replace(&path, &bytes, 0o600).map_err(file_error("write", &path))?;
        self.snapshot_bytes = bytes.len() as u64;
        let journal = self.directory.join(JOURNAL);
        self.journal.set_len(0).map_err(file_error("cut", &journal))?;
        self.journal_bytes = 0;
        Ok(())
    }
}

/// What the files say, in their order.
#[derive(Default)]
struct Replay {
    host: HostRecord,
    vms: BTreeMap<InstanceId, (VmRecord, Vec<u8>)>,
    /// Of the last change.
    sequence: u64,
    damage: Vec<String>,
}

impl Replay {
    fn snapshot(&mut self, bytes: &[u8]) -> Result<(), frame::OtherVersion> {
        let frame::Pieces { pieces, torn_at } = frame::read(bytes)?;
        let mut expected = None;
        for piece in pieces {
            match piece {
                Piece::Frame { sequence, payload } => {
                    self.sequence = sequence;
                    let stored = self.take(payload);
                    expected = expected.or(stored.and_then(|stored| stored.snapshot_vms));
                }
                Piece::Damage { at } => self.damage.push(format!("{SNAPSHOT} is damaged at byte {at}")),
            }
        }
        let whole = bytes.is_empty() || expected == Some(self.vms.len() as u32);
        if torn_at < bytes.len() || (!whole && self.damage.is_empty()) {
            self.damage.push(format!("{SNAPSHOT} is cut off at byte {torn_at}"));
        }
        if !self.damage.is_empty() {
            self.host.document_generation = Generation::ZERO;
        }
        Ok(())
    }

    /// Returns where the journal is torn: its length, if it is not.
    fn journal(&mut self, bytes: &[u8]) -> Result<usize, frame::OtherVersion> {
        let frame::Pieces { pieces, torn_at } = frame::read(bytes)?;
        for piece in pieces {
            match piece {
                Piece::Frame { sequence, .. } if sequence <= self.sequence => {}
                Piece::Frame { sequence, payload } => {
                    if sequence != self.sequence + 1 && self.damage.is_empty() {
                        self.distrust(format!("{JOURNAL} lacks the changes before {sequence}"));
                    }
                    self.sequence = sequence;
                    self.take(payload);
                }
                Piece::Damage { at } => self.distrust(format!("{JOURNAL} is damaged at byte {at}")),
            }
        }
        if !self.damage.is_empty() {
            self.host.document_generation = Generation::ZERO;
        }
        Ok(torn_at)
    }

    /// A change is lost, and it may have been about any VM.
    fn distrust(&mut self, why: String) {
        self.damage.push(why);
        self.vms.clear();
        self.host.going_down = false;
    }

    fn take(&mut self, payload: &[u8]) -> Option<StoredChange> {
        let mut stored = match StoredChange::decode(payload) {
            Ok(stored) => stored,
            Err(error) => {
                self.distrust(format!("a change cannot be decoded: {error}"));
                return None;
            }
        };
        if let Some(host) = stored.host.take() {
            // A term once seen is never forgotten, whatever else is.
            let term: Term = self.host.term;
            self.host = host.into();
            self.host.term = self.host.term.max(term);
        }
        for bytes in std::mem::take(&mut stored.vms) {
            match vm_decode(&bytes) {
                Ok((id, Some(record))) => drop(self.vms.insert(id, (record, bytes))),
                Ok((id, None)) => drop(self.vms.remove(&id)),
                Err(why) => self.distrust(format!("a VM's record cannot be used: {why}")),
            }
        }
        Some(stored)
    }
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

fn read_file(path: &Path) -> Result<Vec<u8>, LedgerError> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(file_error("read", path)),
    }
}

/// Keeps a copy of a damaged ledger for whoever wants to look at it.
fn copy_aside(path: &Path) -> Result<(), LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    match std::fs::copy(path, &name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error("copy", path)(e)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn version_error(path: &Path, frame::OtherVersion(version): frame::OtherVersion) -> LedgerError {
    LedgerError::Version { path: path.to_owned(), what: format!("format {version}") }
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

#[cfg(test)]
mod tests {
    use super::super::StopRecord;
    use super::*;
    use contract::{StopCause, VmAssignment, VmSpec};

    fn vm(number: u128) -> InstanceId {
        InstanceId::from_bits(number)
    }

    fn record(number: u128, restarts: u64) -> VmRecord {
        let spec = VmSpec { instance_id: vm(number).to_string(), reboots: restarts, ..VmSpec::default() };
        let mut record =
            VmRecord::new(VmAssignment { spec: Some(spec), attempt: 3, ..VmAssignment::default() });
        record.stopped = Some(StopRecord {
            generation: Generation::new(1, 7),
            cause: StopCause::Guest,
            message: "the guest powered itself off".into(),
        });
        record
    }

    fn change(revision: u64, vms: &[(u128, Option<u64>)]) -> LedgerChange {
        let document_generation = Generation::new(1, revision);
        let host = HostRecord { term: Term(4), document_generation, going_down: revision % 2 == 1 };
        let vms = vms.iter().map(|(number, n)| (vm(*number), n.map(|n| record(*number, n))));
        LedgerChange { host: Some(host), vms: vms.collect() }
    }

    fn changes() -> [LedgerChange; 4] {
        [
            change(1, &[(1, Some(0)), (2, Some(0))]),
            LedgerChange { host: None, ..change(1, &[(1, Some(1))]) },
            change(3, &[(2, None), (3, Some(0))]),
            change(4, &[]),
        ]
    }

    fn read(directory: &Path) -> Ledger {
        LedgerDirectory::open(directory).unwrap().1
    }

    /// The ledger after each of [`changes`], none included.
    fn states() -> Vec<Ledger> {
        let mut states = vec![Ledger::default()];
        for change in changes() {
            let mut next = states[states.len() - 1].clone();
            next.apply(&change);
            states.push(next);
        }
        states
    }

    #[test]
    fn what_was_written_is_read_and_what_was_forgotten_is_not() {
        let directory = tempfile::tempdir().unwrap();
        for (change, expected) in changes().into_iter().zip(&states()[1..]) {
            LedgerDirectory::open(directory.path()).unwrap().0.write(change).unwrap();
            assert_eq!(read(directory.path()), *expected);
        }
        let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
        disk.snapshot_write().unwrap();
        assert_eq!(disk.journal.metadata().unwrap().len(), 0);
        assert_eq!(read(directory.path()), ledger);
        disk.write(change(9, &[(3, Some(5))])).unwrap();
        assert_eq!(read(directory.path()).vms[&vm(3)], record(3, 5));
    }

    #[test]
    fn the_files_stay_in_proportion_to_the_state() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, mut expected) = LedgerDirectory::open(directory.path()).unwrap();
        for revision in 0..2_500 {
            let change = change(revision, &[(u128::from(revision % 10), Some(revision))]);
            expected.apply(&change);
            disk.write(change).unwrap();
            assert!(disk.journal_bytes < 2 * JOURNAL_BYTES_MIN);
        }
        assert!((100..10_000).contains(&disk.snapshot_bytes), "{}", disk.snapshot_bytes);
        assert_eq!(read(directory.path()), expected);
    }

    #[test]
    fn a_journal_from_before_its_snapshot_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, _) = LedgerDirectory::open(directory.path()).unwrap();
        changes().into_iter().for_each(|change| disk.write(change).unwrap());
        let journal = std::fs::read(directory.path().join(JOURNAL)).unwrap();
        disk.snapshot_write().unwrap();
        // As if the process had died between the two.
        std::fs::write(directory.path().join(JOURNAL), journal).unwrap();
        let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
        assert_eq!(ledger, states()[4]);
        disk.write(change(9, &[(2, Some(1))])).unwrap();
        assert_eq!(read(directory.path()).vms.len(), 3);
    }

    /// A ledger's directory of the four changes, with a machine of every VM that ever was.
    fn written(with_snapshot: bool) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, _) = LedgerDirectory::open(directory.path()).unwrap();
        changes().into_iter().for_each(|change| disk.write(change).unwrap());
        if with_snapshot {
            disk.snapshot_write().unwrap();
        }
        for number in [1, 3] {
            std::fs::create_dir_all(
                directory.path().join("vms").join(vm(number).to_string()).join("machine"),
            )
            .unwrap();
        }
        directory
    }

    #[test]
    fn a_journal_cut_anywhere_is_that_of_an_earlier_moment() {
        let directory = written(false);
        let path = directory.path().join(JOURNAL);
        let whole = std::fs::read(&path).unwrap();
        let mut last = 0;
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
            assert_eq!(ledger.host_damaged, "", "cut at {cut}");
            let now = states().iter().position(|state| state.vms == ledger.vms && state.host == ledger.host);
            let now = now.unwrap_or_else(|| panic!("cut at {cut}: {ledger:?}"));
            assert!(now >= last, "cut at {cut}");
            last = now;
            // What is written next stands behind what is whole.
            disk.write(change(9, &[(4, Some(1))])).unwrap();
            assert_eq!(read(directory.path()).vms.len(), ledger.vms.len() + 1, "cut at {cut}");
        }
        assert_eq!(last, 4);
    }

    #[test]
    fn a_flip_anywhere_is_reported_and_nothing_false_or_old_is_believed() {
        for (name, with_snapshot) in [(JOURNAL, false), (SNAPSHOT, true)] {
            let directory = written(with_snapshot);
            let (journal, snapshot) = (directory.path().join(JOURNAL), directory.path().join(SNAPSHOT));
            let path = directory.path().join(name);
            let (whole, newest) = (std::fs::read(&path).unwrap(), &states()[4]);
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x40;
                let _ = std::fs::remove_file(if with_snapshot { &journal } else { &snapshot });
                std::fs::write(&path, &bytes).unwrap();
                let ledger = read(directory.path());
                assert!(ledger.host_damaged.contains("damaged at byte"), "{name}, byte {at}");
                assert_eq!(ledger.host.document_generation, Generation::ZERO, "{name}, byte {at}");
                for number in [1, 3] {
                    let known = ledger.vms.get(&vm(number));
                    assert!(known.is_none_or(|known| *known == newest.vms[&vm(number)]), "{name}, byte {at}");
                    assert_eq!(
                        known.is_none(),
                        ledger.damaged.contains_key(&vm(number)),
                        "{name}, byte {at}"
                    );
                }
                // It goes on from there, and does not complain again.
                let (mut disk, again) = LedgerDirectory::open(directory.path()).unwrap();
                assert_eq!(again, Ledger { host_damaged: String::new(), ..ledger.clone() });
                disk.write(change(9, &[(1, Some(7))])).unwrap();
                assert_eq!(read(directory.path()).vms[&vm(1)], record(1, 7));
                assert!(directory.path().join(format!("{name}.damaged")).exists());
            }
        }
    }

    #[test]
    fn an_older_layout_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("host.pb"), "x").unwrap();
        let error = LedgerDirectory::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another version of nephos"), "{error}");
    }
}
