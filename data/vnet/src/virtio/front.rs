//! The other end: what QEMU and a guest's driver do, for tests and benchmarks. One process plays both.
//!
//! ```text
//!   one memfd, in two regions that lie side by side in the guest and apart in "QEMU"
//!   ├─ for each ring: descriptors, available, used
//!   └─ for each ring, for each descriptor: a slot: indirect table, then header and packet
//! ```
//!
//! It speaks in the order in which QEMU 7.2 does. Its memory and rings outlive connections, as a guest's do:
//! [`Front::reconnect`].
//!
//! Invariant: not for production: it trusts the other end, and its errors are texts.

use super::memory::Memory;
use super::message::{HEADER_LENGTH, Header, Inflight, Region, Request, RingAddresses};
use super::net::NetHeader;
use super::ring::{
    DESCRIPTOR_INDIRECT, DESCRIPTOR_LENGTH, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, Descriptor, NO_NOTIFICATION,
    Ring, passes,
};
use super::{feature, net, protocol_feature};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
};
use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

/// Where the guest's memory begins, for the guest.
pub const GUEST_BASE: u64 = 0x1_0000_0000;
/// From the guest's addresses to those of QEMU, in the first region; in the second it is twice as much.
const USER_SHIFT: u64 = 0x7000_0000_0000;
/// The most descriptors of a packet.
const PIECES_MAX: usize = 8;
const PAGE: u64 = 4096;

/// What it plays.
#[derive(Clone, Copy, Debug)]
pub struct FrontOptions {
    /// Pairs of queues.
    pub pairs: u16,
    /// Entries of each.
    pub ring_size: u16,
    /// What is acknowledged of what is offered.
    pub features: u64,
    /// Bytes of a slot for header and packet.
    pub slot: usize,
}

impl Default for FrontOptions {
    fn default() -> FrontOptions {
        let features = feature::OFFERED & !(feature::LOG_ALL);
        FrontOptions { pairs: 1, ring_size: 256, features, slot: 2048 }
    }
}

/// A guest with a network card.
#[derive(Debug)]
pub struct Front {
    options: FrontOptions,
    /// What was acknowledged.
    pub features: u64,
    stream: UnixStream,
    file: OwnedFd,
    memory: Arc<Memory>,
    regions: [Region; 2],
    drivers: Vec<Driver>,
}

/// The driver's side of a ring.
#[derive(Debug)]
struct Driver {
    ring: Ring,
    addresses: RingAddresses,
    /// Slots, for the guest.
    slots: u64,
    slot: u64,
    free: Vec<u16>,
    /// Of each head: which descriptors it took.
    chains: Vec<Vec<u16>>,
    available: u16,
    kicked: u16,
    used: u16,
    kick: OwnedFd,
    call: OwnedFd,
    event_index: bool,
}

