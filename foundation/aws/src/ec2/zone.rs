//! Regions and availability zones.

use super::Filter;
use crate::Shape;

/// The input of DescribeRegions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeRegionsRequest {
    /// Only these.
    pub region_names: Vec<String>,
    /// Also those that the account has not opted in to.
    pub all_regions: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeRegions.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeRegionsResponse {
    /// The regions.
    #[shape(response = "regionInfo")]
    pub regions: Vec<Region>,
}

/// A region.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Region {
    /// `us-east-1`.
    pub region_name: String,
    /// The host (and port) that clients reach it at.
    #[shape(response = "regionEndpoint")]
    pub endpoint: String,
    /// `opt-in-not-required`.
    pub opt_in_status: String,
}

/// The input of DescribeAvailabilityZones.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAvailabilityZonesRequest {
    /// Only these, by name.
    pub zone_names: Vec<String>,
    /// Only these, by id.
    pub zone_ids: Vec<String>,
    /// Also those that the account has not opted in to.
    pub all_availability_zones: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeAvailabilityZones.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeAvailabilityZonesResponse {
    /// The zones.
    #[shape(response = "availabilityZoneInfo")]
    pub availability_zones: Vec<AvailabilityZone>,
}

/// An availability zone.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AvailabilityZone {
    /// `us-east-1a`.
    pub zone_name: String,
    /// `use1-az1`: the same zone in all accounts.
    pub zone_id: String,
    /// `available`, `information`, `impaired`, `unavailable` or `constrained`.
    #[shape(response = "zoneState")]
    pub state: String,
    /// What is known about its state.
    pub messages: Vec<AvailabilityZoneMessage>,
    /// `us-east-1`.
    pub region_name: String,
    /// `availability-zone`.
    pub zone_type: String,
    /// `us-east-1-zg-1`.
    pub group_name: Option<String>,
    /// The region, for an ordinary zone.
    pub network_border_group: Option<String>,
    /// `opt-in-not-required`.
    pub opt_in_status: String,
}

/// A sentence about a zone's state.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AvailabilityZoneMessage {
    /// The sentence.
    pub message: String,
}
