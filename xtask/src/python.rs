//! Python environments under target/ with exactly pinned packages.
//!
//! Called by `setup` for the clients we are tested with and by `bench` for the peer we are measured beside. pip's
//! own configuration decides where packages come from.

use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::progress::step;
use crate::tree::{Tree, fingerprint};

/// An environment: its folder under target/ and what is in it.
pub struct Environment {
    folder: &'static str,
    what: &'static str,
    requirements: &'static str,
}

/// The aws CLI and boto3.
pub const CLIENTS: Environment = Environment {
    folder: "venv",
    what: "the aws CLI and boto3",
    requirements: include_str!("../python/clients.txt"),
};

/// moto's server, a peer for benchmarks.
pub const PEER: Environment = Environment {
    folder: "venv-moto",
    what: "moto's server",
    requirements: include_str!("../python/peer.txt"),
};

/// Makes the environment unless it is there with the same packages.
pub fn ensure(tree: &Tree, environment: Environment) -> Result<()> {
    let folder = tree.target.join(environment.folder);
    // Scripts in an environment hold its path, so one that was moved is made again.
    let path = folder.to_string_lossy().into_owned();
    let key = fingerprint([path.as_bytes(), environment.requirements.as_bytes()]);
    if tree.is_done(environment.folder, &key) && folder.join("bin/python").exists() {
        return Ok(());
    }
    let name = format!("installing {} into target/{}", environment.what, environment.folder);
    step(tree, environment.folder, &name, |log| {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        log.run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let requirements = tree.setup().join(format!("{}.txt", environment.folder));
        fs::write(&requirements, environment.requirements)?;
        let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--requirement"];
        log.run(Command::new(folder.join("bin/python")).args(pip).arg(&requirements))
    })?;
    tree.done(environment.folder, &key)
}
