//! What the cell has told this switch, and what is held of it on disk. The core, [`Documents`], has no clock, thread or
//! file: what happens is an [`Event`], what to do about it a list of [`Effect`]s, to be carried out in order.
//!
//! ```text
//!   ToSwitch ─► read, judged ─► shall be held ─Persist─► disk ─Persisted─► held ─► Act (policy, ports), SwitchStatus
//!                    └─► held back: kept aside, reported
//! ```
//!
//! A document goes whole or as a change against the generation that is held; any other change is passed over, and the
//! status, which says what is held, asks for the right one. A whole document is turned into the change that it makes
//! here, so that it costs what it changes: on disk, and in [`crate::policy`].
//!
//! Invariants: nothing is acted on that is not durable; the same disk gives the same state; a port goes by a tombstone
//! only; a whole document that lacks much of what is held cuts nothing, unless a restored store sends it.

mod directory;
mod frame;
mod ports;
mod stored;
mod table;
#[cfg(test)]
mod tests;
mod vpc;

pub use directory::{DirectoryError, DocumentDirectory, Found};
pub use ports::{PortRecord, PortsRecord};
pub use vpc::VpcRecord;

use base::clock::Timestamp;
use base::generation::{Generation, Term};
use base::ids::{NetworkInterfaceId, VpcId};
use contract::{
    FromSwitch, PortAssignment, PortStatus, PortsDocument, SwitchHello, SwitchStatus, ToSwitch, VpcDocument,
    VpcGeneration, from_switch, to_switch,
};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use stored::{Stored, ports_whole};

/// A switch takes no more VPCs than this.
pub const VPCS_MAX: usize = 4_096;
/// How many changes may wait for the disk; more are passed over, and asked for again.
const WAITING_MAX: usize = 1_024;
/// Changes to a file shorter than this are not worth writing it anew.
const CHANGES_BYTES_MIN: usize = 64 * 1024;
const PERSIST_AGAIN: Duration = Duration::from_secs(1);
const STATUS_AGAIN: Duration = Duration::from_secs(5);

/// Which switch this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchIdentity {
    /// Its host's name.
    pub host: String,
    /// Where the underlay reaches it.
    pub underlay: SocketAddr,
}

/// What a document may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Ports, orphans and tombstones included.
    pub ports_max: usize,
    /// Elements of a VPC's document.
    pub elements_max: usize,
    /// A whole document that lacks more elements of a kind than this...
    pub missing_free: usize,
    /// ...and more than this share of those that are held, in per cent, is held back.
    pub missing_percent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { ports_max: 4_096, elements_max: 1_000_000, missing_free: 2, missing_percent: 50 }
    }
}

impl Limits {
    /// For what was taken before.
    fn none() -> Limits {
        let max = usize::MAX;
        Limits { ports_max: max, elements_max: max, missing_free: max, missing_percent: 100 }
    }

    /// Whether so many may be missing.
    fn judge(&self, kind: &str, missing: usize, total: usize) -> Result<(), String> {
        if missing > self.missing_free && missing * 100 > total * self.missing_percent {
            return Err(format!("it lacks {missing} of the {total} {kind} known here"));
        }
        Ok(())
    }
}

/// A document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentName {
    /// The ports'.
    Ports,
    /// A VPC's.
    Vpc(VpcId),
}

impl DocumentName {
    fn file(self) -> String {
        match self {
            DocumentName::Ports => String::from("ports"),
            DocumentName::Vpc(id) => id.to_string(),
        }
    }

    fn of_file(file: &str) -> Option<DocumentName> {
        if file == "ports" {
            return Some(DocumentName::Ports);
        }
        file.parse().ok().map(DocumentName::Vpc)
    }
}

/// Why a document cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// What to do on disk; for [`DocumentDirectory::write`].
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Append these changes to a document's file, all of them or none.
    Append {
        /// Whose.
        name: DocumentName,
        /// Encoded.
        changes: Vec<Vec<u8>>,
    },
    /// Write a document's file anew.
    Replace {
        /// Whose.
        name: DocumentName,
        /// Encoded.
        whole: Vec<u8>,
    },
    /// Keep a document that was held back, for people, until a newer one is taken.
    Aside {
        /// Which.
        name: DocumentName,
        /// Encoded; `None`: no longer.
        document: Option<Vec<u8>>,
    },
    /// Remove a document's file.
    Remove {
        /// Whose.
        name: DocumentName,
    },
}

