//! What a front end does to rings at work: stops them, moves them, logs their writes.

use super::bridge::{listen, wait_for};
use rustix::fs::{MemfdFlags, SealFlags};
use std::path::PathBuf;
use vnet::packet::Mac;
use vnet::span::Span;
use vnet::virtio::feature;
use vnet::virtio::front::{Front, FrontOptions, GUEST_BASE};
use vnet::virtio::message::Request;
use vnet::virtio::net::{Batch, SendError};
use vnet::virtio::server::{Port, PortEvent};

/// A port and a guest, in one thread: what the front end says is answered while it waits.
struct Scene {
    port: Port,
    events: Vec<PortEvent>,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn new(options: FrontOptions) -> (Scene, Front) {
        let folder = tempfile::tempdir().expect("a folder");
        let path: PathBuf = folder.path().join("port");
        let port = listen(&path, options.pairs);
        let mut scene = Scene { port, events: Vec::new(), _folder: folder };
        let front = scene.during(move || Front::connect(&path, options).expect("connected"));
        (scene, front)
    }

    /// Serves the port while something else happens.
    fn during<T: Send>(&mut self, happens: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(happens);
            while !thread.is_finished() {
                self.port.service(&mut self.events);
                std::thread::yield_now();
            }
            thread.join().expect("no panic")
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let sent = self.port.send(0, &[0; 12], bytes, &[]);
        self.port.device().expect("connected").flush();
        sent
    }

    fn receive(&mut self, batch: &mut Batch) -> usize {
        self.port.device().expect("connected").receive(0, batch)
    }

    fn complete(&mut self, batch: &mut Batch) {
        let device = self.port.device().expect("connected");
        device.complete(batch);
        device.flush();
    }
}

#[test]
fn the_mode_of_the_socket_lets_only_its_owner_in() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (scene, _front) = Scene::new(FrontOptions::default());
    let metadata = std::fs::metadata(scene.port.path()).expect("there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
}

#[test]
fn a_stopped_ring_says_where_it_stands_and_goes_on_from_there() {
    let (mut scene, mut front) = Scene::new(FrontOptions::default());
    let mut batch = Batch::new();
    for number in 0..5_u8 {
        assert!(front.transmit(0, &[0; 12], &[number; 60], 1, false));
    }
    front.kick(0);
    assert_eq!(scene.receive(&mut batch), 5);
    scene.complete(&mut batch);
    for number in 5..8_u8 {
        assert!(front.transmit(0, &[0; 12], &[number; 60], 1, false));
    }
    front.kick(0);
    // Taken, and not given back when the ring stops: as if it had not been taken.
    assert_eq!(scene.receive(&mut batch), 3);
    let position = scene.during(|| front.ring_stop(1).expect("stopped"));
    assert_eq!(position, 5);
    scene.complete(&mut batch);
    assert_eq!(scene.port.device().expect("connected").pairs(), 0);
    assert_eq!(scene.receive(&mut batch), 0);
    scene.during(|| front.ring_start(1).expect("started"));
    assert_eq!(scene.receive(&mut batch), 3);
    let (packets, _) = batch.parts();
    assert_eq!(packets[0].head(), [5; 60]);
    scene.complete(&mut batch);
    assert_eq!(front.reclaim(0), 8);
}

/// Dies with packets in hand: taken from a guest and not given back, put into its buffers and not shown.
#[test]
fn what_a_dead_back_end_had_in_hand_is_in_the_rings_for_the_next() {
    let (mut scene, mut front) = Scene::new(FrontOptions { ring_size: 16, ..FrontOptions::default() });
    let mut batch = Batch::new();
    for round in 0..40_u8 {
        for number in 0..5 {
            assert!(front.transmit(0, &[0; 12], &[round * 5 + number; 60], 2, true));
        }
        front.kick(0);
        assert_eq!(scene.receive(&mut batch), 5);
        for _ in 0..7 {
            scene.port.send(0, &[0; 12], &[0xff; 60], &[]).expect("room");
        }
        let path = scene.port.path().to_path_buf();
        scene.port = listen(&path, 1);
        batch = Batch::new();
        scene.during(|| front.reconnect(&path).expect("connected again"));
        assert_eq!(scene.receive(&mut batch), 5);
        let (packets, _) = batch.parts();
        assert!(packets.iter().zip(round * 5..).all(|(packet, number)| packet.head() == [number; 60]));
        scene.complete(&mut batch);
        assert_eq!(front.reclaim(0), 5);
        scene.send(&[round; 60]).expect("room");
        let mut packet = Vec::new();
        assert!(front.receive(0, &mut packet).is_some());
        assert_eq!(packet, [round; 60]);
        assert!(front.receive(0, &mut packet).is_none());
    }
}

#[test]
fn a_disabled_ring_discards_and_a_disabled_guest_gets_nothing() {
    let (mut scene, mut front) = Scene::new(FrontOptions::default());
    scene.during(|| {
        front.tell(Request::SetVringEnable { index: 0, enabled: false }).expect("disabled");
        front.tell(Request::SetVringEnable { index: 1, enabled: false }).expect("disabled");
    });
    assert_eq!(scene.send(&[1; 60]), Err(SendError::NotReady));
    front.transmit(0, &[0; 12], &[1; 60], 1, false);
    front.kick(0);
    let mut batch = Batch::new();
    assert_eq!(scene.receive(&mut batch), 0);
    scene.complete(&mut batch);
    assert_eq!(front.reclaim(0), 1);
    assert_eq!(scene.port.device().expect("connected").counters().discarded, 1);
}

