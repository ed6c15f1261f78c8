//! Which VPCs a commit changes: what cells that have ports in a VPC will be told follows from its records, so all that is
//! kept is at which revision of the store each VPC changed last. Called by the region's core with each durable commit;
//! how it reaches cells is decided elsewhere.
//!
//! Invariant: a VPC's revision never falls, and a VPC that was not changed is never named.

use crate::model::{Account, Model};
use crate::owner::Writes;
use crate::record::{Name, Record};
use base::ids::{AccountId, VpcId};
use metastore::Revision;
use std::collections::{BTreeMap, BTreeSet};

/// At which revision each VPC changed last, as far as this process has seen.
#[derive(Debug, Default)]
pub struct Feed {
    changed: BTreeMap<VpcId, Revision>,
}

impl Feed {
    /// Every VPC of a model, as of its revision: what a process begins with.
    pub fn of(model: &Model) -> Feed {
        let accounts = model.accounts();
        let vpcs = accounts.flat_map(|(_, account)| account.tables.vpcs.keys());
        Feed { changed: vpcs.map(|vpc| (*vpc, model.revision)).collect() }
    }

    /// A commit of this revision has changed these.
    pub fn changed(&mut self, vpcs: BTreeSet<VpcId>, revision: Revision) {
        self.changed.extend(vpcs.into_iter().map(|vpc| (vpc, revision)));
    }

    /// The VPCs that have changed after this revision.
    pub fn since(&self, revision: Revision) -> impl Iterator<Item = (VpcId, Revision)> {
        self.changed
            .iter()
            .filter(move |(_, changed)| **changed > revision)
            .map(|(vpc, changed)| (*vpc, *changed))
    }

    /// When the VPC changed last; `None`: not that this process has seen.
    pub fn revision(&self, vpc: VpcId) -> Option<Revision> {
        self.changed.get(&vpc).copied()
    }
}

/// The VPCs that are not what they were once `writes` are durable, asked before they are put into the model.
pub fn vpcs_touched(model: &Model, account: AccountId, writes: &Writes) -> BTreeSet<VpcId> {
    let before = model.account(account);
    let mut touched = BTreeSet::new();
    for (name, record) in writes {
        for vpc in [vpc_before(before, name), record.as_ref().and_then(|record| vpc_of(before, record))] {
            touched.extend(vpc.and_then(|vpc| vpc.parse::<VpcId>().ok()));
        }
    }
    // A set of options is named by VPCs, not the other way about.
    let options = writes.keys().filter_map(|name| match name {
        Name::DhcpOptions(id) => Some(id.to_string()),
        _ => None,
    });
    let options: BTreeSet<String> = options.collect();
    if !options.is_empty() {
        let vpcs = before.into_iter().flat_map(|account| &account.tables.vpcs);
        let named = vpcs.filter(|(_, vpc)| options.contains(&vpc.dhcp_options_id));
        touched.extend(named.map(|(id, _)| *id));
    }
    touched
}

/// The VPC that the record of this name is of, as it is now.
fn vpc_before(account: Option<&Account>, name: &Name) -> Option<String> {
    let tables = &account?.tables;
    match name {
        Name::Vpc(id) => Some(id.to_string()),
        Name::Subnet(id) => tables.subnets.get(id).map(|one| one.vpc_id.clone()),
        Name::RouteTable(id) => tables.route_tables.get(id).map(|one| one.vpc_id.clone()),
        Name::NetworkAcl(id) => tables.network_acls.get(id).map(|one| one.vpc_id.clone()),
        Name::SecurityGroup(id) => tables.security_groups.get(id).map(|one| one.vpc_id.clone()),
        Name::InternetGateway(id) => tables.internet_gateways.get(id).map(|one| one.vpc_id.clone()),
        Name::NetworkInterface(id) => tables.network_interfaces.get(id).map(|one| one.vpc_id.clone()),
        Name::Address(id) => {
            let interface = account?.interface_of_elastic(tables.addresses.get(id)?);
            interface.map(|one| one.vpc_id.clone())
        }
        // The instance's derived interfaces come and go with it.
        Name::Instance(id) => account?.interfaces_of(*id).next().map(|one| one.vpc_id.clone()),
        Name::Reservation(id) => {
            account?.reservations.get(id)?.interface.as_ref().map(|launch| launch.vpc_id.clone())
        }
        _ => None,
    }
}

/// The VPC that the record is of.
fn vpc_of(account: Option<&Account>, record: &Record) -> Option<String> {
    match record {
        Record::Vpc(one) => Some(one.vpc_id.clone()),
        Record::Subnet(one) => Some(one.vpc_id.clone()),
        Record::RouteTable(one) => Some(one.vpc_id.clone()),
        Record::NetworkAcl(one) => Some(one.vpc_id.clone()),
        Record::SecurityGroup(one) => Some(one.vpc_id.clone()),
        Record::InternetGateway(one) => Some(one.vpc_id.clone()),
        Record::NetworkInterface(one) => Some(one.vpc_id.clone()),
        Record::Address(one) => account?.interface_of_elastic(one).map(|one| one.vpc_id.clone()),
        Record::Reservation(one) => one.interface.as_ref().map(|launch| launch.vpc_id.clone()),
        _ => None,
    }
}
