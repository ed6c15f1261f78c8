//! By hand: a VPC of two subnets with four interfaces, two of them on this host, and its peer; what AWS says of each
//! thing, and how far a change reaches.

use super::super::*;
use super::world::{ip, own};
use crate::packet::protocol::{ICMP, TCP};
use contract::group_rule::Peer;
use contract::route::{Destination, Target};
use contract::{
    AclEntry, EdgeTarget, GroupRule, Mapping, NetworkAcl, PortAssignment, Route, RouteTable, SecurityGroup,
    Subnet, Traffic, UnderlayHost, VpcDocument,
};

const VPC: &str = "vpc-0000000000000000a";
const PEER: &str = "vpc-0000000000000000b";
const WEB: &str = "sg-0000000000000000a";
const DATABASE: &str = "sg-0000000000000000b";
const SUBNETS: [&str; 2] = ["subnet-00000000000000001", "subnet-00000000000000002"];

/// Here, in the first and in the second subnet; elsewhere, likewise.
const A: [u8; 4] = [10, 0, 1, 4];
const B: [u8; 4] = [10, 0, 2, 4];
const C: [u8; 4] = [10, 0, 1, 5];
const D: [u8; 4] = [10, 0, 2, 5];
const IN_PEER: [u8; 4] = [10, 9, 0, 4];
const OUTSIDE: [u8; 4] = [192, 0, 2, 1];

fn prefix(text: &str) -> contract::Prefix {
    let (address, length) = text.split_once('/').unwrap();
    let address = match address.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    contract::Prefix { address, length: length.parse().unwrap() }
}

fn all() -> Option<Traffic> {
    Some(Traffic { protocol: 256, first: 0, last: 0 })
}

fn tcp(port: u32) -> Option<Traffic> {
    Some(Traffic { protocol: 6, first: port, last: port })
}

fn rule(number: u8, traffic: Option<Traffic>, peer: Peer) -> GroupRule {
    GroupRule { rule_id: format!("sgr-{number:017x}"), traffic, peer: Some(peer) }
}

fn entry(number: u32, allow: bool, text: &str, traffic: Option<Traffic>) -> AclEntry {
    AclEntry { number, allow, prefix: Some(prefix(text)), traffic }
}

fn route(destination: &str, target: Target, target_id: &str) -> Route {
    let destination = Some(Destination::Prefix(prefix(destination)));
    Route { destination, target: Some(target), target_id: target_id.into() }
}

fn mapping(address: [u8; 4], host: u64, groups: &[u32]) -> Mapping {
    let mac = vec![2, 0, address[0], address[1], address[2], address[3]];
    Mapping { address: address.to_vec(), mac, host, groups: groups.to_vec(), version: 1 }
}

fn mac_of(address: [u8; 4]) -> Mac {
    Mac([2, 0, address[0], address[1], address[2], address[3]])
}

fn subnet(number: usize, cidr: &str) -> Subnet {
    Subnet {
        subnet_id: SUBNETS[number].into(),
        cidr: Some(prefix(cidr)),
        cidr_ipv6: None,
        route_table_id: "rtb-1".into(),
        acl_id: format!("acl-{number}"),
        zone: "us-east-1a".into(),
    }
}

fn document_new() -> VpcDocument {
    let everyone = || vec![entry(100, true, "0.0.0.0/0", all())];
    let acl =
        |number| NetworkAcl { acl_id: format!("acl-{number}"), ingress: everyone(), egress: everyone() };
    let host = |number: u64| UnderlayHost { number, address: vec![127, 0, 0, number as u8], port: 6081 };
    VpcDocument {
        vpc_id: VPC.into(),
        vni: 1,
        cidrs: vec![prefix("10.0.0.0/16")],
        subnets: vec![subnet(0, "10.0.1.0/24"), subnet(1, "10.0.2.0/24")],
        route_tables: vec![RouteTable {
            route_table_id: "rtb-1".into(),
            routes: vec![
                route("10.9.0.0/16", Target::PeerVpcId(PEER.into()), "pcx-1"),
                route("0.0.0.0/0", Target::Edge(EdgeTarget { kind: 1, hosts: vec![3, 4] }), "igw-1"),
                route("198.51.100.0/24", Target::Blackhole(true), "nat-gone"),
            ],
        }],
        acls: vec![acl(0), acl(1)],
        groups: vec![
            SecurityGroup {
                number: 1,
                group_id: WEB.into(),
                ingress: vec![rule(1, tcp(443), Peer::Prefix(prefix("0.0.0.0/0")))],
                egress: vec![rule(2, all(), Peer::Prefix(prefix("0.0.0.0/0")))],
            },
            SecurityGroup {
                number: 2,
                group_id: DATABASE.into(),
                ingress: vec![rule(3, tcp(5432), Peer::Group(1))],
                egress: vec![],
            },
        ],
        mappings: vec![mapping(A, 1, &[1]), mapping(B, 1, &[2]), mapping(C, 2, &[1]), mapping(D, 2, &[2])],
        hosts: (1..=4).map(host).collect(),
        ..VpcDocument::default()
    }
}

