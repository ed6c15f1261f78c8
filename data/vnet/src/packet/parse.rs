//! A packet read once, from the outside in, from its head alone.
//!
//! What is accepted is what a VPC carries: Ethernet II without VLAN tags; ARP; IPv4 and IPv6. Everything else is
//! [`DropReason::Unsupported`], and what contradicts itself [`DropReason::Malformed`]. Checksums are not verified: the
//! receiver does, and between two guests there may be none yet.
//!
//! Invariant: total. Every byte is read through a checked access.

use super::{Flow, Mac, protocol};
use crate::engine::verdict::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// EtherTypes that are carried.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// More extension headers than that, nobody needs (RFC 8504, section 5.3 allows a limit).
const EXTENSIONS_MAX: usize = 8;

/// TCP's flags.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// The connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is no more.
    pub const RST: u8 = 0x04;
    /// Hand on to the user.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The congestion window was reduced.
    pub const CWR: u8 = 0x80;
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Address resolution; its flow is empty.
    Arp,
    /// IP, of the flow's family.
    Ip,
    /// An ICMP or ICMPv6 error: it quotes a packet that it is about ([`quoted`]).
    IcmpError,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Same in all fragments of a packet.
    pub id: u32,
    /// Bytes before it.
    pub offset: u16,
    /// More come after it.
    pub more: bool,
}

/// What is known of a packet once its head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// What it is.
    pub kind: Kind,
    /// Source and destination on Ethernet.
    pub ethernet: (Mac, Mac),
    /// From, as [`words`] has it.
    pub source: [u64; 2],
    /// To.
    pub destination: [u64; 2],
    /// Both are IPv6 addresses.
    pub ipv6: bool,
    /// IANA's protocol number.
    pub protocol: u8,
    /// Source and destination port as [`Flow`] has them; of a later fragment, 0.
    pub ports: (u16, u16),
    /// ICMP's type and code, else 0.
    pub icmp: (u8, u8),
    /// Where the transport header begins, behind all of IP's.
    pub l4: u16,
    /// Where what the transport header carries begins; `l4` if the protocol is not known, and in later fragments.
    pub payload: u16,
    /// Where IP says that the packet ends: what follows is padding.
    pub end: u32,
    /// TCP's, else 0.
    pub tcp_flags: u8,
    /// IPv4: the sender's wish. IPv6: true, routers never fragment.
    pub dont_fragment: bool,
    /// It is one.
    pub fragment: Option<Fragment>,
}

impl Headers {
    /// What the packet has in common with others of its connection and direction.
    pub fn flow(&self) -> Flow {
        Flow {
            protocol: self.protocol,
            source: address(self.source, self.ipv6),
            destination: address(self.destination, self.ipv6),
            source_port: self.ports.0,
            destination_port: self.ports.1,
            icmp: self.icmp,
        }
    }
}

/// An address as two words, an IPv4 address mapped into IPv6. Words, because they stay in registers.
#[inline]
pub fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => ipv4_words(address.into()),
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

/// The address that these words are.
#[inline]
pub fn address([high, low]: [u64; 2], ipv6: bool) -> IpAddr {
    match ipv6 {
        false => IpAddr::V4((low as u32).into()),
        true => IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into()),
    }
}

#[inline]
fn ipv4_words(address: u32) -> [u64; 2] {
    [0, 0xffff_0000_0000 | u64::from(address)]
}

const NOBODY: Flow = Flow {
    protocol: 0,
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    source_port: 0,
    destination_port: 0,
    icmp: (0, 0),
};

const EMPTY: Headers = Headers {
    kind: Kind::Ip,
    ethernet: (Mac([0; 6]), Mac([0; 6])),
    source: [0; 2],
    destination: [0; 2],
    ipv6: false,
    protocol: 0,
    ports: (0, 0),
    icmp: (0, 0),
    l4: 0,
    payload: 0,
    end: 0,
    tcp_flags: 0,
    dont_fragment: true,
    fragment: None,
};

