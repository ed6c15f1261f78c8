//! The bytes of the ledger's files: a head, then frames, one after the other. A frame of the journal holds one change,
//! a frame of a snapshot its head or one VM. All integers are little-endian.
//!
//! ```text
//!   0          8         12    20        24
//!   +----------+---------+-----+---------+
//!   | magic    | version | key | CRC-32C |  of bytes 0..20
//!   +----------+---------+-----+---------+
//!
//!   0      4          12       16        20        24
//!   +------+----------+--------+---------+---------+------ - - ------+
//!   | NPHL | sequence | length | CRC-32C | CRC-32C | payload,        |
//!   |      | u64      | u32    | payload | of head | `length` bytes  |
//!   +------+----------+--------+---------+---------+------ - - ------+
//! ```
//!
//! The checksum of a frame's head covers its place too: the file's key, drawn at random, and the frame's offset. So a
//! frame can be looked for behind bytes that are none, and what a customer wrote into his user data is not found.
//!
//! A frame is written only once the one before it is durable. So what a power cut leaves of the last frame (its
//! length, with zeros or anything else in it) has nothing whole behind it, and what has something whole behind it is
//! damage.

use prost::Message;

const MAGIC: &[u8; 4] = b"NPHL";
const VERSION: u32 = 3;
/// Bytes of a file before its first frame.
pub(super) const FILE_HEAD_BYTES: usize = 24;
const HEAD_BYTES: usize = 24;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FileKind {
    Journal,
    Snapshot,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FileKind::Journal => b"NPHJOURN",
            FileKind::Snapshot => b"NPHSNAPS",
        }
    }
}

/// What stands in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Frame {
        sequence: u64,
        payload: &'a [u8],
    },
    /// From this offset on, up to a whole frame, is none.
    Damage {
        at: usize,
    },
}

/// A whole file, read.
#[derive(Debug, PartialEq)]
pub(super) struct Pieces<'a> {
    /// `None` if the file's head is damaged: nothing of it can be read then.
    pub(super) key: Option<u64>,
    pub(super) pieces: Vec<Piece<'a>>,
    /// Behind that is no whole frame; the file's length if all of it is frames.
    pub(super) torn_at: usize,
}

/// The file is of a version that this program does not read.
#[derive(Debug, PartialEq)]
pub(super) struct OtherVersion(pub(super) u32);

/// The bytes that a file begins with.
pub(super) fn file_begin(kind: FileKind, key: u64) -> Vec<u8> {
    let mut bytes = kind.magic().to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.to_le_bytes());
    let checksum = crc_fast::crc32_iscsi(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The key of the file that `bytes` begin, if they do.
fn file_key(kind: FileKind, bytes: &[u8]) -> Result<Option<u64>, OtherVersion> {
    let Some((head, checksum)) = bytes.get(..FILE_HEAD_BYTES).and_then(|head| head.split_last_chunk::<4>())
    else {
        return Ok(None);
    };
    if !head.starts_with(kind.magic()) || crc_fast::crc32_iscsi(head) != u32::from_le_bytes(*checksum) {
        return Ok(None);
    }
    match number(head, 8) {
        VERSION => Ok(Some(number_long(head, 12))),
        other => Err(OtherVersion(other)),
    }
}

/// Appends to `out` the frame that will stand at `at` in the file.
pub(super) fn write(out: &mut Vec<u8>, key: u64, at: u64, sequence: u64, payload: &impl Message) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    // A vector takes whatever is written to it.
    payload.encode_raw(out);
    let (head, payload) = out[start..].split_at_mut(HEAD_BYTES);
    head[..4].copy_from_slice(MAGIC);
    head[4..12].copy_from_slice(&sequence.to_le_bytes());
    head[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[16..20].copy_from_slice(&crc_fast::crc32_iscsi(payload).to_le_bytes());
    let checksum = head_checksum(key, at, &head[..20]);
    head[20..].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads a file as far as it can be read.
pub(super) fn read(kind: FileKind, bytes: &[u8]) -> Result<Pieces<'_>, OtherVersion> {
    let Some(key) = file_key(kind, bytes)? else {
        return Ok(Pieces { key: None, pieces: vec![Piece::Damage { at: 0 }], torn_at: bytes.len() });
    };
    let mut pieces = Vec::new();
    let mut at = FILE_HEAD_BYTES;
    while at < bytes.len() {
        if let Some((sequence, payload)) = frame_at(bytes, key, at) {
            pieces.push(Piece::Frame { sequence, payload });
            at += HEAD_BYTES + payload.len();
        } else if let Some(next) = frame_find(bytes, key, at + 1) {
            pieces.push(Piece::Damage { at });
            at = next;
        } else {
            break;
        }
    }
    Ok(Pieces { key: Some(key), pieces, torn_at: at })
}

/// Sequence and payload of the whole frame that begins at `at`.
fn frame_at(bytes: &[u8], key: u64, at: usize) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.get(at..)?.split_at_checked(HEAD_BYTES)?;
    if !head.starts_with(MAGIC) || number(head, 20) != head_checksum(key, at as u64, &head[..20]) {
        return None;
    }
    let payload = rest.get(..number(head, 12) as usize)?;
    (crc_fast::crc32_iscsi(payload) == number(head, 16)).then_some((number_long(head, 4), payload))
}

