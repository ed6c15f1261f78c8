//! Which packets are for a service: decided by addresses alone, before any policy is asked. Security groups and network
//! ACLs do not filter them, as in AWS (VPC User Guide, "Control traffic to your AWS resources using security groups").
//!
//! ARP is a service whole; of all else the flow says it, so that a fragment goes where its first one went.
//!
//! Invariant: a packet to an address of a service never leaves the host, whatever its port.

use super::facts::PortFacts;
use super::{dhcp4, dhcp6, neighbor, ntp, wire};
use crate::packet::{Flow, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The metadata service.
pub const METADATA_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The metadata service.
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);
/// The resolver, beside its address in the VPC.
pub const RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The resolver.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x253);
/// Time.
pub const TIME_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);
/// Time.
pub const TIME_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x123);

/// DNS's port.
pub const DNS_PORT: u16 = 53;
/// HTTP's port.
pub const HTTP_PORT: u16 = 80;

/// A service of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Service {
    /// Where an IPv4 address is on the link.
    Arp,
    /// Where an IPv6 address is on the link, and its router.
    Neighbor,
    /// IPv4 addresses.
    Dhcp4,
    /// IPv6 addresses.
    Dhcp6,
    /// Names.
    Dns,
    /// What an instance can read of itself.
    Metadata,
    /// The time.
    Time,
    /// To an address of a service, but not to its port: nobody answers.
    Closed,
}

impl Service {
    /// How many there are.
    pub const COUNT: usize = Service::Closed as usize + 1;
}

/// The service that has an address, as the port sees it.
pub fn service_at(address: IpAddr, facts: &PortFacts) -> Option<Service> {
    match address {
        IpAddr::V4(METADATA_V4) | IpAddr::V6(METADATA_V6) => Some(Service::Metadata),
        IpAddr::V4(RESOLVER_V4) | IpAddr::V6(RESOLVER_V6) => Some(Service::Dns),
        IpAddr::V4(TIME_V4) | IpAddr::V6(TIME_V6) => Some(Service::Time),
        IpAddr::V4(address) => (facts.interface.vpc.resolver() == Some(address)).then_some(Service::Dns),
        IpAddr::V6(_) => None,
    }
}

/// The service that a flow from a port is for; `None`: it is for the network.
///
/// What its sender claims to be is not looked at here: [`super::Services::handle`] does.
pub fn classify_flow(flow: &Flow, facts: &PortFacts) -> Option<Service> {
    let to = (flow.protocol, flow.destination_port);
    let by_port =
        |service, ports: &[(u8, u16)]| Some(if ports.contains(&to) { service } else { Service::Closed });
    match service_at(flow.destination, facts) {
        Some(Service::Metadata) => return by_port(Service::Metadata, &[(protocol::TCP, HTTP_PORT)]),
        Some(Service::Dns) => {
            return by_port(Service::Dns, &[(protocol::UDP, DNS_PORT), (protocol::TCP, DNS_PORT)]);
        }
        Some(Service::Time) => return by_port(Service::Time, &[(protocol::UDP, ntp::PORT)]),
        _ => {}
    }
    match flow.destination {
        IpAddr::V4(address) => {
            let router = facts.interface.subnet.router() == Some(address);
            let dhcp = to == (protocol::UDP, dhcp4::SERVER_PORT) && (address.is_broadcast() || router);
            // Nothing else listens at the router.
            if dhcp { Some(Service::Dhcp4) } else { router.then_some(Service::Closed) }
        }
        IpAddr::V6(address) => {
            const SOLICITED_NODES: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
            let neighbor = flow.protocol == protocol::ICMPV6
                && (neighbor::ROUTER_SOLICITATION..=neighbor::NEIGHBOR_ADVERTISEMENT).contains(&flow.icmp.0);
            let dhcp = to == (protocol::UDP, dhcp6::SERVER_PORT) && address == dhcp6::SERVERS;
            let solicited = address.to_bits() >> 24 == SOLICITED_NODES >> 24;
            let router = address == wire::link_local(facts.router_mac);
            match (neighbor, dhcp) {
                (true, _) => Some(Service::Neighbor),
                (_, true) => Some(Service::Dhcp6),
                _ => (solicited || router).then_some(Service::Closed),
            }
        }
    }
}

/// The flow of a packet, in the engine's words.
pub(super) fn flow(ip: &wire::Ip<'_>) -> Flow {
    let (first, second) = match ip.payload.first_chunk() {
        Some([a, b, c, d]) => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        None => (0, 0),
    };
    let [kind, code] = first.to_be_bytes();
    let (ports, icmp) = match ip.protocol {
        protocol::TCP | protocol::UDP => ((first, second), (0, 0)),
        protocol::ICMP | protocol::ICMPV6 => ((u16::from(kind), u16::from(code)), (kind, code)),
        _ => ((0, 0), (0, 0)),
    };
    Flow {
        protocol: ip.protocol,
        source: ip.source,
        destination: ip.destination,
        source_port: ports.0,
        destination_port: ports.1,
        icmp,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::facts;
    use super::*;

    fn service(protocol: u8, destination: &str, port: u16) -> Option<Service> {
        let destination: IpAddr = destination.parse().unwrap();
        let source = if destination.is_ipv4() { "10.0.0.5" } else { "2600:1f18::5" };
        let icmp =
            if matches!(protocol, protocol::ICMP | protocol::ICMPV6) { (port as u8, 0) } else { (0, 0) };
        let source = source.parse().unwrap();
        let flow = Flow { protocol, source, destination, source_port: 9, destination_port: port, icmp };
        classify_flow(&flow, &facts())
    }

    #[test]
    fn services_are_found_by_their_addresses() {
        use protocol::{ICMP, ICMPV6, TCP, UDP};
        for (protocol, destination, port, expected) in [
            (TCP, "169.254.169.254", 80, Some(Service::Metadata)),
            (TCP, "fd00:ec2::254", 80, Some(Service::Metadata)),
            (TCP, "169.254.169.254", 443, Some(Service::Closed)),
            (UDP, "169.254.169.254", 80, Some(Service::Closed)),
            (UDP, "169.254.169.253", 53, Some(Service::Dns)),
            (TCP, "10.0.0.2", 53, Some(Service::Dns)),
            (UDP, "fd00:ec2::253", 53, Some(Service::Dns)),
            (ICMP, "10.0.0.2", 8, Some(Service::Closed)),
            (UDP, "169.254.169.123", 123, Some(Service::Time)),
            (UDP, "fd00:ec2::123", 123, Some(Service::Time)),
            (UDP, "255.255.255.255", 67, Some(Service::Dhcp4)),
            (UDP, "10.0.0.1", 67, Some(Service::Dhcp4)),
            (ICMP, "10.0.0.1", 8, Some(Service::Closed)),
            (UDP, "255.255.255.255", 68, None),
            (UDP, "ff02::1:2", 547, Some(Service::Dhcp6)),
            (ICMPV6, "ff02::1:ff00:9", 135, Some(Service::Neighbor)),
            (ICMPV6, "2600:1f18::9", 135, Some(Service::Neighbor)),
            (ICMPV6, "ff02::2", 133, Some(Service::Neighbor)),
            (ICMPV6, "2600:1f18::9", 128, None),
            (TCP, "10.0.0.9", 80, None),
            (UDP, "8.8.8.8", 53, None),
        ] {
            assert_eq!(service(protocol, destination, port), expected, "{protocol} {destination} {port}");
        }
    }
}
