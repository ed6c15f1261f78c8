//! Network interfaces: made, deleted, described, changed, attached and detached; and their private addresses.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag, zone};
use crate::model::Account;
use crate::network::NetworkChange;
use crate::network_interface::index::ipv6;
use crate::network_interface::record::{AttachmentRecord, InterfaceRecord};
use crate::network_interface::{Attribute, Change, Create, Wanted};
use crate::request::Answer;
use crate::security_group::record::SecurityGroupRecord;
use crate::subnet::record::SubnetRecord;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use aws::ec2::*;
use aws::{ApiError, Caller};
use base::clock::Timestamp;
use std::net::{Ipv4Addr, Ipv6Addr};

/// CreateNetworkInterface.
pub async fn interface_create(
    api: &Api,
    caller: &Caller,
    mut input: CreateNetworkInterfaceRequest,
) -> Result<CreateNetworkInterfaceResponse, ApiError> {
    let (client_token, dry_run) = (input.client_token.take(), input.dry_run.take());
    let token = resource::token("CreateNetworkInterface", client_token.clone(), &input)?;
    parse::resource_id::<SubnetRecord>(&input.subnet_id)?;
    for group in &input.groups {
        parse::resource_id::<SecurityGroupRecord>(group)?;
    }
    if let Some(kind) = input.interface_type.as_deref().filter(|kind| *kind != "interface") {
        return Err(errors::unsupported(format!(
            "The interface type {} is not supported by Nephos yet.",
            errors::shown(kind)
        )));
    }
    let addresses = addresses_read(input.private_ip_address.as_deref(), &input.private_ip_addresses)?;
    let ipv6: Result<Vec<Ipv6Addr>, ApiError> = input
        .ipv6_addresses
        .iter()
        .map(|one| address6(one.ipv6_address.as_deref().unwrap_or_default()))
        .collect();
    let create = Create {
        groups: input.groups,
        description: input.description.unwrap_or_default(),
        addresses,
        more: count("SecondaryPrivateIpAddressCount", input.secondary_private_ip_address_count)?.unwrap_or(0),
        addresses_ipv6: ipv6?,
        more_ipv6: count("Ipv6AddressCount", input.ipv6_address_count)?,
        tags: tag::specified(&input.tag_specifications, "network-interface")?,
        subnet: input.subnet_id,
    };
    parse::dry_run(dry_run)?;
    let change = NetworkChange::NetworkInterface(Change::Create(Box::new(create)));
    let answer = resource::change(api, caller, change, token).await?;
    let record = resource::made::<InterfaceRecord>(&answer)?;
    let network_interface = resource::told(api, caller, &*record, |seen| seen.shape())?;
    Ok(CreateNetworkInterfaceResponse { network_interface, client_token })
}

pub(super) fn address4(text: &str) -> Result<Ipv4Addr, ApiError> {
    text.parse().map_err(|_| errors::invalid_value("address", &text, "Invalid IPv4 address."))
}

fn address6(text: &str) -> Result<Ipv6Addr, ApiError> {
    text.parse().map_err(|_| errors::invalid_value("address", &text, "Invalid IPv6 address."))
}

/// How many of something; more than an interface can ever have is refused at once.
pub(super) fn count(parameter: &str, count: Option<i32>) -> Result<Option<u32>, ApiError> {
    let valid = |count: i32| u32::try_from(count).ok().filter(|count| *count <= 256);
    let read = |count: i32| {
        valid(count).ok_or_else(|| errors::invalid_value(parameter, &count, "0 to 256 is expected."))
    };
    count.map(read).transpose()
}

/// Private addresses in either form, the primary one first.
fn addresses_read(
    first: Option<&str>,
    list: &[PrivateIpAddressSpecification],
) -> Result<Vec<Ipv4Addr>, ApiError> {
    let mut all: Vec<(bool, Ipv4Addr)> = Vec::new();
    if let Some(first) = first {
        all.push((true, address4(first)?));
    }
    for one in list {
        let text = one.private_ip_address.as_deref().ok_or_else(|| parse::missing("PrivateIpAddress"))?;
        let address = address4(text)?;
        if !all.iter().any(|(_, other)| *other == address) {
            all.push((one.primary == Some(true), address));
        }
    }
    if all.iter().filter(|(primary, _)| *primary).count() > 1 {
        let message = "Only one primary private IP address can be specified.";
        return Err(ApiError::new(aws::codes::INVALID_PARAMETER_COMBINATION, message));
    }
    all.sort_by_key(|(primary, _)| !primary);
    Ok(all.into_iter().map(|(_, address)| address).collect())
}

