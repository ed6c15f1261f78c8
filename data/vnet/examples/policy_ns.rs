//! What policy costs in a VPC of 20,000 interfaces (or as many as the first argument says), 1,000 routes, 200 groups
//! and 200 ports on this host: `cargo run --release -p vnet --example policy_ns`. CPU time of one thread.

#![allow(clippy::unwrap_used)]

use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use base::random::Random;
use contract::group_rule::Peer;
use contract::route::{Destination, Target};
use contract::{
    AclEntry, EdgeTarget, Generation, GroupRule, Mapping, NetworkAcl, PortAssignment, PortsDocument, Prefix,
    Route, RouteTable, SecurityGroup, Subnet, ToSwitch, Traffic, UnderlayHost, VpcDocument, to_switch,
};
use prost::Message;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;
use vnet::document::{DocumentDirectory, Documents, Effect, Event, Limits, SwitchIdentity};
use vnet::engine::verdict::{Initiator, Policy, PortIndex, Verdict};
use vnet::packet::Flow;
use vnet::policy::{Lpm, VpcPolicy};

const VPC: &str = "vpc-00000000000000001";
const HOSTS: u32 = 1_000;
const GROUPS: u32 = 200;
const PORTS: u32 = 200;
const ROUTES: u32 = 1_000;

fn address(number: u32) -> Ipv4Addr {
    // 100 subnets of 1,000, the first four addresses of each reserved.
    Ipv4Addr::from_bits(0x0a00_0000 | (number / 1_000) << 10 | (number % 1_000 + 4))
}

fn prefix(address: u32, length: u32) -> Option<Prefix> {
    Some(Prefix { address: address.to_be_bytes().to_vec(), length })
}

fn traffic(protocol: u32, first: u32, last: u32) -> Option<Traffic> {
    Some(Traffic { protocol, first, last })
}

fn group(number: u32, ports: u32) -> SecurityGroup {
    let rule = |place: u32, traffic, peer| GroupRule {
        rule_id: format!("sgr-{:017x}", number * 100 + place),
        traffic,
        peer: Some(peer),
    };
    let ingress = (0..20).map(|place| match place % 4 {
        0 => {
            rule(place, traffic(6, 100 * place, 100 * place + ports), Peer::Group((number + place) % GROUPS))
        }
        1 => rule(
            place,
            traffic(17, 100 * place, 100 * place + 9),
            Peer::Prefix(prefix(0x0a00_0000 | place << 16, 16).unwrap()),
        ),
        2 => rule(place, traffic(6, 443, 443), Peer::Prefix(prefix(place << 24, 8).unwrap())),
        _ => rule(place, traffic(6, 22, 22), Peer::Prefix(prefix(0xc000_0200 + place, 32).unwrap())),
    });
    let egress = vec![rule(50, traffic(256, 0, 0), Peer::Prefix(prefix(0, 0).unwrap()))];
    SecurityGroup { number, group_id: format!("sg-{number:017x}"), ingress: ingress.collect(), egress }
}

