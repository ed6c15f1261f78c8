//! Each rule of the agent, on a simulated disk and a simulated VMM under virtual time.

use super::*;
use crate::vmm::simulated::{SimulatedPace, SimulatedVmm};
use contract::{Phase, VmSpec};

/// One host: its agent, its disk, its machines.
struct World {
    now: Timestamp,
    agent: HostAgent,
    disk: Ledger,
    disk_full: bool,
    vmm: SimulatedVmm,
    /// What the driver was told of network cards: by a start, or to a VM that runs.
    cards: Vec<(&'static str, usize)>,
    sent: Vec<FromHost>,
    steps: Vec<LaunchStep>,
    all_stopped: u32,
    revision: u64,
    assignments: BTreeMap<InstanceId, VmAssignment>,
}

fn vm(number: u128) -> InstanceId {
    InstanceId::from_bits(number)
}

fn agent(disk: &Ledger) -> HostAgent {
    let identity = HostIdentity { host: "h1".parse().unwrap(), rack: "r1".parse().unwrap() };
    let capacity = HostCapacity { vcpus: 8, memory_mib: 8192, ..HostCapacity::default() };
    HostAgent::recover(identity, capacity, disk.clone())
}

impl World {
    fn new() -> World {
        let disk = Ledger::default();
        let mut world = World {
            now: Timestamp::from_unix_ms(1_000_000),
            agent: agent(&disk),
            disk,
            disk_full: false,
            vmm: SimulatedVmm::new(SimulatedPace::default()),
            cards: Vec::new(),
            sent: Vec::new(),
            steps: Vec::new(),
            all_stopped: 0,
            revision: 0,
            assignments: BTreeMap::new(),
        };
        world.agent_start();
        world
    }

    fn agent_start(&mut self) {
        self.agent = agent(&self.disk);
        let found = self.vmm.survey();
        self.event(Event::Surveyed(found));
        self.event(Event::CellUp);
    }

    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.agent.apply(self.now, event) {
                match effect {
                    Effect::Persist { ticket, .. } if self.disk_full => {
                        events.insert(0, Event::Persisted { ticket, result: Err("disk full".into()) });
                    }
                    Effect::Persist { ticket, change } => {
                        self.disk.apply(&change);
                        events.insert(0, Event::Persisted { ticket, result: Ok(()) });
                    }
                    Effect::ToCell(message) => self.sent.push(message),
                    Effect::Vmm { vm, command } => {
                        match &command {
                            VmmCommand::Start { spec, .. } => {
                                self.cards.push(("start", spec.interfaces.len()));
                            }
                            VmmCommand::Interfaces { interfaces } => {
                                self.cards.push(("running", interfaces.len()));
                            }
                            _ => {}
                        }
                        self.vmm.command(self.now, vm, command);
                    }
                    Effect::Step(step) => self.steps.push(step),
                    Effect::AllStopped => self.all_stopped += 1,
                }
            }
            self.agent.check().unwrap();
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.now + Duration::from_millis(50);
            for (vm, event) in self.vmm.due(self.now) {
                self.event(Event::Vmm { vm, event });
            }
            self.event(Event::Tick);
        }
    }

    fn pass_without_agent(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.vmm.due(self.now);
    }

    fn settle(&mut self) {
        self.pass(Duration::from_secs(3));
    }

    /// Changes one assignment as a region would: with a newer generation.
    fn intend(&mut self, vm: InstanceId, target: Target, change: impl FnOnce(&mut VmAssignment)) {
        self.revision += 1;
        let spec = VmSpec { instance_id: vm.to_string(), vcpus: 1, memory_mib: 128, ..VmSpec::default() };
        let fresh = VmAssignment { spec: Some(spec), attempt: 1, ..VmAssignment::default() };
        let assignment = self.assignments.entry(vm).or_insert(fresh);
        assignment.generation = Some(Generation::new(1, self.revision).into());
        assignment.target = target.into();
        change(assignment);
    }

    fn document(&self) -> HostDocument {
        let generation = Some(Generation::new(1, self.revision).into());
        let vms = self.assignments.values().cloned().collect();
        HostDocument { generation, vms, ..HostDocument::default() }
    }

    /// Pushes a change against the document of revision `base`: these VMs as they are now assigned, or gone.
    fn push_change(&mut self, base: u64, changed: &[InstanceId]) {
        let named = changed.iter().filter_map(|vm| self.assignments.get(vm)).cloned().collect();
        let gone = changed.iter().filter(|vm| !self.assignments.contains_key(vm));
        let document = HostDocument {
            generation: Some(Generation::new(1, self.revision).into()),
            vms: named,
            base: Some(Generation::new(1, base).into()),
            gone: gone.map(InstanceId::to_string).collect(),
        };
        self.event(Event::Cell(ToHost { term: 1, message: Some(to_host::Message::Document(document)) }));
    }

    fn document_revision(&self) -> u64 {
        self.agent.status().document_generation.unwrap_or_default().revision
    }

    fn push(&mut self) {
        let message = Some(to_host::Message::Document(self.document()));
        self.event(Event::Cell(ToHost { term: 1, message }));
    }

    /// Intends, pushes, and lets everything settle.
    fn set(&mut self, vm: InstanceId, target: Target) {
        self.intend(vm, target, |_| {});
        self.push();
        self.settle();
    }

    fn status(&self, vm: InstanceId) -> VmStatus {
        let status = self.agent.status();
        status.vms.into_iter().find(|status| status.instance_id == vm.to_string()).unwrap()
    }

    fn phase(&self, vm: InstanceId) -> (Phase, StopCause) {
        (self.status(vm).phase(), self.status(vm).stop_cause())
    }

    fn guests(&self) -> Vec<InstanceId> {
        self.vmm.running().collect()
    }

    fn phases_sent(&self, vm: InstanceId) -> Vec<Phase> {
        let mut phases = Vec::new();
        for message in &self.sent {
            let Some(from_host::Message::Status(status)) = &message.message else { continue };
            phases.extend(status.vms.iter().filter(|s| s.instance_id == vm.to_string()).map(|s| s.phase()));
        }
        phases.dedup();
        phases
    }
}

