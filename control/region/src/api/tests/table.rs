//! What holds for every operation of the table.

use super::*;
use crate::address::record::AddressRecord;
use crate::api::resource::Seen;
use crate::dhcp_options::record::DhcpOptionsRecord;
use crate::internet_gateway::record::InternetGatewayRecord;
use crate::network_acl::record::NetworkAclRecord;
use crate::network_interface::record::InterfaceRecord;
use crate::route_table::record::RouteTableRecord;
use crate::security_group::record::SecurityGroupRecord;
use crate::subnet::record::SubnetRecord;

#[tokio::test]
async fn every_operation_of_the_table_is_there_and_has_a_dry_run() {
    let cloud = Cloud::new();
    let id = cloud.launched(1, |_| {})[0];
    let vpc = one(&cloud.ok("DescribeVpcs", "").await, "vpcId");
    let key = "c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUNPeWNlL01IN3Q2bHZnOFhGcGVVQzI2Wi9xMVhjSk9s\
               NjhsTHlYUVFvUlcgeA==";
    // AWS's own operations without a dry run.
    let without = |operation: &str| network::WITHOUT_DRY_RUN.contains(&operation);
    for operation in aws::ec2::SERVICE.operations.iter().filter(|operation| !without(operation)) {
        let query = match *operation {
            "CreateKeyPair" | "DeleteKeyPair" => "KeyName=x".to_owned(),
            "ImportKeyPair" => format!("KeyName=x&PublicKeyMaterial={key}"),
            "CreateTags" | "DeleteTags" => format!("ResourceId.1={id}&Tag.1.Key=a"),
            "DescribeInstanceAttribute" => format!("InstanceId={id}&Attribute=userData"),
            "DescribeVpcAttribute" => format!("VpcId={vpc}&Attribute=enableDnsSupport"),
            "GetConsoleOutput" => format!("InstanceId={id}"),
            "ModifyInstanceAttribute" => format!("InstanceId={id}&DisableApiStop.Value=true"),
            "RunInstances" => format!("ImageId={IMAGE}&InstanceType=t3.nano&MinCount=1&MaxCount=1"),
            "RebootInstances" | "StartInstances" | "StopInstances" | "TerminateInstances" => {
                format!("InstanceId.1={id}")
            }
            other => interface::query(other)
                .or_else(|| security_group::query(other))
                .unwrap_or_else(|| network::query(other)),
        };
        cloud.refused(operation, &format!("{query}&DryRun=true"), "DryRunOperation").await;
    }
    assert!(cloud.requests.lock().unwrap().is_empty());
}

/// A filter that is listed and not looked at would hold for nothing, silently: `Filters::hold` asserts that it is.
#[tokio::test]
async fn every_filter_that_is_listed_is_looked_at() {
    use crate::api::filter::Filtered;
    let cloud = Cloud::new();
    let id = cloud.launched(1, |record| record.stage = Stage::Running as u32)[0];
    cloud.ok("CreateTags", &format!("ResourceId.1={id}&Tag.1.Key=a")).await;
    cloud.ok("CreateKeyPair", "KeyName=x&KeyType=ed25519").await;
    let names = [
        ("DescribeAvailabilityZones", AvailabilityZone::NAMES),
        ("DescribeDhcpOptions", Seen::<DhcpOptionsRecord>::NAMES),
        ("DescribeInternetGateways", Seen::<InternetGatewayRecord>::NAMES),
        ("DescribeNetworkAcls", Seen::<NetworkAclRecord>::NAMES),
        ("DescribeAddresses", Seen::<AddressRecord>::NAMES),
        ("DescribeNetworkInterfaces", Seen::<InterfaceRecord>::NAMES),
        ("DescribeRouteTables", Seen::<RouteTableRecord>::NAMES),
        ("DescribeImages", crate::api::image::Seen::NAMES),
        ("DescribeInstanceStatus", crate::api::instance::SeenStatus::NAMES),
        ("DescribeInstanceTypeOfferings", InstanceTypeOffering::NAMES),
        ("DescribeInstanceTypes", crate::instance::catalogue::Shape::NAMES),
        ("DescribeInstances", crate::api::instance::Seen::NAMES),
        ("DescribeKeyPairs", crate::key_pair::record::KeyPairRecord::NAMES),
        ("DescribeRegions", Region::NAMES),
        ("DescribeSecurityGroupRules", crate::api::security_group_rule::SeenRule::NAMES),
        ("DescribeSecurityGroups", Seen::<SecurityGroupRecord>::NAMES),
        ("DescribeSubnets", Seen::<SubnetRecord>::NAMES),
        ("DescribeTags", crate::api::tag::Tagged::NAMES),
        ("DescribeVpcs", Seen::<VpcRecord>::NAMES),
    ];
    for (operation, names) in names {
        for name in names {
            cloud.ok(operation, &format!("Filter.1.Name={name}&Filter.1.Value.1=*")).await;
        }
        cloud.refused(operation, "Filter.1.Name=x&Filter.1.Value.1=*", "InvalidParameterValue").await;
        let query = format!("Filter.1.Name={}", names[0]);
        cloud.refused(operation, &query, "InvalidParameterValue").await;
    }
}
