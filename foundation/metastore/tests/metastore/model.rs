//! The engine beside a model that keeps the whole state at every revision.

use base::disk::memory::MemoryDisk;
use metastore::{
    Commit, CommitError, CommitEvents, Condition, Engine, EngineOptions, Entry, Key, Op, RangeQuery,
    ReadError, Revision, Ticket, Value, Watch, WatchEnd,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Each key's value and last change.
pub type State = BTreeMap<Key, (Value, Revision)>;

/// All states, by revision.
#[derive(Clone, Debug)]
pub struct Model(pub Vec<State>);

impl Model {
    pub fn new() -> Self {
        Model(vec![State::new()])
    }

    pub fn revision(&self) -> Revision {
        Revision(self.0.len() as u64 - 1)
    }

    pub fn present(&self) -> &State {
        &self.0[self.0.len() - 1]
    }

    /// What the contract says of a commit within bounds.
    pub fn commit(&mut self, commit: &Commit) -> Result<Revision, CommitError> {
        let mut state = self.present().clone();
        for condition in &commit.conditions {
            let holds = match condition {
                Condition::Absent(key) => !state.contains_key(key),
                Condition::Unchanged(key, revision) => state.get(key).is_some_and(|(_, at)| at == revision),
            };
            if !holds {
                return Err(CommitError::Conflict { key: condition.key().escape_ascii().to_string() });
            }
        }
        let next = Revision(self.revision().0 + 1);
        let mut changed = false;
        for op in &commit.ops {
            changed |= match op {
                // Its leases are never ended here.
                Op::Put(key, value) | Op::PutLeased(key, value, _) => {
                    state.insert(key.clone(), (value.clone(), next));
                    true
                }
                Op::Delete(key) => state.remove(key).is_some(),
            };
        }
        if changed {
            self.0.push(state);
        }
        Ok(self.revision())
    }

    fn entries(&self, at: Revision, prefix: &[u8]) -> Vec<Entry> {
        let under = self.0[at.0 as usize].iter().filter(|(key, _)| key.starts_with(prefix));
        under
            .map(|(key, (value, modified))| Entry {
                key: key.clone(),
                value: value.clone(),
                modified: *modified,
            })
            .collect()
    }

    /// What a watch of the prefix after `from` must deliver, each commit's changes in the order of their keys.
    fn events(&self, from: Revision, prefix: &[u8]) -> Vec<(Revision, BTreeMap<Key, Option<Value>>)> {
        let mut events = Vec::new();
        for revision in from.0 as usize + 1..self.0.len() {
            let (before, after) = (&self.0[revision - 1], &self.0[revision]);
            let mut changes = BTreeMap::new();
            for (key, (value, modified)) in after {
                if modified.0 == revision as u64 {
                    changes.insert(key.clone(), Some(value.clone()));
                }
            }
            changes
                .extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), None)));
            changes.retain(|key, _| key.starts_with(prefix));
            if !changes.is_empty() {
                events.push((Revision(revision as u64), changes));
            }
        }
        events
    }
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

fn drain(watch: &mut Watch) -> Vec<(Revision, BTreeMap<Key, Option<Value>>)> {
    let mut events = Vec::new();
    while let Some(CommitEvents { revision, changes }) = watch.try_next().unwrap().as_deref() {
        let change = |change: &metastore::Change| {
            (change.key.to_vec(), change.value.as_ref().map(|value| value.to_vec()))
        };
        events.push((*revision, changes.iter().map(change).collect()));
    }
    events
}

