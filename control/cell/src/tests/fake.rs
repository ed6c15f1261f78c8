//! A store that commits when it is told to, and messages by short names.

use crate::{Cell, CellIdentity, Effect, Event, Ticket};
use base::clock::Timestamp;
use base::generation::Term;
use base::ids::HostId;
use base::step::LaunchStep;
use contract::{
    CellSummary, FromCell, FromHost, Generation, HostDocument, HostHello, HostStatus, Phase, StopCause,
    Target, ToCell, VmIntent, VmReport, VmReportAck, VmSpec, VmStatus, from_cell, from_host, to_cell,
    to_host, to_switch,
};
use metastore::{Commit, CommitError, Condition, Entry, Key, Op, Revision, Value};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) const A: &str = "i-0000000000000000a";
pub(super) const B: &str = "i-0000000000000000b";
pub(super) const C: &str = "i-0000000000000000c";

/// What a metadata store does, in memory.
#[derive(Default)]
pub(super) struct Store {
    entries: BTreeMap<Key, (Value, Revision)>,
    revision: u64,
}

impl Store {
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Revision, CommitError> {
        for condition in &commit.conditions {
            let (key, holds) = match condition {
                Condition::Absent(key) => (key, !self.entries.contains_key(key)),
                Condition::Unchanged(key, at) => {
                    (key, self.entries.get(key).is_some_and(|(_, modified)| modified == at))
                }
            };
            if !holds {
                return Err(CommitError::Conflict { key: String::from_utf8_lossy(key).into_owned() });
            }
        }
        self.revision += 1;
        for op in &commit.ops {
            match op {
                Op::Put(key, value) | Op::PutLeased(key, value, _) => {
                    self.entries.insert(key.clone(), (value.clone(), Revision(self.revision)));
                }
                Op::Delete(key) => {
                    self.entries.remove(key);
                }
            }
        }
        Ok(Revision(self.revision))
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |(key, (value, modified)): (&Key, &(Value, Revision))| Entry {
            key: key.clone(),
            value: value.clone(),
            modified: *modified,
        };
        self.entries.iter().map(entry).collect()
    }

    pub(super) fn recover(&self, term: u64) -> Cell {
        let identity = CellIdentity { cell: "c1".parse().unwrap(), zone: "z1".parse().unwrap() };
        Cell::recover(identity, Term(term), 1, self.entries()).unwrap()
    }
}

/// A cell, its store, and everything that it said.
pub(super) struct Fake {
    pub(super) cell: Cell,
    pub(super) store: Store,
    pub(super) now: Timestamp,
    term: u64,
    /// Commits wait for [`Fake::commit_all`].
    pub(super) slow: bool,
    pending: VecDeque<(Ticket, Commit)>,
    pub(super) reports: Vec<VmReport>,
    pub(super) others: Vec<from_cell::Message>,
    pub(super) documents: Vec<(HostId, HostDocument)>,
    pub(super) to_hosts: Vec<(HostId, to_host::Message)>,
    pub(super) to_switches: Vec<(HostId, to_switch::Message)>,
    pub(super) summaries: Vec<CellSummary>,
    pub(super) steps: Vec<LaunchStep>,
}

impl Fake {
    /// A cell that has just started, linked to its region and its zone.
    pub(super) fn new() -> Fake {
        let store = Store::default();
        let mut fake = Fake {
            cell: store.recover(1),
            store,
            now: Timestamp::from_unix_ms(1_000_000),
            term: 1,
            slow: false,
            pending: VecDeque::new(),
            reports: Vec::new(),
            others: Vec::new(),
            documents: Vec::new(),
            to_hosts: Vec::new(),
            to_switches: Vec::new(),
            summaries: Vec::new(),
            steps: Vec::new(),
        };
        fake.apply(Event::RegionUp);
        fake.apply(Event::ZoneUp);
        fake
    }

    /// With a host `name` in rack `rack`.
    pub(super) fn with_host(mut self, name: &str, rack: &str, vcpus: u32) -> Fake {
        self.host_up(name, rack, vcpus);
        self
    }

