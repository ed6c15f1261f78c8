//! What must hold: some of it after every event, the rest once the faults are over and everything had its time.

use crate::client::{Owned, Wanted};
use crate::process::Node;
use crate::world::World;
use base::clock::Timestamp;
use base::generation::Attempt;
use base::ids::{CellId, HostId, InstanceId};
use cell::placement::Room;
use cell::vm::record::{VmRecord, VmState};
use region::instance::record::InstanceRecord;
use region::instance::state::Stage;
use std::collections::{BTreeMap, BTreeSet};

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No VM has effects on two hosts.
    OneHost,
    /// What was acknowledged exists, exactly once, for as long as its customer wants it; the same token gives the
    /// same answer.
    NothingLost,
    /// No host is given, or runs, more than it has.
    WithinCapacity,
    /// What a customer sees of an instance never goes back.
    StatesForward,
    /// After the faults everything comes to what is wanted: no claim leaks, and nothing runs that nobody knows.
    ComesToRest,
    /// The cores recover and keep their own rules.
    CoreSound,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// In virtual time.
    pub at: Timestamp,
}

/// Why the world is not at rest.
pub(crate) struct Unrest {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

type Rest = Result<(), Unrest>;

fn unrest(what: String) -> Rest {
    Err(Unrest { invariant: Invariant::ComesToRest, what })
}

fn lost(what: String) -> Rest {
    Err(Unrest { invariant: Invariant::NothingLost, what })
}

impl World {
    /// The guests that are on at a host have changed: none is on elsewhere, and all fit.
    pub(crate) fn running_changed(&mut self, index: usize, before: &BTreeSet<InstanceId>) {
        for gone in before.difference(&self.hosts[index].running) {
            if let Some(hosts) = self.running.get_mut(gone) {
                hosts.remove(&index);
                if hosts.is_empty() {
                    self.running.remove(gone);
                }
            }
        }
        let host = &self.hosts[index];
        let mut wrong = None;
        for instance in host.running.difference(before) {
            let hosts = self.running.entry(*instance).or_default();
            hosts.insert(index);
            if hosts.len() > 1 {
                wrong = Some((Invariant::OneHost, format!("{instance} runs on the hosts {hosts:?} at once")));
            }
        }
        let rooms = host.running.iter().filter_map(|instance| host.started.get(instance));
        let used = rooms.fold(Room::default(), |used, (_, room)| used.plus(*room));
        let capacity = room_of(host);
        if !used.within(capacity) {
            let what = format!("host-{index} has {capacity:?} and runs {used:?}");
            wrong = wrong.or(Some((Invariant::WithinCapacity, what)));
        }
        if let Some((invariant, what)) = wrong {
            self.violate(invariant, what);
        }
    }

    /// The claims that a cell has committed fit into the hosts as they are, whatever the cell thinks they have.
    pub(crate) fn claims_check(&mut self, index: usize) {
        let Some(core) = &self.cells[index].core else { return };
        let mut used: BTreeMap<&HostId, Room> = BTreeMap::new();
        for (host, room) in core.vm_records().filter_map(VmRecord::room) {
            let sum = used.entry(host).or_default();
            *sum = sum.plus(room);
        }
        let over = used.into_iter().find_map(|(id, used)| {
            let host = self.host_index.get(id).map(|host| &self.hosts[*host])?;
            (!used.within(room_of(host)))
                .then(|| format!("{id} has {:?}, its claims are {used:?}", room_of(host)))
        });
        if let Some(what) = over {
            self.violate(Invariant::WithinCapacity, what);
        }
    }

    /// Whether everything is as wanted, everywhere.
    pub(crate) fn at_rest(&self) -> Rest {
        if let Some(client) = self.clients.iter().find(|client| !client.idle()) {
            return lost(format!("the customer of {:?} still waits for an answer", client.account));
        }
        let mut nodes = (0..self.cells.len()).map(Node::Cell).chain((0..self.hosts.len()).map(Node::Host));
        if let Some(dead) = nodes.find(|node| !self.alive(*node)) {
            return unrest(format!("{dead:?} is dead"));
        }
        let Some(core) = &self.region.core else { return unrest("the region is dead".into()) };
        let model = core.model();
        let model = model.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut claims: BTreeMap<InstanceId, (&CellId, &VmRecord)> = BTreeMap::new();
        for (cell, identity) in self.cells.iter().zip(&self.cell_identities) {
            for record in cell.core.iter().flat_map(|core| core.vm_records()) {
                if let Some((other, _)) = claims.insert(record.instance, (&identity.cell, record)) {
                    return unrest(format!("{other} and {} both hold {}", identity.cell, record.instance));
                }
            }
        }
        let mut owned: BTreeMap<InstanceId, &Owned> = BTreeMap::new();
        owned.extend(self.clients.iter().flat_map(|client| client.owned.iter().map(|(id, o)| (*id, o))));
        for (_, account) in model.accounts() {
            for (id, record) in &account.instances {
                let Some(owned) = owned.remove(id) else {
                    return lost(format!("{id} exists, and nobody was told of it: {:?}", record.stage()));
                };
                self.as_wanted(*id, record, owned)?;
                self.as_recorded(*id, record, claims.remove(id))?;
            }
        }
        if let Some(id) = owned.keys().next() {
            return lost(format!("{id} was acknowledged, and is not there"));
        }
        if let Some((id, (cell, record))) = claims.first_key_value() {
            return unrest(format!("{cell} holds {id}, which nobody wants: {:?}", record.state));
        }
        self.hosts_known()
    }

