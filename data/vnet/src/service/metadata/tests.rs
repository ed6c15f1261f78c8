//! Requests and what they are answered, without the wire.

use super::super::testing::facts;
use super::http::{Parsed, parse};
use super::*;
use crate::service::facts::{InstanceFacts, MetadataOptions};
use std::sync::Arc;

const NOW: Now = Now { steady_ns: 0, unix_ns: 1_000_000_000_000 };

fn with(change: impl FnOnce(&mut InstanceFacts)) -> PortFacts {
    let mut facts = facts();
    let mut instance = (**facts.instance.as_ref().unwrap()).clone();
    change(&mut instance);
    facts.instance = Some(Arc::new(instance));
    facts
}

fn options(change: impl FnOnce(&mut MetadataOptions)) -> PortFacts {
    with(|instance| change(&mut instance.options))
}

fn ask(facts: &PortFacts, request: &str, headers: &str) -> Response {
    let text = format!("{request} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n");
    let Parsed::Request(request, _) = parse(text.as_bytes()) else { panic!("{text}") };
    answer(&request, NOW, facts, &TokenKey::new(&[7; 32]), &mut Random::from_seed(1))
}

fn token(facts: &PortFacts, ttl: &str) -> Response {
    ask(facts, "PUT /latest/api/token", &format!("X-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n"))
}

/// A value of a service that wants no token; `Err`: the status.
fn get(path: &str) -> Result<String, u16> {
    get_of(&options(|options| options.tokens_required = false), path)
}

fn get_of(facts: &PortFacts, path: &str) -> Result<String, u16> {
    let response = ask(facts, &format!("GET {path}"), "");
    match response.status {
        200 => Ok(String::from_utf8_lossy(&response.body).into_owned()),
        status => Err(status),
    }
}

#[test]
fn a_token_is_asked_for_and_sent() {
    let facts = facts();
    let given = token(&facts, "21600");
    assert_eq!((given.status, given.token_ttl_s, given.hop_limit), (200, Some(21_600), Some(2)));
    let token = String::from_utf8(given.body).unwrap();
    let got =
        ask(&facts, "GET /latest/meta-data/instance-id", &format!("X-aws-ec2-metadata-token: {token}\r\n"));
    assert_eq!((got.status, got.token_ttl_s, got.hop_limit), (200, Some(21_600), None));
    assert_eq!(got.body, b"i-0123456789abcdef0");
}

#[test]
fn statuses_are_those_of_aws() {
    let facts = facts();
    for bad in ["0", "21601", "", "x", "-1", "+5", "1.5", "99999999999999999999"] {
        assert_eq!(token(&facts, bad).status, 400, "{bad}");
    }
    assert_eq!(ask(&facts, "PUT /latest/api/token", "").status, 400);
    let forwarded = "X-Forwarded-For: 10.0.0.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    assert_eq!(ask(&facts, "PUT /latest/api/token", forwarded).status, 403);
    assert_eq!(ask(&facts, "PUT /latest/meta-data", "").status, 405);
    assert_eq!(ask(&facts, "POST /latest/api/token", "").status, 405);
    assert_eq!(ask(&facts, "GET /latest/meta-data", "").status, 401);
    assert_eq!(ask(&facts, "GET /latest/meta-data", "X-aws-ec2-metadata-token: abc\r\n").status, 401);
    let optional = options(|options| options.tokens_required = false);
    assert_eq!(ask(&optional, "GET /latest/meta-data", "").status, 200);
    // A wrong token is wrong even where none is needed.
    assert_eq!(ask(&optional, "GET /latest/meta-data", "X-aws-ec2-metadata-token: abc\r\n").status, 401);
    let off = options(|options| options.endpoint = false);
    assert_eq!((token(&off, "60").status, ask(&off, "GET /", "").status), (403, 403));
    assert_eq!(get("/latest/nothing"), Err(404));
    assert_eq!(get("/2000-01-01/meta-data"), Err(404));
    let stranger = PortFacts { instance: None, ..facts };
    assert_eq!(ask(&stranger, "GET /latest/meta-data", "").status, 404);
}

