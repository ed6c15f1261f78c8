//! VPCs: CreateVpc, CreateDefaultVpc, DeleteVpc, DescribeVpcs, their attributes and their ranges.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::network::NetworkChange;
use crate::tag::record::TagRecord;
use crate::vpc::record::{CidrRecord, VpcRecord};
use crate::vpc::{Attribute, Change};
use aws::ec2::*;
use aws::{ApiError, Caller};

/// CreateVpc.
pub async fn vpc_create(
    api: &Api,
    caller: &Caller,
    input: CreateVpcRequest,
) -> Result<CreateVpcResponse, ApiError> {
    let Some(cidr) = input.cidr_block else { return Err(parse::missing("cidrBlock")) };
    let cidr = parse::cidr4("cidrBlock", &cidr)?;
    let tenancy = input.instance_tenancy.as_deref().unwrap_or("default");
    if parse::word("instanceTenancy", tenancy, &["default", "dedicated", "host"])? != "default" {
        return Err(errors::unsupported(format!("The tenancy {tenancy} is not supported by Nephos yet.")));
    }
    let tags = tag::specified(&input.tag_specifications, "vpc")?;
    parse::dry_run(input.dry_run)?;
    let ipv6 = input.amazon_provided_ipv6_cidr_block.unwrap_or(false);
    made(api, caller, Change::Create { cidr, ipv6, tags }).await
}

/// CreateDefaultVpc.
pub async fn default_vpc_create(
    api: &Api,
    caller: &Caller,
    input: CreateDefaultVpcRequest,
) -> Result<CreateVpcResponse, ApiError> {
    parse::dry_run(input.dry_run)?;
    made(api, caller, Change::CreateDefault).await
}

async fn made(api: &Api, caller: &Caller, change: Change) -> Result<CreateVpcResponse, ApiError> {
    let answer = resource::change(api, caller, NetworkChange::Vpc(change), None).await?;
    let record = resource::made::<VpcRecord>(&answer)?;
    Ok(CreateVpcResponse { vpc: resource::told(api, caller, &*record, |seen| seen.shape())? })
}

/// DeleteVpc.
pub async fn vpc_delete(api: &Api, caller: &Caller, input: DeleteVpcRequest) -> Result<Return, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    parse::dry_run(input.dry_run)?;
    resource::change(api, caller, NetworkChange::Vpc(Change::Delete(input.vpc_id)), None).await?;
    Ok(Return::TRUE)
}

/// DescribeVpcs.
pub fn vpcs_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeVpcsRequest,
) -> Result<DescribeVpcsResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeVpcs",
        parameter: "vpcIds",
        ids: &input.vpc_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (vpcs, next_token) = resource::list(api, caller, listing, |seen: Seen<'_, VpcRecord>| seen.shape())?;
    Ok(DescribeVpcsResponse { vpcs, next_token })
}

/// DescribeVpcAttribute.
pub fn attribute_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeVpcAttributeRequest,
) -> Result<VpcAttribute, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let names = ["enableDnsSupport", "enableDnsHostnames", "enableNetworkAddressUsageMetrics"];
    let name = parse::word("attribute", &input.attribute, &names)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let vpc = resource::find::<VpcRecord>(account, &input.vpc_id)?;
        let flag =
            |of: &str, value: bool| (of == name).then_some(AttributeBooleanValue { value: Some(value) });
        Ok(VpcAttribute {
            enable_dns_support: flag("enableDnsSupport", vpc.dns_support),
            enable_dns_hostnames: flag("enableDnsHostnames", vpc.dns_hostnames),
            enable_network_address_usage_metrics: flag(
                "enableNetworkAddressUsageMetrics",
                vpc.address_metrics,
            ),
            vpc_id: vpc.vpc_id.clone(),
        })
    })
}

/// ModifyVpcAttribute: one attribute at a time.
pub async fn attribute_modify(
    api: &Api,
    caller: &Caller,
    input: ModifyVpcAttributeRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let named = [
        ("enableDnsSupport", input.enable_dns_support, Attribute::DnsSupport),
        ("enableDnsHostnames", input.enable_dns_hostnames, Attribute::DnsHostnames),
        (
            "enableNetworkAddressUsageMetrics",
            input.enable_network_address_usage_metrics,
            Attribute::AddressMetrics,
        ),
    ];
    let values = named.into_iter().map(|(name, value, of)| (name, value.map(|value| (of, value))));
    let (attribute, value) = parse::exactly_one(values, "enableDnsSupport or enableDnsHostnames")?;
    let on = value.value.ok_or_else(|| parse::missing("Value"))?;
    let change = Change::Modify(input.vpc_id, attribute, on);
    resource::change(api, caller, NetworkChange::Vpc(change), None).await?;
    Ok(Return::TRUE)
}

/// AssociateVpcCidrBlock.
pub async fn range_associate(
    api: &Api,
    caller: &Caller,
    input: AssociateVpcCidrBlockRequest,
) -> Result<VpcCidrBlockAssociated, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let ipv6 = input.amazon_provided_ipv6_cidr_block.unwrap_or(false);
    let cidr = match (input.cidr_block, ipv6) {
        (Some(_), true) => return Err(errors::excluded("cidrBlock", "amazonProvidedIpv6CidrBlock")),
        (Some(cidr), false) => Some(parse::cidr4("cidrBlock", &cidr)?),
        (None, true) => None,
        (None, false) => return Err(parse::missing("cidrBlock")),
    };
    let change = NetworkChange::Vpc(Change::RangeAdd(input.vpc_id, cidr));
    let answer = resource::change(api, caller, change, None).await?;
    let vpc = resource::made::<VpcRecord>(&answer)?;
    resource::told(api, caller, &*vpc, |seen| {
        let ranges = if cidr.is_some() { &vpc.cidrs } else { &vpc.cidrs_ipv6 };
        seen.associated(ranges.last().map(|range| range.association_id.as_str()), "associating")
    })
}

