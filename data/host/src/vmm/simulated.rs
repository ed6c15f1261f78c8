//! A VMM without guests, openly so: the accelerator is called `simulated` and the console says it. For machines
//! without QEMU, for large clouds on small machines, and for the simulator.
//!
//! [`SimulatedVmm`] is the model, synchronous and under the caller's clock. [`SimulatedDriver`] runs it in a real
//! process. A process's simulated VMs would end with it; to behave like QEMU's, which do not, they are kept in a
//! file, from which a restarted agent on a machine that has not been rebooted adopts them.
//!
//! Deliberately absent: any pretence of a guest. Nothing computes; a guest starts, reacts to its power button, and
//! writes one line.

mod file;

pub use file::machines;

use super::{Found, VmProcess, Vmm, VmmCommand, VmmEvent};
use base::clock::Timestamp;
use base::ids::InstanceId;
use file::MachineFile;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// How long simulated things take.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedPace {
    /// From `Start` to `Started`.
    pub start: Duration,
    /// From the power button to the guest's shutdown.
    pub shut_down: Duration,
}

impl Default for SimulatedPace {
    fn default() -> Self {
        SimulatedPace { start: Duration::from_millis(50), shut_down: Duration::from_millis(100) }
    }
}

#[derive(Clone, Debug)]
struct Machine {
    /// Tells this process from its predecessors.
    run: u64,
    halted: bool,
    /// The guest does not hear the power button.
    deaf: bool,
}

#[derive(Clone, Debug)]
enum Deed {
    Start,
    Halt,
    Say(VmmEvent),
}

/// Simulated machines under the caller's clock.
#[derive(Debug, Default)]
pub struct SimulatedVmm {
    pace: SimulatedPace,
    machines: BTreeMap<InstanceId, Machine>,
    consoles: BTreeMap<InstanceId, (Vec<u8>, Timestamp)>,
    /// What will happen, by time and then in order.
    deeds: BTreeMap<(Timestamp, u64), (InstanceId, u64, Deed)>,
    sequence: u64,
    deaf: bool,
}

impl SimulatedVmm {
    /// No machines yet.
    pub fn new(pace: SimulatedPace) -> Self {
        SimulatedVmm { pace, ..SimulatedVmm::default() }
    }

    /// What runs, as a restarted agent finds it. What was still to be said to its predecessor is forgotten; what
    /// was to happen still happens.
    pub fn survey(&mut self) -> Vec<Found> {
        self.deeds.retain(|_, (_, _, deed)| !matches!(deed, Deed::Say(_)));
        self.machines.iter().map(|(vm, machine)| Found { vm: *vm, halted: machine.halted }).collect()
    }

    /// A machine that runs from before.
    fn adopt(&mut self, now: Timestamp, vm: InstanceId, halted: bool) {
        self.sequence += 1;
        self.machines.insert(vm, Machine { run: self.sequence, halted, deaf: false });
        self.consoles.insert(vm, (console(vm), now));
    }

    /// Takes a command; what follows from it comes from [`SimulatedVmm::due`].
    pub fn command(&mut self, now: Timestamp, vm: InstanceId, command: VmmCommand) {
        let run = self.machines.get(&vm).map_or(0, |machine| machine.run);
        match command {
            VmmCommand::Start { .. } => {
                self.sequence += 1;
                let run = self.sequence;
                self.machines.insert(vm, Machine { run, halted: false, deaf: self.deaf });
                self.consoles.insert(vm, (console(vm), now));
                self.later(now + self.pace.start, vm, run, Deed::Start);
            }
            VmmCommand::ShutDown => {
                if self.machines.get(&vm).is_some_and(|machine| !machine.deaf) {
                    self.later(now + self.pace.shut_down, vm, run, Deed::Halt);
                }
            }
            VmmCommand::PowerOff => {
                self.machines.remove(&vm);
                let why = String::from("powered off");
                self.later(now, vm, 0, Deed::Say(VmmEvent::Exited { why }));
            }
            VmmCommand::Destroy => {
                self.machines.remove(&vm);
                self.consoles.remove(&vm);
                self.later(now, vm, 0, Deed::Say(VmmEvent::Destroyed));
            }
            VmmCommand::Interfaces { .. } => {
                let missing = String::new();
                self.later(now, vm, 0, Deed::Say(VmmEvent::Interfaces { missing }));
            }
            VmmCommand::ConsoleRead { request_id, bytes_max } => {
                let (data, written) = self.consoles.get(&vm).cloned().unwrap_or_default();
                let newest = data.len().saturating_sub(bytes_max as usize);
                let (data, written_unix_ms) = (data[newest..].to_vec(), written.unix_ms());
                let answer = VmmEvent::Console { request_id, data, written_unix_ms };
                self.later(now, vm, 0, Deed::Say(answer));
            }
        }
    }

    /// What has happened up to `now`, in order.
    pub fn due(&mut self, now: Timestamp) -> Vec<(InstanceId, VmmEvent)> {
        let mut said = Vec::new();
        while let Some(first) = self.deeds.first_entry().filter(|first| first.key().0 <= now) {
            let (vm, run, deed) = first.remove();
            let machine = self.machines.get_mut(&vm).filter(|machine| machine.run == run);
            match (deed, machine) {
                (Deed::Say(event), _) => said.push((vm, event)),
                (Deed::Start, Some(_)) => said.push((vm, VmmEvent::Started)),
                (Deed::Halt, Some(machine)) if !machine.halted => {
                    machine.halted = true;
                    said.push((vm, VmmEvent::GuestShutdown));
                }
                (Deed::Halt, Some(_)) | (Deed::Start | Deed::Halt, None) => {}
            }
        }
        said
    }

