//! `cargo xtask up`: from a clone to a running cloud.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tree::Tree;
use crate::{cargo, setup};

/// Sets up, builds and becomes `nephos up`, which then owns the terminal.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    setup::run(tree)?;
    let build = ["build", "--release", "--package", "nephos"];
    cargo::run("building nephos (minutes the first time)", &mut cargo::cargo(tree, &build))?;
    let nephos = tree.target.join("release/nephos");
    let failed = Command::new(&nephos).arg("up").arg("--images").arg(tree.images()).args(arguments).exec();
    Err(failed).with_context(|| format!("cannot run {}", nephos.display()))
}
