//! The store's process as its callers meet it: over mutual TLS, by the API's own generated client and by `etcdctl`.

#![allow(clippy::unwrap_used, missing_docs)]

mod contract;
mod etcdctl;
mod rules;
mod server;
