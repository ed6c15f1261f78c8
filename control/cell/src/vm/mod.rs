//! The VMs of a cell: what the owner does about one VM, from the region's intent to its last acknowledgement.

pub mod reconcile;
pub mod record;
#[cfg(test)]
mod tests;

pub use reconcile::{Intent, Observed};

use crate::cell::{Cell, Effect, REPORTS_MAX, RESEND_AFTER};
use crate::placement::{HostFacts, PlaceRequest, Placed, Refusal, Room, plan};
use base::clock::Timestamp;
use base::generation::{Attempt, Generation};
use base::ids::{AccountId, HostId, InstanceId};
use base::step::LaunchStep;
use contract::{FromCell, Phase, StopCause, Target, VmReport, VmReportAck, from_cell};
use metastore::{CommitError, Revision};
use reconcile::Decision;
use record::{Line, Place, VmRecord, VmState};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

/// VMs of one RunInstances call.
pub(crate) type ReservationKey = (AccountId, String);

/// All that the owner knows of one VM.
#[derive(Default)]
pub(crate) struct Vm {
    pub(crate) committed: Option<(VmRecord, Revision)>,
    in_flight: Option<Change>,
    /// The newest intent that came while a commit was under way.
    waiting: Option<Intent>,
    observed: Option<Observed>,
    reported: Option<(VmReport, Timestamp)>,
    acknowledged: Option<(Attempt, Generation, Phase)>,
    /// The region has committed that it is gone.
    forget: bool,
    /// The attempt of which a host has said, in this process's life, that it runs.
    seen_running: Option<Attempt>,
    /// Its host is elsewhere on the underlay than was last reported.
    moved: bool,
}

/// A commit under way.
struct Change {
    /// The record that it makes; `None` deletes it.
    next: Option<VmRecord>,
    purpose: Purpose,
}

enum Purpose {
    /// A provisional claim; the intent, to refuse it if the store does.
    Claim(Box<Intent>),
    /// The first confirmation of an attempt.
    Confirm,
    Other,
}

/// What of a VM stands in the owner's indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Footprint {
    /// Room held, also by a commit under way.
    pub(crate) rooms: Vec<(HostId, Room)>,
    /// Whose document names it.
    pub(crate) document: Option<HostId>,
    /// Which siblings it shall be spread from, while it holds room.
    pub(crate) reservation: Option<ReservationKey>,
}

impl Vm {
    fn record(&self) -> Option<&VmRecord> {
        self.committed.as_ref().map(|(record, _)| record)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_none() && self.in_flight.is_none() && self.waiting.is_none()
    }

    /// The host whose document names this VM.
    pub(crate) fn document_host(&self) -> Option<&HostId> {
        let record = self.record()?;
        record.assigned()?;
        record.place.as_ref().map(|place| &place.host)
    }

    /// This VM has been confirmed and its host has not said yet that it runs.
    pub(crate) fn launching(&self) -> bool {
        let running =
            |record: &VmRecord| record.state == VmState::Running && self.seen_running != Some(record.attempt);
        self.record().is_some_and(running)
    }

    pub(crate) fn footprint(&self) -> Footprint {
        // Until a commit ends, both what was and what will be is taken.
        let now = self.record();
        let next = self.in_flight.as_ref().and_then(|change| change.next.as_ref());
        let mut rooms: Vec<(HostId, Room)> = Vec::new();
        for (host, room) in [now, next].into_iter().flatten().filter_map(VmRecord::room) {
            match rooms.iter_mut().find(|(taken, _)| taken == host) {
                Some((_, taken)) => *taken = taken.larger(room),
                None => rooms.push((host.clone(), room)),
            }
        }
        let holder = next.or(now).filter(|_| !rooms.is_empty());
        Footprint {
            rooms,
            document: self.document_host().cloned(),
            reservation: holder.map(|record| (record.account, record.spec.reservation_id.clone())),
        }
    }
}

