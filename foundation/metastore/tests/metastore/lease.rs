//! Leases of the embedded engine under a clock that the test moves, and whose key a key is.

use crate::model::{read_all, small};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use metastore::{Commit, CommitError, Condition, Engine, EngineOptions, LeaseId, Op, RangeQuery, Revision};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_000_000 + seconds * 1000)
}

fn engine(disk: &MemoryDisk) -> Engine {
    Engine::open(disk.mount(), small()).unwrap()
}

fn commit(engine: &mut Engine, ops: Vec<Op>) -> Result<Revision, CommitError> {
    engine.stage(Commit { conditions: vec![], ops })?;
    engine.flush().pop().expect("a result for each staged commit").1
}

fn put(key: &str) -> Op {
    Op::Put(key.into(), "plain".into())
}

fn leased(key: &str, id: LeaseId) -> Op {
    Op::PutLeased(key.into(), "leased".into(), id)
}

fn grant(engine: &mut Engine, now: Timestamp) -> LeaseId {
    let (_, id) = engine.lease_grant(TTL, now).unwrap();
    engine.flush();
    id
}

fn expire(engine: &mut Engine, now: Timestamp) {
    engine.expire(now);
    assert!(engine.flush().is_empty(), "nobody is answered");
}

fn keys(engine: &Engine) -> Vec<String> {
    let entries = read_all(engine, b"", None, 3).unwrap();
    entries.into_iter().map(|entry| String::from_utf8(entry.key).unwrap()).collect()
}

