//! The elements of one kind that a document holds, by what names them: kept as they are encoded, which is compact (a
//! mapping is about 25 bytes) and compares fast.

use crate::policy::{Prefix, address_read};
use contract::{
    AclEntry, DnsRecord, GroupRule, Mapping, NetworkAcl, PrefixList, RouteTable, SecurityGroup, Subnet,
    Traffic, UnderlayHost,
};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

/// An element of a VPC's document.
pub(super) trait Element: Message + Default {
    /// What names it.
    type Key: Ord + Clone;

    fn key(&self) -> Self::Key;

    /// Why it cannot be used, if so.
    fn check(&self) -> Result<(), &'static str>;
}

/// All of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table<E: Element> {
    rows: BTreeMap<E::Key, Box<[u8]>>,
    kind: PhantomData<E>,
}

impl<E: Element> Default for Table<E> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), kind: PhantomData }
    }
}

impl<E: Element> Table<E> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn contains(&self, key: &E::Key) -> bool {
        self.rows.contains_key(key)
    }

    pub(super) fn get(&self, key: &E::Key) -> Option<E> {
        decode(self.rows.get(key)?)
    }

    /// All of them, in the order of their keys.
    pub(super) fn all(&self) -> impl Iterator<Item = E> {
        self.rows.values().filter_map(|bytes| decode(bytes))
    }

    /// Those that a change neither replaces nor removes.
    pub(super) fn staying(&self, change: &Changed<E>) -> impl Iterator<Item = E> {
        let stays = |key: &E::Key| !change.keys.contains(key) && !change.gone.contains(key);
        self.rows.iter().filter(move |(key, _)| stays(key)).filter_map(|(_, bytes)| decode(bytes))
    }

    pub(super) fn apply(&mut self, set: &[E], gone: &BTreeSet<E::Key>) {
        gone.iter().for_each(|key| drop(self.rows.remove(key)));
        for element in set {
            self.rows.insert(element.key(), element.encode_to_vec().into_boxed_slice());
        }
    }

    /// What is to be set and removed for it to hold exactly `whole`.
    pub(super) fn difference(&self, whole: Vec<E>) -> (Vec<E>, BTreeSet<E::Key>) {
        let named: BTreeSet<E::Key> = whole.iter().map(Element::key).collect();
        let gone = self.rows.keys().filter(|key| !named.contains(key)).cloned().collect();
        let mut set = whole;
        set.retain(|element| {
            self.rows.get(&element.key()).is_none_or(|held| **held != *element.encode_to_vec())
        });
        (set, gone)
    }
}

/// The names in a change of one kind.
pub(super) struct Changed<E: Element> {
    keys: BTreeSet<E::Key>,
    gone: BTreeSet<E::Key>,
}

impl<E: Element> Changed<E> {
    /// Of what is set and what is gone, each once.
    pub(super) fn read(set: &[E], gone: BTreeSet<E::Key>) -> Result<Self, &'static str> {
        let mut keys = BTreeSet::new();
        for element in set {
            element.check()?;
            if gone.contains(&element.key()) {
                return Err("an element stands in it and is gone from it");
            }
            if !keys.insert(element.key()) {
                return Err("an element stands in it twice");
            }
        }
        Ok(Changed { keys, gone })
    }

    pub(super) fn gone(&self) -> &BTreeSet<E::Key> {
        &self.gone
    }

    /// Whether there is such an element once the change is made to the table.
    pub(super) fn leaves(&self, table: &Table<E>, key: &E::Key) -> bool {
        self.keys.contains(key) || (table.contains(key) && !self.gone.contains(key))
    }

    /// How many there are once the change is made to the table.
    pub(super) fn count(&self, table: &Table<E>) -> usize {
        let new = self.keys.iter().filter(|key| !table.contains(key)).count();
        table.len() + new - self.gone.iter().filter(|key| table.contains(key)).count()
    }
}

fn decode<E: Element>(bytes: &[u8]) -> Option<E> {
    // It was encoded here, or its checksum held.
    E::decode(bytes).ok()
}

fn prefix_check(prefix: Option<&contract::Prefix>) -> Result<(), &'static str> {
    match prefix.map(Prefix::read) {
        Some(Some(_)) => Ok(()),
        Some(None) => Err("a prefix cannot be read"),
        None => Err("a prefix is missing"),
    }
}

