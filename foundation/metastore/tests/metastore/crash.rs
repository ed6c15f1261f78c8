//! Crashes at every kind of moment: whatever was acknowledged is there, and nothing is there by half. With leases that
//! end, a bound that is reached, and backups that are taken meanwhile.

use crate::model::{Leases, Model, State, TTL, small, state_of};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use base::random::Random;
use metastore::{
    Backup, Commit, CommitError, Condition, Engine, EngineOptions, LeaseId, Op, OpenError, ReadError,
    Revision, restore_disk, verify_disk,
};
use std::time::Duration;

/// Seeds run; each has several crashes.
const SEEDS: u64 = 2000;
/// Few enough for the bound to be reached now and then.
const STATE_BYTES_MAX: u64 = 13_000;

fn options() -> EngineOptions {
    let (state_bytes_max, history_bytes, backup_history_bytes) = (STATE_BYTES_MAX, 1024, 1024);
    EngineOptions { state_bytes_max, history_bytes, backup_history_bytes, ..small() }
}

#[derive(Debug, Default)]
struct Counts {
    crashes: u64,
    commits: u64,
    snapshots: u64,
    torn: u64,
    expired: u64,
    full: u64,
    backups: u64,
    overtaken: u64,
}

/// A backup that is being taken, and what it must hold.
struct Taking {
    backup: Backup,
    bytes: Vec<u8>,
    state: State,
    leases: Leases,
}

struct Cycle {
    disk: MemoryDisk,
    random: Random,
    now: Timestamp,
    /// Up to here everything is acknowledged.
    acknowledged: Revision,
    /// What is acknowledged, and the batch of which no answer was given.
    possible: Model,
    granted: Vec<LeaseId>,
    taking: Option<Taking>,
    value_next: u64,
    counts: Counts,
}

impl Cycle {
    fn new(seed: u64) -> Cycle {
        Cycle {
            disk: MemoryDisk::new(),
            random: Random::from_seed(seed),
            now: Timestamp::from_unix_ms(1_000_000),
            acknowledged: Revision(0),
            possible: Model::new(),
            granted: Vec::new(),
            taking: None,
            value_next: 0,
            counts: Counts::default(),
        }
    }

