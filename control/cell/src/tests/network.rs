//! Networks under random order, loss and crashes, against a model of a region and of switches; then peace, in which
//! every switch must hold exactly what the region wants it to.

use super::fake::*;
use crate::Event;
use base::random::Random;
use contract::prost::Message;
use contract::{
    FromSwitch, Generation, InterfacePublication, PortAssignment, PortStatus, PortsDocument, Prefix,
    SecurityGroup, Subnet, SwitchHello, SwitchStatus, VpcDocument, VpcGeneration, VpcPublication, from_cell,
    from_switch, to_cell, to_switch,
};
use metastore::CommitError;
use proptest::prelude::*;
use std::collections::BTreeMap;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
const VPC: &str = "vpc-0000000000000000a";
const INTERFACES: u64 = 8;

/// A VPC as the region has it.
#[derive(Clone, Default)]
struct Network {
    interfaces: BTreeMap<String, InterfacePublication>,
    groups: BTreeMap<u32, SecurityGroup>,
    subnets: BTreeMap<String, Subnet>,
    dns_support: bool,
}

impl Network {
    fn head(&self, generation: u64) -> VpcDocument {
        VpcDocument {
            vpc_id: VPC.into(),
            generation: Some(at(generation)),
            vni: 7,
            dns_support: self.dns_support,
            ..VpcDocument::default()
        }
    }

    fn whole(&self, generation: u64) -> VpcPublication {
        let document = VpcDocument {
            groups: self.groups.values().cloned().collect(),
            subnets: self.subnets.values().cloned().collect(),
            ..self.head(generation)
        };
        VpcPublication {
            account_id: "000000000042".into(),
            document: Some(document),
            interfaces: self.interfaces.values().cloned().collect(),
            ..VpcPublication::default()
        }
    }

    /// What makes `before`, at `base`, this.
    fn change(&self, before: &Network, base: u64, generation: u64) -> VpcPublication {
        let changed = self.dns_support != before.dns_support;
        let mut document = self.head(generation);
        document.base = Some(at(base));
        document.vpc_changed = changed;
        let (groups, gone_groups) = diff(&before.groups, &self.groups);
        let (subnets, gone_subnets) = diff(&before.subnets, &self.subnets);
        let (interfaces, gone_interfaces) = diff(&before.interfaces, &self.interfaces);
        (document.groups, document.gone_groups) = (groups, gone_groups);
        (document.subnets, document.gone_subnets) = (subnets, gone_subnets);
        VpcPublication {
            account_id: "000000000042".into(),
            document: Some(document),
            interfaces,
            gone_interfaces,
            released: false,
        }
    }

    /// What a switch shall know of it: the part of a document that does not depend on how it came there.
    fn expected(&self) -> Held {
        let mut held = Held { dns_support: self.dns_support, ..Held::default() };
        held.groups.clone_from(&self.groups);
        held.subnets.clone_from(&self.subnets);
        for interface in self.interfaces.values().filter(|interface| !interface.underlay_address.is_empty()) {
            let port = interface.port.clone().unwrap_or_default();
            for address in &port.addresses {
                let place = (interface.underlay_address.clone(), port.mac.clone(), interface.version);
                held.mappings.insert(address.clone(), (place, interface.group_numbers.clone()));
            }
        }
        held
    }
}

fn diff<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> (Vec<V>, Vec<K>) {
    let put =
        after.iter().filter(|(key, value)| before.get(key) != Some(value)).map(|(_, value)| value.clone());
    (put.collect(), before.keys().filter(|key| !after.contains_key(key)).cloned().collect())
}

fn at(revision: u64) -> Generation {
    Generation { incarnation: 1, revision }
}

type Place = (Vec<u8>, Vec<u8>, u64);

/// What a switch has made of a VPC's documents.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    generation: u64,
    dns_support: bool,
    groups: BTreeMap<u32, SecurityGroup>,
    subnets: BTreeMap<String, Subnet>,
    mappings: BTreeMap<Vec<u8>, (Place, Vec<u32>)>,
}

