//! Customers: they launch, start, stop, reboot and terminate, and retry with the same token until they have an
//! answer, as a real SDK does. What they were answered is what must come true.

use crate::invariant::Invariant;
use crate::process::Node;
use crate::scenario::Sabotage;
use crate::trace::Sight;
use crate::world::{Happening, World};
use base::ids::{AccountId, InstanceId, ReservationId};
use base::random::Random;
use region::instance::catalogue;
use region::instance::record::{InstanceRecord, ReservationRecord, TemplateRecord};
use region::instance::state::{Acceptance, State};
use region::network_interface::launch::LaunchInterface;
use region::refusal::Refusal;
use region::request::{Answer, LaunchRequest, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// How long a call may take before the client gives the connection up.
const CALL_TIMEOUT_US: u64 = 12_000_000;

/// What a customer was last promised of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Running,
    Stopped,
    Terminated,
}

/// An instance that a client was told of.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) wanted: Wanted,
    /// A call about it was refused after it was tried more than once, or only in part: either may have happened.
    pub(crate) uncertain: bool,
    /// A call to terminate it was sent, whatever became of it.
    pub(crate) terminate_sent: bool,
    /// A start was sent since it was last looked at.
    start_sent: bool,
    /// What it was seen as.
    seen: Option<State>,
}

/// A launch that was answered.
struct Launched {
    reservation: ReservationId,
    instances: BTreeSet<InstanceId>,
}

/// A call that waits for its answer.
struct Call {
    /// Of this try.
    id: u64,
    request: Request,
    tries: u32,
}

/// A customer.
pub(crate) struct Client {
    index: usize,
    pub(crate) account: Option<AccountId>,
    call: Option<Call>,
    calls_left: u32,
    launches: u32,
    launched: BTreeMap<String, Launched>,
    /// A launch to be asked for once more, with the same token.
    replay: Option<Request>,
    pub(crate) owned: BTreeMap<InstanceId, Owned>,
    /// What a read that lags would show.
    view_before: BTreeMap<InstanceId, State>,
}

impl Client {
    pub(crate) fn new(index: usize, calls: u32) -> Client {
        Client {
            index,
            account: None,
            call: None,
            calls_left: calls,
            launches: 0,
            launched: BTreeMap::new(),
            replay: None,
            owned: BTreeMap::new(),
            view_before: BTreeMap::new(),
        }
    }

    /// Nothing is asked any more.
    pub(crate) fn idle(&self) -> bool {
        self.call.is_none()
    }

    /// The next thing to ask for.
    fn request(&mut self, random: &mut Random) -> Option<Request> {
        if self.account.is_none() {
            let pair = self.index / 2;
            let client_token = format!("account-{pair}");
            return Some(Request::AccountCreate { name: format!("customer {pair}"), client_token });
        }
        if let Some(replay) = self.replay.take()
            && random.chance(0.5)
        {
            return Some(replay);
        }
        self.calls_left = self.calls_left.checked_sub(1)?;
        let live: Vec<(InstanceId, Wanted)> = self
            .owned
            .iter()
            .filter(|(_, owned)| !owned.terminate_sent)
            .map(|(id, owned)| (*id, owned.wanted))
            .collect();
        if live.is_empty() || random.chance(0.35) {
            return Some(self.launch(random));
        }
        let (first, wanted) = live[random.below(live.len() as u64) as usize];
        let alike = live.iter().filter(|(id, other)| *other == wanted && *id > first).map(|(id, _)| *id);
        let mut ids = vec![first];
        ids.extend(alike.take(random.below(3) as usize));
        Some(match (wanted, random.below(10)) {
            (_, 0 | 1) => Request::Terminate(ids),
            (Wanted::Running, 2..=4) => Request::Reboot(ids),
            (Wanted::Running, _) => Request::Stop { instances: ids, force: random.chance(0.2) },
            (Wanted::Stopped | Wanted::Terminated, _) => Request::Start(ids),
        })
    }

