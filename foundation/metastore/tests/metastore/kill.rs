//! Real processes that are killed with SIGKILL at any moment: the parent reads what the child was acknowledged, kills
//! it, opens the store, and finds all of that, no commit by half, and no revision used twice.
//!
//! A few dozen cycles in the ordinary run; thousands with
//! `KILL_CYCLES=2000 cargo test -p metastore kill -- --ignored --nocapture`.

use base::random::Random;
use metastore::{Commit, EngineOptions, Op, Revision, Store, StoreOptions};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Says to this test's own binary that it is the child, and where.
const CHILD: &str = "METASTORE_KILL_DIRECTORY";
const CYCLES: u64 = 40;
/// The halves of each commit, which must never be apart.
const HALVES: [&str; 2] = ["left", "right"];

fn options() -> StoreOptions {
    let engine = EngineOptions {
        segment_bytes: 32 << 10,
        snapshot_log_bytes_min: 64 << 10,
        snapshot_ratio: 1,
        snapshot_step_bytes: 4096,
        ..EngineOptions::default()
    };
    StoreOptions { engine, ..StoreOptions::default() }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The child: commits for ever, many at a time, and prints each acknowledgement as `revision number`.
#[test]
#[ignore = "the child of the test that kills it"]
fn child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = Store::open_with(Path::new(&directory), options()).unwrap();
    let (sender, acknowledged) = mpsc::channel();
    let first = wait(store.revision()).unwrap().0 * 1000;
    let submit = |number: u64| {
        let value: Vec<u8> = number.to_le_bytes().repeat(1 + (number % 40) as usize);
        let put = |half: &str| Op::Put(format!("{half}/{}", number % 50).into(), value.clone());
        let commit = Commit { conditions: vec![], ops: HALVES.map(put).to_vec() };
        let sender = sender.clone();
        store.submit(commit, Box::new(move |result| drop(sender.send((number, result))))).unwrap();
    };
    (first..first + 16).for_each(submit);
    let mut out = std::io::stdout().lock();
    for (number, result) in acknowledged {
        writeln!(out, "{} {number}", result.unwrap().0).unwrap();
        out.flush().unwrap();
        submit(number + 16);
    }
}

/// What was acknowledged, by revision: the number that the commit wrote.
type Acknowledged = BTreeMap<u64, u64>;

/// Starts a child and kills it at random; what it was acknowledged, in whole lines.
fn killed(directory: &Path, random: &mut Random) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Acknowledged::new();
    let enough = random.below(400);
    let mut line = String::new();
    let mut is_killed = false;
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        // The last line may be cut, and the harness says something of its own first.
        let whole = line
            .strip_suffix('\n')
            .and_then(|line| line.rsplit_once("... ").map_or(Some(line), |(_, l)| Some(l)));
        if let Some((revision, number)) = whole.and_then(|line| line.split_once(' '))
            && let (Ok(revision), Ok(number)) = (revision.parse(), number.parse())
        {
            acknowledged.insert(revision, number);
        }
        if !is_killed && acknowledged.len() as u64 >= enough {
            // Somewhere in the midst of the next batches, and at times of an opening or a snapshot.
            std::thread::sleep(Duration::from_micros(random.below(3000)));
            child.kill().unwrap();
            is_killed = true;
        }
    }
    child.wait().unwrap();
    acknowledged
}

fn cycles(count: u64, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::from_seed(seed);
    let (mut commits, mut snapshots, mut torn) = (0, 0, 0);
    let mut reached = Revision(0);
    for cycle in 0..count {
        let acknowledged = killed(directory.path(), &mut random);
        commits += acknowledged.len();
        let store = Store::open_with(directory.path(), options()).unwrap();
        let revision = wait(store.revision()).unwrap();
        let (first, last) = (acknowledged.keys().next(), acknowledged.keys().next_back());
        if let (Some(first), Some(last)) = (first, last) {
            assert!(*first > reached.0, "cycle {cycle}: revision {first} was used before");
            assert!(
                *last <= revision.0,
                "cycle {cycle}: revision {last} was acknowledged, and {} is there",
                revision.0
            );
            assert_eq!(acknowledged.len() as u64, last - first + 1, "every revision once");
        }
        assert!(revision >= reached);
        let (entries, _) = wait(store.list(b"")).unwrap();
        let state: BTreeMap<&[u8], _> = entries.iter().map(|entry| (&entry.key[..], entry)).collect();
        for entry in state.values() {
            let key = std::str::from_utf8(&entry.key).unwrap();
            let other = key.split_once('/').map(|(half, rest)| {
                let other = if half == HALVES[0] { HALVES[1] } else { HALVES[0] };
                format!("{other}/{rest}")
            });
            let other = state[other.unwrap().as_bytes()];
            assert_eq!(
                (&entry.value, entry.modified),
                (&other.value, other.modified),
                "cycle {cycle}: a half"
            );
            if let Some(number) = acknowledged.get(&entry.modified.0) {
                assert_eq!(entry.value[..8], number.to_le_bytes(), "cycle {cycle}: another commit's value");
            }
        }
        // The last acknowledged write of each key is there, or a later one that was under way.
        let mut last_of: BTreeMap<String, u64> = BTreeMap::new();
        for (revision, number) in &acknowledged {
            last_of.insert(format!("left/{}", number % 50), *revision);
        }
        for (key, revision) in last_of {
            assert!(state[key.as_bytes()].modified.0 >= revision, "cycle {cycle}: {key} is lost");
        }
        reached = revision;
        drop(store);
        let found = metastore::verify(directory.path()).unwrap();
        snapshots += u64::from(found.recovery.snapshot.0 > 0);
        torn += u64::from(found.recovery.torn.is_some());
    }
    println!(
        "{count} kills (seed {seed}): {commits} acknowledged commits, {} revisions, {snapshots} starts from a snapshot, \
         {torn} torn after an orderly stop",
        reached.0
    );
    assert!(commits as u64 > count * 50 && snapshots > count / 2 && torn == 0);
}

#[test]
fn dozens_of_kills_lose_nothing_acknowledged() {
    cycles(CYCLES, 1);
}

#[test]
#[ignore = "takes minutes: KILL_CYCLES of them"]
fn thousands_of_kills_lose_nothing_acknowledged() {
    let of_environment = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    cycles(of_environment("KILL_CYCLES").unwrap_or(2000), of_environment("KILL_SEED").unwrap_or(2));
}
