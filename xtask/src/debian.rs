//! Debian's packages: installed where we may, downloaded and unpacked where nothing has to be installed.
//!
//! Called by `setup` (programs for this machine) and `ingredients` (what goes into the guest). Deliberately
//! absent: other distributions; `setup` tells their users what is needed.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::{Log, step};
use crate::tree::Tree;

/// Whether this machine has apt and dpkg.
pub fn is_here() -> bool {
    which("apt-get").is_some() && which("dpkg-deb").is_some()
}

/// Where a program lies. `/usr/sbin` and `/sbin` too, which a plain user's PATH lacks on Debian.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Installs packages by name, as root or through sudo; else says what to type.
pub fn install(tree: &Tree, packages: &[&str]) -> Result<()> {
    let Some(become_root) = become_root() else {
        bail!(
            "these packages are missing and only root may install them; as root, run:\n    \
             apt-get update && apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    };
    let apt = |arguments: &[&str]| {
        let words = become_root.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        let mut words = words.chain(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]);
        // `env` always follows, so there is a first word.
        let mut command = Command::new(words.next().unwrap_or("env"));
        command.args(words).args(arguments);
        command
    };
    step(tree, "apt-install", &format!("installing {}", packages.join(", ")), |log| {
        // One source of many that does not answer is no reason to stop: what is missing then fails below.
        let updated = log.run(&mut apt(&["update"]));
        let mut arguments = vec!["install", "--no-install-recommends"];
        arguments.extend(packages);
        let installed = log.run(&mut apt(&arguments));
        installed.or_else(|error| updated.and(Err(error)))
    })
}

/// The words before a command that make it run as root; none when we are root; `None` when we cannot.
fn become_root() -> Option<Vec<&'static str>> {
    if rustix::process::geteuid().is_root() {
        return Some(Vec::new());
    }
    which("sudo")?;
    let quiet = |arguments: &[&str]| {
        let mut sudo = Command::new("sudo");
        sudo.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sudo.status().is_ok_and(|status| status.success())
    };
    if quiet(&["-n", "true"]) {
        return Some(vec!["sudo", "-n"]);
    }
    // Asks for the password now, on the terminal, and not in the middle of a step.
    let asked =
        stdin().is_terminal() && Command::new("sudo").arg("-v").status().is_ok_and(|status| status.success());
    asked.then(|| vec!["sudo", "-n"])
}

/// Packages for the guest, read through lists of our own: needs no root, and never meets a list that is stale.
pub struct Archive<'a> {
    log: &'a Log,
    folder: PathBuf,
}

impl<'a> Archive<'a> {
    /// Fetches the lists of the machine's own package sources into `folder`.
    pub fn open(log: &'a Log, folder: PathBuf) -> Result<Archive<'a>> {
        for part in ["state/lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("state/status"), "")?;
        let archive = Archive { log, folder };
        log.run(archive.apt("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// What a metapackage stands for: its first dependency whose name begins with `prefix`.
    pub fn dependency(&self, metapackage: &str, prefix: &str) -> Result<String> {
        let answer = self.log.output(self.apt("apt-cache").args(["depends", metapackage]))?;
        dependency_in(&answer, prefix)
            .with_context(|| format!("{metapackage} depends on no package {prefix}..., says apt:\n{answer}"))
    }

    /// Downloads a package and unpacks it into `into`. Gives its version.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<String> {
        let packages = self.folder.join("packages");
        self.log.run(self.apt("apt-get").args(["download", package]).current_dir(&packages))?;
        let start = format!("{package}_");
        let mut found = None;
        for entry in fs::read_dir(&packages)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&start) {
                found = Some(entry.path());
            }
        }
        let file = found.with_context(|| format!("apt-get downloaded no file {start}*.deb"))?;
        self.log.run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(into))?;
        let version = self.log.output(Command::new("dpkg-deb").arg("--field").arg(&file).arg("Version"))?;
        fs::remove_file(&file)?;
        Ok(version.trim().to_owned())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::State", &self.folder.join("state"));
        option("Dir::State::status", &self.folder.join("state/status"));
        option("Dir::Cache", &self.folder.join("cache"));
        // Guests are x86_64 on whatever machine.
        option("APT::Architecture", Path::new("amd64"));
        option("APT::Architectures", Path::new("amd64"));
        // As root, apt would download as a user who may not write here.
        option("APT::Sandbox::User", Path::new("root"));
        command.arg("-q").env("LC_ALL", "C");
        command
    }
}

fn dependency_in(answer: &str, prefix: &str) -> Option<String> {
    let names = answer.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(prefix)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_is_followed_to_the_kernel_it_stands_for() {
        let answer = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        let kernel = dependency_in(answer, "linux-image-").unwrap();
        assert_eq!(kernel, "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(dependency_in("linux-image-cloud-amd64\n", "linux-image-"), None);
    }
}
