//! The engine: mechanism without policy.
//!
//! ```text
//!   packet ─► parse ─► admit (MAC, rate) ─► flow table ──hit──────────────────────► emit (size, rate, header)
//!                                              │ miss, stale                          ▲
//!                                              └─► local service? fragment? error?    │
//!                                                  └─► connections + Policy ─► entry ─┘
//! ```
//! A packet comes as a private copy of its head, its length, and what virtio says is left to do. It leaves as a new head
//! and the word on where it goes; its payload is never touched, nor seen. The loop that owns an engine copies payload
//! from where it lies to where it goes.
//!
//! The engine checks MAC addresses, packet by packet; IP addresses are policy's, asked once a flow, and part of the
//! flow's key. What is for the network itself ([`Outcome::Local`]) is handed out before policy is asked: neither groups
//! nor ACLs apply to it (as in AWS), and its sender's address is the service's to check.
//!
//! An answer `Drop` has no validity, so it is not kept: each packet of a forbidden flow asks anew.
//!
//! Invariant: one thread, no clock, no I/O, and on the fast path no allocation.

pub mod coalesce;
pub mod connection;
pub mod flow;
mod fragment;
pub mod hash;
pub mod limit;
pub mod memory;
pub mod port;
pub mod segment;
mod slow;
pub mod verdict;

use crate::packet::head::Head;
use crate::packet::offload::{Gso, Offload};
use crate::packet::parse::{self, ETHERNET, Headers, Kind};
use crate::packet::{build, geneve};
use connection::state::{Segment, Timeouts};
use connection::{Connections, Slot};
use flow::{Entry, FlowKey, Flows, Way, host_bytes, key_of_port, key_of_underlay};
use hash::HashKey;
use port::{Counters, Port, PortConfig, Ports};
use std::net::SocketAddr;
use std::ops::Range;
use verdict::{DropReason, Initiator, Knowledge, Policy, PortIndex, Vni};

/// A time of the host's monotonic clock (CLOCK_MONOTONIC), in nanoseconds: the same clock for every process of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// In seconds, as connections have it.
    #[inline]
    pub fn seconds(self) -> u32 {
        (self.0 / 1_000_000_000) as u32
    }
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A port of this switch.
    Port(PortIndex),
    /// Another host; its Geneve header ([`geneve::parse`]) has been taken off.
    Underlay {
        /// The outer source.
        from: SocketAddr,
        /// The VPC.
        vni: Vni,
        /// What the sender knew.
        knowledge: Knowledge,
    },
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To a port.
    Port(PortIndex),
    /// To another host. The head begins with the Geneve header.
    Host {
        /// Its address and port.
        underlay: SocketAddr,
        /// The source port to send from: the same for a flow, different between flows (RFC 8926, section 3.3).
        source_port: u16,
    },
    /// It is for the network itself; unchanged. From this port.
    Local(PortIndex),
    /// Others go in its place ([`Made`]).
    Replaced,
    /// Nowhere.
    Drop(DropReason),
}

/// A packet, as it comes and as it goes.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its first bytes, from the Ethernet header on. After: what is to be sent in their place.
    pub head: Head,
    /// Of the whole packet, as it came.
    pub length: u32,
    /// What is left to do. After: with `csum_start` from the new head's begin.
    pub offload: Offload,
    /// Where from.
    pub origin: Origin,
    /// After: what of the packet, as it came, follows the head.
    pub rest: Range<u32>,
    /// After: where in the head the Ethernet header is; 0 unless it goes to another host.
    pub inner: u16,
    /// After: where to.
    pub outcome: Outcome,
}

impl Packet {
    /// A packet with this head.
    pub fn new(head: Head, length: u32, offload: Offload, origin: Origin) -> Packet {
        let outcome = Outcome::Drop(DropReason::Malformed);
        Packet { head, length, offload, origin, rest: 0..0, inner: 0, outcome }
    }
}

