//! Sets of DHCP options. A set never changes; a VPC uses one, or none.

pub mod record;

use crate::owner::Tx;
use crate::refusal::{Limit, NetworkRefusal, Refusal};
use crate::request::Answer;
use crate::tag::record::TagRecord;
use crate::vpc::dhcp_options_are_used;
use crate::vpc::record::VpcRecord;
use base::ids::DhcpOptionsId;
use record::{DhcpOptionRecord, DhcpOptionsRecord};
use std::sync::Arc;

/// The most sets of an account: one for each VPC, and as many in reserve.
pub const SETS_MAX: usize = 2 * crate::vpc::VPCS_MAX;

/// A change of sets of DHCP options.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// CreateDhcpOptions.
    Create {
        /// Sorted by key.
        options: Vec<DhcpOptionRecord>,
        /// Sorted by key.
        tags: Vec<TagRecord>,
    },
    /// DeleteDhcpOptions.
    Delete(String),
    /// AssociateDhcpOptions.
    Associate {
        /// `dopt-...`, or `default`: none.
        options: String,
        /// `vpc-...`
        vpc: String,
    },
}

/// Carries the change out, or refuses it.
pub fn change(tx: &mut Tx<'_>, change: Change) -> Result<Answer, Refusal> {
    match change {
        Change::Create { options, tags } => {
            if tx.all::<DhcpOptionsRecord>().count() >= SETS_MAX {
                let (limit, what) = (Limit::DhcpOptions, "DHCP options sets");
                return Err(NetworkRefusal::Limit { limit, what, max: SETS_MAX }.into());
            }
            let id = DhcpOptionsId::random(tx.random);
            let record = DhcpOptionsRecord { dhcp_options_id: id.to_string(), options, tags };
            Ok(Answer::Resource(tx.save(id, record)))
        }
        Change::Delete(options) => {
            let (id, _) = tx.find::<DhcpOptionsRecord>(&options)?;
            if dhcp_options_are_used(tx, &options) {
                return Err(NetworkRefusal::InUse { kind: "dhcpOptions", id: options }.into());
            }
            tx.remove::<DhcpOptionsRecord>(id);
            Ok(Answer::Done)
        }
        Change::Associate { options, vpc } => {
            let (id, record) = tx.find::<VpcRecord>(&vpc)?;
            let dhcp_options_id = match options.as_str() {
                "default" => String::new(),
                _ => tx.find::<DhcpOptionsRecord>(&options)?.0.to_string(),
            };
            tx.save(id, VpcRecord { dhcp_options_id, ..Arc::unwrap_or_clone(record) });
            Ok(Answer::Done)
        }
    }
}