fn peer_document() -> VpcDocument {
    VpcDocument {
        vpc_id: PEER.into(),
        vni: 2,
        cidrs: vec![prefix("10.9.0.0/16")],
        mappings: vec![mapping(IN_PEER, 77, &[])],
        hosts: vec![UnderlayHost { number: 77, address: vec![127, 0, 0, 9], port: 6081 }],
        ..VpcDocument::default()
    }
}

fn assignment(number: u8, subnet: usize, address: [u8; 4], group: &str) -> PortAssignment {
    PortAssignment {
        interface_id: format!("eni-{number:017x}"),
        vpc_id: VPC.into(),
        subnet_id: SUBNETS[subnet].into(),
        mac: mac_of(address).0.to_vec(),
        addresses: vec![address.to_vec()],
        group_ids: vec![group.into()],
        check_source: true,
        ..PortAssignment::default()
    }
}

struct Net {
    policy: VpcPolicy,
    a: PortIndex,
    b: PortIndex,
}

fn net() -> Net {
    let mut policy = VpcPolicy::new(own(), 1);
    policy.vpc_apply(&document_new());
    policy.vpc_apply(&peer_document());
    let a = policy.port_set(&assignment(1, 0, A, WEB)).unwrap();
    let b = policy.port_set(&assignment(2, 1, B, DATABASE)).unwrap();
    Net { policy, a, b }
}

fn flow(
    protocol: u8,
    source: [u8; 4],
    source_port: u16,
    destination: [u8; 4],
    destination_port: u16,
) -> Flow {
    Flow {
        protocol,
        source: ip(&source),
        destination: ip(&destination),
        source_port,
        destination_port,
        icmp: (0, 0),
    }
}

fn changed(change: impl FnOnce(&mut VpcDocument)) -> VpcDocument {
    let mut document = VpcDocument { vpc_id: VPC.into(), vni: 1, ..VpcDocument::default() };
    change(&mut document);
    document
}

impl Net {
    fn leaving(&self, port: PortIndex, flow: &Flow) -> Result<Pass, DropReason> {
        match self.policy.leaving(port, flow, Initiator::Port) {
            Verdict::Pass(pass) => Ok(pass),
            Verdict::Drop(reason) => Err(reason),
        }
    }

    fn reaching(&self, port: PortIndex, flow: &Flow) -> Result<Pass, DropReason> {
        match self.policy.reaching(port, flow, Initiator::Peer) {
            Verdict::Pass(pass) => Ok(pass),
            Verdict::Drop(reason) => Err(reason),
        }
    }

    fn hop(&self, destination: [u8; 4]) -> Result<Hop, DropReason> {
        self.leaving(self.a, &flow(TCP, A, 50_000, destination, 80)).map(|pass| pass.hop)
    }
}

fn host(vni: u32, last: u8) -> Hop {
    Hop::Host { vni: Vni(vni), underlay: SocketAddr::new([127, 0, 0, last].into(), 6081) }
}

#[test]
fn a_flow_goes_where_its_route_and_mapping_say() {
    let net = net();
    assert_eq!(net.hop(B), Ok(Hop::Port(net.b)));
    assert_eq!(net.hop(C), Ok(host(1, 2)));
    assert_eq!(net.hop(IN_PEER), Ok(host(2, 9)));
    assert!([host(1, 3), host(1, 4)].contains(&net.hop(OUTSIDE).unwrap()));
    assert_eq!(net.hop([10, 0, 1, 99]), Err(DropReason::NoMapping));
    assert_eq!(net.hop([10, 9, 0, 99]), Err(DropReason::NoMapping));
    assert_eq!(net.hop([198, 51, 100, 1]), Err(DropReason::Blackhole));
    let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
    let six = Flow { source: v6("2001:db8::1"), destination: v6("2001:db8::2"), ..flow(TCP, A, 1, B, 2) };
    assert_eq!(net.leaving(net.a, &six), Err(DropReason::SpoofedAddress));
}

