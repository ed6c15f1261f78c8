//! Small packets put together to a large one (GRO): the inverse of [`super::segment`].
//!
//! Called by the uplink's receiving side, with packets as they came, Geneve taken off, one after the other. What it makes
//! of them, cut again, is what came, byte for byte; so only what follows in order, and differs in nothing else, is put
//! together. A packet whose checksum is wrong is left alone, for its receiver to find.
//!
//! Payload is not seen here: who has it gives its [`Sum`].

use super::segment::covered;
use crate::packet::build::put;
use crate::packet::checksum::Sum;
use crate::packet::head::Head;
use crate::packet::offload::{Gso, Offload};
use crate::packet::parse::{ETHERNET, Headers, Kind, parse, tcp};
use crate::packet::protocol;

/// The largest packet that IP carries, and Ethernet before it.
const LENGTH_MAX: u32 = ETHERNET as u32 + 0xffff;
/// More pieces than that the kernel does not cut (UDP_MAX_SEGMENTS).
const PIECES_MAX: u16 = 128;

/// A large packet that grows.
#[derive(Clone, Debug)]
pub struct Merge {
    /// Its headers, as the first had them.
    header: Head,
    headers: Headers,
    size: u32,
    payload: u32,
    count: u16,
    next: u32,
    flags: u8,
    /// The last was a shorter one, or said that it is the last.
    closed: bool,
}

/// What of a packet must be the same in the next.
struct Candidate<'a> {
    frame: &'a [u8],
    headers: Headers,
    payload: u32,
}

impl<'a> Candidate<'a> {
    /// `None`: it is not one to be put together with others.
    fn of(frame: &'a [u8], length: u32, payload: Sum) -> Option<Candidate<'a>> {
        let headers = parse(frame, length).ok()?;
        let plain = headers.kind == Kind::Ip
            && headers.fragment.is_none()
            && headers.l4 == if headers.ipv6 { ETHERNET as u16 + 40 } else { ETHERNET as u16 + 20 }
            && headers.end == length;
        let mergeable = match headers.protocol {
            protocol::TCP => headers.tcp_flags & !(tcp::PSH | tcp::FIN) == tcp::ACK,
            protocol::UDP => {
                let l4 = usize::from(headers.l4);
                let whole = u32::from(word(frame, l4 + 4)) == headers.end - u32::from(headers.l4);
                // Without a checksum there is nothing that says that it is right.
                whole && word(frame, l4 + 6) != 0
            }
            _ => false,
        };
        let carried = headers.end - u32::from(headers.payload);
        let intact = || (covered(frame, &headers) + payload).is_intact();
        (plain && mergeable && carried > 0 && intact()).then_some(Candidate {
            frame,
            headers,
            payload: carried,
        })
    }

    fn sequence(&self) -> u32 {
        let l4 = usize::from(self.headers.l4);
        u32::from(word(self.frame, l4 + 4)) << 16 | u32::from(word(self.frame, l4 + 6))
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).map_or(0, |word| u16::from_be_bytes(*word))
}

impl Merge {
    /// Begins with a packet. `None`: it goes on as it is.
    ///
    /// `frame` is its head, `length` that of all of it, `payload` the sum of what is behind its transport header.
    pub fn begin(frame: &[u8], length: u32, payload: Sum) -> Option<Merge> {
        let first = Candidate::of(frame, length, payload)?;
        let header = Head::of(frame.get(..first.headers.payload.into())?);
        let is_tcp = first.headers.protocol == protocol::TCP;
        Some(Merge {
            header,
            headers: first.headers,
            size: first.payload,
            payload: first.payload,
            count: 1,
            next: first.sequence().wrapping_add(first.payload),
            flags: first.headers.tcp_flags,
            closed: is_tcp && first.headers.tcp_flags & (tcp::PSH | tcp::FIN) != 0,
        })
    }

