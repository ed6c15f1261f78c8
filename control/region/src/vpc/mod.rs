//! VPCs: how they are made with all that every VPC has, changed and deleted.
//!
//! A VPC is made in one commit with its main route table, its default network ACL and its default security group; they go
//! with it too, and only then. Everything else in it must be gone first.

pub mod default;
pub mod plan;
pub mod publish;
pub mod record;

use crate::cidr::{Cidr4, Cidr6};
use crate::dhcp_options::record::DhcpOptionsRecord;
use crate::internet_gateway::record::InternetGatewayRecord;
use crate::network_acl::{self, record::NetworkAclRecord};
use crate::owner::Tx;
use crate::pool::IPV6_RANGE_BITS;
use crate::record::{Name, Record};
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::route_table::record::RouteTableRecord;
use crate::scene::Scene;
use crate::security_group::{self, record::SecurityGroupRecord};
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use base::ids::*;
use record::{CidrRecord, VniRecord, VpcRecord};
use std::sync::Arc;

/// The most VPCs of an account. AWS's default is 5, and it raises it to hundreds. Source: Amazon VPC User Guide, "Quotas".
pub const VPCS_MAX: usize = 100;
/// The most IPv4 ranges of a VPC, and the most IPv6 ranges. Source: as above.
pub const RANGES_MAX: usize = 5;

/// A change of VPCs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateVpc.
    Create {
        /// Its first range.
        cidr: Cidr4,
        /// Give it an IPv6 range of the region's.
        ipv6: bool,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// CreateDefaultVpc.
    CreateDefault,
    /// DeleteVpc.
    Delete(String),
    /// ModifyVpcAttribute.
    Modify(String, Attribute, bool),
    /// AssociateVpcCidrBlock, of IPv4; `None`: an IPv6 range of the region's.
    RangeAdd(String, Option<Cidr4>),
    /// DisassociateVpcCidrBlock.
    RangeRemove(String),
}

/// What of a VPC is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `enableDnsSupport`
    DnsSupport,
    /// `enableDnsHostnames`
    DnsHostnames,
    /// `enableNetworkAddressUsageMetrics`
    AddressMetrics,
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, scene: &Scene<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { cidr, ipv6, tags } => {
            let mut record = record_new(cidr, tags, default::dhcp_options(tx, scene));
            if ipv6 {
                record.cidrs_ipv6.push(range_ipv6(tx, scene)?);
            }
            let id = VpcId::random(tx.random);
            Ok(Answer::Resource(vpc_make(tx, scene, id, None, record)?))
        }
        Change::CreateDefault => {
            if tx.all::<VpcRecord>().any(|(_, vpc)| vpc.is_default) {
                return Err(NetworkRefusal::DefaultVpcExists.into());
            }
            Ok(Answer::Resource(default::default_vpc_make(tx, scene, default::Ids::Random)?))
        }
        Change::Delete(vpc) => vpc_delete(tx, &vpc).map(|()| Answer::Done),
        Change::Modify(vpc, attribute, on) => {
            let (id, vpc) = tx.find::<VpcRecord>(&vpc)?;
            let mut vpc = Arc::unwrap_or_clone(vpc);
            match attribute {
                Attribute::DnsSupport => vpc.dns_support = on,
                Attribute::DnsHostnames => vpc.dns_hostnames = on,
                Attribute::AddressMetrics => vpc.address_metrics = on,
            }
            Ok(Answer::Resource(tx.save(id, vpc)))
        }
        Change::RangeAdd(vpc, cidr) => range_add(tx, scene, &vpc, cidr),
        Change::RangeRemove(association) => range_remove(tx, &association),
    }
}

fn record_new(cidr: Cidr4, tags: Vec<TagRecord>, dhcp_options_id: String) -> VpcRecord {
    VpcRecord {
        cidrs: vec![CidrRecord { association_id: String::new(), cidr: cidr.to_string() }],
        dhcp_options_id,
        dns_support: true,
        tags,
        ..VpcRecord::default()
    }
}

/// Stores a VPC with all that every VPC has. `group`: the id of its default security group, if it is known before.
fn vpc_make(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    id: VpcId,
    group: Option<SecurityGroupId>,
    mut record: VpcRecord,
) -> Result<Record, Refusal> {
    for range in &record.cidrs {
        let cidr: Option<Cidr4> = range.cidr.parse().ok();
        if !cidr.is_some_and(plan::vpc_range_is_allowed) {
            return Err(NetworkRefusal::VpcRange(range.cidr.clone()).into());
        }
    }
    if tx.all::<VpcRecord>().count() >= VPCS_MAX {
        return Err(NetworkRefusal::Limit { limit: Limit::Vpcs, what: "VPCs", max: VPCS_MAX }.into());
    }
    let route_table = RouteTableId::random(tx.random);
    record.vpc_id = id.to_string();
    record.vni = scene.vni_draw(tx)?;
    record.main_route_table_id = route_table.to_string();
    record.main_association_id = RouteTableAssociationId::random(tx.random).to_string();
    record.created_unix_ms = tx.now.unix_ms();
    for range in &mut record.cidrs {
        range.association_id = VpcCidrAssociationId::random(tx.random).to_string();
    }
    let table = RouteTableRecord {
        route_table_id: route_table.to_string(),
        vpc_id: id.to_string(),
        ..RouteTableRecord::default()
    };
    tx.save(route_table, table);
    network_acl::default_make(tx, id);
    security_group::default_make(tx, id, group);
    Ok(tx.save(id, record))
}

