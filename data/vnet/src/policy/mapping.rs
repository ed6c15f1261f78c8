//! Where an address of a VPC is: 24 bytes each for IPv4 and 40 for IPv6, at 44 to 87 per cent load, and 4 bytes of
//! version.

use crate::packet::Mac;
use std::num::NonZeroU32;

/// One address of a VPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its interface's.
    pub mac: Mac,
    /// Which of the VPC's hosts: an index.
    pub host: u32,
    /// Its interface's groups: an interned set.
    pub set: u32,
    /// Of its version.
    pub slot: NonZeroU32,
}

/// Versions, each in a slot that is used anew once nothing is there any more.
#[derive(Debug)]
pub struct Versions {
    values: Vec<u32>,
    free: Vec<NonZeroU32>,
}

impl Versions {
    /// Slot 0 stands for nothing, which never changes.
    pub fn new() -> Self {
        Versions { values: vec![0], free: Vec::new() }
    }

    /// A slot for something new.
    pub fn take(&mut self) -> NonZeroU32 {
        self.free.pop().unwrap_or_else(|| {
            self.values.push(0);
            NonZeroU32::new(self.values.len() as u32 - 1).unwrap_or(NonZeroU32::MAX)
        })
    }

    /// What rests on the slot holds no longer.
    pub fn bump(&mut self, slot: NonZeroU32) {
        if let Some(version) = self.values.get_mut(slot.get() as usize) {
            *version = version.wrapping_add(1);
        }
    }

    /// What was there is gone, and what rests on it holds no longer.
    pub fn release(&mut self, slot: NonZeroU32) {
        self.bump(slot);
        self.free.push(slot);
    }

    /// For a [`crate::engine::verdict::Validity`].
    pub fn stamp(&self, slot: NonZeroU32) -> (u32, u32) {
        (slot.get(), self.values.get(slot.get() as usize).copied().unwrap_or(u32::MAX))
    }

    /// Whether a stamp is of the present.
    pub fn holds(&self, (slot, version): (u32, u32)) -> bool {
        self.values.get(slot as usize) == Some(&version)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        (self.values.capacity() + self.free.capacity()) * size_of::<u32>()
    }
}
