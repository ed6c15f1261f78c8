//! The engine under packets in any order, from a port that may do all, from one that may do nothing, and from the
//! underlay; while rules change and time passes.
//!
//! Input: events, each a kind, and for a packet its length, its kind of large packet, and its bytes behind the Ethernet
//! addresses, which are made right (else nearly all would be dropped at once).

use crate::input::Input;
use base::random::Random;
use std::net::{Ipv6Addr, SocketAddr};
use vnet::engine::connection::state::Timeouts;
use vnet::engine::connection::{Bounds, Connections};
use vnet::engine::hash::HashKey;
use vnet::engine::limit::Limit;
use vnet::engine::port::{PortConfig, Router};
use vnet::engine::verdict::{
    DropReason, Hop, Initiator, Knowledge, Pass, Policy, PortIndex, Validity, Verdict, Vni,
};
use vnet::engine::{Config, Engine, Nanos, Origin, Outcome, Packet};
use vnet::packet::geneve;
use vnet::packet::head::Head;
use vnet::packet::offload::{Gso, Offload};
use vnet::packet::{Flow, Mac};

const EVENTS_MAX: usize = 64;
const OPEN: PortIndex = PortIndex(0);
const CLOSED: PortIndex = PortIndex(1);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const BOUNDS: Bounds = Bounds {
    total: 16,
    per_port: 12,
    timeouts: Timeouts {
        opening_s: 120,
        established_s: 432_000,
        closing_s: 120,
        closed_s: 10,
        udp_s: 30,
        udp_stream_s: 180,
        icmp_s: 30,
        other_s: 600,
    },
};

struct Rules {
    version: u32,
}

impl Rules {
    fn pass(&self, hop: Hop) -> Verdict {
        let validity = Validity { port: (0, self.version), mapping: (0, 0) };
        Verdict::Pass(Pass { hop, ethernet: (MAC, MAC), validity })
    }

    fn toward(&self, flow: &Flow) -> Hop {
        match flow.destination_port % 3 {
            0 => Hop::Port(CLOSED),
            1 => Hop::Port(OPEN),
            _ => Hop::Host { vni: Vni(7), underlay: underlay() },
        }
    }
}

fn underlay() -> SocketAddr {
    ([127, 0, 0, 2], 6081).into()
}

impl Policy for Rules {
    fn leaving(&self, port: PortIndex, flow: &Flow, _: Initiator) -> Verdict {
        match port {
            OPEN => self.pass(self.toward(flow)),
            _ => Verdict::Drop(DropReason::GroupEgress),
        }
    }

    fn reaching(&self, port: PortIndex, _: &Flow, initiator: Initiator) -> Verdict {
        match (port, initiator) {
            (OPEN, Initiator::Port) => self.pass(Hop::Port(OPEN)),
            _ => Verdict::Drop(DropReason::GroupIngress),
        }
    }

    fn port_of(&self, _: Vni, flow: &Flow, _: SocketAddr) -> Result<PortIndex, DropReason> {
        Ok(if flow.protocol.is_multiple_of(2) { OPEN } else { CLOSED })
    }

    fn holds(&self, validity: &Validity) -> bool {
        validity.port.1 == self.version
    }
}

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let key = HashKey::new(&mut Random::from_seed(1));
    let connections = Connections::in_memory(BOUNDS, key.clone());
    let mut engine = Engine::new(Config { flows: 8, underlay_mtu: 1400 }, connections, key);
    let mut rules = Rules { version: 1 };
    let mut now = Nanos(1_000_000_000);
    for port in [OPEN, CLOSED] {
        engine.port_set(port, port_config(port));
    }
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        match kind % 8 {
            0..=2 => packet(&mut engine, &rules, now, Origin::Port(OPEN), &mut input),
            3 => packet(&mut engine, &rules, now, Origin::Port(CLOSED), &mut input),
            4 | 5 => {
                let origin =
                    Origin::Underlay { from: underlay(), vni: Vni(7), knowledge: Knowledge::default() };
                packet(&mut engine, &rules, now, origin, &mut input);
            }
            6 => rules.version += 1,
            _ => {
                now.0 += u64::from(input.u8()) * 1_000_000_000;
                engine.sweep(8, now);
            }
        }
        assert!(engine.connections().len() <= BOUNDS.total);
        assert!(engine.connections().held_by(0) <= BOUNDS.per_port);
        assert_eq!(engine.connections().held_by(1), 0, "a port that may do nothing has no connection");
    }
}

fn port_config(port: PortIndex) -> PortConfig {
    PortConfig {
        id: port.0.into(),
        mac: MAC,
        mtu: 1300,
        router: Router {
            mac: MAC,
            ipv4: [10, 0, 0, 1].into(),
            ipv6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        },
        services: vec![[169, 254, 169, 254].into()],
        send: Limit::default(),
        receive: Limit::default(),
    }
}

fn packet(engine: &mut Engine, rules: &Rules, now: Nanos, origin: Origin, input: &mut Input) {
    let extra = u32::from(input.u8()) * 256;
    let (gso, size) = (input.u8(), input.u16());
    let length = input.u8();
    let bytes = [&MAC.0[..], &MAC.0, input.take(length.into())].concat();
    let gso = [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp].get(usize::from(gso)).copied().unwrap_or_default();
    let offload = match gso {
        Gso::None => Offload::NONE,
        _ => Offload {
            needs_csum: true,
            gso,
            gso_size: size,
            csum_start: 34,
            csum_offset: 16,
            ..Offload::NONE
        },
    };
    let length = bytes.len() as u32 + extra;
    let mut packet = Packet::new(Head::of(&bytes), length, offload, origin);
    let mut made = Vec::new();
    engine.process(rules, now, &mut packet, &mut made);
    assert!(made.len() < 64);
    let whole = matches!(packet.outcome, Outcome::Port(_) | Outcome::Host { .. });
    for packet in made.iter().map(|made| &made.packet).chain(whole.then_some(&packet)) {
        assert!(packet.rest.start <= packet.rest.end && packet.rest.end <= length.max(packet.rest.start));
        match packet.outcome {
            Outcome::Port(port) => assert_eq!(port, OPEN, "nothing reaches the closed port"),
            Outcome::Host { .. } => {
                let geneve = geneve::parse(packet.head.bytes()).expect("our own header");
                assert_eq!((geneve.vni, geneve.length), (Vni(7), usize::from(packet.inner)));
                assert_eq!(origin, Origin::Port(OPEN));
            }
            Outcome::Local(_) | Outcome::Replaced | Outcome::Drop(_) => {
                unreachable!("made, and goes nowhere")
            }
        }
    }
}
