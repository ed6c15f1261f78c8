//! The Internet checksum (RFC 1071): whole, incremental (RFC 1624), and partial, as virtio and TAP leave it to be
//! filled in.
//!
//! A [`Sum`] is the one's complement sum before it is inverted. Sums of pieces are added; a piece that begins at an odd
//! offset is swapped first ([`Sum::at_odd`]).

use std::net::IpAddr;

/// A one's complement sum of 16-bit words in network order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u16);

impl Sum {
    /// Of bytes; one that is left over at the end counts as the high half of a word.
    pub fn of(bytes: &[u8]) -> Sum {
        let mut lanes = [0u64; 8];
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, rest) = rest.as_chunks::<2>();
        let mut total = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
        if let [last] = rest {
            total += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        for lane in lanes {
            total += (lane & 0xffff_ffff) + (lane >> 32);
        }
        // The sum is the same in either byte order, but for the order of its own bytes (RFC 1071, section 2 B).
        Sum(u16::from_be_bytes(fold(total).to_ne_bytes()))
    }

    /// Of one word.
    pub fn word(word: u16) -> Sum {
        Sum(word)
    }

    /// Of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, section 3.1; RFC 8200, section 8.1).
    pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Sum {
        let address = |address: IpAddr| match address {
            IpAddr::V4(address) => Sum::of(&address.octets()),
            IpAddr::V6(address) => Sum::of(&address.octets()),
        };
        let [a, b, c, d] = length.to_be_bytes();
        let length = Sum(u16::from_be_bytes([a, b])) + Sum(u16::from_be_bytes([c, d]));
        address(source) + address(destination) + Sum(protocol.into()) + length
    }

    /// The same bytes, where they begin at an odd offset of the whole.
    pub fn at_odd(self) -> Sum {
        Sum(self.0.swap_bytes())
    }

    /// What goes into a checksum's field.
    pub fn checksum(self) -> u16 {
        !self.0
    }

    /// What goes into the field of a checksum that somebody fills in later: the sum of the pseudo-header, not inverted.
    pub fn partial(self) -> u16 {
        self.0
    }

    /// Whether a whole that contains its checksum is intact.
    pub fn is_intact(self) -> bool {
        self.0 == 0xffff
    }

    /// What is left without a part that was in it.
    pub fn without(self, part: Sum) -> Sum {
        self + Sum(!part.0)
    }
}

impl std::ops::Add for Sum {
    type Output = Sum;

    fn add(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Sum(sum + u16::from(carry))
    }
}

fn fold(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// A checksum after one word under it changed: RFC 1624, equation 3.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !(Sum(!checksum) + Sum(!old) + Sum(new)).0
}

/// UDP's checksum as it is written: 0 means that there is none, so that a 0 is sent as its equal (RFC 768).
pub fn udp(sum: Sum) -> u16 {
    match sum.checksum() {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071's definition, word by word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Both zeros of one's complement are the same number.
    fn same(left: u16, right: u16) -> bool {
        left == right || (left.is_multiple_of(0xffff) && right.is_multiple_of(0xffff))
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).partial(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn equals_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(same(Sum::of(&bytes).checksum(), naive(&bytes)));
        }

        #[test]
        fn of_pieces_equals_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..500),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            let (head, tail) = bytes.split_at(at);
            let tail = if at % 2 == 1 { Sum::of(tail).at_odd() } else { Sum::of(tail) };
            prop_assert!(same((Sum::of(head) + tail).checksum(), naive(&bytes)));
        }

        #[test]
        fn incremental_equals_anew(
            mut bytes in proptest::collection::vec(any::<u8>(), 2..200), at in 0usize..99, new: u16,
        ) {
            let at = (at * 2) % (bytes.len() / 2 * 2);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let updated = update(Sum::of(&bytes).checksum(), old, new);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert!(same(updated, naive(&bytes)));
        }

        #[test]
        fn a_part_can_be_taken_out(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let at = bytes.len() / 4 * 2;
            let whole = Sum::of(&bytes);
            let rest = whole.without(Sum::of(&bytes[..at]));
            prop_assert!(same(rest.checksum(), naive(&bytes[at..])));
        }
    }
}
