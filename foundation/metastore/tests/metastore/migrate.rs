//! A store moved to another engine.

use crate::server::{Member, wait};
use base::disk::memory::MemoryDisk;
use metastore::{
    Commit, EtcdOptions, MigrateError, Migrated, Op, Store, StoreOptions, UNFINISHED, embedded_target,
    migrate,
};
use std::sync::{Arc, Mutex};

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
    assert!(matches!(refused, Err(MigrateError::Incarnation { from: 1, to: 1 })), "{refused:?}");
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
    let to = embedded_target(directory.path(), from.incarnation()).unwrap();
    let done = wait(migrate(&from, &to, &nothing_left_out, &mut |_| ())).unwrap();
    assert_eq!((done.entries, done.verified), (601, 601));
    assert!(done.incarnation > 5 && done.incarnation == to.incarnation());
    drop(to);
    let to = Store::open(directory.path()).unwrap();
    assert_eq!((pairs(&to), to.incarnation()), (pairs(&from), done.incarnation));
    assert!(embedded_target(directory.path(), 9).is_err(), "it is not empty");
}
