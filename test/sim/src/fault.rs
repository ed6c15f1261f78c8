//! What goes wrong at random times. Which process it hits is drawn when it happens, so that it hits those that are
//! busy.

use crate::process::Node;
use crate::world::{Happening, World};
use base::ids::InstanceId;
use base::step::StepRole;

/// A kind of fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process dies.
    Crash,
    /// Region, zones and cells die together.
    ControlPlaneCrash,
    /// One link is cut for a while.
    LinkCut,
    /// All links of a process are cut for a while.
    Isolation,
    /// A host loses power.
    HostReboot,
    /// The next write of a store fails, and with it its process.
    StoreFailure,
    /// A guest switches itself off.
    GuestShutdown,
    /// A machine's process dies.
    MachineDeath,
    /// The guests of a host stop hearing their power button, or hear it again.
    GuestsDeaf,
}

const FAULTS: &[Fault] = &[
    Fault::Crash,
    Fault::Crash,
    Fault::Crash,
    Fault::ControlPlaneCrash,
    Fault::LinkCut,
    Fault::LinkCut,
    Fault::Isolation,
    Fault::HostReboot,
    Fault::HostReboot,
    Fault::StoreFailure,
    Fault::GuestShutdown,
    Fault::MachineDeath,
    Fault::GuestsDeaf,
];

impl World {
    /// Spreads the scenario's faults over its time.
    pub(crate) fn faults_plan(&mut self) {
        let activity_us = self.scenario.activity.as_micros() as u64;
        for _ in 0..self.scenario.faults {
            let fault = FAULTS[self.random.below(FAULTS.len() as u64) as usize];
            let at_us = self.random.below(activity_us);
            self.later(at_us, Happening::Fault(fault));
        }
        for _ in 0..self.scenario.crashes_between_effects {
            let (role, effects) = match self.random.below(3) {
                0 => (StepRole::Region, 400),
                1 => (StepRole::Cell, 600),
                _ => (StepRole::Host, 200),
            };
            self.crash_effects.insert((role as usize, 1 + self.random.below(effects)));
        }
    }

    /// A fault happens.
    pub(crate) fn fault(&mut self, fault: Fault) {
        if self.quiet {
            return;
        }
        self.trace.line(self.now(), || format!("fault: {fault:?}"));
        match fault {
            Fault::Crash => {
                let node = self.victim();
                self.crash(node);
            }
            Fault::ControlPlaneCrash => self.control_plane_crash(),
            Fault::LinkCut => {
                let node = self.victim();
                let links = self.links_of.get(&node).map_or(&[][..], Vec::as_slice);
                let link = links[self.random.below(links.len() as u64) as usize];
                self.cut_for_a_while(&[link]);
            }
            Fault::Isolation => {
                let node = self.victim();
                let links = self.links_of.get(&node).cloned().unwrap_or_default();
                self.cut_for_a_while(&links);
            }
            Fault::HostReboot => {
                let host = self.busy_host();
                self.host_reboot(host);
            }
            Fault::StoreFailure => {
                self.report.store_failures += 1;
                match self.random.below(2) {
                    0 => self.region.store.fail_next(),
                    _ => {
                        let cell = self.random.below(self.cells.len() as u64) as usize;
                        self.cells[cell].store.fail_next();
                    }
                }
            }
            Fault::GuestShutdown => {
                if let Some((host, instance)) = self.machine_on_its_own() {
                    let now = self.now();
                    self.hosts[host].machines.guest_shutdown(now, instance);
                    self.machines_changed(host);
                }
            }
            Fault::MachineDeath => {
                if let Some((host, instance)) = self.machine_on_its_own() {
                    let now = self.now();
                    self.hosts[host].machines.crash(now, instance, "the simulator killed it");
                    self.machines_changed(host);
                }
            }
            Fault::GuestsDeaf => {
                let (host, deaf) = (self.busy_host(), self.random.chance(0.7));
                self.hosts[host].machines.deaf_set(deaf);
            }
        }
    }

    /// Any process; those of the control plane and busy hosts rather than idle ones.
    fn victim(&mut self) -> Node {
        match self.random.below(8) {
            0..=2 => Node::Region,
            3..=4 => Node::Cell(self.random.below(self.cells.len() as u64) as usize),
            5 => Node::Zone(self.random.below(self.zones.len() as u64) as usize),
            _ => Node::Host(self.busy_host()),
        }
    }

    fn busy_host(&mut self) -> usize {
        let busy: Vec<usize> =
            (0..self.hosts.len()).filter(|h| !self.hosts[*h].disk.vms.is_empty()).collect();
        match busy.len() {
            0 => self.random.below(self.hosts.len() as u64) as usize,
            count => busy[self.random.below(count as u64) as usize],
        }
    }

    /// A machine that from now on may stop without having been asked.
    fn machine_on_its_own(&mut self) -> Option<(usize, InstanceId)> {
        let host = self.busy_host();
        let instance = *self.hosts[host].running.first()?;
        self.unasked.insert(instance);
        Some((host, instance))
    }

    fn cut_for_a_while(&mut self, links: &[usize]) {
        let length = 50_000 + self.random.below(7_000_000);
        for link in links {
            self.link_cut(*link);
            self.later(length, Happening::Heal { link: *link });
        }
    }
}