async fn changed(api: &Api, caller: &Caller, change: Change) -> Result<Answer, ApiError> {
    resource::change(api, caller, NetworkChange::NetworkInterface(change), None).await
}

/// DeleteNetworkInterface.
pub async fn interface_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteNetworkInterfaceRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    parse::dry_run(input.dry_run)?;
    changed(api, caller, Change::Delete(input.network_interface_id)).await?;
    Ok(Return::TRUE)
}

/// AttachNetworkInterface.
pub async fn interface_attach(
    api: &Api,
    caller: &Caller,
    input: AttachNetworkInterfaceRequest,
) -> Result<AttachNetworkInterfaceResponse, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    let instance = parse::instance_id(&input.instance_id)?;
    let device_index = u32::try_from(input.device_index).ok().filter(|index| (1..16).contains(index));
    let device_index = device_index
        .ok_or_else(|| errors::invalid_value("deviceIndex", &input.device_index, "1 to 15 is expected."))?;
    if input.network_card_index.unwrap_or(0) != 0 {
        return Err(errors::unsupported("Instances have one network card, of index 0."));
    }
    parse::dry_run(input.dry_run)?;
    let change = Change::Attach { interface: input.network_interface_id, instance, device_index };
    let attachment_id = resource::association(changed(api, caller, change).await?)?;
    Ok(AttachNetworkInterfaceResponse { attachment_id, network_card_index: 0 })
}

/// DetachNetworkInterface.
pub async fn interface_detach(
    api: &Api,
    caller: &Caller,
    input: DetachNetworkInterfaceRequest,
) -> Result<Return, ApiError> {
    parse::dry_run(input.dry_run)?;
    changed(api, caller, Change::Detach(input.attachment_id)).await?;
    Ok(Return::TRUE)
}

/// ModifyNetworkInterfaceAttribute: one attribute at a time.
pub async fn attribute_modify(
    api: &Api,
    caller: &Caller,
    input: ModifyNetworkInterfaceAttributeRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    if input.associate_public_ip_address.is_some() {
        return Err(errors::unsupported("A public address of its own cannot be changed in Nephos yet."));
    }
    let attachment = match input.attachment {
        None => None,
        Some(NetworkInterfaceAttachmentChanges { attachment_id, delete_on_termination }) => {
            let attachment = attachment_id.ok_or_else(|| parse::missing("Attachment.AttachmentId"))?;
            let on = delete_on_termination.ok_or_else(|| parse::missing("Attachment.DeleteOnTermination"))?;
            Some(Attribute::DeleteOnTermination(attachment, on))
        }
    };
    let check = match input.source_dest_check {
        None => None,
        Some(check) => {
            Some(Attribute::Check(check.value.ok_or_else(|| parse::missing("SourceDestCheck.Value"))?))
        }
    };
    let description = input.description.map(|text| Attribute::Description(text.value.unwrap_or_default()));
    let groups = (!input.groups.is_empty()).then_some(Attribute::Groups(input.groups));
    let given = [
        ("description", description),
        ("sourceDestCheck", check),
        ("groupSet", groups),
        ("attachment", attachment),
    ];
    let attribute = parse::exactly_one(given, "description, sourceDestCheck, groupSet or attachment")?;
    parse::dry_run(input.dry_run)?;
    changed(api, caller, Change::Modify(input.network_interface_id, attribute)).await?;
    Ok(Return::TRUE)
}

/// AssignPrivateIpAddresses.
pub async fn addresses_assign(
    api: &Api,
    caller: &Caller,
    input: AssignPrivateIpAddressesRequest,
) -> Result<AssignPrivateIpAddressesResponse, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    if input.allow_reassignment == Some(true) {
        return Err(errors::unsupported("Addresses cannot be taken from other interfaces in Nephos yet."));
    }
    let these: Result<Vec<Ipv4Addr>, ApiError> =
        input.private_ip_addresses.iter().map(|text| address4(text)).collect();
    let these = Some(these?).filter(|these| !these.is_empty()).map(Wanted::These);
    let any = count("SecondaryPrivateIpAddressCount", input.secondary_private_ip_address_count)?;
    let any = any.map(|count| Wanted::Any(count as usize));
    let given = [("privateIpAddress", these), ("secondaryPrivateIpAddressCount", any)];
    let wanted = parse::exactly_one(given, "privateIpAddress or secondaryPrivateIpAddressCount")?;
    let asked = match &wanted {
        Wanted::Any(count) => *count,
        Wanted::These(these) => these.len(),
    };
    let answer = changed(api, caller, Change::Assign(input.network_interface_id, wanted)).await?;
    let record = resource::made::<InterfaceRecord>(&answer)?;
    let new = record.addresses.iter().skip(1).rev().take(asked).rev();
    let shape = |address: &u32| AssignedPrivateIpAddress {
        private_ip_address: Ipv4Addr::from_bits(*address).to_string(),
    };
    Ok(AssignPrivateIpAddressesResponse {
        network_interface_id: record.interface_id.clone(),
        assigned_private_ip_addresses: new.map(shape).collect(),
    })
}