impl Held {
    /// Takes a document, if it is whole or a change of what is held.
    fn take(&mut self, document: VpcDocument) {
        let generation = document.generation.unwrap_or_default().revision;
        match document.base {
            Some(base) if base.revision != self.generation => return,
            Some(_) => {}
            None => *self = Held::default(),
        }
        if document.base.is_none() || document.vpc_changed {
            self.dns_support = document.dns_support;
        }
        self.generation = generation;
        document.gone_groups.iter().for_each(|number| drop(self.groups.remove(number)));
        document.gone_subnets.iter().for_each(|id| drop(self.subnets.remove(id)));
        document.gone_mappings.iter().for_each(|address| drop(self.mappings.remove(address)));
        self.groups.extend(document.groups.into_iter().map(|group| (group.number, group)));
        self.subnets.extend(document.subnets.into_iter().map(|subnet| (subnet.subnet_id.clone(), subnet)));
        for mapping in document.mappings {
            let host = document.hosts.iter().find(|host| host.number == mapping.host).expect("its host");
            let place = (host.address.clone(), mapping.mac, mapping.version);
            self.mappings.insert(mapping.address, (place, mapping.groups));
        }
    }
}

#[derive(Clone, Default)]
struct SwitchModel {
    ports_at: Option<Generation>,
    ports: BTreeMap<String, PortAssignment>,
    vpc: Held,
    up: bool,
}

impl SwitchModel {
    fn take(&mut self, message: to_switch::Message) {
        match message {
            to_switch::Message::Vpc(bytes) => self.vpc.take(VpcDocument::decode(bytes).unwrap()),
            to_switch::Message::Ports(document) => self.take_ports(document),
        }
    }

    fn take_ports(&mut self, document: PortsDocument) {
        if document.base.is_some() && document.base != self.ports_at {
            return;
        }
        if document.base.is_none() {
            // Absence never cuts: but what is missing is an orphan, of which there shall be none in the end.
            self.ports.clear();
        }
        self.ports_at = document.generation;
        document.gone.iter().for_each(|id| drop(self.ports.remove(id)));
        for port in document.ports {
            self.ports.insert(port.interface_id.clone(), port);
        }
    }

    fn status(&self) -> SwitchStatus {
        let removed = self.ports.values().filter(|port| port.removed).map(|port| PortStatus {
            interface_id: port.interface_id.clone(),
            generation: port.generation,
            connected: false,
            removed: true,
        });
        SwitchStatus {
            ports: self.ports_at,
            vpcs: vec![self.held()],
            port_statuses: removed.collect(),
            ..SwitchStatus::default()
        }
    }

    fn held(&self) -> VpcGeneration {
        VpcGeneration { vpc_id: VPC.into(), generation: Some(at(self.vpc.generation)) }
    }
}

