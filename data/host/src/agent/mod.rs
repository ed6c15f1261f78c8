//! The core of the host agent: what happens is an [`Event`], what to do about it a list of [`Effect`]s, to be
//! carried out in order. No clock, thread, socket or file: [`crate::serve`] and the simulator own those.
//!
//! Everything is decided on what the ledger durably holds. A change is first made to the record that *shall* be
//! held, written by `Persist` (one at a time, so that what arrives meanwhile is written together), and acted on at
//! `Persisted`.
//!
//! ```text
//!   document ─► record (shall be held) ─Persist─► disk ─Persisted─► held ─► VmmCommand, HostStatus
//! ```
//!
//! Invariants, checked by [`HostAgent::check`]: nothing starts that the ledger does not hold; a VM stopped for good
//! under an assignment does not start for it; only a tombstone destroys; absence never does.

mod document;
mod report;
#[cfg(test)]
mod tests;
mod vm;

use crate::ledger::{HostRecord, Ledger, LedgerChange, StopRecord, VmRecord};
use crate::vmm::{Found, VmmCommand, VmmEvent};
use base::clock::Timestamp;
use base::generation::{Attempt, Generation, Term};
use base::ids::{HostId, InstanceId, RackId};
use base::step::LaunchStep;
use contract::{
    ConsoleData, ConsoleRead, FromHost, HostDocument, HostHello, StopCause, Target, ToHost, VmAssignment,
    VmInterface, VmStatus, from_host, to_host,
};
use document::Changes;
use report::Told;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vm::{Action, Heard, Purpose, VmState, Want};

/// A host takes no more VMs than this.
pub const VMS_MAX: usize = 1_000;
/// The largest piece of a console that is sent, in bytes.
pub const CONSOLE_BYTES_MAX: u32 = 64 * 1024;
const PERSIST_AGAIN: Duration = Duration::from_secs(1);

/// Which host this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Its name.
    pub host: HostId,
    /// Its rack's name.
    pub rack: RackId,
}

/// What it has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCapacity {
    /// As the operator configured it.
    pub vcpus: u32,
    /// As the operator configured it.
    pub memory_mib: u32,
    /// `kvm`, `tcg` or `simulated`; see [`Event::AcceleratorKnown`].
    pub accelerator: String,
    /// How long a guest has to shut down when asked.
    pub shutdown_timeout: Duration,
    /// How often a VM that dies is started again...
    pub restarts_max: u32,
    /// ...within this time. The first restart waits one second, each further one twice as long.
    pub restart_window: Duration,
}

