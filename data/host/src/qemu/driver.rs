//! The [`Vmm`] of real guests: one task a VM, which owns its process and its QMP connection and works through its
//! commands in order.
//!
//! Only the process's end counts as its end: a QMP connection that breaks is made again. A QEMU that paused its
//! guest for want of disk space is told to go on every second, so that a guest continues when there is room again.
//! A VM whose network cards nobody serves yet is started as soon as somebody does: see [`crate::card`].

use super::command::Accelerator;
use super::files;
use super::plug::{self, PlugError};
use super::process::{self, Place, Process, Start, Started};
use crate::card::Card;
use crate::console::{Console, RING_BYTES};
use crate::isolation;
use crate::qmp::{QmpClient, QmpError, QmpEvent};
use crate::vmm::{Found, VmProcess, Vmm, VmmCommand, VmmEvent};
use base::error::chain;
use base::ids::InstanceId;
use base64::Engine;
use contract::{VmInterface, VmSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep, timeout};

/// Commands that wait for one VM...
const COMMANDS_MAX: usize = 64;
/// ...of which so many are never taken by console reads, which anybody may ask for, nor by the power button: of
/// the others the agent has at most a handful under way.
const COMMANDS_KEPT: usize = 8;
const CONSOLE_EVERY: Duration = Duration::from_secs(1);
/// How long a QEMU may take from exec to its first answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that is made again may keep a VM's commands waiting.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_AGAIN: Duration = Duration::from_millis(20);
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const CONSOLE_PIECE_BYTES: usize = 64 * 1024;
/// How soon the switch is looked for again, first...
const SWITCH_AGAIN_FIRST: Duration = Duration::from_millis(5);
/// ...and at the most.
const SWITCH_AGAIN_MAX: Duration = Duration::from_millis(200);
/// A switch that takes longer than this is spoken of.
const SWITCH_PATIENCE: Duration = Duration::from_secs(1);

type Processes = Arc<Mutex<BTreeMap<InstanceId, VmProcess>>>;

/// Drives QEMU.
pub struct QemuDriver {
    place: Arc<Place>,
    accelerator: watch::Receiver<Option<Accelerator>>,
    events: mpsc::Sender<(InstanceId, VmmEvent)>,
    workers: BTreeMap<InstanceId, mpsc::Sender<VmmCommand>>,
    processes: Processes,
}

impl QemuDriver {
    /// A driver of the VMs at `place` that starts them under `accelerator` as soon as that is known, and says what
    /// happens to `events`. Needs a tokio runtime.
    pub fn new(
        place: Place,
        accelerator: watch::Receiver<Option<Accelerator>>,
        events: mpsc::Sender<(InstanceId, VmmEvent)>,
    ) -> Self {
        let (workers, processes) = Default::default();
        QemuDriver { place: Arc::new(place), accelerator, events, workers, processes }
    }

    fn worker(&mut self, vm: InstanceId, running: Option<RunningVm>) -> mpsc::Sender<VmmCommand> {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let worker = Worker {
            vm,
            place: Arc::clone(&self.place),
            accelerator: self.accelerator.clone(),
            events: self.events.clone(),
            console: Console::at(&self.place.directory(vm).join(files::CONSOLE)),
            processes: Arc::clone(&self.processes),
            running,
            waiting: None,
            cards: None,
        };
        tokio::spawn(worker.run(commands));
        self.workers.insert(vm, sender.clone());
        sender
    }
}