impl Cell {
    /// The region wants something of a VM.
    pub(crate) fn vm_intent(&mut self, now: Timestamp, intent: Intent, out: &mut Vec<Effect>) {
        let instance = intent.instance;
        if let Some(vm) = self.vms.get_mut(&instance)
            && vm.in_flight.is_some()
        {
            let newer = vm.waiting.as_ref().is_none_or(|waiting| waiting.order() < intent.order());
            if newer {
                vm.waiting = Some(intent);
            }
            return;
        }
        let record = self.vms.get(&instance).and_then(Vm::record);
        if record.is_none() && self.graves.hold(&intent) {
            let report = reconcile::answer(&intent, Phase::Destroyed, String::new(), None);
            self.answer_send(report, out);
            return;
        }
        match reconcile::decide(record, &intent) {
            Decision::Answer => self.vm_report_send(now, instance, out),
            Decision::Refuse(why) => {
                let report = reconcile::answer(&intent, Phase::Refused, why.into(), None);
                self.answer_send(report, out);
            }
            Decision::Place { pin, state } => self.vm_place(now, intent, pin, state, out),
            Decision::Write(next) => {
                let launch = intent.target == Target::Running
                    && record.is_some_and(|record| matches!(record.state, VmState::Claimed { .. }));
                let purpose = if launch { Purpose::Confirm } else { Purpose::Other };
                if launch {
                    out.push(Effect::Step(LaunchStep::ConfirmReceived));
                }
                self.vm_write(instance, Some(*next), purpose, out);
            }
        }
    }

    /// Finds room for the VM and commits it, or says what each host lacks.
    fn vm_place(
        &mut self,
        now: Timestamp,
        intent: Intent,
        pin: Option<HostId>,
        state: VmState,
        out: &mut Vec<Effect>,
    ) {
        let claim = intent.target == Target::Claimed;
        if claim {
            out.push(Effect::Step(LaunchStep::ClaimReceived));
        }
        match self.vm_plan(now, &intent, pin.as_ref()) {
            Ok(Placed { host, rack, explanation }) => {
                let next = intent.record(state, Some(Place { host, rack }), explanation);
                let instance = intent.instance;
                let purpose = if claim { Purpose::Claim(Box::new(intent)) } else { Purpose::Other };
                self.vm_write(instance, Some(next), purpose, out);
            }
            Err(Refusal { message, explanation }) if claim => {
                let report = reconcile::answer(&intent, Phase::Refused, message, Some(explanation));
                self.answer_send(report, out);
            }
            // It halted, its room was given away, and nothing is left to start it again with.
            Err(Refusal { message, explanation }) => {
                let mut report = reconcile::answer(&intent, Phase::Stopped, message, Some(explanation));
                report.set_stop_cause(StopCause::Failed);
                report.host_id = pin.map(|host| host.to_string()).unwrap_or_default();
                self.answer_send(report, out);
            }
        }
    }

    fn vm_plan(&self, now: Timestamp, intent: &Intent, pin: Option<&HostId>) -> Result<Placed, Refusal> {
        let own = self.vms.get(&intent.instance).map(Vm::footprint).unwrap_or_default();
        let mut on_host: BTreeMap<&HostId, u32> = BTreeMap::new();
        let key = (intent.account, intent.spec.reservation_id.clone());
        let siblings = self.reservations.get(&key).into_iter().flatten();
        let footprints: Vec<Footprint> = siblings
            .filter(|sibling| **sibling != intent.instance)
            .filter_map(|sibling| self.vms.get(sibling).map(Vm::footprint))
            .collect();
        for (host, _) in footprints.iter().flat_map(|footprint| &footprint.rooms) {
            *on_host.entry(host).or_default() += 1;
        }
        let mut in_rack: BTreeMap<&str, u32> = BTreeMap::new();
        for (host, count) in &on_host {
            if let Some(record) = self.hosts.get(*host).and_then(|host| host.record.as_ref()) {
                *in_rack.entry(record.rack.as_str()).or_default() += count;
            }
        }
        let facts: Vec<HostFacts<'_>> = self
            .hosts
            .iter()
            .filter_map(|(id, host)| {
                let record = host.record.as_ref()?;
                let own = own.rooms.iter().find(|(place, _)| place == id).map(|(_, room)| *room);
                Some(HostFacts {
                    host: id,
                    rack: &record.rack,
                    capacity: record.capacity,
                    used: host.used.minus(own.unwrap_or_default()),
                    health: self.host_health(now, host),
                    siblings_on_host: on_host.get(id).copied().unwrap_or_default(),
                    siblings_in_rack: in_rack.get(record.rack.as_str()).copied().unwrap_or_default(),
                })
            })
            .collect();
        plan(&facts, &PlaceRequest { room: Room::of(&intent.spec), only: pin })
    }

