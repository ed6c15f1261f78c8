//! What versions have written is read for ever: every field of each record type, beside the golden files. The
//! literals name every field, so one that is added does not compile until it is filled here.

#![allow(clippy::unwrap_used)]

use base::ids::AccountId;
use contract::{Explanation, HostVerdict};
use metastore::table::golden::check;
use region::account::record::AccountRecord;
use region::address::record::AddressRecord;
use region::dhcp_options::record::{DhcpOptionRecord, DhcpOptionsRecord};
use region::instance::record::{
    CellVerdictRecord, InstanceRecord, ReservationRecord, TemplateRecord, TokenRecord,
};
use region::internet_gateway::record::InternetGatewayRecord;
use region::key_pair::record::KeyPairRecord;
use region::network_acl::record::{AclEntryRecord, NetworkAclRecord};
use region::network_interface::record::{AttachmentRecord, InterfaceRecord, LaunchInterfaceRecord};
use region::record::{Name, Record};
use region::route_table::record::{RouteRecord, RouteTableRecord};
use region::security_group::record::{RuleRecord, SecurityGroupRecord};
use region::subnet::record::SubnetRecord;
use region::tag::record::{TagRecord, TagsRecord};
use region::vpc::record::{CidrRecord, VniRecord, VpcRecord};
use std::path::Path;
use std::sync::Arc;

fn golden(file: &str, name: Name, record: Record) {
    let account: AccountId = "123456789012".parse().unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"));
    assert_eq!(check(folder, file, &(account, name), &record).unwrap().pop(), Some(record));
}

fn tags() -> Vec<TagRecord> {
    vec![TagRecord { key: "Name".into(), value: "web".into() }]
}

fn verdict() -> CellVerdictRecord {
    CellVerdictRecord {
        zone: "us-east-1a".into(),
        cell_id: "us-east-1a-c1".into(),
        chosen: true,
        verdict: "has room for 8".into(),
    }
}

fn template() -> TemplateRecord {
    TemplateRecord {
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        user_data: b"#!/bin/sh\n".to_vec(),
        key_name: "me".into(),
        ssh_public_key: "ssh-ed25519 AAAA me".into(),
        tags: tags(),
        disable_api_termination: true,
        terminate_on_shutdown: true,
        disable_api_stop: true,
    }
}

