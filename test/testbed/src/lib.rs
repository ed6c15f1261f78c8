//! A whole cloud for a test: the real `nephos` binary in a directory of its own, real clients, real guests.
//!
//! ```text
//!   test ── Testbed::start ──► nephos up --detach --dir TEMP --port 0 ──► region, zones, cells, hosts ──► QEMU
//!    │                                                                        ▲
//!    ├── aws(&[..]) ─────► the aws CLI, one process a call ───────────────────┤
//!    ├── boto3(script) ──► a Python process that is kept (see `clients`) ─────┤
//!    └── nephos(&[..]) ──► the operator's command line ───────────────────────┘
//! ```
//!
//! Whatever goes wrong is the test's failure, so functions here panic with what they saw instead of returning
//! errors. A dropped [`Testbed`] leaves nothing behind: no process, no file, whether the test passed or failed.
//!
//! Invariants: nothing is shared between clouds but the machine; every port is the kernel's choice; nothing waits
//! for time to pass, only for a condition, and always with a bound.

pub mod clients;
pub mod cloud;
pub mod environment;
pub mod etcd;
pub mod process;
pub mod wait;

pub use clients::Refusal;
pub use cloud::{Keys, Options, Said, Testbed, Vm};
pub use etcd::Etcd;
pub use wait::{LONG, wait};
