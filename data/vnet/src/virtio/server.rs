//! A port's socket: QEMU connects to it, says what its guest's card is, and may come and go.
//!
//! Called by the switch's loop. A port is *one* descriptor to wait on ([`Port::as_fd`], an epoll of its own in which
//! the listener, the connection and the guest's kicks are): when it is readable, [`Port::service`].
//!
//! The socket is set up under a name of its own, given its owner and mode, and only then renamed and listened on:
//! there is no moment at which somebody else could connect. One front end at a time is spoken with; the next waits
//! until it is gone. A dead one is noticed by the kernel.
//!
//! A front end that QEMU's own bugs or an attacker control can do harm to its own connection only, with one
//! exception that vhost-user has by design: notifying it writes to a descriptor of its making. It is set to not
//! block, which its owner could undo: whoever has taken over QEMU itself (not just a guest) can so hold up the loop.
//!
//! Invariant: nothing here blocks on the connection: what is not there yet is read later, and a front end that does
//! not read its answers is hung up on.

use super::device::{Device, DeviceError};
use super::message::{
    self, DESCRIPTORS_MAX, HEADER_LENGTH, Header, MessageError, PAYLOAD_LENGTH_MAX, Request,
};
use super::session::{Answer, Effect, Outcome, Session, SessionError};
use super::{PAIRS_MAX, net};
use crate::packet::Mac;
use crate::span::Span;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The most messages that are taken from a connection before the loop goes on with packets.
const MESSAGES_MAX: usize = 64;
/// The most that is taken from the epoll at once.
const EVENTS_MAX: usize = 16;

const TOKEN_LISTENER: u64 = 0;
const TOKEN_CONNECTION: u64 = 1;
/// Kicks: this and the ring's index.
const TOKEN_KICK: u64 = 2;

/// How a port is set up.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// Where QEMU connects. What is there is replaced.
    pub path: PathBuf,
    /// Who may connect: user and group. None: who runs the switch.
    pub owner: Option<(u32, u32)>,
    /// Pairs of queues that a guest may have: 1 to [`PAIRS_MAX`].
    pub pairs: u16,
}

/// Why a port cannot be set up.
#[derive(Debug, Error)]
#[error("socket {path}: {step}")]
pub struct PortError {
    path: PathBuf,
    step: &'static str,
    #[source]
    error: Errno,
}

