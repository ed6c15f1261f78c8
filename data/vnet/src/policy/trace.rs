//! How an answer came about: which rule, entry, route and mapping decided. The code that decides tells a [`Recorder`]
//! as it goes; the engine's is [`Silent`], which costs nothing. So a trace cannot say anything but what was done.

use super::route::{Route, RouteTable, Target};
use super::{Prefix, VpcPolicy};
use crate::engine::verdict::{DropReason, Hop, Initiator, PortIndex, Verdict};
use crate::packet::{Flow, Mac, protocol};
use base::ids::{SecurityGroupId, VpcId};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Told what is decided.
pub(super) trait Recorder {
    /// `make` is only called by those who listen.
    fn step(&mut self, make: impl FnOnce() -> Step);
}

/// Does not listen.
pub(super) struct Silent;

impl Recorder for Silent {
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

impl Recorder for Trace {
    fn step(&mut self, make: impl FnOnce() -> Step) {
        self.steps.push(make());
    }
}

/// Where a flow is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// It leaves the port.
    Leaving,
    /// It reaches it.
    Reaching,
}

/// An explanation, printed line by line.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// At which port.
    pub port: PortIndex,
    /// What was asked about.
    pub flow: Flow,
    /// Which way it goes.
    pub point: Point,
    /// Who began the connection.
    pub initiator: Initiator,
    /// What was decided, in this order, up to the first thing that refuses.
    pub steps: Vec<Step>,
    /// What came out; always there once the trace is given out.
    pub verdict: Option<Verdict>,
}

/// One decision on the way to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Security groups: the rule that allows it (`sgr-...`) and its group, or none does.
    Groups {
        /// Whose: the port's egress rules decide if it began the connection, else its ingress rules.
        initiator: Initiator,
        /// Whether it may pass.
        allowed: bool,
        /// The first rule that says so.
        rule: Option<(String, Option<SecurityGroupId>)>,
    },
    /// The subnet's network ACL; not asked between two addresses of one subnet.
    Acl {
        /// `acl-...`; `None`: the subnet has none, so nothing may pass.
        acl: Option<String>,
        /// Its egress entries, or its ingress entries.
        egress: bool,
        /// Whether it may pass.
        allowed: bool,
        /// The number of the entry that decided; `None`: `*`, which denies.
        entry: Option<u32>,
    },
    /// The route table.
    Route {
        /// `rtb-...`; `None`: the subnet has none.
        table: Option<String>,
        /// The longest prefix that matches.
        route: Option<RouteStep>,
    },
    /// Where an address is.
    Mapping {
        /// The destination's, or the next hop's.
        address: IpAddr,
        /// The interface that has it.
        found: Option<MappingStep>,
    },
}

/// A route that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStep {
    /// Its destination.
    pub prefix: Prefix,
    /// The list that this is from.
    pub prefix_list: Option<String>,
    /// `local`, `igw-...`
    pub target_id: String,
    /// Its target is gone.
    pub blackhole: bool,
}

/// A mapping that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct MappingStep {
    /// In which VPC: this or a peered one.
    pub vpc: VpcId,
    /// The interface's.
    pub mac: Mac,
    /// Where the underlay reaches its host.
    pub host: Option<SocketAddr>,
    /// Of the interface.
    pub groups: Vec<SecurityGroupId>,
}

impl Trace {
    pub(super) fn begin(port: PortIndex, flow: &Flow, point: Point, initiator: Initiator) -> Trace {
        Trace { port, flow: *flow, point, initiator, steps: Vec::new(), verdict: None }
    }
}

impl Step {
    pub(super) fn route(table: Option<&RouteTable>, route: Option<&Route>) -> Step {
        let step = |route: &Route| RouteStep {
            prefix: route.prefix,
            prefix_list: route.prefix_list.clone(),
            target_id: route.target_id.clone(),
            blackhole: route.target == Target::Blackhole,
        };
        Step::Route { table: table.map(|table| table.stored.route_table_id.clone()), route: route.map(step) }
    }
}

