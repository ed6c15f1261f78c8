//! What versions have written is read for ever: every field of each record type, beside the golden files. The
//! literals name every field, so one that is added does not compile until it is filled here.

#![allow(clippy::unwrap_used)]

use base::ids::AccountId;
use contract::{Explanation, HostVerdict};
use metastore::table::golden::check;
use region::account::record::AccountRecord;
use region::instance::record::{
    CellVerdictRecord, InstanceRecord, ReservationRecord, TemplateRecord, TokenRecord,
};
use region::key_pair::record::KeyPairRecord;
use region::record::{Name, Record};
use region::tag::record::{TagRecord, TagsRecord};
use std::path::Path;
use std::sync::Arc;

fn golden(file: &str, name: Name, record: Record) {
    let account: AccountId = "123456789012".parse().unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"));
    assert_eq!(check(folder, file, &(account, name), &record).unwrap(), [record]);
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
