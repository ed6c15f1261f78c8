//! How many nanoseconds of processor time the engine takes for a packet: with its flow known, at 1, 64K and 1M flows,
//! and with its flow new, with a policy that answers at once.
//!
//! `cargo run --release -p vnet --example engine_ns`

use base::random::Random;
use std::time::Instant;
use vnet::engine::connection::state::Timeouts;
use vnet::engine::connection::{Bounds, Connections};
use vnet::engine::hash::HashKey;
use vnet::engine::limit::Limit;
use vnet::engine::memory::prefetch;
use vnet::engine::port::{PortConfig, Router};
use vnet::engine::verdict::{
    DropReason, Hop, Initiator, Knowledge, Pass, Policy, PortIndex, Validity, Verdict, Vni,
};
use vnet::engine::{Config, Engine, Nanos, Origin, Outcome, Packet};
use vnet::packet::build::{Build, Transport};
use vnet::packet::head::Head;
use vnet::packet::offload::Offload;
use vnet::packet::{Flow, Mac};

const BATCH: usize = 64;
const ROUNDS: usize = 9;

/// Everything may pass, to another host or, from it, to port 0; versions lie in arrays, as they really do.
struct Open {
    ports: Vec<u32>,
    mappings: Vec<u32>,
    local: bool,
}

impl Open {
    fn pass(&self, hop: Hop, flow: &Flow) -> Verdict {
        let mapping = u32::from(flow.destination_port) % self.mappings.len() as u32;
        let validity = Validity { port: (0, 1), mapping: (mapping, 1) };
        Verdict::Pass(Pass { hop, ethernet: (Mac([2; 6]), Mac([4; 6])), validity })
    }
}

impl Policy for Open {
    fn leaving(&self, _: PortIndex, flow: &Flow, _: Initiator) -> Verdict {
        let underlay = ([127, 0, 1, 2], 6081).into();
        let hop = if self.local { Hop::Port(PortIndex(1)) } else { Hop::Host { vni: Vni(7), underlay } };
        self.pass(hop, flow)
    }

    fn reaching(&self, port: PortIndex, flow: &Flow, _: Initiator) -> Verdict {
        self.pass(Hop::Port(port), flow)
    }

    fn port_of(&self, _: Vni, _: &Flow, _: std::net::SocketAddr) -> Result<PortIndex, DropReason> {
        Ok(PortIndex(0))
    }

    #[inline]
    fn expect(&self, validity: &Validity) {
        if let Some(version) = self.mappings.get(validity.mapping.0 as usize) {
            prefetch(version);
        }
    }

    #[inline]
    fn holds(&self, validity: &Validity) -> bool {
        let is =
            |versions: &[u32], (slot, version): (u32, u32)| versions.get(slot as usize) == Some(&version);
        is(&self.ports, validity.port) && is(&self.mappings, validity.mapping)
    }
}

fn engine(flows: usize) -> Engine {
    let key = HashKey::new(&mut Random::from_seed(1));
    let bounds = Bounds { total: 1 << 22, per_port: 1 << 22, timeouts: Timeouts::default() };
    let connections = Connections::in_memory(bounds, key.clone());
    let mut engine = Engine::new(Config { flows, underlay_mtu: 1500 }, connections, key);
    for index in 0..2 {
        engine.port_set(
            PortIndex(index),
            PortConfig {
                id: index.into(),
                mac: Mac([2; 6]),
                mtu: 1500,
                router: Router {
                    mac: Mac([6; 6]),
                    ipv4: [10, 0, 0, 1].into(),
                    ipv6: [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(),
                },
                services: vec![[169, 254, 169, 254].into()],
                send: Limit { bits_per_second: 1 << 50, packets_per_second: 1 << 40 },
                receive: Limit::default(),
            },
        );
    }
    engine
}

/// 64-byte UDP packets of so many flows.
fn packets(flows: usize) -> Vec<Vec<u8>> {
    let build = |flow: usize| {
        Build {
            ethernet: (Mac([2; 6]), Mac([6; 6])),
            source: [10, 0, 0, 2].into(),
            destination: [10, 1, (flow >> 16) as u8, (flow >> 8) as u8].into(),
            transport: Transport::Udp(1024 + (flow >> 8) as u16 % 64, flow as u16),
            payload: vec![0; 22],
            ..Build::default()
        }
        .bytes()
    };
    (0..flows).map(build).collect()
}

/// Processor time of this thread: others' work on the machine does not count, though its use of caches does.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct Run {
    per_packet_ns: f64,
    copying_ns: f64,
}

