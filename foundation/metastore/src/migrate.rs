//! Moves a store to another engine: every user's key, as it is at one revision, into an empty store, which then has
//! a higher incarnation than the one that it replaces.
//!
//! Called by `nephos store migrate`, while no control plane runs on either store. What was attached to a lease cannot
//! be told from other keys, so the caller names what is to be left out: who leads, for instance.
//!
//! Invariant: until everything was copied and read back, the target holds [`UNFINISHED`], which no control plane
//! knows and with which none starts.
//! Invariant: memory holds a page of each store, however large they are.

use crate::{
    Commit, CommitError, Condition, Entry, Key, Op, Pending, RangeQuery, ReadError, RestoreError,
    RestoreOptions, Revision, Store, StoreOptions, restore, shard,
};
use base::disk::memory::MemoryDisk;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// The key that a target holds while it is not whole.
pub const UNFINISHED: &[u8] = b"migration/unfinished";
/// Commits on their way to the target.
const IN_FLIGHT: usize = 16;

/// How far a migration has come; in the end, what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Entries that the target has.
    pub entries: u64,
    /// Their keys and values.
    pub bytes: u64,
    /// Entries that were read back and compared.
    pub verified: u64,
    /// The source's revision that is copied.
    pub revision: Revision,
    /// The target's incarnation; 0 until it is done.
    pub incarnation: u64,
}

