//! The core with a simulated disk beneath it, by hand and under random crashes.

use super::*;
use crate::policy::tests::naive::Documents as World;
use crate::policy::tests::world::{self, Change};
use base::disk::memory::MemoryDisk;
use base::random::Random;
use contract::{Mapping, Prefix, SecurityGroup, UnderlayHost};

const VPC: &str = "vpc-0000000000000000a";
const PEER: &str = "vpc-0000000000000000b";

fn generation(incarnation: u64, revision: u64) -> Option<contract::Generation> {
    Some(contract::Generation { incarnation, revision })
}

fn vpc_whole(revision: u64, mappings: u8) -> VpcDocument {
    VpcDocument {
        vpc_id: VPC.into(),
        generation: generation(1, revision),
        vni: 5,
        cidrs: vec![Prefix { address: vec![10, 0, 0, 0], length: 16 }],
        groups: vec![SecurityGroup {
            number: 1,
            group_id: "sg-0000000000000000a".into(),
            ..SecurityGroup::default()
        }],
        hosts: vec![UnderlayHost { number: 1, address: vec![127, 0, 0, 1], port: 6081 }],
        mappings: (0..mappings).map(mapping).collect(),
        ..VpcDocument::default()
    }
}

fn mapping(last: u8) -> Mapping {
    Mapping {
        address: vec![10, 0, 0, last],
        mac: vec![2, 0, 0, 0, 0, last],
        host: 1,
        groups: vec![1],
        version: 1,
    }
}

fn vpc_change(base: u64, revision: u64, change: impl FnOnce(&mut VpcDocument)) -> VpcDocument {
    let mut document = VpcDocument {
        vpc_id: VPC.into(),
        generation: generation(1, revision),
        base: generation(1, base),
        vni: 5,
        ..VpcDocument::default()
    };
    change(&mut document);
    document
}

fn interface(number: u8) -> String {
    format!("eni-{number:017x}")
}

fn port(number: u8, revision: u64) -> PortAssignment {
    PortAssignment {
        interface_id: interface(number),
        vpc_id: VPC.into(),
        mac: vec![2, 0, 0, 0, 0, number],
        addresses: vec![vec![10, 0, 0, number]],
        generation: generation(1, revision),
        ..PortAssignment::default()
    }
}

fn act_port(number: u8, revision: u64) -> Act {
    Act::Port(Box::new(port(number, revision)))
}

fn tombstone(number: u8, revision: u64) -> PortAssignment {
    PortAssignment { removed: true, ..port(number, revision) }
}

fn ports_whole_of(revision: u64, ports: Vec<PortAssignment>) -> PortsDocument {
    PortsDocument { generation: generation(1, revision), ports, ..PortsDocument::default() }
}

trait Message {
    fn message(self) -> to_switch::Message;
}

impl Message for PortsDocument {
    fn message(self) -> to_switch::Message {
        to_switch::Message::Ports(self)
    }
}

impl Message for VpcDocument {
    fn message(self) -> to_switch::Message {
        to_switch::Message::Vpc(self.encode_to_vec().into())
    }
}

fn said(term: u64, message: impl Message) -> Event {
    Event::Cell(Box::new(ToSwitch { term, message: Some(message.message()) }))
}

/// A switch's documents, their disk, and what was done about them.
struct Switch {
    disk: MemoryDisk,
    documents: Documents,
    directory: DocumentDirectory,
    now: Timestamp,
    acts: Vec<Act>,
    status: Option<SwitchStatus>,
    seed: u64,
}

fn open(disk: &MemoryDisk, seed: u64) -> (DocumentDirectory, Documents) {
    let identity = SwitchIdentity { host: "host-1".into(), underlay: world::own() };
    let (directory, found) = DocumentDirectory::open(disk.mount(), Random::from_seed(seed)).unwrap();
    (directory, Documents::recover(identity, Limits::default(), found))
}

