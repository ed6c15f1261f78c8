//! Instances: reading them, and moving them between their states. Launching is in `run_instances`.

use super::{Filter, InstanceIpv6Address, Tag};
use crate::Shape;
use crate::shape::{Blob, Off};
use base::clock::Timestamp;

/// The input of DescribeInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstancesRequest {
    /// Only these.
    pub instance_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Not offered: there are no services that manage instances for an account.
    pub include_managed_resources: Off,
    /// At most so many instances, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstancesResponse {
    /// The instances of this page, by the launch that made them.
    pub reservations: Vec<Reservation>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// One launch and its instances; also the answer of RunInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Reservation {
    /// `r-0123456789abcdef0`.
    pub reservation_id: String,
    /// The account that owns it.
    pub owner_id: String,
    /// Who launched on behalf of the owner.
    pub requester_id: Option<String>,
    /// Groups outside a VPC; AWS answers an empty list.
    pub groups: Vec<GroupIdentifier>,
    /// Its instances.
    #[shape(response = "instancesSet")]
    pub instances: Vec<Instance>,
}

/// A security group, by id and name.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct GroupIdentifier {
    /// `sg-0123456789abcdef0`.
    pub group_id: String,
    /// Its name.
    pub group_name: String,
}

/// An instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Instance {
    /// `i-0123456789abcdef0`.
    pub instance_id: String,
    /// The image it was launched from.
    pub image_id: String,
    /// Where it is in its life.
    #[shape(response = "instanceState")]
    pub state: InstanceState,
    /// Its name inside the VPC; empty until it runs.
    pub private_dns_name: String,
    /// Its public name; empty if it has none.
    #[shape(response = "dnsName")]
    pub public_dns_name: String,
    /// Why it changed its state last, for a person; empty if there is nothing to say.
    #[shape(response = "reason")]
    pub state_transition_reason: String,
    /// The key pair that may log in.
    pub key_name: Option<String>,
    /// Its number within its launch, from 0.
    pub ami_launch_index: i32,
    /// Always empty: there is no marketplace.
    #[shape(response = "productCodes")]
    pub product_codes: Vec<ProductCode>,
    /// `t3.micro`.
    pub instance_type: String,
    /// When it was launched, or last started.
    pub launch_time: Timestamp,
    /// Where it is.
    pub placement: InstancePlacement,
    /// Whether its metrics are detailed.
    pub monitoring: Monitoring,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// Its VPC.
    pub vpc_id: Option<String>,
    /// Its address in the subnet.
    pub private_ip_address: Option<String>,
    /// Its public address.
    #[shape(response = "ipAddress")]
    pub public_ip_address: Option<String>,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<bool>,
    /// Its security groups.
    #[shape(response = "groupSet")]
    pub security_groups: Vec<GroupIdentifier>,
    /// Why it is in its state, if it did not get there by request.
    pub state_reason: Option<InstanceStateReason>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// `ebs` or `instance-store`.
    pub root_device_type: String,
    /// `/dev/sda1`.
    pub root_device_name: Option<String>,
    /// Its disks.
    #[shape(response = "blockDeviceMapping")]
    pub block_device_mappings: Vec<InstanceBlockDeviceMapping>,
    /// `hvm`.
    pub virtualization_type: String,
    /// The token of its launch.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// AWS's word for the hypervisor: `xen`, also for Nitro.
    pub hypervisor: String,
    /// Its network cards.
    pub network_interfaces: Vec<InstanceNetworkInterface>,
    /// Whether it has its own path to its volumes.
    pub ebs_optimized: bool,
    /// Whether it has AWS's network card.
    pub ena_support: Option<bool>,
    /// Cores and threads.
    pub cpu_options: Option<CpuOptions>,
    /// Whether it can be hibernated.
    pub hibernation_options: Option<HibernationOptions>,
    /// How its metadata service answers.
    pub metadata_options: Option<InstanceMetadataOptions>,
    /// Whether it has enclaves.
    pub enclave_options: Option<EnclaveOptions>,
    /// What the image asked for.
    pub boot_mode: Option<String>,
    /// What it was booted with.
    pub current_instance_boot_mode: Option<String>,
    /// `Linux/UNIX`.
    pub platform_details: Option<String>,
    /// `RunInstances`.
    pub usage_operation: Option<String>,
    /// When `usage_operation` was set.
    pub usage_operation_update_time: Option<Timestamp>,
    /// What happens to it when its host fails.
    pub maintenance_options: Option<InstanceMaintenanceOptions>,
}

