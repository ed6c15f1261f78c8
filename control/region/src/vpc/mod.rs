//! The default network that every account has: one VPC, one subnet a zone, one security group. Read-only until
//! networks are built: nothing of it is stored, all of it follows from the account's number, and no guest has an
//! interface in it yet.

use base::ids::{AccountId, SecurityGroupId, SubnetId, VpcId, ZoneName};

/// The default VPC's addresses. Source: Amazon VPC User Guide, "Default VPC components".
pub const VPC_CIDR: &str = "172.31.0.0/16";
/// Addresses that a customer may use of a /20: 4,096 less the five that AWS reserves in every subnet.
pub const SUBNET_ADDRESSES: u32 = 4096 - 5;

/// An account's default network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// The VPC.
    pub vpc: VpcId,
    /// The group.
    pub security_group: SecurityGroupId,
    /// One a zone, in the zones' order.
    pub subnets: Vec<DefaultSubnet>,
}

/// A default subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultSubnet {
    /// Its id.
    pub id: SubnetId,
    /// Where it is.
    pub zone: ZoneName,
    /// Its addresses: the zone's own /20 of the VPC.
    pub cidr: String,
}

impl DefaultNetwork {
    /// The default network of `account` in a region of these zones (at most 16).
    pub fn of(account: AccountId, zones: impl IntoIterator<Item = ZoneName>) -> DefaultNetwork {
        let bits = |kind: &str| derive(account, kind);
        let subnet = |(index, zone): (usize, ZoneName)| DefaultSubnet {
            id: SubnetId::from_bits(bits(zone.as_str())),
            cidr: format!("172.31.{}.0/20", index * 16),
            zone,
        };
        DefaultNetwork {
            vpc: VpcId::from_bits(bits("vpc")),
            security_group: SecurityGroupId::from_bits(bits("security-group")),
            subnets: zones.into_iter().take(16).enumerate().map(subnet).collect(),
        }
    }

    /// Whether the resource is a part of it.
    pub fn owns(&self, resource: &str) -> bool {
        resource.parse() == Ok(self.vpc)
            || resource.parse() == Ok(self.security_group)
            || self.subnets.iter().any(|subnet| resource.parse() == Ok(subnet.id))
    }

    /// The subnet of a zone.
    pub fn subnet_in(&self, zone: &str) -> Option<&DefaultSubnet> {
        self.subnets.iter().find(|subnet| subnet.zone.as_str() == zone)
    }
}

fn derive(account: AccountId, kind: &str) -> u128 {
    let text = format!("{account}/{kind}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_always_has_the_same_network_and_no_other_s() {
        let zones = || ["us-east-1a", "us-east-1b"].map(|zone| zone.parse().unwrap());
        let mine = DefaultNetwork::of(AccountId::from_number(1).unwrap(), zones());
        assert_eq!(mine, DefaultNetwork::of(AccountId::from_number(1).unwrap(), zones()));
        let other = DefaultNetwork::of(AccountId::from_number(2).unwrap(), zones());
        assert!(!mine.owns(&other.vpc.to_string()));
        assert!(mine.owns(&mine.subnets[1].id.to_string()));
        assert_eq!(mine.subnet_in("us-east-1b").unwrap().cidr, "172.31.16.0/20");
    }
}