impl Default for HostCapacity {
    fn default() -> Self {
        HostCapacity {
            vcpus: 0,
            memory_mib: 0,
            accelerator: String::from("simulated"),
            shutdown_timeout: Duration::from_secs(90),
            restarts_max: 3,
            restart_window: Duration::from_secs(600),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What the driver found at the start. Before it no VM is touched and no status sent.
    Surveyed(Vec<Found>),
    /// The link to the cell is up.
    CellUp,
    /// The link to the cell is down.
    CellDown,
    /// The cell said something.
    Cell(ToHost),
    /// The answer to [`Effect::Persist`].
    Persisted {
        /// Of the effect.
        ticket: u64,
        /// Why it failed, if so: it is tried again.
        result: Result<(), String>,
    },
    /// The driver said something about a VM.
    Vmm {
        /// Which.
        vm: InstanceId,
        /// What.
        event: VmmEvent,
    },
    /// Time has passed. At least once a second.
    Tick,
    /// It is now known what runs the guests.
    AcceleratorKnown(String),
    /// The machine goes down: shut every guest down, without a change of intent.
    PowerOff,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable, then answer with [`Event::Persisted`]. At most one is outstanding.
    Persist {
        /// For the answer.
        ticket: u64,
        /// What.
        change: LedgerChange,
    },
    /// Say this to the cell.
    ToCell(FromHost),
    /// Have the driver do this.
    Vmm {
        /// With which VM.
        vm: InstanceId,
        /// What.
        command: VmmCommand,
    },
    /// A launch has come this far.
    Step(LaunchStep),
    /// After [`Event::PowerOff`]: no guest runs any more. Said once.
    AllStopped,
}

/// One VM, with or without a record.
struct Vm {
    /// What the ledger shall hold.
    record: Option<VmRecord>,
    /// What it durably holds.
    held: Option<VmRecord>,
    state: VmState,
    /// When it died lately; bounded by the restart budget.
    deaths: Vec<Timestamp>,
    restarts: u32,
    /// The last failure; empty if there was none.
    message: String,
    /// The network cards that the driver was last told of; `None`: of none since this agent started.
    cards: Option<Vec<VmInterface>>,
    /// Why the running VM has not got these cards; empty if it has.
    cards_missing: String,
    /// What the cell was told of it on this link.
    told: Option<VmStatus>,
}

impl Vm {
    fn new(held: Option<VmRecord>, state: VmState) -> Self {
        let record = held.clone();
        Vm {
            record,
            held,
            state,
            deaths: Vec::new(),
            restarts: 0,
            message: String::new(),
            cards: None,
            cards_missing: String::new(),
            told: None,
        }
    }

    /// The ledger wants it to run.
    fn runs_by_record(&self) -> bool {
        let runs = |held: &VmRecord| held.target() == Target::Running && !held.stopped_for_good();
        self.held.as_ref().is_some_and(runs)
    }
}

/// How far the host is with powering its guests off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PowerOffStage {
    /// It does not.
    No,
    /// It was told to, and the ledger is being told: until then no power button is pressed and nothing starts.
    Unwritten,
    /// Guests go down.
    Now,
}

struct InFlight {
    ticket: u64,
    change: LedgerChange,
}

/// The host agent's core.
pub struct HostAgent {
    identity: HostIdentity,
    capacity: HostCapacity,
    link_up: bool,
    surveyed: bool,
    going_down: bool,
    all_stopped_said: bool,
    host: HostRecord,
    host_held: HostRecord,
    vms: BTreeMap<InstanceId, Vm>,
    /// VMs whose record is not yet on its way to the disk.
    dirty: BTreeSet<InstanceId>,
    in_flight: Option<InFlight>,
    ticket_last: u64,
    persist_not_before: Timestamp,
    /// Not empty: why the ledger cannot be written.
    ledger_failure: String,
    /// Not empty: why the newest document is not taken.
    document_held: String,
    told: Told,
}

impl HostAgent {
    /// An agent that continues from `ledger`. It touches nothing before [`Event::Surveyed`].
    pub fn recover(identity: HostIdentity, capacity: HostCapacity, ledger: Ledger) -> HostAgent {
        let mut vms = BTreeMap::new();
        for (id, why) in ledger.damaged {
            let mut vm = Vm::new(None, VmState::Unsurveyed);
            vm.message = why;
            vms.insert(id, vm);
        }
        for (id, record) in ledger.vms {
            let state = if record.destroyed { VmState::Destroyed } else { VmState::Unsurveyed };
            vms.insert(id, Vm::new(Some(record), state));
        }
        HostAgent {
            identity,
            capacity,
            link_up: false,
            surveyed: false,
            going_down: false,
            all_stopped_said: false,
            host: ledger.host,
            host_held: ledger.host,
            vms,
            dirty: BTreeSet::new(),
            in_flight: None,
            ticket_last: 0,
            persist_not_before: Timestamp::default(),
            ledger_failure: String::new(),
            document_held: String::new(),
            told: Told::default(),
        }
    }