impl Default for Headers {
    fn default() -> Self {
        EMPTY
    }
}

/// Reads a packet of `length` bytes that begins with `head`.
///
/// # Errors
/// [`DropReason::Malformed`] also if the headers go on behind the head's end.
pub fn parse(head: &[u8], length: u32) -> Result<Headers, DropReason> {
    let mut headers = EMPTY;
    parse_into(head, length, &mut headers)?;
    Ok(headers)
}

/// As [`parse`], into a place that exists: on the way of every packet, a copy of the result is felt.
///
/// # Errors
/// As there; `headers` then mean nothing.
#[inline]
pub fn parse_into(head: &[u8], length: u32, headers: &mut Headers) -> Result<(), DropReason> {
    let (destination, rest) = head.split_first_chunk::<6>().ok_or(DropReason::Malformed)?;
    let (source, rest) = rest.split_first_chunk::<6>().ok_or(DropReason::Malformed)?;
    let ethertype = *rest.first_chunk::<2>().ok_or(DropReason::Malformed)?;
    // Field by field: a whole one would be put together elsewhere, and copied before its parts have arrived there.
    headers.kind = Kind::Ip;
    headers.ethernet = (Mac(*source), Mac(*destination));
    headers.ipv6 = false;
    headers.ports = (0, 0);
    headers.icmp = (0, 0);
    headers.end = length;
    headers.tcp_flags = 0;
    headers.dont_fragment = true;
    headers.fragment = None;
    match u16::from_be_bytes(ethertype) {
        ethertype::IPV4 => ipv4(head, length, headers)?,
        ethertype::IPV6 => ipv6(head, length, headers)?,
        ethertype::ARP => {
            *headers = Headers { kind: Kind::Arp, ethernet: headers.ethernet, end: length, ..EMPTY };
            return Ok(());
        }
        _ => return Err(DropReason::Unsupported),
    }
    transport(head, headers)
}

#[inline]
fn ipv4(head: &[u8], length: u32, headers: &mut Headers) -> Result<(), DropReason> {
    let ip = head.get(ETHERNET..).and_then(|ip| ip.first_chunk::<20>()).ok_or(DropReason::Malformed)?;
    let [first, _, l0, l1, i0, i1, f0, f1, _, protocol, _, _, addresses @ ..] = *ip;
    let header = usize::from(first & 15) * 4;
    let total = u32::from(u16::from_be_bytes([l0, l1]));
    let end = ETHERNET as u32 + total;
    let cut = ETHERNET + header > head.len();
    if first >> 4 != 4 || header < 20 || (total as usize) < header || end > length || cut {
        return Err(DropReason::Malformed);
    }
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    headers.protocol = protocol;
    headers.source = ipv4_words(u32::from_be_bytes([s0, s1, s2, s3]));
    headers.destination = ipv4_words(u32::from_be_bytes([d0, d1, d2, d3]));
    headers.end = end;
    headers.l4 = (ETHERNET + header) as u16;
    let flags = u16::from_be_bytes([f0, f1]);
    headers.dont_fragment = flags & 0x4000 != 0;
    let (more, offset) = (flags & 0x2000 != 0, (flags & 0x1fff) * 8);
    if more || offset > 0 {
        let id = u16::from_be_bytes([i0, i1]).into();
        headers.fragment = Some(fragment(id, offset, more, headers)?);
    }
    Ok(())
}

/// A fragment whose length fits: all but the last are multiples of eight, none goes beyond what IP can carry.
fn fragment(id: u32, offset: u16, more: bool, headers: &Headers) -> Result<Fragment, DropReason> {
    let carried = headers.end.saturating_sub(headers.l4.into());
    let beyond = u32::from(offset) + carried > 0xffff;
    if carried == 0 || beyond || (more && !carried.is_multiple_of(8)) {
        return Err(DropReason::Malformed);
    }
    Ok(Fragment { id, offset, more })
}

