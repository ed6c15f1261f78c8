//! Rules of security groups: authorized and revoked as permissions or by id, described and modified one by one.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::resource;
use super::security_group::{group, protocol_name, text_check};
use super::{Api, errors, parse, tag};
use crate::cidr::Cidr;
use crate::network::NetworkChange;
use crate::request::Answer;
use crate::security_group::record::{RuleRecord, SecurityGroupRecord};
use crate::security_group::{Change, Group, MadeRules, Rules};
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use base::ids::SecurityGroupRuleId;
use std::collections::BTreeSet;

/// The most rules of one request: more than a group may have is refused by the group.
const RULES_MAX: usize = 1000;

/// AuthorizeSecurityGroupIngress.
pub async fn ingress_authorize(
    api: &Api,
    caller: &Caller,
    input: AuthorizeSecurityGroupIngressRequest,
) -> Result<SecurityGroupRulesAuthorized, ApiError> {
    let group = group(input.group_id, input.group_name)?;
    let asked = Permissions {
        list: input.ip_permissions,
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        source_name: input.source_security_group_name,
        source_owner: input.source_security_group_owner_id,
    };
    let tags = tag::specified(&input.tag_specifications, "security-group-rule")?;
    let rules = asked.rules(api, caller, false, &tags)?;
    parse::dry_run(input.dry_run)?;
    authorize(api, caller, group, rules).await
}

/// AuthorizeSecurityGroupEgress.
pub async fn egress_authorize(
    api: &Api,
    caller: &Caller,
    input: AuthorizeSecurityGroupEgressRequest,
) -> Result<SecurityGroupRulesAuthorized, ApiError> {
    let group = group(Some(input.group_id), None)?;
    let asked = Permissions {
        list: input.ip_permissions,
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        source_name: input.source_security_group_name,
        source_owner: input.source_security_group_owner_id,
    };
    let tags = tag::specified(&input.tag_specifications, "security-group-rule")?;
    let rules = asked.rules(api, caller, true, &tags)?;
    parse::dry_run(input.dry_run)?;
    authorize(api, caller, group, rules).await
}

async fn authorize(
    api: &Api,
    caller: &Caller,
    group: Group,
    rules: Vec<RuleRecord>,
) -> Result<SecurityGroupRulesAuthorized, ApiError> {
    let change = NetworkChange::SecurityGroup(Change::Authorize(group, rules));
    let made = rules_of(resource::change(api, caller, change, None).await?)?;
    let seen = |rule| SeenRule { caller, group_id: &made.group_id, rule }.shape();
    Ok(SecurityGroupRulesAuthorized {
        r#return: true,
        security_group_rules: made.rules.iter().map(seen).collect(),
    })
}

fn rules_of(answer: Answer) -> Result<MadeRules, ApiError> {
    match answer {
        Answer::Rules(rules) => Ok(rules),
        other => Err(super::unexpected(&other)),
    }
}

/// RevokeSecurityGroupIngress.
pub async fn ingress_revoke(
    api: &Api,
    caller: &Caller,
    input: RevokeSecurityGroupIngressRequest,
) -> Result<SecurityGroupRulesRevoked, ApiError> {
    let group = group(input.group_id, input.group_name)?;
    let asked = Permissions {
        list: input.ip_permissions,
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        source_name: input.source_security_group_name,
        source_owner: input.source_security_group_owner_id,
    };
    let rules = asked.named(api, caller, false, &input.security_group_rule_ids)?;
    parse::dry_run(input.dry_run)?;
    revoke(api, caller, Change::Revoke { group, egress: false, rules }).await
}

/// RevokeSecurityGroupEgress.
pub async fn egress_revoke(
    api: &Api,
    caller: &Caller,
    input: RevokeSecurityGroupEgressRequest,
) -> Result<SecurityGroupRulesRevoked, ApiError> {
    let group = group(Some(input.group_id), None)?;
    let asked = Permissions {
        list: input.ip_permissions,
        protocol: input.ip_protocol,
        from_port: input.from_port,
        to_port: input.to_port,
        cidr: input.cidr_ip,
        source_name: input.source_security_group_name,
        source_owner: input.source_security_group_owner_id,
    };
    let rules = asked.named(api, caller, true, &input.security_group_rule_ids)?;
    parse::dry_run(input.dry_run)?;
    revoke(api, caller, Change::Revoke { group, egress: true, rules }).await
}

