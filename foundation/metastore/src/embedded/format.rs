//! The bytes on disk: the head of every file, the frame around every record, and the commits and entries within.
//! Called by the log, the images (snapshots and backups) and recovery. All integers are little endian.
//!
//! Invariant: a checksum covers the place where its bytes stand (incarnation, file, offset), so that a record
//! that was copied elsewhere, by a file system or inside somebody's value, is not taken for one.

use crate::contract::Revision;
use crate::watch::{Change, CommitEvents};
use bytes::Bytes;
use std::io::{self, Read};

/// The version that this code writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// What a file is, told by its first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Which store this is, and where its log ends; exists once the store was wholly made.
    Identity,
    /// A segment of the log.
    Log,
    /// The whole state at one revision.
    Snapshot,
    /// The same, to be carried elsewhere.
    Backup,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FileKind::Identity => b"NEPHIDEN",
            FileKind::Log => b"NEPHLOGS",
            FileKind::Snapshot => b"NEPHSNAP",
            FileKind::Backup => b"NEPHBKUP",
        }
    }

    fn frame_magic(self) -> &'static [u8; 4] {
        match self {
            FileKind::Identity => b"NFid",
            FileKind::Log => b"NFlg",
            FileKind::Snapshot => b"NFsn",
            FileKind::Backup => b"NFbk",
        }
    }
}

/// Bytes of a [`Head`].
pub(crate) const HEAD_BYTES: usize = 32;

/// The first bytes of each file; the same in every version of the format, so that an old program can say "too
/// new" and mean it.
///
/// ```text
///   0        8         12            20         28       32
///   +--------+---------+-------------+----------+--------+
///   | magic  | version | incarnation | revision | CRC-32C| of bytes 0..28
///   +--------+---------+-------------+----------+--------+
/// ```
/// `revision`: of a log segment, the last durable revision before its first record (the segment's *base*); of a
/// snapshot or backup, the revision whose state it holds; of the identity, the base of the log's newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub kind: FileKind,
    pub incarnation: u64,
    pub revision: Revision,
}

/// Why a head cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// Too short, another magic or a wrong checksum.
    Damaged(&'static str),
    /// Written by a newer program, in this version.
    TooNew(u32),
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.revision.0.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&bytes[..28]);
        bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(kind: FileKind, bytes: &[u8]) -> Result<Head, HeadError> {
        let short = HeadError::Damaged("the file is shorter than its head");
        let head = bytes.get(..HEAD_BYTES).ok_or(short)?;
        let mut fields = Fields(&head[8..]);
        let version = fields.u32().ok_or(short)?;
        let incarnation = fields.u64().ok_or(short)?;
        let revision = Revision(fields.u64().ok_or(short)?);
        if &head[..8] != kind.magic() {
            return Err(HeadError::Damaged("the file's magic number is wrong"));
        }
        if fields.u32() != Some(crc_fast::crc32_iscsi(&head[..28])) {
            return Err(HeadError::Damaged("the checksum of the file's head is wrong"));
        }
        if version > FORMAT_VERSION {
            return Err(HeadError::TooNew(version));
        }
        Ok(Head { kind, incarnation, revision })
    }
}

/// Bytes of a frame before its body.
pub(crate) const FRAME_BYTES: usize = 24;

/// A checksummed record: in the log one batch of commits, in a snapshot or backup one block of entries.
///
/// ```text
///   0       4         8        12      16      24
///   +-------+---------+--------+-------+-------+------ - - -----+
///   | magic | CRC-32C | length | count | mark  | body, `length` bytes
///   +-------+---------+--------+-------+-------+------ - - -----+
///                     |<---- checksummed, after the place ----->|
///
///   place = incarnation (8), revision of the file's head (8), offset of the frame in the file (8)
/// ```
/// In the log, `mark` is the last revision that was durable when the batch was written, and `count` the commits in
/// it, which have the revisions mark + 1 ..= mark + count; a frame without commits is written at an orderly stop,
/// for its mark. In a snapshot or backup, `mark` is the number of entries before this block and `count` of those in
/// it; the block with count 0 is the last, and its body, in a backup alone, is when it was taken (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub mark: u64,
    pub count: u32,
    pub body: &'a [u8],
    /// The offset after it.
    pub end: usize,
}

/// Room for the frame's head at the start of an empty buffer, to be filled in by [`frame_seal`].
pub(crate) fn frame_begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(FRAME_BYTES, 0);
}

