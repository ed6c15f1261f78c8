//! The engine: mechanism without policy.

pub mod verdict;
