//! Requests that are answered when their claims are.

use super::{Effect, Region};
use crate::instance::{self, state::Acceptance, state::Stage};
use crate::refusal::Refusal;
use crate::request::{Answer, StateChange};
use base::clock::Timestamp;
use base::ids::{AccountId, ReservationId};
use base::step::LaunchStep;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub id: u64,
    pub account: AccountId,
    pub deadline: Timestamp,
    pub wants: Wants,
}

/// What it waits for.
#[derive(Debug)]
pub(crate) enum Wants {
    Launched(ReservationId),
    Started(Vec<StateChange>),
}

impl Region {
    pub(super) fn waiters_answer(
        &mut self,
        now: Timestamp,
        undone: &[(ReservationId, String)],
        effects: &mut Vec<Effect>,
    ) {
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            match self.waiter_result(now, &waiter, undone) {
                Some(result) => {
                    let launched = matches!((&waiter.wants, &result), (Wants::Launched(_), Ok(_)));
                    effects.push(Effect::Answer { id: waiter.id, result });
                    if launched {
                        effects.push(Effect::Step(LaunchStep::CustomerAnswered));
                    }
                }
                None => self.waiters.push(waiter),
            }
        }
    }

    pub(super) fn waiter_result(
        &self,
        now: Timestamp,
        waiter: &Waiter,
        undone: &[(ReservationId, String)],
    ) -> Option<Result<Answer, Refusal>> {
        let model = self.read();
        let account = model.account(waiter.account)?;
        match &waiter.wants {
            Wants::Launched(id) => {
                let Some(reservation) = account.reservations.get(id) else {
                    let why = undone.iter().find(|(other, _)| other == id).map(|(_, why)| why.clone());
                    let gone = "The launch could not be placed, and was taken back".to_owned();
                    return Some(Err(Refusal::InsufficientCapacity(why.unwrap_or(gone))));
                };
                if reservation.acceptance() == Acceptance::Claiming {
                    return None;
                }
                let members = instance::members(reservation);
                let instances = members.filter_map(|(_, id)| account.instances.get(&id).cloned()).collect();
                Some(Ok(Answer::Launched(reservation.clone(), instances)))
            }
            Wants::Started(changes) => {
                let records = || changes.iter().filter_map(|change| account.instances.get(&change.instance));
                let claiming = records().any(|record| record.stage() == Stage::Claiming);
                if claiming && now < waiter.deadline {
                    return None;
                }
                let refused =
                    records().find(|record| record.reason_code == "Server.InsufficientInstanceCapacity");
                Some(match refused {
                    Some(record) => Err(Refusal::InsufficientCapacity(record.reason_message.clone())),
                    None => Ok(Answer::States(changes.clone())),
                })
            }
        }
    }
}
