//! The port that the services' tests are about: 10.0.0.5 and 2600:1f18::5 in a VPC of us-east-1, with a neighbour at 9.

use super::facts::{
    DhcpFacts, Directory, InstanceFacts, InterfaceFacts, MetadataOptions, PortFacts, Prefix, Record,
    SubnetFacts, VpcFacts,
};
use crate::packet::Mac;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub const GUEST: Mac = Mac([0x02, 0, 0, 0, 0, 0x05]);
pub const PEER: Mac = Mac([0x02, 0, 0, 0, 0, 0x09]);
pub const ROUTER: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str, length: u8) -> Prefix {
    Prefix { address: address(text), length }
}

pub fn facts() -> PortFacts {
    let vpc = VpcFacts {
        vpc_id: "vpc-1".into(),
        region: "us-east-1".into(),
        cidrs: vec![prefix("10.0.0.0", 16), prefix("2600:1f18::", 56)],
        dns_support: true,
        dns_hostnames: true,
        dhcp: DhcpFacts::default(),
    };
    let interface = InterfaceFacts {
        interface_id: "eni-1".into(),
        mac: GUEST,
        addresses: vec![address("10.0.0.5"), address("2600:1f18::5"), address("10.0.0.6")],
        public_address: Some("198.51.100.7".parse().unwrap()),
        group_ids: vec!["sg-1".into(), "sg-2".into()],
        device_index: 0,
        subnet: SubnetFacts {
            subnet_id: "subnet-1".into(),
            cidr: Some(prefix("10.0.0.0", 24)),
            cidr_ipv6: Some(prefix("2600:1f18::", 64)),
        },
        vpc: Arc::new(vpc),
    };
    let options =
        MetadataOptions { endpoint: true, tokens_required: true, hop_limit: 2, ipv6: true, tags: true };
    let instance = InstanceFacts {
        instance_id: "i-0123456789abcdef0".into(),
        account_id: "000000000001".into(),
        zone: "us-east-1a".into(),
        image_id: "ami-1".into(),
        instance_type: "t3.micro".into(),
        reservation_id: "r-1".into(),
        launch_index: 0,
        user_data: b"#!/bin/sh\n\xff".to_vec(),
        key_name: "my-key".into(),
        ssh_public_key: "ssh-ed25519 AAAA my-key".into(),
        group_names: vec!["default".into(), "web".into()],
        interfaces: vec![interface.clone()],
        launched_unix_ms: 1_767_323_045_678,
        options,
        tags: vec![("Name".into(), "web 1".into()), ("team:a".into(), "x".into())],
    };
    PortFacts { interface, instance: Some(Arc::new(instance)), mtu: 9001, router_mac: ROUTER }
}

/// A VPC's directory: the port itself, its neighbour, and whatever records a test adds.
#[derive(Default)]
pub struct Names {
    pub records: BTreeMap<String, Vec<Record>>,
}

impl Directory for Names {
    fn mac_of(&self, wanted: IpAddr) -> Option<Mac> {
        let known = [
            ("10.0.0.5", GUEST),
            ("10.0.0.6", GUEST),
            ("2600:1f18::5", GUEST),
            ("10.0.0.9", PEER),
            ("2600:1f18::9", PEER),
            ("10.0.1.9", PEER),
        ];
        known.iter().find(|(text, _)| address(text) == wanted).map(|(_, mac)| *mac)
    }

    fn records(&self, name: &str) -> &[Record] {
        self.records.get(name).map_or(&[], Vec::as_slice)
    }

    fn has_below(&self, name: &str) -> bool {
        let suffix = format!(".{name}");
        self.records.keys().any(|other| other.ends_with(&suffix))
    }
}
