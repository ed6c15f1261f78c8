//! Network ACLs: CreateNetworkAcl, DeleteNetworkAcl, DescribeNetworkAcls, their entries and associations.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::network::NetworkChange;
use crate::network_acl::Change;
use crate::network_acl::record::{AclEntryRecord, NetworkAclRecord};
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};

/// The highest number of an entry. Source: Amazon EC2 API Reference, CreateNetworkAclEntry.
const NUMBER_MAX: u32 = 32_766;
/// The number that AWS shows for the last entry, which denies.
const NUMBER_LAST: i32 = 32_767;

/// CreateNetworkAcl.
pub async fn acl_create(
    api: &Api,
    caller: &Caller,
    mut input: CreateNetworkAclRequest,
) -> Result<CreateNetworkAclResponse, ApiError> {
    let (client_token, dry_run) = (input.client_token.take(), input.dry_run.take());
    let token = resource::token("CreateNetworkAcl", client_token.clone(), &input)?;
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let tags = tag::specified(&input.tag_specifications, "network-acl")?;
    parse::dry_run(dry_run)?;
    let change = NetworkChange::NetworkAcl(Change::Create { vpc: input.vpc_id, tags });
    let answer = resource::change(api, caller, change, token).await?;
    let record = resource::made::<NetworkAclRecord>(&answer)?;
    let network_acl = resource::told(api, caller, &*record, |seen| seen.shape())?;
    Ok(CreateNetworkAclResponse { network_acl, client_token })
}

async fn done(api: &Api, caller: &Caller, change: Change) -> Result<Return, ApiError> {
    resource::change(api, caller, NetworkChange::NetworkAcl(change), None).await?;
    Ok(Return::TRUE)
}

/// DeleteNetworkAcl.
pub async fn acl_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteNetworkAclRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<NetworkAclRecord>(&input.network_acl_id)?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Delete(input.network_acl_id)).await
}

/// CreateNetworkAclEntry.
pub async fn entry_create(
    api: &Api,
    caller: &Caller,
    input: CreateNetworkAclEntryRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<NetworkAclRecord>(&input.network_acl_id)?;
    let asked = Entry {
        number: input.rule_number,
        egress: input.egress,
        action: &input.rule_action,
        protocol: &input.protocol,
        cidr: input.cidr_block,
        cidr_ipv6: input.ipv6_cidr_block,
        icmp: input.icmp_type_code,
        ports: input.port_range,
    };
    let entry = asked.record()?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::EntryCreate(input.network_acl_id, entry)).await
}

/// ReplaceNetworkAclEntry.
pub async fn entry_replace(
    api: &Api,
    caller: &Caller,
    input: ReplaceNetworkAclEntryRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<NetworkAclRecord>(&input.network_acl_id)?;
    let asked = Entry {
        number: input.rule_number,
        egress: input.egress,
        action: &input.rule_action,
        protocol: &input.protocol,
        cidr: input.cidr_block,
        cidr_ipv6: input.ipv6_cidr_block,
        icmp: input.icmp_type_code,
        ports: input.port_range,
    };
    let entry = asked.record()?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::EntryReplace(input.network_acl_id, entry)).await
}

/// An entry as it is asked for.
struct Entry<'a> {
    number: i32,
    egress: bool,
    action: &'a str,
    protocol: &'a str,
    cidr: Option<String>,
    cidr_ipv6: Option<String>,
    icmp: Option<IcmpTypeCode>,
    ports: Option<PortRange>,
}