fn groups_of(number: u32) -> Vec<u32> {
    let mut groups = vec![number % GROUPS, (number / 7) % GROUPS];
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn mapping(number: u32) -> Mapping {
    let [a, b, c, d] = number.to_be_bytes();
    Mapping {
        address: address(number).octets().to_vec(),
        mac: vec![2, 0, a, b, c, d],
        host: u64::from(number % HOSTS),
        groups: groups_of(number),
        version: 1,
    }
}

fn document(interfaces: u32) -> VpcDocument {
    let everything =
        |number| AclEntry { number, allow: true, prefix: prefix(0, 0), traffic: traffic(256, 0, 0) };
    let deny = |number: u32| AclEntry {
        number,
        allow: false,
        prefix: prefix(0xc612_0000 + (number << 8), 24),
        traffic: traffic(6, number, number + 1_000),
    };
    let entries = || (1..20).map(deny).chain([everything(100)]).collect::<Vec<_>>();
    let mut routes: Vec<Route> = (0..ROUTES - 1)
        .map(|number| Route {
            destination: prefix(0xac10_0000 + (number << 6), 20 + number % 9).map(Destination::Prefix),
            target: Some(Target::Edge(EdgeTarget { kind: 2, hosts: vec![u64::from(number % HOSTS)] })),
            target_id: format!("nat-{number:017x}"),
        })
        .collect();
    routes.push(Route {
        destination: prefix(0, 0).map(Destination::Prefix),
        target: Some(Target::Edge(EdgeTarget { kind: 1, hosts: vec![1, 2, 3, 4] })),
        target_id: String::from("igw-1"),
    });
    VpcDocument {
        vpc_id: VPC.into(),
        vni: 1,
        cidrs: prefix(0x0a00_0000, 8).into_iter().collect(),
        subnets: (0..interfaces.div_ceil(1_000))
            .map(|number| Subnet {
                subnet_id: format!("subnet-{number:017x}"),
                cidr: prefix(0x0a00_0000 | number << 10, 22),
                route_table_id: "rtb-1".into(),
                acl_id: "acl-1".into(),
                ..Subnet::default()
            })
            .collect(),
        route_tables: vec![RouteTable { route_table_id: "rtb-1".into(), routes }],
        acls: vec![NetworkAcl { acl_id: "acl-1".into(), ingress: entries(), egress: entries() }],
        groups: (0..GROUPS).map(|number| group(number, 9)).collect(),
        mappings: (0..interfaces).map(mapping).collect(),
        hosts: (0..HOSTS)
            .map(|number| {
                let [.., high, low] = (number + 1).to_be_bytes();
                UnderlayHost { number: number.into(), address: vec![127, 1, high, low], port: 6081 }
            })
            .collect(),
        ..VpcDocument::default()
    }
}

/// The interface of a port here: all over the VPC.
fn interface_of(port: u32, interfaces: u32) -> u32 {
    port * (interfaces / PORTS) + port % (interfaces / PORTS)
}

fn port(number: u32) -> PortAssignment {
    let mapping = mapping(number);
    PortAssignment {
        interface_id: format!("eni-{number:017x}"),
        vpc_id: VPC.into(),
        subnet_id: format!("subnet-{:017x}", number / 1_000),
        mac: mapping.mac,
        addresses: vec![mapping.address],
        group_ids: mapping.groups.iter().map(|group| format!("sg-{group:017x}")).collect(),
        check_source: true,
        ..PortAssignment::default()
    }
}

/// Prints the median of the time that `run` takes, divided by `per`.
fn measure(name: &str, per: usize, mut run: impl FnMut()) {
    let mut times: Vec<f64> = (0..15)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_nanos() as f64 / per as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    match times.get(times.len() / 2).copied().unwrap_or_default() {
        median if median < 10_000.0 => println!("{name:<52} {median:>9.1} ns"),
        median => println!("{name:<52} {:>9.1} us", median / 1e3),
    }
}

fn main() {
    let interfaces: u32 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let mut random = Random::from_seed(1);
    let whole = document(interfaces);
    println!("{interfaces} interfaces, {GROUPS} groups of 21 rules, {ROUTES} routes, {PORTS} ports here");
    let own = SocketAddr::new([127, 1, 0, 1].into(), 6081);
    let ports: Vec<PortAssignment> =
        (0..PORTS).map(|number| port(interface_of(number, interfaces))).collect();
    let begun = Instant::now();
    let mut policy = VpcPolicy::new(own, random.u64());
    policy.vpc_apply(&whole);
    println!("{:<52} {:>9.1} us", "compile the document", begun.elapsed().as_nanos() as f64 / 1e3);
    let begun = Instant::now();
    ports.iter().for_each(|port| assert!(policy.port_set(port).is_some()));
    println!("{:<52} {:>9.1} us", "add the ports", begun.elapsed().as_nanos() as f64 / 1e3);
    let size = policy.size();
    println!("{size:?}");
    println!(
        "{:.1} bytes a mapping; rules, ACLs and routes {} KiB",
        size.mapping_bytes as f64 / size.mappings as f64,
        size.rule_bytes / 1024
    );

    const FLOWS: usize = 65_536;
    let mut flows: Vec<(PortIndex, Flow)> = Vec::new();
    for _ in 0..FLOWS {
        let from = random.below(u64::from(PORTS)) as u32;
        let to = address(random.below(u64::from(interfaces)) as u32);
        let flow = Flow {
            protocol: 6,
            source: IpAddr::V4(address(interface_of(from, interfaces))),
            destination: to.into(),
            source_port: random.below(60_000) as u16,
            destination_port: [443, 22, 400, 805][random.below(4) as usize],
            icmp: (0, 0),
        };
        flows.push((PortIndex(from), flow));
    }
    let mut passed = 0;
    measure("leaving: groups, ACL, route, mapping", FLOWS, || {
        for (port, flow) in &flows {
            passed += usize::from(matches!(
                policy.leaving(*port, black_box(flow), Initiator::Port),
                Verdict::Pass(_)
            ));
        }
    });
    println!("  passed {:.0} %", passed as f64 * 100.0 / (15 * FLOWS) as f64);
    let back: Vec<_> = flows
        .iter()
        .map(|(port, flow)| (*port, Flow { source: flow.destination, destination: flow.source, ..*flow }))
        .collect();
    passed = 0;
    measure("reaching: mapping, ACL, groups", FLOWS, || {
        for (port, flow) in &back {
            passed += usize::from(matches!(
                policy.reaching(*port, black_box(flow), Initiator::Peer),
                Verdict::Pass(_)
            ));
        }
    });
    println!("  passed {:.0} %", passed as f64 * 100.0 / (15 * FLOWS) as f64);
    let outside: Vec<_> = flows
        .iter()
        .map(|(port, flow)| {
            let destination = IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + random.below(1 << 17) as u32));
            (*port, Flow { destination, ..*flow })
        })
        .collect();
    measure("leaving to an edge", FLOWS, || {
        for (port, flow) in &outside {
            black_box(policy.leaving(*port, black_box(flow), Initiator::Port));
        }
    });
    let answers: Vec<_> = flows
        .iter()
        .filter_map(|(port, flow)| match policy.leaving(*port, flow, Initiator::Port) {
            Verdict::Pass(pass) => Some(pass.validity),
            Verdict::Drop(_) => None,
        })
        .collect();
    measure("holds", answers.len(), || {
        for validity in &answers {
            assert!(policy.holds(black_box(validity)));
        }
    });
    let table = (0..ROUTES).map(|number| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0xac10_0000 + (number << 6)));
        (vnet::policy::Prefix::new(address, 20 + number % 9).unwrap(), number)
    });
    let lpm = Lpm::build(&table.collect::<Vec<_>>());
    measure("longest prefix of 1,000, IPv4", FLOWS, || {
        for (_, flow) in &outside {
            black_box(lpm.lookup(black_box(flow.destination)));
        }
    });
    let table = (0..ROUTES).map(|number| {
        let address = IpAddr::from((0x2001_0db8u128 << 96 | u128::from(number) << 70).to_be_bytes());
        (vnet::policy::Prefix::new(address, 40 + number % 20).unwrap(), number)
    });
    let lpm = Lpm::build(&table.collect::<Vec<_>>());
    let six: Vec<IpAddr> = (0..FLOWS)
        .map(|_| {
            IpAddr::from((0x2001_0db8u128 << 96 | u128::from(random.below(1 << 32)) << 50).to_be_bytes())
        })
        .collect();
    measure("longest prefix of 1,000, IPv6", FLOWS, || {
        for address in &six {
            black_box(lpm.lookup(black_box(*address)));
        }
    });

    let mut turn = 0;
    let mut change = |make: &dyn Fn(u32, &mut VpcDocument)| {
        turn += 1;
        let mut change = VpcDocument { vpc_id: VPC.into(), vni: 1, ..VpcDocument::default() };
        make(turn, &mut change);
        change
    };
    let changes: Vec<_> =
        (0..15).map(|_| change(&|turn, change| change.groups = vec![group(7, 10 + turn)])).collect();
    let mut next = changes.iter();
    measure("a rule of one group changes", 1, || policy.vpc_apply(next.next().unwrap()));
    let changes: Vec<_> = (0..15)
        .map(|_| {
            change(&|turn, change| change.mappings = vec![Mapping { host: u64::from(turn), ..mapping(77) }])
        })
        .collect();
    let mut next = changes.iter();
    measure("a mapping moves", 1, || policy.vpc_apply(next.next().unwrap()));
    let changes: Vec<_> = (0..15)
        .map(|_| {
            change(&|turn, change| {
                change.mappings = vec![Mapping { groups: vec![turn, turn + 50], ..mapping(77) }]
            })
        })
        .collect();
    let mut next = changes.iter();
    measure("a mapping is in groups as none was before", 1, || policy.vpc_apply(next.next().unwrap()));
    let tables: Vec<_> = (0..15)
        .map(|_| {
            change(&|turn, change| {
                change.route_tables = whole.route_tables.clone();
                change.route_tables[0].routes.truncate((ROUTES - turn) as usize);
            })
        })
        .collect();
    let mut next = tables.iter();
    measure("a route of 1,000 changes", 1, || policy.vpc_apply(next.next().unwrap()));
    documents(&whole, &ports);
}