    fn lease(&mut self) -> Option<LeaseId> {
        match self.granted.len() as u64 {
            0 => None,
            count => Some(self.granted[self.random.below(count) as usize]),
        }
    }

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
            let lease = self.lease().filter(|_| self.random.chance(0.3));
            ops.push(match lease {
                _ if self.random.chance(0.2) => Op::Delete(key),
                Some(id) => Op::PutLeased(key, value, id),
                None => Op::Put(key, value),
            });
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
            match Engine::open(self.disk.mount(), options()) {
                Ok(engine) => {
                    self.counts.torn += u64::from(engine.recovery().torn.is_some());
                    self.disk.kill();
                    drop(engine);
                    let verified = verify_disk(&*self.disk.mount()).expect("what opens can be verified");
                    let engine =
                        Engine::open(self.disk.mount(), options()).expect("an opened store opens again");
                    assert_eq!(verified.map(|summary| summary.revision), Some(engine.revision()));
                    return engine;
                }
                Err(OpenError::Io { .. }) => self.crash(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn crash(&mut self) {
        self.counts.crashes += 1;
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

    /// Stages one thing of any kind, and says the same to the model.
    fn stage(&mut self, engine: &mut Engine) {
        match self.random.below(12) {
            0 => {
                if let Ok((_, id)) = engine.lease_grant(TTL, self.now) {
                    self.possible.grant(id, self.now);
                    self.granted.push(id);
                }
            }
            1 => {
                if let Some(id) = self.lease() {
                    let kept = engine.lease_keep_alive(id, self.now);
                    assert_eq!(kept, self.possible.keep_alive(id, self.now));
                }
            }
            2 => {
                if let Some(id) = self.lease() {
                    let expected = self.possible.revoke(id);
                    assert_eq!(engine.lease_revoke(id).map(|_| ()), expected.map(|_| ()));
                }
            }
            3 => {
                self.now = self.now + Duration::from_secs(self.random.below(6));
                let before = self.possible.leases().live.len();
                engine.expire(self.now);
                self.possible.expire(self.now);
                self.counts.expired += (before - self.possible.leases().live.len()) as u64;
            }
            _ => {
                let commit = self.commit();
                let deletes = commit.ops.iter().all(|op| matches!(op, Op::Delete(_)));
                match engine.stage(commit.clone()) {
                    Err(CommitError::Full(_)) => {
                        assert!(!deletes, "deletions are always taken");
                        let expected = self.possible.clone().commit(&commit);
                        assert!(expected.is_ok(), "what is refused otherwise is not refused as this");
                        self.counts.full += 1;
                    }
                    staged => {
                        let expected = self.possible.commit(&commit);
                        assert_eq!(staged.map(|_| ()), expected.map(|_| ()));
                    }
                }
            }
        }
    }

    /// Commits until the disk fails or the dice say stop.
    fn work(&mut self, engine: &mut Engine) {
        loop {
            for _ in 0..=self.random.below(4) {
                self.stage(engine);
            }
            if self.random.chance(0.05) {
                return;
            }
            let results = engine.flush();
            if engine.failed().is_some() {
                assert!(results.iter().all(|(_, result)| result.is_err()), "one batch, one fate");
                return;
            }
            assert!(results.iter().all(|(_, result)| result.is_ok()), "one batch, one fate");
            assert!(
                engine.state_bytes() <= STATE_BYTES_MAX + STATE_BYTES_MAX / Engine::RESERVE_PART,
                "{}",
                engine.state_bytes()
            );
            self.acknowledged = self.possible.revision();
            self.back_up(engine);
            while self.random.chance(0.7) {
                engine.maintain();
            }
            if engine.failed().is_some() {
                return;
            }
        }
    }

    /// Begins a backup, or goes on with one.
    fn back_up(&mut self, engine: &Engine) {
        let Some(mut taking) = self.taking.take() else {
            if self.random.chance(0.1) {
                let backup = engine.reader().backup(self.now).unwrap();
                let (state, leases) = (self.possible.present().clone(), self.possible.leases().clone());
                self.taking = Some(Taking { backup, bytes: Vec::new(), state, leases });
            }
            return;
        };
        if self.random.chance(0.4) {
            self.taking = Some(taking);
            return;
        }
        match taking.backup.next_piece() {
            Ok(Some(piece)) => {
                taking.bytes.extend(piece);
                self.taking = Some(taking);
            }
            Ok(None) => {
                self.counts.backups += 1;
                self.restored_check(&taking);
            }
            Err(_) => self.counts.overtaken += 1,
        }
    }

    /// A backup becomes a store that holds what the backed up one held then, and goes on from there; whatever
    /// happens to it while it is made.
    fn restored_check(&mut self, taking: &Taking) {
        let disk = MemoryDisk::new();
        let incarnation = 2 + self.random.below(5);
        if self.random.chance(0.3) {
            disk.stops_after(self.random.below(12));
            let restored = restore_disk(&taking.bytes[..], &mut *disk.mount(), incarnation).is_ok();
            disk.crash(&mut self.random);
            match Engine::open(disk.mount(), options()) {
                Ok(engine) if engine.incarnation() == incarnation => {}
                // Nothing of it is there, or only a part, which is never taken for all.
                Ok(engine) => assert!(!restored && engine.revision() == Revision(0)),
                Err(error) => assert!(!restored && matches!(error, OpenError::Corrupt { .. }), "{error}"),
            }
            return;
        }
        restore_disk(&taking.bytes[..], &mut *disk.mount(), incarnation).unwrap();
        disk.crash(&mut self.random);
        let mut engine = Engine::open(disk.mount(), small()).unwrap();
        let revision = taking.backup.revision();
        assert_eq!((engine.incarnation(), engine.revision()), (incarnation, revision));
        assert_eq!(state_of(&engine), taking.state);
        for id in &taking.leases.live {
            engine.lease_revoke(*id).unwrap();
        }
        let (_, id) = engine.lease_grant(TTL, self.now).unwrap();
        assert!(!self.granted.contains(&id), "no lease's id is given again, not even after a restore");
        engine.flush();
        let mut left = taking.state.clone();
        left.retain(|key, _| !taking.leases.held.contains_key(key));
        assert_eq!(state_of(&engine), left);
        assert_eq!(engine.revision().0, revision.0 + taking.leases.live.len() as u64 + 1);
    }

    /// The reopened store is what was acknowledged, or that and a part of the last batch, whole commits of it.
    fn check(&mut self, engine: &Engine) {
        let revision = engine.revision();
        assert!(revision >= self.acknowledged, "an acknowledged commit is lost");
        assert!(revision <= self.possible.revision(), "a commit out of nothing");
        self.possible.restart(revision);
        self.acknowledged = revision;
        self.granted.retain(|id| self.possible.leases().live.contains(id) || self.random.chance(0.5));
        assert_eq!(self.possible.present(), &state_of(engine));
        assert!(
            engine.state_bytes() <= STATE_BYTES_MAX + STATE_BYTES_MAX / Engine::RESERVE_PART,
            "counted anew, it is the same"
        );
    }
}

#[test]
fn thousands_of_crashes_lose_nothing_acknowledged() {
    let mut all = Counts::default();
    for seed in 0..SEEDS {
        let mut cycle = Cycle::new(seed);
        for _ in 0..6 {
            let mut engine = cycle.open();
            cycle.check(&engine);
            cycle.counts.snapshots += u64::from(engine.recovery().snapshot.0 > 0);
            cycle.fault();
            cycle.work(&mut engine);
            if engine.failed().is_some() {
                assert!(matches!(engine.get(b"key"), Err(ReadError::Failed(_))));
                assert!(engine.stage(Commit::default()).is_err() && engine.flush().is_empty());
            }
            cycle.taking = None;
            cycle.crash();
        }
        let engine = cycle.open();
        cycle.check(&engine);
        let Counts { crashes, snapshots, torn, expired, full, backups, overtaken, .. } = cycle.counts;
        all = Counts {
            crashes: all.crashes + crashes,
            commits: all.commits + engine.revision().0,
            snapshots: all.snapshots + snapshots,
            torn: all.torn + torn,
            expired: all.expired + expired,
            full: all.full + full,
            backups: all.backups + backups,
            overtaken: all.overtaken + overtaken,
        };
    }
    // The test is worth its name only if it gets to these places.
    println!("{SEEDS} seeds: {all:?}");
    assert!(all.crashes > 6 * SEEDS && all.commits > 10 * SEEDS && all.snapshots > SEEDS / 2);
    assert!(all.torn > SEEDS / 10 && all.expired > SEEDS / 10 && all.full > SEEDS / 10);
    assert!(all.backups > SEEDS / 8 && all.overtaken > SEEDS / 20);
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
