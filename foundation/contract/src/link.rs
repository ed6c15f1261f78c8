//! A link: one stream of messages each way between two roles, kept up by the side that dials.
//!
//! A link promises order while it is up and nothing across a break: after every [`LinkEvent::Up`] both sides
//! say again what still matters (*levels, not edges*). Each direction has a bounded queue; a peer that does not
//! drain its own is cut off, and starts over with a fresh link, rather than slow down or fill up its sender.

use crate::trust::{Credentials, Identity};
use base::config::Address;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// Messages that wait for one peer. A full sync after [`LinkEvent::Up`] must fit.
const QUEUE_MESSAGES: usize = 16 * 1024;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_millis(500);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest message (a host's document, with every VM's user data).
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What happens on a link, seen from one side: `O` goes out, `I` comes in.
#[derive(Debug)]
pub enum LinkEvent<O, I> {
    /// The peer is there; messages for it go into the outbox.
    Up(Outbox<O>),
    /// The peer said something.
    Message(I),
    /// The peer is gone, for the given reason.
    Down(String),
}

/// Where messages for a peer go. Dropping it ends the link.
#[derive(Clone, Debug)]
pub struct Outbox<O> {
    queue: mpsc::Sender<O>,
    cut: Arc<watch::Sender<bool>>,
}

impl<O> Outbox<O> {
    fn new() -> (Self, mpsc::Receiver<O>, watch::Receiver<bool>) {
        let (queue, receiver) = mpsc::channel(QUEUE_MESSAGES);
        let (cut, cut_receiver) = watch::channel(false);
        (Outbox { queue, cut: Arc::new(cut) }, receiver, cut_receiver)
    }

    /// Queues a message. If the queue is full the link is cut; a message for a peer that is gone is dropped.
    pub fn send(&self, message: O) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.cut();
        }
    }

    /// Ends the link.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

/// Keeps a link to `peer` up for ever: dials, reports through `events`, and dials again after every break.
/// `open` calls the service's streaming method. Returns when nobody listens to `events` any more.
pub async fn keep<O, I, E, Open, Opening>(
    address: Address,
    credentials: Arc<Credentials>,
    peer: Identity,
    open: Open,
    events: mpsc::Sender<E>,
    event: impl Fn(LinkEvent<O, I>) -> E,
) where
    O: Send + 'static,
    Open: Fn(Channel, ReceiverStream<O>) -> Opening,
    Opening: Future<Output = Result<Response<Streaming<I>>, Status>>,
{
    let mut backoff = BACKOFF_FIRST;
    while !events.is_closed() {
        let (outbox, queue, cut) = Outbox::new();
        let opened = match dial(&address, &credentials, &peer).await {
            Ok(channel) => {
                open(channel, ReceiverStream::new(queue)).await.map_err(|status| describe(&status))
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok(response) => {
                backoff = BACKOFF_FIRST;
                if events.send(event(LinkEvent::Up(outbox))).await.is_err() {
                    return;
                }
                let reason = drain(response.into_inner(), cut, &events, &event).await;
                if events.send(event(LinkEvent::Down(reason))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%peer, error, "cannot reach the peer; trying again");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_LAST);
            }
        }
    }
}

/// Serves the listening side of a link that a peer has just opened: reports through `events` and returns the
/// answer to give to tonic.
pub async fn accept<O, I, E>(
    request: Request<Streaming<I>>,
    events: mpsc::Sender<E>,
    event: impl Fn(LinkEvent<O, I>) -> E + Send + Sync + 'static,
) -> Result<Response<ReceiverStream<Result<O, Status>>>, Status>
where
    O: Send + 'static,
    I: Send + 'static,
    E: Send + 'static,
{
    let (outbox, mut queue, cut) = Outbox::new();
    let (out, answer) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if out.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    let stopping = || Status::unavailable("this process is stopping");
    events.send(event(LinkEvent::Up(outbox))).await.map_err(|_| stopping())?;
    let incoming = request.into_inner();
    tokio::spawn(async move {
        let reason = drain(incoming, cut, &events, &event).await;
        let _ = events.send(event(LinkEvent::Down(reason))).await;
    });
    Ok(Response::new(ReceiverStream::new(answer)))
}

/// Passes on what comes in until the link ends; says why it did.
async fn drain<O, I, E>(
    mut incoming: Streaming<I>,
    mut cut: watch::Receiver<bool>,
    events: &mpsc::Sender<E>,
    event: &impl Fn(LinkEvent<O, I>) -> E,
) -> String {
    loop {
        tokio::select! {
            message = incoming.message() => match message {
                Ok(Some(message)) => {
                    if events.send(event(LinkEvent::Message(message))).await.is_err() {
                        return "this process is stopping".into();
                    }
                }
                Ok(None) => return "the peer ended the link".into(),
                Err(status) => return describe(&status),
            },
            changed = cut.changed() => {
                return match changed {
                    Ok(()) => "the peer does not read what it is sent".into(),
                    Err(_) => "the link was replaced".into(),
                };
            }
        }
    }
}

/// One connection to `peer`, or why there is none.
pub async fn dial(address: &Address, credentials: &Credentials, peer: &Identity) -> Result<Channel, String> {
    let address = address.resolve().map_err(|e| e.to_string())?;
    let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(|e| base::error::chain(&e))?;
    endpoint
        .tls_config(credentials.client(peer))
        .map_err(|e| base::error::chain(&e))?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .connect()
        .await
        .map_err(|e| base::error::chain(&e))
}

/// A server as every role runs it: mutual TLS, and peers that vanish without a word are noticed.
pub fn server(credentials: &Credentials) -> Result<Server, tonic::transport::Error> {
    Ok(Server::builder()
        .tls_config(credentials.server())?
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT)))
}

/// Binds `address` (port 0: any free port), then writes the bound address to `address_file`, atomically: whoever
/// reads it finds a listener there.
pub async fn listen(address: &str, address_file: &Path) -> std::io::Result<TcpIncoming> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    base::disk::file_replace(address_file, bound.to_string().as_bytes(), 0o644)?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)))
}

/// The largest message that a client or server of a link must accept, in bytes.
pub const fn message_bytes_max() -> usize {
    MESSAGE_BYTES_MAX
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
