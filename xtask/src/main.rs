//! All automation of the project, behind `cargo xtask`.
//!
//! Called by people and by `.ci/run`. One module per command; `progress` shows long steps, `tree` knows where
//! things lie. Invariant: depends on no crate of the workspace, because it installs what they need to build.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod cargo;
mod cpio;
mod debian;
mod etcd;
mod full;
mod fuzz;
mod image;
mod ingredients;
mod progress;
mod python;
mod setup;
mod test;
mod tree;
mod up;

use tree::Tree;

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                     everything that is missing, then a cloud on this machine
  cargo xtask up -- --zones 1 --small
  cargo xtask test                   the same set-up, then every test
  cargo xtask test -- -p host adopt  arguments of `cargo test` instead of --workspace
  cargo xtask fuzz sigv4_claim --seconds 60
  cargo xtask bench first-light";

/// Builds, tests and runs Nephos.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what is missing, builds, makes the guest image and starts a cloud.
    Up {
        /// Arguments of `nephos up`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Installs what is missing, builds, makes the guest image and runs every test.
    Test {
        /// Arguments of `cargo test`, in the place of `--workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Checks format and lints, then does what `test` does.
    Ci,
    /// Installs what is missing and makes the guest image; says what to install where it may not.
    #[command(visible_alias = "image")]
    Setup,
    /// Fuzzes one target with cargo-fuzz on the nightly toolchain.
    Fuzz {
        /// The fuzz target; `cargo xtask fuzz list` lists them.
        name: String,
        /// How long, in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Runs benchmarks beside their peers; prints tables and writes target/bench/NAME.json.
    Bench {
        /// Which (`first-light`), or parts of one (`first-light.start`); all without a name.
        names: Vec<String>,
    },
    /// Everything that is checked before a release: `ci`, long simulation, long tests, fuzzing, every benchmark.
    /// Writes docs/full.md.
    Full {
        /// How long to fuzz each target, in seconds.
        #[arg(long, default_value_t = 60)]
        fuzz_seconds: u64,
        /// How many seeds to simulate, each twice.
        #[arg(long, default_value_t = 5_000)]
        seeds: u64,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let tree = Tree::find()?;
    match command {
        Command::Up { arguments } => up::run(&tree, arguments),
        Command::Test { arguments } => test::run(&tree, arguments),
        Command::Ci => test::ci(&tree),
        Command::Setup => setup::run(&tree),
        Command::Fuzz { name, seconds } => fuzz::run(&tree, name, *seconds),
        Command::Bench { names } => bench::run(&tree, names),
        Command::Full { fuzz_seconds, seeds } => {
            full::run(&tree, full::Extent { fuzz_seconds: *fuzz_seconds, seeds: *seeds })
        }
    }
}
