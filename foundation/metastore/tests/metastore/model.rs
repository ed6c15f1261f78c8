//! What the contract says, kept as the whole state at every revision; and how an engine's state is read.

use base::clock::Timestamp;
use metastore::{
    Commit, CommitError, Condition, Engine, EngineOptions, Entry, Key, LeaseId, Op, RangeQuery, ReadError,
    Revision, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Each key's value and last change.
pub type State = BTreeMap<Key, (Value, Revision)>;

/// How long every lease lives that is not kept alive.
pub const TTL: Duration = Duration::from_secs(10);

/// The leases there are, and what is attached to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leases {
    pub live: BTreeSet<LeaseId>,
    pub held: BTreeMap<Key, LeaseId>,
}

/// All states, by revision.
#[derive(Clone, Debug)]
pub struct Model {
    states: Vec<(State, Leases)>,
    /// When leases end, as far as a time was told since the last start.
    deadlines: BTreeMap<LeaseId, Timestamp>,
}

impl Model {
    pub fn new() -> Self {
        Model { states: vec![Default::default()], deadlines: BTreeMap::new() }
    }

    pub fn revision(&self) -> Revision {
        Revision(self.states.len() as u64 - 1)
    }

    pub fn at(&self, revision: Revision) -> &State {
        &self.states[revision.0 as usize].0
    }

    pub fn present(&self) -> &State {
        self.at(self.revision())
    }

    pub fn leases(&self) -> &Leases {
        &self.states[self.states.len() - 1].1
    }

    /// A start, which found this revision.
    pub fn restart(&mut self, revision: Revision) {
        self.states.truncate(revision.0 as usize + 1);
        self.deadlines.clear();
    }

    fn push(&mut self, state: State, leases: Leases) -> Revision {
        self.states.push((state, leases));
        self.revision()
    }

    fn next(&self) -> (State, Leases, Revision) {
        let (state, leases) = self.states[self.states.len() - 1].clone();
        (state, leases, Revision(self.revision().0 + 1))
    }

    /// What the contract says of a commit within bounds.
    pub fn commit(&mut self, commit: &Commit) -> Result<Revision, CommitError> {
        let (mut state, mut leases, next) = self.next();
        for condition in &commit.conditions {
            let holds = match condition {
                Condition::Absent(key) => !state.contains_key(key),
                Condition::Unchanged(key, revision) => state.get(key).is_some_and(|(_, at)| at == revision),
            };
            if !holds {
                return Err(CommitError::Conflict { key: condition.key().escape_ascii().to_string() });
            }
        }
        let mut changed = false;
        for op in &commit.ops {
            let held = match op {
                Op::PutLeased(_, _, id) if !leases.live.contains(id) => {
                    return Err(CommitError::LeaseExpired(*id));
                }
                Op::PutLeased(key, _, id) => leases.held.insert(key.clone(), *id),
                Op::Put(key, _) | Op::Delete(key) => leases.held.remove(key),
            };
            changed |= match op {
                Op::Put(key, value) | Op::PutLeased(key, value, _) => {
                    state.insert(key.clone(), (value.clone(), next));
                    true
                }
                Op::Delete(key) => state.remove(key).is_some(),
            };
            assert!(held.is_none() || changed, "what is held exists");
        }
        if changed {
            self.push(state, leases);
        }
        Ok(self.revision())
    }

    pub fn grant(&mut self, id: LeaseId, now: Timestamp) -> Revision {
        let (state, mut leases, _) = self.next();
        assert!(leases.live.insert(id), "an id is given once");
        self.deadlines.insert(id, now + TTL);
        self.push(state, leases)
    }

    pub fn keep_alive(&mut self, id: LeaseId, now: Timestamp) -> Result<(), CommitError> {
        match self.leases().live.contains(&id) {
            true => {
                self.deadlines.insert(id, now + TTL);
                Ok(())
            }
            false => Err(CommitError::LeaseExpired(id)),
        }
    }

    pub fn revoke(&mut self, id: LeaseId) -> Result<Revision, CommitError> {
        let (mut state, mut leases, _) = self.next();
        if !leases.live.remove(&id) {
            return Err(CommitError::LeaseExpired(id));
        }
        self.deadlines.remove(&id);
        let gone: Vec<Key> =
            leases.held.iter().filter(|(_, holder)| **holder == id).map(|(key, _)| key.clone()).collect();
        for key in gone {
            leases.held.remove(&key);
            state.remove(&key);
        }
        Ok(self.push(state, leases))
    }

    /// Ends the leases whose time is over, in the order of their ends.
    pub fn expire(&mut self, now: Timestamp) {
        for id in self.leases().live.clone() {
            self.deadlines.entry(id).or_insert(now + TTL);
        }
        let mut due: Vec<(Timestamp, LeaseId)> =
            self.deadlines.iter().map(|(id, deadline)| (*deadline, *id)).collect();
        due.retain(|(deadline, _)| *deadline <= now);
        due.sort_unstable();
        for (_, id) in due {
            self.revoke(id).expect("a deadline is a live lease's");
        }
    }

    pub fn entries(&self, at: Revision, prefix: &[u8]) -> Vec<Entry> {
        let under = self.at(at).iter().filter(|(key, _)| key.starts_with(prefix));
        under
            .map(|(key, (value, modified))| Entry {
                key: key.clone(),
                value: value.clone(),
                modified: *modified,
            })
            .collect()
    }

    /// What a watch of the prefix after `from` must deliver, each commit's changes in the order of their keys.
    pub fn events(&self, from: Revision, prefix: &[u8]) -> Vec<(Revision, BTreeMap<Key, Option<Value>>)> {
        let mut events = Vec::new();
        for revision in from.0 + 1..=self.revision().0 {
            let (before, after) = (self.at(Revision(revision - 1)), self.at(Revision(revision)));
            let mut changes = BTreeMap::new();
            for (key, (value, modified)) in after {
                if modified.0 == revision {
                    changes.insert(key.clone(), Some(value.clone()));
                }
            }
            changes
                .extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None)));
            changes.retain(|key, _| key.starts_with(prefix));
            if !changes.is_empty() {
                events.push((Revision(revision), changes));
            }
        }
        events
    }
}

/// All of an engine's present.
pub fn state_of(engine: &Engine) -> State {
    let entry = |entry: Entry| (entry.key, (entry.value, entry.modified));
    read_all(engine, b"", None, 7).unwrap().into_iter().map(entry).collect()
}

/// Every page of a range, read with a cursor at one revision.
pub fn read_all(
    engine: &Engine,
    prefix: &[u8],
    at: Option<Revision>,
    limit: usize,
) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    let (mut at, mut after) = (at, None);
    loop {
        let mut query = RangeQuery::prefix(prefix).after(after).limit(limit);
        query.at = at;
        let page = engine.range(&query)?;
        assert!(page.entries.len() <= limit);
        entries.extend(page.entries);
        (at, after) = (Some(page.revision), page.next);
        if after.is_none() {
            return Ok(entries);
        }
    }
}

pub fn small() -> EngineOptions {
    EngineOptions {
        segment_bytes: 2048,
        snapshot_log_bytes_min: 4096,
        snapshot_ratio: 2,
        snapshot_step_bytes: 512,
        history_commits: 12,
        history_bytes: 8192,
        watch_queue_commits: 1000,
        backup_history_bytes: 8192,
        ..EngineOptions::default()
    }
}
