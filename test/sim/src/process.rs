//! The processes of the control plane: the real cores, and their shells' one duty: effects are carried out strictly
//! in order, and a process that dies between two of them has done the first and not the second.

use crate::link::Break;
use crate::message::Message;
use crate::store::{Opened, Store};
use crate::trace::Sight;
use crate::world::{Happening, World};
use base::generation::Term;
use base::random::Random;
use base::step::{LaunchStep, StepRole};
use cell::Cell;
use metastore::CommitError;
use region::region::Region;

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    Region,
    Zone(usize),
    Cell(usize),
    Host(usize),
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Region => f.write_str("region"),
            Node::Zone(zone) => write!(f, "zone-{zone}"),
            Node::Cell(cell) => write!(f, "cell-{cell}"),
            Node::Host(host) => write!(f, "host-{host}"),
        }
    }
}

/// A process with a store.
pub(crate) struct Process<C> {
    /// `None`: it is dead.
    pub(crate) core: Option<C>,
    /// Counts its deaths: what was meant for an earlier life does not reach a later one.
    pub(crate) life: u64,
    pub(crate) store: Store,
}

impl<C> Process<C> {
    pub(crate) fn new(store: Store) -> Process<C> {
        Process { core: None, life: 0, store }
    }
}

impl World {
    pub(crate) fn alive(&self, node: Node) -> bool {
        match node {
            Node::Region => self.region.core.is_some(),
            Node::Zone(zone) => self.zones[zone].core.is_some(),
            Node::Cell(cell) => self.cells[cell].core.is_some(),
            Node::Host(host) => self.hosts[host].agent.is_some(),
        }
    }

    pub(crate) fn life(&self, node: Node) -> u64 {
        match node {
            Node::Region => self.region.life,
            Node::Zone(zone) => self.zones[zone].life,
            Node::Cell(cell) => self.cells[cell].life,
            Node::Host(host) => self.hosts[host].life,
        }
    }

    /// The process starts from what its disk holds.
    pub(crate) fn start(&mut self, node: Node) {
        if self.alive(node) {
            return;
        }
        self.trace.line(self.now(), || format!("{node:?} starts"));
        match node {
            Node::Region => self.region_start(),
            Node::Zone(zone) => self.zone_start(zone),
            Node::Cell(cell) => self.cell_start(cell),
            Node::Host(host) => self.host_start(host),
        }
        if !self.alive(node) {
            return;
        }
        let life = self.life(node);
        let phase = self.random.below(250_000);
        self.later(phase, Happening::Tick { node, life });
        for link in self.links_of.get(&node).cloned().unwrap_or_default() {
            self.link_dial_soon(link);
        }
    }

    /// The process dies; it starts again after a while.
    pub(crate) fn crash(&mut self, node: Node) {
        if !self.alive(node) {
            return;
        }
        self.trace.line(self.now(), || format!("{node:?} dies"));
        self.report.crashes += 1;
        let random = &mut self.random;
        match node {
            Node::Region => {
                self.region.core = None;
                self.region.life += 1;
                self.region.store.crash(random);
                self.calls_break();
            }
            Node::Zone(zone) => self.zones[zone].crash(),
            Node::Cell(cell) => {
                let process = &mut self.cells[cell];
                process.core = None;
                process.life += 1;
                process.store.crash(random);
            }
            Node::Host(host) => self.hosts[host].agent_crash(random),
        }
        for link in self.links_of.get(&node).cloned().unwrap_or_default() {
            self.link_break(link, Break::Death);
        }
        self.start_again(node);
    }

    fn start_again(&mut self, node: Node) {
        let down_us = if self.random.chance(0.2) { 8_000_000 } else { 1_500_000 };
        let wait = 5_000 + self.random.below(down_us);
        let life = self.life(node);
        self.later(wait, Happening::Start { node, life });
    }

