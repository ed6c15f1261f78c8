//! A cloud's directory: what it is made of (`cloud.toml`), and where everything lies.
//!
//! ```text
//!   DIR/cloud.toml            what was asked for; written under `run/cloud.lock`
//!   DIR/credentials.json      the default account's keys (0600)
//!   DIR/authority/            the certificate authority (0700)
//!   DIR/run/NAME.{pid,log,address,hold,standing}   of each process; supervisor.{pid,lock}
//!   DIR/{region,zones/Z,cells/C}/{config.toml,tls/,store/}   config-1.toml and config-2.toml of two processes
//!   DIR/store/{config.toml,tls/,store/}   where processes share it
//!   DIR/hosts/H/{config.toml,tls/,...}    the ledger and the VMs
//!   DIR/operator/             the operator's certificate
//!   DIR/images/               the machine images, see [`crate::images`]
//!   DIR/cache/                packages of images that were built here
//! ```

use crate::arguments::{Accelerator, At, Up, Vmm};
use crate::error::Error;
use crate::shell::quoted_path;
use crate::{process, supervisor};
use base::ids::{CellId, HostId, RackId, RegionName, ZoneName};
use contract::trust::{Authority, Identity, Role};
use metastore::{EngineOptions, EtcdOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const REGION: &str = "us-east-1";
const PORT: u16 = 4566;
/// User ids that each host of one machine may give to VMs.
pub const UIDS_PER_HOST: u32 = 1_000;
/// Where user ids of clouds begin is chosen once, at random, in steps of a container's 65536, so that two clouds (or
/// a cloud and somebody's containers) hardly ever meet.
const UID_STEP: u32 = 65_536;
const UIDS_FROM: u32 = 1 << 30;
const UIDS_TO: u32 = 1 << 31;
/// Where a container's root has too few of them.
const UID_FIRST_NARROW: u32 = 20_000;

/// What a cloud on one machine is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The region's name.
    pub region: RegionName,
    /// The API's port.
    pub port: u16,
    /// How many zones.
    pub zones: u8,
    /// How many hosts in each.
    pub hosts_per_zone: u8,
    /// Of each host.
    pub vcpus_per_host: u32,
    /// Of each host, in GiB.
    pub memory_per_host: u32,
    /// Of each account.
    pub vcpus_per_account: u32,
    /// `qemu` or `simulated`.
    pub vmm: String,
    /// `auto`, `kvm` or `tcg`.
    pub accelerator: String,
    /// In seconds.
    pub shutdown_timeout: u64,
    /// Where the images are copied from.
    pub images: PathBuf,
    /// The first of the user ids that VMs get.
    #[serde(default = "uid_first_default")]
    pub uid_first: u32,
    /// `embedded`: in the processes of region and cells, one of each. `shared`: in a process of its own. Else etcd's
    /// URL. With the latter two there are two processes of the region and of each cell.
    #[serde(default = "store_default")]
    pub store: String,
    /// Where the shared store listens.
    #[serde(default)]
    pub store_port: u16,
    /// The records of networks are kept, although no host carries anything yet.
    #[serde(default)]
    pub networks: bool,
    /// What the state of each embedded store, or of the shared one, may take in memory, in GiB.
    #[serde(default = "state_max_default")]
    pub state_max: u32,
    /// The highest incarnation that a store of this cloud was ever given by `nephos store migrate` or `incarnation`:
    /// what was moved or restored since begins above it.
    #[serde(default)]
    pub incarnation: u64,
    /// A move to `store` that is not all done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
}

/// A move of the stores that has come so far that the new ones count; [`crate::store::settle`] does the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moving {
    /// The migration's name, which the new stores' marks bear.
    pub name: String,
    /// `store` as it was before.
    pub from: String,
}

/// A store in each process.
pub const EMBEDDED: &str = "embedded";
/// A store in a process of its own.
pub const SHARED: &str = "shared";
/// Processes of the region and of each cell that share a store.
const PROCESSES: u8 = 2;

fn store_default() -> String {
    EMBEDDED.to_owned()
}

const fn state_max_default() -> u32 {
    (EngineOptions::STATE_BYTES_MAX >> 30) as u32
}

const fn uid_first_default() -> u32 {
    800_000
}

