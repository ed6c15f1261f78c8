//! What processes use, from `/proc` (proc(5)).

use std::fs;
use std::time::Duration;

/// A process, by its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// User and system time of all its threads, those that have ended included.
    pub fn cpu(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The command, in parentheses, may hold anything: fields are counted from its end. utime is the 12th then.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Its proportional share of memory, in bytes: shared pages are divided among those who share them.
    pub fn pss_bytes(self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Whether it is there (a zombie is not).
    pub fn alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    }
}

/// User and system time of several.
pub fn cpu(processes: &[Process]) -> Duration {
    processes.iter().map(|process| process.cpu()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = Process(std::process::id());
        while me.cpu().is_zero() {
            std::hint::black_box((0..10_000u64).sum::<u64>());
        }
        assert!(me.pss_bytes() > 0);
        assert!(me.alive());
        assert!(!Process(u32::MAX).alive());
    }
}