impl Entry<'_> {
    fn record(self) -> Result<AclEntryRecord, ApiError> {
        let protocol = parse::protocol("protocol", self.protocol)?;
        let allow = parse::word("ruleAction", self.action, &["allow", "deny"])? == "allow";
        let cidr = match (self.cidr, self.cidr_ipv6) {
            (Some(cidr), None) => parse::cidr4("cidrBlock", &cidr)?.to_string(),
            (None, Some(cidr)) => parse::cidr6("ipv6CidrBlock", &cidr)?.to_string(),
            (Some(_), Some(_)) => return Err(errors::excluded("cidrBlock", "ipv6CidrBlock")),
            (None, None) => return Err(parse::missing("cidrBlock")),
        };
        let (first, last) = match protocol {
            6 | 17 => {
                let ports = self.ports.ok_or_else(|| parse::missing("portRange"))?;
                let end = |name: &str, port: Option<i32>| {
                    let port = port.ok_or_else(|| parse::missing(name))?;
                    let valid = (0..=65_535).contains(&port);
                    let reason = "A port is 0 to 65535.";
                    if valid { Ok(port) } else { Err(errors::invalid_value(name, &port, reason)) }
                };
                let (first, last) = (end("portRange.from", ports.from)?, end("portRange.to", ports.to)?);
                if first > last {
                    let reason = "The first port is above the last.";
                    return Err(errors::invalid_value("portRange.from", &first, reason));
                }
                (first, last)
            }
            1 | 58 => {
                let icmp = self.icmp.ok_or_else(|| parse::missing("icmpTypeCode"))?;
                let part = |name: &str, value: Option<i32>| {
                    let value = value.ok_or_else(|| parse::missing(name))?;
                    let valid = (-1..=255).contains(&value);
                    let reason = "-1 to 255 is expected.";
                    if valid { Ok(value) } else { Err(errors::invalid_value(name, &value, reason)) }
                };
                (part("icmpTypeCode.type", icmp.r#type)?, part("icmpTypeCode.code", icmp.code)?)
            }
            // Ports and types of other protocols mean nothing; AWS takes them and forgets them.
            _ => (0, 0),
        };
        Ok(AclEntryRecord {
            number: number(self.number)?,
            egress: self.egress,
            allow,
            protocol,
            cidr,
            first,
            last,
        })
    }
}

fn number(number: i32) -> Result<u32, ApiError> {
    let valid = u32::try_from(number).ok().filter(|number| (1..=NUMBER_MAX).contains(number));
    valid.ok_or_else(|| errors::invalid_value("ruleNumber", &number, "The number of an entry is 1 to 32766."))
}

/// DeleteNetworkAclEntry.
pub async fn entry_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteNetworkAclEntryRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<NetworkAclRecord>(&input.network_acl_id)?;
    let number = number(input.rule_number)?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::EntryDelete { acl: input.network_acl_id, number, egress: input.egress }).await
}

/// ReplaceNetworkAclAssociation.
pub async fn association_replace(
    api: &Api,
    caller: &Caller,
    input: ReplaceNetworkAclAssociationRequest,
) -> Result<ReplaceNetworkAclAssociationResponse, ApiError> {
    parse::resource_id::<NetworkAclRecord>(&input.network_acl_id)?;
    parse::dry_run(input.dry_run)?;
    let change = Change::AssociationReplace { association: input.association_id, acl: input.network_acl_id };
    let answer = resource::change(api, caller, NetworkChange::NetworkAcl(change), None).await?;
    let new_association_id = resource::association(answer)?;
    Ok(ReplaceNetworkAclAssociationResponse { new_association_id })
}

/// DescribeNetworkAcls.
pub fn acls_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeNetworkAclsRequest,
) -> Result<DescribeNetworkAclsResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeNetworkAcls",
        parameter: "networkAclIds",
        ids: &input.network_acl_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (network_acls, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, NetworkAclRecord>| seen.shape())?;
    Ok(DescribeNetworkAclsResponse { network_acls, next_token })
}

impl Seen<'_, NetworkAclRecord> {
    fn subnets(&self) -> impl Iterator<Item = &SubnetRecord> {
        let subnets = self.account.all::<SubnetRecord>().map(AsRef::as_ref);
        subnets.filter(|subnet: &&SubnetRecord| subnet.network_acl_id == self.record.network_acl_id)
    }

    /// The entries with the last ones, which deny: one in each direction, and two in a VPC with IPv6.
    fn entries(&self) -> impl Iterator<Item = NetworkAclEntry> {
        let vpc = self.account.named::<VpcRecord>(&self.record.vpc_id);
        let ipv6 = vpc.is_some_and(|vpc| !vpc.cidrs_ipv6.is_empty());
        let deny = |egress: bool, cidr: &str, number: i32| NetworkAclEntry {
            cidr_block: Some(cidr.to_owned()).filter(|_| number == NUMBER_LAST),
            ipv6_cidr_block: Some(cidr.to_owned()).filter(|_| number > NUMBER_LAST),
            egress,
            protocol: "-1".to_owned(),
            rule_action: "deny".to_owned(),
            rule_number: number,
            ..NetworkAclEntry::default()
        };
        let last = [true, false].into_iter().flat_map(move |egress| {
            let second = ipv6.then(|| deny(egress, "::/0", NUMBER_LAST + 1));
            [Some(deny(egress, "0.0.0.0/0", NUMBER_LAST)), second].into_iter().flatten()
        });
        self.record.entries.iter().map(entry_shape).chain(last)
    }

    fn associations(&self) -> impl Iterator<Item = NetworkAclAssociation> {
        self.subnets().map(|subnet| NetworkAclAssociation {
            network_acl_association_id: subnet.network_acl_association_id.clone(),
            network_acl_id: subnet.network_acl_id.clone(),
            subnet_id: subnet.subnet_id.clone(),
        })
    }

    fn shape(&self) -> NetworkAcl {
        NetworkAcl {
            network_acl_id: self.record.network_acl_id.clone(),
            vpc_id: self.record.vpc_id.clone(),
            owner_id: self.owner_id(),
            is_default: self.record.is_default,
            entries: self.entries().collect(),
            associations: self.associations().collect(),
            tags: tag::shapes(&self.record.tags),
        }
    }
}