/// What the documents cost on their way from the cell to policy, on a disk in memory.
fn documents(whole: &VpcDocument, ports: &[PortAssignment]) {
    let disk = MemoryDisk::new();
    let open = || {
        let (directory, found) = DocumentDirectory::open(disk.mount(), Random::from_seed(1)).unwrap();
        let identity = SwitchIdentity { host: "host-1".into(), underlay: ([127, 1, 0, 1], 6081).into() };
        (directory, Documents::recover(identity, Limits::default(), found))
    };
    let (mut directory, mut documents) = open();
    let mut say = |message: to_switch::Message| {
        let message = ToSwitch { term: 1, message: Some(message) };
        let mut events = vec![Event::Cell(Box::new(message))];
        while let Some(event) = events.pop() {
            for effect in documents.apply(Timestamp::from_unix_ms(1), event) {
                if let Effect::Persist { ticket, writes } = effect {
                    let result = directory.write(&writes).map_err(|error| error.to_string());
                    events.push(Event::Persisted { ticket, result });
                }
            }
        }
    };
    let generation = |revision| Some(Generation { incarnation: 1, revision });
    let ports =
        PortsDocument { generation: generation(1), ports: ports.to_vec(), ..PortsDocument::default() };
    say(to_switch::Message::Ports(ports));
    let document = VpcDocument { generation: generation(1), ..whole.clone() };
    let begun = Instant::now();
    say(to_switch::Message::Vpc(document.encode_to_vec().into()));
    println!(
        "{:<52} {:>9.1} us",
        "take a whole document, checked and persisted",
        begun.elapsed().as_nanos() as f64 / 1e3
    );
    let mut revision = 1;
    let bytes = disk.files()[VPC];
    measure("take a mapping's move, checked and persisted", 1, || {
        revision += 1;
        say(to_switch::Message::Vpc(
            VpcDocument {
                vpc_id: VPC.into(),
                generation: generation(revision),
                base: generation(revision - 1),
                mappings: vec![Mapping { host: revision, ..mapping(77) }],
                ..VpcDocument::default()
            }
            .encode_to_vec()
            .into(),
        ));
    });
    println!("on disk {bytes} bytes, {} more a move", (disk.files()[VPC] - bytes) / 15);
    disk.kill();
    let begun = Instant::now();
    let acts = open().1.start();
    println!("{:<52} {:>9.1} us", "read all from disk", begun.elapsed().as_nanos() as f64 / 1e3);
    assert!(!acts.is_empty());
}
