"""botocore's models as the oracle: every operation is called once through boto3, and every answer is held against the
model. Called by the test `oracle`, which knows from the code which operations there are.

Of each answer: every element is a member that the model has (AWS's client would drop another silently), every
member that we promise is there and not empty, and what the model requires is there.
"""

import base64
import json
import time
import xml.etree.ElementTree

import jmespath


def run(client):
    ec2, sts, quotas = client("ec2"), client("sts"), client("service-quotas")
    watch = Watch()
    for each in (ec2, sts, quotas):
        watch.follow(each)
    called = {}

    def call(service, operation, promises, **parameters):
        """Calls it and requires what is promised (JMESPath)."""
        method = next(name for name, of in service.meta.method_to_api_mapping.items() if of == operation)
        answer = getattr(service, method)(**parameters)
        for promise in promises.split():
            found = jmespath.search(promise, answer)
            empty = found is None or found == "" or found == [] or (isinstance(found, list) and None in found)
            assert not empty, f"{operation} promises {promise} and answers {answer}"
        called.setdefault(service.meta.service_model.service_id.hyphenize(), set()).add(operation)
        return answer

    accounts_and_zones(call, ec2, sts, quotas)
    images_and_types(call, ec2)
    network(call, ec2)
    key_pairs(call, ec2)
    instances(call, ec2)
    return {
        "called": {service: sorted(operations) for service, operations in called.items()},
        "invented": sorted(watch.invented),
        "members": {name: [len(seen), count] for name, (seen, count) in sorted(watch.members.items())},
    }


def accounts_and_zones(call, ec2, sts, quotas):
    call(sts, "GetCallerIdentity", "UserId Account Arn")
    call(ec2, "DescribeAccountAttributes", "AccountAttributes[].AttributeName "
         "AccountAttributes[].AttributeValues[].AttributeValue")
    call(ec2, "DescribeRegions", "Regions[].RegionName Regions[].Endpoint Regions[].OptInStatus")
    call(ec2, "DescribeAvailabilityZones", "AvailabilityZones[].ZoneName AvailabilityZones[].ZoneId "
         "AvailabilityZones[].State AvailabilityZones[].RegionName AvailabilityZones[].ZoneType")
    call(quotas, "ListServiceQuotas", "Quotas[].QuotaCode Quotas[].Value Quotas[].QuotaName", ServiceCode="ec2")
    call(quotas, "GetServiceQuota", "Quota.QuotaArn Quota.Value Quota.ServiceName", ServiceCode="ec2",
         QuotaCode="L-1216C47A")


def images_and_types(call, ec2):
    call(ec2, "DescribeImages", "Images[].ImageId Images[].Name Images[].State Images[].Architecture "
         "Images[].CreationDate Images[].RootDeviceName Images[].OwnerId Images[].ImageType")
    call(ec2, "DescribeInstanceTypes", "InstanceTypes[].InstanceType InstanceTypes[].VCpuInfo.DefaultVCpus "
         "InstanceTypes[].MemoryInfo.SizeInMiB InstanceTypes[].ProcessorInfo.SupportedArchitectures")
    call(ec2, "DescribeInstanceTypeOfferings", "InstanceTypeOfferings[].InstanceType "
         "InstanceTypeOfferings[].LocationType InstanceTypeOfferings[].Location")


def network(call, ec2):
    default_network(call, ec2)
    vpc = vpcs(call, ec2)
    subnet = subnets(call, ec2, vpc)
    route_tables(call, ec2, vpc, subnet)
    dhcp_options(call, ec2, vpc)
    network_acls(call, ec2, vpc, subnet)
    security_groups(call, ec2, vpc)
    interfaces(call, ec2, vpc)
    call(ec2, "DeleteSubnet", "ResponseMetadata", SubnetId=subnet)
    call(ec2, "DeleteVpc", "ResponseMetadata", VpcId=vpc)
    refused(ec2.describe_vpcs, "InvalidVpcID.NotFound", VpcIds=[vpc])


