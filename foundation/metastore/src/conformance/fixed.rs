//! Cases that random steps would seldom meet.

use crate::{
    Commit, CommitError, Condition, LeaseError, LeaseId, Op, RangeQuery, ReadError, Revision, Store, WatchEnd,
};
use std::time::Duration;

fn ops(ops: Vec<Op>) -> Commit {
    Commit { conditions: vec![], ops }
}

fn put(key: &str, value: impl Into<Vec<u8>>) -> Op {
    Op::Put(key.into(), value.into())
}

/// What breaks a bound is refused and changes nothing; what just keeps it happens.
pub async fn bounds(store: &Store) {
    let many = |count: usize| (0..count).map(|number| put(&format!("many/{number:03}"), "v")).collect();
    let conditions = |count: usize| -> Vec<Condition> {
        (0..count).map(|number| Condition::Absent(format!("absent/{number}").into())).collect()
    };
    let long_key = "k".repeat(Commit::KEY_BYTES_MAX + 1);
    let long_value = vec![0; Commit::VALUE_BYTES_MAX + 1];
    let third = Commit::BYTES_MAX / 3;
    let widest = |more: usize| -> Vec<Op> {
        let key = |number: usize| format!("wide/{number}");
        let bytes = |number: usize| third - key(number).len() + if number == 2 { 1 + more } else { 0 };
        (0..3).map(|number| put(&key(number), vec![0; bytes(number)])).collect()
    };
    let before = store.list(b"").await.expect("a list");
    for refused in [
        ops(many(Commit::OPS_MAX + 1)),
        Commit { conditions: conditions(Commit::OPS_MAX + 1), ops: vec![] },
        ops(vec![put("", "empty key")]),
        ops(vec![put("\0own", "v")]),
        Commit { conditions: vec![Condition::Absent("\0own".into())], ops: vec![] },
        ops(vec![put(&long_key, "v")]),
        ops(vec![put("long", long_value)]),
        ops(vec![put("twice", "1"), Op::Delete("twice".into())]),
        ops(widest(1)),
        ops(vec![put("a/0/000000000001/k", "v"), put("a/0/000000000002/k", "v")]),
    ] {
        let answer = store.commit(refused).await;
        assert!(matches!(answer, Err(CommitError::OutOfBounds(_))), "{answer:?}");
    }
    assert_eq!(store.list(b"").await, Ok(before));
    let widest_commits = [
        Commit { conditions: conditions(Commit::OPS_MAX), ops: many(Commit::OPS_MAX) },
        ops(widest(0)),
        ops(vec![put(&long_key[1..], vec![0; Commit::VALUE_BYTES_MAX])]),
    ];
    for commit in widest_commits {
        let revision = store.commit(commit.clone()).await.expect("just within bounds");
        for op in &commit.ops {
            let entry = store.get(op.key()).await.expect("a read").expect("what was put");
            assert_eq!(entry.modified, revision);
        }
    }
    for ttl in [Duration::ZERO, LeaseId::TTL_MAX + Duration::from_secs(1)] {
        let answer = store.lease_grant(ttl).await;
        assert!(matches!(answer, Err(LeaseError::OutOfBounds(_))), "{answer:?}");
    }
    for nobody in [store.get(b"\0incarnation").await, store.get(b"").await, store.get(b"\0").await] {
        assert_eq!(nobody, Ok(None));
    }
    let own = store.range(&RangeQuery::between("", Some("\x01".into()))).await.expect("a page");
    assert_eq!((own.entries, own.next), (vec![], None));
    let beyond = RangeQuery::between("z", Some("a".into()));
    assert_eq!(store.range(&beyond).await.expect("a page").entries, []);
    let future = RangeQuery::prefix("z").at(Revision(u64::MAX));
    assert!(matches!(store.range(&future).await, Err(ReadError::Future { .. })));
}

