//! The files of a switch's documents, damaged in every way: they are read or refused, what is read makes a policy that
//! answers, and a switch that starts takes new documents and starts again with the same.
//!
//! Input: whether checksums are mended afterwards (damage that they would catch tests only them), then changes to the
//! files of a small switch: which file, what to do, where, with which bytes.

use crate::input::Input;
use crate::store_log::{CHANGES_MAX, change};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use base::random::Random;
use contract::{Mapping, PortAssignment, PortsDocument, ToSwitch, UnderlayHost, VpcDocument, to_switch};
use prost::Message;
use std::collections::BTreeMap;
use vnet::document::{DocumentDirectory, Documents, Effect, Event, Limits, SwitchIdentity};
use vnet::engine::verdict::{Initiator, Policy, PortIndex, Vni};
use vnet::packet::Flow;
use vnet::policy::{Point, VpcPolicy};

const VPC: &str = "vpc-0000000000000000a";

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let mend = input.u8() & 1 == 1;
    let mut files = files();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        change(&mut files, &mut input);
    }
    if mend {
        files.values_mut().for_each(|bytes| checksums_mend(bytes));
    }
    let disk = MemoryDisk::new();
    let mut writer = disk.mount();
    for (name, bytes) in &files {
        writer.append(name, bytes).expect("a simulated disk without faults takes everything");
    }
    let Some((mut documents, mut directory)) = start(&disk) else { return };
    asks(&documents);
    // It can be told everything anew by a restored store, whatever it believed.
    for message in [
        to_switch::Message::Ports(ports_document(u64::MAX)),
        to_switch::Message::Vpc(vpc_document(u64::MAX).encode_to_vec().into()),
    ] {
        say(&mut documents, &mut directory, message);
    }
    asks(&documents);
    let after = documents.ports().clone();
    drop((documents, directory));
    disk.kill();
    let (documents, _) = start(&disk).expect("what was written can be read");
    assert_eq!(*documents.ports(), after);
}

fn start(disk: &MemoryDisk) -> Option<(Documents, DocumentDirectory)> {
    let identity = SwitchIdentity { host: String::from("host-1"), underlay: ([127, 0, 0, 1], 6081).into() };
    let (directory, found) = DocumentDirectory::open(disk.mount(), Random::from_seed(1)).ok()?;
    Some((Documents::recover(identity, Limits::default(), found), directory))
}

fn say(documents: &mut Documents, directory: &mut DocumentDirectory, message: to_switch::Message) {
    let message = ToSwitch { term: u64::MAX, message: Some(message) };
    let mut events = vec![Event::Cell(Box::new(message))];
    while let Some(event) = events.pop() {
        for effect in documents.apply(Timestamp::from_unix_ms(1), event) {
            if let Effect::Persist { ticket, writes } = effect {
                let result = directory.write(&writes).map_err(|error| error.to_string());
                assert_eq!(result, Ok(()));
                events.push(Event::Persisted { ticket, result });
            }
        }
    }
}

/// Policy of these documents answers, and answers the same when it is traced.
fn asks(documents: &Documents) {
    let underlay = ([127, 0, 0, 1], 6081).into();
    let mut policy = VpcPolicy::new(underlay, 1);
    documents.start().iter().for_each(|act| policy.act(act));
    for (source, destination, protocol) in [(1, 2, 6), (2, 1, 17), (1, 200, 1), (1, 1, 50)] {
        let flow = Flow {
            protocol,
            source: [10, 0, 0, source].into(),
            destination: [10, 0, 0, destination].into(),
            source_port: 1,
            destination_port: 443,
            icmp: (8, 0),
        };
        for port in (0..3).map(PortIndex) {
            for initiator in [Initiator::Port, Initiator::Peer] {
                let leaving = policy.leaving(port, &flow, initiator);
                assert_eq!(policy.trace(port, &flow, Point::Leaving, initiator).verdict, Some(leaving));
                let reaching = policy.reaching(port, &flow, initiator);
                let trace = policy.trace(port, &flow, Point::Reaching, initiator);
                assert_eq!(trace.verdict, Some(reaching), "{trace}");
            }
        }
        let _ = policy.port_of(Vni(5), &flow, underlay);
    }
}

fn ports_document(incarnation: u64) -> PortsDocument {
    let port = |number: u8| PortAssignment {
        interface_id: format!("eni-{number:017x}"),
        vpc_id: VPC.into(),
        subnet_id: String::from("subnet-1"),
        mac: vec![2, 0, 0, 0, 0, number],
        addresses: vec![vec![10, 0, 0, number]],
        group_ids: vec![String::from("sg-0000000000000000a")],
        check_source: true,
        generation: Some(contract::Generation { incarnation, revision: 1 }),
        ..PortAssignment::default()
    };
    PortsDocument {
        generation: Some(contract::Generation { incarnation, revision: 1 }),
        ports: vec![port(1), port(2)],
        ..PortsDocument::default()
    }
}