struct World {
    random: Random,
    fake: Fake,
    generation: u64,
    /// The network at each generation.
    states: BTreeMap<u64, Network>,
    /// What the cell last said that it holds.
    held: u64,
    switches: BTreeMap<&'static str, SwitchModel>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut fake = Fake::new();
        fake.slow = true;
        let switches = HOSTS.iter().map(|host| (*host, SwitchModel::default())).collect();
        let states = BTreeMap::from([(0, Network::default())]);
        World { random: Random::from_seed(seed), fake, generation: 0, states, held: 0, switches }
    }

    fn network(&self) -> Network {
        self.states[&self.generation].clone()
    }

    /// The region changes something.
    fn mutate(&mut self) {
        let mut network = self.network();
        self.generation += 1;
        match self.random.below(10) {
            0 => network.dns_support = !network.dns_support,
            1 => {
                let number = self.random.below(4) as u32;
                let group_id = format!("sg-{:017x}", self.random.below(100));
                match self.random.chance(0.3) {
                    true => drop(network.groups.remove(&number)),
                    false => {
                        let group = SecurityGroup { number, group_id, ..SecurityGroup::default() };
                        network.groups.insert(number, group);
                    }
                }
            }
            2 => {
                let subnet_id = format!("subnet-{:017x}", self.random.below(3));
                let cidr = Prefix { address: vec![10, self.random.below(200) as u8, 0, 0], length: 16 };
                let subnet = Subnet { subnet_id: subnet_id.clone(), cidr: Some(cidr), ..Subnet::default() };
                network.subnets.insert(subnet_id, subnet);
            }
            _ => self.interface_mutate(&mut network),
        }
        self.states.insert(self.generation, network);
    }

    fn interface_mutate(&mut self, network: &mut Network) {
        let id = format!("eni-{:017x}", self.random.below(INTERFACES));
        if self.random.chance(0.25) {
            network.interfaces.remove(&id);
            return;
        }
        let others = network.interfaces.iter().filter(|(other, _)| **other != id);
        let taken: Vec<Vec<u8>> =
            others.flat_map(|(_, other)| other.port.clone().unwrap_or_default().addresses).collect();
        // Few, so that addresses pass from one to another.
        let addresses: Vec<Vec<u8>> = (0..1 + self.random.below(2))
            .map(|_| vec![10, 0, 0, self.random.below(12) as u8])
            .filter(|address| !taken.contains(address))
            .collect();
        let host = HOSTS[self.random.below(3) as usize];
        let attached = self.random.chance(0.8);
        let here = self.random.chance(0.8);
        let port = PortAssignment {
            interface_id: id.clone(),
            vpc_id: VPC.into(),
            mac: vec![2, 0, 0, 0, 0, self.random.below(256) as u8],
            addresses,
            generation: Some(at(self.generation)),
            ..PortAssignment::default()
        };
        let interface = InterfacePublication {
            port: Some(port),
            group_numbers: vec![self.random.below(4) as u32],
            cell_id: if here { "c1".into() } else { "c2".into() },
            host_id: if attached { host.into() } else { String::new() },
            underlay_address: if attached { vec![127, 88, 0, host.as_bytes()[1]] } else { Vec::new() },
            underlay_port: 0,
            version: self.generation,
        };
        network.interfaces.insert(id, interface);
    }

    /// The region says what the cell does not hold: as a change if it can, and sometimes whole all the same. A VPC
    /// without an interface in the cell it may release.
    fn publish(&mut self) {
        let network = self.network();
        let here = network.interfaces.values().any(|interface| interface.cell_id == "c1");
        if !here && self.random.chance(0.5) {
            self.generation += 1;
            self.states.insert(self.generation, network.clone());
            let released = VpcPublication { released: true, ..network.whole(self.generation) };
            return self.fake.apply(region(to_cell::Message::Vpc(Box::new(released))));
        }
        let before = self.states.get(&self.held).filter(|_| self.held > 0);
        let publication = match before {
            Some(before) if !self.random.chance(0.1) => network.change(before, self.held, self.generation),
            _ => network.whole(self.generation),
        };
        self.fake.apply(region(to_cell::Message::Vpc(Box::new(publication))));
    }

    /// Carries what was said; each message is lost with this probability.
    fn carry(&mut self, loss: f64) {
        for message in std::mem::take(&mut self.fake.others) {
            if let from_cell::Message::VpcHeld(held) = message
                && !self.random.chance(loss)
            {
                self.held = held.generation.unwrap_or_default().revision;
            }
        }
        for (host, message) in std::mem::take(&mut self.fake.to_switches) {
            let Some(switch) = self.switches.get_mut(host.as_str()).filter(|switch| switch.up) else {
                continue;
            };
            if !self.random.chance(loss) {
                switch.take(message);
            }
        }
    }

    fn switch_say(&mut self, host: &str, message: from_switch::Message) {
        let host = host.parse().unwrap();
        self.fake.apply(Event::Switch(host, FromSwitch { message: Some(message) }));
    }

    fn switch_link(&mut self, host: &'static str) {
        self.fake.apply(Event::SwitchUp(host.parse().unwrap()));
        let switch = self.switches.get_mut(host).unwrap();
        switch.up = true;
        let hello = SwitchHello {
            host_id: host.into(),
            address: vec![127, 88, 0, 1],
            port: 6081,
            ports: switch.ports_at,
            vpcs: vec![switch.held()],
        };
        self.switch_say(host, from_switch::Message::Hello(hello));
    }

    fn step(&mut self) {
        let host = HOSTS[self.random.below(3) as usize];
        match self.random.below(20) {
            0..=4 => self.mutate(),
            5..=8 => self.publish(),
            9..=12 => drop(self.fake.commit_one()),
            13 => self.switch_link(host),
            14 => {
                self.fake.apply(Event::SwitchDown(host.parse().unwrap()));
                self.switches.get_mut(host).unwrap().up = false;
            }
            15 if self.random.chance(0.3) => {
                // It comes back with an empty disk.
                *self.switches.get_mut(host).unwrap() = SwitchModel::default();
                self.switch_link(host);
            }
            16..=17 if self.switches[host].up => {
                let status = self.switches[host].status();
                self.switch_say(host, from_switch::Message::Status(status));
            }
            18 if self.random.chance(0.2) && self.fake.pending() > 0 => {
                // Sometimes the store is full in the middle of a large publication.
                self.fake.commit_fails(CommitError::Full("a test".into()));
            }
            18 if self.random.chance(0.3) => {
                let durable = self.random.below(self.fake.pending() as u64 + 1) as usize;
                self.fake.crash(durable);
                self.switches.values_mut().for_each(|switch| switch.up = false);
                self.fake.apply(Event::RegionUp);
            }
            _ => self.fake.pass(250),
        }
        self.carry(0.1);
    }

    /// Nothing is lost any more: everything must come to rest.
    fn peace(&mut self) {
        HOSTS.iter().for_each(|host| self.switch_link(host));
        self.fake.slow = false;
        self.fake.commit_all();
        for _ in 0..30 {
            self.carry(0.0);
            if self.held != self.generation {
                let network = self.network();
                let publication = network.whole(self.generation);
                self.fake.apply(region(to_cell::Message::Vpc(Box::new(publication))));
            }
            self.carry(0.0);
            self.fake.pass(1250);
            self.carry(0.0);
            for host in HOSTS {
                let status = self.switches[host].status();
                self.switch_say(host, from_switch::Message::Status(status));
                self.carry(0.0);
            }
        }
    }

    fn check(&self) {
        let network = self.network();
        assert_eq!(self.held, self.generation, "the cell holds the newest");
        for host in HOSTS {
            let switch = &self.switches[host];
            let here =
                |interface: &&InterfacePublication| interface.cell_id == "c1" && interface.host_id == host;
            let expected: BTreeMap<String, PortAssignment> = network
                .interfaces
                .values()
                .filter(here)
                .filter_map(|interface| interface.port.clone())
                .map(|port| (port.interface_id.clone(), port))
                .collect();
            assert_eq!(switch.ports, expected, "the ports of {host}");
            if !expected.is_empty() {
                let expected = Held { generation: self.generation, ..network.expected() };
                assert_eq!(switch.vpc, expected, "the VPC at {host}");
            }
        }
        let left = self.fake.store.entries();
        let left: Vec<_> = left.iter().filter(|entry| entry.key.starts_with(b"cell/port/")).collect();
        assert!(left.is_empty(), "tombstones that nobody carried out: {left:?}");
        // A restarted cell knows the same: what it serves is what the store has.
        let stored = self.fake.store.entries().iter().filter(|e| e.key.starts_with(b"cell/vpc/")).count();
        let parts = network.interfaces.len() + network.groups.len() + network.subnets.len();
        assert_eq!(stored, parts + 1, "nothing is left of former publications");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_switch_comes_to_hold_what_the_region_wants(seed: u64) {
        let mut world = World::new(seed);
        (0..120).for_each(|_| world.step());
        world.peace();
        world.check();
    }
}

