//! A split ring in a guest's memory: its three parts, read and written where they lie.
//!
//! ```text
//!   descriptors: size x { address u64, length u32, flags u16, next u16 }                aligned to 16
//!   available:   flags u16, index u16, size x { head u16 }, used_event u16              aligned to 2, the driver's
//!   used:        flags u16, index u16, size x { head u32, length u32 }, available_event u16     aligned to 4, ours
//! ```
//! *Virtio 1.2*, sections 2.7.5 to 2.7.8. All little-endian, as is every machine that this is built for.
//!
//! Called by [`super::queue`], and by the front end that plays a driver.
//!
//! Invariant: each access is within the three parts, whose extent was checked once, whatever the guest has written.

use super::memory::Memory;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

#[cfg(target_endian = "big")]
compile_error!("rings are little-endian and read as they lie");

/// The buffer goes on in the descriptor `next`.
pub const DESCRIPTOR_NEXT: u16 = 1;
/// The device writes it.
pub const DESCRIPTOR_WRITE: u16 = 2;
/// It is a table of descriptors.
pub const DESCRIPTOR_INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub const DESCRIPTOR_LENGTH: usize = 16;

/// In the flags of either side: the other need not notify. Without [`super::feature::EVENT_IDX`].
pub const NO_NOTIFICATION: u16 = 1;

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// In the guest.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// `DESCRIPTOR_...`
    pub flags: u16,
    /// Which descriptor follows, if one does.
    pub next: u16,
}

impl Descriptor {
    /// From the two words that it is.
    #[inline]
    pub fn from_words(low: u64, high: u64) -> Descriptor {
        Descriptor {
            address: low,
            length: high as u32,
            flags: (high >> 32) as u16,
            next: (high >> 48) as u16,
        }
    }

    /// To the two words that it is.
    pub fn to_words(self) -> (u64, u64) {
        (self.address, u64::from(self.length) | u64::from(self.flags) << 32 | u64::from(self.next) << 48)
    }
}

/// A ring. Indexes are positions, counted without end modulo 2^16.
#[derive(Debug)]
pub struct Ring {
    size: u16,
    descriptors: NonNull<u8>,
    available: NonNull<u8>,
    used: NonNull<u8>,
    /// The pointers are into this.
    memory: Arc<Memory>,
}

// SAFETY: the pointers are into `memory`, which is `Send`.
unsafe impl Send for Ring {}

