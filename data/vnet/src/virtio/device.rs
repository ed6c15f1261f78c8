//! One guest's network card: its memory, its rings, and what has been negotiated.
//!
//! Called by [`super::server`], which hands it what the conversation leads to, and by the switch's loop, through
//! [`super::net`]. A device lives as long as a connection; with the next one it begins anew, from the rings.
//!
//! Invariant: one thread has it. Ports are spread over threads, queues of a port are not.

use super::feature;
use super::memory::{DirtyLog, Memory, MemoryError};
use super::message::Inflight;
use super::net::Scratch;
use super::queue::{Queue, RingError};
use super::session::{Effect, RingSetup};
use crate::packet::Mac;
use rustix::fd::OwnedFd;
use rustix::fs::{MemfdFlags, SealFlags};
use std::sync::Arc;
use thiserror::Error;

/// In the flags of a ring's addresses: writes of the used ring are logged.
const ADDRESS_LOG: u32 = 1;
/// Bytes of the record of what is in flight: before the entries of a ring, and of each entry.
const INFLIGHT_HEADER: u64 = 16;
const INFLIGHT_ENTRY: u64 = 16;
/// Records of rings begin at multiples of this.
const INFLIGHT_ALIGNMENT: u64 = 64;

/// What cannot be done for a front end.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum DeviceError {
    #[error("the guest's memory")]
    Memory(#[from] MemoryError),
    #[error("ring {index}")]
    Ring {
        index: usize,
        #[source]
        error: RingError,
    },
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        error: rustix::io::Errno,
    },
}

/// What was done with packets that never came to be ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Shorter than a header, or longer than any packet.
    pub malformed: u64,
    /// Sent through a queue that is disabled.
    pub discarded: u64,
    /// Rings that broke.
    pub broken: u64,
}

/// What a guest takes, so that it is given nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Packets whose checksum is partial.
    pub checksum: bool,
    /// Large TCP packets over IPv4.
    pub tso4: bool,
    /// Large TCP packets over IPv6.
    pub tso6: bool,
    /// Large UDP packets over IPv4.
    pub uso4: bool,
    /// Large UDP packets over IPv6.
    pub uso6: bool,
}

/// A place for a ring.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) queue: Option<Queue>,
    setup: Option<RingSetup>,
    call: Option<OwnedFd>,
    error: Option<OwnedFd>,
    pub(crate) enabled: bool,
    /// Raised when the ring is started or stopped: what was taken before cannot be given back after.
    pub(crate) epoch: u64,
    /// Where it stood when it stopped.
    position: Option<u16>,
    reported: bool,
}

/// See above.
#[derive(Debug)]
pub struct Device {
    pub(crate) features: u64,
    memory: Arc<Memory>,
    log: Option<Arc<DirtyLog>>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) scratch: Scratch,
    pub(crate) counters: Counters,
    mtu: Option<u16>,
    announce: Option<Mac>,
}

impl Device {
    /// One with so many pairs of queues, none of which works yet.
    pub fn new(pairs: u16) -> Device {
        Device {
            features: 0,
            memory: Arc::default(),
            log: None,
            slots: (0..usize::from(pairs) * 2).map(|_| Slot::default()).collect(),
            scratch: Scratch::default(),
            counters: Counters::default(),
            mtu: None,
            announce: None,
        }
    }

    /// What the guest takes.
    pub fn offloads(&self) -> Offloads {
        let has = |bit: u64| self.features & bit != 0;
        Offloads {
            checksum: has(feature::GUEST_CSUM),
            tso4: has(feature::GUEST_TSO4),
            tso6: has(feature::GUEST_TSO6),
            uso4: has(feature::GUEST_USO4),
            uso6: has(feature::GUEST_USO6),
        }
    }

    /// Pairs of queues of which both work and are enabled: none, until the guest's driver is there. A packet to the
    /// guest goes to one of the first so many.
    pub fn pairs(&self) -> usize {
        let works =
            |slot: &Slot| slot.enabled && slot.queue.as_ref().is_some_and(|queue| queue.broken().is_none());
        self.slots.chunks_exact(2).take_while(|pair| pair.iter().all(works)).count()
    }

    /// What QEMU has told the guest of its link, if it has.
    pub fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// The guest has moved here, and cannot say so itself: to be announced to the network. Answered once.
    pub fn announce_take(&mut self) -> Option<Mac> {
        self.announce.take()
    }

    /// What became of what was no packet.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Why a ring stands still, if it does.
    pub fn ring_error(&self, index: usize) -> Option<RingError> {
        self.slots.get(index)?.queue.as_ref()?.broken()
    }

