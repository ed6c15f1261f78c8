//! A store moved to another engine.

use crate::server::{Member, wait};
use base::disk::memory::MemoryDisk;
use metastore::election::{Election, ElectionError};
use metastore::{
    Backend, Busy, Commit, CommitError, Entry, EtcdOptions, LeaseError, LeaseId, MOVED, MigrateError,
    Migrated, Migration, OnDone, Op, OpenError, Page, Pending, RangeQuery, ReadError, RestoreError, Revision,
    Store, StoreOptions, UNFINISHED, Watch, embedded_target, retire, set_aside, settle,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn embedded() -> Store {
    Store::over(MemoryDisk::new().mount(), StoreOptions::default()).unwrap()
}

fn etcd(member: &Member, prefix: &str) -> Store {
    wait(Store::etcd(EtcdOptions::parse(&member.url(prefix)).unwrap())).unwrap()
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Commit {
    Commit { conditions: vec![], ops: vec![Op::Put(key.into(), value.into())] }
}

fn nothing_left_out(_: &[u8]) -> bool {
    false
}

async fn migrate(
    from: &Store,
    to: &Store,
    left_out: &(dyn Fn(&[u8]) -> bool + Sync),
    progress: &mut (dyn FnMut(Migrated) + Send),
) -> Result<Migrated, MigrateError> {
    run(&Migration { from, to, name: "one", left_out, incarnation_above: 0 }, to, progress).await
}

/// All of it; `again` is the target as it is opened once it has its incarnation.
async fn run(
    migration: &Migration<'_>,
    again: &Store,
    progress: &mut (dyn FnMut(Migrated) + Send),
) -> Result<Migrated, MigrateError> {
    let copied = migration.copy(progress).await?;
    migration.unchanged(&copied.done()).await?;
    let done = migration.seal(copied).await?;
    settle(again, migration.name).await?;
    Ok(done)
}

/// Several accounts, large values, more than a page.
fn fill(store: &Store) {
    let commits: Vec<_> = (0..600)
        .map(|number| {
            let key = match number % 3 {
                0 => format!("a/0/{:012}/instance/{number:04}", number % 5),
                1 => format!("free/{number:04}"),
                _ => format!("z/{number:04}\\"),
            };
            store.commit(put(&key, vec![number as u8; if number % 20 == 0 { 300_000 } else { 100 }]))
        })
        .collect();
    for commit in commits {
        wait(commit).unwrap();
    }
    wait(store.commit(put("leader", "whoever"))).unwrap();
}

fn pairs(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (entries, _) = wait(store.list(b"")).unwrap();
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

#[test]
fn a_store_moves_whole_and_its_incarnation_rises() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let mut progress = move |done: Migrated| heard.lock().unwrap().push(done);
    let leads = |key: &[u8]| key == b"leader";
    let done = wait(migrate(&from, &to, &leads, &mut progress)).unwrap();
    assert_eq!((done.entries, done.verified, done.incarnation), (600, 600, 2));
    assert!(seen.lock().unwrap().windows(2).all(|pair| pair[0].entries <= pair[1].entries));
    let to = etcd(&member, "moved");
    assert_eq!(to.incarnation(), 2);
    let expected: Vec<_> = pairs(&from).into_iter().filter(|(key, _)| key != b"leader").collect();
    assert_eq!(pairs(&to), expected);
    // And on, within the cluster.
    let further = etcd(&member, "further");
    let done = wait(migrate(&to, &further, &nothing_left_out, &mut |_| ())).unwrap();
    assert_eq!((done.entries, done.incarnation), (600, 3));
    assert_eq!(pairs(&etcd(&member, "further")), expected);
}

#[test]
fn a_target_that_will_not_do_is_refused_before_anything_is_done() {
    let member = Member::start();
    let (full, empty) = (embedded(), embedded());
    fill(&full);
    let etcd_store = etcd(&member, "source");
    wait(etcd_store.commit(put("key", "value"))).unwrap();
    let refused = wait(migrate(&etcd_store, &full, &nothing_left_out, &mut |_| ()));
    assert!(matches!(refused, Err(MigrateError::NotEmpty(_))), "{refused:?}");
    let refused = wait(migrate(&etcd_store, &empty, &nothing_left_out, &mut |_| ()));
    assert!(matches!(refused, Err(MigrateError::Incarnation { above: 1, to: 1 })), "{refused:?}");
    assert_eq!(pairs(&empty), []);
}

#[test]
fn a_source_that_changes_leaves_a_target_that_says_so() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let busy = from.clone();
    let mut more = 0;
    let mut progress = move |_: Migrated| {
        more += 1;
        drop(busy.commit(put("free/more", more.to_string())));
    };
    let refused = wait(migrate(&from, &to, &nothing_left_out, &mut progress));
    assert!(matches!(refused, Err(MigrateError::Changed(_))), "{refused:?}");
    assert!(wait(to.get(UNFINISHED)).unwrap().is_some());
}

#[test]
fn a_store_moves_from_etcd_into_a_directory() {
    let member = Member::start();
    let from = etcd(&member, "source");
    fill(&from);
    assert_eq!(wait(from.incarnation_raise(4)), Ok(5));
    let from = etcd(&member, "source");
    let directory = tempfile::tempdir().unwrap();
    let to = embedded_target(directory.path(), from.incarnation(), StoreOptions::default()).unwrap();
    let done = wait(migrate(&from, &to, &nothing_left_out, &mut |_| ())).unwrap();
    assert_eq!((done.entries, done.verified), (601, 601));
    assert!(done.incarnation > 5 && done.incarnation == to.incarnation());
    drop(to);
    let to = Store::open(directory.path()).unwrap();
    assert_eq!((pairs(&to), to.incarnation()), (pairs(&from), done.incarnation));
    assert!(embedded_target(directory.path(), 9, StoreOptions::default()).is_err(), "it is not empty");
}

/// What a migration does to its stores, and how many of that it may do before its process is no more.
#[derive(Default)]
struct Fate {
    left: usize,
    did: Vec<&'static str>,
}

/// A store whose user ends.
struct Mortal {
    store: Store,
    fate: Arc<Mutex<Fate>>,
    is_target: bool,
}

impl Mortal {
    fn store(store: &Store, fate: &Arc<Mutex<Fate>>, is_target: bool) -> Store {
        Store::with(Mortal { store: store.clone(), fate: fate.clone(), is_target })
    }

    /// Whether it still comes to this.
    fn does(&self, what: &'static str) -> bool {
        let mut fate = self.fate.lock().unwrap();
        let does = fate.left > 0;
        if does {
            fate.left -= 1;
            fate.did.push(what);
        }
        does
    }

    fn reads<'a, T: Send + 'a>(
        &self,
        read: impl Future<Output = Result<T, ReadError>> + Send + 'a,
    ) -> Pending<'a, Result<T, ReadError>> {
        match self.does(if self.is_target { "read the target" } else { "read the source" }) {
            true => Box::pin(read),
            false => Box::pin(std::future::ready(Err(ReadError::Failed("it is over".into())))),
        }
    }
}

