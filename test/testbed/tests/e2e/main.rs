//! Whole clouds, driven by real clients: the promises of the README, kept or broken.
//!
//! A cloud costs a second and a guest some more, so each test is a story of many assertions on one cloud.

mod bad_input;
mod client;
mod command_line;
mod crash;
mod first_light;
mod migrate;
mod oracle;
mod resilience;
mod restore;
mod standby;
mod teardown;
mod unprivileged;