/// DisassociateVpcCidrBlock.
pub async fn range_disassociate(
    api: &Api,
    caller: &Caller,
    input: DisassociateVpcCidrBlockRequest,
) -> Result<VpcCidrBlockAssociated, ApiError> {
    let association = input.association_id;
    let change = NetworkChange::Vpc(Change::RangeRemove(association.clone()));
    let answer = resource::change(api, caller, change, None).await?;
    let before = resource::made::<VpcRecord>(&answer)?;
    resource::told(api, caller, &*before, |seen| seen.associated(Some(&association), "disassociating"))
}

/// A state of a range.
fn state(state: &str) -> VpcCidrBlockState {
    VpcCidrBlockState { state: state.to_owned(), status_message: None }
}

impl Seen<'_, VpcRecord> {
    fn dhcp_options_id(&self) -> &str {
        if self.record.dhcp_options_id.is_empty() { "default" } else { &self.record.dhcp_options_id }
    }

    fn range(&self, range: &CidrRecord, word: &str) -> VpcCidrBlockAssociation {
        VpcCidrBlockAssociation {
            association_id: range.association_id.clone(),
            cidr_block: range.cidr.clone(),
            cidr_block_state: state(word),
        }
    }

    fn range_ipv6(&self, range: &CidrRecord, word: &str) -> VpcIpv6CidrBlockAssociation {
        VpcIpv6CidrBlockAssociation {
            association_id: range.association_id.clone(),
            ipv6_cidr_block: range.cidr.clone(),
            ipv6_cidr_block_state: state(word),
            network_border_group: self.api.facts.region.to_string(),
            ipv6_pool: "Amazon".to_owned(),
        }
    }

    fn associated(&self, association: Option<&str>, word: &str) -> VpcCidrBlockAssociated {
        let is = |range: &&CidrRecord| Some(range.association_id.as_str()) == association;
        VpcCidrBlockAssociated {
            cidr_block_association: self.record.cidrs.iter().find(is).map(|one| self.range(one, word)),
            ipv6_cidr_block_association: self
                .record
                .cidrs_ipv6
                .iter()
                .find(is)
                .map(|one| self.range_ipv6(one, word)),
            vpc_id: self.record.vpc_id.clone(),
        }
    }

    /// The VPC as customers see it.
    pub fn shape(&self) -> Vpc {
        let vpc = self.record;
        Vpc {
            vpc_id: vpc.vpc_id.clone(),
            owner_id: self.owner_id(),
            state: "available".to_owned(),
            cidr_block: vpc.cidrs.first().map(|range| range.cidr.clone()).unwrap_or_default(),
            cidr_block_associations: vpc.cidrs.iter().map(|one| self.range(one, "associated")).collect(),
            ipv6_cidr_block_associations: vpc
                .cidrs_ipv6
                .iter()
                .map(|one| self.range_ipv6(one, "associated"))
                .collect(),
            dhcp_options_id: self.dhcp_options_id().to_owned(),
            instance_tenancy: "default".to_owned(),
            is_default: vpc.is_default,
            tags: tag::shapes(&vpc.tags),
        }
    }
}

impl Filtered for Seen<'_, VpcRecord> {
    const NAMES: &'static [&'static str] = &[
        "cidr",
        "cidr-block-association.association-id",
        "cidr-block-association.cidr-block",
        "cidr-block-association.state",
        "dhcp-options-id",
        "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.ipv6-cidr-block",
        "ipv6-cidr-block-association.ipv6-pool",
        "ipv6-cidr-block-association.state",
        "is-default",
        "isDefault",
        "owner-id",
        "state",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let vpc = self.record;
        let mut ranges = vpc.cidrs.iter();
        let mut ipv6 = vpc.cidrs_ipv6.iter();
        Some(match name {
            "cidr" => ranges.next().is_some_and(|range| is(&range.cidr)),
            "cidr-block-association.association-id" => ranges.any(|range| is(&range.association_id)),
            "cidr-block-association.cidr-block" => ranges.any(|range| is(&range.cidr)),
            "cidr-block-association.state" => ranges.any(|_| is("associated")),
            "dhcp-options-id" => is(self.dhcp_options_id()),
            "ipv6-cidr-block-association.association-id" => ipv6.any(|range| is(&range.association_id)),
            "ipv6-cidr-block-association.ipv6-cidr-block" => ipv6.any(|range| is(&range.cidr)),
            "ipv6-cidr-block-association.ipv6-pool" => ipv6.any(|_| is("Amazon")),
            "ipv6-cidr-block-association.state" => ipv6.any(|_| is("associated")),
            "is-default" | "isDefault" => is(&vpc.is_default.to_string()),
            "owner-id" => is(&self.owner_id()),
            "state" => is("available"),
            "vpc-id" => is(&vpc.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