#[inline]
fn ipv6(head: &[u8], length: u32, headers: &mut Headers) -> Result<(), DropReason> {
    let ip = head.get(ETHERNET..).and_then(|ip| ip.first_chunk::<40>()).ok_or(DropReason::Malformed)?;
    let [first, _, _, _, l0, l1, next, _, addresses @ ..] = ip;
    let end = (ETHERNET + 40) as u32 + u32::from(u16::from_be_bytes([*l0, *l1]));
    if first >> 4 != 6 || end > length {
        return Err(DropReason::Malformed);
    }
    let (addresses, _) = addresses.as_chunks::<8>();
    let [s0, s1, d0, d1] = addresses else { return Err(DropReason::Malformed) };
    headers.ipv6 = true;
    headers.source = [u64::from_be_bytes(*s0), u64::from_be_bytes(*s1)];
    headers.destination = [u64::from_be_bytes(*d0), u64::from_be_bytes(*d1)];
    headers.end = end;
    headers.l4 = (ETHERNET + 40) as u16;
    headers.protocol = *next;
    if matches!(next, 0 | 43 | 44 | 51 | 60) { extensions(head, headers) } else { Ok(()) }
}

/// Goes behind IPv6's extension headers: hop-by-hop options, routing, fragment, authentication, destination options.
fn extensions(head: &[u8], headers: &mut Headers) -> Result<(), DropReason> {
    let mut next = headers.protocol;
    for _ in 0..EXTENSIONS_MAX {
        let at = usize::from(headers.l4);
        let header = match next {
            0 | 43 | 44 | 51 | 60 => head.get(at..).and_then(|rest| rest.first_chunk::<8>()),
            _ => return Ok(()),
        };
        let [following, length, o0, o1, i0, i1, i2, i3] = *header.ok_or(DropReason::Malformed)?;
        let size = match next {
            44 => 8,
            51 => (usize::from(length) + 2) * 4,
            // Type 0 is a way to be sent round in circles (RFC 5095).
            43 if o0 == 0 => return Err(DropReason::Malformed),
            _ => (usize::from(length) + 1) * 8,
        };
        if (at + size) as u64 > u64::from(headers.end) || at + size > head.len() {
            return Err(DropReason::Malformed);
        }
        headers.l4 = (at + size) as u16;
        headers.protocol = following;
        if next == 44 {
            let word = u16::from_be_bytes([o0, o1]);
            let (offset, more) = (word & 0xfff8, word & 1 != 0);
            // Neither before nor after it: an atomic fragment (RFC 6946) is a whole packet.
            if more || offset > 0 {
                let id = u32::from_be_bytes([i0, i1, i2, i3]);
                headers.fragment = Some(fragment(id, offset, more, headers)?);
            }
            if offset > 0 {
                return Ok(());
            }
        }
        next = following;
    }
    Err(DropReason::Malformed)
}

#[inline]
fn transport(head: &[u8], headers: &mut Headers) -> Result<(), DropReason> {
    headers.payload = headers.l4;
    if let Some(fragment) = headers.fragment
        && fragment.offset > 0
    {
        // A second fragment that overwrites the first's TCP flags (RFC 3128).
        let rewrites = headers.protocol == protocol::TCP && fragment.offset < 20;
        return if rewrites { Err(DropReason::Malformed) } else { Ok(()) };
    }
    let l4 = usize::from(headers.l4);
    let end = (headers.end as usize).min(head.len());
    let header = head.get(l4..end).ok_or(DropReason::Malformed)?;
    let size = match headers.protocol {
        protocol::TCP => {
            let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..] =
                *header.first_chunk::<20>().ok_or(DropReason::Malformed)?;
            headers.ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            headers.tcp_flags = flags;
            let size = usize::from(offset >> 4) * 4;
            if size < 20 || size > header.len() {
                return Err(DropReason::Malformed);
            }
            size
        }
        protocol::UDP => {
            let [s0, s1, d0, d1, l0, l1, ..] = *header.first_chunk::<8>().ok_or(DropReason::Malformed)?;
            headers.ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
            let length = u32::from(u16::from_be_bytes([l0, l1]));
            let carried = headers.end - u32::from(headers.l4);
            if length < 8 || (headers.fragment.is_none() && length > carried) {
                return Err(DropReason::Malformed);
            }
            8
        }
        protocol::ICMP | protocol::ICMPV6 => {
            icmp(header.first_chunk::<8>().ok_or(DropReason::Malformed)?, headers)?;
            8
        }
        _ => 0,
    };
    headers.payload = (l4 + size) as u16;
    Ok(())
}