    fn vm_write(
        &mut self,
        instance: InstanceId,
        next: Option<VmRecord>,
        purpose: Purpose,
        out: &mut Vec<Effect>,
    ) {
        let known = self.vms.get(&instance).and_then(|vm| vm.committed.as_ref()).map(|(_, known)| *known);
        self.vm_commit(instance, known, next.as_ref().map(VmRecord::encode), out);
        self.vm_change(instance, |vm| vm.in_flight = Some(Change { next, purpose }));
    }

    /// A commit on this VM has ended.
    pub(crate) fn vm_committed(
        &mut self,
        now: Timestamp,
        instance: InstanceId,
        result: Result<Revision, CommitError>,
        out: &mut Vec<Effect>,
    ) {
        // Whether it happened is not known: what it takes stays taken, and nothing more is tried, until the
        // cell starts anew from what is there.
        if matches!(result, Err(CommitError::Failed(_))) {
            return;
        }
        let taken = self.vm_change(instance, |vm| {
            let change = vm.in_flight.take();
            if let (Some(Change { next, .. }), Ok(revision)) = (&change, &result) {
                let before = vm.committed.take();
                vm.committed = next.clone().map(|record| (record, *revision));
                if vm.committed.is_none() {
                    // Nothing that was said of what is gone holds for what may come.
                    *vm = Vm { waiting: vm.waiting.take(), ..Vm::default() };
                }
                return change.map(|change| (change, before.map(|(record, _)| record)));
            }
            change.map(|change| (change, None))
        });
        let Some((change, before)) = taken else { return };
        match result {
            Ok(_) => self.vm_changed(now, instance, change, before, out),
            Err(error) => {
                // Of a full store it is said once, by the cell.
                if !matches!(error, CommitError::Full(_)) {
                    tracing::error!(%instance, %error, "the store refused a change of a VM");
                }
                self.unsettled.insert(instance);
                if let Purpose::Claim(intent) = change.purpose {
                    let message = "the cell's store refused the claim".into();
                    self.answer_send(reconcile::answer(&intent, Phase::Refused, message, None), out);
                }
            }
        }
        let waiting = self.vms.get_mut(&instance).and_then(|vm| vm.waiting.take());
        if let Some(intent) = waiting {
            self.vm_intent(now, intent, out);
        }
        // The waiting intent may have been all that was left of it.
        self.vm_change(instance, |_| ());
        // What the store has refused it would refuse again at once.
        if !self.unsettled.contains(&instance) {
            self.vm_settle(instance, out);
        }
    }

    /// Tries again what the store refused.
    pub(crate) fn vms_settle_again(&mut self, out: &mut Vec<Effect>) {
        for instance in std::mem::take(&mut self.unsettled) {
            self.vm_settle(instance, out);
        }
    }

    /// What follows from a change that is now durable: the launch's step, the document, the report.
    fn vm_changed(
        &mut self,
        now: Timestamp,
        instance: InstanceId,
        change: Change,
        before: Option<VmRecord>,
        out: &mut Vec<Effect>,
    ) {
        match change.purpose {
            Purpose::Claim(_) => out.push(Effect::Step(LaunchStep::ClaimCommitted)),
            Purpose::Confirm => out.push(Effect::Step(LaunchStep::VmIntended)),
            Purpose::Other => {}
        }
        let line_before = before.as_ref().and_then(VmRecord::line);
        let line_after = change.next.as_ref().and_then(VmRecord::line);
        if line_before != line_after {
            // A host does not change once it has heard of the VM, so one document at the most changes.
            let host = line_after.or(line_before).map(|line| line.host.clone());
            if let Some(host) = host {
                let line = (instance, line_after.map(Line::assignment));
                self.host_document_changed(now, &host, line, out);
            }
        }
        match (&change.next, before) {
            (None, Some(gone)) => self.graves.dig(now, &gone),
            (None, None) => {}
            (Some(_), _) => self.vm_report_send(now, instance, out),
        }
    }

