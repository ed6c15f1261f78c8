//! DescribeInstanceAttribute and ModifyInstanceAttribute: one attribute of one instance at a time.

use super::{Api, errors, instance, launch, parse};
use crate::instance::catalogue;
use crate::instance::record::TemplateRecord;
use crate::request::{InstanceChange, Request};
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// AWS's names of all attributes of instances.
const ATTRIBUTES: [&str; 17] = [
    "instanceType",
    "kernel",
    "ramdisk",
    "userData",
    "disableApiTermination",
    "instanceInitiatedShutdownBehavior",
    "rootDeviceName",
    "blockDeviceMapping",
    "productCodes",
    "sourceDestCheck",
    "groupSet",
    "ebsOptimized",
    "sriovNetSupport",
    "enaSupport",
    "enclaveOptions",
    "disableApiStop",
    "networkInterface",
];

/// DescribeInstanceAttribute.
pub fn attribute_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeInstanceAttributeRequest,
) -> Result<InstanceAttribute, ApiError> {
    let id = parse::instance_id(&input.instance_id)?;
    let attribute = parse::word("attribute", &input.attribute, &ATTRIBUTES)?;
    let supported = !matches!(
        attribute,
        "sourceDestCheck"
            | "groupSet"
            | "sriovNetSupport"
            | "enaSupport"
            | "enclaveOptions"
            | "networkInterface"
    );
    if !supported {
        return Err(unsupported(attribute));
    }
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        let record = instance::record_find(account, id)?;
        let template = record.template.clone().unwrap_or_default();
        Ok(InstanceAttribute {
            instance_id: id.to_string(),
            ..one(api, attribute, &template, account.user_data(&record))
        })
    })
}

fn one(api: &Api, attribute: &str, template: &TemplateRecord, user_data: &[u8]) -> InstanceAttribute {
    let mut answer = InstanceAttribute::default();
    let text = |value: &str| Some(AttributeValue { value: Some(value.to_owned()) });
    let nothing = Some(AttributeValue { value: None });
    let flag = |value: bool| Some(AttributeBooleanValue { value: Some(value) });
    match attribute {
        "blockDeviceMapping" => answer.block_device_mappings = Some(Vec::new()),
        "disableApiStop" => answer.disable_api_stop = flag(template.disable_api_stop),
        "disableApiTermination" => answer.disable_api_termination = flag(template.disable_api_termination),
        "ebsOptimized" => answer.ebs_optimized = flag(false),
        "instanceInitiatedShutdownBehavior" => {
            let behavior = if template.terminate_on_shutdown { "terminate" } else { "stop" };
            answer.instance_initiated_shutdown_behavior = text(behavior);
        }
        "instanceType" => answer.instance_type = text(&template.instance_type),
        "kernel" => answer.kernel_id = nothing,
        "productCodes" => answer.product_codes = Some(Vec::new()),
        "ramdisk" => answer.ramdisk_id = nothing,
        "rootDeviceName" => {
            let device = api.image(&template.image_id).map(|image| image.root_device.clone());
            answer.root_device_name = Some(AttributeValue { value: device });
        }
        "userData" => {
            let encoded = (!user_data.is_empty()).then(|| STANDARD.encode(user_data));
            answer.user_data = Some(AttributeValue { value: encoded });
        }
        _ => {}
    }
    answer
}

/// ModifyInstanceAttribute.
pub async fn attribute_modify(
    api: &Api,
    caller: &Caller,
    input: ModifyInstanceAttributeRequest,
) -> Result<Return, ApiError> {
    let id = parse::instance_id(&input.instance_id)?;
    let dry_run = input.dry_run;
    let change = change(input)?;
    parse::dry_run(dry_run)?;
    api.change(caller, Request::InstanceModify(id, change)).await?;
    Ok(Return::TRUE)
}

