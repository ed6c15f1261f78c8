//! What the cell is told: all of it when a link comes up and with every heartbeat, in between only the news. So an
//! event costs what it touches, however many VMs there are.
//!
//! Invariant, checked by [`HostAgent::check`]: whoever heard the last whole status and everything since knows how
//! each VM is.

use super::{HostAgent, Vm};
use crate::agent::vm::{Purpose, VmState};
use crate::ledger::{StopRecord, VmRecord};
use base::clock::Timestamp;
use base::ids::InstanceId;
use contract::{FromHost, HostStatus, Phase, StopCause, Target, VmStatus, from_host};
use std::collections::BTreeSet;
use std::time::Duration;

const HEARTBEAT: Duration = Duration::from_secs(2);

/// What the cell knows, and what there is to add.
#[derive(Default)]
pub(super) struct Told {
    /// When it was last told everything on this link; `None`: it must be.
    whole: Option<Timestamp>,
    /// The last status without its VMs, as a partial one.
    head: HostStatus,
    /// The VMs that something has happened to since.
    touched: BTreeSet<InstanceId>,
    /// The VMs that the document does not know; `touched` ones are still to be looked at.
    orphans: BTreeSet<InstanceId>,
}

impl Told {
    /// Something has happened to a VM.
    pub(super) fn touch(&mut self, id: InstanceId) {
        self.touched.insert(id);
    }

    /// The next status says everything.
    pub(super) fn forget(&mut self) {
        self.whole = None;
    }
}

impl HostAgent {
    /// Tells the cell how things are, if that has changed or a heartbeat is due.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<FromHost> {
        let touched = std::mem::take(&mut self.told.touched);
        if !self.link_up || !self.surveyed {
            return None;
        }
        let status = match self.told.whole {
            Some(at) if now.since(at) < HEARTBEAT => self.news(&touched)?,
            Some(_) | None => self.everything(now),
        };
        Some(FromHost { message: Some(from_host::Message::Status(status)) })
    }

    /// The status since the last one, if there is anything to say.
    fn news(&mut self, touched: &BTreeSet<InstanceId>) -> Option<HostStatus> {
        let mut vms = Vec::new();
        for id in touched {
            let vm = self.vms.get_mut(id);
            match &vm {
                Some(vm) if is_orphan(vm) => self.told.orphans.insert(*id),
                Some(_) | None => self.told.orphans.remove(id),
            };
            let Some(vm) = vm else { continue };
            let status = vm_status(*id, vm);
            if status != vm.told {
                vm.told.clone_from(&status);
                vms.extend(status);
            }
        }
        let head = HostStatus { partial: true, ..self.head(&self.told.orphans) };
        if vms.is_empty() && head == self.told.head {
            return None;
        }
        self.told.head.clone_from(&head);
        Some(HostStatus { vms, ..head })
    }

    fn everything(&mut self, now: Timestamp) -> HostStatus {
        let orphans = self.vms.iter().filter(|(_, vm)| is_orphan(vm)).map(|(id, _)| *id).collect();
        for (id, vm) in &mut self.vms {
            vm.told = vm_status(*id, vm);
        }
        let head = self.head(&orphans);
        let vms = self.vms.values().filter_map(|vm| vm.told.clone()).collect();
        self.told.head = HostStatus { partial: true, ..head.clone() };
        self.told.orphans = orphans;
        self.told.whole = Some(now);
        HostStatus { vms, ..head }
    }

    fn head(&self, orphans: &BTreeSet<InstanceId>) -> HostStatus {
        let held = [&self.document_held, &self.ledger_failure];
        HostStatus {
            document_generation: Some(self.host_held.document_generation.into()),
            term: self.host_held.term.0,
            vms: Vec::new(),
            orphans: orphans.iter().map(InstanceId::to_string).collect(),
            document_held: held.into_iter().filter(|s| !s.is_empty()).cloned().collect::<Vec<_>>().join("; "),
            partial: false,
        }
    }

    /// How things are, whole.
    pub fn status(&self) -> HostStatus {
        let orphans = self.vms.iter().filter(|(_, vm)| is_orphan(vm)).map(|(id, _)| *id).collect();
        let vms = self.vms.iter().filter_map(|(id, vm)| vm_status(*id, vm)).collect();
        HostStatus { vms, ..self.head(&orphans) }
    }

    /// Whether the cell was told all that there is; the error says of what it was not.
    pub(super) fn told_check(&self) -> Result<(), String> {
        if !self.link_up || !self.surveyed || self.told.whole.is_none() {
            return Ok(());
        }
        if let Some((id, _)) = self.vms.iter().find(|(id, vm)| vm_status(**id, vm) != vm.told) {
            return Err(format!("the cell was not told how {id} is"));
        }
        let untold = |(id, vm): &(&InstanceId, &Vm)| is_orphan(vm) != self.told.orphans.contains(*id);
        match self.vms.iter().find(untold) {
            Some((id, _)) => Err(format!("the cell was not told whether {id} is an orphan")),
            None => Ok(()),
        }
    }
}

