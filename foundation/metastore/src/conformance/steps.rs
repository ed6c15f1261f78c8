//! Random steps against the model: each answer is compared, and in the end every watch.

use super::model::{Event, Expected, Model};
use crate::WatchEnd;
use crate::{
    Commit, CommitError, Condition, Key, LeaseError, LeaseId, Op, RangeQuery, ReadError, Revision, Store,
    Watch,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// No lease ends by itself in one sequence.
const TTL: Duration = Duration::from_secs(3600);
/// For one event of a watch.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

const KEYS: [&[u8]; 7] = [b"c", b"c/1", b"c/2", b"c\xff", b"\xff\xff", b"d", b"d/\x00z"];
const PREFIXES: [&[u8]; 6] = [b"", b"c", b"c/", b"c\xff", b"\xff", b"d/"];

/// One step. Numbers choose among what there is then.
#[derive(Clone, Debug)]
pub enum Step {
    /// Conditions (`None`: absent; else the key's revision, and so much more), and operations.
    Commit(Vec<(usize, Option<u64>)>, Vec<(usize, Change)>),
    /// A point read, at a past revision or the present.
    Get(usize, Option<usize>),
    /// A range, in pages of so many, at a past revision or the present.
    Range(usize, Option<usize>, usize),
    /// A new watch, from a past revision.
    Watch(usize, usize),
    /// Up to a past revision.
    Compact(usize),
    /// A new lease.
    LeaseGrant,
    /// Of a lease that is or was.
    LeaseKeepAlive(usize),
    /// Of a lease that is or was.
    LeaseRevoke(usize),
}

/// What a commit does to a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// A value of so many bytes.
    Put(usize),
    /// The same, attached to a lease that is or was.
    PutLeased(usize, usize),
    /// It goes.
    Delete,
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let condition =
        (any::<usize>(), prop_oneof![2 => Just(None), 4 => Just(Some(0)), 1 => (1..3u64).prop_map(Some)]);
    let change = prop_oneof![
        6 => (0..300usize).prop_map(Change::Put),
        2 => (0..30usize, any::<usize>()).prop_map(|(bytes, lease)| Change::PutLeased(bytes, lease)),
        3 => Just(Change::Delete),
    ];
    let conditions = proptest::collection::vec(condition, 0..3);
    let ops = proptest::collection::vec((any::<usize>(), change), 0..4);
    let past = proptest::option::of(any::<usize>());
    prop_oneof![
        12 => (conditions, ops).prop_map(|(conditions, ops)| Step::Commit(conditions, ops)),
        3 => (any::<usize>(), past.clone()).prop_map(|(key, at)| Step::Get(key, at)),
        3 => (any::<usize>(), past, 1..4usize).prop_map(|(prefix, at, limit)| Step::Range(prefix, at, limit)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(prefix, from)| Step::Watch(prefix, from)),
        1 => any::<usize>().prop_map(Step::Compact),
        1 => Just(Step::LeaseGrant),
        1 => any::<usize>().prop_map(Step::LeaseKeepAlive),
        1 => any::<usize>().prop_map(Step::LeaseRevoke),
    ]
}

macro_rules! check {
    ($right:expr, $($said:tt)+) => {
        if !$right {
            return Err(format!($($said)+));
        }
    };
}

/// Does the steps in an empty store; the first answer that is wrong.
pub async fn steps_run(store: &Store, steps: Vec<Step>) -> Result<(), String> {
    let base = store.revision().await.map_err(|error| error.to_string())?;
    let mut run = Run { store, model: Model::new(base), now: base, oldest: Revision(0), watches: vec![] };
    for step in steps {
        run.step(&step).await.map_err(|why| format!("{step:?}: {why}"))?;
    }
    run.watches_end().await
}