impl Vmm for QemuDriver {
    fn survey(&mut self) -> Pin<Box<dyn Future<Output = Vec<Found>> + Send + '_>> {
        Box::pin(async move {
            let processes = process::find(&self.place).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot look for VMs that run");
                Vec::new()
            });
            let mut adoptions = tokio::task::JoinSet::new();
            for (vm, process) in processes {
                adoptions.spawn(adopt(Arc::clone(&self.place), vm, process));
            }
            let mut found = Vec::new();
            for (vm, running) in adoptions.join_all().await {
                tracing::info!(%vm, pid = running.process.pid, halted = running.halted, "adopted a VM");
                let facts = adopted_process(running.process.pid);
                self.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(vm, facts);
                found.push(Found { vm, halted: running.halted });
                self.worker(vm, Some(running));
            }
            found.sort_by_key(|found| found.vm);
            found
        })
    }

    fn command(&mut self, vm: InstanceId, command: VmmCommand) {
        let open = self.workers.get(&vm).filter(|worker| !worker.is_closed()).cloned();
        let worker = open.unwrap_or_else(|| self.worker(vm, None));
        if let VmmCommand::ConsoleRead { request_id, .. } = command
            && worker.capacity() < COMMANDS_KEPT
        {
            let (data, written_unix_ms) = Default::default();
            let answer = VmmEvent::Console { request_id, data, written_unix_ms };
            if self.events.try_send((vm, answer)).is_err() {
                tracing::warn!(%vm, "too many console reads; one is not answered");
            }
            return;
        }
        // The power button is pressed again anyway.
        if command == VmmCommand::ShutDown && worker.capacity() < COMMANDS_KEPT {
            return;
        }
        // The agent asks again for an end that it waits for.
        if let Err(refused) = worker.try_send(command) {
            let command = refused.into_inner();
            tracing::error!(%vm, ?command, "a VM's queue is full; the command is dropped");
        }
    }

    fn process(&self, vm: InstanceId) -> VmProcess {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).cloned().unwrap_or_default()
    }
}

/// A VM's process and how it is spoken to.
struct RunningVm {
    process: Process,
    /// `None` while it does not answer.
    qmp: Option<QmpClient>,
    /// Its guest has switched itself off, and that was said.
    halted: bool,
    /// QEMU has paused the guest: its disk cannot be written.
    stalled: bool,
    /// The power button was pressed. A guest that does not listen yet misses it, so it is pressed again.
    asked: bool,
}

/// Takes over a process that is there already.
async fn adopt(place: Arc<Place>, vm: InstanceId, process: Process) -> (InstanceId, RunningVm) {
    let socket = place.directory(vm).join(files::QMP_SOCKET);
    let mut running = RunningVm { process, qmp: None, halted: false, stalled: false, asked: false };
    match timeout(ADOPT_TIMEOUT, connect(&socket)).await {
        Ok(mut qmp) => {
            running.halted = run_state(&mut qmp).await.as_deref() == Some("shutdown");
            running.qmp = Some(qmp);
        }
        Err(_) => tracing::warn!(%vm, pid = running.process.pid, "its QEMU does not answer yet"),
    }
    (vm, running)
}

fn adopted_process(pid: u32) -> VmProcess {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok().map(|metadata| metadata.uid());
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let bound: Vec<&str> = groups
        .lines()
        .filter(|line| line.contains("/nephos/"))
        .map(|line| line.split(':').nth(1).filter(|name| !name.is_empty()).unwrap_or("unified"))
        .collect();
    let cgroup = if bound.is_empty() { "none".into() } else { bound.join(", ") };
    VmProcess { pid: Some(pid), uid, cgroup }
}

/// Connects as soon as that is possible. Never returns otherwise: the caller sets the bound.
async fn connect(socket: &std::path::Path) -> QmpClient {
    loop {
        match QmpClient::connect(socket).await {
            Ok(qmp) => return qmp,
            Err(_) => sleep(CONNECT_AGAIN).await,
        }
    }
}

/// QEMU's run state, for example `running`, `shutdown` or `io-error`.
async fn run_state(qmp: &mut QmpClient) -> Option<String> {
    let status = qmp.execute("query-status", json!({})).await.ok()?;
    status.get("status").and_then(Value::as_str).map(str::to_owned)
}

/// What happens to a running VM unasked.
enum Happening {
    Ended(String),
    Event(QmpEvent),
    Lost(QmpError),
}

/// The next thing that happens; nothing ever does to a VM that does not run.
async fn happening(running: &mut Option<RunningVm>) -> Happening {
    let Some(RunningVm { process, qmp, .. }) = running else { return std::future::pending().await };
    let Some(qmp) = qmp else { return Happening::Ended(process.ended().await) };
    tokio::select! {
        why = process.ended() => Happening::Ended(why),
        event = qmp.event() => match event {
            Ok(event) => Happening::Event(event),
            Err(error) => Happening::Lost(error),
        },
    }
}

/// Why a process that was started is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NoAnswer {
    #[error("its QEMU did not answer within {} s", START_TIMEOUT.as_secs())]
    Silent,
    #[error("its QEMU ended at once: {0}")]
    Ended(String),
}

/// A start that waits for the switch.
struct Waiting {
    spec: Box<VmSpec>,
    cards: Vec<Card>,
    since: Instant,
    look_at: Instant,
    pause: Duration,
    /// Why, as it was said.
    said: String,
}

