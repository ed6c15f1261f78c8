//! What a metadata store promises, whichever engine keeps it: conditional commits of several keys, each at one
//! revision of the whole store; reads at a revision; keys that go when their holder's lease ends.
//!
//! Invariant: the bounds are part of the contract. What breaks one is refused before anything is written.

use crate::shard;
use base::generation::Generation;
use std::fmt;
use std::time::Duration;

/// A key, ordered by bytes; [`shard`] says whose it is. Keys that begin with byte 0 are the engines' own: no commit
/// may name one, no read and no watch gives one.
pub type Key = Vec<u8>;
/// A value: a record's encoded bytes.
pub type Value = Vec<u8>;

/// The first key that is not the engines' own.
pub(crate) const USER_KEYS_BEGIN: &[u8] = &[1];

/// The store's revision: raised by every commit that changed something. Not always by one: the store's own commits
/// take some (which end leases, and in some engines grant them), and so do other stores that share an engine. 0 is the
/// store before its first commit, empty. A commit without effect (no operations, or only deletions of keys
/// that are not there) is answered with the revision before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What must hold for a commit to happen; checked atomically with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent(Key),
    /// The key exists, last changed at this revision.
    Unchanged(Key, Revision),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The key gets the value, and is attached to no lease any more.
    Put(Key, Value),
    /// The key gets the value, and goes when the lease ends; the commit is refused if it has ended. A lease has at
    /// most [`LeaseId::KEYS_MAX`] keys.
    PutLeased(Key, Value, LeaseId),
    /// The key goes; no error if it was not there.
    Delete(Key),
}

/// A set of changes that happen together or not at all. At most [`Commit::OPS_MAX`] operations, no key twice,
/// at most [`Commit::BYTES_MAX`] bytes, and of all accounts' keys only those of one account.
///
/// Commits in flight at once have no order among each other but what their conditions make: a later one can be durable,
/// and answered, before an earlier one, or without it. Whoever needs an order waits for the answer, or makes the later
/// conditional on what the earlier leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// All happen.
    pub ops: Vec<Op>,
}

impl Commit {
    /// Conditions and operations each.
    pub const OPS_MAX: usize = 128;
    /// Keys and values of one commit together.
    pub const BYTES_MAX: usize = 1 << 20;
    /// One key.
    pub const KEY_BYTES_MAX: usize = 1024;
    /// One value.
    pub const VALUE_BYTES_MAX: usize = 512 * 1024;

