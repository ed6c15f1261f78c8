//! The API's meaning: AWS's operations on the region's model and owner.
//!
//! [`Api`] implements the services' traits of the `aws` crate; the table at the end of this file says which function
//! carries out which operation. Functions stand in files by noun. What all operations have in common is built once:
//! [`filter`], [`page`], [`parse`] and [`errors`].
//!
//! A read is a plain function: it takes the model's read lock once, builds its answer and lets go. A change asks the
//! region's owner and answers what became durable. Every operation parses all of its input first, then answers a dry
//! run, then acts.
//!
//! Invariant: no state of its own, no clock, and no lock held across an await.

mod account;
mod address;
mod attribute;
mod console;
mod dhcp_options;
pub mod errors;
pub mod filter;
mod image;
mod instance;
mod instance_type;
mod internet_gateway;
mod key_pair;
mod launch;
mod lifecycle;
mod network_acl;
mod network_interface;
pub mod page;
mod parse;
mod quota;
mod resource;
mod route_table;
mod security_group;
mod security_group_rule;
mod subnet;
mod tag;
#[cfg(test)]
mod tests;
mod vpc;
mod zone;

use crate::asker::Asker;
use crate::image::Image;
use crate::model::{Account, Model};
use crate::refusal::Refusal;
use crate::request::{Answer as Done, Request};
use aws::ec2::*;
use aws::service::Answer;
use aws::service_quotas::*;
use aws::sts::{CallerIdentity, GetCallerIdentityRequest, Sts};
use aws::{ApiError, Caller};
use aws_lc_rs::hmac;
use base::ids::{RegionName, ZoneName};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Semaphore;

/// What the API knows beside the model: fixed while the process runs.
#[derive(Clone)]
pub struct Facts {
    /// The region's name.
    pub region: RegionName,
    /// Its zones, in their order.
    pub zones: Vec<ZoneName>,
    /// The images on offer.
    pub images: Vec<Image>,
    /// Where clients reach the region: host and port.
    pub endpoint: String,
    /// vCPUs that an account's instances may occupy together.
    pub vcpus_per_account: u32,
    /// Hosts have switches, which carry what the records of networks say. Without, those are not to be had: what has no
    /// effect is not answered as if it had.
    pub networks: bool,
    /// Signs page cursors; the same after a restart, so that a client can go on paging.
    pub cursor_secret: [u8; 32],
}

/// The operations of EC2, STS and Service Quotas in one region. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    facts: Arc<Facts>,
    cursor_key: hmac::Key,
    model: Arc<RwLock<Model>>,
    asker: Asker,
    /// Turns of those who make keys.
    key_generation: Arc<Semaphore>,
}

/// Keys that are made at once: each takes a core for up to seconds.
const KEY_GENERATIONS_MAX: usize = 2;

impl Api {
    /// The API over a model that the region's owner keeps, and the way to that owner.
    pub fn new(facts: Facts, model: Arc<RwLock<Model>>, asker: Asker) -> Api {
        let cursor_key = hmac::Key::new(hmac::HMAC_SHA256, &facts.cursor_secret);
        let key_generation = Arc::new(Semaphore::new(KEY_GENERATIONS_MAX));
        Api { facts: Arc::new(facts), cursor_key, model, asker, key_generation }
    }

    /// What `view` sees of the caller's account, at one revision. It holds nobody up.
    fn read<T>(
        &self,
        caller: &Caller,
        view: impl FnOnce(&Account) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        let account = model.account_shared(caller.account);
        drop(model);
        let account = account.ok_or(Refusal::AccountNotFound(caller.account))?;
        view(&account)
    }

    /// Asks the owner for a change, and waits until what became of it is durable.
    async fn change(&self, caller: &Caller, request: Request) -> Result<Done, ApiError> {
        Ok(self.asker.change(caller.account, request).await?)
    }

    /// Refuses what needs hosts with switches.
    fn carried(&self) -> Result<(), ApiError> {
        match self.facts.networks {
            true => Ok(()),
            false => Err(errors::unsupported(
                "Guests of this cloud have no network card yet, so networks cannot be changed. \
                 `nephos up --networks` keeps their records, to try the API.",
            )),
        }
    }

    fn image(&self, id: &str) -> Option<&Image> {
        let id = id.parse().ok()?;
        self.facts.images.iter().find(|image| image.id == id)
    }
}

/// An owner's answer of another kind than the request's: a defect, which must not be passed on as a success.
fn unexpected(answer: &Done) -> ApiError {
    tracing::error!(?answer, "the region's owner gave an answer of another kind than the request's");
    ApiError::internal()
}