/// A packet that the engine made because of another.
#[derive(Clone, Debug)]
pub struct Made {
    /// The other's place in the batch; `packet.rest` is of that one.
    pub of: usize,
    /// It.
    pub packet: Packet,
}

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Flows that are expected at once.
    pub flows: usize,
    /// The largest IP packet that the underlay takes.
    pub underlay_mtu: u16,
}

impl Default for Config {
    fn default() -> Self {
        Config { flows: 1 << 16, underlay_mtu: 1500 }
    }
}

/// What is between an IP packet of a guest and the underlay's: Ethernet, Geneve, UDP.
const OVERHEAD: u16 = (ETHERNET + geneve::LENGTH + 8) as u16;

impl Config {
    /// The largest IP packet that passes between hosts, over an underlay of either family. What guests are to be told
    /// is that over IPv6, if there is any.
    pub fn overlay_mtu(&self, underlay_ipv6: bool) -> u16 {
        self.underlay_mtu.saturating_sub(OVERHEAD + if underlay_ipv6 { 40 } else { 20 })
    }
}

/// A packet that does not go on, and the port at which that is counted; none: at the switch.
#[derive(Clone, Copy, Debug)]
struct Refused {
    port: Option<PortIndex>,
    reason: DropReason,
}

fn refused(port: impl Into<Option<PortIndex>>, reason: DropReason) -> Refused {
    Refused { port: port.into(), reason }
}

/// A packet whose head has been read; if it could not be, why.
#[derive(Clone, Copy, Default)]
struct Read {
    headers: Headers,
    key: FlowKey,
    hash: u64,
    /// Where its flow was in the table when the stride began.
    located: Option<usize>,
    refused: Option<DropReason>,
}

/// The engine of one loop.
pub struct Engine {
    config: Config,
    key: HashKey,
    flows: Flows,
    connections: Connections,
    ports: Ports,
    /// Of packets from the underlay that belong to no port.
    switch: Counters,
    /// A place for what is read of a stride.
    reads: Vec<Read>,
}

/// Packets whose memory is fetched before the first of them is decided on.
const STRIDE: usize = 32;

impl Engine {
    /// With these connections, and without ports.
    pub fn new(config: Config, connections: Connections, key: HashKey) -> Engine {
        Engine {
            flows: Flows::new(config.flows),
            config,
            key,
            connections,
            ports: Ports::default(),
            switch: Counters::default(),
            reads: vec![Read::default(); STRIDE],
        }
    }

    /// A port comes, or is another from here on. False for an index beyond [`port::PORTS_MAX`].
    pub fn port_set(&mut self, index: PortIndex, config: PortConfig) -> bool {
        self.connections.port_back(config.id);
        self.ports.set(index, config)
    }

    /// A port goes, and its connections with it.
    pub fn port_remove(&mut self, index: PortIndex) {
        if let Some(port) = self.ports.remove(index) {
            self.connections.port_gone(port.config.id);
        }
    }

    /// What a port did.
    pub fn counters(&self, index: PortIndex) -> Option<&Counters> {
        self.ports.get(index).map(|port| &port.counters)
    }

    /// What every port did, by index.
    pub fn snapshot(&self) -> Vec<(PortIndex, Counters)> {
        self.ports.iter().map(|(index, port)| (index, port.counters)).collect()
    }

    /// Of packets from the underlay that belong to no port.
    pub fn switch_counters(&self) -> &Counters {
        &self.switch
    }

    /// Counts a packet that the caller could not hand on: no buffer, or an underlay that did not take it.
    pub fn lost(&mut self, port: Option<PortIndex>, reason: DropReason) {
        self.count_drop(refused(port, reason));
    }

    /// Counts a packet that a service of the network sends to a port; false if its limit forbids it.
    pub fn answer(&mut self, port: PortIndex, bytes: u32, now: Nanos) -> bool {
        let Some(port) = self.ports.get_mut(port) else { return false };
        let takes = port.receive.take(now, 1, bytes);
        match takes {
            true => port.counters.received.add(1, bytes),
            false => port.counters.drop(DropReason::RateLimit),
        }
        takes
    }