#[test]
fn a_guest_without_buffers_or_with_too_small_ones_is_told_apart() {
    let features = FrontOptions::default().features & !feature::MRG_RXBUF;
    let options = FrontOptions { ring_size: 4, slot: 512, features, ..FrontOptions::default() };
    let (mut scene, mut front) = Scene::new(options);
    assert_eq!(scene.send(&[1; 501]), Err(SendError::TooLong));
    for _ in 0..4 {
        assert_eq!(scene.send(&[1; 500]), Ok(()));
    }
    assert_eq!(scene.send(&[1; 500]), Err(SendError::NoBuffer));
    let mut packet = Vec::new();
    for _ in 0..4 {
        assert!(front.receive(0, &mut packet).is_some());
    }
    assert_eq!(scene.send(&[1; 500]), Ok(()));
}

#[test]
fn what_is_no_packet_is_given_back_and_counted() {
    let (mut scene, mut front) = Scene::new(FrontOptions { slot: 70_000, ..FrontOptions::default() });
    front.transmit(0, &[0; 12], &[], 1, false);
    front.transmit(0, &[0; 12], &[7; 66_000], 3, true);
    front.transmit(0, &[0; 12], &[8; 300], 3, true);
    front.kick(0);
    let mut batch = Batch::new();
    assert_eq!(scene.receive(&mut batch), 1);
    let (packets, payloads) = batch.parts();
    assert_eq!(packets[0].length(), 300);
    assert_eq!(packets[0].head(), [8; 256]);
    assert_eq!(vnet::span::length(payloads.of(&packets[0])), 44);
    scene.complete(&mut batch);
    assert_eq!(front.reclaim(0), 3);
    assert_eq!(scene.port.device().expect("connected").counters().malformed, 2);
}

#[test]
fn pages_that_are_written_are_in_the_log() {
    let features = FrontOptions::default().features | feature::LOG_ALL;
    let (mut scene, mut front) = Scene::new(FrontOptions { features, ..FrontOptions::default() });
    let size = (GUEST_BASE / 4096 / 8) + 4096;
    let log =
        rustix::fs::memfd_create("log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memfd");
    rustix::fs::ftruncate(&log, size).expect("size");
    rustix::fs::fcntl_add_seals(&log, SealFlags::SHRINK).expect("sealed");
    let copy = log.try_clone().expect("duplicated");
    scene.during(|| {
        front.ask(Request::SetLogBase { size, offset: 0, log: Some(copy) }).expect("answered");
        front.tell(Request::SetFeatures(features)).expect("logging");
    });
    let logged = || {
        let mut bits = vec![0; 4096];
        rustix::io::pread(&log, &mut bits, GUEST_BASE / 4096 / 8).expect("read");
        let pages = (0..4096 * 8_u64).filter(|page| bits[*page as usize / 8] >> (page % 8) & 1 == 1);
        pages.map(|page| GUEST_BASE + page * 4096).collect::<Vec<u64>>()
    };
    assert!(logged().is_empty());
    scene.send(&[1; 1000]).expect("sent");
    let pages = logged();
    let [_, _, used] = front.ring_at(0).expect("a ring");
    assert!(pages.contains(&used), "the used ring at {used:#x} is in {pages:x?}");
    assert!(pages.len() >= 2 && pages.len() <= 3, "{pages:x?}");
    // No more logging: what is written is in no log.
    scene.during(|| front.tell(Request::SetFeatures(features & !feature::LOG_ALL)).expect("no more"));
    for _ in 0..20 {
        scene.send(&[1; 1000]).expect("sent");
    }
    assert_eq!(logged(), pages);
}

#[test]
fn the_record_of_what_is_in_flight_is_sealed_and_empty() {
    let (mut scene, mut front) = Scene::new(FrontOptions::default());
    let record = scene.during(|| front.inflight().expect("a record"));
    let seals = rustix::fs::fcntl_get_seals(&record).expect("seals");
    assert!(seals.contains(SealFlags::SHRINK));
    let size = rustix::fs::fstat(&record).expect("size").st_size as usize;
    assert_eq!(size, 2 * (16 + 256 * 16_usize).next_multiple_of(64));
    let mut bytes = vec![1; size];
    rustix::io::pread(&record, &mut bytes, 0).expect("read");
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn an_announcement_and_an_mtu_reach_the_loop() {
    let (mut scene, mut front) = Scene::new(FrontOptions::default());
    let mac = Mac([2, 0, 0, 1, 2, 3]);
    scene.during(|| {
        front.tell(Request::SendRarp(mac)).expect("taken");
        front.tell(Request::SetMtu(8900)).expect("taken");
    });
    let announced = |event: &PortEvent| matches!(event, PortEvent::Announce(found) if *found == mac);
    assert!(scene.events.iter().any(announced));
    assert_eq!(scene.port.device().expect("connected").mtu(), Some(8900));
}

#[test]
fn a_front_end_that_goes_is_noticed_and_the_next_is_served() {
    let (mut scene, front) = Scene::new(FrontOptions::default());
    let path = scene.port.path().to_path_buf();
    // One more waits as long as the first is there.
    let second =
        std::thread::spawn(move || Front::connect(&path, FrontOptions::default()).expect("connected"));
    drop(front);
    let Scene { port, events, .. } = &mut scene;
    wait_for(|| {
        port.service(events);
        second.is_finished()
    });
    let _second = second.join().expect("no panic");
    assert_eq!(events.iter().filter(|event| matches!(event, PortEvent::Connected)).count(), 2);
    assert_eq!(events.iter().filter(|event| matches!(event, PortEvent::Disconnected(None))).count(), 1);
    let payload = [Span::from(&[3; 40][..])];
    port.send(0, &[0; 12], &[2; 20], &payload).expect("served");
}
