//! Attributes of one instance, read and changed one at a time.

use super::{
    AttributeBooleanValue, AttributeValue, GroupIdentifier, InstanceBlockDeviceMapping, ProductCode,
};
use crate::Shape;
use crate::shape::Blob;

/// The input of DescribeInstanceAttribute.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeInstanceAttributeRequest {
    /// Which instance.
    pub instance_id: String,
    /// Which attribute: `userData`, `disableApiStop`...
    pub attribute: String,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeInstanceAttribute: the one attribute asked for.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct InstanceAttribute {
    /// The instance.
    pub instance_id: String,
    /// Its disks.
    #[shape(response = "blockDeviceMapping")]
    pub block_device_mappings: Option<Vec<InstanceBlockDeviceMapping>>,
    /// Whether StopInstances is refused.
    pub disable_api_stop: Option<AttributeBooleanValue>,
    /// Whether TerminateInstances is refused.
    pub disable_api_termination: Option<AttributeBooleanValue>,
    /// Whether it has its own path to its volumes.
    pub ebs_optimized: Option<AttributeBooleanValue>,
    /// Whether it has AWS's network card.
    pub ena_support: Option<AttributeBooleanValue>,
    /// Its security groups.
    pub groups: Option<Vec<GroupIdentifier>>,
    /// What a shutdown from inside does: `stop` or `terminate`.
    pub instance_initiated_shutdown_behavior: Option<AttributeValue>,
    /// `t3.micro`.
    pub instance_type: Option<AttributeValue>,
    /// Its kernel: never set.
    #[shape(response = "kernel")]
    pub kernel_id: Option<AttributeValue>,
    /// Products of the marketplace: always empty.
    #[shape(response = "productCodes")]
    pub product_codes: Option<Vec<ProductCode>>,
    /// Its RAM disk: never set.
    #[shape(response = "ramdisk")]
    pub ramdisk_id: Option<AttributeValue>,
    /// `/dev/sda1`.
    pub root_device_name: Option<AttributeValue>,
    /// Whether it only takes packets for its own addresses.
    pub source_dest_check: Option<AttributeBooleanValue>,
    /// Whether it has the older network card: never set.
    pub sriov_net_support: Option<AttributeValue>,
    /// Its user data, base64.
    pub user_data: Option<AttributeValue>,
}

/// The input of ModifyInstanceAttribute: either `attribute` and `value`, or one of the typed members.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
#[shape(unsupported = "BlockDeviceMapping, EbsOptimized, EnaSupport, GroupId, Kernel, Ramdisk")]
#[shape(unsupported = "SourceDestCheck, SriovNetSupport")]
pub struct ModifyInstanceAttributeRequest {
    /// Which instance.
    pub instance_id: String,
    /// Which attribute, in the untyped form: `instanceType`...
    pub attribute: Option<String>,
    /// Its value, in the untyped form (`userData` is base64).
    pub value: Option<String>,
    /// Whether StopInstances is refused.
    pub disable_api_stop: Option<AttributeBooleanValue>,
    /// Whether TerminateInstances is refused.
    pub disable_api_termination: Option<AttributeBooleanValue>,
    /// What a shutdown from inside does: `stop` or `terminate`.
    pub instance_initiated_shutdown_behavior: Option<AttributeValue>,
    /// `t3.micro`.
    pub instance_type: Option<AttributeValue>,
    /// For the guest, at most 16 KiB.
    pub user_data: Option<BlobAttributeValue>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// An attribute that is bytes.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct BlobAttributeValue {
    /// The bytes.
    pub value: Option<Blob>,
}
