//! One test per rule of the owner.

use super::fake::*;
use crate::Event;
use base::step::LaunchStep::*;
use contract::{
    ConsoleData, ConsoleRead, Generation, HostStatus, Phase, StopCause, Target, ToCell, from_cell, from_host,
    to_cell, to_host,
};
use metastore::CommitError;

const NO_CAUSE: StopCause = StopCause::Unspecified;

#[test]
fn a_launch_takes_every_step_in_order() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.slow = true;
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.steps, [ClaimReceived]);
    assert!(fake.said().is_empty(), "nothing is said before it is durable");
    fake.commit_all();
    assert_eq!(fake.steps, [ClaimReceived, ClaimCommitted]);
    assert!(fake.reports[0].explanation.as_ref().unwrap().hosts[0].chosen);
    assert_eq!(fake.said(), [(Phase::Claimed, 1, 10, "h1".into())]);
    assert!(fake.document("h1").is_empty(), "a provisional claim does not reach the host");

    fake.steps.clear();
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!(fake.steps, [ConfirmReceived]);
    fake.commit_all();
    assert_eq!(fake.steps, [ConfirmReceived, VmIntended, DocumentSent]);
    assert_eq!(fake.document("h1"), [(A.to_owned(), 1, 11, Target::Running)]);
    assert_eq!(fake.said(), [(Phase::Starting, 1, 11, "h1".into())]);

    fake.steps.clear();
    fake.status("h1", (A, 1, 11, Phase::Running, NO_CAUSE));
    assert_eq!(fake.steps, [ReportReceived]);
    assert_eq!(fake.said(), [(Phase::Running, 1, 11, "h1".into())]);
    fake.status("h1", (A, 1, 11, Phase::Running, NO_CAUSE));
    assert!(fake.said().is_empty(), "nothing new, nothing said");
}

#[test]
fn what_does_not_fit_is_refused_with_reasons_and_nothing_is_stored() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.launch(A);
    let before = fake.store.entries();
    fake.intent(intent(B, 1, 20, Target::Claimed));
    let report = &fake.reports[0];
    assert_eq!((report.phase(), report.host_id.as_str()), (Phase::Refused, ""));
    let verdict = &report.explanation.as_ref().unwrap().hosts[0].verdict;
    assert_eq!(verdict, "needs 1 vCPU, has 0 of 1 free; needs 1024 MiB, has 0 of 1024 free");
    assert_eq!(fake.store.entries(), before);
}

#[test]
fn capacity_counts_once_it_is_durable_and_less_of_it_at_once() {
    let mut fake = Fake::new();
    fake.slow = true;
    fake.host_up("h1", "r1", 1);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused, "no claim can be durable before its host");
    fake.commit_all();
    fake.intent(intent(A, 1, 11, Target::Claimed));
    assert_eq!(fake.pending(), 1);
    fake.commit_all();
    fake.reports.clear();
    // The host has more, which is not durable yet; then less than that, which counts although it is not either.
    fake.host_up("h1", "r1", 3);
    fake.intent(intent(B, 1, 20, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused);
    fake.commit_all();
    fake.host_up("h1", "r1", 1);
    fake.reports.clear();
    fake.intent(intent(B, 1, 21, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused);
    fake.commit_all();
    fake.cell.check().unwrap();
}

#[test]
fn a_later_document_has_a_higher_generation_whichever_commit_is_answered_first() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    for (instance, generation) in [(A, 10), (B, 20), (C, 30)] {
        fake.intent(intent(instance, 1, generation, Target::Claimed));
    }
    fake.slow = true;
    for (instance, generation) in [(A, 11), (B, 21), (C, 31)] {
        fake.intent(intent(instance, 1, generation, Target::Running));
    }
    fake.commit_all_backwards();
    assert_eq!(fake.document("h1").len(), 3, "no change was sent that its host would not take");
    let generation = |(_, document): &(_, contract::HostDocument)| {
        document.generation.map(|generation| (generation.incarnation, generation.revision))
    };
    let sent: Vec<_> = fake.documents.iter().map(generation).collect();
    assert!(sent.is_sorted(), "{sent:?}");
    let last = sent.last().copied();
    // A successor that has changed nothing says the same, as a newer document.
    fake.crash(0);
    fake.documents.clear();
    fake.host_up("h1", "r1", 4);
    assert!(fake.documents.iter().map(generation).all(|generation| Some(generation) > last));
    assert_eq!(fake.document("h1").len(), 3);
}

