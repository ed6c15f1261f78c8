//! The contract, at its simplest: the whole state at every revision.
//!
//! Invariant: what revisions commits get is the engine's to say (leases may take some, others may share the engine);
//! that they rise is checked by whoever tells them to the model.

use crate::{Commit, Condition, Key, LeaseId, Op, Revision, Value};
use std::collections::BTreeMap;

/// A key's value, its last change, and the lease that it is attached to.
pub(super) type State = BTreeMap<Key, (Value, Revision, Option<LeaseId>)>;

/// One commit, as a watch gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) revision: Revision,
    pub(super) changes: BTreeMap<Key, Option<Value>>,
}

/// All states.
pub(super) struct Model {
    states: Vec<(Revision, State)>,
    events: Vec<Event>,
    pub(super) leases: Vec<(LeaseId, bool)>,
}

/// What the model says of a commit within bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It changes something: what, and the state after it but for its revision.
    Changes(State, BTreeMap<Key, Option<Value>>),
    /// It happens, and changes nothing.
    NoEffect,
    Conflict(Key),
    LeaseExpired,
}

impl Model {
    /// A store that is empty at this revision.
    pub(super) fn new(base: Revision) -> Model {
        Model { states: vec![(base, State::new())], events: vec![], leases: vec![] }
    }

    pub(super) fn present(&self) -> &State {
        self.at(Revision(u64::MAX))
    }

    /// The state at a revision from the base on.
    pub(super) fn at(&self, revision: Revision) -> &State {
        let after = self.states.partition_point(|(at, _)| *at <= revision);
        &self.states[after.max(1) - 1].1
    }

    pub(super) fn revisions(&self) -> Vec<Revision> {
        self.states.iter().map(|(revision, _)| *revision).collect()
    }

    /// What a watch of the prefix after `from` gives.
    pub(super) fn events(&self, from: Revision, prefix: &[u8]) -> Vec<Event> {
        let under = |event: &Event| {
            let mut event = event.clone();
            event.changes.retain(|key, _| key.starts_with(prefix));
            event
        };
        let after = self.events.iter().filter(|event| event.revision > from);
        after.map(under).filter(|event| !event.changes.is_empty()).collect()
    }

    pub(super) fn lease_alive(&self, id: LeaseId) -> bool {
        self.leases.contains(&(id, true))
    }

    pub(super) fn expect(&self, commit: &Commit) -> Expected {
        let mut state = self.present().clone();
        let unmet = commit.conditions.iter().find(|condition| match condition {
            Condition::Absent(key) => state.contains_key(key),
            Condition::Unchanged(key, revision) => state.get(key).is_none_or(|(_, at, _)| at != revision),
        });
        if let Some(unmet) = unmet {
            return Expected::Conflict(unmet.key().to_vec());
        }
        let mut changes = BTreeMap::new();
        for op in &commit.ops {
            match op {
                Op::Put(key, value) => {
                    state.insert(key.clone(), (value.clone(), Revision(0), None));
                    changes.insert(key.clone(), Some(value.clone()));
                }
                Op::PutLeased(_, _, id) if !self.lease_alive(*id) => return Expected::LeaseExpired,
                Op::PutLeased(key, value, id) => {
                    state.insert(key.clone(), (value.clone(), Revision(0), Some(*id)));
                    changes.insert(key.clone(), Some(value.clone()));
                }
                Op::Delete(key) => {
                    if state.remove(key).is_some() {
                        changes.insert(key.clone(), None);
                    }
                }
            }
        }
        match changes.is_empty() {
            true => Expected::NoEffect,
            false => Expected::Changes(state, changes),
        }
    }

    /// What was expected happened at this revision.
    pub(super) fn change(&mut self, revision: Revision, state: State, changes: BTreeMap<Key, Option<Value>>) {
        let mut state = state;
        for key in changes.keys() {
            if let Some(entry) = state.get_mut(key) {
                entry.1 = revision;
            }
        }
        self.states.push((revision, state));
        self.events.push(Event { revision, changes });
    }

    /// What the end of a lease changes.
    pub(super) fn lease_end(&mut self, id: LeaseId) -> Option<(State, BTreeMap<Key, Option<Value>>)> {
        for lease in self.leases.iter_mut().filter(|(lease, _)| *lease == id) {
            lease.1 = false;
        }
        let mut state = self.present().clone();
        let gone: Vec<Key> = state
            .iter()
            .filter(|(_, (_, _, lease))| *lease == Some(id))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            state.remove(key);
        }
        let changes: BTreeMap<_, _> = gone.into_iter().map(|key| (key, None)).collect();
        (!changes.is_empty()).then_some((state, changes))
    }
}
