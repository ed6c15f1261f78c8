//! What follows from an intent of the region, from a host's report, and what is said to the region: pure
//! decisions on one VM. The owner (`vm/mod.rs`) carries them out.

use super::record::{Place, VmEvent, VmRecord, VmState};
use crate::placement::Room;
use base::generation::{Attempt, Generation};
use base::ids::{AccountId, HostId, IdError, InstanceId};
use contract::{Explanation, Phase, StopCause, Target, VmIntent, VmReport, VmSpec, VmStatus};

/// An intent of the region, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Which instance's VM.
    pub instance: InstanceId,
    /// Whose.
    pub account: AccountId,
    /// Which intent is newer.
    pub generation: Generation,
    /// Which placement is newer.
    pub attempt: Attempt,
    /// What it shall be.
    pub target: Target,
    /// What it is made of.
    pub spec: VmSpec,
    /// Only this host will do.
    pub pin: Option<HostId>,
    /// Without asking the guest.
    pub force: bool,
}

impl Intent {
    /// Reads a message; errors where it names something impossible.
    pub fn read(message: VmIntent) -> Result<Intent, IdError> {
        let target = message.target();
        let spec = message.spec.unwrap_or_default();
        let pin = match message.host_id.as_str() {
            "" => None,
            host => Some(host.parse()?),
        };
        Ok(Intent {
            instance: spec.instance_id.parse()?,
            account: spec.account_id.parse()?,
            generation: contract::convert::generation(message.generation),
            attempt: Attempt(message.attempt),
            target,
            spec,
            pin,
            force: message.force,
        })
    }

    /// Which of two intents for one VM is newer.
    pub fn order(&self) -> (Attempt, Generation) {
        (self.attempt, self.generation)
    }

    /// The record that this intent makes, in `state` at `place`.
    pub fn record(&self, state: VmState, place: Option<Place>, explanation: Explanation) -> VmRecord {
        VmRecord {
            instance: self.instance,
            account: self.account,
            attempt: self.attempt,
            generation: self.generation,
            state,
            force: self.force,
            spec: self.spec.clone(),
            place,
            explanation,
        }
    }
}

/// What to do about an intent.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing new: say what is known.
    Answer,
    /// It cannot be: say REFUSED, and why. Nothing is stored.
    Refuse(&'static str),
    /// Find room, then store the record in this state.
    Place {
        /// Only this host will do.
        pin: Option<HostId>,
        /// The state that the record then gets.
        state: VmState,
    },
    /// Store the record.
    Write(Box<VmRecord>),
}

const NOT_HELD: &str = "the cell does not hold this attempt";
const BEING_DESTROYED: &str = "the VM is being destroyed";

/// What `intent` means for what is stored.
pub fn decide(record: Option<&VmRecord>, intent: &Intent) -> Decision {
    let Some(record) = record else {
        return match intent.target {
            Target::Claimed => {
                Decision::Place { pin: intent.pin.clone(), state: VmState::Claimed { earlier: None } }
            }
            Target::Running | Target::Stopped => Decision::Refuse(NOT_HELD),
            // The tombstone fences claims of this attempt that are still under way.
            Target::Destroyed | Target::Released => {
                Decision::Write(Box::new(intent.record(VmState::Destroyed, None, Explanation::default())))
            }
            Target::Unspecified => Decision::Refuse("the intent has no target"),
        };
    };
    if intent.attempt < record.attempt || intent.generation <= record.generation {
        return Decision::Answer;
    }
    match intent.target {
        Target::Claimed if intent.attempt == record.attempt => match record.state {
            VmState::Claimed { .. } => {
                Decision::Write(Box::new(VmRecord { generation: intent.generation, ..record.clone() }))
            }
            // The region has confirmed this attempt before: its question was overtaken.
            _ => Decision::Answer,
        },
        Target::Claimed => claim(record, intent),
        Target::Running if intent.attempt != record.attempt => Decision::Refuse(NOT_HELD),
        Target::Running if room_suffices(record, intent) => write(record, intent, VmEvent::Confirm),
        Target::Running => match record.state.next(VmEvent::Confirm) {
            Some(state) => {
                Decision::Place { pin: record.place.as_ref().map(|place| place.host.clone()), state }
            }
            None => Decision::Answer,
        },
        // A claim that no host heard of is not the attempt that the region wants stopped.
        Target::Stopped if intent.attempt > record.attempt && record.assigned().is_none() => {
            Decision::Refuse(NOT_HELD)
        }
        Target::Stopped => write(record, intent, VmEvent::Stop),
        Target::Destroyed => write(record, intent, VmEvent::Destroy),
        // What a host has heard of may have a disk: only a tombstone ends it.
        Target::Released if record.assigned().is_none() => write(record, intent, VmEvent::Destroy),
        Target::Released => Decision::Answer,
        Target::Unspecified => Decision::Refuse("the intent has no target"),
    }
}

/// A claim of a higher attempt than the record's: anywhere while no host has heard of the VM, else where it is.
fn claim(record: &VmRecord, intent: &Intent) -> Decision {
    let assigned = record.assigned();
    let Some(state) = record.state.next(VmEvent::Claim { assigned }) else {
        return Decision::Refuse(BEING_DESTROYED);
    };
    let pin = match (&record.place, assigned) {
        (Some(place), Some(_)) => Some(place.host.clone()),
        (_, _) => intent.pin.clone(),
    };
    Decision::Place { pin, state }
}

