//! A host: the real agent over a ledger in memory and the simulated machines of its crate. The machines outlive the
//! agent; the ledger outlives both.

use crate::message::Message;
use crate::process::Node;
use crate::trace::Sight;
use crate::world::{Happening, World};
use base::generation::Attempt;
use base::ids::InstanceId;
use base::random::Random;
use cell::placement::Room;
use host::agent::{Effect, Event, HostAgent, HostCapacity, HostIdentity};
use host::ledger::{Ledger, LedgerChange};
use host::vmm::VmmCommand;
use host::vmm::simulated::{SimulatedPace, SimulatedVmm};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A host.
pub(crate) struct Host {
    pub(crate) identity: HostIdentity,
    pub(crate) capacity: HostCapacity,
    /// `None`: the agent is dead.
    pub(crate) agent: Option<HostAgent>,
    pub(crate) life: u64,
    /// What the disk holds.
    pub(crate) disk: Ledger,
    /// What is being written to it.
    writing: Option<(u64, LedgerChange)>,
    pub(crate) machines: SimulatedVmm,
    /// What each machine was last started as.
    pub(crate) started: BTreeMap<InstanceId, (Attempt, Room)>,
    /// Guests that were on after the last event.
    pub(crate) running: BTreeSet<InstanceId>,
    /// When the queue has an entry for the machines.
    due_us: Option<u64>,
}

impl Host {
    pub(crate) fn new(identity: HostIdentity, vcpus: u32, memory_mib: u32) -> Host {
        let capacity = HostCapacity {
            vcpus,
            memory_mib,
            shutdown_timeout: Duration::from_secs(4),
            ..HostCapacity::default()
        };
        Host {
            identity,
            capacity,
            agent: None,
            life: 0,
            disk: Ledger::default(),
            writing: None,
            machines: SimulatedVmm::new(SimulatedPace::default()),
            started: BTreeMap::new(),
            running: BTreeSet::new(),
            due_us: None,
        }
    }

    /// The agent dies; a change that was being written is on the disk whole, or not at all.
    pub(crate) fn agent_crash(&mut self, random: &mut Random) {
        self.agent = None;
        self.life += 1;
        if let Some((_, change)) = self.writing.take().filter(|_| random.chance(0.5)) {
            self.disk.apply(&change);
        }
    }
}

impl World {
    pub(crate) fn host_start(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let (identity, capacity) = (host.identity.clone(), host.capacity.clone());
        host.agent = Some(HostAgent::recover(identity, capacity, host.disk.clone()));
        let found = host.machines.survey();
        if !found.is_empty() {
            self.report.saw(Sight::MachinesAdopted);
        }
        self.host_apply(index, Event::Surveyed(found));
    }

    /// Hands an agent an event and carries out what it wants.
    pub(crate) fn host_apply(&mut self, index: usize, event: Event) {
        let (now, node) = (self.now(), Node::Host(index));
        let host = &mut self.hosts[index];
        let Some(agent) = &mut host.agent else { return };
        for effect in agent.apply(now, event) {
            let mut step = None;
            match effect {
                Effect::Persist { ticket, change } => {
                    let host = &mut self.hosts[index];
                    host.writing = Some((ticket, change));
                    let life = host.life;
                    let slow = if self.random.chance(0.05) { 200_000 } else { 5_000 };
                    let wait = 300 + self.random.below(slow);
                    self.later(wait, Happening::Persisted { host: index, life });
                }
                Effect::ToCell(message) => {
                    let cell = Node::Cell(self.cell_of_host(index));
                    self.link_send(node, cell, Message::FromHost(message));
                    // A heartbeat is nothing to crash after.
                    continue;
                }
                Effect::Vmm { vm, command } => self.machine_command(index, vm, command),
                Effect::Step(reached) => step = Some(reached),
                Effect::AllStopped => {}
            }
            if self.carried_out(node, step) {
                return;
            }
        }
    }

    fn machine_command(&mut self, index: usize, vm: InstanceId, command: VmmCommand) {
        let now = self.now();
        self.trace.line(now, || format!("host-{index} machine {vm}: {}", name(&command)));
        let host = &mut self.hosts[index];
        if let VmmCommand::Start { spec, attempt } = &command {
            host.started.insert(vm, (*attempt, Room::of(spec)));
            if !self.alive(Node::Cell(self.cell_of_host(index))) {
                self.report.saw(Sight::StartedAlone);
            }
        }
        let host = &mut self.hosts[index];
        host.machines.command(now, vm, command);
        self.machines_changed(index);
    }

    /// Keeps the queue's entry for a host's machines and the account of what runs where.
    pub(crate) fn machines_changed(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let running: BTreeSet<InstanceId> = host.machines.running().collect();
        let wanted = host.machines.next_due().map(|at| World::micros(at).max(self.clock_us));
        if let Some(at_us) = wanted
            && host.due_us.is_none_or(|due_us| at_us < due_us)
        {
            host.due_us = Some(at_us);
            self.later(at_us - self.clock_us, Happening::MachinesDue { host: index });
        }
        let host = &mut self.hosts[index];
        if running != host.running {
            let before = std::mem::replace(&mut host.running, running);
            self.running_changed(index, &before);
        }
    }

    /// Something happens in a host's machines, whether an agent looks or not.
    pub(crate) fn machines_due(&mut self, index: usize) {
        let now = self.now();
        let host = &mut self.hosts[index];
        host.due_us = None;
        for (vm, event) in host.machines.due(now) {
            self.trace.line(now, || format!("host-{index} machine {vm} said {event:?}"));
            self.machines_changed(index);
            self.host_apply(index, Event::Vmm { vm, event });
        }
        self.machines_changed(index);
    }

    /// A change of the ledger is durable.
    pub(crate) fn persisted(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let Some((ticket, change)) = host.writing.take() else { return };
        host.disk.apply(&change);
        self.host_apply(index, Event::Persisted { ticket, result: Ok(()) });
    }

    /// A host loses power: its machines end with it.
    pub(crate) fn host_reboot(&mut self, index: usize) {
        self.report.reboots += 1;
        self.trace.line(self.now(), || format!("host-{index} loses power"));
        let host = &mut self.hosts[index];
        host.machines.power_lost();
        host.started.clear();
        self.machines_changed(index);
        self.crash(Node::Host(index));
    }
}

fn name(command: &VmmCommand) -> &'static str {
    match command {
        VmmCommand::Start { .. } => "start",
        VmmCommand::Interfaces { .. } => "interfaces",
        VmmCommand::ShutDown => "power button",
        VmmCommand::PowerOff => "power off",
        VmmCommand::Destroy => "destroy",
        VmmCommand::ConsoleRead { .. } => "console",
    }
}