fn icmp(header: &[u8; 8], headers: &mut Headers) -> Result<(), DropReason> {
    let [kind, code, _, _, i0, i1, _, _] = *header;
    // One family's ICMP means nothing in the other.
    let v6 = headers.protocol == protocol::ICMPV6;
    if v6 != headers.ipv6 {
        return Err(DropReason::Unsupported);
    }
    headers.icmp = (kind, code);
    let echo = if v6 { matches!(kind, 128 | 129) } else { matches!(kind, 0 | 8) };
    if echo {
        let id = u16::from_be_bytes([i0, i1]);
        headers.ports = (id, id);
    } else {
        headers.ports = (kind.into(), code.into());
    }
    let error = if v6 { kind < 128 } else { matches!(kind, 3 | 4 | 11 | 12) };
    if error && headers.fragment.is_none() {
        headers.kind = Kind::IcmpError;
    }
    Ok(())
}

/// The flow of the packet that an ICMP error quotes, as its sender wrote it. `None`: too little is quoted to tell.
pub fn quoted(head: &[u8], headers: &Headers) -> Option<Flow> {
    let inner = head.get(usize::from(headers.l4) + 8..(headers.end as usize).min(head.len()))?;
    let mut flow = NOBODY;
    let (l4, offset) = if headers.protocol == protocol::ICMP {
        let [first, _, _, _, _, _, f0, f1, _, next, _, _, addresses @ ..] = *inner.first_chunk::<20>()?;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        flow.protocol = next;
        flow.source = Ipv4Addr::new(s0, s1, s2, s3).into();
        flow.destination = Ipv4Addr::new(d0, d1, d2, d3).into();
        if first >> 4 != 4 || first & 15 < 5 {
            return None;
        }
        (usize::from(first & 15) * 4, u16::from_be_bytes([f0, f1]) & 0x1fff)
    } else {
        let [first, _, _, _, _, _, next, _, addresses @ ..] = inner.first_chunk::<40>()?;
        let (addresses, _) = addresses.as_chunks::<16>();
        let [source, destination] = addresses else { return None };
        flow.protocol = *next;
        flow.source = Ipv6Addr::from(*source).into();
        flow.destination = Ipv6Addr::from(*destination).into();
        // Behind extension headers: a packet of these is told nothing about.
        if first >> 4 != 6 || matches!(next, 0 | 43 | 44 | 51 | 60) {
            return None;
        }
        (40, 0)
    };
    if offset != 0 {
        return None;
    }
    let [a, b, c, d, e, f, ..] = *inner.get(l4..)?.first_chunk::<8>()?;
    match flow.protocol {
        protocol::TCP | protocol::UDP => {
            (flow.source_port, flow.destination_port) =
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let echo = matches!((flow.protocol, a), (protocol::ICMP, 0 | 8) | (protocol::ICMPV6, 128 | 129));
            if !echo {
                return None;
            }
            flow.icmp = (a, b);
            (flow.source_port, flow.destination_port) =
                (u16::from_be_bytes([e, f]), u16::from_be_bytes([e, f]));
        }
        _ => {}
    }
    Some(flow)
}
