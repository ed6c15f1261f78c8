//! Random documents that do not contradict themselves, and random changes of them: three VPCs, of which the first two
//! are peers and the third has the first one's addresses.

use super::naive::Documents;
use crate::packet::Flow;
use base::random::Random;
use contract::group_rule::Peer;
use contract::route::{Destination, Target};
use contract::*;
use std::net::{IpAddr, SocketAddr};

pub const VPCS: usize = 3;
const SUBNETS: u64 = 3;
const GROUPS: u64 = 4;
const PORTS: u64 = 6;
/// Numbers of groups of the peer that a document lists without rules.
const PEER_GROUP: u32 = 20;

pub fn own() -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), 6081)
}

/// A change of one document.
#[derive(Clone, Debug)]
pub enum Change {
    Vpc(VpcDocument),
    VpcGone(String),
    Port(PortAssignment),
    PortGone(String),
}

pub fn vpc_id(vpc: usize) -> String {
    format!("vpc-{vpc:017x}")
}

fn id(prefix: &str, vpc: usize, number: u64) -> String {
    format!("{prefix}-{:017x}", vpc as u64 * 0x100 + number)
}

pub fn interface(number: u64) -> String {
    format!("eni-{number:017x}")
}

/// The second octet of a VPC's addresses: the third VPC has those of the first.
fn network(vpc: usize) -> u8 {
    [0, 1, 0][vpc]
}

pub fn address(vpc: usize, subnet: u64, number: u64, v6: bool) -> Vec<u8> {
    let v4 = [10, network(vpc), subnet as u8, number as u8];
    if v6 {
        let mut bytes = vec![0x20, 0x01, 0x0d, 0xb8, 0, network(vpc), 0, subnet as u8];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, number as u8]);
        bytes
    } else {
        v4.to_vec()
    }
}

fn any_address(random: &mut Random) -> Vec<u8> {
    let v6 = random.chance(0.3);
    match random.below(8) {
        0 if v6 => vec![0x26; 16],
        0 => vec![8, 8, random.below(2) as u8, 8],
        _ => address(random.below(2) as usize, random.below(SUBNETS), 4 + random.below(6), v6),
    }
}

pub fn ip(bytes: &[u8]) -> IpAddr {
    match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()),
    }
}

fn prefix(random: &mut Random) -> Prefix {
    let mut address = any_address(random);
    let lengths: &[u32] =
        if address.len() == 4 { &[0, 8, 15, 16, 24, 30, 32] } else { &[0, 32, 48, 64, 126, 128] };
    let length = lengths[random.below(lengths.len() as u64) as usize];
    for (place, byte) in address.iter_mut().enumerate() {
        let kept = (length as usize).saturating_sub(place * 8).min(8);
        *byte &= (0xff00u16 >> kept) as u8;
    }
    Prefix { address, length }
}

fn traffic(random: &mut Random) -> Traffic {
    let (protocol, first, last) = match random.below(7) {
        0 | 1 => (256, 0, 0),
        2 => (6, 80, 80 + random.below(400) as u32),
        3 => (17, random.below(60) as u32, 65_535),
        4 => (1, 65_536, 65_536),
        5 => (
            [1, 58][random.below(2) as usize],
            [8, 128, 3][random.below(3) as usize],
            [0, 65_536][random.below(2) as usize],
        ),
        _ => (47, 0, 0),
    };
    Traffic { protocol, first, last }
}

pub fn flow(random: &mut Random) -> Flow {
    let (source, mut destination) = (any_address(random), any_address(random));
    while destination.len() != source.len() {
        destination = any_address(random);
    }
    let protocol = [6, 6, 17, 1, 58, 47][random.below(6) as usize];
    let port = |random: &mut Random| [80, 443, 53, 22, 50_000][random.below(5) as usize];
    let (source_port, destination_port, icmp) = match protocol {
        6 | 17 => (port(random), port(random), (0, 0)),
        1 => (7, 7, ([0, 8, 3][random.below(3) as usize], 0)),
        58 => (7, 7, ([128, 129, 3][random.below(3) as usize], 0)),
        _ => (0, 0, (0, 0)),
    };
    Flow { protocol, source: ip(&source), destination: ip(&destination), source_port, destination_port, icmp }
}

