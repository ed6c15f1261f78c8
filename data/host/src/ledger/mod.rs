//! What the host remembers across its own restarts and reboots: the term and the document generation that it holds,
//! and one record a VM. The agent asks for a [`LedgerChange`], and acts on it only once it is durable.
//!
//! ```text
//!   DIRECTORY/ledger.snapshot     everything as of some change, replaced as a whole
//!   DIRECTORY/ledger.journal.N    the changes since, each appended with one flush; the snapshot names it
//! ```
//!
//! A change is durable whole or not at all, so that the generation on the disk is always that of the VMs beside it.
//! [`directory`] keeps the files, [`journal`] appends to one, [`replay`] says what they mean together, [`frame`] what
//! their bytes are.

mod directory;
mod frame;
mod journal;
mod replay;
mod stored;

pub use directory::{LedgerDirectory, LedgerError};

use base::generation::{Attempt, Generation, Term};
use base::ids::InstanceId;
use contract::{StopCause, Target, VmAssignment};
use std::collections::BTreeMap;

/// What the host holds from its cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRecord {
    /// The highest leader's term seen.
    pub term: Term,
    /// Of the document that the VM records come from.
    pub document_generation: Generation,
    /// The host was told to power its guests off: what went down since then went down with it.
    pub going_down: bool,
}

/// What the host knows of one VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRecord {
    /// What the VM shall be, as the newest document said (or the last one that named it).
    pub assignment: VmAssignment,
    /// Set while the VM is stopped, whoever stopped it: it stays so for every assignment that is not newer.
    pub stopped: Option<StopRecord>,
    /// The spec's `reboots` that the last start took care of.
    pub reboots_done: u64,
    /// The VM and its files are gone. Kept while the document carries the tombstone.
    pub destroyed: bool,
    /// The document that the host holds does not name this VM.
    pub orphan: bool,
}

/// Why, and for which intent, a VM is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRecord {
    /// Of the assignment under which it stopped.
    pub generation: Generation,
    /// Who or what stopped it.
    pub cause: StopCause,
    /// For people; may be empty.
    pub message: String,
}

impl VmRecord {
    /// The record of a VM that is new here.
    pub fn new(assignment: VmAssignment) -> Self {
        let reboots_done = assignment.spec.as_ref().map_or(0, |spec| spec.reboots);
        VmRecord { assignment, stopped: None, reboots_done, destroyed: false, orphan: false }
    }

    /// What the VM shall be.
    pub fn target(&self) -> Target {
        self.assignment.target()
    }

    /// The placement that the assignment belongs to.
    pub fn attempt(&self) -> Attempt {
        Attempt(self.assignment.attempt)
    }

    /// Of the assignment, in the region's numbering.
    pub fn generation(&self) -> Generation {
        contract::convert::generation(self.assignment.generation)
    }

    /// The reboots asked for so far.
    pub fn reboots(&self) -> u64 {
        self.assignment.spec.as_ref().map_or(0, |spec| spec.reboots)
    }

    /// Stopped under this very assignment (or a newer one), so that it does not start again for it.
    pub fn stopped_for_good(&self) -> bool {
        self.stopped.as_ref().is_some_and(|stopped| stopped.generation >= self.generation())
    }
}

/// A whole ledger, as read at start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Term and document generation.
    pub host: HostRecord,
    /// The VMs, destroyed ones included while the document names them.
    pub vms: BTreeMap<InstanceId, VmRecord>,
    /// VMs whose record cannot be read, and why. Their files, and they themselves if they run, are left alone.
    pub damaged: BTreeMap<InstanceId, String>,
    /// Not empty: a part of the ledger cannot be read, and which. The document's generation then starts from zero, so
    /// that the whole document is taken again; each VM's own attempt and generation still refuse what is old.
    pub host_damaged: String,
}

/// What to make durable, all of it before any of it is acted on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerChange {
    /// The new host record.
    pub host: Option<HostRecord>,
    /// New VM records; `None` forgets the VM.
    pub vms: BTreeMap<InstanceId, Option<VmRecord>>,
}

impl Ledger {
    /// The ledger after a change: what a simulated disk holds.
    pub fn apply(&mut self, change: &LedgerChange) {
        if let Some(host) = change.host {
            self.host = host;
        }
        for (id, record) in &change.vms {
            self.damaged.remove(id);
            match record {
                Some(record) => self.vms.insert(*id, record.clone()),
                None => self.vms.remove(id),
            };
        }
    }
}
