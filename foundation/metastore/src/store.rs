//! The handle of a metadata store, and what an engine must do behind it. Whoever holds a [`Store`] does not know
//! which engine keeps it, nor whether that is in this process: everything that a network can make slow is async.
//!
//! Deliberately absent: an order among commits in flight (see [`Commit`]). The embedded engine happens to keep one.

use crate::contract::{
    Commit, CommitError, Entry, LeaseError, LeaseId, Page, RangeQuery, ReadError, Revision,
};
use crate::embedded::{Backup, BackupError, Embedded, OpenError, StoreOptions};
use crate::etcd::{Etcd, EtcdError, EtcdOptions};
use crate::watch::Watch;
use base::disk::Disk;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What an engine answers with, now or later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a synchronous owner wants done with its commit's answer. Called on a thread of the engine: it must neither
/// block nor panic.
pub type OnDone = Box<dyn FnOnce(Result<Revision, CommitError>) + Send>;

/// The queue is full: the commit was not taken, and is handed back.
pub struct Busy {
    /// The commit.
    pub commit: Commit,
    /// What was to be done with its answer.
    pub on_done: OnDone,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Busy").field("commit", &self.commit).finish_non_exhaustive()
    }
}

/// What an engine does for the handle, whose methods of the same names say the rest. It keeps the contract's bounds
/// itself ([`Commit::check`], [`LeaseId::ttl_check`]), and keys that begin with byte 0 to itself. When it is dropped,
/// what it has taken still happens.
pub trait Backend: Send + Sync + 'static {
    /// See [`Store::incarnation`].
    fn incarnation(&self) -> u64;
    /// See [`Store::commit`]: the future owns what it needs.
    fn commit(&self, commit: Commit) -> Pending<'static, Result<Revision, CommitError>>;
    /// See [`Store::submit`].
    fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy>;
    /// See [`Store::revision`].
    fn revision(&self) -> Pending<'_, Result<Revision, ReadError>>;
    /// See [`Store::get`], and with a revision [`Store::get_at`].
    fn get<'a>(
        &'a self,
        key: &'a [u8],
        at: Option<Revision>,
    ) -> Pending<'a, Result<Option<Entry>, ReadError>>;
    /// See [`Store::range`].
    fn range<'a>(&'a self, query: &'a RangeQuery) -> Pending<'a, Result<Page, ReadError>>;
    /// See [`Store::watch`].
    fn watch<'a>(&'a self, prefix: &'a [u8], from: Revision) -> Pending<'a, Result<Watch, ReadError>>;
    /// See [`Store::compact`].
    fn compact(&self, up_to: Revision) -> Pending<'_, Result<Revision, ReadError>>;
    /// See [`Store::backup`].
    fn backup(&self) -> Result<Backup, BackupError> {
        Err(BackupError::Unsupported("it is not in this process; its own tools do that".to_owned()))
    }
    /// See [`Store::lease_grant`].
    fn lease_grant(&self, ttl: Duration) -> Pending<'_, Result<LeaseId, LeaseError>>;
    /// See [`Store::lease_keep_alive`].
    fn lease_keep_alive(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>>;
    /// See [`Store::lease_revoke`].
    fn lease_revoke(&self, id: LeaseId) -> Pending<'_, Result<(), LeaseError>>;
    /// Whether [`Backend::incarnation_raise`] can be done.
    fn incarnation_raisable(&self) -> bool {
        false
    }
    /// See [`Store::incarnation_raise`]; an engine that cannot says so.
    fn incarnation_raise(&self, above: u64) -> Pending<'_, Result<u64, CommitError>> {
        let why = format!("this engine cannot raise its incarnation above {above} while it is open");
        Box::pin(std::future::ready(Err(CommitError::Unavailable(why))))
    }
}

/// A handle of a store; clones are handles of the same one. When the last handle of an embedded store is dropped,
/// what is queued is still committed, and the drop waits for that.
#[derive(Clone)]
pub struct Store(Arc<dyn Backend>);

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("incarnation", &self.incarnation()).finish_non_exhaustive()
    }
}

/// A handle that does not keep its store open.
#[derive(Clone)]
pub struct WeakStore(Weak<dyn Backend>);

impl fmt::Debug for WeakStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakStore").finish_non_exhaustive()
    }
}

impl WeakStore {
    /// The store, if anybody still has it.
    pub fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(Store)
    }
}

