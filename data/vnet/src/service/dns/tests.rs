//! Names and what they lead to.

use super::super::testing::{Names, facts};
use super::*;
use crate::service::facts::Record;
use std::net::Ipv6Addr;
use std::sync::Arc;

fn query(name: &str, kind: u16) -> Query {
    let question = message::Question { name: Name::parse(name).unwrap(), kind, class: CLASS_IN };
    message::read_query(&message::write_query(7, &question, 0, None)).unwrap()
}

fn wire(name: &str) -> Vec<u8> {
    Name::parse(name).unwrap().wire().to_vec()
}

fn names() -> Names {
    let mut names = Names::default();
    let mut add = |name: &str, kind, data: Vec<Vec<u8>>| {
        names.records.entry(name.into()).or_default().push(Record { kind, ttl_s: 300, data });
    };
    let mut soa = wire("ns.corp.example");
    soa.extend(wire("hostmaster.corp.example"));
    soa.extend([0; 16]);
    soa.extend(900u32.to_be_bytes());
    add("corp.example", kind::SOA, vec![soa]);
    add("db.corp.example", kind::A, vec![vec![10, 0, 0, 9], vec![10, 0, 0, 10]]);
    add("www.corp.example", kind::CNAME, vec![wire("db.corp.example")]);
    add("out.corp.example", kind::CNAME, vec![wire("example.org")]);
    add("loop.corp.example", kind::CNAME, vec![wire("loop.corp.example")]);
    add("own.corp.example", kind::CNAME, vec![wire("ip-10-0-0-9.ec2.internal")]);
    add("gone.corp.example", kind::CNAME, vec![wire("no.db.corp.example")]);
    add("*.wild.corp.example", kind::A, vec![vec![10, 0, 0, 99]]);
    add("deep.tree.corp.example", kind::TXT, vec![b"\x02hi".to_vec()]);
    add("alone.example.net", kind::A, vec![vec![192, 0, 2, 1]]);
    names
}

/// The answer in one line: code, answers' data, and whether an SOA says how long nothing lasts.
fn resolved(name: &str, kind: u16) -> String {
    resolved_in(&facts(), name, kind)
}

fn resolved_in(facts: &PortFacts, name: &str, kind: u16) -> String {
    match resolve(&query(name, kind), facts, &names()) {
        Resolution::Answered(response) => {
            let codes = ["ok", "formerr", "servfail", "nxdomain", "notimp", "refused"];
            let mut line = String::from(codes.get(usize::from(response.code)).copied().unwrap_or("badvers"));
            for answer in &response.answers {
                line += &match (answer.kind, answer.data.as_slice()) {
                    (kind::A, [a, b, c, d]) => format!(" {a}.{b}.{c}.{d}"),
                    (kind::AAAA, data) => format!(" {}", Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap())),
                    (kind::CNAME | kind::PTR, data) => {
                        format!(" {}", Name::read(data, 0).unwrap().0.text().unwrap())
                    }
                    (kind, _) => format!(" type {kind}"),
                };
            }
            let soa =
                response.authority.map(|soa| format!(" soa {} {}", soa.name.text().unwrap(), soa.ttl_s));
            line + &soa.unwrap_or_default()
        }
        Resolution::Forward { name, chain } => {
            format!("forward {} behind {}", name.text().unwrap(), chain.len())
        }
    }
}

#[test]
fn names_that_follow_from_addresses() {
    assert_eq!(resolved("ip-10-0-0-9.ec2.internal", kind::A), "ok 10.0.0.9");
    assert_eq!(resolved("IP-10-0-0-9.EC2.Internal", kind::A), "ok 10.0.0.9");
    assert_eq!(resolved("ip-10-0-0-9.ec2.internal", kind::AAAA), "ok soa ec2.internal 60");
    assert_eq!(resolved("ip-10-0-0-77.ec2.internal", kind::A), "nxdomain soa ec2.internal 60");
    assert_eq!(resolved("ip-10-0-0-09.ec2.internal", kind::A), "nxdomain soa ec2.internal 60");
    assert_eq!(resolved("nothing.ec2.internal", kind::A), "nxdomain soa ec2.internal 60");
    assert_eq!(resolved("ec2.internal", kind::A), "ok soa ec2.internal 60");
    assert_eq!(resolved("ec2.internal", kind::SOA), "ok type 6");
    assert_eq!(resolved("notec2.internal", kind::A), "forward notec2.internal behind 0");
    assert_eq!(resolved("instance-data.ec2.internal", kind::A), "ok 169.254.169.254");
    assert_eq!(resolved("instance-data.ec2.internal", kind::AAAA), "ok fd00:ec2::254");
}

#[test]
fn names_of_another_region() {
    let mut facts = facts();
    let mut vpc = (*facts.interface.vpc).clone();
    vpc.region = "eu-west-3".into();
    facts.interface.vpc = Arc::new(vpc);
    let resolved = |name: &str, kind| resolved_in(&facts, name, kind);
    assert_eq!(resolved("ip-10-0-0-9.eu-west-3.compute.internal", kind::A), "ok 10.0.0.9");
    assert_eq!(resolved("ip-10-0-0-9.ec2.internal", kind::A), "forward ip-10-0-0-9.ec2.internal behind 0");
    assert_eq!(resolved("instance-data.ec2.internal", kind::A), "ok 169.254.169.254");
    assert_eq!(resolved("9.0.0.10.in-addr.arpa", kind::PTR), "ok ip-10-0-0-9.eu-west-3.compute.internal");
}

