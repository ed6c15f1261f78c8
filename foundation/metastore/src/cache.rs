//! The cached read model (what Kubernetes calls an informer): a table in memory with indexes derived from it, served
//! at a known revision, fed by a watch, and read anew when the watch ends.
//!
//! ```text
//!   scan ──rows, revision──► load ──┐                     ┌──► readers, at `revision`
//!   watch ───whole commits──► apply ┴─► rows and indexes ─┤
//!     └─ Lagged, Interrupted ──► scan again               └──► what changed, to one consumer, in order
//! ```
//!
//! Invariant: rows and indexes are always those of one revision; a reader never sees half a commit.
//! Invariant: a consumer sees the difference, whichever way it came: what happened between two scans is given as the
//! changes that lead from one to the other, so nobody has to notice that a watch was lost.
//! Deliberately absent: storing an index. It is recomputed at every start, and cannot disagree with its table.

use crate::contract::{ReadError, Revision};
use crate::store::Store;
use crate::table::{Record, Row, Table, TableCommit, TableError, TableEvent, TableReadError, TableWatchEnd};
use crate::watch::WatchEnd;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The first wait before the table is read anew; it doubles until a watch has given something.
const AGAIN_MIN: Duration = Duration::from_millis(100);
/// The longest such wait.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// What is derived from a table's rows, one change at a time. `()` is no index.
pub trait Index<R: Record>: Default + Send + Sync + 'static {
    /// A row came (`before` is `None`), went (`after` is `None`) or was replaced.
    fn change(&mut self, before: Option<&Row<R>>, after: Option<&Row<R>>);
}

impl<R: Record> Index<R> for () {
    fn change(&mut self, _: Option<&Row<R>>, _: Option<&Row<R>>) {}
}

/// Ids by a value of their rows: what most indexes are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups<K, Id>(BTreeMap<K, BTreeSet<Id>>);

impl<K, Id> Default for Groups<K, Id> {
    fn default() -> Self {
        Groups(BTreeMap::new())
    }
}

impl<K: Ord, Id: Ord> Groups<K, Id> {
    /// Moves an id from one value to another; `None`: it is in no group.
    pub fn change(&mut self, id: Id, before: Option<K>, after: Option<K>) {
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(ids) = self.0.get_mut(&before)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(&before);
            }
        }
        if let Some(after) = after {
            self.0.entry(after).or_default().insert(id);
        }
    }

    /// The ids of a value, ascending.
    pub fn get(&self, value: &K) -> impl Iterator<Item = &Id> {
        self.0.get(value).into_iter().flatten()
    }

    /// All values that some row has, ascending, each with its ids.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &BTreeSet<Id>)> {
        self.0.iter()
    }
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed<R: Record> {
    /// As it was; `None`: it is new.
    pub before: Option<Row<R>>,
    /// As it is; `None`: it is gone.
    pub after: Option<Row<R>>,
}

/// A table at one revision, with its indexes. Synchronous, without a store: whoever has rows and commits feeds it.
#[derive(Debug)]
pub struct Cache<R: Record, I: Index<R> = ()> {
    rows: BTreeMap<R::Id, Row<R>>,
    index: I,
    revision: Revision,
}

impl<R: Record, I: Index<R>> Default for Cache<R, I> {
    fn default() -> Self {
        Cache { rows: BTreeMap::new(), index: I::default(), revision: Revision(0) }
    }
}

impl<R: Record, I: Index<R>> Cache<R, I> {
    /// The revision whose state this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// A row, if it exists.
    pub fn get(&self, id: &R::Id) -> Option<&Row<R>> {
        self.rows.get(id)
    }

    /// All rows, by id.
    pub fn rows(&self) -> impl Iterator<Item = &Row<R>> {
        self.rows.values()
    }

    /// What is derived from them.
    pub fn index(&self) -> &I {
        &self.index
    }

