//! IPv6 neighbour discovery (RFC 4861): answered for everybody, as ARP is, and the router's advertisements.
//!
//! An advertisement says that addresses come from DHCPv6 (managed, other), names the subnet's prefix as on the link but
//! not for addresses of the guest's own making, and gives the MTU. A guest that has asked once is sent one every
//! [`ADVERTISE_EVERY`], since the router that it learnt has a lifetime.
//!
//! Deliberately absent: redirects, and learning from what a guest says of itself.

use super::Ignored;
use super::facts::{Directory, PortFacts};
use super::wire::{Checksums, Ethernet, Ip, icmpv6_frame, link_local, transport_intact};
use crate::packet::Mac;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// ICMPv6 type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a neighbour solicitation.
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// How often a guest is told of its router unasked: RFC 4861's default for `MaxRtrAdvInterval`.
pub const ADVERTISE_EVERY: Duration = Duration::from_secs(600);
/// Three times that, as RFC 4861's `AdvDefaultLifetime`.
const ROUTER_LIFETIME_S: u16 = 1800;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// The reply to a guest's neighbour or router solicitation.
pub(super) fn answer(
    frame: &Ethernet<'_>,
    ip: &Ip<'_>,
    checksums: Checksums,
    facts: &PortFacts,
    directory: &dyn Directory,
) -> Result<Vec<u8>, Ignored> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.source, ip.destination) else {
        return Err(Ignored::Malformed);
    };
    let (head, rest) = ip.payload.split_first_chunk::<8>().ok_or(Ignored::Malformed)?;
    // RFC 4861, section 6.1.1 and 7.1.1: a hop limit of 255 shows that no router has passed it on.
    if ip.hop_limit != 255 || head[1] != 0 || !transport_intact(ip, checksums) {
        return Err(Ignored::Malformed);
    }
    let own = &facts.interface;
    if own.subnet.cidr_ipv6.is_none() {
        return Err(Ignored::Disabled);
    }
    let router = link_local(facts.router_mac);
    let spoofed =
        !(source.is_unspecified() || source.is_unicast_link_local() || own.ipv6s().any(|a| a == source));
    if frame.source != own.mac || spoofed || source == router {
        return Err(Ignored::Spoofed);
    }
    let link_address = |options| match link_address(options, SOURCE_LINK_ADDRESS) {
        Err(Malformed) => Err(Ignored::Malformed),
        Ok(Some(_)) if source.is_unspecified() => Err(Ignored::Malformed),
        Ok(Some(mac)) if mac != own.mac => Err(Ignored::Spoofed),
        Ok(_) => Ok(()),
    };
    match head[0] {
        ROUTER_SOLICITATION => {
            link_address(rest)?;
            Ok(advertisement(facts, (!source.is_unspecified()).then_some(source)))
        }
        NEIGHBOR_SOLICITATION => {
            let (target, options) = rest.split_first_chunk::<16>().ok_or(Ignored::Malformed)?;
            let target = Ipv6Addr::from(*target);
            let to_many = destination.is_multicast();
            if target.is_multicast() || (source.is_unspecified() && !to_many) {
                return Err(Ignored::Malformed);
            }
            link_address(options)?;
            neighbor_advertisement(source, target, facts, directory)
        }
        _ => Err(Ignored::Unasked),
    }
}

fn neighbor_advertisement(
    source: Ipv6Addr,
    target: Ipv6Addr,
    facts: &PortFacts,
    directory: &dyn Directory,
) -> Result<Vec<u8>, Ignored> {
    let own = &facts.interface;
    let address = IpAddr::V6(target);
    if own.addresses.contains(&address) {
        return Err(Ignored::Unasked);
    }
    let is_router = target == link_local(facts.router_mac);
    let in_subnet = own.subnet.cidr_ipv6.is_some_and(|cidr| cidr.contains(address));
    let mac = if is_router || super::classify::service_at(address, facts).is_some() {
        facts.router_mac
    } else {
        directory.mac_of(address).filter(|_| in_subnet).ok_or(Ignored::Unknown)?
    };
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    // Section 7.2.4: who asks without an address of its own is looking for a duplicate, and all may know.
    let (to, to_mac, solicited) = match source.is_unspecified() {
        true => (ALL_NODES, ALL_NODES_MAC, 0),
        false => (source, own.mac, SOLICITED),
    };
    let mut message = vec![NEIGHBOR_ADVERTISEMENT, 0, 0, 0];
    message.extend([if is_router { ROUTER } else { 0 } | solicited | OVERRIDE, 0, 0, 0]);
    message.extend(target.octets());
    message.extend([TARGET_LINK_ADDRESS, 1]);
    message.extend(mac.0);
    Ok(icmpv6_frame((to_mac, mac), (target, to), message))
}

