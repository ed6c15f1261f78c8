//! The zone: knows what its cells have to give, and tells the region.
//!
//! [`Zone`] is the owner: a synchronous state machine driven by [`Event`]s that names what it wants as [`Effect`]s.
//! [`serve`](mod@serve) is the process around it.
//!
//! Deliberately absent, yet: a store. Everything a zone knows its cells say again.

pub mod serve;
mod zone;

pub use serve::{ZoneConfig, ZoneError, serve};
pub use zone::{Effect, Event, Zone};
