//! The table from refusals to AWS's error codes and words, and the errors that several operations give.
//!
//! Clients match codes by string and people read the messages, so both are pinned by a test of every variant.
//! Sources: Amazon EC2 API Reference, "Error codes for the Amazon EC2 API"; the words are those that EC2 answers.

use crate::refusal::{Limit, NetworkRefusal, Refusal};
use aws::ApiError;
use aws::codes::{self, Code};
use std::fmt::Display;

/// The most characters of a client's own text that an error repeats.
const SHOWN_MAX: usize = 128;

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::AccountNotFound(account) => ApiError::new(
                codes::AUTH_FAILURE,
                format!("The account {account} does not exist in this region"),
            ),
            Refusal::InstancesNotFound(ids) => instances_not_found(&ids),
            Refusal::IncorrectState { instance, wanted, .. } => ApiError::new(
                codes::INCORRECT_INSTANCE_STATE,
                format!("The instance '{instance}' is not in a state from which it can be {wanted}."),
            ),
            Refusal::NotStopped(instance) => ApiError::new(
                codes::INCORRECT_INSTANCE_STATE,
                format!("The instance '{instance}' is not in the 'stopped' state."),
            ),
            Refusal::TerminationProtected(instance) => ApiError::new(
                codes::OPERATION_NOT_PERMITTED,
                format!(
                    "The instance '{instance}' may not be terminated. Modify its 'disableApiTermination' \
                     instance attribute and try again."
                ),
            ),
            Refusal::StopProtected { instance, wanted } => ApiError::new(
                codes::OPERATION_NOT_PERMITTED,
                format!(
                    "The instance '{instance}' may not be {wanted}. Modify its 'disableApiStop' instance \
                     attribute and try again."
                ),
            ),
            Refusal::TokenMismatch(token) => ApiError::new(
                codes::IDEMPOTENT_PARAMETER_MISMATCH,
                format!(
                    "The client token '{}' was used before with other parameters; arguments on this idempotent \
                     request are inconsistent with arguments used in previous requests.",
                    shown(&token)
                ),
            ),
            Refusal::TokenInstanceTerminated(token) => ApiError::client(
                "IdempotentInstanceTerminated",
                format!(
                    "The instances that the client token '{}' launched have been terminated; use another token.",
                    shown(&token)
                ),
            ),
            Refusal::TooLarge => ApiError::new(
                codes::INVALID_PARAMETER_VALUE,
                "The request changes more at once than can be changed together; name fewer resources.",
            ),
            Refusal::VcpuQuota { wanted, used, limit } => ApiError::new(
                codes::VCPU_LIMIT_EXCEEDED,
                format!(
                    "You have requested more vCPU capacity than your current vCPU limit of {limit} allows: \
                     {used} are in use and the request needs {wanted} more."
                ),
            ),
            Refusal::InsufficientCapacity(why) => ApiError::new(codes::INSUFFICIENT_INSTANCE_CAPACITY, why),
            Refusal::KeyPairNotFound(name) => key_pair_not_found(&name),
            Refusal::KeyPairExists(name) => ApiError::new(
                codes::INVALID_KEY_PAIR_DUPLICATE,
                format!("The keypair '{}' already exists.", shown(&name)),
            ),
            Refusal::ResourceNotFound(resource) => resource_not_found(&resource),
            Refusal::TooManyTags { resource, max, .. } => ApiError::new(
                codes::TAG_LIMIT_EXCEEDED,
                format!(
                    "The maximum number of tags for a resource is {max}; '{}' would have more.",
                    shown(&resource)
                ),
            ),
            Refusal::Network(refusal) => ApiError::new(network_code(&refusal), refusal.to_string()),
            Refusal::TokenResourceGone(token) => ApiError::new(
                codes::IDEMPOTENT_PARAMETER_MISMATCH,
                format!("What the client token '{}' made is gone; use another token.", shown(&token)),
            ),
            Refusal::Busy => ApiError::new(codes::REQUEST_LIMIT_EXCEEDED, "Request limit exceeded."),
            Refusal::StoreFull(why) => {
                tracing::error!(%why, "a request was refused because the region's store is full");
                ApiError::new(
                    codes::UNAVAILABLE,
                    "The region's metadata store is full. Nothing was changed; terminations are still taken. Send \
                     the request again when there is room.",
                )
            }
            Refusal::StoreFailed(why) => {
                tracing::error!(%why, "a request failed because the region's store cannot be written");
                ApiError::new(
                    codes::UNAVAILABLE,
                    "The region cannot store changes now. The request may or may not have been carried out; \
                     send it again, with the same client token if it has one.",
                )
            }
        }
    }
}