impl VpcPolicy {
    /// The whole way of a flow as `nephos net trace` tells it: out of one port and, if it goes to another one of this
    /// switch, into that.
    pub fn trace_way(&self, port: PortIndex, flow: &Flow) -> Vec<Trace> {
        let leaving = self.trace(port, flow, Point::Leaving, Initiator::Port);
        let next = match leaving.verdict {
            Some(Verdict::Pass(pass)) => match pass.hop {
                Hop::Port(next) => Some(self.trace(next, flow, Point::Reaching, Initiator::Peer)),
                Hop::Host { .. } => None,
            },
            Some(Verdict::Drop(_)) | None => None,
        };
        std::iter::once(leaving).chain(next).collect()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.point {
            Point::Leaving => "leaves",
            Point::Reaching => "reaches",
        };
        writeln!(f, "{} {way} port {}", Shown(&self.flow), self.port.0)?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        match &self.verdict {
            Some(Verdict::Pass(pass)) => match pass.hop {
                Hop::Port(port) => writeln!(f, "  passes: to port {} as {}", port.0, pass.ethernet.1),
                Hop::Host { vni, underlay } => {
                    writeln!(f, "  passes: to {underlay} in VNI {} as {}", vni.0, pass.ethernet.1)
                }
            },
            Some(Verdict::Drop(reason)) => writeln!(f, "  dropped: {}", reason_text(*reason)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Groups { initiator, rule, .. } => {
                let direction = match initiator {
                    Initiator::Port => "egress",
                    Initiator::Peer => "ingress",
                };
                match rule {
                    Some((rule, Some(group))) => {
                        write!(f, "groups:  {direction} rule {rule} of {group} allows it")
                    }
                    Some((rule, None)) => write!(f, "groups:  {direction} rule {rule} allows it"),
                    None => write!(f, "groups:  no {direction} rule allows it"),
                }
            }
            Step::Acl { acl, egress, allowed, entry } => {
                let direction = if *egress { "egress" } else { "ingress" };
                let allows = if *allowed { "allows" } else { "denies" };
                match (acl, entry) {
                    (Some(acl), Some(entry)) => {
                        write!(f, "acl:     {direction} entry {entry} of {acl} {allows} it")
                    }
                    (Some(acl), None) => write!(f, "acl:     {direction} entry * of {acl} {allows} it"),
                    (None, _) => write!(f, "acl:     the subnet has none"),
                }
            }
            Step::Route { table: Some(table), route: Some(route) } => {
                write!(f, "route:   {} in {table} leads to {}", route.prefix, route.target_id)?;
                if let Some(list) = &route.prefix_list {
                    write!(f, " ({list})")?;
                }
                if route.blackhole { write!(f, ", which is gone") } else { Ok(()) }
            }
            Step::Route { table: Some(table), route: None } => write!(f, "route:   none in {table}"),
            Step::Route { table: None, .. } => write!(f, "route:   the subnet has no table"),
            Step::Mapping { address, found: Some(found) } => {
                write!(f, "mapping: {address} is {} in {}", found.mac, found.vpc)?;
                match found.host {
                    Some(host) => write!(f, " at {host}")?,
                    None => write!(f, " at a host without an address")?,
                }
                let mut before = ", in";
                for group in &found.groups {
                    write!(f, "{before} {group}")?;
                    before = "";
                }
                Ok(())
            }
            Step::Mapping { address, found: None } => write!(f, "mapping: none for {address}"),
        }
    }
}

struct Shown<'a>(&'a Flow);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { source, destination, source_port, destination_port, icmp, .. } = self.0;
        match self.0.protocol {
            protocol::TCP | protocol::UDP => {
                let name = if self.0.protocol == protocol::TCP { "tcp" } else { "udp" };
                let (source, destination) = (
                    SocketAddr::new(*source, *source_port),
                    SocketAddr::new(*destination, *destination_port),
                );
                write!(f, "{name} {source} > {destination}")
            }
            protocol::ICMP | protocol::ICMPV6 => {
                write!(f, "icmp {source} > {destination} type {} code {}", icmp.0, icmp.1)
            }
            other => write!(f, "protocol {other} {source} > {destination}"),
        }
    }
}

/// For people.
fn reason_text(reason: DropReason) -> &'static str {
    match reason {
        DropReason::SpoofedAddress => "its source is none of the port's addresses",
        DropReason::Destination => "nothing in a VPC has such an address",
        DropReason::GroupEgress => "no egress rule of a security group allows it",
        DropReason::GroupIngress => "no ingress rule of a security group allows it",
        DropReason::AclEgress => "the network ACL of its subnet denies it on its way out",
        DropReason::AclIngress => "the network ACL of its subnet denies it on its way in",
        DropReason::NoRoute => "no route leads there",
        DropReason::Blackhole => "the target of its route is gone",
        DropReason::NoMapping => "no interface has that address",
        DropReason::NotHere => "no port of this host has that address",
        _ => "the engine does not carry it",
    }
}
