//! The host agent's config: one TOML file, checked once, in which nothing unknown is tolerated.

use crate::accelerator::AcceleratorChoice;
use crate::isolation::UidRange;
use base::config::{Address, CrashAt};
use base::ids::{CellId, HostId, RackId, ZoneName};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What drives the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmmChoice {
    /// QEMU, with real guests.
    Qemu,
    /// Nothing: no guests at all, see [`crate::vmm::simulated`].
    Simulated,
}

/// `nephos host`'s config.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// This host's name; its certificate carries it too.
    pub host_id: HostId,
    /// The rack that it stands in.
    pub rack_id: RackId,
    /// The zone that it stands in.
    pub zone: ZoneName,
    /// The name of its cell.
    pub cell_id: CellId,
    /// Where the cell listens for its hosts.
    pub cell: Address,
    /// `ca.pem`, `cert.pem`, `key.pem`.
    pub credentials: PathBuf,
    /// The ledger and the VMs' files. With users of their own, VMs must be able to pass it (o+x).
    pub directory: PathBuf,
    /// The images, see [`crate::image`].
    pub images: PathBuf,
    /// What it has to give; may be more than is there, which the status says.
    pub vcpus: u32,
    /// The same for memory, in MiB.
    pub memory_mib: u32,
    /// What drives the VMs.
    pub vmm: VmmChoice,
    /// What runs the guests' instructions.
    #[serde(default)]
    pub accelerator: AcceleratorChoice,
    /// How long a guest has to shut down when asked, in seconds.
    #[serde(default = "shutdown_timeout_s_default")]
    pub shutdown_timeout_s: u64,
    /// As root: the lowest of the user ids that VMs get, one each.
    #[serde(default = "uid_first_default")]
    pub uid_first: u32,
    /// As root: how many there are. Hosts on one machine need ranges that do not overlap.
    #[serde(default = "uid_count_default")]
    pub uid_count: u32,
    /// For crash tests.
    #[serde(default)]
    pub crash_at: Option<CrashAt>,
}

const fn shutdown_timeout_s_default() -> u64 {
    90
}

const fn uid_first_default() -> u32 {
    800_000
}

const fn uid_count_default() -> u32 {
    crate::agent::VMS_MAX as u32
}

impl HostConfig {
    /// What cannot be right, and what to do about it.
    pub fn check(&self) -> Result<(), String> {
        if self.vcpus == 0 || self.memory_mib == 0 {
            return Err("`vcpus` and `memory_mib` must be above 0: a host without them takes no VM".into());
        }
        if self.shutdown_timeout_s == 0 {
            return Err("`shutdown_timeout_s` must be above 0, or guests are always cut off".into());
        }
        if self.uid_first == 0 || self.uid_count == 0 || self.uid_first.checked_add(self.uid_count).is_none()
        {
            return Err("`uid_first` and `uid_count` must name user ids, and not root's".into());
        }
        let step = self.crash_at.as_ref().map(|crash| crash.step.parse::<base::step::LaunchStep>());
        match step {
            Some(Err(error)) => Err(format!("`crash_at`: {error}")),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// The users that VMs get, if this process may give them any.
    pub(crate) fn uids(&self) -> Option<UidRange> {
        let range = UidRange { first: self.uid_first, count: self.uid_count };
        (self.vmm == VmmChoice::Qemu && crate::isolation::can_switch_users()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        host_id = "h1"
        rack_id = "r1"
        zone = "us-east-1a"
        cell_id = "us-east-1a-c1"
        cell = { file = "/run/cell/address" }
        credentials = "/run/h1/credentials"
        directory = "/run/h1"
        images = "/images"
        vcpus = 8
        memory_mib = 8192
        vmm = "qemu"
    "#;

    #[test]
    fn a_config_is_read_with_its_defaults_and_unknown_keys_are_refused() {
        let config: HostConfig = toml::from_str(TEXT).unwrap();
        config.check().unwrap();
        assert_eq!((config.accelerator, config.shutdown_timeout_s), (AcceleratorChoice::Auto, 90));
        assert!(toml::from_str::<HostConfig>(&format!("{TEXT}\ncpus = 3")).is_err());
        let nothing: HostConfig = toml::from_str(&TEXT.replace("vcpus = 8", "vcpus = 0")).unwrap();
        assert!(nothing.check().unwrap_err().contains("vcpus"));
    }
}
