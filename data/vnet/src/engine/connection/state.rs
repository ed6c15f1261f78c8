//! What becomes of a connection when a packet passes, and how long it lasts without one. Pure.
//!
//! ```text
//!                     SYN+ACK of the other           ACK
//!   SYN ─► SynSent ─────────────────► SynReceived ─────────► Established ◄─ any ACK: picked up in the middle
//!             │                            │                    │    ▲
//!             │ RST                        │ RST         FIN, RST    │ data of him who had sent FIN;
//!             └────────────► Closed ◄──────┴───── Closing ◄─────┘    │ both have spoken since a RST
//!                              └────────────────────┴────────────────┘
//!                        SYN: a new connection in its place
//! ```
//! Sequence numbers are not followed. A reset or FIN that somebody else has made up therefore shortens the time that
//! a silent connection lasts, and no more: it goes on as soon as its ends do.

use crate::engine::verdict::Initiator;
use crate::packet::parse::tcp;
use crate::packet::protocol;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// TCP: asked for.
    SynSent = 1,
    /// TCP: answered.
    SynReceived = 2,
    /// TCP: open.
    Established = 3,
    /// TCP: one end, or both, have nothing more to say.
    Closing = 4,
    /// TCP: reset.
    Closed = 5,
    /// UDP.
    Udp = 6,
    /// ICMP echo.
    Icmp = 7,
    /// Another protocol.
    Other = 8,
}

impl State {
    /// From its number.
    pub fn of(number: u8) -> Option<State> {
        Some(match number {
            1 => State::SynSent,
            2 => State::SynReceived,
            3 => State::Established,
            4 => State::Closing,
            5 => State::Closed,
            6 => State::Udp,
            7 => State::Icmp,
            8 => State::Other,
            _ => return None,
        })
    }
}

/// Marks beside the state: for TCP, who has sent FIN (or, after a reset, has spoken); else, who has sent at all.
pub type Marks = u8;

fn mark(from: Initiator) -> Marks {
    match from {
        Initiator::Port => 1,
        Initiator::Peer => 2,
    }
}

const BOTH: Marks = 3;

/// What a connection's state rests on, of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it, seen from the port.
    pub from: Initiator,
    /// TCP's flags.
    pub flags: u8,
    /// TCP: it carries data.
    pub data: bool,
}

/// How a connection begins with this packet. `None`: not with this one.
///
/// A TCP connection may be picked up in the middle, by any packet that acknowledges something (as Linux'
/// `nf_conntrack_tcp_loose`): after the table was lost, what was open goes on, as far as policy lets him begin it who
/// speaks first.
pub fn opening(number: u8, icmp: (u8, u8), segment: Segment) -> Option<(State, Marks)> {
    match number {
        protocol::TCP => match segment.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) {
            tcp::SYN => Some((State::SynSent, 0)),
            tcp::ACK => Some((State::Established, 0)),
            flags if flags == tcp::ACK | tcp::FIN => Some((State::Closing, mark(segment.from))),
            _ => None,
        },
        protocol::UDP => Some((State::Udp, mark(segment.from))),
        protocol::ICMP if icmp.0 == 0 => None,
        protocol::ICMPV6 if icmp.0 == 129 => None,
        protocol::ICMP | protocol::ICMPV6 => Some((State::Icmp, mark(segment.from))),
        _ => Some((State::Other, mark(segment.from))),
    }
}

impl Segment {
    /// It neither begins nor ends anything.
    #[inline]
    pub fn is_ordinary(&self) -> bool {
        self.flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0
    }
}

impl State {
    /// Ordinary packets that follow another of the same sender leave it as it is.
    #[inline]
    pub fn is_settled(self) -> bool {
        matches!(self, State::Established | State::Udp | State::Icmp | State::Other)
    }
}

/// What becomes of a connection. `None`: the packet begins a new one in its place.
#[inline]
pub fn advance(state: State, marks: Marks, initiator: Initiator, segment: Segment) -> Option<(State, Marks)> {
    let own = mark(segment.from);
    match state {
        State::Udp | State::Icmp | State::Other => return Some((state, marks | own)),
        State::Established if segment.is_ordinary() => {
            return Some((state, 0));
        }
        _ => {}
    }
    if segment.flags & tcp::RST != 0 {
        return Some((State::Closed, 0));
    }
    if segment.flags & tcp::SYN != 0 {
        let over = state == State::Closed || (state == State::Closing && marks == BOTH);
        return match segment.flags & tcp::ACK {
            0 if over => None,
            0 => Some((state, marks)),
            _ if state == State::SynSent && segment.from != initiator => Some((State::SynReceived, 0)),
            _ => Some((state, marks)),
        };
    }
    Some(match (state, segment.flags & tcp::FIN != 0) {
        (State::Closed, _) if marks | own == BOTH => (State::Established, 0),
        (State::Closed, _) => (State::Closed, marks | own),
        (State::Closing, true) => (State::Closing, marks | own),
        (_, true) => (State::Closing, own),
        (State::Closing, false) if segment.data && marks & own != 0 => match marks & !own {
            0 => (State::Established, 0),
            other => (State::Closing, other),
        },
        (State::SynReceived, false) if segment.from == initiator => (State::Established, 0),
        _ => (state, marks),
    })
}

