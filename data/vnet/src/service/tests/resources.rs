//! The metadata service over the wire: cloud-init's crawl, connections of all kinds.

use super::guest::{Guest, read_response};
use super::*;
use std::collections::BTreeMap;

const V4: &str = "169.254.169.254:80";

/// What cloud-init's EC2 data source does (22.1 and later): a token, the newest version that it knows, user data, then
/// the whole tree by its listings, then the identity document.
struct CloudInit {
    guest: Guest,
    token: String,
    requests: u32,
}

impl CloudInit {
    fn get(&mut self, path: &str) -> Option<String> {
        let headers =
            format!("X-aws-ec2-metadata-token: {}\r\nUser-Agent: Cloud-Init/22.4.2\r\n", self.token);
        self.requests += 1;
        // A second's bound on packets is not what is tested here.
        self.guest.wait_ns(100_000_000);
        match self.guest.get_at(V4, path, &headers)? {
            (200, body) => Some(String::from_utf8_lossy(&body).into_owned()),
            (404, _) => None,
            (status, _) => panic!("{path}: {status}"),
        }
    }

    fn materialize(&mut self, url: &str, blob: &str, found: &mut BTreeMap<String, String>) {
        for field in blob.lines().filter(|field| !field.is_empty()) {
            if let Some(child) = field.strip_suffix('/') {
                let url = format!("{url}{child}/");
                let blob = self.get(&url).unwrap_or_else(|| panic!("{url} is listed and absent"));
                self.materialize(&url, &blob, found);
                continue;
            }
            let (name, resource) = match field.split_once('=') {
                Some((number, name)) if number.parse::<u32>().is_ok() => {
                    (name, format!("{number}/openssh-key"))
                }
                _ => (field, field.to_owned()),
            };
            let leaf = self.get(&format!("{url}{resource}"));
            found.insert(
                format!("{url}{name}"),
                leaf.unwrap_or_else(|| panic!("{url}{resource} is listed and absent")),
            );
        }
    }
}

#[test]
fn cloud_init_crawls_the_tree() {
    let mut guest = Guest::new();
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
    let (status, token) = guest.request_at(V4, "PUT /latest/api/token", ttl).unwrap();
    assert_eq!(status, 200);
    let mut client = CloudInit { guest, token: String::from_utf8(token).unwrap(), requests: 0 };
    let version = ["2021-03-23", "2018-09-24", "2016-09-02"]
        .into_iter()
        .find(|version| client.get(&format!("/{version}/meta-data/instance-id")).is_some());
    assert_eq!(version, Some("2021-03-23"));
    assert!(client.get("/2021-03-23/user-data").unwrap().starts_with("#!/bin/sh\n"));
    let mut found = BTreeMap::new();
    let root = "/2021-03-23/meta-data/";
    let blob = client.get(root).unwrap();
    client.materialize(root, &blob, &mut found);
    let identity = client.get("/2021-03-23/dynamic/instance-identity").unwrap();
    client.materialize("/2021-03-23/dynamic/instance-identity/", &identity, &mut found);
    let value = |path: &str| found.get(&format!("{root}{path}")).map(String::as_str);
    assert_eq!(value("instance-id"), Some("i-0123456789abcdef0"));
    assert_eq!(value("local-hostname"), Some("ip-10-0-0-5.ec2.internal"));
    assert_eq!(value("placement/availability-zone"), Some("us-east-1a"));
    assert_eq!(value("public-keys/my-key"), Some("ssh-ed25519 AAAA my-key"));
    assert_eq!(value("tags/instance/Name"), Some("web 1"));
    let interface = "network/interfaces/macs/02:00:00:00:00:05";
    assert_eq!(value(&format!("{interface}/local-ipv4s")), Some("10.0.0.5\n10.0.0.6"));
    assert_eq!(value(&format!("{interface}/ipv4-associations/198.51.100.7")), Some("10.0.0.5"));
    assert!(client.requests > 50);
    // Nothing is left behind.
    while client.guest.step(60_000_000_000) {}
    assert_eq!(client.guest.services.next_ns(), None);
}

#[test]
fn a_token_s_answer_does_not_travel_far() {
    let mut guest = Guest::new();
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    guest.request_at(V4, "PUT /latest/api/token", ttl).unwrap();
    assert_eq!(std::mem::take(&mut guest.hop_limits), [2]);
    assert_eq!(guest.get_at(V4, "/", "").unwrap().0, 401);
    assert_eq!(guest.hop_limits, [64]);
    assert_eq!(guest.get_at("[fd00:ec2::254]:80", "/", "").unwrap().0, 401);

    // Not even a packet of it that has to be sent again, with another request right behind.
    let request = "PUT /latest/api/token HTTP/1.1\r\nHost: a\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    guest.lost_percent = 10;
    let both = |bytes: &[u8]| {
        read_response(bytes).is_some_and(|(.., first)| read_response(&bytes[first..]).is_some())
    };
    let mut sent_again = 0;
    for _ in 0..40 {
        guest.hop_limits.clear();
        assert!(guest.exchange(V4, request.as_bytes(), both).is_some());
        let limits = &guest.hop_limits;
        let token_packets = limits.iter().take_while(|limit| **limit == 2).count();
        assert!(token_packets > 0 && limits[token_packets..].iter().all(|limit| *limit == 64), "{limits:?}");
        sent_again += token_packets - 1;
    }
    assert!(sent_again > 0);
}

