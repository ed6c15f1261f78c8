//! RunInstances: from a request to a launch that is checked and resolved.

use super::instance::Seen;
use super::network_interface::{self as interfaces, address4};
use super::{Api, errors, key_pair, parse, resource, security_group, tag, unexpected, zone};
use crate::image::Image;
use crate::instance;
use crate::instance::catalogue;
use crate::instance::record::{InstanceRecord, ReservationRecord, TemplateRecord};
use crate::instance::state::Acceptance;
use crate::model::Account;
use crate::network_interface::launch::LaunchInterface;
use crate::request::{Answer as Done, LaunchRequest, Request};
use crate::security_group::record::SecurityGroupRecord;
use crate::subnet::record::SubnetRecord;
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use base::ids::{ReservationId, ZoneName};
use std::sync::Arc;

/// The most instances of one launch.
pub const COUNT_MAX: u32 = 1000;
/// The most bytes of user data, decoded. Source: Amazon EC2 User Guide, "Run commands at launch".
pub const USER_DATA_BYTES_MAX: usize = 16 * 1024;

/// RunInstances.
pub async fn instances_run(
    api: &Api,
    caller: &Caller,
    mut input: RunInstancesRequest,
) -> Result<Reservation, ApiError> {
    let client_token = parse::client_token(input.client_token.take())?;
    let dry_run = input.dry_run.take();
    let parameters_sha256 = resource::fingerprint(&input);
    let launch = match resolve(api, caller, input) {
        Ok(launch) => LaunchRequest { client_token, parameters_sha256, ..launch },
        // What an earlier launch was made of may be gone since: the same token still gets the same answer.
        Err(error) => return replay(api, caller, &client_token, &parameters_sha256)?.ok_or(error),
    };
    parse::dry_run(dry_run)?;
    match api.change(caller, Request::Launch(Box::new(launch))).await? {
        Done::Launched(reservation, instances) => {
            api.read(caller, |account| Ok(shape(api, caller, account, &reservation, &instances)))
        }
        other => Err(unexpected(&other)),
    }
}

fn shape(
    api: &Api,
    caller: &Caller,
    account: &Account,
    reservation: &ReservationRecord,
    instances: &[Arc<InstanceRecord>],
) -> Reservation {
    Reservation {
        reservation_id: reservation.reservation_id.clone(),
        owner_id: caller.account.to_string(),
        instances: instances
            .iter()
            .map(|record| Seen::new(api, caller, account, record, reservation).shape())
            .collect(),
        ..Reservation::default()
    }
}

/// The launch that this token made, if it was made with these parameters and has been acknowledged.
fn replay(
    api: &Api,
    caller: &Caller,
    token: &str,
    parameters_sha256: &[u8; 32],
) -> Result<Option<Reservation>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    api.read(caller, |account| {
        let used = account.tokens.get(&format!("RunInstances/{token}"));
        let used = used.filter(|used| used.parameters_sha256 == parameters_sha256);
        let made = used.and_then(|used| used.made.parse::<ReservationId>().ok());
        let reservation = made.and_then(|made| account.reservations.get(&made));
        let reservation = reservation.filter(|made| made.acceptance() != Acceptance::Claiming);
        Ok(reservation.map(|reservation| {
            let members = instance::members(reservation);
            let members: Vec<_> =
                members.filter_map(|(_, member)| account.instances.get(&member).cloned()).collect();
            shape(api, caller, account, reservation, &members)
        }))
    })
}

