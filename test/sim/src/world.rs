//! The simulated world: one queue of happenings under virtual time, and everything that they happen to.
//!
//! Invariant: two happenings never share a place in the queue, so their order is the seed's alone.

use crate::client::Client;
use crate::fault::Fault;
use crate::host::Host;
use crate::invariant::{Invariant, Violation};
use crate::link::{Link, Side};
use crate::message::Message;
use crate::process::{Node, Process};
use crate::scenario::{Sabotage, Scenario};
use crate::store::Store;
use crate::trace::{Report, Sight, Trace};
use crate::zone::Zone;
use base::clock::Timestamp;
use base::ids::{CellId, HostId, InstanceId, ZoneName};
use base::random::Random;
use cell::{Cell, CellIdentity};
use contract::VmAssignment;
use host::agent::HostIdentity;
use region::pool::Pools;
use region::refusal::Refusal;
use region::region::{Identity, Region};
use region::request::Answer;
use std::collections::{BTreeMap, BTreeSet};

/// Virtual time begins here, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_000_000;
/// How long after the last fault everything must have come to rest.
const REST_MAX_US: u64 = 120_000_000;
/// How often that is looked at.
const REST_LOOK_US: u64 = 500_000;
/// How often rest must be found in a row.
const REST_LOOKS: u32 = 5;

/// What can happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Start { node: Node, life: u64 },
    Tick { node: Node, life: u64 },
    Flushed { node: Node, life: u64 },
    Persisted { host: usize, life: u64 },
    MachinesDue { host: usize },
    Dial { link: usize },
    LinkUp { link: usize, side: Side, connection: u64 },
    LinkDown { link: usize, side: Side, connection: u64 },
    Deliver { link: usize, toward: Side, connection: u64, message: Box<Message> },
    Heal { link: usize },
    Fault(Fault),
    ClientActs { client: usize },
    CallArrives { client: usize, call: u64 },
    CallAnswered { client: usize, call: u64, life: u64, result: Box<Result<Answer, Refusal>> },
    CallFailed { client: usize, call: u64 },
    CallAgain { client: usize, call: u64 },
    Peace,
    RestLook,
}