impl Store {
    /// A handle for whoever may outlive the store's owner.
    pub fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.0))
    }

    /// Opens the embedded store in this directory, which is made if it does not exist, and starts its thread. Reads
    /// all of the store: blocks for as long as that takes.
    pub fn open(directory: &Path) -> Result<Store, OpenError> {
        Self::open_with(directory, StoreOptions::default())
    }

    /// [`Store::open`], with sizes.
    pub fn open_with(directory: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        Ok(Self::with(Embedded::open(directory, options)?))
    }

    /// [`Store::open_with`] for a store that must be there: none is made.
    pub fn open_existing(directory: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        Ok(Self::with(Embedded::open_existing(directory, options)?))
    }

    /// An embedded store over any disk, which the caller alone must own.
    pub fn over(disk: Box<dyn Disk>, options: StoreOptions) -> Result<Store, OpenError> {
        Ok(Self::with(Embedded::over(disk, options)?))
    }

    /// The store in an etcd, or in a `nephos store`, which is made if it does not exist. Waits for it as long as
    /// [`EtcdOptions::patience`] says. The store lives on the present runtime, with its timers, and ends with it.
    pub async fn etcd(options: EtcdOptions) -> Result<Store, EtcdError> {
        Ok(Self::with(Etcd::open(options).await?))
    }

    /// What is there of a store in an etcd, to be read: nothing is written. Of incarnation 0 if it was never made; there
    /// may be keys of somebody else then.
    pub async fn etcd_found(options: EtcdOptions) -> Result<Store, EtcdError> {
        Ok(Self::with(Etcd::find(options).await?))
    }

    /// A store that this engine keeps.
    pub fn with(engine: impl Backend) -> Store {
        Store(Arc::new(engine))
    }

    /// 1 for a new store; raised by a restore. It never changes under a handle: an engine elsewhere that finds it
    /// changed answers `Failed` from then on.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation()
    }

    /// Gives the store a higher incarnation than `above` and its own, and tells it. The store is another one from then
    /// on: this handle and all others answer `Failed` sooner or later, and it must be opened anew.
    pub async fn incarnation_raise(&self, above: u64) -> Result<u64, CommitError> {
        self.0.incarnation_raise(above).await
    }

    /// Whether [`Store::incarnation_raise`] can be done.
    pub(crate) fn incarnation_raisable(&self) -> bool {
        self.0.incarnation_raisable()
    }

    /// Commits; resolves when the commit is durable and visible, or refused. If the queue has room the commit has
    /// its place in it when this returns, before the future is first polled; else the future waits for room.
    /// A commit in the queue happens even if the future is dropped.
    pub fn commit(
        &self,
        commit: Commit,
    ) -> impl Future<Output = Result<Revision, CommitError>> + Send + 'static + use<> {
        self.0.commit(commit)
    }

    /// Commits, and calls `on_done` on a thread of the engine with the answer. Never blocks: if the queue is full,
    /// both are handed back.
    pub fn submit(&self, commit: Commit, on_done: OnDone) -> Result<(), Busy> {
        self.0.submit(commit, on_done)
    }

    /// The last durable revision.
    pub async fn revision(&self) -> Result<Revision, ReadError> {
        self.0.revision().await
    }

    /// The key's present value: what every commit acknowledged before the call has left.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Entry>, ReadError> {
        self.0.get(key, None).await
    }

    /// The key's value at a past revision.
    pub async fn get_at(&self, key: &[u8], revision: Revision) -> Result<Option<Entry>, ReadError> {
        self.0.get(key, Some(revision)).await
    }

    /// One page of a range of keys, at one revision; without one in the query, at the present as [`Store::get`].
    pub async fn range(&self, query: &RangeQuery) -> Result<Page, ReadError> {
        self.0.range(query).await
    }

    /// All entries under a prefix, at one revision; takes several pages if it must. Meant for read models, which
    /// then watch from the revision given. `Compacted` if the store forgot that revision between two pages.
    pub async fn list(&self, prefix: &[u8]) -> Result<(Vec<Entry>, Revision), ReadError> {
        let mut page = self.range(&RangeQuery::prefix(prefix)).await?;
        let revision = page.revision;
        let mut entries = page.entries;
        while page.next.is_some() {
            page = self.range(&RangeQuery::prefix(prefix).at(revision).after(page.next)).await?;
            entries.append(&mut page.entries);
        }
        Ok((entries, revision))
    }

    /// The commits after `from` (the revision of the range that the watcher has read) that change keys under the
    /// prefix, in order, whole, without a gap.
    pub async fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, ReadError> {
        self.0.watch(prefix, from).await
    }

    /// Forgets what can be read only before `up_to`, and gives the oldest revision that can still be read, which may
    /// be an earlier one.
    pub async fn compact(&self, up_to: Revision) -> Result<Revision, ReadError> {
        self.0.compact(up_to).await
    }

    /// Begins a backup of what is durable now, which commits do not wait for. Only an embedded store is backed up so.
    pub fn backup(&self) -> Result<Backup, BackupError> {
        self.0.backup()
    }

    /// A new lease, which ends when it was not kept alive for `ttl` ([`LeaseId::TTL_MIN`] to [`LeaseId::TTL_MAX`]; an
    /// engine may round it up to seconds). It survives a restart of the store, with its whole `ttl` anew.
    pub async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.0.lease_grant(ttl).await
    }

    /// Lets the lease live for its whole `ttl` again, from some moment between call and answer; a holder counts from
    /// the call. [`LeaseError::Expired`] is final.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<(), LeaseError> {
        self.0.lease_keep_alive(id).await
    }

    /// Ends the lease: its keys go in one commit, durably. [`LeaseError::Expired`] if that has happened already.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<(), LeaseError> {
        self.0.lease_revoke(id).await
    }
}
