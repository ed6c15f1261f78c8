//! The engine beside its model, through drawn steps.

use crate::model::{Model, TTL, read_all, small};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use metastore::{
    Commit, CommitError, CommitEvents, Condition, Engine, Key, LeaseId, Op, ReadError, Revision, Ticket,
    Value, Watch, WatchEnd,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

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
    /// Operations put values of a length, on one of the leases that were ever granted, or delete.
    Stage(Vec<(u8, Option<u64>)>, Vec<(u8, Option<u16>, Option<u8>)>),
    Grant,
    KeepAlive(u8),
    Revoke(u8),
    Pass(u64),
    Flush,
    Maintain,
    Compact(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let condition = (0..6u8, prop_oneof![Just(None), Just(Some(0)), Just(Some(0)), (1..4u64).prop_map(Some)]);
    let lease = proptest::option::weighted(0.4, 0..4u8);
    let op = (0..6u8, proptest::option::weighted(0.7, 0..600u16), lease);
    let stage = (proptest::collection::vec(condition, 0..2), proptest::collection::vec(op, 0..4));
    prop_oneof![
        8 => stage.prop_map(|(conditions, ops)| Step::Stage(conditions, ops)),
        1 => Just(Step::Grant),
        1 => (0..4u8).prop_map(Step::KeepAlive),
        1 => (0..4u8).prop_map(Step::Revoke),
        1 => (1..8u64).prop_map(Step::Pass),
        4 => Just(Step::Flush),
        3 => Just(Step::Maintain),
        1 => (0..10u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u8) -> Key {
    [b"c".as_slice(), b"c/1", b"c/2", b"c\xff", b"d", b"d/1"][number as usize].to_vec()
}

fn commit(
    model: &Model,
    granted: &[LeaseId],
    conditions: &[(u8, Option<u64>)],
    ops: &[(u8, Option<u16>, Option<u8>)],
) -> Commit {
    let condition = |(number, expected): &(u8, Option<u64>)| match expected {
        None => Condition::Absent(key(*number)),
        Some(wrong) => {
            let modified = model.present().get(&key(*number)).map_or(Revision(1), |(_, modified)| *modified);
            Condition::Unchanged(key(*number), Revision(modified.0 + wrong))
        }
    };
    let mut by_key = BTreeMap::new();
    by_key.extend(ops.iter().map(|(number, length, lease)| (*number, (*length, *lease))));
    let op = |(number, (length, lease)): (u8, (Option<u16>, Option<u8>))| match length {
        Some(length) => {
            let value = vec![number; length.into()];
            match lease.and_then(|lease| lease_of(granted, lease)) {
                Some(id) => Op::PutLeased(key(number), value, id),
                None => Op::Put(key(number), value),
            }
        }
        None => Op::Delete(key(number)),
    };
    Commit {
        conditions: conditions.iter().map(condition).collect(),
        ops: by_key.into_iter().map(op).collect(),
    }
}

/// One of the last leases granted.
fn lease_of(granted: &[LeaseId], number: u8) -> Option<LeaseId> {
    granted.iter().rev().nth(number.into()).copied()
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
    let (mut now, mut granted) = (Timestamp::from_unix_ms(1_000_000), Vec::new());
    for step in steps {
        match step {
            Step::Stage(conditions, ops) => {
                let commit = commit(&staged, &granted, &conditions, &ops);
                let outcome = staged.commit(&commit);
                match engine.stage(commit) {
                    Ok(ticket) => expected.push((ticket, outcome)),
                    Err(error) => assert_eq!(Err(error), outcome),
                }
            }
            Step::Grant => {
                let (ticket, id) = engine.lease_grant(TTL, now).unwrap();
                expected.push((ticket, Ok(staged.grant(id, now))));
                granted.push(id);
            }
            Step::KeepAlive(number) => {
                if let Some(id) = lease_of(&granted, number) {
                    assert_eq!(engine.lease_keep_alive(id, now), staged.keep_alive(id, now));
                }
            }
            Step::Revoke(number) => {
                if let Some(id) = lease_of(&granted, number) {
                    let outcome = staged.revoke(id);
                    match engine.lease_revoke(id) {
                        Ok(ticket) => expected.push((ticket, outcome)),
                        Err(error) => assert_eq!(Err(error), outcome),
                    }
                }
            }
            Step::Pass(seconds) => {
                now = now + Duration::from_secs(seconds);
                engine.expire(now);
                staged.expire(now);
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
                durable.restart(engine.revision());
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
