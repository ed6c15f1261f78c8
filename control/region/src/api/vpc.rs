//! The default network, which can only be read: DescribeVpcs, DescribeSubnets, DescribeSecurityGroups and
//! DescribeVpcAttribute. No instance has an interface in it yet.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::{Api, errors, parse, tag, zone};
use crate::model::Account;
use crate::tag::record::TagRecord;
use crate::vpc::{SUBNET_ADDRESSES, VPC_CIDR};
use aws::ec2::*;
use aws::{ApiError, Caller};
use base::ids::SubnetId;

/// DescribeVpcs.
pub fn vpcs_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeVpcsRequest,
) -> Result<DescribeVpcsResponse, ApiError> {
    let network = api.network(caller.account);
    for text in &input.vpc_ids {
        if parse::vpc_id(text)? != network.vpc {
            return Err(errors::vpc_not_found(text));
        }
    }
    let filters = Filters::read::<Tagged<'_, Vpc>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(input.vpc_ids.len(), "vpcIds", &asked)?;
    let selection = (&input.vpc_ids, &input.filters);
    let page = Page::open(api, caller, "DescribeVpcs", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    let id = network.vpc.to_string();
    let vpc = Vpc {
        owner_id: caller.account.to_string(),
        state: "available".to_owned(),
        cidr_block: VPC_CIDR.to_owned(),
        cidr_block_associations: vec![VpcCidrBlockAssociation {
            association_id: id.replacen("vpc-", "vpc-cidr-assoc-", 1),
            cidr_block: VPC_CIDR.to_owned(),
            cidr_block_state: VpcCidrBlockState { state: "associated".to_owned(), status_message: None },
        }],
        dhcp_options_id: "default".to_owned(),
        instance_tenancy: "default".to_owned(),
        is_default: true,
        tags: Vec::new(),
        vpc_id: id,
    };
    api.read(caller, |account| {
        let (vpcs, next_token) = page_of(account, &page, vec![vpc], &filters, |vpc| &vpc.vpc_id);
        let vpcs = vpcs.into_iter().map(|seen| Vpc { tags: tag::shapes(seen.tags), ..seen.resource });
        Ok(DescribeVpcsResponse { vpcs: vpcs.collect(), next_token })
    })
}

/// DescribeVpcAttribute: what a default VPC is set to.
pub fn attribute_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeVpcAttributeRequest,
) -> Result<VpcAttribute, ApiError> {
    if parse::vpc_id(&input.vpc_id)? != api.network(caller.account).vpc {
        return Err(errors::vpc_not_found(&input.vpc_id));
    }
    let names = ["enableDnsSupport", "enableDnsHostnames", "enableNetworkAddressUsageMetrics"];
    let name = parse::word("attribute", &input.attribute, &names)?;
    parse::dry_run(input.dry_run)?;
    let flag = |of: &str, value: bool| (of == name).then_some(AttributeBooleanValue { value: Some(value) });
    Ok(VpcAttribute {
        vpc_id: input.vpc_id,
        enable_dns_support: flag("enableDnsSupport", true),
        enable_dns_hostnames: flag("enableDnsHostnames", true),
        enable_network_address_usage_metrics: flag("enableNetworkAddressUsageMetrics", false),
    })
}

/// DescribeSubnets.
pub fn subnets_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeSubnetsRequest,
) -> Result<DescribeSubnetsResponse, ApiError> {
    let network = api.network(caller.account);
    for text in &input.subnet_ids {
        let id: Option<SubnetId> = text.parse().ok();
        if !network.subnets.iter().any(|subnet| Some(subnet.id) == id) {
            return Err(errors::subnet_not_found(text));
        }
    }
    let filters = Filters::read::<Tagged<'_, Subnet>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(input.subnet_ids.len(), "subnetIds", &asked)?;
    let selection = (&input.subnet_ids, &input.filters);
    let page = Page::open(api, caller, "DescribeSubnets", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    let subnets = network.subnets.iter().map(|subnet| Subnet {
        subnet_id: subnet.id.to_string(),
        subnet_arn: parse::arn(caller, "ec2", &format!("subnet/{}", subnet.id)),
        vpc_id: network.vpc.to_string(),
        owner_id: caller.account.to_string(),
        state: "available".to_owned(),
        cidr_block: subnet.cidr.clone(),
        available_ip_address_count: i32::try_from(SUBNET_ADDRESSES).unwrap_or(i32::MAX),
        availability_zone: subnet.zone.to_string(),
        availability_zone_id: zone::zone_id(&api.facts, subnet.zone.as_str()).unwrap_or_default(),
        default_for_az: true,
        // Nothing has a public address yet.
        map_public_ip_on_launch: false,
        ..Subnet::default()
    });
    let wanted =
        |subnet: &Subnet| input.subnet_ids.is_empty() || input.subnet_ids.contains(&subnet.subnet_id);
    let subnets = subnets.filter(wanted).collect();
    api.read(caller, |account| {
        let (subnets, next_token) = page_of(account, &page, subnets, &filters, |subnet| &subnet.subnet_id);
        let subnets =
            subnets.into_iter().map(|seen| Subnet { tags: tag::shapes(seen.tags), ..seen.resource });
        Ok(DescribeSubnetsResponse { subnets: subnets.collect(), next_token })
    })
}

/// DescribeSecurityGroups.
pub fn security_groups_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeSecurityGroupsRequest,
) -> Result<DescribeSecurityGroupsResponse, ApiError> {
    let network = api.network(caller.account);
    for text in &input.group_ids {
        if parse::security_group_id(text)? != network.security_group {
            return Err(errors::security_group_not_found(text));
        }
    }
    if let Some(name) = input.group_names.iter().find(|name| *name != DEFAULT) {
        return Err(errors::security_group_not_found(name));
    }
    let filters = Filters::read::<Tagged<'_, SecurityGroup>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(input.group_ids.len() + input.group_names.len(), "groupIds", &asked)?;
    let selection = (&input.group_ids, &input.group_names, &input.filters);
    let page = Page::open(api, caller, "DescribeSecurityGroups", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    let id = network.security_group.to_string();
    let owner_id = caller.account.to_string();
    let all = || IpPermission { ip_protocol: "-1".to_owned(), ..IpPermission::default() };
    let members =
        UserIdGroupPair { group_id: Some(id.clone()), user_id: Some(owner_id.clone()), ..Default::default() };
    let anywhere = IpRange { cidr_ip: "0.0.0.0/0".to_owned(), description: None };
    let group = SecurityGroup {
        group_name: DEFAULT.to_owned(),
        description: "default VPC security group".to_owned(),
        owner_id,
        vpc_id: network.vpc.to_string(),
        security_group_arn: parse::arn(caller, "ec2", &format!("security-group/{id}")),
        ip_permissions: vec![IpPermission { user_id_group_pairs: vec![members], ..all() }],
        ip_permissions_egress: vec![IpPermission { ip_ranges: vec![anywhere], ..all() }],
        tags: Vec::new(),
        group_id: id,
    };
    api.read(caller, |account| {
        let (groups, next_token) = page_of(account, &page, vec![group], &filters, |group| &group.group_id);
        let groups =
            groups.into_iter().map(|seen| SecurityGroup { tags: tag::shapes(seen.tags), ..seen.resource });
        Ok(DescribeSecurityGroupsResponse { security_groups: groups.collect(), next_token })
    })
}

/// The name of the one security group.
const DEFAULT: &str = "default";

/// A part of the network with its tags.
pub(super) struct Tagged<'a, T> {
    resource: T,
    tags: &'a [TagRecord],
}