/// AWS's code for a refusal of the network; its words are the refusal's own.
fn network_code(refusal: &NetworkRefusal) -> Code {
    match refusal {
        NetworkRefusal::InUse { .. } | NetworkRefusal::Dependency(_) => codes::DEPENDENCY_VIOLATION,
        NetworkRefusal::Limit { limit, .. } => match limit {
            Limit::Vpcs => codes::VPC_LIMIT_EXCEEDED,
            Limit::Ranges => codes::CIDR_LIMIT_EXCEEDED,
            Limit::Subnets => codes::SUBNET_LIMIT_EXCEEDED,
            Limit::RouteTables => codes::ROUTE_TABLE_LIMIT_EXCEEDED,
            Limit::Routes => codes::ROUTE_LIMIT_EXCEEDED,
            Limit::InternetGateways => codes::INTERNET_GATEWAY_LIMIT_EXCEEDED,
            Limit::DhcpOptions => codes::DHCP_OPTIONS_LIMIT_EXCEEDED,
            Limit::NetworkAcls => codes::NETWORK_ACL_LIMIT_EXCEEDED,
            Limit::AclEntries => codes::NETWORK_ACL_ENTRY_LIMIT_EXCEEDED,
            Limit::SecurityGroups => codes::SECURITY_GROUP_LIMIT_EXCEEDED,
            Limit::Rules => codes::RULES_PER_SECURITY_GROUP_LIMIT_EXCEEDED,
            Limit::Interfaces => codes::NETWORK_INTERFACE_LIMIT_EXCEEDED,
            Limit::InterfaceGroups => codes::SECURITY_GROUPS_PER_INTERFACE_LIMIT_EXCEEDED,
            Limit::Attachments => codes::ATTACHMENT_LIMIT_EXCEEDED,
            Limit::Addresses => codes::PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED,
            Limit::ElasticAddresses => codes::ADDRESS_LIMIT_EXCEEDED,
        },
        NetworkRefusal::VpcRange(_) | NetworkRefusal::VpcRangeTaken(_) => codes::INVALID_VPC_RANGE,
        NetworkRefusal::SubnetRange(_) => codes::INVALID_SUBNET_RANGE,
        NetworkRefusal::SubnetConflict(_) => codes::INVALID_SUBNET_CONFLICT,
        NetworkRefusal::NoDefaultVpc => codes::VPC_ID_NOT_SPECIFIED,
        NetworkRefusal::DefaultVpcExists => codes::DEFAULT_VPC_ALREADY_EXISTS,
        NetworkRefusal::DefaultVpcMissing => codes::DEFAULT_VPC_DOES_NOT_EXIST,
        NetworkRefusal::DefaultSubnetExists(_) => codes::DEFAULT_SUBNET_ALREADY_EXISTS,
        NetworkRefusal::NoDefaultSubnet(_) => codes::MISSING_INPUT,
        NetworkRefusal::NotPermitted(_) => codes::OPERATION_NOT_PERMITTED,
        NetworkRefusal::Value(_) => codes::INVALID_PARAMETER_VALUE,
        NetworkRefusal::Combination(_) => codes::INVALID_PARAMETER_COMBINATION,
        NetworkRefusal::AlreadyAssociated(_) => codes::RESOURCE_ALREADY_ASSOCIATED,
        NetworkRefusal::NotAttached(..) => codes::GATEWAY_NOT_ATTACHED,
        NetworkRefusal::GatewayExists(_) => codes::INVALID_PARAMETER_VALUE,
        NetworkRefusal::AssociationNotFound(_) => codes::INVALID_ASSOCIATION_ID_NOT_FOUND,
        NetworkRefusal::RangeAssociationNotFound(_) => codes::INVALID_CIDR_ASSOCIATION_ID_NOT_FOUND,
        NetworkRefusal::RouteExists(_) => codes::ROUTE_ALREADY_EXISTS,
        NetworkRefusal::RouteNotFound(..) => codes::INVALID_ROUTE_NOT_FOUND,
        NetworkRefusal::AclEntryExists(_) => codes::NETWORK_ACL_ENTRY_ALREADY_EXISTS,
        NetworkRefusal::AclEntryNotFound(_) => codes::INVALID_NETWORK_ACL_ENTRY_NOT_FOUND,
        NetworkRefusal::GroupExists(..) => codes::INVALID_GROUP_DUPLICATE,
        NetworkRefusal::GroupNameNotFound(..) => codes::INVALID_GROUP_NOT_FOUND,
        NetworkRefusal::DefaultGroup(_) => codes::CANNOT_DELETE,
        NetworkRefusal::GroupInUse(_) => codes::DEPENDENCY_VIOLATION,
        NetworkRefusal::Groups(_) => codes::INVALID_PARAMETER_VALUE,
        NetworkRefusal::RuleExists(_) => codes::INVALID_PERMISSION_DUPLICATE,
        NetworkRefusal::RuleNotFound(_) => codes::INVALID_PERMISSION_NOT_FOUND,
        NetworkRefusal::RuleIdNotFound(_) => codes::INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND,
        NetworkRefusal::InterfaceInUse(_) => codes::INVALID_NETWORK_INTERFACE_IN_USE,
        NetworkRefusal::AddressInUse(_) => codes::INVALID_IP_ADDRESS_IN_USE,
        NetworkRefusal::SubnetFull(_) => codes::INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET,
        NetworkRefusal::AttachmentNotFound(_) => codes::INVALID_ATTACHMENT_ID_NOT_FOUND,
        NetworkRefusal::AddressNotFound(_) => codes::INVALID_ADDRESS_NOT_FOUND,
        NetworkRefusal::PublicAddressesExhausted => codes::INSUFFICIENT_ADDRESS_CAPACITY,
        NetworkRefusal::VnisExhausted | NetworkRefusal::Ipv6RangesExhausted => codes::RESOURCE_LIMIT_EXCEEDED,
    }
}

