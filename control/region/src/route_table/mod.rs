//! Route tables: whose they are, which subnets use them, and their routes.

pub mod plan;
pub mod record;

use crate::owner::Tx;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use base::ids::*;
use plan::{Destination, Target};
use record::{RouteRecord, RouteTableRecord};
use std::sync::Arc;

/// The most route tables of a VPC. Source: Amazon VPC User Guide, "Quotas".
pub const TABLES_MAX: usize = 200;
/// The most routes of a table, those to the VPC itself apart. Source: as above.
pub const ROUTES_MAX: usize = 500;

/// A change of route tables.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateRouteTable.
    Create {
        /// `vpc-...`
        vpc: String,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// DeleteRouteTable.
    Delete(String),
    /// AssociateRouteTable.
    Associate {
        /// `rtb-...`
        table: String,
        /// `subnet-...`
        subnet: String,
    },
    /// DisassociateRouteTable.
    Disassociate(String),
    /// ReplaceRouteTableAssociation.
    AssociationReplace {
        /// `rtbassoc-...`
        association: String,
        /// `rtb-...`
        table: String,
    },
    /// CreateRoute.
    RouteCreate {
        /// `rtb-...`
        table: String,
        /// Where packets go to.
        destination: Destination,
        /// Where they are sent.
        target: Target,
    },
    /// ReplaceRoute.
    RouteReplace {
        /// `rtb-...`
        table: String,
        /// Where packets go to.
        destination: Destination,
        /// Where they are sent.
        target: Target,
    },
    /// DeleteRoute.
    RouteDelete {
        /// `rtb-...`
        table: String,
        /// Where packets go to.
        destination: Destination,
    },
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { vpc, tags } => {
            tx.find::<VpcRecord>(&vpc)?;
            if tx.all::<RouteTableRecord>().filter(|(_, table)| table.vpc_id == vpc).count() >= TABLES_MAX {
                let what = "route tables of the VPC";
                return Err(NetworkRefusal::Limit { limit: Limit::RouteTables, what, max: TABLES_MAX }.into());
            }
            let id = RouteTableId::random(tx.random);
            let record =
                RouteTableRecord { route_table_id: id.to_string(), vpc_id: vpc, routes: Vec::new(), tags };
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::Delete(table) => table_delete(tx, &table).map(|()| Answer::Done),
        Change::Associate { table, subnet } => associate(tx, &table, &subnet).map(Answer::Association),
        Change::Disassociate(association) => disassociate(tx, &association).map(|()| Answer::Done),
        Change::AssociationReplace { association, table } => {
            association_replace(tx, &association, &table).map(Answer::Association)
        }
        Change::RouteCreate { table, destination, target } => {
            let (id, mut record) = changed(tx, &table)?;
            target.check(tx, &record.vpc_id, &destination)?;
            let local = tx.named::<VpcRecord>(&record.vpc_id);
            let is_local = local.is_some_and(|vpc| plan::is_local(&vpc, &destination));
            let destination = destination.to_string();
            if is_local || record.routes.iter().any(|route| route.destination == destination) {
                return Err(NetworkRefusal::RouteExists(destination).into());
            }
            if record.routes.len() >= ROUTES_MAX {
                let what = "routes of the route table";
                return Err(NetworkRefusal::Limit { limit: Limit::Routes, what, max: ROUTES_MAX }.into());
            }
            record.routes.push(RouteRecord { destination, target: target.to_string() });
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::RouteReplace { table, destination, target } => {
            let (id, mut record) = changed(tx, &table)?;
            target.check(tx, &record.vpc_id, &destination)?;
            let place = route_find(&record, &destination)?;
            record.routes[place].target = target.to_string();
            tx.save(id, record);
            Ok(Answer::Done)
        }
        Change::RouteDelete { table, destination } => {
            let (id, mut record) = changed(tx, &table)?;
            let place = route_find(&record, &destination)?;
            record.routes.remove(place);
            tx.save(id, record);
            Ok(Answer::Done)
        }
    }
}

fn changed(tx: &Tx<'_>, table: &str) -> Result<(RouteTableId, RouteTableRecord), Refusal> {
    tx.find::<RouteTableRecord>(table).map(|(id, record)| (id, Arc::unwrap_or_clone(record)))
}

fn route_find(table: &RouteTableRecord, destination: &Destination) -> Result<usize, Refusal> {
    let destination = destination.to_string();
    let place = table.routes.iter().position(|route| route.destination == destination);
    place.ok_or_else(|| NetworkRefusal::RouteNotFound(table.route_table_id.clone(), destination).into())
}

fn table_delete(tx: &mut Tx<'_>, table: &str) -> Result<(), Refusal> {
    let (id, record) = tx.find::<RouteTableRecord>(table)?;
    let main = tx.named::<VpcRecord>(&record.vpc_id).is_some_and(|vpc| vpc.main_route_table_id == table);
    if main || tx.all::<SubnetRecord>().any(|(_, subnet)| subnet.route_table_id == table) {
        return Err(NetworkRefusal::InUse { kind: "routeTable", id: table.to_owned() }.into());
    }
    tx.remove::<RouteTableRecord>(id);
    Ok(())
}

fn associate(tx: &mut Tx<'_>, table: &str, subnet: &str) -> Result<String, Refusal> {
    let (_, record) = tx.find::<RouteTableRecord>(table)?;
    let (id, found) = tx.find::<SubnetRecord>(subnet)?;
    if found.vpc_id != record.vpc_id {
        let message = format!("Route table {table} and subnet {subnet} belong to different networks");
        return Err(NetworkRefusal::Value(message).into());
    }
    match found.route_table_id.as_str() {
        "" => {}
        same if same == table => return Ok(found.route_table_association_id.clone()),
        _ => return Err(NetworkRefusal::AlreadyAssociated(subnet.to_owned()).into()),
    }
    let mut changed = Arc::unwrap_or_clone(found);
    let association = RouteTableAssociationId::random(tx.random).to_string();
    changed.route_table_id = table.to_owned();
    changed.route_table_association_id.clone_from(&association);
    tx.save(id, changed);
    Ok(association)
}

fn disassociate(tx: &mut Tx<'_>, association: &str) -> Result<(), Refusal> {
    if tx.all::<VpcRecord>().any(|(_, vpc)| vpc.main_association_id == association) {
        let message = format!("cannot disassociate the main route table association {association}");
        return Err(NetworkRefusal::Value(message).into());
    }
    let (id, mut subnet) = association_find(tx, association)?;
    subnet.route_table_id.clear();
    subnet.route_table_association_id.clear();
    tx.save(id, subnet);
    Ok(())
}

fn association_find(tx: &Tx<'_>, association: &str) -> Result<(SubnetId, SubnetRecord), Refusal> {
    let is =
        |subnet: &SubnetRecord| !association.is_empty() && subnet.route_table_association_id == association;
    let found = tx.all::<SubnetRecord>().find(|(_, subnet)| is(subnet));
    let found = found.map(|(id, subnet)| (id, SubnetRecord::clone(subnet)));
    found.ok_or_else(|| NetworkRefusal::AssociationNotFound(association.to_owned()).into())
}

fn association_replace(tx: &mut Tx<'_>, association: &str, table: &str) -> Result<String, Refusal> {
    let (_, record) = tx.find::<RouteTableRecord>(table)?;
    let different = || {
        let message =
            format!("The association {association} and route table {table} belong to different networks");
        Refusal::from(NetworkRefusal::Value(message))
    };
    let new = RouteTableAssociationId::random(tx.random).to_string();
    let main = tx.all::<VpcRecord>().find(|(_, vpc)| vpc.main_association_id == association);
    if let Some((id, vpc)) = main.map(|(id, vpc)| (id, VpcRecord::clone(vpc))) {
        if vpc.vpc_id != record.vpc_id {
            return Err(different());
        }
        let main_route_table_id = table.to_owned();
        tx.save(id, VpcRecord { main_route_table_id, main_association_id: new.clone(), ..vpc });
        return Ok(new);
    }
    let (id, subnet) = association_find(tx, association)?;
    if subnet.vpc_id != record.vpc_id {
        return Err(different());
    }
    let route_table_id = table.to_owned();
    tx.save(id, SubnetRecord { route_table_id, route_table_association_id: new.clone(), ..subnet });
    Ok(new)
}
