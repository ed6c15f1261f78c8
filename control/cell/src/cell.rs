//! The owner of a cell's state: takes events in order, answers with effects that are carried out in order.
//!
//! Called by the process's one owner task and by the simulator. What it knows of VMs and hosts is what its store
//! has committed, plus what is being committed (which counts as taken), plus what hosts said since it started.
//!
//! Invariant: at most one commit per instance is under way; a newer intent waits for it, and only the newest does.
//! Deliberately absent: restarting VMs of a silent host elsewhere. Their disks are local (architecture, section 9).

use crate::host::{self, Host, HostRecord};
use crate::network::{self, Switch, Vpc};
use crate::placement::Room;
use crate::summary::SummarySent;
use crate::vm::record::{self, VmRecord};
use crate::vm::{Footprint, Graves, Intent, ReservationKey, Vm};
use base::clock::Timestamp;
use base::generation::Term;
use base::ids::{CellId, HostId, InstanceId, NetworkInterfaceId, VpcId, ZoneName};
use base::step::LaunchStep;
use contract::{
    CellHello, CellSummary, ConsoleData, ConsoleRead, FromCell, FromHost, FromSwitch, ToCell, ToHost,
    ToSwitch, from_cell, from_host, to_cell, to_host,
};
use metastore::table::{Table, TableError};
use metastore::{Commit, CommitError, Condition, Entry, Key, Op, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How long a restarted cell takes the hosts that it knows for alive although it has not heard them yet.
pub(crate) const LEASE: Duration = Duration::from_secs(15);
/// Reports to the region at one tick, so that a cell with very many VMs does not overrun its link's queue.
pub(crate) const REPORTS_MAX: usize = 2_000;
/// The least time between two sendings of the same thing to the same peer.
pub(crate) const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Who this cell is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellIdentity {
    /// Its id.
    pub cell: CellId,
    /// Its zone.
    pub zone: ZoneName,
}

/// Names a commit under way: its [`Event::Committed`] carries the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happens to a cell.
#[derive(Clone, Debug)]
pub enum Event {
    /// A region has linked.
    RegionUp,
    /// The region's link is gone.
    RegionDown,
    /// The region said something.
    Region(ToCell),
    /// A host has linked.
    HostUp(HostId),
    /// A host's link is gone.
    HostDown(HostId),
    /// A host said something about itself.
    Host(HostId, FromHost),
    /// A host's switch has linked.
    SwitchUp(HostId),
    /// A switch's link is gone.
    SwitchDown(HostId),
    /// A switch said something about its host's ports.
    Switch(HostId, FromSwitch),
    /// The zone is linked.
    ZoneUp,
    /// The zone's link is gone.
    ZoneDown,
    /// A commit has ended. Commits under way have no order among each other: they end, and become durable, in any.
    Committed {
        /// Which.
        ticket: Ticket,
        /// How. After [`CommitError::Failed`] the store, and so this cell, must be started anew.
        result: Result<Revision, CommitError>,
    },
    /// Time passes: about four times a second.
    Tick,
}

/// What a cell wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Commit this and say how it went.
    Commit {
        /// To be named in the answer.
        ticket: Ticket,
        /// What.
        commit: Commit,
    },
    /// To the region; there is a link.
    ToRegion(FromCell),
    /// To a host; there is a link.
    ToHost(HostId, ToHost),
    /// To a host's switch; there is a link.
    ToSwitch(HostId, ToSwitch),
    /// To the zone; there is a link.
    ToZone(CellSummary),
    /// A step of a launch is reached: everything before it in this list has been done.
    Step(LaunchStep),
}

/// The store holds something that no cell of this version wrote.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecoverError {
    /// A record that cannot be read.
    #[error(transparent)]
    Record(#[from] TableError),
    /// A record of a network that cannot be read.
    #[error("the stored record {key} cannot be read: {why}")]
    Network {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// A key that means nothing.
    #[error("the store holds the key {0}, which this version does not know")]
    UnknownKey(String),
}

/// What a commit under way is about.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Vm(InstanceId),
    Host(HostId),
    Vpc(VpcId),
    /// The end of a port's tombstone.
    Grave(HostId, NetworkInterfaceId),
}

