//! The leases of the embedded engine: which keys go when, and how that is remembered. Asked by the engine as it
//! stages; it knows no disk and no clock, time is told to it.
//!
//! ```text
//!   \0lease/ID   ->  time to live in milliseconds (8, little endian)     ID in 16 hexadecimal digits
//!   \0held/KEY   ->  the id of the lease that KEY is attached to (8, little endian)
//! ```
//!
//! These are entries as any, written in the commit that they belong to, so log and snapshots need not know of
//! leases; only reads and watches pass them over. Deadlines are not stored: after a start each lease gets its whole
//! time to live, from the first moment that is told.
//!
//! Invariant: this is the state after everything that is durable or staged. It is never rolled back, because an
//! engine that could not write what it has staged fails for good.
//! Invariant: every attached key exists, and so does its lease.

use super::map::MultiVersionMap;
use crate::contract::{Commit, CommitError, LeaseId, Op, Revision, USER_KEYS_BEGIN};
use crate::watch::Change;
use base::clock::Timestamp;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LEASE: &[u8] = b"\0lease/";
const HELD: &[u8] = b"\0held/";

/// What a lease takes in memory, about, and what each key attached to it takes beside itself.
pub(crate) const LEASE_MEMORY: u64 = 512;

/// Bytes that the end of a lease adds to a batch, at most.
pub(crate) const END_BYTES_MAX: usize = (LeaseId::KEYS_MAX + 1) * 2 * (Commit::KEY_BYTES_MAX + 16);

/// Every lease, and what is attached to it.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<LeaseId, Lease>,
    by_key: BTreeMap<Bytes, LeaseId>,
    deadlines: BTreeSet<(Timestamp, LeaseId)>,
    /// Leases that were read at the start, and that no time was told to yet.
    untimed: BTreeSet<LeaseId>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Timestamp,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    /// The leases in a store that was read; else the reserved key that is not understood.
    pub(crate) fn load(map: &MultiVersionMap) -> Result<Leases, Vec<u8>> {
        let mut leases = Leases::default();
        let mut held = Vec::new();
        for (key, value, _) in map.live(&[], None, Some(USER_KEYS_BEGIN), map.revision()) {
            let unknown = || key.to_vec();
            let number = u64::from_le_bytes(value[..].try_into().map_err(|_| unknown())?);
            if let Some(attached) = key.strip_prefix(HELD) {
                held.push((key, key.slice(key.len() - attached.len()..), LeaseId(number)));
            } else {
                let id = lease_id(key).ok_or_else(unknown)?;
                let ttl = Duration::from_millis(number);
                let lease = Lease { ttl, deadline: Timestamp::default(), keys: BTreeSet::new() };
                leases.leases.insert(id, lease);
                leases.untimed.insert(id);
            }
        }
        for (key, attached, id) in held {
            let lease = leases.leases.get_mut(&id).filter(|_| map.modified(&attached).is_some());
            lease.ok_or_else(|| key.to_vec())?.keys.insert(attached.clone());
            leases.by_key.insert(attached, id);
        }
        Ok(leases)
    }

    /// When [`Leases::due`] is to be asked next; the epoch: at once. `None` while there is no lease.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        match self.untimed.is_empty() {
            true => self.deadlines.first().map(|(deadline, _)| *deadline),
            false => Some(Timestamp::default()),
        }
    }

    /// A lease whose time is over.
    pub(crate) fn due(&mut self, now: Timestamp) -> Option<LeaseId> {
        for id in std::mem::take(&mut self.untimed) {
            self.keep_alive(id, now);
        }
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// Makes a lease; what that writes.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Timestamp) -> Change {
        let deadline = now + ttl;
        self.leases.insert(id, Lease { ttl, deadline, keys: BTreeSet::new() });
        self.deadlines.insert((deadline, id));
        let ttl_ms = ttl.as_millis() as u64;
        Change { key: lease_key(id), value: Some(Bytes::copy_from_slice(&ttl_ms.to_le_bytes())) }
    }

    /// Whether the lease is there to be kept alive.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Timestamp) -> bool {
        let Some(lease) = self.leases.get_mut(&id) else { return false };
        self.untimed.remove(&id);
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = now + lease.ttl;
        self.deadlines.insert((lease.deadline, id));
        true
    }

    /// Ends a lease; what that writes: its keys go, with all that is remembered of it. `None`: it had ended before.
    pub(crate) fn end(&mut self, id: LeaseId) -> Option<Vec<Change>> {
        let lease = self.leases.remove(&id)?;
        self.untimed.remove(&id);
        self.deadlines.remove(&(lease.deadline, id));
        let gone = |key| Change { key, value: None };
        let mut changes: Vec<Change> = lease.keys.iter().cloned().map(gone).collect();
        changes.extend(lease.keys.iter().map(|key| gone(held_key(key))));
        changes.push(gone(lease_key(id)));
        for key in &lease.keys {
            self.by_key.remove(key);
        }
        Some(changes)
    }

    /// Whether the leases that the operations name are there and have room.
    pub(crate) fn admit(&self, ops: &[Op]) -> Result<(), CommitError> {
        let mut added: BTreeMap<LeaseId, usize> = BTreeMap::new();
        for op in ops {
            let Op::PutLeased(key, _, id) = op else { continue };
            let lease = self.leases.get(id).ok_or(CommitError::LeaseExpired(*id))?;
            let added = added.entry(*id).or_default();
            *added += usize::from(!lease.keys.contains(&key[..]));
            // What the same commit detaches is not counted against it.
            if lease.keys.len() + *added > LeaseId::KEYS_MAX {
                let max = LeaseId::KEYS_MAX;
                return Err(CommitError::OutOfBounds(format!("lease {id} has more than {max} keys")));
            }
        }
        Ok(())
    }

    /// Attaches an admitted key; what that writes, if anything changes.
    pub(crate) fn attach(&mut self, key: &Bytes, id: LeaseId) -> Option<Change> {
        if self.by_key.get(key) == Some(&id) {
            return None;
        }
        self.detach(key);
        self.leases.get_mut(&id)?.keys.insert(key.clone());
        self.by_key.insert(key.clone(), id);
        Some(Change { key: held_key(key), value: Some(Bytes::copy_from_slice(&id.0.to_le_bytes())) })
    }

    /// Detaches a key; what that writes, if it was attached.
    pub(crate) fn detach(&mut self, key: &Bytes) -> Option<Change> {
        let id = self.by_key.remove(key)?;
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
        Some(Change { key: held_key(key), value: None })
    }
}

/// Whether the state says that a lease holds the key.
pub(crate) fn is_held(map: &MultiVersionMap, key: &[u8]) -> bool {
    map.modified(&held_key(key)).is_some()
}

/// The id of the lease that the commit of this revision grants: no other commit of the store has both numbers, not
/// even after a restore. As etcd's it is a positive `i64`: 19 bits of incarnation, 44 of revision.
pub(crate) fn lease_id_new(incarnation: u64, revision: Revision) -> LeaseId {
    LeaseId(((incarnation % (1 << 19)) << 44) | (revision.0 % (1 << 44)))
}

fn lease_key(id: LeaseId) -> Bytes {
    [LEASE, id.to_string().as_bytes()].concat().into()
}

fn held_key(key: &[u8]) -> Bytes {
    [HELD, key].concat().into()
}

fn lease_id(key: &[u8]) -> Option<LeaseId> {
    let digits = std::str::from_utf8(key.strip_prefix(LEASE)?).ok()?;
    let id = LeaseId(u64::from_str_radix(digits, 16).ok()?);
    (lease_key(id) == key).then_some(id)
}
