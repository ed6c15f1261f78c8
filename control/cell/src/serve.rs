//! The process around a cell: links, store, clock, signals. One task owns the [`Cell`]; everything else sends it
//! events through one bounded queue.
//!
//! ```text
//!  region ──dials──┐                              ┌──► store (own thread) ──done──┐
//!  hosts  ──dial───┼─► events ─► owner task ─► effects ─► links                   │
//!  zone  ◄─dialled─┘               ▲                                              │
//!                                  └──────────────────────────────────────────────┘
//! ```
//!
//! Invariant: nothing here decides; a message is passed on, or refused for who sent it.

use crate::cell::{Cell, CellIdentity, Effect, Event, RecoverError, Ticket};
use base::clock::SteadyClock;
use base::config::{Address, CrashAt};
use base::ids::{CellId, HostId, ZoneName};
use base::step::{LaunchStep, UnknownStep};
use contract::cell_for_hosts_server::{CellForHosts, CellForHostsServer};
use contract::cell_for_region_server::{CellForRegion, CellForRegionServer};
use contract::cell_for_switches_server::{CellForSwitches, CellForSwitchesServer};
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{self, Credentials, Identity, Role, TrustError};
use contract::zone_for_cells_client::ZoneForCellsClient;
use contract::{CellSummary, FromCell, FromHost, FromSwitch, ToCell, ToHost, ToSwitch, ZoneToCell};
use metastore::election::{self, Election, Leadership};
use metastore::{Commit, CommitError, Condition, PlaceError, ReadError, Revision, Store, StorePlace};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const TICK: Duration = Duration::from_millis(250);
/// Messages from all peers that wait for the owner; peers wait while it is full.
const EVENTS_MAX: usize = 4096;
/// Commits at the store whose end the owner has not read yet.
const COMMITS_MAX: usize = 512;

/// A client or server of a link, for messages as large as links carry.
macro_rules! sized {
    ($end:expr) => {
        $end.max_decoding_message_size(link::message_bytes_max())
            .max_encoding_message_size(link::message_bytes_max())
    };
}
/// `nephos cell`'s configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellConfig {
    /// Who this cell is; its certificate names the same.
    pub cell_id: CellId,
    /// Its zone.
    pub zone: ZoneName,
    /// Where to listen for the region and the hosts: `address:port`; port 0 takes any free one.
    pub listen: String,
    /// Where to write the bound address.
    pub address_file: PathBuf,
    /// The directory of this process's certificate.
    pub credentials: PathBuf,
    /// Where the cell's store is.
    pub store: StorePlace,
    /// What the state of an embedded store may take in memory, in bytes.
    #[serde(default = "metastore::EngineOptions::state_bytes_max_default")]
    pub state_bytes_max: u64,
    /// Which of the processes that share the store this is, for people.
    pub process: String,
    /// Where to write whether this process leads.
    pub standing_file: PathBuf,
    /// Where the zone listens.
    pub zone_address: Address,
    /// For crash tests.
    pub crash_at: Option<CrashAt>,
}

