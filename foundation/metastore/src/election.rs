//! Who leads: of several processes that share a store exactly one acts, and the store refuses what the others write.
//!
//! ```text
//!   standing by ──► a lease ──► one commit: leader key absent, term unchanged ──► leading ──► lost
//!        ▲   the leader key is there: wait until it goes      │ somebody else           (the process leaves)
//!        └────────────────────────────────────────────────────┘ was first
//! ```
//!
//! The leader key hangs on the leader's lease, which says only *when* somebody else may try. What keeps two leaders
//! apart is the **term**: each leadership raises it, and every commit of a leader is on condition that its term is
//! unchanged ([`Leadership::fence`]). So a leader that was asleep and does not know yet is refused by the store; its
//! messages carry the term, and hosts and cells refuse a lower one than the highest that they have seen.
//!
//! Invariant: a leader that could not renew its lease resigns, by its own steady clock, before the lease can have
//! ended: it counts from before each renewal was sent, and leaves [`Election::margin`] out.
//! Deliberately absent: who is best. The first is.

use crate::contract::{
    Commit, CommitError, Condition, Key, LeaseError, LeaseId, Op, Page, RangeQuery, ReadError, Revision,
};
use crate::migrate::{self, MOVED};
use crate::store::Store;
use base::generation::Term;
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The least time between two tries to renew a lease.
const RENEW_AGAIN: Duration = Duration::from_millis(100);
/// How often one that stands by asks whether the store is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the store has to answer a candidate.
const ANSWER_WAIT: Duration = Duration::from_millis(1500);
/// How long a leader that leaves takes to say so.
const RESIGN_WAIT: Duration = Duration::from_secs(1);
/// A leader's lease in a region: with renewals, its successor's recovery and a margin for a busy machine, a leader
/// that dies has a successor within five seconds.
pub const TTL: Duration = Duration::from_secs(3);

/// What is to be led, and by whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// Exists while somebody leads.
    pub leader_key: Key,
    /// Holds the highest term that there was, and whose store this is.
    pub term_key: Key,
    /// Whose store this is: the role and instance that all candidates share.
    pub owner: String,
    /// Which candidate this is, for people.
    pub who: String,
    /// How long a leader that is not heard of leads on.
    pub ttl: Duration,
}

/// Why there is no leadership.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The store is another role's or instance's.
    #[error("the store is that of {owner}")]
    Foreign {
        /// Whose.
        owner: String,
    },
    /// There is no term, but something else.
    #[error("the store holds {key} and no term: it is something else's")]
    Unowned {
        /// The first key.
        key: String,
    },
    /// A migration fills the store, or was cut off.
    #[error(
        "the store is not whole: a migration fills it, or was cut off. Do that again, or start with the store that there \
         was before"
    )]
    Unfinished,
    /// Everything was moved from the store.
    #[error("the store is a former one: everything was moved from it to {to}. Start with that one")]
    Moved {
        /// Where to, for people.
        to: String,
    },
    /// The stored term is none.
    #[error("the stored term cannot be read")]
    Unreadable,
    /// The store cannot be reached; it may be later.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The store has failed, or an outcome is unknown.
    #[error("{0}")]
    Failed(String),
}

impl From<ReadError> for ElectionError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(why) => ElectionError::Unavailable(why),
            error => ElectionError::Failed(error.to_string()),
        }
    }
}

impl From<CommitError> for ElectionError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(why) => ElectionError::Unavailable(why),
            error => ElectionError::Failed(error.to_string()),
        }
    }
}

impl From<LeaseError> for ElectionError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Unavailable(why) => ElectionError::Unavailable(why),
            error => ElectionError::Failed(error.to_string()),
        }
    }
}

/// How a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The store cannot be reached, for this reason.
    Cut(String),
    /// Somebody else leads.
    StandsBy {
        /// Who.
        leader: String,
    },
    /// It leads, in this term.
    Leads(Term),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Cut(why) => write!(f, "waits for the store: {why}"),
            Standing::StandsBy { leader } => write!(f, "stands by for {leader}"),
            Standing::Leads(term) => write!(f, "leads in term {term}"),
        }
    }
}

/// The stored term: eight bytes, most significant first, then the owner.
struct TermRecord {
    next: Term,
    condition: Condition,
}

impl Election {
    /// How long before its lease can end a leader resigns.
    pub fn margin(&self) -> Duration {
        self.ttl / 4
    }

