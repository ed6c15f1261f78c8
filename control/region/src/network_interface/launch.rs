//! The first interfaces of a launch: their addresses are drawn in the commit that accepts it, all at once, and each
//! interface is derived from the launch until it is changed. So a launch of 1,000 is still one record.

use super::record::{AttachmentRecord, InterfaceRecord, LaunchInterfaceRecord};
use super::{Wanted, addresses_draw, addresses_ipv6_draw, groups_check, mac};
use crate::instance::record::InstanceRecord;
use crate::owner::Tx;
use crate::refusal::{NetworkRefusal, Refusal};
use crate::scene::Scene;
use crate::subnet;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use base::ids::{InstanceId, NetworkAttachmentId, NetworkInterfaceId, ZoneName};
use std::net::Ipv4Addr;

/// Odd constants: multiplication by one modulo 2^68 gives every id another.
const INTERFACE: u128 = 0xd_6e8f_eb86_659f_d93b;
const ATTACHMENT: u128 = 0xa_f251_af3b_0f02_5b1d;

/// The first interface as it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaunchInterface {
    /// `subnet-...`; `None`: the default one of the zone.
    pub subnet: Option<String>,
    /// `sg-...`; empty: the VPC's default one.
    pub groups: Vec<String>,
    /// What its owner says about it.
    pub description: String,
    /// Of a launch of one.
    pub address: Option<Ipv4Addr>,
    /// How many IPv6 addresses; `None`: as the subnet says.
    pub ipv6: Option<u32>,
    /// A public address of its own; `None`: as the subnet says.
    pub public: Option<bool>,
    /// It stays when the instance is terminated.
    pub keep: bool,
    /// Sorted by key.
    pub tags: Vec<TagRecord>,
}

/// Draws the addresses of a launch of `count` in this zone.
pub fn interfaces_plan(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    asked: &LaunchInterface,
    zone: &ZoneName,
    count: u32,
) -> Result<LaunchInterfaceRecord, Refusal> {
    let (id, subnet) = match &asked.subnet {
        Some(subnet) => tx.find::<SubnetRecord>(subnet)?,
        None => subnet::default_in(tx, zone.as_str()).ok_or_else(|| no_subnet(tx, zone))?,
    };
    let group_ids = groups_check(tx, &subnet.vpc_id, &asked.groups)?;
    let count = count as usize;
    let wanted = match asked.address {
        Some(address) => Wanted::These(vec![address]),
        None => Wanted::Any(count),
    };
    let addresses = addresses_draw(tx, id, &subnet, wanted)?;
    let ipv6_each = asked.ipv6.unwrap_or(u32::from(subnet.assign_ipv6));
    let ipv6 = addresses_ipv6_draw(tx, id, &subnet, &[], ipv6_each as usize * count)?;
    let public_addresses = match asked.public.unwrap_or(subnet.map_public_address) {
        true => scene.public_addresses_draw(tx, count)?.into_iter().map(Ipv4Addr::to_bits).collect(),
        false => Vec::new(),
    };
    Ok(LaunchInterfaceRecord {
        vpc_id: subnet.vpc_id.clone(),
        subnet_id: subnet.subnet_id.clone(),
        group_ids,
        description: asked.description.clone(),
        addresses: addresses.into_iter().map(Ipv4Addr::to_bits).collect(),
        addresses_ipv6: ipv6.iter().flat_map(|address| address.octets()).collect(),
        ipv6_each,
        public_addresses,
        keep: asked.keep,
        tags: asked.tags.clone(),
    })
}

fn no_subnet(tx: &Tx<'_>, zone: &ZoneName) -> Refusal {
    let default = tx.all::<crate::vpc::record::VpcRecord>().any(|(_, vpc)| vpc.is_default);
    match default {
        true => NetworkRefusal::NoDefaultSubnet(zone.to_string()).into(),
        false => NetworkRefusal::NoDefaultVpc.into(),
    }
}

/// The same launch in another zone, where nobody of it has a place yet: other addresses, in that zone's default subnet.
pub fn interfaces_move(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    record: &LaunchInterfaceRecord,
    zone: &ZoneName,
) -> Result<LaunchInterfaceRecord, Refusal> {
    let asked = LaunchInterface {
        subnet: None,
        groups: record.group_ids.clone(),
        description: record.description.clone(),
        address: None,
        ipv6: Some(record.ipv6_each),
        public: Some(!record.public_addresses.is_empty()),
        keep: record.keep,
        tags: record.tags.clone(),
    };
    let count = u32::try_from(record.addresses.len()).unwrap_or(0);
    interfaces_plan(tx, scene, &asked, zone, count)
}

/// The id of a launched instance's first interface.
pub fn interface_id(member: InstanceId) -> NetworkInterfaceId {
    NetworkInterfaceId::from_bits(member.bits().wrapping_mul(INTERFACE))
}

/// A member's first interface, as it is before it has a record of its own.
pub fn interface_derive(launch: &LaunchInterfaceRecord, member: &InstanceRecord) -> Option<InterfaceRecord> {
    let index = member.launch_index as usize;
    let address = *launch.addresses.get(index)?;
    let id = interface_id(member.id());
    let each = launch.ipv6_each as usize;
    let ipv6 = launch.addresses_ipv6.as_chunks::<16>().0.iter().skip(index * each).take(each);
    Some(InterfaceRecord {
        interface_id: id.to_string(),
        vpc_id: launch.vpc_id.clone(),
        subnet_id: launch.subnet_id.clone(),
        zone: member.zone.clone(),
        description: launch.description.clone(),
        mac: mac(id, address),
        addresses: vec![address],
        addresses_ipv6: ipv6.map(|address| address.to_vec()).collect(),
        group_ids: launch.group_ids.clone(),
        forwards: false,
        attachment: Some(AttachmentRecord {
            attachment_id: NetworkAttachmentId::from_bits(id.bits().wrapping_mul(ATTACHMENT)).to_string(),
            instance_id: member.instance_id.clone(),
            device_index: 0,
            keep: launch.keep,
            attached_unix_ms: member.launched_unix_ms,
        }),
        public_address: launch.public_addresses.get(index).copied().unwrap_or(0),
        created_unix_ms: member.launched_unix_ms,
        tags: launch.tags.clone(),
    })
}
