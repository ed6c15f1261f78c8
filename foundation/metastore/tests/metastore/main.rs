//! The metadata store from outside: against a model, through crashes, under faults, and on a real directory.

#![allow(clippy::unwrap_used)]

mod cluster;
mod conformance;
mod crash;
mod etcd;
mod faults;
mod lease;
mod migrate;
mod model;
mod server;
mod store;