/// Gives an assignment's VM so many network cards.
fn cards_set(assignment: &mut VmAssignment, count: u32) {
    let interface = |device_index| VmInterface { device_index, ..VmInterface::default() };
    assignment.spec.as_mut().unwrap().interfaces = (0..count).map(interface).collect();
}

const RUNNING: (Phase, StopCause) = (Phase::Running, StopCause::Unspecified);

#[test]
fn a_vm_starts_once_the_ledger_holds_it() {
    let mut world = World::new();
    world.disk_full = true;
    world.set(vm(1), Target::Running);
    assert!(world.guests().is_empty());
    assert!(world.agent.status().document_held.contains("disk full"));
    world.disk_full = false;
    world.settle();
    assert_eq!(world.phase(vm(1)), RUNNING);
    assert_eq!(world.steps, [LaunchStep::LedgerWritten, LaunchStep::VmStarted]);
    assert_eq!(world.phases_sent(vm(1)), [Phase::Starting, Phase::Running]);
    assert_eq!(world.status(vm(1)).generation, Some(Generation::new(1, 1).into()));
}

#[test]
fn a_stop_says_truthfully_how_it_came_about() {
    for (force, deaf, cause) in [
        (false, false, StopCause::ShutDown),
        (true, false, StopCause::PoweredOff),
        (false, true, StopCause::PoweredOff),
    ] {
        let mut world = World::new();
        world.vmm.deaf_set(deaf);
        world.set(vm(1), Target::Running);
        world.intend(vm(1), Target::Stopped, |assignment| assignment.force = force);
        world.push();
        world.settle();
        if deaf {
            assert_eq!(world.phase(vm(1)).0, Phase::Stopping);
            world.pass(Duration::from_secs(90));
        }
        assert_eq!(world.phase(vm(1)), (Phase::Stopped, cause), "force {force}, deaf {deaf}");
        assert!(world.guests().is_empty());
        world.agent_start();
        world.settle();
        assert_eq!(world.phase(vm(1)), (Phase::Stopped, cause), "after a restart of the agent");
        world.set(vm(1), Target::Running);
        assert_eq!(world.phase(vm(1)), RUNNING);
    }
}