/// Checks every parameter, and looks up what it names. The token is the caller's.
fn resolve(api: &Api, caller: &Caller, input: RunInstancesRequest) -> Result<LaunchRequest, ApiError> {
    let (count_min, count) = counts(input.min_count, input.max_count)?;
    let image = image_find(api, &input.image_id)?;
    let instance_type = type_find(input.instance_type.as_deref())?;
    let (of_interface, of_instance): (Vec<_>, Vec<_>) = input
        .tag_specifications
        .iter()
        .cloned()
        .partition(|one| one.resource_type.as_deref() == Some("network-interface"));
    let tags = tag::specified(&of_instance, "instance")?;
    let interface = LaunchInterface {
        tags: tag::specified(&of_interface, "network-interface")?,
        ..interface(api, caller, &input, count)?
    };
    let user_data = input.user_data.map(|blob| blob.0).unwrap_or_default();
    user_data_bounded(&user_data)?;
    let zone = place(api, caller, input.placement.as_ref(), interface.subnet.as_deref())?;
    let behavior = input.instance_initiated_shutdown_behavior.as_deref().unwrap_or("stop");
    let terminate_on_shutdown = terminates("InstanceInitiatedShutdownBehavior", behavior)?;
    let key_name = input.key_name.unwrap_or_default();
    let ssh_public_key = if key_name.is_empty() {
        String::new()
    } else {
        api.read(caller, |account| Ok(key_pair::find_by_name(account, &key_name)?.public_key.clone()))?
    };
    Ok(LaunchRequest {
        count_min,
        count,
        vcpus: instance_type.vcpus,
        memory_mib: instance_type.memory_mib,
        template: TemplateRecord {
            image_id: image.id.to_string(),
            instance_type: instance_type.name.to_owned(),
            user_data,
            key_name,
            ssh_public_key,
            tags,
            disable_api_termination: input.disable_api_termination.unwrap_or(false),
            disable_api_stop: input.disable_api_stop.unwrap_or(false),
            terminate_on_shutdown,
        },
        zone,
        interface,
        client_token: String::new(),
        parameters_sha256: [0; 32],
    })
}

fn counts(min: i32, max: i32) -> Result<(u32, u32), ApiError> {
    let positive = |parameter: &str, count: i32| {
        let count = u32::try_from(count).ok().filter(|count| *count > 0);
        count.ok_or_else(|| ApiError::new(codes::INVALID_PARAMETER_VALUE, format!("{parameter} must be > 0")))
    };
    let (count_min, count) = (positive("minCount", min)?, positive("maxCount", max)?);
    if count_min > count {
        let message = format!("minCount ({count_min}) must be <= maxCount ({count})");
        return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
    }
    if count > COUNT_MAX {
        let reason = format!("One request can launch at most {COUNT_MAX} instances.");
        return Err(errors::invalid_value("maxCount", &count, &reason));
    }
    Ok((count_min, count))
}

/// The image of this id, or of this stable name.
fn image_find<'a>(api: &'a Api, text: &str) -> Result<&'a Image, ApiError> {
    if let Some(image) = api.facts.images.iter().find(|image| image.name == text) {
        return Ok(image);
    }
    let id = parse::image_id(text)?;
    api.facts.images.iter().find(|image| image.id == id).ok_or_else(|| errors::images_not_found(&[id]))
}

fn type_find(name: Option<&str>) -> Result<&'static catalogue::Shape, ApiError> {
    let Some(name) = name else {
        let message = "The request must contain the parameter InstanceType: AWS's default, m1.small, is not on \
                       offer. DescribeInstanceTypes lists what is.";
        return Err(ApiError::new(codes::MISSING_PARAMETER, message));
    };
    catalogue::find(name).ok_or_else(|| type_unknown(name))
}

/// The error for an instance type that is not on offer.
pub(super) fn type_unknown(name: &str) -> ApiError {
    let name = errors::shown(name);
    let message =
        format!("Invalid value '{name}' for InstanceType. DescribeInstanceTypes lists the types on offer.");
    ApiError::new(codes::INVALID_PARAMETER_VALUE, message)
}

/// Refuses user data that is too large.
pub(super) fn user_data_bounded(user_data: &[u8]) -> Result<(), ApiError> {
    if user_data.len() <= USER_DATA_BYTES_MAX {
        return Ok(());
    }
    let message = format!("User data is limited to {USER_DATA_BYTES_MAX} bytes");
    Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message))
}

/// Whether a guest's own power-off terminates its instance.
pub(super) fn terminates(parameter: &str, behavior: &str) -> Result<bool, ApiError> {
    Ok(parse::word(parameter, behavior, &["stop", "terminate"])? == "terminate")
}