    /// Takes up the next packet. False: it does not belong here, and this one is to be finished.
    pub fn add(&mut self, frame: &[u8], length: u32, payload: Sum) -> bool {
        if self.closed || self.count >= PIECES_MAX {
            return false;
        }
        let Some(next) = Candidate::of(frame, length, payload) else { return false };
        let total = u32::from(self.headers.payload) + self.payload + next.payload;
        if next.payload > self.size || total > LENGTH_MAX || !self.is_like(&next) {
            return false;
        }
        self.payload += next.payload;
        self.count += 1;
        self.next = self.next.wrapping_add(next.payload);
        self.flags |= next.headers.tcp_flags;
        let last = next.headers.tcp_flags & (tcp::PSH | tcp::FIN) != 0;
        self.closed = next.payload < self.size || last;
        true
    }

    /// Whether a packet differs from the first in nothing but what a cut makes different.
    fn is_like(&self, next: &Candidate) -> bool {
        let first = self.header.bytes();
        let end = usize::from(self.headers.payload);
        let l4 = usize::from(self.headers.l4);
        let same = |from: usize, to: usize| first.get(from..to) == next.frame.get(from..to);
        if next.headers.payload != self.headers.payload || !same(0, ETHERNET) {
            return false;
        }
        // All of IP but lengths, checksum, and IPv4's identification, which counts up (or, where nothing is to be
        // fragmented, stays: RFC 6864).
        let network = if self.headers.ipv6 {
            same(14, 18) && same(20, l4)
        } else {
            let (id, own) = (word(first, 18), word(next.frame, 18));
            let counts = own == id.wrapping_add(self.count);
            let stays = own == id && self.headers.dont_fragment;
            same(14, 16) && same(20, 24) && same(26, l4) && (counts || stays)
        };
        let transport = match self.headers.protocol {
            // Ports; acknowledgement and data offset; window; options.
            protocol::TCP => {
                same(l4, l4 + 4)
                    && same(l4 + 8, l4 + 13)
                    && same(l4 + 14, l4 + 16)
                    && same(l4 + 18, end)
                    && next.sequence() == self.next
            }
            _ => same(l4, l4 + 4),
        };
        network && transport
    }

    /// How many packets it is.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The headers, and what is left to do. Behind them belongs the payload of all, in order.
    pub fn finish(self) -> (Head, Offload) {
        let mut head = self.header;
        let l4 = usize::from(self.headers.l4);
        let hdr_len = self.headers.payload;
        if self.count == 1 {
            return (head, Offload { data_valid: true, hdr_len, ..Offload::NONE });
        }
        let is_tcp = self.headers.protocol == protocol::TCP;
        let body = u32::from(self.headers.payload - self.headers.l4) + self.payload;
        let bytes = head.bytes_mut();
        if self.headers.ipv6 {
            put(bytes, ETHERNET + 4, &(body as u16).to_be_bytes());
        } else {
            put(bytes, ETHERNET + 2, &((body + 20) as u16).to_be_bytes());
            put(bytes, ETHERNET + 10, &[0, 0]);
            let sum = Sum::of(bytes.get(ETHERNET..l4).unwrap_or_default()).checksum();
            put(bytes, ETHERNET + 10, &sum.to_be_bytes());
        }
        let csum_offset = if is_tcp { 16 } else { 6 };
        if is_tcp {
            put(bytes, l4 + 13, &[self.flags]);
        } else {
            put(bytes, l4 + 4, &(body as u16).to_be_bytes());
        }
        let flow = self.headers.flow();
        let pseudo = Sum::pseudo(flow.source, flow.destination, self.headers.protocol, body);
        put(bytes, l4 + usize::from(csum_offset), &pseudo.partial().to_be_bytes());
        let gso = match (is_tcp, self.headers.ipv6) {
            (true, false) => Gso::Tcp4,
            (true, true) => Gso::Tcp6,
            (false, _) => Gso::Udp,
        };
        let offload = Offload {
            needs_csum: true,
            gso,
            hdr_len,
            gso_size: self.size as u16,
            csum_start: self.headers.l4,
            csum_offset,
            ..Offload::NONE
        };
        (head, offload)
    }
}
