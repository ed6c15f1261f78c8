//! The state in memory: an ordered map of keys to their versions, and the recent commits in order, from which
//! watches begin. Called by the engine and by recovery; it knows no disk and no staging.
//!
//! Invariant: reads are exact at every revision from `oldest` to `revision`, and refused outside.

use crate::contract::{Entry, Page, RangeQuery, ReadError, Revision, USER_KEYS_BEGIN};
use crate::watch::CommitEvents;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::Bound;
use std::sync::Arc;

/// How much history is kept, in commits and in bytes of their keys and values; whichever is reached first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryBound {
    pub commits: usize,
    pub bytes: usize,
}

#[derive(Debug)]
struct Version {
    revision: Revision,
    /// `None`: deleted at this revision.
    value: Option<Bytes>,
}

#[derive(Debug)]
struct Versions {
    latest: Version,
    /// Oldest first.
    older: VecDeque<Version>,
}

impl Versions {
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.latest.revision <= revision {
            return Some(&self.latest);
        }
        self.older.iter().rev().find(|version| version.revision <= revision)
    }
}

/// Keys, their versions, and the commits between `oldest` (exclusive) and `revision`.
#[derive(Debug, Default)]
pub(crate) struct MultiVersionMap {
    keys: BTreeMap<Bytes, Versions>,
    history: VecDeque<Arc<CommitEvents>>,
    history_bytes: usize,
    live_bytes: u64,
    live_entries: u64,
    oldest: Revision,
    revision: Revision,
}

impl MultiVersionMap {
    /// An empty map that stands at a snapshot's revision, to be filled by [`MultiVersionMap::load`].
    pub(crate) fn at_snapshot(revision: Revision) -> Self {
        MultiVersionMap { oldest: revision, revision, ..Self::default() }
    }

    /// Puts an entry of a snapshot.
    pub(crate) fn load(&mut self, key: Bytes, value: Bytes, modified: Revision) {
        self.live_bytes += image_bytes(&key, &value);
        self.live_entries += 1;
        let latest = Version { revision: modified, value: Some(value) };
        self.keys.insert(key, Versions { latest, older: VecDeque::new() });
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Roughly the size of an image.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Keys that exist.
    pub(crate) fn live_entries(&self) -> u64 {
        self.live_entries
    }

    /// What the live state takes in memory, as [`memory_bytes`] counts.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.live_bytes + self.live_entries * (ENTRY_MEMORY - ENTRY_IMAGE)
    }

    /// Keys and values of the history.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// The revision at which the key was last changed, if it exists.
    pub(crate) fn modified(&self, key: &[u8]) -> Option<Revision> {
        self.present(key).map(|(_, modified)| modified)
    }

    /// The present value's length and the revision at which it was put, if the key exists.
    pub(crate) fn present(&self, key: &[u8]) -> Option<(usize, Revision)> {
        let latest = &self.keys.get(key)?.latest;
        latest.value.as_ref().map(|value| (value.len(), latest.revision))
    }

