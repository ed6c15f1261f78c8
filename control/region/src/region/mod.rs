//! The region's core: the one owner of all that changes.
//!
//! `apply(now, event) -> effects` is synchronous and touches nothing but memory: the shell (`serve.rs`) carries
//! out effects in order, and so does the simulator. A request becomes work of its account ([`crate::owner`]); the
//! work of an account becomes commits, one in flight at a time; what a durable commit changed is put into the
//! model, answered, and told to the cells.
//!
//! Invariant: every answer and every message to a cell follows from records that are durable.

mod execute;
mod reports;
mod waiters;

use crate::account;
use crate::fleet::Fleet;
use crate::instance::launch::{self, Claims, Progress};
use crate::instance::record::{InstanceRecord, ReservationRecord};
use crate::instance::state::{Acceptance, Stage};
use crate::instance::{self, reconcile};
use crate::model::Model;
use crate::owner::{self, Tx, WORK_BYTES_FULL, WORK_OPS_MAX, Writes};
use crate::record::{Name, Record};
use crate::refusal::Refusal;
use crate::request::{Answer, Request, StateChange};
use base::clock::Timestamp;
use base::generation::{Generation, Term};
use base::ids::{AccountId, CellId, ImageId, InstanceId, RegionName, ReservationId, ZoneName};
use base::random::Random;
use base::step::LaunchStep;
use contract::{ConsoleData, ConsoleRead, FromCell, ToCell, VmReport, ZoneSummary, from_cell, to_cell};
use execute::{Scene, execute, expire, expired, mark_settled};
use metastore::{Commit, CommitError, Condition, Revision};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use waiters::{Waiter, Wants};

/// How long RunInstances and StartInstances wait for the cells before they answer `pending` all the same.
pub const CLAIM_WAIT: Duration = Duration::from_secs(2);
/// How long an intent waits for its report before it is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(1);
/// Intents sent again at one tick, so that a cell that comes back is not flooded.
const RESEND_MAX: usize = 2_000;
/// Requests of one account that may wait; more are refused.
const QUEUE_MAX: usize = 10_000;
/// How often what has had its time, or has nobody to end it, is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// VMs that are remembered as orphans.
const ORPHANS_MAX: usize = 10_000;
/// How long a console read waits for its host.
const CONSOLE_WAIT: Duration = Duration::from_secs(5);

/// What happens to a region.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks for a change.
    Request {
        /// The asker's own number for it; given back with the answer.
        id: u64,
        /// Whose. For AccountCreate it means nothing.
        account: AccountId,
        /// What.
        request: Request,
    },
    /// Somebody wants an instance's console.
    ConsoleRead {
        /// The asker's own number for it.
        id: u64,
        /// Which instance.
        instance: InstanceId,
    },
    /// The store has carried out a commit, or not.
    Committed {
        /// The commit's ticket.
        ticket: u64,
        /// What became of it.
        result: Result<Revision, CommitError>,
    },
    /// A cell's link is up.
    CellUp(CellId),
    /// A cell's link is down.
    CellDown(CellId),
    /// A cell said something.
    Cell(CellId, FromCell),
    /// A zone's link is up.
    ZoneUp(ZoneName),
    /// A zone's link is down.
    ZoneDown(ZoneName),
    /// A zone said something.
    Zone(ZoneName, ZoneSummary),
    /// Time has passed.
    Tick,
}

/// What a region wants done, in this order.
// The largest is the most frequent: a message to a cell.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Effect {
    /// Commit, and say so with [`Event::Committed`]. Commits of different accounts have no order among each other.
    Commit {
        /// Names it.
        ticket: u64,
        /// What.
        commit: Commit,
    },
    /// Send to a cell; dropped if its link is down.
    ToCell(CellId, ToCell),
    /// Answer a request.
    Answer {
        /// The asker's number.
        id: u64,
        /// What became of it.
        result: Result<Answer, Refusal>,
    },
    /// Answer a console read; `None`: its host does not answer.
    Console {
        /// The asker's number.
        id: u64,
        /// What the host said.
        data: Option<ConsoleData>,
    },
    /// A launch has reached a step.
    Step(LaunchStep),
}

/// What a region is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: RegionName,
    /// Its zones and their cells.
    pub zones: Vec<(ZoneName, Vec<CellId>)>,
    /// vCPUs that an account's instances may occupy together.
    pub vcpus_per_account: u32,
    /// The images that every account can see.
    pub images: Vec<ImageId>,
}

