//! Images: the whole state at one revision, as a head and blocks of entries. A snapshot is one on the store's own
//! disk, a backup one that is carried elsewhere; this is what they have in common.
//!
//! ```text
//!   head | block of entries | ... | block of entries | end block (count 0)
//! ```
//!
//! Invariant: an image is read and written block by block; nobody holds all of it beside the state.
//! Invariant: its entries are in the order of their keys, each once, none changed after the image's revision.

use super::format::{
    Fields, FileKind, Frame, FrameReader, HEAD_BYTES, Head, StreamError, entry_decode, entry_encode,
    frame_begin, frame_seal,
};
use super::map::MultiVersionMap;
use crate::contract::Revision;
use bytes::Bytes;
use std::io::Read;

/// Makes an image's blocks, for somebody else to write.
#[derive(Debug)]
pub(crate) struct ImageWriter {
    pub head: Head,
    /// The last key collected.
    cursor: Option<Bytes>,
    bytes: u64,
    entries: u64,
    buffer: Vec<u8>,
}

impl ImageWriter {
    /// The image of the state at the head's revision; its first bytes are the head's.
    pub(crate) fn new(head: Head) -> Self {
        ImageWriter { head, cursor: None, bytes: HEAD_BYTES as u64, entries: 0, buffer: Vec::new() }
    }

    /// Collects the next block of about `bytes` from the map, which must be able to read the image's revision;
    /// returns how many entries it has. 0: none are left.
    pub(crate) fn collect(&mut self, map: &MultiVersionMap, bytes: usize) -> u32 {
        frame_begin(&mut self.buffer);
        let mut count = 0;
        let mut last = None;
        for (key, value, modified) in map.live(&[], self.cursor.as_deref(), None, self.head.revision) {
            if self.buffer.len() >= bytes {
                break;
            }
            entry_encode(&mut self.buffer, key, value, modified);
            count += 1;
            last = Some(key);
        }
        if let Some(last) = last {
            self.cursor = Some(last.clone());
        }
        count
    }

    /// Takes a block's body as it is.
    pub(crate) fn copy(&mut self, body: &[u8]) {
        frame_begin(&mut self.buffer);
        self.buffer.extend_from_slice(body);
    }

    /// The block of `count` entries that was collected or copied, to be written next.
    pub(crate) fn seal(&mut self, count: u32) -> &[u8] {
        frame_seal(&mut self.buffer, &self.head, self.bytes, self.entries, count);
        self.bytes += self.buffer.len() as u64;
        self.entries += u64::from(count);
        &self.buffer
    }
}

/// Reads an image, and believes nothing of it.
pub(crate) struct ImageReader<R> {
    frames: FrameReader<R>,
    entries: u64,
    key_last: Bytes,
}

/// One block of an image.
pub(crate) struct Block<'a> {
    /// Entries in it; 0: it was the last.
    pub count: u32,
    pub body: &'a [u8],
}

impl<R: Read> ImageReader<R> {
    pub(crate) fn open(kind: FileKind, source: R) -> Result<Self, StreamError> {
        let frames = FrameReader::open(kind, source)?;
        Ok(ImageReader { frames, entries: 0, key_last: Bytes::new() })
    }

    pub(crate) fn head(&self) -> Head {
        self.frames.head
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames.offset()
    }

    /// The next block, each of whose entries is given to `each`.
    pub(crate) fn block(
        &mut self,
        mut each: impl FnMut(Bytes, Bytes, Revision),
    ) -> Result<Block<'_>, StreamError> {
        let offset = self.frames.offset();
        let corrupt = |why| StreamError::Corrupt { offset, why };
        let newest = self.frames.head.revision;
        let Frame { mark, count, body, .. } = self.frames.next()?;
        if mark != self.entries {
            return Err(corrupt("a block of entries is missing"));
        }
        let mut fields = Fields(body);
        for _ in 0..count {
            let (key, value, modified) =
                entry_decode(&mut fields).ok_or_else(|| corrupt("an entry cannot be read"))?;
            if key <= self.key_last || modified > newest || modified == Revision::default() {
                return Err(corrupt("an entry is out of order"));
            }
            self.key_last = key.clone();
            each(key, value, modified);
        }
        if count > 0 && !fields.0.is_empty() {
            return Err(corrupt("a block is longer than its entries"));
        }
        self.entries += u64::from(count);
        Ok(Block { count, body })
    }

    /// Refuses what follows the last block.
    pub(crate) fn end(&mut self) -> Result<(), StreamError> {
        let offset = self.frames.offset();
        match self.frames.is_at_end()? {
            true => Ok(()),
            false => Err(StreamError::Corrupt { offset, why: "there are bytes after the last block" }),
        }
    }
}