    /// Makes the next commit the present.
    pub(crate) fn apply(&mut self, events: Arc<CommitEvents>) {
        for change in &events.changes {
            let version = Version { revision: events.revision, value: change.value.clone() };
            if let Some(value) = &version.value {
                self.live_bytes += image_bytes(&change.key, value);
                self.live_entries += 1;
            }
            match self.keys.entry(change.key.clone()) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(Versions { latest: version, older: VecDeque::new() });
                }
                btree_map::Entry::Occupied(mut occupied) => {
                    let versions = occupied.get_mut();
                    let former = std::mem::replace(&mut versions.latest, version);
                    if let Some(value) = &former.value {
                        self.live_bytes -= image_bytes(&change.key, value);
                        self.live_entries -= 1;
                    }
                    versions.older.push_back(former);
                }
            }
        }
        self.revision = events.revision;
        self.history_bytes += events.bytes();
        self.history.push_back(events);
    }

    /// The revision to read at.
    pub(crate) fn readable(&self, at: Option<Revision>) -> Result<Revision, ReadError> {
        let at = at.unwrap_or(self.revision);
        if at < self.oldest {
            return Err(ReadError::Compacted { oldest: self.oldest });
        }
        if at > self.revision {
            return Err(ReadError::Future { newest: self.revision });
        }
        Ok(at)
    }

    pub(crate) fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, ReadError> {
        let at = self.readable(at)?;
        let version = self.keys.get(key).and_then(|versions| versions.at(at));
        Ok(version.and_then(|version| {
            let value = version.value.as_ref()?.to_vec();
            Some(Entry { key: key.to_vec(), value, modified: version.revision })
        }))
    }

    pub(crate) fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        let revision = self.readable(query.at)?;
        let limit = query.limit.clamp(1, RangeQuery::LIMIT_MAX);
        // What engines keep for themselves is not read by users.
        let start = query.start.as_slice().max(USER_KEYS_BEGIN);
        let mut page = Page { entries: Vec::new(), revision, next: None };
        let mut bytes = 0;
        for (key, value, modified) in self.live(start, query.after.as_deref(), query.end.as_deref(), revision)
        {
            if page.entries.len() >= limit || bytes >= RangeQuery::PAGE_BYTES_MAX {
                page.next = page.entries.last().map(|entry| entry.key.clone());
                break;
            }
            bytes += key.len() + value.len();
            page.entries.push(Entry { key: key.to_vec(), value: value.to_vec(), modified });
        }
        Ok(page)
    }

    /// Key, value and last change of each key that exists at `at`, from `start`, after `after`, before `end`.
    pub(crate) fn live<'a>(
        &'a self,
        start: &'a [u8],
        after: Option<&'a [u8]>,
        end: Option<&'a [u8]>,
        at: Revision,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Bytes, Revision)> {
        let lower = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        // BTreeMap::range panics on a range that ends before it begins; a query may well be one.
        let begins = after.unwrap_or(start).max(start);
        let empty = end.is_some_and(|end| end <= begins);
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let found = (!empty).then(|| self.keys.range::<[u8], _>((lower, upper)));
        found.into_iter().flatten().filter_map(move |(key, versions)| {
            let version = versions.at(at)?;
            Some((key, version.value.as_ref()?, version.revision))
        })
    }

    /// The commits after `from`, oldest first.
    pub(crate) fn commits_after(&self, from: Revision) -> Result<VecDeque<Arc<CommitEvents>>, ReadError> {
        let from = self.readable(Some(from))?;
        let skipped = (from.0 - self.oldest.0) as usize;
        Ok(self.history.iter().skip(skipped).cloned().collect())
    }

    /// Forgets what can only be read before `up_to`.
    pub(crate) fn compact(&mut self, up_to: Revision) {
        while self.history.front().is_some_and(|events| events.revision <= up_to) {
            self.forget_oldest();
        }
    }

    /// Forgets history beyond the bound, but nothing that a read at `floor` needs.
    pub(crate) fn trim(&mut self, bound: HistoryBound, floor: Option<Revision>) {
        while self.history.len() > bound.commits || self.history_bytes > bound.bytes {
            match (self.history.front(), floor) {
                (None, _) => break,
                (Some(events), Some(floor)) if events.revision > floor => break,
                _ => self.forget_oldest(),
            }
        }
    }

    /// Reads can no longer be made before the oldest commit of the history, so the versions that it replaced go,
    /// and with them its own deletions.
    fn forget_oldest(&mut self) {
        let Some(events) = self.history.pop_front() else { return };
        self.history_bytes -= events.bytes();
        self.oldest = events.revision;
        for change in &events.changes {
            let Some(versions) = self.keys.get_mut(&change.key[..]) else { continue };
            let needed = |version: &Version| version.revision > events.revision || version.value.is_some();
            while let Some(front) = versions.older.front() {
                if front.revision >= events.revision && needed(front) {
                    break;
                }
                versions.older.pop_front();
            }
            if versions.older.is_empty() && !needed(&versions.latest) {
                self.keys.remove(&change.key[..]);
            }
        }
    }
}

/// What an entry adds to its key and value in an image.
const ENTRY_IMAGE: u64 = 14;
/// What an entry adds to its key and value in memory: its place in the tree, two allocations, and what the allocator
/// rounds them up by.
const ENTRY_MEMORY: u64 = 192;

/// What an entry adds to an image.
fn image_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_IMAGE
}

/// What an entry takes in memory, about.
pub(crate) fn memory_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    (key_bytes + value_bytes) as u64 + ENTRY_MEMORY
}