/// Work of one account.
#[derive(Debug)]
enum Work {
    Request {
        id: u64,
        request: Request,
        /// What earlier commits of a request about many instances have changed.
        done: Vec<StateChange>,
    },
    /// A cell's latest report of this instance (in `Region::reports`).
    Report(InstanceId),
    Settle(ReservationId),
    Acknowledge(ReservationId),
    /// All members of an acknowledged launch have records of their own.
    MarkSettled(ReservationId),
    Expire,
}

#[derive(Default)]
struct Owner {
    queue: VecDeque<Work>,
    in_flight: Option<Batch>,
}

/// A commit on its way, and what follows from it.
#[derive(Default)]
struct Batch {
    writes: Writes,
    answers: Vec<(u64, Result<Answer, Refusal>)>,
    waiters: Vec<Waiter>,
    undone: Vec<(ReservationId, String)>,
    bytes: usize,
    steps: Vec<LaunchStep>,
    /// Reports that the batch has taken up.
    reports: Vec<(CellId, VmReport)>,
}

/// The region.
pub struct Region {
    identity: Identity,
    term: Term,
    leads: Condition,
    incarnation: u64,
    model: Arc<RwLock<Model>>,
    random: Random,
    fleet: Fleet,
    owners: BTreeMap<AccountId, Owner>,
    tickets: BTreeMap<u64, AccountId>,
    ticket_next: u64,
    claims: BTreeMap<ReservationId, Claims>,
    reports: BTreeMap<InstanceId, (CellId, VmReport)>,
    waiters: Vec<Waiter>,
    /// Intents that no report has answered yet, and when each was last sent.
    unanswered: BTreeMap<InstanceId, (Generation, Timestamp)>,
    consoles: BTreeMap<u64, Timestamp>,
    /// VMs that cells run and the region does not know: never destroyed, reported.
    orphans: BTreeMap<String, CellId>,
    sweep_at: Timestamp,
    /// The instance whose intent was sent again last: the next round goes on behind it.
    sent_last: Option<InstanceId>,
}

impl Region {
    /// The region of `model`. `term` is this process's, `term_record` the key and revision that hold it while no
    /// newer process leads.
    pub fn recover(
        identity: Identity,
        term: Term,
        leads: Condition,
        incarnation: u64,
        model: Model,
        random: Random,
    ) -> Region {
        let fleet = Fleet::new(identity.zones.clone());
        let mut region = Region {
            identity,
            term,
            leads,
            incarnation,
            model: Arc::new(RwLock::new(Model::default())),
            random,
            fleet,
            owners: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ticket_next: 1,
            claims: BTreeMap::new(),
            reports: BTreeMap::new(),
            waiters: Vec::new(),
            unanswered: BTreeMap::new(),
            consoles: BTreeMap::new(),
            orphans: BTreeMap::new(),
            sweep_at: Timestamp::default(),
            sent_last: None,
        };
        for (_, account) in model.accounts() {
            for (id, record) in &account.instances {
                if record.stage() != Stage::Terminated {
                    let generation = instance::generation(incarnation, record);
                    region.unanswered.insert(*id, (generation, Timestamp::default()));
                }
            }
            for (id, reservation) in &account.reservations {
                if reservation.acceptance() == Acceptance::Claiming {
                    let record = |member| account.instances.get(&member).map(Arc::as_ref);
                    region.claims.insert(*id, Claims::of(reservation, record));
                }
            }
        }
        region.model = Arc::new(RwLock::new(model));
        region
    }

    /// The read model, for the API's reads.
    pub fn model(&self) -> Arc<RwLock<Model>> {
        self.model.clone()
    }

    /// Zones and cells as last seen.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// VMs that cells run and the region does not know.
    pub fn orphans(&self) -> &BTreeMap<String, CellId> {
        &self.orphans
    }

