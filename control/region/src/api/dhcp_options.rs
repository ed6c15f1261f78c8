//! CreateDhcpOptions, DeleteDhcpOptions, DescribeDhcpOptions, AssociateDhcpOptions.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::dhcp_options::Change;
use crate::dhcp_options::record::{DhcpOptionRecord, DhcpOptionsRecord};
use crate::network::NetworkChange;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};
use std::net::IpAddr;

/// The options that there are. Source: Amazon VPC User Guide, "DHCP option sets in Amazon VPC".
const KEYS: [&str; 6] = [
    "domain-name",
    "domain-name-servers",
    "ntp-servers",
    "netbios-name-servers",
    "netbios-node-type",
    "ipv6-address-preferred-lease-time",
];
/// The most servers of an option. Source: as above.
const SERVERS_MAX: usize = 4;
/// The most bytes of a domain's name. Source: RFC 1035, section 2.3.4.
const DOMAIN_BYTES_MAX: usize = 253;

/// CreateDhcpOptions.
pub async fn options_create(
    api: &Api,
    caller: &Caller,
    input: CreateDhcpOptionsRequest,
) -> Result<CreateDhcpOptionsResponse, ApiError> {
    let mut options = Vec::new();
    for configuration in input.dhcp_configurations {
        let key = configuration.key.ok_or_else(|| parse::missing("DhcpConfiguration.1.Key"))?;
        let values = configuration.values;
        option_check(&key, &values)?;
        options.push(DhcpOptionRecord { key, values });
    }
    options.sort_by(|one, other| one.key.cmp(&other.key));
    if let Some(twice) = options.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return Err(errors::invalid_value("DhcpConfiguration", &twice[0].key, "It is there twice."));
    }
    let tags = tag::specified(&input.tag_specifications, "dhcp-options")?;
    parse::dry_run(input.dry_run)?;
    let change = NetworkChange::DhcpOptions(Change::Create { options, tags });
    let answer = resource::change(api, caller, change, None).await?;
    let record = resource::made::<DhcpOptionsRecord>(&answer)?;
    let dhcp_options = resource::told(api, caller, &*record, |seen| seen.shape())?;
    Ok(CreateDhcpOptionsResponse { dhcp_options })
}

fn option_check(key: &str, values: &[String]) -> Result<(), ApiError> {
    let key = parse::word("DhcpConfiguration.Key", key, &KEYS)?;
    let address = |value: &String| value.parse::<IpAddr>().is_ok();
    let bounded = (1..=SERVERS_MAX).contains(&values.len());
    let valid = match key {
        "domain-name" => {
            values.len() == 1 && values.iter().all(|value| (1..=DOMAIN_BYTES_MAX).contains(&value.len()))
        }
        "domain-name-servers" => {
            bounded && values.iter().all(|value| address(value) || value == "AmazonProvidedDNS")
        }
        "ntp-servers" | "netbios-name-servers" => bounded && values.iter().all(address),
        "netbios-node-type" => values.len() == 1 && ["1", "2", "4", "8"].contains(&values[0].as_str()),
        _ => {
            let message = "Leases of IPv6 addresses cannot be set in Nephos yet.";
            return Err(errors::unsupported(message));
        }
    };
    if valid {
        return Ok(());
    }
    Err(errors::invalid_value(key, &values.join(", "), "The option cannot have these values."))
}

/// DeleteDhcpOptions.
pub async fn options_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteDhcpOptionsRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<DhcpOptionsRecord>(&input.dhcp_options_id)?;
    parse::dry_run(input.dry_run)?;
    let change = NetworkChange::DhcpOptions(Change::Delete(input.dhcp_options_id));
    resource::change(api, caller, change, None).await?;
    Ok(Return::TRUE)
}

/// AssociateDhcpOptions.
pub async fn options_associate(
    api: &Api,
    caller: &Caller,
    input: AssociateDhcpOptionsRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    if input.dhcp_options_id != "default" {
        parse::resource_id::<DhcpOptionsRecord>(&input.dhcp_options_id)?;
    }
    parse::dry_run(input.dry_run)?;
    let change = Change::Associate { options: input.dhcp_options_id, vpc: input.vpc_id };
    resource::change(api, caller, NetworkChange::DhcpOptions(change), None).await?;
    Ok(Return::TRUE)
}

/// DescribeDhcpOptions.
pub fn options_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeDhcpOptionsRequest,
) -> Result<DescribeDhcpOptionsResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeDhcpOptions",
        parameter: "dhcpOptionsIds",
        ids: &input.dhcp_options_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (dhcp_options, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, DhcpOptionsRecord>| seen.shape())?;
    Ok(DescribeDhcpOptionsResponse { dhcp_options, next_token })
}

impl Seen<'_, DhcpOptionsRecord> {
    fn shape(&self) -> DhcpOptions {
        let value = |value: &String| AttributeValue { value: Some(value.clone()) };
        let options = self.record.options.iter().map(|option| DhcpConfiguration {
            key: option.key.clone(),
            values: option.values.iter().map(value).collect(),
        });
        DhcpOptions {
            dhcp_options_id: self.record.dhcp_options_id.clone(),
            dhcp_configurations: options.collect(),
            owner_id: self.owner_id(),
            tags: tag::shapes(&self.record.tags),
        }
    }
}

impl Filtered for Seen<'_, DhcpOptionsRecord> {
    const NAMES: &'static [&'static str] = &["dhcp-options-id", "key", "owner-id", "value"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let mut options = self.record.options.iter();
        Some(match name {
            "dhcp-options-id" => is(&self.record.dhcp_options_id),
            "key" => options.any(|option| is(&option.key)),
            "owner-id" => is(&self.owner_id()),
            "value" => options.any(|option| option.values.iter().any(|value| is(value))),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