/// A page ends after the entry with which it reaches its bound in bytes, and the next goes on.
pub async fn large_pages(store: &Store) {
    const VALUE_BYTES: usize = 400_000;
    const ENTRIES: usize = 45;
    for number in 0..ENTRIES {
        let key = format!("large/{number:02}");
        store.commit(ops(vec![put(&key, vec![number as u8; VALUE_BYTES])])).await.expect("a commit");
    }
    let mut query = RangeQuery::prefix("large/");
    let mut sizes = Vec::new();
    let mut read = 0;
    loop {
        let page = store.range(&query).await.expect("a page");
        for entry in &page.entries {
            let value = &entry.value;
            assert!(value.len() == VALUE_BYTES && value.iter().all(|byte| usize::from(*byte) == read));
            read += 1;
        }
        sizes.push(page.entries.len());
        if page.next.is_none() {
            break;
        }
        query = query.at(page.revision).after(page.next);
    }
    let full = RangeQuery::PAGE_BYTES_MAX.div_ceil(VALUE_BYTES + "large/00".len());
    assert_eq!(sizes, [full, full, ENTRIES - 2 * full]);
    for number in 0..300 {
        store.commit(ops(vec![put(&format!("small/{number:03}"), "v")])).await.expect("a commit");
    }
    let (entries, _) = store.list(b"small/").await.expect("a list");
    assert_eq!(entries.len(), 300);
    assert!(entries.windows(2).all(|pair| pair[0].key < pair[1].key));
}

/// A lease ends when nobody keeps it alive, its keys with it in one commit; one that is kept alive does not.
pub async fn lease_timeout(store: &Store) {
    let revision = store.revision().await.expect("a revision");
    let mut watch = store.watch(b"", revision).await.expect("a watch");
    let left = store.lease_grant(LeaseId::TTL_MIN).await.expect("a lease");
    let kept = store.lease_grant(LeaseId::TTL_MIN).await.expect("a lease");
    let leased = |key: &str, id| Op::PutLeased(key.into(), "v".into(), id);
    let commit = ops(vec![leased("gone/1", left), leased("gone/2", left), leased("stays", kept)]);
    store.commit(commit).await.expect("a commit");
    assert_eq!(watch.next().await.expect("the commit").changes.len(), 3);
    let keep = async {
        loop {
            store.lease_keep_alive(kept).await.expect("it is kept alive in time");
            tokio::time::sleep(LeaseId::TTL_MIN / 5).await;
        }
    };
    let gone = tokio::select! {
        never = keep => never,
        gone = tokio::time::timeout(Duration::from_secs(30), watch.next()) => gone,
    };
    let gone = gone.expect("within half a minute").expect("the end of the lease");
    let mut keys: Vec<_> =
        gone.changes.iter().map(|change| (&change.key[..], change.value.is_none())).collect();
    keys.sort_unstable();
    assert_eq!(keys, [(&b"gone/1"[..], true), (&b"gone/2"[..], true)]);
    assert!(store.get(b"stays").await.expect("a read").is_some());
    assert_eq!(store.lease_keep_alive(left).await, Err(LeaseError::Expired(left)));
    assert_eq!(store.lease_revoke(left).await, Err(LeaseError::Expired(left)));
    let late = store.commit(ops(vec![leased("late", left)])).await;
    assert_eq!(late, Err(CommitError::LeaseExpired(left)));
    store.lease_revoke(kept).await.expect("it is there");
    assert_eq!(store.get(b"stays").await, Ok(None));
}

/// A watcher that does not read gets a beginning without a gap and then its end; commits do not wait for it.
pub async fn lagging_watch(store: &Store) {
    const AT_ONCE: usize = 50;
    let from = store.revision().await.expect("a revision");
    let mut watch = store.watch(b"lag/", from).await.expect("a watch");
    let mut expected = Vec::new();
    // The widest queue of any engine, and as much again for what is on its way.
    for _ in 0..60 {
        let commits: Vec<_> =
            (0..AT_ONCE).map(|number| store.commit(ops(vec![put(&format!("lag/{number}"), "v")]))).collect();
        for commit in commits {
            expected.push(commit.await.expect("a commit"));
        }
    }
    expected.sort_unstable();
    for (number, revision) in expected.iter().enumerate() {
        match watch.next().await {
            Ok(events) => assert_eq!(events.revision, *revision),
            Err(end) => {
                assert_eq!((end, number > 0), (WatchEnd::Lagged, true));
                return;
            }
        }
    }
    panic!("{} commits wait for one watcher", expected.len());
}
