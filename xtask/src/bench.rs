//! `cargo xtask bench`: installs the peers, then hands over to the crate `bench`, which measures.

use anyhow::{Result, bail};

use crate::tree::Tree;
use crate::{cargo, setup};

/// Runs the benchmarks named, or all of them.
///
/// They find what they need where tests do (see [`crate::test::run`]), and the peer in `NEPHOS_PEER_VENV`.
pub fn run(tree: &Tree, names: &[String]) -> Result<()> {
    if !tree.root.join("test/bench/Cargo.toml").is_file() {
        bail!("there are no benchmarks: the crate test/bench is missing");
    }
    setup::run(tree)?;
    setup::peer(tree)?;
    let build = ["build", "--release", "--package", "nephos"];
    cargo::run("building nephos", &mut cargo::cargo(tree, &build))?;
    let mut bench = cargo::cargo(tree, &["run", "--release", "--package", "bench", "--"]);
    bench.args(names);
    bench.env("NEPHOS_IMAGES", tree.images());
    bench.env("NEPHOS_VENV", tree.target.join("venv"));
    bench.env("NEPHOS_PEER_VENV", tree.target.join("venv-moto"));
    bench.env("NEPHOS_BIN", tree.target.join("release/nephos"));
    cargo::run("measuring", &mut bench)
}