impl Switch {
    fn start(disk: MemoryDisk, seed: u64) -> Switch {
        let (directory, documents) = open(&disk, seed);
        let acts = documents.start();
        let now = Timestamp::from_unix_ms(1_000_000);
        let mut switch = Switch { disk, documents, directory, now, acts, status: None, seed };
        switch.take(Event::CellUp);
        switch
    }

    fn new() -> Switch {
        Switch::start(MemoryDisk::new(), 1)
    }

    /// Has the core take an event, and does what it wants. Returns the writes that failed.
    fn take(&mut self, event: Event) -> usize {
        let mut failures = 0;
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.documents.apply(self.now, event) {
                match effect {
                    Effect::Persist { ticket, writes } => {
                        let result = self.directory.write(&writes).map_err(|error| error.to_string());
                        failures += usize::from(result.is_err());
                        events.push(Event::Persisted { ticket, result });
                    }
                    Effect::Act(act) => self.acts.push(act),
                    Effect::ToCell(FromSwitch { message: Some(from_switch::Message::Status(status)) }) => {
                        self.status = Some(status);
                    }
                    Effect::ToCell(_) => {}
                }
            }
        }
        failures
    }

    fn acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    fn status(&self) -> &SwitchStatus {
        self.status.as_ref().unwrap()
    }

    fn vpc_generation(&self) -> Option<u64> {
        self.status().vpcs.first().map(|vpc| vpc.generation.unwrap().revision)
    }

    /// The process is killed and starts again.
    fn restart(self) -> Switch {
        self.disk.kill();
        Switch::start(self.disk, self.seed + 1)
    }
}

#[test]
fn what_the_cell_says_is_durable_before_it_is_so() {
    let mut switch = Switch::new();
    let message = said(1, ports_whole_of(1, vec![port(1, 1)]));
    let effects = switch.documents.apply(switch.now, message);
    let Some(Effect::Persist { ticket: 1, writes }) = effects.first() else { panic!("{effects:?}") };
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Act(_))));
    assert!(matches!(&writes[..], [Write::Replace { name: DocumentName::Ports, .. }]));
    // Another one while that is written waits, and the disk fails: the first is tried again, with it.
    let second = said(1, vpc_whole(3, 4));
    assert!(
        !switch
            .documents
            .apply(switch.now, second)
            .iter()
            .any(|effect| matches!(effect, Effect::Persist { .. }))
    );
    let failed = Event::Persisted { ticket: 1, result: Err("full".into()) };
    let effects = switch.documents.apply(switch.now, failed);
    let [Effect::ToCell(FromSwitch { message: Some(from_switch::Message::Status(status)) })] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(status.held, ["the documents cannot be written: full"]);
    switch.now = switch.now + PERSIST_AGAIN;
    assert_eq!(switch.take(Event::Tick), 0);
    assert!(matches!(&switch.acts()[..], [Act::Port(_), Act::Vpc(_)]));
    assert_eq!(switch.status().ports, generation(1, 1));
    assert_eq!(switch.vpc_generation(), Some(3));
    assert!(switch.status().held.is_empty());
}

#[test]
fn a_change_is_made_to_the_generation_that_it_says() {
    let mut switch = Switch::new();
    switch.take(said(1, ports_whole_of(1, vec![port(1, 1)])));
    switch.take(said(1, vpc_change(1, 2, |_| {})));
    assert_eq!(switch.vpc_generation(), None, "a change of nothing");
    switch.take(said(1, vpc_whole(3, 4)));
    switch.acts();
    switch.status = None;
    switch.take(said(1, vpc_change(2, 4, |document| document.mappings = vec![mapping(9)])));
    assert_eq!(switch.vpc_generation(), Some(3), "told at once, so that the right one comes");
    switch.take(said(1, vpc_change(3, 5, |document| document.mappings = vec![mapping(9)])));
    assert_eq!(switch.vpc_generation(), Some(5));
    switch.take(said(1, vpc_change(3, 4, |document| document.gone_mappings = vec![vec![10, 0, 0, 9]])));
    switch.take(said(1, vpc_whole(5, 0)));
    assert_eq!((switch.vpc_generation(), switch.acts().len()), (Some(5), 1), "nothing older, nothing twice");
    // A whole one is a change, too: it says what is different.
    let mut whole = vpc_whole(6, 4);
    whole.mappings.push(mapping(7));
    switch.take(said(1, whole));
    let [Act::Vpc(change)] = &switch.acts()[..] else { panic!() };
    assert_eq!((&change.mappings, &change.gone_mappings), (&vec![mapping(7)], &vec![vec![10, 0, 0, 9]]));
    assert!(change.groups.is_empty() && change.hosts.is_empty() && change.base == generation(1, 5));
}

