//! Finds out what this machine lacks and installs it; done twice, the second time does nothing.
//!
//! Called first by every command that builds or runs anything. After it the guest image is there too, and the
//! Python environment of the clients. One set-up at a time works on a tree. It probes for programs and not for packages: a
//! machine may have a program from elsewhere, which installing Debian's package would only break.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::debian::{self, which};
use crate::tree::Tree;
use crate::{image, python};

/// Something this machine must have.
struct Need {
    /// What we look for.
    what: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
    present: fn(&Need) -> bool,
}

const NEEDS: [Need; 7] = [
    Need { what: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "runs guests", present: in_path },
    Need { what: "qemu-img", package: "qemu-utils", purpose: "makes guests' disks", present: in_path },
    Need {
        what: "protoc",
        package: "protobuf-compiler",
        purpose: "builds the contract crate",
        present: in_path,
    },
    Need { what: "mke2fs", package: "e2fsprogs", purpose: "makes the guest image", present: in_path },
    Need { what: "debugfs", package: "e2fsprogs", purpose: "makes the guest image", present: in_path },
    Need {
        what: "etcd",
        package: "etcd-server",
        purpose: "tests the metadata store's etcd engine",
        present: in_path,
    },
    Need {
        what: "python3 with venv and ensurepip",
        package: "python3-venv",
        purpose: "holds the aws CLI and boto3, the clients we test with",
        present: python_makes_environments,
    },
];

/// Installs what is missing on this machine, and puts under target/ what need not be installed.
pub fn run(tree: &Tree) -> Result<()> {
    let _alone = tree.lock()?;
    programs_ensure(tree)?;
    python::ensure(tree, python::CLIENTS)?;
    image::ensure(tree)
}

/// What benchmarks are measured beside.
pub fn peer(tree: &Tree) -> Result<()> {
    let _alone = tree.lock()?;
    python::ensure(tree, python::PEER)
}

fn programs_ensure(tree: &Tree) -> Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        if !debian::is_here() {
            bail!(
                "this machine lacks programs, and is no Debian or Ubuntu where we could install them:\n{}\n\
                 Install them and try again. The guest image is made of Debian's packages, so it also takes \
                 apt-get, apt-cache and dpkg-deb with a source of Debian packages.",
                list(&missing)
            );
        }
        eprintln!("this machine lacks:\n{}", list(&missing));
        let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
        packages.dedup();
        debian::install(tree, &packages)?;
        let still = self::missing();
        if !still.is_empty() {
            bail!("apt-get installed {}, and yet this machine lacks:\n{}", packages.join(", "), list(&still));
        }
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.present)(need)).collect()
}

fn list(needs: &[&Need]) -> String {
    let lines = needs
        .iter()
        .map(|need| format!("    {}: {} (Debian package {})", need.what, need.purpose, need.package));
    lines.collect::<Vec<_>>().join("\n")
}

fn in_path(need: &Need) -> bool {
    which(need.what).is_some()
}

fn python_makes_environments(_: &Need) -> bool {
    let mut python = Command::new("python3");
    python
        .args(["-c", "import venv, ensurepip"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}
