//! Bytes where they lie: in a guest's memory, in a receive buffer, in our own. A packet's payload is a list of these
//! and is copied once, from where it lies to where it goes.
//!
//! Invariant: no `&[u8]` is ever made of a guest's memory: it changes under us, at the guest's will.

use std::marker::PhantomData;

/// Some bytes that can be read for `'a`, and that another may write meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    start: *const u8,
    length: usize,
    lies_in: PhantomData<&'a [u8]>,
}

// SAFETY: a span is a shared borrow: what it points at may be read from any thread for `'a`.
unsafe impl Send for Span<'_> {}
// SAFETY: as above; it has no interior state.
unsafe impl Sync for Span<'_> {}

impl<'a> From<&'a [u8]> for Span<'a> {
    fn from(bytes: &'a [u8]) -> Span<'a> {
        Span { start: bytes.as_ptr(), length: bytes.len(), lies_in: PhantomData }
    }
}

impl<'a> Span<'a> {
    /// Of `length` bytes from `start`.
    ///
    /// # Safety
    /// They must stay mapped and readable for `'a`. Their content may change.
    pub(crate) unsafe fn from_raw(start: *const u8, length: usize) -> Span<'a> {
        Span { start, length, lies_in: PhantomData }
    }

    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Without the first `count` bytes (or empty).
    #[inline]
    #[must_use]
    pub fn skip(self, count: usize) -> Span<'a> {
        let count = count.min(self.length);
        // SAFETY: `count` is at most the length, so this is within the span or at its end.
        Span { start: unsafe { self.start.add(count) }, length: self.length - count, ..self }
    }

    /// The first `count` bytes (or all).
    #[must_use]
    pub fn first(self, count: usize) -> Span<'a> {
        Span { length: count.min(self.length), ..self }
    }

    /// Copies as many bytes as fit; answers how many.
    #[inline]
    pub fn copy_to(self, to: &mut [u8]) -> usize {
        let count = self.length.min(to.len());
        // SAFETY: `count` bytes are readable at `start` for `'a`, and writable in `to`.
        unsafe { copy(self.start, to.as_mut_ptr(), count) };
        count
    }

    /// Its first `N` bytes, if there are so many.
    #[inline]
    pub fn to_chunk<const N: usize>(self) -> Option<[u8; N]> {
        // SAFETY: `N` bytes are readable at `start`; of an array of bytes any alignment and content is valid.
        (self.length >= N).then(|| unsafe { self.start.cast::<[u8; N]>().read_unaligned() })
    }

    /// Where it lies, for a system call or a copy into a guest.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.start
    }
}

/// Up to so many bytes are copied here, without a call: for a packet of 64 bytes that is a third of all its cost.
const COPY_HERE_MAX: usize = 256;

/// Copies `count` bytes. Where the two overlap, what arrives is any mixture of old and new: so does a guest that sends
/// from a buffer that it also receives into.
///
/// # Safety
/// `count` bytes must be readable at `from` and writable at `to`. Others may write both meanwhile.
#[inline]
pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, count: usize) {
    if !(8..=COPY_HERE_MAX).contains(&count) {
        // SAFETY: as this function's; `copy` bears with overlap.
        return unsafe { std::ptr::copy(from, to, count) };
    }
    // SAFETY: `at` plus the chunk's length is at most `count` at each call. The last chunk is the end, with some of
    // what was copied before.
    unsafe {
        if count < 16 {
            copy_chunk::<8>(from, to, 0);
            return copy_chunk::<8>(from, to, count - 8);
        }
        let mut at = 0;
        while at + 16 <= count {
            copy_chunk::<16>(from, to, at);
            at += 16;
        }
        copy_chunk::<16>(from, to, count - 16);
    }
}

/// Copies `N` bytes that begin `at` bytes behind both.
///
/// # Safety
/// They must be readable there, and writable.
#[inline(always)]
unsafe fn copy_chunk<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's.
    unsafe { to.add(at).cast::<[u8; N]>().write_unaligned(from.add(at).cast::<[u8; N]>().read_unaligned()) };
}

/// How many bytes all of them have.
#[inline]
pub fn length(spans: &[Span<'_>]) -> usize {
    spans.iter().map(Span::len).sum()
}

/// Copies what begins at `offset` of their concatenation, as much as there is and fits; answers how much.
pub fn copy_at(spans: &[Span<'_>], mut offset: usize, to: &mut [u8]) -> usize {
    let mut done = 0;
    for span in spans {
        if done == to.len() {
            break;
        }
        if offset >= span.len() {
            offset -= span.len();
            continue;
        }
        if let Some(rest) = to.get_mut(done..) {
            done += span.skip(offset).copy_to(rest);
        }
        offset = 0;
    }
    done
}

/// Puts those that make up `range` of their concatenation behind what is in `into`.
pub fn slice<'a>(spans: &[Span<'a>], range: std::ops::Range<usize>, into: &mut Vec<Span<'a>>) {
    let mut skip = range.start;
    let mut wanted = range.end.saturating_sub(range.start);
    for span in spans {
        if wanted == 0 {
            break;
        }
        let part = span.skip(skip).first(wanted);
        skip = skip.saturating_sub(span.len());
        if !part.is_empty() {
            wanted -= part.len();
            into.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_several_spans_are_their_concatenations() {
        let bytes: Vec<u8> = (0..100).collect();
        let spans: Vec<Span<'_>> =
            [&bytes[..7], &bytes[7..7], &bytes[7..64], &bytes[64..]].map(Span::from).to_vec();
        assert_eq!(length(&spans), 100);
        for start in 0..=100 {
            for end in start..=101 {
                let mut to = vec![0; end - start];
                let copied = copy_at(&spans, start, &mut to);
                assert_eq!(&to[..copied], &bytes[start..end.min(100)]);
                let mut parts = Vec::new();
                slice(&spans, start..end, &mut parts);
                let mut again = vec![0; end - start];
                assert_eq!(copy_at(&parts, 0, &mut again), copied);
                assert_eq!(to, again);
            }
        }
    }
}
