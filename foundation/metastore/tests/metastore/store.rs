//! The store on a real directory: threads, group commit, the lock, restarts.

use metastore::{
    Commit, CommitError, Condition, LeaseError, LeaseId, OnDone, Op, OpenError, RangeQuery, Revision, Store,
    StoreOptions,
};
use std::sync::mpsc;
use std::time::Duration;

fn put(key: &str, value: &str) -> Commit {
    Commit { conditions: vec![], ops: vec![Op::Put(key.into(), value.into())] }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let bounded = async { tokio::time::timeout(Duration::from_secs(60), future).await };
    runtime.block_on(bounded).expect("an answer within a minute")
}

#[test]
fn threads_commit_together_and_all_of_it_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut watch = wait(store.watch(b"thread/", Revision(0))).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                wait(async {
                    for number in 0..50 {
                        let key = format!("thread/{thread}/{number:03}");
                        let commit = Commit {
                            conditions: vec![Condition::Absent(key.clone().into())],
                            ..put(&key, "v")
                        };
                        let revision = store.commit(commit.clone()).await.unwrap();
                        let entry = store
                            .get(key.as_bytes())
                            .await
                            .unwrap()
                            .expect("visible once it is acknowledged");
                        assert_eq!(entry.modified, revision);
                        assert!(matches!(store.commit(commit).await, Err(CommitError::Conflict { .. })));
                    }
                })
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    wait(async {
        for revision in 1..=400 {
            assert_eq!(watch.next().await.unwrap().revision, Revision(revision));
        }
    });
    let (entries, revision) = wait(store.list(b"")).unwrap();
    assert_eq!((entries.len(), revision), (400, Revision(400)));

    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(wait(store.list(b"")).unwrap(), (entries, revision));
    assert_eq!(store.incarnation(), 1);
}

#[test]
fn one_process_owns_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let Err(OpenError::Locked { pid }) = Store::open(directory.path()) else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
    drop(store);
    Store::open(directory.path()).unwrap();
}

#[test]
fn answers_come_in_the_order_of_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (sender, answers) = mpsc::channel();
    for number in 0..300 {
        let conditions =
            if number % 3 == 0 { vec![Condition::Unchanged("none".into(), Revision(1))] } else { vec![] };
        let sender = sender.clone();
        let on_done: OnDone = Box::new(move |result| sender.send((number, result)).unwrap());
        store.submit(Commit { conditions, ..put("key", &number.to_string()) }, on_done).unwrap();
    }
    let mut revision = Revision(0);
    for number in 0..300 {
        let (answered, result) = answers.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(answered, number);
        match result {
            Ok(next) => {
                assert_eq!(next, Revision(revision.0 + 1));
                revision = next;
            }
            Err(error) => {
                assert_eq!((number % 3, error), (0, CommitError::Conflict { key: "none".into() }));
            }
        }
    }
    assert_eq!(revision, Revision(200));
}

#[test]
fn a_full_queue_hands_the_commit_back_or_makes_it_wait() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { queue_commits: 2, ..StoreOptions::default() };
    let store = Store::open_with(directory.path(), options).unwrap();
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    // Holds the store's thread, so that the queue stays as it is.
    let hold: OnDone = Box::new(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    });
    store.submit(put("a", "1"), hold).unwrap();
    running.recv_timeout(Duration::from_secs(60)).unwrap();
    let b = store.commit(put("b", "1"));
    let c = store.commit(put("c", "1"));
    let busy = store.submit(put("d", "1"), Box::new(|_| ())).unwrap_err();
    assert_eq!(busy.commit, put("d", "1"));
    let e = store.commit(put("e", "1"));
    release.send(()).unwrap();
    assert_eq!(
        wait(async { (b.await, c.await, e.await) }),
        (Ok(Revision(2)), Ok(Revision(3)), Ok(Revision(4)))
    );
    let page = wait(store.range(&RangeQuery::between("c", None))).unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.key.as_slice()).collect::<Vec<_>>(), [b"c", b"e"]);
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { queue_bytes: 1000, ..StoreOptions::default() };
    let store = Store::open_with(directory.path(), options).unwrap();
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    let hold: OnDone = Box::new(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    });
    store.submit(put("a", "1"), hold).unwrap();
    running.recv_timeout(Duration::from_secs(60)).unwrap();
    let half = "v".repeat(600);
    let first = store.commit(put("b", &half));
    let busy = store.submit(put("c", &half), Box::new(|_| ())).unwrap_err();
    assert_eq!(busy.commit, put("c", &half));
    let waiting = store.commit(put("d", &half));
    // One that is larger than the bound waits for an empty queue, and has it then.
    let large = store.commit(put("e", &half.repeat(10)));
    release.send(()).unwrap();
    wait(async {
        for answer in [first.await, waiting.await, large.await] {
            answer.unwrap();
        }
    });
}

#[test]
fn what_is_queued_is_committed_when_the_last_handle_goes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let commits: Vec<_> = (0..100).map(|number| store.commit(put(&format!("{number}"), "v"))).collect();
    drop(commits);
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(wait(store.revision()), Ok(Revision(100)));
}

#[test]
fn a_lease_ends_when_nobody_keeps_it_alive() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    wait(async {
        let mut watch = store.watch(b"", Revision(0)).await.unwrap();
        assert!(matches!(store.lease_grant(Duration::ZERO).await, Err(LeaseError::OutOfBounds(_))));
        let kept = store.lease_grant(LeaseId::TTL_MAX).await.unwrap();
        let left = store.lease_grant(LeaseId::TTL_MIN).await.unwrap();
        let leader = |lease| Op::PutLeased("leader".into(), "me".into(), lease);
        let revision = store.commit(Commit { conditions: vec![], ops: vec![leader(left)] }).await.unwrap();
        assert_eq!(watch.next().await.unwrap().revision, revision);
        store.lease_keep_alive(kept).await.unwrap();
        // Nothing else is asked of the store: its thread wakes by itself.
        let gone = watch.next().await.unwrap();
        assert_eq!((&gone.changes[0].key[..], &gone.changes[0].value), (&b"leader"[..], &None));
        assert_eq!(store.get(b"leader").await.unwrap(), None);
        assert_eq!(store.lease_keep_alive(left).await, Err(LeaseError::Expired(left)));
        assert_eq!(store.lease_revoke(left).await, Err(LeaseError::Expired(left)));
        let refused = store.commit(Commit { conditions: vec![], ops: vec![leader(left)] }).await;
        assert_eq!(refused, Err(CommitError::LeaseExpired(left)));
        store.commit(Commit { conditions: vec![], ops: vec![leader(kept)] }).await.unwrap();
        store.lease_revoke(kept).await.unwrap();
        assert_eq!(store.get(b"leader").await.unwrap(), None);
        let (entries, _) = store.list(b"").await.unwrap();
        assert_eq!(entries, []);
    });
}
