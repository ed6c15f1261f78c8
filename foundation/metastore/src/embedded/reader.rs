//! The reading half of an engine: what is durable, seen by any thread while the engine goes on.
//!
//! Invariant: a reader sees whole commits, in order, and only durable ones.

use super::backup::Backup;
use super::map::{HistoryBound, MultiVersionMap};
use crate::contract::{Entry, Page, RangeQuery, ReadError, Revision, USER_KEYS_BEGIN};
use crate::watch::{CommitEvents, Watch, Watchers};
use base::clock::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The visible half of an engine.
pub(super) struct State {
    pub map: MultiVersionMap,
    pub history: HistoryBound,
    pub watchers: Watchers,
    pub watch_queue_max: usize,
    pub failed: Option<String>,
    /// The revision of the snapshot that is being written, which must stay readable.
    pub snapshot_at: Option<Revision>,
    /// The revisions of the backups under way, and how many there are of each. They stay readable as long as that
    /// takes no more than `backup_history_bytes` beyond the history's own bound.
    pub backups: BTreeMap<Revision, usize>,
    pub backup_history_bytes: usize,
}

impl State {
    pub(super) fn apply(&mut self, commits: Vec<Arc<CommitEvents>>) {
        for events in commits {
            self.watchers.publish(&events);
            self.map.apply(events);
        }
        self.trim();
    }

    pub(super) fn trim(&mut self) {
        let patience = self.history.bytes + self.backup_history_bytes;
        let backup = self.backups.keys().next().filter(|_| self.map.history_bytes() <= patience);
        self.map.trim(self.history, self.snapshot_at.into_iter().chain(backup.copied()).min());
    }

    pub(super) fn fail(&mut self, why: &str) {
        let why = self.failed.get_or_insert_with(|| why.to_owned());
        self.watchers.close(why);
    }

    pub(super) fn alive(&self) -> Result<(), ReadError> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(ReadError::Failed(why.clone())))
    }
}

/// Reads and watches of an engine, from any thread: they see what is durable, all of it, in order.
#[derive(Clone)]
pub struct Reader {
    pub(super) incarnation: u64,
    pub(super) state: Arc<RwLock<State>>,
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
    /// than `up_to` while a snapshot or a backup is being made. Not remembered over a restart, which has its own history.
    pub fn compact(&self, up_to: Revision) -> Result<Revision, ReadError> {
        let mut state = self.state_mut();
        state.alive()?;
        let kept = state.snapshot_at.into_iter().chain(state.backups.keys().next().copied());
        let up_to = kept.fold(up_to, Revision::min);
        state.map.compact(up_to);
        Ok(state.map.oldest())
    }

    /// Begins a backup of what is durable now; `taken` is written into it.
    pub fn backup(&self, taken: Timestamp) -> Result<Backup, ReadError> {
        Backup::begin(self.clone(), taken)
    }

    // A thread that panicked with the lock left a state that is whole: each change to it is complete or is not
    // begun when anything in it can panic.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
