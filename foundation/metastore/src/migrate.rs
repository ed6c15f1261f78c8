//! Moves a store to another engine: every user's key, as it is at one revision, into an empty store, which then has
//! a higher incarnation than the one that it replaces.
//!
//! ```text
//!   the mark [`UNFINISHED`] ─► copy ─► read back ─► source unchanged?      [`Migration::copy`]
//!   incarnation raised ─► the mark goes                                    [`Migration::finish`]
//! ```
//!
//! Called by `nephos store migrate`, while no control plane runs on either store: it copies all stores of a cloud, and
//! finishes them when every copy is there. What was attached to a lease cannot be told from other keys, so the caller
//! names what is to be left out: who leads, for instance.
//!
//! Invariant: until it is finished, the target holds the mark, which no control plane knows and with which none starts.
//! Invariant: every commit to the target is on condition of the mark that its own run has made. So a run that was cut
//! off is emptied and begun anew by the next, and what is still on its way from it is refused.
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

/// Who is told how far it is.
pub type Progress<'a> = &'a mut (dyn FnMut(Migrated) + Send);

/// Why a store was not moved. The source is as it was; a target that has been begun is begun anew by the next try.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The target holds something else. Nothing was done.
    #[error("the target is not empty: it has the key {0}")]
    NotEmpty(String),
    /// The target cannot have a higher incarnation. Nothing was done.
    /// An embedded target is made by [`embedded_target`].
    #[error("the target's incarnation is {to}, must be above {above}, and cannot be raised while it is open")]
    Incarnation {
        /// The highest that there was.
        above: u64,
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

/// One store's way to another engine.
#[derive(Clone, Copy)]
pub struct Migration<'a> {
    /// What is copied. Nobody may write to it meanwhile.
    pub from: &'a Store,
    /// Where to: empty, or left behind by a migration that was cut off, or the finished work of this very one.
    pub to: &'a Store,
    /// Keys that stay behind.
    pub left_out: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// The target's incarnation will be above this, and above the source's.
    pub incarnation_above: u64,
}

/// A target that holds everything, and still says that it is not finished.
#[derive(Debug)]
#[must_use = "it still has to be finished"]
pub struct Copied {
    done: Migrated,
    /// The run's mark; `None`: the target was found finished.
    mark: Option<Revision>,
}

