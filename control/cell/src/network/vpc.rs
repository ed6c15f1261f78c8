//! One VPC in a cell: what the region has published, as parts, and the document that switches get of it.
//!
//! The document is a pure function of what was published, under the region's generation: whoever leads the cell, and
//! after any restart, a generation means one content. It is encoded once, however many switches it goes to.
//!
//! Invariant: what switches are told is durable in the cell's store.

use super::record::{self, Head, Part, PartId, interface_id};
use base::generation::Generation;
use base::ids::VpcId;
use bytes::Bytes;
use contract::{InterfacePublication, Mapping, UnderlayHost, VpcDocument, VpcPublication};
use metastore::{Commit, Condition, Op, Revision};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Operations of one commit, with room for its head and for a tombstone of each interface that moves.
const PARTS_A_COMMIT: usize = 60;
/// Bytes of parts in one commit.
const BYTES_A_COMMIT: usize = 512 << 10;
/// Publications of one VPC that wait for the one that is being stored.
const WAITING_MAX: usize = 64;
/// Geneve's port (RFC 8926, section 3.3).
const GENEVE_PORT: u32 = 6081;

/// A VPC of the cell.
#[derive(Default)]
pub(crate) struct Vpc {
    /// As stored; its document has no parts.
    pub(super) head: Head,
    pub(super) revision: Option<Revision>,
    pub(super) parts: BTreeMap<PartId, Part>,
    /// Which interface has an address. Of two that claim one (which the region never says), the first.
    addresses: BTreeMap<Vec<u8>, String>,
    /// Stored by a publication of which the store refused the rest: to be deleted, or put, by the next one.
    stray: BTreeSet<PartId>,
    /// The store's parts are a mixture; `parts` is what was whole before.
    mixture: bool,
    /// What is being stored.
    pub(super) storing: Option<Storing>,
    waiting: VecDeque<VpcPublication>,
    /// The whole document, encoded.
    encoded: Option<Bytes>,
}

/// A publication on its way into the store.
pub(super) struct Storing {
    pub(super) change: Change,
    /// Those after the one that is under way.
    pub(super) commits: VecDeque<Commit>,
    /// One of them is stored.
    pub(super) begun: bool,
}

/// What a publication changes.
#[derive(Clone, Default)]
pub(super) struct Change {
    pub(super) head: Head,
    pub(super) base: Option<Generation>,
    pub(super) put: BTreeMap<PartId, Part>,
    pub(super) gone: BTreeSet<PartId>,
    pub(super) released: bool,
}

impl Vpc {
    /// What the store holds, whole.
    pub(super) fn held(&self) -> Generation {
        if self.mixture { Generation::ZERO } else { self.generation() }
    }

    /// What switches are told. Goes on being that while the store gets the next, also if it refuses a part of it.
    pub(super) fn generation(&self) -> Generation {
        match &self.head.document {
            Some(document) if !self.head.partial => contract::convert::generation(document.generation),
            _ => Generation::ZERO,
        }
    }

    pub(super) fn part_put(&mut self, part: Part) {
        if let Part::Interface(interface) = &part
            && located(interface)
        {
            for address in interface.port.iter().flat_map(|port| &port.addresses) {
                self.addresses.entry(address.clone()).or_insert_with(|| interface_id(interface).to_owned());
            }
        }
        self.parts.insert(part.id(), part);
    }

    fn part_remove(&mut self, id: &PartId) {
        if let Some(Part::Interface(interface)) = self.parts.remove(id) {
            for address in interface.port.iter().flat_map(|port| &port.addresses) {
                if self.addresses.get(address).is_some_and(|owner| owner == interface_id(&interface)) {
                    self.addresses.remove(address);
                }
            }
        }
    }

