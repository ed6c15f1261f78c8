//! The connection to a cluster: one member at a time, proved before it is used, replaced when it fails.
//!
//! A member is proved by a linearizable read of the store's incarnation: it answers, it has a quorum, it knows all
//! that we have seen, and it holds the store that was opened. One that does not is passed over for the next.
//!
//! Invariant: what was proved is a connection: when it breaks, nothing reconnects it behind our back to whatever
//! listens there now.
//! Invariant: connections live on the runtime that the store was opened on, whoever asks for them.
//! Invariant: however many wait for a connection, one looks for it, and its failure is everybody's.

use super::fault::{Fault, chain};
use super::options::{EtcdOptions, EtcdTls, EtcdUser};
use base::config::Address;
use etcd_client::{Channel, Client, ConnectOptions, GetOptions, KvClient, LeaseClient, WatchClient};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use tonic::codegen::Service;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Between two rounds over all members.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// After so long without a word, a member is asked for one; etcd resents to be asked more often than that.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take to give it.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// The key that holds the store's incarnation, in decimal.
const INCARNATION: &[u8] = b"\0incarnation";

/// A connection to one member.
pub(super) struct Link {
    number: u64,
    pub(super) kv: KvClient,
    pub(super) watch: WatchClient,
    pub(super) lease: LeaseClient,
}

/// Gives connections.
pub(super) struct Links {
    pub(super) options: EtcdOptions,
    runtime: Handle,
    current: Mutex<Option<Arc<Link>>>,
    /// Held by whoever looks for a member.
    connecting: tokio::sync::Mutex<()>,
    /// Rounds over all members that found none, and what the last of them found instead.
    rounds_failed: AtomicU64,
    last_failure: Mutex<String>,
    /// Where the next round begins.
    next: AtomicUsize,
    number: AtomicU64,
    incarnation: OnceLock<u64>,
    /// The newest revision that any answer named.
    seen: AtomicU64,
    gone: OnceLock<String>,
}

impl Links {
    pub(super) fn new(options: EtcdOptions, runtime: Handle) -> Links {
        Links {
            options,
            runtime,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
            rounds_failed: AtomicU64::new(0),
            last_failure: Mutex::new(String::new()),
            next: AtomicUsize::new(0),
            number: AtomicU64::new(0),
            incarnation: OnceLock::new(),
            seen: AtomicU64::new(0),
            gone: OnceLock::new(),
        }
    }

