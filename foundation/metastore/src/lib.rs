//! The metadata store: etcd v3's semantics behind one contract, and the embedded engine.
//!
//! ```text
//!   contract   what every engine promises: conditional commits at revisions of the whole store
//!   engine     the embedded engine, synchronous: stage, flush, maintain, and a reader for other threads
//!   store      the engine on a thread of its own, with group commit and the lock on its directory
//!
//!   map        the state in memory, multi-version            watch      ordered streams of whole commits
//!   log        segments of checksummed batches               snapshot   the state at a revision, in a file
//!   recovery   from files to state                           format     every byte on disk
//! ```
//!
//! # Fault model
//! What is acknowledged survives any crash of the process, the kernel or the machine, at any moment, provided the
//! disk keeps what it has synced. It does **not** survive the loss of its only disk: take backups, or use etcd.
//!
//! | what happens | what the embedded engine does |
//! |---|---|
//! | crash | nothing acknowledged is lost; a commit that was not acknowledged is wholly there or wholly not |
//! | torn or short write | the unfinished batch is cut off at the next start, and reported |
//! | a write or a sync fails, the disk is full | the engine fails for good (every call answers so) until it is opened anew, with room for one segment of the log (16 MiB) |
//! | flipped bits | refuses to open, naming file and offset; but in the last batch before a crash (not before an orderly stop), damage cannot be told from a torn write, and is cut off and reported |
//! | a lost file | refuses to open, naming it; but the loss of the log's newest segment alone is not noticed |
//! | a slow watcher | its watch ends with `Lagged`; commits never wait for it |
//!
//! Memory holds the whole live state, and a bounded history beside it.

mod contract;
mod engine;
mod format;
mod log;
mod map;
mod recovery;
mod snapshot;
mod store;
mod watch;

pub use contract::*;
pub use engine::{Engine, EngineOptions, Flushed, Reader, Ticket};
pub use map::{Page, RangeQuery, ReadError};
pub use recovery::{OpenError, Recovery, TornTail};
pub use store::{Busy, OnDone, Store, StoreOptions};
pub use watch::{Change, CommitEvents, Watch, WatchEnd};