def refused(method, code, **parameters):
    """The call must be refused with this code."""
    try:
        method(**parameters)
    except Exception as error:
        assert error.response["Error"]["Code"] == code, error
    else:
        raise AssertionError(f"{parameters} was not refused with {code}")


def tagged(kind):
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": "oracle"}]}]


def default_network(call, ec2):
    vpcs = call(ec2, "DescribeVpcs", "Vpcs[].VpcId Vpcs[].CidrBlock Vpcs[].State Vpcs[].OwnerId Vpcs[].DhcpOptionsId "
                "Vpcs[].CidrBlockAssociationSet[].AssociationId")
    assert [vpc["IsDefault"] for vpc in vpcs["Vpcs"]] == [True]
    subnets = call(ec2, "DescribeSubnets", "Subnets[].SubnetId Subnets[].VpcId Subnets[].CidrBlock Subnets[].State "
                   "Subnets[].AvailabilityZone Subnets[].SubnetArn")["Subnets"]
    call(ec2, "DescribeSecurityGroups", "SecurityGroups[].GroupId SecurityGroups[].GroupName SecurityGroups[].VpcId "
         "SecurityGroups[].Description SecurityGroups[].IpPermissionsEgress[].IpRanges[].CidrIp")
    zone = subnets[0]["AvailabilityZone"]
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    call(ec2, "CreateDefaultSubnet", "Subnet.SubnetId", AvailabilityZone=zone)
    made = ec2.describe_subnets()["Subnets"]
    ec2.delete_subnet(SubnetId=made[0]["SubnetId"])
    vpc = vpcs["Vpcs"][0]["VpcId"]
    gateway = ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    call(ec2, "DetachInternetGateway", "ResponseMetadata", InternetGatewayId=gateway, VpcId=vpc)
    call(ec2, "DeleteInternetGateway", "ResponseMetadata", InternetGatewayId=gateway)
    ec2.delete_vpc(VpcId=vpc)
    vpc = call(ec2, "CreateDefaultVpc", "Vpc.VpcId")["Vpc"]
    assert vpc["IsDefault"] and len(ec2.describe_subnets()["Subnets"]) == len(subnets)


def vpcs(call, ec2):
    vpc = call(ec2, "CreateVpc", "Vpc.VpcId Vpc.CidrBlock Vpc.Tags", CidrBlock="10.0.0.0/16",
               TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc])
    call(ec2, "ModifyVpcAttribute", "ResponseMetadata", VpcId=vpc, EnableDnsHostnames={"Value": True})
    answer = call(ec2, "DescribeVpcAttribute", "VpcId", VpcId=vpc, Attribute="enableDnsHostnames")
    assert answer["EnableDnsHostnames"]["Value"]
    for parameters in ({"CidrBlock": "10.9.0.0/16"}, {"AmazonProvidedIpv6CidrBlock": True}):
        answer = call(ec2, "AssociateVpcCidrBlock", "VpcId", VpcId=vpc, **parameters)
        if "CidrBlockAssociation" in answer:
            call(ec2, "DisassociateVpcCidrBlock", "CidrBlockAssociation.CidrBlockState.State",
                 AssociationId=answer["CidrBlockAssociation"]["AssociationId"])
    return vpc