/// Why a store was not moved. The source is as it was; a target that has been begun must be emptied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The target holds something. Nothing was done.
    #[error("the target is not empty: it has the key {0}")]
    NotEmpty(String),
    /// The target cannot have an incarnation above the source's. Nothing was done.
    /// An embedded target is made by [`embedded_target`].
    #[error("the target's incarnation is {to}, must be above {from}, and cannot be raised while it is open")]
    Incarnation {
        /// The source's.
        from: u64,
        /// The target's.
        to: u64,
    },
    /// The source changed meanwhile: somebody still works with it.
    #[error("the source was changed meanwhile, at revision {}: stop its control plane first", .0.0)]
    Changed(Revision),
    /// The source could not be read.
    #[error("the source cannot be read")]
    Source(#[source] ReadError),
    /// The target could not be read.
    #[error("the target cannot be read")]
    Target(#[source] ReadError),
    /// The target did not take a commit, or somebody else writes to it.
    #[error("the target cannot be written")]
    Write(#[source] CommitError),
    /// What was read back is not what was copied.
    #[error("the target does not hold what was copied, from key {0} on")]
    Different(String),
}

/// Copies, reads back, raises the incarnation. Keys for which `left_out` is true stay behind. After it the target
/// must be opened anew if its incarnation is not the handle's.
pub async fn migrate(
    from: &Store,
    to: &Store,
    left_out: &(dyn Fn(&[u8]) -> bool + Sync),
    progress: &mut (dyn FnMut(Migrated) + Send),
) -> Result<Migrated, MigrateError> {
    let present = to.range(&RangeQuery::prefix("").limit(1)).await.map_err(MigrateError::Target)?;
    if let Some(entry) = present.entries.first() {
        return Err(MigrateError::NotEmpty(entry.key.escape_ascii().to_string()));
    }
    let raise = to.incarnation() <= from.incarnation();
    if raise && !to.incarnation_raisable() {
        return Err(MigrateError::Incarnation { from: from.incarnation(), to: to.incarnation() });
    }
    let begun = Commit {
        conditions: vec![Condition::Absent(UNFINISHED.to_vec())],
        ops: vec![Op::Put(UNFINISHED.to_vec(), b"this store is being filled by a migration".to_vec())],
    };
    let begun = to.commit(begun).await.map_err(MigrateError::Write)?;
    let mut done =
        Migrated { revision: from.revision().await.map_err(MigrateError::Source)?, ..Migrated::default() };
    copy(from, to, left_out, &mut done, progress).await?;
    verify(from, to, left_out, &mut done, progress).await?;
    unchanged(from, done.revision).await?;
    let finished = Commit {
        conditions: vec![Condition::Unchanged(UNFINISHED.to_vec(), begun)],
        ops: vec![Op::Delete(UNFINISHED.to_vec())],
    };
    done.incarnation = to.incarnation();
    if raise {
        done.incarnation = to.incarnation_raise(from.incarnation()).await.map_err(MigrateError::Write)?;
    }
    to.commit(finished).await.map_err(MigrateError::Write)?;
    progress(done);
    Ok(done)
}

/// Makes this directory, which must be empty or not there, an empty embedded store of an incarnation above `above`:
/// what an embedded target must be, because its incarnation does not change while it is open.
pub fn embedded_target(directory: &Path, above: u64) -> Result<Store, RestoreError> {
    let unmade = |error: crate::BackupError| RestoreError::Io {
        what: "make an empty store".to_owned(),
        source: io::Error::other(error),
    };
    let empty = Store::over(MemoryDisk::new().mount(), StoreOptions::default())?;
    let mut backup = empty.backup().map_err(unmade)?;
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next_piece().map_err(unmade)? {
        bytes.extend(piece);
    }
    let options = RestoreOptions { replace: false, incarnation_min: above + 1 };
    restore(&bytes[..], directory, options)?;
    Ok(Store::open(directory)?)
}

async fn copy(
    from: &Store,
    to: &Store,
    left_out: &(dyn Fn(&[u8]) -> bool + Sync),
    done: &mut Migrated,
    progress: &mut (dyn FnMut(Migrated) + Send),
) -> Result<(), MigrateError> {
    let mut source = Entries::new(from, Some(done.revision));
    let mut commits: VecDeque<Pending<'static, Result<Revision, CommitError>>> = VecDeque::new();
    let mut batch = Batch::default();
    loop {
        let entry = source.next().await.map_err(MigrateError::Source)?;
        let last = entry.is_none();
        if let Some(entry) = entry.filter(|entry| !left_out(&entry.key)) {
            done.entries += 1;
            done.bytes += (entry.key.len() + entry.value.len()) as u64;
            if !batch.fits(&entry) {
                commits.push_back(Box::pin(to.commit(std::mem::take(&mut batch).commit)));
            }
            batch.add(entry);
        }
        if last && !batch.commit.ops.is_empty() {
            commits.push_back(Box::pin(to.commit(std::mem::take(&mut batch).commit)));
        }
        while commits.len() > if last { 0 } else { IN_FLIGHT } {
            if let Some(commit) = commits.pop_front() {
                commit.await.map_err(MigrateError::Write)?;
                progress(*done);
            }
        }
        if last {
            return Ok(());
        }
    }
}

async fn verify(
    from: &Store,
    to: &Store,
    left_out: &(dyn Fn(&[u8]) -> bool + Sync),
    done: &mut Migrated,
    progress: &mut (dyn FnMut(Migrated) + Send),
) -> Result<(), MigrateError> {
    let mut source = Entries::new(from, Some(done.revision));
    let mut target = Entries::new(to, None);
    loop {
        let expected = loop {
            let entry = source.next().await.map_err(MigrateError::Source)?;
            if entry.as_ref().is_none_or(|entry| !left_out(&entry.key)) {
                break entry;
            }
        };
        let got = loop {
            let entry = target.next().await.map_err(MigrateError::Target)?;
            if entry.as_ref().is_none_or(|entry| entry.key != UNFINISHED) {
                break entry;
            }
        };
        let pair =
            |entry: &Option<Entry>| entry.as_ref().map(|entry| (entry.key.clone(), entry.value.clone()));
        if pair(&expected) != pair(&got) {
            let first = expected.into_iter().chain(got).map(|entry| entry.key).min().unwrap_or_default();
            return Err(MigrateError::Different(first.escape_ascii().to_string()));
        }
        if expected.is_none() {
            return Ok(());
        }
        done.verified += 1;
        if done.verified.is_multiple_of(1024) {
            progress(*done);
        }
    }
}

/// Whether no user's key was changed after the revision. What is gone by now is found by those that were there.
async fn unchanged(from: &Store, revision: Revision) -> Result<(), MigrateError> {
    let (mut then, mut now) = (Entries::new(from, Some(revision)), Entries::new(from, None));
    loop {
        let before = then.next().await.map_err(MigrateError::Source)?;
        let after = now.next().await.map_err(MigrateError::Source)?;
        if before != after {
            let changed =
                after.map_or(Revision(revision.0 + 1), |entry| entry.modified.max(Revision(revision.0 + 1)));
            return Err(MigrateError::Changed(changed));
        }
        if before.is_none() {
            return Ok(());
        }
    }
}

/// All entries of a store, one after the other, a page in memory.
struct Entries<'a> {
    store: &'a Store,
    query: RangeQuery,
    page: std::vec::IntoIter<Entry>,
    more: bool,
}

impl<'a> Entries<'a> {
    fn new(store: &'a Store, at: Option<Revision>) -> Self {
        let query = RangeQuery { at, ..RangeQuery::prefix("") };
        Entries { store, query, page: Vec::new().into_iter(), more: true }
    }

    async fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if let Some(entry) = self.page.next() {
                return Ok(Some(entry));
            }
            if !self.more {
                return Ok(None);
            }
            let page = self.store.range(&self.query).await?;
            self.query.at = Some(page.revision);
            self.more = page.next.is_some();
            self.query.after = page.next;
            self.page = page.entries.into_iter();
        }
    }
}

/// A commit that is being filled: of one account at most, within the contract's bounds.
#[derive(Default)]
struct Batch {
    commit: Commit,
    bytes: usize,
    owner: Option<Key>,
}

impl Batch {
    fn fits(&self, entry: &Entry) -> bool {
        let owner = owner(&entry.key);
        self.commit.ops.len() < Commit::OPS_MAX
            && self.bytes + entry_bytes(entry) <= Commit::BYTES_MAX
            && (owner.is_none() || self.owner.is_none() || owner == self.owner)
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        self.owner = owner(&entry.key).or(self.owner.take());
        self.commit.conditions.push(Condition::Absent(entry.key.clone()));
        self.commit.ops.push(Op::Put(entry.key, entry.value));
    }
}

/// As a commit counts it: the key is in the condition too.
fn entry_bytes(entry: &Entry) -> usize {
    2 * entry.key.len() + entry.value.len()
}

/// The account that the key is of, shard and all.
fn owner(key: &[u8]) -> Option<Key> {
    let own = shard::account_key(key).ok().flatten()?;
    Some(format!("{}/{}", own.shard.0, own.account).into_bytes())
}
