//! The hosts of a cell: what they have, whether they answer, and the document that each shall hold.
//!
//! A document's generation is (store incarnation, the leader's term and a count of the document's changes in it), so a
//! generation means one content, whoever sent it. A commit's revision would not do: commits of two VMs of one host end
//! in any order, and the later document could get the lower number. A document is sent whole when a host links and when
//! one stays behind; in between only what a commit changed is sent, against what went out on this link before. A change
//! that does not arrive leaves its host behind.
//!
//! Deliberately absent: taking a host out of service. A host that never comes back keeps its claims.

mod record;

pub(crate) use record::{HostRecord, PREFIX, Underlay, key};

use crate::cell::{Cell, Effect, LEASE, RESEND_AFTER};
use crate::placement::{Health, Room};
use crate::vm::record::Line;
use crate::vm::{Observed, Vm};
use base::clock::Timestamp;
use base::generation::{Generation, Term};
use base::ids::{HostId, InstanceId, RackId};
use base::step::LaunchStep;
use contract::{HostDocument, HostHello, HostStatus, ToHost, VmAssignment, to_host};
use metastore::{CommitError, Revision};
use std::collections::BTreeSet;
use std::time::Duration;

/// A host that has said nothing for so long gets no new VMs.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Changes of one document in one term: that many bits of a generation's second number. The others have the term's
/// count of leaders; what a term says of the store's incarnation stands in the generation already, and is shifted out.
const DOCUMENT_COUNT_BITS: u32 = 40;

/// The generation of a host's document when its leader begins: newer than all of the leaders before.
pub(crate) fn document_first(incarnation: u64, term: Term) -> Generation {
    Generation::new(incarnation, term.0 << DOCUMENT_COUNT_BITS)
}

/// All that the owner knows of one host.
#[derive(Default)]
pub(crate) struct Host {
    /// What it has, as stored; but what it has less than is stored counts at once. So no claim can be durable before
    /// the capacity that it counts on. `None` until a registration is durable.
    pub(crate) record: Option<HostRecord>,
    pub(crate) revision: Option<Revision>,
    /// What is on its way to the store.
    storing: Option<HostRecord>,
    /// The store was full: the record that counts is not the stored one.
    unstored: bool,
    /// What it registered with, until that is on its way to the store.
    registered: Option<(Room, RackId)>,
    pub(crate) up: bool,
    heard: Option<Timestamp>,
    /// Held by claims, those under way included.
    pub(crate) used: Room,
    /// The VMs that its document names.
    pub(crate) vms: BTreeSet<InstanceId>,
    /// Of the document that it shall hold.
    pub(crate) document: Generation,
    /// Of the document that it holds, as it last said.
    document_held: Generation,
    /// Of the newest document that was sent on this link.
    document_sent: Option<Generation>,
    /// A document that it has not yet said it holds, and since when that is awaited.
    awaited: Option<(Generation, Timestamp)>,
    /// What it last complained of: a document held back, VMs that no document names.
    complaint: (String, Vec<String>),
    /// Why it takes nothing of this cell, if so.
    refuses: Option<String>,
    /// Where its switch is, as that said; stored with the rest.
    underlay: Option<Underlay>,
}

impl Host {
    /// What is wrong with this host's account, if anything; `used` is the sum of its claims.
    pub(crate) fn check(&self, used: Room) -> Result<(), String> {
        match &self.record {
            None if used != Room::default() => Err(format!("has claims of {used:?}, but never registered")),
            // Claims from before its operator took some of it away.
            Some(record) if record.lowered => Ok(()),
            Some(record) if !used.within(record.capacity) => {
                Err(format!("has {:?}, its claims are {used:?}", record.capacity))
            }
            _ => Ok(()),
        }
    }
}

impl Cell {
    /// The host, as a new one if the cell does not know it. Its document is newer than all of earlier leaders even
    /// then: the host may know the cell from before the cell's store was restored.
    pub(crate) fn host_entry(&mut self, id: &HostId) -> &mut Host {
        let document = document_first(self.incarnation, self.term);
        self.hosts.entry(id.clone()).or_insert_with(|| Host { document, ..Host::default() })
    }

    /// Whether the host may be given new VMs. A cell that has only just started presumes it of every host that
    /// it knows: nobody is declared dead for one full lease.
    pub(crate) fn host_health(&self, now: Timestamp, host: &Host) -> Health {
        if host.refuses.is_some() {
            return Health::Refusing;
        }
        let heard_lately = host.heard.is_some_and(|heard| now.since(heard) < SILENCE_MAX);
        if host.up && heard_lately {
            return Health::Healthy;
        }
        let started = self.started.unwrap_or(now);
        if now.since(started) < LEASE {
            return Health::Presumed;
        }
        Health::Silent(now.since(host.heard.unwrap_or(started)))
    }

