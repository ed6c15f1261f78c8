//! Tags.

use super::Filter;
use crate::Shape;

/// A tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Shape)]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: String,
    /// 0 to 256 characters.
    #[shape(default)]
    pub value: String,
}

/// Tags for what an operation makes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct TagSpecification {
    /// `instance`, `volume`, `key-pair`...
    pub resource_type: Option<String>,
    /// The tags.
    pub tags: Vec<Tag>,
}

/// The input of CreateTags.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateTagsRequest {
    /// Ids of any kind.
    #[shape(required, request = "ResourceId")]
    pub resources: Vec<String>,
    /// The tags to add or overwrite.
    #[shape(required)]
    pub tags: Vec<Tag>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of DeleteTags.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteTagsRequest {
    /// Ids of any kind.
    #[shape(required, request = "ResourceId")]
    pub resources: Vec<String>,
    /// The tags to remove; all of them if it is empty.
    pub tags: Vec<TagToDelete>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// A tag to remove: whatever its value if none is given, else only if it has that value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Shape)]
pub struct TagToDelete {
    /// The tag's key.
    pub key: String,
    /// The value that it must have; the empty string is a value.
    pub value: Option<String>,
}

/// The input of DescribeTags.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeTagsRequest {
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many tags, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeTags.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeTagsResponse {
    /// The tags of this page.
    pub tags: Vec<TagDescription>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A tag and what it is on.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct TagDescription {
    /// `i-0123456789abcdef0`...
    pub resource_id: String,
    /// `instance`...
    pub resource_type: String,
    /// The tag's key.
    pub key: String,
    /// The tag's value.
    pub value: String,
}
