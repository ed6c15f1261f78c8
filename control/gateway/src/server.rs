//! The HTTP server: connections, bounds, and the way of one request.

use crate::authenticate::{CredentialSource, authenticate, caller, service_of};
use crate::throttle::Throttle;
use aws::ec2::Ec2;
use aws::service::ServiceTable;
use aws::service_quotas::ServiceQuotas;
use aws::shape::Limits;
use aws::sigv4::SigningKeys;
use aws::sts::Sts;
use aws::{ApiError, Request, Response, codes, ec2, protocol, service_quotas, sts};
use base::clock::Timestamp;
use base::ids::RegionName;
use base::random::Random;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// A client that does not finish its header or its body by then is let go.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// What of a body that is too large is still read, so that the client hears why before its connection is closed.
const DISCARD_BYTES_MAX: usize = 16 << 20;
/// A request's line and headers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests whose bodies are in memory at once: bounds what strangers can make us hold.
const BODIES_MAX: usize = 256;
/// How long requests that are being answered have when the process ends.
const DRAIN: Duration = Duration::from_secs(2);
/// Connections at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Connections at once from one address, so that no single machine can take all of them.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// A client that takes nothing of its answer for so long is let go (TCP_USER_TIMEOUT, RFC 5482).
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Signing keys that are remembered.
const SIGNING_KEYS_MAX: usize = 10_000;

/// The services behind the gateway.
pub struct Services {
    /// Amazon EC2.
    pub ec2: Arc<dyn Ec2>,
    /// The Security Token Service.
    pub sts: Arc<dyn Sts>,
    /// Service Quotas.
    pub service_quotas: Arc<dyn ServiceQuotas>,
}

/// What is fixed about a gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The region whose requests it takes.
    pub region: RegionName,
    /// What each account may ask in the long run.
    pub requests_per_second_per_account: u32,
}

/// A region's gateway.
pub struct Gateway {
    config: GatewayConfig,
    services: Services,
    credentials: Arc<dyn CredentialSource>,
    keys: SigningKeys,
    throttle: Throttle,
    random: Mutex<Random>,
    bodies: Semaphore,
}

static TABLES: [&ServiceTable; 3] = [&ec2::SERVICE, &sts::SERVICE, &service_quotas::SERVICE];

/// Why a request could not be read.
enum Unread {
    TooLarge,
    TooSlow,
    Broken(String),
}

impl Gateway {
    /// A gateway before these services.
    pub fn new(
        config: GatewayConfig,
        services: Services,
        credentials: Arc<dyn CredentialSource>,
    ) -> Arc<Gateway> {
        Arc::new(Gateway {
            throttle: Throttle::new(config.requests_per_second_per_account),
            config,
            services,
            credentials,
            keys: SigningKeys::new(SIGNING_KEYS_MAX),
            random: Mutex::new(Random::from_os()),
            bodies: Semaphore::new(BODIES_MAX),
        })
    }