/// What is now so, and durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A port is new, or another than before: for policy and whoever serves it.
    Port(Box<PortAssignment>),
    /// A port is to go; answered with [`Event::Removed`].
    PortRemove(NetworkInterfaceId),
    /// A VPC's document has changed: for policy. A whole one for a VPC that was unknown.
    Vpc(Box<VpcDocument>),
    /// A VPC's document is needed no longer.
    VpcDrop(VpcId),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The link to the cell is up.
    CellUp,
    /// The link to the cell is down.
    CellDown,
    /// The cell said something.
    Cell(Box<ToSwitch>),
    /// The answer to [`Effect::Persist`].
    Persisted {
        /// Of the effect.
        ticket: u64,
        /// Why it failed, if so: it is tried again.
        result: Result<(), String>,
    },
    /// A guest's driver has set its queues up, or they are gone.
    Connected {
        /// Whose.
        interface: NetworkInterfaceId,
        /// Which of both.
        connected: bool,
    },
    /// A port is gone.
    Removed(NetworkInterfaceId),
    /// Time has passed. At least once a second.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable, then answer with [`Event::Persisted`]. At most one is outstanding.
    Persist {
        /// For the answer.
        ticket: u64,
        /// What.
        writes: Vec<Write>,
    },
    /// This is now so.
    Act(Act),
    /// Say this to the cell.
    ToCell(FromSwitch),
}

/// What is known of a document's file, and of a document that was held back.
#[derive(Debug, Default)]
struct Keeping {
    /// Durably held.
    held: Generation,
    /// It can only be written whole: it is new, or a write has failed.
    whole_next: bool,
    whole_bytes: usize,
    changes_bytes: usize,
    /// Changes that are not on their way to the disk yet.
    changes: Vec<Vec<u8>>,
    /// Of the newest one that was held back, and why.
    held_back: Option<(Generation, String)>,
    /// It is not needed by any port.
    dropped: bool,
    /// A port needed it once.
    needed: bool,
}

struct InFlight {
    ticket: u64,
    /// Documents in it, with what will be held of them.
    names: BTreeMap<DocumentName, Generation>,
    acts: Vec<Act>,
}

/// All documents of a switch.
pub struct Documents {
    identity: SwitchIdentity,
    limits: Limits,
    link_up: bool,
    term: Term,
    /// Shall be held.
    ports: PortsRecord,
    vpcs: BTreeMap<VpcId, VpcRecord>,
    keeping: BTreeMap<DocumentName, Keeping>,
    /// Documents that are to be written.
    dirty: BTreeSet<DocumentName>,
    asides: BTreeMap<DocumentName, Option<Vec<u8>>>,
    acts: Vec<Act>,
    in_flight: Option<InFlight>,
    ticket_last: u64,
    persist_not_before: Timestamp,
    /// Not empty: why the disk cannot be written.
    disk_failure: String,
    /// Not empty: why the newest document of some VPC cannot be read.
    unreadable: String,
    /// What was found damaged, until it has been written anew with a newer document.
    damage: BTreeMap<DocumentName, String>,
    connected: BTreeSet<NetworkInterfaceId>,
    /// Tombstones that have been carried out.
    removed: BTreeSet<NetworkInterfaceId>,
    told: Option<SwitchStatus>,
    tell_not_after: Timestamp,
}

impl Documents {
    /// Goes on from what the disk holds. What it says is so already: see [`Documents::start`].
    pub fn recover(identity: SwitchIdentity, limits: Limits, found: Found) -> Documents {
        let Found { term, ports, vpcs, damage, unsure } = found;
        let mut keeping = BTreeMap::new();
        let of = |name: DocumentName, held: Generation| Keeping {
            held,
            whole_next: held == Generation::ZERO || unsure.contains(&name),
            needed: true,
            ..Keeping::default()
        };
        keeping.insert(DocumentName::Ports, of(DocumentName::Ports, ports.generation));
        for (id, vpc) in &vpcs {
            keeping.insert(DocumentName::Vpc(*id), of(DocumentName::Vpc(*id), vpc.generation));
        }
        Documents {
            identity,
            limits,
            link_up: false,
            term,
            ports,
            vpcs,
            keeping,
            dirty: unsure,
            asides: BTreeMap::new(),
            acts: Vec::new(),
            in_flight: None,
            ticket_last: 0,
            persist_not_before: Timestamp::default(),
            disk_failure: String::new(),
            unreadable: String::new(),
            damage,
            connected: BTreeSet::new(),
            removed: BTreeSet::new(),
            told: None,
            tell_not_after: Timestamp::default(),
        }
    }

