//! Which addresses of a subnet can be given to interfaces: pure.

use crate::cidr::Cidr4;
use std::net::Ipv4Addr;

/// Bits of a subnet's IPv6 range. Source: Amazon VPC User Guide, "IPv6 subnet CIDR blocks".
pub const IPV6_BITS: u8 = 64;
/// Addresses of a subnet that are nobody's: its own, the router's, the resolver's, one kept, and the last. Source: Amazon
/// VPC User Guide, "Subnet sizing for IPv4".
pub const RESERVED: u32 = 5;

/// The first and the last address that an interface can have.
pub fn usable(range: Cidr4) -> (Ipv4Addr, Ipv4Addr) {
    let first = range.first().to_bits().saturating_add(RESERVED - 1);
    (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(range.last().to_bits().saturating_sub(1)))
}

/// How many addresses interfaces can have.
pub fn usable_count(range: Cidr4) -> u32 {
    let (first, last) = usable(range);
    (last.to_bits() + 1).saturating_sub(first.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_addresses_of_a_subnet_are_kept() {
        let range: Cidr4 = "10.0.1.0/24".parse().unwrap();
        assert_eq!(usable(range), (Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 254)));
        assert_eq!(usable_count(range), 251);
        assert_eq!(usable_count("10.0.0.0/28".parse().unwrap()), 11);
        assert_eq!(usable_count("172.31.0.0/20".parse().unwrap()), 4091);
    }
}
