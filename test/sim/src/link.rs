//! Links: in order while they are up, and nothing across a break.
//!
//! ```text
//!   dial ──► both ends learn of it, each in its time ──► messages, in order, each way
//!                       break ──► what is under way arrives up to some moment, the rest never
//!                             └─► both ends learn of it, each in its time; meanwhile they speak into the void
//! ```

use crate::Sabotage;
use crate::message::Message;
use crate::process::Node;
use crate::world::{Happening, World};
use base::random::Random;
use contract::{FromHost, Target, ToHost, VmAssignment, from_host, to_host};

/// Which end of a link: 0 dials, 1 listens.
pub(crate) type Side = usize;

/// A link between two processes.
pub(crate) struct Link {
    pub(crate) ends: [Node; 2],
    /// Raised with every connection.
    connection: u64,
    /// The present connection is not broken.
    whole: bool,
    /// The connection that each end takes for up.
    up: [Option<u64>; 2],
    /// When the last message toward each end arrives: the next comes later.
    last_us: [u64; 2],
    /// Of a broken connection: up to when messages still arrive at each end.
    until_us: [u64; 2],
    /// Partitions in force.
    cuts: u32,
}

/// Why a link breaks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Break {
    /// An end's process has died; the other is told soon.
    Death,
    /// The network; both ends notice late.
    Partition,
}

impl Link {
    pub(crate) fn new(dialer: Node, listener: Node) -> Link {
        Link {
            ends: [dialer, listener],
            connection: 0,
            whole: false,
            up: [None; 2],
            last_us: [0; 2],
            until_us: [0; 2],
            cuts: 0,
        }
    }

    fn arrives(&self, side: Side, connection: u64, now_us: u64) -> bool {
        self.connection == connection && (self.whole || now_us < self.until_us[side])
    }
}

fn latency_us(random: &mut Random) -> u64 {
    match random.below(50) {
        0 => 1_000 + random.below(250_000),
        _ => 200 + random.below(4_000),
    }
}

impl World {
    /// Makes a link of the topology.
    pub(crate) fn link_make(&mut self, dialer: Node, listener: Node) {
        let index = self.links.len();
        self.links.push(Link::new(dialer, listener));
        self.link_between.insert((dialer, listener), (index, 0));
        self.link_between.insert((listener, dialer), (index, 1));
        self.links_of.entry(dialer).or_default().push(index);
        self.links_of.entry(listener).or_default().push(index);
    }

    /// The dialer tries soon.
    pub(crate) fn link_dial_soon(&mut self, link: usize) {
        let wait = 1_000 + self.random.below(300_000);
        self.later(wait, Happening::Dial { link });
    }

    /// Connects, if both ends are there and the dialer knows that it is not connected.
    pub(crate) fn link_dial(&mut self, link: usize) {
        let [dialer, listener] = self.links[link].ends;
        let state = &self.links[link];
        let ready = !state.whole && state.cuts == 0 && state.up[0].is_none();
        if !ready || !self.alive(dialer) || !self.alive(listener) {
            return;
        }
        let connection = state.connection + 1;
        for side in 0..2 {
            let wait = latency_us(&mut self.random);
            self.later(wait, Happening::LinkUp { link, side, connection });
            let state = &mut self.links[link];
            state.last_us[side] = self.clock_us + wait;
        }
        let state = &mut self.links[link];
        state.connection = connection;
        state.whole = true;
    }

    /// An end learns that it is connected.
    pub(crate) fn link_up(&mut self, link: usize, side: Side, connection: u64) {
        let state = &mut self.links[link];
        let [node, peer] = [state.ends[side], state.ends[1 - side]];
        if !state.arrives(side, connection, self.clock_us) || !self.alive(node) {
            return;
        }
        self.links[link].up[side] = Some(connection);
        self.trace.line(self.now(), || format!("{node:?} ═ {peer:?} up"));
        self.peer_up(node, peer);
    }

    /// An end learns that its connection is gone.
    pub(crate) fn link_down(&mut self, link: usize, side: Side, connection: u64) {
        let state = &mut self.links[link];
        let [node, peer] = [state.ends[side], state.ends[1 - side]];
        if state.up[side] == Some(connection) {
            state.up[side] = None;
            self.trace.line(self.now(), || format!("{node:?} ╳ {peer:?} down"));
            self.peer_down(node, peer);
        }
        if side == 0 {
            self.link_dial_soon(link);
        }
    }

