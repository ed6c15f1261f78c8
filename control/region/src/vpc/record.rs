//! What is stored of VPCs.

use crate::tag::record::TagRecord;

/// A VPC.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VpcRecord {
    /// `vpc-...`
    #[prost(string, tag = "1")]
    pub vpc_id: String,
    /// Its IPv4 ranges, the first one first.
    #[prost(message, repeated, tag = "2")]
    pub cidrs: Vec<CidrRecord>,
    /// Its IPv6 ranges.
    #[prost(message, repeated, tag = "3")]
    pub cidrs_ipv6: Vec<CidrRecord>,
    /// On the wire; unique in the region.
    #[prost(uint32, tag = "4")]
    pub vni: u32,
    /// `dopt-...`; empty: none at all (`default`).
    #[prost(string, tag = "5")]
    pub dhcp_options_id: String,
    /// The account's default one.
    #[prost(bool, tag = "6")]
    pub is_default: bool,
    /// Its resolver answers.
    #[prost(bool, tag = "7")]
    pub dns_support: bool,
    /// Instances with public addresses have public names.
    #[prost(bool, tag = "8")]
    pub dns_hostnames: bool,
    /// Use of addresses is measured.
    #[prost(bool, tag = "9")]
    pub address_metrics: bool,
    /// `rtb-...`: of subnets that have none of their own.
    #[prost(string, tag = "10")]
    pub main_route_table_id: String,
    /// `rtbassoc-...`: of the main route table.
    #[prost(string, tag = "11")]
    pub main_association_id: String,
    /// When it was made.
    #[prost(uint64, tag = "12")]
    pub created_unix_ms: u64,
    /// Sorted by key.
    #[prost(message, repeated, tag = "13")]
    pub tags: Vec<TagRecord>,
}

/// A range of a VPC or subnet.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CidrRecord {
    /// `vpc-cidr-assoc-...` or `subnet-cidr-assoc-...`
    #[prost(string, tag = "1")]
    pub association_id: String,
    /// `10.0.0.0/16`
    #[prost(string, tag = "2")]
    pub cidr: String,
}

/// A network identifier that is not given again: its VPC is gone, and a host that was cut off may still hold it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VniRecord {
    /// Whose it was.
    #[prost(string, tag = "1")]
    pub vpc_id: String,
    /// Since when it is gone.
    #[prost(uint64, tag = "2")]
    pub deleted_unix_ms: u64,
}
