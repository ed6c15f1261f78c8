//! Nanoseconds a packet from one guest's ring to another's, no engine between: what the rings alone cost.
//!
//! `cargo run --release -p vnet --example rings_ns`. Only the switch's side is counted: the guests put their packets
//! in and take them out while the clock stands. Best and median of 31 runs: on a machine that does something else, the
//! best says what the code costs.

use std::path::Path;
use std::time::{Duration, Instant};
use vnet::virtio::front::{Front, FrontOptions};
use vnet::virtio::net::Batch;
use vnet::virtio::server::{Port, PortOptions};

const ROUNDS: usize = 20_000;

fn main() {
    let folder = std::env::temp_dir().join(format!("rings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    println!(
        "{:>6}  {:>7}  {:>9}  {:>8}  {:>8}  {:>8}",
        "bytes", "pieces", "indirect", "best ns", "median", "Gbit/s"
    );
    let small_only = std::env::args().any(|argument| argument == "small");
    for (bytes, pieces, indirect) in [
        (64, 1, false),
        (64, 2, false),
        (64, 2, true),
        (256, 1, false),
        (1500, 1, false),
        (1500, 2, true),
        (65_000, 2, true),
    ] {
        if small_only && (bytes, pieces) != (64, 1) {
            continue;
        }
        let [best, median] = measure(&folder, bytes, pieces, indirect);
        let gbit = bytes as f64 * 8.0 / best;
        println!("{bytes:>6}  {pieces:>7}  {indirect:>9}  {best:>8.1}  {median:>8.1}  {gbit:>8.1}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

fn measure(folder: &Path, bytes: usize, pieces: usize, indirect: bool) -> [f64; 2] {
    let slot = if bytes > 2000 { 65_536 + 512 } else { bytes.next_multiple_of(64) + 64 };
    let options = FrontOptions { slot, ..FrontOptions::default() };
    let (mut from, mut sender) = join(folder, "from", options);
    let (mut to, mut receiver) = join(folder, "to", options);
    receiver.calls_refuse(0);
    let packet = vec![0x5a; bytes];
    let mut batch = Batch::new();
    let mut arrived = Vec::new();
    let rounds = if bytes > 2000 { ROUNDS / 40 } else { ROUNDS };
    let mut runs: Vec<f64> = Vec::new();
    for _ in 0..31 {
        let mut spent = Duration::ZERO;
        let mut count = 0;
        for _ in 0..rounds / 10 {
            while sender.transmit(0, &[0; 12], &packet, pieces, indirect) {}
            sender.kick(0);
            let begin = Instant::now();
            let from = from.device().expect("connected");
            let to = to.device().expect("connected");
            loop {
                let taken = from.receive(0, &mut batch);
                if taken == 0 {
                    break;
                }
                let (packets, payloads) = batch.parts();
                for packet in packets {
                    to.send(0, &packet.header, packet.head(), payloads.of(packet)).expect("room");
                }
                count += taken;
                from.complete(&mut batch);
                from.flush();
                to.flush();
            }
            spent += begin.elapsed();
            sender.reclaim(0);
            while receiver.receive(0, &mut arrived).is_some() {
                assert_eq!(arrived.len(), bytes);
            }
            receiver.calls_refuse(0);
        }
        runs.push(spent.as_nanos() as f64 / count as f64);
    }
    runs.sort_by(f64::total_cmp);
    [runs[0], runs[runs.len() / 2]]
}

/// A port, and a guest at it.
fn join(folder: &Path, name: &str, options: FrontOptions) -> (Port, Front) {
    let path = folder.join(name);
    let mut port = Port::listen(&PortOptions { path: path.clone(), owner: None, pairs: 1 }).expect("a port");
    let front = std::thread::spawn(move || Front::connect(&path, options));
    let mut events = Vec::new();
    while !front.is_finished() {
        port.service(&mut events);
        std::thread::yield_now();
    }
    (port, front.join().expect("no panic").expect("connected"))
}
