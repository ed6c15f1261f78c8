//! The networks of a cell: what the region publishes of each VPC, which ports each host has, and the documents that the
//! hosts' switches shall hold.
//!
//! ```text
//!   region ──VpcPublication──► store ──► vpc::Vpc ──┬─► VpcDocument    to every switch with a port in the VPC
//!                                                   └─► PortsDocument  to the switch of the host
//! ```
//!
//! A publication is durable before anybody hears of it, so a switch with an empty disk gets its documents from here
//! while the region is dead. A port that leaves a host leaves a tombstone in the same commit, which stays until the
//! host's switch has said that the port is gone.

mod ports;
mod record;
mod vpc;

pub(crate) use ports::Switch;
pub(crate) use record::{PORT_PREFIX, PortGrave, VPC_PREFIX};
pub(crate) use vpc::Vpc;

use crate::cell::{Cell, Effect, REPORTS_MAX, Subject};
use base::clock::Timestamp;
use base::generation::Generation;
use base::ids::{HostId, NetworkInterfaceId, VpcId};
use contract::{FromCell, InterfacePublication, PortAssignment, VpcHeld, VpcPublication, from_cell};
use metastore::table::Table;
use metastore::{CommitError, Entry, Op, Revision};
use ports::Port;
use record::{Part, PartId, Stored, interface_id};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use vpc::{Change, Storing};

impl Cell {
    /// Reads a stored record of a VPC or of a port's tombstone.
    pub(crate) fn network_recover(&mut self, entry: &Entry) -> Result<(), String> {
        if entry.key.starts_with(PORT_PREFIX.as_bytes()) {
            let row = Table::<PortGrave>::row(entry).map_err(|error| error.to_string())?;
            let (host, interface) = row.id;
            self.port_set(&host, interface, Some(Port::grave(row.record.0.clone())));
            self.graves_stored.insert((host, interface));
            return Ok(());
        }
        match record::read(&entry.key, &entry.value).map_err(|error| base::error::chain(&error))? {
            Stored::Head(id, head) => {
                let vpc = self.vpcs.entry(id).or_default();
                (vpc.head, vpc.revision) = (*head, Some(entry.modified));
            }
            Stored::Part(id, part) => self.vpcs.entry(id).or_default().part_put(part),
        }
        Ok(())
    }

    /// All records have been read: which ports each host has follows from the interfaces.
    pub(crate) fn network_recovered(&mut self) {
        let mut places = Vec::new();
        for (id, vpc) in &self.vpcs {
            let here = vpc.interfaces().filter_map(|interface| self.place(interface));
            places.extend(here.map(|(host, interface)| (*id, host, interface)));
        }
        for (vpc, host, interface) in places {
            self.port_set(&host, interface, Some(Port::Assigned(vpc)));
        }
    }

    /// The host of this cell that the interface is on.
    fn place(&self, interface: &InterfacePublication) -> Option<(HostId, NetworkInterfaceId)> {
        let here = interface.cell_id == self.identity.cell.as_str();
        let host = interface.host_id.parse().ok().filter(|_| here)?;
        Some((host, interface_id(interface).parse().ok()?))
    }

    /// The region says what a VPC is now.
    pub(crate) fn vpc_publication(&mut self, publication: VpcPublication, out: &mut Vec<Effect>) {
        let named = publication.document.as_ref().map(|document| document.vpc_id.parse::<VpcId>());
        let id = match named {
            Some(Ok(id)) => id,
            Some(Err(error)) => return tracing::warn!(%error, "a publication of the region cannot be read"),
            None => return tracing::warn!("a publication of the region names no VPC"),
        };
        let ending = self.graves_ending.contains_key(&id);
        let vpc = self.vpcs.entry(id).or_default();
        if vpc.storing.is_some() || ending {
            return vpc.wait(publication);
        }
        match vpc.change(publication) {
            Some(change) => self.vpc_store(id, change, out),
            None => self.vpc_held_send(id, out),
        }
        if self.vpcs.get(&id).is_some_and(Vpc::is_empty) {
            self.vpcs.remove(&id);
        }
    }

    fn vpc_store(&mut self, id: VpcId, change: Change, out: &mut Vec<Effect>) {
        let graves = self.graves_of(id, &change);
        let Some(vpc) = self.vpcs.get_mut(&id) else { return };
        let ops = graves.into_iter().map(|(host, interface, port)| {
            let key = <PortGrave as metastore::table::Record>::key(&(host, interface));
            match port {
                Some(port) => Op::Put(key, metastore::table::Record::encode(&PortGrave(port))),
                None => Op::Delete(key),
            }
        });
        let ops = ops.collect();
        let commits = vpc.commits(id, &change, ops);
        vpc.storing = Some(Storing { change, commits, begun: false });
        self.vpc_commit_next(id, out);
    }

    fn vpc_commit_next(&mut self, id: VpcId, out: &mut Vec<Effect>) {
        let Some(vpc) = self.vpcs.get_mut(&id) else { return };
        let condition = vpc.condition(id);
        let Some(mut commit) = vpc.storing.as_mut().and_then(|storing| storing.commits.pop_front()) else {
            return;
        };
        commit.conditions.push(condition);
        self.commit_whole(Subject::Vpc(id), commit, out);
    }

