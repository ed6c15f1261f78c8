//! The operations of networks.

use super::*;

/// Operations that have no DryRun in AWS either.
pub(super) const WITHOUT_DRY_RUN: [&str; 10] = [
    "AssignIpv6Addresses",
    "AssignPrivateIpAddresses",
    "UnassignIpv6Addresses",
    "UnassignPrivateIpAddresses",
    "AssociateSubnetCidrBlock",
    "AssociateVpcCidrBlock",
    "DisassociateSubnetCidrBlock",
    "DisassociateVpcCidrBlock",
    "ModifySubnetAttribute",
    "ModifyVpcAttribute",
];

/// Parameters with which an operation could be carried out.
pub(super) fn query(operation: &str) -> String {
    let id = |parameter: &str, prefix: &str| format!("{parameter}={prefix}-0123456789abcdef0");
    let ids = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(parameter, prefix)| id(parameter, prefix)).collect::<Vec<_>>().join("&")
    };
    let entry = "RuleNumber=1&Protocol=-1&RuleAction=allow&Egress=false&CidrBlock=10.0.0.0/8";
    match operation {
        "AssociateDhcpOptions" => ids(&[("DhcpOptionsId", "dopt"), ("VpcId", "vpc")]),
        "AssociateRouteTable" => ids(&[("RouteTableId", "rtb"), ("SubnetId", "subnet")]),
        "AttachInternetGateway" | "DetachInternetGateway" => {
            ids(&[("InternetGatewayId", "igw"), ("VpcId", "vpc")])
        }
        "CreateDefaultSubnet" => "AvailabilityZone=us-east-1a".to_owned(),
        "CreateDhcpOptions" => {
            "DhcpConfiguration.1.Key=domain-name&DhcpConfiguration.1.Value.1=a.b".to_owned()
        }
        "CreateNetworkAcl" | "CreateRouteTable" | "DeleteVpc" => id("VpcId", "vpc"),
        "CreateNetworkAclEntry" | "ReplaceNetworkAclEntry" => {
            format!("{}&{entry}", id("NetworkAclId", "acl"))
        }
        "CreateRoute" | "ReplaceRoute" => {
            format!(
                "{}&DestinationCidrBlock=0.0.0.0/0",
                ids(&[("RouteTableId", "rtb"), ("GatewayId", "igw")])
            )
        }
        "CreateSubnet" => format!("{}&CidrBlock=10.0.0.0/24", id("VpcId", "vpc")),
        "CreateVpc" => "CidrBlock=10.0.0.0/16".to_owned(),
        "DeleteDhcpOptions" => id("DhcpOptionsId", "dopt"),
        "DeleteInternetGateway" => id("InternetGatewayId", "igw"),
        "DeleteNetworkAcl" => id("NetworkAclId", "acl"),
        "DeleteNetworkAclEntry" => format!("{}&RuleNumber=1&Egress=false", id("NetworkAclId", "acl")),
        "DeleteRoute" => format!("{}&DestinationCidrBlock=0.0.0.0/0", id("RouteTableId", "rtb")),
        "DeleteRouteTable" => id("RouteTableId", "rtb"),
        "DeleteSubnet" => id("SubnetId", "subnet"),
        "DisassociateRouteTable" => id("AssociationId", "rtbassoc"),
        "ReplaceNetworkAclAssociation" => ids(&[("AssociationId", "aclassoc"), ("NetworkAclId", "acl")]),
        "ReplaceRouteTableAssociation" => ids(&[("AssociationId", "rtbassoc"), ("RouteTableId", "rtb")]),
        _ => String::new(),
    }
}

