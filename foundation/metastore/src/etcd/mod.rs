//! The store in an etcd: the same contract, kept by a cluster elsewhere, or by a `nephos store` that speaks etcd's
//! v3 API.
//!
//! ```text
//!   contract                  etcd
//!   commit                    Txn: `create_revision == 0` for Absent, `mod_revision == N` for Unchanged
//!   revision                  etcd's: of the whole cluster, so other stores in it raise it too
//!   key K                     PREFIX K
//!   incarnation               PREFIX \0incarnation, made by whoever opens the store first
//!   lease                     etcd's, of whole seconds
//! ```
//!
//! A break of the connection is waited out ([`EtcdOptions::patience`]) by reads, by watches, and by commits that were
//! certainly not sent. A commit that was sent and not answered is [`CommitError::Failed`]: it may be there.
//!
//! Commits in flight have no order among each other; up to [`EtcdOptions::commits_in_flight`] go at once.
//!
//! Invariant: the contract's bounds are checked here, before anything is sent. All are within etcd's own (128
//! operations, 1.5 MiB a request); but that a lease has at most [`LeaseId::KEYS_MAX`] keys is left to its holder.
//! Invariant: what is under the prefix and begins with byte 0 is ours; nobody is shown it.

mod fault;
mod link;
mod options;
mod read;
mod watch;

pub use options::{EtcdError, EtcdOptions, EtcdTls, EtcdTlsSource, EtcdUser};

use crate::contract::{
    Commit, CommitError, Condition, Entry, LeaseError, LeaseId, Op, Page, RangeQuery, ReadError, Revision,
};
use crate::store::{Backend, Busy, OnDone, Pending};
use crate::watch::Watch;
use base::generation::INCARNATION_MAX;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use fault::Fault;
use link::{Link, Links};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

/// Between two tries of the same request.
const TRY_PAUSE: Duration = Duration::from_millis(20);

/// The engine. When its last handle is dropped, what it has taken still happens, as long as its runtime runs.
#[derive(Clone)]
pub(crate) struct Etcd {
    links: Arc<Links>,
    runtime: Handle,
    in_flight: Arc<Semaphore>,
}

impl Etcd {
    /// Opens the store, or makes it, on the present runtime.
    pub(crate) async fn open(options: EtcdOptions) -> Result<Etcd, EtcdError> {
        if options.endpoints.is_empty() {
            return Err(EtcdError::Url("no member is named".to_owned()));
        }
        let runtime = Handle::current();
        let in_flight = Arc::new(Semaphore::new(options.commits_in_flight.clamp(1, Semaphore::MAX_PERMITS)));
        let etcd = Etcd { links: Arc::new(Links::new(options, runtime.clone())), runtime, in_flight };
        let incarnation = etcd.incarnation_ensure().await.map_err(|fault| match fault {
            Fault::Gone(why) => EtcdError::NotAStore(why),
            fault => EtcdError::Unavailable(fault.said()),
        })?;
        etcd.links.incarnation_learn(incarnation);
        Ok(etcd)
    }

    /// The store's incarnation; 1 is written if there is none.
    async fn incarnation_ensure(&self) -> Result<u64, Fault> {
        let key = &self.links.incarnation_key();
        self.retried(|link: Arc<Link>| async move {
            if let (Some(incarnation), _) = self.links.incarnation_read(&link).await? {
                return Ok(incarnation);
            }
            let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            let txn = Txn::new().when([absent]).and_then([TxnOp::put(key.clone(), "1", None)]);
            link.kv.clone().txn(txn).await.map_err(|error| Fault::of(&error))?;
            // Ours, or that of somebody who was first.
            let (incarnation, _) = self.links.incarnation_read(&link).await?;
            incarnation.ok_or_else(|| Fault::Unknown("the incarnation did not stay".to_owned()))
        })
        .await
    }