/// A cell. See the file's head.
pub struct Cell {
    pub(crate) identity: CellIdentity,
    pub(crate) term: Term,
    pub(crate) incarnation: u64,
    /// The first instant that this process saw.
    pub(crate) started: Option<Timestamp>,
    pub(crate) region_up: bool,
    /// Behind which VM a region that has come up is still to be told; `None`: it was told of all.
    pub(crate) told: Option<Bound<InstanceId>>,
    region_term: u64,
    pub(crate) zone_up: bool,
    pub(crate) summary: SummarySent,
    pub(crate) vms: BTreeMap<InstanceId, Vm>,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) vpcs: BTreeMap<VpcId, Vpc>,
    pub(crate) switches: BTreeMap<HostId, Switch>,
    /// Index: the switches with a port in a VPC.
    pub(crate) vpc_switches: BTreeMap<VpcId, BTreeSet<HostId>>,
    /// The tombstones of ports that the store holds.
    pub(crate) graves_stored: BTreeSet<(HostId, NetworkInterfaceId)>,
    /// How many tombstones of a VPC's ports are being ended.
    pub(crate) graves_ending: BTreeMap<VpcId, u32>,
    /// As `told`, for VPCs.
    pub(crate) told_vpcs: Option<Bound<VpcId>>,
    /// Index: the VMs of a reservation that hold room.
    pub(crate) reservations: BTreeMap<ReservationKey, BTreeSet<InstanceId>>,
    /// Index: VMs of which the region has not acknowledged the newest report.
    pub(crate) unacknowledged: BTreeSet<InstanceId>,
    /// VMs of which the store refused a change: looked at again at the next tick.
    pub(crate) unsettled: BTreeSet<InstanceId>,
    /// The store's last word was that it is full.
    store_full: bool,
    pub(crate) graves: Graves,
    tickets: BTreeMap<Ticket, Subject>,
    ticket_next: u64,
}

impl Cell {
    /// A cell as its store remembers it. `records` are all entries below [`crate::PREFIX`] of the
    /// store's `incarnation`; `term` is higher than that of every process that served this store before.
    pub fn recover(
        identity: CellIdentity,
        term: Term,
        incarnation: u64,
        records: Vec<Entry>,
    ) -> Result<Cell, RecoverError> {
        let mut cell = Cell {
            identity,
            term,
            incarnation,
            started: None,
            region_up: false,
            told: None,
            region_term: 0,
            zone_up: false,
            summary: SummarySent::default(),
            vms: BTreeMap::new(),
            hosts: BTreeMap::new(),
            vpcs: BTreeMap::new(),
            switches: BTreeMap::new(),
            vpc_switches: BTreeMap::new(),
            graves_stored: BTreeSet::new(),
            graves_ending: BTreeMap::new(),
            told_vpcs: None,
            reservations: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            store_full: false,
            graves: Graves::default(),
            tickets: BTreeMap::new(),
            ticket_next: 0,
        };
        for entry in records {
            if entry.key.starts_with(record::PREFIX.as_bytes()) {
                let row = Table::<VmRecord>::row(&entry)?;
                let record = Arc::unwrap_or_clone(row.record);
                cell.vm_change(row.id, |vm| vm.committed = Some((record, row.modified)));
            } else if entry.key.starts_with(host::PREFIX.as_bytes()) {
                let row = Table::<HostRecord>::row(&entry)?;
                let host = cell.host_entry(&row.id);
                host.record = Some(Arc::unwrap_or_clone(row.record));
                host.revision = Some(row.modified);
            } else if [network::VPC_PREFIX, network::PORT_PREFIX]
                .iter()
                .any(|p| entry.key.starts_with(p.as_bytes()))
            {
                let key = || entry.key.escape_ascii().to_string();
                cell.network_recover(&entry).map_err(|why| RecoverError::Network { key: key(), why })?;
            } else if ![crate::TERM_KEY, crate::LEADER_KEY].map(str::as_bytes).contains(&&*entry.key) {
                return Err(RecoverError::UnknownKey(entry.key.escape_ascii().to_string()));
            }
        }
        cell.network_recovered();
        cell.unacknowledged = cell.vms.keys().copied().collect();
        Ok(cell)
    }

