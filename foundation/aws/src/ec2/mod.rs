//! Amazon EC2: the table of its operations, and in the files beside this one their shapes, by noun.
//!
//! A shape holds every member that Nephos reads or can answer truthfully; what else AWS has in a request is named as
//! `unsupported` on the structure. Member names are from AWS's API reference.

mod account;
mod address;
mod dhcp_options;
mod gateway;
mod image;
mod instance;
mod instance_attribute;
mod instance_type;
mod key_pair;
mod network_acl;
mod network_interface;
mod route_table;
mod run_instances;
mod security_group;
mod subnet;
mod tag;
mod vpc;
mod zone;

pub use account::*;
pub use address::*;
pub use dhcp_options::*;
pub use gateway::*;
pub use image::*;
pub use instance::*;
pub use instance_attribute::*;
pub use instance_type::*;
pub use key_pair::*;
pub use network_acl::*;
pub use network_interface::*;
pub use route_table::*;
pub use run_instances::*;
pub use security_group::*;
pub use subnet::*;
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
            AcceptTransitGatewayVpcAttachment AcceptVpcPeeringConnection AllocateHosts
            AssociateIamInstanceProfile AssociateTransitGatewayRouteTable AttachVolume
            AttachVpnGateway CancelImportTask CancelSpotInstanceRequests CopyImage CopySnapshot
            CopyVolumes CreateCustomerGateway CreateEgressOnlyInternetGateway CreateFleet
            CreateFlowLogs CreateImage CreateLaunchTemplate CreateLaunchTemplateVersion
            CreateManagedPrefixList CreateNatGateway CreatePlacementGroup CreateSnapshot
            CreateTransitGateway CreateTransitGatewayRoute CreateTransitGatewayRouteTable
            CreateTransitGatewayVpcAttachment CreateVolume CreateVpcEndpoint
            CreateVpcPeeringConnection CreateVpnConnection CreateVpnConnectionRoute CreateVpnGateway
            DeleteCustomerGateway DeleteEgressOnlyInternetGateway DeleteFlowLogs
            DeleteLaunchTemplate DeleteLaunchTemplateVersions DeleteManagedPrefixList
            DeleteNatGateway DeletePlacementGroup DeleteSnapshot DeleteTransitGateway
            DeleteTransitGatewayRoute DeleteTransitGatewayRouteTable
            DeleteTransitGatewayVpcAttachment DeleteVolume DeleteVpcEndpoints
            DeleteVpcPeeringConnection DeleteVpnConnection DeleteVpnConnectionRoute DeleteVpnGateway
            DeregisterImage DescribeCapacityReservations DescribeCustomerGateways
            DescribeEgressOnlyInternetGateways DescribeFastLaunchImages DescribeFlowLogs
            DescribeHosts DescribeIamInstanceProfileAssociations DescribeImageAttribute
            DescribeImportImageTasks DescribeImportSnapshotTasks
            DescribeInstanceCreditSpecifications DescribeInstanceTopology
            DescribeLaunchTemplateVersions DescribeLaunchTemplates DescribeMacHosts
            DescribeManagedPrefixLists DescribeNatGateways DescribePlacementGroups
            DescribePrefixLists DescribeSnapshotAttribute DescribeSnapshots
            DescribeSpotInstanceRequests DescribeSpotPriceHistory DescribeTransitGatewayRouteTables
            DescribeTransitGatewayVpcAttachments DescribeTransitGateways DescribeVolumeAttribute
            DescribeVolumeStatus DescribeVolumes DescribeVolumesModifications DescribeVpcClassicLink
            DescribeVpcEndpointServices DescribeVpcEndpoints DescribeVpcPeeringConnections
            DescribeVpnConnections DescribeVpnGateways DetachVolume DetachVpnGateway
            DisableEbsEncryptionByDefault DisableImageDeregistrationProtection
            DisableTransitGatewayRouteTablePropagation DisableVgwRoutePropagation
            DisassociateIamInstanceProfile DisassociateTransitGatewayRouteTable
            EnableEbsEncryptionByDefault EnableFastLaunch EnableFastSnapshotRestores
            EnableImageDeprecation EnableImageDeregistrationProtection
            EnableTransitGatewayRouteTablePropagation EnableVgwRoutePropagation GetConsoleScreenshot
            GetEbsDefaultKmsKeyId GetEbsEncryptionByDefault GetInstanceTypesFromInstanceRequirements
            GetInstanceUefiData GetManagedPrefixListEntries GetPasswordData
            GetTransitGatewayRouteTableAssociations GetTransitGatewayRouteTablePropagations
            ImportImage ImportSnapshot LockSnapshot ModifyAddressAttribute ModifyEbsDefaultKmsKeyId
            ModifyHosts ModifyImageAttribute ModifyInstanceMetadataOptions ModifyInstancePlacement
            ModifyLaunchTemplate ModifyManagedPrefixList ModifySnapshotAttribute
            ModifyTransitGateway ModifyTransitGatewayVpcAttachment ModifyVolume
            ModifyVolumeAttribute ModifyVpcEndpoint ModifyVpcPeeringConnectionOptions
            MonitorInstances RegisterImage RejectVpcPeeringConnection ReleaseHosts
            ReplaceIamInstanceProfileAssociation RequestSpotInstances ResetAddressAttribute
            ResetImageAttribute ResetSnapshotAttribute SearchTransitGatewayRoutes UnmonitorInstances",
    }
    AllocateAddress => allocate_address(AllocateAddressRequest) -> AllocateAddressResponse;
    AssignIpv6Addresses => assign_ipv6_addresses(AssignIpv6AddressesRequest) -> AssignIpv6AddressesResponse;
    AssignPrivateIpAddresses =>
        assign_private_ip_addresses(AssignPrivateIpAddressesRequest) -> AssignPrivateIpAddressesResponse;
    AssociateAddress => associate_address(AssociateAddressRequest) -> AssociateAddressResponse;
    AssociateDhcpOptions => associate_dhcp_options(AssociateDhcpOptionsRequest) -> Return;
    AssociateRouteTable => associate_route_table(AssociateRouteTableRequest) -> AssociateRouteTableResponse;
    AssociateSubnetCidrBlock =>
        associate_subnet_cidr_block(AssociateSubnetCidrBlockRequest) -> SubnetCidrBlockAssociated;
    AssociateVpcCidrBlock => associate_vpc_cidr_block(AssociateVpcCidrBlockRequest) -> VpcCidrBlockAssociated;
    AttachInternetGateway => attach_internet_gateway(AttachInternetGatewayRequest) -> Return;
    AttachNetworkInterface =>
        attach_network_interface(AttachNetworkInterfaceRequest) -> AttachNetworkInterfaceResponse;
    AuthorizeSecurityGroupEgress =>
        authorize_security_group_egress(AuthorizeSecurityGroupEgressRequest) -> SecurityGroupRulesAuthorized;
    AuthorizeSecurityGroupIngress => authorize_security_group_ingress(AuthorizeSecurityGroupIngressRequest)
        -> SecurityGroupRulesAuthorized;
    CreateDefaultSubnet => create_default_subnet(CreateDefaultSubnetRequest) -> CreateSubnetResponse;
    CreateDefaultVpc => create_default_vpc(CreateDefaultVpcRequest) -> CreateVpcResponse;
    CreateDhcpOptions => create_dhcp_options(CreateDhcpOptionsRequest) -> CreateDhcpOptionsResponse;
    CreateInternetGateway =>
        create_internet_gateway(CreateInternetGatewayRequest) -> CreateInternetGatewayResponse;
    CreateKeyPair => create_key_pair(CreateKeyPairRequest) -> KeyPair;
    CreateNetworkAcl => create_network_acl(CreateNetworkAclRequest) -> CreateNetworkAclResponse;
    CreateNetworkAclEntry => create_network_acl_entry(CreateNetworkAclEntryRequest) -> Return;
    CreateNetworkInterface =>
        create_network_interface(CreateNetworkInterfaceRequest) -> CreateNetworkInterfaceResponse;
    CreateRoute => create_route(CreateRouteRequest) -> Return;
    CreateRouteTable => create_route_table(CreateRouteTableRequest) -> CreateRouteTableResponse;
    CreateSecurityGroup => create_security_group(CreateSecurityGroupRequest) -> CreateSecurityGroupResponse;
    CreateSubnet => create_subnet(CreateSubnetRequest) -> CreateSubnetResponse;
    CreateTags => create_tags(CreateTagsRequest) -> Return;
    CreateVpc => create_vpc(CreateVpcRequest) -> CreateVpcResponse;
    DeleteDhcpOptions => delete_dhcp_options(DeleteDhcpOptionsRequest) -> Return;
    DeleteInternetGateway => delete_internet_gateway(DeleteInternetGatewayRequest) -> Return;
    DeleteKeyPair => delete_key_pair(DeleteKeyPairRequest) -> DeleteKeyPairResponse;
    DeleteNetworkAcl => delete_network_acl(DeleteNetworkAclRequest) -> Return;
    DeleteNetworkAclEntry => delete_network_acl_entry(DeleteNetworkAclEntryRequest) -> Return;
    DeleteNetworkInterface => delete_network_interface(DeleteNetworkInterfaceRequest) -> Return;
    DeleteRoute => delete_route(DeleteRouteRequest) -> Return;
    DeleteRouteTable => delete_route_table(DeleteRouteTableRequest) -> Return;
    DeleteSecurityGroup => delete_security_group(DeleteSecurityGroupRequest) -> DeleteSecurityGroupResponse;
    DeleteSubnet => delete_subnet(DeleteSubnetRequest) -> Return;
    DeleteTags => delete_tags(DeleteTagsRequest) -> Return;
    DeleteVpc => delete_vpc(DeleteVpcRequest) -> Return;
    DescribeAccountAttributes =>
        describe_account_attributes(DescribeAccountAttributesRequest) -> DescribeAccountAttributesResponse;
    DescribeAddresses => describe_addresses(DescribeAddressesRequest) -> DescribeAddressesResponse;
    DescribeAddressesAttribute =>
        describe_addresses_attribute(DescribeAddressesAttributeRequest) -> DescribeAddressesAttributeResponse;
    DescribeAvailabilityZones =>
        describe_availability_zones(DescribeAvailabilityZonesRequest) -> DescribeAvailabilityZonesResponse;
    DescribeDhcpOptions => describe_dhcp_options(DescribeDhcpOptionsRequest) -> DescribeDhcpOptionsResponse;
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
    DescribeInternetGateways =>
        describe_internet_gateways(DescribeInternetGatewaysRequest) -> DescribeInternetGatewaysResponse;
    DescribeKeyPairs => describe_key_pairs(DescribeKeyPairsRequest) -> DescribeKeyPairsResponse;
    DescribeNetworkAcls => describe_network_acls(DescribeNetworkAclsRequest) -> DescribeNetworkAclsResponse;
    DescribeNetworkInterfaceAttribute => describe_network_interface_attribute(DescribeNetworkInterfaceAttributeRequest)
        -> DescribeNetworkInterfaceAttributeResponse;
    DescribeNetworkInterfaces =>
        describe_network_interfaces(DescribeNetworkInterfacesRequest) -> DescribeNetworkInterfacesResponse;
    DescribeRegions => describe_regions(DescribeRegionsRequest) -> DescribeRegionsResponse;
    DescribeRouteTables => describe_route_tables(DescribeRouteTablesRequest) -> DescribeRouteTablesResponse;
    DescribeSecurityGroupRules => describe_security_group_rules(DescribeSecurityGroupRulesRequest)
        -> DescribeSecurityGroupRulesResponse;
    DescribeSecurityGroups =>
        describe_security_groups(DescribeSecurityGroupsRequest) -> DescribeSecurityGroupsResponse;
    DescribeSubnets => describe_subnets(DescribeSubnetsRequest) -> DescribeSubnetsResponse;
    DescribeTags => describe_tags(DescribeTagsRequest) -> DescribeTagsResponse;
    DescribeVpcAttribute => describe_vpc_attribute(DescribeVpcAttributeRequest) -> VpcAttribute;
    DescribeVpcs => describe_vpcs(DescribeVpcsRequest) -> DescribeVpcsResponse;
    DetachInternetGateway => detach_internet_gateway(DetachInternetGatewayRequest) -> Return;
    DetachNetworkInterface => detach_network_interface(DetachNetworkInterfaceRequest) -> Return;
    DisassociateAddress => disassociate_address(DisassociateAddressRequest) -> Return;
    DisassociateRouteTable => disassociate_route_table(DisassociateRouteTableRequest) -> Return;
    DisassociateSubnetCidrBlock =>
        disassociate_subnet_cidr_block(DisassociateSubnetCidrBlockRequest) -> SubnetCidrBlockAssociated;
    DisassociateVpcCidrBlock =>
        disassociate_vpc_cidr_block(DisassociateVpcCidrBlockRequest) -> VpcCidrBlockAssociated;
    GetConsoleOutput => get_console_output(GetConsoleOutputRequest) -> GetConsoleOutputResponse;
    ImportKeyPair => import_key_pair(ImportKeyPairRequest) -> KeyPair;
    ModifyInstanceAttribute => modify_instance_attribute(ModifyInstanceAttributeRequest) -> Return;
    ModifyNetworkInterfaceAttribute =>
        modify_network_interface_attribute(ModifyNetworkInterfaceAttributeRequest) -> Return;
    ModifySecurityGroupRules => modify_security_group_rules(ModifySecurityGroupRulesRequest) -> Return;
    ModifySubnetAttribute => modify_subnet_attribute(ModifySubnetAttributeRequest) -> Return;
    ModifyVpcAttribute => modify_vpc_attribute(ModifyVpcAttributeRequest) -> Return;
    RebootInstances => reboot_instances(RebootInstancesRequest) -> Return;
    ReleaseAddress => release_address(ReleaseAddressRequest) -> Return;
    ReplaceNetworkAclAssociation => replace_network_acl_association(ReplaceNetworkAclAssociationRequest)
        -> ReplaceNetworkAclAssociationResponse;
    ReplaceNetworkAclEntry => replace_network_acl_entry(ReplaceNetworkAclEntryRequest) -> Return;
    ReplaceRoute => replace_route(ReplaceRouteRequest) -> Return;
    ReplaceRouteTableAssociation => replace_route_table_association(ReplaceRouteTableAssociationRequest)
        -> ReplaceRouteTableAssociationResponse;
    RevokeSecurityGroupEgress =>
        revoke_security_group_egress(RevokeSecurityGroupEgressRequest) -> SecurityGroupRulesRevoked;
    RevokeSecurityGroupIngress =>
        revoke_security_group_ingress(RevokeSecurityGroupIngressRequest) -> SecurityGroupRulesRevoked;
    RunInstances => run_instances(RunInstancesRequest) -> Reservation;
    StartInstances => start_instances(StartInstancesRequest) -> InstanceStateChanges;
    StopInstances => stop_instances(StopInstancesRequest) -> InstanceStateChanges;
    TerminateInstances => terminate_instances(TerminateInstancesRequest) -> InstanceStateChanges;
    UnassignIpv6Addresses =>
        unassign_ipv6_addresses(UnassignIpv6AddressesRequest) -> UnassignIpv6AddressesResponse;
    UnassignPrivateIpAddresses => unassign_private_ip_addresses(UnassignPrivateIpAddressesRequest) -> Return;
    UpdateSecurityGroupRuleDescriptionsEgress => update_security_group_rule_descriptions_egress(UpdateSecurityGroupRuleDescriptionsEgressRequest)
        -> Return;
    UpdateSecurityGroupRuleDescriptionsIngress => update_security_group_rule_descriptions_ingress(UpdateSecurityGroupRuleDescriptionsIngressRequest)
        -> Return;
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
