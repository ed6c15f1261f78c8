//! Connections: who began what, and how it stands, at each port.
//!
//! Records ([`record`]) lie at fixed slots, in memory or in a file that outlives the process ([`mapped`]); an index by
//! key is built beside them. What a packet does to a connection is [`state`]'s.
//!
//! Bounds: the table holds so many connections, of which one port has no more than its share. What is in it lives when
//! it is full; what would be new is refused and counted. Expired ones are taken out a few at a time, by whoever is in
//! charge of time ([`Connections::sweep`]), and at once where a packet comes upon one.
//!
//! Times are whole seconds of the host's monotonic clock, which goes on when a process is restarted.

pub mod mapped;
pub mod record;
pub mod state;

use super::hash::HashKey;
use super::memory::{huge, prefetch};
use super::verdict::Initiator;
pub use mapped::{OpenError, Refusal};

use mapped::Mapped;
use record::{Hot, Record, Tuple};
use state::{Segment, State, Timeouts, advance};
use std::collections::BTreeMap;
use std::path::Path;

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections in all.
    pub total: u32,
    /// Connections of one port.
    pub per_port: u32,
    /// How long each lasts.
    pub timeouts: Timeouts,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { total: 1 << 20, per_port: 1 << 18, timeouts: Timeouts::default() }
    }
}

/// A connection, to be remembered: the slot, and which of those that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot {
    index: u32,
    serial: u32,
}

/// What a file had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Connections that go on, and records that were torn or damaged and were thrown away.
    Kept {
        /// Go on.
        connections: u32,
        /// Were thrown away.
        damaged: u32,
    },
    /// Nothing.
    Anew(Refusal),
}

/// No room for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
enum Records {
    Memory(Vec<Record>),
    Mapped(Mapped),
}

/// The table.
pub struct Connections {
    records: Records,
    index: Index,
    free: Vec<u32>,
    bounds: Bounds,
    key: HashKey,
    serial: u32,
    /// Connections of each port, by its identity.
    held: BTreeMap<u64, u32>,
    /// Ports that are gone, and how many slots the sweep has yet to look at for theirs.
    gone: BTreeMap<u64, u32>,
    cursor: u32,
}

impl Connections {
    /// An empty table that ends with the process.
    pub fn in_memory(bounds: Bounds, key: HashKey) -> Connections {
        Connections::over(Records::Memory(huge(Record::default(), bounds.total as usize)), bounds, key)
    }

    /// The table in a file; `boot` is the host's boot id.
    ///
    /// # Errors
    /// [`OpenError`], if the file cannot be used at all.
    pub fn open(
        path: &Path,
        bounds: Bounds,
        key: HashKey,
        boot: u128,
        now_s: u32,
    ) -> Result<(Connections, Adopted), OpenError> {
        let (mapped, refusal) = Mapped::open(path, bounds.total as usize, boot)?;
        let mut connections = Connections::over(Records::Mapped(mapped), bounds, key);
        let adopted = match refusal {
            Some(refusal) => Adopted::Anew(refusal),
            None => connections.adopt(now_s),
        };
        Ok((connections, adopted))
    }

    fn over(records: Records, bounds: Bounds, key: HashKey) -> Connections {
        Connections {
            records,
            index: Index::new(bounds.total),
            free: (0..bounds.total).rev().collect(),
            bounds,
            key,
            serial: 0,
            held: BTreeMap::new(),
            gone: BTreeMap::new(),
            cursor: 0,
        }
    }

    /// Takes up what records there are. Of two for one connection the first stays.
    fn adopt(&mut self, now_s: u32) -> Adopted {
        let (mut connections, mut damaged) = (0, 0);
        self.free.clear();
        for index in (0..self.bounds.total).rev() {
            let Some(record) = self.record(index).copied() else { continue };
            self.serial = self.serial.max(record.serial());
            let tuple = record.tuple();
            let sound = record.is_whole()
                && record.hot().is_some_and(|hot| hot.seen_s <= now_s)
                && self.find(&tuple).is_none();
            if sound {
                connections += 1;
                *self.held.entry(tuple.port()).or_default() += 1;
                let hash = self.key.hash(&tuple.words());
                self.index.insert(hash, index);
            } else {
                damaged += u32::from(!record.is_free());
                self.end_record(index);
                self.free.push(index);
            }
        }
        Adopted::Kept { connections, damaged }
    }

