//! The services that a switch answers itself, from a guest that sends whatever it likes.
//!
//! Input: steps. A byte says which: a frame as it is; a packet to one of the services, whose headers are right; a TCP
//! segment; time that passes; an answer of a resolver. Lengths are two bytes, little-endian.

use crate::input::Input;
use base::random::Random;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use vnet::engine::verdict::PortIndex;
use vnet::packet::{Mac, protocol};
use vnet::service::facts::{
    Directory, InstanceFacts, InterfaceFacts, MetadataOptions, PortFacts, Prefix, Record, SubnetFacts,
    VpcFacts,
};
use vnet::service::wire::{self, Checksums, Envelope};
use vnet::service::{Effect, Now, Services};

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 5]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PORT: PortIndex = PortIndex(1);
const STEPS_MAX: usize = 256;

/// The services' places, as a step names them.
const PLACES: [&str; 10] = [
    "255.255.255.255:67",
    "10.0.0.1:67",
    "10.0.0.2:53",
    "169.254.169.253:53",
    "169.254.169.254:80",
    "169.254.169.123:123",
    "[ff02::1:2]:547",
    "[fd00:ec2::253]:53",
    "[fd00:ec2::254]:80",
    "[fd00:ec2::123]:123",
];

struct Names(Vec<Record>);

impl Directory for Names {
    fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        (address == IpAddr::from([10, 0, 0, 9])).then_some(Mac([2, 0, 0, 0, 0, 9]))
    }

    fn records(&self, name: &str) -> &[Record] {
        if name == "a.example" { &self.0 } else { &[] }
    }

    fn has_below(&self, name: &str) -> bool {
        name == "example"
    }
}

fn facts() -> PortFacts {
    let prefix = |address: &str, length| address.parse().map(|address| Prefix { address, length });
    let (ipv4, ipv6) = (prefix("10.0.0.0", 24).ok(), prefix("fd12::", 64).ok());
    let vpc = VpcFacts {
        region: "us-east-1".into(),
        cidrs: ipv4.into_iter().chain(ipv6).collect(),
        dns_support: true,
        dns_hostnames: true,
        ..VpcFacts::default()
    };
    let interface = InterfaceFacts {
        interface_id: "eni-1".into(),
        mac: GUEST,
        addresses: vec![[10, 0, 0, 5].into(), [0xfd12, 0, 0, 0, 0, 0, 0, 5].into()],
        public_address: None,
        group_ids: Vec::new(),
        device_index: 0,
        subnet: SubnetFacts { subnet_id: "subnet-1".into(), cidr: ipv4, cidr_ipv6: ipv6 },
        vpc: Arc::new(vpc),
    };
    let options =
        MetadataOptions { endpoint: true, hop_limit: 1, ipv6: true, tags: true, tokens_required: false };
    let instance = InstanceFacts { interfaces: vec![interface.clone()], options, ..InstanceFacts::default() };
    PortFacts { interface, instance: Some(Arc::new(instance)), mtu: 1500, router_mac: ROUTER }
}

/// The target. Every frame that comes out is for the guest, whole and with its checksums.
pub fn fuzz(data: &[u8]) {
    let (mut input, facts) = (Input::new(data), facts());
    let alias = Record { kind: 5, ttl_s: 1, data: vec![b"\x01b\x07example\0".to_vec()] };
    let names = Names(vec![alias]);
    let mut services = Services::new(&[7; 32], Random::from_seed(1));
    let mut now = Now { steady_ns: 1_000_000_000, unix_ns: 1_000_000_000 };
    let (mut asked, mut heard) = (Vec::new(), 0);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let step = input.u8();
        let mut handle = |frame: &[u8]| services.handle(now, PORT, frame, Checksums::Trusted, &facts, &names);
        let effects = match step % 5 {
            0 => handle(frame(&mut input)),
            1 => handle(&datagram(&mut input)),
            2 => handle(&segment(&mut input, heard)),
            3 => {
                let ns = u64::from(input.u16()) * 10_000_000;
                now = Now { steady_ns: now.steady_ns + ns, unix_ns: now.unix_ns + ns };
                services.poll(now, |_| Some(&facts))
            }
            _ => {
                let token = asked.get(usize::from(input.u8())).copied().unwrap_or_default();
                services.answered(now, token, frame(&mut input))
            }
        };
        for effect in effects {
            match effect {
                Effect::Reply(port, frame) => heard = check(port, &frame, &facts).unwrap_or(heard),
                Effect::Ask(question) => asked.push(question.token),
                Effect::Forget(_) => {}
            }
        }
    }
}

fn frame<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let length = usize::from(input.u16()).min(4096);
    input.take(length)
}

fn place(input: &mut Input<'_>) -> (SocketAddr, IpAddr) {
    let text = PLACES.get(usize::from(input.u8()) % PLACES.len()).copied().unwrap_or_default();
    let place: SocketAddr = text.parse().unwrap_or(SocketAddr::from(([10, 0, 0, 2], 53)));
    match place {
        SocketAddr::V4(_) => (place, [10, 0, 0, 5].into()),
        SocketAddr::V6(_) => (place, [0xfd12, 0, 0, 0, 0, 0, 0, 5].into()),
    }
}

fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let (destination, source) = place(input);
    let source = SocketAddr::new(source, 1024 + u16::from(input.u8()));
    Envelope { destination_mac: ROUTER, source_mac: GUEST, source, destination }.seal(frame(input))
}

/// Ports, numbers, flags and window are the input's, but the destination's port. An acknowledgement of 1 is of all that
/// was `heard`.
fn segment(input: &mut Input<'_>, heard: u32) -> Vec<u8> {
    let (destination, source) = place(input);
    let mut segment = vec![4, input.u8() % 4];
    segment.extend(destination.port().to_be_bytes());
    segment.extend(input.take(4));
    segment.resize(8, 0);
    let acknowledged = input.take(4).first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    segment.extend(heard.wrapping_add(acknowledged).wrapping_sub(1).to_be_bytes());
    segment.extend([0x50, input.u8()]);
    segment.extend([input.u8(), 0, 0, 0, 0, 0]);
    segment.extend(frame(input));
    wire::ip_frame((ROUTER, GUEST), (source, destination.ip()), protocol::TCP, 64, &segment)
}

/// Of a TCP segment, the sequence number behind it.
fn check(port: PortIndex, frame: &[u8], facts: &PortFacts) -> Option<u32> {
    assert_eq!(port, PORT);
    assert!(frame.len() <= 14 + usize::from(facts.mtu), "longer than the port takes");
    let outer = wire::ethernet(frame).expect("a reply is a frame");
    assert_ne!(outer.source, GUEST);
    if outer.kind == wire::ETHERTYPE_ARP {
        return None;
    }
    let packet = wire::ip(outer.payload, Checksums::Verify).expect("a reply is a packet");
    assert!(wire::transport_intact(&packet, Checksums::Verify), "a reply's checksum");
    let [.., a, b, c, d, _, _, _, _, offset, flags] = *packet.payload.first_chunk::<14>()?;
    let header_bytes = usize::from(offset >> 4) * 4;
    let length = packet.payload.len().checked_sub(header_bytes)? as u32 + u32::from(flags & 2 != 0);
    (packet.protocol == protocol::TCP).then(|| u32::from_be_bytes([a, b, c, d]).wrapping_add(length))
}