/// Why a cell cannot serve (any longer).
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// The config's crash point does not exist.
    #[error("the configuration's crash_at is wrong")]
    CrashAt(#[from] UnknownStep),
    /// The certificate cannot be used.
    #[error("cannot use the cell's certificate")]
    Trust(#[from] TrustError),
    /// The store cannot be opened, or led with.
    #[error("cannot use the cell's store")]
    Place(#[from] PlaceError),
    /// Another process may lead now. Whatever this one has promised is durable.
    #[error("this process leads no longer: {0}")]
    Lost(String),
    /// The store cannot be read.
    #[error("cannot read the cell's store")]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error("cannot write the cell's store")]
    Write(#[from] CommitError),
    /// What the store holds is not understood.
    #[error("cannot recover from the cell's store")]
    Recover(#[from] RecoverError),
    /// The address cannot be bound, or not be written to its file.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server ended.
    #[error("the server failed")]
    Server(#[from] tonic::transport::Error),
    /// A part of the process is gone.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: CellConfig) -> Result<(), CellError> {
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    serve_until(config, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await
}

fn signal(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, CellError> {
    tokio::signal::unix::signal(kind).map_err(|_| CellError::Ended("the handling of signals"))
}

/// Serves until `stop` resolves.
pub async fn serve_until(config: CellConfig, stop: impl Future<Output = ()>) -> Result<(), CellError> {
    if let Some(crash_at) = &config.crash_at {
        crash_at.step.parse::<LaunchStep>()?;
    }
    let credentials = Arc::new(Credentials::open(&config.credentials)?);
    let mut stop = std::pin::pin!(stop);
    let (store, leadership) = tokio::select! {
        led = lead(&config) => led?,
        () = &mut stop => return Ok(()),
    };
    let term = leadership.term();
    let (records, _) = store.list(crate::PREFIX.as_bytes()).await?;
    let identity = CellIdentity { cell: config.cell_id.clone(), zone: config.zone.clone() };
    let cell = Cell::recover(identity, term, store.incarnation(), records)?;
    tracing::info!(cell = %config.cell_id, %term, vms = cell.vm_records().count(), "the cell has recovered");

    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let mut tasks = JoinSet::new();
    let doors = Doors { events: events_in.clone(), link_next: Arc::default() };
    let listen_error = |source| CellError::Listen { address: config.listen.clone(), source };
    let server = link::server(&credentials)?
        .add_service(sized!(CellForRegionServer::new(doors.clone())))
        .add_service(sized!(CellForHostsServer::new(doors.clone())))
        .add_service(sized!(CellForSwitchesServer::new(doors)))
        .add_service(backup::service(&store));
    let incoming = link::listen(&config.listen, &config.address_file).await.map_err(listen_error)?;
    tasks.spawn(async move { server.serve_with_incoming(incoming).await.map_err(CellError::from) });
    let zone = Identity::new(Role::Zone, &config.zone);
    let address = config.zone_address.clone();
    tasks.spawn(async move {
        let open = |channel, out: ReceiverStream<CellSummary>| async move {
            sized!(ZoneForCellsClient::new(channel)).link(out).await
        };
        link::keep(address, credentials, zone, open, events_in, Happening::Zone).await;
        Ok(())
    });

    let (done_in, done) = mpsc::channel(COMMITS_MAX);
    let shell = Shell {
        cell,
        store: store.clone(),
        fence: leadership.fence(),
        crash_at: config.crash_at,
        done: done_in,
        commits_waiting: VecDeque::new(),
        commits_under_way: 0,
        region: None,
        hosts: BTreeMap::new(),
        switches: BTreeMap::new(),
        zone: None,
    };
    let result = shell.run(events, done, &mut tasks, leadership, stop).await;
    tasks.shutdown().await;
    // The last handle: what is queued is still committed.
    let _ = tokio::task::spawn_blocking(move || drop(store)).await;
    result
}

/// Waits until this process leads.
async fn lead(config: &CellConfig) -> Result<(Store, Leadership), CellError> {
    let election = Election {
        leader_key: crate::LEADER_KEY.as_bytes().to_vec(),
        term_key: crate::TERM_KEY.as_bytes().to_vec(),
        owner: format!("cell/{}", config.cell_id),
        who: config.process.clone(),
        ttl: election::TTL,
    };
    let led = config.store.lead(&election, config.state_bytes_max, |standing| {
        tracing::info!("this process {standing}");
        // For `nephos status` alone.
        let text = standing.to_string();
        if let Err(error) = base::disk::file_replace(&config.standing_file, text.as_bytes(), 0o644) {
            tracing::warn!(%error, "cannot write how this process stands");
        }
    });
    Ok(led.await?)
}

/// One link in this process's life: a peer that dials again has a new one before the old one is known to be gone.
type LinkId = u64;

/// What comes to the owner from its peers.
enum Happening {
    Region(LinkId, LinkEvent<FromCell, ToCell>),
    Host(LinkId, HostId, LinkEvent<ToHost, FromHost>),
    Switch(LinkId, HostId, LinkEvent<ToSwitch, FromSwitch>),
    Zone(LinkEvent<CellSummary, ZoneToCell>),
}

/// Where region and hosts come in.
#[derive(Clone)]
struct Doors {
    events: mpsc::Sender<Happening>,
    link_next: Arc<AtomicU64>,
}

impl Doors {
    fn link(&self) -> LinkId {
        self.link_next.fetch_add(1, Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl CellForRegion for Doors {
    type LinkStream = ReceiverStream<Result<FromCell, Status>>;

    async fn link(&self, request: Request<Streaming<ToCell>>) -> Result<Response<Self::LinkStream>, Status> {
        trust::peer(&request)?.allow(Role::Region)?;
        let link = self.link();
        link::accept(request, self.events.clone(), move |event| Happening::Region(link, event)).await
    }
}

#[tonic::async_trait]
impl CellForHosts for Doors {
    type LinkStream = ReceiverStream<Result<ToHost, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromHost>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (host, link) = (host_named(&trust::peer(&request)?, Role::Host)?, self.link());
        let event = move |event| Happening::Host(link, host.clone(), event);
        link::accept(request, self.events.clone(), event).await
    }
}

#[tonic::async_trait]
impl CellForSwitches for Doors {
    type LinkStream = ReceiverStream<Result<ToSwitch, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromSwitch>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let (host, link) = (host_named(&trust::peer(&request)?, Role::Vswitch)?, self.link());
        let event = move |event| Happening::Switch(link, host.clone(), event);
        link::accept(request, self.events.clone(), event).await
    }
}

/// The host that a caller of this role speaks for: the one that its certificate names.
fn host_named(caller: &Identity, role: Role) -> Result<HostId, Status> {
    caller.allow(role)?;
    caller.instance.parse().map_err(|e: base::ids::IdError| Status::permission_denied(e.to_string()))
}

type Done = (Ticket, Result<Revision, CommitError>);

/// The owner task.
struct Shell {
    cell: Cell,
    store: Store,
    /// Goes into every commit.
    fence: Condition,
    crash_at: Option<CrashAt>,
    done: mpsc::Sender<Done>,
    /// Commits that the store has no room for yet, in order. The cell has one per VM and host under way at most.
    commits_waiting: VecDeque<(Ticket, Commit)>,
    commits_under_way: usize,
    region: Option<(LinkId, Outbox<FromCell>)>,
    hosts: BTreeMap<HostId, (LinkId, Outbox<ToHost>)>,
    switches: BTreeMap<HostId, (LinkId, Outbox<ToSwitch>)>,
    zone: Option<Outbox<CellSummary>>,
}

impl Shell {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Happening>,
        mut done: mpsc::Receiver<Done>,
        tasks: &mut JoinSet<Result<(), CellError>>,
        mut leadership: Leadership,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), CellError> {
        let ended = self.own(&mut events, &mut done, tasks, &mut leadership, &mut stop).await;
        leadership.resign().await;
        ended
    }

    async fn own(
        &mut self,
        events: &mut mpsc::Receiver<Happening>,
        done: &mut mpsc::Receiver<Done>,
        tasks: &mut JoinSet<Result<(), CellError>>,
        leadership: &mut Leadership,
        stop: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), CellError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clock = SteadyClock::start();
        loop {
            let event = tokio::select! {
                () = &mut *stop => return Ok(()),
                why = leadership.lost() => return Err(CellError::Lost(why)),
                ended = tasks.join_next() => return match ended {
                    Some(Ok(Err(error))) => Err(error),
                    _ => Err(CellError::Ended("a link of the cell")),
                },
                Some((ticket, result)) = done.recv() => {
                    self.commits_under_way -= 1;
                    // Whether this commit happened is known only after a restart, which is also where a cell waits
                    // for a store that cannot be reached; and who is in conflict leads no longer. What breaks a
                    // bound, or a full store refused, changed nothing.
                    let lives_on = |e: &CommitError| matches!(e, CommitError::OutOfBounds(_) | CommitError::Full(_));
                    if let Some(error) = result.clone().err().filter(|e| !lives_on(e)) {
                        return Err(CellError::Write(error));
                    }
                    Some(Event::Committed { ticket, result })
                }
                Some(happening) = events.recv() => self.event(happening),
                _ = tick.tick() => Some(Event::Tick),
            };
            if let Some(event) = event {
                for effect in self.cell.apply(clock.now(), event) {
                    self.carry_out(effect);
                }
            }
            self.commits_submit();
        }
    }

    /// What a peer's doings mean for the cell; `None` for a link that a newer one has replaced.
    fn event(&mut self, happening: Happening) -> Option<Event> {
        match happening {
            Happening::Region(link, LinkEvent::Up(outbox)) => {
                tracing::info!("the region has linked");
                self.region = Some((link, outbox));
                Some(Event::RegionUp)
            }
            Happening::Region(link, event) => {
                self.region.as_ref().filter(|(newest, _)| *newest == link)?;
                match event {
                    LinkEvent::Message(message) => Some(Event::Region(message)),
                    LinkEvent::Up(_) | LinkEvent::Down(_) => {
                        tracing::info!("the region is gone");
                        self.region = None;
                        Some(Event::RegionDown)
                    }
                }
            }
            Happening::Host(link, host, LinkEvent::Up(outbox)) => {
                tracing::info!(%host, "a host has linked");
                self.hosts.insert(host.clone(), (link, outbox));
                Some(Event::HostUp(host))
            }
            Happening::Host(link, host, event) => {
                self.hosts.get(&host).filter(|(newest, _)| *newest == link)?;
                match event {
                    LinkEvent::Message(message) => Some(Event::Host(host, message)),
                    LinkEvent::Up(_) | LinkEvent::Down(_) => {
                        tracing::info!(%host, "a host is gone");
                        self.hosts.remove(&host);
                        Some(Event::HostDown(host))
                    }
                }
            }
            Happening::Switch(link, host, LinkEvent::Up(outbox)) => {
                self.switches.insert(host.clone(), (link, outbox));
                Some(Event::SwitchUp(host))
            }
            Happening::Switch(link, host, event) => {
                self.switches.get(&host).filter(|(newest, _)| *newest == link)?;
                match event {
                    LinkEvent::Message(message) => Some(Event::Switch(host, message)),
                    LinkEvent::Up(_) | LinkEvent::Down(_) => {
                        tracing::info!(%host, "a host's switch is gone");
                        self.switches.remove(&host);
                        Some(Event::SwitchDown(host))
                    }
                }
            }
            Happening::Zone(LinkEvent::Up(outbox)) => {
                self.zone = Some(outbox);
                Some(Event::ZoneUp)
            }
            Happening::Zone(LinkEvent::Message(ZoneToCell {})) => None,
            Happening::Zone(LinkEvent::Down(reason)) => {
                tracing::info!(reason, "the zone is gone");
                self.zone = None;
                Some(Event::ZoneDown)
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Commit { ticket, mut commit } => {
                commit.conditions.push(self.fence.clone());
                self.commits_waiting.push_back((ticket, commit));
                self.commits_submit();
            }
            Effect::ToRegion(message) => {
                if let Some((_, outbox)) = &self.region {
                    outbox.send(message);
                }
            }
            Effect::ToHost(host, message) => {
                if let Some((_, outbox)) = self.hosts.get(&host) {
                    outbox.send(message);
                }
            }
            Effect::ToSwitch(host, message) => {
                if let Some((_, outbox)) = self.switches.get(&host) {
                    outbox.send(message);
                }
            }
            Effect::ToZone(summary) => {
                if let Some(outbox) = &self.zone {
                    outbox.send(summary);
                }
            }
            Effect::Step(step) => {
                if let Some(crash_at) = &self.crash_at {
                    crash_at.reached(step);
                }
            }
        }
    }

    /// Gives the store what it has room for. `done` has room for every answer, so that none is ever lost.
    fn commits_submit(&mut self) {
        while self.commits_under_way < COMMITS_MAX
            && let Some((ticket, commit)) = self.commits_waiting.pop_front()
        {
            let done = self.done.clone();
            let on_done = Box::new(move |result| {
                if done.try_send((ticket, result)).is_err() {
                    tracing::debug!("a commit ended after its cell");
                }
            });
            match self.store.submit(commit, on_done) {
                Ok(()) => self.commits_under_way += 1,
                Err(busy) => {
                    self.commits_waiting.push_front((ticket, busy.commit));
                    return;
                }
            }
        }
    }
}
