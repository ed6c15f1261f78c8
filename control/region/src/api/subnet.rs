//! Subnets: CreateSubnet, CreateDefaultSubnet, DeleteSubnet, DescribeSubnets, their attributes and their IPv6 range.

use super::filter::Filtered;
use super::resource::{self, Listing, Seen};
use super::{Api, errors, parse, tag, zone};
use crate::cidr::Cidr4;
use crate::network::NetworkChange;
use crate::subnet::record::SubnetRecord;
use crate::subnet::{Attribute, Change, plan};
use crate::tag::record::TagRecord;
use crate::vpc::record::{CidrRecord, VpcRecord};
use aws::ec2::*;
use aws::{ApiError, Caller};

/// CreateSubnet.
pub async fn subnet_create(
    api: &Api,
    caller: &Caller,
    input: CreateSubnetRequest,
) -> Result<CreateSubnetResponse, ApiError> {
    parse::resource_id::<VpcRecord>(&input.vpc_id)?;
    let Some(cidr) = input.cidr_block else { return Err(parse::missing("cidrBlock")) };
    let cidr = parse::cidr4("cidrBlock", &cidr)?;
    let cidr_ipv6 = input.ipv6_cidr_block.map(|text| parse::cidr6("ipv6CidrBlock", &text)).transpose()?;
    let zone =
        parse::zone(&api.facts, input.availability_zone.as_deref(), input.availability_zone_id.as_deref())?;
    let tags = tag::specified(&input.tag_specifications, "subnet")?;
    parse::dry_run(input.dry_run)?;
    made(api, caller, Change::Create { vpc: input.vpc_id, zone, cidr, cidr_ipv6, tags }).await
}

/// CreateDefaultSubnet.
pub async fn default_subnet_create(
    api: &Api,
    caller: &Caller,
    input: CreateDefaultSubnetRequest,
) -> Result<CreateSubnetResponse, ApiError> {
    let zone =
        parse::zone(&api.facts, input.availability_zone.as_deref(), input.availability_zone_id.as_deref())?;
    let zone = zone.ok_or_else(|| parse::missing("availabilityZone"))?;
    parse::dry_run(input.dry_run)?;
    made(api, caller, Change::CreateDefault(zone)).await
}

async fn made(api: &Api, caller: &Caller, change: Change) -> Result<CreateSubnetResponse, ApiError> {
    let answer = resource::change(api, caller, NetworkChange::Subnet(change), None).await?;
    let record = resource::made::<SubnetRecord>(&answer)?;
    Ok(CreateSubnetResponse { subnet: resource::told(api, caller, &*record, |seen| seen.shape())? })
}

/// DeleteSubnet.
pub async fn subnet_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteSubnetRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<SubnetRecord>(&input.subnet_id)?;
    parse::dry_run(input.dry_run)?;
    resource::change(api, caller, NetworkChange::Subnet(Change::Delete(input.subnet_id)), None).await?;
    Ok(Return::TRUE)
}