    /// Leads without asking: for a store that nobody else can open. Raises the term, so that whoever had opened it
    /// before is refused.
    pub async fn lead_alone(&self, store: &Store) -> Result<Leadership, ElectionError> {
        let term = self.term(store).await?;
        let revision = store.commit(self.commit(&term, None)).await?;
        let (lost_in, lost) = watch::channel(None);
        Ok(Leadership { term: term.next, fence: self.fence(revision), lost, keeper: None, _lost: lost_in })
    }

    /// Waits until nobody leads, and leads. Says through `standing` whom it waits for. Ends with `Unavailable` as
    /// soon as the store cannot be reached: nothing is held then, and it can be called again.
    pub async fn campaign(
        &self,
        store: &Store,
        mut standing: impl FnMut(Standing),
    ) -> Result<Leadership, ElectionError> {
        loop {
            self.leader_wait(store, &mut standing).await?;
            let began = Instant::now();
            let lease = store.lease_grant(self.ttl).await?;
            match self.elect(store, lease).await {
                Ok(Some((term, revision))) => {
                    let (lost_in, lost) = watch::channel(None);
                    let keeper = Keeper { store: store.clone(), lease, ttl: self.ttl, margin: self.margin() };
                    let task = tokio::spawn(keeper.run(began, lost_in.clone()));
                    let keeper = Some((task, store.clone(), lease));
                    return Ok(Leadership {
                        term,
                        fence: self.fence(revision),
                        lost,
                        keeper,
                        _lost: lost_in,
                    });
                }
                // Somebody else was first, or nobody will know; in either case the lease is of no use.
                Ok(None) => drop(store.lease_revoke(lease).await),
                Err(error) => {
                    drop(store.lease_revoke(lease).await);
                    return Err(error);
                }
            }
        }
    }

    /// Returns when the leader key is not there.
    async fn leader_wait(
        &self,
        store: &Store,
        standing: &mut impl FnMut(Standing),
    ) -> Result<(), ElectionError> {
        let end = [self.leader_key.as_slice(), &[0]].concat();
        let query = RangeQuery::between(self.leader_key.clone(), Some(end)).limit(1);
        loop {
            let page = asked(store, &query).await?;
            let Some(leader) = page.entries.first() else { return Ok(()) };
            standing(Standing::StandsBy { leader: String::from_utf8_lossy(&leader.value).into_owned() });
            let mut changes = store.watch(&self.leader_key, page.revision).await?;
            let gone = |change: &crate::Change| change.key == self.leader_key && change.value.is_none();
            loop {
                match tokio::time::timeout(LOOK_EVERY, changes.next()).await {
                    Ok(Ok(commit)) if !commit.changes.iter().any(gone) => {}
                    // However the watch ends, the store is asked again.
                    Ok(_) => break,
                    // A watch may wait for a store that is gone, and a candidate must know that it is.
                    // Nor is a watch that says nothing believed for ever.
                    Err(_) if asked(store, &query).await?.entries.is_empty() => return Ok(()),
                    Err(_) => {}
                }
            }
        }
    }

