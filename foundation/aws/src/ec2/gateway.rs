//! Internet gateways, and those for outgoing IPv6 only.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;

/// The input of CreateInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateInternetGatewayRequest {
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of CreateInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateInternetGatewayResponse {
    /// The internet gateway.
    pub internet_gateway: InternetGateway,
}

/// An internet gateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InternetGateway {
    /// What it is attached to.
    pub attachments: Vec<InternetGatewayAttachment>,
    /// `igw-0123456789abcdef0`.
    pub internet_gateway_id: String,
    /// The account that owns it.
    pub owner_id: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// What a gateway is attached to.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InternetGatewayAttachment {
    /// `available` (AWS's word for attached here).
    pub state: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The input of DeleteInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteInternetGatewayRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `igw-0123456789abcdef0`.
    pub internet_gateway_id: String,
}

/// The input of DescribeInternetGateways.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInternetGatewaysRequest {
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Only these.
    pub internet_gateway_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeInternetGateways.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInternetGatewaysResponse {
    /// The internet gateways of this page.
    pub internet_gateways: Vec<InternetGateway>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// The input of AttachInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AttachInternetGatewayRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `igw-0123456789abcdef0`.
    pub internet_gateway_id: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The input of DetachInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DetachInternetGatewayRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `igw-0123456789abcdef0`.
    pub internet_gateway_id: String,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
}

/// The input of CreateEgressOnlyInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateEgressOnlyInternetGatewayRequest {
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
}

/// The answer of CreateEgressOnlyInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateEgressOnlyInternetGatewayResponse {
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
    /// The egress-only internet gateway.
    pub egress_only_internet_gateway: EgressOnlyInternetGateway,
}

/// A gateway for outgoing IPv6 only.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EgressOnlyInternetGateway {
    /// What it is attached to.
    pub attachments: Vec<InternetGatewayAttachment>,
    /// `eigw-0123456789abcdef0`.
    pub egress_only_internet_gateway_id: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The input of DeleteEgressOnlyInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteEgressOnlyInternetGatewayRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eigw-0123456789abcdef0`.
    pub egress_only_internet_gateway_id: String,
}

/// The answer of DeleteEgressOnlyInternetGateway.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteEgressOnlyInternetGatewayResponse {
    /// Always true; what fails answers with an error.
    pub return_code: bool,
}

/// The input of DescribeEgressOnlyInternetGateways.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeEgressOnlyInternetGatewaysRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Only these.
    pub egress_only_internet_gateway_ids: Vec<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeEgressOnlyInternetGateways.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeEgressOnlyInternetGatewaysResponse {
    /// The egress-only internet gateways of this page.
    pub egress_only_internet_gateways: Vec<EgressOnlyInternetGateway>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}
