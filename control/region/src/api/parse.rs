//! From the strings of a request to ids and other values, each with AWS's code for one that cannot be right.

use super::{Facts, errors, zone};
use crate::cidr::{Cidr, Cidr4, Cidr6};
use crate::network_acl::ALL_PROTOCOLS;
use crate::owner::WORK_OPS_MAX;
use crate::record::Resource;
use aws::codes::{self, Code};
use aws::{ApiError, Caller};
use base::ids::{ImageId, InstanceId, ZoneName};
use std::net::IpAddr;
use std::str::FromStr;

/// Answers a dry run. Called when all input is parsed and nothing has been done.
pub fn dry_run(asked: Option<bool>) -> Result<(), ApiError> {
    if asked == Some(true) { Err(ApiError::dry_run()) } else { Ok(()) }
}

fn id<T: FromStr>(text: &str, prefix: &str, malformed: Code) -> Result<T, ApiError> {
    let message = || format!("Invalid id: \"{}\" (expecting \"{prefix}...\")", errors::shown(text));
    text.parse().map_err(|_| ApiError::new(malformed, message()))
}

/// An instance's id.
pub fn instance_id(text: &str) -> Result<InstanceId, ApiError> {
    id(text, InstanceId::PREFIX, codes::INVALID_INSTANCE_ID_MALFORMED)
}

/// Instances' ids, each once, in the order given.
pub fn instance_ids(texts: &[String]) -> Result<Vec<InstanceId>, ApiError> {
    each_once(texts.iter().map(|text| instance_id(text)))
}

/// Refuses a request that would change more resources than one commit can hold: it is all or nothing.
pub fn change_bounded(parameter: &str, count: usize) -> Result<(), ApiError> {
    if count <= WORK_OPS_MAX {
        return Ok(());
    }
    let reason = format!("One request can change at most {WORK_OPS_MAX} resources; send several.");
    Err(errors::invalid_value(parameter, &format_args!("{count} resources"), &reason))
}

/// An image's id.
pub fn image_id(text: &str) -> Result<ImageId, ApiError> {
    id(text, ImageId::PREFIX, codes::INVALID_AMI_ID_MALFORMED)
}

/// The id of a resource. One that cannot be right is told apart from one that does not exist.
pub fn resource_id<R: Resource>(text: &str) -> Result<R::Id, ApiError> {
    text.parse().map_err(|_| errors::resource_malformed(R::PREFIX, text))
}

/// Values of a list, each once, in the order given.
pub fn each_once<T: Clone + Ord>(
    values: impl Iterator<Item = Result<T, ApiError>>,
) -> Result<Vec<T>, ApiError> {
    let mut seen = std::collections::BTreeSet::new();
    let mut all = Vec::new();
    for value in values {
        let value = value?;
        if seen.insert(value.clone()) {
            all.push(value);
        }
    }
    Ok(all)
}

/// A client token, empty without one. Source: Amazon EC2 API Reference, "Ensuring idempotency".
pub fn client_token(token: Option<String>) -> Result<String, ApiError> {
    let token = token.unwrap_or_default();
    if token.len() > 64 || !token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(errors::invalid_value("ClientToken", &token, "At most 64 ASCII characters are allowed."));
    }
    Ok(token)
}

/// One of the words that a parameter can be.
pub fn word<'a>(parameter: &str, value: &str, words: &[&'a str]) -> Result<&'a str, ApiError> {
    words.iter().find(|word| **word == value).copied().ok_or_else(|| {
        let reason = format!("Valid values are: {}.", words.join(", "));
        errors::invalid_value(parameter, &value, &reason)
    })
}

/// The ARN of one of the caller's resources.
pub fn arn(caller: &Caller, service: &str, resource: &str) -> String {
    format!("arn:aws:{service}:{}:{}:{resource}", caller.region, caller.account)
}

/// An IPv4 range.
pub fn cidr4(parameter: &str, text: &str) -> Result<Cidr4, ApiError> {
    text.parse().map_err(|error| errors::invalid_value(parameter, &text, &format!("{error}")))
}

/// An IPv6 range.
pub fn cidr6(parameter: &str, text: &str) -> Result<Cidr6, ApiError> {
    text.parse().map_err(|error| errors::invalid_value(parameter, &text, &format!("{error}")))
}

/// A range whose address has no bits behind its length: rules are not corrected.
pub fn cidr_exact(parameter: &str, text: &str) -> Result<String, ApiError> {
    let range: Cidr =
        text.parse().map_err(|error| errors::invalid_value(parameter, &text, &format!("{error}")))?;
    let address = |text: &str| text.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
    let printed = range.to_string();
    if address(text) == address(&printed) {
        return Ok(printed);
    }
    let reason = format!("The range's first address is expected: {printed}.");
    Err(errors::invalid_value(parameter, &text, &reason))
}

/// The one value of several that exclude each other; `missing`: how to call them if there is none.
pub fn exactly_one<T>(
    values: impl IntoIterator<Item = (&'static str, Option<T>)>,
    missing: &str,
) -> Result<T, ApiError> {
    let mut given = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    match (given.next(), given.next()) {
        (Some((_, value)), None) => Ok(value),
        (Some((one, _)), Some((other, _))) => Err(errors::excluded(one, other)),
        (None, _) => {
            let message = format!("The request must contain the parameter {missing}");
            Err(ApiError::new(codes::MISSING_PARAMETER, message))
        }
    }
}

/// A protocol: a name, IANA's number, or -1 for all.
pub fn protocol(parameter: &str, text: &str) -> Result<i32, ApiError> {
    let number = match text.to_ascii_lowercase().as_str() {
        "-1" | "all" => Some(ALL_PROTOCOLS),
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        other => other.parse().ok().filter(|number| (0..=255).contains(number)),
    };
    number.ok_or_else(|| errors::invalid_value(parameter, &text, "This is not a protocol."))
}

/// A region's zone, by name or by id; not by both.
pub fn zone(facts: &Facts, name: Option<&str>, id: Option<&str>) -> Result<Option<ZoneName>, ApiError> {
    match (name, id) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(errors::excluded("availabilityZone", "availabilityZoneId")),
        (Some(name), None) => zone::find(facts, name).cloned().map(Some),
        (None, Some(id)) => {
            let is = |name: &&ZoneName| zone::zone_id(facts, name.as_str()).as_deref() == Some(id);
            let found = facts.zones.iter().find(is).cloned();
            found
                .map(Some)
                .ok_or_else(|| errors::invalid_value("availabilityZoneId", &id, "There is no such zone."))
        }
    }
}

/// `MissingParameter`.
pub fn missing(parameter: &str) -> ApiError {
    let message = format!("The request must contain the parameter {parameter}");
    ApiError::new(codes::MISSING_PARAMETER, message)
}