    /// Takes one event; the effects are to be carried out in order.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        self.started.get_or_insert(now);
        let mut out = Vec::new();
        match event {
            Event::RegionUp => self.region_up(now, &mut out),
            Event::RegionDown => self.region_up = false,
            Event::Region(message) => self.region_message(now, message, &mut out),
            Event::HostUp(host) => self.host_up(now, host, &mut out),
            Event::HostDown(host) => self.host_down(&host),
            Event::Host(host, message) => self.host_message(now, host, message, &mut out),
            Event::SwitchUp(host) => self.switch_up(&host),
            Event::SwitchDown(host) => self.switch_down(&host),
            Event::Switch(host, message) => self.switch_message(now, host, message, &mut out),
            Event::ZoneUp => {
                self.zone_up = true;
                self.summary.forget();
            }
            Event::ZoneDown => self.zone_up = false,
            Event::Committed { ticket, result } => self.committed(now, ticket, result, &mut out),
            Event::Tick => {
                self.vms_settle_again(&mut out);
                self.hosts_store_again(&mut out);
                self.vpcs_tell(&mut out);
                self.vms_tell(now, &mut out);
                self.vm_reports_resend(now, &mut out);
                self.host_documents_resend(now, &mut out);
                self.switches_resend(now, &mut out);
                self.graves.expire(now);
                self.summary.look_again();
                debug_assert_eq!(self.check(), Ok(()));
            }
        }
        self.summary_send(now, &mut out);
        out
    }

    fn committed(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        result: Result<Revision, CommitError>,
        out: &mut Vec<Effect>,
    ) {
        match &result {
            Err(CommitError::Full(why)) if !self.store_full => {
                self.store_full = true;
                tracing::error!(why, "the cell's store is full: VMs are destroyed, but not placed");
            }
            Ok(_) => self.store_full = false,
            Err(_) => {}
        }
        match self.tickets.remove(&ticket) {
            Some(Subject::Vm(instance)) => self.vm_committed(now, instance, result, out),
            Some(Subject::Host(host)) => self.host_committed(&host, result, out),
            Some(Subject::Vpc(vpc)) => self.vpc_committed(now, vpc, result, out),
            Some(Subject::Grave(host, interface)) => {
                self.grave_committed(now, &host, interface, result.map(drop), out);
            }
            None => {}
        }
    }

    fn region_up(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.region_up = true;
        let hello =
            CellHello { cell_id: self.identity.cell.to_string(), zone: self.identity.zone.to_string() };
        out.push(Effect::ToRegion(FromCell { message: Some(from_cell::Message::Hello(hello)) }));
        self.told_vpcs = Some(Bound::Unbounded);
        self.vpcs_tell(out);
        self.told = Some(Bound::Unbounded);
        self.vms_tell(now, out);
    }

    fn region_message(&mut self, now: Timestamp, message: ToCell, out: &mut Vec<Effect>) {
        // A region's former leader that has not noticed yet has nothing to say.
        if message.term < self.region_term {
            return;
        }
        self.region_term = message.term;
        match message.message {
            Some(to_cell::Message::Intent(intent)) => match Intent::read(intent) {
                Ok(intent) => self.vm_intent(now, intent, out),
                Err(error) => tracing::warn!(%error, "an intent of the region cannot be read"),
            },
            Some(to_cell::Message::Ack(ack)) => self.vm_report_acknowledged(ack, out),
            Some(to_cell::Message::ConsoleRead(read)) => self.console_read(read, out),
            Some(to_cell::Message::Vpc(publication)) => self.vpc_publication(*publication, out),
            None => tracing::warn!("a message of the region is of a kind that this version does not know"),
        }
    }

    fn console_read(&mut self, read: ConsoleRead, out: &mut Vec<Effect>) {
        let host = read
            .instance_id
            .parse()
            .ok()
            .and_then(|instance: InstanceId| self.vms.get(&instance))
            .and_then(Vm::document_host)
            .filter(|host| self.hosts.get(*host).is_some_and(|host| host.up));
        out.push(match host {
            Some(host) => {
                let message = Some(to_host::Message::ConsoleRead(read));
                Effect::ToHost(host.clone(), ToHost { term: self.term.0, message })
            }
            None => {
                let console = ConsoleData {
                    request_id: read.request_id,
                    instance_id: read.instance_id,
                    unknown: true,
                    ..ConsoleData::default()
                };
                Effect::ToRegion(FromCell { message: Some(from_cell::Message::Console(console)) })
            }
        });
    }

    fn host_message(&mut self, now: Timestamp, host: HostId, message: FromHost, out: &mut Vec<Effect>) {
        match message.message {
            Some(from_host::Message::Hello(hello)) => self.host_hello(now, host, hello, out),
            Some(from_host::Message::Status(status)) => self.host_status(now, host, status, out),
            Some(from_host::Message::Console(console)) => {
                // A host speaks for the VMs that are on it, and for no others.
                let instance: Option<InstanceId> = console.instance_id.parse().ok();
                let place = instance.and_then(|instance| self.vms.get(&instance)).and_then(Vm::document_host);
                if self.region_up && place == Some(&host) {
                    let message = Some(from_cell::Message::Console(console));
                    out.push(Effect::ToRegion(FromCell { message }));
                }
            }
            None => {
                tracing::warn!(%host, "a message of the host is of a kind that this version does not know")
            }
        }
    }

    /// Asks for the commit of one key on behalf of a VM.
    pub(crate) fn vm_commit(
        &mut self,
        instance: InstanceId,
        known: Option<Revision>,
        value: Option<Vec<u8>>,
        out: &mut Vec<Effect>,
    ) {
        self.commit(Subject::Vm(instance), record::key(instance), known, value, out);
    }

    /// Asks for the commit of one key on behalf of a host.
    pub(crate) fn host_commit(
        &mut self,
        host: &HostId,
        known: Option<Revision>,
        value: Vec<u8>,
        out: &mut Vec<Effect>,
    ) {
        self.commit(Subject::Host(host.clone()), host::key(host), known, Some(value), out);
    }

    fn commit(
        &mut self,
        subject: Subject,
        key: Key,
        known: Option<Revision>,
        value: Option<Vec<u8>>,
        out: &mut Vec<Effect>,
    ) {
        let condition = match known {
            Some(revision) => Condition::Unchanged(key.clone(), revision),
            None => Condition::Absent(key.clone()),
        };
        let op = match value {
            Some(value) => Op::Put(key, value),
            None => Op::Delete(key),
        };
        self.commit_whole(subject, Commit { conditions: vec![condition], ops: vec![op] }, out);
    }

    /// Asks for a commit.
    pub(crate) fn commit_whole(&mut self, subject: Subject, commit: Commit, out: &mut Vec<Effect>) {
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        self.tickets.insert(ticket, subject);
        out.push(Effect::Commit { ticket, commit });
    }

    /// Changes one VM and, with it, every index and every host's account of room.
    pub(crate) fn vm_change<R>(&mut self, instance: InstanceId, change: impl FnOnce(&mut Vm) -> R) -> R {
        let vm = self.vms.entry(instance).or_default();
        let before = vm.footprint();
        let result = change(vm);
        let after = vm.footprint();
        if vm.is_empty() {
            self.vms.remove(&instance);
            self.unacknowledged.remove(&instance);
        }
        if before != after {
            self.footprint_replace(instance, &before, &after);
            self.summary.changed();
        }
        result
    }

    fn footprint_replace(&mut self, instance: InstanceId, before: &Footprint, after: &Footprint) {
        for (host, room) in &before.rooms {
            let host = self.host_entry(host);
            host.used = host.used.minus(*room);
        }
        for (host, room) in &after.rooms {
            let host = self.host_entry(host);
            host.used = host.used.plus(*room);
        }
        if before.document != after.document {
            if let Some(host) = &before.document {
                self.host_entry(host).vms.remove(&instance);
            }
            if let Some(host) = &after.document {
                self.host_entry(host).vms.insert(instance);
            }
        }
        if before.reservation != after.reservation {
            if let Some(key) = &before.reservation
                && let Some(siblings) = self.reservations.get_mut(key)
            {
                siblings.remove(&instance);
                if siblings.is_empty() {
                    self.reservations.remove(key);
                }
            }
            if let Some(key) = &after.reservation {
                self.reservations.entry(key.clone()).or_default().insert(instance);
            }
        }
    }

    /// Whether what must always hold does: no host over its capacity, only confirmed attempts in documents, and
    /// indexes that agree with the records. For the simulator and debug builds: it costs a look at everything.
    pub fn check(&self) -> Result<(), String> {
        let mut used: BTreeMap<&HostId, Room> = BTreeMap::new();
        let footprints: Vec<(InstanceId, Footprint)> =
            self.vms.iter().map(|(instance, vm)| (*instance, vm.footprint())).collect();
        for (instance, footprint) in &footprints {
            for (host, room) in &footprint.rooms {
                let sum = used.entry(host).or_default();
                *sum = sum.plus(*room);
            }
            if let Some(host) = &footprint.document
                && !self.hosts.get(host).is_some_and(|host| host.vms.contains(instance))
            {
                return Err(format!("{instance} is missing from the document of {host}"));
            }
            if let Some(key) = &footprint.reservation
                && !self.reservations.get(key).is_some_and(|siblings| siblings.contains(instance))
            {
                return Err(format!("{instance} is missing from the index of its reservation"));
            }
        }
        for (id, host) in &self.hosts {
            let sum = used.remove(id).unwrap_or_default();
            if host.used != sum {
                return Err(format!("{id} is taken for using {:?}, its claims are {sum:?}", host.used));
            }
            host.check(sum).map_err(|wrong| format!("{id} {wrong}"))?;
            for instance in &host.vms {
                let vm = self.vms.get(instance);
                if vm.and_then(Vm::document_host) != Some(id) {
                    return Err(format!(
                        "the document of {id} names {instance}, which is not confirmed there"
                    ));
                }
            }
        }
        let indexed: usize = self.reservations.values().map(BTreeSet::len).sum();
        let holding = footprints.iter().filter(|(_, footprint)| footprint.reservation.is_some()).count();
        if indexed != holding {
            return Err(format!("the reservations' index has {indexed} VMs, {holding} hold room"));
        }
        match self.unacknowledged.iter().find(|instance| !self.vms.contains_key(instance)) {
            Some(instance) => Err(format!("{instance} is gone, but still to be reported")),
            None => Ok(()),
        }
    }

    /// The stored records of all VMs, ordered by id: for status and for tests of invariants.
    pub fn vm_records(&self) -> impl Iterator<Item = &VmRecord> {
        self.vms.values().filter_map(|vm| vm.committed.as_ref().map(|(record, _)| record))
    }
}
