//! Security groups and their rules.

use super::*;

const ANY: &str = "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=81\
                   &IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8";

/// Parameters with which an operation could be carried out.
pub(super) fn query(operation: &str) -> Option<String> {
    let group = "GroupId=sg-0123456789abcdef0";
    Some(match operation {
        "CreateSecurityGroup" => "GroupName=web&GroupDescription=web".to_owned(),
        "DeleteSecurityGroup" => group.to_owned(),
        "ModifySecurityGroupRules" => format!(
            "{group}&SecurityGroupRule.1.SecurityGroupRuleId=sgr-0123456789abcdef0\
             &SecurityGroupRule.1.SecurityGroupRule.IpProtocol=-1\
             &SecurityGroupRule.1.SecurityGroupRule.CidrIpv4=10.0.0.0/8"
        ),
        other
            if other.starts_with("Authorize")
                || other.starts_with("Revoke")
                || other.starts_with("UpdateSec") =>
        {
            format!("{group}&{ANY}")
        }
        _ => return None,
    })
}

async fn group_make(cloud: &Cloud, name: &str) -> String {
    let query = format!("GroupName={name}&GroupDescription=a%20group");
    one(&cloud.ok("CreateSecurityGroup", &query).await, "groupId")
}

#[tokio::test]
async fn groups_are_unique_by_name_and_stay_while_rules_name_them() {
    let cloud = Cloud::new();
    let web = group_make(&cloud, "web").await;
    let query = "GroupName=web&GroupDescription=x";
    cloud.refused("CreateSecurityGroup", query, "InvalidGroup.Duplicate").await;
    for query in [
        "GroupName=default&GroupDescription=x",
        "GroupName=sg-x&GroupDescription=x",
        "GroupName=%01&GroupDescription=x",
    ] {
        cloud.refused("CreateSecurityGroup", query, "InvalidParameterValue").await;
    }
    cloud.refused("CreateSecurityGroup", "GroupName=x", "MissingParameter").await;
    let body = cloud.ok("DescribeSecurityGroups", &format!("GroupId.1={web}")).await;
    // A new group lets everything out and nothing in.
    assert!(body.contains("<ipPermissions/>"), "{body}");
    assert_eq!(all(&body, "cidrIp"), ["0.0.0.0/0"]);
    let app = group_make(&cloud, "app").await;
    let rule = format!("GroupId={app}&IpPermissions.1.IpProtocol=-1&IpPermissions.1.Groups.1.GroupId={web}");
    cloud.ok("AuthorizeSecurityGroupIngress", &rule).await;
    cloud.refused("DeleteSecurityGroup", &format!("GroupId={web}"), "DependencyViolation").await;
    cloud.ok("RevokeSecurityGroupIngress", &rule).await;
    assert_eq!(one(&cloud.ok("DeleteSecurityGroup", &format!("GroupId={web}")).await, "groupId"), web);
    cloud.refused("DeleteSecurityGroup", &format!("GroupId={web}"), "InvalidGroup.NotFound").await;
    cloud.refused("DeleteSecurityGroup", "GroupName=default", "CannotDelete").await;
    cloud.ok("DeleteSecurityGroup", "GroupName=app").await;
    cloud.refused("DeleteSecurityGroup", "GroupId=sg-1", "InvalidGroupId.Malformed").await;
    cloud.refused("DeleteSecurityGroup", "", "MissingParameter").await;
}

