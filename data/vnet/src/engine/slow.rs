//! The slow path: a packet whose flow is not known, or not known to be true any more.
//!
//! Here policy is asked, once at each point that the packet passes, as whoever began the connection there. A connection
//! that exists goes on with its initiator, whatever policy says of it now: a flow that is refused keeps its connection,
//! so that it does not come back as one that the other end has begun.

use super::connection::record::Tuple;
use super::connection::state::{Marks, Segment, State, opening};
use super::connection::{Full, Slot};
use super::flow::{Entry, Way, host_bytes};
use super::verdict::{DropReason, Hop, Initiator, Knowledge, Pass, Policy, PortIndex, Verdict};
use super::{
    Engine, Made, Nanos, Origin, Outcome, Packet, Read, Refused, emit, ip_length, refused, segment_of,
};
use crate::packet::parse::{Headers, Kind, quoted, tcp};
use crate::packet::{Flow, Mac, geneve, protocol};
use std::net::IpAddr;

/// One of the two points that a packet passes, asked.
struct Point {
    tuple: Tuple,
    initiator: Initiator,
    connection: Connection,
    pass: Pass,
}

enum Connection {
    Known(Slot),
    New(State, Marks),
}

/// Whether an ICMP error asks for a connection of its own, or as which it is carried.
#[derive(Clone, Copy)]
struct Asked {
    flow: Flow,
    segment: Segment,
    /// The quoted packet, if this is an error about one.
    about: Option<Flow>,
}

