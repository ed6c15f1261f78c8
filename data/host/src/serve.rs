//! The process around the agent: reads the config, takes the directory's lock, keeps the link to the cell, carries
//! out the agent's effects in order.
//!
//! One task owns the agent and the ledger's order; the ledger is written on a blocking thread. SIGTERM and SIGINT
//! end the process at once and leave every guest running; SIGPWR shuts the guests down first.

use crate::accelerator::{self, AcceleratorAnswer};
use crate::agent::{Effect, Event, HostAgent, HostCapacity, HostIdentity};
use crate::card::Vnet;
use crate::config::{HostConfig, VmmChoice};
use crate::ledger::{LedgerChange, LedgerDirectory, LedgerError};
use crate::qemu::command::Accelerator;
use crate::qemu::driver::QemuDriver;
use crate::qemu::process::Place;
use crate::status::{self, CapacityStatus, Fixed, StatusFile};
use crate::vmm::simulated::{SimulatedDriver, SimulatedPace};
use crate::vmm::{Vmm, VmmEvent};
use base::clock::Timestamp;
use base::error::chain;
use base::ids::InstanceId;
use contract::cell_for_hosts_client::CellForHostsClient;
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{Credentials, Identity, Role, TrustError};
use contract::{FromHost, ToHost};
use rustix::fs::{FlockOperation, flock};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(200);
const EVENTS_MAX: usize = 1024;
/// Beyond the guests' own time to shut down, before the machine is let go regardless.
const POWER_OFF_GRACE: Duration = Duration::from_secs(15);
/// From Linux's `signal(7)`; the machine's power fails or its operator says so.
const SIGPWR: i32 = 30;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The config is wrong; the message says what to do.
    #[error("the host's config cannot be used: {0}")]
    Config(String),
    /// Another agent has the directory.
    #[error("another host agent runs on {0}; two must never share a directory")]
    Locked(PathBuf),
    /// A file or directory cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger cannot be read.
    #[error("the host's ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// The certificates cannot be read.
    #[error("the host has no usable certificate; check `credentials` in its config")]
    Trust(#[from] TrustError),
    /// The operating system refuses a signal handler.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// What the owner task hears.
enum Input {
    Agent(Event),
    LinkUp(Outbox<FromHost>),
    LinkDown(String),
    Accelerator(AcceleratorAnswer),
}

/// Runs the agent until a signal ends it. Guests go on, except after SIGPWR.
pub async fn serve(config: HostConfig) -> Result<(), HostError> {
    config.check().map_err(HostError::Config)?;
    let directory = directory_open(&config)?;
    let _lock = lock(&directory)?;
    let credentials = Arc::new(Credentials::open(&config.credentials)?);
    let (ledger_directory, ledger) = LedgerDirectory::open(&directory)?;
    for (id, why) in &ledger.damaged {
        tracing::error!(vm = %id, why, "a VM's record is damaged; the VM is left alone");
    }
    if !ledger.host_damaged.is_empty() {
        tracing::error!(why = ledger.host_damaged, "the ledger is damaged; what is certain of it is kept");
    }
    let (inputs, queue) = mpsc::channel(EVENTS_MAX);
    let (vmm_events, vmm_queue) = mpsc::channel(EVENTS_MAX);
    let (accelerator, accelerator_known) = watch::channel(None);
    let place = Place {
        vms: directory.join("vms"),
        images: std::path::absolute(&config.images).unwrap_or_else(|_| config.images.clone()),
        vnet: Vnet::at(directory.join("vnet")),
        uids: config.uids(),
    };
    let vmm: Box<dyn Vmm> = match config.vmm {
        VmmChoice::Simulated => {
            Box::new(SimulatedDriver::new(&place.vms, SimulatedPace::default(), vmm_events))
        }
        VmmChoice::Qemu => Box::new(QemuDriver::new(place, accelerator_known, vmm_events)),
    };
    let (writes, write_queue) = mpsc::channel(1);
    std::thread::spawn({
        let inputs = inputs.clone();
        move || write_ledger(ledger_directory, write_queue, &inputs)
    });
    // Dropped with this future, and the link with it.
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(background(config.clone(), directory.clone(), credentials, inputs.clone()));
    let fixed = Fixed {
        capacity: CapacityStatus::look(&config),
        started: Timestamp::now(),
        host_damaged: ledger.host_damaged.clone(),
        config: config.clone(),
    };
    let identity = HostIdentity { host: config.host_id.clone(), rack: config.rack_id.clone() };
    let capacity = HostCapacity {
        vcpus: config.vcpus,
        memory_mib: config.memory_mib,
        shutdown_timeout: Duration::from_secs(config.shutdown_timeout_s),
        ..HostCapacity::default()
    };
    let owner = Owner {
        agent: HostAgent::recover(identity, capacity, ledger),
        directory,
        fixed,
        vmm,
        accelerator,
        accelerator_answer: None,
        outbox: None,
        writes,
        status_written: Vec::new(),
        all_stopped: false,
    };
    owner.run(queue, vmm_queue).await
}

/// Makes the directory, and names it by its one true path: VMs are recognised by it.
fn directory_open(config: &HostConfig) -> Result<PathBuf, HostError> {
    use std::os::unix::fs::DirBuilderExt;
    let path = &config.directory;
    let error = |source| HostError::File { path: path.clone(), source };
    for directory in [path.clone(), path.join("vms")] {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(directory).map_err(error)?;
    }
    path.canonicalize().map_err(error)
}

/// The lock that keeps a second agent out, held by the file's being open.
fn lock(directory: &Path) -> Result<std::fs::File, HostError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| HostError::File { path: path.clone(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(HostError::Locked(directory.to_owned())),
        Err(error) => Err(HostError::File { path, source: error.into() }),
    }
}

/// Finds out what runs the guests, and then keeps the link, whose first message says that.
async fn background(
    config: HostConfig,
    directory: PathBuf,
    credentials: Arc<Credentials>,
    inputs: mpsc::Sender<Input>,
) {
    if config.vmm == VmmChoice::Qemu {
        let uids = config.uids();
        let answer = accelerator::choose(config.accelerator, &directory, &config.images, uids).await;
        tracing::info!(accelerator = answer.accelerator.as_str(), reason = answer.reason, "accelerator");
        if inputs.send(Input::Accelerator(answer)).await.is_err() {
            return;
        }
    }
    let peer = Identity::new(Role::Cell, &config.cell_id);
    let open = |channel, messages| async move {
        let bytes_max = link::message_bytes_max();
        let client = CellForHostsClient::new(channel);
        client.max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max).link(messages).await
    };
    link::keep(
        config.cell,
        credentials,
        peer,
        open,
        inputs,
        |event: LinkEvent<FromHost, ToHost>| match event {
            LinkEvent::Up(outbox) => Input::LinkUp(outbox),
            LinkEvent::Message(message) => Input::Agent(Event::Cell(message)),
            LinkEvent::Down(reason) => Input::LinkDown(reason),
        },
    )
    .await;
}