    /// Does what the conversation has led to. Kicks are not its: whoever waits for them has them.
    pub fn carry_out(&mut self, effect: Effect<OwnedFd>) -> Result<(), DeviceError> {
        match effect {
            Effect::Features(features) => {
                self.features = features;
                self.logging_set();
            }
            Effect::Memory(regions) => self.memory_set(Memory::map(regions)?)?,
            Effect::MemoryAdd(region, file) => self.memory_set(self.memory.with(region, &file)?)?,
            Effect::MemoryRemove(region) => self.memory_set(self.memory.without(&region)?)?,
            Effect::Log { size, offset, log } => {
                self.log = Some(Arc::new(DirtyLog::new(&log, offset, size)?));
                self.logging_set();
            }
            Effect::RingStart(setup) => self.ring_start(setup)?,
            Effect::RingStop(index) => self.ring_stop(index),
            Effect::RingEnable(index, enabled) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.enabled = enabled;
                }
            }
            Effect::Call(index, call) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.call = call;
                    // A call to the descriptor before may have had no reader any more.
                    slot.call();
                }
            }
            Effect::Error(index, error) => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.error = error;
                }
            }
            Effect::Announce(mac) => self.announce = Some(mac),
            Effect::Mtu(mtu) => self.mtu = Some(mtu),
            Effect::Reset => {
                for slot in &mut self.slots {
                    let epoch = slot.epoch + 1;
                    *slot = Slot { epoch, ..Slot::default() };
                }
                self.features = 0;
            }
            // Empty, as every record of ours is: see `queue`.
            Effect::Inflight(..) | Effect::Kick(..) => {}
        }
        Ok(())
    }

    /// Up to which position a ring was worked off when it was stopped, if it ever worked.
    pub fn position(&self, index: usize) -> Option<u16> {
        self.slots.get(index)?.position
    }

    /// Makes the record of what is in flight, in memory that QEMU keeps over our death.
    pub fn inflight(&self, asked: &Inflight) -> Result<(Inflight, OwnedFd), DeviceError> {
        let system =
            |error| DeviceError::System { what: "a record of what is in flight cannot be made", error };
        let ring = INFLIGHT_HEADER + INFLIGHT_ENTRY * u64::from(asked.queue_size);
        let size = ring.next_multiple_of(INFLIGHT_ALIGNMENT) * u64::from(asked.queues);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("vhost-inflight", flags).map_err(system)?;
        rustix::fs::ftruncate(&file, size).map_err(system)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(system)?;
        Ok((Inflight { size, offset: 0, ..*asked }, file))
    }

    /// Tells QEMU, once, that a ring broke.
    #[cold]
    pub(crate) fn report_broken(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if std::mem::replace(&mut slot.reported, true) {
            return;
        }
        self.counters.broken += 1;
        if let Some(error) = slot.queue.as_ref().and_then(Queue::broken) {
            tracing::warn!(ring = index, %error, "a guest broke its ring: it stands still");
        }
        notify(slot.error.as_ref());
    }

    fn memory_set(&mut self, memory: Memory) -> Result<(), DeviceError> {
        self.memory = Arc::new(memory);
        let running: Vec<RingSetup> =
            self.slots.iter().filter(|slot| slot.queue.is_some()).filter_map(|slot| slot.setup).collect();
        running.into_iter().try_for_each(|setup| self.ring_start(setup))
    }

    fn ring_start(&mut self, setup: RingSetup) -> Result<(), DeviceError> {
        let index = setup.index;
        self.ring_stop(index);
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        let queue = Queue::start(self.memory.clone(), &setup, self.features);
        slot.queue = Some(queue.map_err(|error| DeviceError::Ring { index, error })?);
        slot.setup = Some(setup);
        slot.reported = false;
        self.logging_set();
        Ok(())
    }

    fn ring_stop(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.epoch += 1;
            if let Some(queue) = slot.queue.take() {
                slot.position = Some(queue.stop());
            }
        }
    }

    fn logging_set(&mut self) {
        let log = self.log.as_ref().filter(|_| self.features & feature::LOG_ALL != 0);
        for slot in &mut self.slots {
            let addresses = slot.setup.map(|setup| setup.addresses);
            let used = addresses.filter(|ring| ring.flags & ADDRESS_LOG != 0).map(|ring| ring.log);
            if let Some(queue) = &mut slot.queue {
                queue.log(log.cloned(), used);
            }
        }
    }
}

impl Slot {
    /// Tells the guest that there is something in its ring.
    pub(crate) fn call(&self) {
        notify(self.call.as_ref());
    }
}

/// Adds one to an eventfd. One that is full has been notified already.
fn notify(event: Option<&OwnedFd>) {
    if let Some(event) = event
        && let Err(error) = rustix::io::write(event, &1_u64.to_ne_bytes())
        && error != rustix::io::Errno::AGAIN
    {
        tracing::debug!(%error, "a notification was not taken");
    }
}
