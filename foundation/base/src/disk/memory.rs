//! A simulated disk, in memory: for the simulator and for tests of whatever keeps files. It forgets what was not
//! synced when it crashes, and fails when told to.
//!
//! ```text
//!   append          ──► in the machine's memory ── sync (of that file) ──► durable
//!   create, rename,
//!   remove          ──► in the machine's memory ── sync_directory ───────► durable
//! ```
//! A crash keeps what is durable and, drawn at random: of the directory's operations any prefix (they are a
//! journal); of each file's appended bytes any prefix, or any of its 4096-byte pages with zeroes for the others;
//! and a file that was cut without a sync may be whole again.
//!
//! Invariant: nothing here is used by a process of the product.

use super::Disk;
use crate::random::Random;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE_BYTES: usize = 4096;

/// The disk itself, which outlives crashes; clones are handles of the same disk. Whoever writes gets it by
/// [`MemoryDisk::mount`].
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Platter>>);

/// A [`MemoryDisk`] in use, from a mount to the next crash; after that every operation fails.
#[derive(Debug)]
struct MountedDisk {
    disk: MemoryDisk,
    crashes: u64,
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<u64, Inode>,
    file_next: u64,
    /// What a reader sees.
    names: BTreeMap<String, u64>,
    /// What a crash leaves, before the directory's operations since the last sync.
    names_durable: BTreeMap<String, u64>,
    names_journal: Vec<NameChange>,
    crashes: u64,
    operations: u64,
    syncs: u64,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    /// So many of `bytes` survive a crash.
    durable: usize,
    /// The durable content, if it was longer than what is left after a cut that is not synced.
    uncut: Option<Vec<u8>>,
    /// A sync has failed, and the kernel has forgotten what it was to write: later syncs succeed without effect.
    sync_failed: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Faults {
    sync_fails: bool,
    append_stops_after: Option<usize>,
    capacity_bytes: Option<u64>,
    operations_left: Option<u64>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk for a process to use, until the next crash.
    pub fn mount(&self) -> Box<dyn Disk> {
        Box::new(MountedDisk { disk: self.clone(), crashes: self.platter().crashes })
    }

    /// The machine stops and starts: what was not durable is kept or lost as `random` says, mounts end, and all
    /// faults but a capacity are over.
    pub fn crash(&self, random: &mut Random) {
        let mut platter = self.platter();
        let platter = &mut *platter;
        let kept = random.below(platter.names_journal.len() as u64 + 1) as usize;
        let journal = std::mem::take(&mut platter.names_journal);
        for change in journal.into_iter().take(kept) {
            change.apply(&mut platter.names_durable);
        }
        platter.names = platter.names_durable.clone();
        let linked: Vec<u64> = platter.names.values().copied().collect();
        platter.files.retain(|inode, _| linked.contains(inode));
        for file in platter.files.values_mut() {
            file.crash(random);
        }
        platter.crashes += 1;
        platter.faults = Faults { capacity_bytes: platter.faults.capacity_bytes, ..Faults::default() };
    }

    /// The process stops, the machine does not: mounts end, and nothing is lost.
    pub fn kill(&self) {
        let mut platter = self.platter();
        platter.crashes += 1;
        platter.faults = Faults { capacity_bytes: platter.faults.capacity_bytes, ..Faults::default() };
    }

    /// Another disk with the same files, all of them durable, and no faults.
    pub fn copy(&self) -> MemoryDisk {
        let platter = self.platter();
        let content = |inode: &u64| platter.files.get(inode).map_or_else(Vec::new, |file| file.bytes.clone());
        let inode = |bytes: Vec<u8>| Inode { durable: bytes.len(), bytes, ..Inode::default() };
        let files = platter.names.values().map(|number| (*number, inode(content(number)))).collect();
        let names = platter.names.clone();
        let names_durable = names.clone();
        let file_next = platter.file_next;
        MemoryDisk(Arc::new(Mutex::new(Platter {
            files,
            file_next,
            names,
            names_durable,
            ..Platter::default()
        })))
    }

    /// The next sync of a file fails, and none later makes durable what it would have.
    pub fn sync_fails_next(&self) {
        self.platter().faults.sync_fails = true;
    }

    /// The next append writes this many bytes and then fails.
    pub fn append_stops_after(&self, bytes: usize) {
        self.platter().faults.append_stops_after = Some(bytes);
    }

    /// The disk is full with so many bytes in all files together; `None`: never.
    pub fn capacity(&self, bytes: Option<u64>) {
        self.platter().faults.capacity_bytes = bytes;
    }

    /// After so many more changing operations (appends, syncs, cuts, renames, removals) all fail, the first of
    /// them half done: the power goes. To be followed by [`MemoryDisk::crash`].
    pub fn stops_after(&self, operations: u64) {
        self.platter().faults.operations_left = Some(operations);
    }

    /// Flips a bit of a file, durably; false if there is no such bit.
    pub fn bit_flip(&self, name: &str, bit: u64) -> bool {
        let mut platter = self.platter();
        let Some(inode) = platter.names.get(name).copied() else { return false };
        let Some(file) = platter.files.get_mut(&inode) else { return false };
        match file.bytes.get_mut((bit / 8) as usize) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    /// Removes a file, durably; false if there is none.
    pub fn file_lose(&self, name: &str) -> bool {
        let mut platter = self.platter();
        platter.names_durable.remove(name);
        platter.names.remove(name).is_some()
    }

    /// The files' names and lengths, as a reader sees them.
    pub fn files(&self) -> BTreeMap<String, u64> {
        let platter = self.platter();
        let length = |inode: &u64| platter.files.get(inode).map_or(0, |file| file.bytes.len() as u64);
        platter.names.iter().map(|(name, inode)| (name.clone(), length(inode))).collect()
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        self.platter().operations
    }

    /// Syncs of files so far: what a group commit saves.
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Link(name, inode) => {
                names.insert(name, inode);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
            NameChange::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Inode {
    fn crash(&mut self, random: &mut Random) {
        if let Some(uncut) = self.uncut.take()
            && random.chance(0.5)
        {
            self.bytes = uncut;
        } else if self.durable < self.bytes.len() {
            let unsynced = self.bytes.len() - self.durable;
            let survives = match random.below(4) {
                0 => 0,
                1 => unsynced,
                _ => random.below(unsynced as u64 + 1) as usize,
            };
            self.bytes.truncate(self.durable + survives);
            if random.chance(0.3) {
                for page in self.bytes[self.durable..].chunks_mut(PAGE_BYTES) {
                    if random.chance(0.3) {
                        page.fill(0);
                    }
                }
            }
        }
        self.durable = self.bytes.len();
        self.sync_failed = false;
    }
}

impl Platter {
    /// Counts an operation; an error if the power is gone, which also says whether it has gone just now.
    fn operate(&mut self) -> Result<(), PowerLoss> {
        self.operations += 1;
        match &mut self.faults.operations_left {
            None => Ok(()),
            Some(0) => Err(PowerLoss { just_now: false }),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(PowerLoss { just_now: true }) } else { Ok(()) }
            }
        }
    }

    fn inode(&self, name: &str) -> io::Result<u64> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} does not exist"));
        self.names.get(name).copied().ok_or_else(missing)
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Inode> {
        let inode = self.inode(name)?;
        self.files.get_mut(&inode).ok_or_else(|| io::Error::other("a name without a file"))
    }

    fn rename_now(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.names_journal.push(change);
    }

    /// How many of `bytes` an append may write, and why no more.
    fn admitted(&mut self, bytes: usize, power: Result<(), PowerLoss>) -> (usize, Option<io::Error>) {
        if let Err(loss) = power {
            return (if loss.just_now { bytes / 2 } else { 0 }, Some(loss.into()));
        }
        if let Some(stop) = self.faults.append_stops_after.take() {
            return (stop.min(bytes), Some(io::Error::new(io::ErrorKind::WriteZero, "a short write")));
        }
        let linked = self.names.values().filter_map(|inode| self.files.get(inode));
        let used: usize = linked.map(|file| file.bytes.len()).sum();
        match self.faults.capacity_bytes.map(|capacity| (capacity as usize).saturating_sub(used)) {
            Some(room) if room < bytes => (room, Some(io::ErrorKind::StorageFull.into())),
            _ => (bytes, None),
        }
    }
}

struct PowerLoss {
    just_now: bool,
}

impl From<PowerLoss> for io::Error {
    fn from(_: PowerLoss) -> Self {
        io::Error::other("the power is gone")
    }
}

impl MountedDisk {
    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        if platter.crashes != self.crashes {
            return Err(io::Error::other("the disk was mounted before a crash"));
        }
        Ok(platter)
    }
}