fn interface(number: u64, host: &str) -> InterfacePublication {
    let id = format!("eni-{number:017x}");
    let port = PortAssignment {
        interface_id: id,
        vpc_id: VPC.into(),
        addresses: vec![vec![10, (number >> 16) as u8, (number >> 8) as u8, number as u8]],
        generation: Some(at(1)),
        ..PortAssignment::default()
    };
    InterfacePublication {
        port: Some(port),
        cell_id: "c1".into(),
        host_id: host.into(),
        underlay_address: vec![127, 88, 0, 1],
        ..InterfacePublication::default()
    }
}

#[test]
fn a_publication_larger_than_a_commit_is_whole_or_not_there() {
    let interfaces: BTreeMap<String, InterfacePublication> =
        (0..500).map(|number| (format!("eni-{number:017x}"), interface(number, "h1"))).collect();
    let network = Network { interfaces, ..Network::default() };
    let commits = {
        let mut fake = Fake::new();
        fake.slow = true;
        fake.apply(region(to_cell::Message::Vpc(Box::new(network.whole(1)))));
        let mut commits = 0;
        while fake.commit_one() {
            commits += 1;
        }
        commits
    };
    assert!(commits > 1);
    for durable in 0..=commits {
        let mut fake = Fake::new();
        fake.slow = true;
        fake.apply(region(to_cell::Message::Vpc(Box::new(network.whole(1)))));
        (0..durable).for_each(|_| assert!(fake.commit_one()));
        fake.crash(0);
        fake.others.clear();
        fake.apply(Event::RegionUp);
        let held = fake.others.iter().find_map(|message| match message {
            from_cell::Message::VpcHeld(held) => held.generation,
            _ => None,
        });
        let expected = if durable == commits { Some(at(1)) } else { (durable > 0).then_some(at(0)) };
        assert_eq!(
            held.map(|held| held.revision),
            expected.map(|held| held.revision),
            "{durable} of {commits}"
        );
        fake.apply(Event::SwitchUp("h1".parse().unwrap()));
        let hello =
            SwitchHello { host_id: "h1".into(), address: vec![127, 0, 0, 1], ..SwitchHello::default() };
        let message = Some(from_switch::Message::Hello(hello));
        fake.apply(Event::Switch("h1".parse().unwrap(), FromSwitch { message }));
        let vpcs = fake.to_switches.iter().filter(|(_, m)| matches!(m, to_switch::Message::Vpc(_))).count();
        assert_eq!(vpcs, usize::from(durable == commits), "a mixture is shown to nobody");
    }
}