    /// An effect has been carried out. True if the process has died right after it.
    pub(crate) fn carried_out(&mut self, node: Node, step: Option<LaunchStep>) -> bool {
        let role = match node {
            Node::Region => StepRole::Region,
            Node::Cell(_) => StepRole::Cell,
            Node::Host(_) => StepRole::Host,
            Node::Zone(_) => return false,
        };
        self.effects[role as usize] += 1;
        if let Some(step) = step {
            if step.role() != role {
                self.violate_core(format!("{node:?} took the step {step}"));
            }
            let reached = self.report.steps.get(&step).copied().unwrap_or_default() + 1;
            self.report.steps.insert(step, reached);
            self.trace.line(self.now(), || format!("{node:?} step {step}"));
            let here = |point: &crate::CrashPoint| point.step == step && reached == u64::from(point.nth);
            if let Some(point) = self.scenario.crash_at.filter(here) {
                *self.report.crashed_at.entry(step).or_default() += 1;
                self.crash(node);
                if point.control_plane {
                    self.control_plane_crash();
                }
                return true;
            }
        }
        if self.crash_effects.remove(&(role as usize, self.effects[role as usize])) {
            if let Some(step) = step {
                *self.report.crashed_at.entry(step).or_default() += 1;
            }
            self.crash(node);
            return true;
        }
        false
    }

    /// Region, zones and cells die together.
    pub(crate) fn control_plane_crash(&mut self) {
        self.crash(Node::Region);
        for zone in 0..self.zones.len() {
            self.crash(Node::Zone(zone));
        }
        for cell in 0..self.cells.len() {
            self.crash(Node::Cell(cell));
        }
    }

    fn region_start(&mut self) {
        let opened = self.region.store.open(region::record::TERM_KEY, "");
        let recovered = opened.and_then(|Opened { entries, revision, incarnation, term, leads, torn }| {
            if torn {
                self.report.saw(Sight::StoreTorn);
            }
            let model = region::model::Model::load(entries, revision).map_err(|error| error.to_string())?;
            let random = Random::from_seed(self.random.u64());
            let identity = self.region_identity.clone();
            Ok(Region::recover(identity, Term(term), leads, incarnation, model, random))
        });
        match recovered {
            Ok(core) => self.region.core = Some(core),
            Err(_) if self.region.store.failed_by_disk() => {
                self.region.store.crash(&mut self.random);
                self.start_again(Node::Region);
            }
            Err(why) => self.violate_core(format!("the region cannot recover: {why}")),
        }
    }

    fn cell_start(&mut self, cell: usize) {
        let opened = self.cells[cell].store.open(cell::TERM_KEY, cell::PREFIX);
        let identity = self.cell_identities[cell].clone();
        let recovered = opened.and_then(|Opened { entries, incarnation, term, .. }| {
            let core = Cell::recover(identity, Term(term), incarnation, entries);
            core.map_err(|error| base::error::chain(&error))
        });
        match recovered {
            Ok(core) => self.cells[cell].core = Some(core),
            Err(_) if self.cells[cell].store.failed_by_disk() => {
                self.cells[cell].store.crash(&mut self.random);
                self.start_again(Node::Cell(cell));
            }
            Err(why) => self.violate_core(format!("cell-{cell} cannot recover: {why}")),
        }
    }

    /// Hands the region an event and carries out what it wants.
    pub(crate) fn region_apply(&mut self, event: region::region::Event) {
        use region::region::Effect;
        let now = self.now();
        let Some(core) = &mut self.region.core else { return };
        for effect in core.apply(now, event) {
            let mut step = None;
            match effect {
                Effect::Commit { ticket, commit } => {
                    if self.region.store.submit(ticket, commit) {
                        self.flush_later(Node::Region);
                    }
                }
                Effect::ToCell(cell, message) => {
                    if let Some(cell) = self.cell_index.get(&cell).copied() {
                        self.link_send(Node::Region, Node::Cell(cell), Message::ToCell(message));
                    }
                }
                Effect::Answer { id, result } => self.call_answer(id, result),
                Effect::Console { .. } => {}
                Effect::Step(reached) => step = Some(reached),
            }
            if self.carried_out(Node::Region, step) {
                return;
            }
        }
    }

