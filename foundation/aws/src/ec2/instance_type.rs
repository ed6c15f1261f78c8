//! Instance types, and where they are offered.

use super::Filter;
use crate::Shape;

/// The input of DescribeInstanceTypes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "IncludeUnsupportedInRegion")]
pub struct DescribeInstanceTypesRequest {
    /// Only these.
    pub instance_types: Vec<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many types, 5 to 100.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeInstanceTypes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceTypesResponse {
    /// The types of this page.
    pub instance_types: Vec<InstanceType>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// An instance type.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceType {
    /// `t3.micro`.
    pub instance_type: String,
    /// Whether AWS still recommends it.
    pub current_generation: bool,
    /// Whether it is in AWS's free tier.
    pub free_tier_eligible: bool,
    /// `on-demand`, `spot`.
    #[shape(response = "supportedUsageClasses")]
    pub supported_usage_classes: Vec<String>,
    /// `ebs`, `instance-store`.
    #[shape(response = "supportedRootDeviceTypes")]
    pub supported_root_device_types: Vec<String>,
    /// `hvm`.
    #[shape(response = "supportedVirtualizationTypes")]
    pub supported_virtualization_types: Vec<String>,
    /// Whether it is a whole machine.
    pub bare_metal: bool,
    /// `nitro` or `xen`.
    pub hypervisor: Option<String>,
    /// Its processor.
    pub processor_info: ProcessorInfo,
    /// Its virtual processors.
    pub v_cpu_info: VCpuInfo,
    /// Its memory.
    pub memory_info: MemoryInfo,
    /// Whether it has disks of its own.
    pub instance_storage_supported: bool,
    /// Its path to volumes.
    pub ebs_info: EbsInfo,
    /// Its network cards.
    pub network_info: NetworkInfo,
    /// How it can be placed.
    pub placement_group_info: PlacementGroupInfo,
    /// Whether it can be hibernated.
    pub hibernation_supported: bool,
    /// Whether its processors are credited (`t` types).
    pub burstable_performance_supported: bool,
    /// Whether it runs on dedicated hosts.
    pub dedicated_hosts_supported: bool,
    /// Whether it restarts elsewhere when its host fails.
    pub auto_recovery_supported: bool,
    /// `legacy-bios`, `uefi`.
    #[shape(response = "supportedBootModes")]
    pub supported_boot_modes: Vec<String>,
    /// `supported` or `unsupported`.
    pub nitro_enclaves_support: Option<String>,
    /// `supported` or `unsupported`.
    pub nitro_tpm_support: Option<String>,
}

/// A type's processor.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ProcessorInfo {
    /// `x86_64`, `arm64`.
    #[shape(response = "supportedArchitectures")]
    pub supported_architectures: Vec<String>,
    /// In GHz.
    pub sustained_clock_speed_in_ghz: Option<f64>,
    /// `Intel`, `AMD`, `AWS`.
    pub manufacturer: Option<String>,
}

/// A type's virtual processors.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct VCpuInfo {
    /// How many.
    pub default_v_cpus: i32,
    /// On so many cores.
    pub default_cores: i32,
    /// With so many threads each.
    pub default_threads_per_core: i32,
    /// How many cores CpuOptions may ask for; absent if it may not ask.
    #[shape(response = "validCores")]
    pub valid_cores: Option<Vec<i32>>,
    /// How many threads of each CpuOptions may ask for.
    #[shape(response = "validThreadsPerCore")]
    pub valid_threads_per_core: Option<Vec<i32>>,
}

/// A type's memory.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct MemoryInfo {
    /// In MiB.
    #[shape(name = "SizeInMiB", request = "SizeInMiB", response = "sizeInMiB")]
    pub size_in_mib: i64,
}

/// A type's path to volumes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EbsInfo {
    /// `default`, `supported` or `unsupported`.
    pub ebs_optimized_support: String,
    /// `supported` or `unsupported`.
    pub encryption_support: String,
    /// `required`, `supported` or `unsupported`.
    pub nvme_support: String,
}

/// A type's network cards.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkInfo {
    /// `Up to 5 Gigabit`.
    pub network_performance: String,
    /// How many interfaces.
    pub maximum_network_interfaces: i32,
    /// On so many cards.
    pub maximum_network_cards: i32,
    /// The card of the first interface.
    pub default_network_card_index: i32,
    /// The cards.
    #[shape(response = "networkCards")]
    pub network_cards: Vec<NetworkCardInfo>,
    /// Addresses of each interface.
    pub ipv4_addresses_per_interface: i32,
    /// Addresses of each interface.
    pub ipv6_addresses_per_interface: i32,
    /// Whether there is IPv6.
    pub ipv6_supported: bool,
    /// `required`, `supported` or `unsupported`.
    pub ena_support: String,
    /// Whether there is AWS's fabric for computing.
    pub efa_supported: bool,
    /// Whether packets between instances are encrypted by the card.
    pub encryption_in_transit_supported: bool,
}

/// A network card of a type.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct NetworkCardInfo {
    /// Its number.
    pub network_card_index: i32,
    /// `Up to 5 Gigabit`.
    pub network_performance: String,
    /// How many interfaces.
    pub maximum_network_interfaces: i32,
}

/// How a type can be placed.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct PlacementGroupInfo {
    /// `cluster`, `partition`, `spread`.
    #[shape(response = "supportedStrategies")]
    pub supported_strategies: Vec<String>,
}

/// The input of DescribeInstanceTypeOfferings.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceTypeOfferingsRequest {
    /// `region` (the default), `availability-zone`, `availability-zone-id` or `outpost`.
    pub location_type: Option<String>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many offerings, 5 to 1000.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeInstanceTypeOfferings.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceTypeOfferingsResponse {
    /// The offerings of this page.
    pub instance_type_offerings: Vec<InstanceTypeOffering>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A type offered somewhere.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceTypeOffering {
    /// `t3.micro`.
    pub instance_type: String,
    /// `region`, `availability-zone`...
    pub location_type: String,
    /// `us-east-1a`...
    pub location: String,
}
