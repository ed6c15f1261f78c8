//! What a metadata store promises, whichever engine keeps it: conditional commits of several keys, each at one
//! revision of the whole store.

use base::generation::Generation;

/// A key: `shard/account/table/...`, ordered by bytes.
pub type Key = Vec<u8>;
/// A value: a record's encoded bytes.
pub type Value = Vec<u8>;

/// The store's revision: raised by one with every commit that changed something; 0 is the empty store. A commit
/// without effect (no operations, or only deletions of keys that are not there) is answered with the revision
/// before it.
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
    /// The key gets the value.
    Put(Key, Value),
    /// The key goes; no error if it was not there.
    Delete(Key),
}

/// A set of changes that happen together or not at all. At most [`Commit::OPS_MAX`] operations, no key twice,
/// at most [`Commit::BYTES_MAX`] bytes.
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
        let out = |what: String| Err(CommitError::OutOfBounds(what));
        if self.conditions.len() > Self::OPS_MAX || self.ops.len() > Self::OPS_MAX {
            return out(format!(
                "{} conditions and {} operations; at most {} each",
                self.conditions.len(),
                self.ops.len(),
                Self::OPS_MAX
            ));
        }
        let condition_keys = self.conditions.iter().map(Condition::key);
        for key in condition_keys.chain(self.ops.iter().map(Op::key)) {
            if key.is_empty() || key.len() > Self::KEY_BYTES_MAX {
                return out(format!("a key of {} bytes; 1 to {}", key.len(), Self::KEY_BYTES_MAX));
            }
        }
        if let Some(op) = self.ops.iter().find(|op| op.value_bytes() > Self::VALUE_BYTES_MAX) {
            return out(format!("a value of {} bytes; at most {}", op.value_bytes(), Self::VALUE_BYTES_MAX));
        }
        if self.bytes() > Self::BYTES_MAX {
            return out(format!("{} bytes; at most {}", self.bytes(), Self::BYTES_MAX));
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
            Op::Put(key, _) | Op::Delete(key) => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Op::Put(_, value) => value.len(),
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
    /// The engine cannot write any more (a full or failed disk). Whether this commit happened is known only
    /// after a restart: it was not acknowledged, and may or may not be there.
    #[error("the store has failed and must be restarted: {0}")]
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

/// The generation of what was committed at `revision` of a store of this `incarnation`.
pub fn generation(incarnation: u64, revision: Revision) -> Generation {
    Generation::new(incarnation, revision.0)
}
