//! What is stored of subnets.

use crate::tag::record::TagRecord;
use crate::vpc::record::CidrRecord;

/// A subnet.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubnetRecord {
    /// `subnet-...`
    #[prost(string, tag = "1")]
    pub subnet_id: String,
    /// `vpc-...`
    #[prost(string, tag = "2")]
    pub vpc_id: String,
    /// `us-east-1a`
    #[prost(string, tag = "3")]
    pub zone: String,
    /// `10.0.1.0/24`
    #[prost(string, tag = "4")]
    pub cidr: String,
    /// Its IPv6 range, if it has one.
    #[prost(message, optional, tag = "5")]
    pub cidr_ipv6: Option<CidrRecord>,
    /// The zone's default one.
    #[prost(bool, tag = "6")]
    pub is_default: bool,
    /// Instances get public addresses.
    #[prost(bool, tag = "7")]
    pub map_public_address: bool,
    /// Interfaces get IPv6 addresses.
    #[prost(bool, tag = "8")]
    pub assign_ipv6: bool,
    /// `acl-...`
    #[prost(string, tag = "9")]
    pub network_acl_id: String,
    /// `aclassoc-...`: a new one with each ACL.
    #[prost(string, tag = "10")]
    pub network_acl_association_id: String,
    /// `rtb-...`; empty: the VPC's main one.
    #[prost(string, tag = "11")]
    pub route_table_id: String,
    /// `rtbassoc-...`; empty with `route_table_id`.
    #[prost(string, tag = "12")]
    pub route_table_association_id: String,
    /// When it was made.
    #[prost(uint64, tag = "13")]
    pub created_unix_ms: u64,
    /// Sorted by key.
    #[prost(message, repeated, tag = "14")]
    pub tags: Vec<TagRecord>,
}
