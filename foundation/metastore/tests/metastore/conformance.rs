//! One suite for every engine; and engines with a bug planted in them, which it must find.

use crate::server::{Member, runtime, wait};
use base::disk::memory::MemoryDisk;
use metastore::conformance::{Extent, Verdict, Workload, history, linearizable, run};
use metastore::{
    Backend, Busy, Commit, CommitError, Entry, EtcdOptions, LeaseError, LeaseId, OnDone, Page, Pending,
    RangeQuery, ReadError, Revision, Store, StoreOptions, Watch,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn embedded() -> Store {
    Store::over(MemoryDisk::new().mount(), StoreOptions::default()).unwrap()
}

#[test]
fn the_embedded_engine_keeps_the_contract() {
    run(runtime(), &embedded, Extent { cases: 400, steps: 80, histories: 60 });
}

#[test]
fn etcd_keeps_the_contract() {
    let member = Member::start();
    let stores = AtomicU64::new(0);
    let fresh = || {
        let number = stores.fetch_add(1, Ordering::Relaxed);
        let mut options = EtcdOptions::parse(&member.url(&format!("store/{number}"))).unwrap();
        options.watch_queue_commits = 1024;
        wait(Store::etcd(options)).unwrap()
    };
    run(runtime(), &fresh, Extent { cases: 25, steps: 60, histories: 12 });
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug)]
enum Bug {
    /// Now and then a read is answered from before the last commits.
    StaleRead,
    /// Now and then a commit is acknowledged and does not happen.
    LostCommit,
    /// Now and then a commit's conditions are not looked at.
    NoCondition,
}

/// A right store with a bug before it.
struct Planted {
    store: Store,
    bug: Bug,
    calls: AtomicU64,
}

impl Planted {
    fn now(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % 20 == 19
    }
}

impl Backend for Planted {
    fn incarnation(&self) -> u64 {
        self.store.incarnation()
    }

    fn commit(&self, mut commit: Commit) -> Pending<'static, Result<Revision, CommitError>> {
        if matches!(self.bug, Bug::NoCondition) && self.now() {
            commit.conditions.clear();
        }
        if matches!(self.bug, Bug::LostCommit) && commit.conditions.is_empty() && self.now() {
            let store = self.store.clone();
            return Box::pin(async move { Ok(Revision(store.revision().await.unwrap().0 + 1)) });
        }
        Box::pin(self.store.commit(commit))
    }

    fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        self.store.submit(commit, on_done)
    }

    fn revision(&self) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(self.store.revision())
    }

    fn get<'a>(
        &'a self,
        key: &'a [u8],
        at: Option<Revision>,
    ) -> Pending<'a, Result<Option<Entry>, ReadError>> {
        let stale = matches!(self.bug, Bug::StaleRead) && at.is_none() && self.now();
        Box::pin(async move {
            match at {
                Some(at) => self.store.get_at(key, at).await,
                None if stale => {
                    let now = self.store.revision().await?;
                    self.store.get_at(key, Revision(now.0.saturating_sub(8))).await
                }
                None => self.store.get(key).await,
            }
        })
    }

    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>> {
        Box::pin(self.store.range(query))
    }

    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>> {
        Box::pin(self.store.watch(prefix, from))
    }

    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(self.store.compact(up_to))
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
}

#[test]
fn the_checker_finds_planted_bugs() {
    for bug in [Bug::StaleRead, Bug::LostCommit, Bug::NoCondition] {
        let mut found = 0;
        for seed in 0..40 {
            let store = Store::with(Planted { store: embedded(), bug, calls: AtomicU64::new(0) });
            let calls = wait(history(&[store], &Workload::from_seed(seed)));
            found += usize::from(matches!(linearizable(&calls), Verdict::Violation(_)));
        }
        println!("{bug:?}: found in {found} of 40 histories");
        assert!(found >= 20, "{bug:?}: found in {found} of 40 histories");
    }
}