#[test]
fn claims_under_way_count_as_taken() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.slow = true;
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.intent(intent(B, 1, 20, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused);
    assert_eq!(fake.pending(), 1);
    fake.commit_all();
}

#[test]
fn while_a_commit_is_under_way_only_the_newest_intent_waits() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.slow = true;
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.intent(intent(A, 1, 12, Target::Destroyed));
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!(fake.pending(), 1);
    fake.commit_all();
    assert_eq!(
        fake.said(),
        [(Phase::Claimed, 1, 10, "h1".into()), (Phase::Destroyed, 1, 12, String::new())],
        "no host was involved"
    );
    assert!(fake.document("h1").is_empty());
}

#[test]
fn duplicates_and_stale_intents_are_answered_with_what_is() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.launch(A);
    let before = fake.store.entries();
    for stale in [
        intent(A, 1, 10, Target::Claimed),
        intent(A, 1, 11, Target::Running),
        intent(A, 0, 99, Target::Destroyed),
        intent(A, 1, 9, Target::Destroyed),
    ] {
        fake.intent(stale);
        assert_eq!(fake.said(), [(Phase::Running, 1, 11, "h1".into())]);
    }
    assert_eq!(fake.store.entries(), before);
}

#[test]
fn a_repeated_claim_gets_the_same_answer_and_a_higher_attempt_a_new_one() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.intent(intent(A, 1, 10, Target::Claimed));
    let said = fake.said();
    assert_eq!(said[0], said[1]);
    fake.intent(intent(A, 2, 12, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Claimed, 2, 12, "h1".into())]);
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!(fake.said(), [(Phase::Claimed, 2, 12, "h1".into())], "the old attempt is not confirmed");
    assert!(fake.document("h1").is_empty());
}

#[test]
fn an_attempt_that_the_cell_does_not_hold_is_refused() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!(fake.reports[0].message, "the cell does not hold this attempt");
    assert_eq!(fake.said(), [(Phase::Refused, 1, 11, String::new())]);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.said();
    fake.intent(intent(A, 2, 12, Target::Running));
    assert_eq!(fake.said(), [(Phase::Refused, 2, 12, String::new())]);
}

#[test]
fn a_stopped_vm_lets_go_of_its_room_and_starts_again_only_where_its_disk_is() {
    let mut fake = Fake::new().with_host("h1", "r1", 1).with_host("h2", "r2", 4);
    // The fuller host first: best fit.
    assert_eq!(fake.launch(A), "h1");
    fake.intent(contract::VmIntent { force: true, ..intent(A, 1, 12, Target::Stopped) });
    assert_eq!(fake.document("h1"), [(A.to_owned(), 1, 12, Target::Stopped)]);
    assert!(fake.documents.last().unwrap().1.vms[0].force);
    fake.status("h1", (A, 1, 12, Phase::Stopping, NO_CAUSE));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 4, "still held");
    fake.status("h1", (A, 1, 12, Phase::Stopped, StopCause::PoweredOff));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 5);
    assert_eq!(fake.reports.last().unwrap().stop_cause(), StopCause::PoweredOff);
    assert_eq!(fake.said().last().unwrap(), &(Phase::Stopped, 1, 12, "h1".into()));

    fake.intent(intent(A, 2, 13, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Claimed, 2, 13, "h1".into())]);
    assert_eq!(fake.document("h1"), [(A.to_owned(), 1, 12, Target::Stopped)], "what was confirmed stays");
    fake.status("h1", (A, 1, 12, Phase::Stopped, StopCause::PoweredOff));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 4, "the old attempt's report is not the new one's");
    fake.intent(intent(A, 2, 14, Target::Running));
    assert_eq!(fake.document("h1"), [(A.to_owned(), 2, 14, Target::Running)]);
}