async fn revoke(api: &Api, caller: &Caller, change: Change) -> Result<SecurityGroupRulesRevoked, ApiError> {
    let answer = resource::change(api, caller, NetworkChange::SecurityGroup(change), None).await?;
    let gone = rules_of(answer)?;
    let shape = |rule: &RuleRecord| {
        let seen = SeenRule { caller, group_id: &gone.group_id, rule };
        let shape = seen.shape();
        RevokedSecurityGroupRule {
            security_group_rule_id: shape.security_group_rule_id,
            group_id: shape.group_id,
            is_egress: shape.is_egress,
            ip_protocol: shape.ip_protocol,
            from_port: shape.from_port,
            to_port: shape.to_port,
            cidr_ipv4: shape.cidr_ipv4,
            cidr_ipv6: shape.cidr_ipv6,
            prefix_list_id: shape.prefix_list_id,
            referenced_group_id: seen.peer("sg-"),
            description: shape.description,
        }
    };
    Ok(SecurityGroupRulesRevoked {
        r#return: true,
        unknown_ip_permissions: Vec::new(),
        revoked_security_group_rules: gone.rules.iter().map(shape).collect(),
    })
}

/// UpdateSecurityGroupRuleDescriptionsIngress.
pub async fn ingress_describe(
    api: &Api,
    caller: &Caller,
    input: UpdateSecurityGroupRuleDescriptionsIngressRequest,
) -> Result<Return, ApiError> {
    let group = group(input.group_id, input.group_name)?;
    let rules = described(api, caller, false, input.ip_permissions, input.security_group_rule_descriptions)?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Describe { group, egress: false, rules }).await
}

/// UpdateSecurityGroupRuleDescriptionsEgress.
pub async fn egress_describe(
    api: &Api,
    caller: &Caller,
    input: UpdateSecurityGroupRuleDescriptionsEgressRequest,
) -> Result<Return, ApiError> {
    let group = group(input.group_id, input.group_name)?;
    let rules = described(api, caller, true, input.ip_permissions, input.security_group_rule_descriptions)?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Describe { group, egress: true, rules }).await
}

async fn done(api: &Api, caller: &Caller, change: Change) -> Result<Return, ApiError> {
    resource::change(api, caller, NetworkChange::SecurityGroup(change), None).await?;
    Ok(Return::TRUE)
}

fn described(
    api: &Api,
    caller: &Caller,
    egress: bool,
    list: Vec<IpPermission>,
    descriptions: Vec<SecurityGroupRuleDescription>,
) -> Result<Rules, ApiError> {
    if descriptions.is_empty() {
        let asked = Permissions { list, ..Permissions::default() };
        return asked.rules(api, caller, egress, &[]).map(Rules::Same);
    }
    if !list.is_empty() {
        return Err(errors::excluded("ipPermissions", "securityGroupRuleDescriptions"));
    }
    let each = descriptions.into_iter().map(|one| {
        let id = one.security_group_rule_id.ok_or_else(|| parse::missing("SecurityGroupRuleId"))?;
        let description = one.description.unwrap_or_default();
        text_check("Description", &description)?;
        Ok((rule_id(&id)?.to_string(), description))
    });
    Ok(Rules::Ids(each.collect::<Result<_, ApiError>>()?))
}

fn rule_id(text: &str) -> Result<SecurityGroupRuleId, ApiError> {
    text.parse().map_err(|_| errors::resource_malformed(SecurityGroupRuleId::PREFIX, text))
}