impl Backend for Mortal {
    fn incarnation(&self) -> u64 {
        self.store.incarnation()
    }

    fn commit(&self, commit: Commit) -> Pending<'static, Result<Revision, CommitError>> {
        let what = match &commit.ops[..] {
            [Op::Put(key, value)] if key == UNFINISHED && value.ends_with(b"fills this store") => "begin",
            [Op::Put(key, _)] if key == UNFINISHED => "seal",
            [Op::Delete(key)] if key == UNFINISHED => "settle",
            [Op::Delete(_), ..] => "empty",
            _ => "fill",
        };
        match self.does(what) {
            true => Box::pin(self.store.commit(commit)),
            false => Box::pin(std::future::ready(Err(CommitError::Failed("it is over".into())))),
        }
    }

    fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        Err(Busy { commit, on_done })
    }

    fn revision(&self) -> Pending<'_, Result<Revision, ReadError>> {
        self.reads(self.store.revision())
    }

    fn get<'a>(
        &'a self,
        key: &'a [u8],
        _: Option<Revision>,
    ) -> Pending<'a, Result<Option<Entry>, ReadError>> {
        self.reads(self.store.get(key))
    }

    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>> {
        self.reads(self.store.range(query))
    }

    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>> {
        self.reads(self.store.watch(prefix, from))
    }

    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>> {
        self.reads(self.store.compact(up_to))
    }

    fn lease_grant(&self, ttl: Duration) -> Pending<'_, Result<LeaseId, LeaseError>> {
        Box::pin(self.store.lease_grant(ttl))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(self.store.lease_keep_alive(id))
    }

    fn lease_revoke(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(self.store.lease_revoke(id))
    }

    fn incarnation_raisable(&self) -> bool {
        true
    }

    fn incarnation_raise(&self, above: u64) -> Pending<'_, Result<u64, CommitError>> {
        match self.does("raise") {
            true => Box::pin(self.store.incarnation_raise(above)),
            false => Box::pin(std::future::ready(Err(CommitError::Failed("it is over".into())))),
        }
    }
}

