//! The resolver over the wire, and what goes on to the host's resolvers.

use super::super::testing::Names;
use super::guest::{Guest, read_datagram};
use super::*;
use crate::service::facts::Record;
use dns::forward::Transport;
use message::{Answer, Edns, Name, Query, Response, kind, rcode};

const SOURCE: &str = "10.0.0.5:5353";
const RESOLVER: &str = "10.0.0.2:53";

pub fn query(name: &str, kind: u16) -> Vec<u8> {
    query_with(name, kind, None)
}

fn query_with(name: &str, kind: u16, edns: Option<Edns>) -> Vec<u8> {
    let question = message::Question { name: Name::parse(name).unwrap(), kind, class: 1 };
    message::write_query(0x1234, &question, 0, edns)
}

fn asked(guest: &mut Guest) -> Vec<Question> {
    let asked = guest.effects.drain(..).filter_map(|effect| match effect {
        Effect::Ask(question) => Some(question),
        _ => None,
    });
    asked.collect()
}

/// What another resolver says: addresses for whatever is asked.
fn answer_to(question: &Question, addresses: &[[u8; 4]]) -> Vec<u8> {
    let query: Query = message::read_query(&question.message).unwrap();
    let name = query.question.name.clone();
    let answer = |data: &[u8; 4]| Answer { name: name.clone(), kind: kind::A, ttl_s: 5, data: data.to_vec() };
    Response { answers: addresses.iter().map(answer).collect(), ..Response::default() }.write(&query, 65_535)
}

fn answers(message: &[u8]) -> (u16, u8, usize) {
    let (code, _, answers) = message::read_answers(message).unwrap();
    (u16::from_be_bytes([message[0], message[1]]), code, answers.len())
}

fn answered(guest: &mut Guest, token: u64, message: &[u8]) -> Vec<Vec<u8>> {
    let now = guest.now();
    let effects = guest.services.answered(now, token, message);
    guest.sort(effects)
}

#[test]
fn own_names_are_answered_at_every_address() {
    let mut guest = Guest::new();
    for address in [RESOLVER, "169.254.169.253:53"] {
        let replies = guest.udp(SOURCE, address, &query("ip-10-0-0-9.ec2.internal", kind::A));
        assert_eq!((replies[0].0, answers(&replies[0].1)), (SOURCE.parse().unwrap(), (0x1234, 0, 1)));
    }
    let replies =
        guest.udp("[2600:1f18::5]:9", "[fd00:ec2::253]:53", &query("ip-10-0-0-9.ec2.internal", kind::A));
    assert_eq!(answers(&replies[0].1), (0x1234, 0, 1));
    assert!(guest.effects.is_empty());
}

#[test]
fn what_is_no_query_is_told_so() {
    let mut guest = Guest::new();
    let mut code = |bytes: &[u8]| guest.udp(SOURCE, RESOLVER, bytes).first().map(|(_, reply)| reply[3] & 15);
    let good = query("a.example", kind::A);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(code(&good[..11]), None);
    assert_eq!(code(&changed(2, 0x80)), None);
    assert_eq!(code(&changed(2, 0x28)), Some(rcode::NOTIMP));
    assert_eq!(code(&changed(5, 2)), Some(rcode::FORMERR));
    assert_eq!(code(&changed(12, 0xc0)), Some(rcode::FORMERR));
    assert_eq!(code(&good[..good.len() - 1]), Some(rcode::FORMERR));
}

#[test]
fn other_names_go_to_the_host_s_resolvers() {
    let mut guest = Guest::new();
    let edns = Some(Edns { size: 4096, dnssec: true, version: 0 });
    assert!(guest.udp(SOURCE, RESOLVER, &query_with("Example.ORG", kind::A, edns)).is_empty());
    let questions = asked(&mut guest);
    let [question] = questions.as_slice() else { panic!() };
    let sent = message::read_query(&question.message).unwrap();
    assert_eq!((question.transport, question.resolver), (Transport::Udp, 0));
    assert_ne!(sent.id, 0x1234);
    assert_eq!(sent.edns, Some(Edns { size: 1232, dnssec: true, version: 0 }));
    // What is not the answer changes nothing: another id, another name, another socket, a query.
    let good = answer_to(question, &[[192, 0, 2, 1]]);
    for at in [0, 2, 13, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= if at == 13 { 1 } else { 0x80 };
        let taken = answered(&mut guest, question.token, &bad);
        assert_eq!(taken.is_empty(), at != good.len() - 1, "byte {at}");
        if !taken.is_empty() {
            assert_eq!(guest.services.waiting(), 0);
        }
    }
    assert!(answered(&mut guest, question.token, &good).is_empty());

    guest.effects.clear();
    assert!(guest.udp(SOURCE, RESOLVER, &query("Example.ORG", kind::A)).is_empty());
    let question = asked(&mut guest).remove(0);
    assert!(answered(&mut guest, question.token + 1, &answer_to(&question, &[])).is_empty());
    let mut good = answer_to(&question, &[[192, 0, 2, 1]]);
    good[13..20].make_ascii_lowercase();
    let replies = answered(&mut guest, question.token, &good);
    let (to, reply) = read_datagram(&replies[0]);
    assert_eq!((to, answers(&reply)), (SOURCE.parse().unwrap(), (0x1234, 0, 1)));
    assert_eq!(&reply[13..20], b"Example");
    assert_eq!(guest.effects, [Effect::Forget(question.token)]);
    assert_eq!(guest.services.next_ns(), None);
}