    /// Serves connections for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let addresses = Addresses::default();
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let Some(place) = addresses.take(peer.ip()) else {
                        tracing::warn!(%peer, "closed a connection: its address has too many");
                        continue;
                    };
                    let gateway = self.clone();
                    tokio::spawn(async move {
                        gateway.connection(stream, peer).await;
                        drop((permit, place));
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those of finished connections come back.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let write_timeout = WRITE_TIMEOUT.as_millis() as u32;
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, write_timeout);
        let service = service_fn(|request| {
            let gateway = self.clone();
            async move { Ok::<_, Infallible>(gateway.request(request, peer).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%peer, error = base::error::chain(&error), "a connection ended early");
        }
    }

    async fn request(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> http::Response<Full<Bytes>> {
        let began = Instant::now();
        let request_id = self.request_id();
        let (parts, body) = request.into_parts();
        let _held = self.bodies.acquire().await;
        let body = read(body).await;
        let mut log = Line::default();
        let response = self.answer(&parts, &body, peer, &request_id, &mut log).await;
        tracing::info!(
            request_id,
            account = log.account,
            service = log.service,
            operation = log.operation,
            status = response.status,
            code = response.error_code.as_deref().unwrap_or("ok"),
            micros = began.elapsed().as_micros() as u64,
            "call"
        );
        // What may be left of a body that was not read would be taken for the next request.
        to_http(response, body.is_err())
    }

    async fn answer(
        &self,
        parts: &http::request::Parts,
        body: &Result<Bytes, Unread>,
        peer: SocketAddr,
        request_id: &str,
        log: &mut Line,
    ) -> Response {
        let headers = headers(parts);
        let request = request(parts, &headers, body);
        let service = service_of(&request, &TABLES).unwrap_or(&ec2::SERVICE);
        log.service = service.name;
        let refuse = |error: ApiError| protocol::encode_error(service, &error, request_id);
        if let Err(unread) = body {
            return refuse(unread_error(unread));
        }
        let now = Timestamp::now();
        let proven =
            authenticate(&request, service, &self.config.region, &*self.credentials, &self.keys, now);
        let (credential, access_key_id) = match proven {
            Ok(proven) => proven,
            Err(error) => return refuse(error),
        };
        log.account = credential.account.to_string();
        if !self.throttle.admit(credential.account, now) {
            return refuse(ApiError::new(codes::REQUEST_LIMIT_EXCEEDED, "Request limit exceeded."));
        }
        let call = match protocol::decode(service, &request) {
            Ok(call) => call,
            Err(error) => return refuse(error),
        };
        log.operation = call.operation.chars().take(64).collect();
        let (region, id) = (&self.config.region, request_id.to_owned());
        let caller = caller(credential, access_key_id, region, &request, id, peer.ip());
        match service.name {
            "ec2" => self.services.ec2.dispatch(&caller, call).await,
            "sts" => self.services.sts.dispatch(&caller, call).await,
            _ => self.services.service_quotas.dispatch(&caller, call).await,
        }
    }

    /// Waits until no request is being answered, for a moment at most: what is durable should be heard of.
    pub async fn drained(&self) {
        let all = u32::try_from(BODIES_MAX).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(DRAIN, self.bodies.acquire_many(all)).await;
    }

    /// Unique, in the form of a UUID (RFC 9562, version 4).
    fn request_id(&self) -> String {
        let bits = self.random.lock().unwrap_or_else(PoisonError::into_inner).u128();
        let bits = bits & !(0xf << 76) | 0x4 << 76;
        let bits = bits & !(0x3 << 62) | 0x2 << 62;
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Answers every request that it cannot be served now and is to be tried again, for ever: for a region that has no
/// store. Nobody is authenticated, because nobody is told anything.
pub async fn unavailable(listener: TcpListener) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut answering = tokio::task::JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        answering.spawn(async move {
            let service = service_fn(|request| async move { Ok::<_, Infallible>(apology(request).await) });
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}

/// The headers whose values are text.
fn headers(parts: &http::request::Parts) -> Vec<(&str, &str)> {
    parts
        .headers
        .iter()
        .filter_map(|(name, value)| value.to_str().ok().map(|value| (name.as_str(), value)))
        .collect()
}

/// A request as the protocols read it; without a body where that could not be read.
fn request<'a>(
    parts: &'a http::request::Parts,
    headers: &'a [(&'a str, &'a str)],
    body: &'a Result<Bytes, Unread>,
) -> Request<'a> {
    Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
        body: body.as_deref().unwrap_or_default(),
    }
}

async fn apology(asked: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
    let (parts, body) = asked.into_parts();
    let body = read(body).await;
    let headers = headers(&parts);
    let request = request(&parts, &headers, &body);
    let service = service_of(&request, &TABLES).unwrap_or(&ec2::SERVICE);
    let error = ApiError::new(codes::SERVICE_UNAVAILABLE, "The region cannot reach its store; try again.");
    to_http(protocol::encode_error(service, &error, ""), true)
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One connection of an address, until it is dropped.
struct AddressPlace {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    /// A place for one more connection; `None`: the address has as many as it may have.
    fn take(&self, address: IpAddr) -> Option<AddressPlace> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(AddressPlace { addresses: self.clone(), address })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What the log says of a call, as far as it was understood.
#[derive(Default)]
struct Line {
    account: String,
    service: &'static str,
    operation: String,
}

/// The whole body, bounded in size and time.
async fn read(body: Incoming) -> Result<Bytes, Unread> {
    match tokio::time::timeout(READ_TIMEOUT, read_whole(body)).await {
        Ok(read) => read,
        Err(_) => Err(Unread::TooSlow),
    }
}

async fn read_whole(mut body: Incoming) -> Result<Bytes, Unread> {
    let mut whole = Vec::with_capacity((body.size_hint().lower() as usize).min(Limits::BYTES));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unread::Broken(base::error::chain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= Limits::BYTES {
            whole.extend_from_slice(&data);
        } else if seen > DISCARD_BYTES_MAX {
            break;
        } else {
            whole = Vec::new();
        }
    }
    if seen > Limits::BYTES { Err(Unread::TooLarge) } else { Ok(whole.into()) }
}

fn unread_error(unread: &Unread) -> ApiError {
    match unread {
        Unread::TooLarge => ApiError::new(
            codes::REQUEST_ENTITY_TOO_LARGE,
            format!("The request is larger than {} bytes", Limits::BYTES),
        ),
        Unread::TooSlow => ApiError::client(
            "RequestTimeout",
            format!("The request's body did not arrive within {} seconds", READ_TIMEOUT.as_secs()),
        ),
        Unread::Broken(why) => {
            ApiError::client("MalformedQueryString", format!("The request's body could not be read: {why}"))
        }
    }
}

fn to_http(response: Response, close: bool) -> http::Response<Full<Bytes>> {
    let mut builder = http::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(*name, value);
    }
    if close {
        builder = builder.header("connection", "close");
    }
    builder.body(Full::new(Bytes::from(response.body))).unwrap_or_else(|_| {
        // Only a header value that is not one could bring us here, and all of ours are ASCII.
        let mut plain = http::Response::new(Full::default());
        *plain.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_of_the_connections_and_no_more() {
        let addresses = Addresses::default();
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut places: Vec<AddressPlace> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| addresses.take(greedy).unwrap()).collect();
        assert!(addresses.take(greedy).is_none());
        assert!(addresses.take(other).is_some());
        places.pop();
        assert!(addresses.take(greedy).is_some());
        drop(places);
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}
