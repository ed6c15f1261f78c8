//! Packets: what is read from one, once, and how one is built.

pub mod arp;
pub mod build;
pub mod checksum;
pub mod geneve;
pub mod head;
pub mod offload;
pub mod parse;

use std::net::IpAddr;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// IANA's protocol numbers that are told apart.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// What packets of one direction of a connection have in common, as its sender wrote it.
///
/// Ports are those of TCP and UDP. An ICMP echo has its identifier as both, any other ICMP message its type in
/// `source_port` and its code in `destination_port`; other protocols have 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// IANA's protocol number.
    pub protocol: u8,
    /// From.
    pub source: IpAddr,
    /// To; of the same family.
    pub destination: IpAddr,
    /// See above.
    pub source_port: u16,
    /// See above.
    pub destination_port: u16,
    /// ICMP: type and code, whatever the ports say; else 0.
    pub icmp: (u8, u8),
}
