//! The state machine, the stored form, and the decisions on one VM.

use super::reconcile::{Decision, Observed, decide, report, settle};
use super::record::*;
use super::*;

const EARLIER: Assigned =
    Assigned { attempt: Attempt(1), generation: Generation::new(1, 5), target: Target::Stopped, force: true };

fn states() -> Vec<VmState> {
    let cause = StopCause::Guest;
    vec![
        VmState::Claimed { earlier: None },
        VmState::Claimed { earlier: Some(EARLIER) },
        VmState::Running,
        VmState::Halted { cause },
        VmState::Stopping,
        VmState::Stopped { cause },
        VmState::Destroying { room_held: true },
        VmState::Destroying { room_held: false },
        VmState::Destroyed,
    ]
}

fn record(state: VmState) -> VmRecord {
    VmRecord {
        instance: "i-0000000000000000a".parse().unwrap(),
        account: "000000000042".parse().unwrap(),
        attempt: Attempt(2),
        generation: Generation::new(1, 7),
        state,
        force: false,
        spec: contract::VmSpec {
            instance_id: "i-0000000000000000a".into(),
            account_id: "000000000042".into(),
            vcpus: 2,
            memory_mib: 512,
            ..Default::default()
        },
        place: Some(Place { host: "h1".parse().unwrap(), rack: "r1".parse().unwrap() }),
        explanation: contract::Explanation::default(),
    }
}

fn intent(attempt: u32, revision: u64, target: Target) -> Intent {
    let record = record(VmState::Running);
    Intent {
        instance: record.instance,
        account: record.account,
        generation: Generation::new(1, revision),
        attempt: Attempt(attempt),
        target,
        spec: record.spec,
        pin: None,
        force: false,
    }
}

#[test]
fn destroying_is_the_only_way_out_and_always_possible() {
    let claim = VmEvent::Claim { assigned: None };
    let stopped = VmEvent::HostStopped { cause: StopCause::Guest };
    for state in states() {
        let destroyed = state.next(VmEvent::Destroy).unwrap();
        assert!(matches!(destroyed, VmState::Destroying { .. } | VmState::Destroyed), "{state:?}");
        assert!(!destroyed.room_held() || state.room_held(), "a tombstone takes no room: {state:?}");
        for event in [claim, VmEvent::Confirm, VmEvent::Stop, stopped] {
            assert_eq!(destroyed.next(event), None, "{state:?} {event:?}");
        }
    }
}

#[test]
fn only_a_claim_or_a_confirmation_takes_room() {
    for state in states().into_iter().filter(|state| !state.room_held()) {
        let cause = StopCause::Failed;
        for event in [VmEvent::Stop, VmEvent::Destroy, VmEvent::HostStopped { cause }, VmEvent::HostDestroyed]
        {
            assert!(!state.next(event).is_some_and(VmState::room_held), "{state:?} {event:?}");
        }
    }
}

#[test]
fn records_read_as_they_were_written() {
    for state in states() {
        let record = record(state);
        assert_eq!(VmRecord::decode(&record.encode()).unwrap(), record);
    }
    let gone = VmRecord { place: None, ..record(VmState::Destroyed) };
    assert_eq!(VmRecord::decode(&gone.encode()).unwrap(), gone);
    assert_eq!(gone.line(), None);
}

#[test]
fn damaged_records_are_refused() {
    let whole = record(VmState::Running).encode();
    assert!(matches!(VmRecord::decode(&whole[..whole.len() - 3]), Err(RecordError::Damaged(_))));
    assert_eq!(VmRecord::decode(&[]), Err(RecordError::State(0)));
    let nowhere = VmRecord { place: None, ..record(VmState::Running) };
    assert_eq!(VmRecord::decode(&nowhere.encode()), Err(RecordError::Incomplete("host_id")));
}

#[test]
fn intents_are_decided_by_attempt_then_generation() {
    let running = record(VmState::Running);
    let decided = |attempt, revision, target| decide(Some(&running), &intent(attempt, revision, target));
    assert_eq!(decided(1, 9, Target::Destroyed), Decision::Answer);
    assert_eq!(decided(2, 7, Target::Destroyed), Decision::Answer);
    assert_eq!(decided(3, 7, Target::Claimed), Decision::Answer);
    assert_eq!(decided(2, 9, Target::Claimed), Decision::Answer);
    assert!(matches!(decided(3, 9, Target::Running), Decision::Refuse(_)));
    for (target, state) in [
        (Target::Running, VmState::Running),
        (Target::Stopped, VmState::Stopping),
        (Target::Destroyed, VmState::Destroying { room_held: true }),
    ] {
        let Decision::Write(next) = decided(2, 9, target) else { panic!("{target:?}") };
        assert_eq!((next.state, next.generation.revision, next.place), (state, 9, running.place.clone()));
    }
    // A start where the disk is, whatever the intent's pin says.
    let Decision::Place { pin, state } = decided(3, 9, Target::Claimed) else { panic!() };
    assert_eq!(pin.unwrap().as_str(), "h1");
    assert_eq!(state, VmState::Claimed { earlier: running.assigned() });
}

#[test]
fn only_the_answer_to_the_newest_intent_lets_go_of_room() {
    let running = record(VmState::Running);
    let observed = |attempt, revision, phase| Observed {
        attempt: Attempt(attempt),
        generation: Generation::new(1, revision),
        phase,
        cause: StopCause::Guest,
        message: String::new(),
    };
    assert_eq!(settle(&running, Some(&observed(2, 6, Phase::Stopped))), None);
    assert_eq!(settle(&running, Some(&observed(1, 7, Phase::Stopped))), None);
    assert_eq!(settle(&running, Some(&observed(2, 7, Phase::Running))), None);
    let halted = settle(&running, Some(&observed(2, 7, Phase::Stopped))).unwrap();
    assert_eq!(halted.state, VmState::Halted { cause: StopCause::Guest });
    assert_eq!(report(&halted, None).stop_cause(), StopCause::Guest, "also when a restart forgot the rest");
    assert!(!observed(2, 7, Phase::Running).follows(&observed(2, 7, Phase::Stopped)));
    assert!(!observed(2, 6, Phase::Running).follows(&observed(2, 7, Phase::Starting)));
    assert!(observed(2, 7, Phase::Starting).follows(&observed(2, 7, Phase::Running)));
    assert!(observed(3, 1, Phase::Starting).follows(&observed(2, 7, Phase::Stopped)));
}
