//! The process around the region's core: the store, the links to zones and cells, the API and the operator's
//! service. One task owns the core; it takes one event at a time and carries out the effects in order.

use crate::api::{Api, Facts};
use crate::asker::{Ask, Asker};
use crate::config::RegionConfig;
use crate::image::{ImageError, images_read};
use crate::model::Model;
use crate::operator::OperatorService;
use crate::record::{CURSOR_SECRET_KEY, LEADER_KEY, TERM_KEY};
use crate::region::{Effect, Event, Identity, Region};
use base::clock::SteadyClock;
use base::config::CrashAt;
use base::ids::{CellId, ZoneName};
use base::random::Random;
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{self, Credentials, TrustError};
use contract::{ConsoleData, FromCell, RegionToZone, ToCell, ZoneSummary};
use gateway::{Credential, CredentialSource, Gateway, GatewayConfig, Services};
use metastore::election::{self, Election, Leadership, Standing};
use metastore::table::TableError;
use metastore::{Commit, CommitError, Condition, Op, PlaceError, ReadError, Revision, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::TcpListenerStream;

const TICK: Duration = Duration::from_millis(250);
/// Messages of links that wait for the owner; a link that has more to say waits.
const EVENTS_WAITING: usize = 4_096;
/// How long a port may still be another process's.
const LISTEN_WAIT: Duration = Duration::from_secs(3);
const LISTEN_AGAIN: Duration = Duration::from_millis(20);
/// Asks of the API that wait for the owner; more are refused as busy.
const ASKS_WAITING: usize = 10_000;

/// Why a region ends.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The store cannot be opened, or led with.
    #[error("cannot use the region's store")]
    Place(#[from] PlaceError),
    /// Another process may lead now. Whatever this one has promised is durable.
    #[error("this process leads no longer: {0}")]
    Lost(String),
    /// The store cannot be read.
    #[error("cannot read the region's store")]
    Read(#[from] ReadError),
    /// The store cannot be written; what is durable is safe, and the next start goes on from it.
    #[error("cannot write the region's store")]
    Write(#[from] CommitError),
    /// A stored record cannot be read.
    #[error("the region's store holds what this version cannot read")]
    Record(#[from] TableError),
    /// Images cannot be read.
    #[error("cannot offer images")]
    Images(#[from] ImageError),
    /// Certificates cannot be used.
    #[error("cannot prove who this region is")]
    Trust(#[from] TrustError),
    /// A port cannot be listened on.
    #[error("cannot listen on {address}; choose another with --port")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or signal cannot be set up.
    #[error("cannot start the region")]
    Start(#[from] std::io::Error),
    /// The internal server cannot be set up.
    #[error("cannot serve the operator")]
    Serve(#[from] tonic::transport::Error),
}

/// What the owner's loop is woken by.
enum Input {
    Cell(CellId, LinkEvent<ToCell, FromCell>),
    Zone(ZoneName, LinkEvent<RegionToZone, ZoneSummary>),
}

/// Runs a region until it is told to stop (SIGTERM, SIGINT) or cannot go on.
pub async fn serve(config: RegionConfig) -> Result<(), RegionError> {
    let credentials = Arc::new(Credentials::open(&config.credentials)?);
    let images = images_read(&config.images)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (store, mut leadership) = tokio::select! {
        led = lead(&config) => led?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let (term, leads) = (leadership.term(), leadership.fence());
    let cursor_secret = secret(&store, leads.clone()).await?;
    let (entries, revision) = store.list(b"").await?;
    let model = Model::load(entries, revision)?;
    let zones: Vec<(ZoneName, Vec<CellId>)> = config
        .zones
        .iter()
        .map(|zone| (zone.name.clone(), zone.cells.iter().map(|cell| cell.id.clone()).collect()))
        .collect();
    let identity = Identity {
        name: config.region.clone(),
        zones: zones.clone(),
        vcpus_per_account: config.vcpus_per_account,
        images: images.iter().map(|image| image.id).collect(),
        pools: config.pools,
    };
    let region = Region::recover(identity, term, leads, store.incarnation(), model, Random::from_os());
    let (asker, asks) = Asker::new(ASKS_WAITING);
    let (inputs, input) = mpsc::channel(EVENTS_WAITING);
    links_keep(&config, &credentials, &inputs);

    let api_listener = listen(&config.api_listen).await?;
    let api_address = api_listener.local_addr()?;
    let facts = Facts {
        networks: config.networks,
        region: config.region.clone(),
        zones: zones.into_iter().map(|(zone, _)| zone).collect(),
        images,
        endpoint: api_address.to_string(),
        vcpus_per_account: config.vcpus_per_account,
        cursor_secret,
    };
    let api = Arc::new(Api::new(facts, region.model(), asker.clone()));
    let services = Services { ec2: api.clone(), sts: api.clone(), service_quotas: api };
    let gateway_config = GatewayConfig {
        region: config.region.clone(),
        requests_per_second_per_account: config.requests_per_second_per_account,
    };
    let gateway = Gateway::new(gateway_config, services, Arc::new(Keys(region.model())));

    let operator_listener = listen(&config.operator_listen).await?;
    let operator_address = operator_listener.local_addr()?;
    let operator = OperatorService::new(config.region.clone(), region.model(), asker);
    let operator = contract::operator_server::OperatorServer::new(operator);
    let operator = link::server(&credentials)?
        .add_service(operator)
        .add_service(backup::service(&store))
        .serve_with_incoming(TcpListenerStream::new(operator_listener));

    address_write(&config.operator_address_file, &operator_address.to_string())?;
    address_write(&config.api_address_file, &api_address.to_string())?;
    tracing::info!(%api_address, %term, revision = revision.0, "the region serves");

    let owner = Owner::new(region, store, config.crash_at.clone());
    let serving = tokio::spawn(gateway.clone().serve(api_listener));
    let ended = tokio::select! {
        ended = owner.run(input, asks) => ended,
        served = operator => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = leadership.lost() => Err(RegionError::Lost(why)),
    };
    // With the owner gone, whoever still waits for it is answered that the region is stopping.
    serving.abort();
    gateway.drained().await;
    leadership.resign().await;
    ended
}

/// Waits until this process leads. While the store cannot be reached and nobody has the API's port, customers are told
/// so there.
async fn lead(config: &RegionConfig) -> Result<(Store, Leadership), RegionError> {
    let election = Election {
        leader_key: LEADER_KEY.as_bytes().to_vec(),
        term_key: TERM_KEY.as_bytes().to_vec(),
        owner: format!("region/{}", config.region),
        who: config.process.clone(),
        ttl: election::TTL,
    };
    let mut apology = Apology::default();
    let listen = config.api_listen.clone();
    let led = config.store.lead(&election, config.state_bytes_max, |standing| {
        tracing::info!("this process {standing}");
        standing_write(&config.standing_file, &standing);
        match standing {
            Standing::Cut(_) => apology.begin(&listen),
            Standing::StandsBy { .. } | Standing::Leads(_) => apology.end(),
        }
    });
    Ok(led.await?)
}

fn standing_write(path: &Path, standing: &Standing) {
    // For `nephos status` alone.
    if let Err(error) = base::disk::file_replace(path, standing.to_string().as_bytes(), 0o644) {
        tracing::warn!(%error, "cannot write how this process stands");
    }
}

/// The API's port while nothing can be answered: whoever asks is told to try again, as SDKs do by themselves.
#[derive(Default)]
struct Apology(Option<tokio::task::JoinHandle<()>>);

impl Apology {
    fn begin(&mut self, listen: &str) {
        if self.0.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let listen = listen.to_owned();
        self.0 = Some(tokio::spawn(async move {
            // Else a leader has it, or another that waits as we do.
            if let Ok(listener) = TcpListener::bind(&listen).await {
                tracing::warn!(
                    listen,
                    "the store cannot be reached: requests are answered ServiceUnavailable"
                );
                gateway::unavailable(listener).await;
            }
        }));
    }

    fn end(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Drop for Apology {
    fn drop(&mut self) {
        self.end();
    }
}

/// The secret that cursors are signed with: drawn at the first start.
async fn secret(store: &Store, leads: Condition) -> Result<[u8; 32], RegionError> {
    let key = CURSOR_SECRET_KEY.as_bytes().to_vec();
    if let Some(secret) = store.get(&key).await?.and_then(|entry| entry.value.try_into().ok()) {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    Random::from_os().fill(&mut secret);
    let commit = Commit { conditions: vec![leads], ops: vec![Op::Put(key, secret.to_vec())] };
    store.commit(commit).await?;
    Ok(secret)
}

/// Listens. A former leader that has not noticed yet, or one that apologises for it, leaves the port in a moment.
async fn listen(address: &str) -> Result<TcpListener, RegionError> {
    let began = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && began.elapsed() < LISTEN_WAIT => {
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
            Err(source) => return Err(RegionError::Listen { address: address.into(), source }),
        }
    }
}

fn address_write(path: &Path, address: &str) -> std::io::Result<()> {
    base::disk::file_replace(path, address.as_bytes(), 0o644)
}

fn links_keep(config: &RegionConfig, credentials: &Arc<Credentials>, inputs: &mpsc::Sender<Input>) {
    use contract::cell_for_region_client::CellForRegionClient;
    use contract::zone_for_region_client::ZoneForRegionClient;
    for zone in &config.zones {
        let peer = trust::Identity::new(trust::Role::Zone, &zone.name);
        let name = zone.name.clone();
        tokio::spawn(link::keep(
            zone.address.clone(),
            credentials.clone(),
            peer,
            |channel, messages| async move {
                ZoneForRegionClient::new(channel)
                    .max_decoding_message_size(link::message_bytes_max())
                    .link(messages)
                    .await
            },
            inputs.clone(),
            move |event| Input::Zone(name.clone(), event),
        ));
        for cell in &zone.cells {
            let peer = trust::Identity::new(trust::Role::Cell, &cell.id);
            let id = cell.id.clone();
            tokio::spawn(link::keep(
                cell.address.clone(),
                credentials.clone(),
                peer,
                |channel, messages| async move {
                    CellForRegionClient::new(channel)
                        .max_decoding_message_size(link::message_bytes_max())
                        .link(messages)
                        .await
                },
                inputs.clone(),
                move |event| Input::Cell(id.clone(), event),
            ));
        }
    }
}

/// The gateway's view of the accounts' keys.
struct Keys(Arc<RwLock<Model>>);

impl CredentialSource for Keys {
    fn find(&self, access_key_id: &str) -> Option<Credential> {
        let model = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let account = model.account_of_key(access_key_id)?;
        Some(Credential {
            account: account.account_id.parse().ok()?,
            secret_access_key: account.secret_access_key.clone(),
            principal_arn: format!("arn:aws:iam::{}:root", account.account_id),
            principal_id: account.account_id.clone(),
        })
    }
}

type Change = oneshot::Sender<Result<crate::request::Answer, crate::refusal::Refusal>>;

/// The task that owns the core.
struct Owner {
    region: Region,
    clock: SteadyClock,
    store: Store,
    crash_at: Option<CrashAt>,
    cells: BTreeMap<CellId, Outbox<ToCell>>,
    /// Held, because dropping a link's outbox ends the link.
    zones: BTreeMap<ZoneName, Outbox<RegionToZone>>,
    changes: BTreeMap<u64, Change>,
    consoles: BTreeMap<u64, oneshot::Sender<Option<ConsoleData>>>,
    next: u64,
    /// As many at most as commits are in flight: one an account.
    committed: mpsc::UnboundedSender<(u64, Result<Revision, CommitError>)>,
    commits: mpsc::UnboundedReceiver<(u64, Result<Revision, CommitError>)>,
}

impl Owner {
    fn new(region: Region, store: Store, crash_at: Option<CrashAt>) -> Owner {
        let (committed, commits) = mpsc::unbounded_channel();
        Owner {
            region,
            clock: SteadyClock::start(),
            store,
            crash_at,
            cells: BTreeMap::new(),
            zones: BTreeMap::new(),
            changes: BTreeMap::new(),
            consoles: BTreeMap::new(),
            next: 1,
            committed,
            commits,
        }
    }

    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut asks: mpsc::Receiver<Ask>,
    ) -> Result<(), RegionError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                Some((ticket, result)) = self.commits.recv() => {
                    // A commit that breaks a bound, or that a full store refused, changed nothing and was answered;
                    // anything else means that this process cannot go on.
                    let lives_on = |e: &CommitError| matches!(e, CommitError::OutOfBounds(_) | CommitError::Full(_));
                    let failed = result.clone().err().filter(|e| !lives_on(e));
                    self.carry_out(Event::Committed { ticket, result });
                    match failed {
                        Some(error) => return Err(error.into()),
                        None => continue,
                    }
                }
                Some(input) = inputs.recv() => self.input(input),
                Some(ask) = asks.recv() => self.ask(ask),
                _ = tick.tick() => Some(Event::Tick),
                else => return Ok(()),
            };
            if let Some(event) = event {
                self.carry_out(event);
            }
        }
    }

    fn input(&mut self, input: Input) -> Option<Event> {
        Some(match input {
            Input::Cell(cell, LinkEvent::Up(outbox)) => {
                tracing::info!(%cell, "the cell is connected");
                self.cells.insert(cell.clone(), outbox);
                Event::CellUp(cell)
            }
            Input::Cell(cell, LinkEvent::Message(message)) => Event::Cell(cell, message),
            Input::Cell(cell, LinkEvent::Down(why)) => {
                tracing::warn!(%cell, why, "the cell is not connected");
                self.cells.remove(&cell);
                Event::CellDown(cell)
            }
            Input::Zone(zone, LinkEvent::Up(outbox)) => {
                tracing::info!(%zone, "the zone is connected");
                self.zones.insert(zone.clone(), outbox);
                Event::ZoneUp(zone)
            }
            Input::Zone(zone, LinkEvent::Message(summary)) => Event::Zone(zone, summary),
            Input::Zone(zone, LinkEvent::Down(why)) => {
                tracing::warn!(%zone, why, "the zone is not connected");
                self.zones.remove(&zone);
                Event::ZoneDown(zone)
            }
        })
    }

    fn ask(&mut self, ask: Ask) -> Option<Event> {
        let id = self.next;
        self.next += 1;
        match ask {
            Ask::Change { account, request, answer } => {
                self.changes.insert(id, answer);
                Some(Event::Request { id, account, request })
            }
            Ask::Console { instance, answer } => {
                self.consoles.insert(id, answer);
                Some(Event::ConsoleRead { id, instance })
            }
            Ask::Fleet { answer } => {
                let _ = answer.send(self.region.fleet().clone());
                None
            }
        }
    }

    fn carry_out(&mut self, event: Event) {
        for effect in self.region.apply(self.clock.now(), event) {
            match effect {
                Effect::Commit { ticket, commit } => self.commit(ticket, commit),
                Effect::ToCell(cell, message) => {
                    if let Some(outbox) = self.cells.get(&cell) {
                        outbox.send(message);
                    }
                }
                Effect::Answer { id, result } => {
                    if let Some(answer) = self.changes.remove(&id) {
                        let _ = answer.send(result);
                    }
                }
                Effect::Console { id, data } => {
                    if let Some(answer) = self.consoles.remove(&id) {
                        let _ = answer.send(data);
                    }
                }
                Effect::Step(step) => {
                    if let Some(crash_at) = &self.crash_at {
                        crash_at.reached(step);
                    }
                }
            }
        }
    }

    fn commit(&self, ticket: u64, commit: Commit) {
        let committed = self.committed.clone();
        let done = Box::new(move |result| {
            let _ = committed.send((ticket, result));
        });
        if let Err(busy) = self.store.submit(commit, done) {
            // The store's queue is full: this account waits for room, and only this one.
            let commit = self.store.commit(busy.commit);
            let on_done = busy.on_done;
            tokio::spawn(async move { on_done(commit.await) });
        }
    }
}