#[test]
fn a_guest_that_switches_itself_off_stays_off_until_newer_intent() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.vmm.guest_shutdown(world.now, vm(1));
    world.settle();
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Guest));
    world.push();
    world.agent_start();
    world.vmm.power_lost();
    world.agent_start();
    world.settle();
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Guest));
    world.set(vm(1), Target::Stopped);
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Guest));
    world.intend(vm(1), Target::Running, |assignment| assignment.attempt = 2);
    world.push();
    world.settle();
    assert_eq!(world.phase(vm(1)), RUNNING);
    assert_eq!(world.agent.running().collect::<Vec<_>>(), [(vm(1), Attempt(2))]);
}

#[test]
fn a_guest_that_went_off_while_no_agent_looked_is_told_from_a_crash() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.vmm.guest_shutdown(world.now, vm(1));
    world.now = world.now + Duration::from_secs(1);
    world.vmm.due(world.now);
    world.agent_start();
    world.settle();
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Guest));
}

#[test]
fn a_restarted_agent_adopts_what_runs_and_a_rebooted_host_starts_it() {
    let mut world = World::new();
    for number in 1..=3 {
        world.set(vm(number), Target::Running);
    }
    world.set(vm(3), Target::Stopped);
    world.agent_start();
    assert_eq!(world.phase(vm(1)), RUNNING);
    assert_eq!(world.guests(), [vm(1), vm(2)]);
    world.vmm.power_lost();
    world.agent = agent(&world.disk);
    world.event(Event::Surveyed(Vec::new()));
    world.settle();
    assert_eq!(world.guests(), [vm(1), vm(2)], "without a cell");
    assert_eq!(world.phase(vm(3)).0, Phase::Stopped);
}

#[test]
fn old_documents_terms_attempts_and_generations_are_refused() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    let old_document = world.document();
    world.set(vm(1), Target::Running);
    let mut stop = old_document.clone();
    stop.vms[0].target = Target::Stopped.into();
    let send = |world: &mut World, term, document: &HostDocument| {
        let message = Some(to_host::Message::Document(document.clone()));
        world.event(Event::Cell(ToHost { term, message }));
        world.settle();
    };
    send(&mut world, 1, &stop);
    assert_eq!(world.phase(vm(1)), RUNNING, "older document");
    // A newer document whose VM is older.
    stop.generation = Some(Generation::new(1, 50).into());
    send(&mut world, 1, &stop);
    assert_eq!(world.phase(vm(1)), RUNNING, "older generation of the VM");
    stop.vms[0].attempt = 0;
    stop.vms[0].generation = Some(Generation::new(1, 60).into());
    send(&mut world, 1, &stop);
    assert_eq!(world.phase(vm(1)), RUNNING, "older attempt");
    stop.vms[0].attempt = 1;
    world.event(Event::Cell(ToHost { term: 7, message: None }));
    world.agent_start();
    send(&mut world, 6, &stop);
    assert_eq!(world.phase(vm(1)), RUNNING, "older term, also after a restart");
    assert_eq!(world.agent.status().term, 7);
    send(&mut world, 7, &stop);
    assert_eq!(world.phase(vm(1)).0, Phase::Stopped);
}

#[test]
fn absence_destroys_nothing_and_too_much_absence_is_not_believed() {
    let mut world = World::new();
    for number in 1..=4 {
        world.set(vm(number), Target::Running);
    }
    let all = std::mem::take(&mut world.assignments);
    world.revision += 1;
    world.push();
    world.settle();
    assert!(world.agent.status().document_held.contains("lacks 4 of the 4"));
    assert_eq!(world.agent.status().document_generation, Some(Generation::new(1, 4).into()));
    world.assignments = all.into_iter().filter(|(id, _)| *id > vm(2)).collect();
    world.revision += 1;
    world.push();
    world.settle();
    let status = world.agent.status();
    assert_eq!(status.document_held, "");
    assert_eq!(status.orphans, [vm(1).to_string(), vm(2).to_string()]);
    world.agent_start();
    assert_eq!(world.guests().len(), 4);
    assert_eq!(world.agent.status().orphans.len(), 2, "after a restart of the agent");
}