#[test]
fn what_no_vpc_carries_is_refused() {
    let net = net();
    for destination in
        [[224, 0, 0, 1], [255, 255, 255, 255], [127, 0, 0, 1], [169, 254, 1, 1], [0, 0, 0, 0], [240, 0, 0, 1]]
    {
        assert_eq!(net.hop(destination), Err(DropReason::Destination), "{destination:?}");
    }
    for (text, carried) in [
        ("ff02::1", false),
        ("fe80::1", false),
        ("::1", false),
        ("::", false),
        ("fd00:ec2::254", false),
        ("fd00::1", true),
    ] {
        assert_eq!(is_carried(text.parse().unwrap()), carried, "{text}");
    }
}

#[test]
fn the_source_must_be_the_ports_unless_it_need_not() {
    let mut net = net();
    assert_eq!(net.leaving(net.a, &flow(TCP, C, 1, B, 2)), Err(DropReason::SpoofedAddress));
    assert_eq!(net.reaching(net.a, &flow(TCP, C, 1, D, 443)), Err(DropReason::NotHere));
    net.policy.port_set(&PortAssignment { check_source: false, ..assignment(1, 0, A, WEB) });
    assert!(net.leaving(net.a, &flow(TCP, OUTSIDE, 1, C, 2)).is_ok());
    assert!(net.reaching(net.a, &flow(TCP, C, 1, OUTSIDE, 443)).is_ok());
    for source in [[224, 0, 0, 1], [127, 0, 0, 1], [0, 0, 0, 0]] {
        assert_eq!(net.leaving(net.a, &flow(TCP, source, 1, B, 2)), Err(DropReason::SpoofedAddress));
    }
}

#[test]
fn within_a_subnet_macs_are_the_interfaces_and_beyond_it_the_routers() {
    let net = net();
    let ethernet = |destination| net.leaving(net.a, &flow(TCP, A, 1, destination, 2)).unwrap().ethernet;
    assert_eq!(ethernet(C), (mac_of(A), mac_of(C)));
    assert_eq!(ethernet(B), (router_mac(SUBNETS[1]), mac_of(B)));
    assert_eq!(ethernet(OUTSIDE), (mac_of(A), router_mac(SUBNETS[0])));
    let arrives = |source| net.reaching(net.a, &flow(TCP, source, 1, A, 443)).unwrap().ethernet;
    assert_eq!(arrives(C), (mac_of(C), mac_of(A)));
    assert_eq!(arrives(D), (router_mac(SUBNETS[0]), mac_of(A)));
    assert_eq!(arrives(OUTSIDE), (router_mac(SUBNETS[0]), mac_of(A)));
}

#[test]
fn groups_are_stateful_and_only_allow() {
    let net = net();
    let asked = flow(TCP, C, 50_000, B, 5432);
    assert!(net.reaching(net.b, &asked).is_ok(), "from the group that the rule names");
    assert_eq!(net.reaching(net.b, &flow(TCP, D, 50_000, B, 5432)), Err(DropReason::GroupIngress));
    assert_eq!(net.reaching(net.b, &flow(TCP, OUTSIDE, 50_000, B, 5432)), Err(DropReason::GroupIngress));
    assert_eq!(net.reaching(net.b, &flow(TCP, C, 50_000, B, 5433)), Err(DropReason::GroupIngress));
    // It has no egress rules, and may answer all the same.
    let answer = flow(TCP, B, 5432, C, 50_000);
    assert_eq!(net.leaving(net.b, &answer), Err(DropReason::GroupEgress));
    assert!(matches!(net.policy.leaving(net.b, &answer, Initiator::Peer), Verdict::Pass(_)));
    // The other way round: what the port began may be answered.
    let answer = flow(TCP, OUTSIDE, 80, A, 50_000);
    assert_eq!(net.reaching(net.a, &answer), Err(DropReason::GroupIngress));
    assert!(matches!(net.policy.reaching(net.a, &answer, Initiator::Port), Verdict::Pass(_)));
}

