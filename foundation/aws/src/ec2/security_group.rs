//! Security groups and their rules.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateSecurityGroup.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateSecurityGroupRequest {
    /// What its owner says about it.
    #[shape(request = "GroupDescription")]
    pub description: String,
    /// Its name.
    pub group_name: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: Option<String>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of CreateSecurityGroup.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateSecurityGroupResponse {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `arn:aws:ec2:REGION:ACCOUNT:security-group/GROUP`.
    pub security_group_arn: String,
}

/// The input of DeleteSecurityGroup.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteSecurityGroupRequest {
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DeleteSecurityGroup.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteSecurityGroupResponse {
    /// Always true; what fails answers with an error.
    pub r#return: bool,
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
}

/// The input of DescribeSecurityGroups.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupsRequest {
    /// Only these, by id.
    pub group_ids: Vec<String>,
    /// Only these, of the default VPC, by name.
    pub group_names: Vec<String>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeSecurityGroups.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupsResponse {
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
    /// The groups of this page.
    #[shape(response = "securityGroupInfo")]
    pub security_groups: Vec<SecurityGroup>,
}

/// A stateful firewall.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroup {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// What may go out.
    #[shape(response = "ipPermissionsEgress")]
    pub ip_permissions_egress: Vec<IpPermission>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// `arn:aws:ec2:REGION:ACCOUNT:security-group/GROUP`.
    pub security_group_arn: String,
    /// The account that owns it.
    pub owner_id: String,
    /// Its name.
    pub group_name: String,
    /// What its owner says about it.
    #[shape(response = "groupDescription")]
    pub description: String,
    /// What may come in, or what is to be changed.
    #[shape(response = "ipPermissions")]
    pub ip_permissions: Vec<IpPermission>,
}

/// What a security group lets through.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
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
#[shape(unsupported = "PeeringStatus, VpcId, VpcPeeringConnectionId")]
pub struct UserIdGroupPair {
    /// What its owner says about it.
    pub description: Option<String>,
    /// The account that owns the group.
    pub user_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
}

/// A peer of a permission, by IPv4 range.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct IpRange {
    /// What its owner says about it.
    pub description: Option<String>,
    /// `10.0.0.0/8`.
    pub cidr_ip: String,
}

/// A peer of a permission, by IPv6 range.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Ipv6Range {
    /// What its owner says about it.
    pub description: Option<String>,
    /// `fd00::/8`.
    pub cidr_ipv6: String,
}

/// A peer of a permission, by list of ranges.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PrefixListId {
    /// What its owner says about it.
    pub description: Option<String>,
    /// `pl-0123456789abcdef0`.
    pub prefix_list_id: String,
}

/// The input of AuthorizeSecurityGroupIngress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AuthorizeSecurityGroupIngressRequest {
    /// `10.0.0.0/8`.
    pub cidr_ip: Option<String>,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: Option<String>,
    /// Peers, by group, by name.
    pub source_security_group_name: Option<String>,
    /// The account that owns that group.
    pub source_security_group_owner_id: Option<String>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of AuthorizeSecurityGroupIngress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRulesAuthorized {
    /// Always true; what fails answers with an error.
    pub r#return: bool,
    /// The rules.
    pub security_group_rules: Vec<SecurityGroupRule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRule {
    /// `sgr-0123456789abcdef0`.
    pub security_group_rule_id: String,
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// The account that owns the group.
    pub group_owner_id: String,
    /// Whether it is about what goes out.
    pub is_egress: bool,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: String,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// `10.0.0.0/8`.
    pub cidr_ipv4: Option<String>,
    /// `fd00::/8`.
    pub cidr_ipv6: Option<String>,
    /// `pl-0123456789abcdef0`.
    pub prefix_list_id: Option<String>,
    /// Its peer, by group.
    pub referenced_group_info: Option<ReferencedSecurityGroup>,
    /// What its owner says about it.
    pub description: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `arn:aws:ec2:REGION:ACCOUNT:security-group-rule/RULE`.
    pub security_group_rule_arn: String,
}

/// A group that a rule names.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReferencedSecurityGroup {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// The account that owns the group.
    pub user_id: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: Option<String>,
}