    /// Raises the incarnation by a conditional commit, to above `above` and its own; the new one. From then on every
    /// handle of the store is [`Fault::Gone`], this one too.
    async fn incarnation_raise_above(&self, above: u64) -> Result<u64, Fault> {
        let key = &self.links.incarnation_key();
        self.retried(|link: Arc<Link>| async move {
            let (Some(old), _) = self.links.incarnation_read(&link).await? else {
                return Err(Fault::Gone("the incarnation is not there".to_owned()));
            };
            let new = old.max(above).saturating_add(1);
            if new > INCARNATION_MAX {
                let why = format!("{new} is too high for an incarnation: at most {INCARNATION_MAX}");
                return Err(Fault::OutOfBounds(why));
            }
            let same = Compare::value(key.clone(), CompareOp::Equal, old.to_string());
            let txn = Txn::new().when([same]).and_then([TxnOp::put(key.clone(), new.to_string(), None)]);
            let answer = link.kv.clone().txn(txn).await.map_err(|error| Fault::of(&error))?;
            match answer.succeeded() {
                true => Ok(new),
                false => Err(Fault::Busy("somebody else raises the incarnation".to_owned())),
            }
        })
        .await
    }

    /// Does what may be done twice, again and again until it is answered or patience ends.
    async fn retried<T, F>(&self, ask: impl Fn(Arc<Link>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = self.links.patience_end();
        loop {
            let link = self.links.link(deadline).await?;
            let asked = timeout(self.links.options.answer_timeout, ask(link.clone())).await;
            let fault = match asked.unwrap_or_else(|_| Err(self.late())) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            match &fault {
                Fault::NotSent(_) | Fault::Unknown(_) => self.links.drop_link(&link),
                Fault::Busy(_) => {}
                _ => return Err(fault),
            }
            if Instant::now() >= deadline {
                return Err(fault);
            }
            sleep(TRY_PAUSE).await;
        }
    }

    fn late(&self) -> Fault {
        Fault::Unknown(format!("no answer within {} ms", self.links.options.answer_timeout.as_millis()))
    }

    /// One commit: sent again only while it certainly was not looked at.
    async fn commit_now(&self, commit: &Commit) -> Result<Revision, CommitError> {
        let txn = self.txn(commit);
        let deadline = self.links.patience_end();
        loop {
            let link = self.links.link(deadline).await.map_err(commit_error)?;
            let asked = timeout(self.links.options.answer_timeout, link.kv.clone().txn(txn.clone())).await;
            let fault = match asked {
                Ok(Ok(answer)) => return self.commit_answered(commit, &answer),
                Ok(Err(error)) => Fault::of(&error),
                Err(_) => self.late(),
            };
            match &fault {
                Fault::NotSent(_) => self.links.drop_link(&link),
                Fault::Busy(_) => {}
                Fault::LeaseNotFound => return Err(self.lease_expired(&link, commit).await),
                fault => {
                    if matches!(fault, Fault::Unknown(_)) {
                        self.links.drop_link(&link);
                    }
                    return Err(commit_error(fault.clone()));
                }
            }
            if Instant::now() >= deadline {
                return Err(commit_error(fault));
            }
            sleep(TRY_PAUSE).await;
        }
    }

    fn txn(&self, commit: &Commit) -> Txn {
        let mut compares = Vec::with_capacity(commit.conditions.len());
        for condition in &commit.conditions {
            let key = self.key(condition.key());
            let modified = |number| Compare::mod_revision(key.clone(), CompareOp::Equal, number);
            compares.push(match condition {
                // For etcd a key that is not there was modified at 0, and at no negative revision.
                Condition::Absent(_) => Compare::create_revision(key, CompareOp::Equal, 0),
                Condition::Unchanged(_, Revision(0)) => modified(-1),
                Condition::Unchanged(_, Revision(number)) => modified(i64::try_from(*number).unwrap_or(-1)),
            });
        }
        let ops = commit.ops.iter().map(|op| match op {
            Op::Put(key, value) => TxnOp::put(self.key(key), value.clone(), None),
            Op::PutLeased(key, value, LeaseId(id)) => {
                TxnOp::put(self.key(key), value.clone(), Some(PutOptions::new().with_lease(*id as i64)))
            }
            Op::Delete(key) => TxnOp::delete(self.key(key), Some(DeleteOptions::new())),
        });
        let mut txn = Txn::new();
        if !compares.is_empty() {
            txn = txn.when(compares);
        }
        txn = txn.and_then(ops.collect::<Vec<_>>());
        if commit.conditions.len() > 1 {
            // So that the answer says which condition did not hold.
            let of = |condition: &Condition| {
                TxnOp::get(self.key(condition.key()), Some(GetOptions::new().with_keys_only()))
            };
            txn = txn.or_else(commit.conditions.iter().map(of).collect::<Vec<_>>());
        }
        txn
    }

    fn commit_answered(&self, commit: &Commit, answer: &TxnResponse) -> Result<Revision, CommitError> {
        let revision = self.revision_of(answer.header());
        if answer.succeeded() {
            return Ok(revision);
        }
        let modified = answer.op_responses().into_iter().map(|answer| match answer {
            TxnOpResponse::Get(read) => read.kvs().first().map(|entry| Revision(entry.mod_revision() as u64)),
            _ => None,
        });
        let unmet = commit.conditions.iter().zip(modified).find(|(condition, modified)| match condition {
            Condition::Absent(_) => modified.is_some(),
            Condition::Unchanged(_, revision) => *modified != Some(*revision),
        });
        let unmet = unmet.map(|(condition, _)| condition).or(commit.conditions.first());
        let key = unmet.map(|condition| condition.key().escape_ascii().to_string()).unwrap_or_default();
        Err(CommitError::Conflict { key })
    }

    /// Which of the commit's leases is not there.
    async fn lease_expired(&self, link: &Link, commit: &Commit) -> CommitError {
        let leases = commit.ops.iter().filter_map(|op| match op {
            Op::PutLeased(_, _, id) => Some(*id),
            _ => None,
        });
        let mut leases: Vec<LeaseId> = leases.collect();
        leases.sort_unstable();
        leases.dedup();
        if let [id] = leases[..] {
            return CommitError::LeaseExpired(id);
        }
        for &id in &leases {
            let asked = link.lease.clone().time_to_live(id.0 as i64, None).await;
            if asked.is_ok_and(|answer| answer.ttl() < 0) {
                return CommitError::LeaseExpired(id);
            }
        }
        // One of them has ended, and it cannot be told which; what must not be said is that trying again may help.
        leases.first().map_or_else(
            || CommitError::Failed("a lease that the commit does not name has ended".to_owned()),
            |id| CommitError::LeaseExpired(*id),
        )
    }

    /// The key in the cluster.
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.links.options.prefix, key].concat()
    }

    fn revision_of(&self, header: Option<&etcd_client::ResponseHeader>) -> Revision {
        let revision = header.map_or(0, |header| header.revision() as u64);
        self.links.revision_see(revision);
        Revision(revision)
    }

    /// Begins a commit that has its place; it happens whatever becomes of who waits for it.
    fn commit_spawn(
        self,
        commit: Commit,
        place: OwnedSemaphorePermit,
    ) -> tokio::task::JoinHandle<Result<Revision, CommitError>> {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            let result = self.commit_now(&commit).await;
            drop(place);
            result
        })
    }
}

