//! Packets of a guest: taken from its rings in batches, and put into them.
//!
//! A packet begins with virtio's header (12 bytes; *Virtio 1.2*, section 5.1.6), which says what the guest has left
//! to the device: a checksum to fill in, a large packet to cut. It goes through as it is, from guest to guest.
//!
//! Called by the switch's loop: [`Device::receive`], the engine on the heads, [`Device::send`] elsewhere with the
//! payloads, [`Device::complete`], [`Device::flush`].
//!
//! Invariant: a payload is copied once. A head is a copy of ours: what the engine has checked stays as it was.
//! Invariant: a batch keeps the memory mapped that its payloads lie in.

use super::device::{Device, Slot};
use super::feature;
use super::memory::{DirtyLog, Memory};
use super::queue::{Chain, Direction, Piece, Queue};
use crate::span::{self, Span};
use std::sync::Arc;
use thiserror::Error;

/// Bytes of virtio's header.
pub const HEADER_LENGTH: usize = 12;
/// Bytes of the header of a driver from before virtio 1.0 without mergeable buffers: no count of buffers.
const HEADER_LENGTH_OLD: usize = 10;
/// Room in front of a head, for what the engine puts there.
pub const HEADROOM: usize = 64;
/// The most bytes of a packet that are copied into its head.
pub const HEAD_MAX: usize = 256;
/// The most packets of a batch.
pub const BATCH_MAX: usize = 64;
/// The longest packet that is taken: an IPv6 payload of 2^16 - 1 bytes with its header and Ethernet's.
pub const PACKET_MAX: usize = 65535 + 40 + 14;
/// From so many descriptors on, a batch is full: a guest that scatters its packets gets smaller batches.
const DESCRIPTORS_MAX: u32 = 1024;
/// So many descriptors are looked at for one packet to a guest: 64 KiB in buffers of 64 bytes.
const ROOM_DESCRIPTORS_MAX: u32 = 1024;

/// Virtio's header, as it lies in the ring.
pub type NetHeader = [u8; HEADER_LENGTH];

/// A packet that a guest has sent.
#[derive(Clone, Debug)]
pub struct Packet {
    /// As the guest wrote it; of its count of buffers nothing is known.
    pub header: NetHeader,
    length: u32,
    head_length: u16,
    payload: (u32, u32),
    buffer: [u8; HEADROOM + HEAD_MAX],
}

impl Packet {
    const EMPTY: Packet = Packet {
        header: [0; HEADER_LENGTH],
        length: 0,
        head_length: 0,
        payload: (0, 0),
        buffer: [0; HEADROOM + HEAD_MAX],
    };

    /// Bytes of the whole packet from its Ethernet header on.
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// Its first bytes: all, or [`HEAD_MAX`].
    pub fn head(&self) -> &[u8] {
        self.buffer.get(HEADROOM..HEADROOM + usize::from(self.head_length)).unwrap_or(&[])
    }

    /// The same with [`HEADROOM`] bytes in front, and how long the head is behind them.
    pub fn buffer(&mut self) -> (&mut [u8; HEADROOM + HEAD_MAX], usize) {
        (&mut self.buffer, usize::from(self.head_length))
    }
}

/// Packets that were taken from a guest together. Used again and again.
#[derive(Debug)]
pub struct Batch {
    packets: Vec<Packet>,
    filled: usize,
    spans: Vec<Span<'static>>,
    /// All that was taken and is to be given back: also what was no packet.
    heads: Vec<u16>,
    from: Option<(usize, u64)>,
    /// The spans point into this.
    memory: Option<Arc<Memory>>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty one.
    pub fn new() -> Batch {
        Batch {
            packets: vec![Packet::EMPTY; BATCH_MAX],
            filled: 0,
            spans: Vec::with_capacity(DESCRIPTORS_MAX as usize),
            heads: Vec::with_capacity(BATCH_MAX),
            from: None,
            memory: None,
        }
    }

