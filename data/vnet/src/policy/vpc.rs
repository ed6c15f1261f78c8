//! One VPC as this switch knows it: what its document says, compiled piece by piece.

use super::acl::Acl;
use super::address::AddressTable;
use super::lpm::{Lpm, NONE};
use super::mapping::Mapping;
use super::prefix::Prefix;
use super::route::{RouteTable, Target};
use crate::engine::verdict::PortIndex;
use crate::packet::Mac;
use base::ids::VpcId;
use contract::{PrefixList, SecurityGroup, Subnet as StoredSubnet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A VPC with a document here, or with a port.
#[derive(Debug)]
pub struct Vpc {
    pub id: VpcId,
    /// Its document is here.
    pub known: bool,
    pub vni: u32,
    pub cidrs: Vec<Prefix>,
    pub subnets: BTreeMap<String, Subnet>,
    pub places: SubnetPlaces,
    pub tables: BTreeMap<String, Arc<RouteTable>>,
    pub acls: BTreeMap<String, Arc<Acl>>,
    /// By the document's number.
    pub groups: BTreeMap<u32, Group>,
    /// The document's numbers of interned groups.
    pub group_numbers: BTreeMap<u32, u32>,
    pub lists: BTreeMap<u32, PrefixList>,
    pub mappings: AddressTable<Mapping>,
    pub hosts: Hosts,
    /// Ports of this switch by their addresses.
    pub local: AddressTable<PortIndex>,
    pub ports: BTreeSet<PortIndex>,
    /// What all tables' routes lead to, sorted.
    pub edges: Vec<IpAddr>,
    pub next_hops: Vec<IpAddr>,
    pub peers: Vec<VpcId>,
}

/// A subnet.
#[derive(Debug)]
pub struct Subnet {
    pub stored: StoredSubnet,
    pub prefixes: Vec<Prefix>,
    pub router: Mac,
}

/// A group that the document lists.
#[derive(Debug)]
pub struct Group {
    /// Its interned number.
    pub index: u32,
    pub stored: SecurityGroup,
}

/// Which subnet's router an address is behind.
#[derive(Clone, Debug, PartialEq)]
pub struct SubnetPlaces {
    lpm: Lpm,
    routers: Vec<Mac>,
}

/// Hosts by a small number that stays while the document names them.
#[derive(Debug, Default)]
pub struct Hosts {
    slots: Vec<Option<SocketAddr>>,
    by_number: BTreeMap<u64, u32>,
    free: Vec<u32>,
}

/// The MAC address of a subnet's router: locally administered, 0e and 40 bits of the subnet's id. No interface has one
/// that begins so; the services that answer ARP take it from here.
pub fn router_mac(subnet_id: &str) -> Mac {
    // FNV-1a, 64 bits, folded.
    let hash = subnet_id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [.., a, b, c, d, e] = (hash ^ hash >> 40).to_be_bytes();
    Mac([0x0e, a, b, c, d, e])
}

impl Subnet {
    pub fn build(stored: StoredSubnet) -> Subnet {
        let prefixes =
            [&stored.cidr, &stored.cidr_ipv6].into_iter().flatten().filter_map(Prefix::read).collect();
        let router = router_mac(&stored.subnet_id);
        Subnet { stored, prefixes, router }
    }
}

impl SubnetPlaces {
    pub fn build<'a>(subnets: impl Iterator<Item = &'a Subnet>) -> SubnetPlaces {
        let (mut entries, mut routers) = (Vec::new(), Vec::new());
        for (subnet, place) in subnets.zip(0..) {
            entries.extend(subnet.prefixes.iter().map(|prefix| (*prefix, place)));
            routers.push(subnet.router);
        }
        SubnetPlaces { lpm: Lpm::build(&entries), routers }
    }

    pub fn router(&self, address: IpAddr) -> Option<Mac> {
        match self.lpm.lookup(address) {
            NONE => None,
            place => self.routers.get(place as usize).copied(),
        }
    }
}

impl Hosts {
    pub fn address(&self, slot: u32) -> Option<SocketAddr> {
        self.slots.get(slot as usize).copied().flatten()
    }

    pub fn by_number(&self, number: u64) -> Option<SocketAddr> {
        self.address(*self.by_number.get(&number)?)
    }

    /// The slot of a number that the document names; an unknown one is a host without an address.
    pub fn slot(&self, number: u64) -> u32 {
        self.by_number.get(&number).copied().unwrap_or(u32::MAX)
    }

    /// Returns its slot if anything changes.
    pub fn set(&mut self, number: u64, address: SocketAddr) -> Option<u32> {
        let slot = *self.by_number.entry(number).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() as u32 - 1
            })
        });
        let held = self.slots.get_mut(slot as usize)?;
        let changes = *held != Some(address);
        *held = Some(address);
        changes.then_some(slot)
    }

    /// Returns the slot that it had.
    pub fn remove(&mut self, number: u64) -> Option<u32> {
        let slot = self.by_number.remove(&number)?;
        if let Some(held) = self.slots.get_mut(slot as usize) {
            *held = None;
        }
        self.free.push(slot);
        Some(slot)
    }
}

impl Vpc {
    pub fn new(id: VpcId, seed: u64) -> Vpc {
        Vpc {
            id,
            known: false,
            vni: 0,
            cidrs: Vec::new(),
            subnets: BTreeMap::new(),
            places: SubnetPlaces { lpm: Lpm::build(&[]), routers: Vec::new() },
            tables: BTreeMap::new(),
            acls: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_numbers: BTreeMap::new(),
            lists: BTreeMap::new(),
            mappings: AddressTable::new(seed),
            hosts: Hosts::default(),
            local: AddressTable::new(seed),
            ports: BTreeSet::new(),
            edges: Vec::new(),
            next_hops: Vec::new(),
            peers: Vec::new(),
        }
    }

    /// After a change of a table: what all of them lead to.
    pub fn targets_gather(&mut self) {
        let tables = || self.tables.values();
        let edges: BTreeSet<IpAddr> = tables().flat_map(|table| &table.edges).map(SocketAddr::ip).collect();
        let next_hops: BTreeSet<IpAddr> =
            tables().flat_map(|table| table.next_hops.iter().copied()).collect();
        let peers: BTreeSet<VpcId> = tables().flat_map(|table| table.peers.iter().copied()).collect();
        self.edges = edges.into_iter().collect();
        self.next_hops = next_hops.into_iter().collect();
        self.peers = peers.into_iter().collect();
    }

    /// Whether this host may send in the name of others: it is an edge, or has an appliance that routes lead to.
    pub fn forwards(&self, host: IpAddr) -> bool {
        let is_there = |address: &IpAddr| {
            let mapping = self.mappings.get(*address);
            mapping.and_then(|mapping| self.hosts.address(mapping.host)).is_some_and(|at| at.ip() == host)
        };
        self.edges.binary_search(&host).is_ok() || self.next_hops.iter().any(is_there)
    }

    /// The port here that a packet to somebody else goes to: an appliance's. With several route tables that lead
    /// different ways, the first one by id decides.
    pub fn appliance(&self, destination: IpAddr) -> Option<PortIndex> {
        self.tables.values().find_map(|table| match table.lookup(destination)?.target {
            Target::NextHop(address) => self.local.get(address).copied(),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_has_an_address_of_its_own() {
        let (a, b) = (router_mac("subnet-0123456789abcdef0"), router_mac("subnet-0123456789abcdef1"));
        assert_ne!(a, b);
        assert_eq!(a.0[0], 0x0e);
        assert_eq!(a, router_mac("subnet-0123456789abcdef0"));
    }
}