/// A process of the cloud.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// What it is, and which.
    pub identity: Identity,
    /// Of several processes that share the identity, counted from 1; 0: it is the only one.
    pub process: u8,
}

impl Member {
    /// The only process of this identity.
    pub fn only(identity: Identity) -> Member {
        Member { identity, process: 0 }
    }

    /// `cell/us-east-1a-c1`, of several processes `cell/us-east-1a-c1/2`
    pub fn label(&self) -> String {
        match self.process {
            0 => self.identity.to_string(),
            process => format!("{}/{process}", self.identity),
        }
    }

    /// The name of its files in `run/`.
    pub fn file_name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.label().replace('/', "-"))
    }
}

/// A zone with its one cell and the cell's hosts.
pub struct ZoneLayout {
    /// The zone.
    pub zone: ZoneName,
    /// Its cell.
    pub cell: CellId,
    /// Hosts and their racks.
    pub hosts: Vec<(HostId, RackId)>,
}

/// A cloud's directory.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// The directory.
    pub dir: PathBuf,
    /// What it is made of.
    pub topology: Topology,
}

/// The directory that was named, or the default one.
pub fn directory(at: &At) -> Result<PathBuf, Error> {
    let dir = match &at.dir {
        Some(dir) => dir.clone(),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/nephos"),
        None => {
            let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
            let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
            let base = state.or(home).ok_or_else(|| {
                Error::Said("there is no HOME to keep the cloud in; name a directory with --dir".into())
            })?;
            base.join("nephos")
        }
    };
    std::path::absolute(&dir).map_err(Error::file("use", &dir))
}