#[test]
fn a_lower_term_is_not_heard_even_after_a_restart() {
    let mut switch = Switch::new();
    switch.take(said(7, ports_whole_of(1, vec![port(1, 1)])));
    switch.take(Event::Cell(Box::new(ToSwitch { term: 8, message: None })));
    let mut switch = switch.restart();
    assert_eq!(switch.status().term, 8);
    switch.acts();
    switch.take(said(7, ports_whole_of(2, vec![port(1, 1), port(2, 2)])));
    assert_eq!((switch.acts().len(), switch.status().ports), (0, generation(1, 1)));
    switch.take(said(8, ports_whole_of(2, vec![port(1, 1), port(2, 2)])));
    assert_eq!(switch.acts(), [act_port(2, 2)]);
}

#[test]
fn a_port_goes_by_its_tombstone_only() {
    let mut switch = Switch::new();
    switch.take(said(1, ports_whole_of(1, vec![port(1, 1), port(2, 1), port(3, 1)])));
    switch.acts();
    switch.take(said(1, ports_whole_of(2, vec![port(1, 1), tombstone(3, 2)])));
    let gone: NetworkInterfaceId = interface(3).parse().unwrap();
    assert_eq!(switch.acts(), [Act::PortRemove(gone)]);
    assert_eq!(switch.status().orphans, [interface(2)]);
    let removed =
        |switch: &Switch| switch.status().port_statuses.iter().map(|port| port.removed).collect::<Vec<_>>();
    assert_eq!(removed(&switch), [false, false, false]);
    switch.take(Event::Removed(gone));
    assert_eq!(removed(&switch), [false, false, true]);
    // What is older does not bring it back; an attachment that is newer does.
    switch.take(said(1, ports_whole_of(3, vec![port(1, 1), port(2, 1), port(3, 2)])));
    assert_eq!((switch.acts(), switch.status().orphans.len()), (vec![], 0));
    switch.take(said(1, ports_whole_of(4, vec![port(1, 1), port(2, 1), port(3, 3)])));
    assert_eq!(switch.acts(), [act_port(3, 3)]);
    let change = PortsDocument {
        generation: generation(1, 5),
        base: generation(1, 4),
        ports: vec![tombstone(3, 4)],
        gone: vec![interface(1)],
    };
    switch.take(said(1, change));
    assert_eq!((switch.acts(), &switch.status().orphans), (vec![Act::PortRemove(gone)], &vec![interface(1)]));
    let switch = switch.restart();
    assert_eq!(switch.acts, [act_port(1, 1), act_port(2, 1), Act::PortRemove(gone)]);
    assert_eq!(switch.status().orphans, [interface(1)]);
}

#[test]
fn a_tombstone_of_a_port_that_was_never_here_is_carried_out() {
    let mut switch = Switch::new();
    switch.take(said(1, ports_whole_of(1, vec![tombstone(1, 1)])));
    let gone: NetworkInterfaceId = interface(1).parse().unwrap();
    assert_eq!(switch.acts(), [Act::PortRemove(gone)]);
    switch.take(Event::Removed(gone));
    assert!(switch.status().port_statuses[0].removed);
    switch.take(said(1, ports_whole_of(2, vec![])));
    assert!(switch.status().port_statuses.is_empty());
}

