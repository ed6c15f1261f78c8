//! The switch is killed under traffic and started again: nothing is lost, and little comes twice.

use super::bridge::{self, wait_for};
use super::carry::packet;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use vnet::virtio::front::{Front, FrontOptions};
use vnet::virtio::net::BATCH_MAX;

const FOLDER: &str = "VNET_TEST_BRIDGE";

/// Not a test but the process that is killed: runs when a folder is given, and is nothing else.
#[test]
fn bridge_process() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let folder = PathBuf::from(folder);
        bridge::run([&folder.join("a"), &folder.join("b")], 1, &AtomicBool::new(false));
    }
}

struct Process(Child);

impl Process {
    fn start(folder: &std::path::Path) -> Process {
        let sockets = [folder.join("a"), folder.join("b")];
        for socket in &sockets {
            let _ = std::fs::remove_file(socket);
        }
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["--exact", "restart::bridge_process", "--nocapture"]).env(FOLDER, folder);
        let process = Process(command.stdout(std::process::Stdio::null()).spawn().expect("started"));
        wait_for(|| sockets.iter().all(|socket| socket.exists()));
        process
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_switch_loses_nothing_and_repeats_at_most_a_batch() {
    const PACKETS: u64 = 60_000;
    const KILLS: u64 = 10;
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(folder.path());
    let paths = [folder.path().join("a"), folder.path().join("b")];
    let [mut from, mut to] =
        [0, 1].map(|at: usize| Front::connect(&paths[at], FrontOptions::default()).expect("connected"));
    let (mut sent, mut kills) = (0, 0);
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    let mut progress = Instant::now();
    while (seen.len() as u64) < PACKETS {
        while sent < PACKETS {
            packet(sent, 1800, &mut expected);
            if !from.transmit(0, &[0; 12], &expected, 2, sent.is_multiple_of(2)) {
                break;
            }
            sent += 1;
        }
        from.kick(0);
        from.reclaim(0);
        while to.receive(0, &mut found).is_some() {
            let number = u64::from_le_bytes(*found.first_chunk().expect("a number"));
            packet(number, 1800, &mut expected);
            assert_eq!(found, expected);
            *seen.entry(number).or_default() += 1;
            progress = Instant::now();
            if seen.len() as u64 >= (kills + 1) * PACKETS / (KILLS + 1) && kills < KILLS {
                // In the midst of what was put in: it has just been shown the first of several batches.
                process.kill();
                kills += 1;
                process = Process::start(folder.path());
                from.reconnect(&paths[0]).expect("connected again");
                to.reconnect(&paths[1]).expect("connected again");
            }
        }
        assert!(progress.elapsed() < Duration::from_secs(10), "it stands still at {} of {sent}", seen.len());
    }
    let twice = seen.values().filter(|count| **count > 1).count();
    assert!(twice as u64 <= KILLS * BATCH_MAX as u64, "{twice} packets came more than once");
    println!("{kills} kills, {PACKETS} packets, {twice} came twice");
}