    fn read(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Model> {
        self.model.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What follows from an event.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Request { id, account, request } => self.request(now, id, account, request, &mut effects),
            Event::ConsoleRead { id, instance } => self.console_read(now, id, instance, &mut effects),
            Event::Committed { ticket, result } => self.committed(now, ticket, result, &mut effects),
            Event::CellUp(cell) => {
                if let Some(cell) = self.fleet.cells.get_mut(&cell) {
                    cell.connected = true;
                }
                self.intents_due(now, Some(&cell), &mut effects);
            }
            Event::CellDown(cell) => {
                if let Some(cell) = self.fleet.cells.get_mut(&cell) {
                    cell.connected = false;
                }
            }
            Event::Cell(cell, FromCell { message }) => match message {
                Some(from_cell::Message::Report(report)) => self.report(now, cell, report, &mut effects),
                Some(from_cell::Message::Console(data)) => {
                    if self.consoles.remove(&data.request_id).is_some() {
                        effects.push(Effect::Console { id: data.request_id, data: Some(data) });
                    }
                }
                // No VPC is published yet.
                Some(from_cell::Message::Hello(_) | from_cell::Message::VpcHeld(_)) | None => {}
            },
            Event::ZoneUp(zone) => self.zone_connected(&zone, true),
            Event::ZoneDown(zone) => {
                self.zone_connected(&zone, false);
                self.fleet.forget(&zone);
            }
            Event::Zone(zone, summary) => self.fleet.summarised(&zone, summary),
            Event::Tick => self.tick(now, &mut effects),
        }
        effects
    }

    fn zone_connected(&mut self, zone: &ZoneName, connected: bool) {
        if let Some(zone) = self.fleet.zones.get_mut(zone) {
            zone.connected = connected;
        }
    }

    fn request(
        &mut self,
        now: Timestamp,
        id: u64,
        account: AccountId,
        request: Request,
        effects: &mut Vec<Effect>,
    ) {
        // New accounts are made one after the other, so that one token makes one account.
        let creates = matches!(request, Request::AccountCreate { .. });
        let owner = if creates { AccountId::from_number(0).unwrap_or(account) } else { account };
        if matches!(request, Request::Launch(_)) {
            effects.push(Effect::Step(LaunchStep::RequestReceived));
        }
        let queue = &mut self.owners.entry(owner).or_default().queue;
        if queue.len() >= QUEUE_MAX
            && queue.iter().filter(|work| matches!(work, Work::Request { .. })).count() >= QUEUE_MAX
        {
            effects.push(Effect::Answer { id, result: Err(Refusal::Busy) });
            return;
        }
        queue.push_back(Work::Request { id, request, done: Vec::new() });
        self.advance(now, owner, effects);
    }

    fn enqueue(&mut self, now: Timestamp, account: AccountId, work: Work, effects: &mut Vec<Effect>) {
        self.owners.entry(account).or_default().queue.push_back(work);
        self.advance(now, account, effects);
    }

    /// Turns an account's waiting work into a commit, if none is in flight.
    fn advance(&mut self, now: Timestamp, owner: AccountId, effects: &mut Vec<Effect>) {
        let Some(slot) = self.owners.get_mut(&owner) else { return };
        if slot.in_flight.is_some() || slot.queue.is_empty() {
            return;
        }
        let mut queue = std::mem::take(&mut slot.queue);
        let mut batch = Batch::default();
        let mut account = owner;
        while let Some(work) = queue.pop_front() {
            let again = self.work(now, &mut account, work, &mut batch);
            if let Some(again) = again {
                queue.push_front(again);
                break;
            }
            // An account that is being made has its own key: nothing else may share its commit.
            let room =
                queue.front().is_none_or(|next| batch.writes.len() + next.ops_max() <= Commit::OPS_MAX);
            if !room || batch.bytes >= WORK_BYTES_FULL || account != owner {
                break;
            }
        }
        let slot = self.owners.entry(owner).or_default();
        std::mem::swap(&mut slot.queue, &mut queue);
        if batch.writes.is_empty() {
            self.settle_batch(now, account, batch, &BTreeMap::new(), effects);
            self.advance(now, owner, effects);
            return;
        }
        let ticket = self.ticket_next;
        self.ticket_next += 1;
        let commit = owner::commit(account, &batch.writes, self.leads.clone());
        slot.in_flight = Some(batch);
        self.tickets.insert(ticket, owner);
        effects.push(Effect::Commit { ticket, commit });
    }

