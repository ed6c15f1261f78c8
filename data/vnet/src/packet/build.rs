//! Whole packets from what they are to say: for what the switch itself sends, and for tests.

use super::checksum::{self, Sum};
use super::parse::{ETHERNET, Fragment, ethertype};
use super::{Mac, protocol};
use std::net::{IpAddr, Ipv6Addr};

/// A packet to be built. Lengths and checksums are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Source and destination.
    pub ethernet: (Mac, Mac),
    /// From.
    pub source: IpAddr,
    /// To; of the same family, else both are written as IPv6.
    pub destination: IpAddr,
    /// IPv4's time to live, IPv6's hop limit.
    pub hop_limit: u8,
    /// IPv4 only.
    pub id: u16,
    /// IPv4 only.
    pub dont_fragment: bool,
    /// It is to be a fragment; its transport header is left out if it is not the first.
    pub fragment: Option<Fragment>,
    /// IPv4's options, padded to words with zeros.
    pub options: Vec<u8>,
    /// What it carries.
    pub transport: Transport,
    /// And in that.
    pub payload: Vec<u8>,
}

/// A transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source and destination.
        ports: (u16, u16),
        /// Of its first byte.
        sequence: u32,
        /// Of the byte that its sender expects.
        acknowledgement: u32,
        /// See [`super::parse::tcp`].
        flags: u8,
        /// As it is written.
        window: u16,
        /// Padded to words with zeros.
        options: Vec<u8>,
    },
    /// UDP: source and destination port.
    Udp(u16, u16),
    /// ICMP, or ICMPv6 between IPv6 addresses: type, code, and the four bytes after the checksum.
    Icmp(u8, u8, [u8; 4]),
    /// Another protocol, without a header.
    Other(u8),
}

impl Default for Build {
    fn default() -> Self {
        Build {
            ethernet: (Mac::default(), Mac::default()),
            source: Ipv6Addr::UNSPECIFIED.into(),
            destination: Ipv6Addr::UNSPECIFIED.into(),
            hop_limit: 64,
            id: 0,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            transport: Transport::Other(59),
            payload: Vec::new(),
        }
    }
}