/// Where an instance is in its life.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceState {
    /// 0 pending, 16 running, 32 shutting-down, 48 terminated, 64 stopping, 80 stopped.
    pub code: i32,
    /// The same in a word.
    pub name: String,
}

/// Why something is in its state.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStateReason {
    /// `Client.UserInitiatedShutdown`, `Server.InsufficientInstanceCapacity`...
    pub code: String,
    /// The same as a sentence.
    pub message: String,
}

/// A product of the marketplace.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ProductCode {
    /// Its id.
    #[shape(response = "productCode")]
    pub product_code_id: String,
    /// `marketplace` or `devpay`.
    #[shape(response = "type")]
    pub product_code_type: String,
}

/// Where an instance is.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstancePlacement {
    /// `us-east-1a`.
    pub availability_zone: String,
    /// `use1-az1`.
    pub availability_zone_id: Option<String>,
    /// Its placement group; empty if it has none.
    pub group_name: String,
    /// `default`.
    pub tenancy: String,
}

/// Whether an instance's metrics are detailed.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Monitoring {
    /// `disabled` or `enabled`.
    pub state: String,
}

/// A disk of an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceBlockDeviceMapping {
    /// `/dev/sda1`.
    pub device_name: String,
    /// The volume.
    pub ebs: Option<EbsInstanceBlockDevice>,
}

/// The volume behind a disk of an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EbsInstanceBlockDevice {
    /// `vol-0123456789abcdef0`.
    pub volume_id: String,
    /// `attached`...
    pub status: String,
    /// When it was attached.
    pub attach_time: Timestamp,
    /// Whether it goes with the instance.
    pub delete_on_termination: bool,
}

/// A network card of an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceNetworkInterface {
    /// `eni-0123456789abcdef0`.
    pub network_interface_id: String,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// Its VPC.
    pub vpc_id: Option<String>,
    /// What its owner says about it.
    pub description: Option<String>,
    /// The account that owns it.
    pub owner_id: String,
    /// `in-use`...
    pub status: String,
    /// `02:00:00:00:00:01`.
    pub mac_address: String,
    /// Its first address.
    pub private_ip_address: Option<String>,
    /// Its name inside the VPC.
    pub private_dns_name: Option<String>,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<bool>,
    /// Its security groups.
    pub groups: Vec<GroupIdentifier>,
    /// `interface`.
    pub interface_type: Option<String>,
    /// How it is attached.
    pub attachment: Option<InstanceNetworkInterfaceAttachment>,
    /// The public address of the first one.
    pub association: Option<InstanceNetworkInterfaceAssociation>,
    /// Its private addresses, the first one first.
    #[shape(response = "privateIpAddressesSet")]
    pub private_ip_addresses: Vec<InstancePrivateIpAddress>,
    /// Its IPv6 addresses.
    #[shape(response = "ipv6AddressesSet")]
    pub ipv6_addresses: Vec<InstanceIpv6Address>,
}

/// How a network card is attached to its instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceNetworkInterfaceAttachment {
    /// When it was attached.
    pub attach_time: Timestamp,
    /// `eni-attach-0123456789abcdef0`.
    pub attachment_id: String,
    /// Whether it goes with the instance.
    pub delete_on_termination: bool,
    /// Which card it is; 0 is the first.
    pub device_index: i32,
    /// `attached`...
    pub status: String,
    /// Always 0.
    pub network_card_index: i32,
}

/// The public address of a private one.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceNetworkInterfaceAssociation {
    /// Who owns it: an account, or `amazon`.
    pub ip_owner_id: String,
    /// Its public name; empty if it has none.
    pub public_dns_name: String,
    /// The address.
    pub public_ip: String,
}

/// A private address of an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstancePrivateIpAddress {
    /// Its public address.
    pub association: Option<InstanceNetworkInterfaceAssociation>,
    /// Whether it is the card's first one.
    pub primary: bool,
    /// Its name inside the VPC.
    pub private_dns_name: Option<String>,
    /// The address.
    pub private_ip_address: String,
}

/// Cores and threads of an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CpuOptions {
    /// Cores.
    pub core_count: i32,
    /// Threads of each core.
    pub threads_per_core: i32,
}

/// Whether an instance can be hibernated.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct HibernationOptions {
    /// Whether it can.
    pub configured: bool,
}

/// Whether an instance has enclaves.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EnclaveOptions {
    /// Whether it has.
    pub enabled: bool,
}