#[test]
fn what_a_restored_store_does_not_know_runs_on_as_an_orphan() {
    let mut world = World::new();
    for number in 1..=5 {
        world.intend(vm(number), Target::Running, |_| {});
    }
    world.push();
    world.settle();
    let guests = world.guests();
    // The backup is from when there was but one.
    let mut old = world.document();
    old.vms.truncate(1);
    let send = |world: &mut World, document: &HostDocument| {
        let message = Some(to_host::Message::Document(document.clone()));
        world.event(Event::Cell(ToHost { term: 1, message }));
        world.settle();
    };
    old.generation = Some(Generation::new(1, 1000).into());
    send(&mut world, &old);
    assert!(world.agent.status().document_held.contains("lacks 4 of the 5"), "of the same incarnation");
    old.generation = Some(Generation::new(2, 1).into());
    send(&mut world, &old);
    let others: Vec<String> = (2..=5).map(|number| vm(number).to_string()).collect();
    let status = world.agent.status();
    assert_eq!((status.document_held.as_str(), &status.orphans), ("", &others));
    assert_eq!((world.guests(), guests.len()), (guests, 5));
    // So it stays over a restart of the agent, and what the lost store said later is not heard any more.
    world.agent_start();
    world.settle();
    assert_eq!(world.agent.status().orphans, others);
    old.generation = Some(Generation::new(1, 2000).into());
    old.vms.clear();
    send(&mut world, &old);
    assert_eq!(world.agent.status().orphans, others);
    assert_eq!(world.phase(vm(1)), RUNNING);
}

#[test]
fn only_a_tombstone_destroys_and_it_is_remembered_while_it_is_told() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    let running = world.assignments[&vm(1)].clone();
    world.set(vm(1), Target::Destroyed);
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
    assert!(world.guests().is_empty());
    // Nothing brings it back under the same attempt.
    world.assignments.insert(vm(1), running);
    world.set(vm(1), Target::Running);
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
    world.agent_start();
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
    world.assignments.clear();
    world.revision += 1;
    world.push();
    assert_eq!(world.disk.vms, BTreeMap::new());
    assert!(world.agent.status().vms.is_empty());
}

#[test]
fn a_tombstone_of_a_vm_never_heard_of_is_answered_at_once() {
    let mut world = World::new();
    world.intend(vm(1), Target::Destroyed, |_| {});
    world.push();
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
}

#[test]
fn a_destroyed_vm_asks_its_guest_unless_forced() {
    for force in [false, true] {
        let mut world = World::new();
        world.vmm.deaf_set(true);
        world.set(vm(1), Target::Running);
        world.intend(vm(1), Target::Destroyed, |assignment| assignment.force = force);
        world.push();
        world.settle();
        assert_eq!(world.phase(vm(1)).0, if force { Phase::Destroyed } else { Phase::Stopping });
        world.pass(Duration::from_secs(90));
        assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
    }
}

#[test]
fn a_reboot_is_never_seen_as_a_stop_and_is_done_once() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.sent.clear();
    world.intend(vm(1), Target::Running, |assignment| {
        assignment.spec.as_mut().unwrap().reboots = 1;
    });
    world.push();
    world.settle();
    assert_eq!(world.phases_sent(vm(1)), [Phase::Running]);
    assert_eq!(world.steps.iter().filter(|step| **step == LaunchStep::VmStarted).count(), 2);
    assert_eq!(world.disk.vms[&vm(1)].reboots_done, 1);
    world.push();
    world.agent_start();
    world.settle();
    assert_eq!(world.steps.iter().filter(|step| **step == LaunchStep::VmStarted).count(), 2);
}

#[test]
fn a_vm_that_dies_is_started_again_within_a_budget() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    for restarts in 1..=3 {
        world.vmm.crash(world.now, vm(1), "killed by signal 9");
        world.pass(Duration::from_millis(100));
        assert_eq!(world.status(vm(1)).message, "killed by signal 9");
        world.pass(Duration::from_secs(5));
        assert_eq!(world.phase(vm(1)), RUNNING);
        assert_eq!(world.status(vm(1)).restarts, restarts);
    }
    world.vmm.crash(world.now, vm(1), "killed by signal 9");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Failed));
    assert_eq!(world.status(vm(1)).message, "gave up after 3 restarts: killed by signal 9");
    world.agent_start();
    world.settle();
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Failed));
    world.set(vm(1), Target::Running);
    assert_eq!(world.phase(vm(1)), RUNNING);
}

#[test]
fn a_host_that_goes_down_stops_its_guests_and_starts_them_when_it_is_back() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.set(vm(2), Target::Running);
    world.set(vm(2), Target::Stopped);
    world.sent.clear();
    world.event(Event::PowerOff);
    world.settle();
    assert_eq!(world.all_stopped, 1);
    assert!(world.guests().is_empty());
    assert!(!world.phases_sent(vm(1)).contains(&Phase::Stopped));
    world.agent_start();
    world.settle();
    assert_eq!(world.guests(), [vm(1)]);
    assert_eq!(world.phase(vm(1)), RUNNING);
}

