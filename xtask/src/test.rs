//! `cargo xtask test`, the same everywhere, and `cargo xtask ci`, which adds format and lints.

use std::process::Command;

use anyhow::Result;

use crate::tree::Tree;
use crate::{cargo, etcd, setup};

/// Sets up, builds and runs the tests: all of them, or those that `arguments` of `cargo test` choose.
///
/// Tests find what they need in the environment: `NEPHOS_IMAGES` (folder of guest images), `NEPHOS_VENV` (Python
/// environment with the aws CLI and boto3) and `NEPHOS_BIN` (the binary); and etcd in `PATH`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    setup::run(tree)?;
    cargo::run("building the workspace", &mut cargo::cargo(tree, &["build", "--workspace"]))?;
    let mut test = cargo::cargo(tree, &["test"]);
    if arguments.is_empty() {
        // Every failure of every crate, not the first crate's alone.
        test.args(["--workspace", "--no-fail-fast"]);
    }
    test.args(arguments);
    environment(tree, &mut test)?;
    cargo::run("testing", &mut test)?;
    eprintln!("==> all tests passed");
    Ok(())
}

/// Lets a test's command find what tests need.
pub fn environment(tree: &Tree, test: &mut Command) -> Result<()> {
    test.env("NEPHOS_IMAGES", tree.images());
    test.env("NEPHOS_VENV", tree.target.join("venv"));
    test.env("NEPHOS_BIN", tree.target.join("debug/nephos"));
    etcd::provide(tree, test)
}

/// What a change must pass.
pub fn ci(tree: &Tree) -> Result<()> {
    setup::run(tree)?;
    cargo::run("checking the format", &mut cargo::cargo(tree, &["fmt", "--all", "--check"]))?;
    let lint = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    cargo::run("checking lints", &mut cargo::cargo(tree, &lint))?;
    run(tree, &[])
}
