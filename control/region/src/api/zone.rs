//! DescribeRegions and DescribeAvailabilityZones.

use super::filter::{Filtered, Filters};
use super::{Api, Facts, errors, parse};
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use base::ids::ZoneName;

const OPT_IN_STATUS: &str = "opt-in-not-required";

/// DescribeRegions: this one.
pub fn regions_describe(
    api: &Api,
    _caller: &Caller,
    input: DescribeRegionsRequest,
) -> Result<DescribeRegionsResponse, ApiError> {
    let region = Region {
        region_name: api.facts.region.to_string(),
        endpoint: api.facts.endpoint.clone(),
        opt_in_status: OPT_IN_STATUS.to_owned(),
    };
    let unknown = input.region_names.iter().find(|name| **name != region.region_name);
    if let Some(name) = unknown {
        let message = format!("Invalid region name: [{}]", errors::shown(name));
        return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
    }
    let filters = Filters::read::<Region>(&input.filters)?;
    parse::dry_run(input.dry_run)?;
    Ok(DescribeRegionsResponse { regions: [region].into_iter().filter(|one| filters.hold(one)).collect() })
}

impl Filtered for Region {
    const NAMES: &'static [&'static str] = &["endpoint", "opt-in-status", "region-name"];
    const TAGGED: bool = false;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "endpoint" => is(&self.endpoint),
            "opt-in-status" => is(&self.opt_in_status),
            "region-name" => is(&self.region_name),
            _ => return None,
        })
    }
}

/// DescribeAvailabilityZones.
pub fn zones_describe(
    api: &Api,
    _caller: &Caller,
    input: DescribeAvailabilityZonesRequest,
) -> Result<DescribeAvailabilityZonesResponse, ApiError> {
    let facts = &api.facts;
    let zone = |name: &ZoneName| AvailabilityZone {
        zone_name: name.to_string(),
        zone_id: zone_id(facts, name.as_str()).unwrap_or_default(),
        state: "available".to_owned(),
        messages: Vec::new(),
        region_name: facts.region.to_string(),
        zone_type: "availability-zone".to_owned(),
        group_name: Some(facts.region.to_string()),
        network_border_group: Some(facts.region.to_string()),
        opt_in_status: OPT_IN_STATUS.to_owned(),
    };
    let mut zones: Vec<AvailabilityZone> = facts.zones.iter().map(zone).collect();
    for name in &input.zone_names {
        find(facts, name)?;
    }
    if let Some(id) = input.zone_ids.iter().find(|id| !zones.iter().any(|zone| zone.zone_id == **id)) {
        let message = format!("Invalid availability zone-id: [{}]", errors::shown(id));
        return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
    }
    let filters = Filters::read::<AvailabilityZone>(&input.filters)?;
    parse::dry_run(input.dry_run)?;
    let listed = |list: &[String], value: &String| list.is_empty() || list.contains(value);
    zones.retain(|zone| {
        listed(&input.zone_names, &zone.zone_name)
            && listed(&input.zone_ids, &zone.zone_id)
            && filters.hold(zone)
    });
    Ok(DescribeAvailabilityZonesResponse { availability_zones: zones })
}

impl Filtered for AvailabilityZone {
    const NAMES: &'static [&'static str] = &[
        "group-name",
        "message",
        "network-border-group",
        "opt-in-status",
        "region-name",
        "state",
        "zone-id",
        "zone-name",
        "zone-type",
    ];
    const TAGGED: bool = false;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "group-name" | "network-border-group" | "region-name" => is(&self.region_name),
            "message" => self.messages.iter().any(|message| is(&message.message)),
            "opt-in-status" => is(&self.opt_in_status),
            "state" => is(&self.state),
            "zone-id" => is(&self.zone_id),
            "zone-name" => is(&self.zone_name),
            "zone-type" => is(&self.zone_type),
            _ => return None,
        })
    }
}

/// The zone of this name.
pub(super) fn find<'a>(facts: &'a Facts, name: &str) -> Result<&'a ZoneName, ApiError> {
    facts.zones.iter().find(|zone| zone.as_str() == name).ok_or_else(|| {
        let all: Vec<&str> = facts.zones.iter().map(ZoneName::as_str).collect();
        let message = format!(
            "Invalid availability zone: [{}]. The zones of {} are: {}",
            errors::shown(name),
            facts.region,
            all.join(", ")
        );
        ApiError::new(codes::INVALID_PARAMETER_VALUE, message)
    })
}

/// The zone's id: `use1-az1` for the first zone of us-east-1, as AWS abbreviates.
pub(super) fn zone_id(facts: &Facts, name: &str) -> Option<String> {
    let number = facts.zones.iter().position(|zone| zone.as_str() == name)? + 1;
    let short: String = facts.region.as_str().split('-').map(abbreviate).collect();
    Some(format!("{short}-az{number}"))
}

fn abbreviate(word: &str) -> &str {
    match word {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        // A country or continent, or the number.
        word if word.len() <= 2 => word,
        word => word.get(..1).unwrap_or(word),
    }
}
