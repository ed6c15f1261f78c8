//! The external interface: every byte that an AWS client sends or reads is parsed or printed here.
//!
//! The path of a request, with the function for each step (the gateway calls them in this order):
//! 1. [`message::Request`] is filled from the HTTP library's request.
//! 2. [`sigv4::claim`] reads who says they ask, and the credential scope names the service;
//!    [`sigv4::Claim::verify`] proves it, with a key from [`sigv4::SigningKeys`].
//! 3. [`protocol::decode`] makes a [`protocol::Call`] of it: operation and a tree of parameters, nothing lost.
//! 4. `dispatch` of the service's trait ([`ec2::Ec2`], [`sts::Sts`], [`service_quotas::ServiceQuotas`]) reads the
//!    operation's shape, calls the method, and encodes the [`message::Response`].
//! 5. What failed before step 4 is encoded by [`protocol::encode_error`].
//!
//! A member of a shape is a field of a structure with `#[derive(Shape)]`; see [`shape`] for the rules. Shapes carry
//! strings, numbers, times and blobs; ids are parsed by the handlers, which own the error codes for wrong ones.
//!
//! The functions that read hostile bytes, for fuzzing: [`protocol::query::parse`], [`protocol::json::parse`],
//! [`protocol::decode`], [`sigv4::claim`], and `Shape::read` of every request.
//!
//! Invariant: no I/O, no clock, no thread, no HTTP library. Invariant: a parameter is read, or refused by name
//! (`UnknownParameter` if AWS has none of that name, `UnsupportedOperation` if Nephos lacks it); never dropped.

// The derive writes `::aws::...`, which must mean this crate here too.
extern crate self as aws;

pub mod codes;
pub mod ec2;
mod error;
pub mod message;
pub mod protocol;
pub mod service;
pub mod service_quotas;
pub mod shape;
pub mod sigv4;
pub mod sts;

pub use aws_derive::Shape;
pub use error::{ApiError, Fault};
pub use message::{Request, Response};
pub use protocol::{Call, Protocol};
pub use service::{Answer, Caller, ServiceTable};
