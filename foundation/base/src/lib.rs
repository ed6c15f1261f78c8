//! What every other crate stands on: identifiers, generations, units, the closed list of error kinds, and the
//! seams through which time, randomness and the disk come in.
//!
//! The roles' cores are synchronous state machines: `apply(now, event) -> effects`. They receive time as an
//! argument, draw randomness from a [`random::Random`] that they own, and name what they want from the network
//! as effects; so the simulator owns all three without a mock. The disk is the one seam that is a trait
//! ([`disk::Disk`]), because the metadata engine is itself synchronous.
//!
//! Invariant: nothing here starts a thread, opens a socket or knows a role.

pub mod clock;
pub mod config;
pub mod disk;
pub mod error;
pub mod generation;
pub mod ids;
pub mod random;
pub mod step;
