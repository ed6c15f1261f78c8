//! RunInstances: accepting a launch, and settling it when its cells have answered.
//!
//! ```text
//!   accept ──► Claiming ── every claim answered, enough places ──► Settled   (answered: pending)
//!                 │  └──── too few, no cell left ────────────────► undone    (InsufficientInstanceCapacity)
//!                 └─ two seconds have passed ──► Acknowledged      (answered: pending; each member on its own)
//! ```

use super::record::{InstanceRecord, ReservationRecord, TokenRecord};
use super::state::{Acceptance, Event, Stage, next};
use super::{member_derive, members};
use crate::network_interface::launch::{interfaces_move, interfaces_plan};
use crate::owner::{Tx, WORK_OPS_MAX};
use crate::placement::{self, Decision, PlaceRequest};
use crate::record::{Name, Record};
use crate::refusal::Refusal;
use crate::request::LaunchRequest;
use crate::scene::Scene;
use base::clock::Timestamp;
use base::ids::{CellId, InstanceId, ReservationId, ZoneName};
use contract::VmReport;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What has been answered about a launch in acceptance `Claiming`. In memory only: after a restart the claims are
/// asked for again and answered again.
#[derive(Debug, Default)]
pub struct Claims {
    /// Members whose cell has not answered yet, each with the attempt that it was asked for.
    pub waiting: BTreeMap<InstanceId, u32>,
    /// Members that have a place.
    pub claimed: BTreeMap<InstanceId, (CellId, VmReport)>,
    /// Members that were refused by their present cell.
    pub refused: BTreeMap<InstanceId, (CellId, VmReport)>,
    /// Members that an earlier commit of the same settling has confirmed.
    pub confirmed: u32,
    /// A commit of its settling or undoing is durable or on its way: it is not to be acknowledged any more.
    pub ending: bool,
}

impl Claims {
    /// What is still to be asked about a launch, of whose members these records are known.
    pub fn of<'a>(
        reservation: &ReservationRecord,
        record: impl Fn(InstanceId) -> Option<&'a InstanceRecord>,
    ) -> Claims {
        let mut claims = Claims::default();
        for (_, member) in members(reservation) {
            match record(member) {
                Some(record) if record.stage() != Stage::Claiming => claims.confirmed += 1,
                Some(record) => {
                    claims.waiting.insert(member, record.attempt);
                }
                None => {
                    claims.waiting.insert(member, 1);
                }
            }
        }
        claims.ending = claims.confirmed > 0;
        claims
    }
}

/// How an accepted launch goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More of the same work is left.
    More,
    /// Nothing more to do here.
    Done,
    /// Undone: too few places, for this reason.
    Undone(String),
}

/// Accepts a launch, or finds the one that the same token made before. Durable with the commit that follows.
pub fn accept(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    request: &LaunchRequest,
    occupied: &BTreeMap<ZoneName, u32>,
    vcpus_limit: u32,
) -> Result<ReservationId, Refusal> {
    let token = format!("RunInstances/{}", request.client_token);
    if !request.client_token.is_empty()
        && let Some(used) = tx.token(&token)
    {
        if used.parameters_sha256 != request.parameters_sha256 {
            return Err(Refusal::TokenMismatch(request.client_token.clone()));
        }
        let made = used.made.parse().ok().filter(|id| tx.reservation(*id).is_some());
        return made.ok_or_else(|| Refusal::TokenInstanceTerminated(request.client_token.clone()));
    }
    let (wanted, used) = (request.count_min * request.vcpus, tx.vcpus_occupied());
    if used.saturating_add(wanted) > vcpus_limit {
        return Err(Refusal::VcpuQuota { wanted, used, limit: vcpus_limit });
    }
    let count = request.count.min((vcpus_limit - used) / request.vcpus.max(1));
    let place = PlaceRequest {
        count,
        count_min: request.count_min,
        vcpus: request.vcpus,
        memory_mib: request.memory_mib,
        zone: request.zone.clone(),
        excluded: Vec::new(),
    };
    let decision = placement::plan(scene.fleet, occupied, &place).map_err(|refused| {
        Refusal::InsufficientCapacity(refused.sentence(&request.template.instance_type))
    })?;
    let interface = interfaces_plan(tx, scene, &request.interface, &decision.zone, count)?;
    let id = ReservationId::random(tx.random);
    let seed = tx.random.u128();
    let record = ReservationRecord {
        reservation_id: id.to_string(),
        seed_low: seed as u64,
        seed_high: (seed >> 64) as u32 & 0xf,
        count,
        count_min: request.count_min,
        acceptance: Acceptance::Claiming as u32,
        accepted_unix_ms: tx.now.unix_ms(),
        template: Some(request.template.clone()),
        zone: decision.zone.to_string(),
        zone_fixed: request.zone.is_some(),
        cell_id: decision.cell.to_string(),
        verdicts: decision.verdicts,
        client_token: request.client_token.clone(),
        interface: Some(interface),
    };
    tx.put(Name::Reservation(id), Record::Reservation(Arc::new(record)));
    if !request.client_token.is_empty() {
        let used = TokenRecord {
            parameters_sha256: request.parameters_sha256.to_vec(),
            made: id.to_string(),
            used_unix_ms: tx.now.unix_ms(),
        };
        tx.put(Name::Token(token), Record::Token(Arc::new(used)));
    }
    Ok(id)
}