def subnets(call, ec2, vpc):
    subnet = call(ec2, "CreateSubnet", "Subnet.SubnetId Subnet.AvailabilityZoneId Subnet.AvailableIpAddressCount "
                  "Subnet.PrivateDnsNameOptionsOnLaunch.HostnameType Subnet.Tags", VpcId=vpc, CidrBlock="10.0.1.0/24",
                  TagSpecifications=tagged("subnet"))["Subnet"]["SubnetId"]
    ec2.get_waiter("subnet_available").wait(SubnetIds=[subnet])
    call(ec2, "ModifySubnetAttribute", "ResponseMetadata", SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    ipv6 = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    answer = call(ec2, "AssociateSubnetCidrBlock", "Ipv6CidrBlockAssociation.Ipv6CidrBlockState.State", SubnetId=subnet,
                  Ipv6CidrBlock=ipv6.replace("/56", "/64"))
    call(ec2, "DisassociateSubnetCidrBlock", "SubnetId Ipv6CidrBlockAssociation.Ipv6CidrBlock",
         AssociationId=answer["Ipv6CidrBlockAssociation"]["AssociationId"])
    return subnet


def route_tables(call, ec2, vpc, subnet):
    table = call(ec2, "CreateRouteTable", "RouteTable.RouteTableId RouteTable.Routes[].GatewayId RouteTable.Tags",
                 VpcId=vpc, TagSpecifications=tagged("route-table"))["RouteTable"]["RouteTableId"]
    gateway = call(ec2, "CreateInternetGateway", "InternetGateway.InternetGatewayId InternetGateway.Tags",
                   TagSpecifications=tagged("internet-gateway"))["InternetGateway"]["InternetGatewayId"]
    call(ec2, "AttachInternetGateway", "ResponseMetadata", InternetGatewayId=gateway, VpcId=vpc)
    call(ec2, "DescribeInternetGateways", "InternetGateways[].Attachments[].VpcId InternetGateways[].OwnerId",
         InternetGatewayIds=[gateway])
    route = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    call(ec2, "CreateRoute", "Return", GatewayId=gateway, **route)
    call(ec2, "ReplaceRoute", "ResponseMetadata", GatewayId=gateway, **route)
    association = call(ec2, "AssociateRouteTable", "AssociationId AssociationState.State", RouteTableId=table,
                       SubnetId=subnet)["AssociationId"]
    answer = call(ec2, "DescribeRouteTables", "RouteTables[].Associations[].SubnetId RouteTables[].Routes[].State "
                  "RouteTables[].Routes[].Origin", RouteTableIds=[table])
    assert [route["State"] for route in answer["RouteTables"][0]["Routes"]][-1] == "active"
    association = call(ec2, "ReplaceRouteTableAssociation", "NewAssociationId", AssociationId=association,
                       RouteTableId=table)["NewAssociationId"]
    call(ec2, "DisassociateRouteTable", "ResponseMetadata", AssociationId=association)
    call(ec2, "DeleteRoute", "ResponseMetadata", **route)
    call(ec2, "DeleteRouteTable", "ResponseMetadata", RouteTableId=table)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)


def dhcp_options(call, ec2, vpc):
    options = call(ec2, "CreateDhcpOptions", "DhcpOptions.DhcpOptionsId DhcpOptions.DhcpConfigurations[].Values[].Value",
                   DhcpConfigurations=[{"Key": "domain-name", "Values": ["example.com"]}],
                   TagSpecifications=tagged("dhcp-options"))["DhcpOptions"]["DhcpOptionsId"]
    call(ec2, "AssociateDhcpOptions", "ResponseMetadata", DhcpOptionsId=options, VpcId=vpc)
    call(ec2, "DescribeDhcpOptions", "DhcpOptions[].OwnerId DhcpOptions[].DhcpConfigurations[].Key")
    refused(ec2.delete_dhcp_options, "DependencyViolation", DhcpOptionsId=options)
    ec2.associate_dhcp_options(DhcpOptionsId="default", VpcId=vpc)
    call(ec2, "DeleteDhcpOptions", "ResponseMetadata", DhcpOptionsId=options)


