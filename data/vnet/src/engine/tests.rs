use super::connection::Bounds;
use super::limit::Limit;
use super::port::Router;
use super::verdict::{Hop, Pass, Validity, Verdict};
use super::*;
use crate::packet::build::{Build, Transport};
use crate::packet::checksum::Sum;
use crate::packet::parse::{Fragment, parse, quoted, tcp};
use crate::packet::{Flow, Mac};
use base::random::Random;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

const SECOND: u64 = 1_000_000_000;
const VNI: Vni = Vni(77);
const A: PortIndex = PortIndex(0);
const B: PortIndex = PortIndex(1);

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn ip6(last: u8) -> IpAddr {
    IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn host(last: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 1, last), 6081).into()
}

/// Ports 1 and 2 are here, 3 is on another host. Who may begin what, port by port, is a set.
struct TestPolicy {
    version: Cell<u32>,
    egress: RefCell<BTreeMap<u32, bool>>,
    ingress: RefCell<BTreeMap<u32, bool>>,
    asked: Cell<u32>,
}

impl TestPolicy {
    fn new() -> TestPolicy {
        TestPolicy {
            version: Cell::new(1),
            egress: RefCell::new([(0, true), (1, true)].into()),
            ingress: RefCell::new([(0, true), (1, true)].into()),
            asked: Cell::new(0),
        }
    }

    fn set_ingress(&self, port: PortIndex, allowed: bool) {
        self.ingress.borrow_mut().insert(port.0, allowed);
        self.version.set(self.version.get() + 1);
    }

    fn set_egress(&self, port: PortIndex, allowed: bool) {
        self.egress.borrow_mut().insert(port.0, allowed);
        self.version.set(self.version.get() + 1);
    }

    fn allowed(&self, port: PortIndex, initiator: Initiator) -> Result<(), DropReason> {
        self.asked.set(self.asked.get() + 1);
        let (rules, reason) = match initiator {
            Initiator::Port => (&self.egress, DropReason::GroupEgress),
            Initiator::Peer => (&self.ingress, DropReason::GroupIngress),
        };
        if rules.borrow().get(&port.0) == Some(&true) { Ok(()) } else { Err(reason) }
    }

    fn pass(&self, hop: Hop, flow: &Flow) -> Verdict {
        let validity = Validity { port: (0, self.version.get()), mapping: (0, 9) };
        let last = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        let ethernet = (mac(last(flow.source)), mac(last(flow.destination)));
        Verdict::Pass(Pass { hop, ethernet, validity })
    }
}