#[tokio::test]
async fn an_account_begins_with_a_network() {
    let cloud = Cloud::new();
    let vpcs = cloud.ok("DescribeVpcs", "").await;
    assert_eq!(all(&vpcs, "isDefault"), ["true"]);
    let subnets = cloud.ok("DescribeSubnets", "Filter.1.Name=default-for-az&Filter.1.Value.1=true").await;
    assert_eq!(all(&subnets, "availableIpAddressCount"), ["4091"; 3]);
    let vpc = one(&vpcs, "vpcId");
    let routes =
        cloud.ok("DescribeRouteTables", "Filter.1.Name=association.main&Filter.1.Value.1=true").await;
    assert_eq!(all(&routes, "state"), ["associated", "active", "active"], "{routes}");
    let gateway = one(&cloud.ok("DescribeInternetGateways", "").await, "internetGatewayId");
    assert!(routes.contains(&format!("<gatewayId>{gateway}</gatewayId>")), "{routes}");
    cloud
        .refused(
            "DetachInternetGateway",
            &format!("InternetGatewayId={gateway}&VpcId=vpc-1"),
            "InvalidVpcID.Malformed",
        )
        .await;
    cloud.refused("CreateDefaultVpc", "", "DefaultVpcAlreadyExists").await;
    cloud
        .refused(
            "CreateDefaultSubnet",
            "AvailabilityZone=us-east-1a",
            "DefaultSubnetAlreadyExistsInAvailabilityZone",
        )
        .await;
    cloud.refused("DeleteVpc", &format!("VpcId={vpc}"), "DependencyViolation").await;
    for subnet in all(&subnets, "subnetId") {
        cloud.ok("DeleteSubnet", &format!("SubnetId={subnet}")).await;
    }
    cloud.ok("CreateDefaultSubnet", "AvailabilityZone=us-east-1b").await;
    let subnet = one(&cloud.ok("DescribeSubnets", "").await, "subnetId");
    cloud.ok("DeleteSubnet", &format!("SubnetId={subnet}")).await;
    // A route whose gateway is gone is a black hole.
    cloud.ok("DetachInternetGateway", &format!("InternetGatewayId={gateway}&VpcId={vpc}")).await;
    let query = "Filter.1.Name=route.state&Filter.1.Value.1=blackhole";
    assert_eq!(all(&cloud.ok("DescribeRouteTables", query).await, "vpcId"), std::slice::from_ref(&vpc));
    cloud.ok("DeleteVpc", &format!("VpcId={vpc}")).await;
    cloud.refused("CreateDefaultSubnet", "AvailabilityZone=us-east-1a", "DefaultVpcDoesNotExist").await;
    let body = cloud.ok("DescribeAccountAttributes", "AttributeName.1=default-vpc").await;
    assert_eq!(all(&body, "attributeValue"), ["none"]);
    assert_ne!(one(&cloud.ok("CreateDefaultVpc", "").await, "vpcId"), vpc);
    assert_eq!(all(&cloud.ok("DescribeSubnets", "").await, "subnetId").len(), 3);
}

async fn vpc_make(cloud: &Cloud, cidr: &str) -> String {
    one(&cloud.ok("CreateVpc", &format!("CidrBlock={cidr}")).await, "vpcId")
}

#[tokio::test]
async fn a_vpc_comes_and_goes_with_what_every_vpc_has() {
    let cloud = Cloud::new();
    let tags = "TagSpecification.1.ResourceType=vpc&TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=x";
    let body = cloud
        .ok("CreateVpc", &format!("CidrBlock=10.0.0.1/16&AmazonProvidedIpv6CidrBlock=true&{tags}"))
        .await;
    assert_eq!(one(&body, "cidrBlock"), "10.0.0.0/16");
    assert!(one(&body, "ipv6CidrBlock").ends_with("::/56"), "{body}");
    assert!(body.contains("<key>Name</key><value>x</value>"), "{body}");
    let vpc = one(&body, "vpcId");
    let filter = format!("Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}");
    for operation in ["DescribeNetworkAcls", "DescribeRouteTables", "DescribeSecurityGroups"] {
        assert_eq!(
            all(&cloud.ok(operation, &filter).await, "vpcId"),
            std::slice::from_ref(&vpc),
            "{operation}"
        );
    }
    for (attribute, before) in [
        ("enableDnsSupport", "true"),
        ("enableDnsHostnames", "false"),
        ("enableNetworkAddressUsageMetrics", "false"),
    ] {
        let query = format!("VpcId={vpc}&Attribute={attribute}");
        assert_eq!(one(&cloud.ok("DescribeVpcAttribute", &query).await, "value"), before);
        let after = if before == "true" { "false" } else { "true" };
        let parameter = attribute.replacen('e', "E", 1);
        cloud.ok("ModifyVpcAttribute", &format!("VpcId={vpc}&{parameter}.Value={after}")).await;
        assert_eq!(one(&cloud.ok("DescribeVpcAttribute", &query).await, "value"), after);
    }
    cloud.refused("ModifyVpcAttribute", &format!("VpcId={vpc}"), "MissingParameter").await;
    for (cidr, code) in [
        ("10.0.0.0/15", "InvalidVpc.Range"),
        ("10.0.0.0/29", "InvalidVpc.Range"),
        ("127.0.0.0/16", "InvalidVpc.Range"),
        ("10.0.0.0", "InvalidParameterValue"),
        ("10.0.0.300/16", "InvalidParameterValue"),
        ("::/56", "InvalidParameterValue"),
    ] {
        cloud.refused("CreateVpc", &format!("CidrBlock={cidr}"), code).await;
    }
    cloud.refused("CreateVpc", "", "MissingParameter").await;
    cloud.refused("CreateVpc", "CidrBlock=10.0.0.0/16&Ipv4IpamPoolId=x", "UnsupportedOperation").await;
    cloud.refused("CreateVpc", "CidrBlock=10.0.0.0/16&InstanceTenancy=host", "UnsupportedOperation").await;
    cloud.ok("DeleteVpc", &format!("VpcId={vpc}")).await;
    for operation in ["DescribeNetworkAcls", "DescribeRouteTables", "DescribeSecurityGroups", "DescribeVpcs"]
    {
        assert!(all(&cloud.ok(operation, &filter).await, "vpcId").is_empty(), "{operation}");
    }
    cloud.refused("DeleteVpc", &format!("VpcId={vpc}"), "InvalidVpcID.NotFound").await;
}