#[test]
fn an_emptied_document_cuts_nothing() {
    let mut switch = Switch::new();
    let ports = |count: u8| (1..=count).map(|number| port(number, 1)).collect::<Vec<_>>();
    switch.take(said(1, ports_whole_of(1, ports(10))));
    switch.take(said(1, vpc_whole(1, 40)));
    switch.acts();
    for message in [
        said(1, ports_whole_of(2, ports(4))),
        said(1, vpc_whole(2, 19)),
        said(1, VpcDocument { groups: vec![], ..vpc_whole(3, 0) }),
        said(1, VpcDocument { mappings: vec![], ..vpc_whole(4, 0) }),
        said(1, VpcDocument { cidrs: vec![], ..vpc_whole(5, 40) }),
        said(1, VpcDocument { vni: 6, ..vpc_whole(5, 40) }),
        said(1, VpcDocument { hosts: vec![], ..vpc_whole(5, 40) }),
        said(
            1,
            VpcDocument { mappings: vec![Mapping { groups: vec![2], ..mapping(1) }], ..vpc_whole(5, 40) },
        ),
        said(1, vpc_change(1, 6, |document| document.gone_groups = vec![1])),
        said(1, vpc_change(1, 6, |document| document.gone_hosts = vec![1])),
    ] {
        switch.status = None;
        switch.take(message.clone());
        assert_eq!((switch.acts().len(), switch.vpc_generation()), (0, Some(1)), "{message:?}");
        assert!(!switch.status().held.is_empty(), "{message:?}");
    }
    assert_eq!(
        switch.status().held,
        [
            String::from("ports of generation 1.2: it lacks 6 of the 10 ports known here"),
            format!("{VPC} of generation 1.6: it lacks a host that a mapping names")
        ]
    );
    assert!(switch.disk.files().contains_key("ports.held"));
    // What says so of each is believed; what comes from a restored store, too.
    switch.take(said(
        1,
        vpc_change(1, 7, |document| {
            document.gone_mappings = (0..30).map(|last| vec![10, 0, 0, last]).collect();
        }),
    ));
    assert_eq!((switch.acts().len(), switch.vpc_generation()), (1, Some(7)));
    let restored =
        PortsDocument { generation: generation(2, 1), ports: ports(1), ..PortsDocument::default() };
    switch.take(said(1, restored));
    assert_eq!((switch.acts(), switch.status().orphans.len()), (vec![], 9));
    assert!(switch.status().held.is_empty() && !switch.disk.files().contains_key("ports.held"));
}

#[test]
fn a_document_that_was_cut_off_is_told_and_cuts_nothing() {
    let mut switch = Switch::new();
    switch.take(said(1, vpc_whole(1, 40)));
    switch.acts();
    let bytes = vpc_whole(2, 40).encode_to_vec();
    for length in 0..bytes.len() {
        let cut = to_switch::Message::Vpc(bytes[..length].to_vec().into());
        switch.take(Event::Cell(Box::new(ToSwitch { term: 1, message: Some(cut) })));
        assert_eq!((switch.acts().len(), switch.vpc_generation()), (0, Some(1)), "{length} bytes");
    }
    assert!(switch.status().held.iter().any(|why| why.starts_with("a VPC's document cannot be decoded")));
    switch.take(said(1, vpc_whole(2, 40)));
    assert_eq!((switch.vpc_generation(), switch.status().held.len()), (Some(2), 0));
}

