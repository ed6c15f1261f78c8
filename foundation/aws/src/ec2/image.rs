//! Machine images.

use super::{Filter, InstanceStateReason, ProductCode, Tag};
use crate::Shape;

/// The input of DescribeImages.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeImagesRequest {
    /// Only images that these accounts (or `self`, `all`) may launch.
    #[shape(request = "ExecutableBy")]
    pub executable_users: Vec<String>,
    /// Only these.
    pub image_ids: Vec<String>,
    /// Only images of these: account ids, `self`, `amazon`, `aws-marketplace`.
    pub owners: Vec<String>,
    /// Also deprecated ones.
    pub include_deprecated: Option<bool>,
    /// Also disabled ones.
    pub include_disabled: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// At most so many images.
    pub max_results: Option<i32>,
    /// Where the page before ended.
    pub next_token: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeImages.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeImagesResponse {
    /// The images of this page.
    #[shape(response = "imagesSet")]
    pub images: Vec<Image>,
    /// Where the next page starts, if there is one.
    pub next_token: Option<String>,
}

/// A machine image.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Image {
    /// `ami-0123456789abcdef0`.
    pub image_id: String,
    /// `OWNER/NAME`.
    pub image_location: String,
    /// `available`, `pending`, `failed`, `deregistered`...
    #[shape(response = "imageState")]
    pub state: String,
    /// The account that owns it.
    #[shape(response = "imageOwnerId")]
    pub owner_id: String,
    /// `amazon` or `self`, where the owner has such a name.
    pub image_owner_alias: Option<String>,
    /// When it was made: ISO 8601 with milliseconds (a string in AWS's model).
    pub creation_date: String,
    /// Whether every account may launch it.
    #[shape(response = "isPublic")]
    pub public: bool,
    /// Always empty: there is no marketplace.
    #[shape(response = "productCodes")]
    pub product_codes: Vec<ProductCode>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// `machine`.
    pub image_type: String,
    /// The name that the owner gave it.
    pub name: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// `Linux/UNIX`.
    pub platform_details: Option<String>,
    /// `RunInstances`.
    pub usage_operation: Option<String>,
    /// Its disks.
    #[shape(response = "blockDeviceMapping")]
    pub block_device_mappings: Vec<BlockDeviceMapping>,
    /// Whether the guest drives AWS's network card.
    pub ena_support: Option<bool>,
    /// AWS's word for the hypervisor; `xen` in AWS for every image.
    pub hypervisor: String,
    /// `/dev/sda1`.
    pub root_device_name: Option<String>,
    /// `ebs` or `instance-store`.
    pub root_device_type: String,
    /// `hvm`.
    pub virtualization_type: String,
    /// `legacy-bios`, `uefi` or `uefi-preferred`.
    pub boot_mode: Option<String>,
    /// `v2.0` if instances of it require version 2 of the metadata service.
    pub imds_support: Option<String>,
    /// When it will not be recommended any more: ISO 8601.
    pub deprecation_time: Option<String>,
    /// Why it is in its state, if that is a failure.
    pub state_reason: Option<InstanceStateReason>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A disk of an image.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct BlockDeviceMapping {
    /// `/dev/sda1`.
    pub device_name: Option<String>,
    /// `ephemeral0`...
    pub virtual_name: Option<String>,
    /// The volume.
    pub ebs: Option<EbsBlockDevice>,
}

/// The volume that an image's disk becomes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct EbsBlockDevice {
    /// What it is filled from.
    pub snapshot_id: Option<String>,
    /// In GiB.
    pub volume_size: Option<i32>,
    /// Whether it goes with the instance.
    pub delete_on_termination: Option<bool>,
    /// `gp3`...
    pub volume_type: Option<String>,
    /// Operations per second.
    pub iops: Option<i32>,
    /// MiB per second.
    pub throughput: Option<i32>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
}