#[test]
fn a_start_is_refused_when_the_room_is_gone() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.launch(A);
    fake.intent(intent(A, 1, 12, Target::Stopped));
    fake.status("h1", (A, 1, 12, Phase::Stopped, StopCause::ShutDown));
    fake.launch(B);
    fake.host_up("h2", "r1", 4);
    fake.intent(intent(A, 2, 13, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused);
    assert!(fake.reports[0].message.starts_with("the host h1, where the VM's disk is, cannot take"));
    // The region gives the attempt up; the VM stays as it was.
    fake.said();
    fake.intent(intent(A, 2, 14, Target::Stopped));
    assert_eq!(fake.said(), [(Phase::Stopped, 2, 14, "h1".into())]);
}

#[test]
fn a_guest_that_stops_by_itself_lets_go_of_its_room() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.launch(A);
    fake.status("h1", (A, 1, 11, Phase::Stopped, StopCause::Guest));
    assert_eq!(fake.reports[0].stop_cause(), StopCause::Guest);
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 1);
    // An overtaken status changes nothing.
    fake.said();
    fake.status("h1", (A, 1, 11, Phase::Running, NO_CAUSE));
    assert!(fake.said().is_empty());
    // A reboot that crossed it takes the room again while it is there...
    fake.intent(intent(A, 1, 12, Target::Running));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 0);
    fake.status("h1", (A, 1, 12, Phase::Stopped, StopCause::Guest));
    fake.launch(B);
    // ... and is told when it is not.
    fake.intent(intent(A, 1, 13, Target::Running));
    let report = fake.reports.last().unwrap();
    assert_eq!(
        (report.phase(), report.stop_cause(), revision(report)),
        (Phase::Stopped, StopCause::Failed, 13)
    );
}

#[test]
fn a_stop_that_overtakes_a_reboot_waits_for_the_newest_intent() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.launch(A);
    fake.intent(intent(A, 1, 12, Target::Running));
    // The guest stopped before it heard of the reboot: the host will start it again.
    fake.status("h1", (A, 1, 11, Phase::Stopped, StopCause::Guest));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 0);
}

#[test]
fn destroying_goes_by_a_tombstone_and_ends_with_the_acknowledgement() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.launch(A);
    fake.intent(intent(A, 1, 12, Target::Destroyed));
    assert_eq!(fake.document("h1"), [(A.to_owned(), 1, 12, Target::Destroyed)]);
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 0, "held until it is gone");
    fake.said();
    fake.status("h1", (A, 1, 12, Phase::Destroyed, NO_CAUSE));
    let report = fake.reports.last().unwrap().clone();
    assert_eq!((report.phase(), revision(&report)), (Phase::Destroyed, 12));
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 1);
    assert_eq!(fake.document("h1").len(), 1, "the tombstone stays");
    fake.ack(&report);
    assert!(fake.document("h1").is_empty());
    assert_eq!(fake.cell.vm_records().count(), 0);
    // An intent from before its end, overtaken by it, does not raise it.
    fake.said();
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Destroyed, 1, 10, String::new())]);
    assert_eq!(fake.pending(), 0);
}

#[test]
fn an_intent_cannot_change_the_room_of_a_claim_unseen() {
    let mut fake = Fake::new().with_host("h1", "r1", 2);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.said();
    let larger = contract::VmIntent { spec: Some(spec(A, 3)), ..intent(A, 1, 11, Target::Running) };
    fake.intent(larger);
    assert_eq!(fake.said()[0].0, Phase::Stopped, "it does not fit");
    fake.launch(B);
    // A tombstone's spec may be all but empty.
    let bare = contract::VmSpec { vcpus: 0, memory_mib: 0, ..spec(B, 1) };
    fake.intent(contract::VmIntent { spec: Some(bare), ..intent(B, 1, 12, Target::Destroyed) });
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 0, "held until the host says that it is gone");
}

