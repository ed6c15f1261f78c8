//! Start, stop, reboot, terminate and modify: what customers do to instances that they have.

use super::record::InstanceRecord;
use super::state::{Event, Stage, next};
use crate::owner::Tx;
use crate::refusal::Refusal;
use crate::request::{InstanceChange, StateChange};
use base::ids::InstanceId;
use std::sync::Arc;

type Found = Vec<(InstanceId, Arc<InstanceRecord>)>;

/// The instances, each once, or who is missing: a request about several is refused as a whole.
fn find(tx: &Tx<'_>, ids: &[InstanceId]) -> Result<Found, Refusal> {
    let mut found = Vec::with_capacity(ids.len());
    let mut missing = Vec::new();
    for id in ids {
        match tx.instance_visible(*id) {
            Some(_) if found.iter().any(|(other, _)| other == id) => {}
            Some(record) => found.push((*id, record)),
            None => missing.push(*id),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(Refusal::InstancesNotFound(missing)) }
}

fn incorrect_state(id: InstanceId, record: &InstanceRecord, wanted: &'static str) -> Refusal {
    Refusal::IncorrectState { instance: id, state: record.stage().state(), wanted }
}

fn stop_protected(record: &InstanceRecord) -> bool {
    record.template.as_ref().is_some_and(|template| template.disable_api_stop)
}

/// StopInstances.
pub fn stop(tx: &mut Tx<'_>, ids: &[InstanceId], force: bool) -> Result<Vec<StateChange>, Refusal> {
    let mut changes = Vec::new();
    for (instance, record) in find(tx, ids)? {
        let before = record.stage().state();
        let after = match (record.stage(), next(record.stage(), Event::StopAsked)) {
            (_, Some(_)) if stop_protected(&record) => {
                return Err(Refusal::StopProtected { instance, wanted: "stopped" });
            }
            (_, Some(stage)) => {
                let mut record = Arc::unwrap_or_clone(record);
                record.intent += 1;
                record.force = force;
                record.move_to(stage, tx.now, "Client.UserInitiatedShutdown", "User initiated shutdown");
                tx.put_instance(instance, record);
                stage.state()
            }
            // Asked again: a force that comes later still counts.
            (Stage::Stopping, None) if force && !record.force => {
                let mut record = Arc::unwrap_or_clone(record);
                record.intent += 1;
                record.force = true;
                tx.put_instance(instance, record);
                before
            }
            (Stage::Stopping | Stage::Stopped, None) => before,
            (_, None) => return Err(incorrect_state(instance, &record, "stopped")),
        };
        changes.push(StateChange { instance, before, after });
    }
    Ok(changes)
}

/// StartInstances: claims a place anew, on the host that holds the disk. `vcpus_limit` is the account's quota.
pub fn start(tx: &mut Tx<'_>, ids: &[InstanceId], vcpus_limit: u32) -> Result<Vec<StateChange>, Refusal> {
    let found = find(tx, ids)?;
    let starting = found.iter().filter(|(_, record)| record.stage() == Stage::Stopped);
    let wanted = starting.map(|(_, record)| record.template.as_ref().map_or(0, |t| t.vcpus())).sum();
    let used = tx.vcpus_occupied();
    if wanted > 0 && used + wanted > vcpus_limit {
        return Err(Refusal::VcpuQuota { wanted, used, limit: vcpus_limit });
    }
    let mut changes = Vec::new();
    for (instance, record) in found {
        let before = record.stage().state();
        let after = match (record.stage(), next(record.stage(), Event::StartAsked)) {
            (_, Some(stage)) => {
                let mut record = Arc::unwrap_or_clone(record);
                record.attempt += 1;
                record.intent += 1;
                record.force = false;
                record.refused_by.clear();
                record.launched_unix_ms = tx.now.unix_ms();
                record.move_to(stage, tx.now, "", "");
                tx.put_instance(instance, record);
                stage.state()
            }
            (Stage::Claiming | Stage::Starting | Stage::Running, None) => before,
            (_, None) => return Err(incorrect_state(instance, &record, "started")),
        };
        changes.push(StateChange { instance, before, after });
    }
    Ok(changes)
}

/// RebootInstances.
pub fn reboot(tx: &mut Tx<'_>, ids: &[InstanceId]) -> Result<Vec<StateChange>, Refusal> {
    let mut changes = Vec::new();
    for (instance, record) in find(tx, ids)? {
        if record.stage() != Stage::Running {
            return Err(incorrect_state(instance, &record, "rebooted"));
        }
        let mut record = Arc::unwrap_or_clone(record);
        record.intent += 1;
        record.reboots += 1;
        let (before, after) = (record.stage().state(), record.stage().state());
        tx.put_instance(instance, record);
        changes.push(StateChange { instance, before, after });
    }
    Ok(changes)
}

/// TerminateInstances.
pub fn terminate(tx: &mut Tx<'_>, ids: &[InstanceId]) -> Result<Vec<StateChange>, Refusal> {
    let found = find(tx, ids)?;
    let protected =
        |record: &InstanceRecord| record.template.as_ref().is_some_and(|t| t.disable_api_termination);
    let live = |record: &InstanceRecord| next(record.stage(), Event::TerminateAsked).is_some();
    if let Some((id, _)) = found.iter().find(|(_, record)| protected(record) && live(record)) {
        return Err(Refusal::TerminationProtected(*id));
    }
    // Stop protection protects from termination too, as in AWS: else it would be worth little.
    if let Some((id, _)) = found.iter().find(|(_, record)| stop_protected(record) && live(record)) {
        return Err(Refusal::StopProtected { instance: *id, wanted: "terminated" });
    }
    let mut changes = Vec::new();
    for (instance, record) in found {
        let before = record.stage().state();
        let mut after = before;
        if let Some(stage) = next(record.stage(), Event::TerminateAsked) {
            let mut record = Arc::unwrap_or_clone(record);
            record.intent += 1;
            record.move_to(stage, tx.now, "Client.UserInitiatedShutdown", "User initiated shutdown");
            tx.put_instance(instance, record);
            after = stage.state();
        }
        changes.push(StateChange { instance, before, after });
    }
    Ok(changes)
}

/// ModifyInstanceAttribute.
pub fn modify(tx: &mut Tx<'_>, id: InstanceId, change: InstanceChange) -> Result<(), Refusal> {
    let record = tx.instance_visible(id).ok_or_else(|| Refusal::InstancesNotFound(vec![id]))?;
    let needs_stop = matches!(change, InstanceChange::InstanceType(_) | InstanceChange::UserData(_));
    let gone = matches!(record.stage(), Stage::ShuttingDown | Stage::Terminated);
    if gone {
        return Err(incorrect_state(id, &record, "modified"));
    }
    if needs_stop && record.stage() != Stage::Stopped {
        return Err(Refusal::NotStopped(id));
    }
    let mut record = Arc::unwrap_or_clone(record);
    let template = record.template.get_or_insert_default();
    match change {
        InstanceChange::InstanceType(name) => template.instance_type = name,
        InstanceChange::DisableApiTermination(on) => template.disable_api_termination = on,
        InstanceChange::DisableApiStop(on) => template.disable_api_stop = on,
        InstanceChange::UserData(bytes) => {
            template.user_data = bytes;
            record.own_user_data = true;
        }
        InstanceChange::TerminateOnShutdown(on) => template.terminate_on_shutdown = on,
    }
    tx.put_instance(id, record);
    Ok(())
}
