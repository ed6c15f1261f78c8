//! The process around the store: the engine, the server, signals.

use crate::answer::NAMESPACE_BYTES_MAX;
use crate::caller::Callers;
use crate::config::StoreConfig;
use crate::etcdserverpb::kv_server::KvServer;
use crate::etcdserverpb::lease_server::LeaseServer;
use crate::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::etcdserverpb::watch_server::WatchServer;
use crate::incarnation::{self, IncarnationError};
use crate::kv::Kv;
use crate::lease::Leases;
use crate::maintenance::Maintenance;
use crate::watch::Watches;
use contract::link;
use contract::trust::{Credentials, TrustError};
use metastore::{Commit, OpenError, Store, StoreOptions};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// The largest request that is read: what is larger than a commit may be is to hear so in etcd's words.
const REQUEST_BYTES_MAX: usize = 2 * Commit::BYTES_MAX;
/// How long commits in flight have to be answered when the process ends. Watches are cut off.
const DRAIN: Duration = Duration::from_secs(1);
/// Requests of one connection that are being answered.
const STREAMS_MAX: u32 = 16 * 1024;

/// Why a store cannot serve (any longer).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The certificate cannot be used.
    #[error("cannot use the store's certificate")]
    Trust(#[from] TrustError),
    /// The store cannot be opened.
    #[error("cannot open the store in {directory}")]
    Open {
        /// Where it is.
        directory: String,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// A restored store cannot be made known as one.
    #[error("cannot begin with the restored store")]
    Incarnation(#[from] IncarnationError),
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
    /// The disk failed. What was acknowledged is safe; the next start says what is there.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// A part of the process is gone.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Whether the engine has failed, after which the process ends: only a start from the disk tells what is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    why: Arc<Mutex<Option<String>>>,
    changed: Arc<Notify>,
}

impl Health {
    /// The engine has failed.
    pub(crate) fn fail(&self, why: String) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.changed.notify_one();
    }

    async fn failed(&self) -> String {
        loop {
            self.changed.notified().await;
            if let Some(why) = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return why;
            }
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: StoreConfig) -> Result<(), StoreError> {
    let on = |kind| signal(kind).map_err(|_| StoreError::Ended("the handling of signals"));
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    serve_until(config, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await
}

/// Serves until `stop` resolves.
pub async fn serve_until(config: StoreConfig, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
    let credentials = Credentials::open(&config.credentials)?;
    let (path, directory) = (config.directory.clone(), config.directory.display().to_string());
    let mut options = StoreOptions::bounded(config.state_bytes_max);
    options.engine.prefix_bytes = NAMESPACE_BYTES_MAX;
    let opened = tokio::task::spawn_blocking(move || Store::open_with(&path, options)).await;
    let store = opened
        .map_err(|_| StoreError::Ended("the opening of the store"))?
        .map_err(|source| StoreError::Open { directory, source })?;
    incarnation::follow(&store).await?;
    let (callers, health) = (Arc::new(Callers::default()), Health::default());
    let leases = Leases { store: store.clone(), callers: callers.clone(), health: health.clone() };
    let kv =
        Kv { store: store.clone(), callers: callers.clone(), leases: leases.clone(), health: health.clone() };
    let watches = Watches { store: store.clone(), callers: callers.clone() };
    let maintenance = Maintenance { store: store.clone(), callers };
    let server = link::server(&credentials)?
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(KvServer::new(kv).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(WatchServer::new(watches))
        .add_service(LeaseServer::new(leases))
        .add_service(MaintenanceServer::new(maintenance))
        .add_service(backup::service(&store));
    let listened = link::listen(&config.listen, &config.address_file).await;
    let incoming =
        listened.map_err(|source| StoreError::Listen { address: config.listen.clone(), source })?;
    let revision = store.revision().await.map(|revision| revision.0).unwrap_or_default();
    let incarnation = store.incarnation();
    tracing::info!(store = config.name, listen = config.listen, incarnation, revision, "the store serves");
    let (drain, draining) = oneshot::channel::<()>();
    let serving = server.serve_with_incoming_shutdown(incoming, async {
        let _ = draining.await;
    });
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        served = &mut serving => served.map_err(StoreError::from),
        why = health.failed() => Err(StoreError::Failed(why)),
        () = stop => {
            drop(drain);
            let _ = tokio::time::timeout(DRAIN, &mut serving).await;
            Ok(())
        }
    };
    // The last handle but those of connections: what is queued is still committed.
    let _ = tokio::task::spawn_blocking(move || drop(store)).await;
    ended
}