/// The world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) random: Random,
    pub(crate) clock_us: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub(crate) trace: Trace,
    pub(crate) report: Report,
    /// No more faults.
    pub(crate) quiet: bool,
    rest_looks: u32,
    ended: bool,

    pub(crate) region_identity: Identity,
    pub(crate) zone_names: Vec<ZoneName>,
    pub(crate) cell_identities: Vec<CellIdentity>,
    pub(crate) cell_index: BTreeMap<CellId, usize>,
    pub(crate) host_index: BTreeMap<HostId, usize>,
    pub(crate) links: Vec<Link>,
    /// From one process to another: the link, and the first one's side of it.
    pub(crate) link_between: BTreeMap<(Node, Node), (usize, Side)>,
    pub(crate) links_of: BTreeMap<Node, Vec<usize>>,

    pub(crate) region: Process<Region>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) cells: Vec<Process<Cell>>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Vec<Client>,

    /// Calls that the region is at work on, and whose they are.
    pub(crate) calls: BTreeMap<u64, usize>,
    pub(crate) call_next: u64,
    /// Of a region that died: up to when its last answers still arrive.
    pub(crate) answers_until_us: u64,
    /// Which hosts a guest is on at.
    pub(crate) running: BTreeMap<InstanceId, BTreeSet<usize>>,
    /// Instances whose machine a fault has stopped, or may yet.
    pub(crate) unasked: BTreeSet<InstanceId>,
    /// Effects carried out, by role.
    pub(crate) effects: [u64; 3],
    /// Crashes to come: after which effect of which role.
    pub(crate) crash_effects: BTreeSet<(usize, u64)>,
    /// See [`Sabotage::DocumentsCopied`].
    pub(crate) copied: BTreeMap<usize, Vec<VmAssignment>>,
    /// Reused.
    pub(crate) buffer: Vec<u8>,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> World {
        let (zone_names, cell_identities, region_identity) = topology(&scenario);
        let cells = cell_identities.len();
        let host = |index: usize| {
            let identity = HostIdentity {
                host: named(format!("h{index:03}")),
                rack: named(format!("r{}", index / cells % 4)),
            };
            Host::new(identity, scenario.host_vcpus, scenario.host_memory_mib)
        };
        let hosts: Vec<Host> = (0..scenario.hosts).map(host).collect();
        let lie = scenario.sabotage == Some(Sabotage::SyncsLie);
        let mut world = World {
            random: Random::from_seed(scenario.seed),
            clock_us: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            trace: Trace::new(scenario.trace),
            report: Report { seed: scenario.seed, ..Report::default() },
            quiet: false,
            rest_looks: 0,
            ended: false,
            region_identity,
            cell_index: cell_identities.iter().map(|id| id.cell.clone()).zip(0..).collect(),
            host_index: hosts.iter().map(|host| host.identity.host.clone()).zip(0..).collect(),
            links: Vec::new(),
            link_between: BTreeMap::new(),
            links_of: BTreeMap::new(),
            region: Process::new(Store::new(lie)),
            zones: zone_names.iter().map(|_| Zone::default()).collect(),
            cells: cell_identities.iter().map(|_| Process::new(Store::new(false))).collect(),
            hosts,
            clients: (0..scenario.clients).map(|index| Client::new(index, scenario.calls)).collect(),
            zone_names,
            cell_identities,
            calls: BTreeMap::new(),
            call_next: 1,
            answers_until_us: 0,
            running: BTreeMap::new(),
            unasked: BTreeSet::new(),
            effects: [0; 3],
            crash_effects: BTreeSet::new(),
            copied: BTreeMap::new(),
            buffer: Vec::new(),
            scenario,
        };
        world.links_make();
        world
    }

    fn links_make(&mut self) {
        for zone in 0..self.zones.len() {
            self.link_make(Node::Region, Node::Zone(zone));
        }
        for cell in 0..self.cells.len() {
            self.link_make(Node::Region, Node::Cell(cell));
            self.link_make(Node::Cell(cell), Node::Zone(self.zone_of_cell(cell)));
        }
        for host in 0..self.hosts.len() {
            self.link_make(Node::Host(host), Node::Cell(self.cell_of_host(host)));
        }
    }

    pub(crate) fn zone_of_cell(&self, cell: usize) -> usize {
        cell % Scenario::ZONES
    }

    pub(crate) fn cell_of_host(&self, host: usize) -> usize {
        host % self.cells.len()
    }

    /// Now, as the cores see it.
    pub(crate) fn now(&self) -> Timestamp {
        Self::now_of(self.clock_us)
    }

    /// What the cores see at an instant of the queue's clock.
    pub(crate) fn now_of(clock_us: u64) -> Timestamp {
        Timestamp::from_unix_ms(EPOCH_MS + clock_us / 1000)
    }

    /// When the queue's clock reaches an instant of the cores.
    pub(crate) fn micros(at: Timestamp) -> u64 {
        (at.unix_ms() - EPOCH_MS) * 1000
    }

    /// Puts something into the queue.
    pub(crate) fn later(&mut self, wait_us: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.clock_us + wait_us, self.sequence), happening);
    }

    /// Something must hold and does not: the run ends here. The first one counts.
    pub(crate) fn violate(&mut self, invariant: Invariant, what: String) {
        self.trace.line(self.now(), || format!("VIOLATION {invariant:?}: {what}"));
        let at = self.now();
        self.report.violation.get_or_insert(Violation { invariant, what, at });
    }

    /// A core, or the simulator itself, did what it never does.
    pub(crate) fn violate_core(&mut self, what: String) {
        self.violate(Invariant::CoreSound, what);
    }

    /// Runs to the end.
    pub(crate) fn run(mut self) -> Report {
        let mut nodes = vec![Node::Region];
        nodes.extend((0..self.zones.len()).map(Node::Zone));
        nodes.extend((0..self.cells.len()).map(Node::Cell));
        nodes.extend((0..self.hosts.len()).map(Node::Host));
        for node in nodes {
            let wait = self.random.below(300_000);
            self.later(wait, Happening::Start { node, life: 0 });
        }
        for client in 0..self.clients.len() {
            let wait = 500_000 + self.random.below(1_000_000);
            self.later(wait, Happening::ClientActs { client });
        }
        self.faults_plan();
        self.later(self.scenario.activity.as_micros() as u64, Happening::Peace);
        while let Some(((at_us, _), happening)) = self.queue.pop_first() {
            self.clock_us = at_us;
            self.report.events += 1;
            self.trace.number(at_us);
            self.happens(happening);
            if self.ended || self.report.violation.is_some() {
                break;
            }
        }
        self.report.hash = self.trace.hash();
        self.report.elapsed_ms = self.clock_us / 1000;
        self.report
    }

    fn happens(&mut self, happening: Happening) {
        let kind = match &happening {
            Happening::Start { .. } => 1,
            Happening::Tick { .. } => 2,
            Happening::Flushed { .. } => 3,
            Happening::Persisted { .. } => 4,
            Happening::MachinesDue { .. } => 5,
            Happening::Dial { .. } => 6,
            Happening::LinkUp { .. } => 7,
            Happening::LinkDown { .. } => 8,
            Happening::Deliver { .. } => 9,
            Happening::Heal { .. } => 10,
            Happening::Fault(_) => 11,
            Happening::ClientActs { .. } => 12,
            Happening::CallArrives { .. } => 13,
            Happening::CallAnswered { .. } => 14,
            Happening::CallFailed { .. } => 15,
            Happening::CallAgain { .. } => 16,
            Happening::Peace => 17,
            Happening::RestLook => 18,
        };
        self.trace.number(kind);
        match happening {
            Happening::Start { node, life } if self.life(node) == life => self.start(node),
            Happening::Tick { node, life } if self.life(node) == life => {
                self.tick(node);
                if let Node::Cell(cell) = node {
                    self.claims_check(cell);
                }
            }
            Happening::Flushed { node, life } if self.life(node) == life => self.flushed(node),
            Happening::Persisted { host, life } if self.life(Node::Host(host)) == life => {
                self.persisted(host);
            }
            // Meant for a process that has died since.
            Happening::Start { .. }
            | Happening::Tick { .. }
            | Happening::Flushed { .. }
            | Happening::Persisted { .. } => {}
            Happening::MachinesDue { host } => self.machines_due(host),
            Happening::Dial { link } => self.link_dial(link),
            Happening::LinkUp { link, side, connection } => self.link_up(link, side, connection),
            Happening::LinkDown { link, side, connection } => self.link_down(link, side, connection),
            Happening::Deliver { link, toward, connection, message } => {
                self.trace.number(link as u64 * 2 + toward as u64);
                self.link_deliver(link, toward, connection, *message);
            }
            Happening::Heal { link } => self.link_heal(link),
            Happening::Fault(fault) => self.fault(fault),
            Happening::ClientActs { client } => self.client_acts(client),
            Happening::CallArrives { client, call } => self.call_arrives(client, call),
            Happening::CallAnswered { client, call, life, result } => {
                self.call_answered(client, call, life, *result);
            }
            Happening::CallFailed { client, call } => self.call_failed(client, call),
            Happening::CallAgain { client, call } => self.call_again(client, call),
            Happening::Peace => self.peace(),
            Happening::RestLook => self.rest_look(),
        }
    }

    /// The faults are over: partitions heal, and from now on everything must come to rest.
    fn peace(&mut self) {
        self.trace.line(self.now(), || "peace".into());
        self.quiet = true;
        self.crash_effects.clear();
        self.scenario.crash_at = None;
        for link in 0..self.links.len() {
            self.link_heal_fully(link);
        }
        self.later(REST_LOOK_US, Happening::RestLook);
    }

    fn rest_look(&mut self) {
        let why = match self.at_rest() {
            Ok(()) => {
                self.rest_looks += 1;
                self.ended = self.rest_looks >= REST_LOOKS;
                if self.ended && self.terminated_by_guest() {
                    self.report.saw(Sight::TerminatedByGuest);
                }
                None
            }
            Err(why) => {
                self.rest_looks = 0;
                Some(why)
            }
        };
        let patience_us = self.scenario.activity.as_micros() as u64 + REST_MAX_US;
        match why {
            Some(why) if self.clock_us > patience_us => self.violate(why.invariant, why.what),
            _ => self.later(REST_LOOK_US, Happening::RestLook),
        }
    }
}