/// How many seconds a connection lasts without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, while it opens.
    pub opening_s: u32,
    /// TCP, open.
    pub established_s: u32,
    /// TCP, after a FIN.
    pub closing_s: u32,
    /// TCP, after a reset.
    pub closed_s: u32,
    /// UDP, one way.
    pub udp_s: u32,
    /// UDP, both ways.
    pub udp_stream_s: u32,
    /// ICMP.
    pub icmp_s: u32,
    /// Any other protocol.
    pub other_s: u32,
}

impl Default for Timeouts {
    /// AWS's, where it names them (EC2 User Guide, "Security group connection tracking": TCP established 432,000 s,
    /// UDP 30 s, UDP stream 180 s); else Linux' (`nf_conntrack-sysctl`).
    fn default() -> Self {
        Timeouts {
            opening_s: 120,
            established_s: 432_000,
            closing_s: 120,
            closed_s: 10,
            udp_s: 30,
            udp_stream_s: 180,
            icmp_s: 30,
            other_s: 600,
        }
    }
}

impl Timeouts {
    /// For where a connection stands.
    #[inline]
    pub fn of(&self, state: State, marks: Marks) -> u32 {
        match state {
            State::SynSent | State::SynReceived => self.opening_s,
            State::Established => self.established_s,
            State::Closing => self.closing_s,
            State::Closed => self.closed_s,
            State::Udp if marks == BOTH => self.udp_stream_s,
            State::Udp => self.udp_s,
            State::Icmp => self.icmp_s,
            State::Other => self.other_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Initiator::{Peer, Port};

    const S: u8 = tcp::SYN;
    const A: u8 = tcp::ACK;
    const F: u8 = tcp::FIN;
    const R: u8 = tcp::RST;

    /// Where packets lead: (sender, flags, data).
    fn led(packets: &[(Initiator, u8, bool)]) -> Option<State> {
        let mut packets =
            packets.iter().map(|(from, flags, data)| Segment { from: *from, flags: *flags, data: *data });
        let first = packets.next()?;
        let (mut state, mut marks) = opening(protocol::TCP, (0, 0), first)?;
        for segment in packets {
            (state, marks) = advance(state, marks, first.from, segment)?;
        }
        Some(state)
    }

    const OPEN: [(Initiator, u8, bool); 3] = [(Port, S, false), (Peer, S | A, false), (Port, A, false)];

    fn then(more: &[(Initiator, u8, bool)]) -> Option<State> {
        led(&[&OPEN, more].concat())
    }

    #[test]
    fn a_life() {
        assert_eq!(led(&OPEN[..1]), Some(State::SynSent));
        assert_eq!(led(&OPEN[..2]), Some(State::SynReceived));
        assert_eq!(led(&OPEN), Some(State::Established));
        assert_eq!(then(&[(Peer, A, true), (Port, A | F, false)]), Some(State::Closing));
        assert_eq!(
            then(&[(Port, A | F, false), (Peer, A, true), (Peer, A | F, false)]),
            Some(State::Closing)
        );
        assert_eq!(then(&[(Port, A | F, false), (Peer, A | F, false), (Peer, S, false)]), None, "a new one");
        assert_eq!(then(&[(Peer, R, false)]), Some(State::Closed));
        assert_eq!(then(&[(Peer, R, false), (Port, S, false)]), None, "a new one");
    }

    #[test]
    fn what_begins_nothing() {
        for flags in [0, S | A, R, R | A, S | F, S | R, F] {
            assert_eq!(led(&[(Port, flags, false)]), None, "{flags:#x}");
        }
        assert_eq!(led(&[(Peer, A, true)]), Some(State::Established), "picked up");
        let reply = Segment { from: Peer, flags: 0, data: false };
        assert_eq!(opening(protocol::ICMP, (0, 0), reply), None);
        assert_eq!(opening(protocol::ICMPV6, (129, 0), reply), None);
    }

    #[test]
    fn what_somebody_made_up_does_not_last() {
        assert_eq!(then(&[(Peer, R, false), (Port, A, true)]), Some(State::Closed), "one end alone");
        assert_eq!(then(&[(Peer, R, false), (Port, A, true), (Peer, A, false)]), Some(State::Established));
        assert_eq!(then(&[(Peer, A | F, false), (Peer, A, true)]), Some(State::Established));
        // The other's data, under way when it was reset, is answered by another reset.
        assert_eq!(then(&[(Peer, R, false), (Port, A, true), (Peer, R, false)]), Some(State::Closed));
        assert_eq!(then(&[(Peer, S, false)]), Some(State::Established), "a SYN into an open connection");
    }

    #[test]
    fn udp_both_ways_lasts_longer() {
        let times = Timeouts::default();
        let segment = |from| Segment { from, flags: 0, data: false };
        let (state, marks) = opening(protocol::UDP, (0, 0), segment(Port)).unwrap();
        assert_eq!(times.of(state, marks), 30);
        let (state, marks) = advance(state, marks, Port, segment(Port)).unwrap();
        assert_eq!(times.of(state, marks), 30);
        let (state, marks) = advance(state, marks, Port, segment(Peer)).unwrap();
        assert_eq!(times.of(state, marks), 180);
    }
}