#[test]
fn attached_keys_go_with_their_lease_in_one_commit() {
    let mut engine = engine(&MemoryDisk::new());
    assert_eq!(engine.lease_next(), None);
    let id = grant(&mut engine, at(0));
    commit(&mut engine, vec![leased("one", id), leased("two", id), put("three")]).unwrap();
    let mut watch = engine.watch(b"", engine.revision()).unwrap();
    assert_eq!(engine.lease_next(), Some(at(10)));
    expire(&mut engine, at(9));
    assert_eq!(engine.lease_keep_alive(id, at(9)), Ok(()));
    expire(&mut engine, at(18));
    assert_eq!(keys(&engine), ["one", "three", "two"]);
    expire(&mut engine, at(19));
    assert_eq!(keys(&engine), ["three"]);
    let gone = watch.try_next().unwrap().unwrap();
    assert_eq!(gone.changes.iter().map(|change| &change.key[..]).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!((watch.try_next(), engine.lease_next()), (Ok(None), None));
    // For good.
    assert_eq!(engine.lease_keep_alive(id, at(19)), Err(CommitError::LeaseExpired(id)));
    assert_eq!(engine.lease_revoke(id), Err(CommitError::LeaseExpired(id)));
    assert_eq!(commit(&mut engine, vec![leased("one", id)]), Err(CommitError::LeaseExpired(id)));
    assert_ne!(grant(&mut engine, at(20)), id);
}

#[test]
fn a_key_is_attached_to_the_lease_of_its_last_put() {
    let mut engine = engine(&MemoryDisk::new());
    let (one, two) = (grant(&mut engine, at(0)), grant(&mut engine, at(0)));
    let all = ["again", "deleted", "moved", "plain"];
    commit(&mut engine, all.iter().map(|key| leased(key, one)).collect()).unwrap();
    let ops = vec![put("plain"), Op::Delete("deleted".into()), leased("moved", two), leased("again", one)];
    commit(&mut engine, ops).unwrap();
    commit(&mut engine, vec![put("deleted")]).unwrap();
    engine.lease_revoke(one).unwrap();
    engine.flush();
    assert_eq!(keys(&engine), ["deleted", "moved", "plain"]);
    engine.lease_revoke(two).unwrap();
    engine.flush();
    assert_eq!(keys(&engine), ["deleted", "plain"]);
}

#[test]
fn what_is_staged_counts() {
    let mut engine = engine(&MemoryDisk::new());
    let (_, id) = engine.lease_grant(TTL, at(0)).unwrap();
    engine.stage(Commit { conditions: vec![], ops: vec![leased("key", id)] }).unwrap();
    engine.lease_revoke(id).unwrap();
    let late = engine.stage(Commit { conditions: vec![], ops: vec![leased("key", id)] });
    assert_eq!(late.unwrap_err(), CommitError::LeaseExpired(id));
    let absent = Condition::Absent("key".into());
    engine.stage(Commit { conditions: vec![absent], ops: vec![put("key")] }).unwrap();
    let revisions: Vec<u64> = engine.flush().into_iter().map(|(_, result)| result.unwrap().0).collect();
    assert_eq!(revisions, [1, 2, 3, 4]);
    assert_eq!(engine.get(b"key").unwrap().unwrap().value, b"plain");
}

#[test]
fn a_start_gives_each_lease_its_whole_time_anew() {
    let disk = MemoryDisk::new();
    let mut first = engine(&disk);
    let id = grant(&mut first, at(0));
    commit(&mut first, vec![leased("key", id)]).unwrap();
    // Through a snapshot too.
    for _ in 0..100 {
        commit(&mut first, vec![Op::Put("filler".into(), vec![0; 200])]).unwrap();
        first.maintain();
    }
    disk.kill();
    drop(first);
    let mut engine = engine(&disk);
    assert!(engine.recovery().snapshot.0 > 0);
    assert!(engine.lease_next().is_some_and(|next| next < at(0)), "its time must be told soon");
    expire(&mut engine, at(100));
    assert_eq!((keys(&engine), engine.lease_next()), (vec!["filler".into(), "key".into()], Some(at(110))));
    expire(&mut engine, at(110));
    assert_eq!(keys(&engine), ["filler"]);
}

#[test]
fn a_kept_lease_is_kept_before_any_time_was_told() {
    let disk = MemoryDisk::new();
    let id = grant(&mut engine(&disk), at(0));
    let mut engine = engine(&disk);
    assert_eq!(engine.lease_keep_alive(id, at(50)), Ok(()));
    assert_eq!(engine.lease_next(), Some(at(60)));
}

#[test]
fn the_engines_own_keys_are_nobodys() {
    let mut engine = engine(&MemoryDisk::new());
    let mut watch = engine.watch(b"", Revision(0)).unwrap();
    let id = grant(&mut engine, at(0));
    commit(&mut engine, vec![leased("key", id)]).unwrap();
    let events = watch.try_next().unwrap().unwrap();
    assert_eq!((events.revision, events.changes.len()), (Revision(2), 1));
    let own = format!("\0lease/{id}");
    assert_eq!(engine.get(own.as_bytes()), Ok(None));
    for query in [RangeQuery::prefix("\0"), RangeQuery::between("", Some("\x01".into()))] {
        assert_eq!(engine.range(&query).unwrap().entries, []);
    }
    let mut own_watch = engine.watch(b"\0", Revision(0)).unwrap();
    assert_eq!(own_watch.try_next(), Ok(None));
    assert!(matches!(commit(&mut engine, vec![put(&own)]), Err(CommitError::OutOfBounds(_))));
    let condition = Commit { conditions: vec![Condition::Absent(own.into())], ops: vec![] };
    assert!(matches!(engine.stage(condition), Err(CommitError::OutOfBounds(_))));
}

#[test]
fn the_widest_commits_and_the_widest_end_are_written_and_read() {
    let disk = MemoryDisk::new();
    let mut first = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    let (one, two) = (grant(&mut first, at(0)), grant(&mut first, at(0)));
    let name = |number: usize| format!("{number:0>width$}", width = Commit::KEY_BYTES_MAX);
    let many = |range: std::ops::Range<usize>, id| range.map(|n| leased(&name(n), id)).collect::<Vec<_>>();
    commit(&mut first, many(0..100, one)).unwrap();
    let over = commit(&mut first, many(60..160, one));
    assert!(matches!(over, Err(CommitError::OutOfBounds(_))), "{over:?}");
    commit(&mut first, many(100..LeaseId::KEYS_MAX, one)).unwrap();
    commit(&mut first, many(127..128, two)).unwrap();
    // 256 changes: each key, and that it is attached no more.
    commit(&mut first, (0..Commit::OPS_MAX).map(|n| put(&name(n))).collect()).unwrap();
    commit(&mut first, many(0..LeaseId::KEYS_MAX, one)).unwrap();
    disk.kill();
    drop(first);
    let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    let revision = engine.revision();
    engine.lease_revoke(one).unwrap();
    engine.flush();
    assert_eq!((keys(&engine), engine.revision().0), (vec![name(127)], revision.0 + 1));
    drop(engine);
    assert_eq!(keys(&Engine::open(disk.mount(), EngineOptions::default()).unwrap()), [name(127)]);
}

#[test]
fn a_commit_touches_one_account_of_one_shard() {
    let mut engine = engine(&MemoryDisk::new());
    let absent = |key: &str| Condition::Absent(key.into());
    let mine = Commit {
        conditions: vec![absent("region/term"), absent("a/0/123456789012/account")],
        ops: vec![put("a/0/123456789012/instance/i-1"), put("region/other")],
    };
    engine.stage(mine.clone()).unwrap();
    for other in ["a/0/210987654321/account", "a/1/123456789012/account", "a/0/123456789012"] {
        let op = Commit { ops: [&mine.ops[..], &[put(other)]].concat(), ..mine.clone() };
        let condition =
            Commit { conditions: [&[absent(other)], &mine.conditions[..]].concat(), ..mine.clone() };
        for commit in [op, condition] {
            let refused = engine.stage(commit);
            assert!(matches!(refused, Err(CommitError::OutOfBounds(_))), "{other}: {refused:?}");
        }
    }
}
