//! What the services know: facts of a port, of its instance and of its VPC, as plain data. The documents' compiler fills
//! them; a service reads them and keeps no copy.
//!
//! Deliberately absent: anything that changes per packet, and anything that a service could find out itself.

use crate::packet::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A network prefix. Bits of `address` behind `length` are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// Its length in bits, up to 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// Whether the address lies in it. Never across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(32u32.saturating_sub(self.length.into())).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(128u32.saturating_sub(self.length.into())).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// The `offset`th IPv4 address behind its first; none for IPv6.
    pub fn ipv4_at(&self, offset: u32) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(first) => first.to_bits().checked_add(offset).map(Ipv4Addr::from_bits),
            IpAddr::V6(_) => None,
        }
    }

    /// An IPv4 prefix as a subnet mask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32u32.saturating_sub(self.length.into())).unwrap_or(0))
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A port of this switch.
#[derive(Clone, Debug, PartialEq)]
pub struct PortFacts {
    /// The interface that the port is.
    pub interface: InterfaceFacts,
    /// The instance that it is attached to. Without one the metadata service has nothing to say.
    pub instance: Option<Arc<InstanceFacts>>,
    /// The largest IP packet that the port takes, in bytes; at least 1280.
    pub mtu: u16,
    /// The MAC address of the subnet's router, which is that of the services too.
    pub router_mac: Mac,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceFacts {
    /// `eni-...`
    pub interface_id: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its private addresses; the first IPv4 address is the primary one.
    pub addresses: Vec<IpAddr>,
    /// The public address that the edge maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// `sg-...`
    pub group_ids: Vec<String>,
    /// Which of its instance's interfaces it is, from 0.
    pub device_index: u32,
    /// Where it is.
    pub subnet: SubnetFacts,
    /// Where that is.
    pub vpc: Arc<VpcFacts>,
}

impl InterfaceFacts {
    /// The primary private IPv4 address; an interface of an IPv6-only subnet has none.
    pub fn primary_ipv4(&self) -> Option<Ipv4Addr> {
        self.ipv4s().next()
    }

    /// Its private IPv4 addresses, the primary one first.
    pub fn ipv4s(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its IPv6 addresses.
    pub fn ipv6s(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        })
    }

    /// The name that follows from its primary address, without a zone: `ip-10-0-0-5`.
    pub fn short_name(&self) -> Option<String> {
        self.primary_ipv4().map(short_name)
    }
}

/// `ip-10-0-0-5`: AWS's IP-based host name. Source: EC2 User Guide, "EC2 instance hostnames and domains".
pub fn short_name(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}")
}

/// A subnet.
#[derive(Clone, Debug, PartialEq)]
pub struct SubnetFacts {
    /// `subnet-...`
    pub subnet_id: String,
    /// Its IPv4 prefix; an IPv6-only subnet has none.
    pub cidr: Option<Prefix>,
    /// Its IPv6 prefix.
    pub cidr_ipv6: Option<Prefix>,
}

impl SubnetFacts {
    /// The router's address: the second of the subnet. Source: VPC User Guide, "Subnet CIDR reservations".
    pub fn router(&self) -> Option<Ipv4Addr> {
        self.cidr.and_then(|cidr| cidr.ipv4_at(1))
    }
}

/// A VPC.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VpcFacts {
    /// `vpc-...`
    pub vpc_id: String,
    /// The region's name, which the names of instances end in.
    pub region: String,
    /// IPv4 prefixes, the VPC's first one first, and IPv6 prefixes.
    pub cidrs: Vec<Prefix>,
    /// EnableDnsSupport: the resolver answers.
    pub dns_support: bool,
    /// EnableDnsHostnames: with `dns_support`, private zones resolve.
    pub dns_hostnames: bool,
    /// What DHCP hands out beside addresses.
    pub dhcp: DhcpFacts,
}

impl VpcFacts {
    /// The resolver's address in the VPC: its first IPv4 prefix plus two.
    /// Source: VPC User Guide, "Understanding Amazon DNS".
    pub fn resolver(&self) -> Option<Ipv4Addr> {
        self.cidrs.iter().find_map(|cidr| cidr.ipv4_at(2))
    }