impl Front {
    /// Connects, with fresh memory.
    pub fn connect(path: &Path, options: FrontOptions) -> Result<Front> {
        let ring = u64::from(options.ring_size);
        let ring_bytes = (ring * 16).next_multiple_of(PAGE)
            + (ring * 2 + 6).next_multiple_of(PAGE)
            + (ring * 8 + 6).next_multiple_of(PAGE);
        let slot = (options.slot as u64 + (PIECES_MAX * DESCRIPTOR_LENGTH) as u64).next_multiple_of(64);
        let rings = u64::from(options.pairs) * 2;
        let size = (rings * (ring_bytes + slot * ring)).next_multiple_of(2 * PAGE);
        let file = rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, size)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        // Rings in the first, and most slots; a slot may lie in both.
        let first = (rings * ring_bytes + (size - rings * ring_bytes) / 2 + 100)
            .next_multiple_of(PAGE)
            .min(size - PAGE);
        let regions = [
            Region { guest: GUEST_BASE, size: first, user: GUEST_BASE + USER_SHIFT, offset: 0 },
            Region {
                guest: GUEST_BASE + first,
                size: size - first,
                user: GUEST_BASE + first + 2 * USER_SHIFT,
                offset: first,
            },
        ];
        let maps = regions.iter().map(|region| Ok((*region, file.try_clone()?))).collect::<Result<_>>()?;
        let memory = Arc::new(Memory::map(maps).map_err(Error::other)?);
        let mut front =
            Front { options, features: 0, stream: stream(path)?, file, memory, regions, drivers: Vec::new() };
        for index in 0..rings {
            let at = GUEST_BASE + index * ring_bytes;
            let slots = GUEST_BASE + rings * ring_bytes + index * slot * ring;
            let driver = front.driver(index as u32, at, slots, slot)?;
            front.drivers.push(driver);
        }
        front.greet()?;
        for pair in 0..usize::from(options.pairs) {
            front.fill(pair);
        }
        Ok(front)
    }

    /// Connects again, to the same or another back end, with memory and rings as they are.
    pub fn reconnect(&mut self, path: &Path) -> Result<()> {
        self.stream = stream(path)?;
        self.greet()
    }

    fn driver(&self, index: u32, at: u64, slots: u64, slot: u64) -> Result<Driver> {
        let size = self.options.ring_size;
        let available = at + (u64::from(size) * 16).next_multiple_of(PAGE);
        let used = available + (u64::from(size) * 2 + 6).next_multiple_of(PAGE);
        let addresses = RingAddresses {
            index,
            flags: u32::from(self.options.features & feature::LOG_ALL != 0),
            descriptors: at + USER_SHIFT,
            available: available + USER_SHIFT,
            used: used + USER_SHIFT,
            log: used,
        };
        let ring =
            Ring::new(self.memory.clone(), size, addresses.descriptors, addresses.available, addresses.used)
                .ok_or(ErrorKind::InvalidInput)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Driver {
            ring,
            addresses,
            slots,
            slot,
            free: (0..size).rev().collect(),
            chains: vec![Vec::new(); usize::from(size)],
            available: 0,
            kicked: 0,
            used: 0,
            kick: event()?,
            call: event()?,
            event_index: false,
        })
    }

    /// From the first message to rings at work.
    fn greet(&mut self) -> Result<()> {
        let offered = self.ask(Request::GetFeatures)?;
        self.features = offered & self.options.features;
        if self.features & feature::PROTOCOL_FEATURES != 0 {
            let protocol = self.ask(Request::GetProtocolFeatures)? & protocol_feature::OFFERED;
            self.tell(Request::SetProtocolFeatures(protocol))?;
            if self.ask(Request::GetQueueNum)? < u64::from(self.options.pairs) {
                return Err(Error::other("not so many queues"));
            }
        }
        self.tell(Request::SetOwner)?;
        for index in 0..self.drivers.len() as u32 {
            let call = self.drivers.get(index as usize).map(|driver| driver.call.try_clone()).transpose()?;
            self.tell(Request::SetVringCall { index, call })?;
        }
        if self.features & feature::PROTOCOL_FEATURES != 0 {
            for index in 0..self.drivers.len() as u32 {
                self.tell(Request::SetVringEnable { index, enabled: true })?;
            }
        }
        self.tell(Request::SetFeatures(self.features & !feature::LOG_ALL))?;
        let files =
            self.regions.iter().map(|region| Ok((*region, self.file.try_clone()?))).collect::<Result<_>>()?;
        self.tell(Request::SetMemTable(files))?;
        for index in 0..self.drivers.len() {
            self.ring_start(index)?;
        }
        Ok(())
    }

    /// Says what is to be known of a ring, and lets it work.
    pub fn ring_start(&mut self, index: usize) -> Result<()> {
        let driver = self.drivers.get_mut(index).ok_or(ErrorKind::NotFound)?;
        driver.event_index = self.features & feature::EVENT_IDX != 0;
        let (addresses, kick) = (driver.addresses, driver.kick.try_clone()?);
        let index = index as u32;
        let position = u32::from(driver.ring.used_index());
        self.tell(Request::SetVringNum { index, size: u32::from(self.options.ring_size) })?;
        self.tell(Request::SetVringBase { index, position })?;
        self.tell(Request::SetVringAddresses(addresses))?;
        self.tell(Request::SetVringKick { index, kick: Some(kick) })
    }

    /// Stops a ring; answers where it stands.
    pub fn ring_stop(&mut self, index: u32) -> Result<u32> {
        Ok((self.ask(Request::GetVringBase { index })? >> 32) as u32)
    }

    /// Sends a request that has no answer, and waits until it was carried out if the other end can say so.
    pub fn tell(&mut self, request: Request<OwnedFd>) -> Result<()> {
        let acknowledged = !matches!(request, Request::SetProtocolFeatures(_))
            && self.features & feature::PROTOCOL_FEATURES != 0;
        let number = self.send(request, acknowledged)?;
        if acknowledged {
            match self.answer(number)?.0 {
                0 => Ok(()),
                refused => Err(Error::other(format!("request {number} was refused: {refused}"))),
            }
        } else {
            Ok(())
        }
    }

    /// Sends a request and reads its answer: the first eight bytes of it.
    pub fn ask(&mut self, request: Request<OwnedFd>) -> Result<u64> {
        let number = self.send(request, false)?;
        Ok(self.answer(number)?.0)
    }

    /// Asks for the record of what is in flight.
    pub fn inflight(&mut self) -> Result<OwnedFd> {
        let asked = Inflight {
            size: 0,
            offset: 0,
            queues: self.options.pairs * 2,
            queue_size: self.options.ring_size,
        };
        let number = self.send(Request::GetInflight(asked), false)?;
        self.answer(number)?.1.pop().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn send(&mut self, request: Request<OwnedFd>, need_reply: bool) -> Result<u32> {
        let (number, payload, files) = request.encode();
        let header = Header { request: number, reply: false, need_reply, size: payload.len() };
        let bytes = header.encode(&payload);
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let sent = rustix::net::sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut beside, flags)?;
        if sent == bytes.len() { Ok(number) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn answer(&mut self, number: u32) -> Result<(u64, Vec<OwnedFd>)> {
        let mut files = Vec::new();
        let mut bytes = [0; HEADER_LENGTH + 64];
        let mut have = 0;
        let mut wanted = HEADER_LENGTH;
        while let Some(rest) = bytes.get_mut(have..wanted).filter(|rest| !rest.is_empty()) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = rustix::net::recvmsg(&self.stream, &mut [IoSliceMut::new(rest)], &mut beside, flags)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    files.extend(descriptors);
                }
            }
            if got.bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            have += got.bytes;
            if have == HEADER_LENGTH && wanted == HEADER_LENGTH {
                let header = Header::decode(bytes.first_chunk().unwrap_or(&[0; HEADER_LENGTH]))
                    .map_err(Error::other)?;
                if header.request != number || !header.reply {
                    return Err(Error::other(format!("{header:?} answers request {number}")));
                }
                wanted += header.size;
            }
        }
        let value = bytes.get(HEADER_LENGTH..).and_then(|payload| payload.first_chunk::<8>());
        Ok((u64::from_ne_bytes(*value.unwrap_or(&[0; 8])), files))
    }

    /// Puts all free buffers into the ring that a pair receives by.
    fn fill(&mut self, pair: usize) {
        if let Some(driver) = self.drivers.get_mut(pair * 2) {
            while let Some(head) = driver.free.pop() {
                driver.offer(head, self.options.slot as u32);
            }
            driver.publish();
        }
    }

    /// Puts a packet into the ring that a pair sends by, in so many descriptors (header and packet in one, if it is
    /// one), by way of a table elsewhere if wanted. False: there is no room. The device sees it after [`Front::kick`].
    pub fn transmit(
        &mut self,
        pair: usize,
        header: &NetHeader,
        packet: &[u8],
        pieces: usize,
        indirect: bool,
    ) -> bool {
        let Some(driver) = self.drivers.get_mut(pair * 2 + 1) else { return false };
        driver.transmit(&self.memory, header, packet, pieces.clamp(1, PIECES_MAX), indirect)
    }

    /// Shows what was put into the ring that a pair sends by, and kicks if the device wants that; answers whether.
    pub fn kick(&mut self, pair: usize) -> bool {
        self.drivers.get_mut(pair * 2 + 1).is_some_and(Driver::publish)
    }

    /// Takes back what the device has sent; answers how many packets. Asks to be called at the next.
    pub fn reclaim(&mut self, pair: usize) -> usize {
        let mut count = 0;
        if let Some(driver) = self.drivers.get_mut(pair * 2 + 1) {
            while let Some((head, _)) = driver.take_used() {
                if let Some(chain) = driver.chains.get_mut(usize::from(head)) {
                    driver.free.append(chain);
                }
                count += 1;
            }
        }
        count
    }

    /// Takes the next packet that has come, and puts its buffers in again. `packet` is replaced.
    pub fn receive(&mut self, pair: usize, packet: &mut Vec<u8>) -> Option<NetHeader> {
        let slot = self.options.slot as u32;
        let header_length = net::HEADER_LENGTH;
        let driver = self.drivers.get_mut(pair * 2)?;
        packet.clear();
        let (mut heads, mut buffers) = (0, 1);
        let mut header: NetHeader = [0; net::HEADER_LENGTH];
        while heads < buffers {
            // The device shows all buffers of a packet at once.
            let (head, written) = driver.take_used()?;
            let at = packet.len();
            packet.resize(at + written as usize, 0);
            peek(&self.memory, driver.slot_of(head), packet.get_mut(at..)?);
            if heads == 0 {
                header = *packet.first_chunk()?;
                buffers = u16::from_le_bytes([header[10], header[11]]);
            }
            heads += 1;
            driver.offer(head, slot);
        }
        packet.drain(..header_length);
        driver.publish();
        Some(header)
    }

    /// Waits until the device has called for a ring. False: it has not, in that time.
    pub fn called(&self, ring: usize, within: Duration) -> bool {
        let Some(driver) = self.drivers.get(ring) else { return false };
        let limit = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
        let mut fds = [PollFd::new(&driver.call, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&limit)).is_ok_and(|count| count > 0);
        ready && rustix::io::read(&driver.call, &mut [0_u8; 8]).is_ok()
    }

    /// Wants no calls for a ring, from now on; of a guest that looks by itself.
    pub fn calls_refuse(&mut self, ring: usize) {
        if let Some(driver) = self.drivers.get(ring) {
            driver.ring.set_available_flags(NO_NOTIFICATION);
            driver.ring.set_used_event(driver.used.wrapping_sub(1));
        }
    }

    /// Writes into the guest's memory; for what no driver would do.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        poke(&self.memory, address, bytes);
    }

    /// Where a ring lies in the guest: descriptors, available, used.
    pub fn ring_at(&self, ring: usize) -> Option<[u64; 3]> {
        let addresses = &self.drivers.get(ring)?.addresses;
        Some([addresses.descriptors, addresses.available, addresses.used].map(|user| user - USER_SHIFT))
    }

    /// Kicks whatever the device says that it wants.
    pub fn kick_anyway(&self, ring: usize) {
        if let Some(driver) = self.drivers.get(ring) {
            let _ = rustix::io::write(&driver.kick, &1_u64.to_ne_bytes());
        }
    }
}

