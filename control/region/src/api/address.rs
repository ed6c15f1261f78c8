//! Elastic addresses: AllocateAddress, AssociateAddress, DisassociateAddress, ReleaseAddress, DescribeAddresses,
//! DescribeAddressesAttribute.

use super::filter::Filtered;
use super::network_interface::address4;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag};
use crate::address::record::AddressRecord;
use crate::address::{Association, Change, Which, With};
use crate::network::NetworkChange;
use crate::network_interface::record::InterfaceRecord;
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};
use std::net::Ipv4Addr;

/// AllocateAddress.
pub async fn address_allocate(
    api: &Api,
    caller: &Caller,
    input: AllocateAddressRequest,
) -> Result<AllocateAddressResponse, ApiError> {
    if let Some(domain) = &input.domain {
        parse::word("domain", domain, &["vpc"])?;
    }
    if let Some(pool) = input.public_ipv4_pool.as_deref().filter(|pool| *pool != "amazon") {
        return Err(errors::invalid_value("publicIpv4Pool", &pool, "The region's own pool is 'amazon'."));
    }
    if let Some(group) =
        input.network_border_group.as_deref().filter(|group| *group != api.facts.region.as_str())
    {
        return Err(errors::invalid_value(
            "networkBorderGroup",
            &group,
            "The region announces all addresses.",
        ));
    }
    let tags = tag::specified(&input.tag_specifications, "elastic-ip")?;
    parse::dry_run(input.dry_run)?;
    let answer = resource::change(api, caller, NetworkChange::Address(Change::Allocate(tags)), None).await?;
    let record = resource::made::<AddressRecord>(&answer)?;
    Ok(AllocateAddressResponse {
        allocation_id: record.allocation_id.clone(),
        public_ipv4_pool: "amazon".to_owned(),
        network_border_group: api.facts.region.to_string(),
        domain: "vpc".to_owned(),
        public_ip: Ipv4Addr::from_bits(record.public_address).to_string(),
    })
}

fn which(allocation: Option<String>, address: Option<String>) -> Result<Which, ApiError> {
    if let Some(allocation) = &allocation {
        parse::resource_id::<AddressRecord>(allocation)?;
    }
    let address = address.map(|text| address4(&text)).transpose()?;
    let given =
        [("allocationId", allocation.map(Which::Allocation)), ("publicIp", address.map(Which::Address))];
    parse::exactly_one(given, "allocationId or publicIp")
}

/// AssociateAddress.
pub async fn address_associate(
    api: &Api,
    caller: &Caller,
    input: AssociateAddressRequest,
) -> Result<AssociateAddressResponse, ApiError> {
    let address = which(input.allocation_id, input.public_ip)?;
    let instance = input.instance_id.map(|text| parse::instance_id(&text)).transpose()?;
    if let Some(interface) = &input.network_interface_id {
        parse::resource_id::<InterfaceRecord>(interface)?;
    }
    let given = [
        ("instanceId", instance.map(With::Instance)),
        ("networkInterfaceId", input.network_interface_id.map(With::Interface)),
    ];
    let with = parse::exactly_one(given, "instanceId or networkInterfaceId")?;
    let private = input.private_ip_address.map(|text| address4(&text)).transpose()?;
    // In a VPC an address moves unless that is forbidden. Source: Amazon EC2 API Reference, AssociateAddress.
    let again = input.allow_reassociation.unwrap_or(true);
    parse::dry_run(input.dry_run)?;
    let change = NetworkChange::Address(Change::Associate { address, with, private, again });
    let association_id = resource::association(resource::change(api, caller, change, None).await?)?;
    Ok(AssociateAddressResponse { association_id: Some(association_id) })
}

/// DisassociateAddress.
pub async fn address_disassociate(
    api: &Api,
    caller: &Caller,
    input: DisassociateAddressRequest,
) -> Result<Return, ApiError> {
    let address = input.public_ip.map(|text| address4(&text)).transpose()?;
    let given = [
        ("associationId", input.association_id.map(Association::Id)),
        ("publicIp", address.map(Association::Address)),
    ];
    let association = parse::exactly_one(given, "associationId or publicIp")?;
    parse::dry_run(input.dry_run)?;
    resource::change(api, caller, NetworkChange::Address(Change::Disassociate(association)), None).await?;
    Ok(Return::TRUE)
}