    pub(super) fn interface(&self, id: &str) -> Option<&InterfacePublication> {
        match self.parts.get(&PartId::Interface(id.to_owned())) {
            Some(Part::Interface(interface)) => Some(interface),
            _ => None,
        }
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &InterfacePublication> {
        self.parts.values().filter_map(|part| match part {
            Part::Interface(interface) => Some(&**interface),
            _ => None,
        })
    }

    /// What a publication changes here; `None` if it is older than what is held, or a change of something else.
    pub(super) fn change(&self, publication: VpcPublication) -> Option<Change> {
        let VpcPublication { account_id, document, interfaces, gone_interfaces, released } = publication;
        let mut document = document?;
        let generation = contract::convert::generation(document.generation);
        let base = document.base.take().map(|base| contract::convert::generation(Some(base)));
        let held = self.held();
        if generation <= held || base.is_some_and(|base| base != held) {
            return None;
        }
        if released {
            let head = Head { document: Some(document), account_id, partial: false };
            let gone = self.parts.keys().chain(&self.stray).cloned().collect();
            return Some(Change { head, base, put: BTreeMap::new(), gone, released });
        }
        let mut put: Vec<Part> = Vec::new();
        put.extend(std::mem::take(&mut document.subnets).into_iter().map(Part::Subnet));
        put.extend(std::mem::take(&mut document.route_tables).into_iter().map(Part::RouteTable));
        put.extend(std::mem::take(&mut document.acls).into_iter().map(Part::Acl));
        put.extend(std::mem::take(&mut document.groups).into_iter().map(Part::Group));
        put.extend(std::mem::take(&mut document.prefix_lists).into_iter().map(Part::PrefixList));
        put.extend(std::mem::take(&mut document.dns).into_iter().map(Part::Dns));
        put.extend(interfaces.into_iter().map(Box::new).map(Part::Interface));
        let put: BTreeMap<PartId, Part> = put.into_iter().map(|part| (part.id(), part)).collect();
        let mut gone: BTreeSet<PartId> = match base {
            Some(_) => gone_parts(&mut document),
            None => {
                let stored = self.parts.keys().chain(&self.stray);
                stored.filter(|id| !put.contains_key(*id)).cloned().collect()
            }
        };
        gone.extend(gone_interfaces.into_iter().map(PartId::Interface));
        let head = self.head_after(account_id, document, base.is_some());
        Some(Change { head, base, put, gone, released })
    }

    /// The head that a publication makes of this one.
    fn head_after(&self, account_id: String, document: VpcDocument, is_change: bool) -> Head {
        let keeps = is_change && !document.vpc_changed;
        let document = match (&self.head.document, keeps) {
            (Some(kept), true) => VpcDocument { generation: document.generation, ..kept.clone() },
            _ => VpcDocument { vpc_changed: false, ..document },
        };
        Head { document: Some(document), account_id, partial: false }
    }

    /// The commits that store a change. Tombstones come first, so that no interface goes without one; they are taken
    /// back last, when the interface is there again.
    pub(super) fn commits(&self, vpc: VpcId, change: &Change, graves: Vec<Op>) -> VecDeque<Commit> {
        let (back, made): (Vec<Op>, Vec<Op>) = graves.into_iter().partition(|op| matches!(op, Op::Delete(_)));
        let mut ops = VecDeque::from(made);
        ops.extend(change.gone.iter().map(|id| Op::Delete(id.key(vpc))));
        ops.extend(change.put.iter().map(|(id, part)| Op::Put(id.key(vpc), part.encode())));
        ops.extend(back);
        let size = |op: &Op| match op {
            Op::Put(key, value) | Op::PutLeased(key, value, _) => key.len() + value.len(),
            Op::Delete(key) => key.len(),
        };
        let head = record::head_key(vpc);
        let last = match change.released {
            true => Op::Delete(head.clone()),
            false => Op::Put(head.clone(), change.head.encode_to_vec()),
        };
        let mut commits = VecDeque::new();
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < PARTS_A_COMMIT
                && let Some(op) = ops.front()
                && (batch.is_empty() || bytes + size(op) <= BYTES_A_COMMIT)
            {
                bytes += size(op);
                batch.extend(ops.pop_front());
            }
            let whole = ops.is_empty();
            batch.push(match whole {
                true => last.clone(),
                false => Op::Put(head.clone(), Head { partial: true, ..self.head.clone() }.encode_to_vec()),
            });
            commits.push_back(Commit { conditions: Vec::new(), ops: batch });
            if whole {
                return commits;
            }
        }
    }

    /// The condition of the next commit: nobody else has written this VPC.
    pub(super) fn condition(&self, vpc: VpcId) -> Condition {
        let key = record::head_key(vpc);
        match self.revision {
            Some(revision) => Condition::Unchanged(key, revision),
            None => Condition::Absent(key),
        }
    }

