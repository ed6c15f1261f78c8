//! A VPC's rules: what its documents say about a flow.
//!
//! Documents are compiled when they change ([`change`]), so that a question of the engine is a few searches in small
//! tables: the route, the other end's mapping, the groups' classifier, the network ACL.
//!
//! ```text
//!   leaving:  source check ─► groups ─► ACL (out of the subnet) ─► route ─► mapping ─► hop
//!   reaching:                           ACL (into the subnet) ─► groups ─► the port
//! ```
//!
//! What holds an answer up is in its [`Validity`]: the port's version, raised when its subnet, route table, ACL or the
//! rules of its groups change, and the version of the other end's mapping. A drop holds nothing up: it is asked again.
//!
//! [`trace`] tells how an answer came about, by the same code.
//!
//! Invariant: no I/O, no clock; the same documents give the same answers whatever way they came.
//! Invariant: what a document leaves open is not allowed.

mod acl;
mod address;
mod change;
mod classes;
mod classifier;
mod groups;
mod lpm;
mod mapping;
mod prefix;
mod route;
#[cfg(test)]
pub(crate) mod tests;
mod trace;
mod traffic;
mod vpc;

pub use acl::ENTRIES_MAX as ACL_ENTRIES_MAX;
pub use lpm::{Lpm, NONE};
pub use prefix::{Prefix, address_read};
pub use trace::{MappingStep, Point, RouteStep, Step, Trace};
pub use vpc::router_mac;

use crate::engine::verdict::{DropReason, Hop, Initiator, Pass, Policy, PortIndex, Validity, Verdict, Vni};
use crate::packet::{Flow, Mac};
use acl::Acl;
use base::ids::{NetworkInterfaceId, VpcId};
use change::RuleSet;
use groups::{EMPTY, Groups};
use mapping::{Mapping, Versions};
use route::{Route, RouteTable, Target, edge_choose};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use trace::{Recorder, Silent};
use traffic::TrafficKey;
use vpc::Vpc;

/// All documents of a switch, compiled.
#[derive(Debug)]
pub struct VpcPolicy {
    /// Where the underlay reaches this switch: a mapping there is a port here.
    underlay: SocketAddr,
    seed: u64,
    groups: Groups,
    vpcs: Vec<Option<Vpc>>,
    vpc_by_id: BTreeMap<VpcId, u32>,
    vpc_by_vni: BTreeMap<u32, u32>,
    ports: Vec<Option<Port>>,
    port_by_interface: BTreeMap<NetworkInterfaceId, PortIndex>,
    ports_free: Vec<PortIndex>,
    /// By a port's index; goes on when another port gets it.
    port_versions: Vec<u32>,
    mapping_versions: Versions,
    rule_sets: Vec<Option<RuleSet>>,
    /// By VPC and set of groups.
    rule_set_by_key: BTreeMap<(u32, u32), u32>,
    rule_sets_built: u64,
}

/// How much a [`VpcPolicy`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySize {
    /// Ports of this switch.
    pub ports: usize,
    /// VPCs with a document or a port here.
    pub vpcs: usize,
    /// Addresses of all VPCs.
    pub mappings: usize,
    /// What they take, in bytes, versions included.
    pub mapping_bytes: usize,
    /// Security groups that a document lists or something is in.
    pub groups: usize,
    /// Different sets of groups that something is in, the empty one included.
    pub sets: usize,
    /// Different sets of groups that ports of this switch are in: each is compiled once.
    pub rule_sets: usize,
    /// What they, ACLs and route tables take once compiled, in bytes, about.
    pub rule_bytes: usize,
}

/// A port of this switch.
#[derive(Debug)]
struct Port {
    interface: NetworkInterfaceId,
    vpc: u32,
    subnet_id: String,
    mac: Mac,
    addresses: Vec<IpAddr>,
    check_source: bool,
    /// The set of its groups.
    set: u32,
    /// What its VPC's document says of it, where that is here.
    bound: Option<Bound>,
}