    #[inline]
    fn record(&self, index: u32) -> Option<&Record> {
        match &self.records {
            Records::Memory(records) => records.get(index as usize),
            Records::Mapped(mapped) => mapped.records().get(index as usize),
        }
    }

    #[inline]
    fn record_mut(&mut self, index: u32) -> Option<&mut Record> {
        match &mut self.records {
            Records::Memory(records) => records.get_mut(index as usize),
            Records::Mapped(mapped) => mapped.records_mut().get_mut(index as usize),
        }
    }

    fn end_record(&mut self, index: u32) {
        if let Some(record) = self.record_mut(index) {
            record.end();
        }
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.bounds.total - self.free.len() as u32
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many a port has.
    pub fn held_by(&self, port: u64) -> u32 {
        self.held.get(&port).copied().unwrap_or_default()
    }

    /// Another set of timeouts, for all that there is.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.bounds.timeouts = timeouts;
    }

    /// Begins to load a record.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        if let Some(record) = self.record(slot.index) {
            prefetch(record);
        }
    }

    fn find(&self, tuple: &Tuple) -> Option<u32> {
        let hash = self.key.hash(&tuple.words());
        self.index.find(hash, |index| self.record(index).is_some_and(|record| record.tuple() == *tuple))
    }

    /// The connection that a packet belongs to, and who began it, if it can go on with this packet. One that has
    /// expired, or that a new one takes the place of, is ended.
    pub fn take_up(&mut self, tuple: &Tuple, segment: Segment, now_s: u32) -> Option<(Slot, Initiator)> {
        let index = self.find(tuple)?;
        let record = *self.record(index)?;
        let hot = record.hot().filter(|hot| !self.has_expired(*hot, now_s));
        let initiator = record.initiator();
        if hot.and_then(|hot| advance(hot.state, hot.marks, initiator, segment)).is_none() {
            self.remove(index);
            return None;
        }
        Some((Slot { index, serial: record.serial() }, initiator))
    }

    /// The connection, whatever a packet would do to it: for errors that quote one of its packets.
    pub fn known(&self, tuple: &Tuple, now_s: u32) -> Option<Initiator> {
        let record = self.record(self.find(tuple)?)?;
        record.hot().filter(|hot| !self.has_expired(*hot, now_s)).map(|_| record.initiator())
    }

    #[inline]
    fn has_expired(&self, hot: Hot, now_s: u32) -> bool {
        now_s.saturating_sub(hot.seen_s) > self.bounds.timeouts.of(hot.state, hot.marks)
    }

    /// Begins a connection that is not there yet.
    ///
    /// # Errors
    /// [`Full`]: the table is, or the port has its share.
    pub fn begin(
        &mut self,
        tuple: &Tuple,
        initiator: Initiator,
        state: State,
        marks: u8,
        now_s: u32,
    ) -> Result<Slot, Full> {
        if self.held_by(tuple.port()) >= self.bounds.per_port {
            return Err(Full);
        }
        let index = self.free.pop().ok_or(Full)?;
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let hash = self.key.hash(&tuple.words());
        if let Some(record) = self.record_mut(index) {
            record.begin(tuple, initiator, serial, Hot { seen_s: now_s, state, marks });
        }
        self.index.insert(hash, index);
        *self.held.entry(tuple.port()).or_default() += 1;
        Ok(Slot { index, serial })
    }

    /// Whether a remembered connection can go on with this packet. Nothing is changed.
    #[inline]
    pub fn goes_on(&self, slot: Slot, segment: Segment, now_s: u32) -> bool {
        let Some(record) = self.record(slot.index) else { return false };
        let Some(hot) = record.hot() else { return false };
        record.serial() == slot.serial
            && !self.has_expired(hot, now_s)
            && (hot.state == State::Established
                || advance(hot.state, hot.marks, record.initiator(), segment).is_some())
    }

    /// A packet of a connection has passed. Whether more like it would change nothing before the next second.
    #[inline]
    pub fn observe(&mut self, slot: Slot, segment: Segment, now_s: u32) -> bool {
        let Some(record) = self.record_mut(slot.index) else { return false };
        let Some(hot) = record.hot().filter(|_| record.serial() == slot.serial) else { return false };
        let Some((state, marks)) = advance(hot.state, hot.marks, record.initiator(), segment) else {
            return false;
        };
        let after = Hot { seen_s: now_s, state, marks };
        if after != hot {
            record.set_hot(after);
        }
        state.is_settled() && segment.is_ordinary()
    }

    /// Whether a port may begin one more, and the table has room for `total` more.
    pub fn has_room(&self, port: u64, total: usize) -> bool {
        self.held_by(port) < self.bounds.per_port && self.free.len() >= total
    }

    fn remove(&mut self, index: u32) {
        let Some(record) = self.record(index).copied() else { return };
        let tuple = record.tuple();
        self.index.remove(self.key.hash(&tuple.words()), index);
        self.end_record(index);
        self.free.push(index);
        if let Some(held) = self.held.get_mut(&tuple.port()) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&tuple.port());
            }
        }
    }

    /// A port is gone: the sweep takes out its connections.
    pub fn port_gone(&mut self, port: u64) {
        if self.held.contains_key(&port) {
            self.gone.insert(port, self.bounds.total);
        }
    }

    /// A port is there (again): what it had stays.
    pub fn port_back(&mut self, port: u64) {
        self.gone.remove(&port);
    }

    /// Looks at the next `slots` slots and takes out what has expired or belongs to nobody. Returns how many.
    pub fn sweep(&mut self, slots: u32, now_s: u32) -> u32 {
        let slots = slots.min(self.bounds.total);
        let mut removed = 0;
        for _ in 0..slots {
            let index = self.cursor;
            self.cursor = if index + 1 < self.bounds.total { index + 1 } else { 0 };
            let Some(record) = self.record(index) else { continue };
            let Some(hot) = record.hot() else { continue };
            if self.has_expired(hot, now_s) || self.gone.contains_key(&record.tuple().port()) {
                self.remove(index);
                removed += 1;
            }
        }
        self.gone.retain(|_, left| {
            *left = left.saturating_sub(slots);
            *left > 0
        });
        removed
    }
}