struct Run<'a> {
    store: &'a Store,
    model: Model,
    /// The store's revision: at least that of the last change.
    now: Revision,
    /// What the last compaction said.
    oldest: Revision,
    watches: Vec<(&'static [u8], Revision, Watch)>,
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Commit(conditions, ops) => {
                let commit = self.commit_of(conditions, ops);
                self.commit(commit).await
            }
            Step::Get(key, at) => self.get(KEYS[key % KEYS.len()], self.past(at)).await,
            Step::Range(prefix, at, limit) => {
                self.range(PREFIXES[prefix % PREFIXES.len()], self.past(at), *limit).await
            }
            Step::Watch(prefix, from) => {
                self.watch(PREFIXES[prefix % PREFIXES.len()], self.past(&Some(*from))).await
            }
            Step::Compact(up_to) => self.compact(self.past(&Some(*up_to)).unwrap_or_default()).await,
            Step::LeaseGrant => {
                let id = self.store.lease_grant(TTL).await.map_err(|error| error.to_string())?;
                check!(self.model.leases.iter().all(|(other, _)| *other != id), "lease {id} twice");
                self.model.leases.push((id, true));
                self.now_read().await
            }
            Step::LeaseKeepAlive(lease) => match self.lease(*lease) {
                None => Ok(()),
                Some(id) => {
                    let kept = self.store.lease_keep_alive(id).await;
                    let expected =
                        if self.model.lease_alive(id) { Ok(()) } else { Err(LeaseError::Expired(id)) };
                    check!(kept == expected, "{kept:?}, not {expected:?}");
                    Ok(())
                }
            },
            Step::LeaseRevoke(lease) => match self.lease(*lease) {
                None => Ok(()),
                Some(id) => self.revoke(id).await,
            },
        }
    }

    /// A revision from the base to one that is not there yet.
    fn past(&self, choice: &Option<usize>) -> Option<Revision> {
        let mut revisions = self.model.revisions();
        revisions.extend([self.now, Revision(self.now.0 + 1)]);
        choice.map(|choice| revisions[revisions.len() - 1 - choice % revisions.len().min(20)])
    }

    fn lease(&self, choice: usize) -> Option<LeaseId> {
        let leases = &self.model.leases;
        (!leases.is_empty()).then(|| leases[choice % leases.len()].0)
    }

    fn commit_of(&self, conditions: &[(usize, Option<u64>)], ops: &[(usize, Change)]) -> Commit {
        let condition = |(key, expected): &(usize, Option<u64>)| {
            let key = KEYS[key % KEYS.len()].to_vec();
            match expected {
                None => Condition::Absent(key),
                Some(more) => {
                    let modified = self.model.present().get(&key).map_or(0, |(_, revision, _)| revision.0);
                    Condition::Unchanged(key, Revision(modified + more))
                }
            }
        };
        let mut by_key: BTreeMap<Key, Op> = BTreeMap::new();
        for (key, change) in ops {
            let key = KEYS[key % KEYS.len()].to_vec();
            let op = match change {
                Change::Put(bytes) => Op::Put(key.clone(), vec![b'v'; *bytes]),
                Change::PutLeased(bytes, lease) => match self.lease(*lease) {
                    Some(id) => Op::PutLeased(key.clone(), vec![b'l'; *bytes], id),
                    None => Op::Put(key.clone(), vec![b'n'; *bytes]),
                },
                Change::Delete => Op::Delete(key.clone()),
            };
            by_key.insert(key, op);
        }
        Commit { conditions: conditions.iter().map(condition).collect(), ops: by_key.into_values().collect() }
    }

    async fn commit(&mut self, commit: Commit) -> Result<(), String> {
        let expected = self.model.expect(&commit);
        let answer = self.store.commit(commit).await;
        match (&answer, expected) {
            (Ok(revision), Expected::Changes(state, changes)) => {
                check!(*revision > self.now, "revision {revision:?} after {:?}", self.now);
                self.now = *revision;
                self.model.change(*revision, state, changes);
            }
            (Ok(revision), Expected::NoEffect) => {
                check!(*revision == self.now, "revision {revision:?} without effect at {:?}", self.now);
            }
            (Err(CommitError::Conflict { key }), Expected::Conflict(unmet)) => {
                check!(*key == unmet.escape_ascii().to_string(), "conflict on {key}");
            }
            (Err(CommitError::LeaseExpired(id)), Expected::LeaseExpired) => {
                check!(!self.model.lease_alive(*id), "lease {id} has not ended");
            }
            (_, expected) => return Err(format!("{answer:?}, not {expected:?}")),
        }
        Ok(())
    }

    async fn now_read(&mut self) -> Result<(), String> {
        let now = self.store.revision().await.map_err(|error| error.to_string())?;
        check!(now >= self.now, "revision {now:?} after {:?}", self.now);
        self.now = now;
        Ok(())
    }

    async fn revoke(&mut self, id: LeaseId) -> Result<(), String> {
        let alive = self.model.lease_alive(id);
        let revoked = self.store.lease_revoke(id).await;
        let expected = if alive { Ok(()) } else { Err(LeaseError::Expired(id)) };
        check!(revoked == expected, "{revoked:?}, not {expected:?}");
        let before = self.now;
        self.now_read().await?;
        if let Some((state, changes)) = self.model.lease_end(id) {
            check!(self.now > before, "its keys went without a revision");
            self.model.change(self.now, state, changes);
        }
        Ok(())
    }

    /// The error that a read at this revision must have.
    fn unreadable(&self, at: Option<Revision>) -> Option<ReadError> {
        let at = at?;
        if at < self.oldest {
            return Some(ReadError::Compacted { oldest: self.oldest });
        }
        (at > self.now).then_some(ReadError::Future { newest: self.now })
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(), String> {
        let got = match at {
            None => self.store.get(key).await,
            Some(at) => self.store.get_at(key, at).await,
        };
        let expected = match self.unreadable(at) {
            Some(error) => Err(error),
            None => {
                let state = self.model.at(at.unwrap_or(self.now));
                Ok(state.get(key).map(|(value, modified, _)| (value.clone(), *modified)))
            }
        };
        let got = got.map(|entry| entry.map(|entry| (entry.value, entry.modified)));
        check!(got == expected, "{got:?}, not {expected:?}");
        Ok(())
    }

    async fn range(&self, prefix: &[u8], at: Option<Revision>, limit: usize) -> Result<(), String> {
        let expected = self.unreadable(at);
        let state = self.model.at(at.unwrap_or(self.now));
        let mut left = state.iter().filter(|(key, _)| key.starts_with(prefix)).peekable();
        let mut query = RangeQuery { at, ..RangeQuery::prefix(prefix).limit(limit) };
        loop {
            let page = match (self.store.range(&query).await, &expected) {
                (Ok(page), None) => page,
                (Err(error), Some(expected)) if error == *expected => return Ok(()),
                (other, _) => return Err(format!("{other:?}, not {expected:?}")),
            };
            let revision = at.unwrap_or(self.now);
            check!(page.revision == revision, "a page at {:?}, not {revision:?}", page.revision);
            check!(page.entries.len() <= limit, "{} entries", page.entries.len());
            check!(page.next.is_none() || !page.entries.is_empty(), "an empty page, and more");
            for entry in &page.entries {
                let right = left.next().is_some_and(|(key, (value, modified, _))| {
                    (key, value, modified) == (&entry.key, &entry.value, &entry.modified)
                });
                check!(right, "entry {entry:?}");
            }
            if page.next.is_none() {
                let missing = left.next();
                check!(missing.is_none(), "without {missing:?}");
                return Ok(());
            }
            query.at = Some(page.revision);
            query.after = page.next;
        }
    }

    async fn watch(&mut self, prefix: &'static [u8], from: Option<Revision>) -> Result<(), String> {
        let expected = self.unreadable(from);
        let from = from.unwrap_or(self.now);
        match (self.store.watch(prefix, from).await, expected) {
            (Ok(watch), None) => self.watches.push((prefix, from, watch)),
            (Err(error), Some(expected)) if error == expected => {}
            (other, expected) => return Err(format!("{other:?}, not {expected:?}")),
        }
        Ok(())
    }

    async fn compact(&mut self, up_to: Revision) -> Result<(), String> {
        let oldest = self.store.compact(up_to).await.map_err(|error| error.to_string())?;
        let bound = up_to.min(self.now).max(self.oldest);
        check!(oldest >= self.oldest && oldest <= bound, "the oldest is {oldest:?}, was {:?}", self.oldest);
        self.oldest = oldest;
        Ok(())
    }

    /// Every watch has given what the model says, nothing twice and nothing else: the last commit touches all.
    async fn watches_end(&mut self) -> Result<(), String> {
        let last = PREFIXES.iter().map(|prefix| Op::Put([prefix, &b"~last"[..]].concat(), b"last".to_vec()));
        self.commit(Commit { conditions: vec![], ops: last.collect() }).await?;
        for (prefix, from, mut watch) in std::mem::take(&mut self.watches) {
            let mut given = from;
            for expected in self.model.events(from, prefix) {
                let event = tokio::time::timeout(EVENT_TIMEOUT, watch.next()).await;
                let event = match event.map_err(|_| format!("the watch is silent before {expected:?}"))? {
                    Ok(event) => event,
                    // What it had not given yet was compacted under it.
                    Err(WatchEnd::Lagged) if given < self.oldest => break,
                    Err(end) => return Err(format!("{end} before {expected:?}")),
                };
                given = event.revision;
                let changes = event
                    .changes
                    .iter()
                    .map(|change| (change.key.to_vec(), change.value.as_ref().map(|value| value.to_vec())));
                let got = Event { revision: event.revision, changes: changes.collect() };
                check!(
                    got == expected && event.changes.len() == got.changes.len(),
                    "{got:?}, not {expected:?}"
                );
            }
        }
        Ok(())
    }
}