    /// The connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The flows of the table.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Other timeouts for all connections.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.connections.set_timeouts(timeouts);
    }

    /// Looks at the next `slots` of the connection table and ends what has expired; called now and then, so that all
    /// are looked at within the shortest timeout. Returns how many ended.
    pub fn sweep(&mut self, slots: u32, now: Nanos) -> u32 {
        self.connections.sweep(slots, now.seconds())
    }

    /// Decides on one packet.
    pub fn process<P: Policy>(&mut self, policy: &P, now: Nanos, packet: &mut Packet, made: &mut Vec<Made>) {
        self.process_batch(policy, now, std::slice::from_mut(packet), made);
    }

    /// Decides on packets, in order.
    pub fn process_batch<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        packets: &mut [Packet],
        made: &mut Vec<Made>,
    ) {
        let mut reads = std::mem::take(&mut self.reads);
        let mut of = 0;
        for stride in packets.chunks_mut(STRIDE) {
            for (read, packet) in reads.iter_mut().zip(stride.iter()) {
                self.read(packet, read);
                self.flows.prefetch(read.hash);
            }
            for read in reads.iter_mut().take(stride.len()) {
                read.located = self.flows.locate(&read.key, read.hash);
            }
            for at in reads.iter().take(stride.len()).filter_map(|read| read.located) {
                let Some((entry, connections)) = self.flows.likely(at, now.seconds()) else { continue };
                entry.validity.iter().for_each(|validity| policy.expect(validity));
                if connections {
                    entry.slots.into_iter().for_each(|slot| self.connections.prefetch(slot));
                }
            }
            for (read, packet) in reads.iter().zip(stride) {
                if let Err(refused) = self.packet(policy, now, packet, read, of, made) {
                    self.count_drop(refused);
                    packet.outcome = Outcome::Drop(refused.reason);
                }
                of += 1;
            }
        }
        self.reads = reads;
    }

    fn count_drop(&mut self, refused: Refused) {
        let port = refused.port.and_then(|port| self.ports.get_mut(port));
        port.map_or(&mut self.switch, |port| &mut port.counters).drop(refused.reason);
    }

    /// Reads a packet's head.
    #[inline]
    fn read(&self, packet: &Packet, read: &mut Read) {
        let parsed = parse::parse_into(packet.head.bytes(), packet.length, &mut read.headers);
        read.refused = match parsed {
            Err(reason) => Some(reason),
            Ok(()) if !packet.offload.fits(&read.headers, packet.head.len()) => Some(DropReason::Malformed),
            Ok(()) => None,
        };
        read.key = self.flow_key(&packet.origin, &read.headers);
        read.hash = self.key.hash(&read.key);
    }

    #[inline]
    fn flow_key(&self, origin: &Origin, headers: &Headers) -> FlowKey {
        match origin {
            Origin::Port(index) => {
                let stamp = self.ports.get(*index).map(|port| port.stamp).unwrap_or_default();
                key_of_port(headers, *index, stamp)
            }
            Origin::Underlay { vni, .. } => key_of_underlay(headers, *vni),
        }
    }

    #[inline]
    fn packet<P: Policy>(
        &mut self,
        policy: &P,
        now: Nanos,
        packet: &mut Packet,
        read: &Read,
        of: usize,
        made: &mut Vec<Made>,
    ) -> Result<(), Refused> {
        let mut from = None;
        if let Origin::Port(index) = packet.origin {
            let port = self.ports.get_mut(index).ok_or(refused(None, DropReason::NoMapping))?;
            let (count, bytes) = match read.refused {
                None => on_the_wire(packet, &read.headers),
                Some(_) => (1, packet.length),
            };
            port.counters.sent.add(count, bytes);
            if !port.send.take(now, count, bytes) {
                return Err(refused(index, DropReason::RateLimit));
            }
            if read.refused.is_none() && read.headers.ethernet.0 != port.config.mac {
                return Err(refused(index, DropReason::SpoofedMac));
            }
            from = Some(index);
        }
        if let Some(reason) = read.refused {
            return Err(refused(from, reason));
        }
        packet.rest = packet.head.len() as u32..read.headers.end.max(packet.head.len() as u32);
        let knowledge = match packet.origin {
            Origin::Underlay { knowledge, .. } => knowledge,
            Origin::Port(_) => Knowledge::default(),
        };
        let segment = segment_of(&read.headers);
        if read.headers.kind == Kind::Ip
            && read.headers.fragment.is_none()
            && let Some(at) = self.flows.find(&read.key, read.hash, knowledge, read.located)
            && self.stands(policy, now, packet, at, segment)
        {
            return self.carry(at, now, packet, &read.headers, of, made);
        }
        self.slow(policy, now, packet, *read, of, made)
    }

    /// Whether an entry is still good for a packet, and its connections for what it says.
    #[inline]
    fn stands<P: Policy>(
        &self,
        policy: &P,
        now: Nanos,
        packet: &Packet,
        at: usize,
        segment: Segment,
    ) -> bool {
        let Some(entry) = self.flows.entry(at) else { return false };
        let ([leaving, reaching], [left, reached]) = (&entry.validity, entry.slots);
        let now_s = now.seconds();
        let settled = segment.is_ordinary() && self.flows.is_settled(at, now_s);
        let goes_on =
            |slot, from| settled || self.connections.goes_on(slot, Segment { from, ..segment }, now_s);
        let leaves = || policy.holds(leaving) && goes_on(left, Initiator::Port);
        let reaches = || {
            policy.holds(reaching)
                && goes_on(reached, Initiator::Peer)
                && self.ports.get(entry.hop).is_some_and(|port| port.stamp == entry.hop_stamp)
        };
        match (entry.way, packet.origin) {
            (Way::Local, _) => leaves() && reaches(),
            (Way::ToHost, _) => leaves(),
            (Way::FromHost, Origin::Underlay { from, .. }) => {
                entry.host == host_bytes(from.ip()) && reaches()
            }
            (Way::FromHost, Origin::Port(_)) | (Way::None, _) => false,
        }
    }

    /// Carries out what an entry says.
    #[inline]
    fn carry(
        &mut self,
        at: usize,
        now: Nanos,
        packet: &mut Packet,
        headers: &Headers,
        of: usize,
        made: &mut Vec<Made>,
    ) -> Result<(), Refused> {
        let segment = segment_of(headers);
        let settled = segment.is_ordinary() && self.flows.is_settled(at, now.seconds());
        let Some(entry) = self.flows.use_entry(at, now.seconds()) else {
            return Err(refused(None, DropReason::NoMapping));
        };
        if ip_length(packet, headers) > u32::from(entry.mtu) {
            let entry = *entry;
            self.flows.settle(at, false);
            return self.too_big(&entry, now, packet, headers, of, made);
        }
        let outcome = emit(&mut self.ports, entry, now, packet, headers);
        if !settled {
            let (slots, way) = (entry.slots, entry.way);
            let settles = outcome.is_ok() && self.observe(slots, way, segment, now);
            self.flows.settle(at, settles);
        }
        outcome
    }

    /// A packet has passed its points. Whether more like it would change nothing of its connections.
    fn observe(&mut self, [left, reached]: [Slot; 2], way: Way, segment: Segment, now: Nanos) -> bool {
        let mut settles = true;
        if way != Way::FromHost {
            let segment = Segment { from: Initiator::Port, ..segment };
            settles &= self.connections.observe(left, segment, now.seconds());
        }
        if way != Way::ToHost {
            let segment = Segment { from: Initiator::Peer, ..segment };
            settles &= self.connections.observe(reached, segment, now.seconds());
        }
        settles
    }

    /// A packet that is larger than its way takes: cut, if its sender lets us, else he is told.
    fn too_big(
        &mut self,
        entry: &Entry,
        now: Nanos,
        packet: &mut Packet,
        headers: &Headers,
        of: usize,
        made: &mut Vec<Made>,
    ) -> Result<(), Refused> {
        let Origin::Port(index) = packet.origin else {
            return Err(refused(entry.hop, DropReason::TooBig));
        };
        let needs_csum = packet.offload.needs_csum;
        if packet.offload.gso == Gso::None && fragment::can_cut(headers, needs_csum) {
            let before = made.len();
            let mut entry = *entry;
            for piece in fragment::cut(&packet.head, headers, entry.mtu, needs_csum) {
                let length = piece.head.len() as u32 + (piece.rest.end - piece.rest.start);
                let mut part = Packet::new(piece.head, length, Offload::NONE, packet.origin);
                part.rest = piece.rest;
                let part_headers = Headers { end: length, ..*headers };
                emit(&mut self.ports, &mut entry, now, &mut part, &part_headers)?;
                made.push(Made { of, packet: part });
            }
            if made.len() > before {
                packet.outcome = Outcome::Replaced;
                return Ok(());
            }
        }
        let Some(port) = self.ports.get_mut(index) else { return Err(refused(None, DropReason::TooBig)) };
        let router = (port.config.router.mac, port.config.router.address(headers.ipv6));
        let untold = headers.kind == Kind::IcmpError || headers.fragment.is_some_and(|is| is.offset > 0);
        let error =
            (!untold).then(|| build::too_big(router, entry.mtu, packet.head.bytes(), headers)).flatten();
        if let Some(error) = error {
            port.counters.received.add(1, error.len() as u32);
            let mut told = Packet::new(Head::of(&error), error.len() as u32, Offload::NONE, packet.origin);
            told.rest = told.length..told.length;
            told.outcome = Outcome::Port(index);
            made.push(Made { of, packet: told });
        }
        Err(refused(index, DropReason::TooBig))
    }
}

