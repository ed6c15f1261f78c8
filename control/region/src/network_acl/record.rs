//! What is stored of network ACLs.

use crate::tag::record::TagRecord;

/// A network ACL. What no entry matches is denied; that last entry is not stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetworkAclRecord {
    /// `acl-...`
    #[prost(string, tag = "1")]
    pub network_acl_id: String,
    /// `vpc-...`
    #[prost(string, tag = "2")]
    pub vpc_id: String,
    /// The VPC's default one.
    #[prost(bool, tag = "3")]
    pub is_default: bool,
    /// Sorted by direction (ingress first) and number.
    #[prost(message, repeated, tag = "4")]
    pub entries: Vec<AclEntryRecord>,
    /// Sorted by key.
    #[prost(message, repeated, tag = "5")]
    pub tags: Vec<TagRecord>,
}

/// An entry of a network ACL.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AclEntryRecord {
    /// 1 to 32766; the lowest that matches decides.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// About what goes out.
    #[prost(bool, tag = "2")]
    pub egress: bool,
    /// Lets through; else denies.
    #[prost(bool, tag = "3")]
    pub allow: bool,
    /// IANA's number; -1: all.
    #[prost(sint32, tag = "4")]
    pub protocol: i32,
    /// `0.0.0.0/0` or `::/0`
    #[prost(string, tag = "5")]
    pub cidr: String,
    /// Of TCP and UDP: the first port. Of ICMP: the type, -1 for all.
    #[prost(sint32, tag = "6")]
    pub first: i32,
    /// Of TCP and UDP: the last port. Of ICMP: the code, -1 for all.
    #[prost(sint32, tag = "7")]
    pub last: i32,
}
