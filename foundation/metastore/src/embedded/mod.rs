//! The embedded engine: the state in memory, a log and snapshots on one disk.
//!
//! ```text
//!   engine     synchronous: stage, flush, maintain, and a reader for other threads
//!   thread     the engine on a thread of its own, with group commit, a clock and the lock on its directory
//!
//!   map        the state in memory, multi-version            lease      what goes when its holder does
//!   log        segments of checksummed batches               snapshot   the state at a revision, in a file
//!   recovery   from files to state                           format     every byte on disk
//! ```

mod engine;
mod format;
mod lease;
mod log;
mod map;
mod recovery;
mod snapshot;
mod thread;

pub use engine::{Engine, EngineOptions, Flushed, Reader, Ticket};
pub use recovery::{OpenError, Recovery, TornTail};
pub(crate) use thread::Embedded;
pub use thread::StoreOptions;