    /// One try; `None`: somebody else was first.
    async fn elect(&self, store: &Store, lease: LeaseId) -> Result<Option<(Term, Revision)>, ElectionError> {
        let term = self.term(store).await?;
        match store.commit(self.commit(&term, Some(lease))).await {
            Ok(revision) => Ok(Some((term.next, revision))),
            Err(CommitError::Conflict { .. } | CommitError::LeaseExpired(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn term(&self, store: &Store) -> Result<TermRecord, ElectionError> {
        let migrations = store.range(&RangeQuery::prefix(migrate::PREFIX).limit(1)).await?;
        match migrations.entries.into_iter().next() {
            Some(moved) if moved.key == MOVED => {
                return Err(ElectionError::Moved { to: String::from_utf8_lossy(&moved.value).into_owned() });
            }
            Some(_) => return Err(ElectionError::Unfinished),
            None => {}
        }
        let Some(entry) = store.get(&self.term_key).await? else {
            // The first commit of all makes the term.
            let found = store.range(&RangeQuery::prefix("").limit(1)).await?;
            return match found
                .entries
                .first()
                .filter(|entry| ![&self.term_key, &self.leader_key].contains(&&entry.key))
            {
                Some(entry) => Err(ElectionError::Unowned { key: entry.key.escape_ascii().to_string() }),
                None => Ok(TermRecord {
                    next: Term(0).next(store.incarnation()),
                    condition: Condition::Absent(self.term_key.clone()),
                }),
            };
        };
        let (number, owner) = entry.value.split_first_chunk().ok_or(ElectionError::Unreadable)?;
        if owner != self.owner.as_bytes() {
            return Err(ElectionError::Foreign { owner: String::from_utf8_lossy(owner).into_owned() });
        }
        let condition = Condition::Unchanged(self.term_key.clone(), entry.modified);
        Ok(TermRecord { next: Term(u64::from_be_bytes(*number)).next(store.incarnation()), condition })
    }

    fn commit(&self, term: &TermRecord, lease: Option<LeaseId>) -> Commit {
        let value = [&term.next.0.to_be_bytes(), self.owner.as_bytes()].concat();
        let mut commit = Commit {
            conditions: vec![term.condition.clone()],
            ops: vec![Op::Put(self.term_key.clone(), value)],
        };
        if let Some(lease) = lease {
            commit.conditions.push(Condition::Absent(self.leader_key.clone()));
            commit.ops.push(Op::PutLeased(self.leader_key.clone(), self.who.clone().into_bytes(), lease));
        }
        commit
    }

    fn fence(&self, revision: Revision) -> Condition {
        Condition::Unchanged(self.term_key.clone(), revision)
    }
}

/// Reads, without an engine's patience: while the store is gone, a candidate has something to do.
async fn asked(store: &Store, query: &RangeQuery) -> Result<Page, ElectionError> {
    match tokio::time::timeout(ANSWER_WAIT, store.range(query)).await {
        Ok(page) => Ok(page?),
        Err(_) => Err(ElectionError::Unavailable("it does not answer".to_owned())),
    }
}

/// The right to act, until it is lost. Dropping it does not give it back: [`Leadership::resign`] does.
#[derive(Debug)]
pub struct Leadership {
    term: Term,
    fence: Condition,
    /// Why it was lost.
    lost: watch::Receiver<Option<String>>,
    keeper: Option<(JoinHandle<()>, Store, LeaseId)>,
    /// Held, so that one that leads alone never hears that it is lost.
    _lost: watch::Sender<Option<String>>,
}

impl Leadership {
    /// Higher than every leader's before.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Goes into every commit: it holds as long as nobody else leads.
    pub fn fence(&self) -> Condition {
        self.fence.clone()
    }

    /// Returns when the leadership is lost, with the reason; never, for one that leads alone. Cancel-safe.
    pub async fn lost(&mut self) -> String {
        let why = self.lost.wait_for(Option::is_some).await.map(|why| why.clone().unwrap_or_default());
        match why {
            Ok(why) => why,
            // The sender is our own.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the leadership back, so that a successor need not wait for the lease's end.
    pub async fn resign(mut self) {
        if let Some((task, store, lease)) = self.keeper.take() {
            task.abort();
            let _ = tokio::time::timeout(RESIGN_WAIT, store.lease_revoke(lease)).await;
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        if let Some((task, _, _)) = &self.keeper {
            task.abort();
        }
    }
}

/// Keeps a leader's lease alive.
struct Keeper {
    store: Store,
    lease: LeaseId,
    ttl: Duration,
    margin: Duration,
}

impl Keeper {
    /// Runs until the lease is lost, or may be soon. `renewed` is from before the lease was granted.
    async fn run(self, mut renewed: Instant, lost: watch::Sender<Option<String>>) {
        let every = self.ttl / 4;
        let mut last_error = None;
        loop {
            let deadline = renewed + (self.ttl - self.margin);
            // The first renewal is due some time after the last; a failed one is tried again soon.
            let next = if last_error.is_none() { renewed + every } else { Instant::now() + RENEW_AGAIN };
            tokio::time::sleep_until(next.min(deadline)).await;
            let asked = Instant::now();
            // One that is lost on its way must not take up all the time that is left.
            let until = deadline.min(asked + every);
            let answer = tokio::time::timeout_at(until, self.store.lease_keep_alive(self.lease)).await;
            let why = match answer {
                Ok(Ok(())) if asked < deadline => {
                    renewed = asked;
                    last_error = None;
                    continue;
                }
                Ok(Err(LeaseError::Expired(_))) => "its lease has ended".to_owned(),
                Ok(Err(error)) if Instant::now() < deadline => {
                    last_error = Some(error.to_string());
                    continue;
                }
                Err(_) if Instant::now() < deadline => {
                    last_error = Some("the store does not answer".to_owned());
                    continue;
                }
                Ok(Err(error)) => unrenewed(&error.to_string()),
                Ok(Ok(())) => unrenewed("this process was held up"),
                Err(_) => unrenewed(last_error.as_deref().unwrap_or("the store does not answer")),
            };
            lost.send_replace(Some(why));
            return;
        }
    }
}

fn unrenewed(why: &str) -> String {
    format!("its lease could not be renewed in time ({why})")
}