#[tokio::test]
async fn no_network_identifier_is_given_twice() {
    let cloud = Cloud::new();
    let vnis = |cloud: &Cloud| {
        let model = cloud.model.read().unwrap();
        let account = model.account(cloud.caller.account).unwrap();
        account.all::<VpcRecord>().map(|vpc| vpc.vni).collect::<Vec<_>>()
    };
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let before = vnis(&cloud);
    cloud.ok("DeleteVpc", &format!("VpcId={vpc}")).await;
    let model = cloud.model.read().unwrap();
    assert!(before.iter().all(|vni| model.is_held(crate::pool::Holding::Vni(*vni))));
}

#[tokio::test]
async fn ranges_of_a_vpc_come_and_go() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let add = |what: &str| format!("VpcId={vpc}&{what}");
    let body = cloud.ok("AssociateVpcCidrBlock", &add("CidrBlock=10.1.0.0/16")).await;
    assert_eq!(one(&body, "state"), "associating");
    let association = one(&body, "associationId");
    cloud.refused("AssociateVpcCidrBlock", &add("CidrBlock=10.1.128.0/20"), "InvalidVpc.Range").await;
    let subnet = one(&cloud.ok("CreateSubnet", &add("CidrBlock=10.1.2.0/24")).await, "subnetId");
    let remove = format!("AssociationId={association}");
    cloud.refused("DisassociateVpcCidrBlock", &remove, "DependencyViolation").await;
    cloud.ok("DeleteSubnet", &format!("SubnetId={subnet}")).await;
    assert_eq!(one(&cloud.ok("DisassociateVpcCidrBlock", &remove).await, "state"), "disassociating");
    cloud.refused("DisassociateVpcCidrBlock", &remove, "InvalidVpcCidrBlockAssociationID.NotFound").await;
    let first = one(&cloud.ok("DescribeVpcs", &format!("VpcId.1={vpc}")).await, "associationId");
    cloud
        .refused("DisassociateVpcCidrBlock", &format!("AssociationId={first}"), "OperationNotPermitted")
        .await;
    let body = cloud.ok("AssociateVpcCidrBlock", &add("AmazonProvidedIpv6CidrBlock=true")).await;
    let ipv6 = one(&body, "ipv6CidrBlock");
    let cidr = ipv6.replace("::/56", "::/64");
    let subnet = one(&cloud.ok("CreateSubnet", &add("CidrBlock=10.0.2.0/24")).await, "subnetId");
    let body = cloud.ok("AssociateSubnetCidrBlock", &format!("SubnetId={subnet}&Ipv6CidrBlock={cidr}")).await;
    cloud
        .refused(
            "CreateSubnet",
            &add(&format!("CidrBlock=10.0.3.0/24&Ipv6CidrBlock={cidr}")),
            "InvalidSubnet.Conflict",
        )
        .await;
    cloud
        .refused("CreateSubnet", &add("CidrBlock=10.0.3.0/24&Ipv6CidrBlock=fd01::/64"), "InvalidSubnet.Range")
        .await;
    cloud
        .ok("ModifySubnetAttribute", &format!("SubnetId={subnet}&AssignIpv6AddressOnCreation.Value=true"))
        .await;
    cloud.ok("DisassociateSubnetCidrBlock", &format!("AssociationId={}", one(&body, "associationId"))).await;
    let body = cloud.ok("DescribeSubnets", &format!("SubnetId.1={subnet}")).await;
    assert_eq!(one(&body, "assignIpv6AddressOnCreation"), "false");
}

