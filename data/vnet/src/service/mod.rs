//! What an instance finds at addresses of the network itself: ARP and neighbour discovery, DHCP, DNS, the metadata
//! service, time.
//!
//! ```text
//!            frame ─► classify ─► rate bound ─┬─► arp, neighbor, dhcp4, dhcp6, ntp ─► Reply
//!                                             ├─► dns ─┬──────────────────────────► Reply
//!                                             │        └─► dns::forward ─► Ask ─► a resolver of the host
//!                                             └─► tcp ─► metadata, dns ───────────► Reply
//! ```
//!
//! [`Services`] is one state machine for all ports of a switch: packets, answers of resolvers and time go in, effects
//! come out. What a port may know is in [`facts`], which the documents' compiler fills; the services answer from it
//! alone, so with the control plane gone they answer as ever.
//!
//! Invariant: no I/O, no clock, and no answer to anybody but the port that asked.
//! Invariant: what a port can make the services keep or do is bounded: packets a second, connections, questions.

mod arp;
pub mod classify;
mod dhcp4;
mod dhcp6;
pub mod dns;
pub mod facts;
pub mod metadata;
mod neighbor;
pub mod ntp;
mod rate;
mod tcp;
#[cfg(test)]
mod testing;
pub mod wire;

use crate::engine::verdict::PortIndex;
use crate::packet::{Mac, protocol};
use base::random::Random;
use classify::Service;
use dns::forward::{Asked, Client, Forwarder, Question, Step};
use dns::message;
use facts::{Directory, PortFacts};
use metadata::http;
use metadata::token::TokenKey;
use ntp::ClockState;
use rate::Bucket;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use tcp::{Stack, Stream};
use wire::{Checksums, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Envelope, Ethernet, Ip};

/// Packets that a port may send each second to DNS, metadata and time together.
/// Sources: VPC User Guide, "Understanding Amazon DNS" (the number); EC2 User Guide, "Monitor network performance for ENA
/// settings" (`linklocal_allowance_exceeded`: all three share it).
pub const PACKETS_PER_SECOND: u32 = 1024;
/// The same for ARP, neighbour discovery and DHCP, of their own: no flood of one must keep a guest from its address.
pub const LINK_PACKETS_PER_SECOND: u32 = 1024;

/// The longest DNS query by TCP.
const DNS_QUERY_BYTES_MAX: usize = 4 * 1024;
/// Questions of one connection that wait for a resolver.
const DNS_PENDING_MAX: u32 = 32;
/// Answers that a connection's client has not taken.
const DNS_BACKLOG_BYTES_MAX: usize = 64 * 1024;
/// How finely the timers of connections are kept.
const TIMER_STEP_NS: u64 = 1_000_000;

/// The time, read once for each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Of a clock that never goes backwards, in nanoseconds: for timers.
    pub steady_ns: u64,
    /// Of the host's clock, in nanoseconds since the Unix epoch: for tokens, and for whoever asks for the time.
    pub unix_ns: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A frame for a port, whole and with its checksums.
    Reply(PortIndex, Vec<u8>),
    /// A question for one of the host's resolvers; what comes back goes to [`Services::answered`].
    Ask(Question),
    /// The socket of this token is of no more use.
    Forget(u64),
}

/// Why a packet to a service was not answered. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Ignored {
    /// It cannot be read, or its checksum is wrong.
    Malformed,
    /// It speaks for somebody else.
    Spoofed,
    /// It asks nothing that is answered here.
    Unasked,
    /// It asks for what there is not.
    Unknown,
    /// The service is switched off for this port, or cannot be had without an address.
    Disabled,
    /// Too many packets.
    RateLimit,
    /// Too many connections.
    Full,
}

impl Ignored {
    const COUNT: usize = Ignored::Full as usize + 1;
}

/// What a port's services have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    packets: [u64; Service::COUNT],
    ignored: [[u64; Ignored::COUNT]; Service::COUNT],
}

impl Counters {
    /// Packets to a service.
    pub fn packets(&self, service: Service) -> u64 {
        self.packets[service as usize]
    }

    /// Of these, those not answered, by reason.
    pub fn ignored(&self, service: Service, why: Ignored) -> u64 {
        self.ignored[service as usize][why as usize]
    }
}

/// What is kept of a port.
struct Port {
    counters: Counters,
    bucket: Bucket,
    link_bucket: Bucket,
    /// While it has a connection.
    stack: Option<Box<Stack>>,
    /// The guest's MAC address, then the router's: as they were when the port was last heard.
    macs: (Mac, Mac),
    /// When its guest is to be told of its router.
    advertise_ns: Option<u64>,
    /// Its place among the timers.
    timer_ns: Option<u64>,
}