/// The router's advertisement, to one address of the guest, or to whoever listens.
///
/// ```text
/// 134 │ 0 │ checksum:16 │ hop limit │ M O ... │ router lifetime:16 │ reachable:32 │ retransmit:32 │ options
/// ```
pub(super) fn advertisement(facts: &PortFacts, to: Option<Ipv6Addr>) -> Vec<u8> {
    const MANAGED_AND_OTHER: u8 = 0xc0;
    const ON_LINK: u8 = 0x80;
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, MANAGED_AND_OTHER];
    message.extend(ROUTER_LIFETIME_S.to_be_bytes());
    message.extend([0; 8]);
    message.extend([SOURCE_LINK_ADDRESS, 1]);
    message.extend(facts.router_mac.0);
    message.extend([MTU, 1, 0, 0]);
    message.extend(u32::from(facts.mtu).to_be_bytes());
    if let Some((IpAddr::V6(prefix), length)) =
        facts.interface.subnet.cidr_ipv6.map(|p| (p.address, p.length))
    {
        message.extend([PREFIX, 4, length, ON_LINK]);
        // Valid for as long as anybody says so; preferred is about addresses that nobody makes of it.
        message.extend(u32::MAX.to_be_bytes());
        message.extend(u32::MAX.to_be_bytes());
        message.extend([0; 4]);
        message.extend(prefix.octets());
    }
    let (to, to_mac) = to.map_or((ALL_NODES, ALL_NODES_MAC), |to| (to, facts.interface.mac));
    icmpv6_frame((to_mac, facts.router_mac), (link_local(facts.router_mac), to), message)
}

/// An option's length is 0, or more than there is.
struct Malformed;