/// Confirms a member's claim: from here on it may start.
pub fn confirm(record: &mut InstanceRecord, report: &VmReport, now: Timestamp) {
    let Some(stage) = next(record.stage(), Event::Claimed) else { return };
    record.move_to(stage, now, "", "");
    record.intent += 1;
    record.host_id = report.host_id.clone();
    record.rack_id = report.rack_id.clone();
    record.explanation = report.explanation.clone();
}

/// Decides what becomes of a launch whose claims have all been answered: other cells for the members that were
/// refused, then settling with what there is, or undoing.
pub fn settle(tx: &mut Tx<'_>, scene: &Scene<'_>, id: ReservationId, claims: &mut Claims) -> Progress {
    let Some(reservation) = tx.reservation(id) else { return Progress::Done };
    if reservation.acceptance() != Acceptance::Claiming || !claims.waiting.is_empty() {
        return Progress::Done;
    }
    if !claims.refused.is_empty() && redecide(tx, scene, id, &reservation, claims) {
        return Progress::Done;
    }
    // Once some members are confirmed the customer's instances exist: what is left is settled, never undone.
    if claims.confirmed == 0 && (claims.claimed.len() as u32) < reservation.count_min {
        return undo(tx, id, &reservation, claims);
    }
    for (index, member) in members(&reservation) {
        let record = tx.instance(member);
        if record.as_ref().is_some_and(|record| record.stage() != Stage::Claiming) {
            continue;
        }
        match claims.claimed.get(&member) {
            Some((_, report)) => {
                let record = record.map(Arc::unwrap_or_clone);
                let mut record = record.unwrap_or_else(|| member_derive(&reservation, index, member));
                confirm(&mut record, report, tx.now);
                tx.put_instance(member, record);
                claims.confirmed += 1;
            }
            // Between MinCount and MaxCount: dropped, with the record that another cell's attempt gave it.
            None if record.is_some_and(|record| record.attempt > 1) => tx.delete(Name::Instance(member)),
            None => {}
        }
        if tx.is_full() {
            claims.ending = true;
            return Progress::More;
        }
    }
    let mut settled = Arc::unwrap_or_clone(reservation);
    settled.acceptance = Acceptance::Settled as u32;
    tx.put(Name::Reservation(id), Record::Reservation(Arc::new(settled)));
    Progress::Done
}

