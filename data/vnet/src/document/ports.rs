//! What a switch holds of its ports. A port goes by its tombstone only: one that a document lacks goes on as an orphan.

use super::{Act, Limits, Refusal};
use crate::policy::address_read;
use base::generation::Generation;
use base::ids::{NetworkInterfaceId, VpcId};
use contract::{PortAssignment, PortsDocument};
use std::collections::{BTreeMap, BTreeSet};

const ADDRESSES_MAX: usize = 256;
const GROUPS_MAX: usize = 64;

/// The ports' document, as it is held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortsRecord {
    pub(super) generation: Generation,
    pub(super) ports: BTreeMap<NetworkInterfaceId, PortRecord>,
}

/// One port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRecord {
    /// As the newest document that names it says.
    pub assignment: PortAssignment,
    /// Of [`PortRecord::assignment`].
    pub vpc: VpcId,
    /// The document that is held does not name it.
    pub orphan: bool,
}

/// A document that was read: what it says of each interface, and which it does not name.
pub(super) struct PortsChange {
    assignments: BTreeMap<NetworkInterfaceId, (VpcId, PortAssignment)>,
    gone: BTreeSet<NetworkInterfaceId>,
}

impl PortsChange {
    pub(super) fn gone(&self) -> impl Iterator<Item = &NetworkInterfaceId> {
        self.gone.iter()
    }
}

impl PortRecord {
    fn generation(&self) -> Generation {
        contract::convert::generation(self.assignment.generation)
    }

    /// It serves its guest: it has no tombstone.
    pub fn serves(&self) -> bool {
        !self.assignment.removed
    }
}

fn port_read(assignment: &PortAssignment) -> Result<(NetworkInterfaceId, VpcId), String> {
    let interface = assignment.interface_id.parse().map_err(|error: base::ids::IdError| error.to_string())?;
    let vpc = assignment.vpc_id.parse().map_err(|error: base::ids::IdError| error.to_string())?;
    let wrong = |what: &str| Err(format!("{interface} {what}"));
    if assignment.removed {
        return Ok((interface, vpc));
    }
    if assignment.mac.len() != 6 {
        return wrong("has no MAC address");
    }
    let addresses = &assignment.addresses;
    if addresses.is_empty() || addresses.iter().any(|address| address_read(address).is_none()) {
        return wrong("has no address, or one that is none");
    }
    if addresses.len() > ADDRESSES_MAX || assignment.group_ids.len() > GROUPS_MAX {
        return wrong("has too many addresses or groups");
    }
    if assignment.group_ids.iter().any(|id| id.parse::<base::ids::SecurityGroupId>().is_err()) {
        return wrong("has a group that is none");
    }
    Ok((interface, vpc))
}

fn act(interface: NetworkInterfaceId, assignment: &PortAssignment) -> Act {
    if assignment.removed { Act::PortRemove(interface) } else { Act::Port(Box::new(assignment.clone())) }
}

impl PortsRecord {
    /// One port, if it is known.
    pub fn port(&self, interface: NetworkInterfaceId) -> Option<&PortRecord> {
        self.ports.get(&interface)
    }

    /// What a document says, or why it is not taken.
    pub(super) fn read(&self, document: PortsDocument, limits: &Limits) -> Result<PortsChange, Refusal> {
        let restored =
            contract::convert::generation(document.generation).incarnation > self.generation.incarnation;
        let change = self.parse(document).map_err(Refusal)?;
        let known = |interface: &NetworkInterfaceId| {
            self.ports.get(interface).is_some_and(|port| port.serves() && !port.orphan)
        };
        if !restored {
            let missing = change.gone.iter().filter(|interface| known(interface)).count();
            let total = self.ports.keys().filter(|interface| known(interface)).count();
            limits.judge("ports", missing, total).map_err(Refusal)?;
        }
        let new = change.assignments.keys().filter(|interface| !self.ports.contains_key(interface)).count();
        if self.ports.len() + new > limits.ports_max {
            return Err(Refusal(format!("with it there would be more than {} ports", limits.ports_max)));
        }
        Ok(change)
    }

    fn parse(&self, document: PortsDocument) -> Result<PortsChange, String> {
        let mut assignments = BTreeMap::new();
        for assignment in document.ports {
            let (interface, vpc) = port_read(&assignment)?;
            if assignments.insert(interface, (vpc, assignment)).is_some() {
                return Err(format!("{interface} stands in it twice"));
            }
        }
        let gone: BTreeSet<NetworkInterfaceId> = if document.base.is_some() {
            let ids = document.gone.iter().map(|id| id.parse());
            ids.collect::<Result<_, _>>().map_err(|error: base::ids::IdError| error.to_string())?
        } else {
            self.ports.keys().filter(|interface| !assignments.contains_key(interface)).copied().collect()
        };
        match gone.iter().find(|interface| assignments.contains_key(interface)) {
            Some(interface) => Err(format!("{interface} stands in it and is gone from it")),
            None => Ok(PortsChange { assignments, gone }),
        }
    }

    /// Makes a change that was [`read`](Self::read) here. Returns what is to be done about it.
    pub(super) fn apply(&mut self, generation: Generation, change: PortsChange) -> Vec<Act> {
        self.generation = generation;
        let mut acts = Vec::new();
        for interface in change.gone {
            if self.ports.get(&interface).is_some_and(|port| !port.serves()) {
                self.ports.remove(&interface);
            } else if let Some(port) = self.ports.get_mut(&interface) {
                port.orphan = true;
            }
        }
        for (interface, (vpc, assignment)) in change.assignments {
            let Some(held) = self.ports.get_mut(&interface) else {
                acts.push(act(interface, &assignment));
                self.ports.insert(interface, PortRecord { assignment, vpc, orphan: false });
                continue;
            };
            held.orphan = false;
            let given = contract::convert::generation(assignment.generation);
            let undoes = !held.serves() && !assignment.removed && given <= held.generation();
            if given < held.generation() || undoes || held.assignment == assignment {
                continue;
            }
            acts.push(act(interface, &assignment));
            *held = PortRecord { assignment, vpc, orphan: false };
        }
        acts
    }

    /// What the document that is held names, and what goes on without it.
    pub(super) fn whole(&self) -> (PortsDocument, Vec<PortAssignment>) {
        let of = |orphan: bool| self.ports.values().filter(move |port| port.orphan == orphan);
        let document = PortsDocument {
            generation: Some(self.generation.into()),
            ports: of(false).map(|port| port.assignment.clone()).collect(),
            ..PortsDocument::default()
        };
        (document, of(true).map(|port| port.assignment.clone()).collect())
    }

    /// What [`Self::whole`] gave.
    pub(super) fn restore(
        document: PortsDocument,
        orphans: Vec<PortAssignment>,
    ) -> Result<PortsRecord, String> {
        let mut record = PortsRecord::default();
        let generation = contract::convert::generation(document.generation);
        let change = record.parse(PortsDocument { base: None, ..document })?;
        record.apply(generation, change);
        for assignment in orphans {
            let (interface, vpc) = port_read(&assignment)?;
            record.ports.insert(interface, PortRecord { assignment, vpc, orphan: true });
        }
        Ok(record)
    }
}
