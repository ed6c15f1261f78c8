//! The process around a zone: links, clock, signals. One task owns the [`Zone`]; everything else sends it events
//! through one bounded queue.
//!
//! Invariant: nothing here decides; a message is passed on, or refused for who sent it.

use crate::zone::{Effect, Event, Zone};
use base::clock::SteadyClock;
use base::ids::{CellId, ZoneName};
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{self, Credentials, Role, TrustError};
use contract::zone_for_cells_server::{ZoneForCells, ZoneForCellsServer};
use contract::zone_for_region_server::{ZoneForRegion, ZoneForRegionServer};
use contract::{CellSummary, RegionToZone, ZoneSummary, ZoneToCell};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const TICK: Duration = Duration::from_millis(250);
/// Messages from all peers that wait for the owner; peers wait while it is full.
const EVENTS_MAX: usize = 1024;

/// `nephos zone`'s configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Who this zone is; its certificate names the same.
    pub zone: ZoneName,
    /// Where to listen for the region and the cells: `address:port`; port 0 takes any free one.
    pub listen: String,
    /// Where to write the bound address.
    pub address_file: PathBuf,
    /// The directory of this process's certificate.
    pub credentials: PathBuf,
}

/// Why a zone cannot serve (any longer).
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The certificate cannot be used.
    #[error("cannot use the zone's certificate")]
    Trust(#[from] TrustError),
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
pub async fn serve(config: ZoneConfig) -> Result<(), ZoneError> {
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

fn signal(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, ZoneError> {
    tokio::signal::unix::signal(kind).map_err(|_| ZoneError::Ended("the handling of signals"))
}

/// Serves until `stop` resolves.
pub async fn serve_until(config: ZoneConfig, stop: impl Future<Output = ()>) -> Result<(), ZoneError> {
    let credentials = Credentials::open(&config.credentials)?;
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let doors = Doors { events: events_in, link_next: Arc::default() };
    // Summaries are small; the limits are those of every link all the same.
    let bytes_max = link::message_bytes_max();
    let for_region = ZoneForRegionServer::new(doors.clone())
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    let for_cells = ZoneForCellsServer::new(doors)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    let server = link::server(&credentials)?.add_service(for_region).add_service(for_cells);
    let listen_error = |source| ZoneError::Listen { address: config.listen.clone(), source };
    let incoming = link::listen(&config.listen, &config.address_file).await.map_err(listen_error)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { server.serve_with_incoming(incoming).await.map_err(ZoneError::from) });
    let shell = Shell { zone: Zone::new(config.zone), region: None, cells: BTreeMap::new() };
    let result = shell.run(events, &mut tasks, stop).await;
    tasks.shutdown().await;
    result
}

/// One link in this process's life: a peer that dials again has a new one before the old one is known to be gone.
type LinkId = u64;

/// What comes to the owner from its peers.
enum Happening {
    Region(LinkId, LinkEvent<ZoneSummary, RegionToZone>),
    Cell(LinkId, CellId, LinkEvent<ZoneToCell, CellSummary>),
}

/// Where region and cells come in.
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
impl ZoneForRegion for Doors {
    type LinkStream = ReceiverStream<Result<ZoneSummary, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<RegionToZone>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        trust::peer(&request)?.allow(Role::Region)?;
        let link = self.link();
        link::accept(request, self.events.clone(), move |event| Happening::Region(link, event)).await
    }
}

#[tonic::async_trait]
impl ZoneForCells for Doors {
    type LinkStream = ReceiverStream<Result<ZoneToCell, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<CellSummary>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let caller = trust::peer(&request)?;
        caller.allow(Role::Cell)?;
        let cell: CellId = caller
            .instance
            .parse()
            .map_err(|e: base::ids::IdError| Status::permission_denied(e.to_string()))?;
        let link = self.link();
        let event = move |event| Happening::Cell(link, cell.clone(), event);
        link::accept(request, self.events.clone(), event).await
    }
}

/// The owner task.
struct Shell {
    zone: Zone,
    region: Option<(LinkId, Outbox<ZoneSummary>)>,
    cells: BTreeMap<CellId, (LinkId, Outbox<ZoneToCell>)>,
}

impl Shell {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Happening>,
        tasks: &mut JoinSet<Result<(), ZoneError>>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ZoneError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        let mut clock = SteadyClock::start();
        loop {
            let event = tokio::select! {
                () = &mut stop => return Ok(()),
                ended = tasks.join_next() => return match ended {
                    Some(Ok(Err(error))) => Err(error),
                    _ => Err(ZoneError::Ended("the zone's server")),
                },
                Some(happening) = events.recv() => self.event(happening),
                _ = tick.tick() => Some(Event::Tick),
            };
            let Some(event) = event else { continue };
            for Effect::ToRegion(summary) in self.zone.apply(clock.now(), event) {
                if let Some((_, outbox)) = &self.region {
                    outbox.send(summary);
                }
            }
        }
    }

    /// What a peer's doings mean for the zone; `None` for a link that a newer one has replaced.
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
                    LinkEvent::Message(RegionToZone {}) => None,
                    LinkEvent::Up(_) | LinkEvent::Down(_) => {
                        tracing::info!("the region is gone");
                        self.region = None;
                        Some(Event::RegionDown)
                    }
                }
            }
            Happening::Cell(link, cell, LinkEvent::Up(outbox)) => {
                tracing::info!(%cell, "a cell has linked");
                self.cells.insert(cell.clone(), (link, outbox));
                Some(Event::CellUp(cell))
            }
            Happening::Cell(link, cell, event) => {
                self.cells.get(&cell).filter(|(newest, _)| *newest == link)?;
                match event {
                    LinkEvent::Message(summary) => Some(Event::Cell(cell, summary)),
                    LinkEvent::Up(_) | LinkEvent::Down(_) => {
                        tracing::info!(%cell, "a cell is gone");
                        self.cells.remove(&cell);
                        Some(Event::CellDown(cell))
                    }
                }
            }
        }
    }
}
