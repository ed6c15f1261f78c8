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
use super::map::{HistoryBound, MultiVersionMap};
use super::recovery::{OpenError, Recovery, recover};
use super::snapshot::{SnapshotWriter, snapshot_name};
use crate::contract::{
    Commit, CommitError, Condition, Entry, LeaseId, Op, Page, RangeQuery, ReadError, Revision,
    USER_KEYS_BEGIN,
};
use crate::watch::{Change, CommitEvents, Watch, Watchers};
use base::clock::Timestamp;
use base::disk::Disk;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
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
    /// For each key that the batch changes, the revision that it will have; `None`: deleted.
    keys: BTreeMap<Bytes, Option<Revision>>,
    /// The batch's record, begun.
    record: Vec<u8>,
}

impl Engine {
    /// Bytes that can be staged: after them a flush is needed.
    pub const STAGED_BYTES_MAX: usize = 16 << 20;

    /// Opens the store on the disk, or makes an empty one there (of incarnation 1).
    pub fn open(mut disk: Box<dyn Disk>, options: EngineOptions) -> Result<Engine, OpenError> {
        let recovered = recover(&mut *disk)?;
        let mut map = recovered.map;
        let leases =
            Leases::load(&map).map_err(|key| OpenError::Reserved { key: key.escape_ascii().to_string() })?;
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
        commit.check()?;
        self.ready(commit.bytes())?;
        let changes = {
            let state = self.reader.state();
            let modified = |key: &[u8]| match self.staged.keys.get(key) {
                Some(staged) => *staged,
                None => state.map.modified(key),
            };
            if let Some(unmet) = commit.conditions.iter().find(|condition| !holds(condition, &modified)) {
                return Err(CommitError::Conflict { key: unmet.key().escape_ascii().to_string() });
            }
            self.leases.admit(&commit.ops)?;
            changes(commit.ops, &modified, &mut self.leases)
        };
        Ok(self.stage_changes(changes))
    }

    /// Stages a new lease, which ends when it was not kept alive for `ttl`.
    pub fn lease_grant(&mut self, ttl: Duration, now: Timestamp) -> Result<(Ticket, LeaseId), CommitError> {
        LeaseId::ttl_check(ttl)?;
        self.ready(lease::END_BYTES_MAX)?;
        let id = lease::lease_id_new(self.incarnation(), Revision(self.revision_staged().0 + 1));
        let change = self.leases.grant(id, ttl, now);
        Ok((self.stage_changes(vec![change]), id))
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
        self.staged = Staged { commits: Vec::new(), ..staged };
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
    fn push(&mut self, events: CommitEvents) {
        if self.record.len() < FRAME_BYTES {
            frame_begin(&mut self.record);
        }
        commit_encode(&mut self.record, &events.changes);
        for change in &events.changes {
            self.keys.insert(change.key.clone(), change.value.as_ref().map(|_| events.revision));
        }
        self.commits.push(Arc::new(events));
    }
}

fn holds(condition: &Condition, modified: &impl Fn(&[u8]) -> Option<Revision>) -> bool {
    match condition {
        Condition::Absent(key) => modified(key).is_none(),
        Condition::Unchanged(key, revision) => modified(key) == Some(*revision),
    }
}

/// What the operations change: a deletion of what is not there changes nothing. What is remembered of leases comes
/// after what the caller asked for.
fn changes(ops: Vec<Op>, modified: &impl Fn(&[u8]) -> Option<Revision>, leases: &mut Leases) -> Vec<Change> {
    let mut changes = Vec::with_capacity(ops.len());
    let mut remembered = Vec::new();
    for op in ops {
        let (key, value, lease) = match op {
            Op::Put(key, value) => (Bytes::from(key), Some(value.into()), None),
            Op::PutLeased(key, value, id) => (Bytes::from(key), Some(value.into()), Some(id)),
            Op::Delete(key) if modified(&key).is_none() => continue,
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

/// The visible half of an engine.
struct State {
    map: MultiVersionMap,
    history: HistoryBound,
    watchers: Watchers,
    watch_queue_max: usize,
    failed: Option<String>,
    /// The revision of the snapshot that is being written, which must stay readable.
    snapshot_at: Option<Revision>,
}

impl State {
    fn apply(&mut self, commits: Vec<Arc<CommitEvents>>) {
        for events in commits {
            self.watchers.publish(&events);
            self.map.apply(events);
        }
        self.trim();
    }

    fn trim(&mut self) {
        self.map.trim(self.history, self.snapshot_at);
    }

    fn fail(&mut self, why: &str) {
        let why = self.failed.get_or_insert_with(|| why.to_owned());
        self.watchers.close(why);
    }

    fn alive(&self) -> Result<(), ReadError> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(ReadError::Failed(why.clone())))
    }
}

/// Reads and watches of an engine, from any thread: they see what is durable, all of it, in order.
#[derive(Clone)]
pub struct Reader {
    incarnation: u64,
    state: Arc<RwLock<State>>,
}

impl Reader {
    /// See [`Engine::incarnation`].
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The last durable revision.
    pub fn revision(&self) -> Revision {
        self.state().map.revision()
    }

    /// The key's present value.
    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.read(key, None)
    }

    /// The key's value at a past revision.
    pub fn get_at(&self, key: &[u8], revision: Revision) -> Result<Option<Entry>, ReadError> {
        self.read(key, Some(revision))
    }

    fn read(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, ReadError> {
        let state = self.state();
        state.alive()?;
        let entry = state.map.get(key, at)?;
        Ok(entry.filter(|_| key >= USER_KEYS_BEGIN))
    }

    /// One page of a range of keys, at one revision.
    pub fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        let state = self.state();
        state.alive()?;
        state.map.range(query)
    }

    /// All entries under a prefix, at one revision; takes several pages if it must. Meant for read models, which
    /// then watch from the revision given.
    pub fn list(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), ReadError> {
        let mut page = self.range(&RangeQuery::prefix(prefix))?;
        let revision = page.revision;
        let mut entries = page.entries;
        while page.next.is_some() {
            page = self.range(&RangeQuery::prefix(prefix).at(revision).after(page.next))?;
            entries.append(&mut page.entries);
        }
        Ok((entries, revision))
    }

    /// The commits after `from` (the revision of the range that the watcher has read) that change keys under the
    /// prefix, in order, whole, without a gap.
    pub fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, ReadError> {
        let mut state = self.state_mut();
        state.alive()?;
        let backlog = state.map.commits_after(from)?;
        let (feed, watch) = Watch::fed(prefix, backlog, state.watch_queue_max);
        state.watchers.add(feed);
        Ok(watch)
    }

    /// Forgets what can be read only before `up_to`, and gives the oldest revision that can still be read: earlier
    /// than `up_to` while a snapshot is being written. Not remembered over a restart, which has its own history.
    pub fn compact(&self, up_to: Revision) -> Result<Revision, ReadError> {
        let mut state = self.state_mut();
        state.alive()?;
        let floor = state.snapshot_at.unwrap_or(up_to);
        state.map.compact(up_to.min(floor));
        Ok(state.map.oldest())
    }

    // A thread that panicked with the lock left a state that is whole: each change to it is complete or is not
    // begun when anything in it can panic.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