/// `InvalidInstanceID.NotFound`.
pub fn instances_not_found(ids: &[impl Display]) -> ApiError {
    ApiError::new(codes::INVALID_INSTANCE_ID_NOT_FOUND, not_existing("instance ID", ids))
}

/// `InvalidKeyPair.NotFound`, by name or id.
pub fn key_pair_not_found(name: &str) -> ApiError {
    ApiError::new(codes::INVALID_KEY_PAIR_NOT_FOUND, format!("The key pair '{}' does not exist", shown(name)))
}

/// `InvalidAMIID.NotFound`.
pub fn images_not_found(ids: &[impl Display]) -> ApiError {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let plural = if ids.len() == 1 { "id" } else { "ids" };
    let verb = if ids.len() == 1 { "does" } else { "do" };
    let message = format!("The image {plural} '[{}]' {verb} not exist", ids.join(", "));
    ApiError::new(codes::INVALID_AMI_ID_NOT_FOUND, message)
}

/// `InvalidGroup.NotFound`, by name or id.
pub fn security_group_not_found(group: &str) -> ApiError {
    let message = format!("The security group '{}' does not exist", shown(group));
    ApiError::new(codes::INVALID_GROUP_NOT_FOUND, message)
}

/// A kind of resource by its ids' prefix: AWS's noun for it, and its codes for ids that do not exist and that cannot.
const KINDS: [(&str, &str, Code, Code); 11] = [
    (
        "acl-",
        "networkAcl ID",
        codes::INVALID_NETWORK_ACL_ID_NOT_FOUND,
        codes::INVALID_NETWORK_ACL_ID_MALFORMED,
    ),
    (
        "dopt-",
        "DhcpOptions ID",
        codes::INVALID_DHCP_OPTIONS_ID_NOT_FOUND,
        codes::INVALID_DHCP_OPTIONS_ID_MALFORMED,
    ),
    (
        "eipalloc-",
        "allocation ID",
        codes::INVALID_ALLOCATION_ID_NOT_FOUND,
        codes::INVALID_ALLOCATION_ID_NOT_FOUND,
    ),
    (
        "eni-",
        "networkInterface ID",
        codes::INVALID_NETWORK_INTERFACE_ID_NOT_FOUND,
        codes::INVALID_NETWORK_INTERFACE_ID_MALFORMED,
    ),
    (
        "igw-",
        "internetGateway ID",
        codes::INVALID_INTERNET_GATEWAY_ID_NOT_FOUND,
        codes::INVALID_INTERNET_GATEWAY_ID_MALFORMED,
    ),
    ("key-", "key pair", codes::INVALID_KEY_PAIR_NOT_FOUND, codes::INVALID_KEY_PAIR_NOT_FOUND),
    (
        "rtb-",
        "routeTable ID",
        codes::INVALID_ROUTE_TABLE_ID_NOT_FOUND,
        codes::INVALID_ROUTE_TABLE_ID_MALFORMED,
    ),
    ("sg-", "security group", codes::INVALID_GROUP_NOT_FOUND, codes::INVALID_GROUP_ID_MALFORMED),
    (
        "sgr-",
        "security group rule ID",
        codes::INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND,
        codes::INVALID_SECURITY_GROUP_RULE_ID_MALFORMED,
    ),
    // AWS has no code of its own for a subnet id that is malformed.
    ("subnet-", "subnet ID", codes::INVALID_SUBNET_ID_NOT_FOUND, codes::INVALID_SUBNET_ID_NOT_FOUND),
    ("vpc-", "vpc ID", codes::INVALID_VPC_ID_NOT_FOUND, codes::INVALID_VPC_ID_MALFORMED),
];