/// ModifySecurityGroupRules.
pub async fn rules_modify(
    api: &Api,
    caller: &Caller,
    input: ModifySecurityGroupRulesRequest,
) -> Result<Return, ApiError> {
    let group = group(Some(input.group_id), None)?;
    let mut rules = Vec::new();
    for update in input.security_group_rules {
        let id = rule_id(&update.security_group_rule_id)?;
        let rule = update.security_group_rule.unwrap_or_default();
        let given = [
            ("CidrIpv4", rule.cidr_ipv4),
            ("CidrIpv6", rule.cidr_ipv6),
            ("PrefixListId", rule.prefix_list_id),
            ("ReferencedGroupId", rule.referenced_group_id),
        ];
        let peer = parse::exactly_one(given, "CidrIpv4")?;
        let protocol = rule.ip_protocol.ok_or_else(|| parse::missing("IpProtocol"))?;
        let traffic = Traffic::read(&protocol, rule.from_port, rule.to_port)?;
        let description = rule.description.unwrap_or_default();
        rules.push(RuleRecord { rule_id: id.to_string(), ..traffic.rule(false, &peer, description)? });
    }
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Modify(group, rules)).await
}

/// Rules as they are asked for: as permissions, or one in parameters of its own.
#[derive(Default)]
struct Permissions {
    list: Vec<IpPermission>,
    protocol: Option<String>,
    from_port: Option<i32>,
    to_port: Option<i32>,
    cidr: Option<String>,
    source_name: Option<String>,
    source_owner: Option<String>,
}

impl Permissions {
    /// The rules, or those of these ids.
    fn named(self, api: &Api, caller: &Caller, egress: bool, ids: &[String]) -> Result<Rules, ApiError> {
        if ids.is_empty() {
            return self.rules(api, caller, egress, &[]).map(Rules::Same);
        }
        if !self.list.is_empty()
            || self.protocol.is_some()
            || self.cidr.is_some()
            || self.source_name.is_some()
        {
            return Err(errors::excluded("ipPermissions", "securityGroupRuleIds"));
        }
        let ids = parse::each_once(ids.iter().map(|id| rule_id(id)))?;
        Ok(Rules::Ids(ids.into_iter().map(|id| (id.to_string(), String::new())).collect()))
    }

    fn rules(
        mut self,
        api: &Api,
        caller: &Caller,
        egress: bool,
        tags: &[TagRecord],
    ) -> Result<Vec<RuleRecord>, ApiError> {
        let single = self.cidr.is_some() || self.source_name.is_some() || self.protocol.is_some();
        match (single, self.list.is_empty()) {
            (true, false) => return Err(errors::excluded("ipPermissions", "ipProtocol")),
            (false, true) => return Err(parse::missing("ipPermissions")),
            (true, true) => {
                let permission = self.single()?;
                self.list.push(permission);
            }
            (false, false) => {}
        }
        let mut rules = Vec::new();
        for permission in &self.list {
            permission_read(api, caller, egress, permission, &mut rules)?;
        }
        if rules.len() > RULES_MAX {
            let reason = format!("One request can name at most {RULES_MAX} rules.");
            return Err(errors::invalid_value("ipPermissions", &rules.len(), &reason));
        }
        if rules.is_empty() {
            let message = "The permission has neither ranges nor groups nor prefix lists.";
            return Err(ApiError::new(codes::INVALID_PERMISSION_MALFORMED, message));
        }
        for rule in &mut rules {
            rule.tags = tags.to_vec();
        }
        Ok(rules)
    }

    fn single(&mut self) -> Result<IpPermission, ApiError> {
        let source = self.source_name.take();
        let cidr = self.cidr.take();
        if source.is_some() && cidr.is_some() {
            return Err(errors::excluded("cidrIp", "sourceSecurityGroupName"));
        }
        let protocol = match (self.protocol.take(), &source) {
            (Some(protocol), _) => protocol,
            (None, Some(_)) => "-1".to_owned(),
            (None, None) => return Err(parse::missing("ipProtocol")),
        };
        let pair = |name| UserIdGroupPair {
            group_name: Some(name),
            user_id: self.source_owner.take(),
            ..UserIdGroupPair::default()
        };
        Ok(IpPermission {
            ip_protocol: protocol,
            from_port: self.from_port.take(),
            to_port: self.to_port.take(),
            user_id_group_pairs: source.map(pair).into_iter().collect(),
            ip_ranges: cidr.map(|cidr_ip| IpRange { cidr_ip, description: None }).into_iter().collect(),
            ..IpPermission::default()
        })
    }
}

