//! The embedded engine: one writer over one disk, synchronous, without a thread or a clock, so that the simulator
//! drives it as the store's thread does.
//!
//! ```text
//!   stage(commit) ─► checked against durable + staged ─► ticket      (repeat: a batch)
//!   flush()       ─► one record appended and synced ─► visible to reads and watches ─► results, in order
//!   expire(now)   ─► staged ends of the leases whose time is over
//!   maintain()    ─► one bounded step of a snapshot, if one is due
//! ```
//!
//! Invariant: nothing is visible before it is durable. A conflict found against a staged commit stands: either
//! that commit becomes durable before the answer is given, or the engine fails for good.
//! Invariant: after a failed write or sync the engine answers `Failed` to everything, for ever. What the disk
//! holds then is known only by reading it anew (a second sync may succeed without having written anything).

use super::format::{FRAME_BYTES, commit_encode, frame_begin};
use super::lease::{self, Leases};
use super::log::Log;
use super::map::{HistoryBound, MultiVersionMap, memory_bytes};
use super::reader::{Reader, State};
use super::recovery::{OpenError, Recovery, recover};
use super::snapshot::{SnapshotWriter, snapshot_name};
use crate::contract::{
    Commit, CommitError, Condition, Entry, LeaseId, Op, Page, RangeQuery, ReadError, Revision,
};
use crate::watch::{Change, CommitEvents, Watch, Watchers};
use base::clock::Timestamp;
use base::disk::Disk;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// Sizes, all of them bounds or thresholds.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// A segment of the log is followed by a new one when it has reached this. Opening writes the newest anew.
    pub segment_bytes: u64,
    /// A snapshot is due when the log is longer than this, and than `snapshot_ratio` times the state.
    pub snapshot_log_bytes_min: u64,
    /// See above: the log's length in multiples of the state's.
    pub snapshot_ratio: u64,
    /// What one step of a snapshot writes, about; or twice the last batch if that is more.
    pub snapshot_step_bytes: usize,
    /// Commits of which reads at a past revision and new watches can still ask, at most. A snapshot that is being
    /// written keeps the history since its begin, whatever the bound.
    pub history_commits: usize,
    /// Keys and values of those commits, at most.
    pub history_bytes: usize,
    /// Commits that wait for one watcher before it has lagged.
    pub watch_queue_commits: usize,
    /// Bytes of the longest prefix that keeps callers apart, for a server before whose keys it stands.
    pub prefix_bytes: usize,
    /// Keys, values and what keeping them takes, at most: a commit that would go over is refused. What ends things or
    /// decides who leads goes on in a reserve above it: changes of keys that are there in the first half of
    /// [`Engine::RESERVE_PART`], leases and keys of leases in all of it.
    pub state_bytes_max: u64,
    /// History, beyond `history_bytes`, that is kept for the sake of a backup under way. One that is so slow that more
    /// is needed ends.
    pub backup_history_bytes: usize,
}

impl EngineOptions {
    /// What a state may take in memory unless somebody says otherwise: 8 GiB.
    pub const STATE_BYTES_MAX: u64 = 8 << 30;

    /// [`Self::STATE_BYTES_MAX`], for configurations that do not say it.
    pub const fn state_bytes_max_default() -> u64 {
        Self::STATE_BYTES_MAX
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            segment_bytes: 16 << 20,
            snapshot_log_bytes_min: 64 << 20,
            snapshot_ratio: 2,
            snapshot_step_bytes: 1 << 20,
            history_commits: 100_000,
            history_bytes: 64 << 20,
            watch_queue_commits: 1024,
            prefix_bytes: 0,
            state_bytes_max: Self::STATE_BYTES_MAX,
            backup_history_bytes: 256 << 20,
        }
    }
}

/// Which staged commit a result of [`Engine::flush`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A staged commit's fate.
pub type Flushed = (Ticket, Result<Revision, CommitError>);

/// The embedded engine; the module says how it is driven.
pub struct Engine {
    disk: Box<dyn Disk>,
    options: EngineOptions,
    log: Log,
    reader: Reader,
    recovery: Recovery,
    durable: Revision,
    /// After everything that is durable or staged.
    leases: Leases,
    staged: Staged,
    ticket_next: u64,
    snapshot: Option<SnapshotWriter>,
    last_batch_bytes: usize,
}

