//! What is stored of security groups: a group with all its rules is one record, so that a change of several rules is one
//! operation of a commit however many they are.

use crate::tag::record::TagRecord;

/// A security group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SecurityGroupRecord {
    /// `sg-...`
    #[prost(string, tag = "1")]
    pub group_id: String,
    /// Unique in the VPC.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What its owner says about it.
    #[prost(string, tag = "3")]
    pub description: String,
    /// `vpc-...`
    #[prost(string, tag = "4")]
    pub vpc_id: String,
    /// In the order in which they were made.
    #[prost(message, repeated, tag = "5")]
    pub rules: Vec<RuleRecord>,
    /// Sorted by key.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<TagRecord>,
}

/// A rule of a security group: what it lets through, to or from one peer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuleRecord {
    /// `sgr-...`
    #[prost(string, tag = "1")]
    pub rule_id: String,
    /// About what goes out.
    #[prost(bool, tag = "2")]
    pub egress: bool,
    /// IANA's number; -1: all.
    #[prost(sint32, tag = "3")]
    pub protocol: i32,
    /// The first port, or the ICMP type; -1: all.
    #[prost(sint32, tag = "4")]
    pub first: i32,
    /// The last port, or the ICMP code; -1: all.
    #[prost(sint32, tag = "5")]
    pub last: i32,
    /// `10.0.0.0/8`, `fd00::/8`, `sg-...` or `pl-...`
    #[prost(string, tag = "6")]
    pub peer: String,
    /// What its owner says about it.
    #[prost(string, tag = "7")]
    pub description: String,
    /// Sorted by key.
    #[prost(message, repeated, tag = "8")]
    pub tags: Vec<TagRecord>,
}
