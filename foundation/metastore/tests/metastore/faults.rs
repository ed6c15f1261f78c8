//! Corruption, failing disks, bounds, and watchers that lag.

use crate::model::{read_all, small};
use base::disk::memory::MemoryDisk;
use base::random::Random;
use metastore::{
    Commit, CommitError, Condition, Engine, EngineOptions, Op, OpenError, RangeQuery, ReadError, Revision,
    WatchEnd,
};

fn put(key: &str, value: Vec<u8>) -> Commit {
    Commit { conditions: vec![], ops: vec![Op::Put(key.into(), value)] }
}

fn commit(engine: &mut Engine, key: &str, value: Vec<u8>) -> Result<Revision, CommitError> {
    engine.stage(put(key, value))?;
    engine.flush().pop().expect("a result for each staged commit").1
}

/// A store with a snapshot and several segments, not closed in order.
fn filled() -> (MemoryDisk, Engine) {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), small()).unwrap();
    for number in 0..80u8 {
        commit(&mut engine, &format!("key/{:02}", number % 10), vec![number; 100]).unwrap();
        engine.maintain();
    }
    while engine.maintain() {}
    for number in 80..120u8 {
        commit(&mut engine, &format!("key/{:02}", number % 10), vec![number; 100]).unwrap();
    }
    (disk, engine)
}

#[test]
fn a_flipped_bit_is_named_wherever_it_is() {
    let (disk, engine) = filled();
    let revision = engine.revision();
    drop(engine);
    let files = disk.files();
    assert!(files.keys().filter(|name| name.ends_with(".log")).count() > 2, "{files:?}");
    assert_eq!(files.keys().filter(|name| name.ends_with(".snapshot")).count(), 1, "{files:?}");
    let last = files.keys().rfind(|name| name.ends_with(".log")).unwrap();
    for (name, bytes) in &files {
        for byte in 0..*bytes {
            let damaged = disk.copy();
            assert!(damaged.bit_flip(name, byte * 8 + byte % 8));
            match Engine::open(damaged.mount(), small()) {
                Err(OpenError::Corrupt { file, offset, .. }) => {
                    assert_eq!(&file, name);
                    assert!(offset <= byte, "at {byte}, named {offset}");
                }
                Err(error) => panic!("{name}, byte {byte}: {error}"),
                Ok(engine) => {
                    // The last batch of a store that was not closed in order.
                    let torn = engine.recovery().torn.clone().expect("damage is reported");
                    assert_eq!((&torn.file, torn.offset + torn.bytes), (last, files[last]));
                    assert!(torn.offset <= byte && engine.revision().0 == revision.0 - 1);
                }
            }
        }
    }
}

#[test]
fn after_an_orderly_stop_the_last_batch_is_proven_too() {
    let (disk, engine) = filled();
    let revision = engine.revision();
    let before = disk.files();
    engine.close();
    let (name, bytes) = disk.files().into_iter().rfind(|(name, _)| name.ends_with(".log")).unwrap();
    for byte in 0..bytes {
        let damaged = disk.copy();
        assert!(damaged.bit_flip(&name, byte * 8));
        match Engine::open(damaged.mount(), small()) {
            Err(OpenError::Corrupt { file, .. }) => assert_eq!(file, name),
            Err(error) => panic!("{error}"),
            Ok(engine) => {
                assert!(byte >= before[&name], "only the mark itself may be damaged without a refusal");
                assert_eq!(engine.revision(), revision);
            }
        }
    }
    let engine = Engine::open(disk.mount(), small()).unwrap();
    assert_eq!((engine.revision(), &engine.recovery().torn), (revision, &None));
}

#[test]
fn a_lost_file_is_missed() {
    let (disk, engine) = filled();
    drop(engine);
    for name in disk.files().keys() {
        let damaged = disk.copy();
        assert!(damaged.file_lose(name));
        let opened = Engine::open(damaged.mount(), small()).map(|engine| engine.revision());
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{name}: {opened:?}");
    }
}

