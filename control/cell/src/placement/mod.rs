//! Placement: which host of the cell takes a VM, and why.
//!
//! Invariant: [`plan()`] is pure. It reads the facts that the cell's owner gathered (claims that are still being
//! committed count as taken) and neither remembers nor sends anything.

mod plan;
#[cfg(test)]
mod tests;

pub use plan::plan;

use base::ids::{HostId, RackId};
use contract::Explanation;
use std::time::Duration;

/// What VMs take and hosts have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Room {
    /// What a VM of this spec takes.
    pub fn of(spec: &contract::VmSpec) -> Room {
        Room { vcpus: spec.vcpus, memory_mib: u64::from(spec.memory_mib) }
    }

    /// Both together.
    pub fn plus(self, other: Room) -> Room {
        Room {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
        }
    }

    /// What is left of `self` without `other`; nothing is left where `other` is larger.
    pub fn minus(self, other: Room) -> Room {
        Room {
            vcpus: self.vcpus.saturating_sub(other.vcpus),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
        }
    }

    /// The larger of each.
    pub fn larger(self, other: Room) -> Room {
        Room { vcpus: self.vcpus.max(other.vcpus), memory_mib: self.memory_mib.max(other.memory_mib) }
    }

    /// The smaller of each.
    pub fn smaller(self, other: Room) -> Room {
        Room { vcpus: self.vcpus.min(other.vcpus), memory_mib: self.memory_mib.min(other.memory_mib) }
    }

    /// Whether `self` fits into `other`.
    pub fn within(self, other: Room) -> bool {
        self.vcpus <= other.vcpus && self.memory_mib <= other.memory_mib
    }
}

/// Whether a host is fit for new VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Its link is up and it reported lately.
    Healthy,
    /// Not heard yet, but the cell itself has only just started: nobody is declared dead for one full lease.
    Presumed,
    /// Not heard for this long.
    Silent(Duration),
    /// It takes nothing from this cell: it has followed a newer leader, or the cell's store was restored wrongly.
    Refusing,
}

impl Health {
    /// Whether it may be given new VMs.
    pub fn is_fit(self) -> bool {
        match self {
            Health::Healthy | Health::Presumed => true,
            Health::Silent(_) | Health::Refusing => false,
        }
    }
}

/// What placement knows of one host.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts<'a> {
    /// Which host.
    pub host: &'a HostId,
    /// Its rack.
    pub rack: &'a RackId,
    /// What the operator gave it.
    pub capacity: Room,
    /// What claims take of it, the asking VM's own former claim not counted.
    pub used: Room,
    /// Whether it may be given anything.
    pub health: Health,
    /// VMs of the same reservation on this host.
    pub siblings_on_host: u32,
    /// VMs of the same reservation in this host's rack.
    pub siblings_in_rack: u32,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PlaceRequest<'a> {
    /// How much.
    pub room: Room,
    /// Only this host will do, because the VM's disk is there.
    pub only: Option<&'a HostId>,
}

/// A host was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The host.
    pub host: HostId,
    /// Its rack.
    pub rack: RackId,
    /// Why this one; the chosen host first.
    pub explanation: Explanation,
}

/// No host can take it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// One sentence for people.
    pub message: String,
    /// What each host lacks.
    pub explanation: Explanation,
}
