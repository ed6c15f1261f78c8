//! What the cell stores of one VM: where its place is, how far the claim has come, and what its host shall do.
//!
//! ```text
//!  (nothing) ──claim──► Claimed ──confirm──► Running ──the host says that it stopped──► Halted
//!                        ▲  │                   │                                         │
//!                        │  └──────stop──────►  │ stop                                    │ stop
//!                        │                      ▼                                         ▼
//!                        │                   Stopping ──the host says stopped──────►  Stopped
//!                        └──────────────claim of a higher attempt─────────────────────────┘
//!
//!  any ──destroy──► Destroying ──the host says destroyed──► Destroyed ──acknowledged──► (nothing)
//!  Claimed of no host yet, or (nothing) ──destroy──────────────▲
//! ```
//!
//! Claimed, Running and Stopping hold room on the host; Halted and Stopped hold none, and keep the host because
//! the disk is there. Destroying holds what the state before it held: the process may still be there.

use crate::placement::Room;
use base::generation::{Attempt, Generation};
use base::ids::{AccountId, HostId, IdError, InstanceId, RackId};
use contract::{Explanation, StopCause, Target, VmAssignment, VmSpec};
use prost::Message;

/// The keys of VM records: this and the instance id.
pub const PREFIX: &str = "cell/vm/";

/// The key of an instance's record.
pub fn key(instance: InstanceId) -> metastore::Key {
    format!("{PREFIX}{instance}").into_bytes()
}

/// Where a VM is: its host does not change once that has heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The host that has the room and, once started there, the disk.
    pub host: HostId,
    /// The host's rack when it was chosen.
    pub rack: RackId,
}

/// What a host was last told about a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The confirmed attempt.
    pub attempt: Attempt,
    /// The region's intent.
    pub generation: Generation,
    /// RUNNING, STOPPED or DESTROYED.
    pub target: Target,
    /// Without asking the guest.
    pub force: bool,
}

/// One VM in the document of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) host: &'a HostId,
    spec: &'a VmSpec,
    assigned: Assigned,
}

impl Line<'_> {
    /// As the host is told it.
    pub(crate) fn assignment(self) -> VmAssignment {
        VmAssignment {
            spec: Some(self.spec.clone()),
            attempt: self.assigned.attempt.0,
            generation: Some(self.assigned.generation.into()),
            target: self.assigned.target.into(),
            force: self.assigned.force,
        }
    }
}

/// How far a VM's claim has come; see the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Provisional: room is held, the region has not confirmed the attempt, its host has not heard of it.
    Claimed {
        /// What the host was told of the attempt before, for a VM whose disk is there already.
        earlier: Option<Assigned>,
    },
    /// Confirmed, and shall run.
    Running,
    /// Shall run, but stopped by itself; the region decides what follows.
    Halted {
        /// As the host reported it.
        cause: StopCause,
    },
    /// Shall stop.
    Stopping,
    /// Has stopped.
    Stopped {
        /// As the host reported it.
        cause: StopCause,
    },
    /// The tombstone: shall be destroyed by the host.
    Destroying {
        /// Whether room is held until the host says that the VM is gone.
        room_held: bool,
    },
    /// The tombstone of what is gone; forgotten when the region has acknowledged it.
    Destroyed,
}

/// What moves a VM's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmEvent {
    /// A newer attempt takes room.
    Claim {
        /// What the host holds of the attempt before.
        assigned: Option<Assigned>,
    },
    /// The region wants it to run. From a state without room only after room was taken.
    Confirm,
    /// The region wants it stopped.
    Stop,
    /// The region wants it gone.
    Destroy,
    /// The host reported it stopped, having acted on the newest intent.
    HostStopped {
        /// Why.
        cause: StopCause,
    },
    /// The host reported that nothing of it is left.
    HostDestroyed,
}

