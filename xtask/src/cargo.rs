//! How we call cargo: from the workspace's root, with its own progress on the terminal.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::{headline, line};
use crate::tree::Tree;

/// A cargo command at the workspace's root.
pub fn cargo(tree: &Tree, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(&tree.root);
    command
}

/// Runs it to its end; fails when it does.
pub fn run(name: &str, command: &mut Command) -> Result<()> {
    headline(name);
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}
