//! The network card of a host: every packet of every VM on it goes through one process, `nephos vswitch`.
//!
//! ```text
//!   guest ◄─virtio─► virtio ─┐                              ┌─► link::uplink ◄─Geneve─► other hosts
//!                            ├─► engine ──(miss)──► policy  │
//!   kernel ◄───────► link::tap ┘      │                     │
//!                                     ├─────────────────────┘
//!                                     └─► service: ARP, ND, DHCP, DNS, metadata
//! ```
//!
//! [`engine`] is mechanism: it parses a packet once, finds its flow, keeps connections, and carries out what was
//! decided. [`policy`] decides, from documents: groups, ACLs, routes, mappings. [`service`] answers what is addressed
//! to the network itself; [`document`] holds what the cell has told. All four are without I/O: packet in, packets out. [`virtio`] and [`link`] touch guests'
//! memory and the kernel.
//!
//! Invariant: nothing here depends on the control plane: what it needs is on the host's disk.
//! Invariant: bytes of a guest or of the network never panic the process.

pub mod document;
pub mod engine;
pub mod link;
pub mod packet;
pub mod policy;
pub mod service;
pub mod span;
pub mod switch;
pub mod virtio;
