//! Virtual networks: what the read operations need until networks can be made.

use super::{AttributeBooleanValue, Filter, Tag};
use crate::Shape;

/// The input of DescribeVpcs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcsRequest {
    /// Only these.
    pub vpc_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeVpcs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcsResponse {
    /// The VPCs of this page.
    pub vpcs: Vec<Vpc>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A virtual network.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Vpc {
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// The account that owns it.
    pub owner_id: String,
    /// `available` or `pending`.
    pub state: String,
    /// Its first range: `10.0.0.0/16`.
    pub cidr_block: String,
    /// All its ranges.
    #[shape(response = "cidrBlockAssociationSet")]
    pub cidr_block_associations: Vec<VpcCidrBlockAssociation>,
    /// `dopt-0123456789abcdef0`, or `default`.
    pub dhcp_options_id: String,
    /// `default` or `dedicated`.
    pub instance_tenancy: String,
    /// Whether it is the account's default one.
    pub is_default: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A range of a VPC.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcCidrBlockAssociation {
    /// `vpc-cidr-assoc-0123456789abcdef0`.
    pub association_id: String,
    /// `10.0.0.0/16`.
    pub cidr_block: String,
    /// Where it is in its life.
    pub cidr_block_state: VpcCidrBlockState,
}

/// Where a range is in its life.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcCidrBlockState {
    /// `associated`...
    pub state: String,
    /// Why, if it failed.
    pub status_message: Option<String>,
}

/// The input of DescribeVpcAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcAttributeRequest {
    /// Which VPC.
    pub vpc_id: String,
    /// `enableDnsHostnames`, `enableDnsSupport` or `enableNetworkAddressUsageMetrics`.
    pub attribute: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeVpcAttribute: the one attribute asked for.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcAttribute {
    /// The VPC.
    pub vpc_id: String,
    /// Whether instances with public addresses get public names.
    pub enable_dns_hostnames: Option<AttributeBooleanValue>,
    /// Whether AWS's name server answers.
    pub enable_dns_support: Option<AttributeBooleanValue>,
    /// Whether the use of addresses is measured.
    pub enable_network_address_usage_metrics: Option<AttributeBooleanValue>,
}

/// The input of DescribeSubnets.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSubnetsRequest {
    /// Only these.
    pub subnet_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeSubnets.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSubnetsResponse {
    /// The subnets of this page.
    pub subnets: Vec<Subnet>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A part of a virtual network, in one zone.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Subnet {
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// `arn:aws:ec2:REGION:ACCOUNT:subnet/SUBNET`.
    pub subnet_arn: String,
    /// Its VPC.
    pub vpc_id: String,
    /// The account that owns it.
    pub owner_id: String,
    /// `available` or `pending`.
    pub state: String,
    /// Its range: `10.0.1.0/24`.
    pub cidr_block: String,
    /// Addresses that are free.
    pub available_ip_address_count: i32,
    /// `us-east-1a`.
    pub availability_zone: String,
    /// `use1-az1`.
    pub availability_zone_id: String,
    /// Whether it is the zone's default one.
    pub default_for_az: bool,
    /// Whether instances get public addresses.
    pub map_public_ip_on_launch: bool,
    /// Whether network cards get IPv6 addresses.
    pub assign_ipv6_address_on_creation: bool,
    /// Whether it has no IPv4.
    pub ipv6_native: bool,
    /// Whether its name server makes IPv6 answers from IPv4 ones.
    pub enable_dns64: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The input of DescribeSecurityGroups.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupsRequest {
    /// Only these, by id.
    pub group_ids: Vec<String>,
    /// Only these, of the default VPC, by name.
    pub group_names: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeSecurityGroups.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupsResponse {
    /// The groups of this page.
    #[shape(response = "securityGroupInfo")]
    pub security_groups: Vec<SecurityGroup>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A stateful firewall.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroup {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Its name.
    pub group_name: String,
    /// What its owner says about it.
    #[shape(response = "groupDescription")]
    pub description: String,
    /// The account that owns it.
    pub owner_id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// `arn:aws:ec2:REGION:ACCOUNT:security-group/GROUP`.
    pub security_group_arn: String,
    /// What may come in.
    #[shape(response = "ipPermissions")]
    pub ip_permissions: Vec<IpPermission>,
    /// What may go out.
    #[shape(response = "ipPermissionsEgress")]
    pub ip_permissions_egress: Vec<IpPermission>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// What a security group lets through.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
    pub ip_protocol: String,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// Peers, by group.
    #[shape(request = "Groups", response = "groups")]
    pub user_id_group_pairs: Vec<UserIdGroupPair>,
    /// Peers, by IPv4 range.
    #[shape(request = "IpRanges", response = "ipRanges")]
    pub ip_ranges: Vec<IpRange>,
    /// Peers, by IPv6 range.
    #[shape(request = "Ipv6Ranges", response = "ipv6Ranges")]
    pub ipv6_ranges: Vec<Ipv6Range>,
    /// Peers, by list of ranges.
    #[shape(request = "PrefixListIds", response = "prefixListIds")]
    pub prefix_list_ids: Vec<PrefixListId>,
}

/// A peer of a permission, by group.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct UserIdGroupPair {
    /// The group.
    pub group_id: Option<String>,
    /// The group's name, outside a VPC.
    pub group_name: Option<String>,
    /// The account that owns the group.
    pub user_id: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// A peer of a permission, by IPv4 range.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct IpRange {
    /// `10.0.0.0/8`.
    pub cidr_ip: String,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// A peer of a permission, by IPv6 range.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Ipv6Range {
    /// `fd00::/8`.
    pub cidr_ipv6: String,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// A peer of a permission, by list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PrefixListId {
    /// `pl-0123456789abcdef0`.
    pub prefix_list_id: String,
    /// What its owner says about it.
    pub description: Option<String>,
}