#[tokio::test]
async fn rules_are_made_and_revoked_as_permissions_and_by_id() {
    let cloud = Cloud::new();
    let group = group_make(&cloud, "web").await;
    let to = |rest: &str| format!("GroupId={group}&{rest}");
    let tag = "TagSpecification.1.ResourceType=security-group-rule&TagSpecification.1.Tag.1.Key=a";
    let body = cloud.ok("AuthorizeSecurityGroupIngress", &to(&format!("{ANY}&{tag}"))).await;
    let rule = one(&body, "securityGroupRuleId");
    assert_eq!((one(&body, "fromPort"), one(&body, "cidrIpv4")), ("80".into(), "10.0.0.0/8".into()));
    cloud.refused("AuthorizeSecurityGroupIngress", &to(ANY), "InvalidPermission.Duplicate").await;
    // Another direction is another rule; so is the old form of a request, with other ports.
    cloud.ok("AuthorizeSecurityGroupEgress", &to(ANY)).await;
    cloud
        .ok("AuthorizeSecurityGroupIngress", &to("IpProtocol=tcp&FromPort=22&ToPort=22&CidrIp=0.0.0.0/0"))
        .await;
    let tags =
        cloud.ok("DescribeTags", "Filter.1.Name=resource-type&Filter.1.Value.1=security-group-rule").await;
    assert_eq!(all(&tags, "resourceId"), std::slice::from_ref(&rule));
    cloud.ok("CreateTags", &format!("ResourceId.1={rule}&Tag.1.Key=b")).await;
    let body = cloud
        .ok("DescribeSecurityGroupRules", &format!("Filter.1.Name=group-id&Filter.1.Value.1={group}"))
        .await;
    assert_eq!(all(&body, "securityGroupRuleId").len(), 4);
    assert_eq!(all(&body, "key"), ["a", "b"]);
    let described = format!(
        "SecurityGroupRuleDescription.1.SecurityGroupRuleId={rule}&SecurityGroupRuleDescription.1.Description=web"
    );
    cloud.ok("UpdateSecurityGroupRuleDescriptionsIngress", &to(&described)).await;
    cloud
        .refused(
            "UpdateSecurityGroupRuleDescriptionsEgress",
            &to(&described),
            "InvalidSecurityGroupRuleId.NotFound",
        )
        .await;
    let again = format!("{ANY}&IpPermissions.1.IpRanges.1.Description=out");
    cloud.ok("UpdateSecurityGroupRuleDescriptionsEgress", &to(&again)).await;
    let body = cloud.ok("DescribeSecurityGroups", &format!("GroupId.1={group}")).await;
    assert_eq!(all(&body, "description"), ["out", "web"]);
    let change = format!(
        "SecurityGroupRule.1.SecurityGroupRuleId={rule}&SecurityGroupRule.1.SecurityGroupRule.IpProtocol=udp\
         &SecurityGroupRule.1.SecurityGroupRule.FromPort=53&SecurityGroupRule.1.SecurityGroupRule.ToPort=53\
         &SecurityGroupRule.1.SecurityGroupRule.CidrIpv6=fd00::/8"
    );
    cloud.ok("ModifySecurityGroupRules", &to(&change)).await;
    let body = cloud.ok("DescribeSecurityGroupRules", &format!("SecurityGroupRuleId.1={rule}")).await;
    assert_eq!((one(&body, "ipProtocol"), one(&body, "cidrIpv6")), ("udp".into(), "fd00::/8".into()));
    cloud.refused("RevokeSecurityGroupIngress", &to(ANY), "InvalidPermission.NotFound").await;
    let body = cloud.ok("RevokeSecurityGroupIngress", &to(&format!("SecurityGroupRuleId.1={rule}"))).await;
    assert_eq!(one(&body, "securityGroupRuleId"), rule);
    let query = to(&format!("SecurityGroupRuleId.1={rule}"));
    cloud.refused("RevokeSecurityGroupIngress", &query, "InvalidSecurityGroupRuleId.NotFound").await;
    cloud.ok("RevokeSecurityGroupEgress", &to(ANY)).await;
    cloud
        .ok(
            "RevokeSecurityGroupEgress",
            &to("IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0"),
        )
        .await;
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused() {
    let cloud = Cloud::new();
    let group = group_make(&cloud, "web").await;
    let vpc = one(&cloud.ok("CreateVpc", "CidrBlock=10.0.0.0/16").await, "vpcId");
    let query = format!("GroupName=far&GroupDescription=x&VpcId={vpc}");
    let far = one(&cloud.ok("CreateSecurityGroup", &query).await, "groupId");
    let permission =
        |rest: &str| format!("GroupId={group}&IpPermissions.1.{}", rest.replace('&', "&IpPermissions.1."));
    for (rest, code) in [
        ("IpProtocol=tcp&IpRanges.1.CidrIp=10.0.0.0/8", "InvalidParameterValue"),
        ("IpProtocol=tcp&FromPort=2&ToPort=1&IpRanges.1.CidrIp=10.0.0.0/8", "InvalidParameterValue"),
        ("IpProtocol=tcp&FromPort=1&ToPort=65536&IpRanges.1.CidrIp=10.0.0.0/8", "InvalidParameterValue"),
        ("IpProtocol=what&IpRanges.1.CidrIp=10.0.0.0/8", "InvalidParameterValue"),
        ("IpProtocol=-1&IpRanges.1.CidrIp=10.0.0.1/8", "InvalidParameterValue"),
        ("IpProtocol=-1&IpRanges.1.CidrIp=10.0.0.0", "InvalidParameterValue"),
        ("IpProtocol=-1", "InvalidPermission.Malformed"),
        ("IpProtocol=-1&Groups.1.GroupId=sg-0123456789abcdef0", "InvalidGroup.NotFound"),
        (&format!("IpProtocol=-1&Groups.1.GroupId={far}"), "InvalidParameterValue"),
        ("IpProtocol=-1&Groups.1.GroupId=sg-0123456789abcdef0&Groups.1.UserId=1", "UnsupportedOperation"),
        ("IpProtocol=-1&Groups.1.PeeringStatus=x", "UnsupportedOperation"),
    ] {
        cloud.refused("AuthorizeSecurityGroupIngress", &permission(rest), code).await;
    }
    let many = |count: usize| {
        let ports = (1..=count).map(|n| format!("&IpPermissions.{n}.IpProtocol=tcp&IpPermissions.{n}.FromPort={n}&IpPermissions.{n}.ToPort={n}&IpPermissions.{n}.IpRanges.1.CidrIp=0.0.0.0/0"));
        format!("GroupId={group}{}", ports.collect::<String>())
    };
    cloud.refused("AuthorizeSecurityGroupIngress", &many(61), "RulesPerSecurityGroupLimitExceeded").await;
    cloud.ok("AuthorizeSecurityGroupIngress", &many(60)).await;
    // IPv6 counts apart; a group counts for both.
    let ipv6 = "IpProtocol=-1&Ipv6Ranges.1.CidrIpv6=::/0";
    cloud.ok("AuthorizeSecurityGroupIngress", &permission(ipv6)).await;
    let own = format!("IpProtocol=-1&Groups.1.GroupId={group}");
    cloud
        .refused("AuthorizeSecurityGroupIngress", &permission(&own), "RulesPerSecurityGroupLimitExceeded")
        .await;
}
