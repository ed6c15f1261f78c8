//! Security groups and their rules.
//!
//! A rule is told from others by direction, traffic and peer: a group has none of them twice. A group that another one's
//! rules name is not deleted, nor one that an interface has, nor a VPC's default one.

pub mod record;

use crate::owner::Tx;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use base::ids::{SecurityGroupId, SecurityGroupRuleId, VpcId};
use record::{RuleRecord, SecurityGroupRecord};
use std::sync::Arc;

/// The name of every VPC's default group.
pub const DEFAULT_NAME: &str = "default";
/// The most groups of an account. Source: Amazon VPC User Guide, "Quotas".
pub const GROUPS_MAX: usize = 2500;
/// The most rules of a group in each direction, counted for IPv4 and IPv6 apart; rules with groups and lists count for
/// both. Source: as above.
pub const RULES_MAX: usize = 60;

/// A change of security groups.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateSecurityGroup.
    Create {
        /// `vpc-...`; `None`: the default one.
        vpc: Option<String>,
        /// Unique in the VPC.
        name: String,
        /// What its owner says about it.
        description: String,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// DeleteSecurityGroup.
    Delete(Group),
    /// AuthorizeSecurityGroupIngress and -Egress: rules without ids.
    Authorize(Group, Vec<RuleRecord>),
    /// RevokeSecurityGroupIngress and -Egress.
    Revoke {
        /// Which group.
        group: Group,
        /// In which direction.
        egress: bool,
        /// By id or as they were made.
        rules: Rules,
    },
    /// ModifySecurityGroupRules: each rule as it shall be, with its id.
    Modify(Group, Vec<RuleRecord>),
    /// UpdateSecurityGroupRuleDescriptionsIngress and -Egress.
    Describe {
        /// Which group.
        group: Group,
        /// In which direction.
        egress: bool,
        /// By id or as they were made; each with its new description.
        rules: Rules,
    },
}

/// A group, by id or by its name in the default VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// `sg-...`
    Id(String),
    /// Of the default VPC.
    Name(String),
}

/// Rules that are there.
#[derive(Clone, Debug, PartialEq)]
pub enum Rules {
    /// Each with its new description, where that is what is changed.
    Ids(Vec<(String, String)>),
    /// As they were made.
    Same(Vec<RuleRecord>),
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { vpc, name, description, tags } => {
            create(tx, vpc, name, description, tags).map(Answer::Resource)
        }
        Change::Delete(group) => {
            let (id, record) = find(tx, &group)?;
            if record.name == DEFAULT_NAME {
                return Err(NetworkRefusal::DefaultGroup(record.group_id.clone()).into());
            }
            let names =
                |other: &SecurityGroupRecord| other.rules.iter().any(|rule| rule.peer == record.group_id);
            let used = tx.any_interface(|_, groups| groups.contains(&record.group_id));
            if used || tx.all::<SecurityGroupRecord>().any(|(other, group)| other != id && names(group)) {
                return Err(NetworkRefusal::GroupInUse(record.group_id.clone()).into());
            }
            tx.remove::<SecurityGroupRecord>(id);
            Ok(Answer::Resource(crate::record::Record::SecurityGroup(record)))
        }
        Change::Authorize(group, rules) => authorize(tx, &group, rules).map(Answer::Rules),
        Change::Revoke { group, egress, rules } => revoke(tx, &group, egress, &rules).map(Answer::Rules),
        Change::Modify(group, rules) => modify(tx, &group, rules).map(|()| Answer::Done),
        Change::Describe { group, egress, rules } => {
            let (id, mut record) = changed(tx, &group)?;
            match rules {
                Rules::Ids(ids) => {
                    for (rule, description) in ids {
                        let place = by_id(&record, &rule, egress)?;
                        record.rules[place].description = description;
                    }
                }
                Rules::Same(rules) => {
                    for rule in rules {
                        let place = record.rules.iter().position(|other| same(other, &rule));
                        let place = place.ok_or_else(|| not_found(&rule))?;
                        record.rules[place].description = rule.description;
                    }
                }
            }
            tx.save(id, record);
            Ok(Answer::Done)
        }
    }
}

/// The group, by id or name.
pub fn find(tx: &Tx<'_>, group: &Group) -> Result<(SecurityGroupId, Arc<SecurityGroupRecord>), Refusal> {
    match group {
        Group::Id(id) => tx.find(id),
        Group::Name(name) => {
            let vpc = default_vpc(tx).ok_or(NetworkRefusal::NoDefaultVpc)?;
            let mut groups = tx.all::<SecurityGroupRecord>();
            let found = groups.find(|(_, group)| group.vpc_id == vpc && group.name == *name);
            let found = found.map(|(id, group)| (id, group.clone()));
            found.ok_or_else(|| NetworkRefusal::GroupNameNotFound(name.clone(), vpc).into())
        }
    }
}