/// What a connection's state rests on; the sender is filled in.
#[inline]
fn segment_of(headers: &Headers) -> Segment {
    let data = headers.end > u32::from(headers.payload);
    Segment { from: Initiator::Port, flags: headers.tcp_flags, data }
}

/// How many packets, and how many bytes in all, a packet is on the wire.
#[inline]
fn on_the_wire(packet: &Packet, headers: &Headers) -> (u32, u32) {
    if packet.offload.gso == Gso::None {
        return (1, headers.end);
    }
    let header = u32::from(headers.payload);
    let payload = headers.end.saturating_sub(header);
    let count = payload.div_ceil(u32::from(packet.offload.gso_size.max(1))).max(1);
    (count, payload.saturating_add(count.saturating_mul(header)))
}

/// The length of its largest piece's IP packet.
#[inline]
fn ip_length(packet: &Packet, headers: &Headers) -> u32 {
    let whole = headers.end - ETHERNET as u32;
    if packet.offload.gso == Gso::None {
        return whole;
    }
    whole.min(u32::from(headers.payload) - ETHERNET as u32 + u32::from(packet.offload.gso_size))
}

/// Gives a packet its new header, says where it goes, and counts it.
#[inline]
fn emit(
    ports: &mut Ports,
    entry: &mut Entry,
    now: Nanos,
    packet: &mut Packet,
    headers: &Headers,
) -> Result<(), Refused> {
    let (count, bytes) = on_the_wire(packet, headers);
    packet.outcome = if entry.way == Way::ToHost {
        Outcome::Host { underlay: entry.underlay(), source_port: entry.source_port }
    } else {
        let port: &mut Port = ports.get_mut(entry.hop).ok_or(refused(None, DropReason::NotHere))?;
        if !port.receive.take(now, count, bytes) {
            return Err(refused(entry.hop, DropReason::RateLimit));
        }
        port.counters.received.add(count, bytes);
        Outcome::Port(entry.hop)
    };
    packet.head.truncate(headers.end as usize);
    if let Some(to) = packet.head.bytes_mut().first_chunk_mut::<12>() {
        *to = entry.ethernet;
    }
    if entry.way == Way::ToHost {
        packet.head.push(&entry.geneve);
        packet.inner = geneve::LENGTH as u16;
        if packet.offload.needs_csum {
            packet.offload.csum_start += geneve::LENGTH as u16;
        }
    }
    entry.packets += u64::from(count);
    entry.bytes += u64::from(bytes);
    Ok(())
}

#[cfg(test)]
mod tests;