#[test]
fn a_silent_resolver_is_passed_over_and_then_given_up() {
    let mut guest = Guest::new();
    assert!(guest.udp(SOURCE, RESOLVER, &query("example.org", kind::A)).is_empty());
    let first = asked(&mut guest).remove(0);
    let mut last = first.clone();
    for resolver in 1..3 {
        guest.now_ns = guest.services.next_ns().unwrap();
        let effects = guest.poll();
        let [Effect::Forget(token), Effect::Ask(next)] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!((*token, next.resolver), (last.token, resolver));
        assert_ne!(next.message[..2], last.message[..2]);
        last = next.clone();
    }
    // A failed socket is passed over at once, and this was the last.
    let now = guest.now();
    let effects = guest.services.failed(now, last.token);
    let [Effect::Reply(_, frame)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(answers(&read_datagram(frame).1), (0x1234, rcode::SERVFAIL, 0));
    assert!(guest.services.failed(now, first.token).is_empty());
    assert_eq!((guest.services.waiting(), guest.services.next_ns()), (0, None));
}

#[test]
fn an_answer_for_a_port_that_is_gone_reaches_nobody() {
    let mut guest = Guest::new();
    assert!(guest.udp(SOURCE, RESOLVER, &query("example.org", kind::A)).is_empty());
    let question = asked(&mut guest).remove(0);
    assert_eq!(guest.services.forget(guest.port), [Effect::Forget(question.token)]);
    assert!(answered(&mut guest, question.token, &answer_to(&question, &[])).is_empty());
    assert_eq!((guest.services.waiting(), guest.services.next_ns()), (0, None));
}

#[test]
fn questions_under_way_are_bounded_for_each_port() {
    let mut guest = Guest::new();
    let replies = (0..300).flat_map(|_| guest.udp(SOURCE, RESOLVER, &query("example.org", kind::A)));
    let replies: Vec<_> = replies.collect();
    assert_eq!(replies.len(), 300 - dns::forward::WAITING_PER_PORT_MAX as usize);
    assert!(replies.iter().all(|(_, reply)| answers(reply).1 == rcode::SERVFAIL));
    for question in asked(&mut guest) {
        assert_eq!(answered(&mut guest, question.token, &answer_to(&question, &[])).len(), 1);
    }
    assert!(guest.udp(SOURCE, RESOLVER, &query("example.org", kind::A)).is_empty());
}

#[test]
fn a_private_name_that_leads_out_is_answered_whole() {
    let mut guest = Guest::new();
    let data = vec![Name::parse("example.org").unwrap().wire().to_vec()];
    let record = Record { kind: kind::CNAME, ttl_s: 60, data };
    guest.names = Names { records: [("out.corp.example".into(), vec![record])].into() };
    assert!(guest.udp(SOURCE, RESOLVER, &query("out.corp.example", kind::A)).is_empty());
    let question = asked(&mut guest).remove(0);
    let sent = message::read_query(&question.message).unwrap();
    assert_eq!(sent.question.name.text().as_deref(), Some("example.org"));
    let replies =
        answered(&mut guest, question.token, &answer_to(&question, &[[192, 0, 2, 1], [192, 0, 2, 2]]));
    let (_, reply) = read_datagram(&replies[0]);
    assert_eq!(answers(&reply), (0x1234, 0, 3));
    let (_, _, records) = message::read_answers(&reply).unwrap();
    let names: Vec<_> = records.iter().map(|record| record.name.text().unwrap()).collect();
    assert_eq!(names, ["out.corp.example", "example.org", "example.org"]);
}

#[test]
fn an_answer_that_is_too_long_comes_by_tcp() {
    let mut guest = Guest::new();
    assert!(guest.udp(SOURCE, RESOLVER, &query("example.org", kind::A)).is_empty());
    let question = asked(&mut guest).remove(0);
    let replies = answered(&mut guest, question.token, &answer_to(&question, &[[192, 0, 2, 1]; 60]));
    let (_, reply) = read_datagram(&replies[0]);
    assert_eq!((reply[2] & 2, answers(&reply)), (2, (0x1234, 0, 0)));

    // Two queries on one connection: one that goes on, one that does not, answered first.
    let handle = guest.connect(RESOLVER);
    while !guest.socket(handle).may_send() && guest.step(1_000_000_000) {}
    let mut stream = Vec::new();
    for name in ["example.org", "ip-10-0-0-9.ec2.internal"] {
        let query = query(name, kind::A);
        stream.extend((query.len() as u16).to_be_bytes());
        stream.extend(query);
    }
    for piece in stream.chunks(7) {
        guest.socket(handle).send_slice(piece).unwrap();
        while guest.step(1_000_000) {}
    }
    // The client says no more, and is still answered.
    guest.socket(handle).close();
    while guest.step(100_000_000) {}
    let questions = asked(&mut guest);
    assert_eq!((questions.len(), questions[0].transport), (1, Transport::Tcp));
    let frames = answered(&mut guest, questions[0].token, &answer_to(&questions[0], &[[192, 0, 2, 1]; 60]));
    guest.hear(frames);
    while guest.step(1_000_000_000) {}
    let mut received = Vec::new();
    let socket = guest.socket(handle);
    while socket.can_recv() {
        let _ = socket.recv(|bytes| (bytes.len(), received.extend(&*bytes)));
    }
    let mut counts = Vec::new();
    let mut rest = received.as_slice();
    while let Some((length, more)) = rest.split_first_chunk::<2>() {
        let (message, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
        counts.push(answers(message));
        rest = more;
    }
    assert_eq!(counts, [(0x1234, 0, 1), (0x1234, 0, 60)]);
    while guest.step(60_000_000_000) {}
    assert_eq!(guest.services.next_ns(), None);
}
