//! A route table, compiled: the longest prefix decides. The VPC's own prefixes are routes of every table; one that is
//! more specific may lead a part of them elsewhere (to an appliance), one of the same length may not. A route that
//! names its prefix goes before one that names a list, and of lists the first in the document, as in AWS.

use super::address::multiply;
use super::lpm::{Lpm, NONE};
use super::prefix::{Prefix, address_read};
use crate::packet::Flow;
use base::ids::VpcId;
use contract::route::{Destination, Target as StoredTarget};
use contract::{PrefixList, RouteTable as StoredTable};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where a route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// To the interface that has the destination's address.
    Local,
    /// To one of these edges.
    Edge(Vec<SocketAddr>),
    /// To the interface with this address.
    NextHop(IpAddr),
    /// To the interface that has the destination's address in this VPC.
    Peer(VpcId),
    /// Nowhere: its target is gone.
    Blackhole,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What it is for.
    pub prefix: Prefix,
    /// `pl-...`, if it comes from a list.
    pub prefix_list: Option<String>,
    /// Where it leads.
    pub target: Target,
    /// `igw-...`, `local`
    pub target_id: String,
}

/// Compiled routes.
#[derive(Debug)]
pub struct RouteTable {
    /// What it was compiled from.
    pub stored: StoredTable,
    lpm: Lpm,
    routes: Vec<Route>,
    /// A part of the VPC's own prefixes is led elsewhere.
    pub overrides: bool,
    /// Addresses of appliances that routes lead to.
    pub next_hops: Vec<IpAddr>,
    /// VPCs that routes lead to.
    pub peers: Vec<VpcId>,
    /// Edges that routes lead to.
    pub edges: Vec<SocketAddr>,
}

impl RouteTable {
    /// Compiles it.
    pub fn build(
        stored: StoredTable,
        cidrs: &[Prefix],
        lists: &BTreeMap<u32, PrefixList>,
        underlay: impl Fn(u64) -> Option<SocketAddr>,
    ) -> RouteTable {
        let local = |prefix: &Prefix| Route {
            prefix: *prefix,
            prefix_list: None,
            target: Target::Local,
            target_id: String::from("local"),
        };
        let mut routes: Vec<Route> = cidrs.iter().map(local).collect();
        let mut from_lists = Vec::new();
        for route in &stored.routes {
            let target = target_read(route.target.as_ref(), &underlay);
            let one = |prefix, prefix_list| Route {
                prefix,
                prefix_list,
                target: target.clone(),
                target_id: route.target_id.clone(),
            };
            match &route.destination {
                Some(Destination::Prefix(prefix)) => {
                    routes.extend(Prefix::read(prefix).map(|prefix| one(prefix, None)));
                }
                Some(Destination::PrefixList(number)) => {
                    let Some(list) = lists.get(number) else { continue };
                    let prefixes = list.prefixes.iter().filter_map(Prefix::read);
                    from_lists.extend(prefixes.map(|prefix| one(prefix, Some(list.prefix_list_id.clone()))));
                }
                None => {}
            }
        }
        routes.append(&mut from_lists);
        let overrides = routes.iter().any(|route| {
            !matches!(route.target, Target::Local | Target::Peer(_))
                && cidrs.iter().any(|cidr| cidr.covers(&route.prefix))
        });
        let entries: Vec<(Prefix, u32)> = routes.iter().map(|route| route.prefix).zip(0..).collect();
        let (mut next_hops, mut peers, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for route in &routes {
            match &route.target {
                Target::NextHop(address) => next_hops.push(*address),
                Target::Peer(vpc) => peers.push(*vpc),
                Target::Edge(hosts) => edges.extend(hosts),
                Target::Local | Target::Blackhole => {}
            }
        }
        next_hops.sort_unstable();
        next_hops.dedup();
        peers.sort_unstable();
        peers.dedup();
        edges.sort_unstable();
        edges.dedup();
        RouteTable { stored, lpm: Lpm::build(&entries), routes, overrides, next_hops, peers, edges }
    }

    /// The route to an address.
    pub fn lookup(&self, address: IpAddr) -> Option<&Route> {
        match self.lpm.lookup(address) {
            NONE => None,
            place => self.routes.get(place as usize),
        }
    }

    /// Whether the table was compiled from one of these prefix lists.
    pub fn refers_to_list(&self, number: u32) -> bool {
        let of = |route: &contract::Route| route.destination == Some(Destination::PrefixList(number));
        self.stored.routes.iter().any(of)
    }

    /// Whether a route leads to this host as an edge.
    pub fn refers_to_host(&self, number: u64) -> bool {
        self.stored.routes.iter().any(|route| match &route.target {
            Some(StoredTarget::Edge(edge)) => edge.hosts.contains(&number),
            _ => false,
        })
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.routes.len() * (size_of::<Route>() + 2 * 20 + size_of::<contract::Route>() + 16)
    }
}

fn target_read(stored: Option<&StoredTarget>, underlay: &impl Fn(u64) -> Option<SocketAddr>) -> Target {
    match stored {
        Some(StoredTarget::Edge(edge)) => {
            Target::Edge(edge.hosts.iter().filter_map(|host| underlay(*host)).collect())
        }
        Some(StoredTarget::NextHop(address)) => {
            address_read(address).map_or(Target::Blackhole, Target::NextHop)
        }
        Some(StoredTarget::PeerVpcId(vpc)) => vpc.parse().map_or(Target::Blackhole, Target::Peer),
        Some(StoredTarget::Blackhole(_)) | None => Target::Blackhole,
    }
}

/// Which of these edges a flow goes to: the one that weighs most for it (rendezvous hashing, Thaler and Ravishankar
/// 1998), so that an edge that comes or goes moves only its own flows. The same on every start: a NAT gateway's
/// connections stay with it.
pub fn edge_choose(edges: &[SocketAddr], flow: &Flow) -> Option<SocketAddr> {
    let of = flow_hash(flow);
    edges.iter().copied().max_by_key(|edge| {
        (multiply(address_hash(edge.ip(), edge.port()) ^ of, 0x9e37_79b9_7f4a_7c15), *edge)
    })
}

fn flow_hash(flow: &Flow) -> u64 {
    let source = address_hash(flow.source, flow.source_port);
    let destination = address_hash(flow.destination, flow.destination_port);
    multiply(source.rotate_left(17) ^ u64::from(flow.protocol), destination ^ 0xd1b5_4a32_d192_ed03)
}

fn address_hash(address: IpAddr, port: u16) -> u64 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let high = (bits >> 64) as u64 ^ 0xa076_1d64_78bd_642f;
    let mixed = multiply(high, bits as u64 ^ 0xe703_7ed1_a0b4_28db);
    multiply(mixed ^ u64::from(port), 0x8ebc_6af0_9c88_c6e3)
}