    /// Keys (of conditions too) and values together.
    pub fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|condition| condition.key().len()).sum::<usize>();
        conditions + self.ops.iter().map(|op| op.key().len() + op.value_bytes()).sum::<usize>()
    }

    /// Whether the commit keeps the contract's bounds, which every engine asks before anything else.
    pub fn check(&self) -> Result<(), CommitError> {
        self.check_within(0)
    }

    /// [`Commit::check`] for an engine that keeps callers apart by a prefix of at most so many bytes before each of
    /// their keys: what a caller may commit must not depend on it.
    pub(crate) fn check_within(&self, prefix_bytes: usize) -> Result<(), CommitError> {
        let out = |what: String| Err(CommitError::OutOfBounds(what));
        if self.conditions.len() > Self::OPS_MAX || self.ops.len() > Self::OPS_MAX {
            return out(format!(
                "{} conditions and {} operations; at most {} each",
                self.conditions.len(),
                self.ops.len(),
                Self::OPS_MAX
            ));
        }
        self.keys_check(Self::KEY_BYTES_MAX + prefix_bytes)?;
        if let Some(op) = self.ops.iter().find(|op| op.value_bytes() > Self::VALUE_BYTES_MAX) {
            return out(format!("a value of {} bytes; at most {}", op.value_bytes(), Self::VALUE_BYTES_MAX));
        }
        let bytes_max = Self::BYTES_MAX + prefix_bytes * (self.conditions.len() + self.ops.len());
        if self.bytes() > bytes_max {
            return out(format!("{} bytes; at most {bytes_max}", self.bytes()));
        }
        if self.ops.len() > 1 {
            let mut keys: Vec<&[u8]> = self.ops.iter().map(Op::key).collect();
            keys.sort_unstable();
            if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
                return out(format!("key {} twice", pair[0].escape_ascii()));
            }
        }
        Ok(())
    }

    fn keys_check(&self, key_bytes_max: usize) -> Result<(), CommitError> {
        let out = |what: String| Err(CommitError::OutOfBounds(what));
        let mut owner = None;
        let condition_keys = self.conditions.iter().map(Condition::key);
        for key in condition_keys.chain(self.ops.iter().map(Op::key)) {
            if key.is_empty() || key.len() > key_bytes_max {
                return out(format!("a key of {} bytes; 1 to {key_bytes_max}", key.len()));
            }
            if key < USER_KEYS_BEGIN {
                return out(format!("key {} is reserved: it begins with byte 0", key.escape_ascii()));
            }
            match shard::account_key(key) {
                Err(malformed) => return out(format!("key {}: {malformed}", key.escape_ascii())),
                Ok(None) => {}
                Ok(Some(own)) => {
                    let (shard, account) = *owner.get_or_insert((own.shard, own.account));
                    if (shard, account) != (own.shard, own.account) {
                        let (one, other) = (shard.0, own.shard.0);
                        let both = format!("{account} of shard {one} and {} of shard {other}", own.account);
                        return out(format!("it touches accounts {both}; one at most"));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Condition {
    /// The key that it is about.
    pub fn key(&self) -> &[u8] {
        match self {
            Condition::Absent(key) | Condition::Unchanged(key, _) => key,
        }
    }
}

impl Op {
    /// The key that it changes.
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put(key, _) | Op::PutLeased(key, _, _) | Op::Delete(key) => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Op::Put(_, value) | Op::PutLeased(_, value, _) => value.len(),
            Op::Delete(_) => 0,
        }
    }
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold: somebody else was first. Nothing was changed.
    #[error("the condition on key {key:?} does not hold")]
    Conflict {
        /// The first key whose condition failed, for people.
        key: String,
    },
    /// The commit breaks a bound of the contract. Nothing was changed.
    #[error("the commit is out of bounds: {0}")]
    OutOfBounds(String),
    /// An operation attaches a key to a lease that has ended, or never was. Nothing was changed.
    #[error("lease {0} has ended")]
    LeaseExpired(LeaseId),
    /// The store's state has reached its bound: deletions are taken and, for a while, changes of what is there and
    /// leases; nothing else. Nothing was changed.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store could not be reached, or refused the commit without looking at it. For certain nothing was changed:
    /// trying again is safe. Never said by the embedded engine.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The outcome is unknown: the engine cannot write any more (a full or failed disk), or the answer was lost.
    /// The commit may or may not be there, which is known only when the state is read anew.
    #[error("the store has failed and must be read anew: {0}")]
    Failed(String),
}

/// A key's present (or, at a past revision, former) value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// The commit that made this value.
    pub modified: Revision,
}

/// Why a read was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision is older than the history that is kept: read anew at the present.
    #[error("the revision is compacted: the oldest that can be read is {}", oldest.0)]
    Compacted {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// The revision does not exist yet in this store; it comes from another store or another incarnation.
    #[error("the revision does not exist: the newest is {}", newest.0)]
    Future {
        /// The newest revision.
        newest: Revision,
    },
    /// The store could not be reached, or not in time; it may be later. Never said by the embedded engine.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The engine has failed or is closed.
    #[error("the store has failed and must be restarted: {0}")]
    Failed(String),
}

/// Which keys to read, and which page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The first key, inclusive.
    pub start: Key,
    /// The key before which to end; `None`: no end.
    pub end: Option<Key>,
    /// The revision to read at; `None`: the present one. Give the first page's revision for the pages after it.
    pub at: Option<Revision>,
    /// The cursor: only keys after this one ([`Page::next`] of the page before).
    pub after: Option<Key>,
    /// Entries in the page, at most; taken as between 1 and [`RangeQuery::LIMIT_MAX`].
    pub limit: usize,
}

impl RangeQuery {
    /// No page has more entries.
    pub const LIMIT_MAX: usize = 10_000;
    /// A page ends after the entry with which its keys and values reach this.
    pub const PAGE_BYTES_MAX: usize = 8 << 20;

    /// All keys from `start` to before `end`.
    pub fn between(start: impl Into<Key>, end: Option<Key>) -> Self {
        RangeQuery { start: start.into(), end, at: None, after: None, limit: Self::LIMIT_MAX }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start: Key = prefix.into();
        let mut end = start.clone();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = end.pop().map(|last| {
            end.push(last + 1);
            end
        });
        Self::between(start, end)
    }

    /// At a past revision.
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    /// After the cursor.
    pub fn after(mut self, cursor: Option<Key>) -> Self {
        self.after = cursor;
        self
    }

    /// With at most so many entries.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// One page of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// The revision that was read.
    pub revision: Revision,
    /// The cursor of the next page; `None`: this was the last.
    pub next: Option<Key>,
}

/// A lease: keys attached to it go when it ends, because its holder said so or was not heard of for the time to
/// live. Never used twice in a store's life, whatever is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// Keys attached to one lease, so that its end is one commit. etcd does not count them, and ends any number at once.
    pub const KEYS_MAX: usize = Commit::OPS_MAX - 1;
    /// The shortest time to live.
    pub const TTL_MIN: Duration = Duration::from_secs(1);
    /// The longest time to live.
    pub const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

    /// Whether a lease may live for so long, which every engine asks first.
    pub fn ttl_check(ttl: Duration) -> Result<(), CommitError> {
        match (Self::TTL_MIN..=Self::TTL_MAX).contains(&ttl) {
            true => Ok(()),
            false => Err(CommitError::OutOfBounds(format!(
                "a lease's time to live of {} ms; {} to {}",
                ttl.as_millis(),
                Self::TTL_MIN.as_millis(),
                Self::TTL_MAX.as_millis()
            ))),
        }
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a lease was not granted, kept alive or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease has ended (or never was), and its keys are gone. Final.
    #[error("lease {0} has ended")]
    Expired(LeaseId),
    /// The request breaks a bound of the contract.
    #[error("the lease is out of bounds: {0}")]
    OutOfBounds(String),
    /// See [`CommitError::Full`].
    #[error("the store is full: {0}")]
    Full(String),
    /// The store could not be reached. The lease goes on as it was, and may end meanwhile.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// The outcome is unknown, as with [`CommitError::Failed`].
    #[error("the store has failed and must be read anew: {0}")]
    Failed(String),
}

impl From<CommitError> for LeaseError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::LeaseExpired(id) => LeaseError::Expired(id),
            CommitError::OutOfBounds(why) => LeaseError::OutOfBounds(why),
            CommitError::Full(why) => LeaseError::Full(why),
            CommitError::Unavailable(why) => LeaseError::Unavailable(why),
            CommitError::Failed(why) => LeaseError::Failed(why),
            // A lease's own commits have no conditions.
            CommitError::Conflict { .. } => LeaseError::Failed(error.to_string()),
        }
    }
}

/// The generation of what was committed at `revision` of a store of this `incarnation`.
pub fn generation(incarnation: u64, revision: Revision) -> Generation {
    Generation::new(incarnation, revision.0)
}
