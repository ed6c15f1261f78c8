//! Network interfaces and their addresses.
//!
//! Invariant: an address of a subnet is never two interfaces' at once. The model's index of durable interfaces and what
//! the batch has given out are both asked; an address that is given back is free with the next commit.

pub mod index;
pub mod launch;
pub mod record;

use crate::cidr::{Cidr4, Cidr6};
use crate::instance::state::Stage;
use crate::owner::Tx;
use crate::pool;
use crate::record::Record;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::security_group::DEFAULT_NAME;
use crate::security_group::record::SecurityGroupRecord;
use crate::subnet::plan;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use base::ids::*;
use record::{AttachmentRecord, InterfaceRecord};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The most interfaces of an account. Source: Amazon VPC User Guide, "Quotas".
pub const INTERFACES_MAX: usize = 5000;
/// The most interfaces of an instance, whatever its type.
pub const PER_INSTANCE_MAX: usize = 8;
/// The most private addresses of an interface, IPv4 and IPv6 each.
pub const ADDRESSES_MAX: usize = 30;
/// The most groups of an interface. Source: Amazon VPC User Guide, "Quotas" (5, which AWS raises to 16).
pub const GROUPS_MAX: usize = 16;

/// A change of network interfaces.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateNetworkInterface.
    Create(Box<Create>),
    /// DeleteNetworkInterface.
    Delete(String),
    /// ModifyNetworkInterfaceAttribute.
    Modify(String, Attribute),
    /// AttachNetworkInterface.
    Attach {
        /// `eni-...`
        interface: String,
        /// `i-...`
        instance: InstanceId,
        /// 1 and above.
        device_index: u32,
    },
    /// DetachNetworkInterface.
    Detach(String),
    /// AssignPrivateIpAddresses.
    Assign(String, Wanted),
    /// UnassignPrivateIpAddresses.
    Unassign(String, Vec<Ipv4Addr>),
    /// AssignIpv6Addresses: these, and so many besides.
    AssignIpv6(String, Vec<Ipv6Addr>, u32),
    /// UnassignIpv6Addresses.
    UnassignIpv6(String, Vec<Ipv6Addr>),
}

/// An interface as it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Create {
    /// `subnet-...`
    pub subnet: String,
    /// `sg-...`; empty: the VPC's default one.
    pub groups: Vec<String>,
    /// What its owner says about it.
    pub description: String,
    /// Private addresses, the primary one first; empty: any.
    pub addresses: Vec<Ipv4Addr>,
    /// So many private addresses besides.
    pub more: u32,
    /// IPv6 addresses.
    pub addresses_ipv6: Vec<Ipv6Addr>,
    /// So many IPv6 addresses besides; `None`: as the subnet says.
    pub more_ipv6: Option<u32>,
    /// Sorted by key.
    pub tags: Vec<TagRecord>,
}

/// Addresses that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many.
    Any(usize),
    /// These.
    These(Vec<Ipv4Addr>),
}