/// The error for a resource that does not exist: the code of its kind, which its id's prefix tells.
pub fn resource_not_found(id: &str) -> ApiError {
    match id.split_once('-').map(|(kind, _)| kind) {
        Some("i") => return instances_not_found(&[shown(id)]),
        Some("ami") => return images_not_found(&[shown(id)]),
        _ => {}
    }
    match KINDS.iter().find(|(prefix, ..)| id.starts_with(prefix)) {
        Some((_, noun, code, _)) => {
            ApiError::new(*code, format!("The {noun} '{}' does not exist", shown(id)))
        }
        None => ApiError::new(codes::INVALID_ID, format!("The ID '{}' is not valid", shown(id))),
    }
}

/// The error for an id that cannot be one of the kind with this prefix.
pub fn resource_malformed(prefix: &str, id: &str) -> ApiError {
    match KINDS.iter().find(|(other, ..)| *other == prefix) {
        Some((_, noun, not_found, malformed)) if not_found == malformed => {
            ApiError::new(*not_found, format!("The {noun} '{}' does not exist", shown(id)))
        }
        Some((.., malformed)) => {
            let message = format!("Invalid id: \"{}\" (expecting \"{prefix}...\")", shown(id));
            ApiError::new(*malformed, message)
        }
        None => ApiError::new(codes::INVALID_ID, format!("The ID '{}' is not valid", shown(id))),
    }
}

/// `InvalidParameterValue` for a parameter, as AWS names it.
pub fn invalid_value(parameter: &str, value: &dyn Display, reason: &str) -> ApiError {
    let value = value.to_string();
    let message = format!("Value ({}) for parameter {parameter} is invalid. {reason}", shown(&value));
    ApiError::new(codes::INVALID_PARAMETER_VALUE, message)
}

/// `InvalidParameterCombination`: two parameters that exclude each other.
pub fn excluded(one: &str, other: &str) -> ApiError {
    let message = format!("The parameter {one} cannot be used with the parameter {other}");
    ApiError::new(codes::INVALID_PARAMETER_COMBINATION, message)
}

/// `UnsupportedOperation`, with a sentence that says what is not there yet.
pub fn unsupported(message: impl Into<String>) -> ApiError {
    ApiError::new(codes::UNSUPPORTED_OPERATION, message)
}

/// The start of a client's text, so that an error is never much longer than a sentence.
pub fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_MAX).map_or(text, |(end, _)| &text[..end])
}

