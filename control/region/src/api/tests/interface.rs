//! Network interfaces, elastic addresses, and what launched instances have of them.

use super::*;

/// Parameters with which an operation could be carried out.
pub(super) fn query(operation: &str) -> Option<String> {
    let interface = "NetworkInterfaceId=eni-0123456789abcdef0";
    let allocation = "AllocationId=eipalloc-0123456789abcdef0";
    Some(match operation {
        "AssociateAddress" => format!("{allocation}&{interface}"),
        "AttachNetworkInterface" => format!("{interface}&InstanceId=i-0123456789abcdef0&DeviceIndex=1"),
        "CreateNetworkInterface" => "SubnetId=subnet-0123456789abcdef0".to_owned(),
        "DeleteNetworkInterface" => interface.to_owned(),
        "DescribeNetworkInterfaceAttribute" => format!("{interface}&Attribute=description"),
        "DetachNetworkInterface" => "AttachmentId=eni-attach-0123456789abcdef0".to_owned(),
        "DisassociateAddress" => "AssociationId=eipassoc-0123456789abcdef0".to_owned(),
        "ModifyNetworkInterfaceAttribute" => format!("{interface}&Description.Value=x"),
        "ReleaseAddress" => allocation.to_owned(),
        _ => return None,
    })
}

/// A VPC with a subnet of eleven addresses: their ids.
async fn subnet_make(cloud: &Cloud) -> (String, String) {
    let vpc =
        one(&cloud.ok("CreateVpc", "CidrBlock=10.0.0.0/16&AmazonProvidedIpv6CidrBlock=true").await, "vpcId");
    let query = format!("VpcId={vpc}&CidrBlock=10.0.1.0/28");
    let subnet = one(&cloud.ok("CreateSubnet", &query).await, "subnetId");
    let ipv6 = one(&cloud.ok("DescribeVpcs", &format!("VpcId.1={vpc}")).await, "ipv6CidrBlock");
    let query = format!("SubnetId={subnet}&Ipv6CidrBlock={}", ipv6.replace("/56", "/64"));
    cloud.ok("AssociateSubnetCidrBlock", &query).await;
    (vpc, subnet)
}

#[tokio::test]
async fn an_address_is_never_two_interfaces_at_once() {
    let cloud = Cloud::new();
    let (_, subnet) = subnet_make(&cloud).await;
    let create = |rest: &str| format!("SubnetId={subnet}&{rest}");
    let free = async || {
        let body = cloud.ok("DescribeSubnets", &format!("SubnetId.1={subnet}")).await;
        one(&body, "availableIpAddressCount")
    };
    let body = cloud.ok("CreateNetworkInterface", &create("PrivateIpAddress=10.0.1.4&ClientToken=t")).await;
    let interface = one(&body, "networkInterfaceId");
    assert_eq!(
        one(
            &cloud.ok("CreateNetworkInterface", &create("PrivateIpAddress=10.0.1.4&ClientToken=t")).await,
            "networkInterfaceId"
        ),
        interface
    );
    assert_eq!((one(&body, "status"), one(&body, "sourceDestCheck")), ("available".into(), "true".into()));
    assert!(one(&body, "macAddress").ends_with(":0a:00:01:04"), "{body}");
    cloud
        .refused("CreateNetworkInterface", &create("PrivateIpAddress=10.0.1.4"), "InvalidIPAddress.InUse")
        .await;
    for address in ["10.0.1.3", "10.0.1.15", "10.0.2.4"] {
        let query = create(&format!("PrivateIpAddress={address}"));
        cloud.refused("CreateNetworkInterface", &query, "InvalidParameterValue").await;
    }
    assert_eq!(free().await, "10");
    let assign = |rest: &str| format!("NetworkInterfaceId={interface}&{rest}");
    let body = cloud.ok("AssignPrivateIpAddresses", &assign("SecondaryPrivateIpAddressCount=3")).await;
    let assigned = all(&body, "privateIpAddress");
    assert_eq!(assigned.len(), 3);
    cloud.ok("AssignPrivateIpAddresses", &assign("PrivateIpAddress.1=10.0.1.4")).await;
    let body = cloud.ok("CreateNetworkInterface", &create("SecondaryPrivateIpAddressCount=6")).await;
    let second = one(&body, "networkInterfaceId");
    assert_eq!(free().await, "0");
    cloud.refused("CreateNetworkInterface", &create(""), "InsufficientFreeAddressesInSubnet").await;
    let launch = format!("ImageId={IMAGE}&InstanceType=t3.micro&MinCount=1&MaxCount=1&SubnetId={subnet}");
    cloud.refused("RunInstances", &launch, "InsufficientFreeAddressesInSubnet").await;
    cloud
        .refused(
            "UnassignPrivateIpAddresses",
            &assign("PrivateIpAddress.1=10.0.1.4"),
            "InvalidParameterValue",
        )
        .await;
    cloud.ok("UnassignPrivateIpAddresses", &assign(&format!("PrivateIpAddress.1={}", assigned[0]))).await;
    assert_eq!(free().await, "1");
    let body = cloud.ok("CreateNetworkInterface", &create("")).await;
    assert_eq!(one(&body, "privateIpAddress"), assigned[0]);
    cloud.refused("DeleteSubnet", &format!("SubnetId={subnet}"), "DependencyViolation").await;
    for interface in [interface, second, one(&body, "networkInterfaceId")] {
        cloud.ok("DeleteNetworkInterface", &format!("NetworkInterfaceId={interface}")).await;
    }
    assert_eq!(free().await, "11");
    cloud.ok("DeleteSubnet", &format!("SubnetId={subnet}")).await;
}