    /// The zone of the names that follow from addresses.
    pub fn zone(&self) -> String {
        match self.region.as_str() {
            "us-east-1" => String::from("ec2.internal"),
            region => format!("{region}.compute.internal"),
        }
    }

    /// Whether an address is the VPC's.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidrs.iter().any(|cidr| cidr.contains(address))
    }
}

/// A set of DHCP options. What is empty is the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DhcpFacts {
    /// Default: the VPC's own zone.
    pub domain_name: String,
    /// Default: the VPC's own resolver (`AmazonProvidedDNS`).
    pub domain_name_servers: Vec<IpAddr>,
    /// Default: not sent.
    pub ntp_servers: Vec<IpAddr>,
    /// Default: not sent.
    pub netbios_name_servers: Vec<Ipv4Addr>,
    /// 1, 2, 4 or 8 (RFC 2132, section 8.7); 0: not sent.
    pub netbios_node_type: u8,
}

/// What an instance can read of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceFacts {
    /// `i-...`
    pub instance_id: String,
    /// Twelve digits.
    pub account_id: String,
    /// The availability zone's name.
    pub zone: String,
    /// `ami-...`
    pub image_id: String,
    /// For example `t3.micro`.
    pub instance_type: String,
    /// `r-...`
    pub reservation_id: String,
    /// Its place in its reservation, from 0.
    pub launch_index: u32,
    /// Decoded; empty: none was given.
    pub user_data: Vec<u8>,
    /// Empty: launched without a key.
    pub key_name: String,
    /// One line, as in `authorized_keys`.
    pub ssh_public_key: String,
    /// The names of its first interface's groups.
    pub group_names: Vec<String>,
    /// Its interfaces on this host, by device index.
    pub interfaces: Vec<InterfaceFacts>,
    /// When it was launched, in milliseconds since the Unix epoch.
    pub launched_unix_ms: u64,
    /// How the metadata service may be used.
    pub options: MetadataOptions,
    /// Its tags, by key. Shown if `options.tags` says so.
    pub tags: Vec<(String, String)>,
}

/// An instance's metadata options. Source: EC2 API Reference, `InstanceMetadataOptionsResponse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetadataOptions {
    /// `HttpEndpoint` is `enabled`.
    pub endpoint: bool,
    /// `HttpTokens` is `required`.
    pub tokens_required: bool,
    /// `HttpPutResponseHopLimit`: 1 to 64.
    pub hop_limit: u8,
    /// `HttpProtocolIpv6` is `enabled`.
    pub ipv6: bool,
    /// `InstanceMetadataTags` is `enabled`.
    pub tags: bool,
}

/// What is too much to be a plain fact of a port: it is looked up, in the port's VPC.
pub trait Directory {
    /// The MAC address of the interface that has the address.
    fn mac_of(&self, address: IpAddr) -> Option<Mac>;

    /// The private records of exactly this name: lower case, without the dot at the end.
    fn records(&self, name: &str) -> &[Record];

    /// Whether there are private records of names that end in `.` and this name.
    fn has_below(&self, name: &str) -> bool;
}

/// A set of private records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// IANA's number of the type.
    pub kind: u16,
    /// How long an answer may be kept.
    pub ttl_s: u32,
    /// As on the wire, names uncompressed. Not empty.
    pub data: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_any_length() {
        let prefix = |text: &str, length| Prefix { address: text.parse().unwrap(), length };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(prefix("10.0.0.0", 8).contains(address("10.255.0.1")));
        assert!(!prefix("10.0.0.0", 8).contains(address("11.0.0.0")));
        assert!(prefix("0.0.0.0", 0).contains(address("11.0.0.0")));
        assert!(!prefix("0.0.0.0", 0).contains(address("::")));
        assert!(prefix("::", 0).contains(address("ff02::1")));
        assert!(prefix("fd00::1", 128).contains(address("fd00::1")));
        assert!(!prefix("fd00::1", 128).contains(address("fd00::2")));
        assert_eq!(prefix("10.0.0.0", 20).mask(), Ipv4Addr::new(255, 255, 240, 0));
        assert_eq!(prefix("0.0.0.0", 0).mask(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(prefix("10.0.0.0", 32).mask(), Ipv4Addr::BROADCAST);
        assert_eq!(prefix("255.255.255.255", 32).ipv4_at(1), None);
    }
}