#[test]
fn a_vpc_without_a_port_is_forgotten_with_its_peers() {
    let mut switch = Switch::new();
    let mut whole = vpc_whole(1, 4);
    whole.route_tables = vec![contract::RouteTable {
        route_table_id: "rtb-1".into(),
        routes: vec![contract::Route {
            destination: Some(contract::route::Destination::Prefix(Prefix {
                address: vec![10, 9, 0, 0],
                length: 16,
            })),
            target: Some(contract::route::Target::PeerVpcId(PEER.into())),
            target_id: "pcx-1".into(),
        }],
    }];
    // The documents may come before the port.
    switch.take(said(1, whole));
    switch.take(said(1, VpcDocument { vpc_id: PEER.into(), vni: 6, ..vpc_whole(1, 0) }));
    switch.take(said(1, ports_whole_of(1, vec![port(1, 1), port(2, 1)])));
    switch.take(said(1, ports_whole_of(2, vec![tombstone(1, 2), port(2, 1)])));
    switch.take(Event::Removed(interface(1).parse().unwrap()));
    assert_eq!(switch.status().vpcs.len(), 2);
    switch.take(said(1, ports_whole_of(3, vec![tombstone(1, 2), tombstone(2, 3)])));
    assert_eq!(switch.status().vpcs.len(), 2, "while the port is being taken down");
    switch.acts();
    switch.take(Event::Removed(interface(2).parse().unwrap()));
    assert_eq!(switch.acts(), [Act::VpcDrop(VPC.parse().unwrap()), Act::VpcDrop(PEER.parse().unwrap())]);
    assert!(switch.status().vpcs.is_empty());
    assert_eq!(switch.disk.files().into_keys().collect::<Vec<_>>(), ["ports"]);
    // And comes again.
    switch.take(said(1, vpc_whole(1, 4)));
    assert_eq!(switch.vpc_generation(), Some(1));
    assert_eq!(switch.restart().vpc_generation(), Some(1));
}

#[test]
fn many_changes_take_no_more_room_than_the_document() {
    let mut switch = Switch::new();
    switch.take(said(1, ports_whole_of(1, vec![port(1, 1)])));
    switch.take(said(1, vpc_whole(1, 200)));
    let mut longest = 0;
    for revision in 2..3_000 {
        switch.take(said(
            1,
            vpc_change(revision - 1, revision, |document| document.mappings = vec![mapping(7)]),
        ));
        longest = longest.max(switch.disk.files()[VPC]);
    }
    let bound = CHANGES_BYTES_MIN as u64 * 2;
    assert!(longest > CHANGES_BYTES_MIN as u64 && longest < bound, "{longest}");
    assert_eq!(switch.restart().vpc_generation(), Some(2_999));
}

#[test]
fn damage_leaves_an_older_document_and_is_told() {
    let disk = MemoryDisk::new();
    let mut switch = Switch::start(disk.clone(), 1);
    switch.take(said(1, ports_whole_of(1, vec![port(1, 1)])));
    switch.take(said(1, vpc_whole(1, 2)));
    for revision in 2..5 {
        switch.take(said(
            1,
            vpc_change(revision - 1, revision, |document| {
                document.mappings = vec![mapping(100 + revision as u8)];
            }),
        ));
    }
    drop(switch);
    disk.kill();
    let length = disk.files()[VPC];
    let mut seen = BTreeSet::new();
    for byte in 0..length {
        let damaged = disk.copy();
        assert!(damaged.bit_flip(VPC, byte * 8 + byte % 8));
        let switch = Switch::start(damaged.clone(), 1);
        let held = switch.vpc_generation();
        seen.insert(held);
        // The last frame may be an unfinished write, which is nothing to tell.
        assert_eq!(switch.status().held.is_empty(), held == Some(3), "byte {byte}: {held:?}");
        assert_eq!(
            switch.status().held.is_empty(),
            !damaged.files().contains_key(&format!("{VPC}.damaged-1"))
        );
        let vpcs = switch.documents.vpcs.values();
        assert!(vpcs.map(|vpc| vpc.generation.revision).eq(held));
        // What it has left can be gone on from, and is told no more.
        let mut switch = switch.restart();
        assert_eq!((switch.vpc_generation(), switch.status().held.len()), (held, 0), "byte {byte}");
        switch.take(said(1, vpc_whole(9, 5)));
        assert_eq!(switch.restart().vpc_generation(), Some(9));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some(1), Some(2), Some(3)]);
}