impl Policy for TestPolicy {
    fn leaving(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict {
        let own = [ip(port.0 as u8 + 1), ip6(port.0 as u8 + 1)];
        if !own.contains(&flow.source) {
            return Verdict::Drop(DropReason::SpoofedAddress);
        }
        if let Err(reason) = self.allowed(port, initiator) {
            return Verdict::Drop(reason);
        }
        let hop = match flow.destination {
            to if to == ip(1) || to == ip6(1) => Hop::Port(A),
            to if to == ip(2) || to == ip6(2) => Hop::Port(B),
            to if to == ip(3) || to == ip6(3) => Hop::Host { vni: VNI, underlay: host(3) },
            _ => return Verdict::Drop(DropReason::NoMapping),
        };
        self.pass(hop, flow)
    }

    fn reaching(&self, port: PortIndex, flow: &Flow, initiator: Initiator) -> Verdict {
        match self.allowed(port, initiator) {
            Ok(()) => self.pass(Hop::Port(port), flow),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn port_of(&self, vni: Vni, flow: &Flow, from: SocketAddr) -> Result<PortIndex, DropReason> {
        if vni != VNI {
            return Err(DropReason::UnknownVni);
        }
        if from.ip() != host(3).ip() {
            return Err(DropReason::WrongHost);
        }
        match flow.destination {
            to if to == ip(1) || to == ip6(1) => Ok(A),
            to if to == ip(2) || to == ip6(2) => Ok(B),
            _ => Err(DropReason::NotHere),
        }
    }

    fn holds(&self, validity: &Validity) -> bool {
        validity.port.1 == self.version.get()
    }

    fn knowledge(&self, _: Vni, _: &Flow) -> Knowledge {
        Knowledge { mapping: 9, policy: self.version.get() }
    }

    fn heard(&self, _: Vni, _: &Flow, _: SocketAddr, knowledge: Knowledge) -> Result<(), DropReason> {
        if knowledge.mapping < 9 { Err(DropReason::WrongHost) } else { Ok(()) }
    }
}

fn port_config(last: u8) -> PortConfig {
    PortConfig {
        id: 1000 + u64::from(last),
        mac: mac(last),
        mtu: 1500,
        router: Router {
            mac: mac(0xfe),
            ipv4: Ipv4Addr::new(10, 0, 0, 254),
            ipv6: [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(),
        },
        services: vec![[169, 254, 169, 254].into()],
        send: Limit::default(),
        receive: Limit::default(),
    }
}

struct Bench {
    engine: Engine,
    policy: TestPolicy,
    now: Nanos,
    made: Vec<Made>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Bounds { total: 64, per_port: 32, timeouts: Timeouts::default() })
    }

    fn with(bounds: Bounds) -> Bench {
        let key = HashKey::new(&mut Random::from_seed(1));
        let connections = Connections::in_memory(bounds, key.clone());
        let mut engine = Engine::new(Config { flows: 64, underlay_mtu: 1500 }, connections, key);
        assert!(engine.port_set(A, port_config(1)) && engine.port_set(B, port_config(2)));
        Bench { engine, policy: TestPolicy::new(), now: Nanos(SECOND), made: Vec::new() }
    }

    fn run(&mut self, origin: Origin, bytes: &[u8], offload: Offload) -> Packet {
        self.made.clear();
        let mut packet = Packet::new(Head::of(bytes), bytes.len() as u32, offload, origin);
        self.engine.process(&self.policy, self.now, &mut packet, &mut self.made);
        packet
    }

    fn send(&mut self, port: PortIndex, build: &Build) -> Outcome {
        self.run(Origin::Port(port), &build.bytes(), Offload::NONE).outcome
    }

    fn hear(&mut self, build: &Build) -> Outcome {
        self.run(underlay(), &build.bytes(), Offload::NONE).outcome
    }

    fn dropped(&self, port: PortIndex, reason: DropReason) -> u64 {
        self.engine.counters(port).unwrap().dropped(reason)
    }
}

fn underlay() -> Origin {
    Origin::Underlay { from: host(3), vni: VNI, knowledge: Knowledge { mapping: 9, policy: 1 } }
}

/// What of a packet goes out: its new head, and what follows.
fn out(packet: &Packet, original: &[u8]) -> Vec<u8> {
    let rest = packet.rest.start as usize..packet.rest.end as usize;
    [packet.head.bytes(), &original[rest]].concat()
}

fn udp(from: u8, to: u8) -> Build {
    Build {
        ethernet: (mac(from), mac(0xfe)),
        source: ip(from),
        destination: ip(to),
        transport: Transport::Udp(1000, 2000),
        payload: vec![7; 100],
        ..Build::default()
    }
}

fn tcp_packet(from: u8, to: u8, ports: (u16, u16), flags: u8) -> Build {
    let transport =
        Transport::Tcp { ports, sequence: 1, acknowledgement: 2, flags, window: 9, options: Vec::new() };
    Build { transport, payload: Vec::new(), ..udp(from, to) }
}

fn ping(from: u8, to: u8, kind: u8) -> Build {
    Build { transport: Transport::Icmp(kind, 0, [0, 5, 0, 1]), ..udp(from, to) }
}

const TO_3: Outcome = Outcome::Host {
    underlay: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 3)), 6081),
    source_port: 0,
};

/// Without the source port, which is the hash's.
fn plain(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Host { underlay, source_port } => {
            assert!(source_port >= 0xc000, "{source_port}");
            Outcome::Host { underlay, source_port: 0 }
        }
        outcome => outcome,
    }
}

#[test]
fn between_ports_the_ethernet_addresses_change_and_nothing_else() {
    let mut bench = Bench::new();
    let bytes = Build { payload: vec![7; 1000], ..udp(1, 2) }.bytes();
    for _ in 0..3 {
        let packet = bench.run(Origin::Port(A), &bytes, Offload::NONE);
        assert_eq!(packet.outcome, Outcome::Port(B));
        let expected = Build { ethernet: (mac(1), mac(2)), payload: vec![7; 1000], ..udp(1, 2) }.bytes();
        assert_eq!(out(&packet, &bytes), expected);
    }
    assert_eq!(bench.policy.asked.get(), 2, "once at each end");
    let counters = bench.engine.counters(B).unwrap();
    assert_eq!(counters.received, port::Traffic { packets: 3, bytes: 3 * bytes.len() as u64 });
    assert_eq!(bench.engine.counters(A).unwrap().sent, counters.received);
    let flow = bench.engine.flows().seen().next().unwrap();
    assert_eq!((flow.from, flow.to, flow.packets), (Some(A), Some(B), 3));
    assert_eq!((flow.flow.source, flow.flow.destination_port), (ip(1), 2000));
}

