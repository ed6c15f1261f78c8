//! What each process of a cloud is told: its config, which follows from `cloud.toml` alone.

use crate::cloud::{Cloud, EMBEDDED, Member, SHARED, UIDS_PER_HOST, ZoneLayout};
use crate::error::Error;
use base::config::{Address, CrashAt};
use base::ids::HostId;
use base::step::{LaunchStep, StepRole};
use contract::trust::{Identity, Role};
use metastore::StorePlace;
use std::path::Path;

impl Cloud {
    /// Where a process finds its store.
    pub fn store_place(&self, member: &Member, dir: &Path) -> StorePlace {
        let namespace = member.identity.to_string();
        match self.topology.store.as_str() {
            EMBEDDED => StorePlace::Embedded(dir.join("store")),
            SHARED => {
                let tls = |file: &str| url_quoted(&dir.join("tls").join(file).to_string_lossy());
                let name = Identity::new(Role::Store, &self.topology.region).dns_name();
                StorePlace::Etcd(format!(
                    "etcd://127.0.0.1:{}/{namespace}?ca={}&cert={}&key={}&name={name}",
                    self.topology.store_port,
                    tls("ca.pem"),
                    tls("cert.pem"),
                    tls("key.pem")
                ))
            }
            url => {
                let (place, options) = url.split_once('?').map_or((url, None), |(p, o)| (p, Some(o)));
                let options = options.map(|options| format!("?{options}")).unwrap_or_default();
                StorePlace::Etcd(format!("{}/{namespace}{options}", place.trim_end_matches('/')))
            }
        }
    }

    /// What the state of a store that is ours may take in memory.
    pub fn state_bytes_max(&self) -> u64 {
        u64::from(self.topology.state_max) << 30
    }

    /// Where a step of a launch is to kill its process.
    pub fn crash_at(&self, step: Option<&str>) -> Result<Option<(StepRole, CrashAt)>, Error> {
        let Some(step) = step else { return Ok(None) };
        let parsed: LaunchStep =
            step.parse().map_err(|e: base::step::UnknownStep| Error::Said(e.to_string()))?;
        let marker = self.run().join(format!("crashed-at-{step}"));
        Ok(Some((parsed.role(), CrashAt { step: step.to_owned(), marker })))
    }

    /// The config of a process with this directory.
    pub fn config(
        &self,
        member: &Member,
        dir: &Path,
        crash_at: Option<&(StepRole, CrashAt)>,
    ) -> Result<String, Error> {
        let layout = self.layout()?;
        let crash = |role: StepRole| crash_at.filter(|(of, _)| *of == role).map(|(_, crash)| crash.clone());
        let address =
            |role, name: &dyn std::fmt::Display| Address::File(self.address_file(&Identity::new(role, name)));
        let credentials = dir.join("tls");
        let (store, process) = (self.store_place(member, dir), member.label());
        let (address_file, standing_file) = (self.address_file(&member.identity), self.standing_file(member));
        let zone_of = |found: &dyn Fn(&ZoneLayout) -> bool| {
            layout
                .iter()
                .find(|zone| found(zone))
                .ok_or_else(|| Error::Said(format!("{} has no zone", member.label())))
        };
        let text = match member.identity.role {
            Role::Region => toml::to_string(&region::config::RegionConfig {
                region: self.topology.region.clone(),
                api_listen: format!("127.0.0.1:{}", self.topology.port),
                api_address_file: self.api_address_file(),
                operator_listen: "127.0.0.1:0".into(),
                operator_address_file: self.operator_address_file(),
                credentials,
                store,
                state_bytes_max: self.state_bytes_max(),
                process,
                standing_file,
                images: self.images(),
                vcpus_per_account: self.topology.vcpus_per_account,
                pools: region::pool::Pools::default(),
                networks: self.topology.networks,
                requests_per_second_per_account: 5_000,
                zones: layout
                    .iter()
                    .map(|zone| region::config::ZoneEntry {
                        name: zone.zone.clone(),
                        address: address(Role::Zone, &zone.zone),
                        cells: vec![region::config::CellEntry {
                            id: zone.cell.clone(),
                            address: address(Role::Cell, &zone.cell),
                        }],
                    })
                    .collect(),
                crash_at: crash(StepRole::Region),
            }),
            Role::Zone => toml::to_string(&zone::ZoneConfig {
                zone: zone_of(&|zone| zone.zone.as_str() == member.identity.instance)?.zone.clone(),
                listen: "127.0.0.1:0".into(),
                address_file,
                credentials,
            }),
            Role::Cell => {
                let zone = zone_of(&|zone| zone.cell.as_str() == member.identity.instance)?;
                toml::to_string(&cell::CellConfig {
                    cell_id: zone.cell.clone(),
                    zone: zone.zone.clone(),
                    listen: "127.0.0.1:0".into(),
                    address_file,
                    credentials,
                    store,
                    state_bytes_max: self.state_bytes_max(),
                    process,
                    standing_file,
                    zone_address: address(Role::Zone, &zone.zone),
                    crash_at: crash(StepRole::Cell),
                })
            }
            Role::Host => {
                let named = |host: &HostId| host.as_str() == member.identity.instance;
                let zone = zone_of(&|zone| zone.hosts.iter().any(|(host, _)| named(host)))?;
                let index = layout.iter().flat_map(|zone| &zone.hosts).position(|(host, _)| named(host));
                let index = index.unwrap_or(0);
                let (host_id, rack_id) = zone
                    .hosts
                    .iter()
                    .find(|(host, _)| named(host))
                    .cloned()
                    .ok_or_else(|| Error::Said(format!("{} has no zone", member.label())))?;
                toml::to_string(&host::config::HostConfig {
                    host_id,
                    rack_id,
                    zone: zone.zone.clone(),
                    cell_id: zone.cell.clone(),
                    cell: address(Role::Cell, &zone.cell),
                    credentials,
                    directory: dir.to_owned(),
                    images: self.images(),
                    vcpus: self.topology.vcpus_per_host,
                    memory_mib: self.topology.memory_per_host * 1024,
                    vmm: if self.topology.vmm == "qemu" {
                        host::config::VmmChoice::Qemu
                    } else {
                        host::config::VmmChoice::Simulated
                    },
                    accelerator: match self.topology.accelerator.as_str() {
                        "kvm" => host::accelerator::AcceleratorChoice::Kvm,
                        "tcg" => host::accelerator::AcceleratorChoice::Tcg,
                        _ => host::accelerator::AcceleratorChoice::Auto,
                    },
                    shutdown_timeout_s: self.topology.shutdown_timeout,
                    uid_first: self.topology.uid_first + index as u32 * UIDS_PER_HOST,
                    uid_count: UIDS_PER_HOST,
                    crash_at: crash(StepRole::Host),
                })
            }
            Role::Store => toml::to_string(&store::StoreConfig {
                name: member.identity.instance.clone(),
                listen: format!("127.0.0.1:{}", self.topology.store_port),
                address_file,
                credentials,
                directory: dir.join("store"),
                state_bytes_max: self.state_bytes_max(),
            }),
            Role::Vswitch | Role::Operator => return Ok(String::new()),
        };
        text.map_err(|error| Error::Said(format!("cannot write the config of {}: {error}", member.label())))
    }
}

/// A path as a URL's option.
fn url_quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let quoted = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    quoted.collect()
}