    /// The tombstones that a change makes (`Some`) or takes back, by what is there now.
    fn graves_of(
        &self,
        id: VpcId,
        change: &Change,
    ) -> Vec<(HostId, NetworkInterfaceId, Option<PortAssignment>)> {
        let Some(vpc) = self.vpcs.get(&id) else { return Vec::new() };
        let mut graves = Vec::new();
        let gone = change.gone.iter().map(|id| (id, None));
        let put = change.put.iter().map(|(id, part)| (id, Some(part)));
        for (part_id, part) in gone.chain(put) {
            let PartId::Interface(name) = part_id else { continue };
            let before = vpc.interface(name).and_then(|interface| self.place(interface));
            let after = match part {
                Some(Part::Interface(interface)) => self.place(interface),
                _ => None,
            };
            if let Some((host, interface)) = before.filter(|before| Some(before) != after.as_ref()) {
                let port = vpc.interface(name).and_then(|interface| interface.port.clone());
                let port = PortAssignment {
                    interface_id: name.clone(),
                    vpc_id: id.to_string(),
                    removed: true,
                    generation: change.head.document.as_ref().and_then(|document| document.generation),
                    instance_id: port.map(|port| port.instance_id).unwrap_or_default(),
                    ..PortAssignment::default()
                };
                graves.push((host, interface, Some(port)));
            }
            if let Some((host, interface)) = after.filter(|after| self.graves_stored.contains(after)) {
                graves.push((host, interface, None));
            }
        }
        graves
    }

    pub(crate) fn vpc_committed(
        &mut self,
        now: Timestamp,
        id: VpcId,
        result: Result<Revision, CommitError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(vpc) = self.vpcs.get_mut(&id) else { return };
        match result {
            Ok(revision) => vpc.revision = Some(revision),
            Err(error) => {
                // The region says it again, for as long as it does not hear that it is held.
                tracing::error!(vpc = %id, %error, "the store refused a publication");
                vpc.refused();
                return self.vpc_held_send(id, out);
            }
        }
        let Some(mut storing) = vpc.storing.take() else { return };
        storing.begun = true;
        if !storing.commits.is_empty() {
            vpc.storing = Some(storing);
            return self.vpc_commit_next(id, out);
        }
        self.vpc_durable(now, id, storing.change, out);
        self.vpc_next(id, out);
    }

    /// Goes on with what waited.
    fn vpc_next(&mut self, id: VpcId, out: &mut Vec<Effect>) {
        loop {
            let Some(vpc) = self.vpcs.get_mut(&id) else { return };
            match vpc.waiting_next().map(|publication| vpc.change(publication)) {
                Some(Some(change)) => return self.vpc_store(id, change, out),
                Some(None) => {}
                None => break,
            }
        }
        self.vpc_held_send(id, out);
    }

    /// A change is durable: switches are told.
    fn vpc_durable(&mut self, now: Timestamp, id: VpcId, change: Change, out: &mut Vec<Effect>) {
        let graves = self.graves_of(id, &change);
        let mut moved: BTreeMap<HostId, BTreeSet<NetworkInterfaceId>> = BTreeMap::new();
        let interfaces: Vec<String> = change
            .gone
            .iter()
            .chain(change.put.keys())
            .filter_map(|id| if let PartId::Interface(name) = id { Some(name.clone()) } else { None })
            .collect();
        let (released, base) = (change.released, change.base);
        let Some(vpc) = self.vpcs.get_mut(&id) else { return };
        let news = vpc.apply(change);
        for (host, interface, port) in graves {
            moved.entry(host.clone()).or_default().insert(interface);
            match port {
                Some(port) => {
                    self.graves_stored.insert((host.clone(), interface));
                    self.port_set(&host, interface, Some(Port::grave(port)));
                }
                None => drop(self.graves_stored.remove(&(host, interface))),
            }
        }
        for name in interfaces {
            let published = self.vpcs.get(&id).and_then(|vpc| vpc.interface(&name));
            if let Some((host, interface)) = published.and_then(|published| self.place(published)) {
                self.port_set(&host, interface, Some(Port::Assigned(id)));
                moved.entry(host).or_default().insert(interface);
            }
        }
        // First the VPC, so that a port's first packet finds it.
        self.vpc_send(now, id, base, news, out);
        for (host, interfaces) in moved {
            self.ports_changed(now, &host, &interfaces, out);
        }
        if released {
            self.vpcs.remove(&id);
            self.vpc_held_send(id, out);
        }
    }

    /// Tells the region what is held of a VPC.
    pub(crate) fn vpc_held_send(&self, id: VpcId, out: &mut Vec<Effect>) {
        if !self.region_up {
            return;
        }
        let generation = self.vpcs.get(&id).map_or(Generation::ZERO, Vpc::held);
        let held = VpcHeld { vpc_id: id.to_string(), generation: Some(generation.into()) };
        out.push(Effect::ToRegion(FromCell { message: Some(from_cell::Message::VpcHeld(held)) }));
    }

    /// Goes on telling a region that has come up about every VPC: as many at a time as its link's queue can take.
    pub(crate) fn vpcs_tell(&mut self, out: &mut Vec<Effect>) {
        let Some(behind) = self.told_vpcs.filter(|_| self.region_up) else { return };
        let next: Vec<VpcId> =
            self.vpcs.range((behind, Bound::Unbounded)).map(|(id, _)| *id).take(REPORTS_MAX).collect();
        next.iter().for_each(|id| self.vpc_held_send(*id, out));
        self.told_vpcs = next.last().filter(|_| next.len() == REPORTS_MAX).map(|id| Bound::Excluded(*id));
    }
}
