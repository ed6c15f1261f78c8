//! The only way in which tests wait.

use std::time::{Duration, Instant};

/// For what takes guests and a loaded machine some seconds: long enough never to be the reason of a failure.
pub const LONG: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks until `condition` holds, and returns what it found. Panics when it does not within `bound`.
pub fn wait<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < bound, "waited {} s in vain: {what}", bound.as_secs());
        std::thread::sleep(LOOK_EVERY);
    }
}