/// DescribeSubnets.
pub fn subnets_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeSubnetsRequest,
) -> Result<DescribeSubnetsResponse, ApiError> {
    let listing = Listing {
        operation: "DescribeSubnets",
        parameter: "subnetIds",
        ids: &input.subnet_ids,
        filters: &input.filters,
        max_results: input.max_results,
        next_token: input.next_token,
        dry_run: input.dry_run,
    };
    let (subnets, next_token) =
        resource::list(api, caller, listing, |seen: Seen<'_, SubnetRecord>| seen.shape())?;
    Ok(DescribeSubnetsResponse { subnets, next_token })
}

/// ModifySubnetAttribute: one attribute at a time.
pub async fn attribute_modify(
    api: &Api,
    caller: &Caller,
    input: ModifySubnetAttributeRequest,
) -> Result<Return, ApiError> {
    parse::resource_id::<SubnetRecord>(&input.subnet_id)?;
    // What instances of a subnet cannot have here may be switched off.
    let off = [
        ("enableDns64", input.enable_dns64),
        ("enableResourceNameDnsARecordOnLaunch", input.enable_resource_name_dns_a_record_on_launch),
        ("enableResourceNameDnsAAAARecordOnLaunch", input.enable_resource_name_dns_aaaa_record_on_launch),
    ];
    let off = off.into_iter().map(|(name, value)| (name, value.map(|value| (None, value))));
    let hostnames = match input.private_dns_hostname_type_on_launch.as_deref() {
        None => None,
        Some(kind) => {
            let kind = parse::word("privateDnsHostnameTypeOnLaunch", kind, &["ip-name", "resource-name"])?;
            Some((None, AttributeBooleanValue { value: Some(kind == "resource-name") }))
        }
    };
    let named = [
        (
            "mapPublicIpOnLaunch",
            input.map_public_ip_on_launch.map(|value| (Some(Attribute::MapPublicAddress), value)),
        ),
        (
            "assignIpv6AddressOnCreation",
            input.assign_ipv6_address_on_creation.map(|value| (Some(Attribute::AssignIpv6), value)),
        ),
        ("privateDnsHostnameTypeOnLaunch", hostnames),
    ];
    let (attribute, value) = parse::exactly_one(named.into_iter().chain(off), "mapPublicIpOnLaunch")?;
    let on = value.value.ok_or_else(|| parse::missing("Value"))?;
    let Some(attribute) = attribute else {
        let message =
            "Names after instances and IPv6 answers made from IPv4 ones are not supported by Nephos yet.";
        if on {
            return Err(errors::unsupported(message));
        }
        return api.read(caller, |account| {
            resource::find::<SubnetRecord>(account, &input.subnet_id).map(|_| Return::TRUE)
        });
    };
    let change = Change::Modify(input.subnet_id, attribute, on);
    resource::change(api, caller, NetworkChange::Subnet(change), None).await?;
    Ok(Return::TRUE)
}

/// AssociateSubnetCidrBlock.
pub async fn range_associate(
    api: &Api,
    caller: &Caller,
    input: AssociateSubnetCidrBlockRequest,
) -> Result<SubnetCidrBlockAssociated, ApiError> {
    parse::resource_id::<SubnetRecord>(&input.subnet_id)?;
    let Some(cidr) = input.ipv6_cidr_block else { return Err(parse::missing("ipv6CidrBlock")) };
    let cidr = parse::cidr6("ipv6CidrBlock", &cidr)?;
    associated(api, caller, Change::RangeAdd(input.subnet_id, cidr), "associating").await
}

/// DisassociateSubnetCidrBlock.
pub async fn range_disassociate(
    api: &Api,
    caller: &Caller,
    input: DisassociateSubnetCidrBlockRequest,
) -> Result<SubnetCidrBlockAssociated, ApiError> {
    associated(api, caller, Change::RangeRemove(input.association_id), "disassociating").await
}

async fn associated(
    api: &Api,
    caller: &Caller,
    change: Change,
    word: &str,
) -> Result<SubnetCidrBlockAssociated, ApiError> {
    let answer = resource::change(api, caller, NetworkChange::Subnet(change), None).await?;
    let subnet = resource::made::<SubnetRecord>(&answer)?;
    Ok(SubnetCidrBlockAssociated {
        ipv6_cidr_block_association: subnet
            .cidr_ipv6
            .as_ref()
            .map(|range| range_shape(range, word))
            .unwrap_or_default(),
        subnet_id: subnet.subnet_id.clone(),
    })
}

fn range_shape(range: &CidrRecord, word: &str) -> SubnetIpv6CidrBlockAssociation {
    SubnetIpv6CidrBlockAssociation {
        association_id: range.association_id.clone(),
        ipv6_cidr_block: range.cidr.clone(),
        ipv6_cidr_block_state: SubnetCidrBlockState { state: word.to_owned(), status_message: None },
    }
}

impl Seen<'_, SubnetRecord> {
    fn zone_id(&self) -> String {
        zone::zone_id(&self.api.facts, &self.record.zone).unwrap_or_default()
    }

    fn arn(&self) -> String {
        parse::arn(self.caller, "ec2", &format!("subnet/{}", self.record.subnet_id))
    }

    fn addresses_free(&self) -> u32 {
        let usable = self.record.cidr.parse::<Cidr4>().map_or(0, plan::usable_count);
        let taken = self.record.subnet_id.parse().map_or(0, |id| self.account.interfaces.count(id));
        usable.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }

    /// The subnet as customers see it.
    pub fn shape(&self) -> Subnet {
        let subnet = self.record;
        Subnet {
            subnet_id: subnet.subnet_id.clone(),
            subnet_arn: self.arn(),
            vpc_id: subnet.vpc_id.clone(),
            owner_id: self.owner_id(),
            state: "available".to_owned(),
            cidr_block: subnet.cidr.clone(),
            ipv6_cidr_block_associations: subnet
                .cidr_ipv6
                .iter()
                .map(|range| range_shape(range, "associated"))
                .collect(),
            available_ip_address_count: i32::try_from(self.addresses_free()).unwrap_or(i32::MAX),
            availability_zone: subnet.zone.clone(),
            availability_zone_id: self.zone_id(),
            default_for_az: subnet.is_default,
            map_public_ip_on_launch: subnet.map_public_address,
            assign_ipv6_address_on_creation: subnet.assign_ipv6,
            private_dns_name_options_on_launch: PrivateDnsNameOptionsOnLaunch {
                hostname_type: "ip-name".to_owned(),
                ..PrivateDnsNameOptionsOnLaunch::default()
            },
            tags: tag::shapes(&subnet.tags),
            ..Subnet::default()
        }
    }
}