impl Ring {
    /// One of `size` entries (a power of two) at these addresses of QEMU's. None if they are not in the memory.
    pub fn new(memory: Arc<Memory>, size: u16, descriptors: u64, available: u64, used: u64) -> Option<Ring> {
        if !size.is_power_of_two() {
            return None;
        }
        let entries = usize::from(size);
        Some(Ring {
            size,
            descriptors: memory.user(descriptors, entries * DESCRIPTOR_LENGTH, 16)?,
            available: memory.user(available, entries * 2 + 6, 2)?,
            used: memory.user(used, entries * 8 + 6, 4)?,
            memory,
        })
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The memory that it lies in.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// A descriptor, or none if the table has none of that number.
    #[inline]
    pub fn descriptor(&self, index: u16) -> Option<Descriptor> {
        let (low, high) = self.descriptor_words(index)?;
        Some(Descriptor::from_words(low.load(Ordering::Relaxed), high.load(Ordering::Relaxed)))
    }

    /// The driver's side: writes a descriptor.
    pub fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        if let Some((low, high)) = self.descriptor_words(index) {
            let words = descriptor.to_words();
            low.store(words.0, Ordering::Relaxed);
            high.store(words.1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn descriptor_words(&self, index: u16) -> Option<(&AtomicU64, &AtomicU64)> {
        if index >= self.size {
            return None;
        }
        // SAFETY: `index` is less than the size, for which 16 bytes each were checked, aligned to 16.
        unsafe {
            let low = self.descriptors.as_ptr().add(usize::from(index) * DESCRIPTOR_LENGTH).cast::<u64>();
            Some((AtomicU64::from_ptr(low), AtomicU64::from_ptr(low.add(1))))
        }
    }

    /// A 16-bit word of the available ring.
    #[inline]
    fn available_word(&self, word: usize) -> &AtomicU16 {
        debug_assert!(word < usize::from(self.size) + 3);
        // SAFETY: callers below pass at most `size + 2`; `size * 2 + 6` bytes were checked, aligned to 2.
        unsafe { AtomicU16::from_ptr(self.available.as_ptr().cast::<u16>().add(word)) }
    }

    /// A 16-bit word of the used ring that is not in an entry: 0, 1, or the last.
    #[inline]
    fn used_word(&self, word: usize) -> &AtomicU16 {
        debug_assert!(word < usize::from(self.size) * 4 + 3);
        // SAFETY: callers below pass 0, 1 or `size * 4 + 2`; `size * 8 + 6` bytes were checked, aligned to 4.
        unsafe { AtomicU16::from_ptr(self.used.as_ptr().cast::<u16>().add(word)) }
    }

    #[inline]
    fn slot(&self, position: u16) -> usize {
        usize::from(position & (self.size - 1))
    }

    /// Whether the driver wants no calls.
    pub fn available_flags(&self) -> u16 {
        self.available_word(0).load(Ordering::Relaxed)
    }

    /// The driver's side.
    pub fn set_available_flags(&self, flags: u16) {
        self.available_word(0).store(flags, Ordering::Relaxed);
    }

    /// Up to which position the driver has put buffers in. What it wrote before is seen after.
    #[inline]
    pub fn available_index(&self) -> u16 {
        self.available_word(1).load(Ordering::Acquire)
    }

    /// The driver's side.
    pub fn set_available_index(&self, index: u16) {
        self.available_word(1).store(index, Ordering::Release);
    }

    /// The first descriptor of the buffer at a position.
    #[inline]
    pub fn available(&self, position: u16) -> u16 {
        self.available_word(2 + self.slot(position)).load(Ordering::Relaxed)
    }

    /// The driver's side.
    pub fn set_available(&self, position: u16, head: u16) {
        self.available_word(2 + self.slot(position)).store(head, Ordering::Relaxed);
    }

    /// The driver wants to be called when the used index passes this.
    #[inline]
    pub fn used_event(&self) -> u16 {
        self.available_word(2 + usize::from(self.size)).load(Ordering::Relaxed)
    }

    /// The driver's side.
    pub fn set_used_event(&self, position: u16) {
        self.available_word(2 + usize::from(self.size)).store(position, Ordering::Relaxed);
    }

    /// The driver's side: whether the device wants no kicks.
    pub fn used_flags(&self) -> u16 {
        self.used_word(0).load(Ordering::Relaxed)
    }

    /// Says whether kicks are wanted.
    pub fn set_used_flags(&self, flags: u16) {
        self.used_word(0).store(flags, Ordering::Relaxed);
    }

    /// Up to which position buffers have been given back.
    #[inline]
    pub fn used_index(&self) -> u16 {
        self.used_word(1).load(Ordering::Acquire)
    }

    /// Gives back what has been written to entries before this position.
    #[inline]
    pub fn set_used_index(&self, index: u16) {
        self.used_word(1).store(index, Ordering::Release);
    }

    #[inline]
    fn used_entry(&self, position: u16) -> *mut u32 {
        // SAFETY: a slot is less than the size, for which 8 bytes each were checked behind the first 4.
        unsafe { self.used.as_ptr().add(4 + self.slot(position) * 8).cast() }
    }

    /// The entry at a position: head, and how many bytes were written. The driver's side.
    pub fn used(&self, position: u16) -> (u32, u32) {
        let entry = self.used_entry(position);
        // SAFETY: within the used ring, aligned to 4; the device may write it at the same time.
        unsafe { (entry.read_volatile(), entry.add(1).read_volatile()) }
    }

    /// Writes the entry at a position; the driver sees it when the index has passed it.
    #[inline]
    pub fn set_used(&self, position: u16, head: u16, written: u32) {
        let entry = self.used_entry(position);
        // SAFETY: within the used ring, aligned to 4. Only this side writes it, unless the guest is broken.
        unsafe {
            entry.write_volatile(u32::from(head));
            entry.add(1).write_volatile(written);
        }
    }

    /// The driver's side: the device wants to be kicked when the available index passes this.
    pub fn available_event(&self) -> u16 {
        self.used_word(2 + usize::from(self.size) * 4).load(Ordering::Relaxed)
    }

    /// Says from which position on a kick is wanted.
    #[inline]
    pub fn set_available_event(&self, position: u16) {
        self.used_word(2 + usize::from(self.size) * 4).store(position, Ordering::Relaxed);
    }
}

/// Whether a move of an index from `old` to `new` passes `event` (*Virtio 1.2*, section 2.7.10).
#[inline]
pub fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_passed_once_also_where_the_index_wraps() {
        for old in [0_u16, 5, 65530] {
            for moved in 0..20_u16 {
                for event in 0..40_u16 {
                    let event = old.wrapping_sub(10).wrapping_add(event);
                    let within = event.wrapping_sub(old) < moved;
                    assert_eq!(passes(event, old.wrapping_add(moved), old), within);
                }
            }
        }
    }

    #[test]
    fn a_descriptor_is_its_two_words() {
        let descriptor =
            Descriptor { address: 0x1122_3344_5566_7788, length: 0x99aa_bbcc, flags: 7, next: 0xfffe };
        let (low, high) = descriptor.to_words();
        assert_eq!(Descriptor::from_words(low, high), descriptor);
        assert_eq!(high, 0xfffe_0007_99aa_bbcc);
    }
}