/// The batch that the next flush writes.
#[derive(Default)]
struct Staged {
    tickets: Vec<(Ticket, Revision)>,
    commits: Vec<Arc<CommitEvents>>,
    /// For each key that the batch changes, the length of the value and the revision that it will have; `None`:
    /// deleted.
    keys: BTreeMap<Bytes, Option<(usize, Revision)>>,
    /// What the batch adds to the state, in memory.
    growth: i64,
    /// The batch's record, begun.
    record: Vec<u8>,
}

impl Engine {
    /// Bytes that can be staged: after them a flush is needed.
    pub const STAGED_BYTES_MAX: usize = 16 << 20;

    /// The reserve above [`EngineOptions::state_bytes_max`] is that bound divided by this.
    pub const RESERVE_PART: u64 = 16;

    /// Opens the store on the disk, or makes an empty one there (of incarnation 1).
    pub fn open(mut disk: Box<dyn Disk>, options: EngineOptions) -> Result<Engine, OpenError> {
        let recovered = recover(&mut *disk)?;
        let mut map = recovered.map;
        let leases = Leases::load(&map).map_err(OpenError::reserved)?;
        let history = HistoryBound { commits: options.history_commits, bytes: options.history_bytes };
        map.trim(history, None);
        let durable = map.revision();
        let state = State {
            map,
            history,
            watchers: Watchers::default(),
            watch_queue_max: options.watch_queue_commits,
            failed: None,
            snapshot_at: None,
            backups: BTreeMap::new(),
            backup_history_bytes: options.backup_history_bytes,
        };
        Ok(Engine {
            disk,
            options,
            reader: Reader { incarnation: recovered.log.incarnation, state: Arc::new(RwLock::new(state)) },
            log: recovered.log,
            recovery: recovered.report,
            durable,
            leases,
            staged: Staged::default(),
            ticket_next: 0,
            snapshot: None,
            last_batch_bytes: 0,
        })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// 1 for a new store; raised by a restore.
    pub fn incarnation(&self) -> u64 {
        self.reader.incarnation
    }

    /// The last durable revision.
    pub fn revision(&self) -> Revision {
        self.durable
    }

    /// What the durable state takes in memory, about: what [`EngineOptions::state_bytes_max`] bounds.
    pub fn state_bytes(&self) -> u64 {
        self.reader.state().map.state_bytes()
    }

    /// Why the engine has failed, if it has.
    pub fn failed(&self) -> Option<String> {
        self.reader.state().failed.clone()
    }

    /// The reading half, for other threads.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// See [`Reader::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.reader.get(key)
    }

    /// See [`Reader::get_at`].
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Result<Option<Entry>, ReadError> {
        self.reader.get_at(key, revision)
    }