/// Every packet once, in an order that the processor cannot guess.
fn run(
    engine: &mut Engine,
    policy: &Open,
    bytes: &[Vec<u8>],
    order: &[usize],
    origin: Origin,
    begun: Instant,
) -> Run {
    let mut batch = vec![Packet::new(Head::default(), 0, Offload::NONE, origin); BATCH];
    let mut made = Vec::new();
    let copy = |batch: &mut [Packet], chunk: &[usize]| {
        for (packet, index) in batch.iter_mut().zip(chunk) {
            packet.head.set(&bytes[*index]);
            packet.length = bytes[*index].len() as u32;
            packet.offload = Offload::NONE;
        }
    };
    let begin = cpu_ns();
    for chunk in order.chunks_exact(BATCH) {
        copy(&mut batch, chunk);
        std::hint::black_box(&mut batch);
    }
    let copied = cpu_ns();
    for chunk in order.chunks_exact(BATCH) {
        copy(&mut batch, chunk);
        engine.process_batch(policy, Nanos(begun.elapsed().as_nanos() as u64), &mut batch, &mut made);
    }
    let end = cpu_ns();
    for packet in &batch {
        assert!(!matches!(packet.outcome, Outcome::Drop(_)), "{:?}", packet.outcome);
    }
    let per_packet = |ns: u64| ns as f64 / (order.len() / BATCH * BATCH) as f64;
    let copying_ns = per_packet(copied - begin);
    Run { per_packet_ns: per_packet(end - copied) - copying_ns, copying_ns }
}

/// What the machine takes for the memory alone: as many lines as a packet needs, read at random, each batch fetched
/// before it is looked at. Nothing can be faster on it at that moment.
fn memory_ns(flows: usize, random: &mut Random) -> f64 {
    const LINES: usize = 3;
    let lines = vec![[1u64; 8]; flows * 2 * LINES];
    let order = (0..1 << 18).map(|_| random.below(flows as u64 * 2) as usize).collect::<Vec<_>>();
    let mut sum = 0u64;
    let rounds = (0..ROUNDS).map(|_| {
        let begin = cpu_ns();
        for chunk in order.chunks_exact(32) {
            for at in chunk {
                for line in &lines[at * LINES..][..LINES] {
                    // A read that nothing waits for.
                    std::hint::black_box(line[0]);
                }
            }
            for at in chunk {
                sum = sum.wrapping_add(lines[at * LINES..][..LINES].iter().map(|line| line[3]).sum::<u64>());
            }
        }
        (cpu_ns() - begin) as f64 / order.len() as f64
    });
    let least = rounds.fold(f64::MAX, f64::min);
    std::hint::black_box(sum);
    least
}

fn main() {
    let mut random = Random::from_seed(2);
    let begun = Instant::now();
    // Only one way, or one way and one number of flows: for a profiler.
    let only = std::env::args().nth(1);
    let count: Option<usize> = std::env::args().nth(2).and_then(|count| count.parse().ok());
    println!("UDP, 64 bytes, in batches of {BATCH}; least and median of {ROUNDS} rounds, ns per packet");
    let from_port = Origin::Port(PortIndex(0));
    let underlay = Origin::Underlay {
        from: ([127, 0, 1, 2], 6081).into(),
        vni: Vni(7),
        knowledge: Knowledge::default(),
    };
    for flows in [1usize, 1 << 16, 1 << 20] {
        println!("memory alone  {flows:>8} flows: {:6.1}", memory_ns(flows, &mut random));
    }
    for (name, local, origin) in [
        ("port to host", false, from_port),
        ("host to port", false, underlay),
        ("port to port", true, from_port),
    ] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let policy = Open { ports: vec![1; 1024], mappings: vec![1; 65536], local };
        for flows in [1usize, 1 << 16, 1 << 20] {
            if count.is_some_and(|count| count != flows) {
                continue;
            }
            let bytes = packets(flows);
            let mut engine = engine(flows);
            let count = flows.max(1 << 18);
            let mut order = (0..count).map(|index| index % flows).collect::<Vec<_>>();
            if flows > 1 {
                for index in (1..count).rev() {
                    order.swap(index, random.below(index as u64 + 1) as usize);
                }
            }
            let first = (0..flows.next_multiple_of(BATCH)).map(|index| index % flows).collect::<Vec<_>>();
            let slow = run(&mut engine, &policy, &bytes, &first, origin, begun);
            let mut rounds = (0..ROUNDS)
                .map(|_| run(&mut engine, &policy, &bytes, &order, origin, begun))
                .map(|run| (run.per_packet_ns, run.copying_ns))
                .collect::<Vec<_>>();
            rounds.sort_by(|left, right| left.0.total_cmp(&right.0));
            let (least, median) = (rounds[0].0, rounds[ROUNDS / 2]);
            let new = if flows > 1 { format!("{:6.0}", slow.per_packet_ns) } else { "     -".into() };
            println!(
                "{name}  {flows:>8} flows: known {least:6.1} {:6.1}   copying heads {:5.1}   new {new}   connections {}",
                median.0,
                median.1,
                engine.connections().len(),
            );
        }
    }
}
