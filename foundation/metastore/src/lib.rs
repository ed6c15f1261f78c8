//! The metadata store: etcd v3's semantics behind one contract, and the embedded engine.

mod contract;

pub use contract::*;
