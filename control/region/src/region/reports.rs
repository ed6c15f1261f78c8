//! Between the region and its cells: reports that come in, intents that go out.

use super::{Effect, RESEND_AFTER, RESEND_MAX, Region, Work};
use crate::instance::record::InstanceRecord;
use crate::instance::state::Stage;
use crate::instance::{self, reconcile};
use base::clock::Timestamp;
use base::generation::Generation;
use base::ids::{CellId, InstanceId, ReservationId};
use base::step::LaunchStep;
use contract::{Phase, Target, ToCell, VmIntent, VmReport, VmReportAck, VmSpec, to_cell};

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
        let elsewhere = record.cell_id != cell.as_str() || report.attempt != record.attempt;
        if elsewhere || record.stage() == Stage::Terminated {
            // A place that another attempt has made superfluous, or one that was refused at first and found when
            // the claim came a second time, after the instance's end; nothing runs there.
            match report.phase() {
                Phase::Claimed => self.release(&cell, &report, effects),
                _ => self.ack(cell, &report, effects),
            }
            return;
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
            if claims.waiting.remove(&id) {
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
                self.orphans.insert(report.instance_id.clone(), cell.clone());
                self.ack(cell, &report, effects);
            }
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

    /// Gives back a claim that nothing has confirmed.
    pub(super) fn release(&self, cell: &CellId, report: &VmReport, effects: &mut Vec<Effect>) {
        let claimed = contract::convert::generation(report.generation);
        let intent = VmIntent {
            generation: Some(Generation::new(claimed.incarnation, claimed.revision + 1).into()),
            attempt: report.attempt,
            target: Target::Destroyed.into(),
            spec: Some(VmSpec {
                instance_id: report.instance_id.clone(),
                account_id: report.account_id.clone(),
                ..VmSpec::default()
            }),
            host_id: String::new(),
            force: true,
        };
        effects.push(Effect::ToCell(cell.clone(), self.message(to_cell::Message::Intent(intent))));
    }

    pub(super) fn message(&self, message: to_cell::Message) -> ToCell {
        ToCell { term: self.term.0, message: Some(message) }
    }

    pub(super) fn intent_send(&self, id: InstanceId, record: &InstanceRecord, effects: &mut Vec<Effect>) {
        let Ok(cell) = record.cell_id.parse::<CellId>() else { return };
        if !self.fleet.cells.get(&cell).is_some_and(|cell| cell.connected) {
            return;
        }
        let Some(account) = self.read().account_of_instance(id) else { return };
        if let Some(intent) = instance::intent(&account.to_string(), self.incarnation, record) {
            effects.push(Effect::ToCell(cell, self.message(to_cell::Message::Intent(intent))));
        }
    }

    /// Sends intents that nobody has answered: all of a cell that has just come up, else those that are due.
    pub(super) fn intents_due(&mut self, now: Timestamp, only: Option<&CellId>, effects: &mut Vec<Effect>) {
        let mut due = Vec::new();
        {
            let model = self.read();
            for (id, (_, sent)) in &self.unanswered {
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
        for (id, record) in due {
            let generation = instance::generation(self.incarnation, &record);
            self.unanswered.insert(id, (generation, now));
            self.intent_send(id, &record, effects);
        }
    }
}