    /// Keeps a publication for when the present one is stored, if it can be of use then. What is dropped is said again
    /// by the region, which hears what is held.
    pub(super) fn wait(&mut self, publication: VpcPublication) {
        let generation_of = |publication: &VpcPublication| {
            let document = publication.document.as_ref();
            contract::convert::generation(document.and_then(|document| document.generation))
        };
        let storing = self.storing.as_ref().and_then(|storing| storing.change.head.document.as_ref());
        let storing = storing.map(|document| contract::convert::generation(document.generation));
        let last = self.waiting.back().map(generation_of).or(storing).unwrap_or(self.held());
        let base = publication.document.as_ref().and_then(|document| document.base);
        match base {
            _ if generation_of(&publication) <= last => {}
            None => self.waiting = VecDeque::from([publication]),
            Some(base) if contract::convert::generation(Some(base)) == last => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.push_back(publication);
                }
            }
            Some(_) => {}
        }
    }

    pub(super) fn waiting_next(&mut self) -> Option<VpcPublication> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.revision.is_none() && self.storing.is_none() && self.waiting.is_empty()
    }

    /// The store refused the commit under way: of the change, what came before it is stored.
    pub(super) fn refused(&mut self) {
        self.waiting.clear();
        let Some(storing) = self.storing.take() else { return };
        if storing.begun {
            self.mixture = true;
            self.stray.extend(storing.change.put.into_keys());
        }
    }

    /// A change has become durable: what switches that hold its base are told.
    pub(super) fn apply(&mut self, change: Change) -> Option<Bytes> {
        let base = change.base;
        let mut document = VpcDocument { base: base.map(Into::into), ..VpcDocument::default() };
        let mut touched: BTreeSet<Vec<u8>> = BTreeSet::new();
        let addresses = |interface: &InterfacePublication| -> Vec<Vec<u8>> {
            interface.port.iter().flat_map(|port| port.addresses.clone()).collect()
        };
        // First what was there, then what comes: an address may pass from one interface to another.
        for id in change.gone.iter().chain(change.put.keys()) {
            if let Some(Part::Interface(interface)) = self.parts.get(id) {
                touched.extend(addresses(interface));
            }
            self.part_remove(id);
        }
        change.gone.iter().for_each(|id| gone_name(&mut document, id));
        for part in change.put.into_values() {
            match &part {
                Part::Interface(interface) => touched.extend(addresses(interface)),
                part => part_name(&mut document, part),
            }
            self.part_put(part);
        }
        let mut hosts: BTreeMap<u64, UnderlayHost> = BTreeMap::new();
        for address in touched {
            match self.mapping(&address) {
                Some((mapping, host)) => {
                    document.mappings.push(mapping);
                    hosts.insert(host.number, host);
                }
                None => document.gone_mappings.push(address),
            }
        }
        document.hosts = hosts.into_values().collect();
        let same_head = |a: &VpcDocument, b: &VpcDocument| {
            VpcDocument { generation: None, ..a.clone() } == VpcDocument { generation: None, ..b.clone() }
        };
        let changed = match (&self.head.document, &change.head.document) {
            (Some(before), Some(after)) => !same_head(before, after),
            _ => true,
        };
        self.head = change.head;
        (self.mixture, self.encoded) = (false, None);
        self.stray.clear();
        base?;
        let head = self.head.document.clone().unwrap_or_default();
        document.vpc_id = head.vpc_id.clone();
        document.generation = head.generation;
        document.vni = head.vni;
        if changed {
            let parts = document;
            document = head;
            document.base = parts.base;
            document.vpc_changed = true;
            parts_take(&mut document, parts);
        }
        Some(document.encode_to_vec().into())
    }

    fn mapping(&self, address: &[u8]) -> Option<(Mapping, UnderlayHost)> {
        let interface = self.interface(self.addresses.get(address)?)?;
        let host = underlay(interface);
        let mapping = Mapping {
            address: address.to_vec(),
            mac: interface.port.as_ref()?.mac.clone(),
            host: host.number,
            groups: interface.group_numbers.clone(),
            version: interface.version,
        };
        Some((mapping, host))
    }

    /// The whole document, encoded; `None` while the cell does not hold the VPC whole.
    pub(super) fn whole(&mut self) -> Option<Bytes> {
        if self.generation() == Generation::ZERO {
            return None;
        }
        if self.encoded.is_none() {
            let mut document = self.head.document.clone().unwrap_or_default();
            self.parts.values().for_each(|part| part_name(&mut document, part));
            let mut hosts: BTreeMap<u64, UnderlayHost> = BTreeMap::new();
            for address in self.addresses.keys() {
                let Some((mapping, host)) = self.mapping(address) else { continue };
                document.mappings.push(mapping);
                hosts.insert(host.number, host);
            }
            document.hosts.extend(hosts.into_values());
            self.encoded = Some(document.encode_to_vec().into());
        }
        self.encoded.clone()
    }
}

