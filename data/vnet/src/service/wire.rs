//! The packets that services read and write: Ethernet, IP and UDP, no more of them than that takes.
//!
//! Invariant: reading is total. What is not understood whole (a fragment, an extension header, a length that
//! contradicts another, a wrong checksum) is `None`, and is dropped by whoever asked.

use crate::packet::{Mac, protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

const ETHERNET_BYTES: usize = 14;

/// Whether a packet's checksums are to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// They are on the packet, and wrong ones are refused.
    Verify,
    /// The guest left them to its network card (virtio's NEEDS_CSUM), and nothing could damage the packet since.
    Trusted,
}

/// An Ethernet frame without a VLAN tag.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a> {
    /// To.
    pub destination: Mac,
    /// From.
    pub source: Mac,
    /// EtherType.
    pub kind: u16,
    /// All behind the header.
    pub payload: &'a [u8],
}

/// Reads a frame's header.
pub fn ethernet(frame: &[u8]) -> Option<Ethernet<'_>> {
    let (destination, rest) = frame.split_first_chunk()?;
    let (source, rest) = rest.split_first_chunk()?;
    let (kind, payload) = rest.split_first_chunk()?;
    let (destination, source) = (Mac(*destination), Mac(*source));
    Some(Ethernet { destination, source, kind: u16::from_be_bytes(*kind), payload })
}

/// A frame: the header in front of a payload.
pub fn ethernet_frame(destination: Mac, source: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + payload.len());
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IP packet that is whole.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// From.
    pub source: IpAddr,
    /// To; of the same family.
    pub destination: IpAddr,
    /// IANA's number.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// All of it, without what Ethernet padded it with.
    pub packet: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

/// Reads an IP packet.
pub fn ip(bytes: &[u8], checksums: Checksums) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes, checksums),
        6 => ipv6(bytes),
        _ => None,
    }
}

/// ```text
/// version, header/4 │ TOS │ total length:16 │ id:16 │ flags:3, fragment offset:13 │ TTL │ protocol │ checksum:16 │
/// source:32 │ destination:32 │ options                                                       (RFC 791)
/// ```
fn ipv4(bytes: &[u8], checksums: Checksums) -> Option<Ip<'_>> {
    let fixed: &[u8; 20] = bytes.first_chunk()?;
    let header_bytes = usize::from(fixed[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff;
    if header_bytes < 20 || fragment != 0 {
        return None;
    }
    let packet = bytes.get(..total_bytes)?;
    let (header, payload) = packet.split_at_checked(header_bytes)?;
    if checksums == Checksums::Verify && checksum(0, header) != 0 {
        return None;
    }
    let [.., a, b, c, d, e, f, g, h] = *fixed;
    Some(Ip {
        source: Ipv4Addr::new(a, b, c, d).into(),
        destination: Ipv4Addr::new(e, f, g, h).into(),
        protocol: fixed[9],
        hop_limit: fixed[8],
        packet,
        payload,
    })
}

/// ```text
/// version, class, flow:32 │ payload length:16 │ next header │ hop limit │ source:128 │ destination:128   (RFC 8200)
/// ```
fn ipv6(bytes: &[u8]) -> Option<Ip<'_>> {
    let (fixed, rest) = bytes.split_first_chunk::<40>()?;
    let payload_bytes = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let payload = rest.get(..payload_bytes)?;
    let source: &[u8; 16] = fixed.get(8..)?.first_chunk()?;
    let destination: &[u8; 16] = fixed.last_chunk()?;
    Some(Ip {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: fixed[6],
        hop_limit: fixed[7],
        packet: bytes.get(..40 + payload_bytes)?,
        payload,
    })
}

/// Whether the checksum that TCP, UDP or ICMPv6 carries is right.
pub fn transport_intact(ip: &Ip<'_>, checksums: Checksums) -> bool {
    checksums == Checksums::Trusted
        || checksum(pseudo_header(ip.source, ip.destination, ip.protocol, ip.payload.len()), ip.payload) == 0
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a> {
    /// From.
    pub source: u16,
    /// To.
    pub destination: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Reads a UDP datagram (RFC 768). Over IPv4 a checksum of 0 is none.
pub fn udp<'a>(ip: &Ip<'a>, checksums: Checksums) -> Option<Udp<'a>> {
    let (header, _) = ip.payload.split_first_chunk::<8>()?;
    let [a, b, c, d, e, f, g, h] = *header;
    let payload = ip.payload.get(8..usize::from(u16::from_be_bytes([e, f])))?;
    let unchecked = [g, h] == [0, 0] && ip.source.is_ipv4();
    if ip.protocol != protocol::UDP || !(unchecked || transport_intact(ip, checksums)) {
        return None;
    }
    let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Udp { source, destination, payload })
}

/// The ports and flags of a TCP segment (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// From.
    pub source: u16,
    /// To.
    pub destination: u16,
    /// It asks for a connection: SYN without ACK or RST.
    pub opens: bool,
}

/// Reads as much of a TCP segment as it takes to find its connection.
pub fn tcp(ip: &Ip<'_>, checksums: Checksums) -> Option<Tcp> {
    let header: &[u8; 20] = ip.payload.first_chunk()?;
    if ip.protocol != protocol::TCP || !transport_intact(ip, checksums) {
        return None;
    }
    let (source, destination) =
        (u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]));
    const SYN_RST_ACK: u8 = 0x16;
    Some(Tcp { source, destination, opens: header[13] & SYN_RST_ACK == 0x02 })
}

/// The headers around a datagram: who sends it, to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Ethernet: to.
    pub destination_mac: Mac,
    /// Ethernet: from.
    pub source_mac: Mac,
    /// From.
    pub source: SocketAddr,
    /// To; of the same family, else nothing is built.
    pub destination: SocketAddr,
}