def network_acls(call, ec2, vpc, subnet):
    acl = call(ec2, "CreateNetworkAcl", "NetworkAcl.NetworkAclId NetworkAcl.Entries[].RuleAction", VpcId=vpc,
               TagSpecifications=tagged("network-acl"))["NetworkAcl"]["NetworkAclId"]
    entry = {"NetworkAclId": acl, "RuleNumber": 100, "Egress": False, "CidrBlock": "0.0.0.0/0"}
    call(ec2, "CreateNetworkAclEntry", "ResponseMetadata", Protocol="6", RuleAction="allow",
         PortRange={"From": 80, "To": 80}, **entry)
    call(ec2, "ReplaceNetworkAclEntry", "ResponseMetadata", Protocol="1", RuleAction="deny",
         IcmpTypeCode={"Type": -1, "Code": -1}, **entry)
    acls = call(ec2, "DescribeNetworkAcls", "NetworkAcls[].Entries[].Protocol NetworkAcls[].OwnerId",
                Filters=[{"Name": "vpc-id", "Values": [vpc]}])["NetworkAcls"]
    used = next(one for one in acls if one["IsDefault"])
    replaced = call(ec2, "ReplaceNetworkAclAssociation", "NewAssociationId", NetworkAclId=acl,
                    AssociationId=used["Associations"][0]["NetworkAclAssociationId"])
    refused(ec2.delete_network_acl, "DependencyViolation", NetworkAclId=acl)
    ec2.replace_network_acl_association(AssociationId=replaced["NewAssociationId"], NetworkAclId=used["NetworkAclId"])
    call(ec2, "DeleteNetworkAclEntry", "ResponseMetadata", NetworkAclId=acl, RuleNumber=100, Egress=False)
    call(ec2, "DeleteNetworkAcl", "ResponseMetadata", NetworkAclId=acl)


def security_groups(call, ec2, vpc):
    group = call(ec2, "CreateSecurityGroup", "GroupId Tags SecurityGroupArn", GroupName="oracle", Description="oracle",
                 VpcId=vpc, TagSpecifications=tagged("security-group"))["GroupId"]
    web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "a"}]}
    promised = " ".join(f"SecurityGroupRules[].{member}" for member in (
        "SecurityGroupRuleId", "GroupId", "GroupOwnerId", "IpProtocol", "FromPort", "ToPort", "SecurityGroupRuleArn"))
    rule = call(ec2, "AuthorizeSecurityGroupIngress", f"{promised} SecurityGroupRules[].Description", GroupId=group,
                IpPermissions=[web])["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    call(ec2, "AuthorizeSecurityGroupEgress", f"{promised} SecurityGroupRules[].ReferencedGroupInfo.GroupId",
         GroupId=group, IpPermissions=[pair])
    call(ec2, "DescribeSecurityGroupRules", promised, Filters=[{"Name": "group-id", "Values": [group]}])
    call(ec2, "ModifySecurityGroupRules", "Return", GroupId=group, SecurityGroupRules=[
        {"SecurityGroupRuleId": rule, "SecurityGroupRule": {"IpProtocol": "udp", "FromPort": 1, "ToPort": 2,
                                                            "CidrIpv4": "10.0.0.0/8"}}])
    call(ec2, "UpdateSecurityGroupRuleDescriptionsIngress", "Return", GroupId=group, SecurityGroupRuleDescriptions=[
        {"SecurityGroupRuleId": rule, "Description": "b"}])
    call(ec2, "UpdateSecurityGroupRuleDescriptionsEgress", "Return", GroupId=group, IpPermissions=[pair])
    call(ec2, "RevokeSecurityGroupIngress", "RevokedSecurityGroupRules[].SecurityGroupRuleId", GroupId=group,
         SecurityGroupRuleIds=[rule])
    call(ec2, "RevokeSecurityGroupEgress", "RevokedSecurityGroupRules[].ReferencedGroupId", GroupId=group,
         IpPermissions=[pair])
    call(ec2, "DeleteSecurityGroup", "GroupId", GroupId=group)


