//! Security groups: CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups. Their rules are in
//! `security_group_rule.rs`.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::model::Account;
use crate::network::NetworkChange;
use crate::security_group::record::{RuleRecord, SecurityGroupRecord};
use crate::security_group::{Change, DEFAULT_NAME, Group};
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};

/// The most characters of a name and of a description. Source: Amazon EC2 API Reference, CreateSecurityGroup.
const TEXT_CHARS_MAX: usize = 255;

/// CreateSecurityGroup.
pub async fn group_create(
    api: &Api,
    caller: &Caller,
    input: CreateSecurityGroupRequest,
) -> Result<CreateSecurityGroupResponse, ApiError> {
    text_check("GroupName", &input.group_name)?;
    text_check("GroupDescription", &input.description)?;
    if input.group_name == DEFAULT_NAME {
        return Err(errors::invalid_value("groupName", &input.group_name, "The name is reserved."));
    }
    if input.group_name.is_empty() || input.group_name.starts_with("sg-") {
        let reason = "A name has 1 to 255 characters and does not begin with 'sg-'.";
        return Err(errors::invalid_value("groupName", &input.group_name, reason));
    }
    if let Some(vpc) = &input.vpc_id {
        parse::resource_id::<VpcRecord>(vpc)?;
    }
    let tags = tag::specified(&input.tag_specifications, "security-group")?;
    parse::dry_run(input.dry_run)?;
    let change =
        Change::Create { vpc: input.vpc_id, name: input.group_name, description: input.description, tags };
    let answer = resource::change(api, caller, NetworkChange::SecurityGroup(change), None).await?;
    let group = resource::made::<SecurityGroupRecord>(&answer)?;
    let security_group_arn = resource::told(api, caller, &*group, |seen| seen.arn())?;
    let group_id = group.group_id.clone();
    Ok(CreateSecurityGroupResponse { group_id, tags: tag::shapes(&group.tags), security_group_arn })
}

/// A name or description: printable, of the characters that AWS allows in a VPC.
pub(super) fn text_check(parameter: &str, text: &str) -> Result<(), ApiError> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(char);
    if text.chars().count() > TEXT_CHARS_MAX || !text.chars().all(allowed) {
        let reason = "At most 255 characters of a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$* are allowed.";
        return Err(errors::invalid_value(parameter, &text, reason));
    }
    Ok(())
}

/// DeleteSecurityGroup.
pub async fn group_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteSecurityGroupRequest,
) -> Result<DeleteSecurityGroupResponse, ApiError> {
    let group = group(input.group_id, input.group_name)?;
    parse::dry_run(input.dry_run)?;
    let change = NetworkChange::SecurityGroup(Change::Delete(group));
    let answer = resource::change(api, caller, change, None).await?;
    let group = resource::made::<SecurityGroupRecord>(&answer)?;
    Ok(DeleteSecurityGroupResponse { r#return: true, group_id: group.group_id.clone() })
}

/// A group by id, or by its name in the default VPC.
pub(super) fn group(id: Option<String>, name: Option<String>) -> Result<Group, ApiError> {
    let given = [("groupId", id.map(Group::Id)), ("groupName", name.map(Group::Name))];
    let group = parse::exactly_one(given, "groupName or groupId")?;
    if let Group::Id(id) = &group {
        parse::resource_id::<SecurityGroupRecord>(id)?;
    }
    Ok(group)
}

/// DescribeSecurityGroups.
pub fn groups_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeSecurityGroupsRequest,
) -> Result<DescribeSecurityGroupsResponse, ApiError> {
    let mut ids = input.group_ids.clone();
    for name in &input.group_names {
        ids.push(api.read(caller, |account| Ok(find_by_name(account, name)?.group_id.clone()))?);
    }
    let listing = Listing {
        operation: "DescribeSecurityGroups",
        parameter: "groupIds",
        ids: &ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (security_groups, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, SecurityGroupRecord>| seen.shape())?;
    Ok(DescribeSecurityGroupsResponse { security_groups, next_token })
}

/// The group of this name in the default VPC.
pub(super) fn find_by_name<'a>(
    account: &'a Account,
    name: &str,
) -> Result<&'a SecurityGroupRecord, ApiError> {
    let vpc = account.all::<VpcRecord>().find(|vpc| vpc.is_default).map(|vpc| vpc.vpc_id.as_str());
    let is = |group: &&SecurityGroupRecord| Some(group.vpc_id.as_str()) == vpc && group.name == name;
    let found = account.all::<SecurityGroupRecord>().map(AsRef::as_ref).find(is);
    found.ok_or_else(|| errors::security_group_not_found(name))
}