#[tokio::test]
async fn subnets_share_no_address_and_stay_in_their_vpc() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let with = |what: &str| format!("VpcId={vpc}&{what}");
    let body = cloud.ok("CreateSubnet", &with("CidrBlock=10.0.1.0/24&AvailabilityZoneId=use1-az2")).await;
    assert_eq!(one(&body, "availabilityZone"), "us-east-1b");
    assert_eq!(one(&body, "availableIpAddressCount"), "251");
    assert_eq!(one(&body, "mapPublicIpOnLaunch"), "false");
    for (cidr, code) in [
        ("10.0.1.128/25", "InvalidSubnet.Conflict"),
        ("10.0.0.0/16", "InvalidSubnet.Conflict"),
        ("10.1.0.0/24", "InvalidSubnet.Range"),
        ("10.0.0.0/15", "InvalidSubnet.Range"),
        ("10.0.2.0/29", "InvalidSubnet.Range"),
        ("10.0.2.0", "InvalidParameterValue"),
    ] {
        cloud.refused("CreateSubnet", &with(&format!("CidrBlock={cidr}")), code).await;
    }
    cloud
        .refused(
            "CreateSubnet",
            &with("CidrBlock=10.0.2.0/24&AvailabilityZone=mars-1a"),
            "InvalidParameterValue",
        )
        .await;
    let subnet = one(&body, "subnetId");
    let modify = |what: &str| format!("SubnetId={subnet}&{what}");
    cloud.ok("ModifySubnetAttribute", &modify("MapPublicIpOnLaunch.Value=true")).await;
    cloud.ok("ModifySubnetAttribute", &modify("EnableDns64.Value=false")).await;
    cloud.refused("ModifySubnetAttribute", &modify("EnableDns64.Value=true"), "UnsupportedOperation").await;
    cloud
        .refused(
            "ModifySubnetAttribute",
            &modify("AssignIpv6AddressOnCreation.Value=true"),
            "InvalidParameterValue",
        )
        .await;
    let body = cloud.ok("DescribeSubnets", "Filter.1.Name=cidr-block&Filter.1.Value.1=10.0.1.0/24").await;
    assert_eq!(one(&body, "mapPublicIpOnLaunch"), "true");
    cloud.refused("DeleteSubnet", "SubnetId=subnet-0123456789abcdef0", "InvalidSubnetID.NotFound").await;
}

#[tokio::test]
async fn subnets_use_their_own_route_table_or_the_main_one() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let subnet =
        one(&cloud.ok("CreateSubnet", &format!("VpcId={vpc}&CidrBlock=10.0.1.0/24")).await, "subnetId");
    let create = format!("VpcId={vpc}&ClientToken=t");
    let table = one(&cloud.ok("CreateRouteTable", &create).await, "routeTableId");
    // A token makes one table, and the same parameters must come with it.
    assert_eq!(one(&cloud.ok("CreateRouteTable", &create).await, "routeTableId"), table);
    let other =
        format!("{create}&TagSpecification.1.ResourceType=route-table&TagSpecification.1.Tag.1.Key=a");
    cloud.refused("CreateRouteTable", &other, "IdempotentParameterMismatch").await;
    let associate = format!("RouteTableId={table}&SubnetId={subnet}");
    let association = one(&cloud.ok("AssociateRouteTable", &associate).await, "associationId");
    cloud.refused("DeleteRouteTable", &format!("RouteTableId={table}"), "DependencyViolation").await;
    let second = one(&cloud.ok("CreateRouteTable", &format!("VpcId={vpc}")).await, "routeTableId");
    let query = format!("RouteTableId={second}&SubnetId={subnet}");
    cloud.refused("AssociateRouteTable", &query, "Resource.AlreadyAssociated").await;
    let replace = format!("AssociationId={association}&RouteTableId={second}");
    let association = one(&cloud.ok("ReplaceRouteTableAssociation", &replace).await, "newAssociationId");
    cloud.refused("ReplaceRouteTableAssociation", &replace, "InvalidAssociationID.NotFound").await;
    cloud.ok("DisassociateRouteTable", &format!("AssociationId={association}")).await;
    cloud.ok("DeleteRouteTable", &format!("RouteTableId={second}")).await;
    // Another table becomes the main one.
    let filter = format!(
        "Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}&Filter.2.Name=association.main&Filter.2.Value.1=true"
    );
    let body = cloud.ok("DescribeRouteTables", &filter).await;
    let (main, old) = (one(&body, "routeTableAssociationId"), one(&body, "routeTableId"));
    cloud.refused("DisassociateRouteTable", &format!("AssociationId={main}"), "InvalidParameterValue").await;
    cloud.ok("ReplaceRouteTableAssociation", &format!("AssociationId={main}&RouteTableId={table}")).await;
    cloud.refused("DeleteRouteTable", &format!("RouteTableId={table}"), "DependencyViolation").await;
    cloud.ok("DeleteRouteTable", &format!("RouteTableId={old}")).await;
    let foreign = one(
        &cloud.ok("DescribeSubnets", "Filter.1.Name=default-for-az&Filter.1.Value.1=true").await,
        "subnetId",
    );
    let query = format!("RouteTableId={table}&SubnetId={foreign}");
    cloud.refused("AssociateRouteTable", &query, "InvalidParameterValue").await;
}