    /// Takes in what happened and says what to do about it.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Surveyed(found) => self.surveyed(&found, now, &mut effects),
            Event::CellUp => self.cell_up(&mut effects),
            Event::CellDown => self.link_up = false,
            Event::Cell(message) => self.cell_said(message, &mut effects),
            Event::Persisted { ticket, result } => self.persisted(ticket, result, now, &mut effects),
            Event::Vmm { vm, event } => self.vmm_said(vm, event, now, &mut effects),
            Event::Tick => self.pursue_all(now, &mut effects),
            Event::AcceleratorKnown(accelerator) => self.capacity.accelerator = accelerator,
            Event::PowerOff => {
                self.going_down = true;
                self.host.going_down = true;
                self.pursue_all(now, &mut effects);
            }
        }
        self.going_down_forget();
        self.flush(now, &mut effects);
        effects.extend(self.report(now).map(Effect::ToCell));
        if self.going_down && self.surveyed && !self.all_stopped_said && self.all_down() {
            self.all_stopped_said = true;
            effects.push(Effect::AllStopped);
        }
        debug_assert_eq!(self.check(), Ok(()));
        effects
    }

    fn surveyed(&mut self, found: &[Found], now: Timestamp, effects: &mut Vec<Effect>) {
        self.surveyed = true;
        for vm in self.vms.values_mut().filter(|vm| vm.state == VmState::Unsurveyed) {
            vm.state = VmState::Down { rebooting: false };
        }
        for &Found { vm: id, halted } in found {
            let vm = self.vms.entry(id).or_insert_with(|| {
                let mut stray = Vm::new(None, VmState::Unsurveyed);
                stray.message = "it runs here, but the ledger does not know it".into();
                stray
            });
            if vm.held.as_ref().is_some_and(|held| held.destroyed) {
                vm.state = VmState::Destroying { again_at: now };
                continue;
            }
            vm.state = VmState::Running;
            if halted {
                self.halted_unseen(id, now);
            } else if self.host_held.going_down && vm.runs_by_record() {
                // It may have heard the power button, and go off at any moment: what was begun is finished.
                let deadline = now + self.capacity.shutdown_timeout;
                vm.state = VmState::Asked { purpose: Purpose::HostDown, deadline, again_at: now };
            }
        }
        self.pursue_all(now, effects);
    }

    /// A guest went down while no agent looked: asked, if the ledger had it on its way down, else by itself.
    fn halted_unseen(&mut self, id: InstanceId, now: Timestamp) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let asked = vm.held.as_ref().and_then(|held| match held.target() {
            Target::Stopped => Some(Purpose::Stop(held.generation())),
            Target::Destroyed => Some(Purpose::Destroy),
            _ if self.host_held.going_down => Some(Purpose::HostDown),
            _ if held.reboots_done < held.reboots() => Some(Purpose::Reboot),
            _ => None,
        });
        if let Some(purpose) = asked {
            vm.state = VmState::Asked { purpose, deadline: now, again_at: now };
        }
        self.hear(id, VmmEvent::GuestShutdown, now);
    }

    /// The ledger forgets that the host was going down once every guest that this concerned is back.
    fn going_down_forget(&mut self) {
        let concerned = |vm: &Vm| vm.state.purpose() == Some(Purpose::HostDown);
        if self.surveyed && !self.going_down && self.host.going_down && !self.vms.values().any(concerned) {
            self.host.going_down = false;
        }
    }

    /// Whether guests go down with the host: told to, and the ledger knows, so that a successor of this agent does
    /// not take their ends for their own doing. A ledger that cannot be written does not hold a host up.
    fn power_off_stage(&self) -> PowerOffStage {
        match (self.going_down, self.host_held.going_down || !self.ledger_failure.is_empty()) {
            (false, _) => PowerOffStage::No,
            (true, false) => PowerOffStage::Unwritten,
            (true, true) => PowerOffStage::Now,
        }
    }

    fn cell_up(&mut self, effects: &mut Vec<Effect>) {
        self.link_up = true;
        self.told.forget();
        effects.push(Effect::ToCell(FromHost {
            message: Some(from_host::Message::Hello(HostHello {
                host_id: self.identity.host.to_string(),
                rack_id: self.identity.rack.to_string(),
                vcpus: self.capacity.vcpus,
                memory_mib: self.capacity.memory_mib,
                accelerator: self.capacity.accelerator.clone(),
            })),
        }));
    }

    fn cell_said(&mut self, message: ToHost, effects: &mut Vec<Effect>) {
        let term = Term(message.term);
        if term < self.host.term {
            // The status that answers it carries the higher term.
            self.told.forget();
            return;
        }
        self.host.term = term;
        match message.message {
            Some(to_host::Message::Document(document)) => self.document_take(document),
            Some(to_host::Message::ConsoleRead(read)) => self.console_read(read, effects),
            None => {}
        }
    }

    fn document_take(&mut self, document: HostDocument) {
        let generation = contract::convert::generation(document.generation);
        let newest = self.host.document_generation;
        if generation < newest {
            self.told.forget();
            return;
        }
        if let Some(base) = document.base {
            // Against another document, or taken already. If something is missing, the whole document brings it.
            if generation == newest || contract::convert::generation(Some(base)) != newest {
                return;
            }
        }
        let of_restored = newest != Generation::ZERO && generation.incarnation > newest.incarnation;
        let read = Changes::read(document, &self.vms)
            .and_then(|changes| changes.judge(&self.vms, of_restored).map(|()| changes));
        let changes = match read {
            Ok(changes) => changes,
            Err(why) => {
                self.document_held = format!("document {generation} is held: {why}");
                return;
            }
        };
        self.document_held.clear();
        self.host.document_generation = generation;
        for (id, assignment) in &changes.assignments {
            self.assignment_take(*id, assignment);
        }
        for id in changes.gone {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            let Some(record) = vm.record.as_mut() else { continue };
            if record.destroyed {
                vm.record = None;
            } else if !record.orphan {
                record.orphan = true;
            } else {
                continue;
            }
            self.told.touch(id);
            self.dirty.insert(id);
        }
    }

    fn assignment_take(&mut self, id: InstanceId, assignment: &VmAssignment) {
        let record = self.vms.get(&id).and_then(|vm| vm.record.as_ref());
        let Some(mut merged) = document::merge(record, assignment) else { return };
        let fresh = || {
            let gone = merged.destroyed;
            let state = if gone { VmState::Destroyed } else { VmState::Down { rebooting: false } };
            Vm::new(None, if self.surveyed || gone { state } else { VmState::Unsurveyed })
        };
        let vm = self.vms.entry(id).or_insert_with(fresh);
        // Its record was lost, but it, or its files, may be here: the tombstone has something to do.
        merged.destroyed &= vm.state == VmState::Destroyed;
        vm.record = Some(merged);
        self.told.touch(id);
        self.dirty.insert(id);
    }

    fn console_read(&mut self, read: ConsoleRead, effects: &mut Vec<Effect>) {
        let id = read.instance_id.parse().ok();
        let here = id.filter(|id| self.vms.get(id).is_some_and(|vm| vm.state != VmState::Destroyed));
        if let Some(vm) = here {
            let bytes_max = read.bytes_max.min(CONSOLE_BYTES_MAX);
            let command = VmmCommand::ConsoleRead { request_id: read.request_id, bytes_max };
            effects.push(Effect::Vmm { vm, command });
        } else if self.link_up {
            let (request_id, instance_id) = (read.request_id, read.instance_id);
            let answer = ConsoleData { request_id, instance_id, unknown: true, ..ConsoleData::default() };
            let message = Some(from_host::Message::Console(answer));
            effects.push(Effect::ToCell(FromHost { message }));
        }
    }

    fn persisted(
        &mut self,
        ticket: u64,
        result: Result<(), String>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(InFlight { change, .. }) = self.in_flight.take_if(|flight| flight.ticket == ticket) else {
            return;
        };
        if let Err(why) = result {
            self.ledger_failure = format!("the ledger cannot be written: {why}");
            self.persist_not_before = now + PERSIST_AGAIN;
            self.dirty.extend(change.vms.keys());
            return;
        }
        self.ledger_failure.clear();
        if let Some(host) = change.host {
            self.host_held = host;
        }
        let mut newly_running = false;
        let ids: Vec<InstanceId> = change.vms.keys().copied().collect();
        for (id, record) in change.vms {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            self.told.touch(id);
            let runs = |record: &Option<VmRecord>| {
                record.as_ref().is_some_and(|r| r.target() == Target::Running && !r.stopped_for_good())
            };
            newly_running |= runs(&record) && !runs(&vm.held);
            vm.held = record;
            if vm.held.is_none() && vm.record.is_none() {
                self.vms.remove(&id);
            }
        }
        if newly_running {
            effects.push(Effect::Step(LaunchStep::LedgerWritten));
        }
        if self.going_down {
            self.pursue_all(now, effects);
            return;
        }
        for id in ids {
            self.pursue(id, now, effects);
        }
    }

    fn vmm_said(&mut self, id: InstanceId, event: VmmEvent, now: Timestamp, effects: &mut Vec<Effect>) {
        if let VmmEvent::Console { request_id, data, written_unix_ms } = event {
            if self.link_up {
                let instance_id = id.to_string();
                let answer = ConsoleData { request_id, instance_id, data, written_unix_ms, unknown: false };
                let message = Some(from_host::Message::Console(answer));
                effects.push(Effect::ToCell(FromHost { message }));
            }
            return;
        }
        if self.hear(id, event, now) {
            effects.push(Effect::Step(LaunchStep::VmStarted));
        }
        self.pursue(id, now, effects);
    }

    /// Takes in a VMM's word. Says whether the VM has started.
    fn hear(&mut self, id: InstanceId, event: VmmEvent, now: Timestamp) -> bool {
        let Some(vm) = self.vms.get_mut(&id) else { return false };
        self.told.touch(id);
        match &event {
            VmmEvent::DestroyFailed { why } => vm.message.clone_from(why),
            VmmEvent::Interfaces { missing } => vm.cards_missing.clone_from(missing),
            _ => {}
        }
        let generation = vm.held.as_ref().map_or(Generation::ZERO, VmRecord::generation);
        let state = std::mem::replace(&mut vm.state, VmState::Unsurveyed);
        let (state, heard) = state.hear(event, generation, now);
        vm.state = state;
        match heard {
            Heard::Quiet => false,
            Heard::Started => true,
            Heard::Stopped(generation, cause, message) => {
                self.record_stop(id, StopRecord { generation, cause, message });
                false
            }
            Heard::Failed(why) => {
                self.failed(id, why, now);
                false
            }
        }
    }

    /// A VM died, or did not start: again in a while, or not any more.
    fn failed(&mut self, id: InstanceId, why: String, now: Timestamp) {
        let capacity = &self.capacity;
        let Some(vm) = self.vms.get_mut(&id) else { return };
        vm.message = why;
        let Some(held) = vm.held.as_ref().filter(|held| held.target() == Target::Running) else { return };
        let generation = held.generation();
        vm.deaths.retain(|death| now.since(*death) < capacity.restart_window);
        let recent = vm.deaths.len() as u32;
        if recent < capacity.restarts_max {
            vm.deaths.push(now);
            vm.restarts = vm.restarts.saturating_add(1);
            vm.state = VmState::Resting { until: now + Duration::from_secs(1 << recent.min(6)) };
            return;
        }
        vm.deaths.clear();
        let message = format!("gave up after {recent} restarts: {}", vm.message);
        self.record_stop(id, StopRecord { generation, cause: StopCause::Failed, message });
    }

    /// Has the ledger remember why a VM is stopped. The first cause under a generation stays.
    fn record_stop(&mut self, id: InstanceId, stopped: StopRecord) {
        let Some(record) = self.vms.get_mut(&id).and_then(|vm| vm.record.as_mut()) else { return };
        if record.stopped.as_ref().is_some_and(|known| known.generation >= stopped.generation) {
            return;
        }
        record.stopped = Some(stopped);
        self.dirty.insert(id);
    }

    fn pursue_all(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let ids: Vec<InstanceId> = self.vms.keys().copied().collect();
        for id in ids {
            self.pursue(id, now, effects);
        }
    }

    fn pursue(&mut self, id: InstanceId, now: Timestamp, effects: &mut Vec<Effect>) {
        let pending = self.pending(id);
        let stage = self.power_off_stage();
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let want = want(vm.held.as_ref(), stage);
        let (state, action) = vm.state.clone().pursue(want, pending, now, self.capacity.shutdown_timeout);
        if state != vm.state {
            vm.state = state;
            self.told.touch(id);
        }
        let command = match action {
            None => {
                effects.extend(cards_command(vm).map(|command| Effect::Vmm { vm: id, command }));
                return;
            }
            Some(Action::Start) => {
                let Some(command) = start_command(vm) else { return };
                command
            }
            Some(Action::ShutDown) => VmmCommand::ShutDown,
            Some(Action::PowerOff) => VmmCommand::PowerOff,
            Some(Action::Destroy) => VmmCommand::Destroy,
            Some(Action::RecordStop(generation, cause, message)) => {
                let message = if vm.message.is_empty() { message.into() } else { vm.message.clone() };
                return self.record_stop(id, StopRecord { generation, cause, message });
            }
            Some(Action::RecordStart) => {
                let Some(record) = &mut vm.record else { return };
                record.stopped = None;
                record.reboots_done = record.reboots();
                self.dirty.insert(id);
                return;
            }
            Some(Action::RecordDestroyed) => {
                let Some(record) = vm.record.as_mut().filter(|record| !record.destroyed) else { return };
                record.destroyed = true;
                if record.orphan {
                    vm.record = None;
                }
                self.dirty.insert(id);
                return;
            }
        };
        effects.push(Effect::Vmm { vm: id, command });
    }

    /// Whether the ledger is still to be written, or being written, about this VM.
    fn pending(&self, id: InstanceId) -> bool {
        self.dirty.contains(&id) || self.in_flight.as_ref().is_some_and(|f| f.change.vms.contains_key(&id))
    }

    /// Sends what is dirty to the disk, unless something is on its way.
    fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let nothing = self.dirty.is_empty() && self.host == self.host_held;
        if nothing || self.in_flight.is_some() || now < self.persist_not_before {
            return;
        }
        let record = |id| (id, self.vms.get(&id).and_then(|vm: &Vm| vm.record.clone()));
        let vms = std::mem::take(&mut self.dirty).into_iter().map(record).collect();
        let change = LedgerChange { host: (self.host != self.host_held).then_some(self.host), vms };
        self.ticket_last += 1;
        let ticket = self.ticket_last;
        self.in_flight = Some(InFlight { ticket, change: change.clone() });
        effects.push(Effect::Persist { ticket, change });
    }

    /// VMs without a readable record, and what is known of that.
    pub fn unrecorded(&self) -> impl Iterator<Item = (InstanceId, &str)> {
        let unrecorded = self.vms.iter().filter(|(_, vm)| vm.record.is_none() && vm.held.is_none());
        unrecorded.map(|(id, vm)| (*id, vm.message.as_str()))
    }

    /// The VMs that may have a process here, with the placement that they belong to (0 where no record says).
    pub fn running(&self) -> impl Iterator<Item = (InstanceId, Attempt)> + '_ {
        let with_process = self.vms.iter().filter(|(_, vm)| vm.state.has_process());
        with_process.map(|(id, vm)| (*id, vm.held.as_ref().map_or(Attempt(0), VmRecord::attempt)))
    }

    /// Whether the machine may go down. VMs that no record claims are left to it.
    fn all_down(&self) -> bool {
        self.in_flight.is_none()
            && self.dirty.is_empty()
            && self.vms.values().all(|vm| vm.held.is_none() || !vm.state.has_process())
    }

    /// What must hold after every event; for the simulator and debug builds. The error says what does not.
    pub fn check(&self) -> Result<(), String> {
        if self.vms.len() > VMS_MAX {
            return Err(format!("{} VMs on one host", self.vms.len()));
        }
        if self.host_held.term > self.host.term
            || self.host_held.document_generation > self.host.document_generation
        {
            return Err(String::from("the ledger is ahead of the agent"));
        }
        for (id, vm) in &self.vms {
            match (&vm.state, &vm.held) {
                (VmState::Starting { .. } | VmState::Resting { .. }, None) => {
                    return Err(format!("{id} starts, but the ledger does not hold it"));
                }
                (VmState::Starting { .. }, Some(held)) if held.destroyed => {
                    return Err(format!("{id} starts, but it is destroyed"));
                }
                (VmState::Starting { .. }, Some(held))
                    if held.target() == Target::Running && held.stopped_for_good() =>
                {
                    return Err(format!("{id} starts under the intent under which it was stopped"));
                }
                (state, Some(held)) if held.destroyed && state.has_process() => {
                    return Err(format!("{id} is destroyed and has a process"));
                }
                _ => {}
            }
        }
        self.told_check()
    }
}

