//! Amazon EC2: the table of its operations, and in the files beside this one their shapes, by noun.
//!
//! A shape holds every member that Nephos reads or can answer truthfully; what else AWS has in a request is named as
//! `unsupported` on the structure. Member names are from AWS's API reference.

mod account;
mod image;
mod instance;
mod instance_attribute;
mod instance_type;
mod key_pair;
mod run_instances;
mod tag;
mod vpc;
mod zone;

pub use account::*;
pub use image::*;
pub use instance::*;
pub use instance_attribute::*;
pub use instance_type::*;
pub use key_pair::*;
pub use run_instances::*;
pub use tag::*;
pub use vpc::*;
pub use zone::*;

use crate::{Shape, service};

service! {
    /// Amazon EC2, version 2016-11-15.
    pub trait Ec2 in SERVICE {
        name: "ec2", protocol: Ec2, version: "2016-11-15",
        namespace: "http://ec2.amazonaws.com/doc/2016-11-15/", target_prefix: "",
        unsupported: "
            AcceptTransitGatewayVpcAttachment AcceptVpcPeeringConnection AllocateAddress
            AllocateHosts AssignIpv6Addresses AssignPrivateIpAddresses AssociateAddress
            AssociateDhcpOptions AssociateIamInstanceProfile AssociateRouteTable
            AssociateSubnetCidrBlock AssociateTransitGatewayRouteTable AssociateVpcCidrBlock
            AttachInternetGateway AttachNetworkInterface AttachVolume AttachVpnGateway
            AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress CancelImportTask
            CancelSpotInstanceRequests CopyImage CopySnapshot CopyVolumes
            CreateCustomerGateway CreateDefaultSubnet CreateDefaultVpc CreateDhcpOptions
            CreateEgressOnlyInternetGateway CreateFleet CreateFlowLogs CreateImage
            CreateInternetGateway CreateLaunchTemplate CreateLaunchTemplateVersion
            CreateManagedPrefixList CreateNatGateway CreateNetworkAcl CreateNetworkAclEntry
            CreateNetworkInterface CreatePlacementGroup CreateRoute CreateRouteTable
            CreateSecurityGroup CreateSnapshot CreateSubnet CreateTransitGateway
            CreateTransitGatewayRoute CreateTransitGatewayRouteTable
            CreateTransitGatewayVpcAttachment CreateVolume CreateVpc CreateVpcEndpoint
            CreateVpcPeeringConnection CreateVpnConnection CreateVpnConnectionRoute
            CreateVpnGateway DeleteCustomerGateway DeleteDhcpOptions
            DeleteEgressOnlyInternetGateway DeleteFlowLogs DeleteInternetGateway
            DeleteLaunchTemplate DeleteLaunchTemplateVersions DeleteManagedPrefixList
            DeleteNatGateway DeleteNetworkAcl DeleteNetworkAclEntry DeleteNetworkInterface
            DeletePlacementGroup DeleteRoute DeleteRouteTable DeleteSecurityGroup
            DeleteSnapshot DeleteSubnet DeleteTransitGateway DeleteTransitGatewayRoute
            DeleteTransitGatewayRouteTable DeleteTransitGatewayVpcAttachment DeleteVolume
            DeleteVpc DeleteVpcEndpoints DeleteVpcPeeringConnection DeleteVpnConnection
            DeleteVpnConnectionRoute DeleteVpnGateway DeregisterImage DescribeAddresses
            DescribeAddressesAttribute DescribeCapacityReservations DescribeCustomerGateways
            DescribeDhcpOptions DescribeEgressOnlyInternetGateways DescribeFastLaunchImages
            DescribeFlowLogs DescribeHosts DescribeIamInstanceProfileAssociations
            DescribeImageAttribute DescribeImportImageTasks DescribeImportSnapshotTasks
            DescribeInstanceCreditSpecifications DescribeInstanceTopology
            DescribeInternetGateways DescribeLaunchTemplateVersions DescribeLaunchTemplates
            DescribeMacHosts DescribeManagedPrefixLists DescribeNatGateways
            DescribeNetworkAcls DescribeNetworkInterfaceAttribute DescribeNetworkInterfaces
            DescribePlacementGroups DescribePrefixLists DescribeRouteTables
            DescribeSecurityGroupRules DescribeSnapshotAttribute DescribeSnapshots
            DescribeSpotInstanceRequests DescribeSpotPriceHistory
            DescribeTransitGatewayRouteTables DescribeTransitGatewayVpcAttachments
            DescribeTransitGateways DescribeVolumeAttribute DescribeVolumeStatus
            DescribeVolumes DescribeVolumesModifications DescribeVpcClassicLink
            DescribeVpcEndpointServices DescribeVpcEndpoints DescribeVpcPeeringConnections
            DescribeVpnConnections DescribeVpnGateways DetachInternetGateway
            DetachNetworkInterface DetachVolume DetachVpnGateway
            DisableEbsEncryptionByDefault DisableImageDeregistrationProtection
            DisableTransitGatewayRouteTablePropagation DisableVgwRoutePropagation
            DisassociateAddress DisassociateIamInstanceProfile DisassociateRouteTable
            DisassociateSubnetCidrBlock DisassociateTransitGatewayRouteTable
            DisassociateVpcCidrBlock EnableEbsEncryptionByDefault EnableFastLaunch
            EnableFastSnapshotRestores EnableImageDeprecation
            EnableImageDeregistrationProtection EnableTransitGatewayRouteTablePropagation
            EnableVgwRoutePropagation GetConsoleScreenshot GetEbsDefaultKmsKeyId
            GetEbsEncryptionByDefault GetInstanceTypesFromInstanceRequirements
            GetInstanceUefiData GetManagedPrefixListEntries GetPasswordData
            GetTransitGatewayRouteTableAssociations GetTransitGatewayRouteTablePropagations
            ImportImage ImportSnapshot LockSnapshot ModifyAddressAttribute
            ModifyEbsDefaultKmsKeyId ModifyHosts ModifyImageAttribute
            ModifyInstanceMetadataOptions ModifyInstancePlacement ModifyLaunchTemplate
            ModifyManagedPrefixList ModifyNetworkInterfaceAttribute ModifySecurityGroupRules
            ModifySnapshotAttribute ModifySubnetAttribute ModifyTransitGateway
            ModifyTransitGatewayVpcAttachment ModifyVolume ModifyVolumeAttribute
            ModifyVpcAttribute ModifyVpcEndpoint ModifyVpcPeeringConnectionOptions
            MonitorInstances RegisterImage RejectVpcPeeringConnection ReleaseAddress
            ReleaseHosts ReplaceIamInstanceProfileAssociation ReplaceNetworkAclAssociation
            ReplaceNetworkAclEntry ReplaceRoute ReplaceRouteTableAssociation
            RequestSpotInstances ResetAddressAttribute ResetImageAttribute
            ResetSnapshotAttribute RevokeSecurityGroupEgress RevokeSecurityGroupIngress
            SearchTransitGatewayRoutes UnassignIpv6Addresses UnassignPrivateIpAddresses
            UnmonitorInstances UpdateSecurityGroupRuleDescriptionsEgress
            UpdateSecurityGroupRuleDescriptionsIngress",
    }
    CreateKeyPair => create_key_pair(CreateKeyPairRequest) -> KeyPair;
    CreateTags => create_tags(CreateTagsRequest) -> Return;
    DeleteKeyPair => delete_key_pair(DeleteKeyPairRequest) -> DeleteKeyPairResponse;
    DeleteTags => delete_tags(DeleteTagsRequest) -> Return;
    DescribeAccountAttributes =>
        describe_account_attributes(DescribeAccountAttributesRequest) -> DescribeAccountAttributesResponse;
    DescribeAvailabilityZones =>
        describe_availability_zones(DescribeAvailabilityZonesRequest) -> DescribeAvailabilityZonesResponse;
    DescribeImages => describe_images(DescribeImagesRequest) -> DescribeImagesResponse;
    DescribeInstanceAttribute =>
        describe_instance_attribute(DescribeInstanceAttributeRequest) -> InstanceAttribute;
    DescribeInstanceStatus =>
        describe_instance_status(DescribeInstanceStatusRequest) -> DescribeInstanceStatusResponse;
    DescribeInstanceTypeOfferings => describe_instance_type_offerings(DescribeInstanceTypeOfferingsRequest)
        -> DescribeInstanceTypeOfferingsResponse;
    DescribeInstanceTypes =>
        describe_instance_types(DescribeInstanceTypesRequest) -> DescribeInstanceTypesResponse;
    DescribeInstances => describe_instances(DescribeInstancesRequest) -> DescribeInstancesResponse;
    DescribeKeyPairs => describe_key_pairs(DescribeKeyPairsRequest) -> DescribeKeyPairsResponse;
    DescribeRegions => describe_regions(DescribeRegionsRequest) -> DescribeRegionsResponse;
    DescribeSecurityGroups =>
        describe_security_groups(DescribeSecurityGroupsRequest) -> DescribeSecurityGroupsResponse;
    DescribeSubnets => describe_subnets(DescribeSubnetsRequest) -> DescribeSubnetsResponse;
    DescribeTags => describe_tags(DescribeTagsRequest) -> DescribeTagsResponse;
    DescribeVpcAttribute => describe_vpc_attribute(DescribeVpcAttributeRequest) -> VpcAttribute;
    DescribeVpcs => describe_vpcs(DescribeVpcsRequest) -> DescribeVpcsResponse;
    GetConsoleOutput => get_console_output(GetConsoleOutputRequest) -> GetConsoleOutputResponse;
    ImportKeyPair => import_key_pair(ImportKeyPairRequest) -> KeyPair;
    ModifyInstanceAttribute => modify_instance_attribute(ModifyInstanceAttributeRequest) -> Return;
    RebootInstances => reboot_instances(RebootInstancesRequest) -> Return;
    RunInstances => run_instances(RunInstancesRequest) -> Reservation;
    StartInstances => start_instances(StartInstancesRequest) -> InstanceStateChanges;
    StopInstances => stop_instances(StopInstancesRequest) -> InstanceStateChanges;
    TerminateInstances => terminate_instances(TerminateInstancesRequest) -> InstanceStateChanges;
}

/// A condition of a Describe operation: any of the values, in which `*` and `?` are wildcards.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct Filter {
    /// `instance-state-name`, `tag:Name`...
    pub name: String,
    /// One of these.
    pub values: Vec<String>,
}

/// The answer of an operation that has nothing to say: `<return>true</return>`.
#[derive(Clone, Debug, PartialEq, Shape)]
pub struct Return {
    /// Always true; what fails answers with an error.
    #[shape(response = "return")]
    done: bool,
}

impl Return {
    /// It was done.
    pub const TRUE: Return = Return { done: true };
}

/// An attribute that is a string, or an identifier.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AttributeValue {
    /// The value; absent if the attribute is not set.
    pub value: Option<String>,
}

/// An attribute that is on or off.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct AttributeBooleanValue {
    /// Whether it is on.
    pub value: Option<bool>,
}