    fn launch(&mut self, random: &mut Random) -> Request {
        let types = [
            "t3.micro",
            "t3.micro",
            "t3.micro",
            "t2.nano",
            "t2.small",
            "m5.large",
            "c5.xlarge",
            "m5.2xlarge",
        ];
        let name = types[random.below(types.len() as u64) as usize];
        let (vcpus, memory_mib) = catalogue::find(name).map_or((1, 512), |s| (s.vcpus, s.memory_mib));
        let count = 1 + random.below(4) as u32;
        let count_min = 1 + random.below(u64::from(count)) as u32;
        let zone = random.chance(0.3).then(|| format!("z{}", random.below(3)).parse().ok()).flatten();
        self.launches += 1;
        let client_token = format!("launch-{}-{}", self.index, self.launches);
        let mut parameters_sha256 = [0; 32];
        parameters_sha256[..8].copy_from_slice(&random.u64().to_le_bytes());
        let template = TemplateRecord {
            instance_type: name.into(),
            terminate_on_shutdown: random.chance(0.2),
            ..TemplateRecord::default()
        };
        Request::Launch(Box::new(LaunchRequest {
            count_min,
            count,
            vcpus,
            memory_mib,
            template,
            zone,
            interface: LaunchInterface::default(),
            client_token,
            parameters_sha256,
        }))
    }
}

/// The instances that a request names.
fn subjects(request: &Request) -> &[InstanceId] {
    match request {
        Request::Start(ids) | Request::Reboot(ids) | Request::Terminate(ids) => ids,
        Request::Stop { instances, .. } => instances,
        _ => &[],
    }
}

/// Whether an instance that was `before` can be `after` without having been started between.
fn follows(before: State, after: State, started: bool) -> bool {
    let rank = |state| match state {
        State::Pending => 0,
        State::Running => 1,
        State::Stopping => 2,
        State::Stopped => 3,
        State::ShuttingDown => 4,
        State::Terminated => 5,
    };
    let ending = matches!(before, State::ShuttingDown | State::Terminated);
    rank(after) >= rank(before) || (started && !ending)
}

impl World {
    /// A client looks at what it has and, if it waits for nothing, asks for something.
    pub(crate) fn client_acts(&mut self, index: usize) {
        self.client_looks(index);
        let random = &mut self.random;
        let client = &mut self.clients[index];
        let pause_us = match self.quiet {
            true => 1_000_000,
            false => 50_000 + random.below(900_000),
        };
        if client.call.is_none()
            && !self.quiet
            && let Some(request) = client.request(random)
        {
            client.call = Some(Call { id: 0, request, tries: 0 });
            self.call_send(index);
        }
        self.later(pause_us, Happening::ClientActs { client: index });
    }