#[test]
fn connections_that_are_closed_at_once_leave_room_for_more() {
    let mut guest = Guest::new();
    let before = guest.now_ns;
    for _ in 0..100 {
        assert_eq!(guest.get_at(V4, "/", "Connection: close\r\n").unwrap().0, 401);
    }
    assert!(guest.now_ns - before < 60_000_000_000);
    assert_eq!(guest.counted(Service::Metadata).1, [].into());
}

#[test]
fn a_connection_takes_requests_one_after_the_other() {
    let mut guest = Guest::new();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = get("/").repeat(100) + "HEAD / HTTP/1.0\r\n\r\n";
    let count = |mut bytes: &[u8]| {
        let mut responses = 0;
        while let Some((_, _, length)) = read_response(bytes) {
            responses += 1;
            bytes = &bytes[length..];
        }
        responses
    };
    let received = guest.exchange(V4, text.as_bytes(), |_| false).unwrap();
    assert_eq!(count(&received), 100);
    assert!(received.ends_with(b"Connection: close\r\n\r\n"));
}

#[test]
fn large_user_data_survives_a_link_that_loses() {
    for lost_percent in [0, 5, 10, 20] {
        let mut guest = Guest::new();
        guest.lost_percent = lost_percent;
        let mut instance = (**guest.facts.instance.as_ref().unwrap()).clone();
        instance.user_data = (0..16_384u32).map(|at| (at % 251) as u8).collect();
        instance.options.tokens_required = false;
        let expected = instance.user_data.clone();
        guest.facts.instance = Some(Arc::new(instance));
        let got = guest.get_at(V4, "/latest/user-data", "");
        assert!(got == Some((200, expected)), "{lost_percent} % lost: {:?}", got.map(|(_, body)| body.len()));
    }
}

#[test]
fn a_request_is_answered_although_its_sender_says_no_more() {
    let mut guest = Guest::new();
    let handle = guest.connect(V4);
    while !guest.socket(handle).may_send() && guest.step(1_000_000_000) {}
    guest.socket(handle).send_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    guest.socket(handle).close();
    let mut received = Vec::new();
    while guest.step(1_000_000_000) {
        let socket = guest.socket(handle);
        while socket.can_recv() {
            let _ = socket.recv(|bytes| (bytes.len(), received.extend(&*bytes)));
        }
    }
    assert_eq!(read_response(&received).unwrap().0, 401);
}

#[test]
fn bad_requests_are_answered_and_closed() {
    let mut guest = Guest::new();
    let received = guest.exchange(V4, b"NONSENSE\r\n\r\n", |_| false).unwrap();
    assert_eq!(read_response(&received).unwrap().0, 400);
    let received = guest.exchange(V4, &[b'a'; 20_000], |_| false).unwrap();
    assert_eq!(read_response(&received).unwrap().0, 431);
}

/// A first packet of a connection, which nothing follows.
fn syn(source_port: u16) -> Vec<u8> {
    let mut segment = source_port.to_be_bytes().to_vec();
    segment.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let addresses = ("10.0.0.5".parse().unwrap(), "169.254.169.254".parse().unwrap());
    wire::ip_frame((ROUTER, GUEST), addresses, protocol::TCP, 64, &segment)
}

#[test]
fn a_flood_of_first_packets_keeps_nobody_out() {
    let mut guest = Guest::new();
    for port in 0..500 {
        let frame = syn(1_000 + port);
        // Its checksum is the card's to make.
        let now = guest.now();
        let effects =
            guest.services.handle(now, guest.port, &frame, Checksums::Trusted, &guest.facts, &guest.names);
        assert_eq!(effects.len(), 1);
    }
    assert_eq!(guest.get_at(V4, "/", "").unwrap().0, 401);
    guest.wait_ns(60_000_000_000);
    let replies = guest.poll();
    assert!(replies.len() <= tcp::CONNECTIONS_MAX);
    assert_eq!(guest.services.next_ns(), None);
}

#[test]
fn connections_are_bounded_and_idle_ones_end() {
    let mut guest = Guest::new();
    let handles: Vec<_> = (0..tcp::CONNECTIONS_MAX).map(|_| guest.connect(V4)).collect();
    while guest.step(100_000_000) {}
    assert!(handles.iter().all(|handle| guest.socket(*handle).may_send()));
    // All are in use: one more waits, until those have been silent for too long.
    let before = guest.now_ns;
    assert_eq!(guest.get_at(V4, "/", "").unwrap().0, 401);
    assert!(guest.now_ns - before > 20_000_000_000);
    assert!(guest.counted(Service::Metadata).1[&Ignored::Full] > 1);
    assert!(handles.iter().all(|handle| !guest.socket(*handle).is_open()));
}

#[test]
fn a_port_that_is_taken_again_begins_anew() {
    let mut guest = Guest::new();
    for _ in 0..3 {
        guest.last_port = 50_000;
        let before = guest.now_ns;
        assert_eq!(guest.get_at(V4, "/", "Connection: close\r\n").unwrap().0, 401);
        assert!(guest.now_ns - before < 1_000_000_000);
    }
}

#[test]
fn a_packet_of_no_connection_is_reset() {
    let mut guest = Guest::new();
    let mut frame = syn(1_000);
    frame[14 + 20 + 13] = 0x10;
    let now = guest.now();
    let effects =
        guest.services.handle(now, guest.port, &frame, Checksums::Trusted, &guest.facts, &guest.names);
    let [Effect::Reply(_, reply)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(reply[14 + 20 + 13] & 0x04, 0x04);
    assert_eq!(guest.services.next_ns(), None);
}
