//! The switch of a host: the loop that owns the engine, the ports, the uplink and the services.
//!
//! ```text
//!   control (documents, attachments) ──Command──► Switch ──Report──► control
//!                                                  │ ▲
//!        guests' rings ◄── port ──────────────────┐│ │┌────────────── uplink ──► other hosts
//!                                            carry, engine, policy, services
//! ```
//! One thread, one descriptor to wait on: an epoll of the ports, the uplink, the resolvers' sockets and the control's
//! wake-up. [`Switch::turn`] is one round: wait, take what has come, decide, carry, show the guests what they got.
//!
//! Invariant: nothing here waits for the control plane, nor for the disk: commands come durable.
//! Invariant: one guest's round is bounded, so that none starves the others.

mod carry;
mod facts;
mod port;
mod resolver;
#[cfg(test)]
mod tests;

pub use carry::UplinkPath;
pub use port::{Attachment, AttachmentError};

use crate::document::Act;
use crate::engine::connection::{Adopted, Bounds, Connections};
use crate::engine::hash::HashKey;
use crate::engine::verdict::PortIndex;
use crate::engine::{Config, Engine, Made, Nanos, Origin, Outcome, Packet, port::PORTS_MAX};
use crate::link::uplink::Inbox;
use crate::packet::geneve;
use crate::packet::head::Head;
use crate::packet::offload::Offload;
use crate::policy::VpcPolicy;
use crate::service::wire::Checksums;
use crate::service::{self, Services};
use crate::span::{self, Span};
use crate::virtio::net::Batch;
use crate::virtio::server::PortEvent;
use base::ids::NetworkInterfaceId;
use base::random::Random;
use carry::Carrier;
use contract::PortAssignment;
use facts::Networks;
use port::Port;
use resolver::Resolvers;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

/// Batches that are taken from one guest's queue before others have their turn.
const BATCHES_MAX: usize = 4;
/// Datagrams' batches that are taken from the uplink before the guests have their turn.
const INBOXES_MAX: usize = 4;
/// The longest sleep: connections are swept meanwhile.
const SLEEP_MAX: Duration = Duration::from_millis(250);
/// Slots of the connection table that are looked at a second: all of a million within a quarter of a minute.
const SWEEP_A_SECOND: u64 = 1 << 16;
/// Rounds that the loop looks by itself after the last packet, before it sleeps: a kick and a wake-up cost more.
const SPINS: u32 = 64;

const TOKEN_CONTROL: u64 = 0;
const TOKEN_UPLINK: u64 = 1;
/// Ports: this and the index. Resolvers' sockets: above all ports.
const TOKEN_PORT: u64 = 2;
const TOKEN_RESOLVER: u64 = TOKEN_PORT + PORTS_MAX as u64;

/// How a switch is set up.
#[derive(Clone, Debug)]
pub struct SwitchOptions {
    /// Where other hosts reach this one.
    pub underlay: SocketAddr,
    /// The largest IP packet that the underlay takes.
    pub underlay_mtu: u16,
    /// The region's name, as instances read it.
    pub region: String,
    /// Where the ports' sockets are.
    pub sockets: PathBuf,
    /// Where connections are kept over a restart.
    pub connections: PathBuf,
    /// How many there may be.
    pub bounds: Bounds,
    /// What the metadata service's tokens are made with.
    pub token_secret: [u8; 32],
    /// Whom the resolver asks about names that are not the VPC's.
    pub resolvers: Vec<SocketAddr>,
    /// This host's boot: connections of another are nobody's.
    pub boot: u128,
}

/// Why a switch does not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SwitchError {
    #[error("cannot keep connections")]
    Connections(#[from] crate::engine::connection::OpenError),
    #[error("no way to other hosts")]
    Uplink(#[from] crate::link::uplink::UplinkError),
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        error: io::Error,
    },
}

/// What the control tells the switch.
pub enum Command {
    /// A document has changed.
    Act(Act),
    /// A VM's user may speak for a port.
    Attach(Attachment),
    /// Nobody may any more.
    Detach(NetworkInterfaceId),
    /// Asks policy, for a person.
    Ask(Box<dyn FnOnce(&VpcPolicy) + Send>),
    /// End.
    Stop,
}

/// What the switch tells the control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A guest's driver has set its queues up, or they are gone.
    Connected(NetworkInterfaceId, bool),
    /// A port is gone.
    Removed(NetworkInterfaceId),
}

