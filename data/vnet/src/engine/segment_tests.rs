use super::*;
use crate::engine::coalesce::Merge;
use crate::packet::Mac;
use crate::packet::build::{Build, Transport};
use crate::packet::geneve;
use proptest::prelude::*;
use std::net::IpAddr;

fn large(ipv6: bool, tcp: bool, payload: Vec<u8>, flags: u8, options: Vec<u8>) -> Build {
    let address = |last: u8| -> IpAddr {
        match ipv6 {
            true => [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last].into(),
            false => [10, 0, 0, last].into(),
        }
    };
    let transport = match tcp {
        true => Transport::Tcp {
            ports: (1000, 80),
            sequence: u32::MAX - 2000,
            acknowledgement: 77,
            flags: tcp::ACK | flags,
            window: 1024,
            options,
        },
        false => Transport::Udp(1000, 443),
    };
    Build {
        ethernet: (Mac([2; 6]), Mac([4; 6])),
        source: address(1),
        destination: address(2),
        id: 0xfffe,
        transport,
        payload,
        ..Build::default()
    }
}

fn offload_of(build: &Build, headers: &Headers, gso_size: u16) -> Offload {
    let is_tcp = matches!(build.transport, Transport::Tcp { .. });
    Offload {
        needs_csum: true,
        gso: match (is_tcp, headers.ipv6) {
            (true, false) => Gso::Tcp4,
            (true, true) => Gso::Tcp6,
            (false, _) => Gso::Udp,
        },
        hdr_len: headers.payload,
        gso_size,
        csum_start: headers.l4,
        csum_offset: if is_tcp { 16 } else { 6 },
        ..Offload::NONE
    }
}

/// The packets that a cut makes.
fn pieces(cut: &Cut, payload: &[u8]) -> Vec<Vec<u8>> {
    let piece = |number| {
        let range = cut.range(number);
        let part = &payload[range.start as usize..range.end as usize];
        [cut.piece(number, Sum::of(part)).bytes(), part].concat()
    };
    (0..cut.count()).map(piece).collect()
}

fn is_right(frame: &[u8]) -> bool {
    let headers = parse(frame, frame.len() as u32).unwrap();
    let l4 = usize::from(headers.l4);
    let network = headers.ipv6 || Sum::of(&frame[14..l4]).is_intact();
    let payload = &frame[usize::from(headers.payload)..];
    network
        && headers.end as usize == frame.len()
        && (covered(frame, &headers) + Sum::of(payload)).is_intact()
}

/// What a merge makes of packets: heads with all payloads, and what is left to do.
fn merged(packets: &[Vec<u8>]) -> Vec<(Vec<u8>, Offload)> {
    let mut results = Vec::new();
    let mut current: Option<(Merge, Vec<u8>)> = None;
    let finish = |results: &mut Vec<_>, (merge, payload): (Merge, Vec<u8>)| {
        let (head, offload) = merge.finish();
        results.push(([head.bytes(), &payload[..]].concat(), offload));
    };
    for packet in packets {
        let length = packet.len() as u32;
        let at = usize::from(parse(packet, length).unwrap().payload);
        let (head, payload) = (&packet[..at.max(60).min(packet.len())], &packet[at..]);
        if let Some((merge, all)) = &mut current
            && merge.add(head, length, Sum::of(payload))
        {
            all.extend_from_slice(payload);
            continue;
        }
        if let Some(done) = current.take() {
            finish(&mut results, done);
        }
        match Merge::begin(head, length, Sum::of(payload)) {
            Some(merge) => current = Some((merge, payload.to_vec())),
            None => results.push((packet.clone(), Offload::NONE)),
        }
    }
    if let Some(done) = current {
        finish(&mut results, done);
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn put_together_is_what_was_cut(
        ipv6: bool,
        is_tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 1..20_000),
        size in 200u16..1500,
        push: bool,
        options in proptest::collection::vec(any::<u8>(), 0..40),
        outer: bool,
    ) {
        let build = large(ipv6, is_tcp, payload.clone(), if push { tcp::PSH } else { 0 }, options);
        let bytes = build.bytes_partial();
        let headers = parse(&bytes, bytes.len() as u32).unwrap();
        let offload = offload_of(&build, &headers, size);
        let front = if outer { vec![0xaa; geneve::LENGTH] } else { Vec::new() };
        let sent = [front.clone(), bytes.clone()].concat();
        let shifted = Offload { csum_start: offload.csum_start + front.len() as u16, ..offload };
        let cut = Cut::new(&sent[..sent.len().min(256)], front.len(), &shifted, sent.len() as u32).unwrap();
        prop_assert_eq!(cut.header(), front.len() + usize::from(headers.payload));
        let packets = pieces(&cut, &payload);
        prop_assert_eq!(packets.len(), payload.len().div_ceil(size.into()));
        let packets = packets.iter().map(|packet| {
            assert_eq!(&packet[..cut.inner()], front);
            packet[cut.inner()..].to_vec()
        });
        let packets = packets.collect::<Vec<_>>();
        prop_assert!(packets.iter().all(|packet| is_right(packet)));
        let results = merged(&packets);
        prop_assert_eq!(results.len(), 1);
        if packets.len() > 1 {
            prop_assert_eq!(&results[0], &(bytes, offload));
        } else {
            prop_assert_eq!(&results[0].0, &build.bytes());
        }
    }

    #[test]
    fn a_filled_in_checksum_is_that_of_the_whole(
        ipv6: bool, is_tcp: bool, payload in proptest::collection::vec(any::<u8>(), 0..600), cut in 60usize..200,
    ) {
        let build = large(ipv6, is_tcp, payload, 0, vec![1; 3]);
        let partial = build.bytes_partial();
        let headers = parse(&partial, partial.len() as u32).unwrap();
        let mut offload = Offload { gso: Gso::None, ..offload_of(&build, &headers, 0) };
        let (head, rest) = partial.split_at(cut.max(headers.payload.into()).min(partial.len()));
        let mut head = head.to_vec();
        complete(&mut head, &mut offload, Sum::of(rest));
        prop_assert!(!offload.needs_csum);
        prop_assert!(is_right(&[&head, rest].concat()));
    }
}