#[tokio::test]
async fn interfaces_are_changed_attribute_by_attribute() {
    let cloud = Cloud::new();
    let (vpc, subnet) = subnet_make(&cloud).await;
    let query = format!("GroupName=web&GroupDescription=x&VpcId={vpc}");
    let group = one(&cloud.ok("CreateSecurityGroup", &query).await, "groupId");
    let body = cloud
        .ok("CreateNetworkInterface", &format!("SubnetId={subnet}&Ipv6AddressCount=1&Description=x"))
        .await;
    let interface = one(&body, "networkInterfaceId");
    let ipv6 = one(&body, "ipv6Address");
    let with = |rest: &str| format!("NetworkInterfaceId={interface}&{rest}");
    cloud.ok("ModifyNetworkInterfaceAttribute", &with("SourceDestCheck.Value=false")).await;
    cloud.ok("ModifyNetworkInterfaceAttribute", &with("Description.Value=y")).await;
    cloud.ok("ModifyNetworkInterfaceAttribute", &with(&format!("SecurityGroupId.1={group}"))).await;
    cloud.refused("DeleteSecurityGroup", &format!("GroupId={group}"), "DependencyViolation").await;
    for (attribute, expected) in [("sourceDestCheck", "false"), ("description", "y")] {
        let body =
            cloud.ok("DescribeNetworkInterfaceAttribute", &with(&format!("Attribute={attribute}"))).await;
        assert_eq!(one(&body, "value"), expected);
    }
    let body = cloud.ok("DescribeNetworkInterfaceAttribute", &with("Attribute=groupSet")).await;
    assert_eq!(all(&body, "groupId"), std::slice::from_ref(&group));
    let far = one(&cloud.ok("DescribeSecurityGroups", "GroupName.1=default").await, "groupId");
    cloud
        .refused(
            "ModifyNetworkInterfaceAttribute",
            &with(&format!("SecurityGroupId.1={far}")),
            "InvalidParameterValue",
        )
        .await;
    cloud.refused("ModifyNetworkInterfaceAttribute", &with(""), "MissingParameter").await;
    let both = with("Description.Value=y&SourceDestCheck.Value=true");
    cloud.refused("ModifyNetworkInterfaceAttribute", &both, "InvalidParameterCombination").await;
    let body = cloud.ok("AssignIpv6Addresses", &with("Ipv6AddressCount=2")).await;
    assert_eq!(all(&body, "item").len(), 2, "{body}");
    let range = one(&cloud.ok("DescribeSubnets", &format!("SubnetId.1={subnet}")).await, "associationId");
    cloud
        .refused("DisassociateSubnetCidrBlock", &format!("AssociationId={range}"), "DependencyViolation")
        .await;
    cloud.ok("UnassignIpv6Addresses", &with(&format!("Ipv6Addresses.1={ipv6}"))).await;
    cloud
        .refused("UnassignIpv6Addresses", &with(&format!("Ipv6Addresses.1={ipv6}")), "InvalidParameterValue")
        .await;
    cloud
        .refused("DeleteNetworkInterface", "NetworkInterfaceId=eni-1", "InvalidNetworkInterfaceId.Malformed")
        .await;
}

