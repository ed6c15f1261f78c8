//! What a testbed is made of: the binary, the guest images, the clients.
//!
//! `cargo xtask test` names them in the environment (`NEPHOS_BIN`, `NEPHOS_IMAGES`, `NEPHOS_VENV`); a plain
//! `cargo test` finds them where a build and `cargo xtask setup` leave them, under the target folder that the
//! test's own executable lies in. What is missing fails the test and is never a reason to skip it.

use std::path::{Path, PathBuf};

/// The `nephos` binary.
pub fn binary() -> PathBuf {
    let path = given("NEPHOS_BIN").unwrap_or_else(|| {
        // target/debug/deps/e2e-0123 lies below target/debug/nephos.
        let profile = executable().ancestors().nth(2).map(Path::to_owned);
        profile.expect("the test's executable lies in target/PROFILE/deps").join("nephos")
    });
    assert!(path.is_file(), "there is no binary {}; `cargo build -p nephos` makes it", path.display());
    path
}

/// The folder of guest images.
pub fn images() -> PathBuf {
    let path = given("NEPHOS_IMAGES").unwrap_or_else(|| target().join("images"));
    let images = std::fs::read_dir(&path).into_iter().flatten().flatten();
    let complete = images.map(|image| image.path().join("image.toml")).any(|image| image.is_file());
    assert!(complete, "there is no guest image in {}; `cargo xtask setup` makes one", path.display());
    path
}

/// A program of the Python environment: `aws`, `python`.
pub fn client(name: &str) -> PathBuf {
    let path = given("NEPHOS_VENV").unwrap_or_else(|| target().join("venv")).join("bin").join(name);
    assert!(path.is_file(), "there is no {}; `cargo xtask setup` installs it", path.display());
    path
}

/// A file of this crate's `python/`.
pub fn python_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn executable() -> PathBuf {
    std::env::current_exe().expect("a running test knows its executable")
}

fn target() -> PathBuf {
    let target = executable().ancestors().nth(3).map(Path::to_owned);
    target.expect("the test's executable lies in target/PROFILE/deps")
}
