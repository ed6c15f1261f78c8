//! A table by address: open addressing with linear probing, at most seven eighths full, so that a lookup is one
//! cache miss, hit or not.
//!
//! Addresses are chosen by customers, so the hash is keyed: nobody makes his neighbours' probes long on purpose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SLOTS_MIN: usize = 8;

/// Values by address.
#[derive(Clone, Debug)]
pub struct AddressTable<V> {
    v4: Open<u32, V>,
    v6: Open<[u64; 2], V>,
}

#[derive(Clone, Debug)]
struct Open<K, V> {
    seed: u64,
    /// A power of two, or none yet.
    slots: Vec<Option<(K, V)>>,
    used: usize,
}

trait Key: Copy + Eq {
    fn fold(self) -> u64;
}

impl Key for u32 {
    fn fold(self) -> u64 {
        u64::from(self)
    }
}

impl Key for [u64; 2] {
    fn fold(self) -> u64 {
        let [high, low] = self;
        multiply(high ^ 0x9e37_79b9_7f4a_7c15, low ^ 0xd1b5_4a32_d192_ed03)
    }
}

/// Both halves of the product, mixed.
pub(super) fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

fn split(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
}

impl<V: Copy> AddressTable<V> {
    /// An empty one. The seed should not be known to those who choose addresses.
    pub fn new(seed: u64) -> Self {
        let seed = seed | 1;
        AddressTable { v4: Open::new(seed), v6: Open::new(seed) }
    }

    /// What is held for the address.
    pub fn get(&self, address: IpAddr) -> Option<&V> {
        match address {
            IpAddr::V4(v4) => self.v4.get(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(split(v6)),
        }
    }

    /// Returns what was held for it before.
    pub fn insert(&mut self, address: IpAddr, value: V) -> Option<V> {
        match address {
            IpAddr::V4(v4) => self.v4.insert(v4.to_bits(), value),
            IpAddr::V6(v6) => self.v6.insert(split(v6), value),
        }
    }

    /// Returns what was held for it.
    pub fn remove(&mut self, address: IpAddr) -> Option<V> {
        match address {
            IpAddr::V4(v4) => self.v4.remove(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.remove(split(v6)),
        }
    }

    /// All of it, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &V)> {
        let v4 = self.v4.slots.iter().flatten();
        let v4 = v4.map(|(key, value)| (IpAddr::V4(Ipv4Addr::from_bits(*key)), value));
        let v6 = self.v6.slots.iter().flatten().map(|([high, low], value)| {
            (IpAddr::V6(Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low))), value)
        });
        v4.chain(v6)
    }

    /// How many addresses it holds.
    pub fn len(&self) -> usize {
        self.v4.used + self.v6.used
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.v4.slots.capacity() * size_of::<Option<(u32, V)>>()
            + self.v6.slots.capacity() * size_of::<Option<([u64; 2], V)>>()
    }
}

impl<K: Key, V: Copy> Open<K, V> {
    fn new(seed: u64) -> Self {
        Open { seed, slots: Vec::new(), used: 0 }
    }

    /// Where the search for a key begins.
    fn home(&self, key: K) -> usize {
        let mixed = multiply(key.fold() ^ self.seed, self.seed.rotate_left(32) | 1);
        multiply(mixed, 0x9e37_79b9_7f4a_7c15) as usize & self.slots.len().wrapping_sub(1)
    }

    /// Where the key stands, or the free slot that ends its search.
    fn find(&self, key: K) -> (usize, bool) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = self.home(key);
        loop {
            match self.slots.get(at) {
                Some(Some((held, _))) if *held == key => return (at, true),
                Some(Some(_)) => at = (at + 1) & mask,
                Some(None) | None => return (at, false),
            }
        }
    }

    fn get(&self, key: K) -> Option<&V> {
        let (at, found) = self.find(key);
        let slot = self.slots.get(at).filter(|_| found)?;
        slot.as_ref().map(|(_, value)| value)
    }

    fn insert(&mut self, key: K, value: V) -> Option<V> {
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.grow();
        }
        let (at, found) = self.find(key);
        let slot = self.slots.get_mut(at)?;
        let before = slot.replace((key, value));
        self.used += usize::from(!found);
        before.map(|(_, value)| value)
    }

    fn grow(&mut self) {
        let length = (self.slots.len() * 2).max(SLOTS_MIN);
        let before = std::mem::replace(&mut self.slots, vec![None; length]);
        for (key, value) in before.into_iter().flatten() {
            let (at, _) = self.find(key);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Some((key, value));
            }
        }
    }

    /// Takes a key out, and moves back those behind it that a search would not find across the gap.
    fn remove(&mut self, key: K) -> Option<V> {
        let (mut gap, true) = self.find(key) else { return None };
        let (_, value) = self.slots.get_mut(gap)?.take()?;
        self.used -= 1;
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = (gap + 1) & mask;
        while let Some(Some((held, _))) = self.slots.get(at) {
            // How far from its home a slot is, going forward.
            let home = self.home(*held);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.slots.swap(at, gap);
                gap = at;
            }
            at = (at + 1) & mask;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::Random;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_map() {
        for seed in 0..50 {
            let mut random = Random::from_seed(seed);
            let (mut table, mut model) = (AddressTable::new(random.u64()), BTreeMap::new());
            for step in 0..2_000u32 {
                let low = random.below(100) as u32;
                let address = match random.below(2) {
                    0 => IpAddr::V4(Ipv4Addr::from_bits(low << 8)),
                    _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(low) << 64 | u128::from(low))),
                };
                match random.below(2) {
                    0 => assert_eq!(table.insert(address, step), model.insert(address, step)),
                    _ => assert_eq!(table.remove(address), model.remove(&address)),
                }
                assert_eq!(table.get(address), model.get(&address));
                assert_eq!(table.len(), model.len());
            }
            let held: BTreeMap<_, _> = table.iter().map(|(address, value)| (address, *value)).collect();
            assert_eq!(held, model);
        }
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Option<(u32, super::super::mapping::Mapping)>>(), 24);
        assert_eq!(size_of::<Option<([u64; 2], super::super::mapping::Mapping)>>(), 40);
    }
}