#[test]
fn a_host_whose_agent_dies_while_it_goes_down_does_not_blame_its_guests() {
    // The guest goes off before the next agent looks, or after.
    for halts_first in [true, false] {
        let mut world = World::new();
        world.set(vm(1), Target::Running);
        world.set(vm(2), Target::Running);
        world.event(Event::PowerOff);
        assert!(world.disk.host.going_down);
        world.agent = agent(&world.disk);
        if halts_first {
            world.pass_without_agent(Duration::from_secs(1));
        }
        world.agent_start();
        world.settle();
        assert_eq!(world.guests(), [vm(1), vm(2)], "halts first: {halts_first}");
        assert_eq!(world.phase(vm(1)), RUNNING);
        assert!(!world.disk.host.going_down, "forgotten once all are back");
        world.vmm.guest_shutdown(world.now, vm(1));
        world.settle();
        assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::Guest));
    }
}

#[test]
fn no_power_button_is_pressed_before_the_ledger_knows_that_the_host_goes_down() {
    let mut agent = agent(&Ledger::default());
    let now = Timestamp::from_unix_ms(1_000);
    agent.apply(now, Event::Surveyed(Vec::new()));
    let effects = agent.apply(now, Event::PowerOff);
    let [Effect::Persist { ticket, change }] = effects.as_slice() else { panic!("{effects:?}") };
    assert!(change.host.unwrap().going_down);
    let effects = agent.apply(now, Event::Persisted { ticket: *ticket, result: Ok(()) });
    assert_eq!(effects, [Effect::AllStopped]);
}

#[test]
fn a_vm_whose_record_is_lost_is_left_alone_until_it_is_named() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.disk.vms.clear();
    world.disk.damaged.insert(vm(1), "fails its checksum".into());
    world.agent_start();
    world.settle();
    assert_eq!(world.guests(), [vm(1)]);
    assert_eq!(world.agent.status().orphans, [vm(1).to_string()]);
    assert_eq!(world.agent.unrecorded().count(), 1);
    world.set(vm(1), Target::Running);
    assert_eq!(world.phase(vm(1)), RUNNING);
    assert!(world.agent.status().orphans.is_empty());
    // The same, and the first word about it is its tombstone: there is something to destroy.
    world.disk.vms.clear();
    world.disk.damaged.insert(vm(1), "fails its checksum".into());
    world.agent_start();
    world.set(vm(1), Target::Destroyed);
    assert!(world.guests().is_empty());
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
}

#[test]
fn a_document_that_cannot_be_right_is_held_whole() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    let break_it: [fn(&mut HostDocument); 4] = [
        |document| document.vms[0].target = Target::Claimed.into(),
        |document| document.vms[0].spec = None,
        |document| document.vms.push(document.vms[0].clone()),
        |document| {
            let template = document.vms[0].clone();
            document.vms.extend((10..2000).map(|number| {
                let mut more = template.clone();
                more.spec.as_mut().unwrap().instance_id = vm(number).to_string();
                more
            }));
        },
    ];
    for change in break_it {
        let mut document = world.document();
        document.generation = Some(Generation::new(1, 99).into());
        change(&mut document);
        world.event(Event::Cell(ToHost { term: 1, message: Some(to_host::Message::Document(document)) }));
        world.settle();
        let status = world.agent.status();
        assert!(status.document_held.starts_with("document 1.99 is held: "), "{}", status.document_held);
        assert_eq!(status.document_generation, Some(Generation::new(1, 1).into()));
        assert_eq!(world.phase(vm(1)), RUNNING);
    }
}

#[test]
fn changes_of_a_document_come_to_the_same_as_the_whole() {
    let mut changed = World::new();
    let mut whole = World::new();
    for world in [&mut changed, &mut whole] {
        world.set(vm(1), Target::Running);
    }
    for (number, target) in [(2, Target::Running), (3, Target::Stopped), (1, Target::Destroyed)] {
        let base = changed.revision;
        changed.intend(vm(number), target, |_| {});
        changed.push_change(base, &[vm(number)]);
        changed.settle();
        whole.set(vm(number), target);
    }
    for gone in [1, 2] {
        for world in [&mut changed, &mut whole] {
            world.assignments.remove(&vm(gone));
            world.revision += 1;
        }
        changed.push_change(changed.revision - 1, &[vm(gone)]);
        whole.push();
    }
    assert_eq!(changed.agent.status(), whole.agent.status());
    assert_eq!(changed.agent.status().orphans, [vm(2).to_string()]);
    assert_eq!(changed.disk, whole.disk);
    assert_eq!(changed.guests(), [vm(2)], "what is named no more lives");
}