fn some(random: &mut Random, below: u64) -> std::ops::Range<u64> {
    0..random.below(below)
}

fn group(vpc: usize, number: u64, random: &mut Random) -> SecurityGroup {
    let rules = |random: &mut Random| -> Vec<GroupRule> {
        some(random, 4)
            .map(|_| {
                let peer = match random.below(4) {
                    0 | 1 => Peer::Prefix(prefix(random)),
                    2 => Peer::PrefixList(random.below(2) as u32),
                    _ if vpc < 2 && random.chance(0.4) => {
                        Peer::Group(PEER_GROUP + random.below(GROUPS) as u32)
                    }
                    _ => Peer::Group(random.below(GROUPS) as u32),
                };
                GroupRule {
                    rule_id: format!("sgr-{:017x}", random.below(1 << 40)),
                    traffic: Some(traffic(random)),
                    peer: Some(peer),
                }
            })
            .collect()
    };
    let (mut ingress, mut egress): (Vec<_>, Vec<_>) = (rules(random), rules(random));
    for rules in [&mut ingress, &mut egress] {
        rules.extend(random.chance(0.4).then(|| GroupRule {
            rule_id: String::from("sgr-0"),
            traffic: Some(Traffic { protocol: 256, first: 0, last: 0 }),
            peer: Some(Peer::Prefix(Prefix { address: vec![0; 4], length: 0 })),
        }));
    }
    SecurityGroup { number: number as u32, group_id: id("sg", vpc, number), ingress, egress }
}

fn prefix_list(vpc: usize, number: u64, random: &mut Random) -> PrefixList {
    let prefixes = some(random, 5).map(|_| prefix(random)).collect();
    PrefixList { number: number as u32, prefix_list_id: id("pl", vpc, number), prefixes }
}

fn table(vpc: usize, number: u64, random: &mut Random) -> RouteTable {
    let routes = some(random, 6).map(|_| {
        let destination = match random.below(4) {
            0 => Destination::PrefixList(random.below(2) as u32),
            1 if vpc < 2 => {
                Destination::Prefix(Prefix { address: vec![10, network(1 - vpc), 0, 0], length: 16 })
            }
            _ => Destination::Prefix(prefix(random)),
        };
        let to_peer = destination
            == Destination::Prefix(Prefix { address: vec![10, network(1 - vpc.min(1)), 0, 0], length: 16 });
        let target = match random.below(5) {
            _ if to_peer && vpc < 2 => Target::PeerVpcId(vpc_id(1 - vpc)),
            0 => Target::Blackhole(true),
            1 => Target::NextHop(address(vpc, random.below(SUBNETS), 4 + random.below(6), false)),
            2 if vpc < 2 => Target::PeerVpcId(vpc_id(1 - vpc)),
            _ => {
                let hosts = some(random, 3).map(|host| host + 1).collect();
                Target::Edge(EdgeTarget { kind: 1, hosts })
            }
        };
        Route { destination: Some(destination), target: Some(target), target_id: String::from("igw-1") }
    });
    RouteTable { route_table_id: id("rtb", vpc, number), routes: routes.collect() }
}

fn acl(vpc: usize, number: u64, random: &mut Random) -> NetworkAcl {
    let entries = |random: &mut Random| {
        let mut entries: Vec<_> = (1..=random.below(5))
            .map(|place| AclEntry {
                number: place as u32 * 10,
                allow: random.chance(0.7),
                prefix: Some(prefix(random)),
                traffic: Some(traffic(random)),
            })
            .collect();
        if random.chance(0.7) {
            let all = |address: Vec<u8>, number| AclEntry {
                number,
                allow: true,
                prefix: Some(Prefix { address, length: 0 }),
                traffic: Some(Traffic { protocol: 256, first: 0, last: 0 }),
            };
            entries.extend([all(vec![0; 4], 100), all(vec![0; 16], 101)]);
        }
        entries
    };
    let (ingress, egress) = (entries(random), entries(random));
    NetworkAcl { acl_id: id("acl", vpc, number), ingress, egress }
}

