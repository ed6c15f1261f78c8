//! What documents say, read straight from them: lists are scanned, nothing is compiled. Nothing of the compiled side is
//! used here but the MAC address of a router.

use super::super::{Point, router_mac};
use crate::engine::verdict::{DropReason, Initiator};
use crate::packet::{Flow, Mac};
use contract::group_rule::Peer;
use contract::route::{Destination, Target};
use contract::{AclEntry, Mapping, PortAssignment, Prefix, SecurityGroup, Subnet, Traffic, VpcDocument};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// All documents, whole.
#[derive(Clone, Default)]
pub struct Documents {
    pub vpcs: BTreeMap<String, VpcDocument>,
    pub ports: BTreeMap<String, PortAssignment>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Hop {
    Port(String),
    Host(u32, SocketAddr),
    /// One of these.
    Edge(u32, Vec<SocketAddr>),
}

pub type Answer = Result<(Hop, (Mac, Mac)), DropReason>;

fn bits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:08b}")).collect()
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    let address = bytes(address);
    let length = prefix.length as usize;
    prefix.address.len() == address.len() && bits(&prefix.address)[..length] == bits(&address)[..length]
}

fn traffic_matches(traffic: &Traffic, flow: &Flow, port: u16, icmp: (u8, u8)) -> bool {
    if traffic.protocol == 256 {
        return true;
    }
    if traffic.protocol != u32::from(flow.protocol) {
        return false;
    }
    match flow.protocol {
        6 | 17 => (traffic.first..=traffic.last).contains(&u32::from(port)),
        1 | 58 => {
            let all = |stored: u32, value: u8| stored == 65_536 || stored == u32::from(value);
            all(traffic.first, icmp.0) && (traffic.first == 65_536 || all(traffic.last, icmp.1))
        }
        _ => true,
    }
}

fn mac(bytes: &[u8]) -> Mac {
    Mac(bytes.try_into().unwrap())
}

impl Documents {
    fn subnet(&self, port: &PortAssignment) -> Option<(&VpcDocument, &Subnet)> {
        let vpc = self.vpcs.get(&port.vpc_id)?;
        Some((vpc, vpc.subnets.iter().find(|subnet| subnet.subnet_id == port.subnet_id)?))
    }

    pub fn ask(
        &self,
        interface: &str,
        flow: &Flow,
        point: Point,
        initiator: Initiator,
        own: SocketAddr,
    ) -> Answer {
        let port = self.ports.get(interface).ok_or(DropReason::NotHere)?;
        let (vpc, subnet) = self.subnet(port).ok_or(DropReason::NoRoute)?;
        match point {
            Point::Leaving => self.leaving(port, vpc, subnet, flow, initiator, own),
            Point::Reaching => self.reaching(port, vpc, subnet, flow, initiator),
        }
    }