#[tokio::test]
async fn routes_lead_to_gateways_of_their_own_vpc() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let table = one(&cloud.ok("CreateRouteTable", &format!("VpcId={vpc}")).await, "routeTableId");
    let gateway = one(&cloud.ok("CreateInternetGateway", "").await, "internetGatewayId");
    let route = format!("RouteTableId={table}&DestinationCidrBlock=0.0.0.0/0&GatewayId={gateway}");
    cloud.refused("CreateRoute", &route, "InvalidParameterValue").await;
    let attach = format!("InternetGatewayId={gateway}&VpcId={vpc}");
    cloud.refused("DetachInternetGateway", &attach, "Gateway.NotAttached").await;
    cloud.ok("AttachInternetGateway", &attach).await;
    cloud.refused("AttachInternetGateway", &attach, "Resource.AlreadyAssociated").await;
    cloud
        .refused("DeleteInternetGateway", &format!("InternetGatewayId={gateway}"), "DependencyViolation")
        .await;
    let second = one(&cloud.ok("CreateInternetGateway", "").await, "internetGatewayId");
    let query = format!("InternetGatewayId={second}&VpcId={vpc}");
    cloud.refused("AttachInternetGateway", &query, "InvalidParameterValue").await;
    cloud.ok("DeleteInternetGateway", &format!("InternetGatewayId={second}")).await;
    cloud.ok("CreateRoute", &route).await;
    cloud.refused("CreateRoute", &route, "RouteAlreadyExists").await;
    let local = format!("RouteTableId={table}&DestinationCidrBlock=10.0.0.0/16&GatewayId={gateway}");
    cloud.refused("CreateRoute", &local, "RouteAlreadyExists").await;
    cloud.ok("ReplaceRoute", &route).await;
    let both = format!("{route}&DestinationIpv6CidrBlock=::/0");
    cloud.refused("CreateRoute", &both, "InvalidParameterCombination").await;
    let delete = format!("RouteTableId={table}&DestinationCidrBlock=0.0.0.0/0");
    cloud.ok("DeleteRoute", &delete).await;
    cloud.refused("DeleteRoute", &delete, "InvalidRoute.NotFound").await;
    cloud.refused("ReplaceRoute", &route, "InvalidRoute.NotFound").await;
    cloud.refused("CreateRoute", &format!("{delete}&GatewayId=what"), "InvalidParameterValue").await;
}

#[tokio::test]
async fn dhcp_options_are_checked_and_kept_while_they_are_used() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let option = |index: u32, key: &str, value: &str| {
        format!("DhcpConfiguration.{index}.Key={key}&DhcpConfiguration.{index}.Value.1={value}")
    };
    let two = format!("{}&{}", option(1, "ntp-servers", "10.0.0.9"), option(2, "domain-name", "example.com"));
    let body = cloud.ok("CreateDhcpOptions", &two).await;
    assert_eq!(all(&body, "key"), ["domain-name", "ntp-servers"]);
    assert_eq!(all(&body, "value"), ["example.com", "10.0.0.9"]);
    let options = one(&body, "dhcpOptionsId");
    cloud.ok("AssociateDhcpOptions", &format!("DhcpOptionsId={options}&VpcId={vpc}")).await;
    let query = format!("Filter.1.Name=dhcp-options-id&Filter.1.Value.1={options}");
    assert_eq!(all(&cloud.ok("DescribeVpcs", &query).await, "vpcId"), std::slice::from_ref(&vpc));
    cloud.refused("DeleteDhcpOptions", &format!("DhcpOptionsId={options}"), "DependencyViolation").await;
    cloud.ok("AssociateDhcpOptions", &format!("DhcpOptionsId=default&VpcId={vpc}")).await;
    cloud.ok("DeleteDhcpOptions", &format!("DhcpOptionsId={options}")).await;
    for (query, code) in [
        (option(1, "ntp-servers", "time.example.com"), "InvalidParameterValue"),
        (option(1, "colour", "red"), "InvalidParameterValue"),
        (option(1, "netbios-node-type", "3"), "InvalidParameterValue"),
        (
            format!("{}&{}", option(1, "domain-name", "a"), option(2, "domain-name", "b")),
            "InvalidParameterValue",
        ),
        (String::new(), "MissingParameter"),
    ] {
        cloud.refused("CreateDhcpOptions", &query, code).await;
    }
}