impl Cloud {
    /// The cloud in the directory.
    pub fn open(at: &At) -> Result<Cloud, Error> {
        let dir = directory(at)?;
        let path = dir.join("cloud.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoCloud(dir)),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::Denied(dir));
            }
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let lock = fs::metadata(dir.join("run/supervisor.lock"));
        if lock.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) {
            return Err(Error::Denied(dir));
        }
        let topology = toml::from_str(&text)
            .map_err(|error| Error::Content { path, why: error.message().to_owned() })?;
        Ok(Cloud { dir, topology })
    }

    /// The directory for a cloud: one that is there, or is made, or is empty; never one that is something else's.
    pub fn directory_prepare(at: &At) -> Result<PathBuf, Error> {
        let dir = directory(at)?;
        match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("use", &dir)(error)),
            Ok(entries) => {
                let ours = dir.join("cloud.toml").exists() || dir.join("run/supervisor.lock").exists();
                if !ours && entries.count() > 0 {
                    return Err(Error::Said(format!(
                        "{0} holds other things and no cloud; name an empty directory or a new one, for example \
                         --dir {1}",
                        dir.display(),
                        quoted_path(&dir.join("nephos")),
                    )));
                }
            }
        }
        // Guests with users of their own must be able to pass; what is secret is closed below.
        directory_make(&dir, 0o711)?;
        directory_make(&dir.join("run"), 0o700)?;
        // By this file the directory is known as a cloud's from now on.
        let lock = dir.join("run/supervisor.lock");
        fs::OpenOptions::new().create(true).append(true).open(&lock).map_err(Error::file("write", &lock))?;
        Ok(dir)
    }

    /// The cloud in the directory, made if there is none, with what `up` asks for. To be called under the lock.
    pub fn ensure(up: &Up) -> Result<Cloud, Error> {
        let _edit = supervisor::edit(&directory(&up.at)?)?;
        let mut cloud = match Cloud::open(&up.at) {
            Ok(cloud) => cloud,
            Err(Error::NoCloud(dir)) => Cloud { dir, topology: first_topology(up)? },
            Err(error) => return Err(error),
        };
        let mut port = up.port;
        if let Some((member, process)) = process::running(&cloud, &cloud.members()?).first() {
            // It would go on with what it was started with.
            let runs = format!("({} runs, pid {})", member.label(), process.pid());
            cloud.refuse_changes(up).map_err(|error| Error::Said(format!("{error} {runs}")))?;
            // Any port is the one that a region may hold right now, which is why it is not free.
            port = port.filter(|port| *port != 0);
        }
        cloud.topology = cloud.changed(&Up { port, ..up.clone() })?;
        directory_make(&cloud.dir.join("hosts"), 0o711)?;
        cloud.save()?;
        Ok(cloud)
    }

    /// Writes `cloud.toml`. To be called under the lock of [`supervisor::edit`].
    pub fn save(&self) -> Result<(), Error> {
        let text = toml::to_string(&self.topology).map_err(|error| Error::Said(error.to_string()))?;
        let path = self.dir.join("cloud.toml");
        // An etcd's password is nobody else's.
        let former = self.topology.moving.as_ref().map_or("", |moving| &moving.from);
        let mode = if [&self.topology.store, former].iter().any(|store| store.contains('@')) {
            0o600
        } else {
            0o644
        };
        base::disk::file_replace(&path, text.as_bytes(), mode).map_err(Error::file("write", &path))
    }

    /// The same cloud with its stores in another engine: `embedded`, `shared`, or etcd's URL.
    pub fn moved_to(&self, store: &str) -> Result<Cloud, Error> {
        let mut next = self.clone();
        next.topology.store = store_checked("--to", store)?;
        if next.topology.store == self.topology.store {
            return Err(Error::Said(format!(
                "the cloud in {} has its store there already: {}",
                self.dir.display(),
                self.store_text()
            )));
        }
        let port = &mut next.topology.store_port;
        if store == SHARED && (*port == 0 || !port_is_free(*port)) {
            *port = port_free()?;
        }
        Ok(next)
    }

    /// Where the stores are, without what is secret.
    pub fn store_text(&self) -> String {
        store_text(&self.topology.store)
    }

    /// What `up` asks for must be what runs.
    pub fn refuse_changes(&self, up: &Up) -> Result<(), Error> {
        // Its port is one of "any", and other images can be copied, but only at a start.
        let up = Up { port: up.port.filter(|port| *port != 0), images: None, ..up.clone() };
        if self.changed(&up)? == self.topology {
            return Ok(());
        }
        Err(Error::Said(format!(
            "the cloud in {} runs with other options, which change only at a start: `nephos down` first",
            self.dir.display()
        )))
    }

    /// The topology with what `up` asks for, which must fit what cannot change.
    fn changed(&self, up: &Up) -> Result<Topology, Error> {
        self.refuse_other_shape(up)?;
        let mut topology = self.topology.clone();
        if let Some(images) = &up.images {
            topology.images = std::path::absolute(images).map_err(Error::file("use", images))?;
        }
        topology.port = match up.port {
            None => topology.port,
            Some(0) if port_is_free(topology.port) => topology.port,
            Some(0) => port_free()?,
            Some(port) => port,
        };
        topology.networks |= up.networks;
        topology.vcpus_per_host = up.vcpus_per_host.unwrap_or(topology.vcpus_per_host);
        topology.memory_per_host = up.memory_per_host.unwrap_or(topology.memory_per_host);
        topology.vcpus_per_account = up.vcpus_per_account.unwrap_or(topology.vcpus_per_account);
        topology.shutdown_timeout = up.shutdown_timeout.unwrap_or(topology.shutdown_timeout);
        topology.state_max = up.state_max.unwrap_or(topology.state_max);
        if let Some(accelerator) = up.accelerator {
            topology.accelerator = accelerator_name(accelerator).to_owned();
        }
        Ok(topology)
    }

    fn refuse_other_shape(&self, up: &Up) -> Result<(), Error> {
        let t = &self.topology;
        let (zones, hosts) = if up.small { (Some(1), Some(1)) } else { (up.zones, up.hosts_per_zone) };
        let vmm = up.vmm.map(vmm_name);
        let store_differs = store_asked(up).is_some_and(|store| store != t.store);
        let differs = [
            (zones.is_some_and(|zones| zones != t.zones), format!("{} zones", t.zones)),
            (
                hosts.is_some_and(|hosts| hosts != t.hosts_per_zone),
                format!("{} hosts a zone", t.hosts_per_zone),
            ),
            (vmm.is_some_and(|vmm| vmm != t.vmm), format!("VMs run by {}", t.vmm)),
            // Without a word about it, it stays as it is.
            (store_differs, format!("its store {}", self.store_text())),
        ];
        match differs.into_iter().find(|(differs, _)| *differs) {
            Some((_, has)) => Err(Error::Said(format!(
                "the cloud in {} has {has}, which `nephos up` cannot change; choose another --dir for another cloud\
                 {}",
                self.dir.display(),
                if store_differs { ", or move it with `nephos store migrate`" } else { "" }
            ))),
            None => Ok(()),
        }
    }

    /// `DIR/run`
    pub fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A file of a process in `run/`.
    pub fn run_file(&self, member: &Member, suffix: &str) -> PathBuf {
        self.run().join(member.file_name(suffix))
    }

    /// The cloud's own copies of the images.
    pub fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// Takes back that `nephos kill` wants the member dead.
    pub fn hold_remove(&self, member: &Member) -> Result<(), Error> {
        let hold = self.run_file(member, "hold");
        match fs::remove_file(&hold) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &hold)(error))
            }
            _ => Ok(()),
        }
    }

    /// Where the API listens, once it does.
    pub fn api_address_file(&self) -> PathBuf {
        self.run().join("api.address")
    }

    /// Where the operator's service listens, once it does.
    pub fn operator_address_file(&self) -> PathBuf {
        self.run().join("operator.address")
    }

    /// The default account's keys.
    pub fn credentials_file(&self) -> PathBuf {
        self.dir.join("credentials.json")
    }

    /// A host's own directory.
    pub fn host_dir(&self, host: &str) -> PathBuf {
        self.dir.join("hosts").join(host)
    }

    /// A process's own directory; those that share an identity share it.
    pub fn member_dir(&self, member: &Member) -> PathBuf {
        let instance = &member.identity.instance;
        match member.identity.role {
            Role::Region => self.dir.join("region"),
            Role::Zone => self.dir.join("zones").join(instance),
            Role::Cell => self.dir.join("cells").join(instance),
            Role::Host | Role::Vswitch => self.host_dir(instance),
            Role::Store => self.dir.join("store"),
            Role::Operator => self.operator_dir(),
        }
    }

    /// The operator's certificate.
    pub fn operator_dir(&self) -> PathBuf {
        self.dir.join("operator")
    }

    /// A process's config.
    pub fn config_file(&self, member: &Member) -> PathBuf {
        let name = match member.process {
            0 => "config.toml".to_owned(),
            process => format!("config-{process}.toml"),
        };
        self.member_dir(member).join(name)
    }

    /// Where the process writes whether it leads.
    pub fn standing_file(&self, member: &Member) -> PathBuf {
        self.run_file(member, "standing")
    }

    /// Where whoever leads of these processes listens, once it does.
    pub fn address_file(&self, identity: &Identity) -> PathBuf {
        self.run_file(&Member::only(identity.clone()), "address")
    }

    /// The processes that share an identity.
    pub fn processes(&self, identity: &Identity) -> Vec<Member> {
        let several = matches!(identity.role, Role::Region | Role::Cell) && self.topology.store != EMBEDDED;
        match several {
            true => (1..=PROCESSES).map(|process| Member { identity: identity.clone(), process }).collect(),
            false => vec![Member::only(identity.clone())],
        }
    }

    /// The store that processes share, if it is ours.
    pub fn store_identity(&self) -> Option<Identity> {
        (self.topology.store == SHARED).then(|| Identity::new(Role::Store, &self.topology.region))
    }

    /// Zones, cells and hosts by name.
    pub fn layout(&self) -> Result<Vec<ZoneLayout>, Error> {
        let name = |error: base::ids::IdError| Error::Said(error.to_string());
        let mut zones = Vec::new();
        for index in 0..self.topology.zones {
            let zone = format!("{}{}", self.topology.region, char::from(b'a' + index));
            let cell = format!("{zone}-c1");
            let mut hosts = Vec::new();
            for host in 1..=self.topology.hosts_per_zone {
                // Two racks a cell, taken in turn.
                let rack = format!("{cell}-r{}", (host - 1) % 2 + 1);
                hosts.push((format!("{cell}-h{host}").parse().map_err(name)?, rack.parse().map_err(name)?));
            }
            zones.push(ZoneLayout {
                zone: zone.parse().map_err(name)?,
                cell: cell.parse().map_err(name)?,
                hosts,
            });
        }
        Ok(zones)
    }

    /// Every process, control plane first.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        let layout = self.layout()?;
        let mut identities: Vec<Identity> = self.store_identity().into_iter().collect();
        identities.push(Identity::new(Role::Region, &self.topology.region));
        identities.extend(layout.iter().map(|zone| Identity::new(Role::Zone, &zone.zone)));
        identities.extend(layout.iter().map(|zone| Identity::new(Role::Cell, &zone.cell)));
        let hosts = layout.iter().flat_map(|zone| &zone.hosts);
        identities.extend(hosts.map(|(host, _)| Identity::new(Role::Host, host)));
        Ok(identities.iter().flat_map(|identity| self.processes(identity)).collect())
    }

    /// Certificates and configs of all processes: certificates where they are due, configs anew, because they
    /// follow from `cloud.toml`.
    pub fn write(&self, crash_at: Option<&str>) -> Result<(), Error> {
        self.certificates_renew()?;
        let crash_at = self.crash_at(crash_at)?;
        for member in self.members()? {
            let text = self.config(&member, &self.member_dir(&member), crash_at.as_ref())?;
            let path = self.config_file(&member);
            base::disk::file_replace(&path, text.as_bytes(), 0o600).map_err(Error::file("write", &path))?;
        }
        Ok(())
    }

    /// Issues the certificates that are missing or have lived a third of their life; says whose.
    pub fn certificates_renew(&self) -> Result<Vec<Member>, Error> {
        directory_make(&self.operator_dir(), 0o700)?;
        self.authority()?.issue(&Identity::new(Role::Operator, "local"), &self.operator_dir())?;
        self.certificates_ensure(self.members()?)
    }

    /// Issues those of the members that are due; says whose.
    pub fn certificates_ensure(&self, members: Vec<Member>) -> Result<Vec<Member>, Error> {
        let authority = self.authority()?;
        let (mut renewed, mut identities) = (Vec::new(), BTreeSet::new());
        for member in members {
            let dir = self.member_dir(&member);
            directory_make(&dir, if member.identity.role == Role::Host { 0o711 } else { 0o700 })?;
            directory_make(&dir.join("tls"), 0o700)?;
            // Processes that share an identity share its certificate.
            if authority.issue(&member.identity, &dir.join("tls"))? {
                identities.insert(member.identity.clone());
            }
            if identities.contains(&member.identity) {
                renewed.push(member);
            }
        }
        Ok(renewed)
    }

    fn authority(&self) -> Result<Authority, Error> {
        let directory = self.dir.join("authority");
        directory_make(&directory, 0o700)?;
        Ok(Authority::open(&directory)?)
    }
}