/// Makes `buffer`, begun with [`frame_begin`] and followed by a body, the frame that stands at `offset`.
pub(crate) fn frame_seal(buffer: &mut [u8], file: &Head, offset: u64, mark: u64, count: u32) {
    let length = (buffer.len() - FRAME_BYTES) as u32;
    buffer[0..4].copy_from_slice(file.kind.frame_magic());
    buffer[8..12].copy_from_slice(&length.to_le_bytes());
    buffer[12..16].copy_from_slice(&count.to_le_bytes());
    buffer[16..24].copy_from_slice(&mark.to_le_bytes());
    let checksum = frame_checksum(file, offset, &buffer[8..]);
    buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The frame at `offset` of a file's bytes, or why there is none.
pub(crate) fn frame_decode<'a>(
    file: &Head,
    bytes: &'a [u8],
    offset: usize,
) -> Result<Frame<'a>, &'static str> {
    frame_checked(file, bytes.get(offset..).ok_or(SHORT)?, offset as u64)
}

/// The frame that begins with `rest`, which stands at `offset`.
fn frame_checked<'a>(file: &Head, rest: &'a [u8], offset: u64) -> Result<Frame<'a>, &'static str> {
    let length = frame_length(file, rest)?;
    let rest = rest.get(..length).ok_or(SHORT)?;
    let mut fields = Fields(&rest[4..]);
    let checksum = fields.u32().ok_or(SHORT)?;
    fields.u32().ok_or(SHORT)?;
    let count = fields.u32().ok_or(SHORT)?;
    let mark = fields.u64().ok_or(SHORT)?;
    if frame_checksum(file, offset, &rest[8..]) != checksum {
        return Err("a record's checksum is wrong");
    }
    Ok(Frame { mark, count, body: &rest[FRAME_BYTES..], end: offset as usize + length })
}

const SHORT: &str = "the file ends within a record";

/// How long the frame is that begins so, all of it.
fn frame_length(file: &Head, begin: &[u8]) -> Result<usize, &'static str> {
    let begin = begin.get(..FRAME_BYTES).ok_or(SHORT)?;
    if &begin[..4] != file.kind.frame_magic() {
        return Err("a record's magic number is wrong");
    }
    let length = Fields(&begin[8..]).u32().ok_or(SHORT)?;
    Ok(FRAME_BYTES + length as usize)
}

/// Why a file that is read from its begin to its end cannot be.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// What was written is not what is there.
    Corrupt { offset: u64, why: &'static str },
    /// Written by a newer program, in this version.
    TooNew { version: u32 },
    /// It cannot be read at all.
    Io(io::Error),
}

/// The frames of a file, one after another: one of them is in memory at a time.
pub(crate) struct FrameReader<R> {
    pub head: Head,
    source: R,
    offset: u64,
    buffer: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    /// Reads the file's head.
    pub(crate) fn open(kind: FileKind, mut source: R) -> Result<Self, StreamError> {
        let mut buffer = Vec::new();
        source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut buffer).map_err(StreamError::Io)?;
        let head = Head::decode(kind, &buffer).map_err(|error| match error {
            HeadError::Damaged(why) => StreamError::Corrupt { offset: 0, why },
            HeadError::TooNew(version) => StreamError::TooNew { version },
        })?;
        Ok(FrameReader { head, source, offset: HEAD_BYTES as u64, buffer })
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame, which must be there.
    pub(crate) fn next(&mut self) -> Result<Frame<'_>, StreamError> {
        let offset = self.offset;
        let corrupt = |why| StreamError::Corrupt { offset, why };
        self.buffer.clear();
        self.fill(FRAME_BYTES)?;
        let length = frame_length(&self.head, &self.buffer).map_err(corrupt)?;
        // However long it says it is, no more is read than there is.
        self.fill(length - FRAME_BYTES)?;
        self.offset += length as u64;
        frame_checked(&self.head, &self.buffer, offset).map_err(corrupt)
    }

    /// Whether nothing follows.
    pub(crate) fn is_at_end(&mut self) -> Result<bool, StreamError> {
        self.buffer.clear();
        self.fill(1)?;
        Ok(self.buffer.is_empty())
    }

    fn fill(&mut self, more: usize) -> Result<(), StreamError> {
        let read = self.source.by_ref().take(more as u64).read_to_end(&mut self.buffer);
        read.map(|_| ()).map_err(StreamError::Io)
    }
}

/// The first whole frame after `offset`: what tells corruption in the middle of a file from a torn tail.
pub(crate) fn frame_find<'a>(file: &Head, bytes: &'a [u8], offset: usize) -> Option<Frame<'a>> {
    let magic = file.kind.frame_magic();
    let rest = bytes.get(offset + 1..)?;
    let starts = rest.windows(magic.len()).enumerate().filter(|(_, window)| window == magic);
    starts.map(|(start, _)| offset + 1 + start).find_map(|start| frame_decode(file, bytes, start).ok())
}