/// UnassignPrivateIpAddresses.
pub async fn addresses_unassign(
    api: &Api,
    caller: &Caller,
    input: UnassignPrivateIpAddressesRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    let these: Result<Vec<Ipv4Addr>, ApiError> =
        input.private_ip_addresses.iter().map(|text| address4(text)).collect();
    let these = these?;
    if these.is_empty() {
        return Err(parse::missing("privateIpAddress"));
    }
    changed(api, caller, Change::Unassign(input.network_interface_id, these)).await?;
    Ok(Return::TRUE)
}

/// AssignIpv6Addresses.
pub async fn ipv6_assign(
    api: &Api,
    caller: &Caller,
    input: AssignIpv6AddressesRequest,
) -> Result<AssignIpv6AddressesResponse, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    let these: Result<Vec<Ipv6Addr>, ApiError> =
        input.ipv6_addresses.iter().map(|text| address6(text)).collect();
    let (these, more) = (these?, count("Ipv6AddressCount", input.ipv6_address_count)?.unwrap_or(0));
    if these.is_empty() && more == 0 {
        return Err(parse::missing("ipv6AddressCount"));
    }
    let asked = these.len() + more as usize;
    let answer = changed(api, caller, Change::AssignIpv6(input.network_interface_id, these, more)).await?;
    let record = resource::made::<InterfaceRecord>(&answer)?;
    let all: Vec<String> = ipv6(&record).map(|address| address.to_string()).collect();
    Ok(AssignIpv6AddressesResponse {
        network_interface_id: record.interface_id.clone(),
        assigned_ipv6_addresses: all.into_iter().rev().take(asked).rev().collect(),
    })
}

/// UnassignIpv6Addresses.
pub async fn ipv6_unassign(
    api: &Api,
    caller: &Caller,
    input: UnassignIpv6AddressesRequest,
) -> Result<UnassignIpv6AddressesResponse, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    let these: Result<Vec<Ipv6Addr>, ApiError> =
        input.ipv6_addresses.iter().map(|text| address6(text)).collect();
    let these = these?;
    if these.is_empty() {
        return Err(parse::missing("ipv6Addresses"));
    }
    let unassigned = these.iter().map(ToString::to_string).collect();
    changed(api, caller, Change::UnassignIpv6(input.network_interface_id.clone(), these)).await?;
    Ok(UnassignIpv6AddressesResponse {
        network_interface_id: input.network_interface_id,
        unassigned_ipv6_addresses: unassigned,
    })
}

/// DescribeNetworkInterfaces.
pub fn interfaces_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeNetworkInterfacesRequest,
) -> Result<DescribeNetworkInterfacesResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeNetworkInterfaces",
        parameter: "networkInterfaceIds",
        ids: &input.network_interface_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (network_interfaces, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, InterfaceRecord>| seen.shape())?;
    Ok(DescribeNetworkInterfacesResponse { network_interfaces, next_token })
}

/// DescribeNetworkInterfaceAttribute.
pub fn attribute_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeNetworkInterfaceAttributeRequest,
) -> Result<DescribeNetworkInterfaceAttributeResponse, ApiError> {
    parse::resource_id::<InterfaceRecord>(&input.network_interface_id)?;
    let names = ["description", "groupSet", "sourceDestCheck", "attachment", "associatePublicIpAddress"];
    let name = parse::word("attribute", input.attribute.as_deref().unwrap_or_default(), &names)?;
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let record = resource::find::<InterfaceRecord>(account, &input.network_interface_id)?.as_ref();
        let shape = Seen { api, caller, account, record }.shape();
        let mut answer = DescribeNetworkInterfaceAttributeResponse {
            network_interface_id: shape.network_interface_id,
            ..Default::default()
        };
        match name {
            "description" => answer.description = Some(AttributeValue { value: shape.description }),
            "groupSet" => answer.groups = Some(shape.groups),
            "sourceDestCheck" => {
                answer.source_dest_check = Some(AttributeBooleanValue { value: shape.source_dest_check });
            }
            "attachment" => answer.attachment = shape.attachment,
            _ => answer.associate_public_ip_address = Some(record.public_address != 0),
        }
        Ok(answer)
    })
}