/// Writes one change after the other, on a thread that may block.
fn write_ledger(
    mut ledger: LedgerDirectory,
    mut queue: mpsc::Receiver<(u64, LedgerChange)>,
    inputs: &mpsc::Sender<Input>,
) {
    while let Some((ticket, change)) = queue.blocking_recv() {
        let result = ledger.write(change).map_err(|error| {
            tracing::error!(error = chain(&error), "cannot write the ledger");
            chain(&error)
        });
        if inputs.blocking_send(Input::Agent(Event::Persisted { ticket, result })).is_err() {
            return;
        }
    }
}

/// The task that owns the agent.
struct Owner {
    agent: HostAgent,
    directory: PathBuf,
    fixed: Fixed,
    vmm: Box<dyn Vmm>,
    accelerator: watch::Sender<Option<Accelerator>>,
    accelerator_answer: Option<AcceleratorAnswer>,
    outbox: Option<Outbox<FromHost>>,
    writes: mpsc::Sender<(u64, LedgerChange)>,
    status_written: Vec<u8>,
    all_stopped: bool,
}

/// What the owner task waits for.
enum Turn {
    Input(Option<Input>),
    Vmm(Option<(InstanceId, VmmEvent)>),
    Tick,
    Leave(&'static str),
    PowerOff,
    PowerOffLate,
}

impl Owner {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut vmm_events: mpsc::Receiver<(InstanceId, VmmEvent)>,
    ) -> Result<(), HostError> {
        let listen = |kind| signal(kind).map_err(HostError::Signals);
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut power: Signal = listen(SignalKind::from_raw(SIGPWR))?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut power_off_by: Option<Instant> = None;
        let found = self.vmm.survey().await;
        self.take(Event::Surveyed(found));
        loop {
            let late = async {
                match power_off_by {
                    Some(by) => tokio::time::sleep_until(by).await,
                    None => std::future::pending().await,
                }
            };
            let turn = tokio::select! {
                biased;
                _ = terminate.recv() => Turn::Leave("SIGTERM"),
                _ = interrupt.recv() => Turn::Leave("SIGINT"),
                _ = power.recv() => Turn::PowerOff,
                () = late => Turn::PowerOffLate,
                _ = tick.tick() => Turn::Tick,
                event = vmm_events.recv() => Turn::Vmm(event),
                input = inputs.recv() => Turn::Input(input),
            };
            match turn {
                Turn::Input(Some(input)) => self.hear(input),
                Turn::Vmm(Some((vm, event))) => self.take(Event::Vmm { vm, event }),
                Turn::Tick => {
                    self.take(Event::Tick);
                    self.status_write();
                }
                Turn::Leave(why) => {
                    tracing::info!(why, "leaving; the guests go on");
                    return Ok(());
                }
                Turn::PowerOff => {
                    tracing::info!("SIGPWR: shutting the guests down");
                    let by = Duration::from_secs(self.fixed.config.shutdown_timeout_s) + POWER_OFF_GRACE;
                    power_off_by.get_or_insert(Instant::now() + by);
                    self.take(Event::PowerOff);
                }
                Turn::PowerOffLate => {
                    tracing::error!("guests did not stop in time; leaving");
                    return Ok(());
                }
                // The senders live as long as this task does.
                Turn::Input(None) | Turn::Vmm(None) => return Ok(()),
            }
            if self.all_stopped {
                self.status_write();
                tracing::info!("all guests are down; leaving");
                return Ok(());
            }
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::Agent(event) => self.take(event),
            Input::LinkUp(outbox) => {
                tracing::info!("the cell is reached");
                self.outbox = Some(outbox);
                self.take(Event::CellUp);
            }
            Input::LinkDown(reason) => {
                tracing::warn!(reason, "the cell is lost; the guests go on");
                self.outbox = None;
                self.take(Event::CellDown);
            }
            Input::Accelerator(answer) => {
                self.accelerator.send_replace(Some(answer.accelerator));
                self.take(Event::AcceleratorKnown(answer.accelerator.as_str().into()));
                self.accelerator_answer = Some(answer);
            }
        }
    }

