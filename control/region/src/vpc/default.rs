//! The network that an account has from the beginning: a default VPC with one subnet a zone, a gateway to the internet and
//! a route there. Called when an account is made, for accounts from before there were networks, and by CreateDefaultVpc.

use super::{record_new, vpc_make};
use crate::account::record::AccountRecord;
use crate::cidr::Cidr4;
use crate::dhcp_options::record::{DhcpOptionRecord, DhcpOptionsRecord};
use crate::internet_gateway::record::InternetGatewayRecord;
use crate::owner::Tx;
use crate::record::{Name, Record, Resource};
use crate::refusal::{NetworkRefusal, Refusal};
use crate::route_table::record::{RouteRecord, RouteTableRecord};
use crate::scene::Scene;
use crate::security_group::record::SecurityGroupRecord;
use crate::subnet::{self, record::SubnetRecord};
use crate::vpc::record::VpcRecord;
use base::ids::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Bits of a default subnet's range. Source: Amazon VPC User Guide, "Default VPC components".
const SUBNET_BITS: u8 = 20;
/// Default subnets that the default VPC has room for.
const SUBNETS_MAX: usize = 16;

/// Which ids a default VPC and its parts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Those that follow from the account's number: of its first default VPC, and what accounts were shown before networks
    /// were stored.
    OfAccount,
    /// New ones.
    Random,
}

impl Ids {
    fn bits(self, tx: &mut Tx<'_>, account: AccountId, part: &str) -> u128 {
        match self {
            Ids::OfAccount => derive(account, part),
            Ids::Random => tx.random.u128(),
        }
    }
}

fn derive(account: AccountId, part: &str) -> u128 {
    let text = format!("{account}/{part}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// Gives an account its first network, and marks that it has it.
pub fn network_ensure(tx: &mut Tx<'_>, scene: &Scene<'_>) -> Result<(), Refusal> {
    let Some(account) = tx.account().filter(|account| !account.network_made) else { return Ok(()) };
    default_vpc_make(tx, scene, Ids::OfAccount)?;
    tags_adopt::<VpcRecord>(tx);
    tags_adopt::<SubnetRecord>(tx);
    tags_adopt::<SecurityGroupRecord>(tx);
    let account = AccountRecord { network_made: true, ..Arc::unwrap_or_clone(account) };
    tx.put(Name::Account, Record::Account(Arc::new(account)));
    Ok(())
}

/// Moves tags that a resource had before it had a record into its record.
fn tags_adopt<R: Resource>(tx: &mut Tx<'_>) {
    let ids: Vec<R::Id> = tx.all::<R>().map(|(id, _)| id).collect();
    for id in ids {
        let name = Name::Tags(id.to_string());
        if let (Some(tags), Some(record)) = (tx.tags(&id.to_string()), tx.get::<R>(id)) {
            let mut record = Arc::unwrap_or_clone(record);
            record.tags_mut().clone_from(&tags.tags);
            tx.save(id, record);
            tx.delete(name);
        }
    }
}

/// Makes a default VPC: 172.31.0.0/16, a /20 in each zone, a gateway and a route to the internet.
pub fn default_vpc_make(tx: &mut Tx<'_>, scene: &Scene<'_>, ids: Ids) -> Result<Record, Refusal> {
    let range = Cidr4::new(Ipv4Addr::new(172, 31, 0, 0), 16).ok_or(NetworkRefusal::DefaultVpcMissing)?;
    let id = VpcId::from_bits(ids.bits(tx, scene.account, "vpc"));
    let group = SecurityGroupId::from_bits(ids.bits(tx, scene.account, "security-group"));
    let mut vpc = record_new(range, Vec::new(), dhcp_options(tx, scene));
    vpc.is_default = true;
    vpc.dns_hostnames = true;
    let made = vpc_make(tx, scene, id, Some(group), vpc)?;
    let Record::Vpc(vpc) = &made else { return Ok(made) };
    let gateway = InternetGatewayId::random(tx.random);
    let record = InternetGatewayRecord {
        internet_gateway_id: gateway.to_string(),
        vpc_id: vpc.vpc_id.clone(),
        tags: Vec::new(),
    };
    tx.save(gateway, record);
    let (table, record) = tx.find::<RouteTableRecord>(&vpc.main_route_table_id)?;
    let mut record = Arc::unwrap_or_clone(record);
    record.routes = vec![RouteRecord { destination: "0.0.0.0/0".into(), target: gateway.to_string() }];
    tx.save(table, record);
    for zone in scene.zones().take(SUBNETS_MAX) {
        let id = SubnetId::from_bits(ids.bits(tx, scene.account, zone.as_str()));
        default_subnet_make(tx, vpc, id, zone)?;
    }
    Ok(made)
}

/// Makes the default subnet of a zone: the first /20 of the VPC that is free.
pub fn default_subnet_make(
    tx: &mut Tx<'_>,
    vpc: &VpcRecord,
    id: SubnetId,
    zone: &ZoneName,
) -> Result<Record, Refusal> {
    let taken: Vec<Cidr4> = tx
        .all::<SubnetRecord>()
        .filter(|(_, subnet)| subnet.vpc_id == vpc.vpc_id)
        .filter_map(|(_, subnet)| subnet.cidr.parse().ok())
        .collect();
    let place = |index: u8| Cidr4::new(Ipv4Addr::new(172, 31, index * 16, 0), SUBNET_BITS);
    let free = (0..16).filter_map(place).find(|range| !taken.iter().any(|other| other.overlaps(*range)));
    let range = free.ok_or_else(|| NetworkRefusal::SubnetConflict("172.31.0.0/20".to_owned()))?;
    let record = SubnetRecord {
        vpc_id: vpc.vpc_id.clone(),
        zone: zone.to_string(),
        cidr: range.to_string(),
        is_default: true,
        map_public_address: true,
        ..SubnetRecord::default()
    };
    subnet::subnet_make(tx, id, record)
}

/// The set of DHCP options that VPCs begin with: an account has one, made when it is first needed.
pub fn dhcp_options(tx: &mut Tx<'_>, scene: &Scene<'_>) -> String {
    let id = DhcpOptionsId::from_bits(derive(scene.account, "dhcp-options"));
    if tx.get::<DhcpOptionsRecord>(id).is_none() {
        let region = scene.identity.name.as_str();
        // us-east-1 is older than the rule. Source: Amazon VPC User Guide, "DHCP option sets in Amazon VPC".
        let domain = if region == "us-east-1" {
            "ec2.internal".to_owned()
        } else {
            format!("{region}.compute.internal")
        };
        let option = |key: &str, value: String| DhcpOptionRecord { key: key.to_owned(), values: vec![value] };
        let record = DhcpOptionsRecord {
            dhcp_options_id: id.to_string(),
            options: vec![
                option("domain-name", domain),
                option("domain-name-servers", "AmazonProvidedDNS".to_owned()),
            ],
            tags: Vec::new(),
        };
        tx.save(id, record);
    }
    id.to_string()
}