fn traffic_check(traffic: Option<&Traffic>) -> Result<(), &'static str> {
    let traffic = traffic.ok_or("a rule does not say for which traffic")?;
    let ports = matches!(traffic.protocol, 6 | 17);
    match traffic.protocol {
        257.. => Err("a protocol is none"),
        _ if ports && (traffic.first > traffic.last || traffic.last > 65_535) => {
            Err("a range of ports is none")
        }
        1 | 58 if [traffic.first, traffic.last].iter().any(|part| !matches!(part, 0..=255 | 65_536)) => {
            Err("an ICMP type or code is none")
        }
        _ => Ok(()),
    }
}

fn id_check(id: &str) -> Result<(), &'static str> {
    if id.is_empty() || id.len() > 64 { Err("an id is empty, or longer than 64 bytes") } else { Ok(()) }
}

impl Element for Subnet {
    type Key = String;

    fn key(&self) -> String {
        self.subnet_id.clone()
    }

    fn check(&self) -> Result<(), &'static str> {
        id_check(&self.subnet_id)?;
        prefix_check(self.cidr.as_ref())?;
        // Without an address the subnet has no IPv6.
        match self.cidr_ipv6.as_ref().filter(|prefix| !prefix.address.is_empty()) {
            Some(prefix) => prefix_check(Some(prefix)),
            None => Ok(()),
        }
    }
}

impl Element for RouteTable {
    type Key = String;

    fn key(&self) -> String {
        self.route_table_id.clone()
    }

    fn check(&self) -> Result<(), &'static str> {
        use contract::route::{Destination, Target};
        id_check(&self.route_table_id)?;
        for route in &self.routes {
            match &route.destination {
                Some(Destination::Prefix(prefix)) => prefix_check(Some(prefix))?,
                Some(Destination::PrefixList(_)) => {}
                None => return Err("a route has no destination"),
            }
            match &route.target {
                Some(Target::NextHop(address)) if address_read(address).is_none() => {
                    return Err("a next hop is no address");
                }
                Some(Target::PeerVpcId(vpc)) if vpc.parse::<base::ids::VpcId>().is_err() => {
                    return Err("a peer is no VPC");
                }
                Some(_) => {}
                None => return Err("a route has no target"),
            }
        }
        Ok(())
    }
}

impl Element for NetworkAcl {
    type Key = String;

    fn key(&self) -> String {
        self.acl_id.clone()
    }

    fn check(&self) -> Result<(), &'static str> {
        id_check(&self.acl_id)?;
        for entries in [&self.ingress, &self.egress] {
            if entries.len() > crate::policy::ACL_ENTRIES_MAX {
                return Err("an ACL has too many entries");
            }
            for AclEntry { prefix, traffic, .. } in entries {
                prefix_check(prefix.as_ref())?;
                traffic_check(traffic.as_ref())?;
            }
        }
        Ok(())
    }
}

impl Element for SecurityGroup {
    type Key = u32;

    fn key(&self) -> u32 {
        self.number
    }

    fn check(&self) -> Result<(), &'static str> {
        use contract::group_rule::Peer;
        if self.group_id.parse::<base::ids::SecurityGroupId>().is_err() {
            return Err("a group's id is none");
        }
        for GroupRule { traffic, peer, .. } in self.ingress.iter().chain(&self.egress) {
            traffic_check(traffic.as_ref())?;
            match peer {
                Some(Peer::Prefix(prefix)) => prefix_check(Some(prefix))?,
                Some(Peer::Group(_) | Peer::PrefixList(_)) => {}
                None => return Err("a rule does not say for whom"),
            }
        }
        Ok(())
    }
}

impl Element for PrefixList {
    type Key = u32;

    fn key(&self) -> u32 {
        self.number
    }

    fn check(&self) -> Result<(), &'static str> {
        id_check(&self.prefix_list_id)?;
        self.prefixes.iter().try_for_each(|prefix| prefix_check(Some(prefix)))
    }
}

impl Element for Mapping {
    type Key = Box<[u8]>;

    fn key(&self) -> Box<[u8]> {
        self.address.as_slice().into()
    }

    fn check(&self) -> Result<(), &'static str> {
        if address_read(&self.address).is_none() {
            return Err("a mapping is of no address");
        }
        if self.mac.len() != 6 { Err("a mapping has no MAC address") } else { Ok(()) }
    }
}

impl Element for UnderlayHost {
    type Key = u64;

    fn key(&self) -> u64 {
        self.number
    }

    fn check(&self) -> Result<(), &'static str> {
        match (address_read(&self.address), u16::try_from(self.port)) {
            (Some(_), Ok(1..)) => Ok(()),
            _ => Err("a host has no address"),
        }
    }
}

impl Element for DnsRecord {
    type Key = (String, u32);

    fn key(&self) -> (String, u32) {
        (self.name.clone(), self.r#type)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.name.len() > 253 { Err("a name is longer than 253 bytes") } else { Ok(()) }
    }
}
