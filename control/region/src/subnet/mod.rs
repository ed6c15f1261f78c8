//! Subnets: ranges of a VPC in one zone each.

pub mod plan;
pub mod record;

use crate::cidr::{Cidr4, Cidr6};
use crate::network_acl::record::NetworkAclRecord;
use crate::network_interface::record::InterfaceRecord;
use crate::owner::Tx;
use crate::record::Record;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::scene::Scene;
use crate::tag::record::TagRecord;
use crate::vpc::record::{CidrRecord, VpcRecord};
use crate::vpc::{default, plan as ranges};
use base::ids::*;
use record::SubnetRecord;
use std::sync::Arc;

/// The most subnets of a VPC. Source: Amazon VPC User Guide, "Quotas".
pub const SUBNETS_MAX: usize = 200;

/// A change of subnets.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateSubnet.
    Create {
        /// `vpc-...`
        vpc: String,
        /// `None`: the zone is chosen.
        zone: Option<ZoneName>,
        /// Its range.
        cidr: Cidr4,
        /// Its IPv6 range.
        cidr_ipv6: Option<Cidr6>,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// CreateDefaultSubnet.
    CreateDefault(ZoneName),
    /// DeleteSubnet.
    Delete(String),
    /// ModifySubnetAttribute.
    Modify(String, Attribute, bool),
    /// AssociateSubnetCidrBlock.
    RangeAdd(String, Cidr6),
    /// DisassociateSubnetCidrBlock.
    RangeRemove(String),
}

/// What of a subnet is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `MapPublicIpOnLaunch`
    MapPublicAddress,
    /// `AssignIpv6AddressOnCreation`
    AssignIpv6,
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, scene: &Scene<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { vpc, zone, cidr, cidr_ipv6, tags } => {
            let zone = zone.as_ref().or_else(|| scene.zones().next());
            let range = |cidr: Cidr6| CidrRecord {
                association_id: SubnetCidrAssociationId::random(tx.random).to_string(),
                cidr: cidr.to_string(),
            };
            let record = SubnetRecord {
                cidr: cidr.to_string(),
                cidr_ipv6: cidr_ipv6.map(range),
                zone: zone.map(ToString::to_string).unwrap_or_default(),
                vpc_id: vpc,
                tags,
                ..SubnetRecord::default()
            };
            let id = SubnetId::random(tx.random);
            Ok(Answer::Resource(subnet_make(tx, id, record)?))
        }
        Change::CreateDefault(zone) => {
            let vpc = tx.all::<VpcRecord>().find(|(_, vpc)| vpc.is_default).map(|(_, vpc)| vpc.clone());
            let vpc = vpc.ok_or(NetworkRefusal::DefaultVpcMissing)?;
            if default_in(tx, zone.as_str()).is_some() {
                return Err(NetworkRefusal::DefaultSubnetExists(zone.to_string()).into());
            }
            let id = SubnetId::random(tx.random);
            Ok(Answer::Resource(default::default_subnet_make(tx, &vpc, id, &zone)?))
        }
        Change::Delete(subnet) => {
            let (id, _) = tx.find::<SubnetRecord>(&subnet)?;
            if tx.any_interface(|of, _| of == subnet) {
                return Err(NetworkRefusal::InUse { kind: "subnet", id: subnet }.into());
            }
            tx.remove::<SubnetRecord>(id);
            Ok(Answer::Done)
        }
        Change::Modify(subnet, attribute, on) => {
            let (id, record) = tx.find::<SubnetRecord>(&subnet)?;
            let mut record = Arc::unwrap_or_clone(record);
            match attribute {
                Attribute::MapPublicAddress => record.map_public_address = on,
                Attribute::AssignIpv6 if on && record.cidr_ipv6.is_none() => {
                    let message = format!("The subnet '{subnet}' has no IPv6 CIDR block.");
                    return Err(NetworkRefusal::Value(message).into());
                }
                Attribute::AssignIpv6 => record.assign_ipv6 = on,
            }
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::RangeAdd(subnet, cidr) => {
            let (id, record) = tx.find::<SubnetRecord>(&subnet)?;
            if record.cidr_ipv6.is_some() {
                let what = "IPv6 CIDR blocks of the subnet";
                return Err(NetworkRefusal::Limit { limit: Limit::Ranges, what, max: 1 }.into());
            }
            let association_id = SubnetCidrAssociationId::random(tx.random).to_string();
            let range = CidrRecord { association_id, cidr: cidr.to_string() };
            let record = SubnetRecord { cidr_ipv6: Some(range), ..Arc::unwrap_or_clone(record) };
            ranges_check(tx, id, &record)?;
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::RangeRemove(association) => {
            let is = |subnet: &SubnetRecord| {
                subnet.cidr_ipv6.as_ref().is_some_and(|range| range.association_id == association)
            };
            let found = tx.all::<SubnetRecord>().find(|(_, subnet)| is(subnet));
            let Some((id, record)) = found.map(|(id, record)| (id, record.clone())) else {
                return Err(NetworkRefusal::RangeAssociationNotFound(association).into());
            };
            let uses = |interface: &InterfaceRecord| {
                interface.subnet_id == record.subnet_id && !interface.addresses_ipv6.is_empty()
            };
            if tx.all::<InterfaceRecord>().any(|(_, interface)| uses(interface)) {
                let message =
                    format!("Interfaces have addresses of the CIDR block with association ID {association}.");
                return Err(NetworkRefusal::Dependency(message).into());
            }
            let mut changed = SubnetRecord::clone(&record);
            changed.cidr_ipv6 = None;
            changed.assign_ipv6 = false;
            tx.save(id, changed);
            // The answer tells of the range that is gone.
            Ok(Answer::Resource(Record::Subnet(record)))
        }
    }
}