#[derive(Clone, Debug)]
enum Step {
    /// Conditions are judged against what the model holds then: `Some(0)` the key's revision, others a wrong one.
    Stage(Vec<(u8, Option<u64>)>, Vec<(u8, Option<u16>)>),
    Flush,
    Maintain,
    Compact(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let condition = (0..6u8, prop_oneof![Just(None), Just(Some(0)), Just(Some(0)), (1..4u64).prop_map(Some)]);
    let op = (0..6u8, proptest::option::weighted(0.7, 0..600u16));
    let stage = (proptest::collection::vec(condition, 0..2), proptest::collection::vec(op, 0..4));
    prop_oneof![
        8 => stage.prop_map(|(conditions, ops)| Step::Stage(conditions, ops)),
        4 => Just(Step::Flush),
        3 => Just(Step::Maintain),
        1 => (0..10u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u8) -> Key {
    [b"c".as_slice(), b"c/1", b"c/2", b"c\xff", b"d", b"d/1"][number as usize].to_vec()
}

fn commit(model: &Model, conditions: &[(u8, Option<u64>)], ops: &[(u8, Option<u16>)]) -> Commit {
    let condition = |(number, expected): &(u8, Option<u64>)| match expected {
        None => Condition::Absent(key(*number)),
        Some(wrong) => {
            let modified = model.present().get(&key(*number)).map_or(Revision(1), |(_, modified)| *modified);
            Condition::Unchanged(key(*number), Revision(modified.0 + wrong))
        }
    };
    let mut by_key = BTreeMap::new();
    by_key.extend(ops.iter().cloned());
    let op = |(number, length): (u8, Option<u16>)| match length {
        Some(length) => Op::Put(key(number), vec![number; length.into()]),
        None => Op::Delete(key(number)),
    };
    Commit {
        conditions: conditions.iter().map(condition).collect(),
        ops: by_key.into_iter().map(op).collect(),
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
    }
}

fn check(engine: &Engine, durable: &Model) {
    assert_eq!(engine.revision(), durable.revision());
    for revision in 0..=durable.revision().0 {
        let at = Revision(revision);
        for prefix in [b"".as_slice(), b"c", b"c/", b"c\xff"] {
            match read_all(engine, prefix, Some(at), 2) {
                Ok(entries) => assert_eq!(entries, durable.entries(at, prefix)),
                Err(ReadError::Compacted { oldest }) => assert!(at < oldest && oldest <= durable.revision()),
                Err(error) => panic!("{error}"),
            }
        }
        match engine.watch(b"c/", at) {
            Ok(mut watch) => assert_eq!(drain(&mut watch), durable.events(at, b"c/")),
            Err(error) => assert!(matches!(error, ReadError::Compacted { .. }), "{error}"),
        }
    }
    let next = Revision(durable.revision().0 + 1);
    assert_eq!(engine.get_at(b"c", next), Err(ReadError::Future { newest: durable.revision() }));
    for number in 0..6 {
        let entry = engine.get(&key(number)).unwrap().map(|entry| (entry.value, entry.modified));
        assert_eq!(entry.as_ref(), durable.present().get(&key(number)));
    }
}

fn run(steps: Vec<Step>) {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), small()).unwrap();
    let mut watch = engine.watch(b"", Revision(0)).unwrap();
    let mut watched = Vec::new();
    let (mut staged, mut durable) = (Model::new(), Model::new());
    let mut expected: Vec<(Ticket, Result<Revision, CommitError>)> = Vec::new();
    for step in steps {
        match step {
            Step::Stage(conditions, ops) => {
                let commit = commit(&staged, &conditions, &ops);
                let outcome = staged.commit(&commit);
                match engine.stage(commit) {
                    Ok(ticket) => expected.push((ticket, outcome)),
                    Err(error) => assert_eq!(Err(error), outcome),
                }
            }
            Step::Flush => {
                assert_eq!(engine.flush(), std::mem::take(&mut expected));
                durable = staged.clone();
            }
            Step::Maintain => {
                engine.maintain();
            }
            Step::Compact(back) => {
                let up_to = Revision(durable.revision().0.saturating_sub(back));
                assert!(engine.compact(up_to).unwrap() <= durable.revision());
            }
            Step::Reopen => {
                watched.extend(drain(&mut watch));
                drop(engine);
                assert!(matches!(watch.try_next(), Err(WatchEnd::Closed(_))));
                engine = Engine::open(disk.mount(), small()).unwrap();
                assert_eq!((&engine.recovery().torn, engine.incarnation()), (&None, 1));
                watch = engine.watch(b"", engine.revision()).unwrap();
                expected.clear();
                staged = durable.clone();
            }
        }
        check(&engine, &durable);
    }
    watched.extend(drain(&mut watch));
    assert_eq!(watched, durable.events(Revision(0), b""));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_is_its_model(steps in proptest::collection::vec(step(), 1..80)) {
        run(steps);
    }
}
