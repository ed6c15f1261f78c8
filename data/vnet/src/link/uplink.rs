//! The underlay: UDP datagrams to other hosts and from them, many in a system call and many segments in a datagram.
//!
//! The kernel cuts what is sent (`UDP_SEGMENT`) and puts together what arrives (`UDP_GRO`): 40 segments of 1,400
//! bytes cost it little more than one datagram. `examples/uplink_ns.rs`, both ends of a loopback on one busy core: 0.29
//! us a packet, 3.5 million a second, against 6.5 us one by one. A datagram is sent from where its parts lie.
//!
//! **Source ports.** RFC 8926 (section 3.3) wants the outer source port to vary by flow, so that the underlay spreads
//! flows over its paths, in 49152 to 65535. A socket has one port; setting it per datagram needs a raw socket, and
//! that needs root and gives up segmentation in the kernel. So there is a *pool* of sockets, each bound to a port of
//! that range, and a flow's hash chooses among them: 16 give four bits, as many as a path choice over a few spines
//! uses. A flow stays on its socket, so its packets stay in order. The price is one system call for each socket that
//! a batch touches instead of one for all; since a datagram costs far more than a call, it is lost in the noise: 5.7, 6.3
//! and 5.9 us for each of 64 datagrams of 64 bytes over 1, 16 and 64 sockets, in the same example. The pool only sends.
//!
//! Called by the switch's loop.
//!
//! Invariant: nothing blocks: what the kernel does not take is reported, and lost as in any network.
//! Invariant: the outer packet is never fragmented: what does not fit is refused, and the engine told.

use crate::span::{self, Span};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use thiserror::Error;

/// Geneve's port.
pub const PORT: u16 = 6081;
/// The first port of the range for sources: RFC 6335's dynamic ports.
const SOURCE_PORT_FIRST: u16 = 49152;
/// Datagrams in one system call.
pub const BATCH_MAX: usize = 64;
/// Bytes of one datagram, all segments.
pub const DATAGRAM_MAX: usize = 65_507;
/// The most pieces of one datagram: the kernel's `UIO_MAXIOV`.
pub const PIECES_MAX: usize = 1024;
/// The most segments of one datagram: the kernel's `UDP_MAX_SEGMENTS` before 6.9.
pub const SEGMENTS_MAX: usize = 64;
/// Datagrams that are received in one system call: each needs room for the largest.
const INBOX_SLOTS: usize = 32;
const INBOX_SLOT: usize = 65_536;
/// Bytes for the one number beside a datagram: header of 16 bytes, number, padding.
const BESIDE: usize = 32;

/// How an uplink is set up.
#[derive(Clone, Debug)]
pub struct UplinkOptions {
    /// This host's address in the underlay. All others are of the same family.
    pub address: IpAddr,
    /// Where others reach it; [`PORT`].
    pub port: u16,
    /// How many source ports flows are spread over; at least 1.
    pub source_ports: u16,
    /// Bytes that the kernel keeps for us when we are late, if it allows so many.
    pub receive_buffer: usize,
    /// Whether the kernel cuts and joins, if it can. False: for comparison.
    pub segmentation: bool,
}

impl UplinkOptions {
    /// For a host with this address.
    pub fn new(address: IpAddr) -> UplinkOptions {
        UplinkOptions { address, port: PORT, source_ports: 16, receive_buffer: 8 << 20, segmentation: true }
    }
}

/// Why there is no uplink.
#[derive(Debug, Error)]
#[error("underlay {address}: {step}")]
pub struct UplinkError {
    address: SocketAddr,
    step: &'static str,
    #[source]
    error: std::io::Error,
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SendError {
    #[error("it, or one of its segments, is larger than the path takes")]
    TooBig,
    #[error("the kernel has no room for it now")]
    Full,
    #[error("its destination cannot be reached")]
    Unreachable,
    #[error("it is in more than {PIECES_MAX} pieces")]
    Pieces,
    #[error("the kernel refuses it: error {0}")]
    Refused(i32),
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Of this uplink's family.
    pub to: SocketAddr,
    /// The hash of the flow that it belongs to; any bits of it.
    pub flow: u32,
    /// Bytes of each segment but the last, if there are several. At most [`SEGMENTS_MAX`].
    pub segment: Option<u16>,
    /// What is in it.
    pub spans: &'a [Span<'a>],
}

