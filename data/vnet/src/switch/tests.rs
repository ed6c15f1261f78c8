//! Whole switches in threads, joined by a real underlay on the loopback, with guests played by front ends.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::packet::Mac;
use crate::packet::build::{Build, Transport};
use crate::packet::offload::Gso;
use crate::packet::parse::{parse, tcp};
use crate::virtio::front::{Front, FrontOptions};
use contract::{
    GroupRule, Mapping, NetworkAcl, Prefix, RouteTable, SecurityGroup, Subnet, Traffic, UnderlayHost,
    VpcDocument, group_rule,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;
use tempfile::TempDir;

const VPC: &str = "vpc-0000000000000000a";
const SUBNET: &str = "subnet-0000000000000000a";
const PATIENCE: Duration = Duration::from_secs(10);

/// A guest of a test: where it is, and what it is called.
#[derive(Clone, Copy)]
struct Guest {
    number: u8,
    host: usize,
}

impl Guest {
    fn interface(self) -> String {
        format!("eni-{:017x}", self.number)
    }

    fn mac(self) -> Mac {
        Mac([2, 0, 0, 0, 0, self.number])
    }

    fn address(self) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, 10 + self.number).into()
    }

    fn octets(self) -> Vec<u8> {
        vec![10, 0, 0, 10 + self.number]
    }
}

const A: Guest = Guest { number: 1, host: 0 };
const B: Guest = Guest { number: 2, host: 0 };
const C: Guest = Guest { number: 3, host: 1 };

/// A running switch.
struct Running {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    reports: mpsc::Receiver<Report>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn tell(&self, command: Command) {
        self.commands.send(command).unwrap();
        self.waker.wake();
    }

    /// Ends at once, without a word to anybody.
    fn stop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct World {
    directory: TempDir,
    underlays: Vec<SocketAddr>,
    switches: Vec<Running>,
    generation: u64,
}

fn options(directory: &Path, host: usize, underlay: SocketAddr) -> SwitchOptions {
    let sockets = directory.join(format!("sockets{host}"));
    std::fs::create_dir_all(&sockets).unwrap();
    SwitchOptions {
        underlay,
        underlay_mtu: 1500,
        region: "us-east-1".into(),
        sockets,
        connections: directory.join(format!("connections{host}")),
        bounds: Bounds { total: 1 << 12, per_port: 1 << 10, ..Bounds::default() },
        token_secret: [7; 32],
        resolvers: Vec::new(),
        boot: 1,
    }
}

fn start(options: SwitchOptions) -> Running {
    let (commands, queue) = mpsc::channel();
    let (reports_in, reports) = mpsc::channel();
    let mut random = Random::from_os();
    let (switch, waker) = Switch::open(options, queue, reports_in, &mut random).unwrap();
    let thread = std::thread::spawn(move || switch.run());
    Running { commands, waker, reports, thread: Some(thread) }
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        // Addresses of this test's own in 127.0.0.0/8, so that Geneve's port is free.
        let mut random = Random::from_os();
        let net = [127, 64 + random.below(128) as u8, random.below(256) as u8];
        let underlays: Vec<SocketAddr> =
            (1..3).map(|host| (Ipv4Addr::new(net[0], net[1], net[2], host), 6081).into()).collect();
        let switches =
            underlays.iter().enumerate().map(|(host, at)| start(options(directory.path(), host, *at)));
        let switches = switches.collect();
        let mut world = World { directory, underlays, switches, generation: 1 };
        for host in 0..2 {
            world.documents(host, &[Traffic { protocol: 256, first: 0, last: 65536 }]);
        }
        world
    }