#[test]
fn a_tombstone_of_an_unknown_vm_fences_its_attempt() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.intent(intent(A, 1, 12, Target::Destroyed));
    assert_eq!(fake.said(), [(Phase::Destroyed, 1, 12, String::new())]);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Destroyed, 1, 12, String::new())]);
    fake.intent(intent(A, 2, 13, Target::Claimed));
    assert_eq!(fake.reports[0].message, "the VM is being destroyed");
    fake.crash(0);
    fake.apply(Event::RegionUp);
    let report = fake.reports.last().unwrap().clone();
    assert_eq!(report.phase(), Phase::Destroyed, "also after a restart");
    fake.ack(&report);
    assert_eq!(fake.cell.vm_records().count(), 0);
}

#[test]
fn reports_are_repeated_until_acknowledged_and_in_full_on_a_new_link() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.launch(A);
    fake.pass(3000);
    assert_eq!(fake.reports.len(), 3, "once a second");
    let report = fake.reports[0].clone();
    fake.ack(&report);
    fake.said();
    fake.pass(3000);
    assert!(fake.said().is_empty());
    // A claim is repeated until the region decides.
    fake.intent(intent(B, 1, 20, Target::Claimed));
    let report = fake.reports[0].clone();
    fake.ack(&report);
    fake.pass(2000);
    assert_eq!(fake.reports.len(), 3);

    fake.apply(Event::RegionDown);
    fake.said();
    fake.pass(2000);
    fake.status("h1", (A, 1, 11, Phase::Stopped, StopCause::Guest));
    assert!(fake.said().is_empty());
    fake.others.clear();
    fake.apply(Event::RegionUp);
    assert!(matches!(&fake.others[..], [from_cell::Message::Hello(hello)] if hello.cell_id == "c1"));
    let phases: Vec<Phase> = fake.said().into_iter().map(|(phase, ..)| phase).collect();
    assert_eq!(phases, [Phase::Stopped, Phase::Claimed]);
}

#[test]
fn a_document_is_sent_whole_and_then_by_its_changes() {
    let mut fake = Fake::new();
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.reports[0].message, "the cell has no hosts yet");
    fake.host_up("h1", "r1", 4);
    assert_eq!(fake.documents.len(), 1, "a host is told that it has nothing, too");
    assert_eq!((&fake.documents[0].1.base, fake.documents[0].1.vms.len()), (&None, 0));
    fake.launch(A);
    fake.launch(B);
    fake.intent(intent(A, 1, 12, Target::Destroyed));
    fake.status("h1", (A, 1, 12, Phase::Destroyed, NO_CAUSE));
    let report = fake.reports.last().unwrap().clone();
    fake.ack(&report);
    let changes = fake.documents.split_off(1);
    let told: Vec<(usize, usize)> = changes.iter().map(|(_, d)| (d.vms.len(), d.gone.len())).collect();
    assert_eq!(told, [(1, 0), (1, 0), (1, 0), (0, 1)]);
    assert_eq!(changes[0].1.base, fake.documents[0].1.generation);
    assert!(changes.windows(2).all(|pair| pair[1].1.base == pair[0].1.generation));
    assert_eq!(changes[3].1.gone, [A]);
    fake.documents.extend(changes);
    let by_changes = fake.held("h1");
    // The same content by another way: the whole, on a new link.
    fake.apply(Event::HostDown("h1".parse().unwrap()));
    fake.apply(Event::HostUp("h1".parse().unwrap()));
    assert_eq!(fake.documents.last().unwrap().1, contract::HostDocument { base: None, ..by_changes });
}

