//! The device's side of a split ring: chains of buffers are taken, used, and given back in the order in which they
//! were taken.
//!
//! ```text
//!   used index in the ring        taken up to              the driver's available index
//!        published ──── done ──────── next ────────────────── seen
//!        │ given back,   │ taken, and   │ free to be taken
//!        │ not yet shown │ in use       │
//! ```
//!
//! **Where a ring stands is in the ring.** Since buffers go back in order, what a dead back end had taken and not
//! given back is exactly what lies between the ring's used index and its available index; so a queue begins at the
//! used index, whatever position the front end names (QEMU's is a guess when the back end died: it prints `ring
//! restore failed`). For the same reason the shared record of what is in flight (`GET_INFLIGHT_FD`) stays empty: it
//! exists for devices that complete out of order and must not do a request twice. Of what a guest sends, at most the
//! packets that were taken when the process died go out a second time, as a network may do with any packet; of what
//! it receives, nothing is in a buffer that was not given back.
//!
//! Called by [`super::net`].
//!
//! Invariant: a chain has at most as many buffers as the ring (or its indirect table) has entries: loops end.
//! Invariant: each descriptor is read once; what was checked is what is used.

use super::memory::{DirtyLog, Memory};
use super::ring::{
    DESCRIPTOR_INDIRECT, DESCRIPTOR_LENGTH, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, Descriptor, NO_NOTIFICATION,
    Ring, passes,
};
use super::session::RingSetup;
use super::{RING_SIZE_MAX, feature};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use thiserror::Error;

/// What a driver has done that no driver may. Its ring stops until the front end starts it again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RingError {
    #[error("the ring's addresses are not in the guest's memory, or not aligned")]
    Addresses,
    #[error("the available index went from {from} to {to}, past the ring's size")]
    Available { from: u16, to: u16 },
    #[error("there is no descriptor {0}")]
    Descriptor(u16),
    #[error("a chain has more buffers than its table has descriptors")]
    Endless,
    #[error("a buffer at {0:#x} is not in the guest's memory")]
    Buffer(u64),
    #[error("a buffer is for the other direction")]
    Direction,
    #[error("an indirect table of {0} bytes, or with a table in it, or not negotiated")]
    Indirect(u32),
    #[error("a chain of 4 GiB or more")]
    TooLong,
}

/// Who fills the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The driver: the device reads.
    Read,
    /// The device writes.
    Write,
}

/// A buffer, or the part of one that lies in one piece of memory. At least one byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// In the guest.
    pub address: u64,
    /// Here: as many bytes as `length`, for as long as the queue's [`Memory`] lives.
    pub start: *mut u8,
    /// Bytes.
    pub length: usize,
}

/// Buffers that belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// By which it is given back.
    pub head: u16,
    /// Of all its buffers.
    pub length: u32,
}

/// Where writes are marked while a guest migrates.
#[derive(Clone, Debug)]
struct Logging {
    log: Arc<DirtyLog>,
    /// The used ring's address in the guest, if its writes are to be marked.
    used: Option<u64>,
}

/// A ring at work.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    seen: u16,
    next: u16,
    done: u16,
    published: u16,
    /// The guest is to be called whatever it says: after a start, when a call may have been lost with the process
    /// before.
    call_owed: bool,
    event_index: bool,
    indirect: bool,
    /// The region of memory in which the last buffer was.
    hint: usize,
    /// Descriptors that were read since somebody began to count. Buffers may be empty, so neither bytes nor pieces
    /// bound the work that a guest makes.
    walked: u32,
    logging: Option<Logging>,
    broken: Option<RingError>,
}

// SAFETY: `Ring` is `Send`; the rest is plain.
unsafe impl Send for Piece {}

impl Queue {
    /// Begins where the ring says that it stands.
    pub fn start(memory: Arc<Memory>, setup: &RingSetup, features: u64) -> Result<Queue, RingError> {
        let addresses = &setup.addresses;
        let ring = Ring::new(memory, setup.size, addresses.descriptors, addresses.available, addresses.used)
            .ok_or(RingError::Addresses)?;
        let position = ring.used_index();
        if position != setup.position {
            tracing::debug!(
                ring = setup.index,
                position,
                said = setup.position,
                "ring position from the ring"
            );
        }
        let mut queue = Queue {
            ring,
            seen: position,
            next: position,
            done: position,
            published: position,
            call_owed: true,
            event_index: features & feature::EVENT_IDX != 0,
            indirect: features & feature::INDIRECT_DESC != 0,
            hint: 0,
            walked: 0,
            logging: None,
            broken: None,
        };
        queue.kicks_refuse();
        Ok(queue)
    }

    /// Marks writes from now on, or no longer; of the used ring at `used` in the guest, too.
    pub fn log(&mut self, log: Option<Arc<DirtyLog>>, used: Option<u64>) {
        self.logging = log.map(|log| Logging { log, used });
    }

