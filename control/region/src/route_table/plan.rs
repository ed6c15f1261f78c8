//! Destinations and targets of routes, and which target a route can have.

use super::record::RouteRecord;
use crate::cidr::Cidr;
use crate::internet_gateway::record::InternetGatewayRecord;
use crate::model::Account;
use crate::owner::Tx;
use crate::refusal::{NetworkRefusal, Refusal};
use crate::vpc::plan::{ranges, ranges_ipv6};
use crate::vpc::record::VpcRecord;
use base::ids::*;
use std::fmt;
use std::str::FromStr;

/// Where the packets of a route go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A range.
    Range(Cidr),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Range(range) => range.fmt(f),
        }
    }
}

/// Where the packets of a route are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the internet, both ways.
    Internet(InternetGatewayId),
}

impl FromStr for Target {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Target, IdError> {
        text.parse().map(Target::Internet)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Internet(id) => id.fmt(f),
        }
    }
}

impl Target {
    /// Whether a route of this VPC to the destination can have the target.
    pub fn check(self, tx: &Tx<'_>, vpc: &str, _destination: &Destination) -> Result<(), Refusal> {
        let different = |what: String| {
            Refusal::from(NetworkRefusal::Value(format!(
                "{what} and the route table belong to different networks"
            )))
        };
        match self {
            Target::Internet(id) => {
                let (_, gateway) = tx.find::<InternetGatewayRecord>(&id.to_string())?;
                if gateway.vpc_id == vpc { Ok(()) } else { Err(different(format!("network gateway {id}"))) }
            }
        }
    }

    /// Whether it is there and can take packets of this VPC.
    pub fn is_alive(self, account: &Account, vpc: &str) -> bool {
        match self {
            Target::Internet(id) => {
                account.get::<InternetGatewayRecord>(id).is_some_and(|gateway| gateway.vpc_id == vpc)
            }
        }
    }
}

/// The route's target; `None`: of a kind that this version does not know.
pub fn target(route: &RouteRecord) -> Option<Target> {
    route.target.parse().ok()
}

/// Whether the destination is one of the VPC's own ranges, to which there is a route always.
pub fn is_local(vpc: &VpcRecord, destination: &Destination) -> bool {
    match destination {
        Destination::Range(Cidr::V4(range)) => ranges(vpc).any(|own| own == *range),
        Destination::Range(Cidr::V6(range)) => ranges_ipv6(vpc).any(|own| own == *range),
    }
}