/// The store that `up` asks for.
fn store_asked(up: &Up) -> Option<String> {
    up.store.clone().or_else(|| up.standby.then(|| SHARED.to_owned()))
}

/// `embedded`, `shared`, or a URL that etcd's engine understands.
fn store_checked(option: &str, store: &str) -> Result<String, Error> {
    if ![EMBEDDED, SHARED].contains(&store) {
        EtcdOptions::parse(store).map_err(|error| {
            let else_ = if option == "--to" { " (or `embedded`, or `shared`)" } else { "" };
            Error::Said(format!("{option}: {error}{else_}"))
        })?;
    }
    Ok(store.to_owned())
}

/// A store's place without what is secret.
fn store_text(store: &str) -> String {
    match store.rsplit_once('@') {
        Some((_, place)) => format!("in etcd at {place}"),
        None if store == EMBEDDED => "embedded, with one process of each role".to_owned(),
        None if store == SHARED => "in a process of its own".to_owned(),
        None => format!("in etcd at {store}"),
    }
}

fn vmm_name(vmm: Vmm) -> &'static str {
    match vmm {
        Vmm::Qemu => "qemu",
        Vmm::Simulated => "simulated",
    }
}

fn accelerator_name(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Auto => "auto",
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    }
}

/// Where a new cloud's `count` user ids begin.
fn uid_first_choose(count: u32) -> u32 {
    // `INSIDE OUTSIDE LENGTH` a line: the ids that exist in this user namespace (user_namespaces(7)).
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let exists = |line: &str| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(Ok(length))) = (fields.next(), fields.nth(1)) else { return false };
        inside <= u64::from(UIDS_FROM) && inside + length >= u64::from(UIDS_TO)
    };
    if !map.lines().any(exists) {
        return UID_FIRST_NARROW;
    }
    let steps = (UIDS_TO - UIDS_FROM - count) / UID_STEP;
    UIDS_FROM + base::random::Random::from_os().below(u64::from(steps)) as u32 * UID_STEP
}