/// Migrates until its process has done so much; whether it was done with all, and what it did.
fn run_mortal(from: &Store, member: &Member, prefix: &str, left: usize) -> (bool, Vec<&'static str>) {
    let fate = Arc::new(Mutex::new(Fate { left, did: Vec::new() }));
    let leads = |key: &[u8]| key == b"leader";
    let (from, to) = (Mortal::store(from, &fate, false), Mortal::store(&etcd(member, prefix), &fate, true));
    let migration =
        Migration { from: &from, to: &to, name: "cut off", left_out: &leads, incarnation_above: 6 };
    let done = wait(async {
        let copied = migration.copy(&mut |_| ()).await?;
        migration.unchanged(&copied.done()).await?;
        migration.seal(copied).await?;
        let again = Store::etcd(EtcdOptions::parse(&member.url(prefix)).unwrap()).await.unwrap();
        settle(&Mortal::store(&again, &fate, true), "cut off").await
    });
    let did = std::mem::take(&mut fate.lock().unwrap().did);
    (done.is_ok(), did)
}

#[test]
fn a_migration_that_was_cut_off_after_any_of_its_operations_is_done_again() {
    let member = Member::start();
    let from = embedded();
    // Two accounts, so that it takes more than one commit.
    for key in ["a/0/000000000001/vm", "a/0/000000000002/vm", "free", "leader", "z"] {
        wait(from.commit(put(key, "value"))).unwrap();
    }
    let leads = |key: &[u8]| key == b"leader";
    let expected: Vec<_> = pairs(&from).into_iter().filter(|(key, _)| key != b"leader").collect();
    let (whole, all) = run_mortal(&from, &member, "whole", usize::MAX);
    assert!(whole);
    let mut last = BTreeSet::new();
    // Into nothing; and into what another migration has left that was cut off before it settled.
    for before in [0, all.len() - 1] {
        for left in 0.. {
            let prefix = format!("{before}-{left}");
            run_mortal(&from, &member, &prefix, before);
            let (whole, did) = run_mortal(&from, &member, &prefix, left);
            assert!(did.len() == left && (before > 0 || did == all[..left]), "{did:?}");
            last.extend(did.last().copied());
            let when = format!("after {before} operations, and {left}");
            if !whole {
                let to = etcd(&member, &prefix);
                if wait(to.get(UNFINISHED)).unwrap().is_some() {
                    let refused = wait(settle(&to, "another"));
                    assert!(matches!(refused, Err(MigrateError::Overtaken)), "{refused:?}");
                }
                let migration = Migration {
                    from: &from,
                    to: &to,
                    name: "another",
                    left_out: &leads,
                    incarnation_above: 6,
                };
                let copied = wait(migration.copy(&mut |_| ())).unwrap();
                let done = wait(migration.seal(copied)).unwrap();
                assert_eq!((done.entries, done.verified), (4, 4), "{when}");
                wait(settle(&etcd(&member, &prefix), "another")).unwrap();
            }
            let to = etcd(&member, &prefix);
            assert_eq!((pairs(&to), to.incarnation()), (expected.clone(), 7), "{when}");
            // What is done is somebody's, and nobody fills it anew.
            let migration =
                Migration { from: &from, to: &to, name: "late", left_out: &leads, incarnation_above: 9 };
            let refused = wait(migration.copy(&mut |_| ()));
            assert!(matches!(refused, Err(MigrateError::NotEmpty(_))), "{refused:?}");
            if whole {
                break;
            }
        }
    }
    let phases = ["begin", "empty", "fill", "raise", "read the source", "read the target", "seal", "settle"];
    assert_eq!(last.into_iter().collect::<Vec<_>>(), phases);
}