def interfaces(call, ec2, vpc):
    ipv6 = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.7.0/24", Ipv6CidrBlock=ipv6.replace("/56", "/64"))
    subnet = subnet["Subnet"]["SubnetId"]
    promised = ("NetworkInterfaceId SubnetId VpcId AvailabilityZone OwnerId Status MacAddress PrivateIpAddress "
                "PrivateIpAddresses[].PrivateIpAddress Groups[].GroupId InterfaceType").split()
    made = call(ec2, "CreateNetworkInterface", " ".join(f"NetworkInterface.{p}" for p in promised), SubnetId=subnet,
                Description="oracle", Ipv6AddressCount=1, TagSpecifications=tagged("network-interface"))
    interface = made["NetworkInterface"]["NetworkInterfaceId"]
    ec2.get_waiter("network_interface_available").wait(NetworkInterfaceIds=[interface])
    of = {"NetworkInterfaceId": interface}
    assigned = call(ec2, "AssignPrivateIpAddresses", "NetworkInterfaceId AssignedPrivateIpAddresses[].PrivateIpAddress",
                    SecondaryPrivateIpAddressCount=1, **of)["AssignedPrivateIpAddresses"][0]["PrivateIpAddress"]
    call(ec2, "UnassignPrivateIpAddresses", "ResponseMetadata", PrivateIpAddresses=[assigned], **of)
    assigned = call(ec2, "AssignIpv6Addresses", "AssignedIpv6Addresses", Ipv6AddressCount=1, **of)
    call(ec2, "UnassignIpv6Addresses", "UnassignedIpv6Addresses", Ipv6Addresses=assigned["AssignedIpv6Addresses"], **of)
    call(ec2, "ModifyNetworkInterfaceAttribute", "ResponseMetadata", SourceDestCheck={"Value": False}, **of)
    answer = call(ec2, "DescribeNetworkInterfaceAttribute", "NetworkInterfaceId", Attribute="sourceDestCheck", **of)
    assert answer["SourceDestCheck"]["Value"] is False
    address = call(ec2, "AllocateAddress", "AllocationId PublicIp Domain NetworkBorderGroup PublicIpv4Pool",
                   TagSpecifications=tagged("elastic-ip"))["AllocationId"]
    association = call(ec2, "AssociateAddress", "AssociationId", AllocationId=address, **of)["AssociationId"]
    call(ec2, "DescribeAddresses", "Addresses[].PublicIp Addresses[].AssociationId Addresses[].NetworkInterfaceId "
         "Addresses[].PrivateIpAddress Addresses[].Tags", AllocationIds=[address])
    call(ec2, "DescribeNetworkInterfaces", " ".join(f"NetworkInterfaces[].{p}" for p in promised) +
         " NetworkInterfaces[].Association.AllocationId NetworkInterfaces[].TagSet", NetworkInterfaceIds=[interface])
    call(ec2, "DescribeAddressesAttribute", "Addresses[].AllocationId", Attribute="domain-name")
    call(ec2, "DisassociateAddress", "ResponseMetadata", AssociationId=association)
    call(ec2, "ReleaseAddress", "ResponseMetadata", AllocationId=address)
    call(ec2, "DeleteNetworkInterface", "ResponseMetadata", **of)
    ec2.delete_subnet(SubnetId=subnet)


def attached(call, ec2, instance):
    """A second interface of an instance comes and goes."""
    seen = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    second = ec2.create_network_interface(SubnetId=seen["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    attachment = call(ec2, "AttachNetworkInterface", "AttachmentId", NetworkInterfaceId=second, InstanceId=instance,
                      DeviceIndex=1)["AttachmentId"]
    call(ec2, "DetachNetworkInterface", "ResponseMetadata", AttachmentId=attachment)
    ec2.delete_network_interface(NetworkInterfaceId=second)


def key_pairs(call, ec2):
    made = call(ec2, "CreateKeyPair", "KeyName KeyPairId KeyFingerprint KeyMaterial", KeyName="made")
    assert made["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----"), made["KeyMaterial"][:40]
    ed25519 = call(ec2, "CreateKeyPair", "KeyMaterial", KeyName="ed", KeyType="ed25519")
    assert "PRIVATE KEY" in ed25519["KeyMaterial"]
    public = call(ec2, "DescribeKeyPairs", "KeyPairs[].KeyPairId KeyPairs[].KeyType KeyPairs[].KeyFingerprint "
                  "KeyPairs[].CreateTime KeyPairs[].PublicKey", IncludePublicKey=True)["KeyPairs"]
    key = next(pair["PublicKey"] for pair in public if pair["KeyName"] == "ed")
    imported = call(ec2, "ImportKeyPair", "KeyName KeyPairId KeyFingerprint", KeyName="brought",
                    PublicKeyMaterial=key.encode())
    assert imported["KeyFingerprint"] == ed25519["KeyFingerprint"], "one key has one fingerprint"
    call(ec2, "DeleteKeyPair", "KeyPairId", KeyName="brought")
    assert {pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]} == {"made", "ed"}


