//! What is stored of route tables.

use crate::tag::record::TagRecord;

/// A route table. Routes to the VPC's own ranges are there always and are not stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RouteTableRecord {
    /// `rtb-...`
    #[prost(string, tag = "1")]
    pub route_table_id: String,
    /// `vpc-...`
    #[prost(string, tag = "2")]
    pub vpc_id: String,
    /// In the order in which they were made; no destination twice.
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<RouteRecord>,
    /// Sorted by key.
    #[prost(message, repeated, tag = "4")]
    pub tags: Vec<TagRecord>,
}

/// A route. Whether its target still exists is asked when it is read: nothing is written when a target goes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RouteRecord {
    /// `0.0.0.0/0`, `::/0` or `pl-...`
    #[prost(string, tag = "1")]
    pub destination: String,
    /// `igw-...`, `eigw-...`, `nat-...` or `eni-...`
    #[prost(string, tag = "2")]
    pub target: String,
}
