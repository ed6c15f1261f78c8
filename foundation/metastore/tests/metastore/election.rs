//! Elections: exactly one of several processes acts, however the others and the way to the store behave.

use base::disk::memory::MemoryDisk;
use base::generation::Term;
use metastore::election::{Election, ElectionError, Leadership, Standing};
use metastore::{
    Backend, Busy, Commit, CommitError, Entry, LeaseError, LeaseId, OnDone, Op, Page, Pending, RangeQuery,
    ReadError, Revision, Store, StoreOptions, Watch, WatchFeed,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

fn store() -> Store {
    Store::over(MemoryDisk::new().mount(), StoreOptions::default()).unwrap()
}

fn election(who: &str) -> Election {
    Election {
        leader_key: b"cell/leader".to_vec(),
        term_key: b"cell/term".to_vec(),
        owner: "cell/us-east-1a-c1".into(),
        who: who.into(),
        ttl: LeaseId::TTL_MIN,
    }
}

async fn campaign(store: &Store, who: &str) -> Leadership {
    timeout(LONG, election(who).campaign(store, |_| ())).await.unwrap().unwrap()
}

/// A leader's commit.
async fn act(store: &Store, leader: &Leadership, value: &str) -> Result<Revision, CommitError> {
    let ops = vec![Op::Put(b"cell/vm".to_vec(), value.as_bytes().to_vec())];
    store.commit(Commit { conditions: vec![leader.fence()], ops }).await
}

/// A way to the store that can be cut for leases' renewals alone: its holder can still commit.
struct Cuttable {
    store: Store,
    cut: Arc<AtomicBool>,
    /// `Some`: watches say nothing, ever. Their ends are kept here.
    deaf: Option<Mutex<Vec<WatchFeed>>>,
}

impl Backend for Cuttable {
    fn incarnation(&self) -> u64 {
        self.store.incarnation()
    }
    fn commit(&self, commit: Commit) -> Pending<'static, Result<Revision, CommitError>> {
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
        Box::pin(async move {
            match at {
                Some(revision) => self.store.get_at(key, revision).await,
                None => self.store.get(key).await,
            }
        })
    }
    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>> {
        Box::pin(self.store.range(query))
    }
    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>> {
        let Some(deaf) = &self.deaf else { return Box::pin(self.store.watch(prefix, from)) };
        let (feed, watch) = Watch::fed(prefix, VecDeque::new(), 1);
        deaf.lock().unwrap().push(feed);
        Box::pin(std::future::ready(Ok(watch)))
    }
    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(self.store.compact(up_to))
    }
    fn lease_grant(&self, ttl: Duration) -> Pending<'_, Result<LeaseId, LeaseError>> {
        Box::pin(self.store.lease_grant(ttl))
    }
    fn lease_keep_alive(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(async move {
            match self.cut.load(Ordering::SeqCst) {
                true => Err(LeaseError::Unavailable("cut".into())),
                false => self.store.lease_keep_alive(id).await,
            }
        })
    }
    fn lease_revoke(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(self.store.lease_revoke(id))
    }
}

#[tokio::test]
async fn of_many_candidates_one_leads_and_the_next_when_it_resigns() {
    let store = store();
    let (elected_in, mut elected) = tokio::sync::mpsc::channel(16);
    for who in 0..8 {
        let (store, elected_in) = (store.clone(), elected_in.clone());
        tokio::spawn(async move {
            let leader = campaign(&store, &who.to_string()).await;
            elected_in.send(leader).await.unwrap();
        });
    }
    let mut before = None;
    for term in 1..=8 {
        let leader = timeout(LONG, elected.recv()).await.unwrap().unwrap();
        assert_eq!(leader.term(), Term(term));
        assert!(elected.try_recv().is_err(), "two lead at once");
        act(&store, &leader, "now").await.unwrap();
        if let Some(fence) = before.replace(leader.fence()) {
            let ops = vec![Op::Put(b"cell/vm".to_vec(), b"stale".to_vec())];
            let refused = store.commit(Commit { conditions: vec![fence], ops }).await.unwrap_err();
            assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
        }
        leader.resign().await;
    }
}