#[tokio::test]
async fn instances_have_interfaces_from_their_launch_on() {
    let cloud = Cloud::new();
    let (vpc, subnet) = subnet_make(&cloud).await;
    let tags = "TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=net";
    let launch = |count: u32, rest: &str| {
        format!("ImageId={IMAGE}&InstanceType=t3.nano&MinCount={count}&MaxCount={count}&{tags}&{rest}")
    };
    let body = cloud.ok("RunInstances", &launch(2, &format!("SubnetId={subnet}&Ipv6AddressCount=1"))).await;
    let instances = all(&body, "instanceId");
    let body =
        cloud.ok("DescribeInstances", &format!("Filter.1.Name=subnet-id&Filter.1.Value.1={subnet}")).await;
    assert_eq!(all(&body, "instanceId").len(), 2);
    assert_eq!(one(&body, "vpcId"), vpc);
    let mut addresses = all(&body, "ipv6Address");
    addresses.dedup();
    assert_eq!(addresses.len(), 2, "{body}");
    assert!(one(&body, "privateDnsName").ends_with(".ec2.internal"), "{body}");
    // Not in a subnet that maps them, and not asked for.
    assert!(!body.contains("<ipAddress>"), "{body}");
    let filter = format!("Filter.1.Name=attachment.instance-id&Filter.1.Value.1={}", instances[0]);
    let interfaces = cloud.ok("DescribeNetworkInterfaces", &filter).await;
    assert_eq!(all(&interfaces, "status"), ["attached", "in-use"]);
    assert_eq!(one(&interfaces, "deviceIndex"), "0");
    assert!(interfaces.contains("<key>net</key>"), "{interfaces}");
    let (interface, attachment) = (one(&interfaces, "networkInterfaceId"), one(&interfaces, "attachmentId"));
    cloud
        .refused(
            "DeleteNetworkInterface",
            &format!("NetworkInterfaceId={interface}"),
            "InvalidNetworkInterface.InUse",
        )
        .await;
    cloud
        .refused("DetachNetworkInterface", &format!("AttachmentId={attachment}"), "OperationNotPermitted")
        .await;
    cloud.refused("DeleteSubnet", &format!("SubnetId={subnet}"), "DependencyViolation").await;
    // A second one.
    let body = cloud.ok("CreateNetworkInterface", &format!("SubnetId={subnet}")).await;
    let (second, address) = (one(&body, "networkInterfaceId"), one(&body, "privateIpAddress"));
    let attach =
        |index: u32| format!("NetworkInterfaceId={second}&InstanceId={}&DeviceIndex={index}", instances[0]);
    cloud.refused("AttachNetworkInterface", &attach(0), "InvalidParameterValue").await;
    let attachment = one(&cloud.ok("AttachNetworkInterface", &attach(1)).await, "attachmentId");
    cloud.refused("AttachNetworkInterface", &attach(2), "InvalidNetworkInterface.InUse").await;
    let body = cloud.ok("DescribeInstances", &format!("InstanceId.1={}", instances[0])).await;
    assert_eq!(all(&body, "networkInterfaceId"), [interface.clone(), second.clone()]);
    cloud.ok("DetachNetworkInterface", &format!("AttachmentId={attachment}")).await;
    cloud
        .refused(
            "DetachNetworkInterface",
            &format!("AttachmentId={attachment}"),
            "InvalidAttachmentID.NotFound",
        )
        .await;
    // What is changed of a launched instance's interface is kept.
    cloud
        .ok(
            "ModifyNetworkInterfaceAttribute",
            &format!("NetworkInterfaceId={interface}&SourceDestCheck.Value=false"),
        )
        .await;
    let body = cloud.ok("DescribeInstances", &format!("InstanceId.1={}", instances[0])).await;
    assert_eq!(all(&body, "sourceDestCheck"), ["false"; 2]);
    cloud.ok("DeleteNetworkInterface", &format!("NetworkInterfaceId={second}")).await;
    let specified = |rest: &str| {
        launch(1, &format!("NetworkInterface.1.DeviceIndex=0&{}", rest.replace('~', "NetworkInterface.1.")))
    };
    let body = cloud
        .ok(
            "RunInstances",
            &specified(&format!(
                "~SubnetId={subnet}&~AssociatePublicIpAddress=true&~PrivateIpAddress={address}"
            )),
        )
        .await;
    assert_eq!(all(&body, "privateIpAddress")[0], address);
    assert!(one(&body, "ipAddress").starts_with("198.1"), "{body}");
    for (query, code) in [
        (specified(&format!("SubnetId={subnet}")), "InvalidParameterCombination"),
        (launch(1, "NetworkInterface.1.DeviceIndex=1"), "UnsupportedOperation"),
        (specified("~NetworkInterfaceId=eni-1"), "UnsupportedOperation"),
        (launch(2, &format!("SubnetId={subnet}&PrivateIpAddress=10.0.1.10")), "InvalidParameterCombination"),
        (launch(1, &format!("SubnetId={subnet}&PrivateIpAddress={address}")), "InvalidIPAddress.InUse"),
        (launch(1, "SubnetId=subnet-0123456789abcdef0"), "InvalidSubnetID.NotFound"),
    ] {
        cloud.refused("RunInstances", &query, code).await;
    }
}