fn default_vpc(tx: &Tx<'_>) -> Option<String> {
    tx.all::<VpcRecord>().find(|(_, vpc)| vpc.is_default).map(|(_, vpc)| vpc.vpc_id.clone())
}

fn changed(tx: &Tx<'_>, group: &Group) -> Result<(SecurityGroupId, SecurityGroupRecord), Refusal> {
    find(tx, group).map(|(id, record)| (id, Arc::unwrap_or_clone(record)))
}

fn create(
    tx: &mut Tx<'_>,
    vpc: Option<String>,
    name: String,
    description: String,
    tags: Vec<TagRecord>,
) -> Result<crate::record::Record, Refusal> {
    let vpc_id = match vpc {
        Some(vpc) => tx.find::<VpcRecord>(&vpc)?.0.to_string(),
        None => default_vpc(tx).ok_or(NetworkRefusal::NoDefaultVpc)?,
    };
    let mut count = 0;
    for (_, other) in tx.all::<SecurityGroupRecord>() {
        count += 1;
        if other.vpc_id == vpc_id && other.name == name {
            return Err(NetworkRefusal::GroupExists(name, vpc_id).into());
        }
    }
    if count >= GROUPS_MAX {
        let (limit, what) = (Limit::SecurityGroups, "security groups");
        return Err(NetworkRefusal::Limit { limit, what, max: GROUPS_MAX }.into());
    }
    let id = SecurityGroupId::random(tx.random);
    let rules = vec![rule_to_all(tx, true, "0.0.0.0/0".to_owned())];
    let group_id = id.to_string();
    Ok(tx.save(id, SecurityGroupRecord { group_id, name, description, vpc_id, rules, tags }))
}

/// Whether they let the same through, in the same direction, to or from the same peer.
fn same(one: &RuleRecord, other: &RuleRecord) -> bool {
    let key = |rule: &RuleRecord| (rule.egress, rule.protocol, rule.first, rule.last);
    key(one) == key(other) && one.peer == other.peer
}

fn not_found(rule: &RuleRecord) -> Refusal {
    NetworkRefusal::RuleNotFound(shown(rule)).into()
}

fn by_id(group: &SecurityGroupRecord, rule: &str, egress: bool) -> Result<usize, Refusal> {
    let place = group.rules.iter().position(|other| other.rule_id == rule && other.egress == egress);
    place.ok_or_else(|| NetworkRefusal::RuleIdNotFound(rule.to_owned()).into())
}

/// A rule for people: `peer: sg-1, TCP, from port: 80, to port: 80, ALLOW`.
fn shown(rule: &RuleRecord) -> String {
    let protocol = match rule.protocol {
        -1 => "ALL".to_owned(),
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        other => other.to_string(),
    };
    let ports = match rule.protocol {
        6 | 17 => format!(", from port: {}, to port: {}", rule.first, rule.last),
        _ => String::new(),
    };
    format!("peer: {}, {protocol}{ports}, ALLOW", rule.peer)
}

/// A peer that is a group must be one of the same VPC.
fn peer_check(tx: &Tx<'_>, group: &SecurityGroupRecord, rule: &RuleRecord) -> Result<(), Refusal> {
    if !rule.peer.starts_with("sg-") {
        return Ok(());
    }
    let (_, peer) = tx.find::<SecurityGroupRecord>(&rule.peer)?;
    if peer.vpc_id == group.vpc_id {
        return Ok(());
    }
    let message = "You have specified two resources that belong to different networks.".to_owned();
    Err(NetworkRefusal::Groups(message).into())
}

fn limits_check(group: &SecurityGroupRecord) -> Result<(), Refusal> {
    for (egress, other_family) in [(false, '.'), (false, ':'), (true, '.'), (true, ':')] {
        let of_family = |rule: &&RuleRecord| {
            rule.egress == egress && !(rule.peer.contains('/') && rule.peer.contains(other_family))
        };
        if group.rules.iter().filter(of_family).count() > RULES_MAX {
            let (limit, what) = (Limit::Rules, "rules per security group");
            return Err(NetworkRefusal::Limit { limit, what, max: RULES_MAX }.into());
        }
    }
    Ok(())
}