    fn vpc(&self, ingress: &[Traffic]) -> VpcDocument {
        let all = Prefix { address: vec![0; 4], length: 0 };
        let any = Traffic { protocol: 256, first: 0, last: 65536 };
        let rule = |traffic: &Traffic| GroupRule {
            rule_id: "sgr-0000000000000000a".into(),
            traffic: Some(*traffic),
            peer: Some(group_rule::Peer::Prefix(all.clone())),
        };
        let group = SecurityGroup {
            number: 1,
            group_id: "sg-0000000000000000a".into(),
            ingress: ingress.iter().map(rule).collect(),
            egress: vec![rule(&any)],
        };
        let entry = contract::AclEntry { number: 100, allow: true, prefix: Some(all), traffic: Some(any) };
        let acl = NetworkAcl {
            acl_id: "acl-0000000000000000a".into(),
            ingress: vec![entry.clone()],
            egress: vec![entry],
        };
        let cidr = Prefix { address: vec![10, 0, 0, 0], length: 16 };
        let subnet = Subnet {
            subnet_id: SUBNET.into(),
            cidr: Some(Prefix { address: vec![10, 0, 0, 0], length: 24 }),
            route_table_id: "rtb-0000000000000000a".into(),
            acl_id: acl.acl_id.clone(),
            zone: "us-east-1a".into(),
            ..Subnet::default()
        };
        let host = |(at, underlay): (usize, &SocketAddr)| UnderlayHost {
            number: at as u64,
            address: if let IpAddr::V4(address) = underlay.ip() { address.octets().to_vec() } else { vec![] },
            port: 6081,
        };
        let mapping = |guest: Guest| Mapping {
            address: guest.octets(),
            mac: guest.mac().0.to_vec(),
            host: guest.host as u64,
            groups: vec![1],
            version: 1,
        };
        VpcDocument {
            vpc_id: VPC.into(),
            generation: Some(contract::Generation { incarnation: 1, revision: self.generation }),
            vni: 77,
            cidrs: vec![cidr],
            subnets: vec![subnet],
            route_tables: vec![RouteTable { route_table_id: "rtb-0000000000000000a".into(), routes: vec![] }],
            acls: vec![acl],
            groups: vec![group],
            mappings: [A, B, C].map(mapping).to_vec(),
            hosts: self.underlays.iter().enumerate().map(host).collect(),
            dns_support: true,
            dns_hostnames: true,
            ..VpcDocument::default()
        }
    }

    fn documents(&mut self, host: usize, ingress: &[Traffic]) {
        self.switches[host].tell(Command::Act(Act::Vpc(Box::new(self.vpc(ingress)))));
        for guest in [A, B, C].into_iter().filter(|guest| guest.host == host) {
            let port = PortAssignment {
                interface_id: guest.interface(),
                vpc_id: VPC.into(),
                subnet_id: SUBNET.into(),
                mac: guest.mac().0.to_vec(),
                addresses: vec![guest.octets()],
                group_ids: vec!["sg-0000000000000000a".into()],
                check_source: true,
                instance_id: format!("i-{:017x}", guest.number),
                metadata: Some(contract::InstanceMetadata {
                    endpoint_enabled: true,
                    hop_limit: 1,
                    ..contract::InstanceMetadata::default()
                }),
                ..PortAssignment::default()
            };
            self.switches[host].tell(Command::Act(Act::Port(Box::new(port))));
            let interface = guest.interface().parse().unwrap();
            let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            self.switches[host].tell(Command::Attach(Attachment { interface, owner, pairs: 1 }));
        }
    }