    /// DescribeInstances: what was seen once stays, and states go only forward.
    fn client_looks(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let (Some(account), Some(core)) = (client.account, &self.region.core) else { return };
        let model = core.model();
        let model = model.read().unwrap_or_else(PoisonError::into_inner);
        let mut view = BTreeMap::new();
        for record in model.account(account).into_iter().flat_map(|account| account.instances_visible()) {
            view.insert(record.id(), record.stage().state());
        }
        drop(model);
        let lags = self.scenario.sabotage == Some(Sabotage::ReadsStale) && self.random.chance(0.3);
        let shown = if lags { std::mem::replace(&mut client.view_before, view) } else { view };
        let starting: BTreeSet<InstanceId> = match client.call.as_ref().map(|call| &call.request) {
            Some(Request::Start(ids)) => ids.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        let mut wrong = None;
        for (id, owned) in &mut client.owned {
            let Some(state) = shown.get(id).copied() else {
                if !lags {
                    wrong =
                        Some((Invariant::NothingLost, format!("{id} was acknowledged, and is not there")));
                }
                continue;
            };
            let started = owned.start_sent;
            if let Some(before) = owned.seen
                && !follows(before, state, started)
            {
                wrong = Some((Invariant::StatesForward, format!("{id} was {before} and is {state} now")));
            }
            owned.seen = Some(state);
            owned.start_sent = starting.contains(id);
        }
        if !lags {
            client.view_before = shown;
        }
        if let Some((invariant, what)) = wrong {
            self.violate(invariant, what);
        }
    }

    fn call_send(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(call) = &mut client.call else { return };
        call.id = self.call_next;
        call.tries += 1;
        self.call_next += 1;
        for id in subjects(&call.request) {
            if let Some(owned) = client.owned.get_mut(id) {
                owned.terminate_sent |= matches!(call.request, Request::Terminate(_));
                owned.start_sent |= matches!(call.request, Request::Start(_));
            }
        }
        let (id, tries) = (call.id, call.tries);
        let request = &call.request;
        self.trace.line(Self::now_of(self.clock_us), || {
            format!("client-{index} asks ({id}, try {tries}): {request:?}")
        });
        let wait = 200 + self.random.below(3_000);
        self.later(wait, Happening::CallArrives { client: index, call: id });
        self.later(CALL_TIMEOUT_US, Happening::CallFailed { client: index, call: id });
    }

    /// The call of this try, if the client still waits for it.
    fn call_of(&mut self, client: usize, call: u64) -> Option<&mut Call> {
        self.clients[client].call.as_mut().filter(|waiting| waiting.id == call)
    }

    /// A call reaches the region's address.
    pub(crate) fn call_arrives(&mut self, client: usize, call: u64) {
        let account = self.clients[client].account.or_else(|| AccountId::from_number(0));
        let request = self.call_of(client, call).map(|call| call.request.clone());
        let (Some(request), Some(account)) = (request, account) else { return };
        if !self.alive(Node::Region) {
            return self.later(500, Happening::CallFailed { client, call });
        }
        self.calls.insert(call, client);
        self.region_apply(region::region::Event::Request { id: call, account, request });
    }

    /// The region answers; the answer may be lost.
    pub(crate) fn call_answer(&mut self, call: u64, result: Result<Answer, Refusal>) {
        let Some(client) = self.calls.remove(&call) else {
            return self.violate_core(format!("call {call} was answered twice, or never asked"));
        };
        let wait = 200 + self.random.below(3_000);
        let lost = self.scenario.answers_lost && !self.quiet && self.random.chance(0.1);
        let life = self.region.life;
        let result = Box::new(result);
        self.later(
            wait,
            match lost {
                true => Happening::CallFailed { client, call },
                false => Happening::CallAnswered { client, call, life, result },
            },
        );
    }

    /// The region has died: its callers notice.
    pub(crate) fn calls_break(&mut self) {
        self.answers_until_us = self.clock_us + self.random.below(4_000);
        for (call, client) in std::mem::take(&mut self.calls) {
            let wait = self.random.below(100_000);
            self.later(wait, Happening::CallFailed { client, call });
        }
    }

    /// No answer: the same again, after a while.
    pub(crate) fn call_failed(&mut self, client: usize, call: u64) {
        if self.call_of(client, call).is_none() {
            return;
        }
        self.report.retries += 1;
        let wait = 20_000 + self.random.below(500_000);
        self.later(wait, Happening::CallAgain { client, call });
    }

    pub(crate) fn call_again(&mut self, client: usize, call: u64) {
        if self.call_of(client, call).is_some() {
            self.call_send(client);
        }
    }

    /// The answer arrives, if the region lived long enough to send it.
    pub(crate) fn call_answered(
        &mut self,
        index: usize,
        call: u64,
        life: u64,
        result: Result<Answer, Refusal>,
    ) {
        if life != self.region.life && self.clock_us > self.answers_until_us {
            return self.call_failed(index, call);
        }
        if matches!(result, Err(Refusal::Busy | Refusal::StoreFull(_) | Refusal::StoreFailed(_))) {
            return self.call_failed(index, call);
        }
        if self.call_of(index, call).is_none() {
            return;
        }
        let Some(call) = self.clients[index].call.take() else { return };
        self.trace.bytes(call.request_name().as_bytes());
        self.trace.number(u64::from(result.is_ok()));
        self.trace.line(Self::now_of(self.clock_us), || match &result {
            Ok(Answer::Launched(record, instances)) => {
                let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id()).collect();
                format!("client-{index} is told ({}): {} {ids:?}", call.id, record.reservation_id)
            }
            other => format!("client-{index} is told ({}): {other:?}", call.id),
        });
        if let Err((invariant, what)) = self.client_told(index, call, result) {
            self.violate(invariant, format!("client-{index}: {what}"));
        }
    }