    /// Hands a cell an event and carries out what it wants.
    pub(crate) fn cell_apply(&mut self, index: usize, event: cell::Event) {
        use cell::Effect;
        let (now, node) = (self.now(), Node::Cell(index));
        let Some(core) = &mut self.cells[index].core else { return };
        for effect in core.apply(now, event) {
            let mut step = None;
            match effect {
                Effect::Commit { ticket, commit } => {
                    if self.cells[index].store.submit(ticket.0, commit) {
                        self.flush_later(node);
                    }
                }
                Effect::ToRegion(message) => {
                    self.link_send(node, Node::Region, Message::FromCell(message));
                }
                Effect::ToHost(host, message) => {
                    if let Some(host) = self.host_index.get(&host).copied() {
                        self.link_send(node, Node::Host(host), Message::ToHost(message));
                    }
                }
                // No switch is simulated: none links.
                Effect::ToSwitch(..) => {}
                Effect::ToZone(summary) => {
                    let zone = Node::Zone(self.zone_of_cell(index));
                    self.link_send(node, zone, Message::CellSummary(summary));
                }
                Effect::Step(reached) => step = Some(reached),
            }
            if self.carried_out(node, step) {
                return;
            }
        }
    }

    fn flush_later(&mut self, node: Node) {
        let slow = if self.random.chance(0.05) { 200_000 } else { 4_000 };
        let wait = 200 + self.random.below(slow);
        let life = self.life(node);
        self.later(wait, Happening::Flushed { node, life });
    }

    /// A batch of commits is durable, or the disk has failed, which ends the process.
    pub(crate) fn flushed(&mut self, node: Node) {
        let store = match node {
            Node::Region => &mut self.region.store,
            Node::Cell(cell) => &mut self.cells[cell].store,
            Node::Zone(_) | Node::Host(_) => return,
        };
        let results = store.flush_end();
        let life = self.life(node);
        for (ticket, result) in results {
            if let Ok(revision) = &result {
                self.trace.number(revision.0);
            }
            let failed = matches!(result, Err(CommitError::Failed(_)));
            self.trace.line(self.now(), || format!("{node:?} commit {ticket}: {result:?}"));
            match node {
                // The region answers its customers before it ends.
                Node::Region => {
                    self.region_apply(region::region::Event::Committed { ticket, result });
                }
                Node::Cell(cell) if !failed => {
                    self.cell_apply(cell, cell::Event::Committed { ticket: cell::Ticket(ticket), result });
                }
                _ => {}
            }
            if self.life(node) != life {
                return;
            }
            if failed {
                return self.crash(node);
            }
        }
        let begun = match node {
            Node::Region => self.region.store.flush_begin(),
            Node::Cell(cell) => self.cells[cell].store.flush_begin(),
            Node::Zone(_) | Node::Host(_) => false,
        };
        if begun {
            self.flush_later(node);
        }
    }

    /// Time passes for a process: as often as its shell says.
    pub(crate) fn tick(&mut self, node: Node) {
        let period_us = match node {
            Node::Region => {
                self.region_apply(region::region::Event::Tick);
                250_000
            }
            Node::Cell(cell) => {
                self.cell_apply(cell, cell::Event::Tick);
                250_000
            }
            Node::Host(host) => {
                self.host_apply(host, host::agent::Event::Tick);
                // What has no machines has nothing to be punctual about.
                if self.hosts[host].disk.vms.is_empty() { 1_000_000 } else { 500_000 }
            }
            Node::Zone(zone) => {
                self.zone_apply(zone, zone::Event::Tick);
                250_000
            }
        };
        let life = self.life(node);
        if self.alive(node) {
            self.later(period_us, Happening::Tick { node, life });
        }
    }

