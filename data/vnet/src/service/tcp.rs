//! TCP towards one port, for the metadata service and for DNS: streams in, streams out.
//!
//! The stack is smoltcp's. TCP is what a well-kept library exists for: retransmission, windows, closing and the half of
//! RFC 9293 that is about strange peers are not what sets Nephos apart. It is used as a pure function of packets and
//! time: a port's stack has a device that is a slot for the packet that came and a list of those to be sent. It is
//! made when a port's first connection is, and dropped with its last, so that an idle port costs nothing. A stack has
//! half a kilobyte, a connection as much and its two buffers, [`RECEIVE_BYTES`] and [`SEND_BYTES`]: 13 KB, of which a
//! port has at most [`CONNECTIONS_MAX`], so a thousand ports that all use all of them have 210 MB, and none 0.
//!
//! smoltcp takes a connection by a socket that listens for it: one is made for each first packet (SYN) and removed if
//! the packet was not taken. When all places are taken, the connection that has been half open or closing for longest
//! gives way; among none such, the new one is not answered, and its sender tries again.
//!
//! Deliberately absent: congestion control (the way is one hop within a host), and connections that we begin.

use super::wire::Tcp;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use std::net::{IpAddr, SocketAddr};

/// Of one port.
pub const CONNECTIONS_MAX: usize = 16;
/// What a peer may send ahead.
pub const RECEIVE_BYTES: usize = 4 * 1024;
/// What is sent and not acknowledged yet.
pub const SEND_BYTES: usize = 8 * 1024;
/// What came and its protocol has not consumed.
pub const INPUT_BYTES_MAX: usize = 16 * 1024;
/// How long a connection may be silent: a client that keeps one alive between requests finds it again.
const IDLE_NS: u64 = 30_000_000_000;
/// How long one may take to be set up.
const HALF_OPEN_NS: u64 = 5_000_000_000;
/// The usual TTL.
const HOP_LIMIT: u8 = 64;