/// A datagram that has come.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// One segment after the other.
    pub bytes: &'a [u8],
    /// Bytes of each but the last; at least 1.
    pub segment: usize,
}

impl<'a> Arrived<'a> {
    /// What was sent as packets of their own.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks(self.segment.max(1))
    }
}

/// What went wrong with what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounters {
    /// Datagrams larger than any can be, or from no address.
    pub malformed: u64,
}

/// See above.
#[derive(Debug)]
pub struct Uplink {
    receiver: UdpSocket,
    senders: Vec<UdpSocket>,
    /// Which datagrams of a batch go by which socket.
    queues: Vec<Vec<usize>>,
    segmentation: bool,
    scratch: Scratch,
}

/// What the kernel is shown of a batch. Empty but during a call.
#[derive(Default)]
struct Scratch {
    messages: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    addresses: Vec<libc::sockaddr_storage>,
    beside: Vec<[u64; BESIDE / 8]>,
}

// SAFETY: the pointers in it are dead outside of the call that set them.
unsafe impl Send for Scratch {}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

impl Uplink {
    /// Binds.
    pub fn open(options: &UplinkOptions) -> Result<Uplink, UplinkError> {
        let address = SocketAddr::new(options.address, options.port);
        let failed = |step: &'static str| move |error| UplinkError { address, step, error };
        let receiver = socket(address).map_err(failed("cannot be bound"))?;
        receive_buffer_set(&receiver, options.receive_buffer).map_err(failed("no receive buffer"))?;
        let mut segmentation = options.segmentation;
        if segmentation {
            // Kernels since 4.18 and 5.0 have them; without, datagrams go and come singly.
            segmentation = option(&receiver, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        }
        let mut senders = Vec::new();
        let mut port = SOURCE_PORT_FIRST;
        while senders.len() < usize::from(options.source_ports.max(1)) {
            match socket(SocketAddr::new(options.address, port)) {
                Ok(sender) => {
                    path_mtu_obey(&sender, options.address).map_err(failed("cannot forbid fragments"))?;
                    // Nobody is to send there; what comes is to cost nothing.
                    let _ = option(&sender, libc::SOL_SOCKET, libc::SO_RCVBUF, 0);
                    segmentation &= option(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
                    senders.push(sender);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && port < u16::MAX => {}
                Err(error) => return Err(failed("no source port")(error)),
            }
            port = port
                .checked_add(1)
                .ok_or_else(|| failed("no source port")(std::io::ErrorKind::AddrInUse.into()))?;
        }
        let queues = senders.iter().map(|_| Vec::with_capacity(BATCH_MAX)).collect();
        Ok(Uplink { receiver, senders, queues, segmentation, scratch: Scratch::default() })
    }

    /// Whether the kernel cuts and joins.
    pub fn segmentation(&self) -> bool {
        self.segmentation
    }

    /// Where it is reached.
    pub fn local(&self) -> std::io::Result<SocketAddr> {
        self.receiver.local_addr()
    }

    /// Sends datagrams; those of one flow stay in order. What was not sent is put into `failed` by its index. Answers
    /// how many were.
    pub fn send(&mut self, datagrams: &[Outgoing<'_>], failed: &mut Vec<(usize, SendError)>) -> usize {
        let before = failed.len();
        for queue in &mut self.queues {
            queue.clear();
        }
        let sockets = self.queues.len();
        for (at, datagram) in datagrams.iter().enumerate() {
            // The high bits: the low ones choose a place in a flow table.
            let socket = ((u64::from(datagram.flow) * sockets as u64) >> 32) as usize;
            match self.queues.get_mut(socket) {
                Some(_) if datagram.spans.len() > PIECES_MAX => failed.push((at, SendError::Pieces)),
                Some(queue) => queue.push(at),
                None => {}
            }
        }
        for (sender, queue) in self.senders.iter().zip(&self.queues) {
            for batch in queue.chunks(BATCH_MAX) {
                if self.segmentation {
                    send_batch(sender, datagrams, batch, &mut self.scratch, failed);
                } else {
                    send_cut(sender, datagrams, batch, &mut self.scratch, failed);
                }
            }
        }
        datagrams.len() - (failed.len() - before)
    }

    /// Takes what has arrived, up to a batch; answers how many datagrams. 0: there is nothing more.
    pub fn receive(&mut self, inbox: &mut Inbox) -> std::io::Result<usize> {
        inbox.fill(&self.receiver)
    }
}

impl AsFd for Uplink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

/// Shows the kernel a batch for one socket. What it refuses is noted, and the rest shown again.
fn send_batch(
    sender: &UdpSocket,
    datagrams: &[Outgoing<'_>],
    batch: &[usize],
    scratch: &mut Scratch,
    failed: &mut Vec<(usize, SendError)>,
) {
    scratch.build(datagrams, batch);
    let mut done = 0;
    while let Some(rest) = scratch.messages.get_mut(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: each header points at vectors, an address and control bytes in `scratch`, which is not touched
        // until the call is over, and the vectors at spans that are readable for longer than that.
        let sent = unsafe {
            libc::sendmmsg(sender.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, libc::MSG_DONTWAIT)
        };
        if sent > 0 {
            done += sent as usize;
            continue;
        }
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        if error == libc::EINTR {
            continue;
        }
        if let Some(at) = batch.get(done) {
            let cut = datagrams.get(*at).is_some_and(|datagram| datagram.segment.is_some());
            failed.push((*at, send_error(error, cut)));
        }
        done += 1;
    }
    scratch.clear();
}

/// As above, for a kernel that does not cut: each segment is a datagram.
fn send_cut(
    sender: &UdpSocket,
    datagrams: &[Outgoing<'_>],
    batch: &[usize],
    scratch: &mut Scratch,
    failed: &mut Vec<(usize, SendError)>,
) {
    for at in batch {
        let Some(datagram) = datagrams.get(*at) else { continue };
        let total = span::length(datagram.spans);
        let each = datagram.segment.map_or(total, usize::from).max(1);
        let mut spans = Vec::new();
        let mut ranges = Vec::new();
        for start in (0..total.max(1)).step_by(each) {
            let first = spans.len();
            span::slice(datagram.spans, start..(start + each).min(total), &mut spans);
            ranges.push(first..spans.len());
        }
        let pieces: Vec<Outgoing<'_>> = ranges
            .into_iter()
            .map(|range| Outgoing { segment: None, spans: spans.get(range).unwrap_or(&[]), ..*datagram })
            .collect();
        let all: Vec<usize> = (0..pieces.len()).collect();
        let mut errors = Vec::new();
        for batch in all.chunks(BATCH_MAX) {
            send_batch(sender, &pieces, batch, scratch, &mut errors);
        }
        failed.extend(errors.first().map(|(_, error)| (*at, *error)));
    }
}

fn send_error(error: i32, cut: bool) -> SendError {
    match error {
        libc::EMSGSIZE => SendError::TooBig,
        // What kernels before 6.0 say of a segment that is larger than the path takes.
        libc::EINVAL if cut => SendError::TooBig,
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => SendError::Full,
        libc::ENETUNREACH
        | libc::EHOSTUNREACH
        | libc::ENETDOWN
        | libc::EPERM
        | libc::EACCES
        | libc::ECONNREFUSED => SendError::Unreachable,
        other => SendError::Refused(other),
    }
}

impl Scratch {
    /// Pointers are taken last, when nothing grows any more.
    fn build(&mut self, datagrams: &[Outgoing<'_>], batch: &[usize]) {
        self.clear();
        for datagram in batch.iter().filter_map(|at| datagrams.get(*at)) {
            self.vectors.extend(
                datagram.spans.iter().map(|span| libc::iovec {
                    iov_base: span.as_ptr().cast_mut().cast(),
                    iov_len: span.len(),
                }),
            );
            self.addresses.push(address_encode(datagram.to));
            self.beside.push(datagram.segment.map_or([0; BESIDE / 8], beside_segment));
        }
        let mut vectors = self.vectors.as_mut_ptr();
        let places = self.addresses.iter_mut().zip(&mut self.beside);
        for (datagram, (address, beside)) in batch.iter().filter_map(|at| datagrams.get(*at)).zip(places) {
            // SAFETY: a header of zeros is an empty one.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_name = std::ptr::from_mut(address).cast();
            header.msg_namelen = address_length(datagram.to);
            header.msg_iov = vectors;
            header.msg_iovlen = datagram.spans.len() as _;
            if datagram.segment.is_some() {
                header.msg_control = beside.as_mut_ptr().cast();
                header.msg_controllen = BESIDE_SEGMENT as _;
            }
            self.messages.push(message);
            // SAFETY: as many vectors were pushed for this datagram.
            vectors = unsafe { vectors.add(datagram.spans.len()) };
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.vectors.clear();
        self.addresses.clear();
        self.beside.clear();
    }
}

/// Bytes of the control message that says how long a segment is: its header (16), and 2 padded to 8.
const BESIDE_SEGMENT: usize = 24;

/// `struct cmsghdr { size_t length; int level; int type; }` and a `u16`.
fn beside_segment(segment: u16) -> [u64; BESIDE / 8] {
    let level_and_type = (libc::SOL_UDP as u64) | (libc::UDP_SEGMENT as u64) << 32;
    [16 + size_of::<u16>() as u64, level_and_type.to_le(), u64::from(segment).to_le(), 0]
}

/// Room for what arrives, used again and again.
pub struct Inbox {
    bytes: Vec<u8>,
    arrived: Vec<(SocketAddr, usize, usize)>,
    addresses: Vec<libc::sockaddr_storage>,
    beside: Vec<[u64; BESIDE / 8]>,
    /// What could not be understood.
    pub counters: ReceiveCounters,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl Inbox {
    /// An empty one: 2 MiB.
    pub fn new() -> Inbox {
        Inbox {
            bytes: vec![0; INBOX_SLOTS * INBOX_SLOT],
            arrived: Vec::with_capacity(INBOX_SLOTS),
            // SAFETY: an address of zeros is one of no family.
            addresses: vec![unsafe { zeroed() }; INBOX_SLOTS],
            beside: vec![[0; BESIDE / 8]; INBOX_SLOTS],
            counters: ReceiveCounters::default(),
        }
    }

    /// What is in it.
    pub fn datagrams(&self) -> impl Iterator<Item = Arrived<'_>> {
        let slots = self.bytes.chunks(INBOX_SLOT).zip(&self.arrived);
        slots.filter_map(|(slot, (from, length, segment))| {
            Some(Arrived { from: *from, bytes: slot.get(..*length)?, segment: *segment })
        })
    }

    fn fill(&mut self, socket: &UdpSocket) -> std::io::Result<usize> {
        self.arrived.clear();
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; INBOX_SLOTS];
        // SAFETY: headers of zeros are empty ones.
        let mut messages: [libc::mmsghdr; INBOX_SLOTS] = unsafe { zeroed() };
        let places = self.bytes.chunks_mut(INBOX_SLOT).zip(&mut self.addresses).zip(&mut self.beside);
        for ((message, vector), ((slot, address), beside)) in
            messages.iter_mut().zip(&mut vectors).zip(places)
        {
            let vector =
                vector.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
            message.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = beside.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = BESIDE as _;
        }
        // SAFETY: each header points at a buffer, an address and control bytes of its own, all of which outlive the
        // call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                INBOX_SLOTS as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = std::io::Error::last_os_error();
            return match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        for (at, message) in messages.iter().take(count as usize).enumerate() {
            let header = &message.msg_hdr;
            let from = self.addresses.get(at).and_then(address_decode);
            let whole = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
            let length = message.msg_len as usize;
            let beside = self.beside.get(at).filter(|_| header.msg_controllen >= 16 + size_of::<i32>());
            let segment = beside.and_then(joined_segment).unwrap_or(length).max(1);
            // A place is kept for what is not understood: the others are found by their order.
            let known = from.filter(|_| whole);
            self.counters.malformed += u64::from(known.is_none());
            let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            self.arrived.push((known.unwrap_or(nowhere), if known.is_some() { length } else { 0 }, segment));
        }
        Ok(count as usize)
    }
}

/// How long the segments are that the kernel has joined, if it has.
fn joined_segment(beside: &[u64; BESIDE / 8]) -> Option<usize> {
    let [_, level_and_type, value, _] = *beside;
    let is_it = level_and_type == (libc::SOL_UDP as u64) | (libc::UDP_GRO as u64) << 32;
    let segment = value as u32 as i32;
    (is_it && segment > 0).then_some(segment as usize)
}

fn socket(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn path_mtu_obey(socket: &UdpSocket, address: IpAddr) -> std::io::Result<()> {
    match address {
        IpAddr::V4(_) => option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        IpAddr::V6(_) => option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
    }
}

/// As much as is allowed: more than the machine's limit needs `CAP_NET_ADMIN`.
fn receive_buffer_set(socket: &UdpSocket, bytes: usize) -> std::io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

fn option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> std::io::Result<()> {
    let length = size_of::<i32>() as u32;
    // SAFETY: `value` is an `int` of that length, and lives through the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn address_length(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => size_of::<libc::sockaddr_in>() as u32,
        SocketAddr::V6(_) => size_of::<libc::sockaddr_in6>() as u32,
    }
}

fn address_encode(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: an address of zeros is one of no family.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            let place = std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>();
            // SAFETY: the storage is as large and as aligned as any address.
            let place = unsafe { &mut *place };
            place.sin_family = libc::AF_INET as u16;
            place.sin_port = v4.port().to_be();
            place.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            let place = std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            let place = unsafe { &mut *place };
            place.sin6_family = libc::AF_INET6 as u16;
            place.sin6_port = v6.port().to_be();
            place.sin6_addr.s6_addr = v6.ip().octets();
            place.sin6_scope_id = v6.scope_id();
        }
    }
    storage
}

fn address_decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the storage is as large and as aligned as any address, and the family says which it is.
            let place = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(place.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(place.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let place = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(place.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(place.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn pair(addresses: [&str; 2], segmentation: bool) -> [Uplink; 2] {
        addresses.map(|address| {
            let address = address.parse().expect("an address");
            let options = UplinkOptions { segmentation, port: 0, ..UplinkOptions::new(address) };
            Uplink::open(&options).expect("open")
        })
    }

    /// Segments that arrive, until there are so many.
    fn collect(uplink: &mut Uplink, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut inbox = Inbox::new();
        let mut all = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while all.len() < count && Instant::now() < end {
            let mut fds = [rustix::event::PollFd::new(&uplink.receiver, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&limit)).expect("poll");
            uplink.receive(&mut inbox).expect("received");
            for arrived in inbox.datagrams() {
                all.extend(arrived.segments().map(|segment| (arrived.from, segment.to_vec())));
            }
        }
        assert_eq!(inbox.counters, ReceiveCounters::default());
        all
    }

    fn check_carries(addresses: [&str; 2], segmentation: bool) {
        let [mut from, mut to] = pair(addresses, segmentation);
        let target = to.local().expect("bound");
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        let (head, tail) = bytes.split_at(33);
        let spans = [Span::from(head), Span::from(tail)];
        let datagrams = [
            Outgoing { to: target, flow: 0, segment: Some(1400), spans: &spans },
            Outgoing { to: target, flow: 0, segment: None, spans: &spans[..1] },
        ];
        let mut failed = Vec::new();
        assert_eq!(from.send(&datagrams, &mut failed), 2, "{failed:?}");
        let arrived = collect(&mut to, 9);
        let lengths: Vec<usize> = arrived.iter().map(|(_, segment)| segment.len()).collect();
        assert_eq!(lengths, [1400, 1400, 1400, 1400, 1400, 1400, 1400, 200, 33]);
        let joined: Vec<u8> = arrived.iter().take(8).flat_map(|(_, segment)| segment.clone()).collect();
        assert_eq!(joined, bytes);
        assert!(arrived.iter().all(|(from, _)| from.port() >= SOURCE_PORT_FIRST));
    }

    #[test]
    fn segments_arrive_as_they_were_cut_ipv4() {
        check_carries(["127.7.1.1", "127.7.1.2"], true);
        check_carries(["127.7.1.1", "127.7.1.2"], false);
    }

    #[test]
    fn segments_arrive_as_they_were_cut_ipv6() {
        check_carries(["::1", "::1"], true);
    }

    #[test]
    fn flows_are_spread_over_source_ports_and_keep_theirs() {
        let [mut from, mut to] = pair(["127.7.2.1", "127.7.2.2"], true);
        let target = to.local().expect("bound");
        let bytes: Vec<[u8; 4]> = (0..64_u32).map(|flow| flow.to_ne_bytes()).collect();
        let spans: Vec<[Span<'_>; 1]> = bytes.iter().map(|bytes| [Span::from(&bytes[..])]).collect();
        let hash = |flow: u32| flow.wrapping_mul(0x9e37_79b9);
        let datagrams: Vec<Outgoing<'_>> = spans
            .iter()
            .zip(0..)
            .map(|(spans, flow)| Outgoing { to: target, flow: hash(flow), segment: None, spans })
            .collect();
        let mut failed = Vec::new();
        let mut ports = std::collections::BTreeMap::new();
        for _ in 0..2 {
            assert_eq!(from.send(&datagrams, &mut failed), 64);
            for (from, bytes) in collect(&mut to, 64) {
                let before = ports.insert(bytes, from.port());
                assert!(before.is_none_or(|port| port == from.port()), "a flow changed its port");
            }
        }
        let distinct: std::collections::BTreeSet<u16> = ports.values().copied().collect();
        assert_eq!(distinct.len(), 16);
    }

    #[test]
    fn what_is_refused_is_named_and_the_rest_goes() {
        let [mut from, mut to] = pair(["127.7.3.1", "127.7.3.2"], true);
        let target = to.local().expect("bound");
        let large = vec![0; 70_000];
        let (large, small) = ([Span::from(&large[..])], [Span::from(&b"small"[..])]);
        let many = vec![Span::from(&b"x"[..]); PIECES_MAX + 1];
        let unreachable: SocketAddr = "[::1]:9".parse().expect("an address");
        let one = |to, spans| Outgoing { to, flow: 0, segment: None, spans };
        let datagrams = [
            one(target, &small[..]),
            one(target, &large[..]),
            one(target, &many[..]),
            one(unreachable, &small[..]),
            one(target, &small[..]),
        ];
        let mut failed = Vec::new();
        assert_eq!(from.send(&datagrams, &mut failed), 2);
        failed.sort_by_key(|(at, _)| *at);
        assert_eq!(failed[0], (1, SendError::TooBig));
        assert_eq!(failed[1], (2, SendError::Pieces));
        assert!(matches!(failed[2], (3, SendError::Refused(_) | SendError::Unreachable)));
        assert_eq!(collect(&mut to, 2).len(), 2);
    }
}
