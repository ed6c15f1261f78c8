//! A patch cable between two guests: `cargo run --release -p vnet --example patch SOCKET SOCKET`.
//!
//! ```text
//! qemu-system-x86_64 ... -object memory-backend-memfd,id=memory,size=256M,share=on -machine q35,memory-backend=memory \
//!   -chardev socket,id=card,path=SOCKET,reconnect=1 -netdev vhost-user,id=net,chardev=card \
//!   -device virtio-net-pci,netdev=net,vectors=0,romfile=
//! ```
//! (`vectors=0` under TCG only: QEMU 7.2 crashes there with MSI-X.) It prints what happens at the ports, and what has
//! gone through when it is stopped for a second. Kill it and start it again: the guests' connections go on.

use std::path::PathBuf;
use vnet::virtio::net::Batch;
use vnet::virtio::server::{Port, PortEvent, PortOptions};

fn main() {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Ok([one, other]) = <[PathBuf; 2]>::try_from(paths) else {
        eprintln!("usage: patch SOCKET SOCKET");
        std::process::exit(2);
    };
    let mut ports = [one, other].map(|path| {
        Port::listen(&PortOptions { path, owner: None, pairs: 2 }).unwrap_or_else(|error| {
            eprintln!("{error}");
            std::process::exit(1);
        })
    });
    let mut batch = Batch::new();
    let mut events = Vec::new();
    let mut counts = Counts::default();
    let mut said = counts;
    loop {
        for (at, port) in ports.iter_mut().enumerate() {
            port.service(&mut events);
            for event in events.drain(..).filter(|event| !matches!(event, PortEvent::Kicked(_))) {
                let device = port.device();
                let state = device.map(|device| (device.pairs(), device.offloads(), device.counters()));
                println!("port {at}: {event:?} {state:?}");
            }
        }
        let mut moved = 0;
        let [one, other] = &mut ports;
        for pair in 0..2 {
            moved += counts.carry(one, other, pair, &mut batch);
            moved += counts.carry(other, one, pair, &mut batch);
        }
        let more =
            ports.iter_mut().filter_map(Port::device).fold(false, |more, device| device.kicks_ask() | more);
        if moved > 0 || more {
            continue;
        }
        let flags = rustix::event::PollFlags::IN;
        let mut fds = ports.each_ref().map(|port| rustix::event::PollFd::new(port, flags));
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        if rustix::event::poll(&mut fds, Some(&second)) == Ok(0) && said != counts {
            println!("{counts:?}");
            said = counts;
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    bytes: u64,
    dropped: u64,
}

impl Counts {
    /// What is given back to the sender has been shown to the receiver before: so death in between loses nothing.
    fn carry(&mut self, from: &mut Port, to: &mut Port, pair: usize, batch: &mut Batch) -> usize {
        let Some(device) = from.device() else { return 0 };
        let moved = device.receive(pair, batch);
        let pairs = to.device().map_or(0, |device| device.pairs());
        let (packets, payloads) = batch.parts();
        for packet in packets {
            let pair = pair.min(pairs.saturating_sub(1));
            let sent = to.send(pair, &packet.header, packet.head(), payloads.of(packet));
            self.packets += 1;
            self.bytes += packet.length() as u64;
            self.dropped += u64::from(sent.is_err());
        }
        if let Some(device) = to.device() {
            device.flush();
        }
        if let Some(device) = from.device() {
            device.complete(batch);
            device.flush();
        }
        moved
    }
}
