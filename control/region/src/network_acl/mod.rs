//! Network ACLs: ordered lists of what subnets let in and out. Every subnet has exactly one.

pub mod record;

use crate::owner::Tx;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use base::ids::*;
use record::{AclEntryRecord, NetworkAclRecord};
use std::sync::Arc;

/// The most network ACLs of a VPC. Source: Amazon VPC User Guide, "Quotas".
pub const ACLS_MAX: usize = 200;
/// The most entries of an ACL in each direction; AWS's default is 20, and 40 is what it can be raised to. Source: as above.
pub const ENTRIES_MAX: usize = 40;
/// IANA's protocol numbers, as far as entries and rules treat them apart.
pub const ALL_PROTOCOLS: i32 = -1;

/// A change of network ACLs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateNetworkAcl.
    Create {
        /// `vpc-...`
        vpc: String,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// DeleteNetworkAcl.
    Delete(String),
    /// CreateNetworkAclEntry.
    EntryCreate(String, AclEntryRecord),
    /// ReplaceNetworkAclEntry.
    EntryReplace(String, AclEntryRecord),
    /// DeleteNetworkAclEntry.
    EntryDelete {
        /// `acl-...`
        acl: String,
        /// Which.
        number: u32,
        /// In which direction.
        egress: bool,
    },
    /// ReplaceNetworkAclAssociation.
    AssociationReplace {
        /// `aclassoc-...`
        association: String,
        /// `acl-...`
        acl: String,
    },
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { vpc, tags } => {
            tx.find::<VpcRecord>(&vpc)?;
            if tx.all::<NetworkAclRecord>().filter(|(_, acl)| acl.vpc_id == vpc).count() >= ACLS_MAX {
                let what = "network ACLs of the VPC";
                return Err(NetworkRefusal::Limit { limit: Limit::NetworkAcls, what, max: ACLS_MAX }.into());
            }
            let id = NetworkAclId::random(tx.random);
            let network_acl_id = id.to_string();
            let record =
                NetworkAclRecord { network_acl_id, vpc_id: vpc, tags, ..NetworkAclRecord::default() };
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::Delete(acl) => {
            let (id, record) = tx.find::<NetworkAclRecord>(&acl)?;
            if record.is_default {
                let message = format!("cannot delete default network ACL {acl}");
                return Err(NetworkRefusal::Value(message).into());
            }
            if tx.all::<SubnetRecord>().any(|(_, subnet)| subnet.network_acl_id == acl) {
                return Err(NetworkRefusal::InUse { kind: "networkAcl", id: acl }.into());
            }
            tx.remove::<NetworkAclRecord>(id);
            Ok(Answer::Done)
        }
        Change::EntryCreate(acl, entry) => entry_create(tx, &acl, entry).map(|()| Answer::Done),
        Change::EntryReplace(acl, entry) => {
            let (id, mut record) = changed(tx, &acl)?;
            let place = entry_find(&record, entry.number, entry.egress)?;
            record.entries[place] = entry;
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::EntryDelete { acl, number, egress } => {
            let (id, mut record) = changed(tx, &acl)?;
            let place = entry_find(&record, number, egress)?;
            record.entries.remove(place);
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::AssociationReplace { association, acl } => {
            let (_, record) = tx.find::<NetworkAclRecord>(&acl)?;
            let found =
                tx.all::<SubnetRecord>().find(|(_, subnet)| subnet.network_acl_association_id == association);
            let Some((id, subnet)) = found.map(|(id, subnet)| (id, SubnetRecord::clone(subnet))) else {
                return Err(NetworkRefusal::AssociationNotFound(association).into());
            };
            if subnet.vpc_id != record.vpc_id {
                let message = format!(
                    "The association {association} and network ACL {acl} belong to different networks"
                );
                return Err(NetworkRefusal::Value(message).into());
            }
            let new = NetworkAclAssociationId::random(tx.random).to_string();
            let network_acl_association_id = new.clone();
            tx.save(id, SubnetRecord { network_acl_id: acl, network_acl_association_id, ..subnet });
            Ok(Answer::Association(new))
        }
    }
}

fn changed(tx: &Tx<'_>, acl: &str) -> Result<(NetworkAclId, NetworkAclRecord), Refusal> {
    tx.find::<NetworkAclRecord>(acl).map(|(id, record)| (id, Arc::unwrap_or_clone(record)))
}

fn entry_find(acl: &NetworkAclRecord, number: u32, egress: bool) -> Result<usize, Refusal> {
    let place = acl.entries.iter().position(|entry| (entry.egress, entry.number) == (egress, number));
    place.ok_or_else(|| NetworkRefusal::AclEntryNotFound(number).into())
}

fn entry_create(tx: &mut Tx<'_>, acl: &str, entry: AclEntryRecord) -> Result<(), Refusal> {
    let (id, mut record) = changed(tx, acl)?;
    if entry_find(&record, entry.number, entry.egress).is_ok() {
        return Err(NetworkRefusal::AclEntryExists(entry.number).into());
    }
    if record.entries.iter().filter(|other| other.egress == entry.egress).count() >= ENTRIES_MAX {
        let (limit, what) = (Limit::AclEntries, "entries of the network ACL");
        return Err(NetworkRefusal::Limit { limit, what, max: ENTRIES_MAX }.into());
    }
    record.entries.push(entry);
    record.entries.sort_by_key(|entry| (entry.egress, entry.number));
    tx.save(id, record);
    Ok(())
}

/// Stores the default ACL of a VPC: everything is let through.
pub fn default_make(tx: &mut Tx<'_>, vpc: VpcId) {
    let id = NetworkAclId::random(tx.random);
    let entry = |egress| AclEntryRecord {
        number: 100,
        egress,
        allow: true,
        protocol: ALL_PROTOCOLS,
        cidr: "0.0.0.0/0".to_owned(),
        first: 0,
        last: 0,
    };
    let record = NetworkAclRecord {
        network_acl_id: id.to_string(),
        vpc_id: vpc.to_string(),
        is_default: true,
        entries: vec![entry(false), entry(true)],
        tags: Vec::new(),
    };
    tx.save(id, record);
}
