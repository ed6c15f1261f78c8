//! What a change is decided with, beside the records of its account.

use crate::fleet::Fleet;
use crate::model::{Account, Model};
use crate::owner::Tx;
use crate::pool::{self, Holding, IPV6_RANGE_BITS};
use crate::refusal::{NetworkRefusal, Refusal};
use crate::region::Identity;
use base::ids::{AccountId, ZoneName};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a change happens.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Zones and cells as last seen.
    pub fleet: &'a Fleet,
    /// All accounts, as they are durable.
    pub model: &'a Model,
    /// What the region is.
    pub identity: &'a Identity,
    /// The account.
    pub account: AccountId,
}

impl Scene<'_> {
    /// Whether a resource that has no record at all exists: an image.
    pub fn image_exists(&self, resource: &str) -> bool {
        resource.parse().is_ok_and(|image| self.identity.images.contains(&image))
    }

    /// The region's zones, in their order.
    pub fn zones(&self) -> impl Iterator<Item = &ZoneName> {
        self.identity.zones.iter().map(|(zone, _)| zone)
    }

    /// vCPUs of the account's instances, by zone.
    pub fn occupied(&self) -> BTreeMap<ZoneName, u32> {
        let zones = self.model.account(self.account).map(Account::vcpus_by_zone);
        let zones = zones.into_iter().flatten();
        zones.filter_map(|(zone, vcpus)| Some((zone.parse().ok()?, *vcpus))).collect()
    }

    /// A network identifier that no VPC of the region has or had.
    pub fn vni_draw(&self, tx: &mut Tx<'_>) -> Result<u32, Refusal> {
        let vni = |number: u64| Holding::Vni(number as u32);
        let drawn = self.draw(tx, 1, (1 << 24) - 1, 1, vni);
        drawn.first().map(|number| *number as u32).ok_or_else(|| NetworkRefusal::VnisExhausted.into())
    }

    /// Public addresses that nobody has.
    pub fn public_addresses_draw(&self, tx: &mut Tx<'_>, count: usize) -> Result<Vec<Ipv4Addr>, Refusal> {
        let range = self.identity.pools.public;
        let (first, last) = (range.first().to_bits() + 1, range.last().to_bits().saturating_sub(1));
        let address = |number: u64| Ipv4Addr::from_bits(number as u32);
        let drawn = self.draw(tx, first.into(), last.into(), count, |n| Holding::PublicAddress(address(n)));
        match drawn.len() == count {
            true => Ok(drawn.into_iter().map(address).collect()),
            false => Err(NetworkRefusal::PublicAddressesExhausted.into()),
        }
    }

    /// A /56 of the region's IPv6 range that no VPC has.
    pub fn ipv6_range_draw(&self, tx: &mut Tx<'_>) -> Result<Ipv6Addr, Refusal> {
        let range = self.identity.pools.ipv6;
        let shift = 128 - u32::from(IPV6_RANGE_BITS);
        let ranges = 1u64.checked_shl(u32::from(IPV6_RANGE_BITS.saturating_sub(range.length()))).unwrap_or(0);
        let address =
            |number: u64| Ipv6Addr::from_bits(range.first().to_bits() | u128::from(number) << shift);
        let drawn = self.draw(tx, 0, ranges.saturating_sub(1), 1, |n| Holding::Ipv6Range(address(n)));
        drawn.first().map(|n| address(*n)).ok_or_else(|| NetworkRefusal::Ipv6RangesExhausted.into())
    }

    fn draw(
        &self,
        tx: &mut Tx<'_>,
        first: u64,
        last: u64,
        count: usize,
        holding: impl Fn(u64) -> Holding,
    ) -> Vec<u64> {
        let reserved = &*tx.reserved;
        let free = |number| !self.model.is_held(holding(number)) && !reserved.contains(holding(number));
        let drawn = pool::draw(tx.random, first, last, count, free);
        for number in &drawn {
            tx.reserved.add(self.account, holding(*number));
        }
        drawn
    }
}
