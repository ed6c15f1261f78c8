//! `cargo xtask fuzz`: one fuzz target under cargo-fuzz, which is installed under target/ when it is missing.
//!
//! The targets and their corpora are in `fuzz/`, outside the workspace. Plain `cargo test` runs the corpora too,
//! so nothing here is needed to test.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::tree::Tree;
use crate::{cargo, setup};

/// The cargo-fuzz that is installed.
const CARGO_FUZZ: &str = "0.13.2";

/// Fuzzes `name` for `seconds`; `list` names the targets.
pub fn run(tree: &Tree, name: &str, seconds: u64) -> Result<()> {
    if !tree.root.join("fuzz/Cargo.toml").is_file() {
        bail!("there are no fuzz targets: the folder fuzz/ is missing");
    }
    let mut probe = nightly(&["cargo", "--version"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        bail!("fuzzing needs the nightly toolchain: rustup toolchain install nightly");
    }
    setup::run(tree)?;
    let tools = tree.target.join("tools");
    if !tools.join("bin/cargo-fuzz").is_file() {
        let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"];
        cargo::run("installing cargo-fuzz under target/tools", cargo::cargo(tree, &install).arg(&tools))?;
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools.join("bin")).chain(std::env::split_paths(&paths)))?;
    let seconds = format!("-max_total_time={seconds}");
    let mut fuzz = match name {
        "list" => nightly(&["cargo", "fuzz", "list"]),
        _ => nightly(&["cargo", "fuzz", "run", name, "--", &seconds]),
    };
    cargo::run(&format!("fuzzing {name}"), fuzz.current_dir(&tree.root).env("PATH", path))
}

/// A command of the nightly toolchain. Cargo's own variables would lead it back to ours.
fn nightly(words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).args(words);
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    command
}
