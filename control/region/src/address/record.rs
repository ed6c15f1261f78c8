//! What is stored of elastic addresses.

use crate::tag::record::TagRecord;

/// An elastic address: public, and the account's until it is released.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AddressRecord {
    /// `eipalloc-...`
    #[prost(string, tag = "1")]
    pub allocation_id: String,
    /// The address.
    #[prost(uint32, tag = "2")]
    pub public_address: u32,
    /// `eipassoc-...`; the association holds as long as the interface has the private address.
    #[prost(string, tag = "3")]
    pub association_id: String,
    /// `eni-...`
    #[prost(string, tag = "4")]
    pub interface_id: String,
    /// Which of the interface's addresses.
    #[prost(uint32, tag = "5")]
    pub private_address: u32,
    /// Sorted by key.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<TagRecord>,
}