    /// How many packets are in it.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The packets, and where the rest of each lies.
    pub fn parts(&mut self) -> (&mut [Packet], Payloads<'_>) {
        (self.packets.get_mut(..self.filled).unwrap_or(&mut []), Payloads { spans: &self.spans })
    }

    fn clear(&mut self) {
        self.filled = 0;
        self.spans.clear();
        self.heads.clear();
        self.from = None;
        // Or an idle switch would keep the memory of a guest that is gone.
        self.memory = None;
    }
}

/// Where the bytes behind the heads lie.
#[derive(Clone, Copy, Debug)]
pub struct Payloads<'a> {
    spans: &'a [Span<'a>],
}

impl<'a> Payloads<'a> {
    /// Of one packet of the batch.
    pub fn of(&self, packet: &Packet) -> &'a [Span<'a>] {
        self.spans.get(packet.payload.0 as usize..packet.payload.1 as usize).unwrap_or(&[])
    }
}

/// Why a guest does not get a packet.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SendError {
    #[error("the guest's driver is not there")]
    NotReady,
    #[error("the guest has not given enough buffers")]
    NoBuffer,
    #[error("the packet is longer than the guest's buffer, and it takes no packet in several")]
    TooLong,
}

impl Device {
    /// Takes packets that the guest has sent through a pair of queues: as many as there are and fit. What was in the
    /// batch must have been [completed](Device::complete).
    pub fn receive(&mut self, pair: usize, batch: &mut Batch) -> usize {
        batch.clear();
        let index = pair * 2 + 1;
        let header_length = self.header_length();
        let Some(slot) = self.slots.get_mut(index) else { return 0 };
        let Slot { queue: Some(queue), enabled, epoch, .. } = slot else { return 0 };
        batch.from = Some((index, *epoch));
        // The spans are valid for as long as this is held.
        batch.memory = Some(queue.memory().clone());
        take_chains(queue, batch);
        if !*enabled {
            batch.filled = 0;
            self.counters.discarded += batch.heads.len() as u64;
        } else {
            self.counters.malformed += read_heads(batch, header_length);
        }
        let broken = queue.broken();
        if broken.is_some() {
            self.report_broken(index);
        }
        if batch.filled == 0 {
            self.complete(batch);
        }
        batch.filled
    }

    /// Gives the buffers of a batch back to the guest it came from, unless its ring has been stopped meanwhile.
    pub fn complete(&mut self, batch: &mut Batch) {
        if let Some((index, epoch)) = batch.from.take()
            && let Some(Slot { queue: Some(queue), epoch: now, .. }) = self.slots.get_mut(index)
            && *now == epoch
        {
            for head in &batch.heads {
                queue.give_back(*head, 0);
            }
        }
        batch.clear();
    }

