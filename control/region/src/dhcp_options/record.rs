//! What is stored of sets of DHCP options.

use crate::tag::record::TagRecord;

/// A set of DHCP options. It never changes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DhcpOptionsRecord {
    /// `dopt-...`
    #[prost(string, tag = "1")]
    pub dhcp_options_id: String,
    /// Sorted by key.
    #[prost(message, repeated, tag = "2")]
    pub options: Vec<DhcpOptionRecord>,
    /// Sorted by key.
    #[prost(message, repeated, tag = "3")]
    pub tags: Vec<TagRecord>,
}

/// One option.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DhcpOptionRecord {
    /// `domain-name-servers`
    #[prost(string, tag = "1")]
    pub key: String,
    /// In the order given.
    #[prost(string, repeated, tag = "2")]
    pub values: Vec<String>,
}