/// The default subnet of a zone.
pub fn default_in(tx: &Tx<'_>, zone: &str) -> Option<(SubnetId, Arc<SubnetRecord>)> {
    let found = tx.all::<SubnetRecord>().find(|(_, subnet)| subnet.is_default && subnet.zone == zone);
    found.map(|(id, subnet)| (id, subnet.clone()))
}

/// Stores a subnet whose ranges are free, under its VPC's default network ACL.
pub fn subnet_make(tx: &mut Tx<'_>, id: SubnetId, mut record: SubnetRecord) -> Result<Record, Refusal> {
    ranges_check(tx, id, &record)?;
    let is_default = |acl: &NetworkAclRecord| acl.vpc_id == record.vpc_id && acl.is_default;
    let acl = tx.all::<NetworkAclRecord>().find(|(_, acl)| is_default(acl)).map(|(id, _)| id);
    record.network_acl_id = acl.map(|id| id.to_string()).unwrap_or_default();
    record.network_acl_association_id = NetworkAclAssociationId::random(tx.random).to_string();
    record.subnet_id = id.to_string();
    record.created_unix_ms = tx.now.unix_ms();
    Ok(tx.save(id, record))
}

/// Whether the subnet's ranges are ones that a subnet can have, in its VPC, and no other subnet's.
fn ranges_check(tx: &Tx<'_>, id: SubnetId, record: &SubnetRecord) -> Result<(), Refusal> {
    let (_, vpc) = tx.find::<VpcRecord>(&record.vpc_id)?;
    let cidr = record.cidr.parse::<Cidr4>().ok().filter(|cidr| (16..=28).contains(&cidr.length()));
    let cidr = cidr.ok_or_else(|| NetworkRefusal::SubnetRange(record.cidr.clone()))?;
    let ipv6: Option<Cidr6> = match &record.cidr_ipv6 {
        None => None,
        Some(range) => match range.cidr.parse::<Cidr6>() {
            Ok(cidr) if cidr.length() == plan::IPV6_BITS => Some(cidr),
            _ => return Err(NetworkRefusal::SubnetRange(range.cidr.clone()).into()),
        },
    };
    if !ranges::covers(&vpc, record) {
        let outside = ipv6.filter(|ipv6| !ranges::ranges_ipv6(&vpc).any(|range| range.covers(*ipv6)));
        let shown = outside.map_or(cidr.to_string(), |ipv6| ipv6.to_string());
        return Err(NetworkRefusal::SubnetRange(shown).into());
    }
    let mut siblings = 0;
    for (_, other) in tx.all::<SubnetRecord>().filter(|(other, _)| *other != id) {
        if other.vpc_id != record.vpc_id {
            continue;
        }
        siblings += 1;
        if other.cidr.parse::<Cidr4>().is_ok_and(|other| other.overlaps(cidr)) {
            return Err(NetworkRefusal::SubnetConflict(cidr.to_string()).into());
        }
        let other_ipv6 = other.cidr_ipv6.as_ref().and_then(|range| range.cidr.parse::<Cidr6>().ok());
        if let (Some(ipv6), Some(other)) = (ipv6, other_ipv6)
            && other.overlaps(ipv6)
        {
            return Err(NetworkRefusal::SubnetConflict(ipv6.to_string()).into());
        }
    }
    if siblings >= SUBNETS_MAX {
        let what = "subnets of the VPC";
        return Err(NetworkRefusal::Limit { limit: Limit::Subnets, what, max: SUBNETS_MAX }.into());
    }
    Ok(())
}