    pub(crate) fn host_up(&mut self, now: Timestamp, id: HostId, out: &mut Vec<Effect>) {
        let host = self.host_entry(&id);
        host.up = true;
        // What it holds now is not known: it may have lost its disk.
        host.document_held = Generation::ZERO;
        self.summary.changed();
        self.host_document_send_whole(now, &id, out);
    }

    pub(crate) fn host_down(&mut self, id: &HostId) {
        if let Some(host) = self.hosts.get_mut(id) {
            host.up = false;
            self.summary.changed();
        }
    }

    /// The host says what it has.
    pub(crate) fn host_hello(&mut self, now: Timestamp, id: HostId, hello: HostHello, out: &mut Vec<Effect>) {
        let rack: RackId = match hello.rack_id.parse() {
            Ok(rack) if hello.host_id == id.as_str() => rack,
            Ok(_) => return tracing::warn!(host = %id, claims = hello.host_id, "a host speaks for another"),
            Err(error) => return tracing::warn!(host = %id, %error, "a host's registration cannot be read"),
        };
        let capacity = Room { vcpus: hello.vcpus, memory_mib: u64::from(hello.memory_mib) };
        let host = self.host_entry(&id);
        host.heard = Some(now);
        host.registered = Some((capacity, rack));
        self.summary.changed();
        self.host_store(&id, out);
    }

