//! What ranges a VPC and its subnets can have: pure.

use super::record::VpcRecord;
use crate::cidr::{Cidr4, Cidr6};
use crate::subnet::record::SubnetRecord;
use std::net::Ipv4Addr;

/// Whether a VPC can have the range: /16 to /28, and none of the addresses that mean something of their own. Source: Amazon
/// VPC User Guide, "VPC CIDR blocks".
pub fn vpc_range_is_allowed(range: Cidr4) -> bool {
    let reserved = [(0, 8), (127, 8), (169, 16), (224, 3)].map(|(first, length)| {
        let second = if first == 169 { 254 } else { 0 };
        Cidr4::new(Ipv4Addr::new(first, second, 0, 0), length)
    });
    (16..=28).contains(&range.length()) && !reserved.into_iter().flatten().any(|other| other.overlaps(range))
}

/// The VPC's IPv4 ranges.
pub fn ranges(vpc: &VpcRecord) -> impl Iterator<Item = Cidr4> {
    vpc.cidrs.iter().filter_map(|range| range.cidr.parse().ok())
}

/// The VPC's IPv6 ranges.
pub fn ranges_ipv6(vpc: &VpcRecord) -> impl Iterator<Item = Cidr6> {
    vpc.cidrs_ipv6.iter().filter_map(|range| range.cidr.parse().ok())
}

/// Whether the subnet's ranges are in the VPC's.
pub fn covers(vpc: &VpcRecord, subnet: &SubnetRecord) -> bool {
    let ipv4 = subnet.cidr.parse::<Cidr4>().is_ok_and(|cidr| ranges(vpc).any(|range| range.covers(cidr)));
    let ipv6 = subnet.cidr_ipv6.as_ref().is_none_or(|ipv6| {
        ipv6.cidr.parse::<Cidr6>().is_ok_and(|cidr| ranges_ipv6(vpc).any(|range| range.covers(cidr)))
    });
    ipv4 && ipv6
}