#[test]
fn to_another_host_in_geneve() {
    let mut bench = Bench::new();
    for (from, to, source, destination) in [(1, 3, ip(1), ip(3)), (1, 3, ip6(1), ip6(3))] {
        let build = Build { source, destination, ..udp(from, to) };
        let bytes = build.bytes();
        for _ in 0..2 {
            let packet = bench.run(Origin::Port(A), &bytes, Offload::NONE);
            assert_eq!(plain(packet.outcome), TO_3);
            let sent = out(&packet, &bytes);
            let geneve = geneve::parse(&sent).unwrap();
            assert_eq!((geneve.vni, geneve.length), (VNI, usize::from(packet.inner)));
            assert_eq!(geneve.knowledge, Knowledge { mapping: 9, policy: 1 });
            let expected = Build { ethernet: (mac(1), mac(3)), ..build.clone() }.bytes();
            assert_eq!(sent[geneve.length..], expected);
        }
    }
}

#[test]
fn padding_is_cut_off() {
    let mut bench = Bench::new();
    let build = Build { payload: Vec::new(), ..udp(1, 3) };
    let mut bytes = build.bytes();
    let length = bytes.len();
    bytes.resize(60, 0);
    let packet = bench.run(Origin::Port(A), &bytes, Offload::NONE);
    assert_eq!(out(&packet, &bytes).len(), length + geneve::LENGTH);
}

#[test]
fn who_begins_decides_for_both_directions() {
    let mut bench = Bench::new();
    bench.policy.set_ingress(A, false);
    assert_eq!(bench.hear(&udp(3, 1)), Outcome::Drop(DropReason::GroupIngress));
    assert_eq!(bench.dropped(A, DropReason::GroupIngress), 1);
    assert!(bench.engine.connections().is_empty(), "what is refused leaves nothing");
    let answer = Build { transport: Transport::Udp(2000, 1000), ..udp(3, 1) };
    assert_eq!(bench.hear(&answer), Outcome::Drop(DropReason::GroupIngress));
    assert_eq!(plain(bench.send(A, &udp(1, 3))), TO_3);
    assert_eq!(bench.hear(&answer), Outcome::Port(A));
    bench.policy.set_egress(A, false);
    assert_eq!(bench.hear(&answer), Outcome::Drop(DropReason::GroupEgress), "revoked, both ways");
    assert_eq!(bench.send(A, &udp(1, 3)), Outcome::Drop(DropReason::GroupEgress));
    bench.policy.set_egress(A, true);
    assert_eq!(bench.hear(&answer), Outcome::Port(A));
}

#[test]
fn a_revoked_connection_does_not_come_back_the_other_way_round() {
    let mut bench = Bench::new();
    let (to, from) = ((40000, 22), (22, 40000));
    assert_eq!(bench.hear(&tcp_packet(3, 1, to, tcp::SYN)), Outcome::Port(A));
    assert_eq!(plain(bench.send(A, &tcp_packet(1, 3, from, tcp::SYN | tcp::ACK))), TO_3);
    assert_eq!(bench.hear(&tcp_packet(3, 1, to, tcp::ACK)), Outcome::Port(A));
    bench.policy.set_ingress(A, false);
    for _ in 0..3 {
        bench.now.0 += 3600 * SECOND;
        bench.engine.sweep(u32::MAX, bench.now);
        assert_eq!(bench.send(A, &tcp_packet(1, 3, from, tcp::ACK)), Outcome::Drop(DropReason::GroupIngress));
    }
}

#[test]
fn open_connections_outlive_the_table() {
    let mut bench = Bench::new();
    bench.policy.set_ingress(A, false);
    let ack = |from, to, ports| tcp_packet(from, to, ports, tcp::ACK);
    assert_eq!(bench.hear(&ack(3, 1, (22, 4000))), Outcome::Drop(DropReason::GroupIngress));
    assert_eq!(plain(bench.send(A, &ack(1, 3, (4000, 22)))), TO_3, "picked up");
    assert_eq!(bench.hear(&ack(3, 1, (22, 4000))), Outcome::Port(A));
    for flags in [tcp::RST, tcp::SYN | tcp::ACK] {
        let stray = tcp_packet(1, 3, (4001, 22), flags);
        assert_eq!(bench.send(A, &stray), Outcome::Drop(DropReason::NoConnection));
    }
}