    /// Stores what the host registered with, if that is news; one commit at a time.
    fn host_store(&mut self, id: &HostId, out: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.storing.is_none()) else { return };
        let Some((capacity, rack)) = host.registered.take() else { return };
        // Claims stay when the operator takes capacity away; it is made good as they end.
        let lowered = !host.used.within(capacity);
        if lowered {
            tracing::warn!(host = %id, ?capacity, used = ?host.used, "a host has less than is claimed on it");
        }
        let underlay = host.underlay.clone().or_else(|| host.record.as_ref()?.underlay.clone());
        let record = HostRecord { capacity, rack, lowered, underlay };
        if host.record.as_ref() == Some(&record) && !host.unstored {
            return;
        }
        let (known, value) = (host.revision, record.encode());
        if let Some(stored) = &mut host.record {
            stored.capacity = stored.capacity.smaller(record.capacity);
            stored.lowered |= lowered;
        }
        host.storing = Some(record);
        self.summary.changed();
        self.host_commit(id, known, value, out);
    }

    /// The host's switch says where the underlay reaches it.
    pub(crate) fn host_underlay(&mut self, id: &HostId, address: Vec<u8>, port: u32, out: &mut Vec<Effect>) {
        if !matches!(address.len(), 4 | 16) {
            return tracing::warn!(host = %id, ?address, "a switch has no address on the underlay");
        }
        let underlay = Some(Underlay { address, port });
        let host = self.host_entry(id);
        if host.underlay == underlay {
            return;
        }
        host.underlay = underlay;
        // Stored with the registration: with the one that is there, or with the one to come.
        if let Some(record) = host.storing.as_ref().or(host.record.as_ref()) {
            let known = (record.capacity, record.rack.clone());
            host.registered.get_or_insert(known);
            self.host_store(id, out);
        }
    }

    /// Where the underlay reaches the host, as far as is durable.
    pub(crate) fn host_underlay_stored(&self, id: &HostId) -> Option<&Underlay> {
        self.hosts.get(id)?.record.as_ref()?.underlay.as_ref()
    }

    pub(crate) fn host_committed(
        &mut self,
        id: &HostId,
        result: Result<Revision, CommitError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        match result {
            Ok(revision) => {
                let underlay = host.record.as_ref().and_then(|record| record.underlay.clone());
                host.record = host.storing.take();
                host.revision = Some(revision);
                host.unstored = false;
                let moved = host.record.as_ref().is_some_and(|record| record.underlay != underlay);
                self.summary.changed();
                if moved {
                    self.vms_of_moved_host(id);
                }
                self.host_store(id, out);
            }
            // Nothing was changed: it is tried again at the next tick, unless the host has said otherwise since.
            Err(CommitError::Full(_)) => {
                let refused = host.storing.take().map(|record| (record.capacity, record.rack));
                host.registered = host.registered.take().or(refused);
                host.unstored = true;
            }
            // What is stored is not known any more; nothing is stored for this host until the next start. Its
            // claims are records of their own, so none of them is forgotten.
            Err(error) => tracing::error!(host = %id, %error, "the store refused a host's registration"),
        }
    }

    /// Tries again to store what a full store refused.
    pub(crate) fn hosts_store_again(&mut self, out: &mut Vec<Effect>) {
        let due = self.hosts.iter().filter(|(_, host)| host.unstored && host.storing.is_none());
        let due: Vec<HostId> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.host_store(&id, out);
        }
    }

    /// The host says how it and its VMs are.
    pub(crate) fn host_status(
        &mut self,
        now: Timestamp,
        id: HostId,
        status: HostStatus,
        out: &mut Vec<Effect>,
    ) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.heard = Some(now);
        let held = contract::convert::generation(status.document_generation);
        let refuses = refusal(&status, held, self.term, self.incarnation);
        // A document of another life of the cell is not the one that the host shall hold.
        host.document_held = if held.incarnation > self.incarnation { Generation::ZERO } else { held };
        if refuses != host.refuses {
            match &refuses {
                Some(why) => tracing::error!(host = %id, why, "a host refuses this cell"),
                None => tracing::info!(host = %id, "a host refuses this cell no longer"),
            }
            host.refuses = refuses;
            self.summary.changed();
        }
        if host.awaited.is_some_and(|(awaited, _)| awaited <= host.document_held) {
            host.awaited = (host.document_held < host.document).then_some((host.document, now));
        }
        let complaint = (status.document_held, status.orphans);
        if complaint != host.complaint {
            if !complaint.0.is_empty() {
                tracing::warn!(host = %id, why = complaint.0, "a host holds its document back");
            }
            if !complaint.1.is_empty() {
                tracing::warn!(host = %id, orphans = ?complaint.1, "VMs run that no document names");
            }
            host.complaint = complaint;
        }
        for vm in &status.vms {
            if let Ok(instance) = vm.instance_id.parse::<InstanceId>() {
                self.vm_observed(now, &id, instance, Observed::read(vm), out);
            }
        }
    }

    /// A commit has changed what the host shall hold: what it shall be told of one VM; `None`: nothing any more.
    pub(crate) fn host_document_changed(
        &mut self,
        now: Timestamp,
        id: &HostId,
        (instance, assignment): (InstanceId, Option<VmAssignment>),
        out: &mut Vec<Effect>,
    ) {
        let launching = assignment.is_some() && self.vms.get(&instance).is_some_and(Vm::launching);
        let Some(host) = self.hosts.get_mut(id) else { return };
        let generation = Generation::new(host.document.incarnation, host.document.revision + 1);
        host.document = generation;
        // A host that is not linked gets the whole when it is.
        let Some(base) = host.document_sent.filter(|_| host.up) else { return };
        host.document_sent = Some(generation);
        host.awaited.get_or_insert((generation, now));
        let document = HostDocument {
            generation: Some(generation.into()),
            base: Some(base.into()),
            gone: assignment.is_none().then(|| instance.to_string()).into_iter().collect(),
            vms: assignment.into_iter().collect(),
        };
        self.host_document_send(id, document, launching, out);
    }

    /// Sends whole documents to those who do not hold theirs although they had time to.
    pub(crate) fn host_documents_resend(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let behind = |host: &Host| {
            host.up
                && host.document_held < host.document
                && host.awaited.is_none_or(|(_, since)| now.since(since) >= RESEND_AFTER)
        };
        let due: Vec<HostId> =
            self.hosts.iter().filter(|(_, host)| behind(host)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.host_document_send_whole(now, &id, out);
        }
    }

    fn host_document_send_whole(&mut self, now: Timestamp, id: &HostId, out: &mut Vec<Effect>) {
        let Some(host) = self.hosts.get_mut(id).filter(|host| host.up) else { return };
        host.document_sent = Some(host.document);
        host.awaited = Some((host.document, now));
        let on_host = || host.vms.iter().filter_map(|instance| self.vms.get(instance));
        let launching = on_host().any(Vm::launching);
        let vms: Vec<VmAssignment> = on_host()
            .filter_map(|vm| vm.committed.as_ref())
            .filter_map(|(record, _)| record.line().map(Line::assignment))
            .collect();
        let document =
            HostDocument { generation: Some(host.document.into()), vms, ..HostDocument::default() };
        self.host_document_send(id, document, launching, out);
    }

    fn host_document_send(
        &self,
        id: &HostId,
        document: HostDocument,
        launching: bool,
        out: &mut Vec<Effect>,
    ) {
        let message = Some(to_host::Message::Document(document));
        out.push(Effect::ToHost(id.clone(), ToHost { term: self.term.0, message }));
        if launching {
            out.push(Effect::Step(LaunchStep::DocumentSent));
        }
    }
}

/// Why the host takes nothing of a cell of this term and incarnation, if so.
fn refusal(status: &HostStatus, held: Generation, term: Term, incarnation: u64) -> Option<String> {
    if held.incarnation > incarnation {
        let newer = held.incarnation;
        return Some(format!(
            "it holds a document of incarnation {newer} of the store, this is {incarnation}"
        ));
    }
    let newer = Some(status.term).filter(|seen| *seen > term.0)?;
    Some(format!("it has seen a leader of term {newer}, this one's is {}", term.0))
}