def instances(call, ec2):
    promised = ("InstanceId ImageId State.Name InstanceType LaunchTime Placement.AvailabilityZone Architecture "
                "RootDeviceType RootDeviceName VirtualizationType Hypervisor Monitoring.State ClientToken Tags KeyName "
                "CpuOptions.CoreCount VpcId SubnetId PrivateIpAddress PrivateDnsName PublicIpAddress PublicDnsName "
                "SecurityGroups[].GroupId NetworkInterfaces[].NetworkInterfaceId NetworkInterfaces[].MacAddress "
                "NetworkInterfaces[].Attachment.AttachmentId NetworkInterfaces[].Association.PublicIp "
                "NetworkInterfaces[].PrivateIpAddresses[].PrivateIpAddress").split()
    run = call(ec2, "RunInstances", "ReservationId OwnerId " + " ".join(f"Instances[].{p}" for p in promised),
               ImageId="nephos-linux", InstanceType="t3.micro", MinCount=2, MaxCount=2, KeyName="made",
               UserData="#!/bin/sh\ntrue\n", ClientToken="oracle",
               TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "oracle"}]}])
    ids = [instance["InstanceId"] for instance in run["Instances"]]
    brisk = {"Delay": 1, "MaxAttempts": 120}
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=brisk)
    call(ec2, "DescribeInstances", " ".join(f"Reservations[].Instances[].{p}" for p in promised), InstanceIds=ids)
    call(ec2, "DescribeInstanceStatus", "InstanceStatuses[].InstanceId InstanceStatuses[].AvailabilityZone "
         "InstanceStatuses[].InstanceState.Name InstanceStatuses[].InstanceStatus.Status "
         "InstanceStatuses[].SystemStatus.Status", InstanceIds=ids)
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=ids, WaiterConfig=brisk)
    console(call, ec2, ids[0])
    attributes(call, ec2, ids[0])
    attached(call, ec2, ids[0])
    call(ec2, "CreateTags", "ResponseMetadata", Resources=ids, Tags=[{"Key": "stage", "Value": "test"}])
    tags = call(ec2, "DescribeTags", "Tags[].Key Tags[].Value Tags[].ResourceId Tags[].ResourceType",
                Filters=[{"Name": "key", "Values": ["stage"]}])
    assert sorted(tag["ResourceId"] for tag in tags["Tags"]) == sorted(ids)
    call(ec2, "DeleteTags", "ResponseMetadata", Resources=ids, Tags=[{"Key": "stage"}])
    assert not ec2.describe_tags(Filters=[{"Name": "key", "Values": ["stage"]}])["Tags"]
    changes = "[].InstanceId {0}[].CurrentState.Name {0}[].PreviousState.Code"
    call(ec2, "RebootInstances", "ResponseMetadata", InstanceIds=ids)
    call(ec2, "StopInstances", "StoppingInstances" + changes.format("StoppingInstances"), InstanceIds=ids)
    ec2.get_waiter("instance_stopped").wait(InstanceIds=ids, WaiterConfig=brisk)
    call(ec2, "StartInstances", "StartingInstances" + changes.format("StartingInstances"), InstanceIds=ids)
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=brisk)
    call(ec2, "TerminateInstances", "TerminatingInstances" + changes.format("TerminatingInstances"), InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=brisk)


