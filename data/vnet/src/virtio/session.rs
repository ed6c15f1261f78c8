//! The conversation with one front end: what each request means in the state that the requests before it made.
//!
//! Called by the server for each message that it has read; what the answer names is done by
//! [`super::device::Device`]. QEMU 7.2 enables rings before it has set features, and sets features again to turn the
//! dirty log on: neither order nor repetition is an error here.
//!
//! Invariant: no I/O and no descriptor is looked at: `F` may be anything.
//! Invariant: a ring is started only with a size, addresses and a kick, each of them checked.

use super::message::{Header, Inflight, Region, Request, RingAddresses};
use super::{RING_SIZE_MAX, feature, protocol_feature};
use crate::packet::Mac;
use thiserror::Error;

/// The most pieces that a guest's memory may have.
pub const REGIONS_MAX: usize = 32;

/// A conversation.
#[derive(Clone, Debug)]
pub struct Session {
    pairs: u16,
    features: u64,
    protocol_features: u64,
    rings: Vec<RingState>,
}

/// What has been said of a ring.
#[derive(Clone, Copy, Debug, Default)]
struct RingState {
    size: Option<u16>,
    addresses: Option<RingAddresses>,
    position: u16,
    enabled: bool,
    running: bool,
}

/// A ring to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSetup {
    /// Which; even: what the device writes (the guest receives), odd: what the guest sends.
    pub index: usize,
    /// Entries: a power of two, at most [`RING_SIZE_MAX`].
    pub size: u16,
    /// Where it lies.
    pub addresses: RingAddresses,
    /// Where the front end thinks that it stands. A back end that completes in order knows better: see
    /// [`super::queue`].
    pub position: u16,
}

/// What is to be done, in order. `F` is a file descriptor.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<F> {
    /// These features hold from now on. May come while rings run: the log is switched this way.
    Features(u64),
    /// The guest's memory is this, instead of what it was.
    Memory(Vec<(Region, F)>),
    /// It has one piece more.
    MemoryAdd(Region, F),
    /// It has one piece less: the one with these addresses and this size.
    MemoryRemove(Region),
    /// Pages that are written are marked here.
    Log {
        /// Bytes.
        size: u64,
        /// Where it begins in the file.
        offset: u64,
        /// Shared memory.
        log: F,
    },
    /// The ring begins to work, or begins again with other addresses.
    RingStart(RingSetup),
    /// The ring stops; what has been taken from it and not given back is as if it had not been taken.
    RingStop(usize),
    /// Whether a ring's packets have an effect: of a ring that works and is disabled, they are taken and discarded.
    RingEnable(usize, bool),
    /// By this the guest says that it has put something into the ring. None: it does not say.
    Kick(usize, Option<F>),
    /// By this the guest is told that something has been taken from the ring. None: it is not.
    Call(usize, Option<F>),
    /// By this QEMU is told that the ring is broken.
    Error(usize, Option<F>),
    /// The guest is at this port now: say so to the network in its place.
    Announce(Mac),
    /// What QEMU told the guest of the link.
    Mtu(u16),
    /// Everything but the connection begins anew.
    Reset,
    /// What another back end has left in flight is handed over.
    Inflight(Inflight, F),
}

/// What is answered, when the effects have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    None,
    /// Whether they could be: 0, or 1.
    Acknowledge,
    /// This number.
    Value(u64),
    /// Where the ring stands.
    Position {
        /// Which.
        index: u32,
        /// If it has never worked: where the front end said that it would begin.
        otherwise: u16,
    },
    /// Shared memory for this, made now.
    Inflight(Inflight),
}

/// What follows from a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome<F> {
    /// To be done.
    pub effects: Vec<Effect<F>>,
    /// To be said.
    pub answer: Answer,
}

/// What a front end may not ask. The request is refused; without a way to say so the connection ends.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SessionError {
    #[error("features {0:#x} were not offered")]
    Features(u64),
    #[error("protocol features {0:#x} were not offered")]
    ProtocolFeatures(u64),
    #[error("there is no ring {0}")]
    NoRing(u32),
    #[error("ring {index} cannot have {size} entries")]
    RingSize { index: u32, size: u32 },
    #[error("ring {0} was started without its size or addresses")]
    RingIncomplete(u32),
    #[error("ring {index} has no position {position}")]
    Position { index: u32, position: u32 },
    #[error("{0} is no MTU")]
    Mtu(u64),
    #[error("the log is not shared memory")]
    LogNotShared,
    #[error("a record of {queues} rings of {queue_size}")]
    Inflight { queues: u16, queue_size: u16 },
    #[error("request {0} is unknown")]
    Unknown(u32),
}