/// Whether the VM can run as the intent wants it in the room that is held for it.
fn room_suffices(record: &VmRecord, intent: &Intent) -> bool {
    record.state.room_held() && Room::of(&intent.spec).within(Room::of(&record.spec))
}

fn write(record: &VmRecord, intent: &Intent, event: VmEvent) -> Decision {
    let Some(state) = record.state.next(event) else {
        return Decision::Answer;
    };
    // What no host heard of leaves its place with its claim.
    let gone = state == VmState::Destroyed && record.assigned().is_none();
    let place = record.place.clone().filter(|_| !gone);
    let mut next = intent.record(state, place, record.explanation.clone());
    // What is to end stays what it was: the room that it holds until then is counted by its spec.
    if intent.target != Target::Running {
        next.spec = record.spec.clone();
    }
    Decision::Write(Box::new(next))
}

/// What a host last said of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The attempt that it speaks of.
    pub attempt: Attempt,
    /// The intent that it acted on.
    pub generation: Generation,
    /// What the VM is.
    pub phase: Phase,
    /// Why it stopped.
    pub cause: StopCause,
    /// Why, for people.
    pub message: String,
}

impl Observed {
    /// Reads a host's message.
    pub fn read(status: &VmStatus) -> Observed {
        Observed {
            attempt: Attempt(status.attempt),
            generation: contract::convert::generation(status.generation),
            phase: status.phase(),
            cause: status.stop_cause(),
            message: status.message.clone(),
        }
    }

    /// Whether `self` may take the place of `before`. A status that was overtaken on its way may not: a host
    /// never goes back to an older intent, and what stopped does not run again for the same intent.
    pub fn follows(&self, before: &Observed) -> bool {
        let ends = |phase| matches!(phase, Phase::Stopped | Phase::Destroyed);
        match (self.attempt, self.generation).cmp(&(before.attempt, before.generation)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => ends(self.phase) || !ends(before.phase),
            std::cmp::Ordering::Greater => true,
        }
    }
}

/// What the host said of the attempt that its document names; an older attempt's report is not believed.
fn believed<'a>(record: &VmRecord, observed: Option<&'a Observed>) -> Option<&'a Observed> {
    let assigned = record.assigned()?;
    observed.filter(|observed| observed.attempt == assigned.attempt)
}

/// What the host's report changes in the record.
pub fn settle(record: &VmRecord, observed: Option<&Observed>) -> Option<VmRecord> {
    let observed = believed(record, observed)?;
    let event = match observed.phase {
        // A newer intent may start it again, so only the answer to the newest lets go of the room.
        Phase::Stopped if observed.generation == record.generation => {
            VmEvent::HostStopped { cause: observed.cause }
        }
        Phase::Destroyed => VmEvent::HostDestroyed,
        Phase::Unspecified
        | Phase::Claimed
        | Phase::Refused
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping
        | Phase::Stopped => return None,
    };
    let state = record.state.next(event)?;
    Some(VmRecord { state, ..record.clone() })
}

/// What the region is told of the VM. `Starting` and `Stopping` without a host's word say only that the intent
/// is stored.
pub fn report(record: &VmRecord, observed: Option<&Observed>) -> VmReport {
    let unheard = |phase| Observed {
        attempt: record.attempt,
        generation: record.generation,
        phase,
        cause: StopCause::Unspecified,
        message: String::new(),
    };
    let stopped = |cause| Observed { cause, ..unheard(Phase::Stopped) };
    let heard = believed(record, observed).cloned();
    let said = match record.state {
        VmState::Claimed { .. } => unheard(Phase::Claimed),
        VmState::Running => heard.unwrap_or_else(|| unheard(Phase::Starting)),
        VmState::Halted { cause } => {
            heard.filter(|said| said.phase == Phase::Stopped).unwrap_or_else(|| stopped(cause))
        }
        VmState::Stopping => heard.unwrap_or_else(|| unheard(Phase::Stopping)),
        VmState::Stopped { cause } => {
            let message = heard.map(|said| said.message).unwrap_or_default();
            Observed { message, ..stopped(cause) }
        }
        VmState::Destroying { .. } => heard.unwrap_or_else(|| unheard(Phase::Stopping)),
        VmState::Destroyed => unheard(Phase::Destroyed),
    };
    let place = record.place.as_ref();
    let claimed = said.phase == Phase::Claimed;
    VmReport {
        instance_id: record.instance.to_string(),
        account_id: record.account.to_string(),
        attempt: record.attempt.0,
        generation: Some(said.generation.into()),
        phase: said.phase.into(),
        stop_cause: said.cause.into(),
        message: said.message,
        host_id: place.map(|place| place.host.to_string()).unwrap_or_default(),
        rack_id: place.map(|place| place.rack.to_string()).unwrap_or_default(),
        explanation: claimed.then(|| record.explanation.clone()),
        ..VmReport::default()
    }
}

/// An answer to an intent that is not about a stored record.
pub fn answer(intent: &Intent, phase: Phase, message: String, explanation: Option<Explanation>) -> VmReport {
    VmReport {
        instance_id: intent.instance.to_string(),
        account_id: intent.account.to_string(),
        attempt: intent.attempt.0,
        generation: Some(intent.generation.into()),
        phase: phase.into(),
        message,
        explanation,
        ..VmReport::default()
    }
}