fn subnet(vpc: usize, number: u64, random: &mut Random) -> Subnet {
    let v6 = Prefix { address: address(vpc, number, 0, true), length: 64 };
    Subnet {
        subnet_id: id("subnet", vpc, number),
        cidr: Some(Prefix { address: address(vpc, number, 0, false), length: 24 }),
        cidr_ipv6: random.chance(0.8).then_some(v6),
        route_table_id: id("rtb", vpc, random.below(2)),
        acl_id: id("acl", vpc, random.below(2)),
        zone: String::from("us-east-1a"),
    }
}

fn mac(random: &mut Random) -> Vec<u8> {
    vec![2, 0, 0, 0, 0, random.below(200) as u8]
}

fn mapping(vpc: usize, address: Vec<u8>, random: &mut Random) -> Mapping {
    let _ = vpc;
    let groups = (0..GROUPS as u32).filter(|_| random.chance(0.4)).collect();
    Mapping { address, mac: mac(random), host: random.below(4), groups, version: 1 }
}

fn host(number: u64, random: &mut Random) -> UnderlayHost {
    let last = if random.chance(0.5) { number as u8 + 1 } else { 1 + random.below(5) as u8 };
    UnderlayHost { number, address: vec![127, 0, 0, last], port: 6081 }
}

fn some_mapping_address(vpc: usize, random: &mut Random) -> Vec<u8> {
    address(vpc, random.below(SUBNETS), 4 + random.below(6), random.chance(0.3))
}

/// A whole document.
pub fn vpc(vpc: usize, random: &mut Random) -> VpcDocument {
    let mut groups: Vec<_> = (0..GROUPS).map(|number| group(vpc, number, random)).collect();
    if vpc < 2 {
        groups.extend((0..GROUPS).map(|number| SecurityGroup {
            number: PEER_GROUP + number as u32,
            group_id: id("sg", 1 - vpc, number),
            ..SecurityGroup::default()
        }));
    }
    let mut mappings: Vec<Mapping> = Vec::new();
    for _ in 0..20 {
        let mapping = mapping(vpc, some_mapping_address(vpc, random), random);
        if mappings.iter().all(|other| other.address != mapping.address) {
            mappings.push(mapping);
        }
    }
    let mut cidrs = vec![Prefix { address: vec![10, network(vpc), 0, 0], length: 16 }];
    cidrs.push(Prefix {
        address: address(vpc, 0, 0, true)[..6].iter().copied().chain([0; 10]).collect(),
        length: 48,
    });
    VpcDocument {
        vpc_id: vpc_id(vpc),
        vni: 100 + vpc as u32,
        cidrs,
        subnets: (0..SUBNETS).map(|number| subnet(vpc, number, random)).collect(),
        route_tables: (0..2).map(|number| table(vpc, number, random)).collect(),
        acls: (0..2).map(|number| acl(vpc, number, random)).collect(),
        groups,
        prefix_lists: (0..2).map(|number| prefix_list(vpc, number, random)).collect(),
        mappings,
        hosts: (0..4).map(|number| host(number, random)).collect(),
        ..VpcDocument::default()
    }
}

/// A port. Each has addresses of its own: nobody else's.
pub fn port(number: u64, random: &mut Random) -> PortAssignment {
    let vpc = (number % VPCS as u64) as usize;
    let subnet = number % SUBNETS;
    let addresses = [false, true].map(|v6| address(vpc, subnet, 4 + number, v6));
    PortAssignment {
        interface_id: interface(number),
        vpc_id: vpc_id(vpc),
        subnet_id: id("subnet", vpc, subnet),
        mac: mac(random),
        addresses: addresses.into_iter().take(1 + random.below(2) as usize).collect(),
        group_ids: (0..GROUPS).filter(|_| random.chance(0.5)).map(|group| id("sg", vpc, group)).collect(),
        check_source: random.chance(0.8),
        ..PortAssignment::default()
    }
}

