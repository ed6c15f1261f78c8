//! From the strings of a request to ids and other values, each with AWS's code for one that cannot be right.

use super::errors;
use crate::owner::WORK_OPS_MAX;
use aws::codes::{self, Code};
use aws::{ApiError, Caller};
use base::ids::{ImageId, InstanceId, SecurityGroupId, VpcId};
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

/// A VPC's id.
pub fn vpc_id(text: &str) -> Result<VpcId, ApiError> {
    id(text, VpcId::PREFIX, codes::INVALID_VPC_ID_MALFORMED)
}

/// A security group's id.
pub fn security_group_id(text: &str) -> Result<SecurityGroupId, ApiError> {
    id(text, SecurityGroupId::PREFIX, codes::INVALID_GROUP_ID_MALFORMED)
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