    /// The log of writes into buffers.
    pub(crate) fn dirty_log(&self) -> Option<&DirtyLog> {
        self.logging.as_ref().map(|logging| &*logging.log)
    }

    /// The memory that its buffers lie in.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        self.ring.memory()
    }

    /// Begins to count descriptors.
    #[inline]
    pub(crate) fn walked_reset(&mut self) {
        self.walked = 0;
    }

    /// How many descriptors have been read since.
    #[inline]
    pub(crate) fn walked(&self) -> u32 {
        self.walked
    }

    /// Why it stands still, if it does.
    pub fn broken(&self) -> Option<RingError> {
        self.broken
    }

    /// Shows what has been given back, and answers where the ring stands. Nothing more is taken from it.
    pub fn stop(mut self) -> u16 {
        self.publish();
        self.published
    }

    /// How many chains can be taken.
    #[inline]
    pub fn waiting(&mut self) -> u16 {
        if self.broken.is_some() {
            return 0;
        }
        if self.seen == self.next {
            self.look();
        }
        self.seen.wrapping_sub(self.next)
    }

    fn look(&mut self) {
        let index = self.ring.available_index();
        if index.wrapping_sub(self.done) > self.ring.size() {
            self.broken = Some(RingError::Available { from: self.done, to: index });
        } else {
            self.seen = index;
        }
    }

    /// Takes the next chain, if there is one, and shows its buffers. What was shown of a chain before an error is of
    /// no use.
    #[inline]
    pub(crate) fn take(&mut self, direction: Direction, show: impl FnMut(Piece)) -> Option<Chain> {
        if self.waiting() == 0 {
            return None;
        }
        match self.walk(direction, show) {
            Ok(chain) => {
                self.next = self.next.wrapping_add(1);
                Some(chain)
            }
            Err(error) => {
                self.broken = Some(error);
                None
            }
        }
    }

    /// Takes the next chain if it is the plain case: one buffer in one piece, for the device to write, of at least
    /// `length` bytes. If it is any other, or broken, nothing has happened.
    #[inline]
    pub(crate) fn take_plain(&mut self, length: usize) -> Option<(u16, Piece)> {
        if self.waiting() == 0 {
            return None;
        }
        let head = self.ring.available(self.next);
        let descriptor = self.ring.descriptor(head)?;
        if descriptor.flags != DESCRIPTOR_WRITE || (descriptor.length as usize) < length {
            return None;
        }
        let address = descriptor.address;
        let (start, there) = self.ring.memory().guest(address, descriptor.length as usize, &mut self.hint)?;
        if there < length {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        Some((head, Piece { address, start, length: there }))
    }

    /// The last `count` chains have not been taken.
    pub(crate) fn untake(&mut self, count: u16) {
        debug_assert!(count <= self.next.wrapping_sub(self.done));
        self.next = self.next.wrapping_sub(count);
    }

    #[inline]
    fn walk(&mut self, direction: Direction, mut show: impl FnMut(Piece)) -> Result<Chain, RingError> {
        let head = self.ring.available(self.next);
        let mut length = 0_u64;
        let mut index = head;
        for _ in 0..self.ring.size() {
            let descriptor = self.ring.descriptor(index).ok_or(RingError::Descriptor(index))?;
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                length += self.walk_indirect(direction, &descriptor, &mut show)?;
                return chain(head, length);
            }
            length += u64::from(descriptor.length);
            self.show(direction, &descriptor, &mut show)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return chain(head, length);
            }
            index = descriptor.next;
        }
        Err(RingError::Endless)
    }

    #[inline]
    fn walk_indirect(
        &mut self,
        direction: Direction,
        table: &Descriptor,
        show: &mut impl FnMut(Piece),
    ) -> Result<u64, RingError> {
        let entries = table.length as usize / DESCRIPTOR_LENGTH;
        let exact = (table.length as usize).is_multiple_of(DESCRIPTOR_LENGTH);
        let alone = table.flags & DESCRIPTOR_NEXT == 0;
        if !self.indirect || !exact || !alone || entries == 0 || entries > usize::from(RING_SIZE_MAX) {
            return Err(RingError::Indirect(table.length));
        }
        // Nearly always in one piece; the guest's regions may also meet within it.
        let whole = table.length as usize;
        let plain = self.ring.memory().guest(table.address, whole, &mut self.hint);
        let plain = plain.filter(|(_, there)| *there == whole).map(|(start, _)| start);
        let mut length = 0_u64;
        let mut index = 0_u16;
        for _ in 0..entries {
            if usize::from(index) >= entries {
                return Err(RingError::Descriptor(index));
            }
            let offset = usize::from(index) * DESCRIPTOR_LENGTH;
            let descriptor = if let Some(start) = plain {
                // SAFETY: `index` is less than the entries, all of which lie at `start`. Not aligned, and read once.
                let words = unsafe { start.add(offset).cast::<[u64; 2]>().read_unaligned() };
                Descriptor::from_words(words[0], words[1])
            } else {
                let address = table.address.checked_add(offset as u64);
                self.descriptor_at(address.ok_or(RingError::Buffer(table.address))?)?
            };
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                return Err(RingError::Indirect(table.length));
            }
            length += u64::from(descriptor.length);
            self.show(direction, &descriptor, show)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(length);
            }
            index = descriptor.next;
        }
        Err(RingError::Endless)
    }

    /// A descriptor of an indirect table, which need not be aligned and may cross from one region into the next.
    #[cold]
    fn descriptor_at(&mut self, address: u64) -> Result<Descriptor, RingError> {
        let mut bytes = [0_u8; DESCRIPTOR_LENGTH];
        let mut have = 0;
        while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
            let at = address.checked_add(have as u64).ok_or(RingError::Buffer(address))?;
            let (start, length) =
                self.ring.memory().guest(at, rest.len(), &mut self.hint).ok_or(RingError::Buffer(address))?;
            // SAFETY: `length` bytes lie at `start`, and `guest` answers at most as many as were asked for.
            unsafe { std::ptr::copy_nonoverlapping(start, rest.as_mut_ptr(), length.min(rest.len())) };
            have += length;
        }
        let words = u128::from_le_bytes(bytes);
        Ok(Descriptor::from_words(words as u64, (words >> 64) as u64))
    }

    #[inline]
    fn show(
        &mut self,
        direction: Direction,
        descriptor: &Descriptor,
        show: &mut impl FnMut(Piece),
    ) -> Result<(), RingError> {
        self.walked = self.walked.saturating_add(1);
        if (descriptor.flags & DESCRIPTOR_WRITE != 0) != (direction == Direction::Write) {
            return Err(RingError::Direction);
        }
        let mut address = descriptor.address;
        let mut left = descriptor.length as usize;
        while left > 0 {
            let (start, length) = self
                .ring
                .memory()
                .guest(address, left, &mut self.hint)
                .ok_or(RingError::Buffer(descriptor.address))?;
            show(Piece { address, start, length });
            // A region ends at 2^64 - 1 at most, so this does not wrap.
            address += length as u64;
            left -= length;
        }
        Ok(())
    }

    /// Gives a chain back, with as many bytes written. The driver sees it after [`Queue::publish`].
    #[inline]
    pub(crate) fn give_back(&mut self, head: u16, written: u32) {
        debug_assert!(self.done != self.next, "more is given back than was taken");
        self.ring.set_used(self.done, head, written);
        if let Some(Logging { log, used: Some(used) }) = &self.logging {
            let slot = u64::from(self.done & (self.ring.size() - 1));
            log.mark(used.saturating_add(4 + slot * 8), 8);
        }
        self.done = self.done.wrapping_add(1);
    }

    /// Shows the driver what has been given back; answers whether it wants to be called for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.done == self.published && !self.call_owed {
            return false;
        }
        self.ring.set_used_index(self.done);
        if let Some(Logging { log, used: Some(used) }) = &self.logging {
            log.mark(*used, 4);
        }
        let old = std::mem::replace(&mut self.published, self.done);
        if std::mem::take(&mut self.call_owed) {
            return true;
        }
        // The driver writes what it wants and then reads the index; we write the index and then read what it wants.
        fence(Ordering::SeqCst);
        if self.event_index {
            passes(self.ring.used_event(), self.done, old)
        } else {
            self.ring.available_flags() & NO_NOTIFICATION == 0
        }
    }

    /// Asks for a kick when the next chain is put in. True: one is there already, and the kick may not come.
    pub fn kicks_ask(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if self.event_index {
            self.ring.set_available_event(self.next);
            self.log_available_event();
        } else {
            self.ring.set_used_flags(0);
        }
        // As above, the other way about.
        fence(Ordering::SeqCst);
        self.waiting() > 0
    }

    /// Wants no kicks. With event indexes that is the case as soon as the driver has passed the last one asked for.
    pub fn kicks_refuse(&mut self) {
        if self.event_index {
            // Just passed: not to be reached again for 2^16 chains.
            self.ring.set_available_event(self.next.wrapping_sub(1));
            self.log_available_event();
        } else {
            self.ring.set_used_flags(NO_NOTIFICATION);
        }
    }

    fn log_available_event(&self) {
        if let Some(Logging { log, used: Some(used) }) = &self.logging {
            log.mark(used.saturating_add(4 + u64::from(self.ring.size()) * 8), 2);
        }
    }
}

#[inline]
fn chain(head: u16, length: u64) -> Result<Chain, RingError> {
    Ok(Chain { head, length: u32::try_from(length).map_err(|_| RingError::TooLong)? })
}
