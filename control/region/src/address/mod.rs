//! Elastic addresses: public addresses that an account keeps until it releases them.
//!
//! An association holds as long as its interface has the private address: when the interface goes, nothing is written
//! here, and the address is free to be associated again.

pub mod record;

use crate::network_interface::record::InterfaceRecord;
use crate::owner::Tx;
use crate::record::Record;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::scene::Scene;
use crate::tag::record::TagRecord;
use base::ids::{AllocationId, AssociationId, InstanceId};
use record::AddressRecord;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The most elastic addresses of an account; AWS's default is 5. Source: Amazon VPC User Guide, "Quotas".
pub const ADDRESSES_MAX: usize = 64;

/// A change of elastic addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// AllocateAddress.
    Allocate(Vec<TagRecord>),
    /// AssociateAddress.
    Associate {
        /// Which.
        address: Which,
        /// With what.
        with: With,
        /// Which of the interface's addresses; `None`: the primary one.
        private: Option<Ipv4Addr>,
        /// Take it from whatever has it.
        again: bool,
    },
    /// DisassociateAddress.
    Disassociate(Association),
    /// ReleaseAddress.
    Release(Which),
}

/// An elastic address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// `eipalloc-...`
    Allocation(String),
    /// By itself.
    Address(Ipv4Addr),
}

/// What an address is associated with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum With {
    /// `eni-...`
    Interface(String),
    /// Its first interface.
    Instance(InstanceId),
}

/// An association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Association {
    /// `eipassoc-...`
    Id(String),
    /// Of this address.
    Address(Ipv4Addr),
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, scene: &Scene<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Allocate(tags) => allocate(tx, scene, tags).map(Answer::Resource),
        Change::Associate { address, with, private, again } => {
            associate(tx, &address, &with, private, again).map(Answer::Association)
        }
        Change::Disassociate(association) => {
            let is = |record: &AddressRecord| match &association {
                Association::Id(id) => record.association_id == *id,
                Association::Address(address) => record.public_address == address.to_bits(),
            };
            let found = tx.all::<AddressRecord>().find(|(_, record)| is(record));
            let found = found.map(|(id, record)| (id, record.clone()));
            match (found, association) {
                (Some((id, record)), _) if interface_of(tx, &record).is_some() => {
                    tx.save(id, cleared(&record));
                    Ok(Answer::Done)
                }
                (_, Association::Id(id)) => Err(NetworkRefusal::AssociationNotFound(id).into()),
                (_, Association::Address(address)) => {
                    Err(NetworkRefusal::AddressNotFound(address.to_string()).into())
                }
            }
        }
        Change::Release(which) => {
            let (id, record) = find(tx, &which)?;
            if interface_of(tx, &record).is_some() {
                let address = Ipv4Addr::from_bits(record.public_address);
                return Err(NetworkRefusal::AddressInUse(address.to_string()).into());
            }
            tx.remove::<AddressRecord>(id);
            Ok(Answer::Done)
        }
    }
}

fn cleared(record: &AddressRecord) -> AddressRecord {
    AddressRecord {
        association_id: String::new(),
        interface_id: String::new(),
        private_address: 0,
        ..record.clone()
    }
}

/// The interface that the address is associated with, if the association still holds.
fn interface_of(tx: &Tx<'_>, record: &AddressRecord) -> Option<Arc<InterfaceRecord>> {
    let interface = tx.named::<InterfaceRecord>(&record.interface_id)?;
    interface.addresses.contains(&record.private_address).then_some(interface)
}

fn find(tx: &Tx<'_>, which: &Which) -> Result<(AllocationId, Arc<AddressRecord>), Refusal> {
    match which {
        Which::Allocation(id) => tx.find::<AddressRecord>(id),
        Which::Address(address) => {
            let is = |record: &AddressRecord| record.public_address == address.to_bits();
            let found = tx.all::<AddressRecord>().find(|(_, record)| is(record));
            let found = found.map(|(id, record)| (id, record.clone()));
            found.ok_or_else(|| NetworkRefusal::AddressNotFound(address.to_string()).into())
        }
    }
}

fn allocate(tx: &mut Tx<'_>, scene: &Scene<'_>, tags: Vec<TagRecord>) -> Result<Record, Refusal> {
    if tx.all::<AddressRecord>().count() >= ADDRESSES_MAX {
        let (limit, what) = (Limit::ElasticAddresses, "elastic addresses");
        return Err(NetworkRefusal::Limit { limit, what, max: ADDRESSES_MAX }.into());
    }
    let drawn = scene.public_addresses_draw(tx, 1)?;
    let id = AllocationId::random(tx.random);
    let record = AddressRecord {
        allocation_id: id.to_string(),
        public_address: drawn.first().map_or(0, |address| address.to_bits()),
        tags,
        ..AddressRecord::default()
    };
    Ok(tx.save(id, record))
}

fn associate(
    tx: &mut Tx<'_>,
    address: &Which,
    with: &With,
    private: Option<Ipv4Addr>,
    again: bool,
) -> Result<String, Refusal> {
    let (id, record) = find(tx, address)?;
    let interface = match with {
        With::Interface(interface) => tx.find::<InterfaceRecord>(interface)?.1,
        With::Instance(instance) => {
            tx.instance_visible(*instance).ok_or_else(|| Refusal::InstancesNotFound(vec![*instance]))?;
            let own = instance.to_string();
            let is = |record: &InterfaceRecord| {
                let attachment = record.attachment.as_ref();
                attachment.is_some_and(|one| one.instance_id == own && one.device_index == 0)
            };
            let found = tx.all::<InterfaceRecord>().find(|(_, record)| is(record));
            let found = found.map(|(_, record)| record.clone());
            found.ok_or_else(|| {
                NetworkRefusal::Combination(format!("The instance '{own}' has no network interface."))
            })?
        }
    };
    let private_address = match private {
        None => interface.addresses.first().copied().unwrap_or(0),
        Some(private) if interface.addresses.contains(&private.to_bits()) => private.to_bits(),
        Some(private) => {
            let message =
                format!("The address {private} is not assigned to interface {}.", interface.interface_id);
            return Err(NetworkRefusal::Value(message).into());
        }
    };
    let same = |record: &AddressRecord| {
        record.interface_id == interface.interface_id && record.private_address == private_address
    };
    if same(&record) {
        return Ok(record.association_id.clone());
    }
    if interface_of(tx, &record).is_some() && !again {
        return Err(NetworkRefusal::AlreadyAssociated(record.allocation_id.clone()).into());
    }
    let other = tx.all::<AddressRecord>().find(|(other, record)| *other != id && same(record));
    if let Some((other, theirs)) = other.map(|(other, record)| (other, record.clone())) {
        if !again {
            return Err(NetworkRefusal::AlreadyAssociated(interface.interface_id.clone()).into());
        }
        tx.save(other, cleared(&theirs));
    }
    let association_id = AssociationId::random(tx.random).to_string();
    let record = AddressRecord {
        association_id: association_id.clone(),
        interface_id: interface.interface_id.clone(),
        private_address,
        ..AddressRecord::clone(&record)
    };
    tx.save(id, record);
    Ok(association_id)
}
