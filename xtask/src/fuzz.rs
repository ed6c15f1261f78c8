//! `cargo xtask fuzz`: one fuzz target under cargo-fuzz, which is installed under target/ when it is missing.
//!
//! The targets and their corpora are in `fuzz/`, outside the workspace. Plain `cargo test` runs the corpora too,
//! so nothing here is needed to test.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tree::{Tree, walk};
use crate::{cargo, setup};

/// The cargo-fuzz that is installed.
const CARGO_FUZZ: &str = "0.13.2";

/// Fuzzes `name` for `seconds`; `list` names the targets.
///
/// What the fuzzer learns is kept under target/: `fuzz-corpus` and, inputs that fail, `fuzz-found`.
pub fn run(tree: &Tree, name: &str, seconds: u64) -> Result<()> {
    let targets = targets(tree)?;
    if name == "list" {
        println!("{}", targets.join("\n"));
        return Ok(());
    }
    if !targets.iter().any(|target| target == name) {
        bail!("there is no fuzz target `{name}`; there are {}", targets.join(", "));
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
    let (learned, found) =
        (tree.target.join("fuzz-corpus").join(name), tree.target.join("fuzz-found").join(name));
    for folder in [&learned, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzz = nightly(&["cargo", "fuzz", "run", "--target-dir"]);
    fuzz.arg(tree.target.join("fuzz")).arg(name).arg(learned);
    let committed = ["corpus", "regressions"].map(|kind| tree.root.join("fuzz").join(kind).join(name));
    fuzz.args(committed.iter().filter(|folder| folder.is_dir()));
    // A folder, for libFuzzer appends the file's name to it.
    let artifacts = format!("-artifact_prefix={}/", found.display());
    fuzz.args(["--", &format!("-max_total_time={seconds}"), "-print_final_stats=1", &artifacts]);
    fuzz.current_dir(&tree.root).env("PATH", path);
    cargo::run(&format!("fuzzing {name}"), &mut fuzz).with_context(|| {
        format!("what {name} found is in {}; put it into fuzz/regressions/{name}", found.display())
    })
}

/// The targets' names: their files' under fuzz/fuzz_targets.
pub fn targets(tree: &Tree) -> Result<Vec<String>> {
    let files = walk(&tree.root.join("fuzz/fuzz_targets"))?;
    Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
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
