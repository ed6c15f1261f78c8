//! What a cell's report changes in an instance's record. Each report is a level, not an edge: the same one twice
//! changes nothing the second time, and one of another attempt or an older generation means nothing.

use super::generation;
use super::launch::{confirm, move_to_cell};
use super::record::InstanceRecord;
use super::state::{Event, Stage, next};
use crate::fleet::Fleet;
use crate::owner::Tx;
use crate::placement::{self, PlaceRequest};
use base::ids::{CellId, InstanceId};
use contract::{Phase, StopCause, VmReport};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a terminated instance stays readable, so that waiters see it. Source: Amazon EC2 User Guide,
/// "Terminate your instance".
pub const TERMINATED_KEPT: std::time::Duration = std::time::Duration::from_secs(3600);

/// Whether the report answers the instance's present intent.
pub fn answers(incarnation: u64, record: &InstanceRecord, report: &VmReport) -> bool {
    report.attempt == record.attempt
        && contract::convert::generation(report.generation) == generation(incarnation, record)
}

/// What the report would do to the instance; `None`: nothing.
pub fn event(record: &InstanceRecord, report: &VmReport) -> Option<Event> {
    let terminate = record.template.as_ref().is_some_and(|template| template.terminate_on_shutdown);
    let event = match report.phase() {
        Phase::Claimed => Event::Claimed,
        // Past its claim only a cell that has lost the VM refuses: it was restored from before it.
        Phase::Refused => match record.stage() {
            Stage::Starting | Stage::Running => Event::StoppedUnasked { terminate: false },
            Stage::Stopping => Event::Stopped,
            _ => Event::Refused { first: record.host_id.is_empty() },
        },
        Phase::Running => Event::Runs,
        Phase::Stopped => match (record.stage(), report.stop_cause()) {
            (_, StopCause::Unspecified) => return None,
            (Stage::Stopping, _) => Event::Stopped,
            (_, StopCause::Failed) => Event::StoppedUnasked { terminate: false },
            (_, StopCause::Guest | StopCause::ShutDown | StopCause::PoweredOff) => {
                Event::StoppedUnasked { terminate }
            }
        },
        Phase::Destroyed => Event::Destroyed,
        Phase::Starting | Phase::Stopping | Phase::Unspecified => return None,
    };
    next(record.stage(), event).map(|_| event)
}

/// Applies the report to the instance, if it still answers its intent.
pub fn apply(tx: &mut Tx<'_>, fleet: &Fleet, incarnation: u64, id: InstanceId, report: &VmReport) {
    let Some(record) = tx.instance(id).filter(|record| answers(incarnation, record, report)) else { return };
    let Some(event) = event(&record, report) else { return };
    let Some(stage) = next(record.stage(), event) else { return };
    let mut record = Arc::unwrap_or_clone(record);
    let was = record.stage();
    let now = tx.now;
    match event {
        Event::Claimed => confirm(&mut record, report, now),
        Event::Refused { first } => {
            if first && let Some(elsewhere) = another_cell(fleet, &record) {
                move_to_cell(&mut record, &elsewhere);
            } else {
                record.intent += 1;
                record.explanation.clone_from(&report.explanation);
                record.move_to(stage, now, "Server.InsufficientInstanceCapacity", report.message.clone());
            }
        }
        Event::StoppedUnasked { .. } => {
            record.intent += 1;
            let (code, message) = match (was, report.stop_cause()) {
                (Stage::Stopping, _) => (record.reason_code.clone(), record.reason_message.clone()),
                (_, _) if report.phase() == Phase::Refused => (
                    "Server.InternalError".to_owned(),
                    format!("The instance's cell knows nothing of it: {}", report.message),
                ),
                (_, StopCause::Guest) => {
                    ("Client.InstanceInitiatedShutdown".to_owned(), "Instance initiated shutdown".to_owned())
                }
                (_, _) => ("Server.InternalError".to_owned(), report.message.clone()),
            };
            record.move_to(stage, now, &code, message);
        }
        Event::Stopped | Event::Destroyed => {
            let (code, message) = (record.reason_code.clone(), record.reason_message.clone());
            record.move_to(stage, now, &code, message);
        }
        Event::Runs => record.move_to(stage, now, "", ""),
        Event::StopAsked | Event::StartAsked | Event::TerminateAsked => return,
    }
    tx.put_instance(id, record);
}

/// Another cell of the instance's zone that has not refused it.
fn another_cell(fleet: &Fleet, record: &InstanceRecord) -> Option<placement::Decision> {
    let template = record.template.as_ref()?;
    let excluded = record.refused_by.iter().chain([&record.cell_id]);
    let request = PlaceRequest {
        count: 1,
        count_min: 1,
        vcpus: template.vcpus(),
        memory_mib: template.memory_mib(),
        zone: record.zone.parse().ok(),
        excluded: excluded.filter_map(|cell| cell.parse::<CellId>().ok()).collect(),
    };
    placement::plan(fleet, &BTreeMap::new(), &request).ok()
}
