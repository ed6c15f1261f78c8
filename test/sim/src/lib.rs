//! A whole cloud from a seed: the real cores of region, zones, cells and hosts over the real metadata engine, driven by one
//! queue of events under virtual time. No runtime, no thread, no socket; the same seed gives the same events, and
//! [`Report::hash`] says so.
//!
//! ```text
//!            clients (retry with the same token until they are answered)
//!               │
//!   store ── region ──── zones ──┐        every line is a link of contract messages that breaks,
//!               │                │        every box a process that crashes and recovers from its disk
//!   stores ── cells ─────────────┘
//!               │
//!   ledgers ─ hosts ─ machines (which survive their agent, and die with their host)
//! ```
//!
//! | noun | file |
//! |---|---|
//! | how large, how long, what goes wrong | [`scenario`] |
//! | the queue, virtual time, who gets what | `world` |
//! | contract messages between two processes | `link`, `message` |
//! | what runs, what it does about effects | `process`, `host`, `zone`, `store` |
//! | who asks for instances | `client` |
//! | what goes wrong, and when | `fault` |
//! | what must hold | [`invariant`] |
//! | what happened | [`trace`] |
//!
//! Invariant: nothing here reads a clock, draws from the operating system, or iterates in an order that is not the
//! same in every run.

mod client;
mod fault;
mod host;
pub mod invariant;
mod link;
mod message;
mod process;
pub mod scenario;
mod store;
pub mod trace;
mod world;
mod zone;

pub use scenario::{CrashPoint, Sabotage, Scenario};
pub use trace::Report;

/// Runs a scenario to its end, or to its first violation.
pub fn run(scenario: &Scenario) -> Report {
    world::World::new(scenario.clone()).run()
}
