//! An interface of this machine's kernel. Needs root; without, it says so and proves nothing.

use super::bridge::wait_for;
use std::net::UdpSocket;
use std::process::Command;
use vnet::link::tap::{SendError, Tap, TapError};
use vnet::span::Span;

const NAME: &str = "vnet-test0";

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("ip is there");
    assert!(done.success(), "ip {arguments:?}");
}

#[test]
fn a_name_that_is_none_is_refused() {
    for name in ["", "sixteen-bytes-xx", "a/b", "a b", "tap%d", "ä"] {
        assert!(matches!(Tap::open(name, 1), Err(TapError::Name(_))), "{name:?}");
    }
}

#[test]
fn the_kernel_sends_and_takes_packets_with_large_ones_whole() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a TAP needs root; nothing was tested");
        return;
    }
    let tap = Tap::open(NAME, 1).expect("made");
    assert_eq!(tap.name(), NAME);
    assert_eq!(tap.send(0, &[0; 12], &[0; 60], &[]), Err(SendError::Down));
    tap.start(1500).expect("started");
    // A network of its own, with a neighbour that is this test.
    let mac: [u8; 6] = [2, 0, 0, 0, 0, 9];
    ip(&["addr", "add", "198.18.77.1/30", "dev", NAME]);
    ip(&["neigh", "replace", "198.18.77.2", "lladdr", "02:00:00:00:00:09", "dev", NAME, "nud", "permanent"]);
    let socket = UdpSocket::bind("198.18.77.1:0").expect("bound");
    let port = socket.local_addr().expect("bound").port();
    // One call, 20 segments: with large UDP packets they come as one.
    let segment = 1000_i32;
    if tap.large_udp() {
        // SAFETY: an `int`, which lives through the call.
        let set = unsafe {
            use std::os::fd::AsRawFd;
            let value = std::ptr::from_ref(&segment).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, 4)
        };
        assert_eq!(set, 0);
        socket.send_to(&[7; 20_000], "198.18.77.2:9").expect("sent");
    } else {
        socket.send_to(&[7; 1000], "198.18.77.2:9").expect("sent");
    }
    let mut packet = vec![0; 65_536];
    let mut found = None;
    wait_for(|| {
        while let Ok(Some((header, length))) = tap.receive(0, &mut packet) {
            if packet[..6] == mac && packet[12..14] == [8, 0] && packet[23] == 17 {
                found = Some((header, length));
                return true;
            }
        }
        false
    });
    let (header, length) = found.expect("sent by the kernel");
    assert_eq!(length, if tap.large_udp() { 14 + 28 + 20_000 } else { 14 + 28 + 1000 });
    // VIRTIO_NET_HDR_F_NEEDS_CSUM; VIRTIO_NET_HDR_GSO_UDP_L4 with segments of 1000 bytes.
    assert_eq!(header[0] & 1, 1);
    if tap.large_udp() {
        assert_eq!((header[1], u16::from_le_bytes([header[4], header[5]])), (5, 1000));
    }
    // Back, in pieces, to the socket: addresses and ports changed about, the checksum still to be filled in.
    let mut answer = packet[..length].to_vec();
    let kernel: [u8; 6] = answer[6..12].try_into().expect("six bytes");
    answer[..6].copy_from_slice(&kernel);
    answer[6..12].copy_from_slice(&mac);
    for (one, other) in [(26, 30), (27, 31), (28, 32), (29, 33), (34, 36), (35, 37)] {
        answer.swap(one, other);
    }
    assert_eq!(u16::from_be_bytes([answer[36], answer[37]]), port);
    let (head, payload) = answer.split_at(42);
    let (first, second) = payload.split_at(payload.len() / 3);
    tap.send(0, &header, head, &[Span::from(first), Span::from(second)]).expect("taken");
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("set");
    let mut came = 0;
    let mut bytes = [0; 65_536];
    while came < payload.len() {
        let (length, from) = socket.recv_from(&mut bytes).expect("received");
        assert_eq!(from.to_string(), "198.18.77.2:9");
        assert!(bytes[..length].iter().all(|byte| *byte == 7));
        came += length;
    }
}

#[test]
fn several_queues() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a TAP needs root; nothing was tested");
        return;
    }
    let tap = Tap::open("vnet-test1", 4).expect("made");
    assert_eq!(tap.queues(), 4);
    assert!(tap.queue(3).is_some() && tap.queue(4).is_none());
}