#[test]
fn a_set_of_groups_is_not_taken_for_one_that_had_its_number() {
    let mut net = net();
    let other =
        SecurityGroup { number: 3, group_id: "sg-0000000000000000c".into(), ..SecurityGroup::default() };
    let (first, second) = ([10, 0, 1, 90], [10, 0, 1, 91]);
    net.policy.vpc_apply(&changed(|document| {
        document.groups = vec![other];
        document.mappings = vec![mapping(first, 2, &[1, 3])];
    }));
    let from = |net: &Net, source| net.reaching(net.b, &flow(TCP, source, 50_000, B, 5432)).is_ok();
    assert!(from(&net, first));
    let number =
        |net: &Net, address: [u8; 4]| net.policy.vpc(0).unwrap().mappings.get(ip(&address)).map(|m| m.set);
    let before = number(&net, first);
    net.policy.vpc_apply(&changed(|document| document.gone_mappings = vec![first.to_vec()]));
    net.policy.vpc_apply(&changed(|document| document.mappings = vec![mapping(second, 2, &[2, 3])]));
    assert_eq!(number(&net, second), before, "the number is given anew");
    assert!(!from(&net, second));
    net.policy.vpc_apply(&changed(|document| document.mappings = vec![mapping(second, 2, &[1, 2, 3])]));
    assert!(from(&net, second));
}

#[test]
fn an_echo_reply_is_judged_by_its_request() {
    let mut net = net();
    let echo = Some(Traffic { protocol: 1, first: 8, last: 0 });
    net.policy.vpc_apply(&changed(|document| {
        document.groups = vec![SecurityGroup {
            number: 2,
            group_id: DATABASE.into(),
            ingress: vec![rule(9, echo, Peer::Prefix(prefix("0.0.0.0/0")))],
            egress: vec![],
        }];
    }));
    let request = Flow { icmp: (8, 0), ..flow(ICMP, C, 7, B, 7) };
    let reply = flow(ICMP, B, 7, C, 7);
    assert!(net.reaching(net.b, &request).is_ok());
    assert!(matches!(net.policy.leaving(net.b, &reply, Initiator::Peer), Verdict::Pass(_)));
    assert_eq!(net.reaching(net.b, &Flow { icmp: (13, 0), ..request }), Err(DropReason::GroupIngress));
}

#[test]
fn an_acl_is_ordered_stateless_and_stands_between_subnets_only() {
    let mut net = net();
    net.policy.vpc_apply(&changed(|document| {
        document.acls = vec![NetworkAcl {
            acl_id: "acl-0".into(),
            ingress: vec![entry(200, true, "0.0.0.0/0", all()), entry(100, false, "10.0.2.0/24", all())],
            egress: vec![
                entry(10, true, "10.0.2.4/32", tcp(80)),
                entry(20, false, "10.0.2.0/24", tcp(80)),
                entry(30, true, "10.0.0.0/16", all()),
            ],
        }];
    }));
    let leaves =
        |destination, port| net.leaving(net.a, &flow(TCP, A, 50_000, destination, port)).map(|pass| pass.hop);
    assert_eq!(leaves(B, 80), Ok(Hop::Port(net.b)));
    assert_eq!(leaves(D, 80), Err(DropReason::AclEgress));
    assert_eq!(leaves(D, 81), Ok(host(1, 2)));
    assert_eq!(leaves(OUTSIDE, 81), Err(DropReason::AclEgress), "what no entry matches");
    // Answers too, by their own destination port.
    let answer = net.policy.reaching(net.a, &flow(TCP, D, 81, A, 50_000), Initiator::Port);
    assert_eq!(answer, Verdict::Drop(DropReason::AclIngress), "the lower number goes first");
    assert!(net.reaching(net.a, &flow(TCP, C, 1, A, 443)).is_ok(), "a neighbour passes no ACL");
    let trace = net.policy.trace(net.a, &flow(TCP, A, 50_000, D, 80), Point::Leaving, Initiator::Port);
    let decided = Step::Acl { acl: Some("acl-0".into()), egress: true, allowed: false, entry: Some(20) };
    assert_eq!(trace.steps.last(), Some(&decided));
}