impl Session {
    /// A fresh connection to a port with so many pairs of queues.
    pub fn new(pairs: u16) -> Session {
        let rings = vec![RingState::default(); usize::from(pairs) * 2];
        Session { pairs, features: 0, protocol_features: 0, rings }
    }

    /// Whether a failure can be told to the front end, instead of by the connection's end.
    pub fn acknowledges(&self, header: &Header) -> bool {
        header.need_reply && self.protocol_features & protocol_feature::REPLY_ACK != 0
    }

    /// Takes one request.
    pub fn receive<F>(&mut self, header: &Header, request: Request<F>) -> Result<Outcome<F>, SessionError> {
        let mut outcome = self.decide(request)?;
        if outcome.answer == Answer::None && self.acknowledges(header) {
            outcome.answer = Answer::Acknowledge;
        }
        Ok(outcome)
    }

    fn decide<F>(&mut self, request: Request<F>) -> Result<Outcome<F>, SessionError> {
        use Request as R;
        match request {
            R::GetFeatures => answer(Answer::Value(feature::OFFERED)),
            R::GetProtocolFeatures => answer(Answer::Value(protocol_feature::OFFERED)),
            R::GetQueueNum => answer(Answer::Value(u64::from(self.pairs))),
            R::GetMaxMemSlots => answer(Answer::Value(REGIONS_MAX as u64)),
            R::SetFeatures(bits) => {
                if bits & !feature::OFFERED != 0 {
                    return Err(SessionError::Features(bits & !feature::OFFERED));
                }
                self.features = bits;
                effect(Effect::Features(bits))
            }
            R::SetProtocolFeatures(bits) => {
                if bits & !protocol_feature::OFFERED != 0 {
                    return Err(SessionError::ProtocolFeatures(bits & !protocol_feature::OFFERED));
                }
                self.protocol_features = bits;
                answer(Answer::None)
            }
            R::SetOwner => answer(Answer::None),
            R::ResetOwner => effects((0..self.rings.len()).map(|ring| self.enable(ring, false)).collect()),
            R::ResetDevice => {
                self.rings.fill(RingState::default());
                self.features = 0;
                effect(Effect::Reset)
            }
            R::SetMemTable(regions) => effect(Effect::Memory(regions)),
            R::AddMemRegion(region, file) => effect(Effect::MemoryAdd(region, file)),
            R::RemoveMemRegion(region) => effect(Effect::MemoryRemove(region)),
            R::SetLogBase { size, offset, log: Some(log) } => {
                // Answered always, whether asked for or not: QEMU waits.
                Ok(Outcome { effects: vec![Effect::Log { size, offset, log }], answer: Answer::Value(0) })
            }
            R::SetLogBase { log: None, .. } => Err(SessionError::LogNotShared),
            // To be told of each write to the log, which nobody asks for any more.
            R::SetLogFd(_) => answer(Answer::None),
            R::SendRarp(mac) => effect(Effect::Announce(mac)),
            R::SetMtu(mtu) => {
                let mtu = u16::try_from(mtu).ok().filter(|mtu| *mtu >= 68).ok_or(SessionError::Mtu(mtu))?;
                effect(Effect::Mtu(mtu))
            }
            R::GetInflight(inflight) => {
                self.inflight_check(&inflight)?;
                answer(Answer::Inflight(inflight))
            }
            R::SetInflight(inflight, file) => {
                self.inflight_check(&inflight)?;
                effect(Effect::Inflight(inflight, file))
            }
            R::Unknown(request) => Err(SessionError::Unknown(request)),
            ring => self.decide_ring(ring),
        }
    }

