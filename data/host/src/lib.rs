//! The host agent (`nephos host`): keeps the VMs of one host as its cell intends them, adopts those that run when
//! it starts, and starts them from its own ledger after a reboot with every control process dead.
//!
//! ```text
//!   cell ──HostDocument──► agent ──Persist──► ledger (its journal and snapshot)
//!                            │ ▲
//!                 VmmCommand ▼ │ VmmEvent
//!                       qemu (QMP) │ simulated
//! ```
//!
//! [`agent`] decides, synchronously and without I/O; [`serve`] is the process around it. What the agent needs to
//! know it reads from its own disk: it waits for nobody.
//!
//! Invariant: nothing here knows the region, the metadata store or an AWS protocol. A VM outlives this process.

pub mod accelerator;
pub mod agent;
pub mod card;
pub mod config;
pub mod console;
pub mod image;
pub mod isolation;
pub mod ledger;
pub mod qemu;
pub mod qmp;
pub mod serve;
pub mod status;
pub mod vmm;