impl Driver {
    fn slot_of(&self, head: u16) -> u64 {
        self.slots + u64::from(head) * self.slot + (PIECES_MAX * DESCRIPTOR_LENGTH) as u64
    }

    /// Puts one buffer of `length` bytes in, to be written.
    fn offer(&mut self, head: u16, length: u32) {
        let descriptor = Descriptor { address: self.slot_of(head), length, flags: DESCRIPTOR_WRITE, next: 0 };
        self.ring.set_descriptor(head, descriptor);
        self.ring.set_available(self.available, head);
        self.available = self.available.wrapping_add(1);
    }

    fn transmit(
        &mut self,
        memory: &Memory,
        header: &NetHeader,
        packet: &[u8],
        pieces: usize,
        indirect: bool,
    ) -> bool {
        let needed = if indirect { 1 } else { pieces };
        let Some(from) = self.free.len().checked_sub(needed) else { return false };
        let taken = self.free.split_off(from);
        let Some(&head) = taken.first() else { return false };
        let slot = self.slot_of(head);
        poke(memory, slot, header);
        poke(memory, slot + header.len() as u64, packet);
        let length = packet.len() as u64;
        // One piece: all. More: the header alone, and the packet in equal parts.
        let mut parts = vec![(slot, header.len() as u64 + length)];
        if pieces > 1 {
            let data = slot + header.len() as u64;
            let each = length.div_ceil(pieces as u64 - 1).max(1);
            parts = vec![(slot, header.len() as u64)];
            parts.extend((0..pieces as u64 - 1).map(|part| {
                let start = (part * each).min(length);
                (data + start, (length - start).min(each))
            }));
        }
        let table = slot - (PIECES_MAX * DESCRIPTOR_LENGTH) as u64;
        let count = parts.len();
        for (at, (address, length)) in parts.into_iter().enumerate() {
            let last = at + 1 == count;
            let flags = if last { 0 } else { DESCRIPTOR_NEXT };
            let next = if indirect { at as u16 + 1 } else { taken.get(at + 1).copied().unwrap_or(0) };
            let descriptor = Descriptor { address, length: length as u32, flags, next };
            if indirect {
                let (low, high) = descriptor.to_words();
                let bytes = [low.to_le_bytes(), high.to_le_bytes()].concat();
                poke(memory, table + (at * DESCRIPTOR_LENGTH) as u64, &bytes);
            } else if let Some(index) = taken.get(at) {
                self.ring.set_descriptor(*index, descriptor);
            }
        }
        if indirect {
            let length = (count * DESCRIPTOR_LENGTH) as u32;
            let flags = DESCRIPTOR_INDIRECT;
            self.ring.set_descriptor(head, Descriptor { address: table, length, flags, next: 0 });
        }
        if let Some(chain) = self.chains.get_mut(usize::from(head)) {
            *chain = taken;
        }
        self.ring.set_available(self.available, head);
        self.available = self.available.wrapping_add(1);
        true
    }