    fn decide_ring<F>(&mut self, request: Request<F>) -> Result<Outcome<F>, SessionError> {
        use Request as R;
        match request {
            R::SetVringNum { index, size } => {
                let ring = self.ring(index)?;
                let entries = u16::try_from(size).ok().filter(|n| n.is_power_of_two() && *n <= RING_SIZE_MAX);
                ring.size = Some(entries.ok_or(SessionError::RingSize { index, size })?);
                answer(Answer::None)
            }
            R::SetVringAddresses(addresses) => {
                let ring = self.ring(addresses.index)?;
                ring.addresses = Some(addresses);
                if ring.running {
                    effect(Effect::RingStart(self.setup(addresses.index)?))
                } else {
                    answer(Answer::None)
                }
            }
            R::SetVringBase { index, position } => {
                let ring = self.ring(index)?;
                ring.position =
                    u16::try_from(position).map_err(|_| SessionError::Position { index, position })?;
                answer(Answer::None)
            }
            R::GetVringBase { index } => {
                let ring = self.ring(index)?;
                ring.running = false;
                let answer = Answer::Position { index, otherwise: ring.position };
                let effects = vec![Effect::RingStop(index as usize), Effect::Kick(index as usize, None)];
                Ok(Outcome { effects, answer })
            }
            R::SetVringKick { index, kick } => {
                let setup = self.setup(index)?;
                let implied = self.features & feature::PROTOCOL_FEATURES == 0;
                let ring = self.ring(index)?;
                ring.enabled |= implied;
                let enabled = ring.enabled;
                let was_running = std::mem::replace(&mut ring.running, true);
                let mut list = vec![Effect::Kick(setup.index, kick)];
                if !was_running {
                    list.push(Effect::RingStart(setup));
                }
                list.push(Effect::RingEnable(setup.index, enabled));
                effects(list)
            }
            R::SetVringCall { index, call } => {
                self.ring(index)?;
                effect(Effect::Call(index as usize, call))
            }
            R::SetVringError { index, error } => {
                self.ring(index)?;
                effect(Effect::Error(index as usize, error))
            }
            R::SetVringEnable { index, enabled } => {
                self.ring(index)?;
                effects(vec![self.enable(index as usize, enabled)])
            }
            // The others have been decided on.
            _ => answer(Answer::None),
        }
    }

    fn enable<F>(&mut self, index: usize, enabled: bool) -> Effect<F> {
        if let Some(ring) = self.rings.get_mut(index) {
            ring.enabled = enabled;
        }
        Effect::RingEnable(index, enabled)
    }

    fn ring(&mut self, index: u32) -> Result<&mut RingState, SessionError> {
        self.rings.get_mut(index as usize).ok_or(SessionError::NoRing(index))
    }

    fn setup(&mut self, index: u32) -> Result<RingSetup, SessionError> {
        let ring = self.ring(index)?;
        match (ring.size, ring.addresses) {
            (Some(size), Some(addresses)) => {
                Ok(RingSetup { index: index as usize, size, addresses, position: ring.position })
            }
            _ => Err(SessionError::RingIncomplete(index)),
        }
    }

    fn inflight_check(&self, inflight: &Inflight) -> Result<(), SessionError> {
        let Inflight { queues, queue_size, .. } = *inflight;
        let known = usize::from(queues) <= self.rings.len() && queues > 0;
        if known && (1..=RING_SIZE_MAX).contains(&queue_size) {
            Ok(())
        } else {
            Err(SessionError::Inflight { queues, queue_size })
        }
    }
}

fn answer<F>(answer: Answer) -> Result<Outcome<F>, SessionError> {
    Ok(Outcome { effects: Vec::new(), answer })
}

fn effect<F>(effect: Effect<F>) -> Result<Outcome<F>, SessionError> {
    effects(vec![effect])
}