#[test]
fn a_publication_that_the_store_refuses_half_way_leaves_nothing_behind() {
    let network = |from: u64, count: u64| {
        let all = (from..from + count).map(|number| (format!("eni-{number:017x}"), interface(number, "h1")));
        Network { interfaces: all.collect(), ..Network::default() }
    };
    for stored in 1..8 {
        let mut fake = Fake::new();
        fake.apply(region(to_cell::Message::Vpc(Box::new(network(0, 10).whole(1)))));
        fake.slow = true;
        fake.apply(region(to_cell::Message::Vpc(Box::new(network(5, 500).whole(2)))));
        (0..stored).for_each(|_| assert!(fake.commit_one()));
        fake.others.clear();
        fake.commit_fails(CommitError::Full("a test".into()));
        let Some(from_cell::Message::VpcHeld(held)) = fake.others.pop() else { panic!("it is not said") };
        assert_eq!(held.generation, Some(Generation::default()), "the region says all of it again");
        // Meanwhile switches are told what was whole before.
        fake.apply(Event::SwitchUp("h1".parse().unwrap()));
        let hello =
            SwitchHello { host_id: "h1".into(), address: vec![127, 0, 0, 1], ..SwitchHello::default() };
        let message = Some(from_switch::Message::Hello(hello));
        fake.apply(Event::Switch("h1".parse().unwrap(), FromSwitch { message }));
        let Some((_, to_switch::Message::Vpc(served))) = fake.to_switches.first() else { panic!("no VPC") };
        assert_eq!(VpcDocument::decode(served.clone()).unwrap().mappings.len(), 10);
        // In the meantime the region has deleted what was stored.
        fake.slow = false;
        fake.commit_all();
        fake.apply(region(to_cell::Message::Vpc(Box::new(network(0, 3).whole(3)))));
        let entries = fake.store.entries();
        let left = entries.iter().filter(|entry| entry.key.windows(10).any(|part| part == b"/interface"));
        assert_eq!(left.count(), 3, "{stored} commits were stored");
    }
}

