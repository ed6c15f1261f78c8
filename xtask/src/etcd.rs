//! etcd, which tests and benchmarks run beside our own store: Debian's, unpacked under target/setup/ where the machine
//! has none. Never installed: Debian's package would start a server on this machine.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::Result;

use crate::debian::{Archive, which};
use crate::progress::step;
use crate::tree::Tree;

/// Raise it when what is fetched changes.
const KEY: &str = "etcd-server etcd-client, layout 1";

/// Fetches etcd and etcdctl unless they are here, and lets `command` find them.
pub fn provide(tree: &Tree, command: &mut Command) -> Result<()> {
    if which("etcd").is_some() && which("etcdctl").is_some() {
        return Ok(());
    }
    let _alone = tree.lock()?;
    let folder = tree.setup().join("etcd");
    let root = folder.join("root");
    if !tree.is_done("etcd", KEY) {
        step(tree, "etcd", "fetching etcd", |log| {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&root)?;
            let archive = Archive::open(log, folder.join("apt"))?;
            for package in ["etcd-server", "etcd-client"] {
                archive.unpack(package, &root)?;
            }
            fs::remove_dir_all(folder.join("apt"))?;
            Ok(())
        })?;
        tree.done("etcd", KEY)?;
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(root.join("usr/bin")).chain(std::env::split_paths(&paths));
    let path: OsString = std::env::join_paths(found)?;
    command.env("PATH", path);
    Ok(())
}