    /// What is so at the start, from the disk alone.
    pub fn start(&self) -> Vec<Act> {
        let vpcs = self.vpcs.iter().map(|(id, vpc)| Act::Vpc(Box::new(vpc.whole(*id))));
        // An orphan's address may be another port's by now, which comes later and has it.
        let of = |orphan: bool| self.ports.ports.iter().filter(move |(_, port)| port.orphan == orphan);
        let ports = of(true).chain(of(false)).map(|(interface, port)| match port.serves() {
            true => Act::Port(Box::new(port.assignment.clone())),
            false => Act::PortRemove(*interface),
        });
        vpcs.chain(ports).collect()
    }

    /// The ports that shall be, orphans and tombstones included.
    pub fn ports(&self) -> &PortsRecord {
        &self.ports
    }

    /// What shall be held of a VPC: as [`Documents::ports`], ahead of the disk by what is being written.
    pub fn vpc(&self, id: VpcId) -> Option<&VpcRecord> {
        self.vpcs.get(&id)
    }

    /// Takes in what happened and says what to do about it.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        // What was passed over is told at once.
        let mut tell = false;
        match event {
            Event::CellUp => {
                self.link_up = true;
                self.told = None;
                effects.push(Effect::ToCell(self.hello()));
            }
            Event::CellDown => self.link_up = false,
            Event::Cell(message) => tell = !self.cell_said(*message),
            Event::Persisted { ticket, result } => self.persisted(ticket, result, now, &mut effects),
            Event::Connected { interface, connected: true } => drop(self.connected.insert(interface)),
            Event::Connected { interface, connected: false } => drop(self.connected.remove(&interface)),
            Event::Removed(interface) => {
                if self.ports.ports.get(&interface).is_some_and(|port| !port.serves()) {
                    self.removed.insert(interface);
                    self.vpcs_drop();
                }
            }
            Event::Tick => {}
        }
        self.flush(now, &mut effects);
        if self.link_up {
            let status = self.status();
            if tell || now >= self.tell_not_after || self.told.as_ref() != Some(&status) {
                self.tell_not_after = now + STATUS_AGAIN;
                self.told = Some(status.clone());
                effects
                    .push(Effect::ToCell(FromSwitch { message: Some(from_switch::Message::Status(status)) }));
            }
        }
        effects
    }

    /// Returns false if it was passed over.
    fn cell_said(&mut self, message: ToSwitch) -> bool {
        let term = Term(message.term);
        if term < self.term || self.acts.len() >= WAITING_MAX {
            return false;
        }
        if term > self.term {
            self.term = term;
            self.change_add(DocumentName::Ports, Stored { term: term.0, ..Stored::default() });
        }
        match message.message {
            Some(to_switch::Message::Ports(document)) => self.ports_said(document),
            Some(to_switch::Message::Vpc(bytes)) => match VpcDocument::decode(&bytes[..]) {
                Ok(document) => {
                    self.unreadable.clear();
                    self.vpc_said(document)
                }
                Err(error) => {
                    tracing::error!(%error, "a VPC's document cannot be decoded");
                    self.unreadable = format!("a VPC's document cannot be decoded: {error}");
                    false
                }
            },
            None => true,
        }
    }

    fn ports_said(&mut self, document: PortsDocument) -> bool {
        let generation = contract::convert::generation(document.generation);
        let base: Option<Generation> = document.base.map(Into::into);
        if generation <= self.ports.generation || base.is_some_and(|base| base != self.ports.generation) {
            return generation == self.ports.generation;
        }
        // What goes to disk is a change, too, if the document is whole.
        let mut stored = document.clone();
        let change = match self.ports.read(document, &self.limits) {
            Ok(change) => change,
            Err(refusal) => {
                let stored = Stored { term: self.term.0, ports: Some(stored), ..Stored::default() };
                self.hold_back(DocumentName::Ports, generation, refusal, &stored);
                return false;
            }
        };
        if base.is_none() {
            stored.gone = change.gone().map(NetworkInterfaceId::to_string).collect();
            stored.base = Some(self.ports.generation.into());
        }
        let acts = self.ports.apply(generation, change);
        self.acts.extend(acts);
        let ports = &self.ports.ports;
        self.removed.retain(|interface| ports.get(interface).is_some_and(|port| !port.serves()));
        self.taken(DocumentName::Ports, Stored { ports: Some(stored), ..Stored::default() });
        self.vpcs_drop();
        true
    }

    fn vpc_said(&mut self, document: VpcDocument) -> bool {
        let Ok(id) = document.vpc_id.parse::<VpcId>() else { return false };
        let name = DocumentName::Vpc(id);
        let generation = contract::convert::generation(document.generation);
        let base: Option<Generation> = document.base.map(Into::into);
        let new = VpcRecord::default();
        let held = self.vpcs.get(&id);
        let record = held.unwrap_or(&new);
        if generation <= record.generation
            || base.is_some_and(|base| held.is_none() || base != record.generation)
        {
            return generation == record.generation;
        }
        if held.is_none() && self.vpcs.len() >= VPCS_MAX {
            return false;
        }
        let given = document.clone();
        let change = match record.read(document, &self.limits) {
            Ok(change) => change,
            Err(refusal) => {
                let stored = Stored { term: self.term.0, vpc: Some(given), ..Stored::default() };
                self.hold_back(name, generation, refusal, &stored);
                return false;
            }
        };
        self.vpcs.entry(id).or_default().apply(&change);
        self.acts.push(Act::Vpc(Box::new(change.clone())));
        self.taken(name, Stored { vpc: Some(change), ..Stored::default() });
        let needed = self.vpcs_needed().contains(&id);
        if let Some(keeping) = self.keeping.get_mut(&name) {
            keeping.needed |= needed;
        }
        true
    }

    fn hold_back(&mut self, name: DocumentName, generation: Generation, refusal: Refusal, stored: &Stored) {
        let keeping = self.keeping_of(name);
        let why = refusal.to_string();
        if keeping.held_back.as_ref() == Some(&(generation, why.clone())) {
            return;
        }
        tracing::error!(document = name.file(), %generation, why, "a document is held back");
        keeping.held_back = Some((generation, why));
        self.asides.insert(name, Some(stored.encode_to_vec()));
    }

    fn taken(&mut self, name: DocumentName, stored: Stored) {
        if self.keeping_of(name).held_back.take().is_some() {
            self.asides.insert(name, None);
        }
        self.change_add(name, stored);
    }

    fn change_add(&mut self, name: DocumentName, stored: Stored) {
        let change = Stored { term: self.term.0, ..stored }.encode_to_vec();
        let keeping = self.keeping_of(name);
        keeping.dropped = false;
        if !keeping.whole_next {
            keeping.changes.push(change);
        }
        self.dirty.insert(name);
    }

    fn keeping_of(&mut self, name: DocumentName) -> &mut Keeping {
        self.keeping.entry(name).or_insert_with(|| Keeping { whole_next: true, ..Keeping::default() })
    }

    /// VPCs that a port here is in, and their peers.
    fn vpcs_needed(&self) -> BTreeSet<VpcId> {
        let lives = |(interface, port): (&NetworkInterfaceId, &PortRecord)| {
            (port.serves() || !self.removed.contains(interface)).then_some(port.vpc)
        };
        let mut needed: BTreeSet<VpcId> = self.ports.ports.iter().filter_map(lives).collect();
        let peers =
            needed.iter().filter_map(|id| self.vpcs.get(id)).flat_map(|vpc| vpc.peers.iter().copied());
        let peers: Vec<VpcId> = peers.collect();
        needed.extend(peers);
        needed
    }

    /// Drops documents that were needed once and are no longer. One that has come before its first port stays.
    fn vpcs_drop(&mut self) {
        let needed = self.vpcs_needed();
        let mut gone = Vec::new();
        for id in self.vpcs.keys() {
            let Some(keeping) = self.keeping.get_mut(&DocumentName::Vpc(*id)) else { continue };
            if needed.contains(id) {
                keeping.needed = true;
            } else if keeping.needed {
                gone.push(*id);
            }
        }
        for id in gone {
            let name = DocumentName::Vpc(id);
            self.vpcs.remove(&id);
            self.asides.remove(&name);
            self.keeping.insert(name, Keeping { dropped: true, whole_next: true, ..Keeping::default() });
            self.dirty.insert(name);
            self.acts.push(Act::VpcDrop(id));
        }
    }

    /// Hands what is to be written to the disk.
    fn flush(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let idle = self.dirty.is_empty() && self.asides.is_empty();
        if self.in_flight.is_some() || idle || now < self.persist_not_before {
            return;
        }
        let mut writes = Vec::new();
        let mut names = BTreeMap::new();
        for name in std::mem::take(&mut self.dirty) {
            let generation = self.generation(name);
            let Some(keeping) = self.keeping.get_mut(&name) else { continue };
            if keeping.dropped {
                names.insert(name, Generation::ZERO);
                writes.push(Write::Remove { name });
                continue;
            }
            let changes = std::mem::take(&mut keeping.changes);
            let grown = keeping.changes_bytes > keeping.whole_bytes.max(CHANGES_BYTES_MIN);
            if !keeping.whole_next && !grown {
                keeping.changes_bytes += changes.iter().map(Vec::len).sum::<usize>();
                names.insert(name, generation);
                writes.push(Write::Append { name, changes });
                continue;
            }
            let whole = match name {
                DocumentName::Ports => ports_whole(&self.ports, self.term),
                DocumentName::Vpc(id) => Stored {
                    term: self.term.0,
                    vpc: self.vpcs.get(&id).map(|vpc| vpc.whole(id)),
                    ..Stored::default()
                },
            };
            let whole = whole.encode_to_vec();
            (keeping.whole_bytes, keeping.changes_bytes, keeping.whole_next) = (whole.len(), 0, false);
            names.insert(name, generation);
            writes.push(Write::Replace { name, whole });
        }
        for (name, document) in std::mem::take(&mut self.asides) {
            writes.push(Write::Aside { name, document });
        }
        self.ticket_last += 1;
        let ticket = self.ticket_last;
        self.in_flight = Some(InFlight { ticket, names, acts: std::mem::take(&mut self.acts) });
        effects.push(Effect::Persist { ticket, writes });
    }

    fn generation(&self, name: DocumentName) -> Generation {
        match name {
            DocumentName::Ports => self.ports.generation,
            DocumentName::Vpc(id) => self.vpcs.get(&id).map_or(Generation::ZERO, |vpc| vpc.generation),
        }
    }

    fn persisted(
        &mut self,
        ticket: u64,
        result: Result<(), String>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.ticket == ticket) else { return };
        if let Err(why) = result {
            tracing::error!(why, "cannot write the documents");
            self.disk_failure = why;
            self.persist_not_before = now + PERSIST_AGAIN;
            for name in in_flight.names.into_keys() {
                let keeping = self.keeping_of(name);
                keeping.whole_next = true;
                keeping.changes.clear();
                self.dirty.insert(name);
            }
            // What came meanwhile comes after.
            let later = std::mem::replace(&mut self.acts, in_flight.acts);
            self.acts.extend(later);
            return;
        }
        self.disk_failure.clear();
        for (name, generation) in in_flight.names {
            self.damage.remove(&name);
            if let Some(keeping) = self.keeping.get_mut(&name) {
                keeping.held = generation;
                if keeping.dropped && !self.dirty.contains(&name) {
                    self.keeping.remove(&name);
                }
            }
        }
        effects.extend(in_flight.acts.into_iter().map(Effect::Act));
    }

    fn held(&self, name: DocumentName) -> Generation {
        self.keeping.get(&name).map_or(Generation::ZERO, |keeping| keeping.held)
    }

    fn vpc_generations(&self) -> Vec<VpcGeneration> {
        let held = self.keeping.iter().filter_map(|(name, keeping)| match name {
            DocumentName::Vpc(id) if keeping.held != Generation::ZERO => Some((id, keeping.held)),
            DocumentName::Vpc(_) | DocumentName::Ports => None,
        });
        held.map(|(id, held)| VpcGeneration { vpc_id: id.to_string(), generation: Some(held.into()) })
            .collect()
    }

    fn hello(&self) -> FromSwitch {
        let address = match self.identity.underlay.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let hello = SwitchHello {
            host_id: self.identity.host.clone(),
            address,
            port: u32::from(self.identity.underlay.port()),
            ports: Some(self.held(DocumentName::Ports).into()),
            vpcs: self.vpc_generations(),
        };
        FromSwitch { message: Some(from_switch::Message::Hello(hello)) }
    }

    fn status(&self) -> SwitchStatus {
        let port = |(interface, port): (&NetworkInterfaceId, &PortRecord)| PortStatus {
            interface_id: interface.to_string(),
            generation: port.assignment.generation,
            connected: self.connected.contains(interface),
            removed: !port.serves() && self.removed.contains(interface),
        };
        let ports = &self.ports.ports;
        let held_back = self.keeping.iter().filter_map(|(name, keeping)| {
            let (generation, why) = keeping.held_back.as_ref()?;
            Some(format!("{} of generation {generation}: {why}", name.file()))
        });
        let failure = Some(&self.disk_failure).filter(|why| !why.is_empty());
        SwitchStatus {
            ports: Some(self.held(DocumentName::Ports).into()),
            vpcs: self.vpc_generations(),
            term: self.term.0,
            port_statuses: ports.iter().map(port).collect(),
            orphans: ports
                .iter()
                .filter(|(_, port)| port.orphan)
                .map(|(interface, _)| interface.to_string())
                .collect(),
            held: held_back
                .chain(failure.map(|why| format!("the documents cannot be written: {why}")))
                .chain(Some(&self.unreadable).filter(|why| !why.is_empty()).cloned())
                .chain(self.damage.values().cloned())
                .collect(),
        }
    }
}