fn authorize(tx: &mut Tx<'_>, group: &Group, rules: Vec<RuleRecord>) -> Result<MadeRules, Refusal> {
    let (id, mut record) = changed(tx, group)?;
    let mut made = Vec::with_capacity(rules.len());
    for mut rule in rules {
        peer_check(tx, &record, &rule)?;
        if record.rules.iter().any(|other| same(other, &rule)) {
            return Err(NetworkRefusal::RuleExists(shown(&rule)).into());
        }
        rule.rule_id = SecurityGroupRuleId::random(tx.random).to_string();
        record.rules.push(rule.clone());
        made.push(rule);
    }
    limits_check(&record)?;
    let group_id = record.group_id.clone();
    tx.save(id, record);
    Ok(MadeRules { group_id, rules: made })
}

/// The rules of a group that a change has made or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeRules {
    /// `sg-...`
    pub group_id: String,
    /// As they are, or were.
    pub rules: Vec<RuleRecord>,
}

fn revoke(tx: &mut Tx<'_>, group: &Group, egress: bool, rules: &Rules) -> Result<MadeRules, Refusal> {
    let (id, mut record) = changed(tx, group)?;
    let mut gone = Vec::new();
    match rules {
        Rules::Ids(ids) => {
            for (rule, _) in ids {
                let place = by_id(&record, rule, egress)?;
                gone.push(record.rules.remove(place));
            }
        }
        Rules::Same(rules) => {
            for rule in rules {
                let place = record.rules.iter().position(|other| same(other, rule));
                let place = place.ok_or_else(|| not_found(rule))?;
                gone.push(record.rules.remove(place));
            }
        }
    }
    let group_id = record.group_id.clone();
    tx.save(id, record);
    Ok(MadeRules { group_id, rules: gone })
}

fn modify(tx: &mut Tx<'_>, group: &Group, rules: Vec<RuleRecord>) -> Result<(), Refusal> {
    let (id, mut record) = changed(tx, group)?;
    for rule in rules {
        let place = record.rules.iter().position(|other| other.rule_id == rule.rule_id);
        let place = place.ok_or_else(|| NetworkRefusal::RuleIdNotFound(rule.rule_id.clone()))?;
        let old = &record.rules[place];
        let rule = RuleRecord { egress: old.egress, tags: old.tags.clone(), ..rule };
        peer_check(tx, &record, &rule)?;
        let twice = record.rules.iter().any(|other| other.rule_id != rule.rule_id && same(other, &rule));
        if twice {
            return Err(NetworkRefusal::RuleExists(shown(&rule)).into());
        }
        record.rules[place] = rule;
    }
    limits_check(&record)?;
    tx.save(id, record);
    Ok(())
}

/// Does to the tags of a rule what `change` does.
pub fn rule_retag(
    tx: &mut Tx<'_>,
    rule: SecurityGroupRuleId,
    change: impl FnOnce(&mut Vec<TagRecord>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let rule = rule.to_string();
    let place = |group: &SecurityGroupRecord| group.rules.iter().position(|other| other.rule_id == rule);
    let found =
        tx.all::<SecurityGroupRecord>().find_map(|(id, group)| Some((id, group.clone(), place(group)?)));
    let (id, group, place) = found.ok_or(Refusal::ResourceNotFound(rule))?;
    let mut group = Arc::unwrap_or_clone(group);
    change(&mut group.rules[place].tags)?;
    tx.save(id, group);
    Ok(())
}

/// Stores the default group of a VPC: its members reach each other, and everything is let out.
pub fn default_make(tx: &mut Tx<'_>, vpc: VpcId, id: Option<SecurityGroupId>) {
    let id = id.unwrap_or_else(|| SecurityGroupId::random(tx.random));
    let members = rule_to_all(tx, false, id.to_string());
    let anywhere = rule_to_all(tx, true, "0.0.0.0/0".to_owned());
    let record = SecurityGroupRecord {
        group_id: id.to_string(),
        name: DEFAULT_NAME.to_owned(),
        description: "default VPC security group".to_owned(),
        vpc_id: vpc.to_string(),
        rules: vec![members, anywhere],
        tags: Vec::new(),
    };
    tx.save(id, record);
}

/// A rule that lets everything through, to or from the peer.
fn rule_to_all(tx: &mut Tx<'_>, egress: bool, peer: String) -> RuleRecord {
    RuleRecord {
        rule_id: SecurityGroupRuleId::random(tx.random).to_string(),
        egress,
        protocol: -1,
        first: -1,
        last: -1,
        peer,
        ..RuleRecord::default()
    }
}