    /// The groups' ingress rules are these from now on: a change of the document, as a cell would send it.
    fn rules(&mut self, ingress: &[Traffic]) {
        let base = self.generation;
        self.generation += 1;
        let whole = self.vpc(ingress);
        let change = VpcDocument {
            vpc_id: VPC.into(),
            generation: whole.generation,
            base: Some(contract::Generation { incarnation: 1, revision: base }),
            vni: 77,
            groups: whole.groups,
            ..VpcDocument::default()
        };
        for switch in &self.switches {
            switch.tell(Command::Act(Act::Vpc(Box::new(change.clone()))));
            // A question comes back after what was said before it.
            let (answer, asked) = mpsc::channel();
            switch.tell(Command::Ask(Box::new(move |_| answer.send(()).unwrap())));
            asked.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn socket(&self, guest: Guest) -> PathBuf {
        self.directory.path().join(format!("sockets{}", guest.host)).join(guest.interface())
    }

    fn connect(&self, guest: Guest, options: FrontOptions) -> Played {
        let path = self.socket(guest);
        until("the socket is there", || path.exists().then_some(()));
        let front = Front::connect(&path, options).unwrap();
        let interface = guest.interface().parse().unwrap();
        let reports = &self.switches[guest.host].reports;
        until("the guest is connected", || {
            (reports.try_recv() == Ok(Report::Connected(interface, true))).then_some(())
        });
        Played { guest, front }
    }

    fn restart(&mut self, host: usize, ingress: &[Traffic]) {
        self.switches[host].stop();
        self.switches[host] = start(options(self.directory.path(), host, self.underlays[host]));
        self.documents(host, ingress);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.switches.iter_mut().filter(|switch| switch.thread.is_some()).for_each(Running::stop);
    }
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// A guest, played.
struct Played {
    guest: Guest,
    front: Front,
}

impl Played {
    fn send(&mut self, offload: Offload, frame: &[u8]) {
        assert!(self.front.transmit(0, &offload.encode(), frame, 1, false));
        self.front.kick(0);
        until("the switch has taken it", || (self.front.reclaim(0) > 0).then_some(()));
    }

    /// The next frame that comes.
    fn receive(&mut self) -> (Offload, Vec<u8>) {
        let mut frame = Vec::new();
        let header = until("a frame comes", || self.front.receive(0, &mut frame));
        (Offload::decode(&header).unwrap(), frame)
    }

    /// Nothing comes: what was sent before is certainly dropped once what is sent after it has come.
    fn silent(&mut self) {
        let mut frame = Vec::new();
        assert!(self.front.receive(0, &mut frame).is_none(), "{}", frame.escape_ascii());
    }

    fn packet(&self, to: Guest, transport: Transport, payload: &[u8]) -> Build {
        Build {
            ethernet: (self.guest.mac(), to.mac()),
            source: self.guest.address(),
            destination: to.address(),
            transport,
            payload: payload.to_vec(),
            ..Build::default()
        }
    }

    fn udp(&mut self, to: Guest, ports: (u16, u16), payload: &[u8]) {
        let frame = self.packet(to, Transport::Udp(ports.0, ports.1), payload).bytes();
        self.send(Offload::NONE, &frame);
    }

    fn expect_udp(&mut self, payload: &[u8]) {
        let (_, frame) = self.receive();
        assert_eq!(&frame[frame.len() - payload.len()..], payload, "{}", frame.escape_ascii());
    }
}

fn udp_only(port: u32) -> Traffic {
    Traffic { protocol: 17, first: port, last: port }
}

#[test]
fn packets_pass_between_guests_of_one_host_and_of_two() {
    let world = World::new();
    let [mut a, mut b, mut c] = [A, B, C].map(|guest| world.connect(guest, FrontOptions::default()));
    a.udp(B, (1000, 2000), b"next door");
    b.expect_udp(b"next door");
    a.udp(C, (1000, 2000), b"across the underlay");
    let (_, frame) = c.receive();
    let headers = parse(&frame, frame.len() as u32).unwrap();
    assert_eq!(headers.ethernet, (A.mac(), C.mac()));
    assert_eq!((headers.flow().source, headers.flow().destination), (A.address(), C.address()));
    c.udp(A, (2000, 1000), b"and back");
    a.expect_udp(b"and back");
}

#[test]
fn who_has_an_address_is_told() {
    let world = World::new();
    let mut a = world.connect(A, FrontOptions::default());
    for (asked, mac) in [(C.octets(), C.mac().0.to_vec()), (vec![10, 0, 0, 1], Vec::new())] {
        let mut frame = vec![0xff; 6];
        frame.extend(A.mac().0);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(A.mac().0);
        frame.extend(A.octets());
        frame.extend([0; 6]);
        frame.extend(&asked);
        a.send(Offload::NONE, &frame);
        let (_, answer) = a.receive();
        assert_eq!(&answer[20..22], [0, 2], "an answer");
        assert_eq!(answer[28..32], asked);
        if !mac.is_empty() {
            assert_eq!(answer[22..28], mac);
        }
    }
}

#[test]
fn groups_decide_and_a_change_ends_what_runs() {
    let mut world = World::new();
    world.rules(&[udp_only(53), udp_only(99)]);
    let [mut a, mut b, mut c] = [A, B, C].map(|guest| world.connect(guest, FrontOptions::default()));
    for to in [B, C] {
        a.udp(to, (1000, 54), b"forbidden");
        a.udp(to, (1000, 53), b"allowed");
    }
    b.expect_udp(b"allowed");
    c.expect_udp(b"allowed");
    // An answer needs no rule.
    c.udp(A, (53, 1000), b"answer");
    a.expect_udp(b"answer");
    world.rules(&[udp_only(99)]);
    for to in [B, C] {
        a.udp(to, (1000, 53), b"no longer");
        a.udp(to, (1001, 99), b"but this");
    }
    b.expect_udp(b"but this");
    c.expect_udp(b"but this");
    b.silent();
    c.silent();
}

#[test]
fn who_pretends_is_not_heard() {
    let world = World::new();
    let [mut a, mut b] = [A, B].map(|guest| world.connect(guest, FrontOptions::default()));
    let good = a.packet(B, Transport::Udp(1, 2), b"spoofed");
    let other_mac = Build { ethernet: (C.mac(), B.mac()), ..good.clone() };
    let other_address = Build { source: C.address(), ..good.clone() };
    for bad in [other_mac, other_address] {
        a.send(Offload::NONE, &bad.bytes());
    }
    a.send(Offload::NONE, &[0xff; 13]);
    a.udp(B, (1, 2), b"myself");
    b.expect_udp(b"myself");
    b.silent();
}

/// A TCP packet of 20,000 bytes, to be cut into pieces of 1,300, its checksum still to be filled in.
fn large(from: &Played, to: Guest, payload: &[u8]) -> (Offload, Vec<u8>) {
    let transport = Transport::Tcp {
        ports: (4000, 5000),
        sequence: 1,
        acknowledgement: 1,
        flags: tcp::ACK,
        window: 1000,
        options: vec![],
    };
    let offload = Offload {
        needs_csum: true,
        gso: Gso::Tcp4,
        hdr_len: 54,
        gso_size: 1300,
        csum_start: 34,
        csum_offset: 16,
        ..Offload::NONE
    };
    (offload, from.packet(to, transport, payload).bytes_partial())
}

#[test]
fn large_packets_pass_whole_next_door_and_in_pieces_elsewhere() {
    let world = World::new();
    let options = FrontOptions { slot: 32 << 10, ..FrontOptions::default() };
    let [mut a, mut b, mut c] = [A, B, C].map(|guest| world.connect(guest, options));
    let payload: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    let (offload, frame) = large(&a, B, &payload);
    a.send(offload, &frame);
    let (whole, frame) = b.receive();
    assert_eq!((whole.gso, whole.needs_csum), (Gso::Tcp4, true));
    assert_eq!(&frame[54..], payload);
    let (offload, frame) = large(&a, C, &payload);
    a.send(offload, &frame);
    let mut got: Vec<u8> = Vec::new();
    let mut frames = 0;
    while got.len() < payload.len() {
        let (offload, frame) = c.receive();
        if !offload.needs_csum {
            let headers = parse(&frame, frame.len() as u32).unwrap();
            let flow = headers.flow();
            let pseudo = crate::packet::checksum::Sum::pseudo(
                flow.source,
                flow.destination,
                6,
                frame.len() as u32 - 34,
            );
            assert!((pseudo + crate::packet::checksum::Sum::of(&frame[34..])).is_intact());
        }
        got.extend(&frame[54..]);
        frames += 1;
    }
    assert_eq!(got, payload);
    assert!(frames < 15, "they are put together again: {frames} frames");
    // A guest that takes nothing large gets pieces.
    let plain = FrontOptions { features: crate::virtio::feature::VERSION_1 | 1 << 30, ..options };
    drop(b);
    let mut b = world.connect(B, plain);
    let (offload, frame) = large(&a, B, &payload);
    a.send(offload, &frame);
    let mut got: Vec<u8> = Vec::new();
    while got.len() < payload.len() {
        let (offload, frame) = b.receive();
        assert_eq!((offload.gso, offload.needs_csum), (Gso::None, false));
        got.extend(&frame[54..]);
    }
    assert_eq!(got, payload);
}

#[test]
fn connections_and_guests_outlive_the_switch() {
    let mut world = World::new();
    world.rules(&[udp_only(53)]);
    let [mut a, mut c] = [A, C].map(|guest| world.connect(guest, FrontOptions::default()));
    a.udp(C, (1000, 53), b"before");
    c.expect_udp(b"before");
    world.restart(0, &[udp_only(53)]);
    let path = world.socket(A);
    until("the guest is back", || a.front.reconnect(&path).ok());
    // Nothing allows this but the connection that began before.
    c.udp(A, (53, 1000), b"after");
    a.expect_udp(b"after");
    a.udp(C, (1000, 53), b"goes on");
    c.expect_udp(b"goes on");
}

#[test]
fn an_address_is_had_by_dhcp() {
    let world = World::new();
    let mut a = world.connect(A, FrontOptions::default());
    let mut message = vec![0_u8; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&A.mac().0);
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, 1, 255]);
    let discover = Build {
        ethernet: (A.mac(), Mac([0xff; 6])),
        source: Ipv4Addr::UNSPECIFIED.into(),
        destination: Ipv4Addr::BROADCAST.into(),
        transport: Transport::Udp(68, 67),
        payload: message,
        ..Build::default()
    };
    a.send(Offload::NONE, &discover.bytes());
    let (_, offer) = a.receive();
    assert_eq!(offer[42 + 16..42 + 20], A.octets(), "the address is the port's");
}