    /// Puts a packet into the guest's buffers. The guest sees it after [`Device::flush`].
    pub fn send(
        &mut self,
        pair: usize,
        header: &NetHeader,
        head: &[u8],
        payload: &[Span<'_>],
    ) -> Result<(), SendError> {
        let index = pair * 2;
        let merge = self.features & feature::MRG_RXBUF != 0;
        let header_length = self.header_length();
        let slot = self.slots.get_mut(index).ok_or(SendError::NotReady)?;
        let Slot { queue: Some(queue), enabled: true, .. } = slot else { return Err(SendError::NotReady) };
        let total = header_length + head.len() + span::length(payload);
        if let Some((head_index, piece)) = queue.take_plain(total) {
            let mut writer = Writer::new(&[], Some(piece), queue.dirty_log());
            writer.put_all(header, 1, header_length, head, payload);
            queue.give_back(head_index, total as u32);
            return Ok(());
        }
        let scratch = &mut self.scratch;
        if let Err(error) = reserve(queue, scratch, total, merge) {
            if queue.broken().is_some() {
                self.report_broken(index);
            }
            return Err(error);
        }
        let mut writer = Writer::new(&scratch.pieces, None, queue.dirty_log());
        writer.put_all(header, scratch.chains.len() as u16, header_length, head, payload);
        let mut left = total;
        for chain in &scratch.chains {
            let written = left.min(chain.length as usize);
            left -= written;
            queue.give_back(chain.head, written as u32);
        }
        Ok(())
    }

    /// Shows the guest what has been done, in all rings, and calls it where it wants that: once for all.
    pub fn flush(&mut self) {
        for slot in &mut self.slots {
            if let Some(queue) = &mut slot.queue
                && queue.publish()
            {
                slot.call();
            }
        }
    }

    /// Asks the guest for kicks, before the loop goes to sleep. True: there is something to receive already.
    pub fn kicks_ask(&mut self) -> bool {
        let sending = self.slots.iter_mut().skip(1).step_by(2);
        sending.filter_map(|slot| slot.queue.as_mut()).fold(false, |more, queue| queue.kicks_ask() | more)
    }

    /// Wants no kicks: the loop is awake and looks by itself.
    pub fn kicks_refuse(&mut self) {
        for slot in self.slots.iter_mut().skip(1).step_by(2) {
            if let Some(queue) = &mut slot.queue {
                queue.kicks_refuse();
            }
        }
    }

    /// Bytes of virtio's header, as negotiated.
    fn header_length(&self) -> usize {
        if self.features & (feature::VERSION_1 | feature::MRG_RXBUF) != 0 {
            HEADER_LENGTH
        } else {
            HEADER_LENGTH_OLD
        }
    }
}

/// First of two passes: descriptors only, so that what they point at is on its way into the cache when it is read.
fn take_chains(queue: &mut Queue, batch: &mut Batch) {
    let Batch { packets, spans, heads, .. } = batch;
    queue.walked_reset();
    for packet in packets.iter_mut() {
        if queue.walked() >= DESCRIPTORS_MAX {
            break;
        }
        let first = spans.len();
        let taken = queue.take(Direction::Read, |piece| {
            prefetch(piece.start);
            // SAFETY: the piece is mapped for as long as the queue's memory lives, which the batch holds; its spans
            // are handed out for no longer than the batch is borrowed.
            spans.push(unsafe { Span::from_raw(piece.start, piece.length) });
        });
        let Some(Chain { head, length }) = taken else {
            spans.truncate(first);
            break;
        };
        heads.push(head);
        packet.length = length;
        packet.payload = (first as u32, spans.len() as u32);
    }
    batch.filled = heads.len();
}

/// Second pass: headers and heads are copied; what is no packet is left out. Answers how many were.
fn read_heads(batch: &mut Batch, header_length: usize) -> u64 {
    let taken = batch.filled;
    let mut good = 0;
    for at in 0..taken {
        let Some(packet) = batch.packets.get_mut(at) else { break };
        let (from, to) = (packet.payload.0 as usize, packet.payload.1 as usize);
        let Some(spans) = batch.spans.get_mut(from..to) else { break };
        let length = packet.length as usize;
        if length <= header_length || length - header_length > PACKET_MAX {
            continue;
        }
        packet.length = (length - header_length) as u32;
        let mut rest = Rest { spans, passed: 0 };
        rest.header(&mut packet.header, header_length);
        let head = (length - header_length).min(HEAD_MAX);
        rest.read(packet.buffer.get_mut(HEADROOM..HEADROOM + head).unwrap_or(&mut []));
        packet.head_length = head as u16;
        packet.payload.0 += rest.passed as u32;
        if good != at {
            batch.packets.swap(good, at);
        }
        good += 1;
    }
    batch.filled = good;
    (taken - good) as u64
}

/// Reads from the front of spans, which become shorter by what was read.
struct Rest<'a> {
    spans: &'a mut [Span<'static>],
    /// How many of them are empty now.
    passed: usize,
}