impl Envelope {
    /// The frame with the datagram; empty if the families differ or it is too long for one.
    pub fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let Ok(length) = u16::try_from(payload.len() + 8) else { return Vec::new() };
        let mut datagram = Vec::with_capacity(payload.len() + 8);
        datagram.extend(self.source.port().to_be_bytes());
        datagram.extend(self.destination.port().to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        let addresses = (self.source.ip(), self.destination.ip());
        let pseudo = pseudo_header(addresses.0, addresses.1, protocol::UDP, datagram.len());
        // RFC 768: a sum of 0 is sent as all ones.
        let sum = match checksum(pseudo, &datagram) {
            0 => 0xffff,
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        ip_frame((self.destination_mac, self.source_mac), addresses, protocol::UDP, 64, &datagram)
    }
}

/// A frame with an IP packet; empty if the families differ or it is too long. `macs` and `addresses`: the frame's
/// destination and source; the packet's source and destination.
pub fn ip_frame(
    macs: (Mac, Mac),
    addresses: (IpAddr, IpAddr),
    protocol: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::with_capacity(40 + payload.len());
    let kind = match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let Ok(total) = u16::try_from(20 + payload.len()) else { return Vec::new() };
            packet.extend([0x45, 0]);
            packet.extend(total.to_be_bytes());
            // Not to be fragmented, and so without an identification (RFC 6864).
            packet.extend([0, 0, 0x40, 0, hop_limit, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(0, &packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            ETHERTYPE_IPV4
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let Ok(length) = u16::try_from(payload.len()) else { return Vec::new() };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, hop_limit]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            ETHERTYPE_IPV6
        }
        _ => return Vec::new(),
    };
    packet.extend(payload);
    ethernet_frame(macs.0, macs.1, kind, &packet)
}

/// A frame with an ICMPv6 message, whose checksum (bytes 2 and 3) is filled in. Neighbour discovery's hop limit: 255.
pub fn icmpv6_frame(macs: (Mac, Mac), addresses: (Ipv6Addr, Ipv6Addr), mut message: Vec<u8>) -> Vec<u8> {
    let addresses = (IpAddr::V6(addresses.0), IpAddr::V6(addresses.1));
    let pseudo = pseudo_header(addresses.0, addresses.1, protocol::ICMPV6, message.len());
    let sum = checksum(pseudo, &message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    ip_frame(macs, addresses, protocol::ICMPV6, 255, &message)
}

/// The Internet checksum (RFC 1071) over `bytes`, begun with `sum`.
pub fn checksum(sum: u64, bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum = pairs.iter().fold(sum, |sum, pair| sum + u64::from(u16::from_be_bytes(*pair)));
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of the addresses, protocol and length that TCP, UDP and ICMPv6 have under their checksum.
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let sum_of = |address| match address {
        IpAddr::V4(address) => u64::from(!checksum(0, &Ipv4Addr::octets(&address))),
        IpAddr::V6(address) => u64::from(!checksum(0, &Ipv6Addr::octets(&address))),
    };
    sum_of(source) + sum_of(destination) + u64::from(protocol) + length as u64
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));

    fn envelope(source: &str, destination: &str) -> Envelope {
        Envelope {
            destination_mac: MACS.0,
            source_mac: MACS.1,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn the_checksum_of_rfc_1071() {
        // RFC 1071, section 3: the sum of these is ddf2.
        assert_eq!(checksum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn a_fragment_or_a_lie_about_lengths_is_not_read() {
        let frame = envelope("10.0.0.1:1", "10.0.0.2:2").seal(b"hello");
        let good = &frame[14..];
        assert!(ip(good, Checksums::Verify).is_some());
        let damaged = |at: usize, byte: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            let read = ip(&bytes, Checksums::Trusted).and_then(|ip| udp(&ip, Checksums::Trusted).map(drop));
            assert_eq!(read, None, "byte {at} = {byte}");
        };
        damaged(6, 0x20);
        damaged(7, 1);
        damaged(3, 200);
        damaged(0, 0x44);
        damaged(0, 0x4f);
        damaged(0, 0x55);
        damaged(25, 200);
        damaged(25, 7);
        damaged(9, 6);
    }

    #[test]
    fn a_wrong_checksum_is_refused_unless_the_card_was_to_make_it() {
        for addresses in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let mut frame = envelope(addresses.0, addresses.1).seal(b"hello");
            *frame.last_mut().unwrap() ^= 1;
            let packet = ip(&frame[14..], Checksums::Verify).unwrap();
            assert!(udp(&packet, Checksums::Verify).is_none());
            assert!(udp(&packet, Checksums::Trusted).is_some());
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_read(payload in prop::collection::vec(any::<u8>(), 0..200), padding in 0usize..20) {
            for addresses in [("10.0.0.1:7", "10.0.0.2:9"), ("[fd00::1]:7", "[fd00::2]:9")] {
                let mut frame = envelope(addresses.0, addresses.1).seal(&payload);
                frame.extend(vec![0; padding]);
                let outer = ethernet(&frame).unwrap();
                prop_assert_eq!((outer.destination, outer.source), MACS);
                let packet = ip(outer.payload, Checksums::Verify).unwrap();
                let datagram = udp(&packet, Checksums::Verify).unwrap();
                prop_assert_eq!((datagram.source, datagram.destination, datagram.payload), (7, 9, &payload[..]));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ethernet(&bytes);
            if let Some(packet) = ip(&bytes, Checksums::Trusted) {
                let _ = (udp(&packet, Checksums::Trusted).is_some(), tcp(&packet, Checksums::Verify).is_some());
            }
        }
    }
}