/// Sends refused members to another cell, if one is left. True if some were.
fn redecide(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    id: ReservationId,
    reservation: &ReservationRecord,
    claims: &mut Claims,
) -> bool {
    let Some(template) = reservation.template.as_ref() else { return false };
    // One launch stays in one zone: the one in which some of it has a place.
    let placed = claims.claimed.keys().next().and_then(|member| tx.instance(*member));
    let zone: Option<ZoneName> = match placed {
        Some(record) => record.zone.parse().ok(),
        // Another zone is another subnet: only all members together go there, in this one commit.
        None if reservation.zone_fixed || claims.refused.len() > WORK_OPS_MAX - 3 => {
            reservation.zone.parse().ok()
        }
        None => None,
    };
    let refused: Vec<InstanceId> = claims.refused.keys().copied().take(WORK_OPS_MAX - 3).collect();
    let excluded = refused.iter().flat_map(|member| cells_refused(tx, reservation, *member)).collect();
    let missing = reservation.count_min.saturating_sub(claims.claimed.len() as u32);
    let place = PlaceRequest {
        count: claims.refused.len() as u32,
        count_min: missing.min(claims.refused.len() as u32).max(1),
        vcpus: template.vcpus(),
        memory_mib: template.memory_mib(),
        zone,
        excluded,
    };
    let Ok(decision) = placement::plan(scene.fleet, &BTreeMap::new(), &place) else { return false };
    if let Some(interface) = &reservation.interface
        && decision.zone.as_str() != reservation.zone
    {
        let Ok(moved) = interfaces_move(tx, scene, interface, &decision.zone) else { return false };
        let zone = decision.zone.to_string();
        let moved = ReservationRecord { zone, interface: Some(moved), ..reservation.clone() };
        tx.put(Name::Reservation(id), Record::Reservation(Arc::new(moved)));
    }
    for (index, member) in members(reservation).filter(|(_, member)| refused.contains(member)) {
        let record = tx.instance(member).map(Arc::unwrap_or_clone);
        let mut record = record.unwrap_or_else(|| member_derive(reservation, index, member));
        move_to_cell(&mut record, &decision);
        claims.refused.remove(&member);
        claims.waiting.insert(member, record.attempt);
        tx.put_instance(member, record);
        if tx.is_full() {
            break;
        }
    }
    true
}

/// The cells that have refused a member, its present one included.
fn cells_refused(tx: &Tx<'_>, reservation: &ReservationRecord, member: InstanceId) -> Vec<CellId> {
    let record = tx.instance(member);
    let refused = record.as_ref().map(|record| record.refused_by.as_slice()).unwrap_or_default();
    let present = record.as_ref().map_or(&reservation.cell_id, |record| &record.cell_id);
    refused.iter().chain([present]).filter_map(|cell| cell.parse().ok()).collect()
}

/// The next attempt, in another cell.
pub fn move_to_cell(record: &mut InstanceRecord, decision: &Decision) {
    let refused = std::mem::replace(&mut record.cell_id, decision.cell.to_string());
    record.refused_by.push(refused);
    record.zone = decision.zone.to_string();
    record.attempt += 1;
    record.intent += 1;
    record.verdicts.clone_from(&decision.verdicts);
}

/// Takes a launch back without a trace: nobody has been told of it. Its token is free again.
fn undo(
    tx: &mut Tx<'_>,
    id: ReservationId,
    reservation: &ReservationRecord,
    claims: &mut Claims,
) -> Progress {
    claims.ending = true;
    for (_, member) in members(reservation) {
        if tx.instance(member).is_some_and(|record| record.attempt > 1) {
            tx.delete(Name::Instance(member));
            if tx.is_full() {
                return Progress::More;
            }
        }
    }
    tx.delete(Name::Reservation(id));
    if !reservation.client_token.is_empty() {
        tx.delete(Name::Token(format!("RunInstances/{}", reservation.client_token)));
    }
    let instance_type = reservation.template.as_ref().map(|t| t.instance_type.as_str()).unwrap_or_default();
    let why = claims.refused.values().next().map(|(_, report)| report.message.as_str()).unwrap_or_default();
    Progress::Undone(format!(
        "We currently do not have sufficient {instance_type} capacity in {}: {} of {} instances could be placed, \
         at least {} were asked for. {why}",
        reservation.zone,
        claims.claimed.len(),
        reservation.count,
        reservation.count_min,
    ))
}

/// The customer is told `pending` although places are still being claimed.
pub fn acknowledge(tx: &mut Tx<'_>, id: ReservationId) {
    if let Some(reservation) = tx.reservation(id)
        && reservation.acceptance() == Acceptance::Claiming
    {
        let mut reservation = Arc::unwrap_or_clone(reservation);
        reservation.acceptance = Acceptance::Acknowledged as u32;
        tx.put(Name::Reservation(id), Record::Reservation(Arc::new(reservation)));
    }
}