#[test]
fn a_change_is_taken_once_and_of_the_newest_document_only() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.intend(vm(2), Target::Running, |_| {});
    for base in [0, 2, 7] {
        world.push_change(base, &[vm(2)]);
        assert_eq!((world.document_revision(), world.disk.vms.len()), (1, 1), "base {base}");
    }
    world.push_change(1, &[vm(2)]);
    world.settle();
    assert_eq!((world.document_revision(), world.phase(vm(2))), (2, RUNNING));
    // Lost: the change to 3. What is based on it is not taken, and the whole document brings both.
    world.intend(vm(3), Target::Running, |_| {});
    world.intend(vm(2), Target::Stopped, |_| {});
    world.push_change(3, &[vm(2)]);
    world.settle();
    assert_eq!((world.document_revision(), world.phase(vm(2))), (2, RUNNING));
    world.push();
    world.settle();
    assert_eq!(world.guests(), [vm(1), vm(3)]);
    // Repeated, or late: nothing, not even for the disk.
    let (disk, steps) = (world.disk.clone(), world.steps.len());
    world.sent.clear();
    world.push_change(3, &[vm(2)]);
    world.push_change(1, &[vm(3)]);
    assert_eq!((&world.disk, world.steps.len(), world.sent.len()), (&disk, steps, 0));
}

#[test]
fn a_change_is_judged_by_what_would_be_after_it() {
    let mut world = World::new();
    for number in 1..=4 {
        world.set(vm(number), Target::Running);
    }
    let all = world.assignments.clone();
    let held = |world: &World| world.agent.status().document_held;
    world.revision += 1;
    world.assignments.retain(|id, _| *id == vm(4));
    world.push_change(4, &[vm(1), vm(2), vm(3)]);
    assert!(held(&world).contains("lacks 3 of the 4"), "{}", held(&world));
    world.assignments = all;
    for number in 10..1_010 {
        world.intend(vm(number), Target::Running, |_| {});
    }
    world.push_change(4, &(10..1_010).map(vm).collect::<Vec<_>>());
    assert!(held(&world).contains("there would be 1004 VMs"), "{}", held(&world));
    let mut twice = world.document();
    twice.base = Some(Generation::new(1, 4).into());
    twice.vms.truncate(1);
    twice.gone = vec![vm(1).to_string()];
    world.event(Event::Cell(ToHost { term: 1, message: Some(to_host::Message::Document(twice)) }));
    assert!(held(&world).contains("gone from it"), "{}", held(&world));
    assert_eq!((world.document_revision(), world.guests().len()), (4, 4));
}

#[test]
fn between_heartbeats_only_news_is_sent() {
    let mut world = World::new();
    for number in 1..=3 {
        world.set(vm(number), Target::Running);
    }
    let statuses = |world: &World| -> Vec<(bool, Vec<String>)> {
        let status = |message: &FromHost| match &message.message {
            Some(from_host::Message::Status(status)) => {
                let vms = status.vms.iter().map(|vm| vm.instance_id.clone()).collect();
                Some((status.partial, vms))
            }
            _ => None,
        };
        world.sent.iter().filter_map(status).collect()
    };
    world.sent.clear();
    world.event(Event::CellUp);
    world.sent.clear();
    world.intend(vm(2), Target::Stopped, |_| {});
    world.push();
    world.pass(Duration::from_millis(500));
    let news = statuses(&world);
    assert!(news.iter().all(|(partial, vms)| *partial && *vms == [vm(2).to_string()]), "{news:?}");
    assert_eq!(world.phase(vm(2)).0, Phase::Stopped);
    world.sent.clear();
    world.pass(Duration::from_secs(2));
    let all = (1..=3).map(|number| vm(number).to_string()).collect::<Vec<_>>();
    assert_eq!(statuses(&world), [(false, all)]);
}

