//! Packets of every size arrive as they were sent, in order, whatever was negotiated.

use super::bridge::Bridge;
use std::time::{Duration, Instant};
use vnet::virtio::feature;
use vnet::virtio::front::{Front, FrontOptions};

/// A packet of this number: any length from 15 bytes on, most of them short, its bytes told by the number.
pub fn packet(number: u64, longest: usize, into: &mut Vec<u8>) {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    random ^= random >> 29;
    let span = if random.is_multiple_of(8) { longest - 15 } else { 200.min(longest - 15) };
    let length = 15 + (random >> 8) as usize % (span + 1);
    into.clear();
    into.extend_from_slice(&number.to_le_bytes());
    into.resize(length, number as u8);
    if let Some(last) = into.last_mut() {
        *last = !(number as u8);
    }
}

/// From one guest to the other, and back at the same time.
fn check_carries(options: [FrontOptions; 2], count: u64, longest: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = [folder.path().join("a"), folder.path().join("b")];
    let pairs = options[0].pairs;
    let _bridge = Bridge::start([&paths[0], &paths[1]], pairs);
    let mut fronts = [0, 1].map(|at: usize| Front::connect(&paths[at], options[at]).expect("connected"));
    let (mut sent, mut received) = ([0_u64; 2], [0_u64; 2]);
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    let mut progress = Instant::now();
    while received != [count; 2] {
        let before = (sent, received);
        for at in 0..2 {
            let pair = |number: u64| (number / 64 % u64::from(pairs)) as usize;
            // No more than a round's pairs are under way, so that order among pairs is known.
            while sent[at] < count && sent[at] < received[1 - at] / 64 * 64 + 64 {
                let number = sent[at];
                packet(number, longest, &mut expected);
                let header = [0, 0, number as u8, 1, 2, 3, 4, 5, 6, 7, 0, 0];
                let pieces = 1 + (number % 8) as usize;
                let indirect = number.is_multiple_of(3) && fronts[at].features & feature::INDIRECT_DESC != 0;
                if !fronts[at].transmit(pair(number), &header, &expected, pieces, indirect) {
                    break;
                }
                sent[at] += 1;
            }
            for pair in 0..usize::from(pairs) {
                fronts[at].kick(pair);
                fronts[at].reclaim(pair);
            }
            let waiting = received[at];
            while let Some(header) = fronts[at].receive(pair(received[at]), &mut found) {
                packet(received[at], longest, &mut expected);
                assert!(
                    found == expected,
                    "packet {} is another: {:?}",
                    received[at],
                    found.first_chunk::<16>()
                );
                assert_eq!(header[..10], [0, 0, received[at] as u8, 1, 2, 3, 4, 5, 6, 7]);
                received[at] += 1;
            }
            if waiting == received[at] && received[at] < count && received != [0; 2] {
                let ring = pair(received[at]) * 2;
                fronts[at].called(ring, Duration::from_micros(200));
            }
        }
        if before != (sent, received) {
            progress = Instant::now();
        }
        assert!(
            progress.elapsed() < Duration::from_secs(10),
            "it stands still: {sent:?} sent, {received:?} received"
        );
    }
}

#[test]
fn a_million_packets_with_everything_negotiated() {
    check_carries([FrontOptions::default(); 2], 500_000, 1800);
}

#[test]
fn large_packets_lie_in_several_buffers() {
    // As large as they get, into buffers of 2 KiB: 33 each, of 256.
    let sends = FrontOptions { slot: 66_000, ring_size: 64, ..FrontOptions::default() };
    check_carries([sends, sends], 4_000, 65_535);
    let small = FrontOptions { slot: 1500, ..FrontOptions::default() };
    check_carries([small, small], 20_000, 1488);
    let tiny = FrontOptions { slot: 1536, ring_size: 1024, ..FrontOptions::default() };
    check_carries(
        [FrontOptions { slot: 66_000, ..tiny }, FrontOptions { slot: 66_000, ..tiny }],
        2_000,
        60_000,
    );
}

#[test]
fn without_event_indexes() {
    let without = FrontOptions::default().features & !feature::EVENT_IDX;
    check_carries([FrontOptions { features: without, ..FrontOptions::default() }; 2], 50_000, 1800);
}

#[test]
fn without_mergeable_buffers_and_indirect_tables() {
    let without = FrontOptions::default().features & !(feature::MRG_RXBUF | feature::INDIRECT_DESC);
    check_carries([FrontOptions { features: without, ..FrontOptions::default() }; 2], 50_000, 1800);
}

#[test]
fn without_protocol_features() {
    let without = FrontOptions::default().features & !feature::PROTOCOL_FEATURES;
    check_carries([FrontOptions { features: without, ..FrontOptions::default() }; 2], 20_000, 1800);
}

#[test]
fn four_pairs_of_queues() {
    check_carries([FrontOptions { pairs: 4, ..FrontOptions::default() }; 2], 50_000, 1800);
}

#[test]
fn rings_of_every_size() {
    for size in [8, 16, 32, 512, 1024] {
        let options = FrontOptions { ring_size: size, ..FrontOptions::default() };
        check_carries([options; 2], 5_000, 1800);
    }
}
