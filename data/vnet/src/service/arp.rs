//! ARP (RFC 826): the switch answers for everybody, so that no ARP packet ever crosses the network.
//!
//! Invariant: a port's own addresses are never answered for, else a guest's duplicate address detection (RFC 5227)
//! would find its address taken. What a guest says of itself (replies, announcements) teaches nobody anything: where an
//! address is, documents say.

use super::facts::{Directory, PortFacts};
use super::wire::{ETHERTYPE_ARP, Ethernet, ethernet_frame};
use super::{Ignored, classify};
use crate::packet::Mac;
use std::net::{IpAddr, Ipv4Addr};

const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// ```text
/// hardware:16 = 1 │ protocol:16 = 0x0800 │ 6 │ 4 │ operation:16 │
/// sender's MAC:48 │ sender's IP:32 │ target's MAC:48 │ target's IP:32
/// ```
struct Arp {
    operation: [u8; 2],
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
}

fn parse(bytes: &[u8]) -> Option<Arp> {
    let (kind, rest) = bytes.split_first_chunk::<6>()?;
    let (operation, rest) = rest.split_first_chunk()?;
    let (sender_mac, rest) = rest.split_first_chunk()?;
    let (sender, rest) = rest.split_first_chunk::<4>()?;
    let (target_mac, rest) = rest.split_first_chunk()?;
    let target = rest.first_chunk::<4>()?;
    (*kind == ETHERNET_IPV4).then_some(Arp {
        operation: *operation,
        sender: (Mac(*sender_mac), Ipv4Addr::from(*sender)),
        target: (Mac(*target_mac), Ipv4Addr::from(*target)),
    })
}

fn build(arp: &Arp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    bytes.extend(ETHERNET_IPV4);
    bytes.extend(arp.operation);
    bytes.extend(arp.sender.0.0);
    bytes.extend(arp.sender.1.octets());
    bytes.extend(arp.target.0.0);
    bytes.extend(arp.target.1.octets());
    bytes
}

/// The reply to a guest's ARP packet.
pub(super) fn answer(
    frame: &Ethernet<'_>,
    facts: &PortFacts,
    directory: &dyn Directory,
) -> Result<Vec<u8>, Ignored> {
    let request = parse(frame.payload).ok_or(Ignored::Malformed)?;
    let own = &facts.interface;
    let (sender_mac, sender) = request.sender;
    let probe = sender.is_unspecified();
    if sender_mac != own.mac || !(probe || own.addresses.contains(&sender.into())) {
        return Err(Ignored::Spoofed);
    }
    if request.operation != REQUEST {
        return Err(Ignored::Unasked);
    }
    let target = IpAddr::V4(request.target.1);
    if own.addresses.contains(&target) {
        return Err(Ignored::Unasked);
    }
    let in_subnet = own.subnet.cidr.is_some_and(|cidr| cidr.contains(target));
    let mac = if own.subnet.router().map(IpAddr::V4) == Some(target)
        || classify::service_at(target, facts).is_some()
    {
        facts.router_mac
    } else {
        directory.mac_of(target).filter(|_| in_subnet).ok_or(Ignored::Unknown)?
    };
    let reply = Arp { operation: REPLY, sender: (mac, request.target.1), target: request.sender };
    Ok(ethernet_frame(own.mac, mac, ETHERTYPE_ARP, &build(&reply)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GUEST, Names, PEER, ROUTER, facts};
    use super::*;
    use crate::service::wire::ethernet;

    const BROADCAST: Mac = Mac([0xff; 6]);

    fn ask(operation: [u8; 2], sender: (Mac, &str), target: &str) -> Result<Option<(Mac, Arp)>, Ignored> {
        let arp = Arp {
            operation,
            sender: (sender.0, sender.1.parse().unwrap()),
            target: (Mac::default(), target.parse().unwrap()),
        };
        let frame = ethernet_frame(BROADCAST, GUEST, ETHERTYPE_ARP, &build(&arp));
        let reply = answer(&ethernet(&frame).unwrap(), &facts(), &Names::default())?;
        let reply = ethernet(&reply).unwrap();
        assert_eq!(reply.destination, GUEST);
        Ok(parse(reply.payload).map(|arp| (reply.source, arp)))
    }

    fn answered(target: &str) -> Result<Mac, Ignored> {
        let (source, reply) = ask(REQUEST, (GUEST, "10.0.0.5"), target)?.unwrap();
        assert_eq!(reply.operation, REPLY);
        assert_eq!(reply.sender, (source, target.parse().unwrap()));
        assert_eq!(reply.target, (GUEST, "10.0.0.5".parse().unwrap()));
        Ok(source)
    }

    #[test]
    fn router_services_and_neighbours_are_answered_for() {
        assert_eq!(answered("10.0.0.1"), Ok(ROUTER));
        assert_eq!(answered("10.0.0.2"), Ok(ROUTER));
        assert_eq!(answered("169.254.169.254"), Ok(ROUTER));
        assert_eq!(answered("10.0.0.9"), Ok(PEER));
        assert_eq!(answered("10.0.0.10"), Err(Ignored::Unknown));
        // Of the VPC, but of another subnet: the router leads there.
        assert_eq!(answered("10.0.1.9"), Err(Ignored::Unknown));
        assert_eq!(answered("10.0.0.5"), Err(Ignored::Unasked));
    }

    #[test]
    fn a_probe_finds_another_s_address_and_never_the_guest_s_own() {
        assert_eq!(ask(REQUEST, (GUEST, "0.0.0.0"), "10.0.0.5").err(), Some(Ignored::Unasked));
        let (source, reply) = ask(REQUEST, (GUEST, "0.0.0.0"), "10.0.0.9").unwrap().unwrap();
        assert_eq!((source, reply.target.1), (PEER, Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn a_guest_that_speaks_for_another_is_not_heard() {
        assert_eq!(ask(REQUEST, (GUEST, "10.0.0.9"), "10.0.0.1").err(), Some(Ignored::Spoofed));
        assert_eq!(ask(REQUEST, (PEER, "10.0.0.5"), "10.0.0.1").err(), Some(Ignored::Spoofed));
        assert_eq!(ask(REPLY, (GUEST, "10.0.0.1"), "10.0.0.9").err(), Some(Ignored::Spoofed));
        assert_eq!(ask(REPLY, (GUEST, "10.0.0.5"), "10.0.0.9").err(), Some(Ignored::Unasked));
        assert_eq!(ask(REQUEST, (GUEST, "10.0.0.5"), "10.0.0.5").err(), Some(Ignored::Unasked));
    }
}
