//! ARP for IPv4 over Ethernet (RFC 826), behind an Ethernet header.

use super::Mac;
use super::parse::{ETHERNET, ethertype};
use std::net::Ipv4Addr;

/// A request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A reply, else a request.
    pub reply: bool,
    /// Who says it.
    pub sender: (Mac, Ipv4Addr),
    /// Whom it is about (request: the MAC address means nothing).
    pub target: (Mac, Ipv4Addr),
}

/// Ethernet (1), IPv4, their addresses' lengths.
const PREFIX: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl Arp {
    /// Reads a frame.
    pub fn parse(frame: &[u8]) -> Option<Arp> {
        let body = frame.get(ETHERNET..)?.first_chunk::<28>()?;
        let (prefix, [o0, o1, rest @ ..]) = body.split_first_chunk::<6>()? else { return None };
        let (sender, target) = (pair(rest)?, pair(rest.get(10..)?)?);
        let reply = match (prefix == &PREFIX, u16::from_be_bytes([*o0, *o1])) {
            (true, 1) => false,
            (true, 2) => true,
            _ => return None,
        };
        Some(Arp { reply, sender, target })
    }

    /// The frame, from the sender's MAC address to `destination`.
    pub fn build(&self, destination: Mac) -> [u8; ETHERNET + 28] {
        let mut frame = [0; ETHERNET + 28];
        let operation = [0, if self.reply { 2 } else { 1 }];
        let parts: [&[u8]; 9] = [
            &destination.0,
            &self.sender.0.0,
            &ethertype::ARP.to_be_bytes(),
            &PREFIX,
            &operation,
            &self.sender.0.0,
            &self.sender.1.octets(),
            &self.target.0.0,
            &self.target.1.octets(),
        ];
        for (to, from) in frame.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        frame
    }
}

fn pair(bytes: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    let (mac, rest) = bytes.split_first_chunk::<6>()?;
    Some((Mac(*mac), Ipv4Addr::from(*rest.first_chunk::<4>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_built_is_read(reply: bool, a: [u8; 6], b: [u8; 4], c: [u8; 6], d: [u8; 4]) {
            let arp = Arp { reply, sender: (Mac(a), b.into()), target: (Mac(c), d.into()) };
            prop_assert_eq!(Arp::parse(&arp.build(Mac([0xff; 6]))), Some(arp));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Arp::parse(&bytes);
        }
    }
}