/// Why a connection ended, other than by the front end's going.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ConnectionError {
    #[error("a message that is none")]
    Message(#[from] MessageError),
    #[error("a request that cannot be")]
    Session(#[from] SessionError),
    #[error("a request that cannot be carried out")]
    Device(#[from] DeviceError),
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        error: Errno,
    },
    #[error("more file descriptors than a message can have")]
    TooManyDescriptors,
    #[error("it does not read what it is answered")]
    NotReading,
}

/// What has happened at a port.
#[derive(Debug)]
pub enum PortEvent {
    /// A front end is there. Its guest's driver may be or not: see [`Device::pairs`].
    Connected,
    /// It is gone, by itself or for this reason.
    Disconnected(Option<ConnectionError>),
    /// A guest is at this port now and cannot say so itself: a reverse ARP in its name is due.
    Announce(Mac),
    /// A ring has been started, stopped, enabled or disabled: what the guest takes may have changed.
    Changed,
    /// The guest has put something into the rings of these pairs: a bit each.
    Kicked(u64),
}

/// See above.
#[derive(Debug)]
pub struct Port {
    path: PathBuf,
    pairs: u16,
    epoll: OwnedFd,
    listener: OwnedFd,
    connection: Option<Connection>,
}

impl Port {
    /// Listens.
    pub fn listen(options: &PortOptions) -> Result<Port, PortError> {
        let path = &options.path;
        let failed = |step: &'static str| {
            let path = path.clone();
            move |error: Errno| PortError { path, step, error }
        };
        let pairs = options.pairs.clamp(1, PAIRS_MAX);
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed("no epoll"))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(failed("no socket"))?;
        let new = beside(path);
        let _ = std::fs::remove_file(&new);
        let address = SocketAddrUnix::new(&new).map_err(failed("not a name for a socket"))?;
        rustix::net::bind(&listener, &address).map_err(failed("cannot be bound"))?;
        rustix::fs::chmod(&new, Mode::RUSR | Mode::WUSR).map_err(failed("its mode cannot be set"))?;
        if let Some((user, group)) = options.owner {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            rustix::fs::chownat(CWD, &new, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("its owner cannot be set"))?;
        }
        rustix::fs::rename(&new, path).map_err(failed("cannot be put in its place"))?;
        rustix::net::listen(&listener, 1).map_err(failed("cannot be listened on"))?;
        watch(&epoll, &listener, TOKEN_LISTENER, EventFlags::IN).map_err(failed("cannot be waited for"))?;
        Ok(Port { path: path.clone(), pairs, epoll, listener, connection: None })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The guest's card, while a front end is connected.
    pub fn device(&mut self) -> Option<&mut Device> {
        self.connection.as_mut().map(|connection| &mut connection.device)
    }

    /// Puts a packet into the guest's buffers: [`Device::send`].
    pub fn send(
        &mut self,
        pair: usize,
        header: &net::NetHeader,
        head: &[u8],
        payload: &[Span<'_>],
    ) -> Result<(), net::SendError> {
        self.device().ok_or(net::SendError::NotReady)?.send(pair, header, head, payload)
    }

    /// Takes note of everything that has happened, without waiting. Batches of this port's packets must have been
    /// completed before: rings may stop here.
    pub fn service(&mut self, events: &mut Vec<PortEvent>) {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(EVENTS_MAX);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if let Err(error) = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut ready), Some(&now)) {
            if error != Errno::INTR {
                tracing::error!(%error, port = %self.path.display(), "a port cannot be waited for");
            }
            return;
        }
        let mut kicked = 0_u64;
        for event in ready {
            match event.data.u64() {
                TOKEN_LISTENER => self.accept(events),
                TOKEN_CONNECTION => self.converse(events, &mut kicked),
                token => kicked |= 1 << ((token - TOKEN_KICK) / 2 % 64),
            }
        }
        if kicked != 0 && self.connection.is_some() {
            events.push(PortEvent::Kicked(kicked));
        }
    }

    fn accept(&mut self, events: &mut Vec<PortEvent>) {
        if self.connection.is_some() {
            return;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = rustix::net::accept_with(&self.listener, flags).and_then(|stream| {
            watch(&self.epoll, &stream, TOKEN_CONNECTION, EventFlags::IN)?;
            // The next one waits: it must not wake us until this one is gone.
            epoll::delete(&self.epoll, &self.listener)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => {
                self.connection = Some(Connection::new(stream, self.pairs));
                events.push(PortEvent::Connected);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => tracing::warn!(%error, port = %self.path.display(), "a front end was not accepted"),
        }
    }

    fn converse(&mut self, events: &mut Vec<PortEvent>, kicked: &mut u64) {
        let Some(connection) = &mut self.connection else { return };
        let ended = match connection.converse(&self.epoll, events, kicked) {
            Ok(Said::Waiting) => return,
            Ok(Said::Gone) => None,
            Err(error) => Some(error),
        };
        if let Some(connection) = self.connection.take() {
            connection.close(&self.epoll);
        }
        if let Err(error) = watch(&self.epoll, &self.listener, TOKEN_LISTENER, EventFlags::IN) {
            tracing::error!(%error, port = %self.path.display(), "a port cannot listen again");
        }
        events.push(PortEvent::Disconnected(ended));
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Where the next message is to be had.
enum Said {
    /// Later.
    Waiting,
    /// Nowhere.
    Gone,
}

#[derive(Debug)]
struct Connection {
    stream: OwnedFd,
    session: Session,
    device: Device,
    /// What the guest's kicks come by, for each ring.
    kicks: Vec<Option<OwnedFd>>,
    /// Of the message that is being read.
    input: [u8; HEADER_LENGTH + PAYLOAD_LENGTH_MAX],
    have: usize,
    descriptors: Vec<OwnedFd>,
}

impl Connection {
    fn new(stream: OwnedFd, pairs: u16) -> Connection {
        Connection {
            stream,
            session: Session::new(pairs),
            device: Device::new(pairs),
            kicks: (0..pairs * 2).map(|_| None).collect(),
            input: [0; HEADER_LENGTH + PAYLOAD_LENGTH_MAX],
            have: 0,
            descriptors: Vec::new(),
        }
    }

    fn converse(
        &mut self,
        epoll: &OwnedFd,
        events: &mut Vec<PortEvent>,
        kicked: &mut u64,
    ) -> Result<Said, ConnectionError> {
        for _ in 0..MESSAGES_MAX {
            let header = match self.read(HEADER_LENGTH)? {
                Some(said) => return Ok(said),
                None => Header::decode(self.input.first_chunk().unwrap_or(&[0; HEADER_LENGTH]))?,
            };
            if let Some(said) = self.read(HEADER_LENGTH + header.size)? {
                return Ok(said);
            }
            self.have = 0;
            let payload = self.input.get(HEADER_LENGTH..HEADER_LENGTH + header.size).unwrap_or(&[]);
            let request = Request::decode(&header, payload, std::mem::take(&mut self.descriptors))?;
            self.request(epoll, &header, request, events, kicked)?;
        }
        Ok(Said::Waiting)
    }

    /// Reads until so many bytes of the message are there. None: they are.
    fn read(&mut self, wanted: usize) -> Result<Option<Said>, ConnectionError> {
        let system = |error| ConnectionError::System { what: "the connection cannot be read", error };
        while let Some(rest) = self.input.get_mut(self.have..wanted).filter(|rest| !rest.is_empty()) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let mut parts = [std::io::IoSliceMut::new(rest)];
            let received = match rustix::net::recvmsg(&self.stream, &mut parts, &mut beside, flags) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(Some(Said::Waiting)),
                Err(Errno::INTR) => continue,
                Err(Errno::CONNRESET) => return Ok(Some(Said::Gone)),
                Err(error) => return Err(system(error)),
            };
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.descriptors.extend(descriptors);
                }
            }
            if received.flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > DESCRIPTORS_MAX {
                return Err(ConnectionError::TooManyDescriptors);
            }
            if received.bytes == 0 {
                return Ok(Some(Said::Gone));
            }
            self.have += received.bytes;
        }
        Ok(None)
    }

    fn request(
        &mut self,
        epoll: &OwnedFd,
        header: &Header,
        request: Request<OwnedFd>,
        events: &mut Vec<PortEvent>,
        kicked: &mut u64,
    ) -> Result<(), ConnectionError> {
        let acknowledges = self.session.acknowledges(header);
        let done = match self.session.receive(header, request) {
            Ok(Outcome { effects, answer }) => {
                let mut effects = effects.into_iter();
                let done = effects.try_for_each(|effect| self.carry_out(epoll, effect, events, kicked));
                done.map(|()| answer)
            }
            Err(SessionError::Unknown(number)) if !acknowledges => {
                tracing::debug!(number, "an unknown request, to which no answer is wanted");
                Ok(Answer::None)
            }
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(answer) => self.answer(header, answer),
            Err(error) if acknowledges => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, request = header.request, "a front end's request was refused");
                self.say(header, &1_u64.to_ne_bytes(), &[])
            }
            Err(error) => Err(error),
        }
    }

    fn carry_out(
        &mut self,
        epoll: &OwnedFd,
        effect: Effect<OwnedFd>,
        events: &mut Vec<PortEvent>,
        kicked: &mut u64,
    ) -> Result<(), ConnectionError> {
        match effect {
            Effect::Kick(index, kick) => self.kick_set(epoll, index, kick),
            Effect::Call(index, Some(call)) => {
                not_blocking(&call)?;
                Ok(self.device.carry_out(Effect::Call(index, Some(call)))?)
            }
            Effect::Error(index, Some(error)) => {
                not_blocking(&error)?;
                Ok(self.device.carry_out(Effect::Error(index, Some(error)))?)
            }
            effect => {
                let changed = match &effect {
                    Effect::RingStart(setup) => Some(setup.index),
                    Effect::RingStop(index) | Effect::RingEnable(index, _) => Some(*index),
                    _ => None,
                };
                self.device.carry_out(effect)?;
                if let Some(index) = changed {
                    // What was put in before, its kick lost with the process before us, is to be looked at.
                    *kicked |= 1 << (index / 2 % 64);
                    events.push(PortEvent::Changed);
                }
                if let Some(mac) = self.device.announce_take() {
                    events.push(PortEvent::Announce(mac));
                }
                Ok(())
            }
        }
    }

    fn kick_set(
        &mut self,
        epoll: &OwnedFd,
        index: usize,
        kick: Option<OwnedFd>,
    ) -> Result<(), ConnectionError> {
        let Some(place) = self.kicks.get_mut(index) else { return Ok(()) };
        unwatch(epoll, place.take());
        if let Some(kick) = kick {
            // At each write, not for as long as it has a value: so it need never be read.
            watch(epoll, &kick, TOKEN_KICK + index as u64, EventFlags::IN | EventFlags::ET)
                .map_err(|error| ConnectionError::System { what: "kicks cannot be waited for", error })?;
            *place = Some(kick);
        }
        Ok(())
    }

    fn answer(&mut self, header: &Header, answer: Answer) -> Result<(), ConnectionError> {
        match answer {
            Answer::None => Ok(()),
            Answer::Acknowledge => self.say(header, &0_u64.to_ne_bytes(), &[]),
            Answer::Value(value) => self.say(header, &value.to_ne_bytes(), &[]),
            Answer::Position { index, otherwise } => {
                let position = self.device.position(index as usize).unwrap_or(otherwise);
                let payload = [index.to_ne_bytes(), u32::from(position).to_ne_bytes()].concat();
                self.say(header, &payload, &[])
            }
            Answer::Inflight(asked) => {
                let (inflight, file) = self.device.inflight(&asked)?;
                self.say(header, &inflight.bytes(), &[file.as_fd()])
            }
        }
    }

    fn say(&self, to: &Header, payload: &[u8], files: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        let header =
            message::Header { request: to.request, reply: true, need_reply: false, size: payload.len() };
        let bytes = header.encode(payload);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(ConnectionError::TooManyDescriptors);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&self.stream, &[std::io::IoSlice::new(&bytes)], &mut beside, flags) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) | Err(Errno::AGAIN) => Err(ConnectionError::NotReading),
            Err(error) => Err(ConnectionError::System { what: "an answer cannot be sent", error }),
        }
    }

    /// A registration lasts as long as the *file* is open, which the front end has open too: so each is undone.
    fn close(self, epoll: &OwnedFd) {
        unwatch(epoll, Some(self.stream));
        for kick in self.kicks {
            unwatch(epoll, kick);
        }
    }
}

fn watch(epoll: &OwnedFd, what: &OwnedFd, token: u64, flags: EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, what, EventData::new_u64(token), flags)
}

fn unwatch(epoll: &OwnedFd, what: Option<OwnedFd>) {
    if let Some(what) = what
        && let Err(error) = epoll::delete(epoll, &what)
    {
        tracing::error!(%error, "a descriptor is waited for still");
    }
}

fn not_blocking(file: &OwnedFd) -> Result<(), ConnectionError> {
    rustix::fs::fcntl_getfl(file)
        .and_then(|flags| rustix::fs::fcntl_setfl(file, flags | OFlags::NONBLOCK))
        .map_err(|error| ConnectionError::System { what: "a notification cannot be set to not block", error })
}

/// The name under which a socket is set up.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}