/// Whether anybody can reach it.
fn located(interface: &InterfacePublication) -> bool {
    !interface.underlay_address.is_empty()
}

/// Where an interface is. The number follows from the address, so that documents of all times agree on it: an IPv4
/// address with Geneve's port is its own number, of others it is 48 bits of a hash behind a bit of its own.
fn underlay(interface: &InterfacePublication) -> UnderlayHost {
    let address = &interface.underlay_address;
    let port = if interface.underlay_port == 0 { GENEVE_PORT } else { interface.underlay_port };
    let number = match <[u8; 4]>::try_from(&address[..]) {
        Ok(address) if port == GENEVE_PORT => u64::from(u32::from_be_bytes(address)),
        _ => {
            let hash = address.iter().chain(&port.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325, fnv1a);
            1 << 48 | hash >> 16
        }
    };
    UnderlayHost { number, address: address.clone(), port }
}

/// A step of FNV-1a, 64 bits.
fn fnv1a(hash: u64, byte: &u8) -> u64 {
    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
}

fn part_name(document: &mut VpcDocument, part: &Part) {
    match part {
        Part::Subnet(part) => document.subnets.push(part.clone()),
        Part::RouteTable(part) => document.route_tables.push(part.clone()),
        Part::Acl(part) => document.acls.push(part.clone()),
        Part::Group(part) => document.groups.push(part.clone()),
        Part::PrefixList(part) => document.prefix_lists.push(part.clone()),
        Part::Dns(part) => document.dns.push(part.clone()),
        // Of these switches know the mappings.
        Part::Interface(_) => {}
    }
}

fn gone_name(document: &mut VpcDocument, id: &PartId) {
    match id {
        PartId::Subnet(id) => document.gone_subnets.push(id.clone()),
        PartId::RouteTable(id) => document.gone_route_tables.push(id.clone()),
        PartId::Acl(id) => document.gone_acls.push(id.clone()),
        PartId::Group(number) => document.gone_groups.push(*number),
        PartId::PrefixList(number) => document.gone_prefix_lists.push(*number),
        PartId::Dns(name, kind) => {
            let record = contract::DnsRecord { name: name.clone(), r#type: *kind, ..Default::default() };
            document.gone_dns.push(record);
        }
        PartId::Interface(_) => {}
    }
}

fn gone_parts(document: &mut VpcDocument) -> BTreeSet<PartId> {
    let mut gone: BTreeSet<PartId> = BTreeSet::new();
    gone.extend(std::mem::take(&mut document.gone_subnets).into_iter().map(PartId::Subnet));
    gone.extend(std::mem::take(&mut document.gone_route_tables).into_iter().map(PartId::RouteTable));
    gone.extend(std::mem::take(&mut document.gone_acls).into_iter().map(PartId::Acl));
    gone.extend(std::mem::take(&mut document.gone_groups).into_iter().map(PartId::Group));
    gone.extend(std::mem::take(&mut document.gone_prefix_lists).into_iter().map(PartId::PrefixList));
    let names = std::mem::take(&mut document.gone_dns).into_iter();
    gone.extend(names.map(|record| PartId::Dns(record.name, record.r#type)));
    gone
}

/// Moves a change's parts into the document of its head.
fn parts_take(document: &mut VpcDocument, parts: VpcDocument) {
    document.subnets = parts.subnets;
    document.route_tables = parts.route_tables;
    document.acls = parts.acls;
    document.groups = parts.groups;
    document.prefix_lists = parts.prefix_lists;
    document.dns = parts.dns;
    document.mappings = parts.mappings;
    document.hosts.extend(parts.hosts);
    document.gone_subnets = parts.gone_subnets;
    document.gone_route_tables = parts.gone_route_tables;
    document.gone_acls = parts.gone_acls;
    document.gone_groups = parts.gone_groups;
    document.gone_prefix_lists = parts.gone_prefix_lists;
    document.gone_dns = parts.gone_dns;
    document.gone_mappings = parts.gone_mappings;
}