#[test]
fn a_host_that_stays_behind_is_sent_its_whole_document_once_a_second() {
    let mut fake = Fake::new().with_host("h1", "r1", 8);
    let whole = |fake: &Fake| fake.documents.iter().filter(|(_, document)| document.base.is_none()).count();
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!((fake.documents.len(), whole(&fake)), (2, 1));
    fake.pass(3000);
    assert_eq!((fake.documents.len(), whole(&fake)), (5, 4), "once a second");
    fake.status("h1", (A, 1, 11, Phase::Starting, NO_CAUSE));
    fake.pass(3000);
    assert_eq!(fake.documents.len(), 5);
    // Also while there is always something new that it has not got yet.
    for number in 0..20u64 {
        let target = if number == 0 { Target::Claimed } else { Target::Running };
        fake.intent(intent(B, 1, 20 + number, target));
        fake.pass(250);
    }
    assert!((3..=5).contains(&(whole(&fake) - 4)), "{}", whole(&fake));
    // A host that follows at a distance is not behind.
    let wholes = whole(&fake);
    let document_generation = fake.documents.last().unwrap().1.generation;
    fake.host("h1", from_host::Message::Status(HostStatus { document_generation, ..HostStatus::default() }));
    let mut held = document_generation;
    for number in 0..20 {
        fake.intent(intent(B, 1, 50 + number, Target::Running));
        fake.pass(250);
        let status = HostStatus { document_generation: held, ..HostStatus::default() };
        fake.host("h1", from_host::Message::Status(status));
        held = fake.documents.last().unwrap().1.generation;
    }
    assert_eq!(whole(&fake), wholes);
}

#[test]
fn a_restarted_cell_never_sends_an_older_generation() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.launch(A);
    fake.intent(intent(A, 1, 12, Target::Destroyed));
    fake.status("h1", (A, 1, 12, Phase::Destroyed, NO_CAUSE));
    let report = fake.reports.last().unwrap().clone();
    fake.ack(&report);
    let newest = fake.documents.last().unwrap().1.clone();
    fake.crash(0);
    fake.documents.clear();
    fake.apply(Event::HostUp("h1".parse().unwrap()));
    let again = &fake.documents[0].1;
    let revision = |generation: Option<Generation>| generation.unwrap_or_default().revision;
    assert!(revision(again.generation) >= revision(newest.generation));
    assert!(again.vms.is_empty());
}

#[test]
fn a_restarted_cell_presumes_its_hosts_alive_for_one_lease() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.crash(0);
    fake.apply(Event::RegionUp);
    assert_eq!(fake.cell.summary(fake.now).hosts_healthy, 1);
    fake.intent(intent(A, 1, 10, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Claimed, 1, 10, "h1".into())]);
    fake.pass(15_000);
    fake.said();
    fake.intent(intent(B, 1, 20, Target::Claimed));
    let verdict = &fake.reports[0].explanation.as_ref().unwrap().hosts[0].verdict;
    assert_eq!(verdict, "not answering since 15 s");
    assert_eq!(fake.cell.summary(fake.now).hosts_healthy, 0);
}

#[test]
fn a_silent_host_gets_nothing_new_and_its_vms_are_left_alone() {
    let mut fake = Fake::new().with_host("h1", "r1", 4).with_host("h2", "r2", 8);
    fake.pass(20_000);
    fake.status("h1", (A, 1, 11, Phase::Running, NO_CAUSE));
    fake.host("h2", from_host::Message::Status(HostStatus::default()));
    assert_eq!(fake.launch(A), "h1");
    fake.pass(10_000);
    fake.host("h2", from_host::Message::Status(HostStatus::default()));
    fake.said();
    fake.intent(intent(B, 1, 20, Target::Claimed));
    assert_eq!(fake.said(), [(Phase::Claimed, 1, 20, "h2".into())]);
    fake.intent(intent(A, 1, 11, Target::Running));
    assert_eq!(fake.said(), [(Phase::Running, 1, 11, "h1".into())], "no verdict on the VM");
}

