//! Guests and front ends that do what none may.

use super::bridge::{listen, wait_for};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::Write;
use std::os::unix::net::UnixStream;
use vnet::virtio::front::{Front, FrontOptions};
use vnet::virtio::message::{Header, Request};
use vnet::virtio::net::{Batch, SendError};
use vnet::virtio::queue::RingError;
use vnet::virtio::ring::Descriptor;
use vnet::virtio::server::{ConnectionError, Port, PortEvent};

/// So many values, drawn from a seed that is always the same; what they are tried on keeps its state.
fn for_each<S: Strategy>(count: usize, strategy: &S, mut happens: impl FnMut(S::Value)) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..count {
        happens(strategy.new_tree(&mut runner).expect("a value").current());
    }
}

fn connect(port: &mut Port) -> Front {
    let path = port.path().to_path_buf();
    let front =
        std::thread::spawn(move || Front::connect(&path, FrontOptions::default()).expect("connected"));
    let mut events = Vec::new();
    wait_for(|| {
        port.service(&mut events);
        front.is_finished()
    });
    front.join().expect("no panic")
}

#[test]
fn a_broken_ring_stands_still_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut port = listen(&folder.path().join("port"), 1);
    let mut front = connect(&mut port);
    let [descriptors, ..] = front.ring_at(1).expect("a ring");
    assert!(front.transmit(0, &[0; 12], &[1; 60], 1, false));
    let outside = Descriptor { address: 0x10, length: 100, flags: 0, next: 0 };
    let (low, high) = outside.to_words();
    for at in 0..256 {
        front.poke(descriptors + at * 16, &[low.to_le_bytes(), high.to_le_bytes()].concat());
    }
    front.kick(0);
    let device = port.device().expect("connected");
    let mut batch = Batch::new();
    assert_eq!(device.receive(0, &mut batch), 0);
    assert_eq!(device.ring_error(1), Some(RingError::Buffer(0x10)));
    assert_eq!(device.pairs(), 0);
    assert_eq!(device.receive(0, &mut batch), 0);
    assert_eq!(device.counters().broken, 1);
    // What it receives by is whole.
    device.send(0, &[0; 12], &[1; 60], &[]).expect("sent");
    device.flush();
    assert!(front.receive(0, &mut Vec::new()).is_some());
}

/// Rings full of chains as long as the ring, of buffers without a byte.
#[test]
fn empty_buffers_without_end_cost_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut port = listen(&folder.path().join("port"), 1);
    let front = connect(&mut port);
    for ring in 0..2 {
        let [descriptors, available, _] = front.ring_at(ring).expect("a ring");
        for at in 0..256_u64 {
            let (write, next) = (2 - 2 * ring as u16, u16::from(at < 255));
            let empty = Descriptor { address: 0, length: 0, flags: write | next, next: at as u16 + 1 };
            let (low, high) = empty.to_words();
            front.poke(descriptors + at * 16, &[low.to_le_bytes(), high.to_le_bytes()].concat());
            front.poke(available + 4 + at * 2, &[0, 0]);
        }
        front.poke(available + 2, &256_u16.to_le_bytes());
    }
    let device = port.device().expect("connected");
    let mut batch = Batch::new();
    assert_eq!(device.receive(0, &mut batch), 0);
    // 4 chains of 256 were a batch.
    assert_eq!(device.counters().malformed, 4);
    assert_eq!(device.send(0, &[0; 12], &[1; 60], &[]), Err(SendError::NoBuffer));
    assert_eq!(device.ring_error(0), None);
}