    /// Does one piece of work on the batch; gives it back if more of it is left for the next commit.
    fn work(
        &mut self,
        now: Timestamp,
        account: &mut AccountId,
        work: Work,
        batch: &mut Batch,
    ) -> Option<Work> {
        let model = self.model.clone();
        let model = model.read().unwrap_or_else(PoisonError::into_inner);
        let mut tx = Tx::new(now, &mut self.random, model.account(*account), &batch.writes);
        let mut again = None;
        let mut outcome = None;
        match work {
            Work::Request { id, request: Request::AccountCreate { name, client_token }, .. } => {
                let same = |record: &&Arc<crate::account::record::AccountRecord>| {
                    !client_token.is_empty() && record.client_token == client_token
                };
                let existing = model.accounts().filter_map(|(_, a)| a.record.as_ref()).find(same);
                let made = existing.and_then(|record| record.account_id.parse().ok()).unwrap_or_else(|| {
                    *account = AccountId::random(tx.random);
                    while model.account(*account).is_some() {
                        *account = AccountId::random(tx.random);
                    }
                    account::account_create(&mut tx, *account, name, client_token);
                    *account
                });
                outcome = Some((id, Ok(Outcome::Answer(Answer::Account(made)))));
            }
            Work::Request { id, request, done } => {
                let scene =
                    Scene { fleet: &self.fleet, model: &model, identity: &self.identity, account: *account };
                match execute(&mut tx, &scene, request, done) {
                    Ok(Outcome::More { request, done }) => again = Some(Work::Request { id, request, done }),
                    _ if tx.is_too_large() => outcome = Some((id, Err(Refusal::TooLarge))),
                    other => outcome = Some((id, other)),
                }
            }
            Work::Report(id) => {
                if let Some((cell, report)) = self.reports.remove(&id) {
                    reconcile::apply(&mut tx, &self.fleet, self.incarnation, id, &report);
                    batch.reports.push((cell, report));
                }
            }
            Work::Settle(id) => {
                if let Some(claims) = self.claims.get_mut(&id) {
                    match launch::settle(&mut tx, &self.fleet, id, claims) {
                        Progress::More => again = Some(Work::Settle(id)),
                        Progress::Done => {}
                        Progress::Undone(why) => batch.undone.push((id, why)),
                    }
                }
            }
            // What is being settled or undone is answered by that.
            Work::Acknowledge(id) if self.claims.get(&id).is_some_and(|claims| claims.ending) => {}
            Work::Acknowledge(id) => launch::acknowledge(&mut tx, id),
            Work::MarkSettled(id) => mark_settled(&mut tx, id),
            Work::Expire => {
                if expire(&mut tx, model.account(*account)) {
                    again = Some(Work::Expire);
                }
            }
        }
        let bytes = tx.bytes();
        let mut writes = tx.into_writes();
        match outcome {
            Some((id, Ok(Outcome::Answer(answer)))) => batch.answers.push((id, Ok(answer))),
            Some((id, Ok(Outcome::Waits(wants)))) => {
                if matches!(wants, Wants::Launched(_)) && !writes.is_empty() {
                    batch.steps.push(LaunchStep::LaunchAccepted);
                }
                batch.waiters.push(Waiter { id, account: *account, deadline: now + CLAIM_WAIT, wants });
            }
            Some((id, Err(refusal))) => {
                writes.clear();
                batch.answers.push((id, Err(refusal)));
            }
            Some((_, Ok(Outcome::More { .. }))) | None => {}
        }
        batch.bytes += bytes;
        batch.writes.append(&mut writes);
        again
    }

    fn committed(
        &mut self,
        now: Timestamp,
        ticket: u64,
        result: Result<Revision, CommitError>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(owner) = self.tickets.remove(&ticket) else { return };
        let Some(batch) = self.owners.get_mut(&owner).and_then(|slot| slot.in_flight.take()) else { return };
        match result {
            Ok(revision) => {
                let account = account_of(owner, &batch);
                let before = self.stages(account, &batch);
                {
                    let mut model = self.write();
                    owner::apply(&mut model, account, &batch.writes);
                    model.revision = revision;
                }
                self.settle_batch(now, account, batch, &before, effects);
            }
            Err(error) => {
                // A commit that is too large, or that a full store refused, changed nothing. Else the store has
                // failed or somebody else leads, and the shell ends this process now: what is durable is all that
                // the next one goes on from.
                let ids = batch.answers.iter().map(|(id, _)| *id).chain(batch.waiters.iter().map(|w| w.id));
                let refusal = match error {
                    CommitError::Full(why) => Refusal::StoreFull(why),
                    error => Refusal::StoreFailed(error.to_string()),
                };
                effects.extend(ids.map(|id| Effect::Answer { id, result: Err(refusal.clone()) }));
                self.batch_refused(now, &batch);
            }
        }
        self.advance(now, owner, effects);
    }