impl Seen<'_, SecurityGroupRecord> {
    pub(super) fn arn(&self) -> String {
        parse::arn(self.caller, "ec2", &format!("security-group/{}", self.record.group_id))
    }

    /// The rules of one direction as AWS shows them here: those with the same protocol and ports together.
    fn permissions(&self, egress: bool) -> Vec<IpPermission> {
        let mut all: Vec<IpPermission> = Vec::new();
        for rule in self.record.rules.iter().filter(|rule| rule.egress == egress) {
            let empty = traffic(rule);
            let same = |one: &IpPermission| {
                (&one.ip_protocol, one.from_port, one.to_port)
                    == (&empty.ip_protocol, empty.from_port, empty.to_port)
            };
            let place = all.iter().position(same).unwrap_or_else(|| {
                all.push(empty.clone());
                all.len() - 1
            });
            if let Some(permission) = all.get_mut(place) {
                peer_add(permission, rule, self.caller);
            }
        }
        all
    }

    fn shape(&self) -> SecurityGroup {
        let group = self.record;
        SecurityGroup {
            group_id: group.group_id.clone(),
            group_name: group.name.clone(),
            description: group.description.clone(),
            owner_id: self.owner_id(),
            vpc_id: group.vpc_id.clone(),
            security_group_arn: self.arn(),
            ip_permissions: self.permissions(false),
            ip_permissions_egress: self.permissions(true),
            tags: tag::shapes(&group.tags),
        }
    }
}

/// A rule's protocol and ports, without peers.
fn traffic(rule: &RuleRecord) -> IpPermission {
    let ported = matches!(rule.protocol, 1 | 6 | 17 | 58);
    IpPermission {
        ip_protocol: protocol_name(rule.protocol),
        from_port: ported.then_some(rule.first),
        to_port: ported.then_some(rule.last),
        ..IpPermission::default()
    }
}

/// A protocol as AWS shows it in rules: by name if it has one.
pub(super) fn protocol_name(protocol: i32) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

fn peer_add(permission: &mut IpPermission, rule: &RuleRecord, caller: &Caller) {
    let description = Some(rule.description.clone()).filter(|text| !text.is_empty());
    let peer = rule.peer.clone();
    if peer.starts_with("sg-") {
        let user_id = Some(caller.account.to_string());
        let pair = UserIdGroupPair { group_id: Some(peer), user_id, description, group_name: None };
        permission.user_id_group_pairs.push(pair);
    } else if peer.starts_with("pl-") {
        permission.prefix_list_ids.push(PrefixListId { prefix_list_id: peer, description });
    } else if peer.contains(':') {
        permission.ipv6_ranges.push(Ipv6Range { cidr_ipv6: peer, description });
    } else {
        permission.ip_ranges.push(IpRange { cidr_ip: peer, description });
    }
}

impl Filtered for Seen<'_, SecurityGroupRecord> {
    const NAMES: &'static [&'static str] = &[
        "description",
        "egress.ip-permission.cidr",
        "egress.ip-permission.from-port",
        "egress.ip-permission.group-id",
        "egress.ip-permission.group-name",
        "egress.ip-permission.ipv6-cidr",
        "egress.ip-permission.prefix-list-id",
        "egress.ip-permission.protocol",
        "egress.ip-permission.to-port",
        "egress.ip-permission.user-id",
        "group-id",
        "group-name",
        "ip-permission.cidr",
        "ip-permission.from-port",
        "ip-permission.group-id",
        "ip-permission.group-name",
        "ip-permission.ipv6-cidr",
        "ip-permission.prefix-list-id",
        "ip-permission.protocol",
        "ip-permission.to-port",
        "ip-permission.user-id",
        "owner-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let group = self.record;
        let (egress, permission) = match name.strip_prefix("egress.ip-permission.") {
            Some(rest) => (true, Some(rest)),
            None => (false, name.strip_prefix("ip-permission.")),
        };
        if let Some(of) = permission {
            return Some(group.rules.iter().any(|rule| rule.egress == egress && self.rule(rule, of, is)));
        }
        Some(match name {
            "description" => is(&group.description),
            "group-id" => is(&group.group_id),
            "group-name" => is(&group.name),
            "owner-id" => is(&self.owner_id()),
            "vpc-id" => is(&group.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}

impl Seen<'_, SecurityGroupRecord> {
    fn rule(&self, rule: &RuleRecord, of: &str, is: &dyn Fn(&str) -> bool) -> bool {
        let peer = &rule.peer;
        let group = peer.starts_with("sg-");
        let named = || self.account.named::<SecurityGroupRecord>(peer);
        match of {
            "cidr" => !group && peer.contains('.') && is(peer),
            "from-port" => is(&rule.first.to_string()),
            "group-id" => group && is(peer),
            "group-name" => group && named().is_some_and(|group| is(&group.name)),
            "ipv6-cidr" => peer.contains(':') && is(peer),
            "prefix-list-id" => peer.starts_with("pl-") && is(peer),
            "protocol" => is(&protocol_name(rule.protocol)),
            "to-port" => is(&rule.last.to_string()),
            "user-id" => group && is(&self.owner_id()),
            _ => false,
        }
    }
}