fn frame_checksum(file: &Head, offset: u64, checked: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut place = [0; 24];
    place[..8].copy_from_slice(&file.incarnation.to_le_bytes());
    place[8..16].copy_from_slice(&file.revision.0.to_le_bytes());
    place[16..].copy_from_slice(&offset.to_le_bytes());
    digest.update(&place);
    digest.update(checked);
    digest.finalize() as u32
}

const CHANGE_PUT: u8 = 1;
const CHANGE_DELETE: u8 = 2;

/// Appends one commit of a batch. The contract's bounds make the narrow lengths enough: 128 operations, each with
/// what is remembered of its key's lease, are at most 256 changes, and 256 is written as 0 (a commit without any
/// is not written).
///
/// ```text
///   changes (1), then for each:  kind (1)  key length (2)  key  [ value length (4)  value ]   kind 1 = put
///                                                                                             kind 2 = delete
/// ```
pub(crate) fn commit_encode(buffer: &mut Vec<u8>, changes: &[Change]) {
    buffer.push(changes.len() as u8);
    for change in changes {
        buffer.push(if change.value.is_some() { CHANGE_PUT } else { CHANGE_DELETE });
        buffer.extend_from_slice(&(change.key.len() as u16).to_le_bytes());
        buffer.extend_from_slice(&change.key);
        if let Some(value) = &change.value {
            buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
            buffer.extend_from_slice(value);
        }
    }
}

/// One commit of a batch; `None` if the bytes are none.
pub(crate) fn commit_decode(fields: &mut Fields<'_>, revision: Revision) -> Option<CommitEvents> {
    let count = match fields.u8()? {
        0 => 256,
        count => usize::from(count),
    };
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = fields.u8()?;
        let key_bytes = fields.u16()?.into();
        let key = Bytes::copy_from_slice(fields.take(key_bytes)?);
        let value = match kind {
            CHANGE_PUT => {
                let value_bytes = fields.u32()? as usize;
                Some(Bytes::copy_from_slice(fields.take(value_bytes)?))
            }
            CHANGE_DELETE => None,
            _ => return None,
        };
        changes.push(Change { key, value });
    }
    Some(CommitEvents { revision, changes })
}

/// Appends one entry of a block.
///
/// ```text
///   modified (8)  key length (2)  key  value length (4)  value
/// ```
pub(crate) fn entry_encode(buffer: &mut Vec<u8>, key: &[u8], value: &[u8], modified: Revision) {
    buffer.extend_from_slice(&modified.0.to_le_bytes());
    buffer.extend_from_slice(&(key.len() as u16).to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(&(value.len() as u32).to_le_bytes());
    buffer.extend_from_slice(value);
}

/// One entry of a block; `None` if the bytes are none.
pub(crate) fn entry_decode(fields: &mut Fields<'_>) -> Option<(Bytes, Bytes, Revision)> {
    let modified = Revision(fields.u64()?);
    let key_bytes = fields.u16()?.into();
    let key = Bytes::copy_from_slice(fields.take(key_bytes)?);
    let value_bytes = fields.u32()? as usize;
    let value = Bytes::copy_from_slice(fields.take(value_bytes)?);
    Some((key, value, modified))
}

/// Bytes read field by field; every read is checked.
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Head = Head { kind: FileKind::Log, incarnation: 3, revision: Revision(40) };

    fn frame(offset: u64, body: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        frame_begin(&mut buffer);
        buffer.extend_from_slice(body);
        frame_seal(&mut buffer, &FILE, offset, 41, 1);
        buffer
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        // RFC 3720, B.4: 32 bytes of zeroes.
        assert_eq!(crc_fast::crc32_iscsi(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_head_with_any_bit_flipped_is_damaged() {
        let bytes = FILE.encode();
        assert_eq!(Head::decode(FileKind::Log, &bytes), Ok(FILE));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Head::decode(FileKind::Log, &flipped), Err(HeadError::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = FILE.encode();
        bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Head::decode(FileKind::Log, &bytes), Err(HeadError::TooNew(7)));
    }

    #[test]
    fn a_frame_is_one_only_where_it_was_written_and_whole() {
        let bytes = frame(0, b"body");
        assert_eq!(frame_decode(&FILE, &bytes, 0).unwrap().body, b"body");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(frame_decode(&FILE, &flipped, 0).is_err(), "bit {bit}");
        }
        let moved = [b"x".as_slice(), &bytes].concat();
        assert!(frame_decode(&FILE, &moved, 1).is_err());
        assert!(frame_decode(&Head { revision: Revision(9), ..FILE }, &bytes, 0).is_err());
    }

    #[test]
    fn a_frame_behind_damage_is_found() {
        let bytes = [b"some damage".as_slice(), &frame(11, b"body")].concat();
        assert_eq!(frame_find(&FILE, &bytes, 0).unwrap().body, b"body");
        assert_eq!(frame_find(&FILE, &bytes[..bytes.len() - 1], 0), None);
    }
}
