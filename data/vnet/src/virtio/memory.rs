//! A guest's memory, mapped: from its addresses to ours, with every bound checked.
//!
//! The memory is files that QEMU hands over. If somebody made one shorter while it is mapped here, the next access
//! would raise `SIGBUS` and end the switch for every guest of the host. So a file is taken only if it is *sealed*
//! against shrinking (`F_SEAL_SHRINK`), which QEMU's `memory-backend-memfd` is unless told otherwise; the kernel then
//! refuses to shorten it, to anybody, for ever. Memory in huge pages is refused for the same reason: a hole punched
//! into it raises `SIGBUS` when no page is left to fill it.
//!
//! Invariant: a pointer that leaves this module points at as many mapped bytes as it comes with, for as long as the
//! [`Memory`] that it is of lives.
//! Deliberately absent: references into the memory. A guest writes to it at any time.

use super::message::Region;
use super::session::REGIONS_MAX;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use thiserror::Error;

/// Bytes for which the log has a bit.
const LOG_PAGE: u64 = 4096;
/// `HUGETLBFS_MAGIC`.
const HUGE_PAGES: u64 = 0x958458f6;

/// What cannot be mapped.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum MemoryError {
    #[error("more than {REGIONS_MAX} pieces of memory")]
    TooMany,
    #[error("a piece of memory at {guest:#x} of {size:#x} bytes is empty, or wraps around")]
    Extent { guest: u64, size: u64 },
    #[error("pieces of memory at {0:#x} and {1:#x} overlap")]
    Overlap(u64, u64),
    #[error("its file has {found:#x} bytes, and it needs {needed:#x}")]
    FileTooShort { found: u64, needed: u64 },
    #[error("its file may be shortened: it is not sealed (QEMU: memory-backend-memfd with seal=on)")]
    NotSealed,
    #[error("its file is in huge pages")]
    HugePages,
    #[error("its file cannot be mapped")]
    Map(#[source] rustix::io::Errno),
}

/// A file, or a part of one, mapped to read and write.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    mapped: usize,
    /// From the mapping's first page to what was asked for.
    skip: usize,
    length: usize,
}

// SAFETY: a mapping is an address range that stays until it is dropped; it is no thread's own.
unsafe impl Send for Mapping {}
// SAFETY: access goes through raw pointers, by atomics or by copies that bear with concurrent writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `length` bytes of `file`, from `offset`.
    pub fn new(file: &OwnedFd, offset: u64, length: u64) -> Result<Mapping, MemoryError> {
        let needed = offset.checked_add(length).ok_or(MemoryError::Extent { guest: offset, size: length })?;
        if length == 0 || needed > i64::MAX as u64 {
            return Err(MemoryError::Extent { guest: offset, size: length });
        }
        let seals = rustix::fs::fcntl_get_seals(file).map_err(|_| MemoryError::NotSealed)?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(MemoryError::NotSealed);
        }
        let system = rustix::fs::fstatfs(file).map_err(MemoryError::Map)?;
        if system.f_type as u64 == HUGE_PAGES {
            return Err(MemoryError::HugePages);
        }
        // Sealed: from here on the size only grows.
        let found = rustix::fs::fstat(file).map_err(MemoryError::Map)?.st_size as u64;
        if found < needed {
            return Err(MemoryError::FileTooShort { found, needed });
        }
        let skip = offset % LOG_PAGE;
        let mapped = usize::try_from(length + skip)
            .map_err(|_| MemoryError::Extent { guest: offset, size: length })?;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is replaced.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file.as_fd(),
                offset - skip,
            )
        }
        .map_err(MemoryError::Map)?;
        let base = NonNull::new(base.cast()).ok_or(MemoryError::Map(rustix::io::Errno::NOMEM))?;
        Ok(Mapping { base, mapped, skip: skip as usize, length: mapped - skip as usize })
    }

    /// The first byte of what was asked for, and how many there are.
    pub(crate) fn bytes(&self) -> (*mut u8, usize) {
        // SAFETY: `skip` is less than what was mapped.
        (unsafe { self.base.as_ptr().add(self.skip) }, self.length)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and unmapped only here. Whoever has a pointer into it holds
        // the `Arc` that it is in.
        if let Err(error) = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped) } {
            tracing::error!(%error, "memory could not be unmapped");
        }
    }
}

/// One region, for the way of every packet: three words.
#[derive(Clone, Copy, Debug)]
struct Range {
    guest: u64,
    size: u64,
    base: *mut u8,
}

/// All memory of a guest, as it was at one time. When it changes, a new one is made of the same mappings.
#[derive(Debug, Default)]
pub struct Memory {
    ranges: Vec<Range>,
    regions: Vec<(Region, Arc<Mapping>)>,
}