    pub(super) fn host_up(&mut self, name: &str, rack: &str, vcpus: u32) {
        self.apply(Event::HostUp(name.parse().unwrap()));
        let hello = HostHello {
            host_id: name.into(),
            rack_id: rack.into(),
            vcpus,
            memory_mib: vcpus * 1024,
            accelerator: "simulated".into(),
        };
        self.host(name, from_host::Message::Hello(hello));
    }

    pub(super) fn host(&mut self, name: &str, message: from_host::Message) {
        self.apply(Event::Host(name.parse().unwrap(), FromHost { message: Some(message) }));
    }

    pub(super) fn apply(&mut self, event: Event) {
        for effect in self.cell.apply(self.now, event) {
            match effect {
                Effect::Commit { ticket, commit } => self.pending.push_back((ticket, commit)),
                Effect::ToRegion(FromCell { message: Some(from_cell::Message::Report(report)) }) => {
                    self.reports.push(report);
                }
                Effect::ToRegion(message) => self.others.extend(message.message),
                Effect::ToHost(host, message) => match message.message {
                    Some(to_host::Message::Document(document)) => {
                        assert_eq!(message.term, self.term);
                        self.documents.push((host, document));
                    }
                    Some(other) => self.to_hosts.push((host, other)),
                    None => panic!("an empty message to {host}"),
                },
                Effect::ToSwitch(host, message) => {
                    assert_eq!(message.term, self.term);
                    self.to_switches.extend(message.message.map(|message| (host, message)));
                }
                Effect::ToZone(summary) => self.summaries.push(summary),
                Effect::Step(step) => self.steps.push(step),
            }
        }
        self.cell.check().unwrap();
        if !self.slow {
            self.commit_all();
        }
    }

    /// The oldest commit under way ends.
    pub(super) fn commit_one(&mut self) -> bool {
        let Some((ticket, commit)) = self.pending.pop_front() else { return false };
        let result = self.store.commit(&commit);
        assert!(result.is_ok(), "{result:?}");
        self.apply(Event::Committed { ticket, result });
        true
    }

    pub(super) fn commit_all(&mut self) {
        while self.commit_one() {}
    }

    /// All commits under way end, and their answers come in the other order.
    pub(super) fn commit_all_backwards(&mut self) {
        let commits: Vec<(Ticket, Commit)> = self.pending.drain(..).collect();
        let done: Vec<_> =
            commits.iter().map(|(ticket, commit)| (*ticket, self.store.commit(commit))).collect();
        for (ticket, result) in done.into_iter().rev() {
            assert!(result.is_ok(), "{result:?}");
            self.apply(Event::Committed { ticket, result });
        }
    }

    /// The oldest commit under way ends badly.
    pub(super) fn commit_fails(&mut self, error: CommitError) {
        let (ticket, _) = self.pending.pop_front().unwrap();
        self.apply(Event::Committed { ticket, result: Err(error) });
    }

    /// The process dies, of its commits under way only the first `durable` happened, and it starts again.
    pub(super) fn crash(&mut self, durable: usize) {
        for (_, commit) in self.pending.drain(..).take(durable) {
            self.store.commit(&commit).unwrap();
        }
        self.term += 1;
        self.cell = self.store.recover(self.term);
        self.cell.check().unwrap();
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Time passes, and every host that is up says that it is well.
    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(250) {
            self.now = self.now + Duration::from_millis(250);
            self.apply(Event::Tick);
        }
    }

    pub(super) fn intent(&mut self, intent: VmIntent) {
        self.apply(region(to_cell::Message::Intent(intent)));
    }

    pub(super) fn ack(&mut self, report: &VmReport) {
        self.apply(region(to_cell::Message::Ack(ack(report))));
    }

    /// The host says of one VM: attempt, generation, phase, cause.
    pub(super) fn status(&mut self, host: &str, vm: (&str, u32, u64, Phase, StopCause)) {
        let held = self.documents.iter().rev().find(|(to, _)| to.as_str() == host);
        let status = HostStatus {
            document_generation: held.and_then(|(_, document)| document.generation),
            vms: vec![vm_status(vm.0, vm.1, vm.2, vm.3, vm.4)],
            ..HostStatus::default()
        };
        self.host(host, from_host::Message::Status(status));
    }