#[test]
fn a_guest_may_write_anything_anywhere_in_its_rings() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut port = listen(&folder.path().join("port"), 1);
    let mut front = connect(&mut port);
    let mut batch = Batch::new();
    let writes = prop::collection::vec(
        (0_usize..2, 0_usize..3, 0_u64..520, prop::collection::vec(any::<u8>(), 1..40)),
        1..20,
    );
    for_each(300, &writes, |writes| {
        for (ring, part, offset, bytes) in &writes {
            let start = front.ring_at(*ring).expect("a ring")[*part];
            front.poke(start + offset, bytes);
        }
        let device = port.device().expect("connected");
        for _ in 0..4 {
            device.receive(0, &mut batch);
            device.complete(&mut batch);
            let _ = device.send(0, &[0; 12], &[1; 200], &[]);
            device.flush();
            device.kicks_ask();
        }
        // Begun anew, or the first error would be the last.
        let restarted = std::thread::scope(|scope| {
            let front = &mut front;
            let thread = scope.spawn(move || {
                for ring in 0..2 {
                    front.ring_stop(ring)?;
                    front.ring_start(ring as usize)?;
                }
                std::io::Result::Ok(())
            });
            let mut events = Vec::new();
            wait_for(|| {
                port.service(&mut events);
                thread.is_finished()
            });
            thread.join().expect("no panic")
        });
        restarted.expect("restarted");
    });
}

/// Says something to a port, and hears why it hung up.
fn check_hangs_up(port: &mut Port, say: impl FnOnce(&mut UnixStream)) -> ConnectionError {
    let mut stream = UnixStream::connect(port.path()).expect("connected");
    say(&mut stream);
    let mut events = Vec::new();
    let gone = |event: &PortEvent| matches!(event, PortEvent::Disconnected(Some(_)));
    wait_for(|| {
        port.service(&mut events);
        events.iter().any(gone)
    });
    let why = events.into_iter().find_map(|event| match event {
        PortEvent::Disconnected(why) => why,
        _ => None,
    });
    why.expect("a reason")
}

#[test]
fn a_front_end_that_talks_nonsense_is_hung_up_on_and_a_good_one_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut port = listen(&folder.path().join("port"), 1);
    let nonsense = check_hangs_up(&mut port, |stream| stream.write_all(&[0xff; 64]).expect("said"));
    assert!(matches!(nonsense, ConnectionError::Message(_)));
    let said = |request: Request<u8>| {
        let (request, payload, _) = request.encode();
        Header { request, reply: false, need_reply: false, size: payload.len() }.encode(&payload)
    };
    let without = check_hangs_up(&mut port, |stream| {
        let kick = said(Request::SetVringKick { index: 0, kick: None });
        stream.write_all(&kick).expect("said");
    });
    assert!(matches!(without, ConnectionError::Session(_)));
    let unread = check_hangs_up(&mut port, |stream| {
        // Questions without end, and no answer read.
        let question = said(Request::GetFeatures).repeat(64);
        stream.set_nonblocking(true).expect("set");
        for _ in 0..2000 {
            if stream.write(&question).is_err() {
                break;
            }
        }
        std::mem::forget(stream.try_clone().expect("duplicated"));
    });
    assert!(matches!(unread, ConnectionError::NotReading), "{unread:?}");
    let mut front = connect(&mut port);
    port.send(0, &[0; 12], &[1; 60], &[]).expect("served");
    port.device().expect("connected").flush();
    assert!(front.receive(0, &mut Vec::new()).is_some());
}

#[test]
fn any_bytes_on_the_socket_are_borne() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut port = listen(&folder.path().join("port"), 2);
    let said =
        prop::collection::vec((0_u32..40, any::<bool>(), prop::collection::vec(any::<u8>(), 0..64)), 0..12);
    for_each(500, &said, |said| {
        let mut stream = UnixStream::connect(port.path()).expect("connected");
        let mut events = Vec::new();
        for (request, need_reply, payload) in said {
            let header = Header { request, reply: false, need_reply, size: payload.len() };
            if stream.write_all(&header.encode(&payload)).is_err() {
                break;
            }
            port.service(&mut events);
        }
        drop(stream);
        let gone = |event: &PortEvent| matches!(event, PortEvent::Disconnected(_));
        wait_for(|| {
            port.service(&mut events);
            events.iter().any(gone)
        });
    });
}
