//! What the engine asks policy about a flow that it does not know, and what it is told.
//!
//! A packet passes two points: it leaves a port ([`Policy::leaving`]) and it reaches one ([`Policy::reaching`]), here
//! or, across the underlay, on another host. Each point keeps connections of its own, as security groups do.
//!
//! Invariant: an answer is about all packets of the flow, and holds for as long as [`Policy::holds`] says so.

use crate::packet::{Flow, Mac};
use std::net::SocketAddr;

/// A port of this switch: an index that stays while the port does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(pub u32);

/// A Geneve virtual network identifier: 24 bits (RFC 8926, section 3.4). One VPC has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(pub u32);

/// Who began the connection that a flow belongs to, seen from the port where it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// The port: its groups' egress rules decide, for both directions.
    Port,
    /// The other end: the port's groups' ingress rules decide, for both directions.
    Peer,
}

/// What policy says of a flow at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Pass(Pass),
    /// It may not, nor may what belongs to it.
    Drop(DropReason),
}

/// How a flow goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Where to.
    pub hop: Hop,
    /// The Ethernet addresses that its packets are given: source and destination.
    pub ethernet: (Mac, Mac),
    /// How long this is true.
    pub validity: Validity,
}

/// Where a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To a port of this switch. From [`Policy::leaving`]: it is to be asked there too.
    Port(PortIndex),
    /// To another host, in a Geneve packet.
    Host {
        /// The VPC there: of the peer, where it goes to a peered VPC.
        vni: Vni,
        /// Where the underlay reaches it.
        underlay: SocketAddr,
    },
}

/// What an answer rests on. The engine keeps it with the flow and asks before each use whether it still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Validity {
    /// The slot of what concerns all of the port's flows, and its version then.
    pub port: (u32, u32),
    /// The slot of the other end's mapping, and its version then.
    pub mapping: (u32, u32),
}

/// Policy, as the engine needs it.
pub trait Policy {
    /// A flow that leaves a port for the network.
    fn leaving(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict;

    /// A flow that comes to a port: from another host, or from another port of this switch.
    fn reaching(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict;

    /// The port that has this address in the VPC, for a packet from the underlay; `version` is what its sender knew
    /// of the destination's mapping, and `from` where it came from.
    fn port_of(&self, vni: Vni, flow: &Flow, from: SocketAddr) -> Result<PortIndex, DropReason>;

    /// Whether an answer still holds. On the way of every packet.
    fn holds(&self, validity: &Validity) -> bool;

    /// [`Policy::holds`] will be asked about this soon: what it looks at may be fetched into the cache.
    fn expect(&self, validity: &Validity) {
        let _ = validity;
    }

    /// What is to be said of this switch's knowledge with packets of a flow that goes to another host.
    fn knowledge(&self, vni: Vni, flow: &Flow) -> Knowledge {
        let _ = (vni, flow);
        Knowledge::default()
    }

    /// What another switch knew when it sent packets of a flow here. An error drops them: for example, because an
    /// address has moved and its old place still sends.
    fn heard(&self, vni: Vni, flow: &Flow, from: SocketAddr, knowledge: Knowledge) -> Result<(), DropReason> {
        let _ = (vni, flow, from, knowledge);
        Ok(())
    }
}

/// What a switch says of its knowledge with each packet to another; serial numbers (RFC 1982), 0: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Knowledge {
    /// The version of the destination's mapping, its low 32 bits.
    pub mapping: u32,
    /// The generation of the VPC's document that was acted on, its low 32 bits.
    pub policy: u32,
}

/// Why a packet was dropped. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// It cannot be parsed, or its lengths contradict each other.
    Malformed,
    /// A protocol that a VPC does not carry, for example IPX, or a VLAN tag.
    Unsupported,
    /// Its source MAC address is not its port's.
    SpoofedMac,
    /// Its source IP address (or that in its ARP) is none of its port's.
    SpoofedAddress,
    /// To an address that nobody may send to from here: a multicast group, another host's loopback.
    Destination,
    /// No egress rule of a security group allows it.
    GroupEgress,
    /// No ingress rule of a security group allows it.
    GroupIngress,
    /// The subnet's network ACL denies it on its way out.
    AclEgress,
    /// The subnet's network ACL denies it on its way in.
    AclIngress,
    /// No route leads there.
    NoRoute,
    /// The route's target is gone.
    Blackhole,
    /// The VPC has no interface with that address.
    NoMapping,
    /// From the underlay: the VPC has no port here.
    UnknownVni,
    /// From the underlay: no port of this switch has that address.
    NotHere,
    /// From the underlay: the sender's address is not where the VPC's mapping says that it is.
    WrongHost,
    /// The port's limit on bits or packets.
    RateLimit,
    /// The table of connections is full: those that are in it live, new ones are refused.
    ConnectionsFull,
    /// A TCP packet of no connection that is known, and not a first one.
    NoConnection,
    /// Larger than the way to its destination takes, and not to be cut; its sender was told.
    TooBig,
    /// A fragment whose first is not known.
    Fragment,
    /// The guest gave no buffer for it.
    NoBuffer,
    /// The underlay did not take it.
    Uplink,
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = DropReason::Uplink as usize + 1;
}