fn start_command(vm: &mut Vm) -> Option<VmmCommand> {
    let held = vm.held.as_ref()?;
    let spec = Box::new(held.assignment.spec.clone().unwrap_or_default());
    vm.cards = Some(spec.interfaces.clone());
    vm.cards_missing.clear();
    Some(VmmCommand::Start { spec, attempt: held.attempt() })
}

/// Has a VM have the network cards of its record, if the driver has not been told of them.
fn cards_command(vm: &mut Vm) -> Option<VmmCommand> {
    let interfaces = &vm.held.as_ref()?.assignment.spec.as_ref()?.interfaces;
    if vm.cards.as_ref() == Some(interfaces) {
        return None;
    }
    match &vm.state {
        VmState::Running => {
            let interfaces = interfaces.clone();
            vm.cards = Some(interfaces.clone());
            Some(VmmCommand::Interfaces { interfaces })
        }
        // What it waits for may be what it shall not have any more.
        VmState::Starting { waits_for: Some(_), .. } => start_command(vm),
        _ => None,
    }
}

/// What the held record makes of a VM.
fn want(held: Option<&VmRecord>, power_off: PowerOffStage) -> Want {
    let Some(held) = held else { return Want::Leave };
    let (generation, force) = (held.generation(), held.assignment.force);
    match held.target() {
        Target::Destroyed => Want::Destroy { force },
        Target::Stopped => Want::Stop { generation, force, recorded: held.stopped.is_some() },
        Target::Running if held.stopped_for_good() => Want::Stop { generation, force: false, recorded: true },
        Target::Running if power_off == PowerOffStage::Unwritten => Want::Leave,
        Target::Running if power_off == PowerOffStage::Now => Want::Rest,
        Target::Running => {
            let reboot = held.reboots_done < held.reboots();
            Want::Run { reboot, prepare: reboot || held.stopped.is_some() }
        }
        // No document with such a target is taken.
        Target::Unspecified | Target::Claimed | Target::Released => Want::Leave,
    }
}
