//! The cell: knows its hosts, chooses one for each VM, holds the claims, and tells each host what to run.
//!
//! [`Cell`] is the owner: a synchronous state machine over committed records, driven by [`Event`]s, that names what
//! it wants as [`Effect`]s. [`serve`] is the process around it.
//!
//! ```text
//!   vm         one VM: its record and state, what intents and reports mean for it
//!   host       one host: capacity, health, its document
//!   network    VPCs as the region publishes them, the ports and documents of hosts' switches
//!   placement  the pure choice of a host
//!   summary    what the zone is told
//! ```
//!
//! Invariant: claims on a host never exceed its capacity, claims that are still being committed included.
//! Invariant: only an attempt that the region confirmed ever stands in a host's document.

mod cell;
mod host;
mod network;
pub mod placement;
pub mod serve;
mod summary;
#[cfg(test)]
mod tests;
pub mod vm;

pub use cell::{Cell, CellIdentity, Effect, Event, RecoverError, Ticket};
pub use serve::{CellConfig, CellError, serve};

/// All keys of a cell's store begin with this.
pub const PREFIX: &str = "cell/";
/// The key of the term, which each leader raises; not read by the core.
pub const TERM_KEY: &str = "cell/term";
/// The key that exists while a process leads, where several share the store; not read by the core.
pub const LEADER_KEY: &str = "cell/leader";