impl Rest<'_> {
    /// Reads virtio's header, which nearly always lies in one piece.
    #[inline]
    fn header(&mut self, header: &mut NetHeader, length: usize) {
        if let Some(span) = self.spans.first_mut().filter(|span| span.len() >= HEADER_LENGTH)
            && length == HEADER_LENGTH
        {
            *header = span.to_chunk().unwrap_or_default();
            *span = span.skip(HEADER_LENGTH);
            self.passed += usize::from(span.is_empty());
        } else {
            *header = [0; HEADER_LENGTH];
            self.read(header.get_mut(..length).unwrap_or(&mut []));
        }
    }

    #[inline]
    fn read(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let Some(span) = self.spans.get_mut(self.passed) else { return };
            let copied = span.copy_to(to);
            *span = span.skip(copied);
            if span.is_empty() {
                self.passed += 1;
            }
            let Some(rest) = to.get_mut(copied..) else { return };
            to = rest;
        }
    }
}

/// Buffers for one packet to a guest. Used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pieces: Vec<Piece>,
    chains: Vec<Chain>,
}

/// Takes chains until they hold `total` bytes; all or none.
#[inline]
fn reserve(queue: &mut Queue, scratch: &mut Scratch, total: usize, merge: bool) -> Result<(), SendError> {
    scratch.pieces.clear();
    scratch.chains.clear();
    let mut room = 0_usize;
    queue.walked_reset();
    while room < total {
        if queue.walked() >= ROOM_DESCRIPTORS_MAX {
            queue.untake(scratch.chains.len() as u16);
            return Err(SendError::NoBuffer);
        }
        if !merge && !scratch.chains.is_empty() {
            queue.untake(scratch.chains.len() as u16);
            return Err(SendError::TooLong);
        }
        let Some(chain) = queue.take(Direction::Write, |piece| scratch.pieces.push(piece)) else {
            queue.untake(scratch.chains.len() as u16);
            return Err(SendError::NoBuffer);
        };
        room += chain.length as usize;
        scratch.chains.push(chain);
    }
    Ok(())
}

/// Writes into pieces, one after the other. They are mapped for as long as the queue is there that they are of.
struct Writer<'a> {
    pieces: &'a [Piece],
    /// What is left of the one that is being written.
    piece: Piece,
    log: Option<&'a DirtyLog>,
}

impl<'a> Writer<'a> {
    #[inline]
    fn new(pieces: &'a [Piece], first: Option<Piece>, log: Option<&'a DirtyLog>) -> Writer<'a> {
        let none = Piece { address: 0, start: std::ptr::null_mut(), length: 0 };
        Writer { pieces, piece: first.unwrap_or(none), log }
    }

    /// A packet, with the number of buffers that it is in.
    #[inline]
    fn put_all(
        &mut self,
        header: &NetHeader,
        buffers: u16,
        header_length: usize,
        head: &[u8],
        payload: &[Span<'_>],
    ) {
        let mut header = *header;
        let [.., low, high] = &mut header;
        [*low, *high] = buffers.to_le_bytes();
        if header_length == HEADER_LENGTH {
            self.put(Span::from(&header[..]));
        } else {
            self.put(Span::from(&header[..HEADER_LENGTH_OLD]));
        }
        self.put(Span::from(head));
        for span in payload {
            self.put(*span);
        }
    }

    #[inline]
    fn put(&mut self, mut span: Span<'_>) {
        while !span.is_empty() {
            if self.piece.length == 0 {
                let Some((next, rest)) = self.pieces.split_first() else { return };
                (self.piece, self.pieces) = (*next, rest);
            }
            let Piece { address, start, length } = self.piece;
            let count = span.len().min(length);
            // SAFETY: `count` bytes are readable at the span and writable at the piece. It is at most the piece's
            // length, so what is left begins within the piece or at its end.
            let rest = unsafe {
                span::copy(span.as_ptr(), start, count);
                start.add(count)
            };
            if let Some(log) = self.log {
                log.mark(address, count as u64);
            }
            span = span.skip(count);
            self.piece =
                Piece { address: address.wrapping_add(count as u64), start: rest, length: length - count };
        }
    }
}

#[inline]
fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