// `seen` and `carried` are reads and changes of networks, see [`Facts::networks`].
macro_rules! operations {
    ($service:ident {
        $(read $read:ident($read_in:ty) -> $read_out:ty = $view:path;)*
        $(seen $seen:ident($seen_in:ty) -> $seen_out:ty = $show:path;)*
        $(change $change:ident($change_in:ty) -> $change_out:ty = $act:path;)*
        $(carried $carried:ident($carried_in:ty) -> $carried_out:ty = $carry:path;)*
    }) => {
        impl $service for Api {
            $(fn $read<'a>(&'a self, caller: &'a Caller, input: $read_in) -> Answer<'a, $read_out> {
                Box::pin(std::future::ready($view(self, caller, input)))
            })*
            $(fn $change<'a>(&'a self, caller: &'a Caller, input: $change_in) -> Answer<'a, $change_out> {
                Box::pin($act(self, caller, input))
            })*
            $(fn $seen<'a>(&'a self, caller: &'a Caller, input: $seen_in) -> Answer<'a, $seen_out> {
                Box::pin(std::future::ready(self.carried().and_then(|()| $show(self, caller, input))))
            })*
            $(fn $carried<'a>(&'a self, caller: &'a Caller, input: $carried_in) -> Answer<'a, $carried_out> {
                Box::pin(async move {
                    self.carried()?;
                    $carry(self, caller, input).await
                })
            })*
        }
    };
}

