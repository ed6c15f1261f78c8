//! The header that virtio-net and TAP put before a packet, as plain data: what is still to be done to it.
//!
//! ```text
//!   0      1          2         4          6            8             10
//!   flags  gso_type   hdr_len   gso_size   csum_start   csum_offset   num_buffers     little endian
//! ```
//! Virtio 1.2, section 5.1.6; the values of `gso_type` also in Linux' `virtio_net.h`.

use super::parse::Headers;
use super::protocol;

/// Its length with `num_buffers`, as all virtio 1 devices have it.
pub const LENGTH: usize = 12;

/// What kind of large packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Gso {
    /// An ordinary packet.
    #[default]
    None,
    /// TCP over IPv4, to be cut into segments.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP, each piece a datagram of its own (USO; not UFO, whose pieces are fragments).
    Udp,
}

/// What is still to be done to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offload {
    /// The sum from `csum_start` to the end belongs into the two bytes at `csum_start + csum_offset`, where the
    /// pseudo-header's sum is now.
    pub needs_csum: bool,
    /// Its checksum was seen to be right.
    pub data_valid: bool,
    /// What to cut it into.
    pub gso: Gso,
    /// TCP: its congestion window reduced flag is to be on the first segment alone.
    pub ecn: bool,
    /// Length of all headers; a hint.
    pub hdr_len: u16,
    /// Bytes of payload in each piece but the last.
    pub gso_size: u16,
    /// From the packet's begin, which is its first byte in the head as it is now.
    pub csum_start: u16,
    /// From `csum_start`.
    pub csum_offset: u16,
    /// Buffers of a guest's that hold the packet; 1 unless a device says otherwise.
    pub num_buffers: u16,
}

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const ECN: u8 = 0x80;

impl Offload {
    /// Nothing left to do.
    pub const NONE: Offload = Offload {
        needs_csum: false,
        data_valid: false,
        gso: Gso::None,
        ecn: false,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
        num_buffers: 1,
    };

    /// As it is on the ring. `None`: a kind of large packet that we do not offer, or one without a size.
    pub fn decode(bytes: &[u8; LENGTH]) -> Option<Offload> {
        let [flags, kind, rest @ ..] = bytes;
        let [hdr_len, gso_size, csum_start, csum_offset, num_buffers] = {
            let (words, _) = rest.as_chunks::<2>();
            let mut values = [0u16; 5];
            for (value, word) in values.iter_mut().zip(words) {
                *value = u16::from_le_bytes(*word);
            }
            values
        };
        let gso = match kind & !ECN {
            0 => Gso::None,
            1 => Gso::Tcp4,
            4 => Gso::Tcp6,
            5 => Gso::Udp,
            _ => return None,
        };
        if gso != Gso::None && gso_size == 0 {
            return None;
        }
        Some(Offload {
            needs_csum: flags & NEEDS_CSUM != 0,
            data_valid: flags & DATA_VALID != 0,
            gso,
            ecn: kind & ECN != 0,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
            num_buffers,
        })
    }

    /// As it goes on the ring.
    pub fn encode(&self) -> [u8; LENGTH] {
        let flags = u8::from(self.needs_csum) * NEEDS_CSUM + u8::from(self.data_valid) * DATA_VALID;
        let kind = match self.gso {
            Gso::None => 0,
            Gso::Tcp4 => 1,
            Gso::Tcp6 => 4,
            Gso::Udp => 5,
        };
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        let [i, j] = self.num_buffers.to_le_bytes();
        [flags, kind | (u8::from(self.ecn) * ECN), a, b, c, d, e, f, g, h, i, j]
    }

    /// Whether it can be true of a packet with these headers whose head is `head` bytes long.
    ///
    /// A checksum may be wanted anywhere behind the network header (a guest's own tunnels), but within the head;
    /// a large packet's only where its protocol has it.
    #[inline]
    pub fn fits(&self, headers: &Headers, head: usize) -> bool {
        if !self.needs_csum && self.gso == Gso::None {
            return true;
        }
        let at = usize::from(self.csum_start) + usize::from(self.csum_offset);
        if self.needs_csum && (self.csum_start < headers.l4 || at + 2 > head || headers.fragment.is_some()) {
            return false;
        }
        let (wanted, v6) = match self.gso {
            Gso::None => return true,
            Gso::Tcp4 => (protocol::TCP, Some(false)),
            Gso::Tcp6 => (protocol::TCP, Some(true)),
            Gso::Udp => (protocol::UDP, None),
        };
        self.needs_csum
            && self.gso_size > 0
            && headers.protocol == wanted
            && v6.is_none_or(|v6| v6 == headers.ipv6)
            && headers.fragment.is_none()
            && self.csum_start == headers.l4
            && self.csum_offset == if wanted == protocol::TCP { 16 } else { 6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_decoded_encodes_the_same(bytes: [u8; LENGTH]) {
            if let Some(offload) = Offload::decode(&bytes) {
                let again = Offload::decode(&offload.encode());
                prop_assert_eq!(again, Some(offload));
            }
        }
    }

    #[test]
    fn is_as_linux_writes_it() {
        // A TSO4 packet of Linux: NEEDS_CSUM, TCPV4, 66 bytes of headers, 1448 each, checksum at 34 + 16.
        let bytes = [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
        let offload = Offload::decode(&bytes).unwrap();
        assert_eq!((offload.gso, offload.gso_size, offload.csum_start), (Gso::Tcp4, 1448, 34));
        assert_eq!(offload.encode(), bytes);
        assert_eq!(Offload::decode(&[0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), None, "UFO");
        assert_eq!(Offload::decode(&[1, 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]), None, "no size");
    }
}
