//! What the tables ask of the machine's memory: to be fetched early, and in large pages.

use rustix::mm::Advice;

/// Begins to load the cache line that a value begins in.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can see and faults on no address; this one is valid.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

const PAGE: usize = 4096;

/// So many of a value, in huge pages if the kernel has some: a table of millions of lines, read at random, else misses
/// the processor's list of pages as often as its cache.
pub fn huge<T: Clone>(value: T, count: usize) -> Vec<T> {
    let mut vec: Vec<T> = Vec::with_capacity(count);
    let room = vec.spare_capacity_mut();
    let before = room.as_ptr().cast::<u8>().align_offset(PAGE);
    let length = size_of_val(room).saturating_sub(before) & !(PAGE - 1);
    let begin = room.as_mut_ptr().cast::<u8>().wrapping_add(before);
    if length >= 512 * PAGE {
        // SAFETY: whole pages of memory that was just allocated for this vector; the advice changes no byte of it.
        // That it is not taken is no error.
        let _ = unsafe { rustix::mm::madvise(begin.cast(), length, Advice::LinuxHugepage) };
    }
    vec.resize(count, value);
    vec
}