#[test]
fn a_move_of_a_host_is_reported_whatever_was_acknowledged_before() {
    let mut fake = Fake::new().with_host("h1", "r1", 4);
    let host = fake.launch(A);
    let hello = |last: u8| SwitchHello {
        host_id: host.clone(),
        address: vec![127, 88, 0, last],
        port: 6081,
        ..SwitchHello::default()
    };
    let say = |fake: &mut Fake, last| {
        let message = Some(from_switch::Message::Hello(hello(last)));
        fake.apply(Event::Switch(host.parse().unwrap(), FromSwitch { message }));
    };
    fake.apply(Event::SwitchUp(host.parse().unwrap()));
    say(&mut fake, 1);
    fake.pass(2_000);
    let report = fake.reports.last().cloned().expect("the switch's place is news");
    assert_eq!(report.underlay_address, [127, 88, 0, 1]);
    // The acknowledgement crosses the news of another place.
    say(&mut fake, 2);
    fake.ack(&report);
    fake.reports.clear();
    fake.pass(2_000);
    assert_eq!(fake.reports.last().map(|report| report.underlay_address.clone()), Some(vec![127, 88, 0, 2]));
}

#[test]
fn one_more_address_in_a_large_vpc_is_a_small_message() {
    let mut fake = Fake::new();
    let interfaces: BTreeMap<String, InterfacePublication> =
        (0..20_000).map(|number| (format!("eni-{number:017x}"), interface(number, "h2"))).collect();
    let mut network = Network { interfaces, ..Network::default() };
    network.interfaces.insert("eni-0000000000000ffff".into(), interface(0xffff, "h1"));
    fake.apply(region(to_cell::Message::Vpc(Box::new(network.whole(1)))));
    fake.apply(Event::SwitchUp("h1".parse().unwrap()));
    let hello = SwitchHello { host_id: "h1".into(), address: vec![127, 0, 0, 1], ..SwitchHello::default() };
    fake.apply(Event::Switch(
        "h1".parse().unwrap(),
        FromSwitch { message: Some(from_switch::Message::Hello(hello)) },
    ));
    let size = |fake: &mut Fake| -> Vec<usize> {
        let sent = fake.to_switches.drain(..);
        sent.filter_map(
            |(_, m)| if let to_switch::Message::Vpc(bytes) = m { Some(bytes.len()) } else { None },
        )
        .collect()
    };
    let whole = size(&mut fake);
    assert!(whole.len() == 1 && whole[0] < 20_000 * 32, "{whole:?}");
    let before = network.clone();
    network.interfaces.insert("eni-000000000000fffff".into(), interface(0xfffff, "h3"));
    fake.apply(region(to_cell::Message::Vpc(Box::new(network.change(&before, 1, 2)))));
    let change = size(&mut fake);
    assert!(change.len() == 1 && change[0] < 150, "{change:?}");
}