fn permission_read(
    api: &Api,
    caller: &Caller,
    egress: bool,
    permission: &IpPermission,
    rules: &mut Vec<RuleRecord>,
) -> Result<(), ApiError> {
    let traffic = Traffic::read(&permission.ip_protocol, permission.from_port, permission.to_port)?;
    let mut add = |peer: &str, description: &Option<String>| {
        rules.push(traffic.rule(egress, peer, description.clone().unwrap_or_default())?);
        Ok::<(), ApiError>(())
    };
    for range in &permission.ip_ranges {
        add(&parse::cidr_exact("cidrIp", &range.cidr_ip)?, &range.description)?;
    }
    for range in &permission.ipv6_ranges {
        add(&parse::cidr_exact("cidrIpv6", &range.cidr_ipv6)?, &range.description)?;
    }
    for list in &permission.prefix_list_ids {
        add(&list.prefix_list_id, &list.description)?;
    }
    for pair in &permission.user_id_group_pairs {
        if pair.user_id.as_ref().is_some_and(|owner| *owner != caller.account.to_string()) {
            return Err(errors::unsupported("Groups of other accounts are not supported by Nephos yet."));
        }
        let given = [("groupId", pair.group_id.clone()), ("groupName", pair.group_name.clone())];
        // AWS's own clients send a group's name beside its id.
        let peer = match (&pair.group_id, &pair.group_name) {
            (Some(id), _) => id.clone(),
            (None, Some(name)) => api.read(caller, |account| {
                super::security_group::find_by_name(account, name).map(|group| group.group_id.clone())
            })?,
            (None, None) => parse::exactly_one(given, "groupId")?,
        };
        add(&peer, &pair.description)?;
    }
    Ok(())
}

/// Protocol and ports of a rule.
struct Traffic {
    protocol: i32,
    first: i32,
    last: i32,
}

impl Traffic {
    fn read(protocol: &str, from: Option<i32>, to: Option<i32>) -> Result<Traffic, ApiError> {
        let protocol = parse::protocol("ipProtocol", protocol)?;
        let (first, last) = match protocol {
            6 | 17 => {
                let (Some(first), Some(last)) = (from, to) else {
                    return Err(ApiError::new(
                        codes::INVALID_PARAMETER_VALUE,
                        "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
                    ));
                };
                // -1 for both ends is AWS's way of saying all.
                let (first, last) = if (first, last) == (-1, -1) { (0, 65_535) } else { (first, last) };
                for port in [first, last] {
                    if !(0..=65_535).contains(&port) {
                        let reason = "A port is 0 to 65535.";
                        return Err(errors::invalid_value("portRange", &port, reason));
                    }
                }
                if first > last {
                    let reason = "The first port is above the last.";
                    return Err(errors::invalid_value("portRange", &first, reason));
                }
                (first, last)
            }
            1 | 58 => {
                let (first, last) = (from.unwrap_or(-1), to.unwrap_or(-1));
                for part in [first, last] {
                    if !(-1..=255).contains(&part) {
                        return Err(errors::invalid_value("icmpTypeCode", &part, "-1 to 255 is expected."));
                    }
                }
                (first, last)
            }
            // Ports of other protocols mean nothing; AWS takes them and forgets them.
            _ => (-1, -1),
        };
        Ok(Traffic { protocol, first, last })
    }

