//! What is stored of network interfaces. The first interface of a launched instance has no record of its own until
//! somebody changes it: it is derived from its launch, as the instance is.

use crate::tag::record::TagRecord;

/// A network interface.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InterfaceRecord {
    /// `eni-...`
    #[prost(string, tag = "1")]
    pub interface_id: String,
    /// `vpc-...`
    #[prost(string, tag = "2")]
    pub vpc_id: String,
    /// `subnet-...`
    #[prost(string, tag = "3")]
    pub subnet_id: String,
    /// `us-east-1a`
    #[prost(string, tag = "4")]
    pub zone: String,
    /// What its owner says about it.
    #[prost(string, tag = "5")]
    pub description: String,
    /// Six bytes; unique in the VPC, because the first address is in it.
    #[prost(bytes = "vec", tag = "6")]
    pub mac: Vec<u8>,
    /// Private IPv4 addresses, the primary one first.
    #[prost(uint32, repeated, tag = "7")]
    pub addresses: Vec<u32>,
    /// IPv6 addresses, 16 bytes each.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub addresses_ipv6: Vec<Vec<u8>>,
    /// `sg-...`
    #[prost(string, repeated, tag = "9")]
    pub group_ids: Vec<String>,
    /// It may send from and take for other addresses than its own (SourceDestCheck is off).
    #[prost(bool, tag = "10")]
    pub forwards: bool,
    /// What it is attached to.
    #[prost(message, optional, tag = "11")]
    pub attachment: Option<AttachmentRecord>,
    /// A public address of its own for the primary private one; 0: none.
    #[prost(uint32, tag = "12")]
    pub public_address: u32,
    /// When it was made.
    #[prost(uint64, tag = "13")]
    pub created_unix_ms: u64,
    /// Sorted by key.
    #[prost(message, repeated, tag = "14")]
    pub tags: Vec<TagRecord>,
}

/// How an interface is attached.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AttachmentRecord {
    /// `eni-attach-...`
    #[prost(string, tag = "1")]
    pub attachment_id: String,
    /// `i-...`
    #[prost(string, tag = "2")]
    pub instance_id: String,
    /// 0 is the first card.
    #[prost(uint32, tag = "3")]
    pub device_index: u32,
    /// It stays when the instance is terminated.
    #[prost(bool, tag = "4")]
    pub keep: bool,
    /// Since when.
    #[prost(uint64, tag = "5")]
    pub attached_unix_ms: u64,
}

/// The first interfaces of a launch's members: what they have in common, and the addresses of each, by index.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LaunchInterfaceRecord {
    /// `vpc-...`
    #[prost(string, tag = "1")]
    pub vpc_id: String,
    /// `subnet-...`
    #[prost(string, tag = "2")]
    pub subnet_id: String,
    /// `sg-...`
    #[prost(string, repeated, tag = "3")]
    pub group_ids: Vec<String>,
    /// What their owner says about them.
    #[prost(string, tag = "4")]
    pub description: String,
    /// One each.
    #[prost(uint32, repeated, tag = "5")]
    pub addresses: Vec<u32>,
    /// `ipv6_each` of each, 16 bytes apiece, one after the other.
    #[prost(bytes = "vec", tag = "6")]
    pub addresses_ipv6: Vec<u8>,
    /// How many IPv6 addresses each has.
    #[prost(uint32, tag = "7")]
    pub ipv6_each: u32,
    /// One each, or none at all.
    #[prost(uint32, repeated, tag = "8")]
    pub public_addresses: Vec<u32>,
    /// They stay when their instances are terminated.
    #[prost(bool, tag = "9")]
    pub keep: bool,
    /// Sorted by key.
    #[prost(message, repeated, tag = "10")]
    pub tags: Vec<TagRecord>,
}
