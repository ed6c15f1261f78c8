//! Security groups.

pub mod record;

use crate::owner::Tx;
use base::ids::{SecurityGroupId, SecurityGroupRuleId, VpcId};
use record::{RuleRecord, SecurityGroupRecord};

/// The name of every VPC's default group.
pub const DEFAULT_NAME: &str = "default";

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