impl Backend for Etcd {
    fn incarnation(&self) -> u64 {
        self.links.incarnation()
    }

    fn commit(&self, commit: Commit) -> Pending<'static, Result<Revision, CommitError>> {
        if let Err(error) = commit.check() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let etcd = self.clone();
        let begun = match self.in_flight.clone().try_acquire_owned() {
            Ok(place) => Ok(etcd.commit_spawn(commit, place)),
            Err(_) => Err((etcd, commit)),
        };
        Box::pin(async move {
            let begun = match begun {
                Ok(begun) => begun,
                Err((etcd, commit)) => match etcd.in_flight.clone().acquire_owned().await {
                    Ok(place) => etcd.commit_spawn(commit, place),
                    Err(_) => return Err(CommitError::Unavailable("it is closed".to_owned())),
                },
            };
            begun.await.unwrap_or_else(|_| Err(CommitError::Failed("its runtime has ended".to_owned())))
        })
    }

    fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        if let Err(error) = commit.check() {
            on_done(Err(error));
            return Ok(());
        }
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else {
            return Err(Busy { commit, on_done });
        };
        let etcd = self.clone();
        self.runtime.spawn(async move {
            let result = etcd.commit_now(&commit).await;
            drop(place);
            on_done(result);
        });
        Ok(())
    }

    fn revision(&self) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(self.revision_read())
    }

    fn get<'a>(
        &'a self,
        key: &'a [u8],
        at: Option<Revision>,
    ) -> Pending<'a, Result<Option<Entry>, ReadError>> {
        Box::pin(self.entry_read(key, at))
    }

    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>> {
        Box::pin(self.page_read(query))
    }

    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>> {
        Box::pin(self.watch_begin(prefix, from))
    }

    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>> {
        Box::pin(self.compact_to(up_to))
    }

    fn lease_grant(&self, ttl: Duration) -> Pending<'_, Result<LeaseId, LeaseError>> {
        Box::pin(async move {
            LeaseId::ttl_check(ttl)?;
            let seconds = ttl.as_millis().div_ceil(1000) as i64;
            // A grant whose answer is lost leaves a lease that nobody keeps alive.
            let granted = self.retried(|link: Arc<Link>| async move {
                let granted = link.lease.clone().grant(seconds, None).await;
                granted.map_err(|error| Fault::of(&error))
            });
            let granted = granted.await.map_err(|fault| lease_error(LeaseId(0), fault))?;
            self.revision_of(granted.header());
            Ok(LeaseId(granted.id() as u64))
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(async move {
            let kept = self.retried(|link: Arc<Link>| async move {
                let kept = link.lease.clone().keep_alive(id.0 as i64).await;
                kept.map(drop).map_err(|error| Fault::of(&error))
            });
            kept.await.map_err(|fault| lease_error(id, fault))
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>> {
        Box::pin(async move {
            let revoked = self.retried(|link: Arc<Link>| async move {
                let revoked = link.lease.clone().revoke(id.0 as i64).await;
                revoked.map_err(|error| Fault::of(&error))
            });
            let revoked = revoked.await.map_err(|fault| match fault {
                // The lease may be gone, and its keys with it.
                Fault::Unknown(why) => LeaseError::Failed(why),
                fault => lease_error(id, fault),
            })?;
            self.revision_of(revoked.header());
            Ok(())
        })
    }

    fn incarnation_raisable(&self) -> bool {
        true
    }

    fn incarnation_raise(&self, above: u64) -> Pending<'_, Result<u64, CommitError>> {
        Box::pin(async move { self.incarnation_raise_above(above).await.map_err(commit_error) })
    }
}

fn commit_error(fault: Fault) -> CommitError {
    match fault {
        Fault::NotSent(why) | Fault::Busy(why) | Fault::Refused(why) => CommitError::Unavailable(why),
        Fault::OutOfBounds(why) => CommitError::OutOfBounds(why),
        Fault::Full(why) => CommitError::Full(why),
        // The first is told apart where the commit is known.
        Fault::LeaseNotFound | Fault::Compacted | Fault::Future => CommitError::Failed(fault.said()),
        Fault::Unknown(why) | Fault::Gone(why) => CommitError::Failed(why),
    }
}

fn lease_error(id: LeaseId, fault: Fault) -> LeaseError {
    match fault {
        Fault::LeaseNotFound => LeaseError::Expired(id),
        // Of a grant or a renewal, which do no harm if they are tried once more.
        Fault::Unknown(why) => LeaseError::Unavailable(why),
        fault => commit_error(fault).into(),
    }
}

/// What a request of etcd's client is answered with.
fn fault(error: Error) -> Fault {
    Fault::of(&error)
}