#[test]
fn the_newest_segment_is_missed_however_young_it_is() {
    for commits in 0..40u8 {
        let disk = MemoryDisk::new();
        let mut engine = Engine::open(disk.mount(), small()).unwrap();
        for number in 0..commits {
            commit(&mut engine, "key", vec![number; 100]).unwrap();
        }
        drop(engine);
        let (newest, bytes) = disk.files().into_iter().rfind(|(name, _)| name.ends_with(".log")).unwrap();
        let lost = disk.copy();
        assert!(lost.file_lose(&newest));
        let cut = disk.copy();
        let mut writer = cut.mount();
        writer.truncate(&newest, 31).unwrap();
        writer.sync(&newest).unwrap();
        for damaged in [lost, cut] {
            let opened = Engine::open(damaged.mount(), small()).map(|engine| engine.revision());
            let Err(OpenError::Corrupt { file, .. }) = opened else { panic!("{commits}: {opened:?}") };
            assert_eq!((file, bytes > 31), (newest.clone(), true));
        }
    }
}

#[test]
fn a_full_store_takes_deletions_changes_and_leases_but_nothing_new() {
    let disk = MemoryDisk::new();
    let options = EngineOptions { state_bytes_max: 100_000, ..small() };
    let mut engine = Engine::open(disk.mount(), options).unwrap();
    let mut keys = 0;
    let full = loop {
        match commit(&mut engine, &format!("{keys}"), vec![0; 1000]) {
            Ok(_) => keys += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, CommitError::Full(_)) && (70..100).contains(&keys), "{keys}: {full}");
    assert!(engine.state_bytes() <= 100_000 && engine.state_bytes() > 98_000);
    let now = base::clock::Timestamp::from_unix_ms(1);
    let ttl = std::time::Duration::from_secs(1);
    commit(&mut engine, "0", vec![1; 1000]).unwrap();
    commit(&mut engine, "0", vec![1; 10]).unwrap();
    // What is staged counts, both ways.
    let (_, lease) = engine.lease_grant(ttl, now).unwrap();
    let half = 100_000 / Engine::RESERVE_PART / 2;
    let free = (100_000 + half - engine.state_bytes()) as usize;
    engine.stage(put("1", vec![1; 1000 + free - 500])).unwrap();
    assert!(matches!(engine.stage(put("2", vec![1; 1400])), Err(CommitError::Full(_))));
    // Who leads is still decided: a lease, and its key beside a change.
    let (_, leader) = engine.lease_grant(ttl, now).unwrap();
    let leads =
        vec![Op::Put("2".into(), vec![2; 1100]), Op::PutLeased("leader".into(), vec![1; 300], leader)];
    engine.stage(Commit { conditions: vec![], ops: leads }).unwrap();
    let more = vec![Op::PutLeased("other".into(), vec![1; half as usize], leader)];
    assert!(matches!(engine.stage(Commit { conditions: vec![], ops: more }), Err(CommitError::Full(_))));
    assert!(matches!(engine.stage(put("new", vec![])), Err(CommitError::Full(_))));
    engine.stage(Commit { conditions: vec![], ops: vec![Op::Delete("3".into())] }).unwrap();
    engine.stage(Commit { conditions: vec![], ops: vec![Op::PutLeased("3".into(), vec![], lease)] }).unwrap();
    assert!(engine.flush().iter().all(|(_, result)| result.is_ok()));
    let counted = engine.state_bytes();
    drop(engine);
    // A store that holds more than it may by now opens, and takes deletions.
    let options = EngineOptions { state_bytes_max: 1000, ..small() };
    let mut engine = Engine::open(disk.mount(), options).unwrap();
    assert_eq!(engine.state_bytes(), counted);
    engine.expire(now);
    engine.expire(now + ttl);
    engine.flush();
    assert_eq!(engine.get(b"3").unwrap(), None);
    assert!(matches!(commit(&mut engine, "new", vec![]), Err(CommitError::Full(_))));
    engine.stage(Commit { conditions: vec![], ops: vec![Op::Delete("1".into())] }).unwrap();
    assert!(engine.flush()[0].1.is_ok());
}