// SAFETY: the pointers in `ranges` are into the mappings in `regions`, which are `Send` and `Sync` themselves.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps the regions.
    pub fn map(regions: Vec<(Region, OwnedFd)>) -> Result<Memory, MemoryError> {
        let mut mapped = Vec::with_capacity(regions.len());
        for (region, file) in regions {
            mapped.push((region, Arc::new(Mapping::new(&file, region.offset, region.size)?)));
        }
        Memory::of(mapped)
    }

    /// This memory, with one region more. One that it has is mapped anew: QEMU 7.2 adds each region once for every
    /// pair of queues.
    pub fn with(&self, region: Region, file: &OwnedFd) -> Result<Memory, MemoryError> {
        let mut regions = self.regions_but(&region);
        regions.push((region, Arc::new(Mapping::new(file, region.offset, region.size)?)));
        Memory::of(regions)
    }

    /// This memory, without one region. For the same reason it may be gone already.
    pub fn without(&self, region: &Region) -> Result<Memory, MemoryError> {
        Memory::of(self.regions_but(region))
    }

    fn regions_but(&self, region: &Region) -> Vec<(Region, Arc<Mapping>)> {
        let place = |region: &Region| (region.guest, region.size, region.user);
        self.regions.iter().filter(|(known, _)| place(known) != place(region)).cloned().collect()
    }

    fn of(mut regions: Vec<(Region, Arc<Mapping>)>) -> Result<Memory, MemoryError> {
        if regions.len() > REGIONS_MAX {
            return Err(MemoryError::TooMany);
        }
        regions.sort_by_key(|(region, _)| region.guest);
        let mut last: Option<&Region> = None;
        for (region, _) in &regions {
            let Region { guest, size, user, .. } = *region;
            if guest.checked_add(size).is_none() || user.checked_add(size).is_none() {
                return Err(MemoryError::Extent { guest, size });
            }
            if let Some(before) = last.filter(|before| before.guest + before.size > guest) {
                return Err(MemoryError::Overlap(before.guest, guest));
            }
            last = Some(region);
        }
        let range = |(region, mapping): &(Region, Arc<Mapping>)| Range {
            guest: region.guest,
            size: region.size,
            base: mapping.bytes().0,
        };
        Ok(Memory { ranges: regions.iter().map(range).collect(), regions })
    }

    /// Where an address of the guest lies here, and how many of the bytes wanted (at least one, if any) lie there in
    /// one piece. `hint` is a range that may be the right one; it is set to the one that was.
    #[inline]
    pub(crate) fn guest(&self, address: u64, wanted: usize, hint: &mut usize) -> Option<(*mut u8, usize)> {
        if let Some(found) = self.ranges.get(*hint).and_then(|range| range.at(address, wanted)) {
            return Some(found);
        }
        self.guest_search(address, wanted, hint)
    }

    #[cold]
    fn guest_search(&self, address: u64, wanted: usize, hint: &mut usize) -> Option<(*mut u8, usize)> {
        let (at, found) = self
            .ranges
            .iter()
            .enumerate()
            .find_map(|(at, range)| range.at(address, wanted).map(|found| (at, found)))?;
        *hint = at;
        Some(found)
    }

    /// Where `length` bytes at an address of QEMU's lie here: all in one region, and aligned; else none.
    pub(crate) fn user(&self, address: u64, length: usize, alignment: usize) -> Option<NonNull<u8>> {
        let (region, mapping) = self.regions.iter().find(|(region, _)| {
            address.checked_sub(region.user).is_some_and(|offset| offset < region.size)
        })?;
        let offset = address - region.user;
        if region.size - offset < length as u64 {
            return None;
        }
        // SAFETY: `offset` is less than the region's size, all of which is mapped.
        let start = unsafe { mapping.bytes().0.add(offset as usize) };
        (start as usize).is_multiple_of(alignment).then(|| NonNull::new(start))?
    }
}

impl Range {
    #[inline]
    fn at(&self, address: u64, wanted: usize) -> Option<(*mut u8, usize)> {
        let offset = address.wrapping_sub(self.guest);
        if offset >= self.size {
            return None;
        }
        let there = self.size - offset;
        // SAFETY: `offset` is less than the range's size, all of which is mapped.
        Some((unsafe { self.base.add(offset as usize) }, there.min(wanted as u64) as usize))
    }
}

/// The pages that have been written while a guest migrates: a bit for each 4 KiB of its addresses, set here and
/// cleared by QEMU.
#[derive(Debug)]
pub struct DirtyLog(Mapping);

impl DirtyLog {
    /// Shared memory of QEMU's, `size` bytes from `offset`.
    pub fn new(file: &OwnedFd, offset: u64, size: u64) -> Result<DirtyLog, MemoryError> {
        Ok(DirtyLog(Mapping::new(file, offset, size)?))
    }

