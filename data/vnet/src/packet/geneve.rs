//! Geneve (RFC 8926): what is before a packet on its way between hosts. UDP and IP before it are the kernel's.
//!
//! ```text
//!   0        1        2          4             7
//!   Ver|Len  O|C|rsv  0x6558     VNI           rsv
//!   ---------------------------------------------------- our option: 12 bytes
//!   0xff4e            type 1     rsv | 2 words
//!   version that the sender knows of the destination's mapping, its low 32 bits
//!   generation of the rules that the sender acted on, its low 32 bits
//! ```
//! Class 0xff4e lies in the range for experiments (RFC 8926, section 7). The option is not critical: who does not know
//! it, skips it. From others we skip what is not critical, and drop what is and we do not know.

use crate::engine::verdict::{DropReason, Knowledge, Vni};

/// The UDP port.
pub const PORT: u16 = 6081;
/// Length of the header that we write.
pub const LENGTH: usize = 8 + OPTION;
/// An Ethernet frame follows.
const ETHERNET: u16 = 0x6558;
const OPTION: usize = 12;
const CLASS: u16 = 0xff4e;
const KIND: u8 = 1;
const CRITICAL: u8 = 0x80;
/// Of a kind that no option of ours ever has: frames of the control channel, which we do not have.
const CONTROL: u8 = 0x80;
const OPTIONS_CRITICAL: u8 = 0x40;

/// What a Geneve header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geneve {
    /// The VPC.
    pub vni: Vni,
    /// What its sender knew; zero of another's.
    pub knowledge: Knowledge,
    /// Length of the header, after which the inner frame begins.
    pub length: usize,
}

/// Writes a header.
pub fn build(vni: Vni, knowledge: Knowledge) -> [u8; LENGTH] {
    let [_, v0, v1, v2] = vni.0.to_be_bytes();
    let [t0, t1] = ETHERNET.to_be_bytes();
    let [c0, c1] = CLASS.to_be_bytes();
    let [m0, m1, m2, m3] = knowledge.mapping.to_be_bytes();
    let [p0, p1, p2, p3] = knowledge.policy.to_be_bytes();
    let words = (OPTION / 4) as u8;
    [words, 0, t0, t1, v0, v1, v2, 0, c0, c1, KIND, words - 1, m0, m1, m2, m3, p0, p1, p2, p3]
}

/// Reads a header.
///
/// # Errors
/// [`DropReason::Malformed`]; [`DropReason::Unsupported`] for another version, for what carries no Ethernet frame, and
/// for a critical option.
pub fn parse(bytes: &[u8]) -> Result<Geneve, DropReason> {
    let [first, flags, t0, t1, v0, v1, v2, _] = *bytes.first_chunk::<8>().ok_or(DropReason::Malformed)?;
    if first >> 6 != 0 || flags & CONTROL != 0 || u16::from_be_bytes([t0, t1]) != ETHERNET {
        return Err(DropReason::Unsupported);
    }
    let length = 8 + usize::from(first & 0x3f) * 4;
    let mut options = bytes.get(8..length).ok_or(DropReason::Malformed)?;
    let mut knowledge = Knowledge::default();
    let mut critical = false;
    while let Some(([c0, c1, kind, size], rest)) = options.split_first_chunk::<4>() {
        let (value, following) =
            rest.split_at_checked(usize::from(size & 0x1f) * 4).ok_or(DropReason::Malformed)?;
        critical |= kind & CRITICAL != 0;
        if (u16::from_be_bytes([*c0, *c1]), *kind) == (CLASS, KIND)
            && let Some([m0, m1, m2, m3, p0, p1, p2, p3]) = value.first_chunk::<8>().copied()
        {
            knowledge.mapping = u32::from_be_bytes([m0, m1, m2, m3]);
            knowledge.policy = u32::from_be_bytes([p0, p1, p2, p3]);
        }
        options = following;
    }
    if critical || flags & OPTIONS_CRITICAL != 0 {
        return Err(DropReason::Unsupported);
    }
    Ok(Geneve { vni: Vni(u32::from_be_bytes([0, v0, v1, v2])), knowledge, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_built_is_read(vni in 0u32..1 << 24, mapping: u32, policy: u32) {
            let (vni, knowledge) = (Vni(vni), Knowledge { mapping, policy });
            let read = parse(&build(vni, knowledge)).unwrap();
            prop_assert_eq!(read, Geneve { vni, knowledge, length: LENGTH });
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = parse(&bytes) {
                prop_assert!(read.length <= bytes.len());
            }
        }
    }

    #[test]
    fn options_of_others() {
        let none = Knowledge::default();
        let plain = [0, 0, 0x65, 0x58, 0, 0, 7, 0];
        assert_eq!(parse(&plain), Ok(Geneve { vni: Vni(7), knowledge: none, length: 8 }));
        let other = [2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 9, 9, 9, 9];
        assert_eq!(parse(&other).map(|read| read.length), Ok(16));
        let critical = [2, 0x40, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 0x83, 1, 9, 9, 9, 9];
        assert_eq!(parse(&critical), Err(DropReason::Unsupported));
        let cut = [2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 2, 9, 9, 9, 9];
        assert_eq!(parse(&cut), Err(DropReason::Malformed));
        let ipv4 = [0, 0, 0x08, 0x00, 0, 0, 7, 0];
        assert_eq!(parse(&ipv4), Err(DropReason::Unsupported));
        let control = [0, 0x80, 0x65, 0x58, 0, 0, 7, 0];
        assert_eq!(parse(&control), Err(DropReason::Unsupported));
    }
}