#[test]
fn a_failed_sync_fails_the_engine_for_good() {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    commit(&mut engine, "key", b"old".to_vec()).unwrap();
    let mut watch = engine.watch(b"", engine.revision()).unwrap();
    disk.sync_fails_next();
    let failed = commit(&mut engine, "key", b"new".to_vec());
    assert!(matches!(failed, Err(CommitError::Failed(_))), "{failed:?}");
    assert!(matches!(commit(&mut engine, "key", b"newer".to_vec()), Err(CommitError::Failed(_))));
    assert!(matches!(engine.get(b"key"), Err(ReadError::Failed(_))));
    assert!(matches!(engine.range(&RangeQuery::prefix("")), Err(ReadError::Failed(_))));
    assert!(matches!(engine.watch(b"", Revision(0)), Err(ReadError::Failed(_))));
    assert!(matches!(watch.try_next(), Err(WatchEnd::Closed(_))), "what is not durable is not seen");
    assert!(!engine.maintain());
    assert_eq!(engine.revision(), Revision(1));
    // Bounds are told all the same, and first.
    assert!(matches!(engine.stage(put("", vec![])), Err(CommitError::OutOfBounds(_))));
    drop(engine);
    disk.crash(&mut Random::from_seed(1));
    let engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    let value = engine.get(b"key").unwrap().unwrap().value;
    assert!(value == b"old" || value == b"new");
}

#[test]
fn a_full_disk_fails_the_engine_until_there_is_room() {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    disk.capacity(Some(10_000));
    let mut acknowledged = 0;
    let error = loop {
        match commit(&mut engine, &format!("{acknowledged}"), vec![0; 300]) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CommitError::Failed(_)) && acknowledged > 20);
    drop(engine);
    // Full still: opening needs room for a segment, and takes nothing away if there is none.
    for _ in 0..2 {
        let full = Engine::open(disk.mount(), EngineOptions::default()).map(|engine| engine.revision());
        assert!(matches!(full, Err(OpenError::Io { .. })), "{full:?}");
    }
    disk.capacity(None);
    let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    assert_eq!(engine.revision(), Revision(acknowledged));
    commit(&mut engine, "more", vec![0; 300]).unwrap();
    assert_eq!(engine.range(&RangeQuery::prefix("")).unwrap().entries.len() as u64, acknowledged + 1);
}

#[test]
fn the_log_is_kept_short_by_snapshots_between_the_commits() {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), small()).unwrap();
    let mut log_bytes_max = 0;
    for number in 0..3000u32 {
        commit(&mut engine, &format!("key/{}", number % 20), number.to_le_bytes().repeat(20)).unwrap();
        engine.maintain();
        let logs = disk.files().into_iter().filter(|(name, _)| name.ends_with(".log"));
        log_bytes_max = log_bytes_max.max(logs.map(|(_, bytes)| bytes).sum::<u64>());
    }
    assert!(log_bytes_max < 16 * 1024, "{log_bytes_max}");
    drop(engine);
    let engine = Engine::open(disk.mount(), small()).unwrap();
    assert!(engine.recovery().snapshot > Revision(2800), "{:?}", engine.recovery());
    assert_eq!(engine.recovery().snapshot.0 + engine.recovery().commits, 3000);
    assert_eq!(read_all(&engine, b"key/", None, 3).unwrap().len(), 20);
    let oldest = Revision(engine.recovery().snapshot.0 - 1);
    assert!(matches!(engine.get_at(b"key/1", oldest), Err(ReadError::Compacted { .. })));
    assert!(matches!(engine.watch(b"", oldest), Err(ReadError::Compacted { .. })));
}

#[test]
fn a_slow_watcher_gets_a_prefix_and_then_the_end() {
    let options = EngineOptions { watch_queue_commits: 3, ..EngineOptions::default() };
    let mut engine = Engine::open(MemoryDisk::new().mount(), options).unwrap();
    let mut slow = engine.watch(b"c/", Revision(0)).unwrap();
    let mut other = engine.watch(b"d/", Revision(0)).unwrap();
    for number in 0..5u8 {
        commit(&mut engine, "c/key", vec![number]).unwrap();
    }
    for revision in 1..=3 {
        assert_eq!(slow.try_next().unwrap().unwrap().revision, Revision(revision));
    }
    assert_eq!(slow.try_next(), Err(WatchEnd::Lagged));
    assert_eq!(other.try_next(), Ok(None), "other keys' commits fill no queue");
    // It begins anew from what it lists.
    let page = engine.range(&RangeQuery::prefix("c/")).unwrap();
    let mut anew = engine.watch(b"c/", page.revision).unwrap();
    commit(&mut engine, "c/key", vec![5]).unwrap();
    assert_eq!(anew.try_next().unwrap().unwrap().revision, Revision(6));
}

