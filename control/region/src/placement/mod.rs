//! Chooses the zone and the cell of a launch. The cell chooses the host: only it has all the facts for that.

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Decision, PlaceRequest, Refused, plan};
