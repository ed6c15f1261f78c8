//! Route tables: CreateRouteTable, DeleteRouteTable, DescribeRouteTables, their associations and routes.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::cidr::Cidr;
use crate::network::NetworkChange;
use crate::route_table::Change;
use crate::route_table::plan::{self, Destination, Target};
use crate::route_table::record::RouteTableRecord;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};

/// CreateRouteTable.
pub async fn table_create(
    api: &Api,
    caller: &Caller,
    mut input: CreateRouteTableRequest,
) -> Result<CreateRouteTableResponse, ApiError> {
    let (client_token, dry_run) = (input.client_token.take(), input.dry_run.take());
    let token = resource::token("CreateRouteTable", client_token.clone(), &input)?;
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let tags = tag::specified(&input.tag_specifications, "route-table")?;
    parse::dry_run(dry_run)?;
    let change = NetworkChange::RouteTable(Change::Create { vpc: input.vpc_id, tags });
    let answer = resource::change(api, caller, change, token).await?;
    let record = resource::made::<RouteTableRecord>(&answer)?;
    let route_table = resource::told(api, caller, &*record, |seen| seen.shape())?;
    Ok(CreateRouteTableResponse { route_table, client_token })
}

async fn done(api: &Api, caller: &Caller, change: Change) -> Result<Return, ApiError> {
    resource::change(api, caller, NetworkChange::RouteTable(change), None).await?;
    Ok(Return::TRUE)
}

async fn associated(api: &Api, caller: &Caller, change: Change) -> Result<String, ApiError> {
    let answer = resource::change(api, caller, NetworkChange::RouteTable(change), None).await?;
    resource::association(answer)
}

fn association_state() -> RouteTableAssociationState {
    RouteTableAssociationState { state: "associated".to_owned(), status_message: None }
}

/// DeleteRouteTable.
pub async fn table_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteRouteTableRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Delete(input.route_table_id)).await
}

/// AssociateRouteTable, with a subnet.
pub async fn table_associate(
    api: &Api,
    caller: &Caller,
    input: AssociateRouteTableRequest,
) -> Result<AssociateRouteTableResponse, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    let subnet = input.subnet_id.ok_or_else(|| parse::missing("subnetId"))?;
    parse::resource_id::<SubnetRecord>(&subnet)?;
    parse::dry_run(input.dry_run)?;
    let change = Change::Associate { table: input.route_table_id, subnet };
    let association_id = associated(api, caller, change).await?;
    Ok(AssociateRouteTableResponse { association_id, association_state: association_state() })
}

/// DisassociateRouteTable.
pub async fn table_disassociate(
    api: &Api,
    caller: &Caller,
    input: DisassociateRouteTableRequest,
) -> Result<Return, ApiError> {
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::Disassociate(input.association_id)).await
}

/// ReplaceRouteTableAssociation.
pub async fn association_replace(
    api: &Api,
    caller: &Caller,
    input: ReplaceRouteTableAssociationRequest,
) -> Result<ReplaceRouteTableAssociationResponse, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    parse::dry_run(input.dry_run)?;
    let change =
        Change::AssociationReplace { association: input.association_id, table: input.route_table_id };
    let new_association_id = associated(api, caller, change).await?;
    Ok(ReplaceRouteTableAssociationResponse { new_association_id, association_state: association_state() })
}

/// CreateRoute.
pub async fn route_create(api: &Api, caller: &Caller, input: CreateRouteRequest) -> Result<Return, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    let destination = destination(
        input.destination_cidr_block,
        input.destination_ipv6_cidr_block,
        input.destination_prefix_list_id,
    )?;
    let target = target(TargetAsked {
        gateway: input.gateway_id,
        egress_only: input.egress_only_internet_gateway_id,
        nat: input.nat_gateway_id,
        interface: input.network_interface_id,
        instance: input.instance_id,
    })?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::RouteCreate { table: input.route_table_id, destination, target }).await
}

