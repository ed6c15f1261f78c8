//! What the ledger's files say, taken together. Called once, by [`super::directory`] at start; reads bytes, touches no
//! disk.
//!
//! Damage in a snapshot costs the VMs that it hits; damage in the journal may hide a newer word about *any* VM (that it
//! was stopped, that it is gone), so only what stands behind it is believed.

use super::HostRecord;
use super::VmRecord;
use super::frame::{self, FILE_HEAD_BYTES, FileKind, OtherVersion, Piece, Pieces};
use super::stored::{StoredChange, vm_decode};
use base::generation::{Generation, Term};
use base::ids::InstanceId;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::BTreeMap;

pub(super) const SNAPSHOT: &str = "ledger.snapshot";
/// Before a journal's number.
pub(super) const JOURNAL: &str = "ledger.journal.";

/// The ledger's files, whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) snapshot: Option<Vec<u8>>,
    /// By number.
    pub(super) journals: BTreeMap<u64, Vec<u8>>,
}

/// The journal that the snapshot names, and how far it is whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tail {
    pub(super) number: u64,
    pub(super) key: u64,
    pub(super) torn_at: usize,
}

/// What the files say, in their order.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) host: HostRecord,
    pub(super) vms: BTreeMap<InstanceId, (VmRecord, Bytes)>,
    /// Of the last change.
    pub(super) sequence: u64,
    /// What is wrong; empty when nothing is.
    pub(super) damage: Vec<String>,
    pub(super) tail: Option<Tail>,
    named: Option<u64>,
}

impl Replay {
    /// Reads all of it. The error's first part is the file's name.
    pub(super) fn read(files: &Files) -> Result<Replay, (String, OtherVersion)> {
        let mut replay = Replay::default();
        match &files.snapshot {
            Some(bytes) => replay.snapshot(bytes).map_err(|version| (SNAPSHOT.to_owned(), version))?,
            None if files.are_new() => return Ok(replay),
            None => replay.distrust(format!("{SNAPSHOT} is gone")),
        }
        if let Some(named) = replay.named.filter(|named| !files.journals.contains_key(named)) {
            replay.distrust(format!("{JOURNAL}{named} is gone"));
        }
        // A snapshot that names none is damaged. Those before its own change nothing, and the one after is empty.
        let named = replay.named;
        for (number, bytes) in files.journals.iter().filter(|(n, _)| named.is_none_or(|named| **n == named)) {
            let name = format!("{JOURNAL}{number}");
            let read = replay.journal(&name, bytes).map_err(|version| (name, version))?;
            replay.tail = read.map(|(key, torn_at)| Tail { number: *number, key, torn_at });
        }
        if named.is_none() {
            replay.tail = None;
        }
        if !replay.damage.is_empty() {
            replay.host.document_generation = Generation::ZERO;
        }
        Ok(replay)
    }

    fn snapshot(&mut self, bytes: &[u8]) -> Result<(), OtherVersion> {
        let Pieces { pieces, torn_at, .. } = frame::read(FileKind::Snapshot, bytes)?;
        let mut expected = None;
        for piece in pieces {
            match piece {
                Piece::Frame { sequence, payload } => {
                    self.sequence = sequence;
                    let Some(stored) = self.take(payload) else { continue };
                    expected = expected.or(stored.snapshot_vms);
                    self.named = self.named.or(stored.journal);
                }
                Piece::Damage { at } => self.damage.push(format!("{SNAPSHOT} is damaged at byte {at}")),
            }
        }
        // It was durable before it got its name, so that nothing in it is a write's unfinished end.
        if torn_at < bytes.len() {
            self.damage.push(format!("{SNAPSHOT} is damaged at byte {torn_at}"));
        } else if expected != Some(self.vms.len() as u32) && self.damage.is_empty() {
            self.damage.push(format!("{SNAPSHOT} is cut off at byte {torn_at}"));
        }
        Ok(())
    }

    /// Returns the journal's key, and where it is torn: its length, if it is not.
    fn journal(&mut self, name: &str, bytes: &[u8]) -> Result<Option<(u64, usize)>, OtherVersion> {
        let Pieces { key, pieces, torn_at } = frame::read(FileKind::Journal, bytes)?;
        for piece in pieces {
            match piece {
                Piece::Frame { sequence, .. } if sequence <= self.sequence => {}
                Piece::Frame { sequence, payload } => {
                    if sequence != self.sequence + 1 && self.damage.is_empty() {
                        self.distrust(format!("{name} lacks the changes before {sequence}"));
                    }
                    self.sequence = sequence;
                    self.take(payload);
                }
                Piece::Damage { at } => self.distrust(format!("{name} is damaged at byte {at}")),
            }
        }
        Ok(key.map(|key| (key, torn_at)))
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

impl Files {
    /// Nothing was ever written here: at most a first journal was begun, for a snapshot that was never there.
    fn are_new(&self) -> bool {
        self.snapshot.is_none()
            && self.journals.iter().all(|(number, bytes)| *number == 1 && bytes.len() <= FILE_HEAD_BYTES)
    }
}