    /// What was reported since the last time, as (phase, attempt, generation, host).
    pub(super) fn said(&mut self) -> Vec<(Phase, u32, u64, String)> {
        self.reports.drain(..).map(|r| (r.phase(), r.attempt, revision(&r), r.host_id)).collect()
    }

    /// What a host holds that missed nothing: its last whole document and the changes since.
    pub(super) fn held(&self, host: &str) -> HostDocument {
        let mut held: Option<HostDocument> = None;
        for (_, document) in self.documents.iter().filter(|(to, _)| to.as_str() == host) {
            held = Some(match held {
                Some(held) if document.base.is_some() => document_after(held, document).expect("in order"),
                _ => document.clone(),
            });
        }
        held.expect("a document was sent")
    }

    /// The newest document of a host, as (instance, attempt, generation, target).
    pub(super) fn document(&self, host: &str) -> Vec<(String, u32, u64, Target)> {
        let document = self.held(host);
        let line = |vm: &contract::VmAssignment| {
            let instance = vm.spec.clone().unwrap_or_default().instance_id;
            (instance, vm.attempt, vm.generation.unwrap_or_default().revision, vm.target())
        };
        document.vms.iter().map(line).collect()
    }

    /// Launches a VM of one vCPU up to RUNNING: claim at generation 10, confirmation at 11.
    pub(super) fn launch(&mut self, instance: &str) -> String {
        self.intent(intent(instance, 1, 10, Target::Claimed));
        self.intent(intent(instance, 1, 11, Target::Running));
        let host = self.reports.last().unwrap().host_id.clone();
        self.status(&host, (instance, 1, 11, Phase::Running, StopCause::Unspecified));
        self.reports.clear();
        self.steps.clear();
        host
    }
}

/// The document after a change of it; `None` if the change is one of another document.
pub(super) fn document_after(mut held: HostDocument, change: &HostDocument) -> Option<HostDocument> {
    if held.generation != change.base {
        return None;
    }
    let name = |vm: &contract::VmAssignment| vm.spec.clone().unwrap_or_default().instance_id;
    let changed: Vec<String> = change.vms.iter().map(name).chain(change.gone.iter().cloned()).collect();
    held.vms.retain(|vm| !changed.contains(&name(vm)));
    held.vms.extend(change.vms.iter().cloned());
    held.generation = change.generation;
    Some(held)
}

pub(super) fn region(message: to_cell::Message) -> Event {
    Event::Region(ToCell { term: 1, message: Some(message) })
}

pub(super) fn intent(instance: &str, attempt: u32, revision: u64, target: Target) -> VmIntent {
    VmIntent {
        generation: Some(Generation { incarnation: 1, revision }),
        attempt,
        target: target.into(),
        spec: Some(spec(instance, 1)),
        host_id: String::new(),
        force: false,
    }
}

pub(super) fn spec(instance: &str, vcpus: u32) -> VmSpec {
    VmSpec {
        instance_id: instance.into(),
        account_id: "000000000042".into(),
        reservation_id: "r-00000000000000001".into(),
        vcpus,
        memory_mib: vcpus * 1024,
        ..VmSpec::default()
    }
}

pub(super) fn vm_status(instance: &str, attempt: u32, rev: u64, phase: Phase, cause: StopCause) -> VmStatus {
    VmStatus {
        instance_id: instance.into(),
        attempt,
        generation: Some(Generation { incarnation: 1, revision: rev }),
        phase: phase.into(),
        stop_cause: cause.into(),
        ..VmStatus::default()
    }
}

pub(super) fn ack(report: &VmReport) -> VmReportAck {
    VmReportAck {
        instance_id: report.instance_id.clone(),
        attempt: report.attempt,
        generation: report.generation,
        phase: report.phase,
    }
}

pub(super) fn revision(report: &VmReport) -> u64 {
    report.generation.unwrap_or_default().revision
}