/// When a start that waits is looked after; never without one.
async fn look_due(waiting: &Option<Waiting>) {
    match waiting {
        Some(waiting) => tokio::time::sleep_until(waiting.look_at).await,
        None => std::future::pending().await,
    }
}

/// The cards that a running VM shall have, while it has others.
struct CardsWanted {
    interfaces: Vec<VmInterface>,
    /// What is missing, as it was said.
    said: Option<String>,
}

struct Worker {
    vm: InstanceId,
    place: Arc<Place>,
    accelerator: watch::Receiver<Option<Accelerator>>,
    events: mpsc::Sender<(InstanceId, VmmEvent)>,
    console: Console,
    processes: Processes,
    running: Option<RunningVm>,
    waiting: Option<Waiting>,
    cards: Option<CardsWanted>,
}

impl Worker {
    async fn run(mut self, mut commands: mpsc::Receiver<VmmCommand>) {
        let mut round = tokio::time::interval_at(Instant::now() + CONSOLE_EVERY, CONSOLE_EVERY);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let said = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                happening = happening(&mut self.running) => self.notice(happening).await,
                () = look_due(&self.waiting) => self.switch_look().await,
                _ = round.tick(), if self.running.is_some() => self.look_after().await,
            };
            let Some(event) = said else { continue };
            let destroyed = event == VmmEvent::Destroyed;
            if self.events.send((self.vm, event)).await.is_err() || destroyed {
                return;
            }
        }
    }

    async fn obey(&mut self, command: VmmCommand) -> Option<VmmEvent> {
        match command {
            VmmCommand::Start { spec, .. } => self.start(spec).await,
            VmmCommand::Interfaces { interfaces } => {
                self.cards = Some(CardsWanted { interfaces, said: None });
                self.cards_look().await
            }
            VmmCommand::ShutDown => {
                if let Some(running) = &mut self.running {
                    running.asked = true;
                }
                self.execute("system_powerdown", json!({})).await;
                None
            }
            VmmCommand::PowerOff => {
                self.waiting = None;
                if self.end(true).await {
                    return Some(VmmEvent::Exited { why: "powered off".into() });
                }
                // Its end will be noticed when it comes.
                None
            }
            VmmCommand::Destroy => Some(self.destroy().await),
            VmmCommand::ConsoleRead { request_id, bytes_max } => {
                self.console_drain().await;
                let (data, written_unix_ms) =
                    self.console.newest(bytes_max as usize).unwrap_or_else(|error| {
                        tracing::error!(vm = %self.vm, %error, "cannot read a console");
                        Default::default()
                    });
                Some(VmmEvent::Console { request_id, data, written_unix_ms })
            }
        }
    }

    /// Starts the VM, or begins to wait; of that is spoken only if it takes long.
    async fn start(&mut self, spec: Box<VmSpec>) -> Option<VmmEvent> {
        self.waiting = None;
        if self.running.is_some() {
            self.cards = Some(CardsWanted { interfaces: spec.interfaces, said: None });
            return Some(VmmEvent::Started);
        }
        self.cards = None;
        let failed = |why| Some(VmmEvent::StartFailed { why });
        let accelerator = match self.accelerator.wait_for(Option::is_some).await {
            Ok(known) => known.unwrap_or(Accelerator::Tcg),
            Err(_) => return failed("the agent is stopping".into()),
        };
        let (place, vm, of) = (Arc::clone(&self.place), self.vm, spec.clone());
        let started = tokio::task::spawn_blocking(move || process::start(&place, vm, &of, accelerator)).await;
        match started {
            Ok(Ok(Start::Started(started))) => match self.answering(*started, accelerator).await {
                Ok(()) => Some(VmmEvent::Started),
                Err(why) => match Card::list(&spec.interfaces) {
                    // A QEMU waits for its cards and says nothing, if the switch has gone since, or is stuck.
                    Ok(cards) if !cards.is_empty() && why == NoAnswer::Silent => {
                        self.wait(spec, cards);
                        let why = "the host's switch listens, and does not answer its QEMU".into();
                        Some(VmmEvent::Waiting { why })
                    }
                    Ok(_) | Err(_) => failed(self.with_log(why.to_string())),
                },
            },
            Ok(Ok(Start::Waiting { cards })) => {
                self.wait(spec, cards);
                None
            }
            Ok(Err(error)) => failed(chain(&error)),
            Err(error) => failed(chain(&error)),
        }
    }

    fn wait(&mut self, spec: Box<VmSpec>, cards: Vec<Card>) {
        let (since, pause) = (Instant::now(), SWITCH_AGAIN_FIRST);
        self.waiting =
            Some(Waiting { spec, cards, since, look_at: since + pause, pause, said: String::new() });
    }

    /// Starts a VM that waits if the switch is there now; says so if it takes long.
    async fn switch_look(&mut self) -> Option<VmmEvent> {
        let waiting = self.waiting.as_mut()?;
        let Some(why) = self.place.vnet.silent(&waiting.cards) else {
            let waiting = self.waiting.take()?;
            return self.start(waiting.spec).await;
        };
        waiting.pause = (waiting.pause * 2).min(SWITCH_AGAIN_MAX);
        waiting.look_at = Instant::now() + waiting.pause;
        if waiting.since.elapsed() < SWITCH_PATIENCE || waiting.said == why {
            return None;
        }
        tracing::warn!(vm = %self.vm, why, "a VM waits for its network cards");
        waiting.said.clone_from(&why);
        Some(VmmEvent::Waiting { why })
    }

    /// Takes a process that was started on as soon as it answers, or ends it.
    async fn answering(&mut self, started: Started, accelerator: Accelerator) -> Result<(), NoAnswer> {
        let (vm, Started { mut process, uid, cgroup }) = (self.vm, started);
        let pid = Some(process.pid);
        let socket = self.place.directory(vm).join(files::QMP_SOCKET);
        let connected = tokio::select! {
            qmp = timeout(START_TIMEOUT, connect(&socket)) => qmp.map_err(|_| NoAnswer::Silent),
            why = process.ended() => Err(NoAnswer::Ended(why)),
        };
        match connected {
            Ok(qmp) => {
                tracing::info!(%vm, pid, accelerator = accelerator.as_str(), "started a VM");
                self.running =
                    Some(RunningVm { process, qmp: Some(qmp), halted: false, stalled: false, asked: false });
                self.process_set(Some(VmProcess { pid, uid, cgroup }));
                Ok(())
            }
            Err(why) => {
                process.kill();
                let _ = timeout(KILL_TIMEOUT, process.ended()).await;
                isolation::cgroup_remove(vm);
                Err(why)
            }
        }
    }

    /// Brings the cards nearer to what they shall be; says what is missing when that has changed.
    async fn cards_look(&mut self) -> Option<VmmEvent> {
        let wanted = self.cards.as_mut()?;
        let running = self.running.as_mut()?;
        let qmp = running.qmp.as_mut()?;
        let missing = match plug::step(&self.place, self.vm, &wanted.interfaces, qmp).await {
            Ok(missing) => missing,
            Err(error) => {
                if matches!(&error, PlugError::Qmp(error) if !matches!(error, QmpError::Refused { .. })) {
                    running.qmp = None;
                }
                plug::failed(&error)
            }
        };
        let news = wanted.said.as_ref() != Some(&missing);
        wanted.said = Some(missing.clone());
        if missing.is_empty() {
            self.cards = None;
        }
        news.then_some(VmmEvent::Interfaces { missing })
    }

    /// Ends the process: politely, so that its disk is flushed, or at once. Says whether it is gone.
    async fn end(&mut self, politely: bool) -> bool {
        if politely {
            self.console_drain().await;
            self.execute("quit", json!({})).await;
        }
        let Some(running) = &mut self.running else { return true };
        // To whom nobody can speak, nothing polite can have been said.
        let mut gone =
            politely && running.qmp.is_some() && timeout(QUIT_TIMEOUT, running.process.ended()).await.is_ok();
        if !gone {
            running.process.kill();
            gone = timeout(KILL_TIMEOUT, running.process.ended()).await.is_ok();
        }
        if gone {
            self.gone();
        }
        gone
    }

    async fn destroy(&mut self) -> VmmEvent {
        self.waiting = None;
        if !self.end(false).await {
            let why = String::from("its QEMU does not end although it was killed");
            return VmmEvent::DestroyFailed { why };
        }
        let (place, vm) = (Arc::clone(&self.place), self.vm);
        match tokio::task::spawn_blocking(move || process::remove(&place, vm)).await {
            Ok(Ok(())) => VmmEvent::Destroyed,
            Ok(Err(error)) => VmmEvent::DestroyFailed { why: chain(&error) },
            Err(error) => VmmEvent::DestroyFailed { why: chain(&error) },
        }
    }

    async fn notice(&mut self, happening: Happening) -> Option<VmmEvent> {
        match happening {
            Happening::Ended(why) => {
                self.gone();
                Some(VmmEvent::Exited { why: self.with_log(format!("its QEMU ended: {why}")) })
            }
            Happening::Event(event) => self.qmp_event(event).await,
            Happening::Lost(error) => {
                tracing::debug!(vm = %self.vm, error = chain(&error), "lost a QMP connection");
                self.running.as_mut()?.qmp = None;
                None
            }
        }
    }

    async fn qmp_event(&mut self, event: QmpEvent) -> Option<VmmEvent> {
        match event.name.as_str() {
            "SHUTDOWN" if event.data.get("guest") == Some(&Value::Bool(true)) => self.halted().await,
            "STOP" => self.state_look().await,
            "RESUME" => {
                self.running.as_mut()?.stalled = false;
                None
            }
            // The guest has restarted itself, in the same process; nothing changes for anybody.
            "RESET" => None,
            _ => None,
        }
    }

    /// The guest has switched itself off: says so, once.
    async fn halted(&mut self) -> Option<VmmEvent> {
        self.console_drain().await;
        let running = self.running.as_mut()?;
        let news = !running.halted;
        running.halted = true;
        news.then_some(VmmEvent::GuestShutdown)
    }

    async fn state_look(&mut self) -> Option<VmmEvent> {
        let running = self.running.as_mut()?;
        match run_state(running.qmp.as_mut()?).await.as_deref() {
            Some("shutdown") => self.halted().await,
            Some("io-error") => {
                running.stalled = true;
                tracing::error!(vm = %self.vm, "its guest is paused: its disk cannot be written");
                None
            }
            _ => None,
        }
    }

    /// Once a second: the console, a lost connection, a paused guest.
    async fn look_after(&mut self) -> Option<VmmEvent> {
        process::log_bound(&self.place.directory(self.vm));
        let running = self.running.as_mut()?;
        if running.qmp.is_none() {
            let socket = self.place.directory(self.vm).join(files::QMP_SOCKET);
            let qmp = timeout(RECONNECT_TIMEOUT, QmpClient::connect(&socket)).await;
            running.qmp = qmp.ok().and_then(Result::ok);
            return self.state_look().await;
        }
        let (stalled, asked) = (running.stalled, running.asked && !running.halted);
        if stalled {
            self.execute("cont", json!({})).await;
        }
        if asked {
            self.execute("system_powerdown", json!({})).await;
        }
        self.console_drain().await;
        self.cards_look().await
    }

    /// Moves what the guest has written from QEMU's memory to the console's file.
    async fn console_drain(&mut self) {
        for _ in 0..=RING_BYTES / CONSOLE_PIECE_BYTES {
            let arguments = json!({"device": "console", "size": CONSOLE_PIECE_BYTES, "format": "base64"});
            let Some(Value::String(piece)) = self.execute("ringbuf-read", arguments).await else { return };
            let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(piece) else { return };
            if let Err(error) = self.console.append(&bytes) {
                tracing::error!(vm = %self.vm, %error, "cannot write a console");
            }
            if bytes.len() < CONSOLE_PIECE_BYTES {
                return;
            }
        }
    }

    /// Executes a QMP command if there is somebody to execute it. A connection that fails is given up.
    async fn execute(&mut self, command: &'static str, arguments: Value) -> Option<Value> {
        let running = self.running.as_mut()?;
        match running.qmp.as_mut()?.execute(command, arguments).await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(vm = %self.vm, error = chain(&error), "a QMP command failed");
                if !matches!(error, QmpError::Refused { .. }) {
                    running.qmp = None;
                }
                None
            }
        }
    }

    fn gone(&mut self) {
        self.running = None;
        self.cards = None;
        self.process_set(None);
        isolation::cgroup_remove(self.vm);
    }

    fn process_set(&self, process: Option<VmProcess>) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        match process {
            Some(process) => processes.insert(self.vm, process),
            None => processes.remove(&self.vm),
        };
    }

    fn with_log(&self, why: String) -> String {
        let log = process::log_tail(&self.place.directory(self.vm));
        if log.is_empty() { why } else { format!("{why} ({log})") }
    }
}
