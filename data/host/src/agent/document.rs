//! Reads a document, and judges what it would change before it is taken: it is taken whole or held whole.

use super::{VMS_MAX, Vm};
use crate::ledger::VmRecord;
use base::generation::{Attempt, Generation};
use base::ids::InstanceId;
use contract::{HostDocument, Target, VmAssignment};
use std::collections::BTreeMap;

/// A document that would lose more VMs than this, and more than half of all, is held.
const MISSING_MAX: usize = 2;

pub(super) type Assignments = BTreeMap<InstanceId, VmAssignment>;

/// The document's assignments by VM, or why it cannot be right.
pub(super) fn read(document: HostDocument) -> Result<Assignments, String> {
    let mut assignments = Assignments::new();
    for assignment in document.vms {
        let spec = assignment.spec.as_ref().ok_or("an assignment has no spec")?;
        let id: InstanceId = spec.instance_id.parse().map_err(|e: base::ids::IdError| e.to_string())?;
        match assignment.target() {
            Target::Running if spec.vcpus == 0 || spec.memory_mib == 0 => {
                return Err(format!("{id} has no processors or no memory"));
            }
            Target::Running | Target::Stopped | Target::Destroyed => {}
            other @ (Target::Unspecified | Target::Claimed | Target::Released) => {
                return Err(format!("{id} has the target {}", other.as_str_name()));
            }
        }
        if assignments.insert(id, assignment).is_some() {
            return Err(format!("{id} stands in it twice"));
        }
    }
    Ok(assignments)
}

/// Why a document that can be read is not taken, if so.
pub(super) fn judge(vms: &BTreeMap<InstanceId, Vm>, assignments: &Assignments) -> Result<(), String> {
    let known = |vm: &Vm| vm.record.as_ref().is_some_and(|record| !record.destroyed && !record.orphan);
    let total = vms.values().filter(|vm| known(vm)).count();
    let missing = vms.iter().filter(|(id, vm)| known(vm) && !assignments.contains_key(id)).count();
    if missing > MISSING_MAX && missing * 2 > total {
        return Err(format!("it lacks {missing} of the {total} VMs known here"));
    }
    let union = assignments.len() + vms.keys().filter(|id| !assignments.contains_key(id)).count();
    if union > VMS_MAX {
        return Err(format!("with it there would be {union} VMs; a host takes at most {VMS_MAX}"));
    }
    Ok(())
}

/// The record after an assignment; `None` where nothing changes. What is older than the record, and whatever would
/// undo a tombstone of the same attempt, is ignored, except that the VM is no orphan.
pub(super) fn merge(record: Option<&VmRecord>, assignment: &VmAssignment) -> Option<VmRecord> {
    let Some(record) = record else {
        let mut record = VmRecord::new(assignment.clone());
        // Never heard of, so there is nothing to destroy.
        record.destroyed = record.target() == Target::Destroyed;
        return Some(record);
    };
    let given = (Attempt(assignment.attempt), contract::convert::generation(assignment.generation));
    let held: (Attempt, Generation) = (record.attempt(), record.generation());
    let newer_attempt = given.0 > held.0;
    let older = given.0 < held.0 || (!newer_attempt && given.1 < held.1);
    let undoes = record.target() == Target::Destroyed && assignment.target() != Target::Destroyed;
    let merged = if older || (undoes && !newer_attempt) {
        VmRecord { orphan: false, ..record.clone() }
    } else if undoes {
        VmRecord::new(assignment.clone())
    } else {
        VmRecord { assignment: assignment.clone(), orphan: false, ..record.clone() }
    };
    (merged != *record).then_some(merged)
}