impl Port {
    fn new(now: Now) -> Port {
        Port {
            counters: Counters::default(),
            bucket: Bucket::new(now.steady_ns, PACKETS_PER_SECOND),
            link_bucket: Bucket::new(now.steady_ns, LINK_PACKETS_PER_SECOND),
            stack: None,
            macs: (Mac::default(), Mac::default()),
            advertise_ns: None,
            timer_ns: None,
        }
    }
}

/// A packet to a service, and all that its answer follows from.
#[derive(Clone, Copy)]
struct Call<'a> {
    now: Now,
    port: PortIndex,
    frame: Ethernet<'a>,
    checksums: Checksums,
    facts: &'a PortFacts,
    directory: &'a dyn Directory,
}

/// The services of a switch.
pub struct Services {
    tokens: TokenKey,
    random: Random,
    clock: ClockState,
    ports: BTreeMap<PortIndex, Port>,
    timers: BTreeSet<(u64, PortIndex)>,
    forwarder: Forwarder,
    last_stream: u64,
}

impl Services {
    /// `token_secret`: what session tokens are made with. Kept on the host's disk, tokens survive a restart.
    pub fn new(token_secret: &[u8; 32], random: Random) -> Services {
        Services {
            tokens: TokenKey::new(token_secret),
            random,
            clock: ClockState::UNSYNCHRONISED,
            ports: BTreeMap::new(),
            timers: BTreeSet::new(),
            forwarder: Forwarder::default(),
            last_stream: 0,
        }
    }

    /// How good the host's clock is, from now on.
    pub fn set_clock(&mut self, clock: ClockState) {
        self.clock = clock;
    }