    /// A host said something of a VM that is on it.
    pub(crate) fn vm_observed(
        &mut self,
        now: Timestamp,
        host: &HostId,
        instance: InstanceId,
        observed: Observed,
        out: &mut Vec<Effect>,
    ) {
        let Some(vm) = self.vms.get_mut(&instance) else { return };
        let on_this_host = vm.document_host() == Some(host);
        let assigned = vm.record().and_then(VmRecord::assigned);
        if !on_this_host || assigned.is_none_or(|assigned| assigned.attempt != observed.attempt) {
            return;
        }
        let fresh = vm.observed.as_ref().is_none_or(|before| observed.follows(before) && observed != *before);
        if fresh {
            if observed.phase == Phase::Running && vm.seen_running != Some(observed.attempt) {
                vm.seen_running = Some(observed.attempt);
                out.push(Effect::Step(LaunchStep::ReportReceived));
            }
            vm.observed = Some(observed);
            let report = self.vm_report(instance);
            let Some(vm) = self.vms.get(&instance) else { return };
            if report.as_ref() != vm.reported.as_ref().map(|(reported, _)| reported) {
                self.vm_report_send(now, instance, out);
            }
        }
        self.vm_settle(instance, out);
    }

    /// Commits what follows from what the host said and the region acknowledged.
    fn vm_settle(&mut self, instance: InstanceId, out: &mut Vec<Effect>) {
        let Some(vm) = self.vms.get(&instance).filter(|vm| vm.in_flight.is_none()) else { return };
        let Some(record) = vm.record() else { return };
        if let Some(next) = reconcile::settle(record, vm.observed.as_ref()) {
            self.vm_write(instance, Some(next), Purpose::Other, out);
        } else if vm.forget && record.state == VmState::Destroyed {
            self.vm_write(instance, None, Purpose::Other, out);
        }
    }

    /// The region has committed what a report said.
    pub(crate) fn vm_report_acknowledged(&mut self, ack: VmReportAck, out: &mut Vec<Effect>) {
        let Ok(instance) = ack.instance_id.parse() else { return };
        let Some(vm) = self.vms.get_mut(&instance) else { return };
        let Some(record) = vm.record() else { return };
        let acknowledged = (Attempt(ack.attempt), contract::convert::generation(ack.generation), ack.phase());
        let report = reconcile::report(record, vm.observed.as_ref());
        if acknowledged.0 == record.attempt
            && acknowledged.2 == Phase::Destroyed
            && report.phase() == Phase::Destroyed
        {
            vm.forget = true;
        }
        // What is acknowledged after a move of the host, and before the region was told of it, is the place before.
        if settled(&report) == Some(acknowledged) && !vm.moved {
            vm.acknowledged = Some(acknowledged);
            if report.phase() != Phase::Claimed {
                self.unacknowledged.remove(&instance);
            }
        }
        self.vm_settle(instance, out);
    }

    /// What the region is told of a VM now.
    fn vm_report(&self, instance: InstanceId) -> Option<VmReport> {
        let vm = self.vms.get(&instance)?;
        let record = vm.record()?;
        let mut report = reconcile::report(record, vm.observed.as_ref());
        let host = record.place.as_ref().map(|place| &place.host);
        if let Some(underlay) = host.and_then(|host| self.host_underlay_stored(host)) {
            report.underlay_address.clone_from(&underlay.address);
            report.underlay_port = underlay.port;
        }
        Some(report)
    }

    /// The host is elsewhere on the underlay: the region is told, whatever it has acknowledged.
    pub(crate) fn vms_of_moved_host(&mut self, host: &HostId) {
        let vms = self.hosts.get(host).map(|host| host.vms.clone()).unwrap_or_default();
        for instance in vms {
            if let Some(vm) = self.vms.get_mut(&instance) {
                (vm.acknowledged, vm.reported, vm.moved) = (None, None, true);
                self.unacknowledged.insert(instance);
            }
        }
    }