/// The compiled pieces that a port's flows rest on.
#[derive(Clone, Debug)]
struct Bound {
    /// Of its subnet.
    prefixes: Vec<Prefix>,
    router: Mac,
    table: Option<Arc<RouteTable>>,
    acl: Option<Arc<Acl>>,
    /// Which, and how often sets of rules had been built when it was.
    rules: (u32, u64),
}

/// Which way a packet goes at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

impl Policy for VpcPolicy {
    fn leaving(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict {
        self.leave(port, flow, initiator, &mut Silent).map_or_else(Verdict::Drop, Verdict::Pass)
    }

    fn reaching(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict {
        self.reach(port, flow, initiator, &mut Silent).map_or_else(Verdict::Drop, Verdict::Pass)
    }

    fn port_of(&self, vni: Vni, flow: &Flow, from: SocketAddr) -> Result<PortIndex, DropReason> {
        let vpc = self.vpc_by_vni.get(&vni.0).and_then(|vpc| self.vpc(*vpc));
        let vpc = vpc.filter(|vpc| !vpc.ports.is_empty()).ok_or(DropReason::UnknownVni)?;
        // Only the address: a sender's port varies with the flow (RFC 8926, section 3.3).
        let from = from.ip();
        let at = |vpc: &Vpc| Some(vpc.hosts.address(vpc.mappings.get(flow.source)?.host)?.ip());
        let peers = || vpc.peers.iter().filter_map(|peer| self.vpc_of(*peer));
        let home = at(vpc).or_else(|| peers().find_map(at));
        if home != Some(from) && !vpc.forwards(from) {
            return Err(DropReason::WrongHost);
        }
        let port = vpc.local.get(flow.destination).copied();
        port.or_else(|| vpc.appliance(flow.destination)).ok_or(DropReason::NotHere)
    }

    fn holds(&self, validity: &Validity) -> bool {
        let (port, version) = validity.port;
        self.port_versions.get(port as usize) == Some(&version)
            && self.mapping_versions.holds(validity.mapping)
    }
}

impl VpcPolicy {
    /// Policy without documents. `underlay` is where other hosts reach this switch; `seed` is drawn at random.
    pub fn new(underlay: SocketAddr, seed: u64) -> VpcPolicy {
        VpcPolicy {
            underlay,
            seed,
            groups: Groups::new(),
            vpcs: Vec::new(),
            vpc_by_id: BTreeMap::new(),
            vpc_by_vni: BTreeMap::new(),
            ports: Vec::new(),
            port_by_interface: BTreeMap::new(),
            ports_free: Vec::new(),
            port_versions: Vec::new(),
            mapping_versions: Versions::new(),
            rule_sets: Vec::new(),
            rule_set_by_key: BTreeMap::new(),
            rule_sets_built: 0,
        }
    }

    /// The index of an interface's port.
    pub fn port_index(&self, interface: NetworkInterfaceId) -> Option<PortIndex> {
        self.port_by_interface.get(&interface).copied()
    }

    /// The interface whose port has this index.
    pub fn interface_of(&self, port: PortIndex) -> Option<NetworkInterfaceId> {
        self.port(port).map(|port| port.interface)
    }

    /// The MAC address of whoever has an address in the VPC of a port.
    pub fn mac_of(&self, port: PortIndex, address: IpAddr) -> Option<Mac> {
        Some(self.vpc(self.port(port)?.vpc)?.mappings.get(address)?.mac)
    }

    /// How much is held, and what it takes.
    pub fn size(&self) -> PolicySize {
        let vpcs = || self.vpcs.iter().flatten();
        let rules = || self.rule_sets.iter().flatten();
        let (groups, sets) = self.groups.len();
        let rule_bytes: usize = rules().map(|rules| rules.ingress.bytes() + rules.egress.bytes()).sum();
        let table_bytes = |vpc: &Vpc| {
            let acls: usize = vpc.acls.values().map(|acl| acl.bytes()).sum();
            acls + vpc.tables.values().map(|table| table.bytes()).sum::<usize>()
        };
        PolicySize {
            ports: self.port_by_interface.len(),
            vpcs: self.vpc_by_id.len(),
            mappings: vpcs().map(|vpc| vpc.mappings.len()).sum(),
            mapping_bytes: vpcs().map(|vpc| vpc.mappings.bytes()).sum::<usize>()
                + self.mapping_versions.bytes(),
            groups,
            sets,
            rule_sets: rules().count(),
            rule_bytes: rule_bytes + vpcs().map(table_bytes).sum::<usize>(),
        }
    }

    /// How the answer about a flow comes about.
    pub fn trace(&self, port: PortIndex, flow: &Flow, point: Point, initiator: Initiator) -> Trace {
        let mut trace = Trace::begin(port, flow, point, initiator);
        let verdict = match point {
            Point::Leaving => self.leave(port, flow, initiator, &mut trace),
            Point::Reaching => self.reach(port, flow, initiator, &mut trace),
        };
        trace.verdict = Some(verdict.map_or_else(Verdict::Drop, Verdict::Pass));
        trace
    }

    fn vpc(&self, vpc: u32) -> Option<&Vpc> {
        self.vpcs.get(vpc as usize)?.as_ref()
    }

    /// One whose document is here.
    fn vpc_of(&self, id: VpcId) -> Option<&Vpc> {
        self.vpc(*self.vpc_by_id.get(&id)?).filter(|vpc| vpc.known)
    }

    fn port(&self, port: PortIndex) -> Option<&Port> {
        self.ports.get(port.0 as usize)?.as_ref()
    }

    fn leave<R: Recorder>(
        &self,
        at: PortIndex,
        flow: &Flow,
        initiator: Initiator,
        recorder: &mut R,
    ) -> Result<Pass, DropReason> {
        let port = self.port(at).ok_or(DropReason::NotHere)?;
        let (vpc, bound) = self.vpc(port.vpc).zip(port.bound.as_ref()).ok_or(DropReason::NoRoute)?;
        if !port.may_send_as(flow.source) {
            return Err(DropReason::SpoofedAddress);
        }
        if !is_carried(flow.destination) {
            return Err(DropReason::Destination);
        }
        let route = bound.table.as_ref().and_then(|table| table.lookup(flow.destination));
        let end = self.end_of(vpc, route, flow.destination);
        let other = Other { address: flow.destination, mapping: end.map(|(_, mapping)| mapping) };
        let traffic = match initiator {
            Initiator::Port => TrafficKey::of(flow),
            Initiator::Peer => TrafficKey::answered_by(flow),
        };
        self.groups_judge(bound, traffic, initiator, other, recorder)?;
        let same_subnet = bound.is_inside(flow.destination);
        if !same_subnet {
            acl_judge(bound, flow, Way::Out, recorder)?;
        }
        recorder.step(|| Step::route(bound.table.as_deref(), route));
        let port_version = self.port_versions.get(at.0 as usize).copied().unwrap_or_default();
        let validity = Validity { port: (at.0, port_version), mapping: (0, 0) };
        match &route.ok_or(DropReason::NoRoute)?.target {
            Target::Local => {
                recorder.step(|| self.step_mapping(flow.destination, end));
                self.deliver(port, bound, end.ok_or(DropReason::NoMapping)?, flow.destination, validity)
            }
            Target::Peer(peer) => {
                recorder.step(|| self.step_mapping(flow.destination, end));
                self.vpc_of(*peer).ok_or(DropReason::Blackhole)?;
                self.deliver(port, bound, end.ok_or(DropReason::NoMapping)?, flow.destination, validity)
            }
            Target::NextHop(address) => {
                let hop = vpc.mappings.get(*address).map(|mapping| (vpc, mapping));
                recorder.step(|| self.step_mapping(*address, hop));
                let pass =
                    self.deliver(port, bound, hop.ok_or(DropReason::Blackhole)?, *address, validity)?;
                // An appliance's own subnet must not route through it.
                let is_own = pass.hop == Hop::Port(at) && *address != flow.destination;
                if is_own { Err(DropReason::Blackhole) } else { Ok(pass) }
            }
            Target::Edge(edges) => {
                let underlay = edge_choose(edges, flow).ok_or(DropReason::Blackhole)?;
                let hop = Hop::Host { vni: Vni(vpc.vni), underlay };
                Ok(Pass { hop, ethernet: (port.mac, bound.router), validity })
            }
            Target::Blackhole => Err(DropReason::Blackhole),
        }
    }

    /// To the interface that has this address: here or on another host.
    fn deliver(
        &self,
        port: &Port,
        bound: &Bound,
        (vpc, mapping): (&Vpc, &Mapping),
        address: IpAddr,
        validity: Validity,
    ) -> Result<Pass, DropReason> {
        let underlay = vpc.hosts.address(mapping.host).ok_or(DropReason::NoMapping)?;
        let hop = if underlay == self.underlay {
            Hop::Port(*vpc.local.get(address).ok_or(DropReason::NotHere)?)
        } else {
            Hop::Host { vni: Vni(vpc.vni), underlay }
        };
        let source = if bound.is_inside(address) {
            port.mac
        } else {
            vpc.places.router(address).unwrap_or(bound.router)
        };
        let validity = Validity { mapping: self.mapping_versions.stamp(mapping.slot), ..validity };
        Ok(Pass { hop, ethernet: (source, mapping.mac), validity })
    }

    fn reach<R: Recorder>(
        &self,
        at: PortIndex,
        flow: &Flow,
        initiator: Initiator,
        recorder: &mut R,
    ) -> Result<Pass, DropReason> {
        let port = self.port(at).ok_or(DropReason::NotHere)?;
        let (vpc, bound) = self.vpc(port.vpc).zip(port.bound.as_ref()).ok_or(DropReason::NoRoute)?;
        if port.check_source && !port.addresses.contains(&flow.destination) {
            return Err(DropReason::NotHere);
        }
        if !is_carried(flow.source) {
            return Err(DropReason::SpoofedAddress);
        }
        let route = bound.table.as_ref().and_then(|table| table.lookup(flow.source));
        let end = self.end_of(vpc, route, flow.source);
        recorder.step(|| self.step_mapping(flow.source, end));
        if end.is_none() && route.is_some_and(|route| matches!(route.target, Target::Local | Target::Peer(_)))
        {
            return Err(DropReason::NoMapping);
        }
        let same_subnet = bound.is_inside(flow.source);
        if !same_subnet {
            acl_judge(bound, flow, Way::In, recorder)?;
        }
        let mapping = end.map(|(_, mapping)| mapping);
        let other = Other { address: flow.source, mapping };
        let traffic = match initiator {
            Initiator::Peer => TrafficKey::of(flow),
            Initiator::Port => TrafficKey::answered_by(flow),
        };
        self.groups_judge(bound, traffic, initiator, other, recorder)?;
        let source = mapping.filter(|_| same_subnet).map_or(bound.router, |mapping| mapping.mac);
        let port_version = self.port_versions.get(at.0 as usize).copied().unwrap_or_default();
        let validity = Validity {
            port: (at.0, port_version),
            mapping: mapping.map_or((0, 0), |mapping| self.mapping_versions.stamp(mapping.slot)),
        };
        Ok(Pass { hop: Hop::Port(at), ethernet: (source, port.mac), validity })
    }

    /// The interface that has an address, as seen from a subnet with this route to it: of the peered VPC, or of this
    /// one, even where packets to it are led elsewhere.
    fn end_of<'a>(
        &'a self,
        vpc: &'a Vpc,
        route: Option<&Route>,
        address: IpAddr,
    ) -> Option<(&'a Vpc, &'a Mapping)> {
        let vpc = match route.map(|route| &route.target) {
            Some(Target::Peer(peer)) => self.vpc_of(*peer)?,
            _ => vpc,
        };
        Some((vpc, vpc.mappings.get(address)?))
    }

    /// Security groups are about the packet that began the connection, whichever way this one goes.
    fn groups_judge<R: Recorder>(
        &self,
        bound: &Bound,
        traffic: TrafficKey,
        initiator: Initiator,
        other: Other<'_>,
        recorder: &mut R,
    ) -> Result<(), DropReason> {
        let rules = self.rule_sets.get(bound.rules.0 as usize).and_then(Option::as_ref);
        let (classifier, denied) = match initiator {
            Initiator::Port => (rules.map(|rules| &rules.egress), DropReason::GroupEgress),
            Initiator::Peer => (rules.map(|rules| &rules.ingress), DropReason::GroupIngress),
        };
        let set = other.mapping.map_or(EMPTY, |mapping| mapping.set);
        let allowed = classifier.is_some_and(|rules| rules.allows(traffic, other.address, set));
        recorder.step(|| {
            let rule =
                classifier.and_then(|rules| rules.rule(traffic, other.address, self.groups.members(set)));
            let named = |rule: &classifier::Rule| (rule.id.to_string(), self.groups.group(rule.group));
            Step::Groups { initiator, allowed, rule: rule.map(named) }
        });
        if allowed { Ok(()) } else { Err(denied) }
    }

    fn step_mapping(&self, address: IpAddr, found: Option<(&Vpc, &Mapping)>) -> Step {
        let found = found.map(|(vpc, mapping)| {
            let members = self.groups.members(mapping.set).iter();
            let mut groups: Vec<_> = members.filter_map(|group| self.groups.group(*group)).collect();
            groups.sort_unstable();
            MappingStep { vpc: vpc.id, mac: mapping.mac, host: vpc.hosts.address(mapping.host), groups }
        });
        Step::Mapping { address, found }
    }
}

/// The other end of a flow, as groups see it.
#[derive(Clone, Copy)]
struct Other<'a> {
    address: IpAddr,
    mapping: Option<&'a Mapping>,
}

