//! Security groups and sets of them as small numbers, the same for all VPCs of the switch, so that a group of a peered
//! VPC is the same number on both sides.
//!
//! Each is counted: a document that lists a group and a set that contains it hold the group, a mapping and a port hold
//! their set. A number is given anew only when nobody holds it.

use base::ids::SecurityGroupId;
use std::collections::HashMap;
use std::hash::Hash;

/// The set without groups, which is nobody's.
pub const EMPTY: u32 = 0;

/// Things with numbers, counted.
#[derive(Debug)]
struct Interned<T: Hash + Eq + Clone> {
    /// Only ever asked, so that its order is nobody's.
    numbers: HashMap<T, u32>,
    slots: Vec<Option<(T, u32)>>,
    free: Vec<u32>,
}

impl<T: Hash + Eq + Clone> Interned<T> {
    fn new() -> Self {
        Interned { numbers: HashMap::new(), slots: Vec::new(), free: Vec::new() }
    }

    /// Holds it once more; true if it is new.
    fn take(&mut self, value: &T) -> (u32, bool) {
        if let Some(number) = self.numbers.get(value).copied() {
            self.hold(number);
            return (number, false);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = Some((value.clone(), 1));
        }
        self.numbers.insert(value.clone(), number);
        (number, true)
    }

    fn hold(&mut self, number: u32) {
        if let Some(Some((_, holders))) = self.slots.get_mut(number as usize) {
            *holders += 1;
        }
    }

    /// Returns it if nobody holds it any more.
    fn release(&mut self, number: u32) -> Option<T> {
        let slot = self.slots.get_mut(number as usize)?;
        let (_, holders) = slot.as_mut()?;
        *holders -= 1;
        if *holders > 0 {
            return None;
        }
        let (value, _) = slot.take()?;
        self.numbers.remove(&value);
        self.free.push(number);
        Some(value)
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.slots.get(number as usize)?.as_ref().map(|(value, _)| value)
    }
}

/// All groups and sets.
#[derive(Debug)]
pub struct Groups {
    groups: Interned<SecurityGroupId>,
    sets: Interned<Box<[u32]>>,
}

impl Groups {
    /// Only the empty set.
    pub fn new() -> Self {
        let mut sets = Interned::new();
        sets.take(&Box::default());
        Groups { groups: Interned::new(), sets }
    }

    /// A group's number; it is held once more.
    pub fn group_take(&mut self, id: SecurityGroupId) -> u32 {
        self.groups.take(&id).0
    }

    /// It is held once less.
    pub fn group_release(&mut self, group: u32) {
        self.groups.release(group);
    }

    /// The group of this number.
    pub fn group(&self, group: u32) -> Option<SecurityGroupId> {
        self.groups.get(group).copied()
    }

    /// A set's number, which is held once more, and whether it is new. The groups are held by others, too.
    pub fn set_take(&mut self, mut members: Vec<u32>) -> (u32, bool) {
        if members.is_empty() {
            return (EMPTY, false);
        }
        members.sort_unstable();
        members.dedup();
        let members = members.into_boxed_slice();
        let (set, new) = self.sets.take(&members);
        if new {
            members.iter().for_each(|group| self.groups.hold(*group));
        }
        (set, new)
    }

    /// It is held once less; true if its number means nothing any more.
    pub fn set_release(&mut self, set: u32) -> bool {
        if set == EMPTY {
            return false;
        }
        let Some(members) = self.sets.release(set) else { return false };
        members.iter().for_each(|group| self.group_release(*group));
        true
    }

    /// The groups in a set, ascending.
    pub fn members(&self, set: u32) -> &[u32] {
        self.sets.get(set).map_or(&[], |members| members)
    }

    /// All sets, with their members.
    pub fn sets(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let sets = self.sets.slots.iter().zip(0..);
        sets.filter_map(|(slot, number)| slot.as_ref().map(|(members, _)| (number, &**members)))
    }

    /// How many groups and sets there are.
    pub fn len(&self) -> (usize, usize) {
        (self.groups.numbers.len(), self.sets.numbers.len())
    }
}