/// The public address of a private one.
pub(super) struct Public {
    pub address: Ipv4Addr,
    pub allocation_id: Option<String>,
    pub association_id: Option<String>,
    pub name: String,
}

impl Seen<'_, InterfaceRecord> {
    fn zone_id(&self) -> String {
        zone::zone_id(&self.api.facts, &self.record.zone).unwrap_or_default()
    }

    fn vpc(&self) -> Option<&VpcRecord> {
        self.account.named::<VpcRecord>(&self.record.vpc_id).map(AsRef::as_ref)
    }

    pub(super) fn groups(&self) -> Vec<GroupIdentifier> {
        let name = |id: &String| group_name(self.account, id);
        let groups = self.record.group_ids.iter();
        groups.map(|id| GroupIdentifier { group_id: id.clone(), group_name: name(id) }).collect()
    }

    pub(super) fn public(&self, private: u32) -> Option<Public> {
        let elastic = self.account.elastic_of(self.record, private);
        let own = self.record.public_address;
        let first = self.record.addresses.first() == Some(&private);
        let address = elastic.map(|one| one.public_address).or((first && own != 0).then_some(own))?;
        let address = Ipv4Addr::from_bits(address);
        let named = self.vpc().is_some_and(|vpc| vpc.dns_hostnames);
        Some(Public {
            address,
            allocation_id: elastic.map(|one| one.allocation_id.clone()),
            association_id: elastic.map(|one| one.association_id.clone()),
            name: if named { self.api.public_name(address) } else { String::new() },
        })
    }

    fn association(&self, private: u32) -> Option<NetworkInterfaceAssociation> {
        let public = self.public(private)?;
        Some(NetworkInterfaceAssociation {
            ip_owner_id: match public.allocation_id {
                Some(_) => self.owner_id(),
                None => "amazon".to_owned(),
            },
            allocation_id: public.allocation_id,
            association_id: public.association_id,
            public_dns_name: Some(public.name),
            public_ip: public.address.to_string(),
        })
    }

    pub(super) fn name(&self, private: u32) -> String {
        let named = self.vpc().is_some_and(|vpc| vpc.dns_support);
        if named { self.api.private_name(Ipv4Addr::from_bits(private)) } else { String::new() }
    }

    pub(super) fn mac(&self) -> String {
        let bytes: Vec<String> = self.record.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    }

    pub(super) fn status(&self) -> &'static str {
        if self.record.attachment.is_some() { "in-use" } else { "available" }
    }

    fn attachment(&self, attachment: &AttachmentRecord) -> NetworkInterfaceAttachment {
        NetworkInterfaceAttachment {
            attach_time: Timestamp::from_unix_ms(attachment.attached_unix_ms),
            attachment_id: attachment.attachment_id.clone(),
            delete_on_termination: !attachment.keep,
            device_index: i32::try_from(attachment.device_index).unwrap_or(i32::MAX),
            network_card_index: 0,
            instance_id: Some(attachment.instance_id.clone()),
            instance_owner_id: Some(self.owner_id()),
            status: "attached".to_owned(),
        }
    }

    fn shape(&self) -> NetworkInterface {
        let record = self.record;
        let first = record.addresses.first().copied().unwrap_or(0);
        let address = |(index, address): (usize, &u32)| NetworkInterfacePrivateIpAddress {
            association: self.association(*address),
            primary: index == 0,
            private_dns_name: self.name(*address),
            private_ip_address: Ipv4Addr::from_bits(*address).to_string(),
        };
        NetworkInterface {
            network_interface_id: record.interface_id.clone(),
            vpc_id: record.vpc_id.clone(),
            subnet_id: record.subnet_id.clone(),
            availability_zone: record.zone.clone(),
            availability_zone_id: self.zone_id(),
            owner_id: self.owner_id(),
            description: Some(record.description.clone()),
            interface_type: "interface".to_owned(),
            mac_address: self.mac(),
            private_ip_address: Ipv4Addr::from_bits(first).to_string(),
            private_dns_name: self.name(first),
            private_ip_addresses: record.addresses.iter().enumerate().map(address).collect(),
            ipv6_addresses: ipv6(record)
                .map(|address| NetworkInterfaceIpv6Address {
                    ipv6_address: address.to_string(),
                    is_primary_ipv6: false,
                })
                .collect(),
            groups: self.groups(),
            source_dest_check: Some(!record.forwards),
            status: self.status().to_owned(),
            attachment: record.attachment.as_ref().map(|attachment| self.attachment(attachment)),
            association: self.association(first),
            requester_managed: false,
            requester_id: None,
            tag_set: tag::shapes(&record.tags),
        }
    }
}

