//! Whole clouds, driven by real clients: the promises of the README, kept or broken.
//!
//! A cloud costs a second and a guest some more, so each test is a story of many assertions on one cloud.

mod first_light;
