//! Subnets.

use super::{AttributeBooleanValue, Filter, Tag, TagSpecification};
use crate::Shape;
use crate::shape::Off;

/// The input of CreateSubnet.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv4IpamPoolId, Ipv4NetmaskLength, Ipv6IpamPoolId, Ipv6NetmaskLength")]
#[shape(unsupported = "OutpostArn")]
pub struct CreateSubnetRequest {
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// `us-east-1a`.
    pub availability_zone: Option<String>,
    /// `use1-az1`.
    pub availability_zone_id: Option<String>,
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: Option<String>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Whether it has no IPv4.
    pub ipv6_native: Off,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of CreateSubnet.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateSubnetResponse {
    /// The subnet.
    pub subnet: Subnet,
}

/// A part of a virtual network, in one zone.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Subnet {
    /// `use1-az1`.
    pub availability_zone_id: String,
    /// Always false: there are no Outposts.
    pub map_customer_owned_ip_on_launch: bool,
    /// The account that owns it.
    pub owner_id: String,
    /// Whether network cards get IPv6 addresses.
    pub assign_ipv6_address_on_creation: bool,
    /// Its IPv6 ranges.
    pub ipv6_cidr_block_associations: Vec<SubnetIpv6CidrBlockAssociation>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `arn:aws:ec2:REGION:ACCOUNT:subnet/SUBNET`.
    pub subnet_arn: String,
    /// Whether its name server makes IPv6 answers from IPv4 ones.
    pub enable_dns64: bool,
    /// Whether it has no IPv4.
    pub ipv6_native: bool,
    /// How its instances are named.
    pub private_dns_name_options_on_launch: PrivateDnsNameOptionsOnLaunch,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// Where it is in its life.
    pub state: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// A range: `10.0.0.0/16`.
    pub cidr_block: String,
    /// Addresses that are free.
    pub available_ip_address_count: i32,
    /// `us-east-1a`.
    pub availability_zone: String,
    /// Whether it is the zone's default one.
    pub default_for_az: bool,
    /// Whether instances get public addresses.
    pub map_public_ip_on_launch: bool,
}

/// An IPv6 range of a subnet.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SubnetIpv6CidrBlockAssociation {
    /// Names the association.
    pub association_id: String,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: String,
    /// Where the range is in its life.
    pub ipv6_cidr_block_state: SubnetCidrBlockState,
}

/// How a subnet's instances are named.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PrivateDnsNameOptionsOnLaunch {
    /// `ip-name`: after the address.
    pub hostname_type: String,
    /// Whether names after instances answer with IPv4 addresses.
    pub enable_resource_name_dns_a_record: bool,
    /// Whether names after instances answer with IPv6 addresses.
    #[shape(response = "enableResourceNameDnsAAAARecord")]
    pub enable_resource_name_dns_aaaa_record: bool,
}

/// Where a range of a subnet is in its life.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SubnetCidrBlockState {
    /// `associated`...
    pub state: String,
    /// Why, if it failed.
    pub status_message: Option<String>,
}

/// The input of DeleteSubnet.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteSubnetRequest {
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of DescribeSubnets.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSubnetsRequest {
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only these.
    pub subnet_ids: Vec<String>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeSubnets.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSubnetsResponse {
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
    /// The subnets of this page.
    pub subnets: Vec<Subnet>,
}

/// The input of ModifySubnetAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "CustomerOwnedIpv4Pool, DisableLniAtDeviceIndex, EnableLniAtDeviceIndex")]
#[shape(unsupported = "MapCustomerOwnedIpOnLaunch")]
pub struct ModifySubnetAttributeRequest {
    /// Whether network cards get IPv6 addresses.
    pub assign_ipv6_address_on_creation: Option<AttributeBooleanValue>,
    /// Whether instances get public addresses.
    pub map_public_ip_on_launch: Option<AttributeBooleanValue>,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// Whether its name server makes IPv6 answers from IPv4 ones.
    pub enable_dns64: Option<AttributeBooleanValue>,
    /// `ip-name`, or `resource-name`.
    pub private_dns_hostname_type_on_launch: Option<String>,
    /// Whether names after instances answer with IPv4 addresses.
    pub enable_resource_name_dns_a_record_on_launch: Option<AttributeBooleanValue>,
    /// Whether names after instances answer with IPv6 addresses.
    #[shape(request = "EnableResourceNameDnsAAAARecordOnLaunch")]
    pub enable_resource_name_dns_aaaa_record_on_launch: Option<AttributeBooleanValue>,
}

/// The input of AssociateSubnetCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv6IpamPoolId, Ipv6NetmaskLength")]
pub struct AssociateSubnetCidrBlockRequest {
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: Option<String>,
}

/// The answer of AssociateSubnetCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SubnetCidrBlockAssociated {
    /// The IPv6 range.
    pub ipv6_cidr_block_association: SubnetIpv6CidrBlockAssociation,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
}

/// The input of DisassociateSubnetCidrBlock.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DisassociateSubnetCidrBlockRequest {
    /// Names the association.
    pub association_id: String,
}

/// The input of CreateDefaultSubnet.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateDefaultSubnetRequest {
    /// `us-east-1a`.
    pub availability_zone: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Whether it has no IPv4.
    pub ipv6_native: Off,
    /// `use1-az1`.
    pub availability_zone_id: Option<String>,
}