/// ReleaseAddress.
pub async fn address_release(
    api: &Api,
    caller: &Caller,
    input: ReleaseAddressRequest,
) -> Result<Return, ApiError> {
    if let Some(group) =
        input.network_border_group.as_deref().filter(|group| *group != api.facts.region.as_str())
    {
        return Err(errors::invalid_value(
            "networkBorderGroup",
            &group,
            "The region announces all addresses.",
        ));
    }
    let address = which(input.allocation_id, input.public_ip)?;
    parse::dry_run(input.dry_run)?;
    resource::change(api, caller, NetworkChange::Address(Change::Release(address)), None).await?;
    Ok(Return::TRUE)
}

/// DescribeAddresses: all of them, as AWS does.
pub fn addresses_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeAddressesRequest,
) -> Result<DescribeAddressesResponse, ApiError> {
    let mut ids = input.allocation_ids.clone();
    for text in &input.public_ips {
        let address = address4(text)?;
        ids.push(api.read(caller, |account| {
            let found = account.all::<AddressRecord>().find(|one| one.public_address == address.to_bits());
            let id = found.map(|one| one.allocation_id.clone());
            id.ok_or_else(|| {
                crate::refusal::Refusal::from(crate::refusal::NetworkRefusal::AddressNotFound(text.clone()))
                    .into()
            })
        })?);
    }
    let listing = Listing {
        operation: "DescribeAddresses",
        parameter: "allocationIds",
        ids: &ids,
        filters: &input.filters,
        max_results: None,
        next_token: None,
        dry_run: input.dry_run,
    };
    let (addresses, _) = resource::list(api, caller, listing, |seen: Seen<'_, AddressRecord>| seen.shape())?;
    Ok(DescribeAddressesResponse { addresses })
}

/// DescribeAddressesAttribute: no address has a name of its own.
pub fn attributes_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeAddressesAttributeRequest,
) -> Result<DescribeAddressesAttributeResponse, ApiError> {
    let attribute = input.attribute.as_deref().unwrap_or("domain-name");
    parse::word("attribute", attribute, &["domain-name"])?;
    let listing = Listing {
        operation: "DescribeAddressesAttribute",
        parameter: "allocationIds",
        ids: &input.allocation_ids,
        filters: &[],
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let shape = |seen: Seen<'_, AddressRecord>| AddressAttribute {
        public_ip: Ipv4Addr::from_bits(seen.record.public_address).to_string(),
        allocation_id: seen.record.allocation_id.clone(),
        ptr_record: None,
    };
    let (addresses, next_token) = resource::list(api, caller, listing, shape)?;
    Ok(DescribeAddressesAttributeResponse { addresses, next_token })
}

impl Seen<'_, AddressRecord> {
    fn interface(&self) -> Option<&InterfaceRecord> {
        self.account.interface_of_elastic(self.record)
    }

    fn shape(&self) -> Address {
        let record = self.record;
        let interface = self.interface();
        let instance = interface.and_then(|one| one.attachment.as_ref()).map(|one| one.instance_id.clone());
        Address {
            allocation_id: record.allocation_id.clone(),
            public_ip: Ipv4Addr::from_bits(record.public_address).to_string(),
            association_id: interface.map(|_| record.association_id.clone()),
            network_interface_id: interface.map(|one| one.interface_id.clone()),
            network_interface_owner_id: interface.map(|_| self.owner_id()),
            private_ip_address: interface.map(|_| Ipv4Addr::from_bits(record.private_address).to_string()),
            instance_id: instance,
            domain: "vpc".to_owned(),
            public_ipv4_pool: "amazon".to_owned(),
            network_border_group: self.api.facts.region.to_string(),
            tags: tag::shapes(&record.tags),
        }
    }
}

impl Filtered for Seen<'_, AddressRecord> {
    const NAMES: &'static [&'static str] = &[
        "allocation-id",
        "association-id",
        "domain",
        "instance-id",
        "network-border-group",
        "network-interface-id",
        "network-interface-owner-id",
        "private-ip-address",
        "public-ip",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let shape = self.shape();
        let has = |value: Option<String>| value.is_some_and(|value| is(&value));
        Some(match name {
            "allocation-id" => is(&shape.allocation_id),
            "association-id" => has(shape.association_id),
            "domain" => is("vpc"),
            "instance-id" => has(shape.instance_id),
            "network-border-group" => is(&shape.network_border_group),
            "network-interface-id" => has(shape.network_interface_id),
            "network-interface-owner-id" => has(shape.network_interface_owner_id),
            "private-ip-address" => has(shape.private_ip_address),
            "public-ip" => is(&shape.public_ip),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
