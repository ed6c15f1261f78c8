//! Internet gateways: at most one is attached to a VPC, and one is attached to at most one VPC.

pub mod record;

use crate::owner::Tx;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::tag::record::TagRecord;
use crate::vpc::record::VpcRecord;
use base::ids::InternetGatewayId;
use record::InternetGatewayRecord;
use std::sync::Arc;

/// The most internet gateways of an account: one for each VPC. Source: Amazon VPC User Guide, "Quotas".
pub const GATEWAYS_MAX: usize = crate::vpc::VPCS_MAX;

/// A change of internet gateways.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateInternetGateway.
    Create(Vec<TagRecord>),
    /// DeleteInternetGateway.
    Delete(String),
    /// AttachInternetGateway.
    Attach {
        /// `igw-...`
        gateway: String,
        /// `vpc-...`
        vpc: String,
    },
    /// DetachInternetGateway.
    Detach {
        /// `igw-...`
        gateway: String,
        /// `vpc-...`
        vpc: String,
    },
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create(tags) => {
            if tx.all::<InternetGatewayRecord>().count() >= GATEWAYS_MAX {
                let (limit, what) = (Limit::InternetGateways, "internet gateways");
                return Err(NetworkRefusal::Limit { limit, what, max: GATEWAYS_MAX }.into());
            }
            let id = InternetGatewayId::random(tx.random);
            let internet_gateway_id = id.to_string();
            let record = InternetGatewayRecord { internet_gateway_id, vpc_id: String::new(), tags };
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::Delete(gateway) => {
            let (id, record) = tx.find::<InternetGatewayRecord>(&gateway)?;
            if !record.vpc_id.is_empty() {
                return Err(NetworkRefusal::InUse { kind: "internetGateway", id: gateway }.into());
            }
            tx.remove::<InternetGatewayRecord>(id);
            Ok(Answer::Done)
        }
        Change::Attach { gateway, vpc } => {
            let (id, record) = tx.find::<InternetGatewayRecord>(&gateway)?;
            tx.find::<VpcRecord>(&vpc)?;
            if !record.vpc_id.is_empty() {
                return Err(NetworkRefusal::AlreadyAssociated(gateway).into());
            }
            if tx.all::<InternetGatewayRecord>().any(|(_, other)| other.vpc_id == vpc) {
                return Err(NetworkRefusal::GatewayExists(vpc).into());
            }
            tx.save(id, InternetGatewayRecord { vpc_id: vpc, ..Arc::unwrap_or_clone(record) });
            Ok(Answer::Done)
        }
        Change::Detach { gateway, vpc } => {
            let (id, record) = tx.find::<InternetGatewayRecord>(&gateway)?;
            tx.find::<VpcRecord>(&vpc)?;
            if record.vpc_id != vpc {
                return Err(NetworkRefusal::NotAttached(gateway, vpc).into());
            }
            tx.save(id, InternetGatewayRecord { vpc_id: String::new(), ..Arc::unwrap_or_clone(record) });
            Ok(Answer::Done)
        }
    }
}