/// The input of AuthorizeSecurityGroupEgress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AuthorizeSecurityGroupEgressRequest {
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Peers, by group, by name.
    pub source_security_group_name: Option<String>,
    /// The account that owns that group.
    pub source_security_group_owner_id: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: Option<String>,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// `10.0.0.0/8`.
    pub cidr_ip: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
}

/// The input of RevokeSecurityGroupIngress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RevokeSecurityGroupIngressRequest {
    /// `10.0.0.0/8`.
    pub cidr_ip: Option<String>,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: Option<String>,
    /// Peers, by group, by name.
    pub source_security_group_name: Option<String>,
    /// The account that owns that group.
    pub source_security_group_owner_id: Option<String>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// Only these.
    pub security_group_rule_ids: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of RevokeSecurityGroupIngress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRulesRevoked {
    /// Always true; what fails answers with an error.
    pub r#return: bool,
    /// What was to be revoked and is not there.
    pub unknown_ip_permissions: Vec<IpPermission>,
    /// What was revoked.
    pub revoked_security_group_rules: Vec<RevokedSecurityGroupRule>,
}

/// A rule that was revoked.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RevokedSecurityGroupRule {
    /// `sgr-0123456789abcdef0`.
    pub security_group_rule_id: String,
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Whether it is about what goes out.
    pub is_egress: bool,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: String,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// `10.0.0.0/8`.
    pub cidr_ipv4: Option<String>,
    /// `fd00::/8`.
    pub cidr_ipv6: Option<String>,
    /// `pl-0123456789abcdef0`.
    pub prefix_list_id: Option<String>,
    /// Its peer, by group.
    pub referenced_group_id: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// The input of RevokeSecurityGroupEgress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RevokeSecurityGroupEgressRequest {
    /// Only these.
    pub security_group_rule_ids: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Peers, by group, by name.
    pub source_security_group_name: Option<String>,
    /// The account that owns that group.
    pub source_security_group_owner_id: Option<String>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: Option<String>,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// `10.0.0.0/8`.
    pub cidr_ip: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
}

/// The input of DescribeSecurityGroupRules.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupRulesRequest {
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only these.
    pub security_group_rule_ids: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
}

/// The answer of DescribeSecurityGroupRules.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeSecurityGroupRulesResponse {
    /// The rules.
    pub security_group_rules: Vec<SecurityGroupRule>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// The input of ModifySecurityGroupRules.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ModifySecurityGroupRulesRequest {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// The rules.
    #[shape(required)]
    pub security_group_rules: Vec<SecurityGroupRuleUpdate>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// What a rule is to be from now on.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRuleUpdate {
    /// `sgr-0123456789abcdef0`.
    pub security_group_rule_id: String,
    /// As it is to be.
    pub security_group_rule: Option<SecurityGroupRuleRequest>,
}

/// A rule as it is to be.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRuleRequest {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: Option<String>,
    /// The first port, or the ICMP type.
    pub from_port: Option<i32>,
    /// The last port, or the ICMP code.
    pub to_port: Option<i32>,
    /// `10.0.0.0/8`.
    pub cidr_ipv4: Option<String>,
    /// `fd00::/8`.
    pub cidr_ipv6: Option<String>,
    /// `pl-0123456789abcdef0`.
    pub prefix_list_id: Option<String>,
    /// Its peer, by group.
    pub referenced_group_id: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// The input of UpdateSecurityGroupRuleDescriptionsIngress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct UpdateSecurityGroupRuleDescriptionsIngressRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
    /// Descriptions by rule.
    pub security_group_rule_descriptions: Vec<SecurityGroupRuleDescription>,
}

/// The description of a rule.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct SecurityGroupRuleDescription {
    /// `sgr-0123456789abcdef0`.
    pub security_group_rule_id: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
}

/// The input of UpdateSecurityGroupRuleDescriptionsEgress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct UpdateSecurityGroupRuleDescriptionsEgressRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `sg-0123456789abcdef0`.
    pub group_id: Option<String>,
    /// Its name.
    pub group_name: Option<String>,
    /// What may come in, or what is to be changed.
    #[shape(request = "IpPermissions")]
    pub ip_permissions: Vec<IpPermission>,
    /// Descriptions by rule.
    pub security_group_rule_descriptions: Vec<SecurityGroupRuleDescription>,
}
