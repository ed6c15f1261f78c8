//! The testbed itself: a test that fails leaves nothing behind either.

use std::panic::{AssertUnwindSafe, catch_unwind};
use testbed::{Options, Testbed, process};

#[test]
fn a_failed_test_leaves_no_process_and_no_file() {
    let (mut pids, mut directory) = (Vec::new(), std::path::PathBuf::new());
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let cloud = Testbed::start(Options::simulated(1));
        pids.extend(cloud.roles().into_values().chain(cloud.pid("supervisor")));
        directory = cloud.dir();
        panic!("on purpose");
    }));
    assert!(failed.is_err());
    assert_eq!(pids.len(), 5, "region, zone, cell, host and supervisor");
    assert!(pids.iter().all(|pid| !process::alive(*pid)), "{pids:?} run on");
    assert!(!directory.exists());
}