#[test]
fn a_file_of_another_version_is_not_touched() {
    let disk = MemoryDisk::new();
    let mut bytes = frame::file_begin(1);
    bytes[8] = 2;
    let checksum = crc_fast::crc32_iscsi(&bytes[..20]);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    disk.mount().append("ports", &bytes).unwrap();
    let error = DocumentDirectory::open(disk.mount(), Random::from_seed(1)).err().unwrap();
    assert_eq!(error.to_string(), "ports is of format 2, which this version of nephos does not read");
    assert_eq!(disk.mount().read("ports").unwrap(), bytes);
}

/// Everything that was ever said, by document and generation, as it would be held.
#[derive(Default)]
struct History {
    ports: BTreeMap<Generation, PortsRecord>,
    vpcs: BTreeMap<(VpcId, Generation), VpcRecord>,
}

/// A cell that says random things, each against what the switch holds, or whole.
struct Cell {
    world: World,
    random: Random,
    revision: u64,
    history: History,
}

impl Cell {
    /// The next message, if there is one to say; the switch holds `documents`.
    fn next(&mut self, documents: &Documents) -> Option<Event> {
        let change = world::change(&mut self.world, &mut self.random);
        self.revision += 1;
        let now = generation(1, self.revision);
        let whole_instead = self.random.chance(0.2);
        let event = match change {
            Change::Vpc(change) => {
                let id: VpcId = change.vpc_id.parse().unwrap();
                let held = documents.vpcs.get(&id);
                let whole = VpcDocument { generation: now, ..self.world.vpcs[&change.vpc_id].clone() };
                let mut record = VpcRecord::default();
                let all = record.read(whole.clone(), &Limits::none()).unwrap();
                record.apply(&all);
                self.history.vpcs.insert((id, record.generation), record);
                let base = held.map(|held| held.generation);
                let known =
                    self.history.vpcs.keys().rfind(|(vpc, at)| *vpc == id && at.revision < self.revision);
                match base {
                    Some(base) if !whole_instead && known == Some(&(id, base)) && !change.cidrs_new() => {
                        said(1, VpcDocument { generation: now, base: Some(base.into()), ..change })
                    }
                    _ => said(1, whole),
                }
            }
            Change::Port(port) => {
                let assignment = PortAssignment { generation: now, ..port };
                self.world.ports.insert(assignment.interface_id.clone(), assignment);
                self.ports_message(documents)
            }
            Change::PortGone(interface) => {
                let vpc_id = world::vpc_id(0);
                let port = PortAssignment {
                    interface_id: interface,
                    vpc_id,
                    removed: true,
                    ..PortAssignment::default()
                };
                let assignment = PortAssignment { generation: now, ..port };
                self.world.ports.insert(assignment.interface_id.clone(), assignment);
                self.ports_message(documents)
            }
            Change::VpcGone(_) => return None,
        };
        Some(event)
    }

    fn ports_message(&mut self, documents: &Documents) -> Event {
        let whole = ports_whole_of(self.revision, self.world.ports.values().cloned().collect());
        let mut record = documents.ports.clone();
        let change = record.read(whole.clone(), &Limits::none()).unwrap();
        record.apply(Generation::new(1, self.revision), change);
        self.history.ports.insert(record.generation, record);
        said(1, whole)
    }
}

trait CidrsNew {
    fn cidrs_new(&self) -> bool;
}

impl CidrsNew for VpcDocument {
    /// The first document of a VPC, which is whole.
    fn cidrs_new(&self) -> bool {
        !self.cidrs.is_empty() && !self.vpc_changed
    }
}

