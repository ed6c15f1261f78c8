//! What was decided is done: packets go into guests' buffers, or to other hosts in datagrams.
//!
//! A payload is copied once: from a guest's memory, or from where the kernel put a datagram, into a guest's memory; or by
//! the kernel, when it takes a datagram. Two things cost a copy more, because payload must be seen: a checksum that a
//! guest has left to its card, and a large packet that is cut for the underlay (its pieces' checksums).
//!
//! Packets of one flow to another host that are of one length go as the segments of one datagram, and segments of one TCP
//! connection that arrive together go to the guest as one packet, if its driver takes that.
//!
//! Invariant: nothing here decides where a packet goes.

use super::port::Port;
use super::{SwitchError, SwitchOptions};
use crate::engine::coalesce::Merge;
use crate::engine::segment::{Cut, complete};
use crate::engine::verdict::{DropReason, PortIndex};
use crate::engine::{Engine, Origin, Outcome, Packet};
use crate::link::uplink::{DATAGRAM_MAX, Outgoing, SEGMENTS_MAX, SendError, Uplink, UplinkOptions};
use crate::packet::checksum::Sum;
use crate::packet::head::Head;
use crate::packet::offload::{Gso, Offload};
use crate::packet::parse::parse;
use crate::span::{self, Span};
use crate::virtio::device::Offloads;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The way to other hosts.
#[derive(Debug)]
pub struct UplinkPath {
    pub(super) uplink: Uplink,
}

impl UplinkPath {
    /// Binds this host's address.
    pub fn open(options: &SwitchOptions) -> Result<UplinkPath, SwitchError> {
        let port = options.underlay.port();
        let uplink = Uplink::open(&UplinkOptions { port, ..UplinkOptions::new(options.underlay.ip()) })?;
        Ok(UplinkPath { uplink })
    }
}

/// A datagram's worth: where its head lies in the arena, and its payload.
struct Item {
    to: SocketAddr,
    flow: u32,
    /// In the arena: a head, or all of a packet.
    bytes: std::ops::Range<usize>,
    /// In the spans.
    payload: std::ops::Range<usize>,
    length: usize,
    from: Option<PortIndex>,
}

/// What goes to other hosts from one batch, for as long as its payloads lie where they are.
#[derive(Default)]
struct Outbox<'a> {
    arena: Vec<u8>,
    spans: Vec<Span<'a>>,
    items: Vec<Item>,
}

/// Segments that are being put together for a guest.
struct Growing<'a> {
    port: PortIndex,
    merge: Merge,
    payload: Vec<Span<'a>>,
}

/// Carries what was decided for one batch.
pub(super) struct Carrier<'b, 'a> {
    engine: &'b mut Engine,
    ports: &'b mut BTreeMap<PortIndex, Port>,
    path: &'b mut UplinkPath,
    outbox: Outbox<'a>,
    growing: Option<Growing<'a>>,
}

impl<'b, 'a> Carrier<'b, 'a> {
    pub(super) fn new(
        engine: &'b mut Engine,
        ports: &'b mut BTreeMap<PortIndex, Port>,
        path: &'b mut UplinkPath,
    ) -> Carrier<'b, 'a> {
        Carrier { engine, ports, path, outbox: Outbox::default(), growing: None }
    }