#[tokio::test]
async fn network_acls_have_entries_in_order_and_a_last_one_that_denies() {
    let cloud = Cloud::new();
    let vpc = vpc_make(&cloud, "10.0.0.0/16").await;
    let subnet =
        one(&cloud.ok("CreateSubnet", &format!("VpcId={vpc}&CidrBlock=10.0.1.0/24")).await, "subnetId");
    let acl = one(&cloud.ok("CreateNetworkAcl", &format!("VpcId={vpc}")).await, "networkAclId");
    let entry = |number: &str, rest: &str| {
        format!("NetworkAclId={acl}&RuleNumber={number}&RuleAction=allow&Egress=false&{rest}")
    };
    let web = "Protocol=tcp&CidrBlock=0.0.0.0/0&PortRange.From=80&PortRange.To=81";
    cloud.ok("CreateNetworkAclEntry", &entry("200", web)).await;
    cloud
        .ok("CreateNetworkAclEntry", &entry("100", "Protocol=1&Ipv6CidrBlock=::/0&Icmp.Type=-1&Icmp.Code=-1"))
        .await;
    cloud.refused("CreateNetworkAclEntry", &entry("200", web), "NetworkAclEntryAlreadyExists").await;
    for rest in [
        "Protocol=tcp&CidrBlock=0.0.0.0/0",
        "Protocol=tcp&CidrBlock=0.0.0.0/0&PortRange.From=2&PortRange.To=1",
        "Protocol=what&CidrBlock=0.0.0.0/0",
        "Protocol=-1",
        "Protocol=icmp&CidrBlock=0.0.0.0/0&Icmp.Type=256&Icmp.Code=0",
    ] {
        let response = cloud.call("CreateNetworkAclEntry", &entry("300", rest)).await;
        assert_eq!(response.status, 400, "{rest}");
    }
    cloud.refused("CreateNetworkAclEntry", &entry("32767", web), "InvalidParameterValue").await;
    let body = cloud.ok("DescribeNetworkAcls", &format!("NetworkAclId.1={acl}")).await;
    assert_eq!(all(&body, "ruleNumber"), ["100", "200", "32767", "32767"]);
    cloud.ok("ReplaceNetworkAclEntry", &entry("200", "Protocol=-1&CidrBlock=10.0.0.0/8")).await;
    cloud.refused("ReplaceNetworkAclEntry", &entry("7", web), "InvalidNetworkAclEntry.NotFound").await;
    let filter = format!("Filter.1.Name=association.subnet-id&Filter.1.Value.1={subnet}");
    let body = cloud.ok("DescribeNetworkAcls", &filter).await;
    assert_eq!(one(&body, "default"), "true");
    let (default, association) = (one(&body, "networkAclId"), one(&body, "networkAclAssociationId"));
    let replace = format!("AssociationId={association}&NetworkAclId={acl}");
    cloud.ok("ReplaceNetworkAclAssociation", &replace).await;
    cloud.refused("ReplaceNetworkAclAssociation", &replace, "InvalidAssociationID.NotFound").await;
    cloud.refused("DeleteNetworkAcl", &format!("NetworkAclId={acl}"), "DependencyViolation").await;
    cloud.refused("DeleteNetworkAcl", &format!("NetworkAclId={default}"), "InvalidParameterValue").await;
    cloud.ok("DeleteSubnet", &format!("SubnetId={subnet}")).await;
    cloud.ok("DeleteNetworkAclEntry", &format!("NetworkAclId={acl}&RuleNumber=100&Egress=false")).await;
    cloud.ok("DeleteNetworkAcl", &format!("NetworkAclId={acl}")).await;
    cloud.ok("DeleteVpc", &format!("VpcId={vpc}")).await;
}