operations! { Ec2 {
    read describe_account_attributes(DescribeAccountAttributesRequest) -> DescribeAccountAttributesResponse
        = account::attributes_describe;
    read describe_availability_zones(DescribeAvailabilityZonesRequest) -> DescribeAvailabilityZonesResponse
        = zone::zones_describe;
    read describe_dhcp_options(DescribeDhcpOptionsRequest) -> DescribeDhcpOptionsResponse
        = dhcp_options::options_describe;
    read describe_images(DescribeImagesRequest) -> DescribeImagesResponse = image::images_describe;
    read describe_instance_attribute(DescribeInstanceAttributeRequest) -> InstanceAttribute
        = attribute::attribute_describe;
    read describe_instance_status(DescribeInstanceStatusRequest) -> DescribeInstanceStatusResponse
        = instance::statuses_describe;
    read describe_instance_type_offerings(DescribeInstanceTypeOfferingsRequest)
        -> DescribeInstanceTypeOfferingsResponse = instance_type::offerings_describe;
    read describe_instance_types(DescribeInstanceTypesRequest) -> DescribeInstanceTypesResponse
        = instance_type::types_describe;
    read describe_instances(DescribeInstancesRequest) -> DescribeInstancesResponse
        = instance::instances_describe;
    read describe_internet_gateways(DescribeInternetGatewaysRequest) -> DescribeInternetGatewaysResponse
        = internet_gateway::gateways_describe;
    read describe_key_pairs(DescribeKeyPairsRequest) -> DescribeKeyPairsResponse
        = key_pair::key_pairs_describe;
    read describe_network_acls(DescribeNetworkAclsRequest) -> DescribeNetworkAclsResponse
        = network_acl::acls_describe;
    read describe_regions(DescribeRegionsRequest) -> DescribeRegionsResponse = zone::regions_describe;
    read describe_route_tables(DescribeRouteTablesRequest) -> DescribeRouteTablesResponse
        = route_table::tables_describe;
    read describe_security_group_rules(DescribeSecurityGroupRulesRequest)
        -> DescribeSecurityGroupRulesResponse = security_group_rule::rules_describe;
    read describe_security_groups(DescribeSecurityGroupsRequest) -> DescribeSecurityGroupsResponse
        = security_group::groups_describe;
    read describe_subnets(DescribeSubnetsRequest) -> DescribeSubnetsResponse = subnet::subnets_describe;
    read describe_tags(DescribeTagsRequest) -> DescribeTagsResponse = tag::tags_describe;
    read describe_vpc_attribute(DescribeVpcAttributeRequest) -> VpcAttribute = vpc::attribute_describe;
    read describe_vpcs(DescribeVpcsRequest) -> DescribeVpcsResponse = vpc::vpcs_describe;

    seen describe_addresses(DescribeAddressesRequest) -> DescribeAddressesResponse
        = address::addresses_describe;
    seen describe_addresses_attribute(DescribeAddressesAttributeRequest) -> DescribeAddressesAttributeResponse
        = address::attributes_describe;
    seen describe_network_interface_attribute(DescribeNetworkInterfaceAttributeRequest)
        -> DescribeNetworkInterfaceAttributeResponse = network_interface::attribute_describe;
    seen describe_network_interfaces(DescribeNetworkInterfacesRequest) -> DescribeNetworkInterfacesResponse
        = network_interface::interfaces_describe;

    change create_key_pair(CreateKeyPairRequest) -> KeyPair = key_pair::key_pair_create;
    change create_tags(CreateTagsRequest) -> Return = tag::tags_create;
    change delete_key_pair(DeleteKeyPairRequest) -> DeleteKeyPairResponse = key_pair::key_pair_delete;
    change delete_tags(DeleteTagsRequest) -> Return = tag::tags_delete;
    change get_console_output(GetConsoleOutputRequest) -> GetConsoleOutputResponse = console::output_get;
    change import_key_pair(ImportKeyPairRequest) -> KeyPair = key_pair::key_pair_import;
    change modify_instance_attribute(ModifyInstanceAttributeRequest) -> Return = attribute::attribute_modify;
    change reboot_instances(RebootInstancesRequest) -> Return = lifecycle::instances_reboot;
    change run_instances(RunInstancesRequest) -> Reservation = launch::instances_run;
    change start_instances(StartInstancesRequest) -> InstanceStateChanges = lifecycle::instances_start;
    change stop_instances(StopInstancesRequest) -> InstanceStateChanges = lifecycle::instances_stop;
    change terminate_instances(TerminateInstancesRequest) -> InstanceStateChanges
        = lifecycle::instances_terminate;

    carried allocate_address(AllocateAddressRequest) -> AllocateAddressResponse = address::address_allocate;
    carried assign_ipv6_addresses(AssignIpv6AddressesRequest) -> AssignIpv6AddressesResponse
        = network_interface::ipv6_assign;
    carried assign_private_ip_addresses(AssignPrivateIpAddressesRequest) -> AssignPrivateIpAddressesResponse
        = network_interface::addresses_assign;
    carried associate_address(AssociateAddressRequest) -> AssociateAddressResponse
        = address::address_associate;
    carried associate_dhcp_options(AssociateDhcpOptionsRequest) -> Return = dhcp_options::options_associate;
    carried associate_route_table(AssociateRouteTableRequest) -> AssociateRouteTableResponse
        = route_table::table_associate;
    carried associate_subnet_cidr_block(AssociateSubnetCidrBlockRequest) -> SubnetCidrBlockAssociated
        = subnet::range_associate;
    carried associate_vpc_cidr_block(AssociateVpcCidrBlockRequest) -> VpcCidrBlockAssociated
        = vpc::range_associate;
    carried attach_internet_gateway(AttachInternetGatewayRequest) -> Return = internet_gateway::gateway_attach;
    carried attach_network_interface(AttachNetworkInterfaceRequest) -> AttachNetworkInterfaceResponse
        = network_interface::interface_attach;
    carried authorize_security_group_egress(AuthorizeSecurityGroupEgressRequest)
        -> SecurityGroupRulesAuthorized = security_group_rule::egress_authorize;
    carried authorize_security_group_ingress(AuthorizeSecurityGroupIngressRequest)
        -> SecurityGroupRulesAuthorized = security_group_rule::ingress_authorize;
    carried create_default_subnet(CreateDefaultSubnetRequest) -> CreateSubnetResponse
        = subnet::default_subnet_create;
    carried create_default_vpc(CreateDefaultVpcRequest) -> CreateVpcResponse = vpc::default_vpc_create;
    carried create_dhcp_options(CreateDhcpOptionsRequest) -> CreateDhcpOptionsResponse
        = dhcp_options::options_create;
    carried create_internet_gateway(CreateInternetGatewayRequest) -> CreateInternetGatewayResponse
        = internet_gateway::gateway_create;
    carried create_network_acl(CreateNetworkAclRequest) -> CreateNetworkAclResponse = network_acl::acl_create;
    carried create_network_acl_entry(CreateNetworkAclEntryRequest) -> Return = network_acl::entry_create;
    carried create_network_interface(CreateNetworkInterfaceRequest) -> CreateNetworkInterfaceResponse
        = network_interface::interface_create;
    carried create_route(CreateRouteRequest) -> Return = route_table::route_create;
    carried create_route_table(CreateRouteTableRequest) -> CreateRouteTableResponse
        = route_table::table_create;
    carried create_security_group(CreateSecurityGroupRequest) -> CreateSecurityGroupResponse
        = security_group::group_create;
    carried create_subnet(CreateSubnetRequest) -> CreateSubnetResponse = subnet::subnet_create;
    carried create_vpc(CreateVpcRequest) -> CreateVpcResponse = vpc::vpc_create;
    carried delete_dhcp_options(DeleteDhcpOptionsRequest) -> Return = dhcp_options::options_delete;
    carried delete_internet_gateway(DeleteInternetGatewayRequest) -> Return = internet_gateway::gateway_delete;
    carried delete_network_acl(DeleteNetworkAclRequest) -> Return = network_acl::acl_delete;
    carried delete_network_acl_entry(DeleteNetworkAclEntryRequest) -> Return = network_acl::entry_delete;
    carried delete_network_interface(DeleteNetworkInterfaceRequest) -> Return
        = network_interface::interface_delete;
    carried delete_route(DeleteRouteRequest) -> Return = route_table::route_delete;
    carried delete_route_table(DeleteRouteTableRequest) -> Return = route_table::table_delete;
    carried delete_security_group(DeleteSecurityGroupRequest) -> DeleteSecurityGroupResponse
        = security_group::group_delete;
    carried delete_subnet(DeleteSubnetRequest) -> Return = subnet::subnet_delete;
    carried delete_vpc(DeleteVpcRequest) -> Return = vpc::vpc_delete;
    carried detach_internet_gateway(DetachInternetGatewayRequest) -> Return = internet_gateway::gateway_detach;
    carried detach_network_interface(DetachNetworkInterfaceRequest) -> Return
        = network_interface::interface_detach;
    carried disassociate_address(DisassociateAddressRequest) -> Return = address::address_disassociate;
    carried disassociate_route_table(DisassociateRouteTableRequest) -> Return
        = route_table::table_disassociate;
    carried disassociate_subnet_cidr_block(DisassociateSubnetCidrBlockRequest) -> SubnetCidrBlockAssociated
        = subnet::range_disassociate;
    carried disassociate_vpc_cidr_block(DisassociateVpcCidrBlockRequest) -> VpcCidrBlockAssociated
        = vpc::range_disassociate;
    carried modify_network_interface_attribute(ModifyNetworkInterfaceAttributeRequest) -> Return
        = network_interface::attribute_modify;
    carried modify_security_group_rules(ModifySecurityGroupRulesRequest) -> Return
        = security_group_rule::rules_modify;
    carried modify_subnet_attribute(ModifySubnetAttributeRequest) -> Return = subnet::attribute_modify;
    carried modify_vpc_attribute(ModifyVpcAttributeRequest) -> Return = vpc::attribute_modify;
    carried release_address(ReleaseAddressRequest) -> Return = address::address_release;
    carried replace_network_acl_association(ReplaceNetworkAclAssociationRequest)
        -> ReplaceNetworkAclAssociationResponse = network_acl::association_replace;
    carried replace_network_acl_entry(ReplaceNetworkAclEntryRequest) -> Return = network_acl::entry_replace;
    carried replace_route(ReplaceRouteRequest) -> Return = route_table::route_replace;
    carried replace_route_table_association(ReplaceRouteTableAssociationRequest)
        -> ReplaceRouteTableAssociationResponse = route_table::association_replace;
    carried revoke_security_group_egress(RevokeSecurityGroupEgressRequest) -> SecurityGroupRulesRevoked
        = security_group_rule::egress_revoke;
    carried revoke_security_group_ingress(RevokeSecurityGroupIngressRequest) -> SecurityGroupRulesRevoked
        = security_group_rule::ingress_revoke;
    carried unassign_ipv6_addresses(UnassignIpv6AddressesRequest) -> UnassignIpv6AddressesResponse
        = network_interface::ipv6_unassign;
    carried unassign_private_ip_addresses(UnassignPrivateIpAddressesRequest) -> Return
        = network_interface::addresses_unassign;
    carried update_security_group_rule_descriptions_egress(UpdateSecurityGroupRuleDescriptionsEgressRequest)
        -> Return = security_group_rule::egress_describe;
    carried update_security_group_rule_descriptions_ingress(UpdateSecurityGroupRuleDescriptionsIngressRequest)
        -> Return = security_group_rule::ingress_describe;
} }

operations! { Sts {
    read get_caller_identity(GetCallerIdentityRequest) -> CallerIdentity = account::identity_get;
} }

operations! { ServiceQuotas {
    read get_service_quota(GetServiceQuotaRequest) -> GetServiceQuotaResponse = quota::quota_get;
    read list_service_quotas(ListServiceQuotasRequest) -> ListServiceQuotasResponse = quota::quotas_list;
} }
