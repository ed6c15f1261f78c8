//! A guest: its frames, and a TCP client (smoltcp's, the other way round) whose packets can be lost.

use super::super::testing::{GUEST, Names, ROUTER, facts};
use super::*;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};

pub const START_NS: u64 = 1_000_000_000_000;

#[derive(Default)]
pub struct Link {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: VecDeque<Vec<u8>>,
}

pub struct Incoming(Vec<u8>);
pub struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Link {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        self.incoming.pop_front().map(|packet| (Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1500);
        capabilities
    }
}

pub struct Guest {
    pub services: Services,
    pub facts: PortFacts,
    pub names: Names,
    pub port: PortIndex,
    pub now_ns: u64,
    /// Effects other than replies.
    pub effects: Vec<Effect>,
    /// The hop limits of TCP packets that carried data.
    pub hop_limits: Vec<u8>,
    /// How many of the TCP packets are lost, in both directions.
    pub lost_percent: u64,
    random: Random,
    link: Link,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Of the guest's end of its last connection.
    pub last_port: u16,
}

impl Guest {
    pub fn new() -> Guest {
        let mut link = Link::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 4;
        let mut interface = Interface::new(config, &mut link, Instant::from_micros(START_NS as i64 / 1000));
        interface.update_ip_addrs(|own| {
            own.push(IpCidr::new(Ipv4Addr::new(10, 0, 0, 5).into(), 24)).unwrap();
            own.push(IpCidr::new("2600:1f18::5".parse::<Ipv6Addr>().unwrap().into(), 64)).unwrap();
        });
        interface.routes_mut().add_default_ipv4_route(Ipv4Addr::new(10, 0, 0, 1)).unwrap();
        interface.routes_mut().add_default_ipv6_route("fe80::1".parse().unwrap()).unwrap();
        Guest {
            services: Services::new(&[7; 32], Random::from_seed(1)),
            facts: facts(),
            names: Names::default(),
            port: PortIndex(1),
            now_ns: START_NS,
            effects: Vec::new(),
            hop_limits: Vec::new(),
            lost_percent: 0,
            random: Random::from_seed(2),
            link,
            interface,
            sockets: SocketSet::new(Vec::new()),
            last_port: 40_000,
        }
    }

    pub fn now(&self) -> Now {
        Now { steady_ns: self.now_ns, unix_ns: self.now_ns }
    }

    /// Sends a frame. The frames that come back.
    pub fn frame(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let now = self.now();
        let effects =
            self.services.handle(now, self.port, frame, Checksums::Verify, &self.facts, &self.names);
        self.sort(effects)
    }

    /// Keeps what is no reply.
    pub fn sort(&mut self, effects: Vec<Effect>) -> Vec<Vec<u8>> {
        let mut replies = Vec::new();
        for effect in effects {
            match effect {
                Effect::Reply(port, frame) => {
                    assert_eq!(port, self.port);
                    assert!(frame.len() <= 14 + usize::from(self.facts.mtu));
                    replies.push(frame);
                }
                other => self.effects.push(other),
            }
        }
        replies
    }

    /// Sends a datagram. What comes back: to whom, and the payload.
    pub fn udp(&mut self, source: &str, destination: &str, payload: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let envelope = Envelope { destination_mac: ROUTER, source_mac: GUEST, source, destination };
        let replies = self.frame(&envelope.seal(payload));
        replies.iter().map(|frame| read_datagram(frame)).collect()
    }

    pub fn poll(&mut self) -> Vec<Effect> {
        let (facts, port, now) = (&self.facts, self.port, self.now());
        self.services.poll(now, |asked| (asked == port).then_some(facts))
    }