    /// A frame with an ARP packet, or one that [`classify::classify_flow`] says is for a service. It is whole, whatever
    /// pads it; a packet that the guest left to its card to be segmented is one packet here. Fragments are
    /// dropped: no request to these services needs two packets.
    pub fn handle(
        &mut self,
        now: Now,
        port: PortIndex,
        frame: &[u8],
        checksums: Checksums,
        facts: &PortFacts,
        directory: &dyn Directory,
    ) -> Vec<Effect> {
        let Some(frame) = wire::ethernet(frame) else { return Vec::new() };
        let call = Call { now, port, frame, checksums, facts, directory };
        let (service, ip) = match frame.kind {
            ETHERTYPE_ARP => (Some(Service::Arp), None),
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                let Some(ip) = wire::ip(frame.payload, checksums) else { return Vec::new() };
                (classify::classify_flow(&classify::flow(&ip), facts), Some(ip))
            }
            _ => (None, None),
        };
        let Some(service) = service else { return Vec::new() };
        let state = self.ports.entry(port).or_insert_with(|| Port::new(now));
        state.macs = (facts.interface.mac, facts.router_mac);
        state.counters.packets[service as usize] += 1;
        let bucket = match service {
            Service::Dns | Service::Metadata | Service::Time | Service::Closed => &mut state.bucket,
            Service::Arp | Service::Neighbor | Service::Dhcp4 | Service::Dhcp6 => &mut state.link_bucket,
        };
        let result = match bucket.take(now.steady_ns) {
            true => self.dispatch(service, ip, &call),
            false => Err(Ignored::RateLimit),
        };
        self.set_timer(now, port);
        result.unwrap_or_else(|why| {
            self.count(port, service, why);
            Vec::new()
        })
    }

    fn count(&mut self, port: PortIndex, service: Service, why: Ignored) {
        if let Some(state) = self.ports.get_mut(&port) {
            state.counters.ignored[service as usize][why as usize] += 1;
        }
    }

    fn dispatch(
        &mut self,
        service: Service,
        ip: Option<Ip<'_>>,
        call: &Call<'_>,
    ) -> Result<Vec<Effect>, Ignored> {
        let Call { now, port, frame, checksums, facts, directory } = *call;
        let reply = |frame| vec![Effect::Reply(port, frame)];
        if frame.source != facts.interface.mac {
            return Err(Ignored::Spoofed);
        }
        let Some(ip) = ip else { return arp::answer(&frame, facts, directory).map(reply) };
        let own = facts.interface.addresses.contains(&ip.source);
        let may_speak = own
            || match (service, ip.source) {
                (Service::Dhcp4, IpAddr::V4(source)) => source.is_unspecified(),
                (Service::Dhcp6, IpAddr::V6(source)) => {
                    source.is_unicast_link_local() && source != wire::link_local(facts.router_mac)
                }
                // It looks closer itself.
                (Service::Neighbor, _) => true,
                _ => false,
            };
        if !may_speak {
            return Err(Ignored::Spoofed);
        }
        match service {
            Service::Arp | Service::Closed => Err(Ignored::Unasked),
            Service::Neighbor => {
                let answer = neighbor::answer(&frame, &ip, checksums, facts, directory)?;
                if ip.payload.first() == Some(&neighbor::ROUTER_SOLICITATION) {
                    self.advertise_later(now, port);
                }
                Ok(reply(answer))
            }
            Service::Dhcp4 => {
                let datagram = wire::udp(&ip, checksums).ok_or(Ignored::Malformed)?;
                dhcp4::answer(datagram.payload, facts).map(reply)
            }
            Service::Dhcp6 => {
                let datagram = wire::udp(&ip, checksums).ok_or(Ignored::Malformed)?;
                dhcp6::answer(datagram.payload, SocketAddr::new(ip.source, datagram.source), facts).map(reply)
            }
            Service::Dns if !facts.interface.vpc.dns_support => Err(Ignored::Disabled),
            Service::Metadata
                if ip.source.is_ipv6() && !facts.instance.as_ref().is_some_and(|own| own.options.ipv6) =>
            {
                Err(Ignored::Disabled)
            }
            Service::Dns if ip.protocol == protocol::UDP => {
                let (message, envelope) = datagram(&ip, call)?;
                let step = self.dns_query(call, Client::Udp(envelope), message)?;
                Ok(self.carry_out(now, step))
            }
            Service::Time => {
                let (message, envelope) = datagram(&ip, call)?;
                ntp::answer(message, now, &self.clock).map(|answer| reply(envelope.seal(&answer)))
            }
            Service::Dns | Service::Metadata => self.segment(service, &ip, call),
        }
    }

    fn advertise_later(&mut self, now: Now, port: PortIndex) {
        if let Some(state) = self.ports.get_mut(&port) {
            state.advertise_ns = Some(now.steady_ns + neighbor::ADVERTISE_EVERY.as_nanos() as u64);
        }
    }

    /// A DNS query: its answer, or the question that will lead to one.
    fn dns_query(&mut self, call: &Call<'_>, client: Client, bytes: &[u8]) -> Result<Step, Ignored> {
        let query = match message::read_query(bytes) {
            Ok(query) => query,
            Err(message::QueryError::Nothing) => return Err(Ignored::Malformed),
            Err(message::QueryError::Refused(id, flags, code)) => {
                return Ok(Step::Answer(call.port, client, message::refusal(id, flags, code)));
            }
        };
        Ok(match dns::resolve(&query, call.facts, call.directory) {
            dns::Resolution::Answered(response) => {
                Step::Answer(call.port, client, response.write(&query, client.answer_bytes_max(&query)))
            }
            dns::Resolution::Forward { name, chain } => {
                let asked = Asked { port: call.port, client, query, chain };
                self.forwarder.ask(call.now.steady_ns, &mut self.random, asked, name)
            }
        })
    }

    /// What a step of the forwarder comes to. An answer to a connection is sent with all else that it sends.
    fn carry_out(&mut self, now: Now, step: Step) -> Vec<Effect> {
        match step {
            Step::Ask(question) => vec![Effect::Ask(question)],
            Step::Forget(token) => vec![Effect::Forget(token)],
            Step::Answer(port, Client::Udp(envelope), message) => {
                vec![Effect::Reply(port, envelope.seal(&message))]
            }
            Step::Answer(port, Client::Tcp(id), message) => {
                let Some(state) = self.ports.get_mut(&port) else { return Vec::new() };
                let Some(stack) = &mut state.stack else { return Vec::new() };
                if let Some(stream) = stack.stream(id) {
                    stream.pending = stream.pending.saturating_sub(1);
                    send_dns(stream, &message);
                }
                let frames = framed(state.macs, stack.send(now.steady_ns));
                self.set_timer(now, port);
                frames.map(|frame| Effect::Reply(port, frame)).collect()
            }
        }
    }

    /// What came on the socket of a token. An answer to nothing that was asked there has no effect.
    pub fn answered(&mut self, now: Now, token: u64, message: &[u8]) -> Vec<Effect> {
        let Some(step) = self.forwarder.answered(token, message) else { return Vec::new() };
        let mut effects = vec![Effect::Forget(token)];
        effects.extend(self.carry_out(now, step));
        effects
    }

    /// The socket of a token failed.
    pub fn failed(&mut self, now: Now, token: u64) -> Vec<Effect> {
        match self.forwarder.failed(now.steady_ns, token, &mut self.random) {
            Some(step) => self.carry_out(now, step),
            None => Vec::new(),
        }
    }

    /// A TCP segment.
    fn segment(&mut self, service: Service, ip: &Ip<'_>, call: &Call<'_>) -> Result<Vec<Effect>, Ignored> {
        let Call { now, port, checksums, facts, .. } = *call;
        let tcp = wire::tcp(ip, checksums).ok_or(Ignored::Malformed)?;
        let state = self.ports.get_mut(&port).ok_or(Ignored::Unknown)?;
        let mut stack = match state.stack.take() {
            Some(stack) => stack,
            // Of no connection: there is nobody to reset, since the peer's other end is this stack or a former one;
            // so it is answered by a new one, which resets it.
            None => {
                Box::new(Stack::new(now.steady_ns, &stack_addresses(facts), facts.mtu, self.random.u64()))
            }
        };
        self.last_stream += 1;
        let taken =
            stack.receive(now.steady_ns, ip.packet, (ip.source, ip.destination), tcp, self.last_stream);
        let mut effects = Vec::new();
        for stream in stack.streams() {
            match stream.local.port() {
                classify::DNS_PORT => effects.extend(self.converse_dns(call, stream)),
                _ => self.converse_http(call, stream),
            }
        }
        let macs = (facts.interface.mac, facts.router_mac);
        effects.extend(framed(macs, stack.send(now.steady_ns)).map(|frame| Effect::Reply(port, frame)));
        if let Some(state) = self.ports.get_mut(&port) {
            state.stack = (!stack.is_idle()).then_some(stack);
        }
        if !taken {
            self.count(port, service, Ignored::Full);
        }
        Ok(effects)
    }

    /// Answers the requests on a connection to the metadata service, one after the other.
    fn converse_http(&mut self, call: &Call<'_>, stream: &mut Stream) {
        while stream.drained() && !stream.is_finished() && !stream.input.is_empty() {
            match http::parse(&stream.input) {
                http::Parsed::Partial => {
                    stream.partial = true;
                    return;
                }
                http::Parsed::Bad(status) => {
                    stream.send(&http::Response::error(status).write(false, false), None);
                    stream.finish();
                }
                http::Parsed::Request(request, length) => {
                    stream.input.drain(..length);
                    let response =
                        metadata::answer(&request, call.now, call.facts, &self.tokens, &mut self.random);
                    let bytes = response.write(request.method == "HEAD", request.keep_alive);
                    stream.send(&bytes, response.hop_limit);
                    if !request.keep_alive {
                        stream.finish();
                    }
                }
            }
        }
    }

    /// Answers the queries on a connection to the resolver, in whatever order answers come (RFC 7766, section 6.2.1.1).
    fn converse_dns(&mut self, call: &Call<'_>, stream: &mut Stream) -> Vec<Effect> {
        let mut effects = Vec::new();
        while stream.drained() && stream.pending < DNS_PENDING_MAX && !stream.is_finished() {
            let Some((length, rest)) = stream.input.split_first_chunk::<2>() else {
                stream.partial = !stream.input.is_empty();
                break;
            };
            let length = usize::from(u16::from_be_bytes(*length));
            if length > DNS_QUERY_BYTES_MAX {
                stream.finish();
                break;
            }
            let Some(query) = rest.get(..length).map(<[u8]>::to_vec) else {
                stream.partial = true;
                break;
            };
            stream.input.drain(..2 + length);
            match self.dns_query(call, Client::Tcp(stream.id), &query) {
                Ok(Step::Answer(_, _, message)) => send_dns(stream, &message),
                Ok(Step::Ask(question)) => {
                    stream.pending += 1;
                    effects.push(Effect::Ask(question));
                }
                Ok(Step::Forget(_)) => {}
                Err(_) => stream.finish(),
            }
        }
        effects
    }

    /// What is due by now. `ports`: the facts of a port that still is.
    pub fn poll<'a>(&mut self, now: Now, ports: impl Fn(PortIndex) -> Option<&'a PortFacts>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let due = |timers: &BTreeSet<(u64, PortIndex)>| {
            timers.first().copied().filter(|(at_ns, _)| *at_ns <= now.steady_ns)
        };
        while let Some((_, port)) = due(&self.timers) {
            self.timers.pop_first();
            let Some(facts) = ports(port) else {
                effects.extend(self.forget(port));
                continue;
            };
            let Some(state) = self.ports.get_mut(&port) else { continue };
            state.timer_ns = None;
            if state.advertise_ns.is_some_and(|at_ns| at_ns <= now.steady_ns) {
                state.advertise_ns = None;
                // A subnet can lose its IPv6 prefix; whoever asks again is told again.
                if facts.interface.subnet.cidr_ipv6.is_some() {
                    effects.push(Effect::Reply(port, neighbor::advertisement(facts, None)));
                    self.advertise_later(now, port);
                }
            }
            if let Some(state) = self.ports.get_mut(&port)
                && let Some(stack) = &mut state.stack
            {
                let frames = framed(state.macs, stack.send(now.steady_ns));
                effects.extend(frames.map(|frame| Effect::Reply(port, frame)));
            }
            self.set_timer(now, port);
        }
        for step in self.forwarder.poll(now.steady_ns, &mut self.random) {
            effects.extend(self.carry_out(now, step));
        }
        effects
    }

    /// When [`Services::poll`] is to be called, at the latest, on the steady clock.
    pub fn next_ns(&self) -> Option<u64> {
        self.timers.first().map(|(at_ns, _)| *at_ns).into_iter().chain(self.forwarder.next_ns()).min()
    }

    /// A port is no more, or its index means another from now on: nothing that was the former's comes to the latter.
    pub fn forget(&mut self, port: PortIndex) -> Vec<Effect> {
        if let Some(state) = self.ports.remove(&port)
            && let Some(at_ns) = state.timer_ns
        {
            self.timers.remove(&(at_ns, port));
        }
        self.forwarder.forget(port).into_iter().map(Effect::Forget).collect()
    }

    /// What a port's services have done.
    pub fn counters(&self, port: PortIndex) -> Counters {
        self.ports.get(&port).map(|state| state.counters).unwrap_or_default()
    }

    /// How many questions wait for a resolver.
    pub fn waiting(&self) -> usize {
        self.forwarder.len()
    }

    /// Puts a port's next deadline among the timers, and lets go of a stack that has nothing left to do.
    fn set_timer(&mut self, now: Now, port: PortIndex) {
        let Some(state) = self.ports.get_mut(&port) else { return };
        state.stack.take_if(|stack| stack.is_idle());
        let of_stack = state.stack.as_mut().and_then(|stack| stack.next_ns(now.steady_ns));
        // Not at once: a timer that is due and does nothing must not become a loop.
        let of_stack = of_stack.map(|at_ns| at_ns.max(now.steady_ns + TIMER_STEP_NS));
        let next_ns = of_stack.into_iter().chain(state.advertise_ns).min();
        if state.timer_ns != next_ns {
            if let Some(at_ns) = state.timer_ns {
                self.timers.remove(&(at_ns, port));
            }
            if let Some(at_ns) = next_ns {
                self.timers.insert((at_ns, port));
            }
            state.timer_ns = next_ns;
        }
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("ports", &self.ports.len())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// What a datagram says, and the envelope of its answer.
fn datagram<'a>(ip: &Ip<'a>, call: &Call<'_>) -> Result<(&'a [u8], Envelope), Ignored> {
    let datagram = wire::udp(ip, call.checksums).ok_or(Ignored::Malformed)?;
    let envelope = Envelope {
        destination_mac: call.facts.interface.mac,
        source_mac: call.facts.router_mac,
        source: SocketAddr::new(ip.destination, datagram.destination),
        destination: SocketAddr::new(ip.source, datagram.source),
    };
    Ok((datagram.payload, envelope))
}