/// The resources that the filters hold for, on this page, sorted by id.
fn page_of<'a, T>(
    account: &'a Account,
    page: &Page,
    resources: Vec<T>,
    filters: &Filters,
    id: impl Fn(&T) -> &String,
) -> (Vec<Tagged<'a, T>>, Option<String>)
where
    Tagged<'a, T>: Filtered,
{
    let tagged = |resource: T| Tagged { tags: tag::of(account, id(&resource)), resource };
    let mut seen: Vec<_> = resources.into_iter().map(tagged).filter(|seen| filters.hold(seen)).collect();
    seen.retain(|seen| page.is_after(id(&seen.resource)));
    seen.sort_by(|one, other| id(&one.resource).cmp(id(&other.resource)));
    page.take(seen.into_iter(), |seen| id(&seen.resource).clone())
}

impl Filtered for Tagged<'_, Vpc> {
    const NAMES: &'static [&'static str] = &[
        "cidr",
        "cidr-block-association.association-id",
        "cidr-block-association.cidr-block",
        "cidr-block-association.state",
        "dhcp-options-id",
        "is-default",
        "isDefault",
        "owner-id",
        "state",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let vpc = &self.resource;
        let mut ranges = vpc.cidr_block_associations.iter();
        Some(match name {
            "cidr" => is(&vpc.cidr_block),
            "cidr-block-association.association-id" => ranges.any(|range| is(&range.association_id)),
            "cidr-block-association.cidr-block" => ranges.any(|range| is(&range.cidr_block)),
            "cidr-block-association.state" => ranges.any(|range| is(&range.cidr_block_state.state)),
            "dhcp-options-id" => is(&vpc.dhcp_options_id),
            "is-default" | "isDefault" => is(&vpc.is_default.to_string()),
            "owner-id" => is(&vpc.owner_id),
            "state" => is(&vpc.state),
            "vpc-id" => is(&vpc.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.tags
    }
}

impl Filtered for Tagged<'_, Subnet> {
    const NAMES: &'static [&'static str] = &[
        "availability-zone",
        "availability-zone-id",
        "availabilityZone",
        "available-ip-address-count",
        "cidr",
        "cidr-block",
        "cidrBlock",
        "default-for-az",
        "defaultForAz",
        "map-public-ip-on-launch",
        "owner-id",
        "state",
        "subnet-arn",
        "subnet-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let subnet = &self.resource;
        Some(match name {
            "availability-zone" | "availabilityZone" => is(&subnet.availability_zone),
            "availability-zone-id" => is(&subnet.availability_zone_id),
            "available-ip-address-count" => is(&subnet.available_ip_address_count.to_string()),
            "cidr" | "cidr-block" | "cidrBlock" => is(&subnet.cidr_block),
            "default-for-az" | "defaultForAz" => is(&subnet.default_for_az.to_string()),
            "map-public-ip-on-launch" => is(&subnet.map_public_ip_on_launch.to_string()),
            "owner-id" => is(&subnet.owner_id),
            "state" => is(&subnet.state),
            "subnet-arn" => is(&subnet.subnet_arn),
            "subnet-id" => is(&subnet.subnet_id),
            "vpc-id" => is(&subnet.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.tags
    }
}

impl Filtered for Tagged<'_, SecurityGroup> {
    const NAMES: &'static [&'static str] = &["description", "group-id", "group-name", "owner-id", "vpc-id"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let group = &self.resource;
        Some(match name {
            "description" => is(&group.description),
            "group-id" => is(&group.group_id),
            "group-name" => is(&group.group_name),
            "owner-id" => is(&group.owner_id),
            "vpc-id" => is(&group.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        self.tags
    }
}
