//! What is stored of tags.

/// One tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct TagRecord {
    /// 1 to 128 characters.
    #[prost(string, tag = "1")]
    pub key: String,
    /// 0 to 256 characters.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The tags of a resource that has no record of its own (a default VPC, an image): sorted by key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TagsRecord {
    /// The resource's id.
    #[prost(string, tag = "1")]
    pub resource_id: String,
    /// Sorted by key.
    #[prost(message, repeated, tag = "2")]
    pub tags: Vec<TagRecord>,
}
