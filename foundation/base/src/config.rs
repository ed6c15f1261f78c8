//! Where a peer is reached.

use crate::step::LaunchStep;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Where a peer is reached: fixed, or read anew before every connection from a file that the peer writes when it
/// has bound its port (so that a whole cloud on one machine needs no port of its own choosing).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// `host:port`
    Fixed(String),
    /// A file that holds `host:port`.
    File(PathBuf),
}

impl Address {
    /// The address now. Errors name the file.
    pub fn resolve(&self) -> std::io::Result<String> {
        match self {
            Address::Fixed(address) => Ok(address.clone()),
            Address::File(path) => {
                std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|e| {
                    std::io::Error::new(e.kind(), format!("no address yet in {}: {e}", path.display()))
                })
            }
        }
    }
}

/// Kills a process when its core reaches a step of a launch: how the crash tests cut at every step. The marker
/// file makes it happen once: it is made before the kill, and where it exists nothing happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashAt {
    /// A [`LaunchStep`] by name.
    pub step: String,
    /// The file that says that it happened.
    pub marker: PathBuf,
}

impl CrashAt {
    /// Kills this process (SIGKILL: nothing is flushed, nothing is dropped) if `reached` is the step and the
    /// marker does not exist yet. Blocks for ever after the signal is sent, so that nothing more is done.
    pub fn reached(&self, reached: LaunchStep) {
        if self.step != reached.as_str() {
            return;
        }
        let marker = std::fs::OpenOptions::new().write(true).create_new(true).open(&self.marker);
        if marker.is_ok() {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park_timeout(Duration::from_secs(1));
            }
        }
    }
}