#[test]
fn a_watch_gives_whole_commits() {
    let mut engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    let mut watch = engine.watch(b"c/", Revision(0)).unwrap();
    let ops = ["c/1", "d/1", "c/2"].map(|key| Op::Put(key.into(), key.into())).to_vec();
    engine.stage(Commit { conditions: vec![], ops }).unwrap();
    assert_eq!(watch.try_next(), Ok(None), "nothing is seen before it is durable");
    engine.flush();
    let events = watch.try_next().unwrap().unwrap();
    assert_eq!(events.changes.iter().map(|change| &change.key[..]).collect::<Vec<_>>(), [b"c/1", b"c/2"]);
}

#[test]
fn the_bounds_of_the_contract_are_kept() {
    let mut engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    let ops = |count: usize, bytes: usize| {
        let op = |number| Op::Put(format!("{number}").into(), vec![0; bytes]);
        Commit { conditions: vec![], ops: (0..count).map(op).collect() }
    };
    let twice =
        Commit { conditions: vec![], ops: vec![Op::Delete(b"k".to_vec()), Op::Put(b"k".to_vec(), vec![])] };
    let conditions = Commit { conditions: vec![Condition::Absent(b"k".to_vec()); 129], ops: vec![] };
    let long = "k".repeat(Commit::KEY_BYTES_MAX + 1);
    let out = [ops(129, 1), ops(1, Commit::VALUE_BYTES_MAX + 1), ops(3, 400_000), twice, conditions];
    for commit in out.into_iter().chain([put(&long, vec![]), put("", vec![])]) {
        assert!(matches!(engine.stage(commit), Err(CommitError::OutOfBounds(_))));
    }
    engine.stage(ops(128, 8000)).unwrap();
    engine.stage(ops(1, Commit::VALUE_BYTES_MAX)).unwrap();
    engine.stage(put(&long[1..], vec![])).unwrap();
    // What changes nothing takes no revision.
    engine.stage(Commit { conditions: vec![], ops: vec![Op::Delete(b"none".to_vec())] }).unwrap();
    engine.stage(Commit::default()).unwrap();
    let revisions: Vec<u64> = engine.flush().into_iter().map(|(_, result)| result.unwrap().0).collect();
    assert_eq!(revisions, [1, 2, 3, 3, 3]);
}

#[test]
fn the_batch_is_bounded() {
    let mut engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    let refused = (0..100).find(|number| engine.stage(put(&format!("{number}"), vec![0; 500_000])).is_err());
    let refused = refused.expect("staging ends");
    assert!(engine.staged_bytes() <= Engine::STAGED_BYTES_MAX && refused > 30);
    assert_eq!(engine.flush().len(), refused);
    engine.stage(put("more", vec![])).unwrap();
}

#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let mut engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    for key in ["a", "b", "c", "\u{ff}"] {
        commit(&mut engine, key, vec![]).unwrap();
    }
    let keys = |query: RangeQuery| {
        let page = engine.range(&query).unwrap();
        page.entries.into_iter().map(|entry| entry.key[0]).collect::<Vec<u8>>()
    };
    assert_eq!(keys(RangeQuery::between("b", Some("a".into()))), []);
    assert_eq!(keys(RangeQuery::between("b", Some("b".into()))), []);
    assert_eq!(keys(RangeQuery::between("a", Some("b".into())).after(Some("b".into()))), []);
    assert_eq!(keys(RangeQuery::between("a", Some("c".into())).after(Some("a".into()))), *b"b");
    assert_eq!(keys(RangeQuery::prefix(vec![0xff])), []);
    assert_eq!(keys(RangeQuery::prefix("b")), *b"b");
    assert_eq!(keys(RangeQuery::between("", None)).len(), 4);
}
