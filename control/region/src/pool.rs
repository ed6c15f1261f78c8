//! What the whole region has one of each: network identifiers, public addresses, IPv6 ranges. They are drawn by owners of
//! different accounts, whose commits are in flight at the same time; so what one has drawn is kept from the others until
//! its commit is durable (then the model knows it) or refused.
//!
//! A draw begins at a random place and takes the next that is free: what was given back is rarely given again soon.
//!
//! Invariant: nothing is given twice. What is durable is in [`crate::model::Model::is_held`], what is on its way in
//! [`Reserved`], and the region's one thread asks both.

use crate::cidr::{Cidr4, Cidr6};
use base::ids::AccountId;
use base::random::Random;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Something that is held by one VPC, interface or account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// Of a VPC, on the wire: 24 bits, never 0.
    Vni(u32),
    /// A public IPv4 address.
    PublicAddress(Ipv4Addr),
    /// A /56 of the region's IPv6 range, by its first address.
    Ipv6Range(Ipv6Addr),
}

/// The region's own ranges; they must be nobody else's where its edges reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    /// Public IPv4 addresses; the first and the last of the range are not given out.
    pub public: Cidr4,
    /// What VPCs get a /56 each of.
    pub ipv6: Cidr6,
}

impl Default for Pools {
    /// Addresses that are nobody's: RFC 2544's for benchmarks (131,072 of them), and a unique local range (RFC 4193).
    fn default() -> Self {
        let public = Cidr4::new(Ipv4Addr::new(198, 18, 0, 0), 15);
        let ipv6 = Cidr6::new(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32);
        // The lengths are constants within the widths.
        Pools {
            public: public.unwrap_or_else(|| unreachable!()),
            ipv6: ipv6.unwrap_or_else(|| unreachable!()),
        }
    }
}

/// Bits of a VPC's IPv6 range. Source: Amazon VPC User Guide, "IPv6 VPC CIDR blocks".
pub const IPV6_RANGE_BITS: u8 = 56;

/// What commits in flight hold.
#[derive(Debug, Default)]
pub struct Reserved {
    all: BTreeSet<Holding>,
    by_owner: BTreeMap<AccountId, Vec<Holding>>,
}

impl Reserved {
    /// Whether a commit in flight holds it.
    pub fn contains(&self, holding: Holding) -> bool {
        self.all.contains(&holding)
    }

    /// Keeps it from others until `owner`'s commit is done.
    pub fn add(&mut self, owner: AccountId, holding: Holding) {
        if self.all.insert(holding) {
            self.by_owner.entry(owner).or_default().push(holding);
        }
    }

    /// The owner's commit is durable or refused.
    pub fn release(&mut self, owner: AccountId) {
        for holding in self.by_owner.remove(&owner).into_iter().flatten() {
            self.all.remove(&holding);
        }
    }
}

/// The first `count` numbers of `first..=last` that are free, beginning at a random one and going round; fewer if there
/// are no more. Bounded by what is taken between them.
pub fn draw(
    random: &mut Random,
    first: u64,
    last: u64,
    count: usize,
    free: impl Fn(u64) -> bool,
) -> Vec<u64> {
    let Some(size) = last.checked_sub(first).and_then(|size| size.checked_add(1)) else { return Vec::new() };
    let start = first + random.below(size);
    (start..=last).chain(first..start).filter(|number| free(*number)).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_draw_is_of_what_is_free_and_finds_all_of_it(
            taken in proptest::collection::btree_set(10u64..30, 0..20), count in 0usize..30, seed in any::<u64>(),
        ) {
            let drawn = draw(&mut Random::from_seed(seed), 10, 29, count, |number| !taken.contains(&number));
            let unique: BTreeSet<u64> = drawn.iter().copied().collect();
            prop_assert_eq!(unique.len(), drawn.len());
            prop_assert!(unique.iter().all(|number| (10..30).contains(number) && !taken.contains(number)));
            prop_assert_eq!(drawn.len(), count.min(20 - taken.len()));
        }
    }

    #[test]
    fn what_is_reserved_is_free_again_when_its_commit_is_done() {
        let (one, other) = (AccountId::from_number(1).unwrap(), AccountId::from_number(2).unwrap());
        let mut reserved = Reserved::default();
        reserved.add(one, Holding::Vni(7));
        reserved.add(other, Holding::Vni(8));
        reserved.release(one);
        assert!(!reserved.contains(Holding::Vni(7)) && reserved.contains(Holding::Vni(8)));
    }
}
