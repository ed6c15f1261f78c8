//! Sets of DHCP options.

use super::{AttributeValue, Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateDhcpOptionsRequest {
    /// The options.
    #[shape(required)]
    pub dhcp_configurations: Vec<NewDhcpConfiguration>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// An option.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NewDhcpConfiguration {
    /// `domain-name`, `domain-name-servers`, `ntp-servers`...
    pub key: Option<String>,
    /// Its values.
    pub values: Vec<String>,
}

/// The answer of CreateDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateDhcpOptionsResponse {
    /// The set of options.
    pub dhcp_options: DhcpOptions,
}

/// A set of DHCP options.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DhcpOptions {
    /// The account that owns it.
    pub owner_id: String,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `dopt-0123456789abcdef0`, or `default`.
    pub dhcp_options_id: String,
    /// The options.
    pub dhcp_configurations: Vec<DhcpConfiguration>,
}

/// An option.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DhcpConfiguration {
    /// `domain-name`, `domain-name-servers`, `ntp-servers`...
    pub key: String,
    /// Its values.
    pub values: Vec<AttributeValue>,
}

/// The input of DeleteDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteDhcpOptionsRequest {
    /// `dopt-0123456789abcdef0`, or `default`.
    pub dhcp_options_id: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of DescribeDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeDhcpOptionsRequest {
    /// Only these.
    pub dhcp_options_ids: Vec<String>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeDhcpOptionsResponse {
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
    /// The sets of this page.
    #[shape(response = "dhcpOptionsSet")]
    pub dhcp_options: Vec<DhcpOptions>,
}

/// The input of AssociateDhcpOptions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssociateDhcpOptionsRequest {
    /// `dopt-0123456789abcdef0`, or `default`.
    pub dhcp_options_id: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}