#[test]
fn an_instance_s_tree() {
    assert_eq!(get("/").unwrap().lines().last(), Some("latest"));
    assert_eq!(get("/latest").as_deref(), Ok("dynamic\nmeta-data\nuser-data"));
    assert_eq!(get("/latest/dynamic/instance-identity/").as_deref(), Ok("document"));
    assert_eq!(get("/2021-03-23/meta-data/placement/").as_deref(), Ok("availability-zone\nregion"));
    assert_eq!(get("/2009-04-04/meta-data/placement/").as_deref(), Ok("availability-zone"));
    let all = "ami-id\nami-launch-index\nami-manifest-path\nhostname\ninstance-action\ninstance-id\ninstance-life-cycle\n\
        instance-type\nipv6\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/\nplacement/\npublic-ipv4\npublic-keys/\n\
        reservation-id\nsecurity-groups\nservices/\ntags/";
    assert_eq!(get("/latest/meta-data/").as_deref(), Ok(all));
    assert_eq!(get("/latest/meta-data/local-hostname").as_deref(), Ok("ip-10-0-0-5.ec2.internal"));
    assert_eq!(get("/latest/meta-data/public-ipv4").as_deref(), Ok("198.51.100.7"));
    assert_eq!(get("/latest/meta-data/security-groups").as_deref(), Ok("default\nweb"));
    assert_eq!(get("/latest/meta-data/public-keys/").as_deref(), Ok("0=my-key"));
    assert_eq!(get("/latest/meta-data/public-keys/0/").as_deref(), Ok("openssh-key"));
    assert_eq!(get("/latest/meta-data/public-keys/0/openssh-key").as_deref(), Ok("ssh-ed25519 AAAA my-key"));
    assert_eq!(get("/latest/meta-data/tags/instance").as_deref(), Ok("Name\nteam:a"));
    assert_eq!(get("/latest/meta-data/tags/instance/Name").as_deref(), Ok("web 1"));
    assert_eq!(get("/latest/meta-data/tags/instance/team%3aa").as_deref(), Ok("x"));
    // Nothing that is not known, and no value with something below it.
    for absent in [
        "iam/",
        "iam/security-credentials/",
        "block-device-mapping/",
        "public-hostname",
        "instance-id/",
        "%zz",
    ] {
        assert_eq!(get(&format!("/latest/meta-data/{absent}")), Err(404), "{absent}");
    }
    assert_eq!(get("/latest/dynamic/instance-identity/pkcs7"), Err(404));
}

#[test]
fn an_interface_s_leaves() {
    let macs = "/latest/meta-data/network/interfaces/macs/";
    assert_eq!(get(macs).as_deref(), Ok("02:00:00:00:00:05/"));
    let leaf = |name: &str| get(&format!("{macs}02:00:00:00:00:05/{name}")).unwrap();
    let expected = [
        ("device-number", "0"),
        ("interface-id", "eni-1"),
        ("ipv4-associations/198.51.100.7", "10.0.0.5"),
        ("ipv6s", "2600:1f18::5"),
        ("local-hostname", "ip-10-0-0-5.ec2.internal"),
        ("local-ipv4s", "10.0.0.5\n10.0.0.6"),
        ("mac", "02:00:00:00:00:05"),
        ("network-card", "0"),
        ("owner-id", "000000000001"),
        ("public-ipv4s", "198.51.100.7"),
        ("security-group-ids", "sg-1\nsg-2"),
        ("security-groups", "default\nweb"),
        ("subnet-id", "subnet-1"),
        ("subnet-ipv4-cidr-block", "10.0.0.0/24"),
        ("subnet-ipv6-cidr-blocks", "2600:1f18::/64"),
        ("vpc-id", "vpc-1"),
        ("vpc-ipv4-cidr-block", "10.0.0.0/16"),
        ("vpc-ipv4-cidr-blocks", "10.0.0.0/16"),
        ("vpc-ipv6-cidr-blocks", "2600:1f18::/56"),
    ];
    for (name, value) in expected {
        assert_eq!(leaf(name), value, "{name}");
    }
    let listed: Vec<String> = leaf("").lines().map(str::to_owned).collect();
    let names: Vec<&str> =
        expected.iter().map(|(name, _)| name.split_inclusive('/').next().unwrap()).collect();
    assert_eq!(listed, names);
}

#[test]
fn user_data_and_keys_are_there_if_they_were_given() {
    let facts = options(|options| options.tokens_required = false);
    let user_data = ask(&facts, "GET /latest/user-data", "");
    assert_eq!(
        (user_data.content_type, &user_data.body[..]),
        ("application/octet-stream", &b"#!/bin/sh\n\xff"[..])
    );
    let bare = with(|instance| {
        instance.options.tokens_required = false;
        instance.options.tags = false;
        instance.user_data.clear();
        instance.ssh_public_key.clear();
    });
    for absent in ["user-data", "meta-data/public-keys/", "meta-data/tags/", "meta-data/tags/instance/Name"] {
        assert_eq!(get_of(&bare, &format!("/latest/{absent}")), Err(404), "{absent}");
    }
    assert_eq!(get_of(&bare, "/latest/").as_deref(), Ok("dynamic\nmeta-data"));
}

#[test]
fn the_identity_document() {
    let text = get("/latest/dynamic/instance-identity/document").unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "accountId": "000000000001",
        "availabilityZone": "us-east-1a",
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-1",
        "instanceId": "i-0123456789abcdef0",
        "instanceType": "t3.micro",
        "kernelId": null,
        "pendingTime": "2026-01-02T03:04:05Z",
        "privateIp": "10.0.0.5",
        "ramdiskId": null,
        "region": "us-east-1",
        "version": "2017-09-30",
    });
    assert_eq!(document, expected);
}