    /// The store's incarnation; 0 before [`Links::incarnation_learn`].
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.get().copied().unwrap_or_default()
    }

    /// From now on only this incarnation is the store.
    pub(super) fn incarnation_learn(&self, incarnation: u64) {
        let _ = self.incarnation.set(incarnation);
    }

    pub(super) fn incarnation_key(&self) -> Vec<u8> {
        [&self.options.prefix, INCARNATION].concat()
    }

    /// An answer named this revision.
    pub(super) fn revision_see(&self, revision: u64) {
        self.seen.fetch_max(revision, Ordering::Relaxed);
    }

    /// When patience, if it begins now, ends.
    pub(super) fn patience_end(&self) -> Instant {
        Instant::now() + self.options.patience
    }

    /// A connection that was proved once; looked for until `deadline`, in one round at least.
    pub(super) async fn link(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Link>, Fault> {
        loop {
            if let Some(why) = self.gone.get() {
                return Err(Fault::Gone(why.clone()));
            }
            if let Some(link) = self.current().clone() {
                return Ok(link);
            }
            let failed_before = self.rounds_failed.load(Ordering::Acquire);
            let looking = self.connecting.lock().await;
            if self.current().is_some() {
                continue;
            }
            if self.rounds_failed.load(Ordering::Acquire) == failed_before {
                let links = self.clone();
                // Not on the caller's runtime, which may end before the connection.
                let round = self.runtime.spawn(async move { links.round().await }).await;
                let found = round.unwrap_or_else(|_| Err(Fault::NotSent("its runtime has ended".to_owned())));
                match found {
                    Ok(()) => continue,
                    Err(Fault::Gone(why)) => {
                        let _ = self.gone.set(why);
                        continue;
                    }
                    Err(fault) => {
                        *lock(&self.last_failure) = fault.said();
                        self.rounds_failed.fetch_add(1, Ordering::Release);
                    }
                }
            }
            drop(looking);
            if Instant::now() >= deadline {
                return Err(Fault::NotSent(lock(&self.last_failure).clone()));
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    /// Not this one again: the next that is asked for is a new one, to the next member.
    pub(super) fn drop_link(&self, link: &Link) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|current| current.number == link.number) {
            *current = None;
            self.next.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        lock(&self.current)
    }

    /// Tries each member once; the first that is proved becomes the current one.
    async fn round(&self) -> Result<(), Fault> {
        let members = self.options.endpoints.len();
        let mut failure = Fault::NotSent("no address of it is known".to_owned());
        for _ in 0..members {
            let member = self.next.load(Ordering::Relaxed) % members;
            let address = &self.options.endpoints[member];
            match self.member(address).await {
                Ok(link) => {
                    *self.current() = Some(Arc::new(link));
                    return Ok(());
                }
                Err(Fault::Gone(why)) => return Err(Fault::Gone(why)),
                Err(fault) => {
                    tracing::debug!(?address, why = fault.said(), "a member of the store is passed over");
                    let place = address.resolve().unwrap_or_else(|_| format!("{address:?}"));
                    failure = Fault::NotSent(format!("{place}: {}", fault.said()));
                    self.next.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Err(failure)
    }

    async fn member(&self, address: &Address) -> Result<Link, Fault> {
        let bound = self.options.connect_timeout;
        let late = |what: &str| Fault::NotSent(format!("{what} took more than {} ms", bound.as_millis()));
        let endpoint = self.endpoint(address).map_err(Fault::NotSent)?;
        let connected = timeout(bound, endpoint.connect_with_connector(Once(false))).await;
        let connected = connected.map_err(|_| late("the connection"))?;
        let channel = Channel::Tonic(connected.map_err(|error| Fault::NotSent(chain(&error)))?);
        let mut options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        if let Some(EtcdUser { name, password }) = &self.options.user {
            options = options.with_user(name, password);
        }
        // Signs in, if there is a user.
        let client = timeout(bound, Client::from_channel(channel, Some(options))).await;
        let client = client.map_err(|_| late("signing in"))?.map_err(|error| Fault::of(&error))?;
        let link = Link {
            number: self.number.fetch_add(1, Ordering::Relaxed),
            // What etcd sends is bounded by etcd; a page or some commits at once pass tonic's 4 MiB.
            kv: client.kv_client().max_decoding_message_size(usize::MAX),
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
        };
        timeout(bound, self.prove(&link)).await.map_err(|_| late("its first answer"))??;
        Ok(link)
    }

    /// Whether the member has a quorum, and holds the store that was opened.
    async fn prove(&self, link: &Link) -> Result<(), Fault> {
        let seen = self.seen.load(Ordering::Relaxed);
        let (incarnation, revision) = self.incarnation_read(link).await?;
        let (Some(known), Some(incarnation)) = (self.incarnation.get(), incarnation) else {
            return match self.incarnation.get() {
                None => Ok(()),
                Some(known) => Err(Fault::Gone(format!("the store of incarnation {known} is not there"))),
            };
        };
        if incarnation != *known {
            return Err(Fault::Gone(format!("the store's incarnation is {incarnation}, and was {known}")));
        }
        if revision < seen {
            return Err(Fault::Gone(format!("the store is at revision {revision}, and was at {seen}")));
        }
        Ok(())
    }

    /// The incarnation as it stands in the cluster, and the cluster's revision.
    pub(super) async fn incarnation_read(&self, link: &Link) -> Result<(Option<u64>, u64), Fault> {
        let answer = link.kv.clone().get(self.incarnation_key(), Some(GetOptions::new())).await;
        let answer = answer.map_err(|error| Fault::of(&error))?;
        let revision = answer.header().map_or(0, |header| header.revision() as u64);
        let Some(entry) = answer.kvs().first() else { return Ok((None, revision)) };
        let number = std::str::from_utf8(entry.value()).ok().and_then(|text| text.parse().ok());
        let said = entry.value().escape_ascii();
        let number = number.filter(|number| *number > 0);
        number.map(|number| (Some(number), revision)).ok_or_else(|| {
            Fault::Gone(format!("the incarnation under {} is `{said}`", entry.key().escape_ascii()))
        })
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, String> {
        let host = address.resolve().map_err(|error| error.to_string())?;
        let tls = self.options.tls.as_ref().map(|source| source()).transpose();
        let tls = tls.map_err(|error| error.to_string())?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{host}")).map_err(|error| chain(&error))?;
        let endpoint = endpoint
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        match tls {
            None => Ok(endpoint),
            Some(tls) => endpoint.tls_config(tls_config(tls)).map_err(|error| chain(&error)),
        }
    }
}

/// Connects once. Tonic would do it again for whoever comes after a break; that is refused, and so that request is
/// told from one that was sent.
struct Once(bool);

impl Service<Uri> for Once {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, member: Uri) -> Self::Future {
        if std::mem::replace(&mut self.0, true) {
            let broken = io::Error::new(io::ErrorKind::NotConnected, "the connection has broken");
            return Box::pin(std::future::ready(Err(broken)));
        }
        Box::pin(async move {
            let host = member.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let stream = TcpStream::connect((host, member.port_u16().unwrap_or_default())).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn tls_config(tls: EtcdTls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new();
    config = match tls.ca {
        Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    match tls.server_name {
        Some(name) => config.domain_name(name),
        None => config,
    }
}

// What is in these is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
