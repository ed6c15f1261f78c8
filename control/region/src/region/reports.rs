//! Between the region and its cells: reports that come in, intents that go out.

use super::{Effect, ORPHANS_MAX, RESEND_AFTER, RESEND_MAX, Region, Work};
use crate::instance::record::InstanceRecord;
use crate::instance::state::Stage;
use crate::instance::{self, reconcile};
use base::clock::Timestamp;
use base::generation::Generation;
use base::ids::{CellId, InstanceId, ReservationId};
use base::step::LaunchStep;
use contract::{Phase, Target, ToCell, VmIntent, VmReport, VmReportAck, VmSpec, to_cell};
use std::ops::Bound;

impl Region {
    /// Takes a cell's report: a claim of an undecided launch is noted, anything that changes a record becomes
    /// work, anything else is acknowledged so that the cell need not say it again.
    pub(super) fn report(
        &mut self,
        now: Timestamp,
        cell: CellId,
        report: VmReport,
        effects: &mut Vec<Effect>,
    ) {
        let Ok(id) = report.instance_id.parse::<InstanceId>() else { return };
        let known = {
            let model = self.read();
            model.account_of_instance(id).and_then(|account| Some((account, model.instance(id)?.clone())))
        };
        let Some((account, record)) = known else {
            return self.report_unknown(cell, report, effects);
        };
        let generation = contract::convert::generation(report.generation);
        let here = record.cell_id == cell.as_str();
        if report.phase() == Phase::Claimed && (!here || record.stage() == Stage::Terminated) {
            // A place that another cell, or the end of the instance, has made superfluous.
            return self.release(&cell, &report, effects);
        }
        if !here || report.attempt != record.attempt {
            // In the instance's own cell, what is wanted now decides about a claim of another attempt.
            if report.phase() == Phase::Claimed {
                self.intent_send(id, &record, effects);
            }
            if here && report.attempt < record.attempt {
                self.remind(now, id, &record, effects);
            }
            return self.ack(cell, &report, effects);
        }
        if generation < instance::generation(self.incarnation, &record) {
            self.remind(now, id, &record, effects);
        }
        if self.unanswered.get(&id).is_some_and(|(wanted, _)| generation >= *wanted) {
            self.unanswered.remove(&id);
        }
        if !reconcile::answers(self.incarnation, &record, &report)
            || reconcile::event(&record, &report).is_none()
        {
            return self.ack(cell, &report, effects);
        }
        match report.phase() {
            Phase::Claimed => effects.push(Effect::Step(LaunchStep::ClaimAnswered)),
            Phase::Running => effects.push(Effect::Step(LaunchStep::RunningReported)),
            _ => {}
        }
        let reservation = record.reservation_id.parse::<ReservationId>().ok();
        if record.stage() == Stage::Claiming
            && let Some(reservation) = reservation
            && let Some(claims) = self.claims.get_mut(&reservation)
        {
            // The answer to an earlier attempt, repeated, says nothing of the present one.
            if claims.waiting.get(&id) == Some(&report.attempt) {
                claims.waiting.remove(&id);
                match report.phase() {
                    Phase::Claimed => claims.claimed.insert(id, (cell, report)),
                    _ => claims.refused.insert(id, (cell, report)),
                };
                if claims.waiting.is_empty() {
                    self.enqueue(now, account, Work::Settle(reservation), effects);
                }
            }
            return;
        }
        if self.reports.insert(id, (cell, report)).is_none() {
            self.enqueue(now, account, Work::Report(id), effects);
        }
    }

    /// The cell speaks of an older intent than the newest. Usually the newest is on its way and waits for its answer;
    /// if it was answered before, the cell may have forgotten it (its store was restored) and is told again.
    fn remind(&mut self, now: Timestamp, id: InstanceId, record: &InstanceRecord, effects: &mut Vec<Effect>) {
        if self.unanswered.contains_key(&id) {
            return;
        }
        self.unanswered.insert(id, (instance::generation(self.incarnation, record), now));
        self.intent_send(id, record, effects);
    }

    /// A report of an instance that the region does not know: a place that nobody needs is released, a destroyed
    /// VM is acknowledged, and anything else is an orphan, which lives until an operator decides.
    pub(super) fn report_unknown(&mut self, cell: CellId, report: VmReport, effects: &mut Vec<Effect>) {
        match report.phase() {
            Phase::Claimed => self.release(&cell, &report, effects),
            Phase::Destroyed | Phase::Refused => {
                self.orphans.remove(&report.instance_id);
                self.ack(cell, &report, effects);
            }
            _ => {
                self.orphan(&cell, &report);
                self.ack(cell, &report, effects);
            }
        }
    }

