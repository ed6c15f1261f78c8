//! The embedded engine: the state in memory, a log and snapshots on one disk.
//!
//! ```text
//!   engine     synchronous: stage, flush, maintain           reader     reads and watches, for other threads
//!   thread     the engine on a thread of its own, with group commit, a clock and the lock on its directory
//!
//!   map        the state in memory, multi-version            lease      what goes when its holder does
//!   log        segments of checksummed batches               recovery   from files to state
//!   image      the state at a revision, in blocks            format     every byte on disk
//!   snapshot   an image that replaces the log before it      backup     an image that is carried elsewhere
//!   restore    from a backup to a store; a store verified
//! ```

mod backup;
mod engine;
mod format;
mod image;
mod lease;
mod log;
mod map;
mod reader;
mod recovery;
mod restore;
mod snapshot;
mod thread;

pub use backup::{Backup, BackupError, BackupFileError, BackupSummary, backup_verify};
pub use engine::{Engine, EngineOptions, Flushed, Ticket};
pub use reader::Reader;
pub use recovery::{OpenError, Recovery, TornTail};
pub use restore::{
    RestoreError, RestoreOptions, Restored, StoreSummary, restore, restore_disk, set_aside, verify,
    verify_disk,
};
pub(crate) use thread::Embedded;
pub use thread::StoreOptions;