#[test]
fn flags_of_the_first_and_of_the_last() {
    let build = large(false, true, vec![1; 3000], tcp::CWR | tcp::FIN | tcp::PSH, Vec::new());
    let bytes = build.bytes_partial();
    let headers = parse(&bytes, bytes.len() as u32).unwrap();
    let offload = Offload { ecn: true, ..offload_of(&build, &headers, 1000) };
    let cut = Cut::new(&bytes[..100], 0, &offload, bytes.len() as u32).unwrap();
    let flags = pieces(&cut, &build.payload).iter().map(|piece| piece[47]).collect::<Vec<_>>();
    assert_eq!(flags, [tcp::ACK | tcp::CWR, tcp::ACK, tcp::ACK | tcp::FIN | tcp::PSH]);
    let ids = pieces(&cut, &build.payload).iter().map(|piece| [piece[18], piece[19]]).collect::<Vec<_>>();
    assert_eq!(ids, [[0xff, 0xfe], [0xff, 0xff], [0, 0]]);
}

#[test]
fn what_is_not_put_together() {
    let segment = |change: &dyn Fn(&mut Build)| {
        let mut build = large(false, true, vec![5; 1000], 0, vec![1; 12]);
        change(&mut build);
        build.bytes()
    };
    let second = |build: &mut Build| {
        build.id = 0xffff;
        if let Transport::Tcp { sequence, .. } = &mut build.transport {
            *sequence = sequence.wrapping_add(1000);
        }
    };
    let first = segment(&|_| {});
    let check = |name: &str, change: &dyn Fn(&mut Build), packets: usize| {
        let next = segment(&|build| {
            second(build);
            change(build);
        });
        assert_eq!(merged(&[first.clone(), next]).len(), packets, "{name}");
    };
    let tcp_with = |change: fn(&mut u32, &mut u8, &mut u16, &mut Vec<u8>)| {
        move |build: &mut Build| {
            if let Transport::Tcp { acknowledgement, flags, window, options, .. } = &mut build.transport {
                change(acknowledgement, flags, window, options);
            }
        }
    };
    check("the next", &|_| {}, 1);
    check("shorter", &|build| build.payload.truncate(10), 1);
    check("longer", &|build| build.payload.push(1), 2);
    check("another identification", &|build| build.id = 3, 2);
    check("the same identification", &|build| build.id = 0xfffe, 1);
    check("another hop limit", &|build| build.hop_limit = 3, 2);
    check("another MAC", &|build| build.ethernet.0 = Mac([8; 6]), 2);
    check("another sender", &|build| build.source = [10, 0, 0, 9].into(), 2);
    check("another acknowledgement", &tcp_with(|acknowledgement, _, _, _| *acknowledgement += 1), 2);
    check("another window", &tcp_with(|_, _, window, _| *window += 1), 2);
    check("other options", &tcp_with(|_, _, _, options| options[3] = 2), 2);
    check("the last", &tcp_with(|_, flags, _, _| *flags |= tcp::FIN | tcp::PSH), 1);
    check("a reset", &tcp_with(|_, flags, _, _| *flags |= tcp::RST), 2);
    check(
        "a gap",
        &|build| {
            if let Transport::Tcp { sequence, .. } = &mut build.transport {
                *sequence = sequence.wrapping_add(1);
            }
        },
        2,
    );
    let mut damaged = segment(&second);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    assert_eq!(merged(&[first.clone(), damaged.clone()])[1].0, damaged);
    // What comes after a shorter one begins anew.
    let short = segment(&|build| {
        second(build);
        build.payload.truncate(10);
    });
    let third = segment(&|build| {
        build.id = 0;
        if let Transport::Tcp { sequence, .. } = &mut build.transport {
            *sequence = sequence.wrapping_add(1010);
        }
    });
    assert_eq!(merged(&[first, short, third]).len(), 2);
}
