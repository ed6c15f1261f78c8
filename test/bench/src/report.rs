//! What a benchmark found: cases, as a table and as `target/bench/NAME.json`.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// Runs of each case, in turns with the peer's.
pub const RUNS: usize = 5;

/// One number of ours, beside the peer's if there is one.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// What was measured.
    pub case: String,
    /// The median of our runs.
    pub ours: f64,
    /// The peer's name.
    pub peer: Option<String>,
    /// The median of its runs.
    pub peer_value: Option<f64>,
    /// How many times better ours is, whether more or less is better.
    pub ratio: Option<f64>,
    /// Of both values.
    pub unit: &'static str,
    /// Runs of each.
    pub runs: usize,
    /// Of our runs: (largest - smallest) / median.
    pub spread: f64,
}

/// Which of two values is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    More,
    /// Times and costs.
    Less,
}

impl Case {
    /// A case without a peer.
    pub fn alone(case: impl Into<String>, unit: &'static str, runs: &[f64]) -> Case {
        let ours = median(runs);
        let (least, most) =
            runs.iter().fold((f64::MAX, f64::MIN), |(least, most), run| (least.min(*run), most.max(*run)));
        let spread = if ours == 0.0 { 0.0 } else { (most - least) / ours };
        Case {
            case: case.into(),
            ours,
            peer: None,
            peer_value: None,
            ratio: None,
            unit,
            runs: runs.len(),
            spread,
        }
    }

    /// A case beside a peer.
    pub fn beside(
        case: impl Into<String>,
        unit: &'static str,
        better: Better,
        runs: &[f64],
        peer: &str,
        peer_runs: &[f64],
    ) -> Case {
        let alone = Case::alone(case, unit, runs);
        let value = median(peer_runs);
        let (over, under) = match better {
            Better::More => (alone.ours, value),
            Better::Less => (value, alone.ours),
        };
        let ratio = (under > 0.0).then(|| over / under);
        Case { peer: Some(peer.to_owned()), peer_value: Some(value), ratio, ..alone }
    }
}

/// The middle value; of an even number the mean of the two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// A line about what goes on, for steps that take long.
pub fn progress(line: &str) {
    eprintln!("==> {line}");
}

/// What this was measured on.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let memory_kib: f64 =
        after(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split_ascii_whitespace().take(1).collect();
    format!(
        "machine: {} cores ({}), {:.0} GiB, Linux {}, load {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        after(&read("/proc/cpuinfo"), "model name"),
        memory_kib / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
        load.join(" ")
    )
}

/// The table.
pub fn print(name: &str, cases: &[Case]) {
    let width = cases.iter().map(|case| case.case.chars().count()).max().unwrap_or(0).max(4);
    println!("\n{name}");
    println!(
        "  {:width$}  {:>10}  {:>10}  {:>8}  {:9}  {:>4}  {:>6}  peer",
        "case", "ours", "peer", "ratio", "unit", "runs", "spread"
    );
    for case in cases {
        let optional = |value: Option<f64>| value.map_or_else(|| String::from("-"), number);
        println!(
            "  {:width$}  {:>10}  {:>10}  {:>8}  {:9}  {:>4}  {:>5.0}%  {}",
            case.case,
            number(case.ours),
            optional(case.peer_value),
            optional(case.ratio),
            case.unit,
            case.runs,
            case.spread * 100.0,
            case.peer.as_deref().unwrap_or("-")
        );
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes `target/bench/NAME.json`.
pub fn write(name: &str, cases: &[Case]) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(cases)? + "\n";
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nwritten to {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let rate = Case::beside("", "req/s", Better::More, &[200.0, 100.0, 300.0], "peer", &[50.0]);
        assert_eq!((rate.ours, rate.ratio, rate.spread, rate.runs), (200.0, Some(4.0), 1.0, 3));
        let time = Case::beside("", "ms", Better::Less, &[200.0], "peer", &[50.0]);
        assert_eq!(time.ratio, Some(0.25));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }
}
