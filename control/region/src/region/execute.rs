//! What requests do to their account, on a [`Tx`]; and what is removed when it has had its time.

use super::{Outcome, Wants};
use crate::instance::state::{Acceptance, Stage};
use crate::instance::{self, launch, lifecycle, reconcile};
use crate::model::Account;
use crate::owner::Tx;
use crate::record::{Name, Record};
use crate::refusal::Refusal;
use crate::request::{Answer, Request, StateChange};
use crate::scene::Scene;
use crate::{key_pair, network, tag};
use base::clock::Timestamp;
use base::ids::{InstanceId, ReservationId};
use std::sync::Arc;
use std::time::Duration;

/// How long idempotency tokens are kept at least. Source: Amazon EC2 API Reference, "Ensuring idempotency".
const TOKEN_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Carries out a request on its account, or refuses it. A request about many instances may need several commits:
/// `done` is what earlier ones have changed.
pub(crate) fn execute(
    tx: &mut Tx<'_>,
    scene: &Scene<'_>,
    request: Request,
    done: Vec<StateChange>,
) -> Result<Outcome, Refusal> {
    if tx.account().is_none() {
        return Err(Refusal::AccountNotFound(scene.account));
    }
    let vcpus_limit = scene.identity.vcpus_per_account;
    Ok(Outcome::Answer(match request {
        Request::AccountCreate { .. } => Answer::Done,
        Request::Launch(request) => {
            let id = launch::accept(tx, scene, &request, &scene.occupied(), vcpus_limit)?;
            return Ok(Outcome::Waits(Wants::Launched(id)));
        }
        Request::Start(_) | Request::Stop { .. } | Request::Reboot(_) | Request::Terminate(_) => {
            return instances_move(tx, request, done, vcpus_limit);
        }
        Request::InstanceModify(id, change) => {
            lifecycle::modify(tx, id, change)?;
            Answer::Done
        }
        Request::KeyPairCreate(record) => Answer::KeyPair(key_pair::key_pair_create(tx, *record)?),
        Request::KeyPairDelete { name, id } => {
            Answer::KeyPairGone(key_pair::key_pair_delete(tx, name.as_deref(), id))
        }
        Request::Network(change, token) => network::change(tx, scene, *change, token.as_ref())?,
        Request::TagsCreate { resources, tags } => {
            for resource in &resources {
                tag::tags_put(tx, resource, &tags, scene.image_exists(resource))?;
            }
            Answer::Done
        }
        Request::TagsDelete { resources, tags } => {
            for resource in &resources {
                tag::tags_delete(tx, resource, &tags, scene.image_exists(resource))?;
            }
            Answer::Done
        }
    }))
}

/// Starts, stops, reboots or terminates. All that is asked for is checked before the first instance is touched, so
/// that a request is refused as a whole; then as many are done as fit a commit.
fn instances_move(
    tx: &mut Tx<'_>,
    request: Request,
    mut done: Vec<StateChange>,
    vcpus_limit: u32,
) -> Result<Outcome, Refusal> {
    let change = |tx: &mut Tx<'_>, ids: &[InstanceId]| match &request {
        Request::Start(_) => lifecycle::start(tx, ids, vcpus_limit),
        Request::Stop { force, .. } => lifecycle::stop(tx, ids, *force),
        Request::Reboot(_) => lifecycle::reboot(tx, ids),
        _ => lifecycle::terminate(tx, ids),
    };
    let (Request::Start(ids)
    | Request::Stop { instances: ids, .. }
    | Request::Reboot(ids)
    | Request::Terminate(ids)) = &request
    else {
        return Ok(Outcome::Answer(Answer::Done));
    };
    if done.is_empty() {
        tx.attempt(|scratch| change(scratch, ids).map(drop))?;
    }
    let mut left = ids.as_slice();
    while let Some((id, rest)) = left.split_first() {
        if tx.is_full() {
            break;
        }
        // What was checked can have moved on only between two commits; then there is nothing to do for it.
        if !done.iter().any(|change| change.instance == *id) {
            done.extend(change(tx, &[*id]).unwrap_or_default());
        }
        left = rest;
    }
    let left = left.to_vec();
    Ok(match request {
        Request::Start(_) if left.is_empty() => Outcome::Waits(Wants::Started(done)),
        Request::Reboot(_) if left.is_empty() => Outcome::Answer(Answer::Done),
        _ if left.is_empty() => Outcome::Answer(Answer::States(done)),
        Request::Start(_) => Outcome::More { request: Request::Start(left), done },
        Request::Stop { force, .. } => {
            Outcome::More { request: Request::Stop { instances: left, force }, done }
        }
        Request::Reboot(_) => Outcome::More { request: Request::Reboot(left), done },
        _ => Outcome::More { request: Request::Terminate(left), done },
    })
}

pub(super) fn mark_settled(tx: &mut Tx<'_>, id: ReservationId) {
    if let Some(reservation) = tx.reservation(id) {
        let mut reservation = Arc::unwrap_or_clone(reservation);
        reservation.acceptance = Acceptance::Settled as u32;
        tx.put(Name::Reservation(id), Record::Reservation(Arc::new(reservation)));
    }
}

/// What of an account has had its time: terminated instances after an hour, launches without instances, tokens
/// after a day if what they made is gone.
pub(super) fn expired(account: &Account, now: Timestamp) -> impl Iterator<Item = Name> {
    let age = move |unix_ms: u64| now.since(Timestamp::from_unix_ms(unix_ms));
    let settled = |reservation: &str| {
        let reservation =
            reservation.parse().ok().and_then(|id: ReservationId| account.reservations.get(&id));
        reservation.is_none_or(|record| record.acceptance() == Acceptance::Settled)
    };
    let instances = account.instances.iter().filter(move |(_, record)| {
        record.stage() == Stage::Terminated
            && age(record.changed_unix_ms) > reconcile::TERMINATED_KEPT
            && settled(&record.reservation_id)
    });
    let reservations = account.reservations.iter().filter(|(_, record)| {
        record.acceptance() == Acceptance::Settled
            && !instance::members(record).any(|(_, member)| account.instances.contains_key(&member))
    });
    let tokens = account.tokens.iter().filter(move |(_, record)| {
        let made = record.made.parse().ok().and_then(|id: ReservationId| account.reservations.get(&id));
        age(record.used_unix_ms) > TOKEN_KEPT && made.is_none()
    });
    let instances = instances.map(|(id, _)| Name::Instance(*id));
    let reservations = reservations.map(|(id, _)| Name::Reservation(*id));
    instances.chain(reservations).chain(tokens.map(|(token, _)| Name::Token(token.clone())))
}

/// Removes what has had its time, as much as fits a commit; says whether more may be left.
pub(super) fn expire(tx: &mut Tx<'_>, account: Option<&Account>) -> bool {
    let now = tx.now;
    for name in account.into_iter().flat_map(|account| expired(account, now)) {
        tx.delete(name);
        if tx.is_full() {
            return true;
        }
    }
    false
}