    /// What an answer promises.
    fn client_told(
        &mut self,
        index: usize,
        call: Call,
        result: Result<Answer, Refusal>,
    ) -> Result<(), (Invariant, String)> {
        let lost = |what: String| Err((Invariant::NothingLost, what));
        if call.tries > 1 && result.is_ok() {
            self.report.saw(Sight::AnsweredAgain);
        }
        let client = &mut self.clients[index];
        match (&call.request, result) {
            (Request::AccountCreate { client_token, .. }, Ok(Answer::Account(account))) => {
                client.account = Some(account);
                let mut others = self.clients.iter().filter(|other| other.index / 2 == index / 2);
                if others.any(|other| other.account.is_some_and(|other| other != account)) {
                    return lost(format!("the token {client_token} made a second account"));
                }
            }
            (Request::Launch(request), Ok(Answer::Launched(record, instances))) => {
                return self.client_launched(index, request, &record, &instances);
            }
            (request, Ok(Answer::States(_) | Answer::Done)) => {
                let wanted = match request {
                    Request::Start(_) => Wanted::Running,
                    Request::Stop { .. } => Wanted::Stopped,
                    Request::Terminate(_) => Wanted::Terminated,
                    _ => return Ok(()),
                };
                for id in subjects(request) {
                    if let Some(owned) = client.owned.get_mut(id) {
                        owned.wanted = wanted;
                        owned.uncertain = false;
                    }
                }
            }
            (Request::Launch(request), Err(refusal)) => {
                let known = client.launched.contains_key(&request.client_token);
                let possible =
                    matches!(refusal, Refusal::InsufficientCapacity(_) | Refusal::VcpuQuota { .. });
                if known || !possible {
                    return lost(format!("{} was answered, then refused: {refusal}", request.client_token));
                }
                self.report.saw(Sight::LaunchRefused);
            }
            (_, Err(Refusal::AccountNotFound(_) | Refusal::InstancesNotFound(_))) => {
                return lost("what was acknowledged is not found".into());
            }
            (request, Err(refusal)) => {
                if matches!(refusal, Refusal::InsufficientCapacity(_)) {
                    self.report.saw(Sight::StartRefused);
                }
                let in_part = matches!(request, Request::Start(_));
                for id in subjects(request) {
                    if let Some(owned) = client.owned.get_mut(id) {
                        owned.uncertain |= call.tries > 1 || in_part;
                    }
                }
            }
            (request, Ok(answer)) => {
                return Err((Invariant::CoreSound, format!("{request:?} was answered {answer:?}")));
            }
        }
        Ok(())
    }

    /// What an answered launch promises: between MinCount and MaxCount instances, the same for the same token.
    fn client_launched(
        &mut self,
        index: usize,
        request: &LaunchRequest,
        record: &ReservationRecord,
        instances: &[Arc<InstanceRecord>],
    ) -> Result<(), (Invariant, String)> {
        let lost = |what: String| Err((Invariant::NothingLost, what));
        let client = &mut self.clients[index];
        let token = &request.client_token;
        let Ok(reservation) = record.reservation_id.parse() else {
            return lost(format!("`{}` is no reservation", record.reservation_id));
        };
        let ids: BTreeSet<InstanceId> = instances.iter().map(|instance| instance.id()).collect();
        for id in &ids {
            self.trace.number(id.bits() as u64);
        }
        let count = ids.len() as u32;
        if record.acceptance() == Acceptance::Acknowledged {
            self.report.saw(Sight::AnsweredEarly);
        }
        if count < request.count {
            self.report.saw(Sight::FewerThanMax);
        }
        if count != instances.len() as u32 || count < request.count_min || count > request.count {
            let (min, max) = (request.count_min, request.count);
            return lost(format!("asked for {min} to {max} instances, got {instances:?}"));
        }
        if let Some(before) = client.launched.get(token) {
            if before.reservation != reservation || before.instances != ids {
                let Launched { reservation: first, instances } = before;
                return lost(format!("{token} gave {first} {instances:?} first, then {reservation} {ids:?}"));
            }
            self.report.saw(Sight::TokenReplayed);
            return Ok(());
        }
        client.owned.extend(ids.iter().map(|id| (*id, Owned::new())));
        self.report.instances += u64::from(count);
        client.replay = Some(Request::Launch(Box::new(request.clone())));
        client.launched.insert(token.clone(), Launched { reservation, instances: ids });
        Ok(())
    }
}

impl Owned {
    fn new() -> Owned {
        Owned {
            wanted: Wanted::Running,
            uncertain: false,
            terminate_sent: false,
            start_sent: false,
            seen: None,
        }
    }
}

impl Call {
    fn request_name(&self) -> &'static str {
        match self.request {
            Request::AccountCreate { .. } => "account",
            Request::Launch(_) => "launch",
            Request::Start(_) => "start",
            Request::Stop { .. } => "stop",
            Request::Reboot(_) => "reboot",
            Request::Terminate(_) => "terminate",
            _ => "other",
        }
    }
}