/// The packet that came, and those to be sent: IP packets.
#[derive(Debug)]
struct Wire {
    mtu: u16,
    received: Option<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sender<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sender<'_>)> {
        self.received.take().map(|packet| (Received(packet), Sender(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        Some(Sender(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        // What comes has been verified, or was the card's to compute.
        let mut checksum = ChecksumCapabilities::default();
        (checksum.ipv4, checksum.tcp) = (Checksum::Tx, Checksum::Tx);
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        capabilities.checksum = checksum;
        capabilities
    }
}

/// A connection, as its protocol sees it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Never given to another connection of the switch.
    pub id: u64,
    /// Where the peer is connected to.
    pub local: SocketAddr,
    /// What came and is not consumed.
    pub input: Vec<u8>,
    /// What is to be sent, beyond what the stack has taken.
    output: Vec<u8>,
    /// What is in `input` is the beginning of something, and more is needed to go on.
    pub partial: bool,
    /// Answers that are still to come, from elsewhere.
    pub pending: u32,
    /// Nothing will be added to `output`.
    finished: bool,
    hop_limit: u8,
    /// Bytes that the stack has and the peer has not.
    unacknowledged: usize,
    remote: SocketAddr,
    handle: SocketHandle,
    opened_ns: u64,
    heard_ns: u64,
}

impl Stream {
    /// Sends bytes; packets that carry them have this TTL.
    pub fn send(&mut self, bytes: &[u8], hop_limit: Option<u8>) {
        self.output.extend(bytes);
        self.hop_limit = hop_limit.unwrap_or(HOP_LIMIT);
    }

    /// Sends nothing more, and closes when all is sent.
    pub fn finish(&mut self) {
        self.finished = true;
        self.input.clear();
    }

    /// Whether more may be sent: all has been taken by the stack, and what was to go with a TTL of its own has arrived,
    /// since a packet that is sent again has the TTL of then.
    pub fn drained(&self) -> bool {
        self.output.is_empty() && (self.hop_limit == HOP_LIMIT || self.unacknowledged == 0)
    }

    /// What the stack has not taken.
    pub fn backlog_bytes(&self) -> usize {
        self.output.len()
    }

    /// Whether nothing more is read from it.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

/// A port's stack.
pub(super) struct Stack {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    streams: Vec<Stream>,
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1_000).unwrap_or(i64::MAX))
}

impl Stack {
    /// A stack that is at `addresses` (up to eight). `seed` makes its sequence numbers.
    pub fn new(now_ns: u64, addresses: &[IpAddr], mtu: u16, seed: u64) -> Stack {
        let mut wire = Wire { mtu: mtu.max(1280), received: None, sent: Vec::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, instant(now_ns));
        interface.update_ip_addrs(|own| {
            for address in addresses {
                let cidr = match address {
                    IpAddr::V4(address) => IpCidr::new(IpAddress::Ipv4(*address), 32),
                    IpAddr::V6(address) => IpCidr::new(IpAddress::Ipv6(*address), 128),
                };
                // A ninth has no place, and is not answered at.
                let _ = own.push(cidr);
            }
        });
        // Without a link layer a route's gateway is only looked up, never asked for; everything goes to the port.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(std::net::Ipv4Addr::new(169, 254, 0, 1));
        let _ = routes.add_default_ipv6_route(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        let sockets = SocketSet::new(Vec::<SocketStorage<'static>>::new());
        Stack { wire, interface, sockets, streams: Vec::new() }
    }

    /// Takes a packet of a peer. Afterwards [`Stack::streams`] may have new input. False: all places are taken.
    pub fn receive(
        &mut self,
        now_ns: u64,
        packet: &[u8],
        addresses: (IpAddr, IpAddr),
        tcp: Tcp,
        id: u64,
    ) -> bool {
        let remote = SocketAddr::new(addresses.0, tcp.source);
        let local = SocketAddr::new(addresses.1, tcp.destination);
        if tcp.opens {
            // A peer that takes the same port again begins anew (RFC 9293, section 3.6.1).
            let ended = |state| matches!(state, State::TimeWait | State::Closed);
            self.remove_where(|state, stream| {
                ended(state) && (stream.remote, stream.local) == (remote, local)
            });
        }
        let same = |stream: &&mut Stream| (stream.remote, stream.local) == (remote, local);
        if let Some(stream) = self.streams.iter_mut().find(same) {
            stream.heard_ns = now_ns;
        } else if tcp.opens {
            if !self.make_place() {
                return false;
            }
            self.listen(now_ns, local, remote, id);
        }
        self.wire.received = Some(packet.to_vec());
        self.interface.poll(instant(now_ns), &mut self.wire, &mut self.sockets);
        self.wire.received = None;
        // A socket whose packet was not taken still listens.
        self.remove_where(|state, _| state == State::Listen);
        for stream in &mut self.streams {
            let socket = self.sockets.get_mut::<Socket<'_>>(stream.handle);
            stream.unacknowledged = socket.send_queue();
            // A buffer that wraps around is read in two pieces.
            for _ in 0..2 {
                let room = if stream.finished { usize::MAX } else { INPUT_BYTES_MAX - stream.input.len() };
                let taken = socket.recv(|bytes| {
                    let taken = bytes.get(..bytes.len().min(room)).unwrap_or_default();
                    if !stream.finished {
                        stream.input.extend(taken);
                    }
                    (taken.len(), taken.len())
                });
                stream.partial &= taken.is_ok_and(|taken| taken == 0);
            }
        }
        true
    }

    fn listen(&mut self, now_ns: u64, local: SocketAddr, remote: SocketAddr, id: u64) {
        let mut socket =
            Socket::new(SocketBuffer::new(vec![0; RECEIVE_BYTES]), SocketBuffer::new(vec![0; SEND_BYTES]));
        socket.set_nagle_enabled(false);
        if socket.listen(IpEndpoint::from(local)).is_err() {
            return;
        }
        let handle = self.sockets.add(socket);
        self.streams.push(Stream {
            id,
            local,
            input: Vec::new(),
            output: Vec::new(),
            partial: false,
            pending: 0,
            finished: false,
            hop_limit: HOP_LIMIT,
            unacknowledged: 0,
            remote,
            handle,
            opened_ns: now_ns,
            heard_ns: now_ns,
        });
    }

    /// Whether there is room for one more connection; one that is not in use gives way, the oldest first.
    fn make_place(&mut self) -> bool {
        if self.streams.len() < CONNECTIONS_MAX {
            return true;
        }
        let idle = |state| matches!(state, State::SynReceived | State::TimeWait | State::Closed);
        let states = self.streams.iter().enumerate();
        let oldest = states
            .filter(|(_, stream)| idle(self.sockets.get::<Socket<'_>>(stream.handle).state()))
            .min_by_key(|(_, stream)| stream.heard_ns)
            .map(|(at, _)| at);
        let Some(at) = oldest else { return false };
        let stream = self.streams.remove(at);
        self.sockets.remove(stream.handle);
        true
    }

    fn remove_where(&mut self, gone: impl Fn(State, &Stream) -> bool) {
        let sockets = &mut self.sockets;
        self.streams.retain(|stream| {
            let state = sockets.get::<Socket<'_>>(stream.handle).state();
            let gone = gone(state, stream);
            if gone {
                sockets.remove(stream.handle);
            }
            !gone
        });
    }

    /// The connections.
    pub fn streams(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    /// The connection with this id, if it still is.
    pub fn stream(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Sends what there is to send, and lets go of what has been silent for too long. IP packets.
    pub fn send(&mut self, now_ns: u64) -> Vec<Vec<u8>> {
        for stream in &mut self.streams {
            let socket = self.sockets.get_mut::<Socket<'_>>(stream.handle);
            socket.set_hop_limit(Some(stream.hop_limit.max(1)));
            if socket.can_send() {
                let taken = socket.send_slice(&stream.output).unwrap_or(0);
                stream.output.drain(..taken);
            }
            stream.unacknowledged = socket.send_queue();
            let peer_done = socket.state() == State::CloseWait && !socket.can_recv() && stream.pending == 0;
            let all_read = stream.input.is_empty() || stream.partial;
            if stream.output.is_empty() && (stream.finished || (peer_done && all_read)) {
                socket.close();
            }
            let half_open = socket.state() == State::SynReceived;
            let limit_ns =
                if half_open { stream.opened_ns + HALF_OPEN_NS } else { stream.heard_ns + IDLE_NS };
            if now_ns >= limit_ns {
                socket.abort();
            }
        }
        // Also answers that a reset connection owes: they are sent before it is let go.
        self.interface.poll(instant(now_ns), &mut self.wire, &mut self.sockets);
        self.remove_where(|state, _| state == State::Closed);
        std::mem::take(&mut self.wire.sent)
    }

    /// Whether it has no connection, and can be dropped.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// When [`Stack::send`] is to be called, at the latest.
    pub fn next_ns(&mut self, now_ns: u64) -> Option<u64> {
        let timer = self.interface.poll_at(instant(now_ns), &self.sockets);
        let timer_ns = timer.map(|at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1_000));
        let sockets = &self.sockets;
        let limit_ns = self.streams.iter().map(|stream| {
            let half_open = sockets.get::<Socket<'_>>(stream.handle).state() == State::SynReceived;
            if half_open { stream.opened_ns + HALF_OPEN_NS } else { stream.heard_ns + IDLE_NS }
        });
        limit_ns.chain(timer_ns).min().map(|at_ns| at_ns.max(now_ns))
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("streams", &self.streams).finish_non_exhaustive()
    }
}
