//! The bytes of the ledger's files: frames, one after the other. A frame of the journal holds one change, a frame of a
//! snapshot its head or one VM. All integers are little-endian.
//!
//! ```text
//!   0      4         8          16       20        24        28
//!   +------+---------+----------+--------+---------+---------+------ - - ------+
//!   | NPHL | version | sequence | length | CRC-32C | CRC-32C | payload,        |
//!   |      | u32     | u64      | u32    | payload | 0..24   | `length` bytes  |
//!   +------+---------+----------+--------+---------+---------+------ - - ------+
//! ```
//!
//! What a crash leaves of the last frame is told from damage by its length alone: a file never grows past what was
//! written to it. A frame that is all there and does not check is damage. Where a head is damaged nothing behind it is
//! read: to look for the next one would be to find what a customer wrote into his user data.

const MAGIC: &[u8; 4] = b"NPHL";
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 28;

/// What stands in a file.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Frame {
        sequence: u64,
        payload: &'a [u8],
    },
    /// A frame that does not check begins at this offset.
    Damage {
        at: usize,
    },
}

/// A whole file, read.
#[derive(Debug, PartialEq)]
pub(super) struct Pieces<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    /// Where a frame begins of which only a part was written; the file's length if there is none.
    pub(super) torn_at: usize,
}

/// The file is of a version that this program does not read.
#[derive(Debug, PartialEq)]
pub(super) struct OtherVersion(pub(super) u32);

/// Appends a frame.
pub(super) fn write(out: &mut Vec<u8>, sequence: u64, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc_fast::crc32_iscsi(payload).to_le_bytes());
    let checksum = crc_fast::crc32_iscsi(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads a file as far as it can be read.
pub(super) fn read(bytes: &[u8]) -> Result<Pieces<'_>, OtherVersion> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Some(head) = Head::read(rest)? else {
            if rest.len() < HEAD_BYTES {
                break;
            }
            pieces.push(Piece::Damage { at });
            return Ok(Pieces { pieces, torn_at: bytes.len() });
        };
        let Some(payload) = rest.get(HEAD_BYTES..HEAD_BYTES + head.length) else { break };
        pieces.push(if crc_fast::crc32_iscsi(payload) == head.checksum {
            Piece::Frame { sequence: head.sequence, payload }
        } else {
            Piece::Damage { at }
        });
        at += HEAD_BYTES + head.length;
    }
    Ok(Pieces { pieces, torn_at: at })
}

struct Head {
    sequence: u64,
    length: usize,
    checksum: u32,
}

impl Head {
    /// The head that `bytes` begin with, if they do.
    fn read(bytes: &[u8]) -> Result<Option<Head>, OtherVersion> {
        let Some((head, checksum)) = bytes.get(..HEAD_BYTES).and_then(|head| head.split_last_chunk::<4>())
        else {
            return Ok(None);
        };
        if !head.starts_with(MAGIC) || crc_fast::crc32_iscsi(head) != u32::from_le_bytes(*checksum) {
            return Ok(None);
        }
        let number = |at: usize| head[at..].first_chunk::<4>().map_or(0, |field| u32::from_le_bytes(*field));
        if number(4) != VERSION {
            return Err(OtherVersion(number(4)));
        }
        let sequence = u64::from(number(8)) | u64::from(number(12)) << 32;
        Ok(Some(Head { sequence, length: number(16) as usize, checksum: number(20) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for (sequence, payload) in [(7, &b"seven"[..]), (8, b""), (9, b"nine, which is longer")] {
            write(&mut bytes, sequence, payload);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn sequences(pieces: &Pieces<'_>) -> Vec<u64> {
        let sequence = |piece: &Piece<'_>| match piece {
            Piece::Frame { sequence, .. } => Some(*sequence),
            Piece::Damage { .. } => None,
        };
        pieces.pieces.iter().filter_map(sequence).collect()
    }

    #[test]
    fn a_cut_leaves_the_frames_before_it_and_no_damage() {
        let (bytes, ends) = three();
        for cut in 0..=bytes.len() {
            let read = read(&bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(sequences(&read), [7, 8, 9][..whole], "cut at {cut}");
            assert_eq!((read.pieces.len(), read.torn_at), (whole, ends[whole]), "cut at {cut}");
        }
    }

    #[test]
    fn a_flip_is_damage_and_what_can_be_told_from_it_is_read() {
        let (bytes, ends) = three();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let read = read(&flipped).unwrap();
                let hit = ends.iter().filter(|end| **end <= at).count() - 1;
                let mut left = vec![7, 8, 9];
                left.remove(hit);
                if at < ends[hit] + HEAD_BYTES {
                    left.truncate(hit);
                }
                assert_eq!(sequences(&read), left, "byte {at}");
                assert_eq!(read.pieces[hit], Piece::Damage { at: ends[hit] }, "byte {at}");
                assert_eq!(read.torn_at, bytes.len());
            }
        }
    }

    #[test]
    fn another_version_is_not_damage() {
        let (mut bytes, _) = three();
        bytes[4] = 9;
        let checksum = crc_fast::crc32_iscsi(&bytes[..24]);
        bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read(&bytes), Err(OtherVersion(9)));
    }
}