impl Port {
    fn may_send_as(&self, source: IpAddr) -> bool {
        if self.check_source { self.addresses.contains(&source) } else { is_carried(source) }
    }
}

impl Bound {
    /// In the port's subnet.
    fn is_inside(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(address))
    }
}

/// Network ACLs stand at a subnet's border and see each packet as it is.
fn acl_judge<R: Recorder>(bound: &Bound, flow: &Flow, way: Way, recorder: &mut R) -> Result<(), DropReason> {
    let acl = bound.acl.as_deref();
    let (table, other_end, denied) = match way {
        Way::Out => (acl.map(|acl| &acl.egress), flow.destination, DropReason::AclEgress),
        Way::In => (acl.map(|acl| &acl.ingress), flow.source, DropReason::AclIngress),
    };
    let entry = table.and_then(|table| table.decide(TrafficKey::of(flow), other_end));
    let allowed = entry.is_some_and(|entry| entry.allow);
    recorder.step(|| Step::Acl {
        acl: acl.map(|acl| acl.stored.acl_id.clone()),
        egress: way == Way::Out,
        allowed,
        entry: entry.map(|entry| entry.number),
    });
    if allowed { Ok(()) } else { Err(denied) }
}

/// Whether a VPC carries packets with this address: not those of one link (which the services answer), of one host, of
/// many, or of nobody.
fn is_carried(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            !(first == 0 || first == 127 || first >= 224 || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            const SERVICES: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0);
            let services = v6.to_bits() >> 96 == SERVICES.to_bits() >> 96;
            let link_local = v6.is_unicast_link_local();
            !(v6.is_multicast() || v6.is_loopback() || v6.is_unspecified() || link_local || services)
        }
    }
}