#[test]
fn a_reset_and_a_new_connection_on_the_same_ports() {
    let mut bench = Bench::new();
    let (to, from) = ((40000, 22), (22, 40000));
    assert_eq!(plain(bench.send(A, &tcp_packet(1, 3, to, tcp::SYN))), TO_3);
    assert_eq!(bench.hear(&tcp_packet(3, 1, from, tcp::RST | tcp::ACK)), Outcome::Port(A));
    assert_eq!(bench.engine.connections().len(), 1);
    bench.policy.set_ingress(A, false);
    assert_eq!(bench.hear(&tcp_packet(3, 1, from, tcp::SYN)), Outcome::Drop(DropReason::GroupIngress));
    assert_eq!(plain(bench.send(A, &tcp_packet(1, 3, to, tcp::SYN))), TO_3);
}

#[test]
fn pings() {
    let mut bench = Bench::new();
    bench.policy.set_ingress(A, false);
    assert_eq!(bench.hear(&ping(3, 1, 0)), Outcome::Drop(DropReason::NoConnection));
    assert_eq!(plain(bench.send(A, &ping(1, 3, 8))), TO_3);
    assert_eq!(bench.hear(&ping(3, 1, 0)), Outcome::Port(A));
    assert_eq!(bench.hear(&ping(3, 1, 8)), Outcome::Drop(DropReason::GroupIngress), "the same identifier");
}

#[test]
fn what_is_spoofed() {
    let mut bench = Bench::new();
    let lie = Build { ethernet: (mac(2), mac(0xfe)), ..udp(1, 3) };
    assert_eq!(bench.send(A, &lie), Outcome::Drop(DropReason::SpoofedMac));
    assert_eq!(
        bench.send(A, &Build { source: ip(2), ..udp(1, 3) }),
        Outcome::Drop(DropReason::SpoofedAddress)
    );
    assert_eq!(bench.dropped(A, DropReason::SpoofedMac), 1);
    // A reset in another's name reaches no connection.
    assert_eq!(plain(bench.send(A, &tcp_packet(1, 3, (1, 2), tcp::SYN))), TO_3);
    let mut reset = tcp_packet(1, 3, (1, 2), tcp::RST);
    reset.ethernet.0 = mac(2);
    assert_eq!(bench.send(B, &reset), Outcome::Drop(DropReason::NoConnection));
}

#[test]
fn from_the_underlay() {
    let mut bench = Bench::new();
    let bytes = udp(3, 1).bytes();
    let mut heard = |from, vni, mapping| {
        let origin = Origin::Underlay { from, vni, knowledge: Knowledge { mapping, policy: 0 } };
        bench.run(origin, &bytes, Offload::NONE).outcome
    };
    assert_eq!(heard(host(3), Vni(1), 9), Outcome::Drop(DropReason::UnknownVni));
    assert_eq!(heard(host(4), VNI, 9), Outcome::Drop(DropReason::WrongHost));
    assert_eq!(heard(host(3), VNI, 9), Outcome::Port(A));
    assert_eq!(heard(host(4), VNI, 9), Outcome::Drop(DropReason::WrongHost), "although the flow is known");
    assert_eq!(heard(host(3), VNI, 8), Outcome::Drop(DropReason::WrongHost), "it knows an old mapping");
    assert_eq!(heard(host(3), VNI, 9), Outcome::Port(A));
    assert_eq!(bench.engine.switch_counters().dropped(DropReason::WrongHost), 2);
}

#[test]
fn for_the_network_itself() {
    let mut bench = Bench::new();
    bench.policy.set_egress(A, false);
    let arp = crate::packet::arp::Arp {
        reply: false,
        sender: (mac(1), Ipv4Addr::new(10, 0, 0, 1)),
        target: (Mac::default(), Ipv4Addr::new(10, 0, 0, 2)),
    };
    let bytes = arp.build(Mac([0xff; 6]));
    assert_eq!(bench.run(Origin::Port(A), &bytes, Offload::NONE).outcome, Outcome::Local(A));
    assert_eq!(bench.run(underlay(), &bytes, Offload::NONE).outcome, Outcome::Drop(DropReason::Unsupported));
    let dhcp = Build {
        source: Ipv4Addr::UNSPECIFIED.into(),
        destination: Ipv4Addr::BROADCAST.into(),
        transport: Transport::Udp(68, 67),
        ..udp(1, 3)
    };
    assert_eq!(bench.send(A, &dhcp), Outcome::Local(A));
    let metadata = Build { destination: [169, 254, 169, 254].into(), ..tcp_packet(1, 3, (9, 80), tcp::SYN) };
    assert_eq!(bench.send(A, &metadata), Outcome::Local(A));
    let solicitation = Build { source: ip6(1), destination: ip6(2), ..ping(1, 2, 135) };
    assert_eq!(bench.send(A, &solicitation), Outcome::Local(A));
    assert_eq!(bench.send(A, &udp(1, 3)), Outcome::Drop(DropReason::GroupEgress));
}

