//! The region's decision: pure, from the cells' last summaries. They may be half a second old, so a decision is a
//! guess that the cell confirms or refuses; a cell about which nothing is known (its zone does not answer) is
//! asked only when no known one has room.

use crate::fleet::{Cell, Fleet};
use crate::instance::record::CellVerdictRecord;
use base::ids::{CellId, ZoneName};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What is to be placed. One launch goes to one zone, as it goes to one subnet in AWS.
#[derive(Clone, Debug)]
pub struct PlaceRequest {
    /// How many.
    pub count: u32,
    /// How many at least.
    pub count_min: u32,
    /// Of each.
    pub vcpus: u32,
    /// Of each.
    pub memory_mib: u32,
    /// The only zone that will do.
    pub zone: Option<ZoneName>,
    /// Cells that have refused.
    pub excluded: Vec<CellId>,
}

/// Where it goes, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The zone.
    pub zone: ZoneName,
    /// The cell.
    pub cell: CellId,
    /// One line a cell that was looked at, the chosen one first.
    pub verdicts: Vec<CellVerdictRecord>,
}

/// Nowhere, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// One line a cell that was looked at.
    pub verdicts: Vec<CellVerdictRecord>,
    zone: Option<ZoneName>,
}

impl Refused {
    /// The refusal as a sentence for the customer.
    pub fn sentence(&self, instance_type: &str) -> String {
        let place = match &self.zone {
            Some(zone) => format!("the Availability Zone you requested ({zone})"),
            None => "any Availability Zone of this region".to_owned(),
        };
        let whys: Vec<String> =
            self.verdicts.iter().map(|v| format!("{}: {}", v.cell_id, v.verdict)).collect();
        format!(
            "We currently do not have sufficient {instance_type} capacity in {place}. {}",
            whys.join("; ")
        )
    }
}

/// How good a candidate is; greater is better.
type Rank = (bool, bool, Reverse<u32>, u64, Reverse<CellId>);

/// Chooses a cell: one that can take all, then at least as many as must be; the zone in which the account
/// has the fewest vCPUs in use (`occupied`), so that launches spread; then the cell with the most room.
pub fn plan(
    fleet: &Fleet,
    occupied: &BTreeMap<ZoneName, u32>,
    request: &PlaceRequest,
) -> Result<Decision, Refused> {
    let mut verdicts = Vec::new();
    let mut best: Option<(Rank, usize)> = None;
    let wanted = |cell: &Cell| request.zone.as_ref().is_none_or(|zone| *zone == cell.zone);
    for (id, cell) in fleet.cells.iter().filter(|(_, cell)| wanted(cell)) {
        let fits = cell.fits(request.vcpus, request.memory_mib);
        let (usable, verdict) = judge(id, cell, fits, request);
        let verdict = CellVerdictRecord {
            zone: cell.zone.to_string(),
            cell_id: id.to_string(),
            chosen: false,
            verdict,
        };
        verdicts.push(verdict);
        if !usable {
            continue;
        }
        let in_use = occupied.get(&cell.zone).copied().unwrap_or(0);
        let room = cell.summary.as_ref().map_or(0, |summary| u64::from(summary.vcpus_free));
        let takes_all = fits.is_some_and(|fits| fits >= request.count);
        let rank = (fits.is_some(), takes_all, Reverse(in_use), room, Reverse(id.clone()));
        if best.as_ref().is_none_or(|(best, _)| rank > *best) {
            best = Some((rank, verdicts.len() - 1));
        }
    }
    let Some(((.., Reverse(cell)), index)) = best else {
        return Err(Refused { verdicts, zone: request.zone.clone() });
    };
    let zone = fleet.cells[&cell].zone.clone();
    verdicts[index].chosen = true;
    verdicts.swap(0, index);
    Ok(Decision { zone, cell, verdicts })
}

fn judge(id: &CellId, cell: &Cell, fits: Option<u32>, request: &PlaceRequest) -> (bool, String) {
    if request.excluded.contains(id) {
        return (false, "refused this launch before".into());
    }
    if !cell.connected {
        return (false, "not answering".into());
    }
    match fits {
        None => (true, "its zone does not answer, so its capacity is unknown".into()),
        Some(fits) if fits < request.count_min => (
            false,
            format!(
                "has room for {fits} of {} vCPU and {} MiB each, {} needed",
                request.vcpus, request.memory_mib, request.count_min
            ),
        ),
        Some(fits) => (
            true,
            format!("has room for {fits} of {} vCPU and {} MiB each", request.vcpus, request.memory_mib),
        ),
    }
}
