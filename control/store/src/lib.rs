//! The role `nephos store`: the embedded metadata store as a process of its own, so that two region or cell processes
//! can share it. It speaks the subset of etcd's API, version 3, that the store's contract needs: whatever reaches etcd
//! reaches this, our own etcd engine and `etcdctl` included.
//!
//! ```text
//!   caller    who calls, and which keys are theirs
//!   kv        reads, commits, compaction
//!   watch     streams of what commits did
//!   lease     leases, and whose they are
//!   incarnation   what a restore means to those who share the store
//!   maintenance   status; all that is refused (backups are taken through the crate `backup`, as of every role)
//!   answer    headers, and the errors as etcd's clients know them
//!   serve     the process
//! ```
//!
//! A caller's namespace is its certificate's name, `ROLE/INSTANCE/`: it reads and writes keys that begin with that and
//! no others, so the processes of one role share theirs and roles do not touch one another's. All namespaces are one
//! store: one log, one group commit, one count of revisions, which are therefore not consecutive for any of them.
//!
//! Invariant: nothing is answered that is not durable; the engine answers after its sync.
//! Deliberately absent: users and roles of etcd's own (certificates say who is who), several members (that is what
//! etcd is for), and every question about keys that the contract does not ask.

mod answer;
mod caller;
pub mod config;
mod incarnation;
mod kv;
mod lease;
mod maintenance;
mod serve;
mod watch;

#[allow(missing_docs, clippy::all)]
mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The messages and services, by etcd's names.
#[allow(missing_docs, clippy::all)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

pub use config::StoreConfig;
pub use incarnation::IncarnationError;
pub use serve::{StoreError, serve, serve_until};
