//! DescribeInstanceTypes and DescribeInstanceTypeOfferings: the catalogue, with what is true of it here. There is no
//! network card and no volume for any type yet, and the answers say so.

use super::filter::{Filtered, Filters};
use super::page::{self, Asked, Page};
use super::{Api, errors, instance, parse, zone};
use crate::instance::catalogue::{self, SHAPES, Shape};
use aws::ec2::*;
use aws::{ApiError, Caller, codes};

/// The most types that one request can name. Source: Amazon EC2 API Reference, DescribeInstanceTypes.
const NAMED_MAX: usize = 100;

/// DescribeInstanceTypes.
pub fn types_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInstanceTypesRequest,
) -> Result<DescribeInstanceTypesResponse, ApiError> {
    if input.instance_types.len() > NAMED_MAX {
        let count = input.instance_types.len();
        let reason = format!("One request can name at most {NAMED_MAX} instance types.");
        return Err(errors::invalid_value("InstanceType", &format_args!("{count} types"), &reason));
    }
    let unknown = |name: &&String| catalogue::find(name).is_none();
    let unknown: Vec<&str> = input.instance_types.iter().filter(unknown).map(|n| errors::shown(n)).collect();
    if !unknown.is_empty() {
        let message = format!("The following supplied instance types do not exist: [{}]", unknown.join(", "));
        return Err(ApiError::new(codes::INVALID_INSTANCE_TYPE, message));
    }
    let filters = Filters::read::<Shape>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    page::refuse_beside_ids(input.instance_types.len(), "instanceTypes", &asked)?;
    let selection = (&input.instance_types, &input.filters);
    let page = Page::open(api, caller, "DescribeInstanceTypes", &selection, 5..=100, asked)?;
    parse::dry_run(input.dry_run)?;
    let named =
        |name: &str| input.instance_types.is_empty() || input.instance_types.iter().any(|n| n == name);
    let shapes = SHAPES.iter().filter(|shape| named(shape.name) && page.is_after(shape.name));
    let (shapes, next_token) =
        page.take(shapes.filter(|shape| filters.hold(*shape)), |shape| shape.name.to_owned());
    Ok(DescribeInstanceTypesResponse { instance_types: shapes.into_iter().map(told).collect(), next_token })
}

fn told(shape: &Shape) -> InstanceType {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let unsupported = || "unsupported".to_owned();
    InstanceType {
        instance_type: shape.name.to_owned(),
        current_generation: shape.current_generation,
        free_tier_eligible: false,
        supported_usage_classes: vec!["on-demand".to_owned()],
        supported_root_device_types: vec![instance::ROOT_DEVICE_TYPE.to_owned()],
        supported_virtualization_types: vec![instance::VIRTUALIZATION_TYPE.to_owned()],
        bare_metal: false,
        processor_info: ProcessorInfo {
            supported_architectures: vec!["x86_64".to_owned()],
            ..ProcessorInfo::default()
        },
        v_cpu_info: VCpuInfo {
            default_v_cpus: number(shape.vcpus),
            default_cores: number(shape.vcpus / shape.threads_per_core),
            default_threads_per_core: number(shape.threads_per_core),
            ..VCpuInfo::default()
        },
        memory_info: MemoryInfo { size_in_mib: i64::from(shape.memory_mib) },
        ebs_info: EbsInfo {
            ebs_optimized_support: unsupported(),
            encryption_support: unsupported(),
            nvme_support: unsupported(),
        },
        network_info: NetworkInfo {
            network_performance: "None".to_owned(),
            ena_support: unsupported(),
            ..NetworkInfo::default()
        },
        burstable_performance_supported: shape.burstable,
        nitro_enclaves_support: Some(unsupported()),
        nitro_tpm_support: Some(unsupported()),
        ..InstanceType::default()
    }
}

impl Filtered for Shape {
    const NAMES: &'static [&'static str] = &[
        "bare-metal",
        "burstable-performance-supported",
        "current-generation",
        "dedicated-hosts-supported",
        "free-tier-eligible",
        "hibernation-supported",
        "instance-storage-supported",
        "instance-type",
        "memory-info.size-in-mib",
        "processor-info.supported-architecture",
        "supported-root-device-type",
        "supported-usage-class",
        "supported-virtualization-type",
        "vcpu-info.default-cores",
        "vcpu-info.default-threads-per-core",
        "vcpu-info.default-vcpus",
    ];
    const TAGGED: bool = false;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "bare-metal"
            | "dedicated-hosts-supported"
            | "free-tier-eligible"
            | "hibernation-supported"
            | "instance-storage-supported" => is("false"),
            "burstable-performance-supported" => is(&self.burstable.to_string()),
            "current-generation" => is(&self.current_generation.to_string()),
            "instance-type" => is(self.name),
            "memory-info.size-in-mib" => is(&self.memory_mib.to_string()),
            "processor-info.supported-architecture" => is("x86_64"),
            "supported-root-device-type" => is(instance::ROOT_DEVICE_TYPE),
            "supported-usage-class" => is("on-demand"),
            "supported-virtualization-type" => is(instance::VIRTUALIZATION_TYPE),
            "vcpu-info.default-cores" => is(&(self.vcpus / self.threads_per_core).to_string()),
            "vcpu-info.default-threads-per-core" => is(&self.threads_per_core.to_string()),
            "vcpu-info.default-vcpus" => is(&self.vcpus.to_string()),
            _ => return None,
        })
    }
}

/// DescribeInstanceTypeOfferings: every type is offered in every zone.
pub fn offerings_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInstanceTypeOfferingsRequest,
) -> Result<DescribeInstanceTypeOfferingsResponse, ApiError> {
    let location_type = parse::word(
        "LocationType",
        input.location_type.as_deref().unwrap_or("region"),
        &["region", "availability-zone", "availability-zone-id", "outpost"],
    )?;
    let zones = api.facts.zones.iter();
    let locations: Vec<String> = match location_type {
        "region" => vec![api.facts.region.to_string()],
        "availability-zone" => zones.map(ToString::to_string).collect(),
        "availability-zone-id" => zones.filter_map(|z| zone::zone_id(&api.facts, z.as_str())).collect(),
        _ => Vec::new(),
    };
    let filters = Filters::read::<InstanceTypeOffering>(&input.filters)?;
    let asked = Asked { max_results: input.max_results, next_token: input.next_token };
    let selection = (location_type, &input.filters);
    let page = Page::open(api, caller, "DescribeInstanceTypeOfferings", &selection, page::USUAL, asked)?;
    parse::dry_run(input.dry_run)?;
    let key = |offering: &InstanceTypeOffering| format!("{} {}", offering.location, offering.instance_type);
    let mut offerings: Vec<InstanceTypeOffering> = locations
        .iter()
        .flat_map(|location| {
            SHAPES.iter().map(move |shape| InstanceTypeOffering {
                instance_type: shape.name.to_owned(),
                location_type: location_type.to_owned(),
                location: location.clone(),
            })
        })
        .filter(|offering| page.is_after(&key(offering)) && filters.hold(offering))
        .collect();
    offerings.sort_by_key(key);
    let (instance_type_offerings, next_token) = page.take(offerings.into_iter(), key);
    Ok(DescribeInstanceTypeOfferingsResponse { instance_type_offerings, next_token })
}

impl Filtered for InstanceTypeOffering {
    const NAMES: &'static [&'static str] = &["instance-type", "location"];
    const TAGGED: bool = false;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "instance-type" => is(&self.instance_type),
            "location" => is(&self.location),
            _ => return None,
        })
    }
}