#[test]
fn a_change_of_ports() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(A, &udp(1, 2)), Outcome::Port(B));
    bench.engine.port_remove(B);
    assert_eq!(bench.send(A, &udp(1, 2)), Outcome::Drop(DropReason::NoMapping));
    assert_eq!(bench.engine.sweep(64, bench.now), 1);
    bench.engine.port_set(B, port_config(2));
    assert_eq!(bench.send(A, &udp(1, 2)), Outcome::Port(B));
    assert_eq!(bench.send(PortIndex(9), &udp(1, 2)), Outcome::Drop(DropReason::NoMapping));
    assert!(!bench.engine.port_set(PortIndex(port::PORTS_MAX), port_config(3)));
}

#[test]
fn a_full_table_refuses_what_is_new() {
    let mut bench = Bench::with(Bounds { total: 8, per_port: 4, timeouts: Timeouts::default() });
    let with = |number| Build { transport: Transport::Udp(number, 9), ..udp(1, 3) };
    for number in 0..4 {
        assert_eq!(plain(bench.send(A, &with(number))), TO_3);
    }
    assert_eq!(bench.send(A, &with(4)), Outcome::Drop(DropReason::ConnectionsFull));
    assert_eq!(bench.dropped(A, DropReason::ConnectionsFull), 1);
    for number in 0..4 {
        assert_eq!(plain(bench.send(A, &with(number))), TO_3);
    }
    let other = Build { transport: Transport::Udp(1, 9), ..udp(2, 3) };
    assert_eq!(plain(bench.send(B, &other)), TO_3, "another port has its own share");
    bench.now.0 += 31 * SECOND;
    bench.engine.sweep(8, bench.now);
    assert_eq!(plain(bench.send(A, &with(4))), TO_3);
}

#[test]
fn flows_that_give_way_come_back() {
    let mut bench = Bench::with(Bounds { total: 4096, per_port: 4096, timeouts: Timeouts::default() });
    for turn in 0..3 {
        for number in 0..1000 {
            let build = Build { transport: Transport::Udp(number, 9), ..udp(1, 3) };
            assert_eq!(plain(bench.send(A, &build)), TO_3, "{turn} {number}");
        }
    }
    assert_eq!(bench.engine.connections().len(), 1000);
    assert!(bench.engine.flows().seen().count() <= 128 + 7);
}

#[test]
fn limits() {
    let mut bench = Bench::new();
    let limited =
        PortConfig { send: Limit { bits_per_second: 0, packets_per_second: 100 }, ..port_config(1) };
    bench.engine.port_set(A, limited);
    let passed = (0..100).filter(|_| plain(bench.send(A, &udp(1, 3))) == TO_3).count();
    assert_eq!(passed, 11, "a tenth of a second's worth, and the one that was due");
    assert_eq!(bench.dropped(A, DropReason::RateLimit), 89);
    let limited =
        PortConfig { receive: Limit { bits_per_second: 8_000, packets_per_second: 0 }, ..port_config(2) };
    bench.engine.port_set(B, limited);
    let from_3 = |bench: &mut Bench| bench.hear(&udp(3, 2));
    assert_eq!(from_3(&mut bench), Outcome::Port(B));
    assert_eq!(from_3(&mut bench), Outcome::Drop(DropReason::RateLimit), "142 bytes of 1,000 a second");
    assert_eq!(bench.dropped(B, DropReason::RateLimit), 1);
    bench.now.0 += SECOND;
    assert_eq!(from_3(&mut bench), Outcome::Port(B));
}