    fn orphan(&mut self, cell: &CellId, report: &VmReport) {
        if self.orphans.len() < ORPHANS_MAX
            && self.orphans.insert(report.instance_id.clone(), cell.clone()).is_none()
        {
            let (instance, host) = (&report.instance_id, &report.host_id);
            tracing::warn!(instance, host, %cell, "a VM that the region does not know runs; it is left alone");
        }
    }

    pub(super) fn ack(&self, cell: CellId, report: &VmReport, effects: &mut Vec<Effect>) {
        let ack = VmReportAck {
            instance_id: report.instance_id.clone(),
            attempt: report.attempt,
            generation: report.generation,
            phase: report.phase,
        };
        effects.push(Effect::ToCell(cell, self.message(to_cell::Message::Ack(ack))));
    }

    /// Gives back a claim that nothing has confirmed. The cell does so only where no host has ever heard of the VM:
    /// whatever has a disk is not to be lost because the region does not know it.
    pub(super) fn release(&self, cell: &CellId, report: &VmReport, effects: &mut Vec<Effect>) {
        let claimed = contract::convert::generation(report.generation);
        let intent = VmIntent {
            generation: Some(Generation::new(claimed.incarnation, claimed.revision + 1).into()),
            attempt: report.attempt,
            target: Target::Released.into(),
            spec: Some(VmSpec {
                instance_id: report.instance_id.clone(),
                account_id: report.account_id.clone(),
                ..VmSpec::default()
            }),
            host_id: String::new(),
            force: false,
        };
        effects.push(Effect::ToCell(cell.clone(), self.message(to_cell::Message::Intent(intent))));
    }

    pub(super) fn message(&self, message: to_cell::Message) -> ToCell {
        ToCell { term: self.term.0, message: Some(message) }
    }

    /// Tells the instance's cell what is wanted; says whether it could.
    pub(super) fn intent_send(
        &self,
        id: InstanceId,
        record: &InstanceRecord,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Ok(cell) = record.cell_id.parse::<CellId>() else { return false };
        if !self.fleet.cells.get(&cell).is_some_and(|cell| cell.connected) {
            return false;
        }
        let intent = {
            let model = self.read();
            model.account_of_instance(id).and_then(|account| {
                let user_data = model.account(account)?.user_data(record);
                instance::intent(&account.to_string(), self.incarnation, record, user_data)
            })
        };
        let Some(intent) = intent else { return false };
        effects.push(Effect::ToCell(cell, self.message(to_cell::Message::Intent(intent))));
        true
    }

    /// Sends intents that nobody has answered: all of a cell that has just come up, else those that are due.
    pub(super) fn intents_due(&mut self, now: Timestamp, only: Option<&CellId>, effects: &mut Vec<Effect>) {
        let mut due = Vec::new();
        {
            let model = self.read();
            // Behind the last one first, then from the beginning: none starves.
            let last = self.sent_last.filter(|_| only.is_none());
            let behind = last.map_or(Bound::Unbounded, Bound::Excluded);
            let first = self.unanswered.range((behind, Bound::Unbounded));
            let then = self.unanswered.iter().take_while(|(id, _)| last.is_some_and(|last| **id <= last));
            for (id, (_, sent)) in first.chain(then) {
                if only.is_none() && now.since(*sent) < RESEND_AFTER {
                    continue;
                }
                let Some(record) = model.instance(*id) else { continue };
                let cell = record.cell_id.parse::<CellId>().ok();
                let up = cell
                    .as_ref()
                    .and_then(|cell| self.fleet.cells.get(cell))
                    .is_some_and(|cell| cell.connected);
                if up && only.is_none_or(|only| cell.as_ref() == Some(only)) {
                    due.push((*id, record.clone()));
                }
                if due.len() >= RESEND_MAX {
                    break;
                }
            }
        }
        if only.is_none()
            && let Some((id, _)) = due.last()
        {
            self.sent_last = Some(*id);
        }
        for (id, record) in due {
            let generation = instance::generation(self.incarnation, &record);
            self.unanswered.insert(id, (generation, now));
            self.intent_send(id, &record, effects);
        }
    }
}