    pub(crate) fn peer_up(&mut self, node: Node, peer: Node) {
        match (node, peer) {
            (Node::Region, Node::Cell(cell)) => {
                self.region_apply(region::region::Event::CellUp(self.cell_identities[cell].cell.clone()));
            }
            (Node::Region, Node::Zone(zone)) => {
                self.region_apply(region::region::Event::ZoneUp(self.zone_names[zone].clone()));
            }
            (Node::Cell(cell), Node::Region) => self.cell_apply(cell, cell::Event::RegionUp),
            (Node::Cell(cell), Node::Zone(_)) => self.cell_apply(cell, cell::Event::ZoneUp),
            (Node::Cell(cell), Node::Host(host)) => {
                self.cell_apply(cell, cell::Event::HostUp(self.hosts[host].identity.host.clone()));
            }
            (Node::Host(host), Node::Cell(_)) => self.host_apply(host, host::agent::Event::CellUp),
            (Node::Zone(zone), Node::Region) => self.zone_apply(zone, zone::Event::RegionUp),
            (Node::Zone(zone), Node::Cell(cell)) => {
                self.zone_apply(zone, zone::Event::CellUp(self.cell_identities[cell].cell.clone()));
            }
            _ => {}
        }
    }

    pub(crate) fn peer_down(&mut self, node: Node, peer: Node) {
        match (node, peer) {
            (Node::Region, Node::Cell(cell)) => {
                self.region_apply(region::region::Event::CellDown(self.cell_identities[cell].cell.clone()));
            }
            (Node::Region, Node::Zone(zone)) => {
                self.region_apply(region::region::Event::ZoneDown(self.zone_names[zone].clone()));
            }
            (Node::Cell(cell), Node::Region) => self.cell_apply(cell, cell::Event::RegionDown),
            (Node::Cell(cell), Node::Zone(_)) => self.cell_apply(cell, cell::Event::ZoneDown),
            (Node::Cell(cell), Node::Host(host)) => {
                self.cell_apply(cell, cell::Event::HostDown(self.hosts[host].identity.host.clone()));
            }
            (Node::Host(host), Node::Cell(_)) => self.host_apply(host, host::agent::Event::CellDown),
            (Node::Zone(zone), Node::Region) => self.zone_apply(zone, zone::Event::RegionDown),
            (Node::Zone(zone), Node::Cell(cell)) => {
                self.zone_apply(zone, zone::Event::CellDown(self.cell_identities[cell].cell.clone()));
            }
            _ => {}
        }
    }

    pub(crate) fn peer_says(&mut self, node: Node, peer: Node, message: Message) {
        match (node, peer, message) {
            (Node::Region, Node::Cell(cell), Message::FromCell(message)) => {
                let cell = self.cell_identities[cell].cell.clone();
                self.region_apply(region::region::Event::Cell(cell, message));
            }
            (Node::Region, Node::Zone(zone), Message::ZoneSummary(summary)) => {
                self.region_apply(region::region::Event::Zone(self.zone_names[zone].clone(), summary));
            }
            (Node::Cell(cell), _, Message::ToCell(message)) => {
                self.cell_apply(cell, cell::Event::Region(message));
            }
            (Node::Cell(cell), Node::Host(host), Message::FromHost(message)) => {
                let host = self.hosts[host].identity.host.clone();
                self.cell_apply(cell, cell::Event::Host(host, message));
            }
            (Node::Zone(zone), Node::Cell(cell), Message::CellSummary(summary)) => {
                let cell = self.cell_identities[cell].cell.clone();
                self.zone_apply(zone, zone::Event::Cell(cell, summary));
            }
            (Node::Host(host), _, Message::ToHost(message)) => {
                self.host_apply(host, host::agent::Event::Cell(message));
            }
            (node, peer, message) => {
                self.violate_core(format!("{peer:?} said {} to {node:?}", message.describe()));
            }
        }
    }
}