/// Wakes the switch up, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// There is a command.
    pub fn wake(&self) {
        // It can only fail when it is full, and then the switch is about to wake up.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// See the module.
pub struct Switch {
    options: SwitchOptions,
    epoll: OwnedFd,
    waker: Waker,
    commands: Receiver<Command>,
    reports: Sender<Report>,
    engine: Engine,
    policy: VpcPolicy,
    services: Services,
    networks: Networks,
    resolvers: Resolvers,
    ports: BTreeMap<PortIndex, Port>,
    /// What is told of an interface whose port is not here yet.
    attachments: BTreeMap<NetworkInterfaceId, Attachment>,
    assignments: BTreeMap<NetworkInterfaceId, PortAssignment>,
    path: UplinkPath,
    inbox: Inbox,
    batch: Batch,
    packets: Vec<Packet>,
    made: Vec<Made>,
    swept: Nanos,
    spins: u32,
}

/// Now, on the clock that connections and timers are kept by.
pub fn now() -> Nanos {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn service_now(now: Nanos) -> service::Now {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    service::Now {
        steady_ns: now.0,
        unix_ns: (time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64,
    }
}

fn system(what: &'static str) -> impl Fn(rustix::io::Errno) -> SwitchError {
    move |error| SwitchError::System { what, error: error.into() }
}

impl Switch {
    /// Opens everything that a switch has of its own; ports come by commands.
    pub fn open(
        options: SwitchOptions,
        commands: Receiver<Command>,
        reports: Sender<Report>,
        random: &mut Random,
    ) -> Result<(Switch, Waker), SwitchError> {
        let key = HashKey::new(random);
        let (connections, adopted) = Connections::open(
            &options.connections,
            options.bounds,
            key.clone(),
            options.boot,
            now().seconds(),
        )?;
        match adopted {
            Adopted::Kept { connections, damaged } => {
                tracing::info!(connections, damaged, "connections of the switch before go on");
            }
            Adopted::Anew(why) => tracing::info!(?why, "there are no connections to go on with"),
        }
        let path = UplinkPath::open(&options)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system("no epoll"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let waker = Waker(Arc::new(eventfd(0, flags).map_err(system("no eventfd"))?));
        let watch = |fd: rustix::fd::BorrowedFd<'_>, token| {
            epoll::add(&epoll, fd, EventData::new_u64(token), EventFlags::IN).map_err(system("no epoll"))
        };
        watch(waker.0.as_fd(), TOKEN_CONTROL)?;
        watch(path.uplink.as_fd(), TOKEN_UPLINK)?;
        let config = Config { underlay_mtu: options.underlay_mtu, ..Config::default() };
        let switch = Switch {
            engine: Engine::new(config, connections, key),
            policy: VpcPolicy::new(options.underlay, random.u64()),
            services: Services::new(&options.token_secret, Random::from_seed(random.u64())),
            networks: Networks::new(options.region.clone(), config.overlay_mtu(options.underlay.is_ipv6())),
            resolvers: Resolvers::new(options.resolvers.clone()),
            ports: BTreeMap::new(),
            attachments: BTreeMap::new(),
            assignments: BTreeMap::new(),
            path,
            inbox: Inbox::new(),
            batch: Batch::new(),
            packets: Vec::new(),
            made: Vec::new(),
            swept: now(),
            spins: 0,
            waker: waker.clone(),
            epoll,
            commands,
            reports,
            options,
        };
        Ok((switch, waker))
    }

    /// Runs until it is told to stop.
    pub fn run(mut self) {
        while self.turn() {}
    }

    /// One round. False: the switch was told to stop.
    pub fn turn(&mut self) -> bool {
        let busy = self.spins < SPINS || !self.ports_rest();
        let timeout = if busy { Duration::ZERO } else { self.sleep() };
        let events = self.wait(timeout);
        let now = now();
        let mut work = false;
        let mut kicked = Vec::new();
        for token in events {
            match token {
                TOKEN_CONTROL => {
                    if !self.control() {
                        return false;
                    }
                }
                TOKEN_UPLINK => work |= self.uplink(now),
                token if token >= TOKEN_RESOLVER => self.resolver(token - TOKEN_RESOLVER, now),
                token => kicked.push(PortIndex((token - TOKEN_PORT) as u32)),
            }
        }
        for index in kicked {
            self.port_service(index);
        }
        work |= self.guests(now);
        self.timers(now);
        for port in self.ports.values_mut() {
            port.flush();
        }
        self.spins = if work { 0 } else { self.spins.saturating_add(1) };
        true
    }

    /// Before a sleep, every guest is asked to kick; true if none has put something in meanwhile.
    fn ports_rest(&mut self) -> bool {
        !self.ports.values_mut().fold(false, |more, port| port.kicks_ask() | more)
    }

    fn sleep(&self) -> Duration {
        let next = self.services.next_ns().map(|at| Duration::from_nanos(at.saturating_sub(now().0)));
        next.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)
    }

    fn wait(&self, timeout: Duration) -> Vec<u64> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => tracing::error!(%error, "the switch cannot wait for packets"),
        }
        events.iter().map(|event| event.data.u64()).collect()
    }

    /// Takes commands. False: stop.
    fn control(&mut self) -> bool {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.waker.0, &mut count);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(Command::Act(act)) => self.act(act),
                Ok(Command::Attach(attachment)) => {
                    let interface = attachment.interface;
                    self.attachments.insert(interface, attachment);
                    self.port_ensure(interface);
                }
                Ok(Command::Detach(interface)) => {
                    self.attachments.remove(&interface);
                    if let Some(index) = self.policy.port_index(interface)
                        && let Some(port) = self.ports.get_mut(&index)
                    {
                        port.unlisten(&self.epoll);
                        self.report(Report::Connected(interface, false));
                    }
                }
                Ok(Command::Ask(ask)) => ask(&self.policy),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn report(&self, report: Report) {
        // The control ends first only when all ends.
        let _ = self.reports.send(report);
    }

    fn act(&mut self, act: Act) {
        let before = match &act {
            Act::PortRemove(interface) => self.policy.port_index(*interface),
            _ => None,
        };
        self.policy.act(&act);
        self.networks.act(&act);
        match act {
            Act::Port(assignment) => {
                if let Ok(interface) = assignment.interface_id.parse() {
                    let before = self.assignments.insert(interface, (*assignment).clone());
                    self.instance_ensure(&assignment.instance_id);
                    let moved = before.filter(|before| before.instance_id != assignment.instance_id);
                    moved.iter().for_each(|before| self.instance_ensure(&before.instance_id));
                    self.port_ensure(interface);
                }
            }
            Act::PortRemove(interface) => {
                let removed = self.assignments.remove(&interface);
                if let Some(index) = before {
                    self.port_remove(index);
                }
                removed.iter().for_each(|removed| self.instance_ensure(&removed.instance_id));
                self.report(Report::Removed(interface));
            }
            Act::Vpc(document) => {
                // What ports are told of their VPC may be another.
                let of = |assignment: &&PortAssignment| assignment.vpc_id == document.vpc_id;
                let ports = self.assignments.values().filter(of);
                let interfaces: Vec<_> =
                    ports.filter_map(|assignment| assignment.interface_id.parse().ok()).collect();
                if facts::concerns_ports(&document) {
                    interfaces.into_iter().for_each(|interface| self.port_ensure(interface));
                }
            }
            Act::VpcDrop(_) => {}
        }
    }

    /// The ports of an instance: each is told of the others.
    fn instance_ensure(&mut self, instance: &str) {
        let of = self.assignments.iter().filter(|(_, port)| port.instance_id == instance);
        let interfaces: Vec<NetworkInterfaceId> =
            of.map(|(interface, _)| *interface).filter(|_| !instance.is_empty()).collect();
        interfaces.into_iter().for_each(|interface| self.port_ensure(interface));
    }

    /// The port of an interface is as its assignment and its attachment say.
    fn port_ensure(&mut self, interface: NetworkInterfaceId) {
        let Some(assignment) = self.assignments.get(&interface) else { return };
        let Some(index) = self.policy.port_index(interface) else { return };
        let Some(facts) = self.networks.port_facts(assignment, self.assignments.values()) else { return };
        if !self.engine.port_set(index, facts::port_config(assignment, &facts)) {
            return tracing::error!(%interface, "the switch has as many ports as it can have");
        }
        let port = self.ports.entry(index).or_insert_with(|| Port::new(interface));
        port.facts = Some(facts);
        let Some(attachment) = self.attachments.get(&interface) else { return };
        let token = TOKEN_PORT + u64::from(index.0);
        if let Err(error) = port.listen(attachment, &self.options.sockets, &self.epoll, token) {
            tracing::error!(%interface, error = %base::error::chain(&error), "a port cannot be served");
        }
    }

    fn port_remove(&mut self, index: PortIndex) {
        self.engine.port_remove(index);
        let effects = self.services.forget(index);
        self.services_done(effects, now());
        if let Some(mut port) = self.ports.remove(&index) {
            port.unlisten(&self.epoll);
        }
    }

    /// Something has happened at a port's socket or a guest has kicked.
    fn port_service(&mut self, index: PortIndex) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let interface = port.interface;
        for event in port.service() {
            match event {
                PortEvent::Connected | PortEvent::Changed => {
                    let ready = port.is_ready();
                    if std::mem::replace(&mut port.connected, ready) != ready {
                        let _ = self.reports.send(Report::Connected(interface, ready));
                    }
                }
                PortEvent::Disconnected(why) => {
                    if let Some(error) = why {
                        tracing::warn!(%interface, error = %base::error::chain(&error), "a front end was hung up on");
                    }
                    port.connected = false;
                    let _ = self.reports.send(Report::Connected(interface, false));
                }
                PortEvent::Announce(_) | PortEvent::Kicked(_) => {}
            }
        }
    }

    /// Takes what guests have sent. True: there was something.
    fn guests(&mut self, now: Nanos) -> bool {
        let indices: Vec<(PortIndex, usize)> =
            self.ports.iter_mut().map(|(index, port)| (*index, port.pairs())).collect();
        let mut work = false;
        for (index, pairs) in indices {
            for pair in 0..pairs {
                for _ in 0..BATCHES_MAX {
                    if !self.guest_batch(index, pair, now) {
                        break;
                    }
                    work = true;
                }
            }
        }
        work
    }

    fn guest_batch(&mut self, index: PortIndex, pair: usize, now: Nanos) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let device = self.ports.get_mut(&index).and_then(Port::device);
        let taken = device.map_or(0, |device| device.receive(pair, &mut batch));
        if taken > 0 {
            let (heads, payloads) = batch.parts();
            self.packets.clear();
            let origin = Origin::Port(index);
            let mut spans = Vec::with_capacity(heads.len());
            for packet in heads.iter() {
                // A kind of large packet that was not offered is none that can be read.
                let offload =
                    Offload::decode(&packet.header).unwrap_or(Offload { gso_size: 0, ..Offload::NONE });
                self.packets.push(Packet::new(
                    Head::of(packet.head()),
                    packet.length() as u32,
                    offload,
                    origin,
                ));
                spans.push(payloads.of(packet));
            }
            self.decide_and_carry(&spans, now);
            // Who gets a packet sees it before its sender has the buffer back: a kill in between repeats a batch and
            // loses none.
            self.ports.values_mut().for_each(Port::flush);
            if let Some(device) = self.ports.get_mut(&index).and_then(Port::device) {
                device.complete(&mut batch);
            }
        }
        self.batch = batch;
        taken > 0
    }

    /// Takes what other hosts have sent. True: there was something.
    fn uplink(&mut self, now: Nanos) -> bool {
        let mut work = false;
        let mut inbox = std::mem::take(&mut self.inbox);
        for _ in 0..INBOXES_MAX {
            match self.path.uplink.receive(&mut inbox) {
                Ok(0) => break,
                Ok(_) => work = true,
                Err(error) => {
                    tracing::warn!(%error, "the underlay cannot be read");
                    break;
                }
            }
            self.arrived(&inbox, now);
        }
        self.inbox = inbox;
        work
    }

    fn arrived(&mut self, inbox: &Inbox, now: Nanos) {
        for datagram in inbox.datagrams() {
            self.packets.clear();
            let mut frames = Vec::new();
            for segment in datagram.segments() {
                match geneve::parse(segment) {
                    Ok(outer) => {
                        let frame = segment.get(outer.length..).unwrap_or_default();
                        let origin = Origin::Underlay {
                            from: datagram.from,
                            vni: outer.vni,
                            knowledge: outer.knowledge,
                        };
                        let packet = Packet::new(Head::of(frame), frame.len() as u32, Offload::NONE, origin);
                        self.packets.push(packet);
                        frames.push(frame);
                    }
                    Err(reason) => self.engine.lost(None, reason),
                }
            }
            let spans: Vec<[Span<'_>; 1]> = frames
                .iter()
                .map(|frame| [frame.get(crate::packet::head::HEAD_MAX..).unwrap_or_default().into()])
                .collect();
            let spans: Vec<&[Span<'_>]> = spans.iter().map(|spans| &spans[..]).collect();
            self.decide_and_carry(&spans, now);
        }
    }

    /// Decides on `packets` and carries them; `payloads` is what lies behind the head of each.
    fn decide_and_carry(&mut self, payloads: &[&[Span<'_>]], now: Nanos) {
        let mut packets = std::mem::take(&mut self.packets);
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        let heads: Vec<u32> = packets.iter().map(|packet| packet.head.len() as u32).collect();
        self.engine.process_batch(&self.policy, now, &mut packets, &mut made);
        let mut carrier = Carrier::new(&mut self.engine, &mut self.ports, &mut self.path);
        for ((packet, payload), head) in packets.iter().zip(payloads).zip(&heads) {
            carrier.carry(packet, payload, *head);
        }
        for more in &made {
            if let (Some(payload), Some(head)) = (payloads.get(more.of), heads.get(more.of)) {
                carrier.carry(&more.packet, payload, *head);
            }
        }
        carrier.finish();
        for (packet, payload) in packets.iter().zip(payloads) {
            if let Outcome::Local(port) = packet.outcome {
                self.local(port, packet, payload, now);
            }
        }
        (self.packets, self.made) = (packets, made);
    }

    /// A packet for the network itself.
    fn local(&mut self, index: PortIndex, packet: &Packet, payload: &[Span<'_>], now: Nanos) {
        let Some(facts) = self.ports.get(&index).and_then(|port| port.facts.clone()) else { return };
        let mut frame = packet.head.bytes().to_vec();
        let start = frame.len();
        frame.resize(start + span::length(payload), 0);
        span::copy_at(payload, 0, frame.get_mut(start..).unwrap_or(&mut []));
        let checksums = match packet.offload.needs_csum {
            true => Checksums::Trusted,
            false => Checksums::Verify,
        };
        let directory = self.networks.directory(&self.policy, index, &facts);
        let effects = self.services.handle(service_now(now), index, &frame, checksums, &facts, &directory);
        self.services_done(effects, now);
    }

    fn services_done(&mut self, effects: Vec<service::Effect>, now: Nanos) {
        for effect in effects {
            match effect {
                service::Effect::Reply(port, frame) => {
                    if self.engine.answer(port, frame.len() as u32, now) {
                        let mut carrier = Carrier::new(&mut self.engine, &mut self.ports, &mut self.path);
                        carrier.reply(port, &frame);
                    }
                }
                service::Effect::Ask(question) => {
                    let token = question.token;
                    if let Err(error) = self.resolvers.ask(question, &self.epoll, TOKEN_RESOLVER) {
                        tracing::debug!(%error, "a resolver cannot be asked");
                        let more = self.services.failed(service_now(now), token);
                        self.services_done(more, now);
                    }
                }
                service::Effect::Forget(token) => self.resolvers.forget(token, &self.epoll),
            }
        }
    }

    fn resolver(&mut self, slot: u64, now: Nanos) {
        for (token, answer) in self.resolvers.take(slot) {
            let effects = match answer {
                Some(message) => self.services.answered(service_now(now), token, &message),
                None => self.services.failed(service_now(now), token),
            };
            self.services_done(effects, now);
        }
    }

    fn timers(&mut self, now: Nanos) {
        if self.services.next_ns().is_some_and(|at| at <= now.0) {
            let ports = &self.ports;
            let facts = |index| ports.get(&index).and_then(|port| port.facts.as_deref());
            let effects = self.services.poll(service_now(now), facts);
            self.services_done(effects, now);
        }
        let passed = now.0.saturating_sub(self.swept.0);
        let slots = passed.saturating_mul(SWEEP_A_SECOND) / 1_000_000_000;
        if slots > 0 {
            self.engine.sweep(u32::try_from(slots).unwrap_or(u32::MAX), now);
            self.swept = now;
        }
    }
}