/// What is held must have been said, and be no older than what was acted on.
fn recovered_check(history: &History, acted: &BTreeMap<DocumentName, Generation>, switch: &Switch, at: &str) {
    let documents = &switch.documents;
    if documents.ports.generation != Generation::ZERO {
        let record = &history.ports[&documents.ports.generation];
        assert_eq!(documents.ports.ports, record.ports, "{at}");
    }
    for (id, vpc) in &documents.vpcs {
        assert_eq!(Some(vpc), history.vpcs.get(&(*id, vpc.generation)), "{at}");
    }
    for (name, generation) in acted {
        assert!(documents.generation(*name) >= *generation, "{at}: {name:?} {generation}");
    }
    assert!(switch.status().held.is_empty(), "{at}: {:?}", switch.status().held);
}

fn crashes(seed: u64) -> usize {
    let mut random = Random::from_seed(seed);
    let mut switch = Switch::start(MemoryDisk::new(), seed);
    let mut cell = Cell {
        world: World::default(),
        random: Random::from_seed(seed + 1_000_000),
        revision: 0,
        history: History::default(),
    };
    let mut count = 0;
    for step in 0..60 {
        let at = format!("seed {seed} step {step}");
        let fails = random.chance(0.25);
        match random.below(3) {
            0 if fails => switch.disk.stops_after(random.below(8)),
            1 if fails => switch.disk.sync_fails_next(),
            2 if fails => switch.disk.append_stops_after(random.below(200) as usize),
            _ => {}
        }
        for _ in 0..=random.below(3) {
            if let Some(event) = cell.next(&switch.documents) {
                switch.take(event);
            }
        }
        if random.chance(0.5) {
            // Time passes, and what failed is tried again.
            switch.now = switch.now + PERSIST_AGAIN;
            switch.take(Event::Tick);
        }
        if random.chance(0.3) {
            count += 1;
            let names = switch.documents.keeping.keys().copied();
            let acted: BTreeMap<_, _> = names.map(|name| (name, switch.documents.held(name))).collect();
            match random.chance(0.5) {
                true => switch.disk.crash(&mut random),
                false => switch.disk.kill(),
            }
            switch = Switch::start(switch.disk, random.u64());
            recovered_check(&cell.history, &acted, &switch, &at);
        }
    }
    count
}

#[test]
fn after_a_crash_the_disk_holds_what_was_acted_on_and_nothing_that_was_not_said() {
    let count: usize = (0..50).map(crashes).sum();
    assert!(count > 500, "{count}");
}

/// From the disk alone policy is what it was.
#[test]
fn a_start_from_disk_alone_gives_the_same_policy() {
    use crate::policy::VpcPolicy;
    for seed in 0..20 {
        let mut switch = Switch::start(MemoryDisk::new(), seed);
        let mut cell = Cell {
            world: World::default(),
            random: Random::from_seed(seed),
            revision: 0,
            history: History::default(),
        };
        let mut policy = VpcPolicy::new(world::own(), 1);
        for _ in 0..40 {
            if let Some(event) = cell.next(&switch.documents) {
                switch.take(event);
            }
            switch.acts().iter().for_each(|act| policy.act(act));
        }
        let mut restarted = switch.restart();
        let mut again = VpcPolicy::new(world::own(), 2);
        restarted.acts().iter().for_each(|act| again.act(act));
        let mut random = Random::from_seed(seed);
        for _ in 0..2_000 {
            let interface: NetworkInterfaceId = world::interface(random.below(6)).parse().unwrap();
            let flow = world::flow(&mut random);
            let (Some(before), Some(after)) = (policy.port_index(interface), again.port_index(interface))
            else {
                assert_eq!(policy.port_index(interface).is_some(), again.port_index(interface).is_some());
                continue;
            };
            for point in [crate::policy::Point::Leaving, crate::policy::Point::Reaching] {
                let trace = |policy: &VpcPolicy, port| {
                    policy.trace(port, &flow, point, crate::engine::verdict::Initiator::Port).steps
                };
                assert_eq!(trace(&policy, before), trace(&again, after), "seed {seed} {flow:?}");
            }
        }
    }
}
