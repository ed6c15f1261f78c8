//! Every internal interface: the messages and services between roles (`proto/`), and the one way in which they
//! are spoken ([`trust`]: mutual TLS and who may call what; [`link`]: a stream of messages each way that is kept
//! up). Messages are documents: they live on disks and cross versions, so fields are numbered and never reused.
//!
//! Invariant: no role's logic. A field's meaning stands in the `.proto`, what is done about it in the role.

#[allow(missing_docs, clippy::all)]
mod generated {
    tonic::include_proto!("nephos.v1");
}

pub mod convert;
pub mod link;
pub mod trust;

pub use generated::*;
pub use prost;