#[tokio::test]
async fn a_leader_that_cannot_renew_resigns_before_its_successor_begins() {
    let store = store();
    let cut = Arc::new(AtomicBool::new(false));
    let cuttable = Store::with(Cuttable { store: store.clone(), cut: cut.clone(), deaf: None });
    let mut first = campaign(&cuttable, "first").await;
    // It renews: it leads for longer than one lease.
    assert!(timeout(LeaseId::TTL_MIN * 2, first.lost()).await.is_err());
    let (seen_in, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let successor = {
        let store = store.clone();
        tokio::spawn(async move {
            let led = election("second").campaign(&store, |standing| drop(seen_in.send(standing))).await;
            (led.unwrap(), Instant::now())
        })
    };
    assert_eq!(seen.recv().await, Some(Standing::StandsBy { leader: "first".into() }));
    cut.store(true, Ordering::SeqCst);
    let why = timeout(LONG, first.lost()).await.unwrap();
    let resigned = Instant::now();
    assert!(why.contains("could not be renewed"), "{why}");
    assert!(store.get(b"cell/leader").await.unwrap().is_some(), "it resigned too late");
    let (second, began) = timeout(LONG, successor).await.unwrap().unwrap();
    assert!(began > resigned);
    assert!(second.term() > first.term());
    // A former leader that did not listen: the store refuses it, and takes its successor's.
    let refused = act(&cuttable, &first, "stale").await.unwrap_err();
    assert!(matches!(refused, CommitError::Conflict { .. }), "{refused}");
    act(&store, &second, "new").await.unwrap();
    assert_eq!(store.get(b"cell/vm").await.unwrap().unwrap().value, b"new");
}

#[tokio::test]
async fn a_candidate_whose_watch_is_dead_still_succeeds() {
    let store = store();
    let leader = campaign(&store, "first").await;
    let deaf = Cuttable { store: store.clone(), cut: Arc::default(), deaf: Some(Mutex::default()) };
    let (seen_in, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let successor = tokio::spawn(async move {
        let store = Store::with(deaf);
        election("second").campaign(&store, |standing| drop(seen_in.send(standing))).await.unwrap()
    });
    assert_eq!(seen.recv().await, Some(Standing::StandsBy { leader: "first".into() }));
    leader.resign().await;
    assert_eq!(timeout(LONG, successor).await.unwrap().unwrap().term(), Term(2));
}

#[tokio::test]
async fn of_two_leaders_that_both_live_the_store_obeys_the_newer() {
    let store = store();
    let mut leader = campaign(&store, "me").await;
    // As if its lease had ended without its knowing.
    let ops = vec![Op::Delete(b"cell/leader".to_vec())];
    store.commit(Commit { conditions: vec![], ops }).await.unwrap();
    let rival = campaign(&store, "rival").await;
    assert!(act(&store, &leader, "stale").await.is_err());
    act(&store, &rival, "new").await.unwrap();
    assert!(timeout(Duration::from_millis(10), leader.lost()).await.is_err(), "its own lease lives");
}

#[tokio::test]
async fn one_that_leads_alone_refuses_whoever_was_before_and_a_store_of_somebody_else() {
    let store = store();
    let first = election("me").lead_alone(&store).await.unwrap();
    let second = election("me").lead_alone(&store).await.unwrap();
    assert_eq!((first.term(), second.term()), (Term(1), Term(2)));
    assert!(act(&store, &first, "stale").await.is_err());
    act(&store, &second, "new").await.unwrap();
    let other = Election { owner: "cell/us-east-1b-c1".into(), ..election("other") };
    match other.lead_alone(&store).await.unwrap_err() {
        ElectionError::Foreign { owner } => assert_eq!(owner, "cell/us-east-1a-c1"),
        error => panic!("{error}"),
    }
    let unowned = Election { term_key: b"region/term".to_vec(), ..election("other") };
    match unowned.lead_alone(&store).await.unwrap_err() {
        ElectionError::Unowned { key } => assert_eq!(key, "cell/term"),
        error => panic!("{error}"),
    }
}