    /// Makes `rows`, all of the table at `revision`, the state; gives what that changes.
    pub fn load(&mut self, rows: Vec<Row<R>>, revision: Revision) -> Vec<Changed<R>> {
        let now: BTreeMap<R::Id, Row<R>> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let gone: Vec<R::Id> = self.rows.keys().filter(|id| !now.contains_key(id)).cloned().collect();
        let mut changes: Vec<Changed<R>> = gone.iter().filter_map(|id| self.change(id, None)).collect();
        // A row that was replaced by an equal one meanwhile has another revision, which a writer needs.
        changes.extend(now.into_values().filter_map(|row| self.change(&row.id.clone(), Some(row))));
        self.revision = revision;
        changes
    }

    /// Takes in a commit, the next one that changed the table; gives what that changes. One that is not newer than
    /// the state is in it already.
    pub fn apply(&mut self, commit: TableCommit<R>) -> Vec<Changed<R>> {
        if commit.revision <= self.revision {
            return Vec::new();
        }
        self.revision = commit.revision;
        let change = |event: TableEvent<R>| match event {
            TableEvent::Put(row) => self.change(&row.id.clone(), Some(row)),
            TableEvent::Deleted(id) => self.change(&id, None),
        };
        commit.events.into_iter().filter_map(change).collect()
    }

    fn change(&mut self, id: &R::Id, after: Option<Row<R>>) -> Option<Changed<R>> {
        let before = match &after {
            Some(row) => self.rows.insert(id.clone(), row.clone()),
            None => self.rows.remove(id),
        };
        if before == after {
            return None;
        }
        self.index.change(before.as_ref(), after.as_ref());
        Some(Changed { before, after })
    }
}

/// A cache that follows a store. Clones share it; when the last is dropped it follows no more.
#[derive(Debug)]
pub struct Follower<R: Record, I: Index<R> = ()>(Arc<Following<R, I>>);

impl<R: Record, I: Index<R>> Clone for Follower<R, I> {
    fn clone(&self) -> Self {
        Follower(self.0.clone())
    }
}

#[derive(Debug)]
struct Following<R: Record, I: Index<R>> {
    shared: Arc<Shared<R, I>>,
    task: JoinHandle<()>,
}

impl<R: Record, I: Index<R>> Drop for Following<R, I> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Shared<R: Record, I: Index<R>> {
    cache: RwLock<Cache<R, I>>,
    progress: watch::Sender<Progress>,
}

/// How a follower does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The revision that is served.
    pub revision: Revision,
    /// Not empty: why it does not advance at present. What is served is true of its revision, and may be old.
    pub behind: String,
    /// It will never advance again.
    pub ended: bool,
}

/// It will not get there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the read model stays at revision {}: {why}", revision.0)]
pub struct Stuck {
    /// The revision that it serves.
    pub revision: Revision,
    /// Why.
    pub why: String,
}

impl<R: Record, I: Index<R>> Follower<R, I> {
    /// Reads the table and follows it from then on. `consume` is given every change, in order, after readers can see
    /// it, and before they see the next; it must not block. The rows that are there already come first, as new ones.
    pub async fn start(
        store: Store,
        mut consume: impl FnMut(&[Changed<R>]) + Send + 'static,
    ) -> Result<Follower<R, I>, TableReadError> {
        let (rows, revision) = Table::<R>::scan(&store).await?;
        let mut cache = Cache::default();
        consume(&cache.load(rows, revision));
        let progress = watch::Sender::new(Progress { revision, ..Progress::default() });
        let shared = Arc::new(Shared { cache: RwLock::new(cache), progress });
        let task = tokio::spawn(follow(store, shared.clone(), consume));
        Ok(Follower(Arc::new(Following { shared, task })))
    }