/// RFC 1035, section 4.2.2: a message in a stream is behind its length. A client that asks and does not read is left.
fn send_dns(stream: &mut Stream, message: &[u8]) {
    if stream.backlog_bytes() > DNS_BACKLOG_BYTES_MAX {
        stream.finish();
    } else if let Ok(length) = u16::try_from(message.len()) {
        stream.send(&length.to_be_bytes(), None);
        stream.send(message, None);
    }
}

/// IP packets as frames. `macs`: the guest's, the router's.
fn framed(macs: (Mac, Mac), packets: Vec<Vec<u8>>) -> impl Iterator<Item = Vec<u8>> {
    packets.into_iter().map(move |packet| {
        let version = packet.first().map_or(0, |byte| byte >> 4);
        let kind = if version == 6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        wire::ethernet_frame(macs.0, macs.1, kind, &packet)
    })
}

/// Where TCP is answered.
fn stack_addresses(facts: &PortFacts) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = vec![
        classify::METADATA_V4.into(),
        classify::METADATA_V6.into(),
        classify::RESOLVER_V4.into(),
        classify::RESOLVER_V6.into(),
    ];
    addresses.extend(facts.interface.vpc.resolver().map(IpAddr::V4));
    addresses
}

#[cfg(test)]
mod tests;
