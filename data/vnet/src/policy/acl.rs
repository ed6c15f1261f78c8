//! A network ACL, compiled: for each cell of traffic and each class of addresses the number of the first entry that
//! matches. What none matches is denied. Stateless: the two directions know nothing of each other.

use super::classes::Classes;
use super::prefix::Prefix;
use super::traffic::{Cells, Traffic, TrafficKey};
use contract::{AclEntry, NetworkAcl};
use std::net::IpAddr;

/// No entry matches.
const NONE: u16 = u16::MAX;
/// Of one direction; the rest is as if it were not there, and what it would have matched is denied. AWS allows 40.
pub const ENTRIES_MAX: usize = 256;

/// Compiled entries, both directions.
#[derive(Debug)]
pub struct Acl {
    /// What it was compiled from.
    pub stored: NetworkAcl,
    /// For what comes into the subnet.
    pub ingress: AclTable,
    /// For what leaves it.
    pub egress: AclTable,
}

/// Compiled entries of one direction.
#[derive(Debug)]
pub struct AclTable {
    cells: Cells,
    classes: Classes,
    /// Cell by cell, the place of the entry that decides for each class.
    decides: Vec<u16>,
    entries: Vec<Entry>,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its rule number.
    pub number: u32,
    /// Or it denies.
    pub allow: bool,
    traffic: Traffic,
    prefix: Prefix,
}

impl Acl {
    /// Compiles it.
    pub fn build(stored: NetworkAcl) -> Acl {
        let (ingress, egress) = (AclTable::build(&stored.ingress), AclTable::build(&stored.egress));
        Acl { stored, ingress, egress }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.ingress.decides.len() * 2 + self.egress.decides.len() * 2
    }
}

impl AclTable {
    fn build(stored: &[AclEntry]) -> AclTable {
        let mut entries = Vec::new();
        for entry in stored.iter().take(ENTRIES_MAX) {
            let traffic = entry.traffic.as_ref().and_then(Traffic::read);
            let prefix = entry.prefix.as_ref().and_then(Prefix::read);
            let Some((traffic, prefix)) = traffic.zip(prefix) else { continue };
            entries.push(Entry { number: entry.number, allow: entry.allow, traffic, prefix });
        }
        entries.sort_by_key(|entry| entry.number);
        let cells = Cells::build(&entries.iter().map(|entry| entry.traffic).collect::<Vec<_>>());
        let classes = Classes::build(entries.iter().map(|entry| entry.prefix).collect());
        let mut decides = vec![NONE; cells.len() * classes.len()];
        // From the last to the first: the first has the last word.
        for (place, entry) in entries.iter().enumerate().rev() {
            let inside = classes.inside(entry.prefix);
            for cell in cells.of(entry.traffic) {
                let at = cell * classes.len();
                if let Some(row) = decides.get_mut(at + inside.start..at + inside.end) {
                    row.fill(place as u16);
                }
            }
        }
        AclTable { cells, classes, decides, entries }
    }

    /// The entry that decides about it; without one it is denied.
    pub fn decide(&self, traffic: TrafficKey, other_end: IpAddr) -> Option<&Entry> {
        let at = self.cells.find(traffic) * self.classes.len() + self.classes.of(other_end);
        self.entries.get(usize::from(*self.decides.get(at)?))
    }
}