/// A group's name; empty if it is gone.
pub(super) fn group_name(account: &Account, id: &str) -> String {
    account.named::<SecurityGroupRecord>(id).map(|group| group.name.clone()).unwrap_or_default()
}

impl Filtered for Seen<'_, InterfaceRecord> {
    const NAMES: &'static [&'static str] = &[
        "addresses.association.owner-id",
        "addresses.association.public-ip",
        "addresses.primary",
        "addresses.private-ip-address",
        "association.allocation-id",
        "association.association-id",
        "association.public-ip",
        "attachment.attachment-id",
        "attachment.delete-on-termination",
        "attachment.device-index",
        "attachment.instance-id",
        "attachment.instance-owner-id",
        "attachment.status",
        "availability-zone",
        "description",
        "group-id",
        "group-name",
        "interface-type",
        "ipv6-addresses.ipv6-address",
        "mac-address",
        "network-interface-id",
        "owner-id",
        "private-dns-name",
        "private-ip-address",
        "requester-id",
        "requester-managed",
        "source-dest-check",
        "status",
        "subnet-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let record = self.record;
        let attachment = record.attachment.as_ref();
        let first = record.addresses.first().copied().unwrap_or(0);
        let address = |address: u32| is(&Ipv4Addr::from_bits(address).to_string());
        let association =
            |of: &dyn Fn(NetworkInterfaceAssociation) -> bool| self.association(first).is_some_and(of);
        let each = |of: &dyn Fn(NetworkInterfaceAssociation) -> bool| {
            record.addresses.iter().any(|one| self.association(*one).is_some_and(of))
        };
        Some(match name {
            "addresses.association.owner-id" => each(&|one| is(&one.ip_owner_id)),
            "addresses.association.public-ip" => each(&|one| is(&one.public_ip)),
            "addresses.primary" => is("true") || (record.addresses.len() > 1 && is("false")),
            "addresses.private-ip-address" => record.addresses.iter().any(|one| address(*one)),
            "association.allocation-id" => association(&|one| one.allocation_id.is_some_and(|id| is(&id))),
            "association.association-id" => association(&|one| one.association_id.is_some_and(|id| is(&id))),
            "association.public-ip" => association(&|one| is(&one.public_ip)),
            "attachment.attachment-id" => attachment.is_some_and(|one| is(&one.attachment_id)),
            "attachment.delete-on-termination" => attachment.is_some_and(|one| is(&(!one.keep).to_string())),
            "attachment.device-index" => attachment.is_some_and(|one| is(&one.device_index.to_string())),
            "attachment.instance-id" => attachment.is_some_and(|one| is(&one.instance_id)),
            "attachment.instance-owner-id" => attachment.is_some() && is(&self.owner_id()),
            "attachment.status" => attachment.is_some() && is("attached"),
            "availability-zone" => is(&record.zone),
            "description" => is(&record.description),
            "group-id" => record.group_ids.iter().any(|id| is(id)),
            "group-name" => record.group_ids.iter().any(|id| is(&group_name(self.account, id))),
            "interface-type" => is("interface"),
            "ipv6-addresses.ipv6-address" => ipv6(record).any(|one| is(&one.to_string())),
            "mac-address" => is(&self.mac()),
            "network-interface-id" => is(&record.interface_id),
            "owner-id" => is(&self.owner_id()),
            "private-dns-name" => is(&self.name(first)),
            "private-ip-address" => address(first),
            "requester-id" => false,
            "requester-managed" => is("false"),
            "source-dest-check" => is(&(!record.forwards).to_string()),
            "status" => is(self.status()),
            "subnet-id" => is(&record.subnet_id),
            "vpc-id" => is(&record.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}

impl Api {
    /// The name of a private address inside its VPC. Source: Amazon VPC User Guide, "DNS attributes for your VPC".
    pub(super) fn private_name(&self, address: Ipv4Addr) -> String {
        let region = self.facts.region.as_str();
        let domain = match region {
            "us-east-1" => "ec2.internal".to_owned(),
            _ => format!("{region}.compute.internal"),
        };
        format!("ip-{}.{domain}", address.to_string().replace('.', "-"))
    }

    /// The name of a public address. Source: as above.
    fn public_name(&self, address: Ipv4Addr) -> String {
        let region = self.facts.region.as_str();
        let domain = match region {
            "us-east-1" => "compute-1.amazonaws.com".to_owned(),
            _ => format!("{region}.compute.amazonaws.com"),
        };
        format!("ec2-{}.{domain}", address.to_string().replace('.', "-"))
    }
}
