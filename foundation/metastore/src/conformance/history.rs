//! Clients at once on a few keys: what each called, and what it was answered when.
//!
//! Invariant: a commit that was refused for certain (`Unavailable`) is not in the history; had it happened all the
//! same, its value would have no writer, which the checker calls a violation.

use super::linear::{Action, Call, Outcome};
use crate::{Commit, CommitError, Condition, Entry, Key, Op, RangeQuery, Revision, Store};
use base::random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All keys of a history begin so.
const PREFIX: &[u8] = b"history/";

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How many there are.
    pub clients: usize,
    /// On how many keys.
    pub keys: usize,
    /// Calls of each, at most.
    pub calls: usize,
    /// Between two calls of one client.
    pub pause: Duration,
    /// Whether calls touch several keys, so that the history cannot be checked key by key.
    pub several_keys: bool,
    /// What they draw from.
    pub seed: u64,
    /// Ends it before all calls were made.
    pub stop: Arc<AtomicBool>,
    /// Counts the commits that were acknowledged.
    pub commits: Arc<AtomicU64>,
    /// The milliseconds that the slowest call took.
    pub slowest_ms: Arc<AtomicU64>,
}

impl Workload {
    /// A small one.
    pub fn from_seed(seed: u64) -> Workload {
        Workload {
            clients: 6,
            keys: 3,
            calls: 30,
            pause: Duration::ZERO,
            several_keys: seed.is_multiple_of(2),
            seed,
            stop: Arc::default(),
            commits: Arc::default(),
            slowest_ms: Arc::default(),
        }
    }
}

/// What all clients share.
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Runs the clients, each with one of the stores' handles, on the present runtime; the last call reads every key.
pub async fn history(stores: &[Store], workload: &Workload) -> Vec<Call> {
    let clock = Arc::new(Clock(AtomicU64::new(1)));
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..workload.clients {
        let client = Client {
            store: stores[number % stores.len()].clone(),
            number,
            workload: workload.clone(),
            random: Random::from_seed(workload.seed * 1000 + number as u64),
            known: BTreeMap::new(),
            written: 0,
            calls: Vec::new(),
            clock: clock.clone(),
        };
        clients.spawn(client.run());
    }
    let mut calls: Vec<Call> = clients.join_all().await.into_iter().flatten().collect();
    let begin = clock.now();
    let (entries, _) = stores[0].list(PREFIX).await.expect("the store answers in the end");
    let mut seen: BTreeMap<Key, _> = (0..workload.keys).map(|number| (key(number), None)).collect();
    // Those that several clients wrote, and none has deleted.
    seen.extend(entries.into_iter().map(|entry| (entry.key.clone(), seen_of(&entry))));
    for (key, value) in seen {
        let action = Action::Read([(key, value)].into());
        calls.push(Call { client: workload.clients, begin, end: clock.now(), action });
    }
    calls
}

struct Client {
    store: Store,
    number: usize,
    workload: Workload,
    random: Random,
    /// The revision of each key that it saw last; what its conditions are made of.
    known: BTreeMap<Key, Option<Revision>>,
    written: u64,
    calls: Vec<Call>,
    clock: Arc<Clock>,
}

fn key(number: usize) -> Key {
    [PREFIX, format!("{number}").as_bytes()].concat()
}

fn seen_of(entry: &Entry) -> Option<(u64, Revision)> {
    let written = entry.value.as_slice().try_into().map_or(u64::MAX, u64::from_le_bytes);
    Some((written, entry.modified))
}

impl Client {
    async fn run(mut self) -> Vec<Call> {
        for _ in 0..self.workload.calls {
            if self.workload.stop.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            match self.random.chance(0.4) {
                true if self.workload.several_keys && self.random.chance(0.5) => self.read_all().await,
                true => self.read().await,
                false => self.commit().await,
            }
            self.workload.slowest_ms.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
            if !self.workload.pause.is_zero() {
                tokio::time::sleep(self.workload.pause).await;
            }
        }
        self.calls
    }

    fn key(&mut self) -> Key {
        key(self.random.below(self.workload.keys as u64) as usize)
    }

    fn call(&mut self, begin: u64, end: u64, action: Action) {
        self.calls.push(Call { client: self.number, begin, end, action });
    }

    async fn read(&mut self) {
        let key = self.key();
        let begin = self.clock.now();
        let read = self.store.get(&key).await;
        let end = self.clock.now();
        if let Ok(entry) = read {
            let seen = entry.as_ref().and_then(seen_of);
            self.known.insert(key.clone(), seen.map(|(_, revision)| revision));
            self.call(begin, end, Action::Read([(key, seen)].into()));
        }
    }

    async fn read_all(&mut self) {
        let begin = self.clock.now();
        let read = self.store.range(&RangeQuery::prefix(PREFIX)).await;
        let end = self.clock.now();
        if let Ok(page) = read {
            let mut seen: BTreeMap<Key, _> =
                (0..self.workload.keys).map(|number| (key(number), None)).collect();
            seen.extend(page.entries.iter().map(|entry| (entry.key.clone(), seen_of(entry))));
            for (key, seen) in &seen {
                self.known.insert(key.clone(), seen.map(|(_, revision)| revision));
            }
            self.call(begin, end, Action::Read(seen));
        }
    }

    async fn commit(&mut self) {
        let mut writes = BTreeMap::new();
        let keys = if self.workload.several_keys { 1 + self.random.below(2) } else { 1 };
        for _ in 0..keys {
            self.written += 1;
            let written = ((self.number as u64 + 1) << 32) | self.written;
            let value = (!self.random.chance(0.15)).then_some(written);
            writes.insert(self.key(), value);
        }
        let mut conditions = BTreeMap::new();
        for key in writes.keys() {
            if let Some(known) = self.known.get(key).filter(|_| self.random.chance(0.6)) {
                conditions.insert(key.clone(), *known);
            }
        }
        let commit = Commit {
            conditions: conditions
                .iter()
                .map(|(key, known)| match known {
                    Some(revision) => Condition::Unchanged(key.clone(), *revision),
                    None => Condition::Absent(key.clone()),
                })
                .collect(),
            ops: writes
                .iter()
                .map(|(key, value)| match value {
                    Some(written) => Op::Put(key.clone(), written.to_le_bytes().to_vec()),
                    None => Op::Delete(key.clone()),
                })
                .collect(),
        };
        let begin = self.clock.now();
        let answer = self.store.commit(commit).await;
        let end = self.clock.now();
        let (outcome, end) = match answer {
            Ok(revision) => {
                self.workload.commits.fetch_add(1, Ordering::Relaxed);
                for (key, value) in &writes {
                    self.known.insert(key.clone(), value.map(|_| revision));
                }
                (Outcome::Done(revision), end)
            }
            Err(CommitError::Conflict { .. }) => {
                self.known.clear();
                (Outcome::Conflict, end)
            }
            Err(CommitError::Failed(_)) => (Outcome::Unknown, u64::MAX),
            Err(CommitError::Unavailable(_)) => return,
            Err(error) => panic!("a commit within bounds: {error}"),
        };
        self.call(begin, end, Action::Commit { conditions, writes, outcome });
    }
}
