//! Crashes at every kind of moment: whatever was acknowledged is there, and nothing is there by half.

use crate::model::{Model, read_all, small};
use base::disk::memory::MemoryDisk;
use base::random::Random;
use metastore::{Commit, Condition, Engine, EngineOptions, Entry, Op, OpenError, ReadError, Revision};

/// Seeds run; each has several crashes.
const SEEDS: u64 = 2000;

struct Cycle {
    disk: MemoryDisk,
    random: Random,
    /// Up to here everything is acknowledged.
    acknowledged: Revision,
    /// What is acknowledged, and the batch of which no answer was given.
    possible: Model,
    value_next: u64,
    crashes: u64,
    torn: u64,
}

impl Cycle {
    fn commit(&mut self) -> Commit {
        self.value_next += 1;
        let keys = 1 + self.random.below(3);
        let mut ops = Vec::new();
        for key in 0..keys {
            let key = format!("{key}/{}", self.random.below(6)).into_bytes();
            // Several pages, now and then.
            let length = if self.random.chance(0.03) { 9000 } else { self.random.below(300) as usize };
            let mut value = self.value_next.to_le_bytes().to_vec();
            value.resize(8 + length, 7);
            ops.push(if self.random.chance(0.2) { Op::Delete(key) } else { Op::Put(key, value) });
        }
        let conditions = match self.possible.present().iter().next() {
            Some((key, (_, modified))) if self.random.chance(0.3) => {
                vec![Condition::Unchanged(key.clone(), *modified)]
            }
            _ => vec![],
        };
        Commit { conditions, ops }
    }

    /// Opens the store, crashing in the midst of that now and then.
    fn open(&mut self) -> Engine {
        loop {
            if self.random.chance(0.2) {
                let operations = self.random.below(12);
                self.disk.stops_after(operations);
            }
            match Engine::open(self.disk.mount(), small()) {
                Ok(engine) => {
                    self.torn += u64::from(engine.recovery().torn.is_some());
                    self.disk.kill();
                    drop(engine);
                    let engine =
                        Engine::open(self.disk.mount(), small()).expect("an opened store opens again");
                    return engine;
                }
                Err(OpenError::Io { .. }) => self.crash(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn crash(&mut self) {
        self.crashes += 1;
        if self.random.chance(0.8) { self.disk.crash(&mut self.random) } else { self.disk.kill() }
    }

    fn fault(&mut self) {
        let operations = self.random.below(40);
        match self.random.below(10) {
            0 => self.disk.sync_fails_next(),
            1 => self.disk.append_stops_after(self.random.below(200) as usize),
            _ => self.disk.stops_after(operations),
        }
    }

    /// Commits until the disk fails or the dice say stop.
    fn work(&mut self, engine: &mut Engine) {
        loop {
            for _ in 0..=self.random.below(4) {
                let commit = self.commit();
                let expected = self.possible.commit(&commit);
                assert_eq!(engine.stage(commit).map(|_| ()), expected.map(|_| ()));
            }
            if self.random.chance(0.05) {
                return;
            }
            let results = engine.flush();
            if results.iter().any(|(_, result)| result.is_err()) {
                assert!(results.iter().all(|(_, result)| result.is_err()), "one batch, one fate");
                return;
            }
            self.acknowledged = self.possible.revision();
            while self.random.chance(0.7) {
                engine.maintain();
            }
            if engine.failed().is_some() {
                return;
            }
        }
    }

    /// The reopened store is what was acknowledged, or that and a part of the last batch, whole commits of it.
    fn check(&mut self, engine: &Engine) {
        let revision = engine.revision();
        assert!(revision >= self.acknowledged, "an acknowledged commit is lost");
        assert!(revision <= self.possible.revision(), "a commit out of nothing");
        self.possible.0.truncate(revision.0 as usize + 1);
        self.acknowledged = revision;
        let entry = |entry: Entry| (entry.key, (entry.value, entry.modified));
        let state = read_all(engine, b"", None, 7).unwrap().into_iter().map(entry).collect();
        assert_eq!(self.possible.present(), &state);
    }
}

#[test]
fn thousands_of_crashes_lose_nothing_acknowledged() {
    let (mut crashes, mut commits, mut snapshots, mut torn) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut cycle = Cycle {
            disk: MemoryDisk::new(),
            random: Random::from_seed(seed),
            acknowledged: Revision(0),
            possible: Model::new(),
            value_next: 0,
            crashes: 0,
            torn: 0,
        };
        for _ in 0..6 {
            let mut engine = cycle.open();
            cycle.check(&engine);
            snapshots += u64::from(engine.recovery().snapshot.0 > 0);
            cycle.fault();
            cycle.work(&mut engine);
            if engine.failed().is_some() {
                assert!(matches!(engine.get(b"key"), Err(ReadError::Failed(_))));
                assert!(engine.stage(Commit::default()).is_err() && engine.flush().is_empty());
            }
            cycle.crash();
        }
        let engine = cycle.open();
        cycle.check(&engine);
        crashes += cycle.crashes;
        commits += engine.revision().0;
        torn += cycle.torn;
    }
    // The test is worth its name only if it gets to these places.
    println!("{crashes} crashes, {commits} commits, {snapshots} starts from a snapshot, {torn} torn tails");
    assert!(crashes > 6 * SEEDS && commits > 10 * SEEDS && snapshots > SEEDS / 2 && torn > SEEDS / 10);
}

#[test]
fn a_torn_tail_is_cut_off_at_every_length() {
    let commit =
        |value: u8| Commit { conditions: vec![], ops: vec![Op::Put(b"key".to_vec(), vec![value; 50])] };
    for written in 0..110 {
        let disk = MemoryDisk::new();
        let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
        engine.stage(commit(1)).unwrap();
        engine.flush();
        let whole = disk.files()["00000000000000000000.log"];
        disk.append_stops_after(written);
        engine.stage(commit(2)).unwrap();
        assert!(engine.flush()[0].1.is_err());
        drop(engine);
        let engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
        let torn = engine.recovery().torn.as_ref().map(|torn| (torn.file.as_str(), torn.offset, torn.bytes));
        if whole + written as u64 >= 2 * whole - 32 {
            // The whole record was written; only the acknowledgement was missing.
            assert_eq!((engine.revision().0, torn), (2, None));
        } else {
            assert_eq!(engine.get(b"key").unwrap().unwrap().value, [1; 50]);
            let expected = (written > 0).then_some(("00000000000000000000.log", whole, written as u64));
            assert_eq!((engine.revision().0, torn), (1, expected));
        }
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_written_anew() {
    // The process restarts, the machine does not: the batch is read from the kernel's memory, is not on the disk,
    // and a sync would not bring it there.
    for seed in 0..50 {
        let disk = MemoryDisk::new();
        let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
        let put =
            |value: &str| Commit { conditions: vec![], ops: vec![Op::Put(b"key".to_vec(), value.into())] };
        disk.sync_fails_next();
        engine.stage(put("one")).unwrap();
        assert!(engine.flush()[0].1.is_err());
        disk.kill();
        let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
        assert_eq!(engine.revision(), Revision(1));
        engine.stage(put("two")).unwrap();
        assert_eq!(engine.flush()[0].1, Ok(Revision(2)));
        disk.crash(&mut Random::from_seed(seed));
        let engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
        assert_eq!(engine.get(b"key").unwrap().unwrap().value, b"two");
    }
}