    /// Marks `length` bytes from an address of the guest. What the log has no bits for, QEMU does not ask about.
    pub fn mark(&self, address: u64, length: u64) {
        if length == 0 {
            return;
        }
        let (base, bytes) = self.0.bytes();
        let last = address.saturating_add(length - 1) / LOG_PAGE;
        let last = last.min((bytes as u64).saturating_mul(8).saturating_sub(1));
        for page in address / LOG_PAGE..=last {
            // SAFETY: `page / 8` is less than the log's size: `last` was bounded by it. QEMU changes the byte at
            // the same time, atomically too.
            let byte = unsafe { AtomicU8::from_ptr(base.add((page / 8) as usize)) };
            byte.fetch_or(1 << (page % 8), Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn file(size: u64, seals: SealFlags) -> OwnedFd {
        let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
        ftruncate(&file, size).expect("size");
        fcntl_add_seals(&file, seals).expect("seals");
        file
    }

    fn region(guest: u64, size: u64) -> Region {
        Region { guest, size, user: guest + 0x10_0000, offset: 0 }
    }

    #[test]
    fn a_file_that_may_be_shortened_or_is_too_short_is_refused() {
        let unsealed = Memory::map(vec![(region(0, 4096), file(4096, SealFlags::GROW))]);
        assert!(matches!(unsealed, Err(MemoryError::NotSealed)));
        let short = Memory::map(vec![(region(0, 8192), file(4096, SealFlags::SHRINK))]);
        assert!(matches!(short, Err(MemoryError::FileTooShort { found: 4096, needed: 8192 })));
        let plain = tempfile::tempfile().expect("file");
        plain.set_len(4096).expect("size");
        let plain = Memory::map(vec![(region(0, 4096), plain.into())]);
        assert!(matches!(plain, Err(MemoryError::NotSealed)));
    }

    #[test]
    fn extents_that_wrap_or_overlap_are_refused() {
        let sealed = || file(8192, SealFlags::SHRINK);
        let wraps = Region { guest: u64::MAX - 4095, size: 8192, user: 0, offset: 0 };
        assert!(matches!(Memory::map(vec![(wraps, sealed())]), Err(MemoryError::Extent { .. })));
        let empty = Memory::map(vec![(region(0, 0), sealed())]);
        assert!(matches!(empty, Err(MemoryError::Extent { .. })));
        let offset = Region { offset: u64::MAX, ..region(0, 4096) };
        assert!(matches!(Memory::map(vec![(offset, sealed())]), Err(MemoryError::Extent { .. })));
        let overlap = Memory::map(vec![(region(4096, 8192), sealed()), (region(0, 4097), sealed())]);
        assert!(matches!(overlap, Err(MemoryError::Overlap(0, 4096))));
    }

    #[test]
    fn addresses_are_found_to_the_last_byte_and_not_beyond() {
        let memory = Memory::map(vec![
            (region(0x10000, 0x2000), file(0x2000, SealFlags::SHRINK)),
            (region(0x0, 0x1000), file(0x1000, SealFlags::SHRINK)),
        ])
        .expect("mapped");
        let mut hint = 0;
        let mut found = |address, wanted| memory.guest(address, wanted, &mut hint).map(|(_, length)| length);
        assert_eq!(found(0xfff, 10), Some(1));
        assert_eq!(found(0x1000, 1), None);
        assert_eq!(found(0x10000, 0x2000), Some(0x2000));
        assert_eq!(found(0x11fff, 2), Some(1));
        assert_eq!(found(0x12000, 1), None);
        assert_eq!(found(u64::MAX, 1), None);
        assert!(memory.user(0x110000, 0x2000, 16).is_some());
        assert!(memory.user(0x110000, 0x2001, 16).is_none());
        assert!(memory.user(0x110001, 1, 16).is_none());
        assert!(memory.user(0x112000, 0, 1).is_none());
        let less = memory.without(&region(0x0, 0x1000)).expect("less");
        assert!(less.guest(0, 1, &mut 0).is_none());
        assert!(less.guest(0x10000, 1, &mut 1).is_some());
        let same = less.without(&region(0x0, 0x1000)).expect("gone already");
        assert!(same.guest(0x10000, 1, &mut 0).is_some());
        let sealed = file(0x2000, SealFlags::SHRINK);
        let twice = same.with(region(0x10000, 0x2000), &sealed).expect("there already");
        assert_eq!(twice.regions.len(), 1);
        assert!(matches!(twice.with(region(0x11000, 0x1000), &sealed), Err(MemoryError::Overlap(..))));
    }

    #[test]
    fn the_log_has_the_pages_that_were_written_and_its_end() {
        let log = DirtyLog::new(&file(2, SealFlags::SHRINK), 0, 2).expect("mapped");
        log.mark(4095, 2);
        log.mark(15 * 4096, 1 << 40);
        log.mark(1 << 50, 1);
        log.mark(u64::MAX, 1);
        let (base, length) = log.0.bytes();
        // SAFETY: mapped, and nobody else writes.
        let bytes = unsafe { std::slice::from_raw_parts(base, length) };
        assert_eq!(bytes, [0b11, 0x80]);
    }
}