/// ReplaceRoute.
pub async fn route_replace(
    api: &Api,
    caller: &Caller,
    input: ReplaceRouteRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    if input.local_target == Some(true) {
        let message = "Routes to the VPC's own ranges cannot be replaced in Nephos yet.";
        return Err(errors::unsupported(message));
    }
    let destination = destination(
        input.destination_cidr_block,
        input.destination_ipv6_cidr_block,
        input.destination_prefix_list_id,
    )?;
    let target = target(TargetAsked {
        gateway: input.gateway_id,
        egress_only: input.egress_only_internet_gateway_id,
        nat: input.nat_gateway_id,
        interface: input.network_interface_id,
        instance: input.instance_id,
    })?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::RouteReplace { table: input.route_table_id, destination, target }).await
}

/// DeleteRoute.
pub async fn route_delete(api: &Api, caller: &Caller, input: DeleteRouteRequest) -> Result<Return, ApiError> {
    parse::resource_id::<RouteTableRecord>(&input.route_table_id)?;
    let destination = destination(
        input.destination_cidr_block,
        input.destination_ipv6_cidr_block,
        input.destination_prefix_list_id,
    )?;
    parse::dry_run(input.dry_run)?;
    done(api, caller, Change::RouteDelete { table: input.route_table_id, destination }).await
}

fn destination(
    cidr: Option<String>,
    cidr_ipv6: Option<String>,
    prefix_list: Option<String>,
) -> Result<Destination, ApiError> {
    let cidr = cidr.map(|text| parse::cidr4("destinationCidrBlock", &text)).transpose()?;
    let cidr_ipv6 = cidr_ipv6.map(|text| parse::cidr6("destinationIpv6CidrBlock", &text)).transpose()?;
    if prefix_list.is_some() {
        return Err(errors::unsupported("Routes to prefix lists are not supported by Nephos yet."));
    }
    let given = [
        ("destinationCidrBlock", cidr.map(|cidr| Destination::Range(Cidr::V4(cidr)))),
        ("destinationIpv6CidrBlock", cidr_ipv6.map(|cidr| Destination::Range(Cidr::V6(cidr)))),
    ];
    parse::exactly_one(given, "destinationCidrBlock")
}

/// A route's target as it is asked for.
struct TargetAsked {
    gateway: Option<String>,
    egress_only: Option<String>,
    nat: Option<String>,
    interface: Option<String>,
    instance: Option<String>,
}

fn target(asked: TargetAsked) -> Result<Target, ApiError> {
    let given = [
        ("gatewayId", asked.gateway),
        ("egressOnlyInternetGatewayId", asked.egress_only),
        ("natGatewayId", asked.nat),
        ("networkInterfaceId", asked.interface),
        ("instanceId", asked.instance),
    ];
    let given = given.map(|(name, text)| (name, text.map(|text| (name, text))));
    let (name, text) = parse::exactly_one(given, "gatewayId")?;
    text.parse().map_err(|_| errors::invalid_value(name, &text, "No route can have this target."))
}

/// DescribeRouteTables.
pub fn tables_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeRouteTablesRequest,
) -> Result<DescribeRouteTablesResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeRouteTables",
        parameter: "routeTableIds",
        ids: &input.route_table_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (route_tables, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, RouteTableRecord>| seen.shape())?;
    Ok(DescribeRouteTablesResponse { route_tables, next_token })
}

