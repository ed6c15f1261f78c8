//! The benchmarks, run by `cargo xtask bench [NAME[.PART]...]`: each prints a table and writes `target/bench/NAME.json`.
//!
//! A benchmark starts its own clouds and its own peer, drives both with one closed-loop client, in turns, and reads
//! what the servers used from `/proc`. Invariant: nothing here is a test; no number passes or fails.

mod client;
mod closed_loop;
mod cloud;
mod first_light;
mod peer;
mod process;
mod report;
mod store;

use anyhow::{Context, Result};
use report::Case;
use std::path::PathBuf;
use std::process::ExitCode;

/// A benchmark: a name and parts that can be run alone.
struct Benchmark {
    name: &'static str,
    parts: &'static [Part],
}

/// A part of one.
struct Part {
    name: &'static str,
    measure: fn(&Place) -> Result<Vec<Case>>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark { name: "first-light", parts: first_light::PARTS },
    Benchmark { name: "store", parts: store::PARTS },
];

/// Where a benchmark finds things.
struct Place {
    /// The binary, in release.
    nephos: PathBuf,
    /// The guest images.
    images: PathBuf,
    /// The Python environment of the peer.
    peer_venv: PathBuf,
}

impl Place {
    /// From the variables that xtask sets.
    fn from_environment() -> Result<Place> {
        let path = |name: &str| {
            let value = std::env::var_os(name);
            value
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set; start with `cargo xtask bench`"))
        };
        Ok(Place {
            nephos: path("NEPHOS_BIN")?,
            images: path("NEPHOS_IMAGES")?,
            peer_venv: path("NEPHOS_PEER_VENV")?,
        })
    }
}

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let check = names.first().is_some_and(|name| name == "--check");
    if check {
        names.remove(0);
    }
    let mut chosen = Vec::new();
    for name in &names {
        match find(name) {
            Some(found) => chosen.push((name.clone(), found)),
            None => {
                eprintln!("there is no benchmark `{name}`; there are:");
                for benchmark in BENCHMARKS {
                    let parts: Vec<&str> = benchmark.parts.iter().map(|part| part.name).collect();
                    eprintln!("  {}  (alone: .{})", benchmark.name, parts.join(", ."));
                }
                return ExitCode::from(2);
            }
        }
    }
    if names.is_empty() {
        chosen = BENCHMARKS.iter().map(|all| (all.name.to_owned(), all.parts.iter().collect())).collect();
    }
    if check {
        return ExitCode::SUCCESS;
    }
    match run(&chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The parts that `NAME` or `NAME.PART` names.
fn find(name: &str) -> Option<Vec<&'static Part>> {
    let (benchmark, part) = name.split_once('.').map_or((name, None), |(name, part)| (name, Some(part)));
    let benchmark = BENCHMARKS.iter().find(|known| known.name == benchmark)?;
    let parts: Vec<&Part> =
        benchmark.parts.iter().filter(|known| part.is_none_or(|part| part == known.name)).collect();
    (!parts.is_empty()).then_some(parts)
}

fn run(chosen: &[(String, Vec<&'static Part>)]) -> Result<()> {
    let place = Place::from_environment()?;
    println!("{}", report::machine());
    for (name, parts) in chosen {
        let mut cases = Vec::new();
        for part in parts {
            report::progress(&format!("{name}: {}", part.name));
            cases.extend((part.measure)(&place).with_context(|| format!("{name}, {}", part.name))?);
        }
        report::print(name, &cases);
        report::write(name, &cases)?;
    }
    Ok(())
}