    /// Reads the cache as it is at one revision. The follower waits meanwhile, so take out what is needed (rows are
    /// shared, not copied) and work on it afterwards.
    pub fn read<T>(&self, read: impl FnOnce(&Cache<R, I>) -> T) -> T {
        read(&self.0.shared.cache.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How it does.
    pub fn progress(&self) -> Progress {
        self.0.shared.progress.borrow().clone()
    }

    /// Waits until the state at `revision` is served, that of a commit which changed this table (for another the wait
    /// may last until the next one that did): after its own commit a caller reads what it wrote.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Stuck> {
        let mut progress = self.0.shared.progress.subscribe();
        let there = progress.wait_for(|now| now.revision >= revision || now.ended).await;
        let now = there.map(|now| now.clone()).unwrap_or_default();
        if now.revision >= revision {
            return Ok(());
        }
        Err(Stuck { revision: now.revision, why: now.behind })
    }
}

impl<R: Record, I: Index<R>> Shared<R, I> {
    fn change(
        &self,
        change: impl FnOnce(&mut Cache<R, I>) -> Vec<Changed<R>>,
    ) -> (Vec<Changed<R>>, Revision) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        (change(&mut cache), cache.revision())
    }

    fn advanced(&self, revision: Revision) {
        self.progress.send_replace(Progress { revision, ..Progress::default() });
    }

    fn behind(&self, why: &str, ended: bool) {
        self.progress.send_modify(|progress| {
            why.clone_into(&mut progress.behind);
            progress.ended = ended;
        });
    }
}

async fn follow<R: Record, I: Index<R>>(
    store: Store,
    shared: Arc<Shared<R, I>>,
    mut consume: impl FnMut(&[Changed<R>]),
) {
    let mut wait = AGAIN_MIN;
    loop {
        let from = shared.change(|_| Vec::new()).1;
        let end = watch_from(&store, &shared, from, &mut consume, &mut wait).await;
        shared.behind(&end.to_string(), end.is_final());
        if end.is_final() {
            return tracing::error!(error = %end, "a read model follows no more");
        }
        tracing::info!(why = %end, "a read model is read anew");
        // Paced whichever of the two fails, so that a watch which ends at once makes no storm of scans.
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
        match Table::<R>::scan(&store).await {
            Ok((rows, revision)) => {
                let (changes, revision) = shared.change(|cache| cache.load(rows, revision));
                consume(&changes);
                shared.advanced(revision);
            }
            Err(error) => {
                let end = FollowEnd::from(error);
                shared.behind(&end.to_string(), end.is_final());
                if end.is_final() {
                    return tracing::error!(error = %end, "a read model follows no more");
                }
            }
        }
    }
}

/// Why a watch was not, or no longer, followed.
#[derive(Debug, thiserror::Error)]
enum FollowEnd {
    #[error(transparent)]
    Watch(WatchEnd),
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Record(TableError),
}

impl FollowEnd {
    /// Whether reading anew cannot help.
    fn is_final(&self) -> bool {
        match self {
            FollowEnd::Watch(WatchEnd::Closed(_))
            | FollowEnd::Read(ReadError::Failed(_))
            | FollowEnd::Record(_) => true,
            FollowEnd::Watch(WatchEnd::Lagged | WatchEnd::Interrupted(_))
            | FollowEnd::Read(
                ReadError::Compacted { .. } | ReadError::Future { .. } | ReadError::Unavailable(_),
            ) => false,
        }
    }
}

impl From<TableReadError> for FollowEnd {
    fn from(error: TableReadError) -> Self {
        match error {
            TableReadError::Store(error) => FollowEnd::Read(error),
            TableReadError::Record(error) => FollowEnd::Record(error),
        }
    }
}

async fn watch_from<R: Record, I: Index<R>>(
    store: &Store,
    shared: &Shared<R, I>,
    from: Revision,
    consume: &mut impl FnMut(&[Changed<R>]),
    wait: &mut Duration,
) -> FollowEnd {
    let mut watch = match Table::<R>::watch(store, from).await {
        Ok(watch) => watch,
        Err(error) => return FollowEnd::Read(error),
    };
    loop {
        match watch.next().await {
            Ok(commit) => {
                *wait = AGAIN_MIN;
                let (changes, revision) = shared.change(|cache| cache.apply(commit));
                consume(&changes);
                shared.advanced(revision);
            }
            Err(TableWatchEnd::Watch(end)) => return FollowEnd::Watch(end),
            Err(TableWatchEnd::Record(error)) => return FollowEnd::Record(error),
        }
    }
}