    fn publish(&mut self) -> bool {
        if self.available == self.kicked {
            return false;
        }
        self.ring.set_available_index(self.available);
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.kicked, self.available);
        let wanted = if self.event_index {
            passes(self.ring.available_event(), self.available, old)
        } else {
            self.ring.used_flags() & NO_NOTIFICATION == 0
        };
        wanted && rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).is_ok()
    }

    /// The next buffer that was given back: its head, and what was written.
    fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.ring.used_index() == self.used {
            // To be called at the next; which may have come while that was said.
            self.ring.set_used_event(self.used);
            fence(Ordering::SeqCst);
            if self.ring.used_index() == self.used {
                return None;
            }
        }
        let (head, written) = self.ring.used(self.used);
        self.used = self.used.wrapping_add(1);
        Some((head as u16, written))
    }
}

fn stream(path: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn poke(memory: &Memory, address: u64, bytes: &[u8]) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let Some((start, length)) = memory.guest(address + done as u64, rest.len(), &mut 0) else { return };
        // SAFETY: `length` bytes are mapped at `start`, and it is at most what is left.
        unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), start, length) };
        done += length;
    }
}

fn peek(memory: &Memory, address: u64, bytes: &mut [u8]) {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let Some((start, length)) = memory.guest(address + done as u64, rest.len(), &mut 0) else { return };
        // SAFETY: as in `poke`, the other way about.
        unsafe { std::ptr::copy_nonoverlapping(start, rest.as_mut_ptr(), length) };
        done += length;
    }
}
