//! An interface of the machine's own kernel: what it sends comes here, what is put here it receives.
//!
//! Packets carry virtio's header, as a guest's do (`IFF_VNET_HDR`): so the kernel leaves checksums and segmentation to
//! us, and takes large packets whole. A system call costs 2 us whatever the size; that is what makes a TAP fast.
//!
//! Called by the switch's loop. Making one needs `CAP_NET_ADMIN`. Addresses and routes are whoever's who asked for it.
//!
//! Invariant: nothing blocks.

use crate::span::Span;
use crate::virtio::net::{HEADER_LENGTH, NetHeader};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::mem::zeroed;
use thiserror::Error;

/// The longest name that an interface can have.
pub const NAME_LENGTH_MAX: usize = libc::IFNAMSIZ - 1;
/// The most pieces of a packet: the kernel's `UIO_MAXIOV`, less header and head.
const PIECES_MAX: usize = 1022;

// <linux/if_tun.h>: what packets the kernel may be given and may give.
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;

/// What is wrong with an interface.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum TapError {
    #[error("{0:?} is no name for an interface: 1 to {NAME_LENGTH_MAX} bytes, no slash or space")]
    Name(String),
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        error: std::io::Error,
    },
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SendError {
    #[error("the kernel has no room for it now")]
    Full,
    #[error("the interface is down")]
    Down,
    #[error("it is in too many pieces")]
    Pieces,
    #[error("the kernel refuses it: error {0}")]
    Refused(i32),
}

/// An interface.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<OwnedFd>,
    large_udp: bool,
}

impl Tap {
    /// Makes one, or takes one over that was made to last; with so many queues, over which the kernel spreads flows.
    pub fn open(name: &str, queues: u16) -> Result<Tap, TapError> {
        let request = request(name)?;
        let mut tap = Tap { name: name.to_owned(), queues: Vec::new(), large_udp: true };
        for _ in 0..queues.max(1) {
            tap.queue_open(request, queues > 1)?;
        }
        Ok(tap)
    }

    fn queue_open(&mut self, mut request: libc::ifreq, several: bool) -> Result<(), TapError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open("/dev/net/tun", flags, Mode::empty())
            .map_err(|error| TapError::System { what: "/dev/net/tun", error: error.into() })?;
        let several = if several { libc::IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several) as i16;
        // SAFETY: the request is an `ifreq`, as this call wants, and lives through it.
        ioctl("it cannot be made", unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &request) })?;
        let length = HEADER_LENGTH as i32;
        // SAFETY: as above, with an `int`.
        ioctl("its header", unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &length) })?;
        let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
        let with_udp = libc::c_ulong::from(offloads | TUN_F_USO4 | TUN_F_USO6);
        // SAFETY: this call takes a number.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, with_udp) } != 0 {
            // Kernels before 6.2.
            self.large_udp = false;
            let without = libc::c_ulong::from(offloads);
            // SAFETY: as above.
            ioctl("its offloads", unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, without) })?;
        }
        self.queues.push(file);
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many queues it has.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// What to wait for, to receive by a queue.
    pub fn queue(&self, queue: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(queue).map(AsFd::as_fd)
    }

    /// Whether large UDP packets come and may be put here; large TCP packets always.
    pub fn large_udp(&self) -> bool {
        self.large_udp
    }

    /// Sets the largest packet that is not a large one (of IP: without Ethernet's header), and lets it work.
    pub fn start(&self, mtu: u16) -> Result<(), TapError> {
        let mut request = request(&self.name)?;
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
                .map_err(|error| TapError::System { what: "a socket", error: error.into() })?;
        request.ifr_ifru.ifru_mtu = i32::from(mtu);
        // SAFETY: the request is an `ifreq`, as this call wants, and lives through it.
        ioctl("its MTU", unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &request) })?;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        // SAFETY: as above.
        ioctl("it cannot be started", unsafe {
            libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
        })
    }

    /// Takes a packet that the kernel has sent by a queue: its header, and how many bytes of `into` it has. None:
    /// there is none. A packet longer than `into` is cut; 64 KiB hold any.
    pub fn receive(&self, queue: usize, into: &mut [u8]) -> std::io::Result<Option<(NetHeader, usize)>> {
        let mut header: NetHeader = [0; HEADER_LENGTH];
        let Some(file) = self.queues.get(queue) else { return Ok(None) };
        let mut parts = [std::io::IoSliceMut::new(&mut header), std::io::IoSliceMut::new(into)];
        match rustix::io::readv(file, &mut parts) {
            Ok(length) => Ok(length.checked_sub(HEADER_LENGTH).map(|length| (header, length))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the kernel a packet. Of the header, the count of buffers is not looked at.
    pub fn send(
        &self,
        queue: usize,
        header: &NetHeader,
        head: &[u8],
        payload: &[Span<'_>],
    ) -> Result<(), SendError> {
        if payload.len() > PIECES_MAX {
            return Err(SendError::Pieces);
        }
        let file = self.queues.get(queue).ok_or(SendError::Down)?;
        let vector =
            |start: *const u8, length| libc::iovec { iov_base: start.cast_mut().cast(), iov_len: length };
        let few = payload.len() + 2 <= FEW;
        let mut on_stack = [vector(std::ptr::null(), 0); FEW];
        let mut on_heap = Vec::new();
        if !few {
            on_heap.resize(payload.len() + 2, vector(std::ptr::null(), 0));
        }
        let vectors = if few { &mut on_stack[..payload.len() + 2] } else { &mut on_heap[..] };
        let spans = [Span::from(&header[..]), Span::from(head)];
        for (place, span) in vectors.iter_mut().zip(spans.iter().chain(payload)) {
            *place = vector(span.as_ptr(), span.len());
        }
        // SAFETY: each vector is a span, readable for longer than the call.
        let written = unsafe { libc::writev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as i32) };
        if written >= 0 {
            return Ok(());
        }
        Err(match std::io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => SendError::Full,
            libc::EIO | libc::ENETDOWN => SendError::Down,
            other => SendError::Refused(other),
        })
    }
}

/// So many vectors need no allocation: a packet in one piece, or in as many as a page-sized one of 64 KiB.
const FEW: usize = 20;

/// For an interface of this name.
fn request(name: &str) -> Result<libc::ifreq, TapError> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%';
    if !(1..=NAME_LENGTH_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(TapError::Name(name.to_owned()));
    }
    // SAFETY: a request of zeros names no interface and has nothing in it.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    Ok(request)
}

fn ioctl(what: &'static str, result: i32) -> Result<(), TapError> {
    if result == 0 { Ok(()) } else { Err(TapError::System { what, error: std::io::Error::last_os_error() }) }
}
