//! Elastic addresses.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of AllocateAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Address, CustomerOwnedIpv4Pool, IpamPoolId")]
pub struct AllocateAddressRequest {
    /// `vpc`.
    pub domain: Option<String>,
    /// `amazon`: the region's own addresses.
    pub public_ipv4_pool: Option<String>,
    /// The region, or a zone that announces addresses of its own.
    pub network_border_group: Option<String>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of AllocateAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AllocateAddressResponse {
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: String,
    /// `amazon`: the region's own addresses.
    pub public_ipv4_pool: String,
    /// The region, or a zone that announces addresses of its own.
    pub network_border_group: String,
    /// `vpc`.
    pub domain: String,
    /// `198.18.0.5`.
    pub public_ip: String,
}

/// The input of AssociateAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssociateAddressRequest {
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: Option<String>,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// `198.18.0.5`.
    pub public_ip: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: Option<String>,
    /// `10.0.0.5`.
    pub private_ip_address: Option<String>,
    /// Take it from whatever has it.
    pub allow_reassociation: Option<bool>,
}

/// The answer of AssociateAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssociateAddressResponse {
    /// Names the association.
    pub association_id: Option<String>,
}

/// The input of DisassociateAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DisassociateAddressRequest {
    /// Names the association.
    pub association_id: Option<String>,
    /// `198.18.0.5`.
    pub public_ip: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of ReleaseAddress.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ReleaseAddressRequest {
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: Option<String>,
    /// `198.18.0.5`.
    pub public_ip: Option<String>,
    /// The region, or a zone that announces addresses of its own.
    pub network_border_group: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of DescribeAddresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAddressesRequest {
    /// Only these.
    pub public_ips: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only these.
    pub allocation_ids: Vec<String>,
}

/// The answer of DescribeAddresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAddressesResponse {
    /// The addresses.
    #[shape(response = "addressesSet")]
    pub addresses: Vec<Address>,
}

/// An elastic address.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Address {
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: String,
    /// Names the association.
    pub association_id: Option<String>,
    /// `vpc`.
    pub domain: String,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: Option<String>,
    /// The account that owns the interface.
    pub network_interface_owner_id: Option<String>,
    /// `10.0.0.5`.
    pub private_ip_address: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// `amazon`: the region's own addresses.
    pub public_ipv4_pool: String,
    /// The region, or a zone that announces addresses of its own.
    pub network_border_group: String,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// `198.18.0.5`.
    pub public_ip: String,
}

/// The input of DescribeAddressesAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAddressesAttributeRequest {
    /// Only these.
    pub allocation_ids: Vec<String>,
    /// Which attribute.
    pub attribute: Option<String>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeAddressesAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAddressesAttributeResponse {
    /// The addresses of this page.
    pub addresses: Vec<AddressAttribute>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// An attribute of an address.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AddressAttribute {
    /// `198.18.0.5`.
    pub public_ip: String,
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: String,
    /// The name that it resolves to.
    pub ptr_record: Option<String>,
}