    /// Tells the region what is known of a VM.
    pub(crate) fn vm_report_send(&mut self, now: Timestamp, instance: InstanceId, out: &mut Vec<Effect>) {
        let Some(report) = self.vm_report(instance) else { return };
        let Some(vm) = self.vms.get_mut(&instance) else { return };
        // A claim is said again until the region confirms or drops it; on the way to a phase nothing is owed.
        let owed = match settled(&report) {
            Some(said) => vm.acknowledged != Some(said) || report.phase() == Phase::Claimed,
            None => false,
        };
        (vm.reported, vm.moved) = (Some((report.clone(), now)), false);
        if owed {
            self.unacknowledged.insert(instance);
        } else {
            self.unacknowledged.remove(&instance);
        }
        self.answer_send(report, out);
    }

    /// Goes on telling a region that has come up about every VM: as many at a time as its link's queue can take.
    pub(crate) fn vms_tell(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(behind) = self.told.filter(|_| self.region_up) else { return };
        let next: Vec<InstanceId> =
            self.vms.range((behind, Bound::Unbounded)).take(REPORTS_MAX).map(|(id, _)| *id).collect();
        self.told = next.last().filter(|_| next.len() == REPORTS_MAX).map(|last| Bound::Excluded(*last));
        for instance in next {
            self.vm_report_send(now, instance, out);
        }
    }

    /// Says again what the region has not acknowledged.
    pub(crate) fn vm_reports_resend(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if !self.region_up {
            return;
        }
        let due = |instance: &&InstanceId| {
            let reported = self.vms.get(*instance).and_then(|vm| vm.reported.as_ref());
            reported.is_none_or(|(_, at)| now.since(*at) >= RESEND_AFTER)
        };
        let due: Vec<InstanceId> =
            self.unacknowledged.iter().filter(due).take(REPORTS_MAX).copied().collect();
        for instance in due {
            self.vm_report_send(now, instance, out);
        }
    }

    fn answer_send(&self, report: VmReport, out: &mut Vec<Effect>) {
        if self.region_up {
            out.push(Effect::ToRegion(FromCell { message: Some(from_cell::Message::Report(report)) }));
        }
    }
}

/// What an acknowledgement of this report would say; `None` on the way to another phase.
fn settled(report: &VmReport) -> Option<(Attempt, Generation, Phase)> {
    let phase = report.phase();
    match phase {
        Phase::Claimed | Phase::Running | Phase::Stopped | Phase::Destroyed => {
            Some((Attempt(report.attempt), contract::convert::generation(report.generation), phase))
        }
        Phase::Unspecified | Phase::Refused | Phase::Starting | Phase::Stopping => None,
    }
}

/// How long a destroyed VM's fence stays after its record: longer than any message is under way.
const GRAVE_AGE_MAX: Duration = Duration::from_secs(900);
const GRAVES_MAX: usize = 16 * 1024;

/// The VMs that were lately forgotten: an intent that was sent before their end and overtaken by it must not
/// raise them. In memory only: a restart of the cell ends the links on which such a message could come.
#[derive(Default)]
pub(crate) struct Graves {
    last_intent: BTreeMap<InstanceId, (Attempt, Generation)>,
    by_age: VecDeque<(Timestamp, InstanceId)>,
}

impl Graves {
    fn dig(&mut self, now: Timestamp, gone: &VmRecord) {
        if self.last_intent.insert(gone.instance, (gone.attempt, gone.generation)).is_none() {
            self.by_age.push_back((now, gone.instance));
        }
        while self.by_age.len() > GRAVES_MAX {
            self.forget_oldest();
        }
    }

    fn hold(&self, intent: &Intent) -> bool {
        self.last_intent.get(&intent.instance).is_some_and(|last| intent.order() <= *last)
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        while self.by_age.front().is_some_and(|(dug, _)| now.since(*dug) > GRAVE_AGE_MAX) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, instance)) = self.by_age.pop_front() {
            self.last_intent.remove(&instance);
        }
    }
}