fn entry_shape(entry: &AclEntryRecord) -> NetworkAclEntry {
    let ipv6 = entry.cidr.contains(':');
    let ports = matches!(entry.protocol, 6 | 17);
    let icmp = matches!(entry.protocol, 1 | 58);
    NetworkAclEntry {
        cidr_block: Some(entry.cidr.clone()).filter(|_| !ipv6),
        ipv6_cidr_block: Some(entry.cidr.clone()).filter(|_| ipv6),
        egress: entry.egress,
        icmp_type_code: icmp.then_some(IcmpTypeCode { r#type: Some(entry.first), code: Some(entry.last) }),
        port_range: ports.then_some(PortRange { from: Some(entry.first), to: Some(entry.last) }),
        protocol: entry.protocol.to_string(),
        rule_action: if entry.allow { "allow" } else { "deny" }.to_owned(),
        rule_number: i32::try_from(entry.number).unwrap_or(i32::MAX),
    }
}

impl Filtered for Seen<'_, NetworkAclRecord> {
    const NAMES: &'static [&'static str] = &[
        "association.association-id",
        "association.network-acl-id",
        "association.subnet-id",
        "default",
        "entry.cidr",
        "entry.egress",
        "entry.icmp.code",
        "entry.icmp.type",
        "entry.ipv6-cidr",
        "entry.port-range.from",
        "entry.port-range.to",
        "entry.protocol",
        "entry.rule-action",
        "entry.rule-number",
        "network-acl-id",
        "owner-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let acl = self.record;
        let number = |value: Option<i32>| value.is_some_and(|value| is(&value.to_string()));
        let icmp = |entry: &NetworkAclEntry| entry.icmp_type_code.clone().unwrap_or_default();
        let ports = |entry: &NetworkAclEntry| entry.port_range.clone().unwrap_or_default();
        Some(match name {
            "association.association-id" => {
                self.subnets().any(|subnet| is(&subnet.network_acl_association_id))
            }
            "association.network-acl-id" => self.subnets().any(|subnet| is(&subnet.network_acl_id)),
            "association.subnet-id" => self.subnets().any(|subnet| is(&subnet.subnet_id)),
            "default" => is(&acl.is_default.to_string()),
            "entry.cidr" => self.entries().any(|entry| entry.cidr_block.is_some_and(|cidr| is(&cidr))),
            "entry.egress" => self.entries().any(|entry| is(&entry.egress.to_string())),
            "entry.icmp.code" => self.entries().any(|entry| number(icmp(&entry).code)),
            "entry.icmp.type" => self.entries().any(|entry| number(icmp(&entry).r#type)),
            "entry.ipv6-cidr" => {
                self.entries().any(|entry| entry.ipv6_cidr_block.is_some_and(|cidr| is(&cidr)))
            }
            "entry.port-range.from" => self.entries().any(|entry| number(ports(&entry).from)),
            "entry.port-range.to" => self.entries().any(|entry| number(ports(&entry).to)),
            "entry.protocol" => self.entries().any(|entry| is(&entry.protocol)),
            "entry.rule-action" => self.entries().any(|entry| is(&entry.rule_action)),
            "entry.rule-number" => self.entries().any(|entry| number(Some(entry.rule_number))),
            "network-acl-id" => is(&acl.network_acl_id),
            "owner-id" => is(&self.owner_id()),
            "vpc-id" => is(&acl.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