    /// A packet as the engine gives it back. `payload` is what lay behind its head as that came, `head` how long that
    /// was.
    pub(super) fn carry(&mut self, packet: &'a Packet, payload: &[Span<'a>], head: u32) {
        match packet.outcome {
            Outcome::Port(port) => {
                let rest = rest_of(packet, payload, head);
                match packet.origin {
                    Origin::Underlay { .. } => self.arrive(port, packet, rest),
                    Origin::Port(_) => {
                        self.growing_send();
                        self.deliver(port, packet.head.bytes(), &packet.offload, &rest);
                    }
                }
            }
            Outcome::Host { underlay, source_port } => {
                let rest = rest_of(packet, payload, head);
                let from = if let Origin::Port(port) = packet.origin { Some(port) } else { None };
                // Of 49152 to 65535 the lower bits tell flows apart; the uplink chooses by the upper ones.
                let flow = u32::from(source_port & 0x3fff) << 18;
                self.depart(packet, &rest, underlay, flow, from);
            }
            // Counted by the engine, replaced by others, or the network's own.
            Outcome::Drop(_) | Outcome::Replaced | Outcome::Local(_) => {}
        }
    }

    /// All of the batch has been carried: what was put together goes now.
    pub(super) fn finish(mut self) {
        self.growing_send();
        self.depart_all();
    }

    /// A frame that the switch has made, for a port.
    pub(super) fn reply(&mut self, port: PortIndex, frame: &'a [u8]) {
        let (head, rest) = frame.split_at(frame.len().min(crate::packet::head::HEAD_MAX));
        self.deliver(port, head, &Offload::NONE, &[rest.into()]);
    }

    /// A packet from the underlay: perhaps the next of a large one.
    fn arrive(&mut self, port: PortIndex, packet: &'a Packet, rest: Vec<Span<'a>>) {
        let length = packet.head.len() as u32 + span::length(&rest) as u32;
        let head = packet.head.bytes();
        let takes = self.ports.get_mut(&port).is_some_and(|port| port.offloads().tso4);
        let parsed = takes.then(|| parse(head, length).ok()).flatten();
        let Some(behind) = parsed.and_then(|headers| head.get(usize::from(headers.payload)..)) else {
            self.growing_send();
            return self.deliver(port, head, &packet.offload, &rest);
        };
        let mut payload: Vec<Span<'a>> = vec![behind.into()];
        payload.extend(rest);
        let sum = sum_of(&payload);
        if let Some(growing) = &mut self.growing
            && growing.port == port
            && growing.merge.add(head, length, sum)
        {
            growing.payload.extend(payload);
            return;
        }
        self.growing_send();
        match Merge::begin(head, length, sum) {
            Some(merge) => self.growing = Some(Growing { port, merge, payload }),
            None => self.deliver(port, head, &packet.offload, payload.get(1..).unwrap_or(&[])),
        }
    }

    fn growing_send(&mut self) {
        if let Some(Growing { port, merge, payload }) = self.growing.take() {
            let (head, offload) = merge.finish();
            self.deliver(port, head.bytes(), &offload, &payload);
        }
    }

    /// Puts a packet into a guest's buffers, as far as that takes what is left to do; the rest is done here.
    fn deliver(&mut self, index: PortIndex, head: &[u8], offload: &Offload, rest: &[Span<'_>]) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let takes = port.offloads();
        let sent = if fits(&takes, offload) {
            port.send(offload, head, rest)
        } else {
            deliver_done(port, head, offload, rest)
        };
        if let Err(reason) = sent {
            self.engine.lost(Some(index), reason);
        }
    }

    /// A packet for another host: into the outbox.
    fn depart(
        &mut self,
        packet: &Packet,
        rest: &[Span<'a>],
        to: SocketAddr,
        flow: u32,
        from: Option<PortIndex>,
    ) {
        let head = packet.head.bytes();
        let length = head.len() + span::length(rest);
        let outbox = &mut self.outbox;
        if packet.offload.gso != Gso::None {
            match Cut::new(head, packet.inner.into(), &packet.offload, length as u32) {
                Ok(cut) => outbox.pieces(&cut, head, rest, to, flow, from),
                Err(reason) => self.engine.lost(from, reason),
            }
            return;
        }
        let begin = outbox.arena.len();
        outbox.arena.extend_from_slice(head);
        let payload = outbox.spans.len()..outbox.spans.len() + rest.len();
        if packet.offload.needs_csum {
            let behind = outbox.arena.len();
            outbox.arena.resize(behind + span::length(rest), 0);
            span::copy_at(rest, 0, outbox.arena.get_mut(behind..).unwrap_or(&mut []));
            let sum = Sum::of(outbox.arena.get(behind..).unwrap_or_default());
            let mut offload = packet.offload;
            complete(outbox.arena.get_mut(begin..behind).unwrap_or(&mut []), &mut offload, sum);
            let bytes = begin..outbox.arena.len();
            outbox.items.push(Item { to, flow, bytes, payload: 0..0, length, from });
        } else {
            outbox.spans.extend_from_slice(rest);
            let bytes = begin..outbox.arena.len();
            outbox.items.push(Item { to, flow, bytes, payload, length, from });
        }
    }

    /// Everything in the outbox goes: neighbours of one flow and one length in one datagram.
    fn depart_all(&mut self) {
        let Outbox { arena, spans, items } = std::mem::take(&mut self.outbox);
        if items.is_empty() {
            return;
        }
        let mut parts: Vec<Span<'_>> = Vec::with_capacity(items.len() * 3);
        let mut groups: Vec<(&Item, std::ops::Range<usize>, Option<u16>, usize)> = Vec::new();
        let mut at = 0;
        while let Some(first) = items.get(at) {
            let begin = parts.len();
            let (mut count, mut total, mut open) = (0, 0, true);
            while let Some(item) = items.get(at + count).filter(|item| {
                let fits = total + item.length <= DATAGRAM_MAX && count < SEGMENTS_MAX;
                let like = item.to == first.to && item.flow == first.flow && item.length <= first.length;
                count == 0 || (open && fits && like)
            }) {
                parts.push(arena.get(item.bytes.clone()).unwrap_or_default().into());
                parts.extend_from_slice(spans.get(item.payload.clone()).unwrap_or_default());
                open = item.length == first.length;
                total += item.length;
                count += 1;
            }
            let segment = (count > 1).then(|| u16::try_from(first.length).ok()).flatten();
            groups.push((first, begin..parts.len(), segment, count));
            at += count;
        }
        let datagrams: Vec<Outgoing<'_>> = groups
            .iter()
            .map(|(first, range, segment, _)| Outgoing {
                to: first.to,
                flow: first.flow,
                segment: *segment,
                spans: parts.get(range.clone()).unwrap_or_default(),
            })
            .collect();
        let mut failed = Vec::new();
        self.path.uplink.send(&datagrams, &mut failed);
        for (index, error) in failed {
            let Some((first, _, _, count)) = groups.get(index) else { continue };
            tracing::debug!(to = %first.to, %error, "a datagram was not sent");
            let reason = if error == SendError::TooBig { DropReason::TooBig } else { DropReason::Uplink };
            (0..*count).for_each(|_| self.engine.lost(first.from, reason));
        }
    }
}

impl<'a> Outbox<'a> {
    /// The pieces of a large packet, each whole in the arena.
    fn pieces(
        &mut self,
        cut: &Cut,
        head: &[u8],
        rest: &[Span<'a>],
        to: SocketAddr,
        flow: u32,
        from: Option<PortIndex>,
    ) {
        let behind = Span::from(head.get(cut.header()..).unwrap_or_default());
        let payload: Vec<Span<'_>> = std::iter::once(behind).chain(rest.iter().copied()).collect();
        for piece in 0..cut.count() {
            let range = cut.range(piece);
            let begin = self.arena.len();
            let body = begin + cut.header();
            self.arena.resize(body + (range.end - range.start) as usize, 0);
            span::copy_at(&payload, range.start as usize, self.arena.get_mut(body..).unwrap_or(&mut []));
            let sum = Sum::of(self.arena.get(body..).unwrap_or_default());
            let header = cut.piece(piece, sum);
            if let Some(place) = self.arena.get_mut(begin..body)
                && place.len() == header.len()
            {
                place.copy_from_slice(header.bytes());
            }
            let bytes = begin..self.arena.len();
            let length = bytes.len();
            self.items.push(Item { to, flow, bytes, payload: 0..0, length, from });
        }
    }
}

/// What follows a packet's new head: bytes of the packet as it came, of which `head` lay in its head then.
fn rest_of<'a>(packet: &'a Packet, payload: &[Span<'a>], head: u32) -> Vec<Span<'a>> {
    let mut rest = Vec::with_capacity(payload.len());
    let (from, to) = (packet.rest.start.saturating_sub(head), packet.rest.end.saturating_sub(head));
    span::slice(payload, from as usize..to as usize, &mut rest);
    rest
}

fn sum_of(spans: &[Span<'_>]) -> Sum {
    let mut bytes = vec![0; span::length(spans)];
    span::copy_at(spans, 0, &mut bytes);
    Sum::of(&bytes)
}

/// Whether a guest takes a packet with this left to do.
fn fits(takes: &Offloads, offload: &Offload) -> bool {
    let large = match offload.gso {
        Gso::None => true,
        Gso::Tcp4 => takes.tso4,
        Gso::Tcp6 => takes.tso6,
        Gso::Udp => takes.uso4 && takes.uso6,
    };
    large && (takes.checksum || !offload.needs_csum)
}

/// For a guest whose driver takes less: what is left to do is done.
fn deliver_done(
    port: &mut Port,
    head: &[u8],
    offload: &Offload,
    rest: &[Span<'_>],
) -> Result<(), DropReason> {
    if offload.gso == Gso::None {
        let (mut head, mut offload) = (Head::of(head), *offload);
        complete(head.bytes_mut(), &mut offload, sum_of(rest));
        return port.send(&offload, head.bytes(), rest);
    }
    let length = head.len() + span::length(rest);
    let cut = Cut::new(head, 0, offload, length as u32)?;
    let behind = Span::from(head.get(cut.header()..).unwrap_or_default());
    let payload: Vec<Span<'_>> = std::iter::once(behind).chain(rest.iter().copied()).collect();
    for piece in 0..cut.count() {
        let range = cut.range(piece);
        let mut body = Vec::new();
        span::slice(&payload, range.start as usize..range.end as usize, &mut body);
        let header = cut.piece(piece, sum_of(&body));
        port.send(&Offload::NONE, header.bytes(), &body)?;
    }
    Ok(())
}