#[tokio::test]
async fn elastic_addresses_move_and_outlive_what_they_are_associated_with() {
    let cloud = Cloud::new();
    let (_, subnet) = subnet_make(&cloud).await;
    let interface =
        one(&cloud.ok("CreateNetworkInterface", &format!("SubnetId={subnet}")).await, "networkInterfaceId");
    let body = cloud
        .ok(
            "AllocateAddress",
            "Domain=vpc&TagSpecification.1.ResourceType=elastic-ip&TagSpecification.1.Tag.1.Key=a",
        )
        .await;
    let (allocation, address) = (one(&body, "allocationId"), one(&body, "publicIp"));
    let associate = format!("AllocationId={allocation}&NetworkInterfaceId={interface}");
    let association = one(&cloud.ok("AssociateAddress", &associate).await, "associationId");
    assert_eq!(one(&cloud.ok("AssociateAddress", &associate).await, "associationId"), association);
    let body = cloud.ok("DescribeAddresses", &format!("PublicIp.1={address}")).await;
    assert_eq!((one(&body, "networkInterfaceId"), one(&body, "key")), (interface.clone(), "a".into()));
    let body = cloud.ok("DescribeNetworkInterfaces", &format!("NetworkInterfaceId.1={interface}")).await;
    assert_eq!(all(&body, "publicIp"), [address.clone(), address.clone()]);
    cloud.refused("ReleaseAddress", &format!("AllocationId={allocation}"), "InvalidIPAddress.InUse").await;
    // To an instance, unless that is forbidden; it goes with neither.
    let launch = format!("ImageId={IMAGE}&InstanceType=t3.nano&MinCount=1&MaxCount=1&SubnetId={subnet}");
    let instance = one(&cloud.ok("RunInstances", &launch).await, "instanceId");
    let to = format!("AllocationId={allocation}&InstanceId={instance}");
    cloud
        .refused("AssociateAddress", &format!("{to}&AllowReassociation=false"), "Resource.AlreadyAssociated")
        .await;
    let association = one(&cloud.ok("AssociateAddress", &to).await, "associationId");
    let body =
        cloud.ok("DescribeInstances", &format!("Filter.1.Name=ip-address&Filter.1.Value.1={address}")).await;
    assert_eq!(all(&body, "instanceId"), std::slice::from_ref(&instance));
    cloud.ok("DisassociateAddress", &format!("AssociationId={association}")).await;
    cloud
        .refused(
            "DisassociateAddress",
            &format!("AssociationId={association}"),
            "InvalidAssociationID.NotFound",
        )
        .await;
    cloud.ok("AssociateAddress", &associate).await;
    cloud.ok("DeleteNetworkInterface", &format!("NetworkInterfaceId={interface}")).await;
    let body = cloud.ok("DescribeAddresses", &format!("AllocationId.1={allocation}")).await;
    assert!(!body.contains("associationId"), "{body}");
    assert_eq!(
        all(&cloud.ok("DescribeAddressesAttribute", "Attribute=domain-name").await, "allocationId"),
        std::slice::from_ref(&allocation)
    );
    cloud.ok("ReleaseAddress", &format!("PublicIp={address}")).await;
    cloud
        .refused("ReleaseAddress", &format!("AllocationId={allocation}"), "InvalidAllocationID.NotFound")
        .await;
    cloud.refused("ReleaseAddress", "PublicIp=198.18.0.0", "InvalidAddress.NotFound").await;
}
