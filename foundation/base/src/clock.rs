//! Time as a value. Cores take a [`Timestamp`] as an argument; only a process's outer shell reads the clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time, in milliseconds since the Unix epoch. In the simulator: virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `unix_ms` milliseconds after the epoch.
    pub const fn from_unix_ms(unix_ms: u64) -> Self {
        Timestamp(unix_ms)
    }

    /// The machine's clock now. Call it in a process's shell, never in a core.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since_epoch.as_millis() as u64)
    }

    /// Milliseconds since the epoch.
    pub const fn unix_ms(self) -> u64 {
        self.0
    }

    /// How long before `self` the instant `earlier` was; zero if it was not before.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 with milliseconds and `Z`: the form that AWS's XML and JSON answers use, for example
    /// `2026-01-02T03:04:05.678Z`.
    pub fn iso8601(self) -> String {
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let nanos = i128::from(self.0) * 1_000_000;
        time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            .and_then(|instant| instant.format(&format).ok())
            .unwrap_or_else(|| String::from("9999-12-31T23:59:59.999Z"))
    }
}

/// A process's clock: the machine's time, but never backwards. A core compares the times that it is given, and would
/// wait for as long as an administrator has set the clock back.
#[derive(Debug)]
pub struct SteadyClock {
    started: Timestamp,
    at: Instant,
}

impl SteadyClock {
    /// A clock that agrees with the machine's now.
    pub fn start() -> Self {
        SteadyClock { started: Timestamp::now(), at: Instant::now() }
    }

    /// The time now. Follows the machine's clock forwards, by whatever step; where that goes backwards, time goes on
    /// from where it was.
    pub fn now(&mut self) -> Timestamp {
        let steady = self.started + self.at.elapsed();
        let machine = Timestamp::now();
        if machine > steady {
            *self = SteadyClock { started: machine, at: Instant::now() };
            return machine;
        }
        steady
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_millis() as u64))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso8601())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_aws_does() {
        assert_eq!(Timestamp::from_unix_ms(1_767_323_045_678).iso8601(), "2026-01-02T03:04:05.678Z");
        assert_eq!(Timestamp::from_unix_ms(0).iso8601(), "1970-01-01T00:00:00.000Z");
    }
}
