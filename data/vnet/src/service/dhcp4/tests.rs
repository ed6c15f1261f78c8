//! Exchanges, message by message.

use super::super::testing::{GUEST, PEER, ROUTER, facts};
use super::*;
use crate::service::wire::{Checksums, ethernet, ip, udp};
use proptest::prelude::*;
use std::sync::Arc;

/// A client's message: type, `ciaddr`, flags, options.
fn ask_as(mac: Mac, kind: u8, client: [u8; 4], flags: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, flags, 0];
    bytes.extend(client);
    bytes.extend([0; 12]);
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend(MAGIC);
    bytes.extend([option::MESSAGE_TYPE, 1, kind, option::PAD]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(option::END);
    bytes
}

fn ask(kind: u8, client: [u8; 4], flags: u8, options: &[(u8, &[u8])]) -> Result<Reply, Ignored> {
    answer(&ask_as(GUEST, kind, client, flags, options), &facts()).map(|frame| read(&frame))
}

#[derive(Debug, PartialEq)]
struct Reply {
    kind: u8,
    to: (Mac, IpAddr),
    client: Ipv4Addr,
    given: Ipv4Addr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(other, _)| *other == code).map(|(_, value)| value.as_slice())
    }
}

fn read(frame: &[u8]) -> Reply {
    let frame = ethernet(frame).unwrap();
    let packet = ip(frame.payload, Checksums::Verify).unwrap();
    let datagram = udp(&packet, Checksums::Verify).unwrap();
    assert_eq!((datagram.source, datagram.destination, frame.source), (67, 68, ROUTER));
    assert_eq!(packet.source, "10.0.0.1".parse::<IpAddr>().unwrap());
    let bytes = datagram.payload;
    assert!((MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&bytes.len()));
    assert_eq!(&bytes[..8], &[2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(&bytes[28..34], &GUEST.0);
    assert_eq!(&bytes[236..240], &MAGIC);
    let mut options = Vec::new();
    let mut rest = &bytes[240..];
    while rest[0] != option::END {
        let length = usize::from(rest[1]);
        options.push((rest[0], rest[2..2 + length].to_vec()));
        rest = &rest[2 + length..];
    }
    let address = |at: usize| Ipv4Addr::from(*bytes[at..].first_chunk::<4>().unwrap());
    let reply = Reply {
        kind: options[0].1[0],
        to: (frame.destination, packet.destination),
        client: address(12),
        given: address(16),
        options,
    };
    assert_eq!(reply.option(option::SERVER), Some(&[10, 0, 0, 1][..]));
    reply
}

const OWN: [u8; 4] = [10, 0, 0, 5];
const NONE: [u8; 4] = [0; 4];
/// What systemd-networkd asks for, with routes.
const WANTED: &[u8] = &[1, 3, 6, 12, 15, 26, 42, 121];

fn to_guest() -> (Mac, IpAddr) {
    (GUEST, Ipv4Addr::from(OWN).into())
}

fn to_all() -> (Mac, IpAddr) {
    (Mac([0xff; 6]), Ipv4Addr::BROADCAST.into())
}

#[test]
fn a_guest_finds_its_address() {
    let offer = ask(message::DISCOVER, NONE, 0, &[(option::WANTED, WANTED)]).unwrap();
    assert_eq!((offer.kind, offer.to, offer.given), (message::OFFER, to_guest(), OWN.into()));
    let selecting =
        [(option::SERVER, &[10, 0, 0, 1][..]), (option::REQUESTED_ADDRESS, &OWN), (option::WANTED, WANTED)];
    let ack = ask(message::REQUEST, NONE, 0, &selecting).unwrap();
    assert_eq!((ack.kind, ack.to, ack.given), (message::ACK, to_guest(), OWN.into()));
    let expected: Vec<(u8, Vec<u8>)> = vec![
        (53, vec![5]),
        (54, vec![10, 0, 0, 1]),
        (51, 3600u32.to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (3, vec![10, 0, 0, 1]),
        (6, vec![10, 0, 0, 2]),
        (12, b"ip-10-0-0-5".to_vec()),
        (15, b"ec2.internal".to_vec()),
        (26, vec![0x23, 0x29]),
        (121, vec![32, 169, 254, 169, 254, 0, 0, 0, 0, 0, 10, 0, 0, 1]),
    ];
    assert_eq!(ack.options, expected);
}

#[test]
fn who_cannot_take_unicast_is_answered_by_broadcast() {
    assert_eq!(ask(message::DISCOVER, NONE, 0x80, &[]).unwrap().to, to_all());
    // Not one that has an address already.
    assert_eq!(ask(message::REQUEST, OWN, 0x80, &[]).unwrap().to, to_guest());
}

#[test]
fn a_restarted_guest_keeps_its_address_and_one_from_elsewhere_is_refused() {
    let again = ask(message::REQUEST, NONE, 0, &[(option::REQUESTED_ADDRESS, &OWN)]).unwrap();
    assert_eq!((again.kind, again.given), (message::ACK, OWN.into()));
    let elsewhere =
        ask(message::REQUEST, NONE, 0, &[(option::REQUESTED_ADDRESS, &[192, 168, 0, 7])]).unwrap();
    assert_eq!((elsewhere.kind, elsewhere.to, elsewhere.given), (message::NAK, to_all(), NONE.into()));
    assert_eq!(elsewhere.options.len(), 2);
}

#[test]
fn a_lease_is_renewed_from_the_address_itself() {
    let renewed = ask(message::REQUEST, OWN, 0, &[]).unwrap();
    assert_eq!((renewed.kind, renewed.to, renewed.given), (message::ACK, to_guest(), OWN.into()));
    assert_eq!(renewed.client, Ipv4Addr::from(OWN));
    let other = ask(message::REQUEST, [10, 0, 0, 9], 0, &[]).unwrap();
    assert_eq!(other.kind, message::NAK);
}

#[test]
fn who_has_an_address_is_told_the_rest() {
    let informed = ask(message::INFORM, OWN, 0, &[(option::WANTED, &[6])]).unwrap();
    assert_eq!((informed.kind, informed.given, informed.to), (message::ACK, NONE.into(), to_guest()));
    assert_eq!(informed.options.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [53, 54, 6]);
    assert_eq!(ask(message::INFORM, [10, 0, 0, 9], 0, &[]), Err(Ignored::Spoofed));
}

#[test]
fn what_is_for_others_stays_unanswered() {
    let other_server = [(option::SERVER, &[10, 0, 0, 77][..]), (option::REQUESTED_ADDRESS, &OWN)];
    assert_eq!(ask(message::REQUEST, NONE, 0, &other_server), Err(Ignored::Unasked));
    for kind in [message::OFFER, 4, message::ACK, message::NAK, 7, 9, 200] {
        assert_eq!(ask(kind, OWN, 0, &[]), Err(Ignored::Unasked), "type {kind}");
    }
    let stranger = ask_as(PEER, message::DISCOVER, NONE, 0, &[]);
    assert_eq!(answer(&stranger, &facts()), Err(Ignored::Spoofed));
    let mut relayed = ask_as(GUEST, message::DISCOVER, NONE, 0, &[]);
    relayed[24] = 10;
    assert_eq!(answer(&relayed, &facts()), Err(Ignored::Unasked));
    let mut reply = ask_as(GUEST, message::DISCOVER, NONE, 0, &[]);
    reply[0] = 2;
    assert_eq!(answer(&reply, &facts()), Err(Ignored::Malformed));
}

#[test]
fn options_of_the_vpc_replace_the_usual_ones() {
    let mut facts = facts();
    let mut vpc = (*facts.interface.vpc).clone();
    vpc.dhcp = super::super::facts::DhcpFacts {
        domain_name: "corp.example".into(),
        domain_name_servers: vec![
            "10.0.0.53".parse().unwrap(),
            "fd00::53".parse().unwrap(),
            "10.0.1.53".parse().unwrap(),
        ],
        ntp_servers: vec!["169.254.169.123".parse().unwrap()],
        netbios_name_servers: vec!["10.0.0.54".parse().unwrap()],
        netbios_node_type: 2,
    };
    facts.interface.vpc = Arc::new(vpc);
    let reply = read(
        &answer(&ask_as(GUEST, message::DISCOVER, NONE, 0, &[(option::CLIENT, b"\x01me")]), &facts).unwrap(),
    );
    assert_eq!(reply.option(option::DNS), Some(&[10, 0, 0, 53, 10, 0, 1, 53][..]));
    assert_eq!(reply.option(option::DOMAIN_NAME), Some(&b"corp.example"[..]));
    assert_eq!(reply.option(option::NTP), Some(&[169, 254, 169, 123][..]));
    assert_eq!(reply.option(option::NETBIOS_SERVERS), Some(&[10, 0, 0, 54][..]));
    assert_eq!(reply.option(option::NETBIOS_NODE), Some(&[2][..]));
    assert_eq!(reply.option(option::CLIENT), Some(&b"\x01me"[..]));
}

#[test]
fn a_reply_never_outgrows_what_every_client_takes() {
    let mut facts = facts();
    let mut vpc = (*facts.interface.vpc).clone();
    vpc.dhcp.domain_name = "x".repeat(250);
    vpc.dhcp.domain_name_servers = vec![Ipv4Addr::LOCALHOST.into(); 40];
    facts.interface.vpc = Arc::new(vpc);
    let reply = read(&answer(&ask_as(GUEST, message::DISCOVER, NONE, 0, &[]), &facts).unwrap());
    // What comes later and still fits is there.
    assert!(reply.option(option::DOMAIN_NAME).is_none() && reply.option(option::MTU).is_some());
}

proptest! {
    #[test]
    fn any_damage_is_read_without_a_panic(
        changes in prop::collection::vec((0usize..330, any::<u8>()), 0..8),
        length in 200usize..330,
    ) {
        let options = [(option::WANTED, WANTED), (option::REQUESTED_ADDRESS, &OWN[..]), (option::CLIENT, b"\x01abc")];
        let mut bytes = ask_as(GUEST, message::REQUEST, NONE, 0, &options);
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(length);
        let _ = answer(&bytes, &facts());
    }
}