#[test]
fn a_more_specific_route_leads_through_an_appliance() {
    let mut net = net();
    net.policy.vpc_apply(&changed(|document| {
        let routes = vec![
            route("10.0.2.5/32", Target::NextHop(C.to_vec()), "eni-c"),
            route("10.0.0.0/16", Target::Blackhole(true), "x"),
        ];
        document.route_tables = vec![RouteTable { route_table_id: "rtb-1".into(), routes }];
    }));
    let pass = net.leaving(net.a, &flow(TCP, A, 1, D, 2)).unwrap();
    assert_eq!((pass.hop, pass.ethernet), (host(1, 2), (mac_of(A), mac_of(C))));
    assert_eq!(net.hop(B), Ok(Hop::Port(net.b)), "the VPC's own prefix stays local");
    // The appliance is here: what comes for others goes to it.
    net.policy.port_set(&PortAssignment { check_source: false, ..assignment(3, 0, [10, 0, 1, 6], WEB) });
    net.policy.vpc_apply(&changed(|document| {
        let routes = vec![route("192.0.2.0/24", Target::NextHop(vec![10, 0, 1, 6]), "eni-3")];
        document.route_tables = vec![RouteTable { route_table_id: "rtb-1".into(), routes }];
        document.mappings = vec![mapping([10, 0, 1, 6], 1, &[1])];
    }));
    let from = SocketAddr::new([127, 0, 0, 2].into(), 50_123);
    let appliance = net.policy.port_index("eni-00000000000000003".parse().unwrap());
    let found = net.policy.port_of(Vni(1), &flow(TCP, C, 1, OUTSIDE, 2), from);
    assert_eq!(found.ok(), appliance);
    assert_eq!(net.hop(OUTSIDE).ok(), appliance.map(Hop::Port));
    // Its own packets are not led back to it.
    let own = net.leaving(appliance.unwrap(), &flow(TCP, A, 1, OUTSIDE, 2));
    assert_eq!(own, Err(DropReason::Blackhole));
}

#[test]
fn a_packet_from_the_underlay_comes_from_where_its_sender_is() {
    let net = net();
    let ask = |vni, source, destination, last: u8| {
        let from = SocketAddr::new([127, 0, 0, last].into(), 40_000);
        net.policy.port_of(Vni(vni), &flow(TCP, source, 1, destination, 443), from)
    };
    assert_eq!(ask(1, C, A, 2), Ok(net.a));
    assert_eq!(ask(1, C, A, 3), Ok(net.a), "an edge speaks for anybody");
    assert_eq!(ask(1, C, A, 9), Err(DropReason::WrongHost));
    assert_eq!(ask(1, OUTSIDE, A, 4), Ok(net.a));
    assert_eq!(ask(1, OUTSIDE, A, 2), Err(DropReason::WrongHost));
    assert_eq!(ask(1, IN_PEER, A, 9), Ok(net.a));
    assert_eq!(ask(1, C, D, 2), Err(DropReason::NotHere));
    assert_eq!(ask(2, C, A, 2), Err(DropReason::UnknownVni), "known, and without a port here");
    assert_eq!(ask(3, C, A, 2), Err(DropReason::UnknownVni));
}

