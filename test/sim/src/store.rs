//! A process's metadata store: the real engine over a disk in memory, with the group commit of the store's thread.
//! What a crash leaves is what that disk durably held.

use base::disk::Disk;
use base::disk::memory::MemoryDisk;
use base::random::Random;
use metastore::{Commit, CommitError, Condition, Engine, EngineOptions, Entry, Op, Revision};
use std::collections::VecDeque;
use std::io;

/// A store, open or not.
pub(crate) struct Store {
    disk: MemoryDisk,
    engine: Option<Engine>,
    /// Commits that wait for the batch before theirs.
    waiting: VecDeque<(u64, Commit)>,
    /// What is being written now.
    batch: Vec<(u64, Commit)>,
    /// The disk's next sync fails.
    failing: bool,
    /// See [`crate::Sabotage::SyncsLie`].
    syncs_lie: bool,
}

/// What a process finds when it opens its store and becomes the leader.
pub(crate) struct Opened {
    pub(crate) entries: Vec<Entry>,
    pub(crate) revision: Revision,
    pub(crate) incarnation: u64,
    pub(crate) term: u64,
    pub(crate) leads: Condition,
    /// Something had to be cut off.
    pub(crate) torn: bool,
}

impl Store {
    pub(crate) fn new(syncs_lie: bool) -> Store {
        Store {
            disk: MemoryDisk::new(),
            engine: None,
            waiting: VecDeque::new(),
            batch: Vec::new(),
            failing: false,
            syncs_lie,
        }
    }

    /// Opens it and raises the term under `term_key`, durably, as the processes' shells do.
    pub(crate) fn open(&mut self, term_key: &str, prefix: &str) -> Result<Opened, String> {
        let mounted = self.disk.mount();
        let disk: Box<dyn Disk> =
            if self.syncs_lie { Box::new(LyingDisk { disk: mounted, honest: 8 }) } else { mounted };
        let options = EngineOptions {
            segment_bytes: 256 << 10,
            snapshot_log_bytes_min: 256 << 10,
            ..EngineOptions::default()
        };
        let mut engine = Engine::open(disk, options).map_err(|error| base::error::chain(&error))?;
        let key = term_key.as_bytes().to_vec();
        let before = engine.get(&key).map_err(|error| error.to_string())?;
        let term = match &before {
            None => 1,
            Some(entry) => {
                let bytes = <[u8; 8]>::try_from(entry.value.as_slice());
                u64::from_be_bytes(bytes.map_err(|_| String::from("the term has a wrong size"))?) + 1
            }
        };
        let condition = match before {
            None => Condition::Absent(key.clone()),
            Some(entry) => Condition::Unchanged(key.clone(), entry.modified),
        };
        let ops = vec![Op::Put(key.clone(), term.to_be_bytes().to_vec())];
        engine.stage(Commit { conditions: vec![condition], ops }).map_err(|error| error.to_string())?;
        let (_, raised) = engine.flush().pop().ok_or("the term's commit has no answer")?;
        let leads = Condition::Unchanged(key, raised.map_err(|error| error.to_string())?);
        let (entries, revision) =
            engine.reader().list(prefix.as_bytes()).map_err(|error| error.to_string())?;
        let incarnation = engine.incarnation();
        let torn = engine.recovery().torn.is_some();
        self.engine = Some(engine);
        Ok(Opened { entries, revision, incarnation, term, leads, torn })
    }

    /// Whether a failed start is the broken disk's doing; then it can be tried again.
    pub(crate) fn failed_by_disk(&self) -> bool {
        self.failing
    }

    /// Takes a commit; true if a flush is to begin.
    pub(crate) fn submit(&mut self, ticket: u64, commit: Commit) -> bool {
        self.waiting.push_back((ticket, commit));
        self.flush_begin()
    }

    /// True if a flush has begun: there was something to write and nothing being written.
    pub(crate) fn flush_begin(&mut self) -> bool {
        if !self.batch.is_empty() || self.waiting.is_empty() {
            return false;
        }
        self.batch.extend(self.waiting.drain(..));
        true
    }

    /// The flush has ended: the fate of each commit of its batch, in their order.
    pub(crate) fn flush_end(&mut self) -> Vec<(u64, Result<Revision, CommitError>)> {
        let batch = std::mem::take(&mut self.batch);
        let Some(engine) = &mut self.engine else { return Vec::new() };
        let mut staged = Vec::with_capacity(batch.len());
        for (ticket, commit) in batch {
            staged.push((ticket, engine.stage(commit)));
        }
        let mut flushed = engine.flush().into_iter();
        let result = |(ticket, staged): (u64, Result<_, CommitError>)| match staged {
            Ok(_) => flushed.next().map(|(_, result)| (ticket, result)),
            Err(error) => Some((ticket, Err(error))),
        };
        let results = staged.into_iter().filter_map(result).collect();
        while engine.maintain() {}
        results
    }

    /// The next flush finds a broken disk.
    pub(crate) fn fail_next(&mut self) {
        self.failing = true;
        self.disk.sync_fails_next();
    }

    /// The process dies. What is being written may be there, whole or torn, or not.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        self.waiting.clear();
        match random.below(3) {
            0 => {}
            1 => drop(self.flush_end()),
            _ => {
                self.disk.stops_after(random.below(3));
                drop(self.flush_end());
            }
        }
        self.batch.clear();
        self.engine = None;
        self.failing = false;
        self.disk.crash(random);
    }
}

/// A disk that, after some honest syncs, says that it has synced, and has not.
struct LyingDisk {
    disk: Box<dyn Disk>,
    honest: u32,
}

impl Disk for LyingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(name, offset, buffer)
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.append(name, bytes)
    }
    fn sync(&mut self, name: &str) -> io::Result<()> {
        match self.honest.checked_sub(1) {
            Some(left) => {
                self.honest = left;
                self.disk.sync(name)
            }
            None => Ok(()),
        }
    }
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.disk.truncate(name, length)
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}