def console(call, ec2, instance):
    until = time.time() + 60
    while not ec2.get_console_output(InstanceId=instance).get("Output"):
        assert time.time() < until, "the console stays empty"
        time.sleep(0.05)
    call(ec2, "GetConsoleOutput", "InstanceId Output Timestamp", InstanceId=instance, Latest=True)


def attributes(call, ec2, instance):
    def has(attribute, member):
        answer = call(ec2, "DescribeInstanceAttribute", "InstanceId", InstanceId=instance, Attribute=attribute)
        return answer[member].get("Value")

    assert has("instanceType", "InstanceType") == "t3.micro"
    assert base64.b64decode(has("userData", "UserData")).startswith(b"#!/bin/sh")
    assert has("instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior") == "stop"
    assert has("disableApiTermination", "DisableApiTermination") is False
    call(ec2, "ModifyInstanceAttribute", "ResponseMetadata", InstanceId=instance,
         DisableApiTermination={"Value": True})
    assert has("disableApiTermination", "DisableApiTermination") is True
    try:
        ec2.terminate_instances(InstanceIds=[instance])
        raise AssertionError("a protected instance was terminated")
    except ec2.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "OperationNotPermitted", error
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})


class Watch:
    """Holds every answer's own bytes against the model."""

    def __init__(self):
        self.invented = set()
        # Of each operation's answer: the paths seen, and how many members its model has at the top.
        self.members = {}

    def follow(self, client):
        client.meta.events.register("before-parse", self.answered)

    def answered(self, operation_model, response_dict, **_):
        if response_dict["status_code"] != 200:
            return
        name, shape, body = operation_model.name, operation_model.output_shape, response_dict["body"]
        seen, _ = self.members.setdefault(name, (set(), len(shape.members) if shape else 0))
        if not body:
            return
        if operation_model.service_model.protocol in ("json", "smithy-rpc-v2-cbor"):
            return self.json(name, shape, json.loads(body), name, seen)
        root = xml.etree.ElementTree.fromstring(body)
        wrapper = shape.serialization.get("resultWrapper") if shape else None
        if wrapper:
            assert [plain(child.tag) for child in root] == [wrapper, "ResponseMetadata"], body
            root = root[0]
        self.structure(name, shape, root, name, seen)

    def structure(self, operation, shape, element, path, seen):
        names = {member.serialization.get("name", key): member for key, member in shape.members.items()} if shape else {}
        for child in element:
            tag = plain(child.tag)
            here = f"{path}.{tag}"
            if tag in names:
                seen.add(here)
                self.value(operation, names[tag], child, here, seen)
            elif tag in ("requestId", "return") and path == operation:
                continue
            else:
                self.invented.add(here)

    def value(self, operation, shape, element, path, seen):
        if shape.type_name == "structure":
            self.structure(operation, shape, element, path, seen)
        elif shape.type_name == "list":
            item = shape.member.serialization.get("name", "member")
            for child in element:
                if plain(child.tag) != item:
                    self.invented.add(f"{path}.{plain(child.tag)}")
                self.value(operation, shape.member, child, f"{path}[]", seen)
        elif len(element):
            self.invented.add(f"{path} has children")

    def json(self, operation, shape, value, path, seen):
        if shape.type_name == "structure":
            for key, inner in value.items():
                here = f"{path}.{key}"
                if key not in shape.members:
                    self.invented.add(here)
                    continue
                seen.add(here)
                self.json(operation, shape.members[key], inner, here, seen)
        elif shape.type_name == "list":
            for inner in value:
                self.json(operation, shape.member, inner, f"{path}[]", seen)


def plain(tag):
    """A tag without its namespace."""
    return tag.rsplit("}", 1)[-1]