#[test]
fn fragments_follow_their_first() {
    let mut bench = Bench::new();
    let fragment = |from, to, id, offset, more| Build {
        fragment: Some(Fragment { id, offset, more }),
        dont_fragment: false,
        payload: vec![1; 96],
        ..udp(from, to)
    };
    assert_eq!(bench.send(A, &fragment(1, 3, 5, 104, false)), Outcome::Drop(DropReason::Fragment));
    assert_eq!(plain(bench.send(A, &fragment(1, 3, 5, 0, true))), TO_3);
    assert_eq!(plain(bench.send(A, &fragment(1, 3, 5, 104, false))), TO_3);
    assert_eq!(bench.send(A, &fragment(1, 3, 6, 104, false)), Outcome::Drop(DropReason::Fragment));
    assert_eq!(bench.hear(&fragment(3, 1, 5, 104, false)), Outcome::Drop(DropReason::Fragment));
    assert_eq!(bench.hear(&fragment(3, 1, 5, 0, true)), Outcome::Port(A));
    assert_eq!(bench.hear(&fragment(3, 1, 5, 104, true)), Outcome::Port(A));
    bench.policy.set_ingress(A, false);
    bench.policy.set_egress(A, false);
    assert_eq!(bench.hear(&fragment(3, 1, 5, 200, true)), Outcome::Drop(DropReason::GroupIngress));
    bench.now.0 += 30 * SECOND;
    assert_eq!(bench.hear(&fragment(3, 1, 5, 304, false)), Outcome::Drop(DropReason::Fragment));
    for id in 0..100 {
        bench.send(A, &fragment(1, 3, id, 0, true));
    }
    assert_eq!(
        bench.send(A, &fragment(1, 3, 10, 104, false)),
        Outcome::Drop(DropReason::Fragment),
        "forgotten"
    );
    assert_eq!(bench.send(A, &fragment(1, 3, 99, 104, false)), Outcome::Drop(DropReason::GroupEgress));
}

#[test]
fn errors_go_with_their_connection() {
    let mut bench = Bench::new();
    bench.policy.set_ingress(A, false);
    let sent = udp(1, 3);
    let quote = |build: &Build| build.bytes()[14..14 + 28].to_vec();
    let unreachable = |from, to, about: &Build| Build {
        transport: Transport::Icmp(3, 3, [0; 4]),
        payload: quote(about),
        ..udp(from, to)
    };
    let error = unreachable(3, 1, &sent);
    assert_eq!(bench.hear(&error), Outcome::Drop(DropReason::GroupIngress), "about nothing");
    assert_eq!(plain(bench.send(A, &sent)), TO_3);
    assert_eq!(bench.hear(&error), Outcome::Port(A));
    let from_router = Build { source: ip(77), ..error.clone() };
    assert_eq!(bench.hear(&from_router), Outcome::Port(A), "of somebody on the way");
    let about_another = unreachable(3, 1, &Build { transport: Transport::Udp(1001, 2000), ..udp(1, 3) });
    assert_eq!(bench.hear(&about_another), Outcome::Drop(DropReason::GroupIngress));
    let to_another = unreachable(3, 2, &sent);
    bench.policy.set_ingress(B, false);
    assert_eq!(bench.hear(&to_another), Outcome::Drop(DropReason::GroupIngress));
    // And outwards: a port that may begin nothing can say that nobody listens.
    bench.policy.set_ingress(B, true);
    bench.policy.set_egress(B, false);
    assert_eq!(bench.hear(&udp(3, 2)), Outcome::Port(B));
    assert_eq!(plain(bench.send(B, &unreachable(2, 3, &udp(3, 2)))), TO_3);
    let lie = Build { source: ip(1), ..unreachable(2, 3, &udp(3, 2)) };
    assert_eq!(bench.send(B, &lie), Outcome::Drop(DropReason::SpoofedAddress));
}

#[test]
fn too_large_for_the_overlay_and_the_sender_is_told() {
    let mut bench = Bench::new();
    let mtu = bench.engine.config.overlay_mtu(false);
    assert_eq!(mtu, 1438);
    let with = |length: u16, source, destination, header: u16| Build {
        payload: vec![7; usize::from(length - header - 8)],
        source,
        destination,
        ..udp(1, 3)
    };
    for (source, destination, header) in [(ip(1), ip(3), 20), (ip6(1), ip6(3), 40)] {
        for _ in 0..2 {
            let fits = with(mtu, source, destination, header);
            assert_eq!(plain(bench.send(A, &fits)), TO_3);
            let bytes = with(mtu + 1, source, destination, header).bytes();
            let packet = bench.run(Origin::Port(A), &bytes, Offload::NONE);
            assert_eq!(packet.outcome, Outcome::Drop(DropReason::TooBig));
            let [Made { of: 0, packet: told }] = &bench.made[..] else { panic!("{:?}", bench.made) };
            assert_eq!(told.outcome, Outcome::Port(A));
            let told = out(told, &bytes);
            let headers = parse(&told, told.len() as u32).unwrap();
            assert_eq!((headers.kind, headers.flow().destination), (Kind::IcmpError, source));
            assert_eq!(headers.ethernet, (mac(0xfe), mac(1)));
            assert_eq!(told[usize::from(headers.l4) + 6..][..2], mtu.to_be_bytes());
            assert_eq!(quoted(&told, &headers).unwrap().destination_port, 2000);
        }
    }
    assert_eq!(bench.dropped(A, DropReason::TooBig), 4);
    assert_eq!(
        bench.send(A, &Build { destination: ip(2), ..with(1438, ip(1), ip(2), 20) }),
        Outcome::Port(B)
    );
}