/// What happens to an instance when its host fails.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceMaintenanceOptions {
    /// `default` or `disabled`.
    pub auto_recovery: String,
}

/// How an instance's metadata service answers.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceMetadataOptions {
    /// `applied` or `pending`.
    pub state: String,
    /// `optional` or `required` (version 2 only).
    pub http_tokens: String,
    /// How many hops an answer may travel.
    pub http_put_response_hop_limit: i32,
    /// `enabled` or `disabled`.
    pub http_endpoint: String,
    /// `enabled` or `disabled`.
    pub http_protocol_ipv6: String,
    /// Whether the guest can read its tags: `enabled` or `disabled`.
    pub instance_metadata_tags: String,
}

/// The input of DescribeInstanceStatus.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceStatusRequest {
    /// Only these.
    pub instance_ids: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Not offered: there are no services that manage instances for an account.
    pub include_managed_resources: Off,
    /// Also those that do not run.
    pub include_all_instances: Option<bool>,
    /// At most so many instances, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeInstanceStatus.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceStatusResponse {
    /// The instances of this page.
    pub instance_statuses: Vec<InstanceStatus>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// How an instance and its host are.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStatus {
    /// The instance.
    pub instance_id: String,
    /// `us-east-1a`.
    pub availability_zone: String,
    /// `use1-az1`.
    pub availability_zone_id: Option<String>,
    /// What is planned for it.
    #[shape(response = "eventsSet")]
    pub events: Vec<InstanceStatusEvent>,
    /// Where it is in its life.
    pub instance_state: InstanceState,
    /// How the guest is.
    pub instance_status: InstanceStatusSummary,
    /// How the host is.
    pub system_status: InstanceStatusSummary,
}

/// Something planned for an instance.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStatusEvent {
    /// `instance-reboot`, `instance-retirement`...
    pub code: String,
    /// A sentence about it.
    pub description: String,
    /// Not before this.
    pub not_before: Option<Timestamp>,
    /// Not after this.
    pub not_after: Option<Timestamp>,
}

/// How a guest or a host is.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStatusSummary {
    /// `ok`, `impaired`, `initializing`, `insufficient-data` or `not-applicable`.
    pub status: String,
    /// The checks behind it.
    #[shape(response = "details")]
    pub details: Vec<InstanceStatusDetails>,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStatusDetails {
    /// `reachability`.
    pub name: String,
    /// `passed`, `failed`, `initializing` or `insufficient-data`.
    pub status: String,
    /// Since when it fails.
    pub impaired_since: Option<Timestamp>,
}

/// The input of StartInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "AdditionalInfo")]
pub struct StartInstancesRequest {
    /// Which.
    #[shape(required)]
    pub instance_ids: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of StopInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct StopInstancesRequest {
    /// Which.
    #[shape(required)]
    pub instance_ids: Vec<String>,
    /// Save memory to disk first.
    pub hibernate: Option<bool>,
    /// Do not wait for the guest.
    pub force: Option<bool>,
    /// Not offered: stopping without telling the guest, but with its disks in order.
    pub skip_os_shutdown: Off,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of RebootInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct RebootInstancesRequest {
    /// Which.
    #[shape(required)]
    pub instance_ids: Vec<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of TerminateInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct TerminateInstancesRequest {
    /// Which.
    #[shape(required)]
    pub instance_ids: Vec<String>,
    /// Not offered: terminating what will not stop.
    pub force: Off,
    /// Not offered: terminating without telling the guest.
    pub skip_os_shutdown: Off,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of StartInstances, StopInstances and TerminateInstances.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStateChanges {
    /// What changed, in the order asked.
    #[shape(response = "instancesSet")]
    pub instances: Vec<InstanceStateChange>,
}

/// How one instance's state changed.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceStateChange {
    /// The instance.
    pub instance_id: String,
    /// Its state now.
    pub current_state: InstanceState,
    /// Its state before.
    pub previous_state: InstanceState,
}

/// The input of GetConsoleOutput.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct GetConsoleOutputRequest {
    /// Which.
    pub instance_id: String,
    /// What is there now, rather than what was there at the last change of state.
    pub latest: Option<bool>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of GetConsoleOutput.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct GetConsoleOutputResponse {
    /// The instance.
    pub instance_id: String,
    /// When the output was read.
    pub timestamp: Option<Timestamp>,
    /// The last 64 KiB; absent if there is none yet.
    pub output: Option<Blob>,
}