impl VmState {
    /// The state after `event`; `None` where the event cannot change this state.
    pub fn next(self, event: VmEvent) -> Option<VmState> {
        use VmEvent::*;
        use VmState::*;
        match (self, event) {
            (Claimed { earlier }, Claim { .. }) => Some(Claimed { earlier }),
            (Running | Halted { .. } | Stopping | Stopped { .. }, Claim { assigned }) => {
                Some(Claimed { earlier: assigned })
            }
            (Destroying { .. } | Destroyed, Claim { .. } | Confirm | Stop) => None,

            (Claimed { .. } | Running | Halted { .. } | Stopping | Stopped { .. }, Confirm) => Some(Running),

            (Claimed { .. } | Running | Stopping, Stop) => Some(Stopping),
            (Halted { cause } | Stopped { cause }, Stop) => Some(Stopped { cause }),

            (Claimed { earlier: None } | Destroyed, Destroy) => Some(Destroyed),
            (Claimed { earlier: Some(_) } | Running | Stopping, Destroy) => {
                Some(Destroying { room_held: true })
            }
            (Halted { .. } | Stopped { .. }, Destroy) => Some(Destroying { room_held: false }),
            (Destroying { room_held }, Destroy) => Some(Destroying { room_held }),

            (Running, HostStopped { cause }) => Some(Halted { cause }),
            (Stopping, HostStopped { cause }) => Some(Stopped { cause }),
            (
                Claimed { .. } | Halted { .. } | Stopped { .. } | Destroying { .. } | Destroyed,
                HostStopped { .. },
            ) => None,

            (Destroying { .. }, HostDestroyed) => Some(Destroyed),
            (
                Claimed { .. } | Running | Halted { .. } | Stopping | Stopped { .. } | Destroyed,
                HostDestroyed,
            ) => None,
        }
    }

    /// Whether CPU and memory of the host are held in this state.
    pub fn room_held(self) -> bool {
        match self {
            VmState::Claimed { .. } | VmState::Running | VmState::Stopping => true,
            VmState::Halted { .. } | VmState::Stopped { .. } | VmState::Destroyed => false,
            VmState::Destroying { room_held } => room_held,
        }
    }
}

/// The stored record of one VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRecord {
    /// Which instance's VM.
    pub instance: InstanceId,
    /// Whose.
    pub account: AccountId,
    /// The newest attempt that the region asked for.
    pub attempt: Attempt,
    /// The newest intent of the region.
    pub generation: Generation,
    /// How far it has come.
    pub state: VmState,
    /// Without asking the guest.
    pub force: bool,
    /// What it is made of.
    pub spec: VmSpec,
    /// `None` only for the tombstone of a VM that no host ever heard of.
    pub place: Option<Place>,
    /// Why the host was chosen.
    pub explanation: Explanation,
}

impl VmRecord {
    /// What the host's document says of this VM; `None` while no attempt of it was confirmed.
    pub fn assigned(&self) -> Option<Assigned> {
        let now = |target| {
            Some(Assigned { attempt: self.attempt, generation: self.generation, target, force: self.force })
        };
        match self.state {
            VmState::Claimed { earlier } => earlier,
            VmState::Running | VmState::Halted { .. } => now(Target::Running),
            VmState::Stopping | VmState::Stopped { .. } => now(Target::Stopped),
            VmState::Destroying { .. } => now(Target::Destroyed),
            VmState::Destroyed => self.place.as_ref().and_then(|_| now(Target::Destroyed)),
        }
    }

