//! What every engine must pass, unchanged: the contract against a model, and concurrent histories against the
//! definition of linearizability. A test of an engine gives it a way to empty stores, and runs all of it.
//!
//! ```text
//!   steps       random steps one after the other, each answer compared with the model's (property-based, shrunk)
//!   model       the whole state at every revision
//!   fixed       what random steps would seldom meet: bounds, large pages, lagging watchers, leases that time out
//!   history     clients at once on a few keys, and what each was answered when
//!   linear      whether one order of all that explains every answer
//! ```
//!
//! Built with the feature `conformance` alone: for tests, also of crates that serve a store to others.

mod fixed;
mod history;
mod linear;
mod model;
mod steps;

pub use fixed::{bounds, lagging_watch, large_pages, lease_timeout};
pub use history::{Workload, history};
pub use linear::{Action, Call, Outcome, Verdict, Written, linearizable};
pub use steps::{Step, step, steps_run};

use crate::Store;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// A way to stores that nobody else uses, each empty.
pub type Fresh<'a> = &'a dyn Fn() -> Store;

/// How much of the suite to do.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Sequences of random steps.
    pub cases: u32,
    /// Steps in one, at most.
    pub steps: usize,
    /// Concurrent histories.
    pub histories: u64,
}

/// Runs all of the suite; panics with what is wrong. The runtime must be the one that the stores live on.
pub fn run(runtime: &tokio::runtime::Runtime, fresh: Fresh, extent: Extent) {
    // A store is made outside of the runtime, where its maker may block.
    runtime.block_on(bounds(&fresh()));
    runtime.block_on(large_pages(&fresh()));
    runtime.block_on(lease_timeout(&fresh()));
    runtime.block_on(lagging_watch(&fresh()));
    let config = Config { cases: extent.cases, failure_persistence: None, ..Config::default() };
    let sequences = proptest::collection::vec(step(), 1..extent.steps.max(2));
    let ran = TestRunner::new(config)
        .run(&sequences, |steps| runtime.block_on(steps_run(&fresh(), steps)).map_err(TestCaseError::fail));
    if let Err(failure) = ran {
        panic!("{failure}");
    }
    for seed in 0..extent.histories {
        let calls = runtime.block_on(history(&[fresh()], &Workload::from_seed(seed)));
        assert_eq!(linearizable(&calls), Verdict::Linearizable, "seed {seed}");
    }
}