/// Where the first whole frame begins, from `from` on.
fn frame_find(bytes: &[u8], key: u64, from: usize) -> Option<usize> {
    let starts = bytes.get(from..)?.windows(MAGIC.len()).enumerate();
    let starts = starts.filter(|(_, window)| window == MAGIC).map(|(start, _)| from + start);
    starts.into_iter().find(|start| frame_at(bytes, key, *start).is_some())
}

fn head_checksum(key: u64, at: u64, head: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&key.to_le_bytes());
    digest.update(&at.to_le_bytes());
    digest.update(head);
    digest.finalize() as u32
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk::<4>().map_or(0, |field| u32::from_le_bytes(*field))
}

fn number_long(bytes: &[u8], at: usize) -> u64 {
    u64::from(number(bytes, at)) | u64::from(number(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::super::stored::StoredChange;
    use super::*;

    const KEY: u64 = 0x1122_3344_5566_7788;

    fn payload(bytes: &[u8]) -> StoredChange {
        StoredChange { vms: vec![bytes.to_vec().into()], ..StoredChange::default() }
    }

    fn three() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file_begin(FileKind::Journal, KEY);
        let mut ends = vec![bytes.len()];
        for (sequence, body) in [(7, &b"seven"[..]), (8, b""), (9, b"nine, which is longer")] {
            let at = bytes.len() as u64;
            write(&mut bytes, KEY, at, sequence, &payload(body));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn read(bytes: &[u8]) -> Pieces<'_> {
        super::read(FileKind::Journal, bytes).unwrap()
    }

    fn sequences(pieces: &Pieces<'_>) -> Vec<u64> {
        let sequence = |piece: &Piece<'_>| match piece {
            Piece::Frame { sequence, .. } => Some(*sequence),
            Piece::Damage { .. } => None,
        };
        pieces.pieces.iter().filter_map(sequence).collect()
    }

    #[test]
    fn a_cut_filled_to_any_length_leaves_the_frames_before_it_and_no_damage() {
        let (bytes, ends) = three();
        for cut in FILE_HEAD_BYTES..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            for fill in [0, 0xff, b'N'] {
                for length in cut..=bytes.len() + HEAD_BYTES {
                    let mut torn = bytes[..cut].to_vec();
                    torn.resize(length, fill);
                    if torn.starts_with(&bytes[..ends[(whole + 1).min(3)]]) && whole < 3 {
                        continue; // The fill is what was written.
                    }
                    let read = read(&torn);
                    assert_eq!(sequences(&read), [7, 8, 9][..whole], "cut at {cut}, {length} bytes");
                    assert_eq!((read.pieces.len(), read.torn_at), (whole, ends[whole]), "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_flip_is_damage_if_a_whole_frame_is_behind_it() {
        let (bytes, ends) = three();
        for at in FILE_HEAD_BYTES..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let read = read(&flipped);
                let hit = ends.iter().filter(|end| **end <= at).count() - 1;
                let mut left = vec![7, 8, 9];
                left.remove(hit);
                assert_eq!(sequences(&read), left, "byte {at}");
                let damage = Piece::Damage { at: ends[hit] };
                assert_eq!(read.pieces.get(hit), (hit < 2).then_some(&damage), "byte {at}");
                assert_eq!(read.torn_at, if hit < 2 { bytes.len() } else { ends[2] });
            }
        }
    }

    #[test]
    fn a_frame_in_somebodys_user_data_is_not_found() {
        // He knows all but the key; with the key he would be found.
        for (key, found) in [(KEY + 1, false), (KEY, true)] {
            let (mut bytes, ends) = three();
            let at = bytes.len() as u64;
            // A copy of frames that belong elsewhere, and one made for where it stands.
            let mut planted = [bytes.clone(), bytes.clone()].concat();
            let place = at + HEAD_BYTES as u64 + 3 + planted.len() as u64;
            write(&mut planted, key, place, 11, &payload(b""));
            write(&mut bytes, KEY, at, 10, &payload(&planted));
            bytes[ends[3]] ^= 1;
            let read = read(&bytes);
            assert_eq!(sequences(&read), if found { vec![7, 8, 9, 11] } else { vec![7, 8, 9] });
            assert_eq!(read.torn_at == ends[3], !found);
        }
    }

    #[test]
    fn a_damaged_head_hides_the_file_and_another_version_is_not_damage() {
        let (bytes, _) = three();
        for at in 0..FILE_HEAD_BYTES {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(read(&flipped).key, None, "byte {at}");
            assert_eq!(read(&bytes[..at]).pieces, [Piece::Damage { at: 0 }], "cut at {at}");
        }
        let mut newer = bytes;
        newer[8] = 9;
        let checksum = crc_fast::crc32_iscsi(&newer[..20]);
        newer[20..24].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(super::read(FileKind::Journal, &newer), Err(OtherVersion(9)));
    }
}
