//! Ranges of addresses, in CIDR notation (RFC 4632, RFC 4291). Reading one clears the bits behind its length, as AWS does
//! where it stores ranges; whoever must refuse such bits compares what was given with what is printed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A text that is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("This is not a valid CIDR block.")]
pub struct CidrError;

macro_rules! ranges {
    ($($(#[$doc:meta])* $name:ident of $address:ident as $bits:ident, $width:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            first: $bits,
            length: u8,
        }

        impl $name {
            /// The range of `length` bits that `address` is in; `None` if it is too long.
            pub const fn new(address: $address, length: u8) -> Option<Self> {
                if length > $width {
                    return None;
                }
                let first = address.to_bits() & Self::mask(length);
                Some($name { first, length })
            }

            const fn mask(length: u8) -> $bits {
                if length == 0 { 0 } else { $bits::MAX << ($width - length) }
            }

            /// Its first address.
            pub const fn first(self) -> $address {
                $address::from_bits(self.first)
            }

            /// Its last address.
            pub const fn last(self) -> $address {
                $address::from_bits(self.first | !Self::mask(self.length))
            }

            /// Bits that all its addresses have in common.
            pub const fn length(self) -> u8 {
                self.length
            }

            /// Whether the address is in it.
            pub const fn contains(self, address: $address) -> bool {
                address.to_bits() & Self::mask(self.length) == self.first
            }

            /// Whether all of `other` is in it.
            pub const fn covers(self, other: Self) -> bool {
                self.length <= other.length && self.contains(other.first())
            }

            /// Whether they have an address in common.
            pub const fn overlaps(self, other: Self) -> bool {
                self.covers(other) || other.covers(self)
            }
        }

        impl FromStr for $name {
            type Err = CidrError;

            fn from_str(text: &str) -> Result<Self, CidrError> {
                let (address, length) = text.split_once('/').ok_or(CidrError)?;
                // `+16` and `016` are numbers to the standard library, and to nobody else.
                let plain = length == "0" || !length.starts_with(['0', '+']);
                let length = length.parse().ok().filter(|_| plain).ok_or(CidrError)?;
                $name::new(address.parse().map_err(|_| CidrError)?, length).ok_or(CidrError)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.first(), self.length)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ranges! {
    /// A range of IPv4 addresses.
    Cidr4 of Ipv4Addr as u32, 32;
    /// A range of IPv6 addresses.
    Cidr6 of Ipv6Addr as u128, 128;
}

/// A range of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cidr {
    /// Of IPv4.
    V4(Cidr4),
    /// Of IPv6.
    V6(Cidr6),
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        text.parse().map(Cidr::V4).or_else(|_| text.parse().map(Cidr::V6))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cidr::V4(range) => range.fmt(f),
            Cidr::V6(range) => range.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_they_are_printed() {
        for (text, printed) in [
            ("10.0.0.0/16", "10.0.0.0/16"),
            ("10.0.77.1/16", "10.0.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3/32", "10.1.2.3/32"),
            ("::/0", "::/0"),
            ("FD00:0:0:1::/64", "fd00:0:0:1::/64"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), printed);
        }
        for text in ["", "10.0.0.0", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/+8", "::/129", "x/8"]
        {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ranges_that_overlap_share_an_address(one in any::<u32>(), other in any::<u32>(), a in 0u8..=32, b in 0u8..=32) {
            let one = Cidr4::new(Ipv4Addr::from_bits(one), a).unwrap();
            let other = Cidr4::new(Ipv4Addr::from_bits(other), b).unwrap();
            let shared = one.first().max(other.first()) <= one.last().min(other.last());
            prop_assert_eq!(one.overlaps(other), shared);
            prop_assert_eq!(one.covers(other), shared && one.length() <= other.length());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}") {
            let _ = text.parse::<Cidr>();
        }
    }
}