fn first_topology(up: &Up) -> Result<Topology, Error> {
    let region = REGION.parse().map_err(|e: base::ids::IdError| Error::Said(e.to_string()))?;
    let (zones, hosts_per_zone) =
        if up.small { (1, 1) } else { (up.zones.unwrap_or(3), up.hosts_per_zone.unwrap_or(2)) };
    let accelerator = accelerator_name(up.accelerator.unwrap_or(Accelerator::Auto));
    let port = match up.port.unwrap_or(PORT) {
        0 => port_free()?,
        port => port,
    };
    let store = store_checked("--store", &store_asked(up).unwrap_or_else(store_default))?;
    let store_port = if store == SHARED { port_free()? } else { 0 };
    Ok(Topology {
        networks: up.networks,
        store,
        store_port,
        region,
        port,
        zones,
        hosts_per_zone,
        vcpus_per_host: up.vcpus_per_host.unwrap_or(8),
        memory_per_host: up.memory_per_host.unwrap_or(16),
        vcpus_per_account: up.vcpus_per_account.unwrap_or(256),
        vmm: vmm_name(up.vmm.unwrap_or(Vmm::Qemu)).to_owned(),
        accelerator: accelerator.to_owned(),
        shutdown_timeout: up.shutdown_timeout.unwrap_or(90),
        images: images_default(),
        state_max: up.state_max.unwrap_or(state_max_default()),
        incarnation: 0,
        moving: None,
        uid_first: uid_first_choose(u32::from(zones) * u32::from(hosts_per_zone) * UIDS_PER_HOST),
    })
}

