//! What other roles say: decoded, and taken in by the cores of a cell and of a host. Roles trust each other's
//! certificates, not each other's sense.
//!
//! Input: events, each a kind, and for a message its length and its bytes. Commits and ledger writes are carried
//! out at once; some kinds make them fail.

use crate::input::Input;
use base::clock::Timestamp;
use base::generation::Term;
use base::ids::HostId;
use cell::{Cell, CellIdentity};
use contract::{FromCell, FromHost, HostDocument, ToCell, ToHost, to_host};
use host::agent::{HostAgent, HostCapacity, HostIdentity};
use host::ledger::Ledger;
use host::vmm::simulated::{SimulatedPace, SimulatedVmm};
use metastore::{CommitError, Condition, Entry, Key, Op, Revision, Value};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const EVENTS_MAX: usize = 64;

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let mut site = Site::new();
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let mut message = || {
            let length = input.u16();
            input.take(length.into())
        };
        let host = |number: u8| -> HostId { format!("h{number}").parse().expect("a host's name") };
        match kind % 12 {
            0 => {
                if let Ok(message) = ToCell::decode(message()) {
                    site.cell(cell::Event::Region(message));
                }
            }
            1 | 2 => {
                if let Ok(message) = FromHost::decode(message()) {
                    site.cell(cell::Event::Host(host(kind % 12), message));
                }
            }
            3 => {
                if let Ok(message) = ToHost::decode(message()) {
                    site.agent(host::agent::Event::Cell(message));
                }
            }
            4 => {
                if let Ok(document) = HostDocument::decode(message()) {
                    let message = Some(to_host::Message::Document(document));
                    site.agent(host::agent::Event::Cell(ToHost { term: 1, message }));
                }
            }
            5 => drop(FromCell::decode(message())),
            6 => site.pass(),
            7 => site.cell(cell::Event::HostUp(host(1))),
            8 => site.cell(cell::Event::HostDown(host(1))),
            9 => site.conflict_next = true,
            10 => site.restart(),
            _ => site.ledger_fails = !site.ledger_fails,
        }
    }
    site.restart();
}

/// A cell and a host's agent, beside each other, each with its memory.
struct Site {
    now: Timestamp,
    cell: Cell,
    store: BTreeMap<Key, (Value, Revision)>,
    revision: u64,
    term: u64,
    conflict_next: bool,
    agent: HostAgent,
    ledger: Ledger,
    ledger_fails: bool,
    vmm: SimulatedVmm,
}

impl Site {
    fn new() -> Site {
        let ledger = Ledger::default();
        let mut site = Site {
            now: Timestamp::from_unix_ms(1_000_000),
            cell: cell_recover(&BTreeMap::new(), 1),
            store: BTreeMap::new(),
            revision: 0,
            term: 1,
            conflict_next: false,
            agent: agent_recover(&ledger),
            ledger,
            ledger_fails: false,
            vmm: SimulatedVmm::new(SimulatedPace::default()),
        };
        site.links_up();
        site
    }

    /// Both processes end and start again: what they wrote must be readable to them.
    fn restart(&mut self) {
        self.term += 1;
        self.cell = cell_recover(&self.store, self.term);
        self.agent = agent_recover(&self.ledger);
        self.links_up();
    }

    fn links_up(&mut self) {
        self.cell(cell::Event::RegionUp);
        self.cell(cell::Event::ZoneUp);
        let found = self.vmm.survey();
        self.agent(host::agent::Event::Surveyed(found));
        self.agent(host::agent::Event::CellUp);
    }

    fn pass(&mut self) {
        self.now = self.now + Duration::from_secs(2);
        self.cell(cell::Event::Tick);
        for (vm, event) in self.vmm.due(self.now) {
            self.agent(host::agent::Event::Vmm { vm, event });
        }
        self.agent(host::agent::Event::Tick);
    }

    fn cell(&mut self, event: cell::Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.cell.apply(self.now, event) {
                if let cell::Effect::Commit { ticket, commit } = effect {
                    let result = self.commit(&commit);
                    events.push_back(cell::Event::Committed { ticket, result });
                }
            }
            self.cell.check().expect("the cell's invariants");
        }
    }

    fn commit(&mut self, commit: &metastore::Commit) -> Result<Revision, CommitError> {
        commit.check().expect("a cell's commits keep the store's bounds");
        let holds = |condition: &Condition| match condition {
            Condition::Absent(key) => !self.store.contains_key(key),
            Condition::Unchanged(key, at) => self.store.get(key).is_some_and(|(_, modified)| modified == at),
        };
        // Only on VMs: a host's registration is the cell's alone, and nobody else writes to an embedded store.
        let of_vms = commit.ops.iter().all(|op| op.key().starts_with(b"cell/vm/"));
        if (of_vms && std::mem::take(&mut self.conflict_next)) || !commit.conditions.iter().all(holds) {
            return Err(CommitError::Conflict { key: String::from("fuzz") });
        }
        self.revision += 1;
        for op in &commit.ops {
            match op {
                Op::Put(key, value) | Op::PutLeased(key, value, _) => {
                    drop(self.store.insert(key.clone(), (value.clone(), Revision(self.revision))));
                }
                Op::Delete(key) => drop(self.store.remove(key)),
            }
        }
        Ok(Revision(self.revision))
    }

    fn agent(&mut self, event: host::agent::Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.agent.apply(self.now, event) {
                match effect {
                    host::agent::Effect::Persist { ticket, change } => {
                        let result = if self.ledger_fails { Err("full".into()) } else { Ok(()) };
                        if result.is_ok() {
                            self.ledger.apply(&change);
                        }
                        events.push_back(host::agent::Event::Persisted { ticket, result });
                    }
                    host::agent::Effect::Vmm { vm, command } => self.vmm.command(self.now, vm, command),
                    _ => {}
                }
            }
            self.agent.check().expect("the agent's invariants");
        }
    }
}

fn cell_recover(store: &BTreeMap<Key, (Value, Revision)>, term: u64) -> Cell {
    let identity = CellIdentity {
        cell: "c1".parse().expect("a cell's name"),
        zone: "us-east-1a".parse().expect("a zone's name"),
    };
    let entry = |(key, (value, modified)): (&Key, &(Value, Revision))| Entry {
        key: key.clone(),
        value: value.clone(),
        modified: *modified,
    };
    let records = store.iter().map(entry).collect();
    Cell::recover(identity, Term(term), 1, records).expect("a cell reads what it wrote")
}

fn agent_recover(ledger: &Ledger) -> HostAgent {
    let host = "h1".parse().expect("a host's name");
    let identity = HostIdentity { host, rack: "r1".parse().expect("a rack's name") };
    HostAgent::recover(
        identity,
        HostCapacity { vcpus: 8, memory_mib: 8192, ..HostCapacity::default() },
        ledger.clone(),
    )
}