#[test]
fn a_copy_that_is_not_settled_is_no_store_yet() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let migration =
        Migration { from: &from, to: &to, name: "one", left_out: &nothing_left_out, incarnation_above: 0 };
    let copied = wait(migration.copy(&mut |_| ())).unwrap();
    assert!(wait(to.get(UNFINISHED)).unwrap().is_some() && to.incarnation() == 1);
    // A second run takes it over, and the first can do nothing any more.
    let other = etcd(&member, "moved");
    let second = Migration { to: &other, name: "two", ..migration };
    let again = wait(second.copy(&mut |_| ())).unwrap();
    let refused = wait(migration.seal(copied));
    assert!(matches!(refused, Err(MigrateError::Write(_))), "{refused:?}");
    assert!(matches!(wait(settle(&other, "two")), Err(MigrateError::Overtaken)), "it is not sealed");
    let done = wait(second.seal(again)).unwrap();
    assert_eq!((done.entries, done.incarnation), (601, 2));
    let other = etcd(&member, "moved");
    assert!(matches!(wait(settle(&other, "one")), Err(MigrateError::Overtaken)));
    let refused = wait(election().lead_alone(&other)).unwrap_err();
    assert!(matches!(refused, ElectionError::Unfinished), "{refused}");
    wait(settle(&other, "two")).unwrap();
    wait(settle(&other, "two")).unwrap();
    assert_eq!(pairs(&other), pairs(&from));
}

fn election() -> Election {
    Election {
        leader_key: b"cell/leader".to_vec(),
        term_key: b"cell/term".to_vec(),
        owner: "cell/us-east-1a-c1".into(),
        who: "me".into(),
        ttl: Duration::from_secs(60),
    }
}

#[test]
fn a_former_store_takes_nobody_in_and_refuses_who_is_there() {
    let member = Member::start();
    let former = etcd(&member, "former");
    let refused = wait(retire(&former, b"cell/term", "elsewhere"));
    assert!(matches!(refused, Err(MigrateError::Termless(_))), "{refused:?}");
    let leader = wait(election().campaign(&former, |_| ())).unwrap();
    let act = || Commit {
        conditions: vec![leader.fence()],
        ops: vec![Op::Put(b"cell/vm/1".to_vec(), b"vm".to_vec())],
    };
    wait(former.commit(act())).unwrap();
    for _ in 0..2 {
        wait(retire(&former, b"cell/term", "a directory")).unwrap();
    }
    assert_eq!(wait(former.get(MOVED)).unwrap().unwrap().value, b"a directory");
    let refused = wait(former.commit(act()));
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    wait(leader.resign());
    let refused = wait(election().campaign(&etcd(&member, "former"), |_| ())).unwrap_err();
    assert!(refused.to_string().contains("moved from it to a directory. Start with that"), "{refused}");
    assert!(wait(former.get(b"cell/vm/1")).unwrap().is_some());
}