#[test]
fn an_account() {
    let record = AccountRecord {
        account_id: "123456789012".into(),
        name: "default".into(),
        client_token: "token".into(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "not-a-secret".into(),
        created_unix_ms: 1_795_000_000_000,
        network_made: true,
    };
    golden("account", Name::Account, Record::Account(Arc::new(record)));
}

#[test]
fn an_instance() {
    let host = HostVerdict {
        host_id: "h1".into(),
        rack_id: "r1".into(),
        chosen: true,
        verdict: "leaves 6 of 8 vCPU".into(),
    };
    let record = InstanceRecord {
        instance_id: "i-0123456789abcdef0".into(),
        reservation_id: "r-0123456789abcdef0".into(),
        launch_index: 1,
        stage: 2,
        attempt: 3,
        intent: 4,
        zone: "us-east-1a".into(),
        cell_id: "us-east-1a-c1".into(),
        host_id: "us-east-1a-c1-h1".into(),
        rack_id: "us-east-1a-c1-r1".into(),
        refused_by: vec!["us-east-1b-c1".into()],
        template: Some(template()),
        launched_unix_ms: 5,
        changed_unix_ms: 6,
        reason_code: "Client.UserInitiatedShutdown".into(),
        reason_message: "Client.UserInitiatedShutdown: User initiated shutdown".into(),
        reboots: 7,
        force: true,
        verdicts: vec![verdict()],
        explanation: Some(Explanation { hosts: vec![host], omitted: 8 }),
        own_user_data: true,
    };
    let name = Name::Instance("i-0123456789abcdef0".parse().unwrap());
    golden("instance", name, Record::Instance(Arc::new(record)));
}

#[test]
fn a_reservation() {
    let record = ReservationRecord {
        reservation_id: "r-0123456789abcdef0".into(),
        seed_low: 1,
        seed_high: 2,
        count: 3,
        count_min: 2,
        acceptance: 1,
        accepted_unix_ms: 4,
        template: Some(template()),
        zone: "us-east-1a".into(),
        zone_fixed: true,
        cell_id: "us-east-1a-c1".into(),
        verdicts: vec![verdict()],
        client_token: "token".into(),
        interface: Some(LaunchInterfaceRecord {
            vpc_id: "vpc-0123456789abcdef0".into(),
            subnet_id: "subnet-0123456789abcdef0".into(),
            group_ids: vec!["sg-0123456789abcdef0".into()],
            description: "web".into(),
            addresses: vec![1, 2],
            addresses_ipv6: vec![3; 32],
            ipv6_each: 1,
            public_addresses: vec![4, 5],
            keep: true,
            tags: tags(),
        }),
    };
    let name = Name::Reservation("r-0123456789abcdef0".parse().unwrap());
    golden("reservation", name, Record::Reservation(Arc::new(record)));
}

#[test]
fn a_token() {
    let record =
        TokenRecord { parameters_sha256: vec![7; 32], made: "r-0123456789abcdef0".into(), used_unix_ms: 9 };
    golden("token", Name::Token("RunInstances/token".into()), Record::Token(Arc::new(record)));
}

#[test]
fn a_key_pair() {
    let record = KeyPairRecord {
        key_pair_id: "key-0123456789abcdef0".into(),
        key_name: "me".into(),
        key_type: "ed25519".into(),
        fingerprint: "SHA256:abc".into(),
        public_key: "ssh-ed25519 AAAA me".into(),
        created_unix_ms: 1,
        tags: tags(),
    };
    let name = Name::KeyPair("key-0123456789abcdef0".parse().unwrap());
    golden("key-pair", name, Record::KeyPair(Arc::new(record)));
}

#[test]
fn the_tags_of_a_resource() {
    let record = TagsRecord { resource_id: "vpc-0123456789abcdef0".into(), tags: tags() };
    golden("tags", Name::Tags("vpc-0123456789abcdef0".into()), Record::Tags(Arc::new(record)));
}

fn range() -> CidrRecord {
    CidrRecord { association_id: "vpc-cidr-assoc-0123456789abcdef0".into(), cidr: "10.0.0.0/16".into() }
}

#[test]
fn a_vpc() {
    let record = VpcRecord {
        vpc_id: "vpc-0123456789abcdef0".into(),
        cidrs: vec![range()],
        cidrs_ipv6: vec![range()],
        vni: 7,
        dhcp_options_id: "dopt-0123456789abcdef0".into(),
        is_default: true,
        dns_support: true,
        dns_hostnames: true,
        address_metrics: true,
        main_route_table_id: "rtb-0123456789abcdef0".into(),
        main_association_id: "rtbassoc-0123456789abcdef0".into(),
        created_unix_ms: 8,
        tags: tags(),
    };
    golden("vpc", Name::Vpc("vpc-0123456789abcdef0".parse().unwrap()), Record::Vpc(Arc::new(record)));
}

#[test]
fn a_network_identifier_that_is_held() {
    let record = VniRecord { vpc_id: "vpc-0123456789abcdef0".into(), deleted_unix_ms: 9 };
    golden("vni", Name::Vni(7), Record::Vni(Arc::new(record)));
}

#[test]
fn a_subnet() {
    let record = SubnetRecord {
        subnet_id: "subnet-0123456789abcdef0".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        zone: "us-east-1a".into(),
        cidr: "10.0.1.0/24".into(),
        cidr_ipv6: Some(range()),
        is_default: true,
        map_public_address: true,
        assign_ipv6: true,
        network_acl_id: "acl-0123456789abcdef0".into(),
        network_acl_association_id: "aclassoc-0123456789abcdef0".into(),
        route_table_id: "rtb-0123456789abcdef0".into(),
        route_table_association_id: "rtbassoc-0123456789abcdef0".into(),
        created_unix_ms: 1,
        tags: tags(),
    };
    let name = Name::Subnet("subnet-0123456789abcdef0".parse().unwrap());
    golden("subnet", name, Record::Subnet(Arc::new(record)));
}

#[test]
fn a_route_table() {
    let route = RouteRecord { destination: "0.0.0.0/0".into(), target: "igw-0123456789abcdef0".into() };
    let record = RouteTableRecord {
        route_table_id: "rtb-0123456789abcdef0".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        routes: vec![route],
        tags: tags(),
    };
    let name = Name::RouteTable("rtb-0123456789abcdef0".parse().unwrap());
    golden("route-table", name, Record::RouteTable(Arc::new(record)));
}

#[test]
fn an_internet_gateway() {
    let record = InternetGatewayRecord {
        internet_gateway_id: "igw-0123456789abcdef0".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        tags: tags(),
    };
    let name = Name::InternetGateway("igw-0123456789abcdef0".parse().unwrap());
    golden("internet-gateway", name, Record::InternetGateway(Arc::new(record)));
}

#[test]
fn dhcp_options() {
    let option = DhcpOptionRecord { key: "domain-name".into(), values: vec!["ec2.internal".into()] };
    let record = DhcpOptionsRecord {
        dhcp_options_id: "dopt-0123456789abcdef0".into(),
        options: vec![option],
        tags: tags(),
    };
    let name = Name::DhcpOptions("dopt-0123456789abcdef0".parse().unwrap());
    golden("dhcp-options", name, Record::DhcpOptions(Arc::new(record)));
}

#[test]
fn a_network_acl() {
    let entry = AclEntryRecord {
        number: 100,
        egress: true,
        allow: true,
        protocol: -1,
        cidr: "0.0.0.0/0".into(),
        first: -1,
        last: -1,
    };
    let record = NetworkAclRecord {
        network_acl_id: "acl-0123456789abcdef0".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        is_default: true,
        entries: vec![entry],
        tags: tags(),
    };
    let name = Name::NetworkAcl("acl-0123456789abcdef0".parse().unwrap());
    golden("network-acl", name, Record::NetworkAcl(Arc::new(record)));
}

#[test]
fn a_security_group() {
    let rule = RuleRecord {
        rule_id: "sgr-0123456789abcdef0".into(),
        egress: true,
        protocol: 6,
        first: 80,
        last: 81,
        peer: "10.0.0.0/8".into(),
        description: "web".into(),
        tags: tags(),
    };
    let record = SecurityGroupRecord {
        group_id: "sg-0123456789abcdef0".into(),
        name: "default".into(),
        description: "default VPC security group".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        rules: vec![rule],
        tags: tags(),
    };
    let name = Name::SecurityGroup("sg-0123456789abcdef0".parse().unwrap());
    golden("security-group", name, Record::SecurityGroup(Arc::new(record)));
}

#[test]
fn a_network_interface() {
    let attachment = AttachmentRecord {
        attachment_id: "eni-attach-0123456789abcdef0".into(),
        instance_id: "i-0123456789abcdef0".into(),
        device_index: 1,
        keep: true,
        attached_unix_ms: 2,
    };
    let record = InterfaceRecord {
        interface_id: "eni-0123456789abcdef0".into(),
        vpc_id: "vpc-0123456789abcdef0".into(),
        subnet_id: "subnet-0123456789abcdef0".into(),
        zone: "us-east-1a".into(),
        description: "web".into(),
        mac: vec![2, 0, 10, 0, 0, 5],
        addresses: vec![3, 4],
        addresses_ipv6: vec![vec![5; 16]],
        group_ids: vec!["sg-0123456789abcdef0".into()],
        forwards: true,
        attachment: Some(attachment),
        public_address: 6,
        created_unix_ms: 7,
        tags: tags(),
    };
    let name = Name::NetworkInterface("eni-0123456789abcdef0".parse().unwrap());
    golden("network-interface", name, Record::NetworkInterface(Arc::new(record)));
}

#[test]
fn an_elastic_address() {
    let record = AddressRecord {
        allocation_id: "eipalloc-0123456789abcdef0".into(),
        public_address: 1,
        association_id: "eipassoc-0123456789abcdef0".into(),
        interface_id: "eni-0123456789abcdef0".into(),
        private_address: 2,
        tags: tags(),
    };
    let name = Name::Address("eipalloc-0123456789abcdef0".parse().unwrap());
    golden("address", name, Record::Address(Arc::new(record)));
}