impl Disk for MountedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.platter()?.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.platter()?.file(name)?.bytes.clone())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut platter = self.platter()?;
        let bytes = &platter.file(name)?.bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter()?;
        let power = platter.operate();
        let (admitted, error) = platter.admitted(bytes.len(), power);
        if !platter.names.contains_key(name) {
            if admitted == 0
                && let Some(error) = error
            {
                return Err(error);
            }
            let inode = platter.file_next;
            platter.file_next += 1;
            platter.files.insert(inode, Inode::default());
            platter.rename_now(NameChange::Link(name.to_owned(), inode));
        }
        platter.file(name)?.bytes.extend_from_slice(&bytes[..admitted]);
        error.map_or(Ok(()), Err)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.operate()?;
        platter.syncs += 1;
        let fails = std::mem::take(&mut platter.faults.sync_fails);
        let file = platter.file(name)?;
        file.sync_failed |= fails;
        if fails {
            return Err(io::Error::other("the sync failed"));
        }
        if !file.sync_failed {
            file.durable = file.bytes.len();
            file.uncut = None;
        }
        Ok(())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.operate()?;
        let file = platter.file(name)?;
        let length = length as usize;
        if length < file.durable {
            if file.uncut.is_none() {
                file.uncut = Some(file.bytes[..file.durable].to_vec());
            }
            file.durable = length;
        }
        file.bytes.resize(length, 0);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.operate()?;
        platter.inode(from)?;
        platter.rename_now(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.operate()?;
        platter.inode(name)?;
        platter.rename_now(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut platter = self.platter()?;
        platter.operate()?;
        let platter = &mut *platter;
        platter.names_journal.clear();
        platter.names_durable = platter.names.clone();
        let linked: Vec<u64> = platter.names.values().copied().collect();
        platter.files.retain(|inode, _| linked.contains(inode));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let memory = MemoryDisk::new();
            let mut disk = memory.mount();
            disk.append("log", b"synced").unwrap();
            disk.sync("log").unwrap();
            disk.sync_directory().unwrap();
            disk.append("log", b"-not").unwrap();
            memory.crash(&mut Random::from_seed(seed));
            assert!(disk.read("log").is_err(), "a mount ends with the crash");
            let bytes = memory.mount().read("log").unwrap();
            assert!(bytes.starts_with(b"synced") && bytes.len() <= 10, "{bytes:?}");
            lengths.insert(bytes.len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [6, 7, 8, 9, 10]);
    }

    #[test]
    fn names_are_lost_without_a_sync_of_the_directory() {
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let memory = MemoryDisk::new();
            let mut disk = memory.mount();
            disk.append("new", b"content").unwrap();
            disk.sync("new").unwrap();
            disk.rename("new", "installed").unwrap();
            memory.crash(&mut Random::from_seed(seed));
            found.insert(memory.files());
        }
        let expected = [vec![], vec![("installed".to_owned(), 7)], vec![("new".to_owned(), 7)]];
        assert_eq!(found, expected.map(BTreeMap::from_iter).into());
    }

    #[test]
    fn faults_are_as_told() {
        let memory = MemoryDisk::new();
        let mut disk = memory.mount();
        memory.append_stops_after(2);
        disk.append("log", b"one").unwrap_err();
        assert_eq!(disk.read("log").unwrap(), b"on");
        memory.capacity(Some(4));
        assert_eq!(disk.append("log", b"two").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read("log").unwrap(), b"ontw");
        disk.sync_directory().unwrap();
        memory.sync_fails_next();
        disk.sync("log").unwrap_err();
        disk.sync("log").unwrap();
        memory.kill();
        let mut disk = memory.mount();
        assert_eq!(disk.read("log").unwrap(), b"ontw");
        assert!(memory.bit_flip("log", 0));
        assert_eq!(disk.read("log").unwrap(), b"nntw");
        memory.stops_after(0);
        disk.sync("log").unwrap_err();
    }

    #[test]
    fn what_a_failed_sync_forgot_is_never_durable() {
        let lost = (0..50).any(|seed| {
            let memory = MemoryDisk::new();
            let mut disk = memory.mount();
            disk.append("log", b"bytes").unwrap();
            disk.sync_directory().unwrap();
            memory.sync_fails_next();
            disk.sync("log").unwrap_err();
            disk.sync("log").unwrap();
            memory.crash(&mut Random::from_seed(seed));
            memory.files()["log"] < 5
        });
        assert!(lost);
    }
}
