//! What is derived from an account's interfaces: which addresses are taken, and which instance has which. Kept by the
//! model beside the table.

use super::record::InterfaceRecord;
use crate::pool::Holding;
use base::ids::{InstanceId, NetworkInterfaceId, SubnetId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The indexes.
#[derive(Clone, Debug, Default)]
pub struct InterfaceIndex {
    /// Interfaces with a record of their own; the others are derived from launches.
    pub stored: BTreeSet<NetworkInterfaceId>,
    addresses: BTreeMap<(SubnetId, u32), NetworkInterfaceId>,
    addresses_ipv6: BTreeMap<(SubnetId, Ipv6Addr), NetworkInterfaceId>,
    by_instance: BTreeMap<InstanceId, BTreeSet<(u32, NetworkInterfaceId)>>,
}

impl InterfaceIndex {
    /// Takes an interface up.
    pub fn insert(&mut self, id: NetworkInterfaceId, record: &InterfaceRecord) {
        let Ok(subnet) = record.subnet_id.parse::<SubnetId>() else { return };
        self.addresses.extend(record.addresses.iter().map(|address| ((subnet, *address), id)));
        self.addresses_ipv6.extend(ipv6(record).map(|address| ((subnet, address), id)));
        if let Some((instance, device)) = instance_of(record) {
            self.by_instance.entry(instance).or_default().insert((device, id));
        }
    }

    /// Forgets it, as it was.
    pub fn remove(&mut self, id: NetworkInterfaceId, record: &InterfaceRecord) {
        let Ok(subnet) = record.subnet_id.parse::<SubnetId>() else { return };
        for address in &record.addresses {
            self.addresses.remove(&(subnet, *address));
        }
        for address in ipv6(record) {
            self.addresses_ipv6.remove(&(subnet, address));
        }
        if let Some((instance, device)) = instance_of(record)
            && let Some(own) = self.by_instance.get_mut(&instance)
        {
            own.remove(&(device, id));
            if own.is_empty() {
                self.by_instance.remove(&instance);
            }
        }
    }

    /// Whether an interface has the address.
    pub fn is_held(&self, subnet: SubnetId, address: u32) -> bool {
        self.addresses.contains_key(&(subnet, address))
    }

    /// Whether an interface has the address.
    pub fn is_held_ipv6(&self, subnet: SubnetId, address: Ipv6Addr) -> bool {
        self.addresses_ipv6.contains_key(&(subnet, address))
    }

    /// How many addresses of the subnet interfaces have.
    pub fn count(&self, subnet: SubnetId) -> usize {
        self.addresses.range((subnet, 0)..=(subnet, u32::MAX)).count()
    }

    /// The instance's interfaces, by device.
    pub fn of_instance(&self, instance: InstanceId) -> impl Iterator<Item = NetworkInterfaceId> {
        self.by_instance.get(&instance).into_iter().flatten().map(|(_, id)| *id)
    }
}

/// Its IPv6 addresses.
pub fn ipv6(record: &InterfaceRecord) -> impl Iterator<Item = Ipv6Addr> {
    record
        .addresses_ipv6
        .iter()
        .filter_map(|bytes| <[u8; 16]>::try_from(bytes.as_slice()).ok().map(Ipv6Addr::from))
}

fn instance_of(record: &InterfaceRecord) -> Option<(InstanceId, u32)> {
    let attachment = record.attachment.as_ref()?;
    Some((attachment.instance_id.parse().ok()?, attachment.device_index))
}

/// The public address of its own.
pub fn holding(record: &InterfaceRecord) -> Option<Holding> {
    let address = Ipv4Addr::from_bits(record.public_address);
    (record.public_address != 0).then_some(Holding::PublicAddress(address))
}
