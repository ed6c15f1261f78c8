//! Route tables and routes.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateRouteTableRequest {
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The answer of CreateRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateRouteTableResponse {
    /// The route table.
    pub route_table: RouteTable,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
}

/// A route table.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RouteTable {
    /// Who uses it.
    pub associations: Vec<RouteTableAssociation>,
    /// Always empty: there are no virtual private gateways.
    pub propagating_vgws: Vec<PropagatingVgw>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// The account that owns it.
    pub owner_id: String,
}

/// Who uses a route table.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RouteTableAssociation {
    /// Whether it is the one of all subnets that have none of their own.
    pub main: bool,
    /// `rtbassoc-0123456789abcdef0`.
    pub route_table_association_id: String,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: Option<String>,
    /// Where the association is in its life.
    pub association_state: RouteTableAssociationState,
}

/// A gateway that adds routes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PropagatingVgw {
    /// `igw-0123456789abcdef0`, or `local`.
    pub gateway_id: Option<String>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Route {
    /// Packets to this range: `0.0.0.0/0`.
    pub destination_cidr_block: Option<String>,
    /// Packets to this range: `::/0`.
    pub destination_ipv6_cidr_block: Option<String>,
    /// Packets to these ranges: `pl-0123456789abcdef0`.
    pub destination_prefix_list_id: Option<String>,
    /// `eigw-0123456789abcdef0`.
    pub egress_only_internet_gateway_id: Option<String>,
    /// `igw-0123456789abcdef0`, or `local`.
    pub gateway_id: Option<String>,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// The account that owns the instance.
    pub instance_owner_id: Option<String>,
    /// `nat-0123456789abcdef0`.
    pub nat_gateway_id: Option<String>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: Option<String>,
    /// `CreateRouteTable` or `CreateRoute`.
    pub origin: String,
    /// `active`, or `blackhole` if its target is gone.
    pub state: String,
}

/// Where an association is in its life.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RouteTableAssociationState {
    /// `associated`...
    pub state: String,
    /// Why, if it failed.
    pub status_message: Option<String>,
}

/// The input of DeleteRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteRouteTableRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
}

/// The input of DescribeRouteTables.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeRouteTablesRequest {
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Only these.
    pub route_table_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeRouteTables.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeRouteTablesResponse {
    /// The route tables of this page.
    pub route_tables: Vec<RouteTable>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// The input of AssociateRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "GatewayId, PublicIpv4Pool")]
pub struct AssociateRouteTableRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: Option<String>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
}

/// The answer of AssociateRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssociateRouteTableResponse {
    /// Names the association.
    pub association_id: String,
    /// Where the association is in its life.
    pub association_state: RouteTableAssociationState,
}

/// The input of DisassociateRouteTable.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DisassociateRouteTableRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Names the association.
    pub association_id: String,
}

/// The input of ReplaceRouteTableAssociation.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReplaceRouteTableAssociationRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Names the association.
    pub association_id: String,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
}

/// The answer of ReplaceRouteTableAssociation.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReplaceRouteTableAssociationResponse {
    /// Names the association from now on.
    pub new_association_id: String,
    /// Where the association is in its life.
    pub association_state: RouteTableAssociationState,
}

/// The input of CreateRoute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "CarrierGatewayId, CoreNetworkArn, LocalGatewayId, OdbNetworkArn")]
#[shape(unsupported = "TransitGatewayId, VpcEndpointId, VpcPeeringConnectionId")]
pub struct CreateRouteRequest {
    /// Packets to these ranges: `pl-0123456789abcdef0`.
    pub destination_prefix_list_id: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
    /// Packets to this range: `0.0.0.0/0`.
    pub destination_cidr_block: Option<String>,
    /// `igw-0123456789abcdef0`, or `local`.
    pub gateway_id: Option<String>,
    /// Packets to this range: `::/0`.
    pub destination_ipv6_cidr_block: Option<String>,
    /// `eigw-0123456789abcdef0`.
    pub egress_only_internet_gateway_id: Option<String>,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: Option<String>,
    /// `nat-0123456789abcdef0`.
    pub nat_gateway_id: Option<String>,
}

/// The input of ReplaceRoute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "CarrierGatewayId, CoreNetworkArn, LocalGatewayId, OdbNetworkArn")]
#[shape(unsupported = "TransitGatewayId, VpcEndpointId, VpcPeeringConnectionId")]
pub struct ReplaceRouteRequest {
    /// Packets to these ranges: `pl-0123456789abcdef0`.
    pub destination_prefix_list_id: Option<String>,
    /// Back to the route that the VPC's own ranges have.
    pub local_target: Option<bool>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
    /// Packets to this range: `0.0.0.0/0`.
    pub destination_cidr_block: Option<String>,
    /// `igw-0123456789abcdef0`, or `local`.
    pub gateway_id: Option<String>,
    /// Packets to this range: `::/0`.
    pub destination_ipv6_cidr_block: Option<String>,
    /// `eigw-0123456789abcdef0`.
    pub egress_only_internet_gateway_id: Option<String>,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: Option<String>,
    /// `nat-0123456789abcdef0`.
    pub nat_gateway_id: Option<String>,
}

/// The input of DeleteRoute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteRouteRequest {
    /// Packets to these ranges: `pl-0123456789abcdef0`.
    pub destination_prefix_list_id: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `rtb-0123456789abcdef0`.
    pub route_table_id: String,
    /// Packets to this range: `0.0.0.0/0`.
    pub destination_cidr_block: Option<String>,
    /// Packets to this range: `::/0`.
    pub destination_ipv6_cidr_block: Option<String>,
}
