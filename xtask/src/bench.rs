//! `cargo xtask bench`: installs the peers, then hands over to the crate `bench`, which measures.

use std::process::{Command, exit};

use anyhow::Result;

use crate::tree::Tree;
use crate::{cargo, etcd, setup};

/// The exit code of the crate `bench` for a name that it does not know.
const UNKNOWN_NAME: i32 = 2;

/// Runs the benchmarks named, or all of them. A name that is none ends this process with exit code 2, before
/// anything is installed.
///
/// They find what they need where tests do (see [`crate::test::run`]), and the peer in `NEPHOS_PEER_VENV`.
pub fn run(tree: &Tree, names: &[String]) -> Result<()> {
    let status = bench(tree).arg("--check").args(names).status()?;
    if status.code() == Some(UNKNOWN_NAME) {
        exit(UNKNOWN_NAME);
    }
    setup::run(tree)?;
    setup::peer(tree)?;
    let build = ["build", "--release", "--package", "nephos"];
    cargo::run("building nephos", &mut cargo::cargo(tree, &build))?;
    let mut measure = bench(tree);
    measure.args(names);
    measure.env("NEPHOS_IMAGES", tree.images());
    measure.env("NEPHOS_PEER_VENV", tree.target.join("venv-moto"));
    measure.env("NEPHOS_BIN", tree.target.join("release/nephos"));
    etcd::provide(tree, &mut measure)?;
    cargo::run("measuring", &mut measure)
}

/// The crate's program, to be given arguments.
fn bench(tree: &Tree) -> Command {
    cargo::cargo(tree, &["run", "--quiet", "--release", "--package", "bench", "--"])
}
