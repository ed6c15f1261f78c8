//! Launching instances. The answer is a [`super::Reservation`].

use super::{PrivateIpAddressSpecification, TagSpecification};
use crate::Shape;
use crate::shape::{Blob, Off};

/// The input of RunInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "AdditionalInfo, BlockDeviceMapping, CapacityReservationSpecification, CpuOptions")]
#[shape(unsupported = "CreditSpecification, ElasticGpuSpecification")]
#[shape(unsupported = "ElasticInferenceAccelerator, EnablePrimaryIpv6")]
#[shape(unsupported = "IamInstanceProfile, InstanceMarketOptions, Ipv6Address, KernelId")]
#[shape(unsupported = "LaunchTemplate, LicenseSpecification, MaintenanceOptions, MetadataOptions")]
#[shape(unsupported = "NetworkPerformanceOptions, Operator, PrivateDnsNameOptions")]
#[shape(unsupported = "RamdiskId, SecondaryInterface")]
pub struct RunInstancesRequest {
    /// The image. Required here: AWS can take it from a launch template, which Nephos does not have yet.
    pub image_id: String,
    /// AWS's default is `m1.small`.
    pub instance_type: Option<String>,
    /// At least so many, or none.
    pub min_count: i32,
    /// At most so many.
    pub max_count: i32,
    /// Makes the launch idempotent; at most 64 characters.
    pub client_token: Option<String>,
    /// Where.
    pub placement: Option<Placement>,
    /// For the guest, at most 16 KiB.
    pub user_data: Option<Blob>,
    /// The key pair that may log in.
    pub key_name: Option<String>,
    /// The subnet of the first network card.
    pub subnet_id: Option<String>,
    /// Security groups, by id.
    pub security_group_ids: Vec<String>,
    /// Security groups of the default VPC, by name.
    pub security_groups: Vec<String>,
    /// The first network card's private address; of a launch of one.
    pub private_ip_address: Option<String>,
    /// How many IPv6 addresses the first network card has, chosen freely.
    pub ipv6_address_count: Option<i32>,
    /// The network cards, instead of what describes the first one above.
    pub network_interfaces: Vec<InstanceNetworkInterfaceSpecification>,
    /// Tags of what is made.
    pub tag_specifications: Vec<TagSpecification>,
    /// Whether TerminateInstances is refused.
    pub disable_api_termination: Option<bool>,
    /// Whether StopInstances is refused.
    pub disable_api_stop: Option<bool>,
    /// Not offered: a path of its own to its volumes.
    pub ebs_optimized: Off,
    /// Whether its metrics are detailed.
    pub monitoring: Option<RunInstancesMonitoring>,
    /// Whether it has enclaves.
    pub enclave_options: Option<EnclaveOptionsRequest>,
    /// Whether it can be hibernated.
    pub hibernation_options: Option<HibernationOptionsRequest>,
    /// What a shutdown from inside does: `stop` or `terminate`.
    pub instance_initiated_shutdown_behavior: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// A network card of instances that are launched.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "AssociateCarrierIpAddress, ConnectionTrackingSpecification, EnaQueueCount")]
#[shape(unsupported = "EnaSrdSpecification, Ipv4Prefix, Ipv4PrefixCount, Ipv6Addresses, Ipv6Prefix")]
#[shape(unsupported = "Ipv6PrefixCount, NetworkInterfaceId, PrimaryIpv6, SecondaryPrivateIpAddressCount")]
pub struct InstanceNetworkInterfaceSpecification {
    /// Whether it has a public address of its own.
    pub associate_public_ip_address: Option<bool>,
    /// Whether it goes with the instance.
    pub delete_on_termination: Option<bool>,
    /// What its owner says about it.
    pub description: Option<String>,
    /// 0: only the first card can be made with the instance.
    pub device_index: Option<i32>,
    /// Security groups.
    #[shape(request = "SecurityGroupId")]
    pub groups: Vec<String>,
    /// How many IPv6 addresses, chosen freely.
    pub ipv6_address_count: Option<i32>,
    /// Its private address; of a launch of one.
    pub private_ip_address: Option<String>,
    /// The same, as a list of one.
    #[shape(request = "PrivateIpAddresses")]
    pub private_ip_addresses: Vec<PrivateIpAddressSpecification>,
    /// `subnet-0123456789abcdef0`.
    pub subnet_id: Option<String>,
    /// `interface`.
    pub interface_type: Option<String>,
    /// 0.
    pub network_card_index: Option<i32>,
}

/// Whether metrics are detailed.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RunInstancesMonitoring {
    /// Not offered.
    pub enabled: Off,
}

/// Whether the instance has enclaves.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EnclaveOptionsRequest {
    /// Not offered.
    pub enabled: Off,
}

/// Whether the instance can be hibernated.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct HibernationOptionsRequest {
    /// Not offered.
    pub configured: Off,
}

/// Where to launch.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "Affinity, AvailabilityZoneId, GroupId, GroupName, HostId, HostResourceGroupArn")]
#[shape(unsupported = "PartitionNumber, SpreadDomain")]
pub struct Placement {
    /// `us-east-1a`.
    pub availability_zone: Option<String>,
    /// `default`, `dedicated` or `host`.
    pub tenancy: Option<String>,
}
