//! Whole packets: a guest with a TCP stack of its own, the services, and the host's resolvers, on a clock of the test.

mod guest;
mod names;
mod resources;

use super::classify::Service;
use super::facts::PortFacts;
use super::testing::{GUEST, PEER, ROUTER};
use super::*;
use guest::Guest;
use std::sync::Arc;

#[test]
fn a_packet_for_the_network_is_not_a_service_s() {
    let mut guest = Guest::new();
    assert!(guest.udp("10.0.0.5:9", "10.0.0.9:53", b"x").is_empty());
    assert!(guest.frame(&[0; 13]).is_empty() && guest.frame(&[0; 60]).is_empty());
    let vlan = wire::ethernet_frame(ROUTER, GUEST, 0x8100, &[0; 46]);
    assert!(guest.frame(&vlan).is_empty());
}

#[test]
fn a_guest_that_speaks_for_another_is_not_heard() {
    let mut guest = Guest::new();
    let query = names::query("example.org", 1);
    assert!(guest.udp("10.0.0.9:9", "169.254.169.253:53", &query).is_empty());
    assert!(guest.udp("[fe80::5]:9", "[fd00:ec2::253]:53", &query).is_empty());
    let from_other = Envelope {
        destination_mac: ROUTER,
        source_mac: PEER,
        source: "10.0.0.5:9".parse().unwrap(),
        destination: "169.254.169.253:53".parse().unwrap(),
    };
    assert!(guest.frame(&from_other.seal(&query)).is_empty());
    assert_eq!(guest.counted(Service::Dns), (3, [(Ignored::Spoofed, 3)].into()));
}

#[test]
fn the_time_is_told() {
    let mut guest = Guest::new();
    let mut request = vec![0x23];
    request.resize(48, 0);
    for address in ["169.254.169.123:123", "[fd00:ec2::123]:123"] {
        let source = if address.starts_with('[') { "[2600:1f18::5]:9" } else { "10.0.0.5:9" };
        let replies = guest.udp(source, address, &request);
        assert_eq!(replies.len(), 1);
        assert_eq!((replies[0].1[0], replies[0].0), (0xe4, source.parse().unwrap()));
    }
    assert!(guest.udp("10.0.0.5:9", "169.254.169.123:124", &request).is_empty());
    assert_eq!(guest.counted(Service::Closed), (1, [(Ignored::Unasked, 1)].into()));
}

#[test]
fn a_lease_is_had_over_the_wire_without_an_address() {
    let mut guest = Guest::new();
    let mut discover = vec![1, 1, 6, 0, 1, 2, 3, 4];
    discover.resize(28, 0);
    discover.extend(GUEST.0);
    discover.resize(236, 0);
    discover.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    let replies = guest.udp("0.0.0.0:68", "255.255.255.255:67", &discover);
    assert_eq!((replies.len(), replies[0].0), (1, "10.0.0.5:68".parse().unwrap()));
    let replies = guest.udp("10.0.0.5:68", "10.0.0.1:67", &discover);
    assert_eq!(replies.len(), 1);
}

#[test]
fn a_port_that_floods_is_slowed_and_keeps_its_address() {
    let mut guest = Guest::new();
    let query = names::query("ip-10-0-0-9.ec2.internal", 1);
    let answered = |guest: &mut Guest, number: usize| {
        (0..number).filter(|_| !guest.udp("10.0.0.5:9", "10.0.0.2:53", &query).is_empty()).count()
    };
    assert_eq!(answered(&mut guest, 3_000), 1024);
    // ARP has a bound of its own, and another port too.
    assert_eq!(guest.frame(&guest::arp_request()).len(), 1);
    guest.port = PortIndex(2);
    assert_eq!(answered(&mut guest, 1), 1);
    guest.port = PortIndex(1);
    guest.wait_ns(1_000_000_000);
    assert_eq!(answered(&mut guest, 3_000), 1024);
    assert_eq!(guest.counted(Service::Dns), (6_000, [(Ignored::RateLimit, 6_000 - 2_048)].into()));
}

#[test]
fn a_guest_that_asked_for_its_router_is_told_again_and_again() {
    let mut guest = Guest::new();
    let solicitation = wire::icmpv6_frame(
        (Mac([0x33, 0x33, 0, 0, 0, 2]), GUEST),
        ("fe80::5".parse().unwrap(), "ff02::2".parse().unwrap()),
        vec![133, 0, 0, 0, 0, 0, 0, 0],
    );
    assert_eq!(guest.services.next_ns(), None);
    assert_eq!(guest.frame(&solicitation).len(), 1);
    for round in 1..=3u64 {
        assert_eq!(guest.services.next_ns(), Some(guest::START_NS + round * 600_000_000_000));
        guest.now_ns = guest.services.next_ns().unwrap();
        let effects = guest.poll();
        let [Effect::Reply(PortIndex(1), frame)] = effects.as_slice() else { panic!("{effects:?}") };
        let frame = wire::ethernet(frame).unwrap();
        assert_eq!(frame.destination, Mac([0x33, 0x33, 0, 0, 0, 1]));
        assert_eq!(frame.payload[40], 134);
    }
    assert!(guest.services.forget(PortIndex(1)).is_empty());
    assert_eq!(guest.services.next_ns(), None);
}

#[test]
fn switched_off_services_say_nothing() {
    let mut guest = Guest::new();
    let mut vpc = (*guest.facts.interface.vpc).clone();
    vpc.dns_support = false;
    guest.facts.interface.vpc = Arc::new(vpc);
    assert!(guest.udp("10.0.0.5:9", "10.0.0.2:53", &names::query("example.org", 1)).is_empty());
    assert_eq!(guest.counted(Service::Dns), (1, [(Ignored::Disabled, 1)].into()));
    let mut instance = (**guest.facts.instance.as_ref().unwrap()).clone();
    instance.options.ipv6 = false;
    guest.facts.instance = Some(Arc::new(instance));
    assert_eq!(guest.get_at("[fd00:ec2::254]:80", "/", ""), None);
    assert!(guest.get_at("169.254.169.254:80", "/", "").is_some());
}