#[test]
fn a_heartbeat_is_sent_every_two_seconds_and_nothing_without_a_link() {
    let mut world = World::new();
    world.settle();
    world.sent.clear();
    world.pass(Duration::from_secs(10));
    assert!((4..=6).contains(&world.sent.len()), "{}", world.sent.len());
    world.event(Event::CellDown);
    world.sent.clear();
    world.set(vm(1), Target::Running);
    assert!(world.sent.is_empty());
    world.event(Event::CellUp);
    assert!(matches!(world.sent[0].message, Some(from_host::Message::Hello(_))));
    assert!(matches!(world.sent[1].message, Some(from_host::Message::Status(_))));
}

#[test]
fn a_console_is_read_bounded_and_of_known_vms_only() {
    let mut world = World::new();
    world.set(vm(1), Target::Running);
    world.sent.clear();
    for (request_id, number) in [(1, 1), (2, 2)] {
        let instance_id = vm(number).to_string();
        let read = ConsoleRead { request_id, instance_id, bytes_max: 10 };
        world.event(Event::Cell(ToHost { term: 1, message: Some(to_host::Message::ConsoleRead(read)) }));
    }
    world.pass(Duration::from_millis(50));
    let answers: Vec<ConsoleData> = world
        .sent
        .iter()
        .filter_map(|message| match &message.message {
            Some(from_host::Message::Console(console)) => Some(console.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), 2);
    assert!(answers[0].unknown && answers[0].request_id == 2);
    assert_eq!(answers[1].data, b"00000001\r\n");
}

#[test]
fn a_vm_that_waits_for_its_cards_says_so_takes_others_and_can_be_stopped() {
    let waiting = || {
        let mut world = World::new();
        world.intend(vm(1), Target::Running, |assignment| cards_set(assignment, 2));
        world.push();
        // The driver has begun, and does not come to an end.
        world.vmm.power_lost();
        let why = String::from("no switch");
        world.event(Event::Vmm { vm: vm(1), event: VmmEvent::Waiting { why } });
        world.pass(Duration::from_secs(300));
        assert_eq!(
            (world.phase(vm(1)).0, world.status(vm(1)).message.as_str()),
            (Phase::Starting, "no switch")
        );
        assert_eq!((world.status(vm(1)).restarts, world.cards.as_slice()), (0, [("start", 2)].as_slice()));
        world
    };

    let mut world = waiting();
    world.event(Event::Vmm { vm: vm(1), event: VmmEvent::Started });
    assert_eq!((world.phase(vm(1)), world.status(vm(1)).message), (RUNNING, String::new()));

    let mut world = waiting();
    world.intend(vm(1), Target::Running, |assignment| cards_set(assignment, 1));
    world.push();
    assert_eq!(world.cards, [("start", 2), ("start", 1)]);
    world.settle();
    assert_eq!(world.phase(vm(1)), RUNNING);

    let mut world = waiting();
    world.set(vm(1), Target::Stopped);
    assert_eq!(world.phase(vm(1)), (Phase::Stopped, StopCause::PoweredOff));

    let mut world = waiting();
    world.set(vm(1), Target::Destroyed);
    assert_eq!(world.phase(vm(1)).0, Phase::Destroyed);
}

#[test]
fn a_running_vm_is_given_the_cards_of_its_newest_assignment() {
    let mut world = World::new();
    world.intend(vm(1), Target::Running, |assignment| cards_set(assignment, 1));
    world.push();
    world.settle();
    world.set(vm(1), Target::Running);
    assert_eq!(world.cards, [("start", 1)], "nothing has changed");
    world.intend(vm(1), Target::Running, |assignment| cards_set(assignment, 2));
    world.push();
    world.settle();
    assert_eq!(world.cards, [("start", 1), ("running", 2)]);
    let missing = String::from("the guest sleeps");
    world.event(Event::Vmm { vm: vm(1), event: VmmEvent::Interfaces { missing } });
    assert_eq!(world.status(vm(1)).message, "the guest sleeps");
    world.event(Event::Vmm { vm: vm(1), event: VmmEvent::Interfaces { missing: String::new() } });
    assert_eq!(world.status(vm(1)).message, "");
    // What the agent before said, its successor does not know.
    world.agent_start();
    world.settle();
    assert_eq!(world.cards, [("start", 1), ("running", 2), ("running", 2)]);
}