#[test]
fn addresses_have_names() {
    assert_eq!(resolved("9.0.0.10.in-addr.arpa", kind::PTR), "ok ip-10-0-0-9.ec2.internal");
    assert_eq!(resolved("77.0.0.10.in-addr.arpa", kind::PTR), "nxdomain soa 77.0.0.10.in-addr.arpa 60");
    assert_eq!(resolved("9.0.0.10.in-addr.arpa", kind::A), "ok soa 9.0.0.10.in-addr.arpa 60");
    assert_eq!(resolved("8.8.8.8.in-addr.arpa", kind::PTR), "forward 8.8.8.8.in-addr.arpa behind 0");
    assert_eq!(resolved("254.169.254.169.in-addr.arpa", kind::PTR), "ok instance-data.ec2.internal");
    let own = message::reverse_name("2600:1f18::9".parse().unwrap());
    assert_eq!(resolved(&own, kind::PTR), format!("ok soa {own} 60"));
    let none = message::reverse_name("2600:1f18::77".parse().unwrap());
    assert_eq!(resolved(&none, kind::PTR), format!("nxdomain soa {none} 60"));
}

#[test]
fn private_records() {
    assert_eq!(resolved("db.corp.example", kind::A), "ok 10.0.0.9 10.0.0.10");
    assert_eq!(resolved("DB.corp.example", kind::AAAA), "ok soa corp.example 300");
    assert_eq!(resolved("no.corp.example", kind::A), "nxdomain soa corp.example 300");
    // It exists, as something has it for an end.
    assert_eq!(resolved("tree.corp.example", kind::A), "ok soa corp.example 300");
    assert_eq!(resolved("a.tree.corp.example", kind::A), "nxdomain soa corp.example 300");
    assert_eq!(resolved("a.wild.corp.example", kind::A), "ok 10.0.0.99");
    assert_eq!(resolved("b.a.wild.corp.example", kind::A), "ok 10.0.0.99");
    assert_eq!(resolved("a.wild.corp.example", kind::MX), "ok soa corp.example 300");
    assert_eq!(resolved("wild.corp.example", kind::A), "ok soa corp.example 300");
    // A record that is in no zone hides nothing but itself.
    assert_eq!(resolved("alone.example.net", kind::A), "ok 192.0.2.1");
    assert_eq!(resolved("other.example.net", kind::A), "forward other.example.net behind 0");
    assert_eq!(resolved("example.net", kind::A), "forward example.net behind 0");
}

#[test]
fn other_names_for_a_name_are_followed() {
    assert_eq!(resolved("www.corp.example", kind::A), "ok db.corp.example 10.0.0.9 10.0.0.10");
    assert_eq!(resolved("www.corp.example", kind::CNAME), "ok db.corp.example");
    assert_eq!(resolved("own.corp.example", kind::A), "ok ip-10-0-0-9.ec2.internal 10.0.0.9");
    assert_eq!(resolved("out.corp.example", kind::A), "forward example.org behind 1");
    assert_eq!(resolved("gone.corp.example", kind::A), "nxdomain no.db.corp.example soa corp.example 300");
    assert_eq!(resolved("loop.corp.example", kind::A), "servfail");
}

#[test]
fn private_records_need_host_names_switched_on() {
    let mut facts = facts();
    let mut vpc = (*facts.interface.vpc).clone();
    vpc.dns_hostnames = false;
    facts.interface.vpc = Arc::new(vpc);
    assert_eq!(resolved_in(&facts, "db.corp.example", kind::A), "forward db.corp.example behind 0");
    assert_eq!(resolved_in(&facts, "ip-10-0-0-9.ec2.internal", kind::A), "ok 10.0.0.9");
}

#[test]
fn what_is_not_answered() {
    let chaos = Query {
        question: message::Question { class: 3, ..query("version.bind", 16).question },
        ..query("a", 1)
    };
    let code = |query: &Query| match resolve(query, &facts(), &names()) {
        Resolution::Answered(response) => response.code,
        Resolution::Forward { .. } => 255,
    };
    assert_eq!(code(&chaos), rcode::REFUSED);
    assert_eq!(code(&query("corp.example", kind::AXFR)), rcode::REFUSED);
    assert_eq!(code(&Query { flags: 0, ..query("example.org", kind::A) }), rcode::REFUSED);
    let edns = Some(message::Edns { size: 512, dnssec: false, version: 1 });
    assert_eq!(code(&Query { edns, ..query("example.org", kind::A) }), rcode::BADVERS);
}

#[test]
fn a_long_answer_is_left_out_whole() {
    let answer =
        Answer { name: Name::parse("a.example").unwrap(), kind: kind::A, ttl_s: 1, data: vec![1, 2, 3, 4] };
    let response = Response { answers: vec![answer; 60], ..Response::default() };
    let short = response.write(&query("a.example", kind::A), 512);
    assert_eq!(message::read_answers(&short).unwrap(), (0, true, vec![]));
    let whole = response.write(&query("a.example", kind::A), 1232);
    assert_eq!(
        message::read_answers(&whole).map(|(_, truncated, all)| (truncated, all.len())),
        Some((false, 60))
    );
}