    /// What the cells said is lost with the batch: they are asked again. A launch may be acknowledged again, or
    /// settled at the next sweep.
    fn batch_refused(&mut self, now: Timestamp, batch: &Batch) {
        for (_, report) in &batch.reports {
            let Ok(id) = report.instance_id.parse::<InstanceId>() else { continue };
            let record = self.read().instance(id).cloned();
            if let Some(record) = record {
                self.unanswered.insert(id, (instance::generation(self.incarnation, &record), now));
            }
        }
        for name in batch.writes.keys() {
            if let Name::Reservation(id) = name
                && let Some(claims) = self.claims.get_mut(id)
            {
                claims.ending = claims.confirmed > 0;
            }
        }
    }

    /// The stage and intent of the instances that a batch changes, as they are before it.
    fn stages(&self, account: AccountId, batch: &Batch) -> BTreeMap<InstanceId, (Stage, u64)> {
        let model = self.read();
        let Some(account) = model.account(account) else { return BTreeMap::new() };
        let changed = batch.writes.keys().filter_map(|name| match name {
            Name::Instance(id) => Some(*id),
            _ => None,
        });
        changed
            .filter_map(|id| {
                let record = account.instances.get(&id)?;
                Some((id, (record.stage(), record.intent)))
            })
            .collect()
    }

