//! Network interfaces and their private addresses.

use super::{AttributeBooleanValue, AttributeValue, Filter, GroupIdentifier, Tag, TagSpecification};
use crate::Shape;
use crate::shape::Off;
use base::clock::Timestamp;

/// The input of CreateNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "ConnectionTrackingSpecification, EnablePrimaryIpv6, Ipv4Prefix")]
#[shape(unsupported = "Ipv4PrefixCount, Ipv6Prefix, Ipv6PrefixCount, Operator")]
pub struct CreateNetworkInterfaceRequest {
    /// `interface`.
    pub interface_type: Option<String>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// What its owner says about it.
    pub description: Option<String>,
    /// `10.0.0.5`.
    pub private_ip_address: Option<String>,
    /// Security groups.
    #[shape(request = "SecurityGroupId")]
    pub groups: Vec<String>,
    /// Its private IPv4 addresses.
    #[shape(request = "PrivateIpAddresses")]
    pub private_ip_addresses: Vec<PrivateIpAddressSpecification>,
    /// How many addresses beside the first, chosen freely.
    pub secondary_private_ip_address_count: Option<i32>,
    /// Its IPv6 addresses.
    #[shape(request = "Ipv6Addresses")]
    pub ipv6_addresses: Vec<InstanceIpv6Address>,
    /// How many IPv6 addresses, chosen freely.
    pub ipv6_address_count: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// A private address that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PrivateIpAddressSpecification {
    /// Whether it is the first one.
    pub primary: Option<bool>,
    /// `10.0.0.5`.
    pub private_ip_address: Option<String>,
}

/// An IPv6 address.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "IsPrimaryIpv6")]
pub struct InstanceIpv6Address {
    /// `fd00:ec2:1::5`.
    pub ipv6_address: Option<String>,
}

/// The answer of CreateNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateNetworkInterfaceResponse {
    /// The network interface.
    pub network_interface: NetworkInterface,
    /// Makes the operation idempotent.
    pub client_token: Option<String>,
}

/// A network card that a customer has, wherever it is attached.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInterface {
    /// Its public address.
    pub association: Option<NetworkInterfaceAssociation>,
    /// What it is attached to.
    pub attachment: Option<NetworkInterfaceAttachment>,
    /// `us-east-1a`.
    pub availability_zone: String,
    /// What its owner says about it.
    pub description: Option<String>,
    /// Security groups.
    pub groups: Vec<GroupIdentifier>,
    /// `interface`.
    pub interface_type: String,
    /// Its IPv6 addresses.
    #[shape(response = "ipv6AddressesSet")]
    pub ipv6_addresses: Vec<NetworkInterfaceIpv6Address>,
    /// `02:00:0a:00:00:05`.
    pub mac_address: String,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// The account that owns it.
    pub owner_id: String,
    /// Its name inside the VPC.
    pub private_dns_name: String,
    /// `10.0.0.5`.
    pub private_ip_address: String,
    /// Its private IPv4 addresses.
    #[shape(response = "privateIpAddressesSet")]
    pub private_ip_addresses: Vec<NetworkInterfacePrivateIpAddress>,
    /// Who had it made.
    pub requester_id: Option<String>,
    /// Whether the cloud made it for something else.
    pub requester_managed: bool,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<bool>,
    /// `available` or `in-use`.
    pub status: String,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// Its tags.
    #[shape(response = "tagSet")]
    pub tag_set: Vec<Tag>,
    /// `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// `use1-az1`.
    pub availability_zone_id: String,
}

/// The public address of a private one.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInterfaceAssociation {
    /// `eipalloc-0123456789abcdef0`.
    pub allocation_id: Option<String>,
    /// Names the association.
    pub association_id: Option<String>,
    /// Who owns the address: an account, or `amazon`.
    pub ip_owner_id: String,
    /// Its public name.
    pub public_dns_name: Option<String>,
    /// `198.18.0.5`.
    pub public_ip: String,
}

/// How an interface is attached.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInterfaceAttachment {
    /// When it was attached.
    pub attach_time: Timestamp,
    /// `eni-attach-0123456789abcdef0`.
    pub attachment_id: String,
    /// Whether it goes with the instance.
    pub delete_on_termination: bool,
    /// Which card of the instance it is; 0 is the first.
    pub device_index: i32,
    /// Always 0.
    pub network_card_index: i32,
    /// `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// The account that owns the instance.
    pub instance_owner_id: Option<String>,
    /// `attached`...
    pub status: String,
}

/// An IPv6 address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInterfaceIpv6Address {
    /// `fd00:ec2:1::5`.
    pub ipv6_address: String,
    /// Always false.
    pub is_primary_ipv6: bool,
}

/// A private address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInterfacePrivateIpAddress {
    /// Its public address.
    pub association: Option<NetworkInterfaceAssociation>,
    /// Whether it is the first one.
    pub primary: bool,
    /// Its name inside the VPC.
    pub private_dns_name: String,
    /// `10.0.0.5`.
    pub private_ip_address: String,
}

/// The input of DeleteNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteNetworkInterfaceRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
}