/// Zones, cells, and the region as it is configured.
fn topology(scenario: &Scenario) -> (Vec<ZoneName>, Vec<CellIdentity>, Identity) {
    let zone_names: Vec<ZoneName> = (0..Scenario::ZONES).map(|zone| named(format!("z{zone}"))).collect();
    let cells = Scenario::ZONES * scenario.cells_per_zone;
    let cell_identities: Vec<CellIdentity> = (0..cells)
        .map(|cell| CellIdentity {
            cell: named(format!("c{cell}")),
            zone: zone_names[cell % Scenario::ZONES].clone(),
        })
        .collect();
    let cells_of = |zone: &ZoneName| {
        let of_zone = cell_identities.iter().filter(|cell| cell.zone == *zone);
        (zone.clone(), of_zone.map(|cell| cell.cell.clone()).collect())
    };
    let region_identity = Identity {
        name: named("sim-1".into()),
        zones: zone_names.iter().map(cells_of).collect(),
        vcpus_per_account: 96,
        images: Vec::new(),
        pools: Pools::default(),
    };
    (zone_names, cell_identities, region_identity)
}

/// A name that the simulator has made, which is therefore well formed.
#[allow(clippy::expect_used)]
fn named<T: std::str::FromStr<Err: std::fmt::Debug>>(text: String) -> T {
    text.parse().expect("the simulator's own names are well formed")
}