/// The zone that placement and subnet fix, if they do.
fn place(
    api: &Api,
    caller: &Caller,
    placement: Option<&Placement>,
    subnet: Option<&str>,
) -> Result<Option<ZoneName>, ApiError> {
    if let Some(tenancy) = placement.and_then(|placement| placement.tenancy.as_deref())
        && parse::word("Tenancy", tenancy, &["default", "dedicated", "host"])? != "default"
    {
        return Err(errors::unsupported(format!("The tenancy {tenancy} is not supported by Nephos yet.")));
    }
    let named = placement.and_then(|placement| placement.availability_zone.as_deref());
    let named = named.filter(|name| !name.is_empty()).map(|name| zone::find(&api.facts, name)).transpose()?;
    let Some(subnet) = subnet else { return Ok(named.cloned()) };
    let found = api.read(caller, |account| resource::find::<SubnetRecord>(account, subnet).cloned())?;
    if let Some(named) = named.filter(|named| named.as_str() != found.zone) {
        let reason = format!("The subnet '{subnet}' is in {}.", found.zone);
        return Err(errors::invalid_value("Placement.AvailabilityZone", named, &reason));
    }
    Ok(found.zone.parse().ok())
}

/// The first interface, in whichever of its two forms it is described.
fn interface(
    api: &Api,
    caller: &Caller,
    input: &RunInstancesRequest,
    count: u32,
) -> Result<LaunchInterface, ApiError> {
    let mut interface = match input.network_interfaces.as_slice() {
        [] => LaunchInterface {
            subnet: input.subnet_id.clone(),
            groups: input.security_group_ids.clone(),
            address: input.private_ip_address.as_deref().map(address4).transpose()?,
            ipv6: interfaces::count("Ipv6AddressCount", input.ipv6_address_count)?,
            ..LaunchInterface::default()
        },
        [one] => {
            let beside = input.subnet_id.is_some()
                || !input.security_group_ids.is_empty()
                || !input.security_groups.is_empty()
                || input.private_ip_address.is_some()
                || input.ipv6_address_count.is_some();
            if beside {
                let message = "Network interfaces and an instance-level subnet ID, private IP address or security \
                               groups may not be specified on the same request";
                return Err(ApiError::new(codes::INVALID_PARAMETER_COMBINATION, message));
            }
            interface_specified(one)?
        }
        _ => {
            return Err(errors::unsupported(
                "Instances are launched with one network interface in Nephos yet; attach others to them.",
            ));
        }
    };
    if interface.address.is_some() && count > 1 {
        let message = "A private IP address can be specified for a launch of one instance only.";
        return Err(ApiError::new(codes::INVALID_PARAMETER_COMBINATION, message));
    }
    api.read(caller, |account| {
        for name in &input.security_groups {
            interface.groups.push(security_group::find_by_name(account, name)?.group_id.clone());
        }
        interface
            .groups
            .iter()
            .try_for_each(|id| resource::find::<SecurityGroupRecord>(account, id).map(drop))
    })?;
    Ok(interface)
}

fn interface_specified(one: &InstanceNetworkInterfaceSpecification) -> Result<LaunchInterface, ApiError> {
    if one.device_index.unwrap_or(0) != 0 || one.network_card_index.unwrap_or(0) != 0 {
        return Err(errors::unsupported("Instances are launched with their first network interface only."));
    }
    if let Some(kind) = one.interface_type.as_deref() {
        parse::word("InterfaceType", kind, &["interface"])?;
    }
    let listed = match one.private_ip_addresses.as_slice() {
        [] => None,
        [one] => one.private_ip_address.as_deref(),
        _ => {
            let message =
                "Instances are launched with one private address in Nephos yet; assign others to them.";
            return Err(errors::unsupported(message));
        }
    };
    if listed.is_some() && one.private_ip_address.is_some() {
        return Err(errors::excluded("privateIpAddress", "privateIpAddresses"));
    }
    Ok(LaunchInterface {
        subnet: one.subnet_id.clone(),
        groups: one.groups.clone(),
        description: one.description.clone().unwrap_or_default(),
        address: listed.or(one.private_ip_address.as_deref()).map(address4).transpose()?,
        ipv6: interfaces::count("Ipv6AddressCount", one.ipv6_address_count)?,
        public: one.associate_public_ip_address,
        keep: one.delete_on_termination == Some(false),
        tags: Vec::new(),
    })
}
