//! Identifiers, each a type of its own, so that no two can be swapped.
//!
//! Customer-visible ids have AWS's form: a prefix and 17 lower-case hexadecimal digits (8 in ids from before
//! 2016, which still parse). Fleet ids ([`ZoneName`], [`CellId`], [`HostId`]...) are short words.

use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An id that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {expected}")]
pub struct IdError {
    /// What was given.
    pub text: String,
    /// What would have been right, for example `instance id (i- and 17 hexadecimal digits)`.
    pub expected: &'static str,
}

/// The 68 bits of a 17-digit id; bit 127 marks an 8-digit one.
const LONG_MASK: u128 = (1 << 68) - 1;
const SHORT_FLAG: u128 = 1 << 127;

fn hex_parse(digits: &str) -> Option<u128> {
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !digits.bytes().all(lower_hex) {
        return None;
    }
    let value = u128::from_str_radix(digits, 16).ok()?;
    match digits.len() {
        17 => Some(value),
        8 => Some(value | SHORT_FLAG),
        _ => None,
    }
}

macro_rules! aws_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $expected:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What stands before the digits.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            pub fn random(random: &mut Random) -> Self {
                $name(random.u128() & LONG_MASK)
            }

            /// The id with these bits (the lowest 68 count): for ids that are derived from others.
            pub const fn from_bits(bits: u128) -> Self {
                $name(bits & LONG_MASK)
            }

            /// The id's 68 bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.0 & SHORT_FLAG != 0 {
                    write!(f, concat!($prefix, "{:08x}"), self.0 & !SHORT_FLAG)
                } else {
                    write!(f, concat!($prefix, "{:017x}"), self.0)
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(hex_parse)
                    .map($name)
                    .ok_or_else(|| IdError { text: text.into(), expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

aws_ids! {
    /// A customer's virtual machine, across all its stops and starts. Its incarnation on a host is a `Vm`.
    InstanceId = "i-", "instance id (i- and 17 hexadecimal digits)";
    /// One RunInstances call.
    ReservationId = "r-", "reservation id (r- and 17 hexadecimal digits)";
    /// A machine image.
    ImageId = "ami-", "image id (ami- and 17 hexadecimal digits)";
    /// A key pair.
    KeyPairId = "key-", "key pair id (key- and 17 hexadecimal digits)";
    /// A virtual network.
    VpcId = "vpc-", "VPC id (vpc- and 17 hexadecimal digits)";
    /// A part of a virtual network, in one zone.
    SubnetId = "subnet-", "subnet id (subnet- and 17 hexadecimal digits)";
    /// A stateful firewall.
    SecurityGroupId = "sg-", "security group id (sg- and 17 hexadecimal digits)";
    /// A rule of a security group.
    SecurityGroupRuleId = "sgr-", "security group rule id (sgr- and 17 hexadecimal digits)";
    /// A network card that a customer has, wherever it is attached.
    NetworkInterfaceId = "eni-", "network interface id (eni- and 17 hexadecimal digits)";
    /// The attachment of a network interface to an instance.
    NetworkAttachmentId = "eni-attach-", "network interface attachment id (eni-attach- and 17 hexadecimal digits)";
    /// A stateless firewall of subnets.
    NetworkAclId = "acl-", "network ACL id (acl- and 17 hexadecimal digits)";
    /// The association of a subnet with a network ACL.
    NetworkAclAssociationId = "aclassoc-", "network ACL association id (aclassoc- and 17 hexadecimal digits)";
    /// A route table.
    RouteTableId = "rtb-", "route table id (rtb- and 17 hexadecimal digits)";
    /// The association of a route table with a subnet, or with its VPC as the main one.
    RouteTableAssociationId = "rtbassoc-", "route table association id (rtbassoc- and 17 hexadecimal digits)";
    /// An internet gateway.
    InternetGatewayId = "igw-", "internet gateway id (igw- and 17 hexadecimal digits)";
    /// An egress-only internet gateway.
    EgressOnlyGatewayId = "eigw-", "egress-only internet gateway id (eigw- and 17 hexadecimal digits)";
    /// A NAT gateway.
    NatGatewayId = "nat-", "NAT gateway id (nat- and 17 hexadecimal digits)";
    /// A public address that an account holds.
    AllocationId = "eipalloc-", "elastic IP allocation id (eipalloc- and 17 hexadecimal digits)";
    /// What ties a public address to an interface.
    AssociationId = "eipassoc-", "elastic IP association id (eipassoc- and 17 hexadecimal digits)";
    /// A set of DHCP options.
    DhcpOptionsId = "dopt-", "DHCP options id (dopt- and 17 hexadecimal digits)";
    /// A managed prefix list.
    PrefixListId = "pl-", "prefix list id (pl- and 17 hexadecimal digits)";
    /// A flow log.
    FlowLogId = "fl-", "flow log id (fl- and 17 hexadecimal digits)";
    /// A CIDR block of a VPC.
    VpcCidrAssociationId = "vpc-cidr-assoc-", "CIDR association id (vpc-cidr-assoc- and 17 hexadecimal digits)";
    /// A CIDR block of a subnet.
    SubnetCidrAssociationId = "subnet-cidr-assoc-", "CIDR association id (subnet-cidr-assoc- and 17 hexadecimal digits)";
}

/// A customer account: twelve decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

impl AccountId {
    const END: u64 = 1_000_000_000_000;

    /// A new account number (never one with leading zeros: those look truncated to people).
    pub fn random(random: &mut Random) -> Self {
        AccountId(Self::END / 10 + random.below(Self::END - Self::END / 10))
    }

    /// The account with this number, if it has at most twelve digits.
    pub const fn from_number(number: u64) -> Option<Self> {
        if number < Self::END { Some(AccountId(number)) } else { None }
    }

    /// The account's number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError { text: text.into(), expected: "account id (12 digits)" };
        if text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        text.parse().map(AccountId).map_err(|_| error())
    }
}

macro_rules! fleet_names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if text.is_empty() || text.len() > 48 || !text.bytes().all(valid) {
                    let expected = "name (1 to 48 lower-case letters, digits and hyphens)";
                    return Err(IdError { text: text.into(), expected });
                }
                Ok($name(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

fleet_names! {
    /// A region, for example `us-east-1`.
    RegionName;
    /// An availability zone, for example `us-east-1a`.
    ZoneName;
    /// A cell, for example `us-east-1a-c1`.
    CellId;
    /// A rack: the failure domain between cell and host.
    RackId;
    /// A host, for example `us-east-1a-c1-h1`.
    HostId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse() {
        for text in ["i-0123456789abcdef0", "i-fffffffffffffffff", "i-12345678", "i-00000000"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
        }
        let id = InstanceId::random(&mut Random::from_seed(1));
        assert_eq!(id.to_string().parse::<InstanceId>().unwrap(), id);
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in
            ["", "i-", "i-123", "i-0123456789ABCDEF0", "i-0123456789abcdefg", "ami-12345678", "i-+2345678"]
        {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
        for text in ["", "12345678901", "1234567890123", "+12345678901"] {
            assert!(text.parse::<AccountId>().is_err(), "{text}");
        }
        assert_eq!("000000000042".parse::<AccountId>().unwrap().to_string(), "000000000042");
        assert!("Upper".parse::<HostId>().is_err());
    }
}
