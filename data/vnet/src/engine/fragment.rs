//! Fragments: what the first says of all, and how a packet is cut into some.
//!
//! Each port remembers the last 64 packets of which a first fragment came by, for 30 s; the others follow it. One whose
//! first is not known is dropped: without ports there is nothing to decide on. The table is the port's own, so that
//! nobody's fragments cost another's.

use super::Nanos;
use crate::packet::build::put;
use crate::packet::checksum::Sum;
use crate::packet::head::Head;
use crate::packet::parse::{ETHERNET, Headers};
use crate::packet::{Flow, protocol};
use std::ops::Range;

const REMEMBERED: usize = 64;
/// As Linux' `ipfrag_time`.
const REMEMBERED_NS: u64 = 30_000_000_000;

/// What a first fragment said.
#[derive(Clone, Copy)]
struct First {
    flow: Flow,
    id: u32,
    at: Nanos,
}

/// A port's table.
#[derive(Default)]
pub struct Fragments {
    firsts: Vec<First>,
    next: usize,
}

impl Fragments {
    /// A first fragment; the oldest makes room for it.
    pub fn remember(&mut self, flow: Flow, id: u32, at: Nanos) {
        let first = First { flow, id, at };
        if let Some(known) = self.firsts.iter_mut().find(|known| known.is(&flow, id)) {
            *known = first;
        } else if self.firsts.len() < REMEMBERED {
            self.firsts.push(first);
        } else if let Some(oldest) = self.firsts.get_mut(self.next) {
            *oldest = first;
            self.next = (self.next + 1) % REMEMBERED;
        }
    }

    /// The flow that a later fragment belongs to.
    pub fn recall(&self, flow: &Flow, id: u32, now: Nanos) -> Option<Flow> {
        let known = self.firsts.iter().find(|known| known.is(flow, id))?;
        (now.0.saturating_sub(known.at.0) < REMEMBERED_NS).then_some(known.flow)
    }
}

impl First {
    fn is(&self, flow: &Flow, id: u32) -> bool {
        let own = &self.flow;
        self.id == id
            && (own.protocol, own.source, own.destination) == (flow.protocol, flow.source, flow.destination)
    }
}

/// A piece of a packet: its head, and what of the packet follows.
pub struct Piece {
    /// Ethernet and IP headers, of the first also the transport header.
    pub head: Head,
    /// Of the packet as it came.
    pub rest: Range<u32>,
}

/// Whether a packet can be cut: IPv4 whose sender lets us, with a checksum that need not be made over all pieces. (A
/// UDP checksum that was still to be filled in is left out, as RFC 768 allows; the underlay's covers the pieces.)
pub fn can_cut(headers: &Headers, needs_csum: bool) -> bool {
    !headers.ipv6
        && !headers.dont_fragment
        && (!needs_csum || (headers.protocol == protocol::UDP && headers.fragment.is_none()))
}

/// Cuts an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, section 3.2). Empty if that cannot be done.
pub fn cut(packet: &Head, headers: &Headers, mtu: u16, needs_csum: bool) -> Vec<Piece> {
    let bytes = packet.bytes();
    let l4 = u32::from(headers.l4);
    let carried = headers.end.saturating_sub(l4);
    let (offset, more_follow) = headers.fragment.map_or((0, false), |is| (u32::from(is.offset), is.more));
    let Some(ip) = bytes.get(ETHERNET..headers.l4.into()) else { return Vec::new() };
    let later = later_header(ip);
    let mut pieces = Vec::new();
    let mut from = 0;
    while from < carried {
        let header: &[u8] = if from == 0 { ip } else { &later };
        let room = u32::from(mtu).saturating_sub(header.len() as u32) & !7;
        if room == 0 {
            return Vec::new();
        }
        let size = room.min(carried - from);
        let more = more_follow || from + size < carried;
        let mut head = Head::of(bytes.get(..ETHERNET).unwrap_or_default());
        head.append(header);
        let start = head.len();
        if from == 0 {
            head.append(bytes.get(headers.l4.into()..headers.payload.into()).unwrap_or_default());
            if needs_csum {
                put(head.bytes_mut(), start + 6, &[0, 0]);
            }
        }
        let inside = (head.len() - start) as u32;
        let length = (header.len() as u32 + size) as u16;
        write_header(head.bytes_mut(), length, ((offset + from) / 8) as u16, more, start);
        pieces.push(Piece { head, rest: l4 + from + inside..l4 + from + size });
        from += size;
    }
    pieces
}

fn write_header(frame: &mut [u8], length: u16, offset: u16, more: bool, end: usize) {
    put(frame, ETHERNET + 2, &length.to_be_bytes());
    put(frame, ETHERNET + 6, &(offset | u16::from(more) << 13).to_be_bytes());
    put(frame, ETHERNET + 10, &[0, 0]);
    let sum = Sum::of(frame.get(ETHERNET..end).unwrap_or_default()).checksum();
    put(frame, ETHERNET + 10, &sum.to_be_bytes());
}

/// The header of fragments after the first: of the options only those that are to be copied.
fn later_header(ip: &[u8]) -> Vec<u8> {
    let (fixed, mut options) = ip.split_at(ip.len().min(20));
    let mut header = fixed.to_vec();
    while let Some(kind) = options.first() {
        let size = match kind {
            0 => break,
            1 => 1,
            _ => options.get(1).map_or(0, |size| usize::from(*size)),
        };
        let Some(option) = options.get(..size).filter(|_| size > 0) else { break };
        if kind & 0x80 != 0 {
            header.extend_from_slice(option);
        }
        options = options.get(size..).unwrap_or_default();
    }
    header.resize(header.len().next_multiple_of(4), 0);
    let words = (header.len() / 4) as u8;
    put(&mut header, 0, &[0x40 | words]);
    header
}