/// Fragments are put together again, by offset.
fn reassembled(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = BTreeMap::new();
    let mut end = None;
    for packet in packets {
        let headers = parse(packet, packet.len() as u32).unwrap();
        let fragment = headers.fragment.unwrap();
        assert!(Sum::of(&packet[14..usize::from(headers.l4)]).is_intact());
        let part = packet[usize::from(headers.l4)..].to_vec();
        end = if fragment.more { end } else { Some(usize::from(fragment.offset) + part.len()) };
        parts.insert(fragment.offset, part);
    }
    let mut whole = Vec::new();
    for (offset, part) in parts {
        assert_eq!(usize::from(offset), whole.len());
        whole.extend(part);
    }
    assert_eq!(end, Some(whole.len()));
    whole
}

#[test]
fn too_large_and_cut_where_the_sender_allows_it() {
    let mut bench = Bench::new();
    let payload = (0..4000u32).map(|number| number as u8).collect::<Vec<_>>();
    // A route record, which only the first has, and a security label, which all have.
    let options = vec![7, 7, 4, 1, 2, 3, 4, 130, 5, 9, 9, 9];
    let build = Build { dont_fragment: false, id: 77, payload, options, ..udp(1, 3) };
    let bytes = build.bytes();
    let headers = parse(&bytes, bytes.len() as u32).unwrap();
    let packet = bench.run(Origin::Port(A), &bytes, Offload::NONE);
    assert_eq!(packet.outcome, Outcome::Replaced);
    let sent = bench.made.iter().map(|made| {
        assert_eq!(plain(made.packet.outcome), TO_3);
        let bytes = out(&made.packet, &bytes);
        assert!(bytes.len() - geneve::LENGTH - 14 <= 1438);
        bytes[usize::from(made.packet.inner)..].to_vec()
    });
    let sent = sent.collect::<Vec<_>>();
    assert_eq!(sent.len(), 3);
    assert_eq!(reassembled(&sent), bytes[usize::from(headers.l4)..]);
    assert_eq!((sent[0][14] & 15, sent[1][14] & 15), (8, 7));
    // What it carried was a fragment itself.
    let fragment = Some(Fragment { id: 5, offset: 0, more: true });
    let first = Build { fragment, payload: vec![3; 1992], ..build.clone() }.bytes();
    let packet = bench.run(Origin::Port(A), &first, Offload::NONE);
    assert_eq!((packet.outcome, bench.made.len()), (Outcome::Replaced, 2));
    for made in &bench.made {
        let bytes = out(&made.packet, &first);
        let inner = &bytes[usize::from(made.packet.inner)..];
        assert!(parse(inner, inner.len() as u32).unwrap().fragment.unwrap().more);
    }
    // A checksum that was still to be made is left out.
    let partial = build.bytes_partial();
    let offload = Offload { needs_csum: true, csum_start: headers.l4, csum_offset: 6, ..Offload::NONE };
    let packet = bench.run(Origin::Port(A), &partial, offload);
    assert_eq!(packet.outcome, Outcome::Replaced);
    let first = out(&bench.made[0].packet, &partial);
    let at = usize::from(bench.made[0].packet.inner) + usize::from(headers.l4);
    assert_eq!(first[at + 6..at + 8], [0, 0]);
    assert!(!bench.made[0].packet.offload.needs_csum);
}