#[test]
fn edges_share_flows_and_only_those_of_a_lost_one_move() {
    let edges: Vec<SocketAddr> =
        (1..=4).map(|last| SocketAddr::new([127, 0, 0, last].into(), 6081)).collect();
    let chosen = |edges: &[SocketAddr], port| edge_choose(edges, &flow(TCP, A, port, OUTSIDE, 443)).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for port in 0..4_000 {
        let edge = chosen(&edges, port);
        *counts.entry(edge).or_insert(0) += 1;
        if edge != edges[3] {
            assert_eq!(chosen(&edges[..3], port), edge);
        }
    }
    assert!(counts.len() == 4 && counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
    assert_eq!(edge_choose(&[], &flow(TCP, A, 1, OUTSIDE, 2)), None);
}

/// Which of four answers hold after a change: from A to B, C and outside, and at B from C.
fn holds_after(change: impl FnOnce(&mut VpcPolicy)) -> [bool; 4] {
    let mut net = net();
    let out = |destination| net.leaving(net.a, &flow(TCP, A, 1, destination, 5432)).unwrap().validity;
    let answers =
        [out(B), out(C), out(OUTSIDE), net.reaching(net.b, &flow(TCP, C, 1, B, 5432)).unwrap().validity];
    change(&mut net.policy);
    answers.map(|answer| net.policy.holds(&answer))
}

#[test]
fn a_change_reaches_exactly_what_rests_on_it() {
    let apply = |change: fn(&mut VpcDocument)| holds_after(|policy| policy.vpc_apply(&changed(change)));
    // The same once more changes nothing.
    assert_eq!(holds_after(|policy| policy.vpc_apply(&document_new())), [true; 4]);
    // A rule of one group: ports in it. Not those whose rules refer to it.
    let web = |document: &mut VpcDocument| {
        let mut group = document_new().groups.remove(0);
        group.ingress.clear();
        document.groups = vec![group];
    };
    assert_eq!(apply(web), [false, false, false, true]);
    // A mapping: flows with that end.
    assert_eq!(apply(|document| document.mappings = vec![mapping(C, 3, &[1])]), [true, false, true, false]);
    assert_eq!(apply(|document| document.mappings = vec![mapping(C, 2, &[2])]), [true, false, true, false]);
    assert_eq!(apply(|document| document.gone_mappings = vec![B.to_vec()]), [false, true, true, true]);
    assert_eq!(apply(|document| document.mappings = vec![mapping([10, 0, 1, 77], 2, &[1])]), [true; 4]);
    // An ACL: ports of its subnets. A route table: ports of its.
    assert_eq!(
        apply(|document| document.acls = vec![NetworkAcl { acl_id: "acl-1".into(), ..NetworkAcl::default() }]),
        [true, true, true, false]
    );
    assert_eq!(
        apply(|document| document.route_tables =
            vec![RouteTable { route_table_id: "rtb-9".into(), ..RouteTable::default() }]),
        [true; 4]
    );
    assert_eq!(
        apply(|document| document.route_tables =
            vec![RouteTable { route_table_id: "rtb-1".into(), ..RouteTable::default() }]),
        [false; 4]
    );
    // A host: flows to what is there, and to it as an edge (for which the route table stands).
    let moved = |number: u64| UnderlayHost { number, address: vec![127, 0, 0, 100], port: 6081 };
    assert_eq!(
        holds_after(|policy| policy.vpc_apply(&changed(|document| document.hosts = vec![moved(2)]))),
        [true, false, true, false]
    );
    assert_eq!(
        holds_after(|policy| policy.vpc_apply(&changed(|document| document.hosts = vec![moved(3)]))),
        [false; 4]
    );
    // A port.
    let port = |port: PortAssignment| holds_after(|policy| assert!(policy.port_set(&port).is_some()));
    assert_eq!(port(assignment(1, 0, A, WEB)), [true; 4]);
    assert_eq!(port(assignment(2, 1, B, WEB)), [false, true, true, false]);
    assert_eq!(
        holds_after(|policy| policy.port_remove("eni-00000000000000002".parse().unwrap())),
        [false, true, true, false]
    );
    // A VPC.
    assert_eq!(holds_after(|policy| policy.vpc_remove(PEER.parse().unwrap())), [true; 4]);
    assert_eq!(holds_after(|policy| policy.vpc_remove(VPC.parse().unwrap())), [false; 4]);
}

#[test]
fn a_trace_tells_people_what_decided() {
    let net = net();
    let traces = net.policy.trace_way(net.a, &flow(TCP, A, 50_000, B, 5432));
    let text: String = traces.iter().map(Trace::to_string).collect();
    let mac = router_mac(SUBNETS[1]);
    assert_ne!(mac, Mac::default());
    assert_eq!(
        text,
        "tcp 10.0.1.4:50000 > 10.0.2.4:5432 leaves port 0\n\
         \x20 groups:  egress rule sgr-00000000000000002 of sg-0000000000000000a allows it\n\
         \x20 acl:     egress entry 100 of acl-0 allows it\n\
         \x20 route:   10.0.0.0/16 in rtb-1 leads to local\n\
         \x20 mapping: 10.0.2.4 is 02:00:0a:00:02:04 in vpc-0000000000000000a at 127.0.0.1:6081, in sg-0000000000000000b\n\
         \x20 passes: to port 1 as 02:00:0a:00:02:04\n\
         tcp 10.0.1.4:50000 > 10.0.2.4:5432 reaches port 1\n\
         \x20 mapping: 10.0.1.4 is 02:00:0a:00:01:04 in vpc-0000000000000000a at 127.0.0.1:6081, in sg-0000000000000000a\n\
         \x20 acl:     ingress entry 100 of acl-1 allows it\n\
         \x20 groups:  ingress rule sgr-00000000000000003 of sg-0000000000000000b allows it\n\
         \x20 passes: to port 1 as 02:00:0a:00:02:04\n"
    );
    let refused =
        net.policy.trace(net.b, &flow(TCP, B, 50_000, C, 80), Point::Leaving, Initiator::Port).to_string();
    assert!(refused.contains("groups:  no egress rule allows it\n  dropped: no egress rule"), "{refused}");
    let missing =
        net.policy.trace(net.a, &flow(TCP, A, 1, [10, 0, 2, 99], 80), Point::Leaving, Initiator::Port);
    assert!(
        missing.to_string().contains("mapping: none for 10.0.2.99\n  dropped: no interface has that address")
    );
}