impl Migration<'_> {
    /// Copies and finishes.
    pub async fn run(&self, progress: Progress<'_>) -> Result<Migrated, MigrateError> {
        let copied = self.copy(progress).await?;
        let done = self.finish(copied).await?;
        progress(done);
        Ok(done)
    }

    /// Copies, and reads back.
    pub async fn copy(&self, progress: Progress<'_>) -> Result<Copied, MigrateError> {
        let revision = self.from.revision().await.map_err(MigrateError::Source)?;
        let mut done = Migrated { revision, ..Migrated::default() };
        let mark = self.begin(&mut done, progress).await?;
        if let Some(mark) = mark {
            self.transfer(mark, &mut done, progress).await?;
            self.verify(&mut done, progress).await?;
            self.unchanged(done.revision).await?;
        }
        progress(done);
        Ok(Copied { done, mark })
    }

    /// Raises the incarnation, and takes the mark away. After it the target must be opened anew if its incarnation is
    /// not the handle's.
    pub async fn finish(&self, copied: Copied) -> Result<Migrated, MigrateError> {
        let Copied { mut done, mark } = copied;
        done.incarnation = self.to.incarnation();
        if let Some(mark) = mark {
            let above = self.above();
            if done.incarnation <= above {
                done.incarnation = self.to.incarnation_raise(above).await.map_err(MigrateError::Write)?;
            }
            let finished =
                Commit { conditions: vec![marked(mark)], ops: vec![Op::Delete(UNFINISHED.to_vec())] };
            self.to.commit(finished).await.map_err(MigrateError::Write)?;
        }
        Ok(done)
    }

    fn above(&self) -> u64 {
        self.incarnation_above.max(self.from.incarnation())
    }

    /// Makes the target empty but for the mark of this run. `None`: it is finished.
    async fn begin(
        &self,
        done: &mut Migrated,
        progress: Progress<'_>,
    ) -> Result<Option<Revision>, MigrateError> {
        let higher = self.to.incarnation() > self.above();
        let left = self.to.get(UNFINISHED).await.map_err(MigrateError::Target)?;
        let condition = match &left {
            Some(left) => marked(left.modified),
            None => {
                let found = self.to.range(&RangeQuery::prefix("").limit(1)).await;
                if let Some(entry) = found.map_err(MigrateError::Target)?.entries.first() {
                    let not_empty = MigrateError::NotEmpty(entry.key.escape_ascii().to_string());
                    return match self.verify(done, progress).await {
                        Ok(()) if higher => Ok(None),
                        Ok(()) | Err(MigrateError::Different(_)) => Err(not_empty),
                        Err(error) => Err(error),
                    };
                }
                Condition::Absent(UNFINISHED.to_vec())
            }
        };
        if !higher && !self.to.incarnation_raisable() {
            return Err(MigrateError::Incarnation { above: self.above(), to: self.to.incarnation() });
        }
        let why = b"this store is being filled by a migration".to_vec();
        let begun = Commit { conditions: vec![condition], ops: vec![Op::Put(UNFINISHED.to_vec(), why)] };
        let mark = self.to.commit(begun).await.map_err(MigrateError::Write)?;
        if left.is_some() {
            let mut present = Entries::new(self.to, None);
            let mut writer = Writer::new(self.to, mark);
            while let Some(entry) = present.next().await.map_err(MigrateError::Target)? {
                if entry.key != UNFINISHED {
                    writer.delete(entry.key).await?;
                }
            }
            writer.end().await?;
        }
        Ok(Some(mark))
    }

    async fn transfer(
        &self,
        mark: Revision,
        done: &mut Migrated,
        progress: Progress<'_>,
    ) -> Result<(), MigrateError> {
        let mut source = Entries::new(self.from, Some(done.revision));
        let mut writer = Writer::new(self.to, mark);
        while let Some(entry) = self.next_taken(&mut source).await? {
            done.entries += 1;
            done.bytes += (entry.key.len() + entry.value.len()) as u64;
            if writer.put(entry).await? {
                progress(*done);
            }
        }
        writer.end().await
    }

    async fn verify(&self, done: &mut Migrated, progress: Progress<'_>) -> Result<(), MigrateError> {
        let mut source = Entries::new(self.from, Some(done.revision));
        let mut target = Entries::new(self.to, None);
        let mut bytes = 0;
        loop {
            let expected = self.next_taken(&mut source).await?;
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
            let Some(entry) = expected else {
                (done.entries, done.bytes) = (done.verified, bytes);
                return Ok(());
            };
            bytes += (entry.key.len() + entry.value.len()) as u64;
            done.verified += 1;
            if done.verified.is_multiple_of(1024) {
                progress(*done);
            }
        }
    }

    /// Whether no key that is taken was changed after the revision. What is gone by now is found by those that were
    /// there. What is left out may go meanwhile: a leader's lease ends.
    async fn unchanged(&self, revision: Revision) -> Result<(), MigrateError> {
        let (mut then, mut now) = (Entries::new(self.from, Some(revision)), Entries::new(self.from, None));
        loop {
            let (before, after) = (self.next_taken(&mut then).await?, self.next_taken(&mut now).await?);
            if before != after {
                let next = Revision(revision.0 + 1);
                return Err(MigrateError::Changed(after.map_or(next, |entry| entry.modified.max(next))));
            }
            if before.is_none() {
                return Ok(());
            }
        }
    }

    /// The source's next entry that does not stay behind.
    async fn next_taken(&self, source: &mut Entries<'_>) -> Result<Option<Entry>, MigrateError> {
        loop {
            let entry = source.next().await.map_err(MigrateError::Source)?;
            if entry.as_ref().is_none_or(|entry| !(self.left_out)(&entry.key)) {
                return Ok(entry);
            }
        }
    }
}