fn range_ipv6(tx: &mut Tx<'_>, scene: &Scene<'_>) -> Result<CidrRecord, Refusal> {
    let first = scene.ipv6_range_draw(tx)?;
    let range = Cidr6::new(first, IPV6_RANGE_BITS).ok_or(NetworkRefusal::Ipv6RangesExhausted)?;
    let association_id = VpcCidrAssociationId::random(tx.random).to_string();
    Ok(CidrRecord { association_id, cidr: range.to_string() })
}

/// DeleteVpc: what was made with it goes with it; anything else in it stops that.
fn vpc_delete(tx: &mut Tx<'_>, vpc: &str) -> Result<(), Refusal> {
    let (id, record) = tx.find::<VpcRecord>(vpc)?;
    let tables: Vec<_> = tx.all::<RouteTableRecord>().filter(|(_, table)| table.vpc_id == vpc).collect();
    let acls: Vec<_> = tx.all::<NetworkAclRecord>().filter(|(_, acl)| acl.vpc_id == vpc).collect();
    let groups: Vec<_> = tx.all::<SecurityGroupRecord>().filter(|(_, group)| group.vpc_id == vpc).collect();
    let used = tx.all::<SubnetRecord>().any(|(_, subnet)| subnet.vpc_id == vpc)
        || tx.all::<InternetGatewayRecord>().any(|(_, gateway)| gateway.vpc_id == vpc)
        || [tables.len(), acls.len(), groups.len()].iter().any(|count| *count > 1);
    if used {
        return Err(NetworkRefusal::InUse { kind: "vpc", id: vpc.to_owned() }.into());
    }
    let tables: Vec<_> = tables.into_iter().map(|(id, _)| id).collect();
    let acls: Vec<_> = acls.into_iter().map(|(id, _)| id).collect();
    let groups: Vec<_> = groups.into_iter().map(|(id, _)| id).collect();
    tables.into_iter().for_each(|id| tx.remove::<RouteTableRecord>(id));
    acls.into_iter().for_each(|id| tx.remove::<NetworkAclRecord>(id));
    groups.into_iter().for_each(|id| tx.remove::<SecurityGroupRecord>(id));
    // A host that was cut off may still put packets of this VPC on the wire.
    let held = VniRecord { vpc_id: vpc.to_owned(), deleted_unix_ms: tx.now.unix_ms() };
    tx.put(Name::Vni(record.vni), Record::Vni(Arc::new(held)));
    tx.remove::<VpcRecord>(id);
    Ok(())
}

fn range_add(tx: &mut Tx<'_>, scene: &Scene<'_>, vpc: &str, cidr: Option<Cidr4>) -> Result<Answer, Refusal> {
    let (id, record) = tx.find::<VpcRecord>(vpc)?;
    let mut record = Arc::unwrap_or_clone(record);
    let ranges = if cidr.is_some() { record.cidrs.len() } else { record.cidrs_ipv6.len() };
    if ranges >= RANGES_MAX {
        let what = "CIDR blocks of the VPC";
        return Err(NetworkRefusal::Limit { limit: Limit::Ranges, what, max: RANGES_MAX }.into());
    }
    let Some(cidr) = cidr else {
        record.cidrs_ipv6.push(range_ipv6(tx, scene)?);
        return Ok(Answer::Resource(tx.save(id, record)));
    };
    if !plan::vpc_range_is_allowed(cidr) {
        return Err(NetworkRefusal::VpcRange(cidr.to_string()).into());
    }
    if plan::ranges(&record).any(|range| range.overlaps(cidr)) {
        return Err(NetworkRefusal::VpcRangeTaken(cidr.to_string()).into());
    }
    let association_id = VpcCidrAssociationId::random(tx.random).to_string();
    record.cidrs.push(CidrRecord { association_id, cidr: cidr.to_string() });
    Ok(Answer::Resource(tx.save(id, record)))
}

fn range_remove(tx: &mut Tx<'_>, association: &str) -> Result<Answer, Refusal> {
    let has = |ranges: &[CidrRecord]| ranges.iter().position(|range| range.association_id == association);
    let found = tx.all::<VpcRecord>().find_map(|(id, vpc)| {
        let place = (has(&vpc.cidrs), has(&vpc.cidrs_ipv6));
        (place != (None, None)).then(|| (id, vpc.clone(), place))
    });
    let Some((id, vpc, place)) = found else {
        return Err(NetworkRefusal::RangeAssociationNotFound(association.to_owned()).into());
    };
    let mut vpc = Arc::unwrap_or_clone(vpc);
    let before = Arc::new(vpc.clone());
    match place {
        (Some(0), _) => {
            let message = format!(
                "The vpc CIDR block with association ID {association} may not be disassociated. \
                                   It is the primary IPv4 CIDR block of the VPC"
            );
            return Err(NetworkRefusal::NotPermitted(message).into());
        }
        (Some(place), _) => drop(vpc.cidrs.remove(place)),
        (None, Some(place)) => drop(vpc.cidrs_ipv6.remove(place)),
        (None, None) => {}
    }
    let subnets = tx.all::<SubnetRecord>().filter(|(_, subnet)| subnet.vpc_id == vpc.vpc_id);
    let lost = |subnet: &SubnetRecord| !plan::covers(&vpc, subnet);
    if subnets.map(|(_, subnet)| subnet).any(|subnet| lost(subnet)) {
        let message = format!("The vpc CIDR block with association ID {association} has subnets in it.");
        return Err(NetworkRefusal::Dependency(message).into());
    }
    tx.save(id, vpc);
    // The answer tells of the range that is gone.
    Ok(Answer::Resource(Record::Vpc(before)))
}

/// Whether the set of DHCP options is used by a VPC.
pub fn dhcp_options_are_used(tx: &Tx<'_>, options: &str) -> bool {
    tx.all::<VpcRecord>().any(|(_, vpc)| vpc.dhcp_options_id == options)
        && tx.named::<DhcpOptionsRecord>(options).is_some()
}
