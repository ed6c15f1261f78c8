//! What is stored of internet gateways.

use crate::tag::record::TagRecord;

/// An internet gateway.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InternetGatewayRecord {
    /// `igw-...`
    #[prost(string, tag = "1")]
    pub internet_gateway_id: String,
    /// `vpc-...`; empty: attached to none.
    #[prost(string, tag = "2")]
    pub vpc_id: String,
    /// Sorted by key.
    #[prost(message, repeated, tag = "3")]
    pub tags: Vec<TagRecord>,
}
