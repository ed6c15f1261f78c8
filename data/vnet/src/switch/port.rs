//! A port of the loop: an interface, the socket that its VM's QEMU connects to, and what its services are told.

use crate::engine::verdict::DropReason;
use crate::packet::offload::Offload;
use crate::service::facts::PortFacts;
use crate::span::Span;
use crate::virtio::device::{Device, Offloads};
use crate::virtio::net::SendError;
use crate::virtio::server::{self, PortError, PortEvent, PortOptions};
use base::ids::{IdError, NetworkInterfaceId};
use contract::PortAttachment;
use contract::prost::{self, Message};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Which user may speak for a port: what the host's agent says when it starts a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The port's interface.
    pub interface: NetworkInterfaceId,
    /// User and group that the socket belongs to.
    pub owner: (u32, u32),
    /// Pairs of queues of the card.
    pub pairs: u16,
}

/// A file of the agent's that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AttachmentError {
    #[error("it is damaged")]
    Damaged(#[from] prost::DecodeError),
    #[error("it names no interface")]
    Interface(#[from] IdError),
}

impl Attachment {
    /// Reads the agent's file.
    pub fn read(bytes: &[u8]) -> Result<Attachment, AttachmentError> {
        let attachment = PortAttachment::decode(bytes)?;
        Ok(Attachment {
            interface: attachment.interface_id.parse()?,
            owner: (attachment.uid, attachment.gid),
            pairs: u16::try_from(attachment.queue_pairs)
                .unwrap_or(u16::MAX)
                .clamp(1, crate::virtio::PAIRS_MAX),
        })
    }
}

/// See above.
pub(super) struct Port {
    pub(super) interface: NetworkInterfaceId,
    pub(super) facts: Option<Arc<PortFacts>>,
    /// What the control was last told.
    pub(super) connected: bool,
    socket: Option<(Attachment, server::Port)>,
}

impl Port {
    pub(super) fn new(interface: NetworkInterfaceId) -> Port {
        Port { interface, facts: None, connected: false, socket: None }
    }

    /// Listens as the attachment says; what listens so already goes on.
    pub(super) fn listen(
        &mut self,
        attachment: &Attachment,
        sockets: &Path,
        epoll: &OwnedFd,
        token: u64,
    ) -> Result<(), PortError> {
        if self.socket.as_ref().is_some_and(|(known, _)| known == attachment) {
            return Ok(());
        }
        self.unlisten(epoll);
        let own = rustix::process::geteuid().is_root();
        let options = PortOptions {
            path: sockets.join(self.interface.to_string()),
            owner: own.then_some(attachment.owner),
            pairs: attachment.pairs,
        };
        let socket = server::Port::listen(&options)?;
        let watched = epoll::add(epoll, socket.as_fd(), EventData::new_u64(token), EventFlags::IN);
        if let Err(error) = watched {
            tracing::error!(%error, path = %options.path.display(), "a port cannot be waited for");
        }
        self.socket = Some((attachment.clone(), socket));
        Ok(())
    }

    /// Hangs up, and listens no more.
    pub(super) fn unlisten(&mut self, epoll: &OwnedFd) {
        if let Some((_, socket)) = self.socket.take() {
            let _ = epoll::delete(epoll, socket.as_fd());
            let _ = std::fs::remove_file(socket.path());
        }
        self.connected = false;
    }

    pub(super) fn service(&mut self) -> Vec<PortEvent> {
        let mut events = Vec::new();
        if let Some((_, socket)) = &mut self.socket {
            socket.service(&mut events);
        }
        events
    }

    pub(super) fn device(&mut self) -> Option<&mut Device> {
        self.socket.as_mut().and_then(|(_, socket)| socket.device())
    }

    /// The guest's driver is there.
    pub(super) fn is_ready(&mut self) -> bool {
        self.pairs() > 0
    }

    pub(super) fn pairs(&mut self) -> usize {
        self.device().map_or(0, |device| device.pairs())
    }

    pub(super) fn offloads(&mut self) -> Offloads {
        self.device().map_or(Offloads::default(), |device| device.offloads())
    }

    pub(super) fn send(
        &mut self,
        offload: &Offload,
        head: &[u8],
        rest: &[Span<'_>],
    ) -> Result<(), DropReason> {
        let device = self.device().ok_or(DropReason::NoBuffer)?;
        device.send(0, &offload.encode(), head, rest).map_err(|error| match error {
            SendError::NotReady | SendError::NoBuffer => DropReason::NoBuffer,
            SendError::TooLong => DropReason::TooBig,
        })
    }

    pub(super) fn flush(&mut self) {
        if let Some(device) = self.device() {
            device.flush();
        }
    }

    /// Before the loop sleeps. True: the guest has put something in already.
    pub(super) fn kicks_ask(&mut self) -> bool {
        self.device().is_some_and(|device| device.kicks_ask())
    }
}