impl Engine {
    /// Decides on a packet that the flow table has no good entry for.
    pub(super) fn slow<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        packet: &mut Packet,
        mut read: Read,
        of: usize,
        made: &mut Vec<Made>,
    ) -> Result<(), Refused> {
        let origin = packet.origin;
        if read.headers.kind == Kind::Arp {
            let Origin::Port(port) = origin else { return Err(refused(None, DropReason::Unsupported)) };
            packet.outcome = Outcome::Local(port);
            return Ok(());
        }
        if read.headers.fragment.is_some() {
            self.fragment(policy, now, packet, &mut read)?;
        }
        if let Origin::Port(port) = origin
            && self.is_local(port, &read.headers)
        {
            packet.outcome = Outcome::Local(port);
            return Ok(());
        }
        let knowledge = match origin {
            Origin::Underlay { knowledge, .. } => knowledge,
            Origin::Port(_) => Knowledge::default(),
        };
        let headers = &read.headers;
        if headers.fragment.is_some()
            && let Some(at) = self.flows.find(&read.key, read.hash, knowledge, None)
            && self.stands(policy, now, packet, at, segment_of(headers))
        {
            return self.carry(at, now, packet, headers, of, made);
        }
        let asked = Asked { flow: headers.flow(), segment: segment_of(headers), about: None };
        if headers.kind == Kind::IcmpError
            && let Some(about) = self.about(packet, headers)
            && let Some(entry) =
                self.decide(policy, now, &origin, read.hash, &Asked { about: Some(about), ..asked })?
        {
            return self.carry_once(entry, now, packet, headers, of, made);
        }
        let Some(entry) = self.decide(policy, now, &origin, read.hash, &asked)? else {
            return Err(refused(None, DropReason::NoConnection));
        };
        let at = self.flows.insert(&read.key, read.hash, knowledge, entry, now.seconds());
        self.carry(at, now, packet, headers, of, made)
    }

    /// Carries out an entry that is not kept.
    fn carry_once(
        &mut self,
        mut entry: Entry,
        now: Nanos,
        packet: &mut Packet,
        headers: &Headers,
        of: usize,
        made: &mut Vec<Made>,
    ) -> Result<(), Refused> {
        if ip_length(packet, headers) > u32::from(entry.mtu) {
            return self.too_big(&entry, now, packet, headers, of, made);
        }
        emit(&mut self.ports, &mut entry, now, packet, headers)
    }

    /// What the network itself answers: ARP has been taken out; neighbour discovery, DHCP, and the port's services.
    fn is_local(&self, port: PortIndex, headers: &Headers) -> bool {
        let flow = headers.flow();
        let dhcp = match flow.source {
            IpAddr::V4(_) => (68, 67),
            IpAddr::V6(_) => (546, 547),
        };
        match flow.protocol {
            // Router and neighbour solicitations and advertisements, redirects (RFC 4861).
            protocol::ICMPV6 if (133..=137).contains(&flow.icmp.0) => true,
            protocol::UDP if (flow.source_port, flow.destination_port) == dhcp => true,
            _ => self.ports.get(port).is_some_and(|port| port.config.services.contains(&flow.destination)),
        }
    }

    /// A first fragment is remembered; a later one becomes part of its first's flow.
    fn fragment<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        packet: &Packet,
        read: &mut Read,
    ) -> Result<(), Refused> {
        let Some(fragment) = read.headers.fragment else { return Ok(()) };
        let index = match packet.origin {
            Origin::Port(index) => index,
            Origin::Underlay { vni, from, .. } => {
                policy.port_of(vni, &read.headers.flow(), from).map_err(|reason| refused(None, reason))?
            }
        };
        let Some(port) = self.ports.get_mut(index) else { return Err(refused(None, DropReason::NotHere)) };
        if fragment.offset == 0 {
            port.fragments.remember(read.headers.flow(), fragment.id, now);
            return Ok(());
        }
        let first = port.fragments.recall(&read.headers.flow(), fragment.id, now);
        let first = first.ok_or(refused(index, DropReason::Fragment))?;
        read.headers.ports = (first.source_port, first.destination_port);
        read.headers.icmp = first.icmp;
        if first.protocol == protocol::TCP {
            read.headers.tcp_flags = tcp::ACK;
        }
        read.key = self.flow_key(&packet.origin, &read.headers);
        read.hash = self.key.hash(&read.key);
        Ok(())
    }

    /// The flow of the packet that an error is about, if the error goes to whoever sent it.
    fn about(&self, packet: &Packet, headers: &Headers) -> Option<Flow> {
        let about = quoted(packet.head.bytes(), headers)?;
        let to_sender = about.source == headers.flow().destination;
        // From a port, only its own errors: those of a router behind it are a flow of their own.
        let by_receiver = about.destination == headers.flow().source;
        let from_port = matches!(packet.origin, Origin::Port(_));
        (to_sender && (by_receiver || !from_port)).then_some(about)
    }

    /// Asks policy the whole way. `None`: an error about a connection that is not known at one of the points.
    fn decide<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        origin: &Origin,
        hash: u64,
        asked: &Asked,
    ) -> Result<Option<Entry>, Refused> {
        match origin {
            Origin::Port(index) => {
                let Some(left) = self.point(policy, now, *index, Initiator::Port, asked)? else {
                    return Ok(None);
                };
                match left.pass.hop {
                    Hop::Port(hop) => {
                        if self.ports.get(hop).is_none() {
                            return Err(refused(*index, DropReason::NoMapping));
                        }
                        let Some(reached) = self.point(policy, now, hop, Initiator::Peer, asked)? else {
                            return Ok(None);
                        };
                        self.local(now, *index, hop, &left, &reached).map(Some)
                    }
                    Hop::Host { vni, underlay } => {
                        let slot = self.begin(*index, &left, now)?;
                        let mut entry = Entry { way: Way::ToHost, ..Entry::default() };
                        entry.validity[0] = left.pass.validity;
                        entry.slots[0] = slot;
                        let knowledge = policy.knowledge(vni, &asked.flow);
                        entry.geneve = geneve::build(vni, knowledge);
                        entry.ethernet = ethernet(&left.pass);
                        entry.host = host_bytes(underlay.ip());
                        entry.host_port = underlay.port();
                        // RFC 6335's dynamic ports.
                        entry.source_port = 0xc000 | (hash >> 40) as u16 & 0x3fff;
                        entry.mtu = self.config.overlay_mtu(underlay.is_ipv6());
                        Ok(Some(entry))
                    }
                }
            }
            Origin::Underlay { from, vni, knowledge } => {
                let hop = policy.port_of(*vni, &asked.flow, *from).map_err(|reason| refused(None, reason))?;
                if self.ports.get(hop).is_none() {
                    return Err(refused(None, DropReason::NotHere));
                }
                policy.heard(*vni, &asked.flow, *from, *knowledge).map_err(|reason| refused(hop, reason))?;
                let Some(reached) = self.point(policy, now, hop, Initiator::Peer, asked)? else {
                    return Ok(None);
                };
                let slot = self.begin(hop, &reached, now)?;
                let mut entry = self.towards(hop, &reached, slot);
                entry.way = Way::FromHost;
                entry.host = host_bytes(from.ip());
                entry.mtu = u16::MAX;
                Ok(Some(entry))
            }
        }
    }

    fn local(
        &mut self,
        now: Nanos,
        from: PortIndex,
        hop: PortIndex,
        left: &Point,
        reached: &Point,
    ) -> Result<Entry, Refused> {
        // Both or none: else a port whose table is full would go on filling others'.
        self.room(from, left)?;
        self.room(hop, reached)?;
        let leaving = self.begin(from, left, now)?;
        let reaching = match left.tuple == reached.tuple {
            // A port that sends to itself.
            true => leaving,
            false => self.begin(hop, reached, now)?,
        };
        let mut entry = self.towards(hop, reached, reaching);
        entry.way = Way::Local;
        entry.validity[0] = left.pass.validity;
        entry.slots[0] = leaving;
        Ok(entry)
    }

    fn towards(&self, hop: PortIndex, reached: &Point, slot: Slot) -> Entry {
        let mut entry = Entry { hop, ..Entry::default() };
        if let Some(port) = self.ports.get(hop) {
            entry.hop_stamp = port.stamp;
            entry.mtu = port.config.mtu;
        }
        entry.validity[1] = reached.pass.validity;
        entry.slots[1] = slot;
        entry.ethernet = ethernet(&reached.pass);
        entry
    }

    /// Asks policy at one point. `from` says on which side of the port the packet comes.
    fn point<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        index: PortIndex,
        from: Initiator,
        asked: &Asked,
    ) -> Result<Option<Point>, Refused> {
        let Some(port) = self.ports.get(index) else { return Err(refused(None, DropReason::NotHere)) };
        let id = port.config.id;
        let ask = |flow: &Flow, initiator| {
            let verdict = match from {
                Initiator::Port => policy.leaving(index, flow, initiator),
                Initiator::Peer => policy.reaching(index, flow, initiator),
            };
            match verdict {
                Verdict::Pass(pass) => Ok(pass),
                Verdict::Drop(reason) => Err(refused(index, reason)),
            }
        };
        if let Some(about) = asked.about {
            // The quoted packet went the other way.
            let sender = if from == Initiator::Port { Initiator::Peer } else { Initiator::Port };
            let tuple = Tuple::of(id, &about, sender);
            let Some(initiator) = self.connections.known(&tuple, now.seconds()) else { return Ok(None) };
            let pass = ask(&answer_to(&about), initiator)?;
            return Ok(Some(Point {
                tuple,
                initiator,
                connection: Connection::Known(Slot::default()),
                pass,
            }));
        }
        let tuple = Tuple::of(id, &asked.flow, from);
        let segment = Segment { from, ..asked.segment };
        if let Some((slot, initiator)) = self.connections.take_up(&tuple, segment, now.seconds()) {
            let pass = ask(&asked.flow, initiator)?;
            return Ok(Some(Point { tuple, initiator, connection: Connection::Known(slot), pass }));
        }
        let Some((state, marks)) = opening(asked.flow.protocol, asked.flow.icmp, segment) else {
            return Err(refused(index, DropReason::NoConnection));
        };
        let pass = ask(&asked.flow, from)?;
        Ok(Some(Point { tuple, initiator: from, connection: Connection::New(state, marks), pass }))
    }

    fn room(&self, index: PortIndex, point: &Point) -> Result<(), Refused> {
        match point.connection {
            Connection::New(..) if !self.connections.has_room(point.tuple.port(), 2) => {
                Err(refused(index, DropReason::ConnectionsFull))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, index: PortIndex, point: &Point, now: Nanos) -> Result<Slot, Refused> {
        match point.connection {
            Connection::Known(slot) => Ok(slot),
            Connection::New(state, marks) => self
                .connections
                .begin(&point.tuple, point.initiator, state, marks, now.seconds())
                .map_err(|Full| refused(index, DropReason::ConnectionsFull)),
        }
    }
}

/// Destination and source, as a header begins.
fn ethernet(pass: &Pass) -> [u8; 12] {
    let (Mac([s0, s1, s2, s3, s4, s5]), Mac([d0, d1, d2, d3, d4, d5])) = pass.ethernet;
    [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]
}

/// The flow of the packets that answer a flow's.
fn answer_to(flow: &Flow) -> Flow {
    let kind = match (flow.protocol, flow.icmp.0) {
        (protocol::ICMP, 8) => 0,
        (protocol::ICMP, 0) => 8,
        (protocol::ICMPV6, 128) => 129,
        (protocol::ICMPV6, 129) => 128,
        (_, kind) => kind,
    };
    Flow {
        protocol: flow.protocol,
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        icmp: (kind, flow.icmp.1),
    }
}