/// The input of DescribeNetworkInterfaces.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkInterfacesRequest {
    /// Where the page before ended; in an answer, where the next one starts, if there is one.
    pub next_token: Option<String>,
    /// At most so many.
    pub max_results: Option<i32>,
    /// Not offered: there are no services that manage interfaces for an account.
    pub include_managed_resources: Off,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// Only these.
    pub network_interface_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
}

/// The answer of DescribeNetworkInterfaces.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkInterfacesResponse {
    /// The network interfaces of this page.
    pub network_interfaces: Vec<NetworkInterface>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// The input of DescribeNetworkInterfaceAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkInterfaceAttributeRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Which attribute.
    pub attribute: Option<String>,
}

/// The answer of DescribeNetworkInterfaceAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeNetworkInterfaceAttributeResponse {
    /// What it is attached to.
    pub attachment: Option<NetworkInterfaceAttachment>,
    /// What its owner says about it.
    pub description: Option<AttributeValue>,
    /// Security groups.
    pub groups: Option<Vec<GroupIdentifier>>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<AttributeBooleanValue>,
    /// Whether it has a public address of its own.
    pub associate_public_ip_address: Option<bool>,
}

/// The input of ModifyNetworkInterfaceAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "AssociatedSubnetId, ConnectionTrackingSpecification, EnaSrdSpecification")]
#[shape(unsupported = "EnablePrimaryIpv6")]
pub struct ModifyNetworkInterfaceAttributeRequest {
    /// Whether it has a public address of its own.
    pub associate_public_ip_address: Option<bool>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// What its owner says about it.
    pub description: Option<AttributeValue>,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<AttributeBooleanValue>,
    /// Security groups.
    #[shape(request = "SecurityGroupId")]
    pub groups: Vec<String>,
    /// What it is attached to.
    pub attachment: Option<NetworkInterfaceAttachmentChanges>,
}

/// What is to be changed of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "DefaultEnaQueueCount, EnaQueueCount")]
pub struct NetworkInterfaceAttachmentChanges {
    /// `eni-attach-0123456789abcdef0`.
    pub attachment_id: Option<String>,
    /// Whether it goes with the instance.
    pub delete_on_termination: Option<bool>,
}

/// The input of AttachNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "EnaQueueCount, EnaSrdSpecification")]
pub struct AttachNetworkInterfaceRequest {
    /// Always 0.
    pub network_card_index: Option<i32>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// `i-0123456789abcdef0`.
    pub instance_id: String,
    /// Which card of the instance it is; 0 is the first.
    pub device_index: i32,
}

/// The answer of AttachNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AttachNetworkInterfaceResponse {
    /// `eni-attach-0123456789abcdef0`.
    pub attachment_id: String,
    /// Always 0.
    pub network_card_index: i32,
}

/// The input of DetachNetworkInterface.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DetachNetworkInterfaceRequest {
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
    /// `eni-attach-0123456789abcdef0`.
    pub attachment_id: String,
    /// Without waiting for the guest.
    pub force: Option<bool>,
}

/// The input of AssignPrivateIpAddresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv4Prefix, Ipv4PrefixCount")]
pub struct AssignPrivateIpAddressesRequest {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Its private IPv4 addresses.
    pub private_ip_addresses: Vec<String>,
    /// How many addresses beside the first, chosen freely.
    pub secondary_private_ip_address_count: Option<i32>,
    /// Take addresses from other interfaces of the subnet.
    pub allow_reassignment: Option<bool>,
}

/// The answer of AssignPrivateIpAddresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssignPrivateIpAddressesResponse {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// What was assigned.
    #[shape(response = "assignedPrivateIpAddressesSet")]
    pub assigned_private_ip_addresses: Vec<AssignedPrivateIpAddress>,
}

/// A private address that was assigned.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssignedPrivateIpAddress {
    /// `10.0.0.5`.
    pub private_ip_address: String,
}

/// The input of UnassignPrivateIpAddresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv4Prefix")]
pub struct UnassignPrivateIpAddressesRequest {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Its private IPv4 addresses.
    pub private_ip_addresses: Vec<String>,
}

/// The input of AssignIpv6Addresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv6Prefix, Ipv6PrefixCount")]
pub struct AssignIpv6AddressesRequest {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Its IPv6 addresses.
    #[shape(request = "Ipv6Addresses")]
    pub ipv6_addresses: Vec<String>,
    /// How many IPv6 addresses, chosen freely.
    pub ipv6_address_count: Option<i32>,
}

/// The answer of AssignIpv6Addresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AssignIpv6AddressesResponse {
    /// What was assigned.
    #[shape(response = "assignedIpv6Addresses")]
    pub assigned_ipv6_addresses: Vec<String>,
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
}

/// The input of UnassignIpv6Addresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Ipv6Prefix")]
pub struct UnassignIpv6AddressesRequest {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Its IPv6 addresses.
    #[shape(request = "Ipv6Addresses")]
    pub ipv6_addresses: Vec<String>,
}

/// The answer of UnassignIpv6Addresses.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct UnassignIpv6AddressesResponse {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// What was unassigned.
    #[shape(response = "unassignedIpv6Addresses")]
    pub unassigned_ipv6_addresses: Vec<String>,
}