fn vpc_document(incarnation: u64) -> VpcDocument {
    use contract::group_rule::Peer;
    use contract::route::{Destination, Target};
    let prefix = |address: [u8; 4], length| contract::Prefix { address: address.to_vec(), length };
    let traffic = |protocol, first, last| Some(contract::Traffic { protocol, first, last });
    let entry = |number, allow, protocol| contract::AclEntry {
        number,
        allow,
        prefix: Some(prefix([0; 4], 0)),
        traffic: traffic(protocol, 0, 1_000),
    };
    let rule = |peer, protocol| contract::GroupRule {
        rule_id: String::from("sgr-1"),
        traffic: traffic(protocol, 0, 1_000),
        peer: Some(peer),
    };
    let route = |destination, target| contract::Route {
        destination: Some(destination),
        target: Some(target),
        target_id: String::from("igw-1"),
    };
    let edge = contract::EdgeTarget { kind: 1, hosts: vec![1] };
    let host =
        |number: u8| UnderlayHost { number: number.into(), address: vec![127, 0, 0, number], port: 6081 };
    let mapping = |last: u8, host| Mapping {
        address: vec![10, 0, 0, last],
        mac: vec![2, 0, 0, 0, 0, last],
        host,
        groups: vec![1],
        version: 1,
    };
    VpcDocument {
        vpc_id: VPC.into(),
        generation: Some(contract::Generation { incarnation, revision: 1 }),
        vni: 5,
        cidrs: vec![prefix([10, 0, 0, 0], 16)],
        subnets: vec![contract::Subnet {
            subnet_id: String::from("subnet-1"),
            cidr: Some(prefix([10, 0, 0, 0], 25)),
            route_table_id: String::from("rtb-1"),
            acl_id: String::from("acl-1"),
            ..contract::Subnet::default()
        }],
        route_tables: vec![contract::RouteTable {
            route_table_id: String::from("rtb-1"),
            routes: vec![
                route(Destination::Prefix(prefix([0; 4], 0)), Target::Edge(edge)),
                route(Destination::PrefixList(1), Target::NextHop(vec![10, 0, 0, 2])),
            ],
        }],
        acls: vec![contract::NetworkAcl {
            acl_id: String::from("acl-1"),
            ingress: vec![entry(1, false, 17), entry(2, true, 256)],
            egress: vec![entry(1, true, 256)],
        }],
        groups: vec![contract::SecurityGroup {
            number: 1,
            group_id: String::from("sg-0000000000000000a"),
            ingress: vec![rule(Peer::Group(1), 6), rule(Peer::PrefixList(1), 17)],
            egress: vec![rule(Peer::Prefix(prefix([0; 4], 0)), 256)],
        }],
        prefix_lists: vec![contract::PrefixList {
            number: 1,
            prefix_list_id: String::from("pl-1"),
            prefixes: vec![prefix([10, 0, 0, 128], 25)],
        }],
        hosts: vec![host(1), host(2)],
        mappings: vec![mapping(1, 1), mapping(2, 1), mapping(200, 2)],
        ..VpcDocument::default()
    }
}

/// The files of a small switch: a whole document and a change of each.
fn files() -> BTreeMap<String, Vec<u8>> {
    let disk = MemoryDisk::new();
    let (mut documents, mut directory) = start(&disk).expect("an empty disk holds nothing");
    let ports = PortsDocument {
        generation: Some(contract::Generation { incarnation: 1, revision: 2 }),
        base: Some(contract::Generation { incarnation: 1, revision: 1 }),
        gone: vec![format!("eni-{:017x}", 2)],
        ..PortsDocument::default()
    };
    let vpc = VpcDocument {
        vpc_id: VPC.into(),
        generation: Some(contract::Generation { incarnation: 1, revision: 2 }),
        base: Some(contract::Generation { incarnation: 1, revision: 1 }),
        gone_mappings: vec![vec![10, 0, 0, 2]],
        ..VpcDocument::default()
    };
    for message in [
        to_switch::Message::Ports(ports_document(1)),
        to_switch::Message::Vpc(vpc_document(1).encode_to_vec().into()),
        to_switch::Message::Ports(ports),
        to_switch::Message::Vpc(vpc.encode_to_vec().into()),
    ] {
        say(&mut documents, &mut directory, message);
    }
    disk.kill();
    let reader = disk.mount();
    disk.files().into_keys().map(|name| (name.clone(), reader.read(&name).unwrap_or_default())).collect()
}

/// Makes the checksums of a file right again, as far as its structure is still there (the layout is drawn in vnet's
/// `document::frame`).
fn checksums_mend(bytes: &mut [u8]) {
    const HEAD: usize = 24;
    const FRAME: usize = 16;
    let Some(head) = bytes.get_mut(..HEAD) else { return };
    let checksum = crc_fast::crc32_iscsi(&head[..20]);
    head[20..].copy_from_slice(&checksum.to_le_bytes());
    let key: Vec<u8> = head[12..20].to_vec();
    let mut offset = HEAD;
    while let Some(frame) = bytes.get_mut(offset..).filter(|rest| rest.len() >= FRAME) {
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        let Some(payload) = frame.get(FRAME..FRAME.saturating_add(length)) else { return };
        let of_payload = crc_fast::crc32_iscsi(payload);
        frame[8..12].copy_from_slice(&of_payload.to_le_bytes());
        let all = [&key[..], &(offset as u64).to_le_bytes(), &frame[..12]].concat();
        let of_head = crc_fast::crc32_iscsi(&all);
        frame[12..16].copy_from_slice(&of_head.to_le_bytes());
        offset += FRAME + length;
    }
}