/// The link-layer address among the options: type, length in units of 8 bytes, value.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Malformed> {
    let mut found = None;
    while let Some(([kind, units], rest)) = options.split_first_chunk() {
        let length = (usize::from(*units) * 8).checked_sub(2).ok_or(Malformed)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        if *kind == wanted {
            found = value.first_chunk().map(|mac| Mac(*mac));
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GUEST, Names, PEER, ROUTER, facts};
    use super::*;
    use crate::service::wire::{ethernet, ip};

    const OWN: &str = "2600:1f18::5";
    const OWN_LINK: &str = "fe80::1234";

    fn ask(message: &[u8], source: &str, destination: &str) -> Result<Vec<u8>, Ignored> {
        let addresses = (source.parse().unwrap(), destination.parse().unwrap());
        let frame = icmpv6_frame((ALL_NODES_MAC, GUEST), addresses, message.to_vec());
        let frame = ethernet(&frame).unwrap();
        let packet = ip(frame.payload, Checksums::Verify).unwrap();
        answer(&frame, &packet, Checksums::Verify, &facts(), &Names::default())
    }

    fn solicitation(target: &str, link_address: Option<Mac>) -> Vec<u8> {
        let mut message = vec![NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        message.extend(target.parse::<Ipv6Addr>().unwrap().octets());
        if let Some(mac) = link_address {
            message.extend([SOURCE_LINK_ADDRESS, 1]);
            message.extend(mac.0);
        }
        message
    }

    /// Flags, target and its MAC, and whom it was told.
    fn read(frame: &[u8]) -> (u8, Ipv6Addr, Mac, IpAddr) {
        let frame = ethernet(frame).unwrap();
        let packet = ip(frame.payload, Checksums::Verify).unwrap();
        assert!(transport_intact(&packet, Checksums::Verify));
        assert_eq!((packet.hop_limit, packet.payload[0]), (255, NEIGHBOR_ADVERTISEMENT));
        let target = Ipv6Addr::from(*packet.payload[8..].first_chunk::<16>().unwrap());
        let mac = Mac(*packet.payload.last_chunk().unwrap());
        (packet.payload[4], target, mac, packet.destination)
    }

    #[test]
    fn router_services_and_neighbours_are_answered_for() {
        let router = link_local(ROUTER).to_string();
        for (target, mac, flags) in
            [(router.as_str(), ROUTER, 0xe0), ("fd00:ec2::254", ROUTER, 0x60), ("2600:1f18::9", PEER, 0x60)]
        {
            for source in [OWN, OWN_LINK] {
                let reply = ask(&solicitation(target, Some(GUEST)), source, "ff02::1:ff00:1").unwrap();
                let expected = (flags, target.parse().unwrap(), mac, source.parse().unwrap());
                assert_eq!(read(&reply), expected);
            }
        }
        let unknown = ask(&solicitation("2600:1f18::10", Some(GUEST)), OWN, "ff02::1:ff00:10");
        assert_eq!(unknown, Err(Ignored::Unknown));
    }

    #[test]
    fn duplicate_address_detection_finds_only_what_is_another_s() {
        let all = "ff02::1:ff00:9";
        assert_eq!(ask(&solicitation(OWN, None), "::", all), Err(Ignored::Unasked));
        assert_eq!(ask(&solicitation(OWN_LINK, None), "::", all), Err(Ignored::Unknown));
        let reply = ask(&solicitation("2600:1f18::9", None), "::", all).unwrap();
        assert_eq!(read(&reply), (0x20, "2600:1f18::9".parse().unwrap(), PEER, ALL_NODES.into()));
        // Who has no address has no link address to tell, and asks everybody.
        assert_eq!(ask(&solicitation(OWN, Some(GUEST)), "::", all), Err(Ignored::Malformed));
        assert_eq!(ask(&solicitation(OWN, None), "::", "2600:1f18::9"), Err(Ignored::Malformed));
    }

    #[test]
    fn a_guest_that_speaks_for_another_is_not_heard() {
        let router = link_local(ROUTER).to_string();
        let all = "ff02::1:ff00:9";
        assert_eq!(ask(&solicitation(&router, Some(GUEST)), "2600:1f18::9", all), Err(Ignored::Spoofed));
        assert_eq!(ask(&solicitation(&router, Some(PEER)), OWN, all), Err(Ignored::Spoofed));
        assert_eq!(ask(&solicitation("2600:1f18::9", Some(GUEST)), &router, all), Err(Ignored::Spoofed));
        let mut bad = solicitation(&router, Some(GUEST));
        bad[25] = 0;
        assert_eq!(ask(&bad, OWN, all), Err(Ignored::Malformed));
    }

    #[test]
    fn a_router_advertises_itself() {
        let reply = ask(&[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], OWN_LINK, "ff02::2").unwrap();
        let frame = ethernet(&reply).unwrap();
        let packet = ip(frame.payload, Checksums::Verify).unwrap();
        assert!(transport_intact(&packet, Checksums::Verify));
        assert_eq!((frame.destination, frame.source), (GUEST, ROUTER));
        assert_eq!(packet.source, IpAddr::V6(link_local(ROUTER)));
        assert_eq!(packet.destination, OWN_LINK.parse::<IpAddr>().unwrap());
        let expected = [
            &[134, 0][..],
            &packet.payload[2..4],
            &[64, 0xc0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0x02, 0, 0, 0, 0, 0x01],
            &[5, 1, 0, 0, 0, 0, 0x23, 0x29],
            &[3, 4, 64, 0x80, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
            &"2600:1f18::".parse::<Ipv6Addr>().unwrap().octets(),
        ];
        assert_eq!(packet.payload, expected.concat());
    }
}
