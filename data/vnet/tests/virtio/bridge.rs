//! The smallest switch: two ports, and what comes from one goes to the other.
//!
//! It shows the order in which a loop loses nothing when it is killed: what a guest has sent is given back only after
//! the other guest was shown it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vnet::virtio::net::{Batch, SendError};
use vnet::virtio::server::{Port, PortEvent, PortOptions};

/// Runs until told to stop (or killed).
pub fn run(paths: [&Path; 2], pairs: u16, stop: &AtomicBool) {
    let mut ports = paths.map(|path| listen(path, pairs));
    let mut batch = Batch::new();
    let mut events = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for port in &mut ports {
            port.service(&mut events);
        }
        for event in events.drain(..) {
            if let PortEvent::Disconnected(Some(error)) = event {
                panic!("a good front end was hung up on: {error:?}");
            }
        }
        let mut moved = 0;
        let [one, other] = &mut ports;
        for pair in 0..usize::from(pairs) {
            moved += carry(one, other, pair, &mut batch, stop);
            moved += carry(other, one, pair, &mut batch, stop);
        }
        if moved == 0 && !ask(&mut ports) {
            let [one, other] = &ports;
            let flags = rustix::event::PollFlags::IN;
            let mut fds = [rustix::event::PollFd::new(one, flags), rustix::event::PollFd::new(other, flags)];
            let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            rustix::event::poll(&mut fds, Some(&limit)).expect("poll");
        }
    }
}

pub fn listen(path: &Path, pairs: u16) -> Port {
    Port::listen(&PortOptions { path: path.to_path_buf(), owner: None, pairs }).expect("a port")
}

/// Runs in a thread, until the answer is dropped.
pub struct Bridge {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    pub fn start(paths: [&Path; 2], pairs: u16) -> Bridge {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let owned = paths.map(Path::to_path_buf);
        for path in paths {
            let _ = std::fs::remove_file(path);
        }
        let thread = std::thread::spawn(move || run([&owned[0], &owned[1]], pairs, &seen));
        let bridge = Bridge { stop, thread: Some(thread) };
        wait_for(|| paths.iter().all(|path| path.exists()));
        bridge
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the bridge did not panic");
            }
        }
    }
}

/// Until it is so, for ten seconds at most.
pub fn wait_for(mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < end, "it did not come to be");
        std::thread::yield_now();
    }
}

fn ask(ports: &mut [Port; 2]) -> bool {
    ports.iter_mut().filter_map(Port::device).fold(false, |more, device| device.kicks_ask() | more)
}

fn carry(from: &mut Port, to: &mut Port, pair: usize, batch: &mut Batch, stop: &AtomicBool) -> usize {
    let Some(device) = from.device() else { return 0 };
    if to.device().is_none_or(|device| device.pairs() <= pair) {
        return 0;
    }
    let taken = device.receive(pair, batch);
    let (packets, payloads) = batch.parts();
    for packet in packets {
        loop {
            match to.send(pair, &packet.header, packet.head(), payloads.of(packet)) {
                Ok(()) => break,
                // A switch would drop it; here everything is to arrive.
                Err(SendError::NoBuffer) if !stop.load(Ordering::Relaxed) => {
                    to.device().expect("connected").flush();
                    std::thread::yield_now();
                }
                Err(SendError::NoBuffer | SendError::NotReady) => return taken,
                Err(error) => panic!("{error}"),
            }
        }
    }
    if let Some(device) = to.device() {
        device.flush();
    }
    let device = from.device().expect("connected");
    device.complete(batch);
    device.flush();
    taken
}
