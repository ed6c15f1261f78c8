//! What versions have written is read for ever: every field of each record type, beside the golden files.

use crate::host::{HostRecord, Underlay};
use crate::placement::Room;
use crate::vm::record::{Assigned, Place, VmRecord, VmState};
use base::generation::{Attempt, Generation};
use base::ids::HostId;
use contract::{Explanation, HostVerdict, Target, VmSpec};
use metastore::table::golden::check;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

#[test]
fn a_vm() {
    let instance = "i-0123456789abcdef0";
    let earlier = Assigned {
        attempt: Attempt(2),
        generation: Generation::new(1, 5),
        target: Target::Stopped,
        force: true,
    };
    let spec = VmSpec {
        instance_id: instance.into(),
        account_id: "123456789012".into(),
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        vcpus: 2,
        memory_mib: 1024,
        user_data: b"#!/bin/sh\n".to_vec(),
        ssh_public_key: "ssh-ed25519 AAAA me".into(),
        key_name: "me".into(),
        zone: "us-east-1a".into(),
        reservation_id: "r-0123456789abcdef0".into(),
        launch_index: 3,
        reboots: 4,
        interfaces: vec![contract::VmInterface {
            interface_id: "eni-0123456789abcdef0".into(),
            mac: vec![2, 0, 0, 0, 0, 1],
            device_index: 0,
        }],
    };
    let verdict = HostVerdict {
        host_id: "h1".into(),
        rack_id: "r1".into(),
        chosen: true,
        verdict: "leaves 6 of 8 vCPU".into(),
    };
    let record = VmRecord {
        instance: instance.parse().unwrap(),
        account: "123456789012".parse().unwrap(),
        attempt: Attempt(3),
        generation: Generation::new(2, 7),
        state: VmState::Claimed { earlier: Some(earlier) },
        force: true,
        spec,
        place: Some(Place { host: "h1".parse().unwrap(), rack: "r1".parse().unwrap() }),
        explanation: Explanation { hosts: vec![verdict], omitted: 5 },
    };
    let read = check(Path::new(FOLDER), "vm", &record.instance, &record).unwrap();
    // The oldest knew no network cards.
    let mut oldest = record.clone();
    oldest.spec.interfaces.clear();
    assert_eq!(read, [oldest, record]);
}

#[test]
fn a_host() {
    let id: HostId = "us-east-1a-c1-h1".parse().unwrap();
    let record = HostRecord {
        capacity: Room { vcpus: 8, memory_mib: 16384 },
        rack: "us-east-1a-c1-r1".parse().unwrap(),
        lowered: true,
        underlay: Some(Underlay { address: vec![127, 88, 0, 1], port: 6081 }),
    };
    // The oldest knew no switches.
    let oldest = HostRecord { underlay: None, ..record.clone() };
    assert_eq!(check(Path::new(FOLDER), "host", &id, &record).unwrap(), [oldest, record]);
}