    /// A rule about this traffic to or from the peer.
    fn rule(&self, egress: bool, peer: &str, description: String) -> Result<RuleRecord, ApiError> {
        text_check("Description", &description)?;
        let peer = match peer.split_once('-').map(|(kind, _)| kind) {
            Some("sg") => {
                parse::resource_id::<SecurityGroupRecord>(peer)?;
                peer.to_owned()
            }
            Some("pl") => {
                return Err(errors::unsupported("Rules with prefix lists are not supported by Nephos yet."));
            }
            _ => parse::cidr_exact("cidrIp", peer)?,
        };
        Ok(RuleRecord {
            egress,
            protocol: self.protocol,
            first: self.first,
            last: self.last,
            peer,
            description,
            ..RuleRecord::default()
        })
    }
}

/// DescribeSecurityGroupRules.
pub fn rules_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeSecurityGroupRulesRequest,
) -> Result<DescribeSecurityGroupRulesResponse, ApiError> {
    let mut ids = BTreeSet::new();
    for id in &input.security_group_rule_ids {
        ids.insert(rule_id(id)?.to_string());
    }
    let filters = Filters::read::<SeenRule<'_>>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    let selection = (&input.security_group_rule_ids, &input.filters);
    let page = Page::open(api, caller, "DescribeSecurityGroupRules", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let groups = account.all::<SecurityGroupRecord>();
        let mut seen: Vec<SeenRule<'_>> = groups
            .flat_map(|group| {
                group.rules.iter().map(|rule| SeenRule { caller, group_id: &group.group_id, rule })
            })
            .filter(|seen| ids.is_empty() || ids.contains(&seen.rule.rule_id))
            .collect();
        if let Some(id) = ids.iter().find(|id| !seen.iter().any(|seen| seen.rule.rule_id == **id)) {
            return Err(errors::resource_not_found(id));
        }
        seen.retain(|seen| page.is_after(&seen.rule.rule_id) && filters.hold(seen));
        seen.sort_by(|one, other| one.rule.rule_id.cmp(&other.rule.rule_id));
        let (rules, next_token) = page.take(seen.into_iter(), |seen| seen.rule.rule_id.clone());
        let security_group_rules = rules.iter().map(SeenRule::shape).collect();
        Ok(DescribeSecurityGroupRulesResponse { security_group_rules, next_token })
    })
}

/// A rule, with its group.
pub(super) struct SeenRule<'a> {
    caller: &'a Caller,
    group_id: &'a str,
    rule: &'a RuleRecord,
}

impl SeenRule<'_> {
    /// The peer, if it is of the kind with this prefix.
    fn peer(&self, prefix: &str) -> Option<String> {
        Some(self.rule.peer.clone()).filter(|peer| peer.starts_with(prefix))
    }

    fn shape(&self) -> SecurityGroupRule {
        let rule = self.rule;
        let range: Option<Cidr> = rule.peer.parse().ok();
        let owner = self.caller.account.to_string();
        let arn = format!("security-group-rule/{}", rule.rule_id);
        SecurityGroupRule {
            security_group_rule_id: rule.rule_id.clone(),
            group_id: self.group_id.to_owned(),
            group_owner_id: owner.clone(),
            is_egress: rule.egress,
            ip_protocol: protocol_name(rule.protocol),
            from_port: Some(rule.first),
            to_port: Some(rule.last),
            cidr_ipv4: range.filter(|range| matches!(range, Cidr::V4(_))).map(|_| rule.peer.clone()),
            cidr_ipv6: range.filter(|range| matches!(range, Cidr::V6(_))).map(|_| rule.peer.clone()),
            prefix_list_id: self.peer("pl-"),
            referenced_group_info: self.peer("sg-").map(|group_id| ReferencedSecurityGroup {
                group_id,
                user_id: owner,
                ..ReferencedSecurityGroup::default()
            }),
            description: Some(rule.description.clone()).filter(|text| !text.is_empty()),
            tags: tag::shapes(&rule.tags),
            security_group_rule_arn: parse::arn(self.caller, "ec2", &arn),
        }
    }
}

impl Filtered for SeenRule<'_> {
    const NAMES: &'static [&'static str] = &["group-id", "security-group-rule-id"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "group-id" => is(self.group_id),
            "security-group-rule-id" => is(&self.rule.rule_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.rule.tags
    }
}
