//! VPCs and their ranges.

use super::{AttributeBooleanValue, Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateVpc.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv4IpamPoolId, Ipv4NetmaskLength, Ipv6CidrBlock")]
#[shape(unsupported = "Ipv6CidrBlockNetworkBorderGroup, Ipv6IpamPoolId, Ipv6NetmaskLength")]
#[shape(unsupported = "Ipv6Pool, VpcEncryptionControl")]
pub struct CreateVpcRequest {
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `default`, `dedicated` or `host`.
    pub instance_tenancy: Option<String>,
    /// Whether to give it an IPv6 range of the region's own.
    pub amazon_provided_ipv6_cidr_block: Option<bool>,
}

/// The answer of CreateVpc.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateVpcResponse {
    /// The VPC.
    pub vpc: Vpc,
}

/// A virtual network.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Vpc {
    /// The account that owns it.
    pub owner_id: String,
    /// `default`, `dedicated` or `host`.
    pub instance_tenancy: String,
    /// Its IPv6 ranges.
    pub ipv6_cidr_block_associations: Vec<VpcIpv6CidrBlockAssociation>,
    /// All its IPv4 ranges.
    pub cidr_block_associations: Vec<VpcCidrBlockAssociation>,
    /// Whether it is the default one.
    pub is_default: bool,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// `available` or `pending`.
    pub state: String,
    /// Its first range: `10.0.0.0/16`.
    pub cidr_block: String,
    /// `dopt-0123456789abcdef0`, or `default`.
    pub dhcp_options_id: String,
}

/// An IPv6 range of a VPC.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcIpv6CidrBlockAssociation {
    /// Names the association.
    pub association_id: String,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: String,
    /// Where the range is in its life.
    pub ipv6_cidr_block_state: VpcCidrBlockState,
    /// The region, or a zone that announces addresses of its own.
    pub network_border_group: String,
    /// `Amazon`: the region's own addresses.
    pub ipv6_pool: String,
}

/// A range of a VPC.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcCidrBlockAssociation {
    /// Names the association.
    pub association_id: String,
    /// A range: `10.0.0.0/16`.
    pub cidr_block: String,
    /// Where the range is in its life.
    pub cidr_block_state: VpcCidrBlockState,
}

/// Where a range of a VPC is in its life.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcCidrBlockState {
    /// `associated`...
    pub state: String,
    /// Why, if it failed.
    pub status_message: Option<String>,
}

/// The input of DeleteVpc.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteVpcRequest {
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of DescribeVpcs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcsRequest {
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only these.
    pub vpc_ids: Vec<String>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeVpcs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcsResponse {
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
    /// The VPCs of this page.
    pub vpcs: Vec<Vpc>,
}

/// The input of DescribeVpcAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeVpcAttributeRequest {
    /// Which attribute.
    pub attribute: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeVpcAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcAttribute {
    /// Whether instances with public addresses get public names.
    pub enable_dns_hostnames: Option<AttributeBooleanValue>,
    /// Whether the VPC's name server answers.
    pub enable_dns_support: Option<AttributeBooleanValue>,
    /// Whether the use of addresses is measured.
    pub enable_network_address_usage_metrics: Option<AttributeBooleanValue>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The input of ModifyVpcAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ModifyVpcAttributeRequest {
    /// Whether instances with public addresses get public names.
    pub enable_dns_hostnames: Option<AttributeBooleanValue>,
    /// Whether the VPC's name server answers.
    pub enable_dns_support: Option<AttributeBooleanValue>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Whether the use of addresses is measured.
    pub enable_network_address_usage_metrics: Option<AttributeBooleanValue>,
}

/// The input of AssociateVpcCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv4IpamPoolId, Ipv4NetmaskLength, Ipv6CidrBlock")]
#[shape(unsupported = "Ipv6CidrBlockNetworkBorderGroup, Ipv6IpamPoolId, Ipv6NetmaskLength")]
#[shape(unsupported = "Ipv6Pool")]
pub struct AssociateVpcCidrBlockRequest {
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Whether to give it an IPv6 range of the region's own.
    pub amazon_provided_ipv6_cidr_block: Option<bool>,
}

/// The answer of AssociateVpcCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VpcCidrBlockAssociated {
    /// The IPv6 range.
    pub ipv6_cidr_block_association: Option<VpcIpv6CidrBlockAssociation>,
    /// The IPv4 range.
    pub cidr_block_association: Option<VpcCidrBlockAssociation>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The input of DisassociateVpcCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DisassociateVpcCidrBlockRequest {
    /// Names the association.
    pub association_id: String,
}

/// The input of CreateDefaultVpc.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateDefaultVpcRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}