    /// Whether a guest's own power-off has ended an instance.
    pub(crate) fn terminated_by_guest(&self) -> bool {
        let Some(core) = &self.region.core else { return false };
        let model = core.model();
        let model = model.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let by_guest = |record: &InstanceRecord| {
            record.stage() == Stage::Terminated && record.reason_code == "Client.InstanceInitiatedShutdown"
        };
        self.unasked.iter().any(|id| model.instance(*id).is_some_and(|record| by_guest(record)))
    }

    /// The region's record is what the customer was promised.
    fn as_wanted(&self, id: InstanceId, record: &InstanceRecord, owned: &Owned) -> Rest {
        let stage = record.stage();
        let no_room = record.reason_code == "Server.InsufficientInstanceCapacity";
        let unasked = self.unasked.contains(&id) || owned.uncertain;
        let terminates = record.template.as_ref().is_some_and(|template| template.terminate_on_shutdown);
        let kept = match (owned.wanted, stage) {
            (_, Stage::Claiming | Stage::Starting | Stage::Stopping | Stage::ShuttingDown) => {
                return unrest(format!("{id} is still {stage:?}"));
            }
            (Wanted::Running, Stage::Running) | (Wanted::Stopped, Stage::Stopped) => true,
            (Wanted::Running, Stage::Stopped) => no_room || unasked,
            (Wanted::Stopped, Stage::Running) => owned.uncertain,
            (Wanted::Running | Wanted::Stopped, Stage::Terminated) => {
                owned.terminate_sent || no_room || (terminates && self.unasked.contains(&id))
            }
            (Wanted::Terminated, stage) => stage == Stage::Terminated,
        };
        if kept {
            return Ok(());
        }
        let (code, message) = (&record.reason_code, &record.reason_message);
        lost(format!("{id} should be {:?} and is {stage:?}: {code} {message}", owned.wanted))
    }

    /// The cell and the hosts do what the region's record says.
    fn as_recorded(
        &self,
        id: InstanceId,
        record: &InstanceRecord,
        claim: Option<(&CellId, &VmRecord)>,
    ) -> Rest {
        let stage = record.stage();
        let nowhere = BTreeSet::new();
        let on = self.running.get(&id).unwrap_or(&nowhere);
        if stage == Stage::Terminated {
            return match (claim, on.len()) {
                (None, 0) => Ok(()),
                (claim, _) => unrest(format!("{id} is terminated, runs on {on:?} and is held: {claim:?}")),
            };
        }
        let Some((cell, claim)) = claim.filter(|(cell, _)| cell.as_str() == record.cell_id) else {
            return unrest(format!("{id} is {stage:?}, and {} does not hold it", record.cell_id));
        };
        let host = claim.place.as_ref().map(|place| place.host.as_str()).unwrap_or_default();
        if host != record.host_id || claim.attempt != Attempt(record.attempt) {
            let (theirs, ours) = (claim.attempt, record.attempt);
            return unrest(format!(
                "{id} is on {} at attempt {ours}, {cell} holds it on {host} at {theirs}",
                record.host_id
            ));
        }
        if stage == Stage::Stopped {
            return match (claim.state, on.len()) {
                (VmState::Stopped { .. }, 0) => Ok(()),
                (state, _) => unrest(format!("{id} is stopped, but {state:?} in {cell} and runs on {on:?}")),
            };
        }
        let here = on.iter().map(|index| &self.hosts[*index]).find(|h| h.identity.host.as_str() == host);
        let attempt = here.and_then(|host| host.started.get(&id)).map(|(attempt, _)| *attempt);
        match (claim.state, attempt) {
            (VmState::Running, Some(attempt)) if attempt == claim.attempt => Ok(()),
            (state, attempt) => unrest(format!(
                "{id} is {stage:?} on {host}, but {state:?} in {cell} and runs on {on:?} at {attempt:?}"
            )),
        }
    }

    /// Nothing is on a host, or in its ledger, that its cell does not place there.
    fn hosts_known(&self) -> Rest {
        for (index, host) in self.hosts.iter().enumerate() {
            if host.disk.vms.is_empty() && host.running.is_empty() {
                continue;
            }
            let core = self.cells[self.cell_of_host(index)].core.as_ref();
            let records = core.into_iter().flat_map(|core| core.vm_records());
            let placed = records
                .filter(|record| record.place.as_ref().is_some_and(|place| place.host == host.identity.host));
            let placed: BTreeSet<InstanceId> = placed.map(|record| record.instance).collect();
            let mut here = host.disk.vms.keys().chain(&host.running);
            if let Some(unknown) = here.find(|id| !placed.contains(id)) {
                return unrest(format!("{unknown} is on host-{index}, and its cell does not place it there"));
            }
            if let Some((id, _)) = host.disk.vms.iter().find(|(_, record)| record.orphan) {
                return unrest(format!("{id} is an orphan on host-{index}"));
            }
            if let Some(id) = host.running.iter().find(|id| !host.disk.vms.contains_key(id)) {
                return unrest(format!("{id} runs on host-{index}, whose ledger does not know it"));
            }
        }
        Ok(())
    }
}

fn room_of(host: &crate::host::Host) -> Room {
    Room { vcpus: host.capacity.vcpus, memory_mib: u64::from(host.capacity.memory_mib) }
}
