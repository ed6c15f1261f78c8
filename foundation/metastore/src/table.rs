//! Typed tables: records behind keys, read and written as what they are. Called by whoever stores records; decides
//! nothing and commits nothing: a change is given as the conditions and operations that belong in the caller's
//! commit, so that several tables change in one.
//!
//! ```text
//!   Table::<R>::insert(id, record)         [absent]     [put]        a key is unique: so is a name that is one
//!   Table::<R>::replace(row, record)       [unchanged]  [put]        lost updates end in a conflict
//!   Table::<R>::delete(row)                [unchanged]  [delete]
//! ```
//!
//! A record's bytes are a protobuf message whose field numbers are for ever, so new code reads old bytes. Golden
//! files beside each record type hold what older versions wrote (see [`golden`]).

pub mod golden;

use crate::contract::{Condition, Entry, Key, Op, ReadError, Revision, Value};
use crate::store::Store;
use crate::watch::{Change, Watch, WatchEnd};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a table holds.
pub trait Record: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// What all keys of the table begin with.
    const PREFIX: &'static str;
    /// What tells its records apart.
    type Id: Clone + Debug + Ord + Send + Sync + 'static;

    /// The key of a record. It begins with [`Record::PREFIX`].
    fn key(id: &Self::Id) -> Key;
    /// The id in a key; why not, if there is none.
    fn id(key: &[u8]) -> Result<Self::Id, String>;
    /// The stored bytes.
    fn encode(&self) -> Value;
    /// The record of stored bytes, of this version or an older one; why not, if it is none.
    fn decode(id: &Self::Id, bytes: &[u8]) -> Result<Self, String>;
}

/// A stored record that cannot be read: damage that no checksum saw, another role's store, or a newer version's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record {key} cannot be read: {why}")]
pub struct TableError {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// Why a table was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableReadError {
    /// The store did not answer.
    #[error("cannot read the store")]
    Store(#[from] ReadError),
    /// It holds what is no record.
    #[error(transparent)]
    Record(#[from] TableError),
}

/// A record as it is stored. Clones share the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<R: Record> {
    /// Which.
    pub id: R::Id,
    /// The record.
    pub record: Arc<R>,
    /// The commit that made it what it is.
    pub modified: Revision,
}

/// What a commit did to one record.
#[derive(Clone, Debug, PartialEq)]
pub enum TableEvent<R: Record> {
    /// It is this now.
    Put(Row<R>),
    /// It is gone.
    Deleted(R::Id),
}

/// What a commit did to a table, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct TableCommit<R: Record> {
    /// The commit's revision.
    pub revision: Revision,
    /// In the order of its operations; no id twice.
    pub events: Vec<TableEvent<R>>,
}

/// A condition and an operation for one commit.
pub type Step = (Condition, Op);

/// The table of a record type; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table<R>(PhantomData<R>);

impl<R: Record> Table<R> {
    /// A record that is not there yet.
    pub fn insert(id: &R::Id, record: &R) -> Step {
        let key = R::key(id);
        (Condition::Absent(key.clone()), Op::Put(key, record.encode()))
    }

    /// Another record in the place of one that was read.
    pub fn replace(row: &Row<R>, record: &R) -> Step {
        let key = R::key(&row.id);
        (Condition::Unchanged(key.clone(), row.modified), Op::Put(key, record.encode()))
    }

    /// A record's end, as it was read.
    pub fn delete(row: &Row<R>) -> Step {
        let key = R::key(&row.id);
        (Condition::Unchanged(key.clone(), row.modified), Op::Delete(key))
    }

    /// The record of an entry of this table.
    pub fn row(entry: &Entry) -> Result<Row<R>, TableError> {
        row(&entry.key, &entry.value, entry.modified)
    }

    /// The record, if it exists.
    pub async fn get(store: &Store, id: &R::Id) -> Result<Option<Row<R>>, TableReadError> {
        let entry = store.get(&R::key(id)).await?;
        Ok(entry.as_ref().map(Self::row).transpose()?)
    }

    /// All records, in the order of their keys, and the revision at which they were read.
    pub async fn scan(store: &Store) -> Result<(Vec<Row<R>>, Revision), TableReadError> {
        let (entries, revision) = store.list(R::PREFIX.as_bytes()).await?;
        let rows: Result<Vec<Row<R>>, TableError> = entries.iter().map(Self::row).collect();
        Ok((rows?, revision))
    }

    /// The commits after `from` (the revision of a scan) that change the table, in order, whole, without a gap.
    pub async fn watch(store: &Store, from: Revision) -> Result<TableWatch<R>, ReadError> {
        let watch = store.watch(R::PREFIX.as_bytes(), from).await?;
        Ok(TableWatch { watch, record: PhantomData })
    }
}

/// A watch of a table.
#[derive(Debug)]
pub struct TableWatch<R> {
    watch: Watch,
    record: PhantomData<R>,
}

/// Why a table's watch ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableWatchEnd {
    /// The watch did.
    #[error(transparent)]
    Watch(#[from] WatchEnd),
    /// What was written is no record.
    #[error(transparent)]
    Record(#[from] TableError),
}

impl<R: Record> TableWatch<R> {
    /// The next commit that changed the table; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<TableCommit<R>, TableWatchEnd> {
        let commit = self.watch.next().await?;
        let events: Result<Vec<TableEvent<R>>, TableError> =
            commit.changes.iter().map(|change| event(change, commit.revision)).collect();
        Ok(TableCommit { revision: commit.revision, events: events? })
    }
}

fn event<R: Record>(change: &Change, revision: Revision) -> Result<TableEvent<R>, TableError> {
    match &change.value {
        Some(value) => row(&change.key, value, revision).map(TableEvent::Put),
        None => R::id(&change.key).map(TableEvent::Deleted).map_err(|why| error(&change.key, why)),
    }
}

fn row<R: Record>(key: &[u8], value: &[u8], modified: Revision) -> Result<Row<R>, TableError> {
    let id = R::id(key).map_err(|why| error(key, why))?;
    let record = R::decode(&id, value).map_err(|why| error(key, why))?;
    Ok(Row { id, record: Arc::new(record), modified })
}

fn error(key: &[u8], why: String) -> TableError {
    TableError { key: key.escape_ascii().to_string(), why }
}
