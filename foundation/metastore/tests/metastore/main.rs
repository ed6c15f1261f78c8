//! The metadata store from outside: against a model, through crashes, under faults, and on a real directory.

#![allow(clippy::unwrap_used)]

mod crash;
mod election;
mod etcd;
mod faults;
mod lease;
mod model;
mod server;
mod store;
