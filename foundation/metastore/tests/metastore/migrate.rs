//! A store moved to another engine.

use crate::server::{Member, wait};
use base::disk::memory::MemoryDisk;
use metastore::{
    Commit, CommitError, EtcdOptions, MigrateError, Migrated, Migration, Op, RestoreError, Store,
    StoreOptions, UNFINISHED, embedded_target, set_aside,
};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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
    Migration { from, to, left_out, incarnation_above: 0 }.run(progress).await
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

/// Polls it so often, if it takes so long, and drops it.
fn cut_off<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let runtime = crate::server::runtime();
    let _inside = runtime.enter();
    for _ in 0..polls {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => return Some(done),
            // Nobody wakes it: what it waits for goes on meanwhile.
            Poll::Pending => std::thread::yield_now(),
        }
    }
    None
}

#[test]
fn a_migration_that_was_cut_off_anywhere_is_done_again() {
    let member = Member::start();
    let from = embedded();
    fill(&from);
    let leads = |key: &[u8]| key == b"leader";
    let expected: Vec<_> = pairs(&from).into_iter().filter(|(key, _)| key != b"leader").collect();
    let mut finished = 0;
    for (turn, polls) in [1, 10, 100, 1_000, 3_000, 10_000, 30_000, 100_000].into_iter().enumerate() {
        let prefix = format!("turn-{turn}");
        let to = etcd(&member, &prefix);
        let migration = Migration { from: &from, to: &to, left_out: &leads, incarnation_above: 6 };
        finished += u32::from(cut_off(migration.run(&mut |_| ()), polls).is_some_and(|done| done.is_ok()));
        // What the first run has sent may still arrive: it must not do harm.
        let to = etcd(&member, &prefix);
        let done = wait(Migration { to: &to, ..migration }.run(&mut |_| ())).unwrap();
        assert_eq!((done.entries, done.verified, done.incarnation), (600, 600, 7), "after {polls} polls");
        let to = etcd(&member, &prefix);
        assert_eq!((pairs(&to), to.incarnation()), (expected.clone(), 7), "after {polls} polls");
        // And what is done is found done, as long as nobody has worked with it.
        let done = wait(Migration { to: &to, ..migration }.run(&mut |_| ())).unwrap();
        assert_eq!((done.entries, done.incarnation), (600, 7));
        wait(to.commit(put("z/more", "1"))).unwrap();
        let refused = wait(Migration { to: &to, ..migration }.run(&mut |_| ()));
        assert!(matches!(refused, Err(MigrateError::NotEmpty(_))), "{refused:?}");
    }
    println!("{finished} were not cut off");
}

#[test]
fn a_copy_that_is_not_finished_is_no_store_yet() {
    let member = Member::start();
    let (from, to) = (embedded(), etcd(&member, "moved"));
    fill(&from);
    let migration = Migration { from: &from, to: &to, left_out: &nothing_left_out, incarnation_above: 0 };
    let copied = wait(migration.copy(&mut |_| ())).unwrap();
    assert!(wait(to.get(UNFINISHED)).unwrap().is_some() && to.incarnation() == 1);
    // A second run takes it over, and the first can do nothing any more.
    let other = etcd(&member, "moved");
    let again = wait(Migration { to: &other, ..migration }.copy(&mut |_| ())).unwrap();
    let refused = wait(migration.finish(copied));
    assert!(matches!(refused, Err(MigrateError::Write(_))), "{refused:?}");
    let other = etcd(&member, "moved");
    let done = wait(Migration { to: &other, ..migration }.finish(again)).unwrap();
    assert_eq!((done.entries, done.incarnation), (601, 2));
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