/// The one change that a request asks for, in whichever of its two forms.
fn change(input: ModifyInstanceAttributeRequest) -> Result<InstanceChange, ApiError> {
    let mut changes = Vec::new();
    match (input.attribute.as_deref(), input.value) {
        (Some(attribute), Some(value)) => changes.push(change_named(attribute, value)?),
        (Some(_), None) => return Err(missing("Value")),
        (None, Some(_)) => return Err(missing("Attribute")),
        (None, None) => {}
    }
    if let Some(AttributeBooleanValue { value }) = input.disable_api_stop {
        let on = value.ok_or_else(|| missing("DisableApiStop.Value"))?;
        changes.push(InstanceChange::DisableApiStop(on));
    }
    if let Some(AttributeBooleanValue { value }) = input.disable_api_termination {
        let on = value.ok_or_else(|| missing("DisableApiTermination.Value"))?;
        changes.push(InstanceChange::DisableApiTermination(on));
    }
    if let Some(AttributeValue { value }) = input.instance_initiated_shutdown_behavior {
        let value = value.ok_or_else(|| missing("InstanceInitiatedShutdownBehavior.Value"))?;
        changes.push(change_named("instanceInitiatedShutdownBehavior", value)?);
    }
    if let Some(AttributeValue { value }) = input.instance_type {
        let value = value.ok_or_else(|| missing("InstanceType.Value"))?;
        changes.push(change_named("instanceType", value)?);
    }
    if let Some(BlobAttributeValue { value }) = input.user_data {
        changes.push(user_data(value.unwrap_or_default().0)?);
    }
    let mut changes = changes.into_iter();
    match (changes.next(), changes.next()) {
        (Some(change), None) => Ok(change),
        (Some(_), Some(_)) => {
            let message =
                "Fields for multiple attribute types specified; exactly one attribute can be changed";
            Err(ApiError::new(codes::INVALID_PARAMETER_COMBINATION, message))
        }
        (None, _) => {
            let message = "No attributes specified: exactly one attribute must be changed";
            Err(ApiError::new(codes::INVALID_PARAMETER_COMBINATION, message))
        }
    }
}

fn change_named(attribute: &str, value: String) -> Result<InstanceChange, ApiError> {
    Ok(match parse::word("attribute", attribute, &ATTRIBUTES)? {
        "disableApiStop" => InstanceChange::DisableApiStop(flag(&value)?),
        "disableApiTermination" => InstanceChange::DisableApiTermination(flag(&value)?),
        "instanceInitiatedShutdownBehavior" => {
            InstanceChange::TerminateOnShutdown(launch::terminates("value", &value)?)
        }
        "instanceType" => {
            catalogue::find(&value).ok_or_else(|| launch::type_unknown(&value))?;
            InstanceChange::InstanceType(value)
        }
        "userData" => {
            let packed: String = value.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(packed).map_err(|_| {
                ApiError::new(codes::INVALID_USER_DATA_MALFORMED, "Invalid BASE64 encoding of user data.")
            })?;
            user_data(bytes)?
        }
        "blockDeviceMapping" | "ebsOptimized" | "kernel" | "ramdisk" | "enaSupport" | "groupSet"
        | "sourceDestCheck" | "sriovNetSupport" => return Err(unsupported(attribute)),
        other => {
            return Err(errors::invalid_value("attribute", &other, "This attribute cannot be changed."));
        }
    })
}

fn user_data(bytes: Vec<u8>) -> Result<InstanceChange, ApiError> {
    launch::user_data_bounded(&bytes)?;
    Ok(InstanceChange::UserData(bytes))
}

fn flag(value: &str) -> Result<bool, ApiError> {
    Ok(parse::word("value", &value.to_ascii_lowercase(), &["true", "false"])? == "true")
}

fn missing(parameter: &str) -> ApiError {
    let message = format!("The request must contain the parameter {parameter}");
    ApiError::new(codes::MISSING_PARAMETER, message)
}

fn unsupported(attribute: &str) -> ApiError {
    errors::unsupported(format!("The attribute {attribute} is not supported by Nephos yet."))
}