#[test]
fn large_packets_pass_by_the_size_of_their_pieces() {
    let mut bench = Bench::new();
    let mut build = tcp_packet(1, 3, (1, 2), tcp::ACK);
    build.payload = vec![7; 20_000];
    let bytes = build.bytes_partial();
    let offload = |gso_size| Offload {
        needs_csum: true,
        gso: Gso::Tcp4,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
        ..Offload::NONE
    };
    let packet = bench.run(Origin::Port(A), &bytes, offload(1398));
    assert_eq!(plain(packet.outcome), TO_3);
    assert_eq!(packet.offload.csum_start, 34 + geneve::LENGTH as u16);
    assert_eq!(out(&packet, &bytes).len(), bytes.len() + geneve::LENGTH);
    let counters = bench.engine.counters(A).unwrap();
    assert_eq!(counters.sent.packets, 15);
    assert_eq!(counters.sent.bytes, 20_000 + 15 * 54);
    let packet = bench.run(Origin::Port(A), &bytes, offload(1399));
    assert_eq!(packet.outcome, Outcome::Drop(DropReason::TooBig));
    assert_eq!(bench.made.len(), 1);
    let lies = [
        Offload { gso: Gso::Tcp6, ..offload(1000) },
        Offload { gso: Gso::Udp, ..offload(1000) },
        Offload { csum_start: 20, ..offload(1000) },
        Offload { needs_csum: false, ..offload(1000) },
        Offload { csum_start: 4000, gso: Gso::None, ..offload(1000) },
    ];
    for lie in lies {
        let packet = bench.run(Origin::Port(A), &bytes, lie);
        assert_eq!(packet.outcome, Outcome::Drop(DropReason::Malformed), "{lie:?}");
    }
}

#[test]
fn a_batch_is_what_its_packets_are_one_by_one() {
    let builds = (0..100u16).map(|number| match number % 5 {
        0 => udp(1, 2),
        1 => Build { transport: Transport::Udp(number % 7, 9), ..udp(1, 3) },
        2 => tcp_packet(1, 3, (number % 11, 80), tcp::SYN),
        3 => Build { ethernet: (mac(9), mac(1)), ..udp(1, 2) },
        _ => Build { payload: vec![0; 1500], ..udp(1, 3) },
    });
    let bytes = builds.map(|build| build.bytes()).collect::<Vec<_>>();
    let (mut one, mut all) = (Bench::new(), Bench::new());
    let packet =
        |bytes: &Vec<u8>| Packet::new(Head::of(bytes), bytes.len() as u32, Offload::NONE, Origin::Port(A));
    let mut batch = bytes.iter().map(packet).collect::<Vec<_>>();
    all.engine.process_batch(&all.policy, all.now, &mut batch, &mut all.made);
    let mut made = 0;
    for (number, (bytes, batched)) in bytes.iter().zip(&batch).enumerate() {
        let single = one.run(Origin::Port(A), bytes, Offload::NONE);
        assert_eq!((single.outcome, &single.head), (batched.outcome, &batched.head));
        made += one.made.len();
        assert!(all.made.iter().filter(|made| made.of == number).count() == one.made.len());
    }
    assert_eq!(made, all.made.len());
    assert_eq!(one.engine.snapshot(), all.engine.snapshot());
}

#[test]
fn to_itself() {
    let mut bench = Bench::new();
    let mut build = udp(1, 1);
    build.transport = Transport::Udp(5, 5);
    assert_eq!(bench.send(A, &build), Outcome::Port(A));
    assert_eq!(bench.send(A, &build), Outcome::Port(A));
    assert_eq!(bench.engine.connections().len(), 1);
}

#[test]
fn a_new_process_goes_on_with_the_file_and_a_group_still_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connections");
    let bounds = Bounds { total: 64, per_port: 64, timeouts: Timeouts::default() };
    let start = |seed| {
        let key = HashKey::new(&mut Random::from_seed(seed));
        let (connections, adopted) = Connections::open(&path, bounds, key.clone(), 1, 1).unwrap();
        let mut bench = Bench::new();
        bench.engine = Engine::new(Config::default(), connections, key);
        // Ports have other indices after a restart; what they are is the same.
        bench.engine.port_set(A, port_config(1));
        bench.policy.set_ingress(A, false);
        (bench, adopted)
    };
    let (mut bench, _) = start(1);
    assert_eq!(plain(bench.send(A, &udp(1, 3))), TO_3);
    drop(bench);
    let (mut bench, adopted) = start(2);
    assert_eq!(adopted, connection::Adopted::Kept { connections: 1, damaged: 0 });
    let answer = Build { transport: Transport::Udp(2000, 1000), ..udp(3, 1) };
    assert_eq!(bench.hear(&answer), Outcome::Port(A));
    assert_eq!(bench.hear(&udp(3, 1)), Outcome::Drop(DropReason::GroupIngress));
}
