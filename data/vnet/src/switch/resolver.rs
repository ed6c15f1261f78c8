//! The host's resolvers, for names that are not the VPC's: a socket for each question, with a port that the kernel draws,
//! so that an answer is hard to forge (RFC 5452, section 4).
//!
//! Deliberately absent: questions by TCP. One that needs it fails, and the guest asks another resolver.

use crate::service::dns::forward::{Question, Transport};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The longest answer by UDP that is taken.
const ANSWER_BYTES_MAX: usize = 4096;

/// See above.
pub(super) struct Resolvers {
    servers: Vec<SocketAddr>,
    /// By slot, with the token that the service knows it by.
    sockets: BTreeMap<u64, (u64, UdpSocket)>,
    slots: BTreeMap<u64, u64>,
    slot_next: u64,
}

impl Resolvers {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Resolvers {
        Resolvers { servers, sockets: BTreeMap::new(), slots: BTreeMap::new(), slot_next: 0 }
    }

    /// Asks; the answer is awaited under `token` and the slot.
    pub(super) fn ask(&mut self, question: Question, epoll: &OwnedFd, token: u64) -> io::Result<()> {
        if question.transport != Transport::Udp {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let at = usize::from(question.resolver).checked_rem(self.servers.len());
        let server = at.and_then(|at| self.servers.get(at)).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        socket.send(&question.message)?;
        let slot = self.slot_next;
        self.slot_next += 1;
        epoll::add(epoll, socket.as_fd(), EventData::new_u64(token + slot), EventFlags::IN)?;
        self.slots.insert(question.token, slot);
        self.sockets.insert(slot, (question.token, socket));
        Ok(())
    }

    /// What has come for a slot: answers, or that the socket has failed.
    pub(super) fn take(&mut self, slot: u64) -> Vec<(u64, Option<Vec<u8>>)> {
        let Some((token, socket)) = self.sockets.get(&slot) else { return Vec::new() };
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        match socket.recv(&mut answer) {
            Ok(length) => {
                answer.truncate(length);
                vec![(*token, Some(answer))]
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Vec::new(),
            Err(_) => vec![(*token, None)],
        }
    }

    pub(super) fn forget(&mut self, token: u64, epoll: &OwnedFd) {
        if let Some((_, socket)) = self.slots.remove(&token).and_then(|slot| self.sockets.remove(&slot)) {
            let _ = epoll::delete(epoll, socket.as_fd());
        }
    }
}
