//! The metadata store: etcd v3's semantics behind one handle, and its engines.
//!
//! ```text
//!   contract   what every engine promises: conditional commits at revisions of the whole store, leases
//!   shard      whose key a key is: a commit touches one account of one shard
//!   store      the handle that everybody holds, and what an engine must do behind it
//!   watch      ordered streams of whole commits, fed by any engine
//!   election   which of the processes that share a store acts
//!   place      where a process's store is, and how it comes to lead
//!
//!   table      records behind keys: typed rows, changes and watches; golden files of what versions have written
//!   cache      the cached read model: a table in memory with derived indexes, following the store
//!
//!   embedded   the engine in this process: a log, snapshots, and the state in memory
//!   etcd       the engine elsewhere: an etcd, or a `nephos store`, through etcd's v3 API
//!
//!   migrate       from one engine to another
//!   conformance   what every engine must pass (feature `conformance`)
//! ```
//!
//! # Fault model of the embedded engine
//! What is acknowledged survives any crash of the process, the kernel or the machine, at any moment, provided the
//! disk keeps what it has synced. It does **not** survive the loss of its only disk: take backups, or use etcd.
//!
//! | what happens | what the embedded engine does |
//! |---|---|
//! | crash | nothing acknowledged is lost; a commit that was not acknowledged is wholly there or wholly not |
//! | torn or short write | the unfinished batch is cut off at the next start, and reported |
//! | a write or a sync fails, the disk is full | the engine fails for good (every call answers so) until it is opened anew, with room for one segment of the log (16 MiB) |
//! | flipped bits | refuses to open, naming file and offset; but in the last batch before a crash (not before an orderly stop), damage cannot be told from a torn write without a second sync per batch, and is cut off and reported |
//! | a lost or shortened file | refuses to open, naming it; but a newest segment that lost its last batch, wholly, is not told from one that never had it |
//! | the disk is lost | restore a backup: what was committed after it is gone, and the incarnation says so to everybody |
//! | the state reaches its bound (8 GiB) | commits that make it grow are refused with `Full`, deletions are taken; in a reserve of a sixteenth above it, keys that are there still change (half of it), and leases and their keys are still given (all of it) |
//! | a slow watcher | its watch ends with `Lagged`; commits never wait for it |
//! | a slow backup | it ends with `Overtaken`; commits never wait for it |
//! | a start | every lease gets its whole time to live anew |
//!
//! Memory holds the live state, which is bounded, a bounded history beside it, and a bounded queue. A start reads the
//! snapshot block by block and the log a segment at a time.

pub mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
pub mod election;
mod embedded;
mod etcd;
mod migrate;
mod place;
pub mod shard;
mod store;
pub mod table;
mod watch;

pub use contract::*;
pub use embedded::{
    Backup, BackupError, BackupFileError, BackupSummary, Engine, EngineOptions, Flushed, OpenError, Reader,
    Recovery, RestoreError, RestoreOptions, Restored, StoreOptions, StoreSummary, Ticket, TornTail,
    backup_verify, restore, restore_disk, set_aside, verify, verify_disk,
};
pub use etcd::{EtcdError, EtcdOptions, EtcdTls, EtcdTlsSource, EtcdUser};
pub use migrate::{Copied, MigrateError, Migrated, Migration, Progress, UNFINISHED, embedded_target};
pub use place::{PlaceError, StorePlace};
pub use store::{Backend, Busy, OnDone, Pending, Store, WeakStore};
pub use watch::{Change, CommitEvents, Watch, WatchEnd, WatchFeed};
