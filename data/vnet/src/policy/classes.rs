//! Classes of addresses: two addresses are of one class if no rule tells them apart. A class is the longest of the
//! rules' prefixes that an address lies in; class 0 lies in none.

use super::lpm::{Lpm, NONE};
use super::prefix::Prefix;
use std::net::IpAddr;
use std::ops::Range;

/// The classes that a list of prefixes makes.
#[derive(Clone, Debug)]
pub struct Classes {
    lpm: Lpm,
    /// Sorted: what lies in a prefix follows it. Class `n` is the one at `n - 1`.
    prefixes: Vec<Prefix>,
}

impl Classes {
    /// Of these prefixes, which need be in no order.
    pub fn build(mut prefixes: Vec<Prefix>) -> Classes {
        prefixes.sort_unstable();
        prefixes.dedup();
        let entries: Vec<(Prefix, u32)> = prefixes.iter().copied().zip(1..).collect();
        Classes { lpm: Lpm::build(&entries), prefixes }
    }

    /// How many there are, with class 0.
    pub fn len(&self) -> usize {
        self.prefixes.len() + 1
    }

    /// The class of an address.
    pub fn of(&self, address: IpAddr) -> usize {
        match self.lpm.lookup(address) {
            NONE => 0,
            class => class as usize,
        }
    }

    /// The classes that lie in a prefix, which is one of those that these were built from.
    pub fn inside(&self, prefix: Prefix) -> Range<usize> {
        let first = self.prefixes.partition_point(|other| *other < prefix);
        let rest = self.prefixes.get(first..).unwrap_or_default();
        let count = rest.partition_point(|other| prefix.covers(other));
        first + 1..first + 1 + count
    }
}