impl Seen<'_, RouteTableRecord> {
    fn vpc(&self) -> Option<&VpcRecord> {
        self.account.named::<VpcRecord>(&self.record.vpc_id).map(AsRef::as_ref)
    }

    /// The subnets that name it, and the VPC if it is its main one.
    fn associations(&self) -> Vec<RouteTableAssociation> {
        let id = &self.record.route_table_id;
        let association = |association: &str, subnet: Option<&str>| RouteTableAssociation {
            route_table_association_id: association.to_owned(),
            route_table_id: id.clone(),
            subnet_id: subnet.map(str::to_owned),
            main: subnet.is_none(),
            association_state: association_state(),
        };
        let main = self.vpc().filter(|vpc| vpc.main_route_table_id == *id);
        let subnets = self.account.all::<SubnetRecord>().filter(|subnet| subnet.route_table_id == *id);
        let main = main.into_iter().map(|vpc| association(&vpc.main_association_id, None));
        let subnets =
            subnets.map(|subnet| association(&subnet.route_table_association_id, Some(&subnet.subnet_id)));
        main.chain(subnets).collect()
    }

    fn routes(&self) -> Vec<Route> {
        let ranges = self.vpc().into_iter().flat_map(|vpc| vpc.cidrs.iter().chain(&vpc.cidrs_ipv6));
        let local = ranges.map(|range| Route {
            gateway_id: Some("local".to_owned()),
            origin: "CreateRouteTable".to_owned(),
            state: "active".to_owned(),
            ..to(&range.cidr)
        });
        let made = self.record.routes.iter().map(|route| {
            let target = plan::target(route);
            let alive = target.is_some_and(|target| target.is_alive(self.account, &self.record.vpc_id));
            let shape = Route {
                origin: "CreateRoute".to_owned(),
                state: if alive { "active" } else { "blackhole" }.to_owned(),
                ..to(&route.destination)
            };
            let id = Some(route.target.clone());
            match target {
                Some(Target::Internet(_)) | None => Route { gateway_id: id, ..shape },
            }
        });
        local.chain(made).collect()
    }

    fn shape(&self) -> RouteTable {
        RouteTable {
            route_table_id: self.record.route_table_id.clone(),
            vpc_id: self.record.vpc_id.clone(),
            owner_id: self.owner_id(),
            associations: self.associations(),
            propagating_vgws: Vec::new(),
            routes: self.routes(),
            tags: tag::shapes(&self.record.tags),
        }
    }
}

/// A route to a destination.
fn to(destination: &str) -> Route {
    let of = |kind: bool| Some(destination.to_owned()).filter(|_| kind);
    let prefix_list = destination.starts_with("pl-");
    let ipv6 = destination.contains(':');
    Route {
        destination_cidr_block: of(!ipv6 && !prefix_list),
        destination_ipv6_cidr_block: of(ipv6),
        destination_prefix_list_id: of(prefix_list),
        ..Route::default()
    }
}

impl Filtered for Seen<'_, RouteTableRecord> {
    const NAMES: &'static [&'static str] = &[
        "association.gateway-id",
        "association.main",
        "association.route-table-association-id",
        "association.route-table-id",
        "association.subnet-id",
        "owner-id",
        "route-table-id",
        "route.destination-cidr-block",
        "route.destination-ipv6-cidr-block",
        "route.destination-prefix-list-id",
        "route.egress-only-internet-gateway-id",
        "route.gateway-id",
        "route.instance-id",
        "route.nat-gateway-id",
        "route.origin",
        "route.state",
        "route.transit-gateway-id",
        "route.vpc-peering-connection-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let has = |value: Option<String>| value.is_some_and(|value| is(&value));
        let association =
            |of: &dyn Fn(RouteTableAssociation) -> bool| self.associations().into_iter().any(of);
        let route = |of: &dyn Fn(Route) -> bool| self.routes().into_iter().any(of);
        Some(match name {
            "association.main" => association(&|one| is(&one.main.to_string())),
            "association.route-table-association-id" => {
                association(&|one| is(&one.route_table_association_id))
            }
            "association.route-table-id" => association(&|one| is(&one.route_table_id)),
            "association.subnet-id" => association(&|one| has(one.subnet_id)),
            "owner-id" => is(&self.owner_id()),
            "route-table-id" => is(&self.record.route_table_id),
            "route.destination-cidr-block" => route(&|one| has(one.destination_cidr_block)),
            "route.destination-ipv6-cidr-block" => route(&|one| has(one.destination_ipv6_cidr_block)),
            "route.destination-prefix-list-id" => route(&|one| has(one.destination_prefix_list_id)),
            "route.egress-only-internet-gateway-id" => route(&|one| has(one.egress_only_internet_gateway_id)),
            "route.gateway-id" => route(&|one| has(one.gateway_id)),
            "route.instance-id" => route(&|one| has(one.instance_id)),
            "route.nat-gateway-id" => route(&|one| has(one.nat_gateway_id)),
            "route.origin" => route(&|one| is(&one.origin)),
            "route.state" => route(&|one| is(&one.state)),
            "vpc-id" => is(&self.record.vpc_id),
            // AWS's own filters on what no route here has: they hold for none.
            "association.gateway-id" | "route.transit-gateway-id" | "route.vpc-peering-connection-id" => {
                false
            }
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