#[test]
fn a_host_speaks_only_for_its_own_vms_and_its_own_attempts() {
    let mut fake = Fake::new().with_host("h1", "r1", 1).with_host("h2", "r2", 4);
    fake.launch(A);
    fake.status("h2", (A, 1, 11, Phase::Destroyed, NO_CAUSE));
    fake.status("h1", (A, 7, 11, Phase::Stopped, NO_CAUSE));
    fake.status("h1", ("nonsense", 1, 11, Phase::Stopped, NO_CAUSE));
    let console = ConsoleData { request_id: 1, instance_id: A.into(), ..ConsoleData::default() };
    fake.others.clear();
    fake.host("h2", from_host::Message::Console(console));
    assert!(fake.said().is_empty() && fake.others.is_empty());
    // Registering as another host changes nothing.
    let hello = contract::HostHello { host_id: "h1".into(), rack_id: "r9".into(), ..Default::default() };
    fake.host("h2", from_host::Message::Hello(hello));
    assert_eq!(fake.cell.summary(fake.now).vcpus, 5);
}

#[test]
fn a_vm_of_a_reservation_goes_to_another_rack() {
    let mut fake = Fake::new().with_host("h1", "r1", 2).with_host("h2", "r2", 8);
    let hosts: Vec<String> = [A, B, C].into_iter().map(|instance| fake.launch(instance)).collect();
    assert_eq!(hosts, ["h1", "h2", "h1"]);
}

#[test]
fn a_console_is_read_where_the_vm_is() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    let read = |instance: &str| {
        region(to_cell::Message::ConsoleRead(ConsoleRead {
            request_id: 7,
            instance_id: instance.into(),
            bytes_max: 100,
        }))
    };
    let unknown = |fake: &Fake| match fake.others.last() {
        Some(from_cell::Message::Console(console)) => console.unknown && console.request_id == 7,
        _ => false,
    };
    fake.apply(read(A));
    assert!(unknown(&fake));
    fake.launch(A);
    fake.others.clear();
    fake.apply(read(A));
    assert!(
        matches!(&fake.to_hosts[..], [(_, to_host::Message::ConsoleRead(read))] if read.bytes_max == 100)
    );
    let console =
        ConsoleData { request_id: 7, instance_id: A.into(), data: b"boot".to_vec(), ..Default::default() };
    fake.host("h1", from_host::Message::Console(console.clone()));
    assert_eq!(fake.others, [from_cell::Message::Console(console)]);
    fake.apply(Event::HostDown("h1".parse().unwrap()));
    fake.apply(read(A));
    assert!(unknown(&fake));
}

#[test]
fn the_zone_hears_of_changes_twice_a_second_and_of_nothing_every_five() {
    let mut fake = Fake::new();
    assert_eq!(fake.summaries.len(), 1);
    fake.pass(500);
    fake.host_up("h1", "r1", 4);
    assert_eq!(fake.summaries.len(), 2);
    let free = contract::FreeShape { vcpus: 4, memory_mib: 4096, hosts: 1 };
    assert_eq!(fake.summaries[1].free, [free]);
    for (n, instance) in [A, B, C].into_iter().enumerate() {
        fake.intent(intent(instance, 1, 10 + n as u64, Target::Claimed));
    }
    assert_eq!(fake.summaries.len(), 2);
    fake.pass(500);
    let newest = fake.summaries.last().unwrap();
    assert_eq!((fake.summaries.len(), newest.vcpus_free, newest.vms), (3, 1, 3));
    fake.pass(4500);
    assert_eq!(fake.summaries.len(), 3);
    fake.pass(500);
    assert_eq!(fake.summaries.len(), 4);
    fake.apply(Event::ZoneDown);
    fake.pass(6000);
    assert_eq!(fake.summaries.len(), 4);
    fake.apply(Event::ZoneUp);
    assert_eq!(fake.summaries.len(), 5);
}

#[test]
fn a_failed_store_leaves_everything_taken() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.slow = true;
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.commit_fails(CommitError::Failed("disk full".into()));
    fake.intent(intent(B, 1, 20, Target::Claimed));
    assert_eq!(fake.reports[0].phase(), Phase::Refused);
    fake.crash(0);
    fake.apply(Event::RegionUp);
    fake.said();
    fake.intent(intent(B, 1, 20, Target::Claimed));
    fake.commit_all();
    assert_eq!(fake.said(), [(Phase::Claimed, 1, 20, "h1".into())]);
}

