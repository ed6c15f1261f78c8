//! A range of addresses as people write it: `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A prefix. Its order puts each one directly before those that lie in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Its first address.
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of this length that `address` lies in; `None` if no address has so many bits.
    pub fn new(address: IpAddr, length: u32) -> Option<Prefix> {
        let (address, length) = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                (IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)), length as u8)
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                (IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)), length as u8)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Prefix { address, length })
    }

    /// What a document says; `None` if it is none.
    pub fn read(stored: &contract::Prefix) -> Option<Prefix> {
        Prefix::new(address_read(&stored.address)?, stored.length)
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }

    /// Its first and its last address, as numbers.
    pub(super) fn bounds(&self) -> (u128, u128) {
        let (first, bits) = match self.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let host_bits: u32 = bits - u32::from(self.length);
        (first, first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1))
    }

    /// Of IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address of a document: 4 bytes or 16.
pub fn address_read(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        16 => bytes.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_prefix_contains_what_shares_its_bits() {
        for (text, inside, outside) in [
            ("10.1.2.3/8", "10.255.255.255", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.1/32", "10.0.0.1", "10.0.0.0"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "10.0.0.1"),
        ] {
            let prefix = prefix(text);
            assert!(prefix.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        assert_eq!(prefix("10.1.2.3/8").to_string(), "10.0.0.0/8");
        assert_eq!(prefix("::/0").bounds(), (0, u128::MAX));
        assert!(
            prefix("10.0.0.0/8").covers(&prefix("10.1.0.0/16"))
                && !prefix("10.1.0.0/16").covers(&prefix("10.0.0.0/8"))
        );
    }

    #[test]
    fn what_is_no_prefix_is_not_read() {
        let read =
            |address: &[u8], length| Prefix::read(&contract::Prefix { address: address.to_vec(), length });
        assert_eq!(read(&[10, 0, 0, 0], 33), None);
        assert_eq!(read(&[0; 16], 129), None);
        assert_eq!(read(&[0; 5], 1), None);
        assert_eq!(read(&[], 0), None);
        assert!(read(&[0; 16], 0).is_some());
    }
}