impl Build {
    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        self.build(false)
    }

    /// The packet with its TCP or UDP checksum still to be filled in: the field has the pseudo-header's sum.
    pub fn bytes_partial(&self) -> Vec<u8> {
        self.build(true)
    }

    fn build(&self, partial: bool) -> Vec<u8> {
        let (number, mut body, at) = self.transport();
        body.extend_from_slice(&self.payload);
        let (source, destination) = match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (self.source, self.destination),
            (source, destination) => (mapped(source).into(), mapped(destination).into()),
        };
        if let Some(at) = at {
            let pseudo = match number {
                protocol::ICMP => Sum::default(),
                _ => Sum::pseudo(source, destination, number, body.len() as u32),
            };
            let value = match number {
                _ if partial => pseudo.partial(),
                protocol::UDP => checksum::udp(pseudo + Sum::of(&body)),
                _ => (pseudo + Sum::of(&body)).checksum(),
            };
            put(&mut body, at, &value.to_be_bytes());
        }
        if self.fragment.is_some_and(|fragment| fragment.offset > 0) {
            body = self.payload.clone();
        }
        let mut bytes = Vec::with_capacity(ETHERNET + 40 + body.len());
        bytes.extend_from_slice(&self.ethernet.1.0);
        bytes.extend_from_slice(&self.ethernet.0.0);
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend_from_slice(&ethertype::IPV4.to_be_bytes());
                bytes.extend_from_slice(&self.ipv4(
                    number,
                    source.octets(),
                    destination.octets(),
                    body.len(),
                ));
            }
            _ => {
                bytes.extend_from_slice(&ethertype::IPV6.to_be_bytes());
                let (source, destination) = (mapped(source).octets(), mapped(destination).octets());
                bytes.extend_from_slice(&self.ipv6(number, source, destination, body.len()));
            }
        }
        bytes.append(&mut body);
        bytes
    }

    /// Protocol, header, and where its checksum is.
    fn transport(&self) -> (u8, Vec<u8>, Option<usize>) {
        let mut header = Vec::new();
        match &self.transport {
            Transport::Tcp { ports, sequence, acknowledgement, flags, window, options } => {
                let mut options = options.clone();
                options.resize(options.len().next_multiple_of(4), 0);
                header.extend_from_slice(&ports.0.to_be_bytes());
                header.extend_from_slice(&ports.1.to_be_bytes());
                header.extend_from_slice(&sequence.to_be_bytes());
                header.extend_from_slice(&acknowledgement.to_be_bytes());
                header.extend_from_slice(&[(((20 + options.len()) / 4) << 4) as u8, *flags]);
                header.extend_from_slice(&window.to_be_bytes());
                header.extend_from_slice(&[0; 4]);
                header.append(&mut options);
                (protocol::TCP, header, Some(16))
            }
            Transport::Udp(source, destination) => {
                let length = (8 + self.payload.len()) as u16;
                header.extend_from_slice(&source.to_be_bytes());
                header.extend_from_slice(&destination.to_be_bytes());
                header.extend_from_slice(&length.to_be_bytes());
                header.extend_from_slice(&[0; 2]);
                (protocol::UDP, header, Some(6))
            }
            Transport::Icmp(kind, code, rest) => {
                header.extend_from_slice(&[*kind, *code, 0, 0]);
                header.extend_from_slice(rest);
                let v4 = self.source.is_ipv4() && self.destination.is_ipv4();
                (if v4 { protocol::ICMP } else { protocol::ICMPV6 }, header, Some(2))
            }
            Transport::Other(number) => (*number, header, None),
        }
    }

    fn ipv4(&self, number: u8, source: [u8; 4], destination: [u8; 4], body: usize) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let length = 20 + options.len();
        let (id, offset) = match self.fragment {
            Some(fragment) => (fragment.id as u16, (u16::from(fragment.more) << 13) | (fragment.offset / 8)),
            None => (self.id, 0),
        };
        let flags = u16::from(self.dont_fragment) << 14 | offset;
        let mut ip = vec![0x40 | (length / 4) as u8, 0];
        ip.extend_from_slice(&((length + body) as u16).to_be_bytes());
        ip.extend_from_slice(&id.to_be_bytes());
        ip.extend_from_slice(&flags.to_be_bytes());
        ip.extend_from_slice(&[self.hop_limit, number, 0, 0]);
        ip.extend_from_slice(&source);
        ip.extend_from_slice(&destination);
        ip.append(&mut options);
        let sum = Sum::of(&ip).checksum();
        put(&mut ip, 10, &sum.to_be_bytes());
        ip
    }

    fn ipv6(&self, number: u8, source: [u8; 16], destination: [u8; 16], body: usize) -> Vec<u8> {
        let extra = if self.fragment.is_some() { 8 } else { 0 };
        let mut ip = vec![0x60, 0, 0, 0];
        ip.extend_from_slice(&((body + extra) as u16).to_be_bytes());
        ip.extend_from_slice(&[if extra > 0 { 44 } else { number }, self.hop_limit]);
        ip.extend_from_slice(&source);
        ip.extend_from_slice(&destination);
        if let Some(fragment) = self.fragment {
            ip.extend_from_slice(&[number, 0]);
            ip.extend_from_slice(&((fragment.offset & 0xfff8) | u16::from(fragment.more)).to_be_bytes());
            ip.extend_from_slice(&fragment.id.to_be_bytes());
        }
        ip
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Overwrites bytes where they are all there.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
}

/// An ICMP error that tells a packet's sender that it is too large: "fragmentation needed" (RFC 1191), or "packet too
/// big" (RFC 4443, section 3.2), from `router`. `mtu` is the largest IP packet that would have passed.
///
/// As much of the packet is quoted as the head has, up to 128 bytes. `None`: the families differ.
pub fn too_big(
    router: (Mac, IpAddr),
    mtu: u16,
    packet: &[u8],
    headers: &super::parse::Headers,
) -> Option<Vec<u8>> {
    let quote = packet.get(ETHERNET..)?;
    let [m0, m1] = mtu.to_be_bytes();
    let sender = headers.flow().source;
    let transport = match (router.1, sender) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Transport::Icmp(3, 4, [0, 0, m0, m1]),
        (IpAddr::V6(_), IpAddr::V6(_)) => Transport::Icmp(2, 0, [0, 0, m0, m1]),
        _ => return None,
    };
    let packet = Build {
        ethernet: (router.0, headers.ethernet.0),
        source: router.1,
        destination: sender,
        transport,
        payload: quote.get(..quote.len().min(128))?.to_vec(),
        ..Build::default()
    };
    Some(packet.bytes())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
