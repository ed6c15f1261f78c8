//! The bytes of a document's file: a head, then frames, one after the other: the first one holds the whole document,
//! each further one a change. All integers are little-endian.
//!
//! ```text
//!   0          8         12    20        24
//!   +----------+---------+-----+---------+
//!   | NPHNETDO | version | key | CRC-32C |  of bytes 0..20
//!   +----------+---------+-----+---------+
//!
//!   0      4        8         12        16
//!   +------+--------+---------+---------+------ - - ------+
//!   | NPHD | length | CRC-32C | CRC-32C | payload,        |
//!   |      | u32    | payload | of head | `length` bytes  |
//!   +------+--------+---------+---------+------ - - ------+
//! ```
//!
//! The checksum of a frame's head covers its place too: the file's key, drawn at random, and the frame's offset. So a
//! frame can be looked for behind bytes that are none, and what a customer wrote into his user data is not found.
//!
//! A frame is written only once the one before it is durable. So what a power cut leaves of the last frame has nothing
//! whole behind it, and what has something whole behind it is damage.

const FILE_MAGIC: &[u8; 8] = b"NPHNETDO";
const FRAME_MAGIC: &[u8; 4] = b"NPHD";
const VERSION: u32 = 1;
const FILE_HEAD_BYTES: usize = 24;
const HEAD_BYTES: usize = 16;

/// A file, read as far as it can be.
#[derive(Debug, PartialEq)]
pub(super) struct Pieces<'a> {
    /// Of the file; 0 if its head is damaged.
    pub(super) key: u64,
    /// The payloads up to the first byte that is of none.
    pub(super) payloads: Vec<&'a [u8]>,
    /// Where they end.
    pub(super) end: usize,
    /// What is behind is no write's unfinished end: something whole stands there, or the file has no head.
    pub(super) damaged: bool,
}

/// The file is of a version that this program does not read.
#[derive(Debug, PartialEq)]
pub(super) struct OtherVersion(pub(super) u32);

/// The bytes that a file begins with.
pub(super) fn file_begin(key: u64) -> Vec<u8> {
    let mut bytes = FILE_MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&key.to_le_bytes());
    let checksum = crc_fast::crc32_iscsi(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Appends to `out` the frame that will stand at `at` in the file.
pub(super) fn write(out: &mut Vec<u8>, key: u64, at: u64, payload: &[u8]) {
    let mut head = FRAME_MAGIC.to_vec();
    head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    head.extend_from_slice(&crc_fast::crc32_iscsi(payload).to_le_bytes());
    let checksum = head_checksum(key, at, &head);
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<Pieces<'_>, OtherVersion> {
    let Some(key) = file_key(bytes)? else {
        return Ok(Pieces { key: 0, payloads: Vec::new(), end: 0, damaged: true });
    };
    let mut payloads = Vec::new();
    let mut end = FILE_HEAD_BYTES;
    while let Some(payload) = frame_at(bytes, key, end) {
        payloads.push(payload);
        end += HEAD_BYTES + payload.len();
    }
    Ok(Pieces { key, payloads, end, damaged: frame_is_behind(bytes, key, end) })
}

/// The key of the file that `bytes` begin, if they do.
fn file_key(bytes: &[u8]) -> Result<Option<u64>, OtherVersion> {
    let Some((head, checksum)) = bytes.get(..FILE_HEAD_BYTES).and_then(|head| head.split_last_chunk::<4>())
    else {
        return Ok(None);
    };
    if !head.starts_with(FILE_MAGIC) || crc_fast::crc32_iscsi(head) != u32::from_le_bytes(*checksum) {
        return Ok(None);
    }
    match number(head, 8) {
        VERSION => Ok(Some(u64::from(number(head, 12)) | u64::from(number(head, 16)) << 32)),
        other => Err(OtherVersion(other)),
    }
}

/// The payload of the whole frame that begins at `at`.
fn frame_at(bytes: &[u8], key: u64, at: usize) -> Option<&[u8]> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD_BYTES>()?;
    let (fields, checksum) = head.split_last_chunk::<4>()?;
    if !head.starts_with(FRAME_MAGIC)
        || u32::from_le_bytes(*checksum) != head_checksum(key, at as u64, fields)
    {
        return None;
    }
    let payload = rest.get(..number(head, 4) as usize)?;
    (crc_fast::crc32_iscsi(payload) == number(head, 8)).then_some(payload)
}

fn frame_is_behind(bytes: &[u8], key: u64, end: usize) -> bool {
    let rest = bytes.get(end..).unwrap_or_default();
    let mut starts = rest.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, window)| window == FRAME_MAGIC);
    starts.any(|(start, _)| frame_at(bytes, key, end + start).is_some())
}

fn head_checksum(key: u64, at: u64, head: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&key.to_le_bytes());
    digest.update(&at.to_le_bytes());
    digest.update(head);
    digest.finalize() as u32
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).map_or(0, |field| u32::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: u64 = 0x1122_3344_5566_7788;
    const PAYLOADS: [&[u8]; 3] = [b"seven", b"", b"nine, which is longer"];

    fn three() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = file_begin(KEY);
        let mut ends = vec![bytes.len()];
        for payload in PAYLOADS {
            let at = bytes.len() as u64;
            write(&mut bytes, KEY, at, payload);
            ends.push(bytes.len());
        }
        (bytes, ends)
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
                    if whole < 3 && torn.starts_with(&bytes[..ends[whole + 1]]) {
                        continue; // The fill is what was written.
                    }
                    let expected = Pieces {
                        key: KEY,
                        payloads: PAYLOADS[..whole].to_vec(),
                        end: ends[whole],
                        damaged: false,
                    };
                    assert_eq!(read(&torn), Ok(expected), "cut at {cut}, {length} bytes");
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
                let hit = ends.iter().filter(|end| **end <= at).count() - 1;
                let expected =
                    Pieces { key: KEY, payloads: PAYLOADS[..hit].to_vec(), end: ends[hit], damaged: hit < 2 };
                assert_eq!(read(&flipped), Ok(expected), "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_in_somebodys_user_data_is_not_found() {
        // He knows all but the key; with the key he would be found.
        for (key, found) in [(KEY + 1, false), (KEY, true)] {
            let (mut bytes, ends) = three();
            let at = bytes.len() as u64;
            let mut planted = [bytes.clone(), bytes.clone()].concat();
            let place = at + (HEAD_BYTES + planted.len()) as u64;
            write(&mut planted, key, place, b"");
            write(&mut bytes, KEY, at, &planted);
            bytes[ends[3]] ^= 1;
            assert_eq!(read(&bytes).unwrap().damaged, found);
        }
    }

    #[test]
    fn a_damaged_head_hides_the_file_and_another_version_is_not_damage() {
        let (bytes, _) = three();
        for at in 0..FILE_HEAD_BYTES {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).unwrap().damaged, "byte {at}");
            assert!(read(&bytes[..at]).unwrap().damaged, "cut at {at}");
        }
        let mut newer = bytes;
        newer[8] = 9;
        let checksum = crc_fast::crc32_iscsi(&newer[..20]);
        newer[20..24].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read(&newer), Err(OtherVersion(9)));
    }
}