/// Makes this directory, which must be empty or not there, an empty embedded store of the incarnation after `above`:
/// what an embedded target must be, because its incarnation does not change while it is open.
pub fn embedded_target(directory: &Path, above: u64, options: StoreOptions) -> Result<Store, RestoreError> {
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
    let incarnation_min = above.saturating_add(1);
    restore(&bytes[..], directory, RestoreOptions { replace: false, incarnation_min })?;
    Ok(Store::open_with(directory, options)?)
}

fn marked(mark: Revision) -> Condition {
    Condition::Unchanged(UNFINISHED.to_vec(), mark)
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

/// Fills commits of one account at most, within the contract's bounds, and keeps some of them on their way.
struct Writer<'a> {
    to: &'a Store,
    mark: Revision,
    batch: Batch,
    in_flight: VecDeque<Pending<'static, Result<Revision, CommitError>>>,
}

#[derive(Default)]
struct Batch {
    conditions: Vec<Condition>,
    ops: Vec<Op>,
    bytes: usize,
    owner: Option<Key>,
}

impl<'a> Writer<'a> {
    fn new(to: &'a Store, mark: Revision) -> Self {
        Writer { to, mark, batch: Batch::default(), in_flight: VecDeque::new() }
    }

    /// Whether a commit was sent for it.
    async fn put(&mut self, entry: Entry) -> Result<bool, MigrateError> {
        // The key is in the condition too.
        let bytes = 2 * entry.key.len() + entry.value.len();
        let sent = self.room(&entry.key, bytes).await?;
        self.batch.conditions.push(Condition::Absent(entry.key.clone()));
        self.batch.ops.push(Op::Put(entry.key, entry.value));
        Ok(sent)
    }

    async fn delete(&mut self, key: Key) -> Result<(), MigrateError> {
        self.room(&key, key.len()).await?;
        self.batch.ops.push(Op::Delete(key));
        Ok(())
    }

    /// Makes room in the batch for an operation on this key; whether a commit was sent for it.
    async fn room(&mut self, key: &[u8], bytes: usize) -> Result<bool, MigrateError> {
        let (owner, batch) = (owner(key), &self.batch);
        // One condition more is the mark.
        let fits = batch.ops.len() + 1 < Commit::OPS_MAX
            && batch.bytes + bytes + UNFINISHED.len() <= Commit::BYTES_MAX
            && (owner.is_none() || batch.owner.is_none() || owner == batch.owner);
        if !fits {
            self.send();
            self.wait(IN_FLIGHT).await?;
        }
        self.batch.bytes += bytes;
        self.batch.owner = owner.or(self.batch.owner.take());
        Ok(!fits)
    }

    fn send(&mut self) {
        let Batch { mut conditions, ops, .. } = std::mem::take(&mut self.batch);
        conditions.push(marked(self.mark));
        self.in_flight.push_back(Box::pin(self.to.commit(Commit { conditions, ops })));
    }

    /// Waits until no more than so many are on their way.
    async fn wait(&mut self, in_flight: usize) -> Result<(), MigrateError> {
        while self.in_flight.len() > in_flight {
            if let Some(commit) = self.in_flight.pop_front() {
                commit.await.map_err(MigrateError::Write)?;
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<(), MigrateError> {
        self.send();
        self.wait(0).await
    }
}

/// The account that the key is of, shard and all.
fn owner(key: &[u8]) -> Option<Key> {
    let own = shard::account_key(key).ok().flatten()?;
    Some(format!("{}/{}", own.shard.0, own.account).into_bytes())
}