    /// What follows from a durable batch: answers, intents, acknowledgements.
    fn settle_batch(
        &mut self,
        now: Timestamp,
        account: AccountId,
        batch: Batch,
        before: &BTreeMap<InstanceId, (Stage, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        effects.extend(batch.steps.into_iter().map(Effect::Step));
        for (name, record) in &batch.writes {
            match (name, record) {
                (Name::Instance(id), Some(Record::Instance(record))) => {
                    self.instance_changed(now, *id, record, before.get(id).copied(), effects);
                }
                (Name::Instance(id), None) => {
                    self.unanswered.remove(id);
                    self.reports.remove(id);
                }
                (Name::Reservation(id), Some(Record::Reservation(record))) => {
                    self.reservation_changed(now, account, *id, record, effects);
                }
                (Name::Reservation(id), None) => {
                    self.launch_forget(*id, effects);
                }
                _ => {}
            }
        }
        for (cell, report) in batch.reports {
            self.ack(cell, &report, effects);
        }
        effects.extend(batch.answers.into_iter().map(|(id, result)| Effect::Answer { id, result }));
        self.waiters.extend(batch.waiters);
        self.waiters_answer(now, &batch.undone, effects);
    }

    /// `before`: its stage and intent before the commit.
    fn instance_changed(
        &mut self,
        now: Timestamp,
        id: InstanceId,
        record: &InstanceRecord,
        before: Option<(Stage, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        let stage = record.stage();
        if before.is_none_or(|(before, _)| before != stage) {
            match stage {
                Stage::Starting => effects.push(Effect::Step(LaunchStep::AttemptConfirmed)),
                Stage::Running => effects.push(Effect::Step(LaunchStep::RunningCommitted)),
                _ => {}
            }
        }
        if stage == Stage::Terminated {
            self.unanswered.remove(&id);
        } else if before.is_none_or(|(_, intent)| intent != record.intent) {
            let generation = instance::generation(self.incarnation, record);
            self.unanswered.insert(id, (generation, now));
            self.intent_send(id, record, effects);
        }
    }

    fn reservation_changed(
        &mut self,
        now: Timestamp,
        account: AccountId,
        id: ReservationId,
        record: &ReservationRecord,
        effects: &mut Vec<Effect>,
    ) {
        match record.acceptance() {
            Acceptance::Claiming => {
                self.claims.insert(id, Claims::of(record, |_| None));
                for (_, member) in instance::members(record) {
                    let generation = Generation::new(self.incarnation, 1);
                    self.unanswered.insert(member, (generation, now));
                    if let Some(record) = self.instance_of(account, member)
                        && self.intent_send(member, &record, effects)
                    {
                        effects.push(Effect::Step(LaunchStep::ClaimSent));
                    }
                }
            }
            Acceptance::Acknowledged => {
                // From here each member is on its own; what has been answered already is taken up again.
                let claims = self.claims.remove(&id).unwrap_or_default();
                for (member, answer) in claims.claimed.into_iter().chain(claims.refused) {
                    self.reports.insert(member, answer);
                    self.owners.entry(account).or_default().queue.push_back(Work::Report(member));
                }
            }
            Acceptance::Settled => self.launch_forget(id, effects),
        }
    }

    fn instance_of(&self, account: AccountId, id: InstanceId) -> Option<Arc<InstanceRecord>> {
        self.read().account(account)?.instances.get(&id).cloned()
    }

    /// A launch is settled or undone: claims of members that are no more are released.
    fn launch_forget(&mut self, id: ReservationId, effects: &mut Vec<Effect>) {
        let Some(claims) = self.claims.remove(&id) else { return };
        for (member, (cell, report)) in &claims.claimed {
            if self.read().instance(*member).is_none() {
                self.unanswered.remove(member);
                self.release(cell, report, effects);
            }
        }
        for member in claims.refused.keys().chain(claims.waiting.keys()) {
            if self.read().instance(*member).is_none() {
                self.unanswered.remove(member);
            }
        }
    }

    fn console_read(&mut self, now: Timestamp, id: u64, instance: InstanceId, effects: &mut Vec<Effect>) {
        let record = self.read().instance(instance).cloned();
        let cell = record.and_then(|record| record.cell_id.parse::<CellId>().ok());
        let connected = |cell: &CellId| self.fleet.cells.get(cell).is_some_and(|cell| cell.connected);
        match cell.filter(connected) {
            Some(cell) => {
                self.consoles.insert(id, now + CONSOLE_WAIT);
                let read =
                    ConsoleRead { request_id: id, instance_id: instance.to_string(), bytes_max: 64 * 1024 };
                effects.push(Effect::ToCell(cell, self.message(to_cell::Message::ConsoleRead(read))));
            }
            None => effects.push(Effect::Console { id, data: None }),
        }
    }

    fn tick(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.intents_due(now, None, effects);
        let late: Vec<u64> =
            self.consoles.iter().filter(|(_, deadline)| now >= **deadline).map(|(id, _)| *id).collect();
        for id in late {
            self.consoles.remove(&id);
            effects.push(Effect::Console { id, data: None });
        }
        let acknowledge: Vec<(AccountId, ReservationId)> = self
            .waiters
            .iter()
            .filter(|waiter| now >= waiter.deadline)
            .filter_map(|waiter| match waiter.wants {
                Wants::Launched(id) => Some((waiter.account, id)),
                Wants::Started(_) => None,
            })
            .collect();
        for (account, id) in acknowledge {
            self.enqueue(now, account, Work::Acknowledge(id), effects);
        }
        self.waiters_answer(now, &[], effects);
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY;
            self.sweep(now, effects);
        }
    }

    /// Looks for what has had its time, for launches that are settled in fact but not in record, and for launches
    /// that nobody waits for (this process is not the one that accepted them): those are acknowledged or settled,
    /// so that customers can see them.
    fn sweep(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut work = Vec::new();
        for (id, account) in self.read().accounts() {
            for (reservation, record) in &account.reservations {
                match record.acceptance() {
                    Acceptance::Claiming => {
                        let claims = self.claims.get(reservation);
                        let waiting = claims.is_some_and(|claims| !claims.waiting.is_empty());
                        let age = now.since(Timestamp::from_unix_ms(record.accepted_unix_ms));
                        match (waiting, age > CLAIM_WAIT * 2) {
                            (false, _) => work.push((id, Work::Settle(*reservation))),
                            (true, true) => work.push((id, Work::Acknowledge(*reservation))),
                            (true, false) => {}
                        }
                    }
                    Acceptance::Acknowledged => {
                        let stored = |(_, member)| account.instance_is_stored(member);
                        if instance::members(record).all(stored) {
                            work.push((id, Work::MarkSettled(*reservation)));
                        }
                    }
                    Acceptance::Settled => {}
                }
            }
            if expired(account, now).next().is_some() {
                work.push((id, Work::Expire));
            }
        }
        for (account, work) in work {
            self.enqueue(now, account, work, effects);
        }
    }
}

impl Work {
    /// Operations that it may need in one commit.
    fn ops_max(&self) -> usize {
        match self {
            Work::Report(_) | Work::Acknowledge(_) | Work::MarkSettled(_) => 1,
            Work::Request { request: Request::Launch(_), .. } => 2,
            Work::Request { .. } | Work::Settle(_) | Work::Expire => WORK_OPS_MAX,
        }
    }
}

/// A batch that makes an account belongs to that account, not to the queue it waited in.
fn account_of(owner: AccountId, batch: &Batch) -> AccountId {
    match batch.writes.get(&Name::Account) {
        Some(Some(Record::Account(record))) => record.account_id.parse().unwrap_or(owner),
        _ => owner,
    }
}

enum Outcome {
    Answer(Answer),
    Waits(Wants),
    /// A request about many instances goes on in the next commit.
    More {
        request: Request,
        done: Vec<StateChange>,
    },
}