    /// Breaks a link's connection, if it has one.
    pub(crate) fn link_break(&mut self, link: usize, cause: Break) {
        let alive = self.links[link].ends.map(|node| self.alive(node));
        let now_us = self.clock_us;
        for (side, alive) in alive.into_iter().enumerate() {
            let (reach, notice) = match cause {
                Break::Death => (self.random.below(10_000), self.random.below(200_000)),
                Break::Partition => (self.random.below(10_000), 100_000 + self.random.below(5_000_000)),
            };
            let state = &mut self.links[link];
            if !alive {
                state.up[side] = None;
            }
            if !state.whole {
                continue;
            }
            let connection = state.connection;
            state.until_us[side] = if alive { now_us + reach } else { now_us };
            if alive {
                self.later(reach + notice, Happening::LinkDown { link, side, connection });
            }
        }
        self.links[link].whole = false;
    }

    /// A partition begins.
    pub(crate) fn link_cut(&mut self, link: usize) {
        self.report.partitions += 1;
        let ends = self.links[link].ends;
        self.trace.line(self.now(), || format!("cut: {ends:?}"));
        self.link_break(link, Break::Partition);
        self.links[link].cuts += 1;
    }

    /// A partition ends.
    pub(crate) fn link_heal(&mut self, link: usize) {
        let state = &mut self.links[link];
        state.cuts = state.cuts.saturating_sub(1);
        if state.cuts == 0 {
            self.link_dial_soon(link);
        }
    }

    /// All of a link's partitions end.
    pub(crate) fn link_heal_fully(&mut self, link: usize) {
        if self.links[link].cuts > 0 {
            self.links[link].cuts = 1;
            self.link_heal(link);
        }
    }

    /// One end says something; into the void if the connection is not what it takes it for.
    pub(crate) fn link_send(&mut self, from: Node, to: Node, message: Message) {
        let Some(&(link, side)) = self.link_between.get(&(from, to)) else { return };
        let message = match self.scenario.sabotage {
            Some(sabotage) => self.link_sabotage(sabotage, to, message),
            None => message,
        };
        let toward = 1 - side;
        let wait = latency_us(&mut self.random);
        let late = self.scenario.duplicates && self.random.chance(0.1);
        let state = &mut self.links[link];
        let Some(connection) = state.up[side] else { return };
        let at_us = state.last_us[toward].max(self.clock_us + wait);
        if connection != state.connection || (!state.whole && at_us >= state.until_us[toward]) {
            return;
        }
        state.last_us[toward] = at_us;
        if late {
            // Once more, after newer messages: no link does this, and the cores bear it all the same.
            let wait = at_us - self.clock_us + self.random.below(3_000_000);
            let message = Box::new(message.clone());
            self.later(wait, Happening::Deliver { link, toward, connection, message });
        }
        let message = Box::new(message);
        self.later(at_us - self.clock_us, Happening::Deliver { link, toward, connection, message });
    }

    /// A message arrives, unless its connection was broken before.
    pub(crate) fn link_deliver(&mut self, link: usize, toward: Side, connection: u64, message: Message) {
        let state = &self.links[link];
        let [node, peer] = [state.ends[toward], state.ends[1 - toward]];
        if state.up[toward] != Some(connection) || !state.arrives(toward, connection, self.clock_us) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        message.encode(&mut bytes);
        self.trace.bytes(&bytes);
        self.buffer = bytes;
        self.trace.line(self.now(), || format!("{peer:?} → {node:?}: {}", message.describe()));
        self.peer_says(node, peer, message);
    }

    /// What a sabotaged network makes of a message.
    fn link_sabotage(&mut self, sabotage: Sabotage, to: Node, mut message: Message) -> Message {
        match (sabotage, &mut message) {
            (
                Sabotage::CapacityDoubled,
                Message::FromHost(FromHost { message: Some(from_host::Message::Hello(hello)) }),
            ) => {
                hello.vcpus *= 2;
                hello.memory_mib *= 2;
            }
            (Sabotage::TombstonesLost, Message::ToHost(to_host)) => {
                if let Some(vms) = assignments(to_host) {
                    vms.retain(|vm| vm.target() != Target::Destroyed);
                }
            }
            (Sabotage::DocumentsCopied, Message::ToHost(to_host)) => {
                if let (Some(vms), Node::Host(host)) = (assignments(to_host), to) {
                    // The neighbour in the same cell: hosts are dealt out to the cells in turn.
                    let neighbour = self.copied.get(&(host + self.cells.len())).cloned();
                    self.copied.insert(host, vms.clone());
                    vms.extend(neighbour.unwrap_or_default());
                }
            }
            _ => {}
        }
        message
    }
}

/// The lines of a document, if the message is one.
fn assignments(message: &mut ToHost) -> Option<&mut Vec<VmAssignment>> {
    match &mut message.message {
        Some(to_host::Message::Document(document)) => Some(&mut document.vms),
        _ => None,
    }
}