fn not_existing(noun: &str, ids: &[impl Display]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match ids.as_slice() {
        [one] => format!("The {noun} '{one}' does not exist"),
        many => format!("The {noun}s '{}' do not exist", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::state::State;
    use base::ids::{AccountId, InstanceId};

    #[test]
    fn every_refusal_has_aws_s_code_and_words() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let other: InstanceId = "i-0123456789abcdef1".parse().unwrap();
        let account = AccountId::from_number(42).unwrap();
        let cases = [
            (
                Refusal::AccountNotFound(account),
                "401 AuthFailure: The account 000000000042 does not exist in this region",
            ),
            (
                Refusal::InstancesNotFound(vec![id]),
                "400 InvalidInstanceID.NotFound: The instance ID 'i-0123456789abcdef0' does not exist",
            ),
            (
                Refusal::InstancesNotFound(vec![id, other]),
                "400 InvalidInstanceID.NotFound: The instance IDs 'i-0123456789abcdef0, i-0123456789abcdef1' do not \
                 exist",
            ),
            (
                Refusal::IncorrectState { instance: id, state: State::Pending, wanted: "started" },
                "400 IncorrectInstanceState: The instance 'i-0123456789abcdef0' is not in a state from which it can \
                 be started.",
            ),
            (
                Refusal::NotStopped(id),
                "400 IncorrectInstanceState: The instance 'i-0123456789abcdef0' is not in the 'stopped' state.",
            ),
            (
                Refusal::TerminationProtected(id),
                "400 OperationNotPermitted: The instance 'i-0123456789abcdef0' may not be terminated. Modify its \
                 'disableApiTermination' instance attribute and try again.",
            ),
            (
                Refusal::StopProtected { instance: id, wanted: "stopped" },
                "400 OperationNotPermitted: The instance 'i-0123456789abcdef0' may not be stopped. Modify its \
                 'disableApiStop' instance attribute and try again.",
            ),
            (
                Refusal::TokenMismatch("t".into()),
                "400 IdempotentParameterMismatch: The client token 't' was used before with other parameters; \
                 arguments on this idempotent request are inconsistent with arguments used in previous requests.",
            ),
            (
                Refusal::VcpuQuota { wanted: 4, used: 62, limit: 64 },
                "400 VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 64 \
                 allows: 62 are in use and the request needs 4 more.",
            ),
            (Refusal::InsufficientCapacity("No room.".into()), "500 InsufficientInstanceCapacity: No room."),
            (
                Refusal::KeyPairNotFound("web".into()),
                "400 InvalidKeyPair.NotFound: The key pair 'web' does not exist",
            ),
            (
                Refusal::KeyPairExists("web".into()),
                "400 InvalidKeyPair.Duplicate: The keypair 'web' already exists.",
            ),
            (
                Refusal::ResourceNotFound("i-0123456789abcdef0".into()),
                "400 InvalidInstanceID.NotFound: The instance ID 'i-0123456789abcdef0' does not exist",
            ),
            (
                Refusal::ResourceNotFound("ami-0123456789abcdef0".into()),
                "400 InvalidAMIID.NotFound: The image id '[ami-0123456789abcdef0]' does not exist",
            ),
            (
                Refusal::ResourceNotFound("sg-0123456789abcdef0".into()),
                "400 InvalidGroup.NotFound: The security group 'sg-0123456789abcdef0' does not exist",
            ),
            (Refusal::ResourceNotFound("what".into()), "400 InvalidID: The ID 'what' is not valid"),
            (
                Refusal::TooManyTags { resource: "vpc-1".into(), count: 51, max: 50 },
                "400 TagLimitExceeded: The maximum number of tags for a resource is 50; 'vpc-1' would have more.",
            ),
            (Refusal::Busy, "503 RequestLimitExceeded: Request limit exceeded."),
            (
                Refusal::StoreFull("8 GiB".into()),
                "503 Unavailable: The region's metadata store is full. Nothing was changed; terminations are still \
                 taken. Send the request again when there is room.",
            ),
            (
                Refusal::StoreFailed("disk on fire".into()),
                "503 Unavailable: The region cannot store changes now. The request may or may not have been carried \
                 out; send it again, with the same client token if it has one.",
            ),
        ];
        for (refusal, expected) in cases {
            let error = ApiError::from(refusal);
            assert_eq!(format!("{} {error}", error.status), expected);
        }
    }
}
