//! The table of AWS error codes in use, each with its HTTP status and whose fault it is.
//!
//! Sources: "Error codes for the Amazon EC2 API", and the "Common Errors" page of each other service. EC2 answers
//! 400 for nearly all client errors; what differs is marked.

use crate::error::Fault;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code that clients match.
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Whose fault it is.
    pub fault: Fault,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $name:literal $status:literal $fault:ident;)*) => {
        $($(#[$doc])* pub const $constant: Code = Code { name: $name, status: $status, fault: Fault::$fault };)*

        /// Every row.
        pub const ALL: &[Code] = &[$($constant),*];
    };
}

codes! {
    // The request itself.
    /// AWS has no such operation.
    INVALID_ACTION = "InvalidAction" 400 Sender;
    /// AWS has no such operation (JSON services).
    UNKNOWN_OPERATION_EXCEPTION = "UnknownOperationException" 400 Sender;
    /// AWS has the operation or parameter, Nephos does not yet.
    UNSUPPORTED_OPERATION = "UnsupportedOperation" 400 Sender;
    /// The service has no such API version.
    NO_SUCH_VERSION = "NoSuchVersion" 400 Sender;
    /// The request names no operation.
    MISSING_ACTION = "MissingAction" 400 Sender;
    /// A form or query string that cannot be read.
    MALFORMED_QUERY_STRING = "MalformedQueryString" 400 Sender;
    /// The request is larger than the service reads.
    REQUEST_ENTITY_TOO_LARGE = "RequestEntityTooLarge" 413 Sender;
    /// A body that is not the JSON that the operation takes.
    SERIALIZATION_EXCEPTION = "SerializationException" 400 Sender;
    /// A member that fails the operation's constraints (JSON services).
    VALIDATION_EXCEPTION = "ValidationException" 400 Sender;
    /// A parameter that AWS does not have.
    UNKNOWN_PARAMETER = "UnknownParameter" 400 Sender;
    /// A required parameter is missing.
    MISSING_PARAMETER = "MissingParameter" 400 Sender;
    /// A value that cannot be right.
    INVALID_PARAMETER_VALUE = "InvalidParameterValue" 400 Sender;
    /// Parameters that exclude each other.
    INVALID_PARAMETER_COMBINATION = "InvalidParameterCombination" 400 Sender;
    /// A NextToken that we did not give out.
    INVALID_NEXT_TOKEN = "InvalidNextToken" 400 Sender;
    /// The same ClientToken with other parameters.
    IDEMPOTENT_PARAMETER_MISMATCH = "IdempotentParameterMismatch" 400 Sender;
    /// The answer to DryRun when the request would have succeeded (412, not 400).
    DRY_RUN_OPERATION = "DryRunOperation" 412 Sender;
    /// A filter that the operation does not have.
    INVALID_FILTER = "InvalidFilter" 400 Sender;

    // Who asks.
    /// EC2's answer to unknown keys and wrong signatures (401).
    AUTH_FAILURE = "AuthFailure" 401 Sender;
    /// The caller may not do this (403 in EC2).
    UNAUTHORIZED_OPERATION = "UnauthorizedOperation" 403 Sender;
    /// The caller may not do this (awsQuery services other than EC2).
    ACCESS_DENIED = "AccessDenied" 403 Sender;
    /// The caller may not do this (JSON services).
    ACCESS_DENIED_EXCEPTION = "AccessDeniedException" 400 Sender;
    /// The signature is not what we compute (awsQuery services).
    SIGNATURE_DOES_NOT_MATCH = "SignatureDoesNotMatch" 403 Sender;
    /// The signature is not what we compute (JSON services).
    INVALID_SIGNATURE_EXCEPTION = "InvalidSignatureException" 400 Sender;
    /// The signature lacks a part.
    INCOMPLETE_SIGNATURE = "IncompleteSignature" 400 Sender;
    /// The signature lacks a part (JSON services).
    INCOMPLETE_SIGNATURE_EXCEPTION = "IncompleteSignatureException" 400 Sender;
    /// The request is not signed at all.
    MISSING_AUTHENTICATION_TOKEN = "MissingAuthenticationToken" 403 Sender;
    /// The request is not signed at all (JSON services).
    MISSING_AUTHENTICATION_TOKEN_EXCEPTION = "MissingAuthenticationTokenException" 400 Sender;
    /// No such access key (awsQuery services).
    INVALID_CLIENT_TOKEN_ID = "InvalidClientTokenId" 403 Sender;
    /// No such access key, or a wrong session token (JSON services).
    UNRECOGNIZED_CLIENT_EXCEPTION = "UnrecognizedClientException" 400 Sender;
    /// The request's time is too far from ours, or its presigned life is over.
    REQUEST_EXPIRED = "RequestExpired" 400 Sender;
    /// The session token's life is over (awsQuery services).
    EXPIRED_TOKEN = "ExpiredToken" 403 Sender;
    /// The session token's life is over (JSON services).
    EXPIRED_TOKEN_EXCEPTION = "ExpiredTokenException" 400 Sender;
    /// The region is not enabled, or the account is not active.
    OPT_IN_REQUIRED = "OptInRequired" 401 Sender;

    // Instances and images.
    /// No such instance.
    INVALID_INSTANCE_ID_NOT_FOUND = "InvalidInstanceID.NotFound" 400 Sender;
    /// Not an instance id.
    INVALID_INSTANCE_ID_MALFORMED = "InvalidInstanceID.Malformed" 400 Sender;
    /// The instance is in a state in which this cannot be done.
    INCORRECT_INSTANCE_STATE = "IncorrectInstanceState" 400 Sender;
    /// The instance is protected, or not of the kind for this operation.
    OPERATION_NOT_PERMITTED = "OperationNotPermitted" 400 Sender;
    /// No such image.
    INVALID_AMI_ID_NOT_FOUND = "InvalidAMIID.NotFound" 400 Sender;
    /// Not an image id.
    INVALID_AMI_ID_MALFORMED = "InvalidAMIID.Malformed" 400 Sender;
    /// The image cannot be used.
    INVALID_AMI_ID_UNAVAILABLE = "InvalidAMIID.Unavailable" 400 Sender;
    /// No such instance type.
    INVALID_INSTANCE_TYPE = "InvalidInstanceType" 400 Sender;
    /// The instance type is unknown to RunInstances or to the filters of DescribeInstanceTypes.
    UNSUPPORTED = "Unsupported" 400 Sender;
    /// More instances than the account may have.
    INSTANCE_LIMIT_EXCEEDED = "InstanceLimitExceeded" 400 Sender;
    /// More virtual processors than the account may have.
    VCPU_LIMIT_EXCEEDED = "VcpuLimitExceeded" 400 Sender;
    /// User data that is not base64, or too large.
    INVALID_USER_DATA_MALFORMED = "InvalidUserData.Malformed" 400 Sender;
    /// No such zone.
    INVALID_ZONE_NOT_FOUND = "InvalidZone.NotFound" 400 Sender;

    // Keys, tags, network.
    /// No such key pair.
    INVALID_KEY_PAIR_NOT_FOUND = "InvalidKeyPair.NotFound" 400 Sender;
    /// The key pair exists already.
    INVALID_KEY_PAIR_DUPLICATE = "InvalidKeyPair.Duplicate" 400 Sender;
    /// Not a key pair's format.
    INVALID_KEY_FORMAT = "InvalidKey.Format" 400 Sender;
    /// No resource of this id.
    INVALID_ID = "InvalidID" 400 Sender;
    /// More than 50 tags.
    TAG_LIMIT_EXCEEDED = "TagLimitExceeded" 400 Sender;
    /// No such VPC.
    INVALID_VPC_ID_NOT_FOUND = "InvalidVpcID.NotFound" 400 Sender;
    /// Not a VPC id.
    INVALID_VPC_ID_MALFORMED = "InvalidVpcID.Malformed" 400 Sender;
    /// No such subnet.
    INVALID_SUBNET_ID_NOT_FOUND = "InvalidSubnetID.NotFound" 400 Sender;
    /// No such security group.
    INVALID_GROUP_NOT_FOUND = "InvalidGroup.NotFound" 400 Sender;
    /// Not a security group id.
    INVALID_GROUP_ID_MALFORMED = "InvalidGroupId.Malformed" 400 Sender;
    /// Something else still uses it.
    DEPENDENCY_VIOLATION = "DependencyViolation" 400 Sender;
    /// Not a security group rule's id.
    INVALID_SECURITY_GROUP_RULE_ID_MALFORMED = "InvalidSecurityGroupRuleId.Malformed" 400 Sender;
    /// No such rule.
    INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND = "InvalidSecurityGroupRuleId.NotFound" 400 Sender;
    /// A group of that name exists in the VPC.
    INVALID_GROUP_DUPLICATE = "InvalidGroup.Duplicate" 400 Sender;
    /// The group cannot be deleted at all.
    CANNOT_DELETE = "CannotDelete" 400 Sender;
    /// The group has the rule.
    INVALID_PERMISSION_DUPLICATE = "InvalidPermission.Duplicate" 400 Sender;
    /// The group does not have the rule.
    INVALID_PERMISSION_NOT_FOUND = "InvalidPermission.NotFound" 400 Sender;
    /// Not a rule.
    INVALID_PERMISSION_MALFORMED = "InvalidPermission.Malformed" 400 Sender;
    /// More rules than a group may have.
    RULES_PER_SECURITY_GROUP_LIMIT_EXCEEDED = "RulesPerSecurityGroupLimitExceeded" 400 Sender;
    /// More groups than an account may have.
    SECURITY_GROUP_LIMIT_EXCEEDED = "SecurityGroupLimitExceeded" 400 Sender;
    /// More groups than an interface may have.
    SECURITY_GROUPS_PER_INTERFACE_LIMIT_EXCEEDED = "SecurityGroupsPerInterfaceLimitExceeded" 400 Sender;
    /// A range that a VPC cannot have.
    INVALID_VPC_RANGE = "InvalidVpc.Range" 400 Sender;
    /// A range that a subnet cannot have.
    INVALID_SUBNET_RANGE = "InvalidSubnet.Range" 400 Sender;
    /// Another subnet has it.
    INVALID_SUBNET_CONFLICT = "InvalidSubnet.Conflict" 400 Sender;
    /// The account has no default VPC, and the request names none.
    VPC_ID_NOT_SPECIFIED = "VPCIdNotSpecified" 400 Sender;
    /// Something that has no default is not named.
    MISSING_INPUT = "MissingInput" 400 Sender;
    /// The account has one.
    DEFAULT_VPC_ALREADY_EXISTS = "DefaultVpcAlreadyExists" 400 Sender;
    /// The account has none.
    DEFAULT_VPC_DOES_NOT_EXIST = "DefaultVpcDoesNotExist" 400 Sender;
    /// The zone has one.
    DEFAULT_SUBNET_ALREADY_EXISTS = "DefaultSubnetAlreadyExistsInAvailabilityZone" 400 Sender;
    /// No such association of a range.
    INVALID_CIDR_ASSOCIATION_ID_NOT_FOUND = "InvalidVpcCidrBlockAssociationID.NotFound" 400 Sender;
    /// No such association.
    INVALID_ASSOCIATION_ID_NOT_FOUND = "InvalidAssociationID.NotFound" 400 Sender;
    /// It is attached or associated already.
    RESOURCE_ALREADY_ASSOCIATED = "Resource.AlreadyAssociated" 400 Sender;
    /// The gateway is not attached to that VPC.
    GATEWAY_NOT_ATTACHED = "Gateway.NotAttached" 400 Sender;
    /// No such route table.
    INVALID_ROUTE_TABLE_ID_NOT_FOUND = "InvalidRouteTableID.NotFound" 400 Sender;
    /// Not a route table's id.
    INVALID_ROUTE_TABLE_ID_MALFORMED = "InvalidRouteTableId.Malformed" 400 Sender;
    /// No such route.
    INVALID_ROUTE_NOT_FOUND = "InvalidRoute.NotFound" 400 Sender;
    /// The route table has a route there.
    ROUTE_ALREADY_EXISTS = "RouteAlreadyExists" 400 Sender;
    /// No such internet gateway.
    INVALID_INTERNET_GATEWAY_ID_NOT_FOUND = "InvalidInternetGatewayID.NotFound" 400 Sender;
    /// Not an internet gateway's id.
    INVALID_INTERNET_GATEWAY_ID_MALFORMED = "InvalidInternetGatewayId.Malformed" 400 Sender;
    /// No such set of DHCP options.
    INVALID_DHCP_OPTIONS_ID_NOT_FOUND = "InvalidDhcpOptionsID.NotFound" 400 Sender;
    /// Not the id of a set of DHCP options.
    INVALID_DHCP_OPTIONS_ID_MALFORMED = "InvalidDhcpOptionsId.Malformed" 400 Sender;
    /// No such network ACL.
    INVALID_NETWORK_ACL_ID_NOT_FOUND = "InvalidNetworkAclID.NotFound" 400 Sender;
    /// Not a network ACL's id.
    INVALID_NETWORK_ACL_ID_MALFORMED = "InvalidNetworkAclId.Malformed" 400 Sender;
    /// No such entry.
    INVALID_NETWORK_ACL_ENTRY_NOT_FOUND = "InvalidNetworkAclEntry.NotFound" 400 Sender;
    /// The ACL has an entry of that number.
    NETWORK_ACL_ENTRY_ALREADY_EXISTS = "NetworkAclEntryAlreadyExists" 400 Sender;
    /// More than there may be.
    VPC_LIMIT_EXCEEDED = "VpcLimitExceeded" 400 Sender;
    /// More than there may be.
    CIDR_LIMIT_EXCEEDED = "CidrLimitExceeded" 400 Sender;
    /// More than there may be.
    SUBNET_LIMIT_EXCEEDED = "SubnetLimitExceeded" 400 Sender;
    /// More than there may be.
    ROUTE_TABLE_LIMIT_EXCEEDED = "RouteTableLimitExceeded" 400 Sender;
    /// More than there may be.
    ROUTE_LIMIT_EXCEEDED = "RouteLimitExceeded" 400 Sender;
    /// More than there may be.
    INTERNET_GATEWAY_LIMIT_EXCEEDED = "InternetGatewayLimitExceeded" 400 Sender;
    /// More than there may be.
    DHCP_OPTIONS_LIMIT_EXCEEDED = "DhcpOptionsLimitExceeded" 400 Sender;
    /// More than there may be.
    NETWORK_ACL_LIMIT_EXCEEDED = "NetworkAclLimitExceeded" 400 Sender;
    /// More than there may be.
    NETWORK_ACL_ENTRY_LIMIT_EXCEEDED = "NetworkAclEntryLimitExceeded" 400 Sender;
    /// No such network interface.
    INVALID_NETWORK_INTERFACE_ID_NOT_FOUND = "InvalidNetworkInterfaceID.NotFound" 400 Sender;
    /// Not a network interface's id.
    INVALID_NETWORK_INTERFACE_ID_MALFORMED = "InvalidNetworkInterfaceId.Malformed" 400 Sender;
    /// The interface is attached.
    INVALID_NETWORK_INTERFACE_IN_USE = "InvalidNetworkInterface.InUse" 400 Sender;
    /// No such attachment.
    INVALID_ATTACHMENT_ID_NOT_FOUND = "InvalidAttachmentID.NotFound" 400 Sender;
    /// The address is somebody's.
    INVALID_IP_ADDRESS_IN_USE = "InvalidIPAddress.InUse" 400 Sender;
    /// No such elastic address.
    INVALID_ADDRESS_NOT_FOUND = "InvalidAddress.NotFound" 400 Sender;
    /// No such allocation.
    INVALID_ALLOCATION_ID_NOT_FOUND = "InvalidAllocationID.NotFound" 400 Sender;
    /// The subnet has not enough free addresses.
    INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET = "InsufficientFreeAddressesInSubnet" 400 Sender;
    /// More than there may be.
    NETWORK_INTERFACE_LIMIT_EXCEEDED = "NetworkInterfaceLimitExceeded" 400 Sender;
    /// More than there may be.
    ATTACHMENT_LIMIT_EXCEEDED = "AttachmentLimitExceeded" 400 Sender;
    /// More than there may be.
    PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED = "PrivateIpAddressLimitExceeded" 400 Sender;
    /// More than there may be.
    ADDRESS_LIMIT_EXCEEDED = "AddressLimitExceeded" 400 Sender;
    /// The region has no public address left (AWS counts it among the client's).
    INSUFFICIENT_ADDRESS_CAPACITY = "InsufficientAddressCapacity" 400 Sender;
    /// A quota of the account, of a kind that has no code of its own.
    RESOURCE_LIMIT_EXCEEDED = "ResourceLimitExceeded" 400 Sender;

    // Service Quotas.
    /// No such service or quota.
    NO_SUCH_RESOURCE_EXCEPTION = "NoSuchResourceException" 400 Sender;
    /// An argument that the operation refuses.
    ILLEGAL_ARGUMENT_EXCEPTION = "IllegalArgumentException" 400 Sender;
    /// A page token that is not ours.
    INVALID_PAGINATION_TOKEN_EXCEPTION = "InvalidPaginationTokenException" 400 Sender;

    // Ours. EC2 lists capacity among its server errors.
    /// The cloud has no room for it now (500 in EC2).
    INSUFFICIENT_INSTANCE_CAPACITY = "InsufficientInstanceCapacity" 500 Receiver;
    /// A defect.
    INTERNAL_ERROR = "InternalError" 500 Receiver;
    /// A defect (JSON services).
    SERVICE_EXCEPTION = "ServiceException" 500 Receiver;
    /// Something needed is not answering.
    UNAVAILABLE = "Unavailable" 503 Receiver;
    /// The service is not answering (awsQuery services other than EC2).
    SERVICE_UNAVAILABLE = "ServiceUnavailable" 503 Receiver;
    /// Too many requests (503 in EC2).
    REQUEST_LIMIT_EXCEEDED = "RequestLimitExceeded" 503 Sender;
    /// Too many requests (awsQuery services other than EC2).
    THROTTLING = "Throttling" 400 Sender;
    /// Too many requests (JSON services; 429 in Service Quotas).
    TOO_MANY_REQUESTS_EXCEPTION = "TooManyRequestsException" 429 Sender;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once_and_the_server_faults_are_5xx() {
        let mut names: Vec<_> = ALL.iter().map(|code| code.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for code in ALL.iter().filter(|code| code.fault == Fault::Receiver) {
            assert!(code.status >= 500, "{code:?}");
        }
    }
}
