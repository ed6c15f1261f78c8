//! What the underlay costs over loopback: sending, and receiving, a packet; with the kernel cutting and joining and
//! without; and over how many source ports.
//!
//! `cargo run --release -p vnet --example uplink_ns`. One thread sends a batch and takes it in, so each side's time is
//! known. Best of 15 runs.

use std::net::IpAddr;
use std::time::{Duration, Instant};
use vnet::link::uplink::{Inbox, Outgoing, Uplink, UplinkOptions};
use vnet::span::Span;

const ROUNDS: usize = 300;

fn main() {
    println!("bytes  segments  source ports  kernel cuts  sent us  received us     Mpps   Gbit/s");
    for (bytes, segments, ports, cuts) in
        [(64, 1, 1, true), (64, 1, 16, true), (64, 1, 64, true), (1400, 40, 16, true), (1400, 40, 16, false)]
    {
        let [sent, received] = measure(bytes, segments, ports, cuts);
        let each = sent + received;
        let gbit = bytes as f64 * 8.0 / each / 1000.0;
        println!(
            "{bytes:>5}  {segments:>8}  {ports:>12}  {cuts:>11}  {sent:>7.3}  {received:>11.3}  {:>7.2}  {gbit:>7.1}",
            1.0 / each
        );
    }
}

/// Microseconds a packet: to send it, and to receive it.
fn measure(bytes: usize, segments: usize, source_ports: u16, segmentation: bool) -> [f64; 2] {
    let open = |address: &str| {
        let address: IpAddr = address.parse().expect("an address");
        let options = UplinkOptions { source_ports, segmentation, port: 0, ..UplinkOptions::new(address) };
        Uplink::open(&options).expect("open")
    };
    let (mut from, mut to) = (open("127.77.0.1"), open("127.77.0.2"));
    let target = to.local().expect("bound");
    let content = vec![0x5a; bytes * segments];
    let spans = [Span::from(&content[..])];
    let count = if segments > 1 { 8 } else { 64 };
    let segment = (segments > 1).then_some(bytes as u16);
    let datagrams: Vec<Outgoing<'_>> = (0..count)
        .map(|flow: u32| Outgoing {
            to: target,
            flow: flow.wrapping_mul(0x9e37_79b9),
            segment,
            spans: &spans,
        })
        .collect();
    let mut inbox = Inbox::new();
    let mut best = [f64::MAX; 2];
    let mut failed = Vec::new();
    for _ in 0..15 {
        let (mut sending, mut receiving, mut packets) = (Duration::ZERO, Duration::ZERO, 0);
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            from.send(&datagrams, &mut failed);
            sending += begin.elapsed();
            assert!(failed.is_empty(), "{failed:?}");
            let begin = Instant::now();
            while to.receive(&mut inbox).expect("received") > 0 {
                packets += inbox.datagrams().map(|arrived| arrived.segments().count()).sum::<usize>();
            }
            receiving += begin.elapsed();
        }
        assert_eq!(packets, ROUNDS * count as usize * segments, "some were lost");
        let each = [sending, receiving].map(|time| time.as_secs_f64() * 1e6 / packets as f64);
        for (best, each) in best.iter_mut().zip(each) {
            *best = best.min(each);
        }
    }
    best
}