    /// See [`Reader::range`].
    pub fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        self.reader.range(query)
    }

    /// See [`Reader::watch`].
    pub fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, ReadError> {
        self.reader.watch(prefix, from)
    }

    /// See [`Reader::compact`].
    pub fn compact(&self, up_to: Revision) -> Result<Revision, ReadError> {
        self.reader.compact(up_to)
    }

    /// Bytes of the batch so far.
    pub fn staged_bytes(&self) -> usize {
        self.staged.record.len()
    }

    /// Takes a commit into the batch, if it keeps the contract's bounds and its conditions hold after everything
    /// that is durable or staged. Its fate is told by the next [`Engine::flush`], or here, if it is refused.
    pub fn stage(&mut self, commit: Commit) -> Result<Ticket, CommitError> {
        commit.check_within(self.options.prefix_bytes)?;
        self.ready(commit.bytes())?;
        let (changes, growth) = {
            let state = self.reader.state();
            let present = |key: &[u8]| self.staged.present(&state.map, key);
            if let Some(unmet) = commit.conditions.iter().find(|condition| !holds(condition, &present)) {
                return Err(CommitError::Conflict { key: unmet.key().escape_ascii().to_string() });
            }
            self.leases.admit(&commit.ops)?;
            let growth = commit.ops.iter().map(|op| op_growth(op, &present)).sum();
            self.room(&state.map, growth, Need::of(&commit.ops, &present))?;
            let changes = changes(commit.ops, &present, &mut self.leases);
            let growth = changes.iter().map(|change| change_growth(change, &present)).sum::<i64>();
            (changes, growth)
        };
        self.staged.growth += growth;
        Ok(self.stage_changes(changes))
    }

    /// Whether the state may grow by so much; it may always shrink.
    fn room(&self, map: &MultiVersionMap, growth: i64, need: Need) -> Result<(), CommitError> {
        let state = map.state_bytes().saturating_add_signed(self.staged.growth);
        let bound = self.options.state_bytes_max;
        let max = bound.saturating_add(match need {
            Need::New => 0,
            Need::Change => bound / Self::RESERVE_PART / 2,
            Need::Lease => bound / Self::RESERVE_PART,
        });
        match growth > 0 && state.saturating_add_signed(growth) > max {
            true => Err(CommitError::Full(format!(
                "its state takes {state} of {max} bytes, and {growth} more do not fit; deletions do"
            ))),
            false => Ok(()),
        }
    }

    /// Stages a new lease, which ends when it was not kept alive for `ttl`.
    pub fn lease_grant(&mut self, ttl: Duration, now: Timestamp) -> Result<(Ticket, LeaseId), CommitError> {
        LeaseId::ttl_check(ttl)?;
        self.ready(lease::END_BYTES_MAX)?;
        self.room(&self.reader.state().map, lease::LEASE_MEMORY as i64, Need::Lease)?;
        let id = lease::lease_id_new(self.incarnation(), Revision(self.revision_staged().0 + 1));
        let changes = vec![self.leases.grant(id, ttl, now)];
        self.staged.growth += self.growth(&changes);
        Ok((self.stage_changes(changes), id))
    }

    /// Lets a lease live for its whole time again; needs no flush. [`CommitError::LeaseExpired`] if it has ended.
    pub fn lease_keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Result<(), CommitError> {
        self.ready(0)?;
        match self.leases.keep_alive(id, now) {
            true => Ok(()),
            false => Err(CommitError::LeaseExpired(id)),
        }
    }

    /// Stages the end of a lease: its keys go. [`CommitError::LeaseExpired`] if it has ended.
    pub fn lease_revoke(&mut self, id: LeaseId) -> Result<Ticket, CommitError> {
        self.ready(lease::END_BYTES_MAX)?;
        let changes = self.leases.end(id).ok_or(CommitError::LeaseExpired(id))?;
        self.staged.growth += self.growth(&changes);
        Ok(self.stage_changes(changes))
    }

    /// When [`Engine::expire`] is to be called next (in the past: at once); `None` while there is no lease.
    pub fn lease_next(&self) -> Option<Timestamp> {
        self.leases.next().filter(|_| self.failed().is_none())
    }

    /// Stages the ends of leases whose time is over, as many as the batch has room for; their fate is told to nobody
    /// by the flush. After a start, a lease's time begins with the first call.
    pub fn expire(&mut self, now: Timestamp) {
        while self.ready(lease::END_BYTES_MAX).is_ok()
            && let Some(id) = self.leases.due(now)
            && let Some(changes) = self.leases.end(id)
        {
            self.staged.growth += self.growth(&changes);
            self.staged.push(CommitEvents { revision: Revision(self.revision_staged().0 + 1), changes });
        }
    }

    /// Whether the batch has room for so many bytes, and the engine has not failed.
    fn ready(&self, bytes: usize) -> Result<(), CommitError> {
        if let Some(why) = self.failed() {
            return Err(CommitError::Failed(why));
        }
        let staged = self.staged.record.len();
        match staged + bytes > Self::STAGED_BYTES_MAX {
            true => Err(CommitError::OutOfBounds(format!("{staged} bytes are staged: flush first"))),
            false => Ok(()),
        }
    }

    /// What the changes add to the state, in memory.
    fn growth(&self, changes: &[Change]) -> i64 {
        let state = self.reader.state();
        let present = |key: &[u8]| self.staged.present(&state.map, key);
        changes.iter().map(|change| change_growth(change, &present)).sum()
    }

    /// The revision after everything that is staged.
    fn revision_staged(&self) -> Revision {
        Revision(self.durable.0 + self.staged.commits.len() as u64)
    }

    fn stage_changes(&mut self, changes: Vec<Change>) -> Ticket {
        let mut revision = self.revision_staged();
        if !changes.is_empty() {
            revision.0 += 1;
            self.staged.push(CommitEvents { revision, changes });
        }
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        self.staged.tickets.push((ticket, revision));
        ticket
    }

    /// Writes the batch, makes it durable, then visible; the fate of each staged commit, in their order.
    pub fn flush(&mut self) -> Vec<Flushed> {
        let mut staged = std::mem::take(&mut self.staged);
        let written = match staged.commits.is_empty() {
            true => Ok(()),
            false => self.batch_write(&mut staged),
        };
        let results = match &written {
            Ok(()) => staged.tickets.iter().map(|(ticket, revision)| (*ticket, Ok(*revision))).collect(),
            Err(why) => {
                let failed =
                    |(ticket, _): &(Ticket, Revision)| (*ticket, Err(CommitError::Failed(why.clone())));
                staged.tickets.iter().map(failed).collect()
            }
        };
        // The buffers are used again.
        staged.tickets.clear();
        staged.keys.clear();
        staged.record.clear();
        self.staged = Staged { commits: Vec::new(), growth: 0, ..staged };
        results
    }

    fn batch_write(&mut self, staged: &mut Staged) -> Result<(), String> {
        let count = staged.commits.len();
        if self.log.active_bytes() >= self.options.segment_bytes {
            let rotated = self.log.rotate(&mut *self.disk, self.durable);
            self.or_fail("begin a segment of the log", rotated)?;
        }
        let written = self.log.append(&mut *self.disk, &mut staged.record, self.durable, count as u32);
        self.or_fail("write to the log", written)?;
        self.last_batch_bytes = staged.record.len();
        self.durable.0 += count as u64;
        self.reader.state_mut().apply(std::mem::take(&mut staged.commits));
        Ok(())
    }

    /// One bounded step of what is due: to be called after each flush and, while it answers true, whenever there
    /// is nothing else to do. It holds commits up for that one step (about a millisecond and a sync), no longer.
    pub fn maintain(&mut self) -> bool {
        if self.failed().is_some() {
            return false;
        }
        let stepped = match self.snapshot.take() {
            Some(snapshot) => self.snapshot_step(snapshot),
            None if self.snapshot_is_due() => self.snapshot_begin(),
            None => return false,
        };
        self.or_fail("write a snapshot", stepped).is_ok() && self.snapshot.is_some()
    }

    fn snapshot_is_due(&self) -> bool {
        let state_bytes = self.reader.state().map.live_bytes();
        let enough =
            self.options.snapshot_log_bytes_min.max(state_bytes.saturating_mul(self.options.snapshot_ratio));
        // A log of one segment without a commit has nothing that a snapshot could replace.
        let has_commits = self.log.segments.front().is_some_and(|segment| segment.base < self.durable);
        has_commits && self.log.bytes() > enough
    }

    fn snapshot_begin(&mut self) -> io::Result<()> {
        self.log.rotate(&mut *self.disk, self.durable)?;
        let snapshot = SnapshotWriter::begin(&mut *self.disk, self.log.incarnation, self.durable)?;
        self.reader.state_mut().snapshot_at = Some(self.durable);
        self.snapshot = Some(snapshot);
        Ok(())
    }

    fn snapshot_step(&mut self, mut snapshot: SnapshotWriter) -> io::Result<()> {
        let step_bytes = self.options.snapshot_step_bytes.max(2 * self.last_batch_bytes);
        let count = snapshot.collect(&self.reader.state().map, step_bytes);
        snapshot.write(&mut *self.disk, count)?;
        if count > 0 {
            self.snapshot = Some(snapshot);
            return Ok(());
        }
        let revision = snapshot.revision();
        snapshot.install(&mut *self.disk)?;
        self.log.remove_up_to(&mut *self.disk, revision)?;
        let current = snapshot_name(revision);
        for name in
            self.disk.list()?.into_iter().filter(|name| name.ends_with(".snapshot") && *name != current)
        {
            self.disk.remove(&name)?;
        }
        let mut state = self.reader.state_mut();
        state.snapshot_at = None;
        state.trim();
        Ok(())
    }

    /// An orderly stop: writes down that everything is durable, so that the next start can tell rot from a torn
    /// tail in the last batch too. What is staged and not flushed is dropped.
    pub fn close(mut self) {
        if self.failed().is_none() {
            let marked = self.log.append_mark(&mut *self.disk, self.durable);
            let _ = self.or_fail("write the last mark", marked);
        }
    }

    /// Fails the engine for good if the disk did.
    fn or_fail<T>(&mut self, what: &str, result: io::Result<T>) -> Result<T, String> {
        result.map_err(|error| {
            let why = format!("cannot {what}: {error}");
            self.reader.state_mut().fail(&why);
            self.snapshot = None;
            why
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.reader.state_mut().fail("it was closed");
    }
}

impl Staged {
    /// The length of the key's value and its last change, after everything that is staged.
    fn present(&self, map: &MultiVersionMap, key: &[u8]) -> Option<(usize, Revision)> {
        match self.keys.get(key) {
            Some(staged) => *staged,
            None => map.present(key),
        }
    }

    fn push(&mut self, events: CommitEvents) {
        if self.record.len() < FRAME_BYTES {
            frame_begin(&mut self.record);
        }
        commit_encode(&mut self.record, &events.changes);
        for change in &events.changes {
            let put = change.value.as_ref().map(|value| (value.len(), events.revision));
            self.keys.insert(change.key.clone(), put);
        }
        self.commits.push(Arc::new(events));
    }
}

/// What a commit makes the state grow for, and so how far it may.
#[derive(Clone, Copy)]
enum Need {
    /// Keys that are not there yet.
    New,
    /// Other values of keys that are there: a record that moves on, as that of an instance to be terminated.
    Change,
    /// Leases and what hangs on them: without these nobody could lead, and so nobody could make room.
    Lease,
}

impl Need {
    fn of(ops: &[Op], present: &impl Fn(&[u8]) -> Option<(usize, Revision)>) -> Need {
        let new = |op: &Op| matches!(op, Op::Put(key, _) if present(key).is_none());
        if ops.iter().any(new) {
            Need::New
        } else if ops.iter().any(|op| matches!(op, Op::PutLeased(..))) {
            Need::Lease
        } else {
            Need::Change
        }
    }
}

fn holds(condition: &Condition, present: &impl Fn(&[u8]) -> Option<(usize, Revision)>) -> bool {
    match condition {
        Condition::Absent(key) => present(key).is_none(),
        Condition::Unchanged(key, revision) => {
            present(key).is_some_and(|(_, modified)| modified == *revision)
        }
    }
}

/// What a change adds to the state, in memory.
fn change_growth(change: &Change, present: &impl Fn(&[u8]) -> Option<(usize, Revision)>) -> i64 {
    let size = |value_bytes| memory_bytes(change.key.len(), value_bytes) as i64;
    let before = present(&change.key).map_or(0, |(value_bytes, _)| size(value_bytes));
    change.value.as_ref().map_or(0, |value| size(value.len())) - before
}

/// What an operation adds to the state, in memory, at most: what it may free of a lease is not counted.
fn op_growth(op: &Op, present: &impl Fn(&[u8]) -> Option<(usize, Revision)>) -> i64 {
    let size = |value_bytes| memory_bytes(op.key().len(), value_bytes) as i64;
    let before = present(op.key()).map_or(0, |(value_bytes, _)| size(value_bytes));
    let after = match op {
        Op::Put(_, value) => size(value.len()),
        Op::PutLeased(_, value, _) => size(value.len()) + op.key().len() as i64 + lease::LEASE_MEMORY as i64,
        Op::Delete(_) => 0,
    };
    after - before
}

/// What the operations change: a deletion of what is not there changes nothing. What is remembered of leases comes
/// after what the caller asked for.
fn changes(
    ops: Vec<Op>,
    present: &impl Fn(&[u8]) -> Option<(usize, Revision)>,
    leases: &mut Leases,
) -> Vec<Change> {
    let mut changes = Vec::with_capacity(ops.len());
    let mut remembered = Vec::new();
    for op in ops {
        let (key, value, lease) = match op {
            Op::Put(key, value) => (Bytes::from(key), Some(value.into()), None),
            Op::PutLeased(key, value, id) => (Bytes::from(key), Some(value.into()), Some(id)),
            Op::Delete(key) if present(&key).is_none() => continue,
            Op::Delete(key) => (Bytes::from(key), None, None),
        };
        remembered.extend(match lease {
            Some(id) => leases.attach(&key, id),
            None => leases.detach(&key),
        });
        changes.push(Change { key, value });
    }
    changes.append(&mut remembered);
    changes
}