    fn leaving(
        &self,
        port: &PortAssignment,
        vpc: &VpcDocument,
        subnet: &Subnet,
        flow: &Flow,
        initiator: Initiator,
        own: SocketAddr,
    ) -> Answer {
        if port.check_source && !port.addresses.contains(&bytes(flow.source)) {
            return Err(DropReason::SpoofedAddress);
        }
        let route = route(vpc, subnet, flow.destination);
        let end = self.end(vpc, route.as_ref(), flow.destination);
        self.groups(port, vpc, flow, flow.destination, end, Point::Leaving, initiator)?;
        if !inside(subnet, flow.destination) && !acl(vpc, subnet, flow, flow.destination, false) {
            return Err(DropReason::AclEgress);
        }
        let (there, mapping, address) = match route.ok_or(DropReason::NoRoute)? {
            None => {
                let (vpc, mapping) = end.ok_or(DropReason::NoMapping)?;
                (vpc, mapping, flow.destination)
            }
            Some(Target::PeerVpcId(peer)) => {
                self.vpcs.get(&peer).ok_or(DropReason::Blackhole)?;
                let (vpc, mapping) = end.ok_or(DropReason::NoMapping)?;
                (vpc, mapping, flow.destination)
            }
            Some(Target::NextHop(next)) => {
                let mapping = vpc.mappings.iter().find(|mapping| mapping.address == next);
                let address = match next.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(&next[..]).unwrap()),
                    _ => IpAddr::from(<[u8; 16]>::try_from(&next[..]).unwrap()),
                };
                (vpc, mapping.ok_or(DropReason::Blackhole)?, address)
            }
            Some(Target::Edge(edge)) => {
                let edges: Vec<_> = edge.hosts.iter().filter_map(|host| underlay(vpc, *host)).collect();
                if edges.is_empty() {
                    return Err(DropReason::Blackhole);
                }
                let ethernet = (mac(&port.mac), router_mac(&subnet.subnet_id));
                return Ok((Hop::Edge(vpc.vni, edges), ethernet));
            }
            Some(Target::Blackhole(_)) => return Err(DropReason::Blackhole),
        };
        let at = underlay(there, mapping.host).ok_or(DropReason::NoMapping)?;
        let hop = if at == own {
            let here = self
                .ports
                .values()
                .find(|port| port.vpc_id == there.vpc_id && port.addresses.contains(&bytes(address)));
            Hop::Port(here.ok_or(DropReason::NotHere)?.interface_id.clone())
        } else {
            Hop::Host(there.vni, at)
        };
        if hop == Hop::Port(port.interface_id.clone()) && address != flow.destination {
            return Err(DropReason::Blackhole);
        }
        let source = if inside(subnet, address) {
            mac(&port.mac)
        } else {
            let subnet_there = there.subnets.iter().find(|subnet| inside(subnet, address));
            router_mac(&subnet_there.unwrap_or(subnet).subnet_id)
        };
        Ok((hop, (source, mac(&mapping.mac))))
    }

    fn reaching(
        &self,
        port: &PortAssignment,
        vpc: &VpcDocument,
        subnet: &Subnet,
        flow: &Flow,
        initiator: Initiator,
    ) -> Answer {
        if port.check_source && !port.addresses.contains(&bytes(flow.destination)) {
            return Err(DropReason::NotHere);
        }
        let route = route(vpc, subnet, flow.source);
        let end = self.end(vpc, route.as_ref(), flow.source);
        if end.is_none() && matches!(route, Some(None | Some(Target::PeerVpcId(_)))) {
            return Err(DropReason::NoMapping);
        }
        if !inside(subnet, flow.source) && !acl(vpc, subnet, flow, flow.source, true) {
            return Err(DropReason::AclIngress);
        }
        self.groups(port, vpc, flow, flow.source, end, Point::Reaching, initiator)?;
        let source = match end {
            Some((_, mapping)) if inside(subnet, flow.source) => mac(&mapping.mac),
            _ => router_mac(&subnet.subnet_id),
        };
        Ok((Hop::Port(port.interface_id.clone()), (source, mac(&port.mac))))
    }

    fn end<'a>(
        &'a self,
        vpc: &'a VpcDocument,
        route: Option<&Option<Target>>,
        address: IpAddr,
    ) -> Option<(&'a VpcDocument, &'a Mapping)> {
        let vpc = match route {
            Some(Some(Target::PeerVpcId(peer))) => self.vpcs.get(peer)?,
            _ => vpc,
        };
        Some((vpc, vpc.mappings.iter().find(|mapping| mapping.address == bytes(address))?))
    }

    #[allow(clippy::too_many_arguments)]
    fn groups(
        &self,
        port: &PortAssignment,
        vpc: &VpcDocument,
        flow: &Flow,
        other: IpAddr,
        end: Option<(&VpcDocument, &Mapping)>,
        point: Point,
        initiator: Initiator,
    ) -> Result<(), DropReason> {
        let is_first = (point == Point::Leaving) == (initiator == Initiator::Port);
        let port_there = if is_first { flow.destination_port } else { flow.source_port };
        let icmp = match (is_first, flow.protocol, flow.icmp) {
            (false, 1, (0, code)) => (8, code),
            (false, 58, (129, code)) => (128, code),
            (_, _, icmp) => icmp,
        };
        let id_of = |vpc: &VpcDocument, number: u32| {
            vpc.groups
                .iter()
                .find(|group| group.number == number)
                .map(|group: &SecurityGroup| group.group_id.clone())
        };
        for group in vpc.groups.iter().filter(|group| port.group_ids.contains(&group.group_id)) {
            let rules = if initiator == Initiator::Port { &group.egress } else { &group.ingress };
            for rule in rules {
                let peer = match rule.peer.as_ref().unwrap() {
                    Peer::Prefix(prefix) => contains(prefix, other),
                    Peer::PrefixList(number) => {
                        let list = vpc.prefix_lists.iter().find(|list| list.number == *number);
                        list.is_some_and(|list| list.prefixes.iter().any(|prefix| contains(prefix, other)))
                    }
                    Peer::Group(number) => end.is_some_and(|(there, mapping)| {
                        let named = id_of(vpc, *number);
                        named.is_some() && mapping.groups.iter().any(|number| id_of(there, *number) == named)
                    }),
                };
                if peer && traffic_matches(rule.traffic.as_ref().unwrap(), flow, port_there, icmp) {
                    return Ok(());
                }
            }
        }
        Err(match initiator {
            Initiator::Port => DropReason::GroupEgress,
            Initiator::Peer => DropReason::GroupIngress,
        })
    }
}

