//! The metadata store from outside: against a model, through crashes, under faults, and on a real directory.

#![allow(clippy::unwrap_used)]

mod backup;
mod cluster;
mod conformance;
mod crash;
mod etcd;
mod faults;
mod kill;
mod lease;
mod migrate;
mod model;
mod property;
mod server;
mod store;
mod table;
