//! Random order, duplication, loss and crashes against a model of a region and of hosts; then peace, in which
//! everything must come to rest as the region wants it.

use super::fake::*;
use crate::Event;
use base::ids::HostId;
use base::random::Random;
use contract::{
    HostDocument, HostStatus, Phase, StopCause, Target, VmIntent, VmReport, VmReportAck, from_host, to_cell,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const HOSTS: [(&str, &str); 3] = [("h1", "r1"), ("h2", "r1"), ("h3", "r2")];
const HOST_VCPUS: u32 = 3;
const INSTANCES: u64 = 7;

/// What a region holds of one instance: its newest intent, sent until it is answered.
#[derive(Default)]
struct Instance {
    attempt: u32,
    intent: Option<VmIntent>,
    phase: Phase,
    confirmed: BTreeSet<u32>,
    done: bool,
}

#[derive(Clone, Copy, PartialEq)]
struct Running {
    attempt: u32,
    generation: u64,
    phase: Phase,
    cause: StopCause,
}

#[derive(Default)]
struct HostModel {
    held: (u64, u64),
    vms: BTreeMap<String, Running>,
}

struct World {
    random: Random,
    fake: Fake,
    generation: u64,
    instances: BTreeMap<String, Instance>,
    hosts: BTreeMap<String, HostModel>,
    /// Messages under way, to be delivered in any order, again and again.
    intents: Vec<VmIntent>,
    acks: Vec<VmReportAck>,
    statuses: Vec<(String, HostStatus)>,
    documents: Vec<(HostId, HostDocument)>,
    /// Where each confirmed attempt was told to run.
    placed: BTreeMap<(String, u32), HostId>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut fake = Fake::new();
        for (host, rack) in HOSTS {
            fake.host_up(host, rack, HOST_VCPUS);
        }
        fake.slow = true;
        let instances = (0..INSTANCES).map(|n| (format!("i-{n:017x}"), Instance::default())).collect();
        let hosts = HOSTS.iter().map(|(host, _)| ((*host).to_owned(), HostModel::default())).collect();
        World {
            random: Random::from_seed(seed),
            fake,
            generation: 10,
            instances,
            hosts,
            intents: Vec::new(),
            acks: Vec::new(),
            statuses: Vec::new(),
            documents: Vec::new(),
            placed: BTreeMap::new(),
        }
    }

    fn pick(&mut self, length: usize) -> usize {
        self.random.below(length as u64) as usize
    }

    fn want(&mut self, name: &str, target: Target) {
        self.generation += 1;
        let instance = self.instances.get_mut(name).unwrap();
        if target == Target::Claimed {
            instance.attempt += 1;
            instance.phase = Phase::Unspecified;
        }
        if matches!(target, Target::Running | Target::Stopped) {
            instance.confirmed.insert(instance.attempt);
        }
        let wanted = intent(name, instance.attempt, self.generation, target);
        instance.intent = Some(wanted.clone());
        self.intents.push(wanted);
    }

    /// The customer acts.
    fn customer(&mut self) {
        let n = self.random.below(INSTANCES);
        let name = format!("i-{n:017x}");
        let instance = &self.instances[&name];
        if instance.done {
            return;
        }
        let target = instance.intent.as_ref().map(VmIntent::target);
        match (target, instance.phase) {
            (None, _) => self.want(&name, Target::Claimed),
            (Some(Target::Running), Phase::Running | Phase::Starting) if self.random.chance(0.5) => {
                let reboot = self.random.chance(0.3);
                self.want(&name, if reboot { Target::Running } else { Target::Stopped });
            }
            (Some(Target::Stopped), Phase::Stopped) => self.want(&name, Target::Claimed),
            (Some(target), _) if target != Target::Destroyed && self.random.chance(0.2) => {
                self.want(&name, Target::Destroyed);
            }
            _ => {}
        }
    }

    /// The region reads a report.
    fn region(&mut self, report: VmReport) {
        let name = report.instance_id.clone();
        let instance = self.instances.get_mut(&name).unwrap();
        let Some(wanted) = instance.intent.clone() else { return };
        let answers = report.attempt == instance.attempt;
        self.acks.push(ack(&report));
        if instance.done {
            // What an overtaken claim has raised is put down again.
            if report.phase() != Phase::Destroyed {
                self.intents.push(wanted);
            }
            return;
        }
        if !answers {
            return;
        }
        let newest = revision(&report) >= wanted.generation.unwrap_or_default().revision;
        match (wanted.target(), report.phase()) {
            (Target::Claimed, Phase::Claimed) => self.want(&name, Target::Running),
            // It gives up; where a disk is, the VM is stopped again.
            (Target::Claimed, Phase::Refused) if newest && instance.confirmed.is_empty() => {
                self.want(&name, Target::Destroyed);
            }
            (Target::Claimed, Phase::Refused) if newest => self.want(&name, Target::Stopped),
            (Target::Running, Phase::Stopped) if newest => self.want(&name, Target::Stopped),
            (Target::Destroyed, Phase::Destroyed) => {
                instance.done = true;
                instance.phase = Phase::Destroyed;
            }
            (_, phase) if newest => instance.phase = phase,
            _ => {}
        }
    }

    /// A host takes a document and acts on it at once.
    fn host_document(&mut self, to: &HostId, document: &HostDocument) {
        for vm in &document.vms {
            let name = vm.spec.clone().unwrap_or_default().instance_id;
            let instance = &self.instances[&name];
            if vm.target() == Target::Running {
                assert!(instance.confirmed.contains(&vm.attempt), "{name} {} unconfirmed", vm.attempt);
                let place = self.placed.entry((name.clone(), vm.attempt)).or_insert_with(|| to.clone());
                assert_eq!(place, to, "one attempt of {name} on two hosts");
            }
        }
        let host = self.hosts.get_mut(to.as_str()).unwrap();
        let generation = document.generation.unwrap_or_default();
        if (generation.incarnation, generation.revision) < host.held {
            return;
        }
        if document.base.is_some_and(|base| (base.incarnation, base.revision) != host.held) {
            return;
        }
        host.held = (generation.incarnation, generation.revision);
        // What is gone and no longer named is forgotten; anything else that is not named stays.
        let named = |name: &String| match document.base {
            Some(_) => !document.gone.contains(name),
            None => {
                document.vms.iter().any(|vm| vm.spec.as_ref().is_some_and(|spec| spec.instance_id == *name))
            }
        };
        host.vms.retain(|name, vm| named(name) || vm.phase != Phase::Destroyed);
        for vm in &document.vms {
            let name = vm.spec.clone().unwrap_or_default().instance_id;
            let generation = vm.generation.unwrap_or_default().revision;
            let old = host.vms.get(&name).copied();
            if old.is_some_and(|old| (old.attempt, old.generation) >= (vm.attempt, generation)) {
                continue;
            }
            let (phase, cause) = match vm.target() {
                Target::Running => (Phase::Running, StopCause::Unspecified),
                Target::Stopped => (Phase::Stopped, StopCause::ShutDown),
                Target::Destroyed => (Phase::Destroyed, StopCause::Unspecified),
                Target::Unspecified | Target::Claimed | Target::Released => {
                    panic!("{:?} in a document", vm.target())
                }
            };
            host.vms.insert(name, Running { attempt: vm.attempt, generation, phase, cause });
        }
    }

    fn host_report(&mut self, name: &str) {
        let host = &self.hosts[name];
        let vms = host
            .vms
            .iter()
            .map(|(instance, vm)| vm_status(instance, vm.attempt, vm.generation, vm.phase, vm.cause))
            .collect();
        let held = contract::Generation { incarnation: host.held.0, revision: host.held.1 };
        let status = HostStatus { document_generation: Some(held), vms, ..HostStatus::default() };
        self.statuses.push((name.to_owned(), status));
    }

    /// A guest shuts itself down.
    fn guest(&mut self) {
        let (name, _) = HOSTS[self.pick(HOSTS.len())];
        let host = self.hosts.get_mut(name).unwrap();
        if let Some(vm) = host.vms.values_mut().find(|vm| vm.phase == Phase::Running) {
            (vm.phase, vm.cause) = (Phase::Stopped, StopCause::Guest);
        }
    }

    fn crash(&mut self) {
        let durable = self.pick(self.fake.pending() + 1);
        self.fake.crash(durable);
        // Messages die with the links that they were on.
        self.intents.clear();
        self.acks.clear();
        self.statuses.clear();
        self.fake.apply(Event::RegionUp);
        for (host, rack) in HOSTS {
            self.fake.host_up(host, rack, HOST_VCPUS);
        }
    }

    fn collect(&mut self) {
        let documents: Vec<_> = self.fake.documents.drain(..).collect();
        for (host, document) in documents {
            // Most arrive when they are sent, in order; changes are of use then only. The others may come later.
            if self.random.chance(0.7) {
                self.host_document(&host, &document);
            }
            self.documents.push((host, document));
        }
        let reports: Vec<VmReport> = self.fake.reports.drain(..).collect();
        for report in reports {
            // Some are lost.
            if self.random.chance(0.8) {
                self.region(report);
            }
        }
    }

    /// One random thing happens; a message that is delivered may be delivered again.
    fn disorder(&mut self) {
        match self.random.below(10) {
            0 | 1 => self.customer(),
            2 if !self.intents.is_empty() => {
                let n = self.pick(self.intents.len());
                let intent = self.intents[n].clone();
                self.fake.intent(intent);
            }
            3 => {
                let wanted: Vec<VmIntent> =
                    self.instances.values().filter_map(|instance| instance.intent.clone()).collect();
                wanted.into_iter().for_each(|intent| self.fake.intent(intent));
            }
            4 if !self.documents.is_empty() => {
                let n = self.pick(self.documents.len());
                let (host, document) = self.documents[n].clone();
                self.host_document(&host, &document);
            }
            5 => {
                let (name, _) = HOSTS[self.pick(HOSTS.len())];
                self.host_report(name);
            }
            6 if !self.statuses.is_empty() => {
                let n = self.pick(self.statuses.len());
                let (host, status) = self.statuses[n].clone();
                self.fake.host(&host, from_host::Message::Status(status));
            }
            7 if !self.acks.is_empty() => {
                let n = self.pick(self.acks.len());
                let ack = self.acks[n].clone();
                self.fake.apply(region(to_cell::Message::Ack(ack)));
            }
            8 => match self.random.below(4) {
                0 => self.guest(),
                1 => self.crash(),
                _ => self.fake.pass(250),
            },
            _ => {
                self.fake.commit_one();
            }
        }
        self.collect();
        self.one_place_each();
    }

    /// No instance runs on two hosts, and no host runs more than it has.
    fn one_place_each(&self) {
        let mut running: BTreeMap<&str, &str> = BTreeMap::new();
        for (host, model) in &self.hosts {
            let here = model.vms.iter().filter(|(_, vm)| vm.phase == Phase::Running);
            assert!(here.clone().count() <= HOST_VCPUS as usize, "{host} runs more than it has");
            for (instance, _) in here {
                let other = running.insert(instance, host);
                assert_eq!(other, None, "{instance} runs on {host} too");
            }
        }
        let mut claimed: BTreeMap<String, u32> = BTreeMap::new();
        for record in self.fake.cell.vm_records() {
            if let Some((host, room)) = record.room() {
                *claimed.entry(host.to_string()).or_default() += room.vcpus;
            }
        }
        for (host, vcpus) in claimed {
            assert!(vcpus <= HOST_VCPUS, "{host} has {vcpus} vCPU of claims");
        }
    }

    /// Everything is delivered, in order, until nothing changes.
    fn peace(&mut self) {
        self.intents.clear();
        self.statuses.clear();
        self.acks.clear();
        self.documents.clear();
        self.fake.slow = false;
        self.fake.commit_all();
        for _ in 0..60 {
            let wanted: Vec<VmIntent> = self
                .instances
                .values()
                .filter(|instance| !instance.done)
                .filter_map(|instance| instance.intent.clone())
                .collect();
            let answers = std::mem::take(&mut self.intents);
            wanted.into_iter().chain(answers).for_each(|intent| self.fake.intent(intent));
            self.fake.pass(1000);
            for (host, document) in std::mem::take(&mut self.fake.documents) {
                self.host_document(&host, &document);
            }
            for (host, _) in HOSTS {
                self.host_report(host);
            }
            for (host, status) in std::mem::take(&mut self.statuses) {
                self.fake.host(&host, from_host::Message::Status(status));
            }
            for report in std::mem::take(&mut self.fake.reports) {
                self.region(report);
            }
            for ack in std::mem::take(&mut self.acks) {
                self.fake.apply(region(to_cell::Message::Ack(ack)));
            }
            self.one_place_each();
        }
    }

    fn at_rest(&self) {
        for (name, instance) in &self.instances {
            let record = self.fake.cell.vm_records().find(|record| record.instance.to_string() == *name);
            let on_hosts = self.hosts.values().filter_map(|host| host.vms.get(name));
            let phases: Vec<Phase> = on_hosts.map(|vm| vm.phase).collect();
            match instance.intent.as_ref().map(VmIntent::target) {
                None => assert!(record.is_none()),
                Some(Target::Destroyed) => {
                    assert!(instance.done, "{name} is not done");
                    assert!(record.is_none(), "{name} is not forgotten: {record:?}");
                    assert!(phases.is_empty(), "{name}: {phases:?}");
                }
                Some(Target::Running) => assert_eq!(phases, [Phase::Running], "{name}"),
                Some(Target::Stopped) => assert_eq!(phases, [Phase::Stopped], "{name}"),
                other => panic!("{name} rests at {other:?}: {record:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn disorder_never_breaks_the_invariants_and_ends_in_rest(seed: u64, steps in 0usize..800) {
        let mut world = World::new(seed);
        for _ in 0..steps {
            world.disorder();
        }
        world.peace();
        world.at_rest();
    }
}
