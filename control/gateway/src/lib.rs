//! The API gateway: from a TCP connection to a service's operation and back.
//!
//! For each request, in this order: read (bounded in size and time), find the service by the credential scope,
//! authenticate (SigV4), throttle, decode, hand to the service. What comes out is always an answer in the service's
//! own form, and one line in the log.
//!
//! Invariant: the gateway knows no resource. Invariant: whatever the bytes, the process goes on.

mod authenticate;
mod server;
mod throttle;

pub use authenticate::{Credential, CredentialSource};
pub use server::{Gateway, GatewayConfig, Services, unavailable};