/// From a hash to a slot: open addressing, at most half full, nothing moved but here.
///
/// A cell is the hash's upper half and the slot, plus one; 0 is empty.
struct Index {
    cells: Vec<u64>,
    mask: usize,
}

impl Index {
    fn new(total: u32) -> Index {
        let size = (total as usize * 2).next_power_of_two().max(2);
        Index { cells: huge(0, size), mask: size - 1 }
    }

    fn home(&self, cell: u64) -> usize {
        (cell >> 32) as usize & self.mask
    }

    fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = (hash >> 32) as usize & self.mask;
        for _ in 0..=self.mask {
            let cell = *self.cells.get(at)?;
            if cell == 0 {
                return None;
            }
            let slot = (cell as u32).wrapping_sub(1);
            if cell >> 32 == hash >> 32 && is(slot) {
                return Some(slot);
            }
            at = (at + 1) & self.mask;
        }
        None
    }

    fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = (hash >> 32) as usize & self.mask;
        for _ in 0..=self.mask {
            if let Some(cell) = self.cells.get_mut(at)
                && *cell == 0
            {
                *cell = (hash & !0xffff_ffff) | u64::from(slot + 1);
                return;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Takes a slot out and closes the gap: what follows moves up, unless it would leave its home.
    fn remove(&mut self, hash: u64, slot: u32) {
        let wanted = (hash & !0xffff_ffff) | u64::from(slot + 1);
        let mut at = (hash >> 32) as usize & self.mask;
        while self.cells.get(at).is_some_and(|cell| *cell != wanted && *cell != 0) {
            at = (at + 1) & self.mask;
        }
        if self.cells.get(at) != Some(&wanted) {
            return;
        }
        let mut gap = at;
        loop {
            at = (at + 1) & self.mask;
            let Some(cell) = self.cells.get(at).copied().filter(|cell| *cell != 0) else { break };
            let from_home = at.wrapping_sub(self.home(cell)) & self.mask;
            if from_home >= (at.wrapping_sub(gap) & self.mask) {
                self.put(gap, cell);
                gap = at;
            }
        }
        self.put(gap, 0);
    }

    fn put(&mut self, at: usize, cell: u64) {
        if let Some(to) = self.cells.get_mut(at) {
            *to = cell;
        }
    }
}

#[cfg(test)]
mod tests;