fn effects<F>(effects: Vec<Effect<F>>) -> Result<Outcome<F>, SessionError> {
    Ok(Outcome { effects, answer: Answer::None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { request: 0, reply: false, need_reply: false, size: 0 };

    fn say(session: &mut Session, request: Request<u8>) -> Outcome<u8> {
        session.receive(&HEADER, request).expect("allowed")
    }

    fn addresses(index: u32) -> RingAddresses {
        RingAddresses { index, flags: 0, descriptors: 0x1000, used: 0x3000, available: 0x2000, log: 0 }
    }

    /// QEMU 7.2: `SET_VRING_ENABLE` comes before `SET_FEATURES` and before anything is known of the ring.
    #[test]
    fn a_ring_enabled_before_features_are_set_is_enabled_when_it_starts() {
        let mut session = Session::new(1);
        let enabled = say(&mut session, Request::SetVringEnable { index: 1, enabled: true });
        assert_eq!(enabled.effects, vec![Effect::RingEnable(1, true)]);
        say(&mut session, Request::SetFeatures(feature::VERSION_1 | feature::PROTOCOL_FEATURES));
        say(&mut session, Request::SetVringNum { index: 1, size: 256 });
        say(&mut session, Request::SetVringBase { index: 1, position: 7 });
        say(&mut session, Request::SetVringAddresses(addresses(1)));
        let started = say(&mut session, Request::SetVringKick { index: 1, kick: Some(9) });
        let setup = RingSetup { index: 1, size: 256, addresses: addresses(1), position: 7 };
        let expected = vec![Effect::Kick(1, Some(9)), Effect::RingStart(setup), Effect::RingEnable(1, true)];
        assert_eq!(started.effects, expected);
    }

    #[test]
    fn without_protocol_features_a_ring_is_enabled_by_its_start() {
        let mut session = Session::new(1);
        say(&mut session, Request::SetFeatures(feature::VERSION_1));
        say(&mut session, Request::SetVringNum { index: 0, size: 4 });
        say(&mut session, Request::SetVringAddresses(addresses(0)));
        let started = say(&mut session, Request::SetVringKick { index: 0, kick: None });
        assert_eq!(started.effects.last(), Some(&Effect::RingEnable(0, true)));
    }

    #[test]
    fn a_ring_stops_with_its_position_and_can_start_again() {
        let mut session = Session::new(1);
        say(&mut session, Request::SetVringNum { index: 0, size: 4 });
        say(&mut session, Request::SetVringAddresses(addresses(0)));
        say(&mut session, Request::SetVringKick { index: 0, kick: None });
        let stopped = say(&mut session, Request::GetVringBase { index: 0 });
        assert_eq!(stopped.answer, Answer::Position { index: 0, otherwise: 0 });
        assert_eq!(stopped.effects.first(), Some(&Effect::RingStop(0)));
        let again = say(&mut session, Request::SetVringKick { index: 0, kick: None });
        assert!(again.effects.iter().any(|effect| matches!(effect, Effect::RingStart(_))));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let mut session = Session::new(2);
        let mut refused = |request: Request<u8>| session.receive(&HEADER, request).expect_err("refused");
        assert_eq!(refused(Request::SetVringEnable { index: 4, enabled: true }), SessionError::NoRing(4));
        assert_eq!(
            refused(Request::SetVringNum { index: 0, size: 3 }),
            SessionError::RingSize { index: 0, size: 3 }
        );
        assert_eq!(
            refused(Request::SetVringNum { index: 0, size: 2048 }),
            SessionError::RingSize { index: 0, size: 2048 }
        );
        assert_eq!(refused(Request::SetVringKick { index: 0, kick: None }), SessionError::RingIncomplete(0));
        assert_eq!(refused(Request::SetFeatures(1 << 63)), SessionError::Features(1 << 63));
        assert_eq!(refused(Request::SetMtu(67)), SessionError::Mtu(67));
        assert_eq!(
            refused(Request::SetLogBase { size: 1, offset: 0, log: None }),
            SessionError::LogNotShared
        );
        assert_eq!(refused(Request::Unknown(99)), SessionError::Unknown(99));
    }

    #[test]
    fn an_acknowledgement_comes_when_it_was_negotiated_and_asked_for() {
        let mut session = Session::new(1);
        let asking = Header { need_reply: true, ..HEADER };
        let before = session.receive(&asking, Request::<u8>::SetOwner).expect("allowed");
        assert_eq!(before.answer, Answer::None);
        say(&mut session, Request::SetProtocolFeatures(protocol_feature::REPLY_ACK));
        let after = session.receive(&asking, Request::<u8>::SetOwner).expect("allowed");
        assert_eq!(after.answer, Answer::Acknowledge);
        // What has an answer of its own is answered once.
        let value = session.receive(&asking, Request::<u8>::GetQueueNum).expect("allowed");
        assert_eq!(value.answer, Answer::Value(1));
    }
}