impl Filtered for Seen<'_, SubnetRecord> {
    const NAMES: &'static [&'static str] = &[
        "availability-zone",
        "availability-zone-id",
        "availabilityZone",
        "availabilityZoneId",
        "available-ip-address-count",
        "cidr",
        "cidr-block",
        "cidrBlock",
        "default-for-az",
        "defaultForAz",
        "ipv6-cidr-block-association.association-id",
        "ipv6-cidr-block-association.ipv6-cidr-block",
        "ipv6-cidr-block-association.state",
        "ipv6-native",
        "map-public-ip-on-launch",
        "owner-id",
        "state",
        "subnet-arn",
        "subnet-id",
        "vpc-id",
    ];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        let subnet = self.record;
        let mut ipv6 = subnet.cidr_ipv6.iter();
        Some(match name {
            "availability-zone" | "availabilityZone" => is(&subnet.zone),
            "availability-zone-id" | "availabilityZoneId" => is(&self.zone_id()),
            "available-ip-address-count" => is(&self.addresses_free().to_string()),
            "cidr" | "cidr-block" | "cidrBlock" => is(&subnet.cidr),
            "default-for-az" | "defaultForAz" => is(&subnet.is_default.to_string()),
            "ipv6-cidr-block-association.association-id" => ipv6.any(|range| is(&range.association_id)),
            "ipv6-cidr-block-association.ipv6-cidr-block" => ipv6.any(|range| is(&range.cidr)),
            "ipv6-cidr-block-association.state" => ipv6.any(|_| is("associated")),
            "ipv6-native" => is("false"),
            "map-public-ip-on-launch" => is(&subnet.map_public_address.to_string()),
            "owner-id" => is(&self.owner_id()),
            "state" => is("available"),
            "subnet-arn" => is(&self.arn()),
            "subnet-id" => is(&subnet.subnet_id),
            "vpc-id" => is(&subnet.vpc_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.record.tags
    }
}
