//! Network ACLs: stateless firewalls of subnets.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateNetworkAcl.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateNetworkAclRequest {
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The answer of CreateNetworkAcl.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateNetworkAclResponse {
    /// The network ACL.
    pub network_acl: NetworkAcl,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
}

/// A stateless firewall of subnets.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkAcl {
    /// Who uses it.
    pub associations: Vec<NetworkAclAssociation>,
    /// Its entries.
    pub entries: Vec<NetworkAclEntry>,
    /// Whether it is the default one.
    #[shape(response = "default")]
    pub is_default: bool,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// The account that owns it.
    pub owner_id: String,
}

/// A subnet that uses a network ACL.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkAclAssociation {
    /// `aclassoc-0123456789abcdef0`.
    pub network_acl_association_id: String,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
}

/// An entry of a network ACL.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkAclEntry {
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// Whether it is about what goes out.
    pub egress: bool,
    /// The ICMP type and code; -1: all.
    pub icmp_type_code: Option<IcmpTypeCode>,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: Option<String>,
    /// The ports of TCP and UDP.
    pub port_range: Option<PortRange>,
    /// IANA's number, or `-1` for all.
    pub protocol: String,
    /// `allow` or `deny`.
    pub rule_action: String,
    /// The lowest number that matches decides; 1 to 32766.
    pub rule_number: i32,
}

/// ICMP type and code.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct IcmpTypeCode {
    /// -1: all.
    pub code: Option<i32>,
    /// -1: all.
    pub r#type: Option<i32>,
}

/// Ports of TCP and UDP.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PortRange {
    /// The first.
    pub from: Option<i32>,
    /// The last.
    pub to: Option<i32>,
}

/// The input of DeleteNetworkAcl.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteNetworkAclRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
}

/// The input of DescribeNetworkAcls.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkAclsRequest {
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Only these.
    pub network_acl_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeNetworkAcls.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkAclsResponse {
    /// The network ACLs of this page.
    pub network_acls: Vec<NetworkAcl>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// The input of CreateNetworkAclEntry.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateNetworkAclEntryRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
    /// The lowest number that matches decides; 1 to 32766.
    pub rule_number: i32,
    /// IANA's number, or `-1` for all.
    pub protocol: String,
    /// `allow` or `deny`.
    pub rule_action: String,
    /// Whether it is about what goes out.
    pub egress: bool,
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: Option<String>,
    /// The ICMP type and code; -1: all.
    #[shape(request = "Icmp")]
    pub icmp_type_code: Option<IcmpTypeCode>,
    /// The ports of TCP and UDP.
    pub port_range: Option<PortRange>,
}

/// The input of ReplaceNetworkAclEntry.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReplaceNetworkAclEntryRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
    /// The lowest number that matches decides; 1 to 32766.
    pub rule_number: i32,
    /// IANA's number, or `-1` for all.
    pub protocol: String,
    /// `allow` or `deny`.
    pub rule_action: String,
    /// Whether it is about what goes out.
    pub egress: bool,
    /// A range: `10.0.0.0/16`.
    pub cidr_block: Option<String>,
    /// A range: `fd00:ec2:1::/56`.
    pub ipv6_cidr_block: Option<String>,
    /// The ICMP type and code; -1: all.
    #[shape(request = "Icmp")]
    pub icmp_type_code: Option<IcmpTypeCode>,
    /// The ports of TCP and UDP.
    pub port_range: Option<PortRange>,
}

/// The input of DeleteNetworkAclEntry.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteNetworkAclEntryRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
    /// The lowest number that matches decides; 1 to 32766.
    pub rule_number: i32,
    /// Whether it is about what goes out.
    pub egress: bool,
}

/// The input of ReplaceNetworkAclAssociation.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReplaceNetworkAclAssociationRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Names the association.
    pub association_id: String,
    /// `acl-0123456789abcdef0`.
    pub network_acl_id: String,
}

/// The answer of ReplaceNetworkAclAssociation.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReplaceNetworkAclAssociationResponse {
    /// Names the association from now on.
    pub new_association_id: String,
}