fn inside(subnet: &Subnet, address: IpAddr) -> bool {
    [&subnet.cidr, &subnet.cidr_ipv6].into_iter().flatten().any(|prefix| contains(prefix, address))
}

fn underlay(vpc: &VpcDocument, number: u64) -> Option<SocketAddr> {
    let host = vpc.hosts.iter().find(|host| host.number == number)?;
    let address: [u8; 4] = host.address[..].try_into().unwrap();
    Some(SocketAddr::new(address.into(), host.port as u16))
}

fn acl(vpc: &VpcDocument, subnet: &Subnet, flow: &Flow, other: IpAddr, ingress: bool) -> bool {
    let Some(acl) = vpc.acls.iter().find(|acl| acl.acl_id == subnet.acl_id) else { return false };
    let mut entries: Vec<&AclEntry> = if ingress { &acl.ingress } else { &acl.egress }.iter().collect();
    entries.sort_by_key(|entry| entry.number);
    let matches = |entry: &&&AclEntry| {
        contains(entry.prefix.as_ref().unwrap(), other)
            && traffic_matches(entry.traffic.as_ref().unwrap(), flow, flow.destination_port, flow.icmp)
    };
    entries.iter().find(matches).is_some_and(|entry| entry.allow)
}

/// `Some(None)`: local.
fn route(vpc: &VpcDocument, subnet: &Subnet, address: IpAddr) -> Option<Option<Target>> {
    let table = vpc.route_tables.iter().find(|table| table.route_table_id == subnet.route_table_id)?;
    let mut found: Vec<(u32, u32, Option<Target>)> = Vec::new();
    for prefix in vpc.cidrs.iter().filter(|prefix| contains(prefix, address)) {
        found.push((prefix.length, 0, None));
    }
    for route in &table.routes {
        match route.destination.as_ref().unwrap() {
            Destination::Prefix(prefix) if contains(prefix, address) => {
                found.push((prefix.length, 1, route.target.clone()));
            }
            Destination::Prefix(_) => {}
            Destination::PrefixList(number) => {
                let lists = vpc.prefix_lists.iter().filter(|list| list.number == *number);
                let prefixes =
                    lists.flat_map(|list| &list.prefixes).filter(|prefix| contains(prefix, address));
                found.extend(prefixes.map(|prefix| (prefix.length, 2, route.target.clone())));
            }
        }
    }
    let longest = found.iter().map(|(length, ..)| *length).max()?;
    // The first of the lowest kind.
    found
        .into_iter()
        .filter(|(length, ..)| *length == longest)
        .min_by_key(|(_, kind, _)| *kind)
        .map(|(.., target)| target)
}