/// What of an interface is to be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `description`
    Description(String),
    /// `sourceDestCheck`
    Check(bool),
    /// `groupSet`
    Groups(Vec<String>),
    /// `attachment.deleteOnTermination`, of this attachment.
    DeleteOnTermination(String, bool),
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create(asked) => create(tx, *asked).map(Answer::Resource),
        Change::Delete(interface) => {
            let (id, record) = tx.find::<InterfaceRecord>(&interface)?;
            if record.attachment.is_some() {
                return Err(NetworkRefusal::InterfaceInUse(interface).into());
            }
            tx.remove::<InterfaceRecord>(id);
            Ok(Answer::Done)
        }
        Change::Modify(interface, attribute) => modify(tx, &interface, attribute).map(|()| Answer::Done),
        Change::Attach { interface, instance, device_index } => {
            attach(tx, &interface, instance, device_index).map(Answer::Association)
        }
        Change::Detach(attachment) => {
            let (id, mut record) = attachment_find(tx, &attachment)?;
            if record.attachment.as_ref().is_some_and(|attachment| attachment.device_index == 0) {
                let message = "The network interface at device index 0 cannot be detached.".to_owned();
                return Err(NetworkRefusal::NotPermitted(message).into());
            }
            record.attachment = None;
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::Assign(interface, wanted) => {
            let (id, mut record) = changed(tx, &interface)?;
            let (subnet, found) = tx.find::<SubnetRecord>(&record.subnet_id)?;
            let wanted = match wanted {
                Wanted::These(these) => {
                    let has = |address: &Ipv4Addr| record.addresses.contains(&address.to_bits());
                    Wanted::These(these.into_iter().filter(|address| !has(address)).collect())
                }
                any => any,
            };
            let drawn = addresses_draw(tx, subnet, &found, wanted)?;
            record.addresses.extend(drawn.into_iter().map(Ipv4Addr::to_bits));
            addresses_bounded(record.addresses.len())?;
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::Unassign(interface, addresses) => {
            let (id, mut record) = changed(tx, &interface)?;
            for address in addresses {
                let place = record.addresses.iter().position(|own| *own == address.to_bits());
                match place {
                    Some(place @ 1..) => drop(record.addresses.remove(place)),
                    Some(_) => {
                        let message = format!("The primary address {address} cannot be unassigned.");
                        return Err(NetworkRefusal::Value(message).into());
                    }
                    None => return Err(not_assigned(&address.to_string(), &interface)),
                }
            }
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::AssignIpv6(interface, these, more) => {
            let (id, mut record) = changed(tx, &interface)?;
            let (subnet, found) = tx.find::<SubnetRecord>(&record.subnet_id)?;
            let drawn = addresses_ipv6_draw(tx, subnet, &found, &these, these.len() + more as usize)?;
            record.addresses_ipv6.extend(drawn.iter().map(|address| address.octets().to_vec()));
            addresses_bounded(record.addresses_ipv6.len())?;
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::UnassignIpv6(interface, addresses) => {
            let (id, mut record) = changed(tx, &interface)?;
            for address in addresses {
                let place = record.addresses_ipv6.iter().position(|own| **own == address.octets());
                let place = place.ok_or_else(|| not_assigned(&address.to_string(), &interface))?;
                record.addresses_ipv6.remove(place);
            }
            tx.save(id, record);
            Ok(Answer::Done)
        }
    }
}

fn not_assigned(address: &str, interface: &str) -> Refusal {
    NetworkRefusal::Value(format!("The address {address} is not assigned to interface {interface}.")).into()
}

fn addresses_bounded(count: usize) -> Result<(), Refusal> {
    if count <= ADDRESSES_MAX {
        return Ok(());
    }
    let (limit, what) = (Limit::Addresses, "private addresses of the interface");
    Err(NetworkRefusal::Limit { limit, what, max: ADDRESSES_MAX }.into())
}

fn changed(tx: &Tx<'_>, interface: &str) -> Result<(NetworkInterfaceId, InterfaceRecord), Refusal> {
    tx.find::<InterfaceRecord>(interface).map(|(id, record)| (id, Arc::unwrap_or_clone(record)))
}

/// Six bytes that nobody else in the VPC has: two of our own, and the primary address, which nobody else has either.
fn mac(id: NetworkInterfaceId, address: u32) -> Vec<u8> {
    let [a, b, c, d] = address.to_be_bytes();
    // Locally administered, one recipient (IEEE 802, section 8.4).
    vec![0x02, id.bits() as u8, a, b, c, d]
}

fn create(tx: &mut Tx<'_>, asked: Create) -> Result<Record, Refusal> {
    let (subnet, found) = tx.find::<SubnetRecord>(&asked.subnet)?;
    if tx.all::<InterfaceRecord>().count() >= INTERFACES_MAX {
        let (limit, what) = (Limit::Interfaces, "network interfaces");
        return Err(NetworkRefusal::Limit { limit, what, max: INTERFACES_MAX }.into());
    }
    let group_ids = groups_check(tx, &found.vpc_id, &asked.groups)?;
    let mut addresses = addresses_draw(tx, subnet, &found, Wanted::These(asked.addresses.clone()))?;
    let more = asked.more as usize + usize::from(addresses.is_empty());
    let besides = addresses_draw_beside(tx, subnet, &found, more, &addresses)?;
    addresses.extend(besides);
    addresses_bounded(addresses.len())?;
    let more_ipv6 =
        asked.more_ipv6.unwrap_or(u32::from(found.assign_ipv6 && asked.addresses_ipv6.is_empty()));
    let wanted_ipv6 = asked.addresses_ipv6.len() + more_ipv6 as usize;
    addresses_bounded(wanted_ipv6)?;
    let ipv6 = addresses_ipv6_draw(tx, subnet, &found, &asked.addresses_ipv6, wanted_ipv6)?;
    let id = NetworkInterfaceId::random(tx.random);
    let first = addresses.first().map_or(0, |address| address.to_bits());
    let record = InterfaceRecord {
        interface_id: id.to_string(),
        vpc_id: found.vpc_id.clone(),
        subnet_id: found.subnet_id.clone(),
        zone: found.zone.clone(),
        description: asked.description,
        mac: mac(id, first),
        addresses: addresses.into_iter().map(Ipv4Addr::to_bits).collect(),
        addresses_ipv6: ipv6.iter().map(|address| address.octets().to_vec()).collect(),
        group_ids,
        created_unix_ms: tx.now.unix_ms(),
        tags: asked.tags,
        ..InterfaceRecord::default()
    };
    Ok(tx.save(id, record))
}

/// The groups, each once, all of this VPC; the VPC's default one if there are none.
fn groups_check(tx: &Tx<'_>, vpc: &str, groups: &[String]) -> Result<Vec<String>, Refusal> {
    if groups.is_empty() {
        let is = |group: &SecurityGroupRecord| group.vpc_id == vpc && group.name == DEFAULT_NAME;
        let found = tx.all::<SecurityGroupRecord>().find(|(_, group)| is(group));
        return Ok(found.map(|(id, _)| id.to_string()).into_iter().collect());
    }
    let groups: BTreeSet<&String> = groups.iter().collect();
    for group in &groups {
        let (_, record) = tx.find::<SecurityGroupRecord>(group)?;
        if record.vpc_id != vpc {
            let message = "You have specified two resources that belong to different networks.".to_owned();
            return Err(NetworkRefusal::Groups(message).into());
        }
    }
    if groups.len() > GROUPS_MAX {
        let (limit, what) = (Limit::InterfaceGroups, "security groups per interface");
        return Err(NetworkRefusal::Limit { limit, what, max: GROUPS_MAX }.into());
    }
    Ok(groups.into_iter().cloned().collect())
}

/// Addresses of a subnet that no interface has.
fn addresses_draw(
    tx: &mut Tx<'_>,
    id: SubnetId,
    subnet: &SubnetRecord,
    wanted: Wanted,
) -> Result<Vec<Ipv4Addr>, Refusal> {
    let these = match wanted {
        Wanted::Any(count) => return addresses_draw_beside(tx, id, subnet, count, &[]),
        Wanted::These(these) => these,
    };
    let (first, last) = subnet
        .cidr
        .parse::<Cidr4>()
        .map(plan::usable)
        .unwrap_or((Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED));
    let taken = tx.addresses_given(id);
    let mut seen = BTreeSet::new();
    for address in &these {
        if !(first..=last).contains(address) {
            let message = format!("Address {address} does not fall within the subnet's address range");
            return Err(NetworkRefusal::Value(message).into());
        }
        if taken.contains(&address.to_bits())
            || tx.address_is_held(id, address.to_bits())
            || !seen.insert(*address)
        {
            return Err(NetworkRefusal::AddressInUse(address.to_string()).into());
        }
    }
    Ok(these)
}

/// So many addresses of a subnet that no interface has and that are none of `beside`.
fn addresses_draw_beside(
    tx: &mut Tx<'_>,
    id: SubnetId,
    subnet: &SubnetRecord,
    count: usize,
    beside: &[Ipv4Addr],
) -> Result<Vec<Ipv4Addr>, Refusal> {
    let short = || Refusal::from(NetworkRefusal::SubnetFull(subnet.subnet_id.clone()));
    let (first, last) = subnet.cidr.parse::<Cidr4>().map(plan::usable).map_err(|_| short())?;
    let mut taken = tx.addresses_given(id);
    taken.extend(beside.iter().map(|address| address.to_bits()));
    let (random, held) = tx.random_and_held();
    let free = |number: u64| {
        let address = number as u32;
        !taken.contains(&address) && !held(id, address)
    };
    let drawn = pool::draw(random, first.to_bits().into(), last.to_bits().into(), count, free);
    if drawn.len() < count {
        return Err(short());
    }
    Ok(drawn.into_iter().map(|number| Ipv4Addr::from_bits(number as u32)).collect())
}

/// IPv6 addresses of a subnet that no interface has: these first, then free ones up to `count`.
fn addresses_ipv6_draw(
    tx: &mut Tx<'_>,
    id: SubnetId,
    subnet: &SubnetRecord,
    these: &[Ipv6Addr],
    count: usize,
) -> Result<Vec<Ipv6Addr>, Refusal> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let range = subnet.cidr_ipv6.as_ref().and_then(|range| range.cidr.parse::<Cidr6>().ok());
    let Some(range) = range else {
        let message = format!("The subnet '{}' has no IPv6 CIDR block.", subnet.subnet_id);
        return Err(NetworkRefusal::Value(message).into());
    };
    let given = tx.addresses_ipv6_given(id);
    let free = |address: &Ipv6Addr| !given.contains(address) && !tx.address_ipv6_is_held(id, *address);
    let mut drawn: Vec<Ipv6Addr> = Vec::with_capacity(count);
    for address in these {
        if !range.contains(*address) {
            let message = format!("Address {address} does not fall within the subnet's address range");
            return Err(NetworkRefusal::Value(message).into());
        }
        if !free(address) || drawn.contains(address) {
            return Err(NetworkRefusal::AddressInUse(address.to_string()).into());
        }
        drawn.push(*address);
    }
    let mut seen: BTreeSet<Ipv6Addr> = drawn.iter().copied().collect();
    let mut random: Vec<u64> = Vec::new();
    while drawn.len() < count {
        // 2^64 of them: a second try is as good as never needed.
        let bits = random.pop().unwrap_or(0);
        let address = Ipv6Addr::from_bits(range.first().to_bits() | u128::from(bits));
        if bits > 255
            && !given.contains(&address)
            && !tx.address_ipv6_is_held(id, address)
            && seen.insert(address)
        {
            drawn.push(address);
        } else {
            random.push(tx.random.u64());
        }
    }
    Ok(drawn)
}

fn modify(tx: &mut Tx<'_>, interface: &str, attribute: Attribute) -> Result<(), Refusal> {
    let (id, mut record) = changed(tx, interface)?;
    match attribute {
        Attribute::Description(description) => record.description = description,
        Attribute::Check(on) => record.forwards = !on,
        Attribute::Groups(groups) => record.group_ids = groups_check(tx, &record.vpc_id, &groups)?,
        Attribute::DeleteOnTermination(attachment, on) => {
            let own = record.attachment.as_mut().filter(|own| own.attachment_id == attachment);
            own.ok_or(NetworkRefusal::AttachmentNotFound(attachment))?.keep = !on;
        }
    }
    tx.save(id, record);
    Ok(())
}

fn attach(
    tx: &mut Tx<'_>,
    interface: &str,
    instance: InstanceId,
    device_index: u32,
) -> Result<String, Refusal> {
    let (id, mut record) = changed(tx, interface)?;
    if record.attachment.is_some() {
        return Err(NetworkRefusal::InterfaceInUse(interface.to_owned()).into());
    }
    let machine = tx.instance_visible(instance).ok_or_else(|| Refusal::InstancesNotFound(vec![instance]))?;
    if matches!(machine.stage(), Stage::Terminated | Stage::ShuttingDown) {
        let state = machine.stage().state();
        return Err(Refusal::IncorrectState { instance, state, wanted: "given a network interface" });
    }
    if machine.zone != record.zone {
        let message =
            format!("The interface {interface} and the instance {instance} are in different zones.");
        return Err(NetworkRefusal::Combination(message).into());
    }
    let own = instance.to_string();
    let attached = |record: &InterfaceRecord| {
        let attachment = record.attachment.as_ref().filter(|attachment| attachment.instance_id == own);
        attachment.map(|attachment| attachment.device_index)
    };
    let taken: Vec<u32> = tx.all::<InterfaceRecord>().filter_map(|(_, record)| attached(record)).collect();
    if taken.contains(&device_index) {
        let message = format!(
            "Instance '{instance}' already has an interface attached at device index '{device_index}'."
        );
        return Err(NetworkRefusal::Value(message).into());
    }
    if taken.len() >= PER_INSTANCE_MAX {
        let (limit, what) = (Limit::Attachments, "network interfaces of the instance");
        return Err(NetworkRefusal::Limit { limit, what, max: PER_INSTANCE_MAX }.into());
    }
    let attachment_id = NetworkAttachmentId::random(tx.random).to_string();
    record.attachment = Some(AttachmentRecord {
        attachment_id: attachment_id.clone(),
        instance_id: own,
        device_index,
        keep: true,
        attached_unix_ms: tx.now.unix_ms(),
    });
    tx.save(id, record);
    Ok(attachment_id)
}

fn attachment_find(tx: &Tx<'_>, attachment: &str) -> Result<(NetworkInterfaceId, InterfaceRecord), Refusal> {
    let is = |record: &InterfaceRecord| {
        record.attachment.as_ref().is_some_and(|own| own.attachment_id == attachment)
    };
    let found = tx.all::<InterfaceRecord>().find(|(_, record)| is(record));
    let found = found.map(|(id, record)| (id, InterfaceRecord::clone(record)));
    found.ok_or_else(|| NetworkRefusal::AttachmentNotFound(attachment.to_owned()).into())
}

/// The instance is terminated: what was to go with it goes, the rest is free again. Interfaces that are derived from the
/// launch go by themselves, unless they are to be kept.
pub fn instance_gone(tx: &mut Tx<'_>, instance: InstanceId) {
    for id in tx.interfaces_to_release(instance) {
        let Some(record) = tx.get::<InterfaceRecord>(id) else { continue };
        if record.attachment.as_ref().is_some_and(|attachment| attachment.keep) {
            tx.save(id, InterfaceRecord { attachment: None, ..Arc::unwrap_or_clone(record) });
        } else {
            tx.remove::<InterfaceRecord>(id);
        }
    }
}
