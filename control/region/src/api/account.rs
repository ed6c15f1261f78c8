//! GetCallerIdentity and DescribeAccountAttributes.

use super::{Api, parse};
use crate::address::ADDRESSES_MAX;
use crate::network_interface::GROUPS_MAX;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::sts::{CallerIdentity, GetCallerIdentityRequest};
use aws::{ApiError, Caller};

/// GetCallerIdentity.
pub fn identity_get(
    _api: &Api,
    caller: &Caller,
    _input: GetCallerIdentityRequest,
) -> Result<CallerIdentity, ApiError> {
    Ok(CallerIdentity {
        user_id: caller.principal_id.clone(),
        account: caller.account.to_string(),
        arn: caller.principal_arn.clone(),
    })
}

/// DescribeAccountAttributes: those of AWS's that are true of something here.
pub fn attributes_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeAccountAttributesRequest,
) -> Result<DescribeAccountAttributesResponse, ApiError> {
    let default_vpc = api.read(caller, |account| {
        let vpc = account.all::<VpcRecord>().find(|vpc| vpc.is_default);
        Ok(vpc.map_or_else(|| "none".to_owned(), |vpc| vpc.vpc_id.clone()))
    })?;
    let all = [
        ("supported-platforms", "VPC".to_owned()),
        ("default-vpc", default_vpc),
        // No type has less than one vCPU.
        ("max-instances", api.facts.vcpus_per_account.to_string()),
        ("max-elastic-ips", ADDRESSES_MAX.to_string()),
        ("vpc-max-elastic-ips", ADDRESSES_MAX.to_string()),
        ("vpc-max-security-groups-per-interface", GROUPS_MAX.to_string()),
    ];
    for name in &input.attribute_names {
        parse::word("attributeName", name, &all.each_ref().map(|(name, _)| *name))?;
    }
    parse::dry_run(input.dry_run)?;
    let wanted = |name: &str| {
        input.attribute_names.is_empty() || input.attribute_names.iter().any(|wanted| wanted == name)
    };
    let attributes = all.into_iter().filter(|(name, _)| wanted(name)).map(|(name, value)| AccountAttribute {
        attribute_name: name.to_owned(),
        attribute_values: vec![AccountAttributeValue { attribute_value: value }],
    });
    Ok(DescribeAccountAttributesResponse { account_attributes: attributes.collect() })
}