fn replace<T>(list: &mut Vec<T>, element: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|held| same(held, &element)) {
        Some(held) => *held = element,
        None => list.push(element),
    }
}

/// Changes the documents at random; returns how that is said.
pub fn change(documents: &mut Documents, random: &mut Random) -> Change {
    let at = random.below(VPCS as u64) as usize;
    match random.below(24) {
        0 => {
            let number = random.below(PORTS);
            documents.ports.remove(&interface(number));
            return Change::PortGone(interface(number));
        }
        1..=4 => {
            let port = port(random.below(PORTS), random);
            documents.ports.insert(port.interface_id.clone(), port.clone());
            return Change::Port(port);
        }
        5 if random.chance(0.2) => {
            documents.vpcs.remove(&vpc_id(at));
            return Change::VpcGone(vpc_id(at));
        }
        _ => {}
    }
    let Some(held) = documents.vpcs.get_mut(&vpc_id(at)) else {
        let whole = vpc(at, random);
        documents.vpcs.insert(whole.vpc_id.clone(), whole.clone());
        return Change::Vpc(whole);
    };
    let mut change = VpcDocument { vpc_id: vpc_id(at), vni: held.vni, ..VpcDocument::default() };
    for _ in 0..=random.below(3) {
        change_some(at, held, &mut change, random);
    }
    Change::Vpc(change)
}

fn change_some(at: usize, held: &mut VpcDocument, change: &mut VpcDocument, random: &mut Random) {
    match random.below(10) {
        0 | 1 => {
            let new = group(at, random.below(GROUPS), random);
            replace(&mut held.groups, new.clone(), |a, b| a.number == b.number);
            replace(&mut change.groups, new, |a, b| a.number == b.number);
        }
        2 => {
            let new = prefix_list(at, random.below(2), random);
            replace(&mut held.prefix_lists, new.clone(), |a, b| a.number == b.number);
            replace(&mut change.prefix_lists, new, |a, b| a.number == b.number);
        }
        3 => {
            let new = table(at, random.below(2), random);
            replace(&mut held.route_tables, new.clone(), |a, b| a.route_table_id == b.route_table_id);
            replace(&mut change.route_tables, new, |a, b| a.route_table_id == b.route_table_id);
        }
        4 => {
            let new = acl(at, random.below(2), random);
            replace(&mut held.acls, new.clone(), |a, b| a.acl_id == b.acl_id);
            replace(&mut change.acls, new, |a, b| a.acl_id == b.acl_id);
        }
        5 => {
            let new = subnet(at, random.below(SUBNETS), random);
            if !change.gone_subnets.contains(&new.subnet_id) {
                replace(&mut held.subnets, new.clone(), |a, b| a.subnet_id == b.subnet_id);
                replace(&mut change.subnets, new, |a, b| a.subnet_id == b.subnet_id);
            }
        }
        6 => {
            let new = host(random.below(4), random);
            replace(&mut held.hosts, new.clone(), |a, b| a.number == b.number);
            replace(&mut change.hosts, new, |a, b| a.number == b.number);
        }
        7 if random.chance(0.3) => {
            held.cidrs.truncate(1);
            held.cidrs.extend(random.chance(0.5).then(|| Prefix { address: vec![8, 8, 0, 0], length: 23 }));
            change.cidrs = held.cidrs.clone();
            change.vpc_changed = true;
        }
        8 => {
            let address = some_mapping_address(at, random);
            if change.mappings.iter().all(|mapping| mapping.address != address) {
                held.mappings.retain(|mapping| mapping.address != address);
                change.gone_mappings.push(address);
            }
        }
        _ => {
            let new = mapping(at, some_mapping_address(at, random), random);
            if !change.gone_mappings.contains(&new.address) {
                replace(&mut held.mappings, new.clone(), |a, b| a.address == b.address);
                replace(&mut change.mappings, new, |a, b| a.address == b.address);
            }
        }
    }
}