    pub fn wait_ns(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// Packets to a service, and those not answered.
    pub fn counted(&self, service: Service) -> (u64, BTreeMap<Ignored, u64>) {
        let counters = self.services.counters(PortIndex(1));
        let all = [
            Ignored::Malformed,
            Ignored::Spoofed,
            Ignored::Unasked,
            Ignored::Unknown,
            Ignored::Disabled,
            Ignored::RateLimit,
            Ignored::Full,
        ];
        let ignored = all.map(|why| (why, counters.ignored(service, why)));
        (counters.packets(service), ignored.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    pub fn connect(&mut self, to: &str) -> SocketHandle {
        let to: SocketAddr = to.parse().unwrap();
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 4096]), SocketBuffer::new(vec![0; 65536]));
        self.last_port += 1;
        socket.connect(self.interface.context(), IpEndpoint::from(to), self.last_port).unwrap();
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Moves packets until nothing moves; if nothing did, moves time on to whatever is due first within `limit_ns`.
    /// False: nothing is.
    pub fn step(&mut self, limit_ns: u64) -> bool {
        let mut moved = false;
        loop {
            let now = Instant::from_micros((self.now_ns / 1000) as i64);
            self.interface.poll(now, &mut self.link, &mut self.sockets);
            let Some(packet) = self.link.outgoing.pop_front() else { break };
            moved = true;
            if self.loses() {
                continue;
            }
            let kind = if packet[0] >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            let replies = self.frame(&wire::ethernet_frame(ROUTER, GUEST, kind, &packet));
            self.hear(replies);
        }
        if moved {
            return true;
        }
        let now = Instant::from_micros((self.now_ns / 1000) as i64);
        let own = self.interface.poll_at(now, &self.sockets).map(|at| at.total_micros() as u64 * 1000);
        let Some(next_ns) = own.into_iter().chain(self.services.next_ns()).min() else { return false };
        if next_ns > self.now_ns + limit_ns {
            return false;
        }
        self.now_ns = next_ns.max(self.now_ns + 1_000);
        let effects = self.poll();
        let replies = self.sort(effects);
        self.hear(replies);
        true
    }

    pub fn hear(&mut self, frames: Vec<Vec<u8>>) {
        for frame in frames {
            let outer = wire::ethernet(&frame).unwrap();
            assert_eq!((outer.destination, outer.source), (GUEST, ROUTER));
            let packet = wire::ip(outer.payload, Checksums::Verify).unwrap();
            assert!(wire::transport_intact(&packet, Checksums::Verify));
            let header_bytes = usize::from(packet.payload[12] >> 4) * 4;
            if packet.protocol == protocol::TCP && packet.payload.len() > header_bytes {
                self.hop_limits.push(packet.hop_limit);
            }
            if !self.loses() {
                self.link.incoming.push_back(outer.payload.to_vec());
            }
        }
    }

    fn loses(&mut self) -> bool {
        self.random.below(100) < self.lost_percent
    }

    /// Sends bytes on a new connection and reads until `whole` is content or nothing more comes for two minutes.
    pub fn exchange(&mut self, to: &str, bytes: &[u8], whole: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let handle = self.connect(to);
        let (mut sent, mut received) = (0, Vec::new());
        for _ in 0..100_000 {
            let socket = self.socket(handle);
            if socket.can_send() && sent < bytes.len() {
                sent += socket.send_slice(&bytes[sent..]).unwrap();
            }
            while socket.can_recv() {
                let _ = socket.recv(|bytes| (bytes.len(), received.extend(&*bytes)));
            }
            if whole(&received) {
                socket.close();
                while self.socket(handle).is_active() && self.step(3_000_000_000) {}
                return Some(received);
            }
            if !self.socket(handle).is_open() || !self.step(120_000_000_000) {
                break;
            }
        }
        self.sockets.remove(handle);
        (!received.is_empty()).then_some(received)
    }

    /// Status and body.
    pub fn request_at(&mut self, to: &str, request: &str, headers: &str) -> Option<(u16, Vec<u8>)> {
        let text = format!("{request} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n");
        let received = self.exchange(to, text.as_bytes(), |bytes| read_response(bytes).is_some())?;
        read_response(&received).map(|(status, body, _)| (status, body))
    }

    pub fn get_at(&mut self, to: &str, path: &str, headers: &str) -> Option<(u16, Vec<u8>)> {
        self.request_at(to, &format!("GET {path}"), headers)
    }
}

/// Status, body and how long it was, once it is whole.
pub fn read_response(bytes: &[u8]) -> Option<(u16, Vec<u8>, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let total = end + length.parse::<usize>().unwrap();
    bytes.get(end..total).map(|body| (status, body.to_vec(), total))
}

pub fn read_datagram(frame: &[u8]) -> (SocketAddr, Vec<u8>) {
    let outer = wire::ethernet(frame).unwrap();
    let packet = wire::ip(outer.payload, Checksums::Verify).unwrap();
    let datagram = wire::udp(&packet, Checksums::Verify).unwrap();
    (SocketAddr::new(packet.destination, datagram.destination), datagram.payload.to_vec())
}

/// For the router.
pub fn arp_request() -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(GUEST.0);
    arp.extend([10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    wire::ethernet_frame(Mac([0xff; 6]), GUEST, ETHERTYPE_ARP, &arp)
}