/// Images beside the binary, as a build leaves them: `target/release/nephos` and `target/images`.
fn images_default() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("images")));
    beside.unwrap_or_else(|| PathBuf::from("images"))
}

fn port_is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// A port that is free now; kept from then on, so that clients find a restarted region where it was.
fn port_free() -> Result<u16, Error> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    address
        .map(|address| address.port())
        .map_err(|e| Error::Process { what: "find a free port".into(), source: e })
}

/// Makes a directory with this mode; one that is there stays as it is.
pub fn directory_make(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    }
    fs::DirBuilder::new().mode(mode).create(path).map_err(Error::file("make", path))?;
    // Whatever the umask took away.
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::file("set the permissions of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::config::Address;
    use clap::Parser;
    use metastore::StorePlace;

    fn up(dir: &Path, options: &[&str]) -> Up {
        let words = ["nephos", "up", "--dir", dir.to_str().unwrap()];
        let arguments = crate::arguments::Arguments::parse_from(words.iter().chain(options));
        match arguments.command {
            crate::arguments::Command::Up(up) => up,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_directory_of_something_else_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o750)).unwrap();
        let at = At { dir: Some(directory.path().to_owned()) };
        fs::write(directory.path().join("letter"), "").unwrap();
        let error = Cloud::directory_prepare(&at).unwrap_err().to_string();
        assert!(error.contains("holds other things"), "{error}");
        fs::remove_file(directory.path().join("letter")).unwrap();
        Cloud::directory_prepare(&at).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o750);
        assert_eq!(mode(&directory.path().join("run")), 0o700);
    }

    #[test]
    fn what_up_asks_for_is_applied_at_a_start_and_the_shape_stays() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        Cloud::directory_prepare(&At { dir: Some(dir.to_owned()) }).unwrap();
        let first = Cloud::ensure(&up(dir, &["--small", "--port", "0"])).unwrap();
        assert_eq!(
            first.topology.uid_first.is_multiple_of(UID_STEP),
            first.topology.uid_first != UID_FIRST_NARROW
        );
        let options =
            ["--vcpus-per-host", "3", "--accelerator", "tcg", "--shutdown-timeout", "7", "--state-max", "2"];
        let changed = up(dir, &options);
        assert!(first.refuse_changes(&changed).is_err());
        let second = Cloud::ensure(&changed).unwrap();
        let expected = Topology {
            vcpus_per_host: 3,
            accelerator: "tcg".into(),
            shutdown_timeout: 7,
            state_max: 2,
            ..first.topology.clone()
        };
        assert_eq!(second.topology, expected);
        second.refuse_changes(&changed).unwrap();
        let region = second.config(&second.members().unwrap()[0], dir, None).unwrap();
        let region: region::config::RegionConfig = toml::from_str(&region).unwrap();
        assert_eq!((region.state_bytes_max, first.topology.state_max), (2 << 30, 8));
        second.refuse_changes(&up(dir, &["--port", "0"])).unwrap();
        assert!(second.refuse_changes(&up(dir, &["--port", "1"])).is_err());
        assert!(Cloud::ensure(&up(dir, &["--zones", "2"])).is_err());
    }

    #[test]
    fn two_processes_share_an_identity_a_certificate_and_a_store() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        Cloud::directory_prepare(&At { dir: Some(dir.to_owned()) }).unwrap();
        let cloud = Cloud::ensure(&up(dir, &["--small", "--port", "0", "--standby"])).unwrap();
        let labels: Vec<String> = cloud.members().unwrap().iter().map(Member::label).collect();
        let expected = [
            "store/us-east-1",
            "region/us-east-1/1",
            "region/us-east-1/2",
            "zone/us-east-1a",
            "cell/us-east-1a-c1/1",
            "cell/us-east-1a-c1/2",
            "host/us-east-1a-c1-h1",
        ];
        assert_eq!(labels, expected);
        cloud.write(None).unwrap();
        let members = cloud.members().unwrap();
        let [one, two] = [&members[4], &members[5]];
        assert_ne!(cloud.config_file(one), cloud.config_file(two), "a process is known by its config");
        assert_ne!(cloud.run_file(one, "pid"), cloud.run_file(two, "pid"));
        let config = |member| {
            let text = fs::read_to_string(cloud.config_file(member)).unwrap();
            toml::from_str::<cell::CellConfig>(&text).unwrap()
        };
        let (one, two) = (config(one), config(two));
        assert_eq!(
            (&one.store, &one.address_file, &one.credentials),
            (&two.store, &two.address_file, &two.credentials)
        );
        let StorePlace::Etcd(url) = &one.store else { panic!("{:?}", one.store) };
        let options = EtcdOptions::parse(url).unwrap();
        assert_eq!(options.prefix, b"cell/us-east-1a-c1/");
        assert_eq!(options.endpoints, [Address::Fixed(format!("127.0.0.1:{}", cloud.topology.store_port))]);
        // Their certificate is due once, and both are to have it.
        assert_eq!(cloud.certificates_renew().unwrap(), []);
        let tls = cloud.member_dir(&members[4]).join("tls/cert.pem");
        fs::remove_file(tls).unwrap();
        assert_eq!(cloud.certificates_renew().unwrap(), members[4..6]);
    }

    #[test]
    fn a_clouds_store_stays_where_it_was_and_its_password_is_not_said() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        Cloud::directory_prepare(&At { dir: Some(dir.to_owned()) }).unwrap();
        let url = "etcd://me:secret@127.0.0.1:1,127.0.0.1:2/clouds/one?ca=/ca.pem";
        let wrong = Cloud::ensure(&up(dir, &["--store", "etc://127.0.0.1"])).unwrap_err().to_string();
        assert!(wrong.contains("--store"), "{wrong}");
        let cloud = Cloud::ensure(&up(dir, &["--small", "--port", "0", "--store", url])).unwrap();
        let mode = fs::metadata(dir.join("cloud.toml")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let region = cloud.members().unwrap().remove(0);
        let place = cloud.store_place(&region, dir);
        let expected = "etcd://me:secret@127.0.0.1:1,127.0.0.1:2/clouds/one/region/us-east-1?ca=/ca.pem";
        assert_eq!(place, StorePlace::Etcd(expected.to_owned()));
        cloud.refuse_changes(&up(dir, &[])).unwrap();
        cloud.refuse_changes(&up(dir, &["--store", url])).unwrap();
        let refused = cloud.refuse_changes(&up(dir, &["--standby"])).unwrap_err().to_string();
        assert!(refused.contains("127.0.0.1:1") && !refused.contains("secret"), "{refused}");
    }
}