    /// Has the agent take an event, and carries out what it wants, in order.
    fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.agent.apply(Timestamp::now(), event) {
                match effect {
                    Effect::Persist { ticket, change } => {
                        // The agent has one write outstanding at the most, so there is room.
                        if self.writes.try_send((ticket, change)).is_err() {
                            let result = Err(String::from("the ledger's writer is gone"));
                            events.push_back(Event::Persisted { ticket, result });
                        }
                    }
                    Effect::ToCell(message) => {
                        if let Some(outbox) = &self.outbox {
                            outbox.send(message);
                        }
                    }
                    Effect::Vmm { vm, command } => self.vmm.command(vm, command),
                    Effect::Step(step) => {
                        if let Some(crash_at) = &self.fixed.config.crash_at {
                            crash_at.reached(step);
                        }
                    }
                    Effect::AllStopped => self.all_stopped = true,
                }
            }
        }
    }

    fn status_write(&mut self) {
        let accelerator = self.accelerator_answer.as_ref();
        let connected = self.outbox.is_some();
        let status = StatusFile::of(&self.fixed, &self.agent, self.vmm.as_ref(), accelerator, connected);
        let bytes = match serde_json::to_vec_pretty(&status) {
            Ok(bytes) if bytes != self.status_written => bytes,
            Ok(_) | Err(_) => return,
        };
        match status::write(&self.directory, &bytes) {
            Ok(()) => self.status_written = bytes,
            Err(error) => tracing::warn!(%error, "cannot write status.json"),
        }
    }
}
