//! A large packet cut into those that go on the wire (TSO, USO), and checksums that were left to be filled in.
//!
//! Called by the uplink, which hands the kernel all pieces in one call, and for guests that cannot take large packets.
//! Payload is not seen here: who has it gives its [`Sum`], piece by piece. All pieces but the last are of one length,
//! as UDP_SEGMENT wants it.

use super::verdict::DropReason;
use crate::packet::build::put;
use crate::packet::checksum::{self, Sum};
use crate::packet::head::Head;
use crate::packet::offload::{Gso, Offload};
use crate::packet::parse::{ETHERNET, Headers, parse, tcp};
use crate::packet::protocol;
use std::ops::Range;

/// Fills in a packet's checksum. `rest` is the sum of what follows the head.
pub fn complete(head: &mut [u8], offload: &mut Offload, rest: Sum) {
    if !offload.needs_csum {
        return;
    }
    let (start, at) =
        (usize::from(offload.csum_start), usize::from(offload.csum_start + offload.csum_offset));
    let covered = head.get(start..).unwrap_or_default();
    let rest = if covered.len().is_multiple_of(2) { rest } else { rest.at_odd() };
    let sum = Sum::of(covered) + rest;
    // A checksum of 0 says that there is none, to UDP; any other protocol may have 0xffff for it as well (RFC 1624).
    put(head, at, &checksum::udp(sum).to_be_bytes());
    offload.needs_csum = false;
}

/// A large packet, about to be cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// All headers, outer ones included.
    header: Head,
    inner: usize,
    l3: usize,
    l4: usize,
    ipv6: bool,
    tcp: bool,
    ecn: bool,
    size: u32,
    payload: u32,
    id: u16,
    sequence: u32,
    flags: u8,
    /// Of the pseudo-header without a length.
    pseudo: Sum,
}

impl Cut {
    /// Takes up a packet as the engine gives it: `inner` is where its Ethernet header begins, `length` that of all of it.
    ///
    /// # Errors
    /// [`DropReason::Malformed`]: it is no large packet.
    pub fn new(head: &[u8], inner: usize, offload: &Offload, length: u32) -> Result<Cut, DropReason> {
        let frame = head.get(inner..).ok_or(DropReason::Malformed)?;
        let headers = parse(frame, length.saturating_sub(inner as u32))?;
        let shifted = Offload { csum_start: offload.csum_start.wrapping_sub(inner as u16), ..*offload };
        if offload.gso == Gso::None || !shifted.fits(&headers, frame.len()) {
            return Err(DropReason::Malformed);
        }
        let end = inner + usize::from(headers.payload);
        let header = Head::of(head.get(..end).ok_or(DropReason::Malformed)?);
        let word =
            |at: usize| frame.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
        let l4 = usize::from(headers.l4);
        let [id0, id1, ..] = word(ETHERNET + 4);
        let flow = headers.flow();
        Ok(Cut {
            header,
            inner,
            l3: inner + ETHERNET,
            l4: inner + l4,
            ipv6: headers.ipv6,
            tcp: headers.protocol == protocol::TCP,
            ecn: offload.ecn,
            size: offload.gso_size.into(),
            payload: headers.end - u32::from(headers.payload),
            id: u16::from_be_bytes([id0, id1]),
            sequence: u32::from_be_bytes(word(l4 + 4)),
            flags: headers.tcp_flags,
            pseudo: Sum::pseudo(flow.source, flow.destination, headers.protocol, 0),
        })
    }

    /// How many pieces there are.
    pub fn count(&self) -> u32 {
        self.payload.div_ceil(self.size).max(1)
    }

    /// Length of each piece's headers.
    pub fn header(&self) -> usize {
        self.header.len()
    }

    /// Which bytes of the payload a piece has: those behind the transport header, of which the head may have had some.
    pub fn range(&self, piece: u32) -> Range<u32> {
        let begin = piece.saturating_mul(self.size).min(self.payload);
        begin..begin.saturating_add(self.size).min(self.payload)
    }

    /// A piece's headers. `payload` is the sum of its bytes.
    pub fn piece(&self, piece: u32, payload: Sum) -> Head {
        let mut head = self.header.clone();
        let range = self.range(piece);
        let carried = range.end - range.start;
        let body = (self.header.len() - self.l4) as u32 + carried;
        let bytes = head.bytes_mut();
        if self.ipv6 {
            // Extension headers count as its payload.
            let length = (self.l4 - self.l3 - 40) as u32 + body;
            put(bytes, self.l3 + 4, &(length as u16).to_be_bytes());
        } else {
            let length = (self.l4 - self.l3) as u32 + body;
            put(bytes, self.l3 + 2, &(length as u16).to_be_bytes());
            put(bytes, self.l3 + 4, &self.id.wrapping_add(piece as u16).to_be_bytes());
            put(bytes, self.l3 + 10, &[0, 0]);
            let sum = Sum::of(bytes.get(self.l3..self.l4).unwrap_or_default()).checksum();
            put(bytes, self.l3 + 10, &sum.to_be_bytes());
        }
        let at = if self.tcp { 16 } else { 6 };
        put(bytes, self.l4 + at, &[0, 0]);
        if self.tcp {
            put(bytes, self.l4 + 4, &self.sequence.wrapping_add(range.start).to_be_bytes());
            let mut flags = self.flags;
            if range.end < self.payload {
                flags &= !(tcp::FIN | tcp::PSH);
            }
            if self.ecn && piece > 0 {
                flags &= !tcp::CWR;
            }
            put(bytes, self.l4 + 13, &[flags]);
        } else {
            put(bytes, self.l4 + 4, &(body as u16).to_be_bytes());
        }
        let header = Sum::of(bytes.get(self.l4..).unwrap_or_default());
        let sum = self.pseudo + Sum::word(body as u16) + header + payload;
        let checksum = if self.tcp { sum.checksum() } else { checksum::udp(sum) };
        put(bytes, self.l4 + at, &checksum.to_be_bytes());
        head
    }

    /// Where in a piece's head its Ethernet header begins.
    pub fn inner(&self) -> usize {
        self.inner
    }
}

/// The sum of all that a transport checksum covers but the payload.
pub(super) fn covered(frame: &[u8], headers: &Headers) -> Sum {
    let flow = headers.flow();
    let length = headers.end - u32::from(headers.l4);
    let header = frame.get(headers.l4.into()..headers.payload.into()).unwrap_or_default();
    Sum::pseudo(flow.source, flow.destination, headers.protocol, length) + Sum::of(header)
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
