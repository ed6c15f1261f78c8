//! A connection as it lies in the table: one cache line.
//!
//! ```text
//!    0            8         16        24            40             56
//!    serial|crc   hot       port      local         remote         tail
//!   hot:  last seen, s (32) | state (8) | marks (8) | check (16)
//!   tail: local port (16) | remote port (16) | protocol (8) | asks (8) | initiator (8) | 0 (8)
//! ```
//! What says which connection it is, is written once, and `crc` is over it. What changes is one word, stored at once,
//! with a check of its own. A process that is killed at any point leaves each record whole, free, or seen to be torn.

use super::state::{Marks, State};
use crate::engine::verdict::Initiator;
use crate::packet::parse::words;
use crate::packet::{Flow, protocol};

/// One.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    serial: u32,
    crc: u32,
    hot: u64,
    port: u64,
    local: [u64; 2],
    remote: [u64; 2],
    tail: u64,
}

/// Which connection: a port's, by the addresses as the port sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    port: u64,
    local: [u64; 2],
    remote: [u64; 2],
    /// `tail` without the initiator.
    tail: u64,
}

const INITIATOR_AT: u32 = 8;

impl Tuple {
    /// Of a packet's flow, at the port with this identity; `from` says who sent it.
    ///
    /// Echo requests of the two ends with the same identifier are two connections: the answer to one would else let
    /// the other in.
    pub fn of(port: u64, flow: &Flow, from: Initiator) -> Tuple {
        let (local, remote) = match from {
            Initiator::Port => ((flow.source, flow.source_port), (flow.destination, flow.destination_port)),
            Initiator::Peer => ((flow.destination, flow.destination_port), (flow.source, flow.source_port)),
        };
        let request = match (flow.protocol, flow.icmp.0) {
            (protocol::ICMP, 8) | (protocol::ICMPV6, 128) => Some(from == Initiator::Port),
            (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => Some(from == Initiator::Peer),
            _ => None,
        };
        let asks = request.map_or(0, |port_asks| if port_asks { 1u64 } else { 2 });
        let family = if flow.source.is_ipv6() { 1 } else { 0 };
        Tuple {
            port,
            local: words(local.0),
            remote: words(remote.0),
            tail: u64::from(local.1) << 48
                | u64::from(remote.1) << 32
                | u64::from(flow.protocol) << 24
                | asks << 16
                | family,
        }
    }

    /// For a hash: everything but the port's identity whole, which is mixed in.
    pub fn words(&self) -> [u64; 6] {
        [self.port, self.local[0], self.local[1], self.remote[0], self.remote[1], self.tail]
    }

    /// The port's identity.
    pub fn port(&self) -> u64 {
        self.port
    }
}

/// What of a record changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// When its last packet passed.
    pub seen_s: u32,
    /// Where it stands.
    pub state: State,
    /// See [`Marks`].
    pub marks: Marks,
}

impl Record {
    /// Begins one. `serial` is another than the slot had before.
    pub fn begin(&mut self, tuple: &Tuple, initiator: Initiator, serial: u32, hot: Hot) {
        let number = match initiator {
            Initiator::Port => 1u64,
            Initiator::Peer => 2,
        };
        *self = Record {
            serial,
            crc: 0,
            hot: 0,
            port: tuple.port,
            local: tuple.local,
            remote: tuple.remote,
            tail: tuple.tail | number << INITIATOR_AT,
        };
        self.crc = self.sum();
        self.set_hot(hot);
    }

    /// Ends it. Its serial stays, so that who remembers it sees that it is another.
    pub fn end(&mut self) {
        self.hot = 0;
        self.crc = 0;
    }

    /// Which.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Who began it.
    #[inline]
    pub fn initiator(&self) -> Initiator {
        if (self.tail >> INITIATOR_AT) & 0xff == 1 { Initiator::Port } else { Initiator::Peer }
    }

    /// Which connection it is.
    pub fn tuple(&self) -> Tuple {
        let tail = self.tail & !(0xff << INITIATOR_AT);
        Tuple { port: self.port, local: self.local, remote: self.remote, tail }
    }

    /// What changes. `None`: the slot is free.
    #[inline]
    pub fn hot(&self) -> Option<Hot> {
        let state = State::of((self.hot >> 24) as u8)?;
        Some(Hot { seen_s: (self.hot >> 32) as u32, state, marks: (self.hot >> 16) as u8 })
    }

    /// Changes it, by one store.
    #[inline]
    pub fn set_hot(&mut self, hot: Hot) {
        let word =
            u64::from(hot.seen_s) << 32 | u64::from(hot.state as u8) << 24 | u64::from(hot.marks) << 16;
        self.hot = word | u64::from(self.check(word));
    }

    /// Whether all of it was written, and nothing else since.
    pub fn is_whole(&self) -> bool {
        let named = matches!((self.tail >> INITIATOR_AT) & 0xff, 1 | 2);
        named && self.hot().is_some() && self.hot as u16 == self.check(self.hot) && self.crc == self.sum()
    }

    /// Whether it is as [`Record::end`] leaves it, or never was.
    pub fn is_free(&self) -> bool {
        self.hot == 0 && self.crc == 0
    }

    fn check(&self, hot: u64) -> u16 {
        // Odd, else arbitrary: each bit of the word reaches the upper 16 of the product.
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let word = (hot >> 16) ^ (u64::from(self.serial) << 16);
        ((word ^ (word >> 29)).wrapping_mul(MIX) >> 48) as u16
    }

    fn sum(&self) -> u32 {
        let words = [u64::from(self.serial), self.port]
            .into_iter()
            .chain(self.local)
            .chain(self.remote)
            .chain([self.tail])
            .map(u64::to_le_bytes);
        let mut bytes = [0; 56];
        for (to, from) in bytes.iter_mut().zip(words.flatten()) {
            *to = from;
        }
        crc_fast::crc32_iscsi(&bytes)
    }
}