    /// When [`SimulatedVmm::due`] has something next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.deeds.first_key_value().map(|((at, _), _)| *at)
    }

    /// The machines whose guest is on.
    pub fn running(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.machines.iter().filter(|(_, machine)| !machine.halted).map(|(vm, _)| *vm)
    }

    /// A fault: the machine's process dies.
    pub fn crash(&mut self, now: Timestamp, vm: InstanceId, why: &str) {
        if self.machines.remove(&vm).is_some() {
            self.later(now, vm, 0, Deed::Say(VmmEvent::Exited { why: why.into() }));
        }
    }

    /// A guest switches itself off.
    pub fn guest_shutdown(&mut self, now: Timestamp, vm: InstanceId) {
        if let Some(machine) = self.machines.get(&vm) {
            self.later(now, vm, machine.run, Deed::Halt);
        }
    }

    /// From now on guests do not hear their power button (or do again).
    pub fn deaf_set(&mut self, deaf: bool) {
        self.deaf = deaf;
        self.machines.values_mut().for_each(|machine| machine.deaf = deaf);
    }

    /// A fault: the whole host loses power.
    pub fn power_lost(&mut self) {
        self.machines.clear();
        self.deeds.clear();
    }

    fn later(&mut self, at: Timestamp, vm: InstanceId, run: u64, deed: Deed) {
        self.sequence += 1;
        self.deeds.insert((at, self.sequence), (vm, run, deed));
    }
}

/// The one line that a simulated guest writes.
fn console(vm: InstanceId) -> Vec<u8> {
    format!("simulated console of {vm}\r\n").into_bytes()
}

/// [`SimulatedVmm`] in a real process.
pub struct SimulatedDriver {
    model: Arc<Mutex<SimulatedVmm>>,
    woken: Arc<Notify>,
}

impl SimulatedDriver {
    /// A driver that keeps its VMs in a file under `vms` and says what happens to `events`. Needs a tokio runtime;
    /// ends when nobody listens.
    pub fn new(vms: &Path, pace: SimulatedPace, events: mpsc::Sender<(InstanceId, VmmEvent)>) -> Self {
        let file = MachineFile::open(vms);
        let mut model = SimulatedVmm::new(pace);
        for (vm, halted) in file.machines() {
            model.adopt(Timestamp::now(), *vm, *halted);
        }
        let model = Arc::new(Mutex::new(model));
        let woken = Arc::new(Notify::new());
        tokio::spawn(run(Arc::clone(&model), Arc::clone(&woken), file, events));
        SimulatedDriver { model, woken }
    }
}

/// Says what is due when it is due.
async fn run(
    model: Arc<Mutex<SimulatedVmm>>,
    woken: Arc<Notify>,
    mut file: MachineFile,
    events: mpsc::Sender<(InstanceId, VmmEvent)>,
) {
    loop {
        let (said, next) = {
            let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
            (model.due(Timestamp::now()), model.next_due())
        };
        for (vm, event) in said {
            let event = follow(&mut file, vm, event);
            if events.send((vm, event)).await.is_err() {
                return;
            }
        }
        let wait = next.map_or(Duration::from_secs(3600), |at| at.since(Timestamp::now()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = woken.notified() => {}
            () = events.closed() => return,
        }
    }
}

/// Brings the file after an event about a VM; a start or an end that cannot be written has failed.
fn follow(file: &mut MachineFile, vm: InstanceId, event: VmmEvent) -> VmmEvent {
    let noted = match &event {
        VmmEvent::Started => file.runs(vm),
        VmmEvent::GuestShutdown => file.halted(vm),
        VmmEvent::Exited { .. } | VmmEvent::Destroyed => file.gone(vm),
        VmmEvent::Waiting { .. }
        | VmmEvent::StartFailed { .. }
        | VmmEvent::DestroyFailed { .. }
        | VmmEvent::Interfaces { .. }
        | VmmEvent::Console { .. } => Ok(()),
    };
    let Err(error) = noted else { return event };
    let why = format!("cannot write the file of the simulated machines: {error}");
    match event {
        VmmEvent::Started => VmmEvent::StartFailed { why },
        VmmEvent::Destroyed => VmmEvent::DestroyFailed { why },
        other => {
            tracing::warn!(%vm, why);
            other
        }
    }
}

impl Vmm for SimulatedDriver {
    fn survey(&mut self) -> Pin<Box<dyn Future<Output = Vec<Found>> + Send + '_>> {
        let found = self.model.lock().unwrap_or_else(PoisonError::into_inner).survey();
        Box::pin(std::future::ready(found))
    }

    fn command(&mut self, vm: InstanceId, command: VmmCommand) {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).command(Timestamp::now(), vm, command);
        self.woken.notify_one();
    }

    fn process(&self, _vm: InstanceId) -> VmProcess {
        VmProcess::default()
    }
}
