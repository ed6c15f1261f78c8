//! Reads a document, and judges what it would change before it is taken: it is taken whole or held whole. One that is
//! only a change is judged by what would be after it, without a look at what it leaves alone.

use super::{VMS_MAX, Vm};
use crate::ledger::VmRecord;
use base::generation::{Attempt, Generation};
use base::ids::{IdError, InstanceId};
use contract::{HostDocument, Target, VmAssignment};
use std::collections::{BTreeMap, BTreeSet};

/// A document that would lose more VMs than this, and more than half of all, is held; but see [`Changes::judge`].
const MISSING_MAX: usize = 2;

/// What a document says that may be new here.
pub(super) struct Changes {
    pub(super) assignments: BTreeMap<InstanceId, VmAssignment>,
    /// VMs with a record that it does not name.
    pub(super) gone: BTreeSet<InstanceId>,
}

impl Changes {
    /// Of a document for a host that has these VMs, or why it cannot be right.
    pub(super) fn read(document: HostDocument, vms: &BTreeMap<InstanceId, Vm>) -> Result<Self, String> {
        let mut assignments = BTreeMap::new();
        for assignment in document.vms {
            let spec = assignment.spec.as_ref().ok_or("an assignment has no spec")?;
            let id: InstanceId = spec.instance_id.parse().map_err(|e: IdError| e.to_string())?;
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
        let gone: BTreeSet<InstanceId> = if document.base.is_some() {
            let ids = document.gone.iter().map(|id| id.parse());
            ids.collect::<Result<_, _>>().map_err(|e: IdError| e.to_string())?
        } else {
            vms.keys().filter(|id| !assignments.contains_key(id)).copied().collect()
        };
        match gone.iter().find(|id| assignments.contains_key(id)) {
            Some(id) => Err(format!("{id} stands in it and is gone from it")),
            None => Ok(Changes { assignments, gone }),
        }
    }

    /// Why a document that can be read is not taken, if so. One of a store that was restored (`of_restored`) may lack
    /// any number of VMs, which its backup did not know: they become orphans, and run on. Otherwise it is a mistake
    /// to lack so many, for whoever wants them gone says so of each.
    pub(super) fn judge(&self, vms: &BTreeMap<InstanceId, Vm>, of_restored: bool) -> Result<(), String> {
        let known = |vm: &Vm| vm.record.as_ref().is_some_and(|record| !record.destroyed && !record.orphan);
        let missing = self.gone.iter().filter(|id| vms.get(id).is_some_and(known)).count();
        if missing > MISSING_MAX && !of_restored {
            let total = vms.values().filter(|vm| known(vm)).count();
            if missing * 2 > total {
                return Err(format!("it lacks {missing} of the {total} VMs known here"));
            }
        }
        let union = vms.len() + self.assignments.keys().filter(|id| !vms.contains_key(id)).count();
        if union > VMS_MAX {
            return Err(format!("with it there would be {union} VMs; a host takes at most {VMS_MAX}"));
        }
        Ok(())
    }
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