    /// This VM's line in the document of its host, if it has one.
    pub(crate) fn line(&self) -> Option<Line<'_>> {
        let (place, assigned) = (self.place.as_ref()?, self.assigned()?);
        Some(Line { host: &place.host, spec: &self.spec, assigned })
    }

    /// The room that is held, and where.
    pub fn room(&self) -> Option<(&HostId, Room)> {
        let place = self.place.as_ref().filter(|_| self.state.room_held())?;
        Some((&place.host, Room::of(&self.spec)))
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (state, room_held, cause, earlier) = match self.state {
            VmState::Claimed { earlier } => (StoredState::Claimed, true, StopCause::Unspecified, earlier),
            VmState::Running => (StoredState::Running, true, StopCause::Unspecified, None),
            VmState::Halted { cause } => (StoredState::Halted, false, cause, None),
            VmState::Stopping => (StoredState::Stopping, true, StopCause::Unspecified, None),
            VmState::Stopped { cause } => (StoredState::Stopped, false, cause, None),
            VmState::Destroying { room_held } => {
                (StoredState::Destroying, room_held, StopCause::Unspecified, None)
            }
            VmState::Destroyed => (StoredState::Destroyed, false, StopCause::Unspecified, None),
        };
        let place = self.place.as_ref();
        Stored {
            spec: Some(self.spec.clone()),
            attempt: self.attempt.0,
            generation: Some(self.generation.into()),
            state: state.into(),
            room_held,
            stop_cause: cause.into(),
            earlier: earlier.map(|assigned| StoredAssigned {
                attempt: assigned.attempt.0,
                generation: Some(assigned.generation.into()),
                target: assigned.target.into(),
                force: assigned.force,
            }),
            force: self.force,
            host_id: place.map(|place| place.host.to_string()).unwrap_or_default(),
            rack_id: place.map(|place| place.rack.to_string()).unwrap_or_default(),
            explanation: Some(self.explanation.clone()),
        }
        .encode_to_vec()
    }

    /// Reads stored bytes.
    pub fn decode(bytes: &[u8]) -> Result<VmRecord, RecordError> {
        let stored = Stored::decode(bytes)?;
        let cause = stored.stop_cause();
        let earlier = stored.earlier.as_ref().map(|assigned| Assigned {
            attempt: Attempt(assigned.attempt),
            generation: contract::convert::generation(assigned.generation),
            target: assigned.target(),
            force: assigned.force,
        });
        let state = match stored.state() {
            StoredState::Unspecified => return Err(RecordError::State(stored.state)),
            StoredState::Claimed => VmState::Claimed { earlier },
            StoredState::Running => VmState::Running,
            StoredState::Halted => VmState::Halted { cause },
            StoredState::Stopping => VmState::Stopping,
            StoredState::Stopped => VmState::Stopped { cause },
            StoredState::Destroying => VmState::Destroying { room_held: stored.room_held },
            StoredState::Destroyed => VmState::Destroyed,
        };
        let place = match stored.host_id.as_str() {
            "" => None,
            host => Some(Place { host: host.parse()?, rack: stored.rack_id.parse()? }),
        };
        if place.is_none() && state != VmState::Destroyed {
            return Err(RecordError::Incomplete("host_id"));
        }
        let spec = stored.spec.ok_or(RecordError::Incomplete("spec"))?;
        Ok(VmRecord {
            instance: spec.instance_id.parse()?,
            account: spec.account_id.parse()?,
            attempt: Attempt(stored.attempt),
            generation: contract::convert::generation(stored.generation),
            state,
            force: stored.force,
            spec,
            place,
            explanation: stored.explanation.unwrap_or_default(),
        })
    }
}

impl metastore::table::Record for VmRecord {
    const PREFIX: &'static str = PREFIX;
    type Id = InstanceId;

    fn key(id: &InstanceId) -> metastore::Key {
        key(*id)
    }

    fn id(key: &[u8]) -> Result<InstanceId, String> {
        let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(PREFIX));
        name.ok_or("its key is no VM's")?.parse().map_err(|error: IdError| error.to_string())
    }

    fn encode(&self) -> metastore::Value {
        VmRecord::encode(self)
    }

    fn decode(id: &InstanceId, bytes: &[u8]) -> Result<VmRecord, String> {
        let record = VmRecord::decode(bytes).map_err(|error| base::error::chain(&error))?;
        match record.instance == *id {
            true => Ok(record),
            false => Err(format!("it is the record of {}", record.instance)),
        }
    }
}

/// A stored record that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Not a record's bytes.
    #[error("the record's bytes are damaged")]
    Damaged(#[from] prost::DecodeError),
    /// A field that every record has is missing.
    #[error("the record has no {0}")]
    Incomplete(&'static str),
    /// An id that is none.
    #[error("the record names something impossible")]
    Id(#[from] IdError),
    /// A state from a newer version, or none.
    #[error("the record's state {0} is not known to this version")]
    State(i32),
}

/// Field numbers are for ever: a field that goes leaves its number unused.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(message, optional, tag = "1")]
    spec: Option<VmSpec>,
    #[prost(uint32, tag = "2")]
    attempt: u32,
    #[prost(message, optional, tag = "3")]
    generation: Option<contract::Generation>,
    #[prost(enumeration = "StoredState", tag = "4")]
    state: i32,
    #[prost(bool, tag = "5")]
    room_held: bool,
    #[prost(enumeration = "StopCause", tag = "6")]
    stop_cause: i32,
    #[prost(message, optional, tag = "7")]
    earlier: Option<StoredAssigned>,
    #[prost(bool, tag = "8")]
    force: bool,
    #[prost(string, tag = "9")]
    host_id: String,
    #[prost(string, tag = "10")]
    rack_id: String,
    #[prost(message, optional, tag = "11")]
    explanation: Option<Explanation>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct StoredAssigned {
    #[prost(uint32, tag = "1")]
    attempt: u32,
    #[prost(message, optional, tag = "2")]
    generation: Option<contract::Generation>,
    #[prost(enumeration = "Target", tag = "3")]
    target: i32,
    #[prost(bool, tag = "4")]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum StoredState {
    Unspecified = 0,
    Claimed = 1,
    Running = 2,
    Halted = 3,
    Stopping = 4,
    Stopped = 5,
    Destroying = 6,
    Destroyed = 7,
}