#[test]
fn a_refused_commit_refuses_the_claim() {
    let mut fake = Fake::new().with_host("h1", "r1", 1);
    fake.slow = true;
    fake.intent(intent(A, 1, 10, Target::Claimed));
    fake.commit_fails(CommitError::Conflict { key: "k".into() });
    assert_eq!(fake.said(), [(Phase::Refused, 1, 10, String::new())]);
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 1);
}

#[test]
fn a_region_leader_of_an_older_term_is_not_heard() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    let with_term = |term, target| {
        let message = Some(to_cell::Message::Intent(intent(A, 1, 10, target)));
        Event::Region(ToCell { term, message })
    };
    fake.apply(with_term(5, Target::Claimed));
    fake.said();
    fake.apply(with_term(4, Target::Destroyed));
    assert!(fake.said().is_empty());
}

#[test]
fn capacity_that_an_operator_takes_away_is_made_good_as_claims_end() {
    let mut fake = Fake::new().with_host("h1", "r1", 2);
    fake.launch(A);
    fake.launch(B);
    fake.host_up("h1", "r1", 1);
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 0);
    fake.crash(0);
    assert_eq!(fake.cell.vm_records().count(), 2);
}

#[test]
fn what_cannot_be_read_is_dropped() {
    let mut fake = Fake::new().with_host("h1", "r1", 2);
    fake.apply(region(to_cell::Message::Intent(contract::VmIntent::default())));
    fake.apply(Event::Region(ToCell::default()));
    fake.apply(Event::Host("h9".parse().unwrap(), contract::FromHost::default()));
    fake.intent(intent(A, 1, 10, Target::Unspecified));
    assert_eq!(fake.said(), [(Phase::Refused, 1, 10, String::new())]);
}

#[test]
fn what_a_full_store_refused_is_tried_again_at_the_next_tick() {
    let full = || CommitError::Full("no room".into());
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    fake.launch(A);
    fake.slow = true;
    fake.intent(intent(B, 1, 20, Target::Claimed));
    fake.commit_fails(full());
    assert_eq!(fake.said(), [(Phase::Refused, 1, 20, String::new())]);
    fake.status("h1", (A, 1, 11, Phase::Stopped, StopCause::Guest));
    fake.commit_fails(full());
    assert_eq!(fake.pending(), 0, "not at once");
    fake.host_up("h1", "r1", 3);
    fake.commit_fails(full());
    assert_eq!(fake.pending(), 0);
    fake.pass(250);
    assert_eq!(fake.pending(), 2);
    fake.commit_all();
    assert_eq!(fake.cell.summary(fake.now).vcpus_free, 3);
    fake.pass(250);
    assert_eq!(fake.pending(), 0);
    fake.crash(0);
    assert_eq!(fake.cell.summary(fake.now).vcpus, 3);
}

#[test]
fn a_host_that_refuses_the_cell_gets_nothing_new() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    let newer = Some(Generation { incarnation: 2, revision: 1 });
    let refusals = [
        HostStatus { term: 2, ..HostStatus::default() },
        HostStatus { document_generation: newer, ..HostStatus::default() },
    ];
    for status in refusals {
        fake.host("h1", from_host::Message::Status(status));
        assert_eq!(fake.cell.summary(fake.now).hosts_healthy, 0);
        fake.reports.clear();
        fake.intent(intent(A, 1, 10, Target::Claimed));
        let verdict = &fake.reports[0].explanation.as_ref().unwrap().hosts[0].verdict;
        assert_eq!(verdict, "refuses this cell: it has followed a newer leader");
        fake.host("h1", from_host::Message::Status(HostStatus { term: 1, ..HostStatus::default() }));
        assert_eq!(fake.cell.summary(fake.now).hosts_healthy, 1);
    }
}

#[test]
fn the_first_document_of_an_unknown_host_is_newer_than_any_of_an_earlier_leader() {
    let fake = Fake::new().with_host("h1", "r1", 4);
    let generation = fake.documents[0].1.generation.unwrap();
    assert_eq!((generation.incarnation, generation.revision), (1, 1 << 40));
}