#[test]
fn a_source_that_changes_after_its_copy_is_found_out() {
    let member = Member::start();
    for (turn, change) in [
        put("free/0001", "other"),
        put("free/0001/new", "value"),
        Commit { conditions: vec![], ops: vec![Op::Delete("free/0001".into())] },
    ]
    .into_iter()
    .enumerate()
    {
        let (from, to) = (embedded(), etcd(&member, &format!("moved-{turn}")));
        fill(&from);
        let leads = |key: &[u8]| key == b"leader";
        let migration =
            Migration { from: &from, to: &to, name: "one", left_out: &leads, incarnation_above: 0 };
        let done = wait(migration.copy(&mut |_| ())).unwrap().done();
        wait(from.commit(put("leader", "another"))).unwrap();
        wait(migration.unchanged(&done)).unwrap();
        wait(from.commit(change)).unwrap();
        let refused = wait(migration.unchanged(&done));
        assert!(matches!(refused, Err(MigrateError::Changed(_))), "{refused:?}");
    }
}

#[test]
fn a_source_that_is_compacted_meanwhile_says_what_to_do() {
    let member = Member::start();
    let (from, to) = (etcd(&member, "source"), etcd(&member, "moved"));
    fill(&from);
    let other = etcd(&member, "source");
    let mut progress = move |_: Migrated| {
        let other = other.clone();
        let compact = move || {
            // Later than what is copied.
            wait(other.commit(put("leader", "another"))).unwrap();
            let newest = wait(other.revision()).unwrap();
            wait(other.compact(newest)).unwrap();
        };
        std::thread::spawn(compact).join().unwrap();
    };
    let refused = wait(migrate(&from, &to, &nothing_left_out, &mut progress)).unwrap_err();
    assert!(matches!(refused, MigrateError::Compacted), "{refused:?}");
    assert!(refused.to_string().contains("--auto-compaction-retention"), "{refused}");
}

#[test]
fn a_store_that_is_looked_for_is_not_made() {
    let member = Member::start();
    let found = || wait(Store::etcd_found(EtcdOptions::parse(&member.url("sought")).unwrap())).unwrap();
    let all = etcd(&member, "");
    let before = wait(all.revision()).unwrap();
    assert_eq!((found().incarnation(), pairs(&found())), (0, vec![]));
    assert_eq!(wait(all.revision()).unwrap(), before);
    wait(etcd(&member, "sought").commit(put("key", "value"))).unwrap();
    assert_eq!((found().incarnation(), pairs(&found()).len()), (1, 1));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let existing = || Store::open_existing(&path, StoreOptions::default());
    assert!(matches!(existing(), Err(OpenError::Absent { .. })) && !path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(existing(), Err(OpenError::Absent { .. })));
    drop(Store::open(&path).unwrap());
    drop(existing().unwrap());
    std::fs::remove_file(path.join("identity")).unwrap();
    assert!(existing().is_err());
}

#[test]
fn what_was_left_out_may_go_meanwhile() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let busy = from.clone();
    let mut progress = move |_: Migrated| {
        let gone = Commit { conditions: vec![], ops: vec![Op::Delete("leader".into())] };
        drop(busy.commit(gone));
    };
    let leads = |key: &[u8]| key == b"leader";
    assert_eq!(wait(migrate(&from, &to, &leads, &mut progress)).unwrap().entries, 600);
}

#[test]
fn an_incarnation_has_a_bound() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let highest = base::generation::INCARNATION_MAX;
    let refused = wait(to.incarnation_raise(highest));
    assert!(matches!(&refused, Err(CommitError::OutOfBounds(why)) if why.contains("524288")), "{refused:?}");
    assert_eq!(wait(to.incarnation_raise(highest - 1)), Ok(highest));
    let to = etcd(&member, "moved");
    assert!(wait(to.incarnation_raise(u64::MAX)).is_err());
    let directory = tempfile::tempdir().unwrap();
    let refused = embedded_target(directory.path(), highest, StoreOptions::default());
    assert!(matches!(refused, Err(RestoreError::IncarnationTooHigh { .. })), "{refused:?}");
}

#[test]
fn a_former_store_is_set_aside_under_a_name_that_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for name in ["store.before-3", "store.before-3.2"] {
        let store = Store::open(&path).unwrap();
        assert!(matches!(set_aside(&path, 3), Err(RestoreError::Store(_))), "it is in use");
        drop(store);
        assert_eq!(set_aside(&path, 3).unwrap(), directory.path().join(name));
        assert!(!path.exists());
    }
}