/// The document does not know it, and something of it is here.
fn is_orphan(vm: &Vm) -> bool {
    match &vm.held {
        Some(held) => held.orphan && !held.destroyed,
        None => vm.record.is_none(),
    }
}

fn vm_status(id: InstanceId, vm: &Vm) -> Option<VmStatus> {
    let held = vm.held.as_ref()?;
    let (phase, stopped) = phase(held, &vm.state);
    let message = match (stopped, &vm.state) {
        (Some(stopped), _) => &stopped.message,
        (None, VmState::Starting { waits_for: Some(why), .. }) => why,
        (None, VmState::Running) if !vm.cards_missing.is_empty() => &vm.cards_missing,
        (None, _) => &vm.message,
    };
    Some(VmStatus {
        instance_id: id.to_string(),
        attempt: held.attempt().0,
        generation: held.assignment.generation,
        phase: phase.into(),
        stop_cause: stopped.map_or(StopCause::Unspecified, |stopped| stopped.cause).into(),
        message: message.clone(),
        restarts: vm.restarts,
    })
}

/// What a VM looks like from outside. Nothing counts as stopped or destroyed before the ledger says so.
fn phase<'a>(held: &'a VmRecord, state: &VmState) -> (Phase, Option<&'a StopRecord>) {
    let target = held.target();
    if target == Target::Destroyed {
        let gone = held.destroyed && *state == VmState::Destroyed;
        return (if gone { Phase::Destroyed } else { Phase::Stopping }, None);
    }
    let stays_down = target == Target::Stopped || held.stopped_for_good();
    let down = |rebooting: bool| match held.stopped.as_ref().filter(|_| stays_down) {
        Some(stopped) => (Phase::Stopped, Some(stopped)),
        None if stays_down => (Phase::Stopping, None),
        None if rebooting => (Phase::Running, None),
        None => (Phase::Starting, None),
    };
    let on_the_way = |purpose: Purpose| match purpose {
        Purpose::Reboot => Phase::Running,
        Purpose::Stop(_) | Purpose::HostDown | Purpose::Destroy | Purpose::Guest(_) => Phase::Stopping,
    };
    match state {
        VmState::Unsurveyed => (Phase::Starting, None),
        VmState::Down { rebooting } => down(*rebooting),
        VmState::Resting { .. } | VmState::Destroyed => down(false),
        VmState::Starting { rebooting: true, .. } | VmState::Running => (Phase::Running, None),
        VmState::Starting { rebooting: false, .. } => (Phase::Starting, None),
        VmState::Asked { purpose, .. } | VmState::Halted { purpose } | VmState::Cutting { purpose, .. } => {
            (on_the_way(*purpose), None)
        }
        // Of an earlier attempt; the new one starts from nothing.
        VmState::Destroying { .. } => (Phase::Starting, None),
    }
}
