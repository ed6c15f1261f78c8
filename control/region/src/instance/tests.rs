//! The life of instances, through the region's core, with a cell that answers as a real one does.

use super::state::{Acceptance, State};
use crate::model::Model;
use crate::record::{Record, decode};
use crate::refusal::Refusal;
use crate::region::{Effect, Event, Identity, Region};
use crate::request::{Answer, LaunchRequest, Request};
use base::clock::Timestamp;
use base::generation::Term;
use base::ids::{AccountId, CellId, InstanceId};
use base::random::Random;
use contract::{
    CellSummary, FreeShape, FromCell, Phase, StopCause, Target, VmIntent, VmReport, ZoneSummary, from_cell,
    to_cell,
};
use metastore::{Commit, CommitError, Condition, Entry, Op, Revision};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A region with a store and cells that answer at once.
struct Cloud {
    region: Region,
    now: Timestamp,
    store: BTreeMap<Vec<u8>, (Vec<u8>, Revision)>,
    revision: u64,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    /// Intents that reached a cell, in order.
    intents: Vec<(CellId, VmIntent)>,
    acks: Vec<contract::VmReportAck>,
    /// What the cells say to a claim; `None`: nothing.
    claims: fn(&CellId, &VmIntent) -> Option<Phase>,
    /// Whether hosts start and stop what they are told to.
    hosts: bool,
    next: u64,
    account: AccountId,
    vcpus: u32,
    commit_bytes_max: usize,
    /// The store refuses whatever makes a key.
    full: bool,
    /// After so many commits the region is as dead: nothing more becomes durable.
    commits_left: Option<u32>,
}

fn identity() -> Identity {
    let zone = |name: &str, cells: &[&str]| {
        (name.parse().unwrap(), cells.iter().map(|cell| cell.parse().unwrap()).collect())
    };
    Identity {
        name: "us-east-1".parse().unwrap(),
        zones: vec![zone("za", &["za-c1", "za-c2"]), zone("zb", &["zb-c1"])],
        vcpus_per_account: 32,
        images: vec![],
    }
}

impl Cloud {
    fn new() -> Cloud {
        let leads = Condition::Absent(b"nobody".to_vec());
        let region = Region::recover(identity(), Term(1), leads, 1, Model::default(), Random::from_seed(1));
        let mut cloud = Cloud {
            region,
            now: Timestamp::from_unix_ms(1_000_000),
            store: BTreeMap::new(),
            revision: 0,
            answers: BTreeMap::new(),
            intents: Vec::new(),
            acks: Vec::new(),
            claims: |_, _| Some(Phase::Claimed),
            hosts: true,
            next: 1,
            account: AccountId::from_number(0).unwrap(),
            vcpus: 32,
            commit_bytes_max: 0,
            full: false,
            commits_left: None,
        };
        cloud.connect();
        let request = Request::AccountCreate { name: "test".into(), client_token: "t".into() };
        let Ok(Answer::Account(account)) = cloud.ask(request) else { panic!("no account") };
        cloud.account = account;
        cloud
    }

    fn connect(&mut self) {
        for (zone, cells) in identity().zones {
            let cell_summary = |cell: &CellId| CellSummary {
                cell_id: cell.to_string(),
                vcpus_free: 64,
                free: vec![FreeShape { vcpus: self.vcpus * 2, memory_mib: 1 << 24, hosts: 1 }],
                ..CellSummary::default()
            };
            let cell_summaries = cells.iter().map(cell_summary).collect();
            self.event(Event::ZoneUp(zone.clone()));
            let summary = ZoneSummary { zone: zone.to_string(), cells: cell_summaries };
            self.event(Event::Zone(zone.clone(), summary));
            for cell in cells {
                self.event(Event::CellUp(cell));
            }
        }
    }

    /// Kills the region and starts it again from its store.
    fn restart(&mut self) {
        let entries = self.store.iter().map(|(key, (value, modified))| Entry {
            key: key.clone(),
            value: value.clone(),
            modified: *modified,
        });
        let model = Model::load(entries.collect(), Revision(self.revision)).unwrap();
        let leads = Condition::Absent(b"nobody".to_vec());
        let identity = Identity { vcpus_per_account: self.vcpus, ..identity() };
        self.region = Region::recover(identity, Term(2), leads, 1, model, Random::from_seed(2));
        self.connect();
    }

    fn event(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.region.apply(self.now, event) {
                match effect {
                    Effect::Commit { .. } if self.commits_left == Some(0) => {}
                    Effect::Commit { ticket, commit } => {
                        self.commits_left = self.commits_left.map(|left| left - 1);
                        let new = |op: &Op| matches!(op, Op::Put(key, _) if !self.store.contains_key(key));
                        let result = match self.full && commit.ops.iter().any(new) {
                            true => Err(CommitError::Full("no room".into())),
                            false => Ok(self.commit(commit)),
                        };
                        events.push_back(Event::Committed { ticket, result });
                    }
                    Effect::Answer { id, result } => {
                        assert!(self.answers.insert(id, result).is_none(), "answered twice");
                    }
                    Effect::ToCell(cell, message) => match message.message {
                        Some(to_cell::Message::Intent(intent)) => {
                            if let Some(report) = self.cell_answers(&cell, &intent) {
                                events.push_back(Event::Cell(cell.clone(), wrap(report)));
                            }
                            self.intents.push((cell, intent));
                        }
                        Some(to_cell::Message::Ack(ack)) => self.acks.push(ack),
                        other => panic!("unexpected message {other:?}"),
                    },
                    Effect::Console { .. } | Effect::Step(_) => {}
                }
            }
        }
    }

    fn commit(&mut self, commit: Commit) -> Revision {
        commit.check().unwrap();
        self.commit_bytes_max = self.commit_bytes_max.max(commit.bytes());
        self.revision += 1;
        for op in commit.ops {
            match op {
                Op::Put(key, value) | Op::PutLeased(key, value, _) => {
                    self.store.insert(key, (value, Revision(self.revision)));
                }
                Op::Delete(key) => {
                    self.store.remove(&key);
                }
            }
        }
        Revision(self.revision)
    }

    fn cell_answers(&self, cell: &CellId, intent: &VmIntent) -> Option<VmReport> {
        let (phase, stop_cause) = match intent.target() {
            Target::Claimed => ((self.claims)(cell, intent)?, StopCause::Unspecified),
            // Nothing of it is left, or nothing happens: no host ever heard of it.
            Target::Released => (Phase::Destroyed, StopCause::Unspecified),
            _ if !self.hosts => return None,
            Target::Running => (Phase::Running, StopCause::Unspecified),
            Target::Stopped => (Phase::Stopped, StopCause::ShutDown),
            Target::Destroyed => (Phase::Destroyed, StopCause::Unspecified),
            Target::Unspecified => panic!("no target"),
        };
        Some(report(cell, intent, phase, stop_cause))
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        let id = self.ask_later(request);
        self.answers.remove(&id).expect("answered at once")
    }

    fn ask_later(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        self.event(Event::Request { id, account: self.account, request });
        id
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.event(Event::Tick);
    }

    fn launch(&mut self, count: u32) -> Vec<InstanceId> {
        match self.ask(launch_request(count, count, "")) {
            Ok(Answer::Launched(_, instances)) => instances.iter().map(|i| i.id()).collect(),
            other => panic!("not launched: {other:?}"),
        }
    }

    fn state(&self, id: InstanceId) -> Option<State> {
        let model = self.region.model();
        let model = model.read().unwrap();
        let account = model.account(self.account)?;
        account.instances_visible().find(|record| record.id() == id).map(|record| record.stage().state())
    }

    fn instances(&self) -> usize {
        let model = self.region.model();
        let model = model.read().unwrap();
        model.account(self.account).unwrap().instances_visible().count()
    }

    /// The host's word on an instance, unasked.
    fn host_says(&mut self, id: InstanceId, phase: Phase, stop_cause: StopCause) {
        let last = self.intents.iter().rev().find(|(_, intent)| spec_id(intent) == id).cloned();
        let (cell, intent) = last.expect("the cell knows the instance");
        let report = report(&cell, &intent, phase, stop_cause);
        self.event(Event::Cell(cell, wrap(report)));
    }
}

fn spec_id(intent: &VmIntent) -> InstanceId {
    intent.spec.as_ref().unwrap().instance_id.parse().unwrap()
}

fn wrap(report: VmReport) -> FromCell {
    FromCell { message: Some(from_cell::Message::Report(report)) }
}

fn report(cell: &CellId, intent: &VmIntent, phase: Phase, stop_cause: StopCause) -> VmReport {
    VmReport {
        instance_id: intent.spec.as_ref().unwrap().instance_id.clone(),
        account_id: intent.spec.as_ref().unwrap().account_id.clone(),
        attempt: intent.attempt,
        generation: intent.generation,
        phase: phase.into(),
        stop_cause: stop_cause.into(),
        message: if phase == Phase::Refused { "h1: needs 2 vCPU, has 1 free".into() } else { String::new() },
        host_id: format!("{cell}-h1"),
        rack_id: format!("{cell}-r1"),
        explanation: None,
        ..VmReport::default()
    }
}

fn launch_request(count_min: u32, count: u32, token: &str) -> Request {
    Request::Launch(Box::new(LaunchRequest {
        count_min,
        count,
        vcpus: 2,
        memory_mib: 1024,
        template: super::record::TemplateRecord { instance_type: "t3.micro".into(), ..Default::default() },
        zone: None,
        client_token: token.into(),
        parameters_sha256: [count as u8; 32],
    }))
}

#[test]
fn an_instance_lives_and_dies() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    assert_eq!(cloud.state(id), Some(State::Running));
    cloud.ask(Request::Stop { instances: vec![id], force: false }).unwrap();
    assert_eq!(cloud.state(id), Some(State::Stopped));
    cloud.ask(Request::Start(vec![id])).unwrap();
    assert_eq!(cloud.state(id), Some(State::Running));
    let last = &cloud.intents.last().unwrap().1;
    assert_eq!(
        (last.attempt, last.host_id.is_empty()),
        (2, false),
        "a start goes to the host that has the disk"
    );
    cloud.ask(Request::Terminate(vec![id])).unwrap();
    assert_eq!(cloud.state(id), Some(State::Terminated));
    cloud.pass(Duration::from_secs(3500));
    assert_eq!(cloud.state(id), Some(State::Terminated), "readable for an hour");
    cloud.pass(Duration::from_secs(200));
    assert_eq!(cloud.state(id), None);
}

#[test]
fn a_token_makes_one_launch_across_restarts() {
    let mut cloud = Cloud::new();
    let first = cloud.ask(launch_request(2, 2, "token")).unwrap();
    cloud.restart();
    let second = cloud.ask(launch_request(2, 2, "token")).unwrap();
    let (Answer::Launched(a, _), Answer::Launched(b, _)) = (first, second) else { panic!("not launches") };
    assert_eq!(a.reservation_id, b.reservation_id);
    assert_eq!(cloud.instances(), 2);
    assert!(matches!(cloud.ask(launch_request(3, 3, "token")), Err(Refusal::TokenMismatch(_))));
}

#[test]
fn a_refused_launch_goes_to_the_next_cell_and_leaves_no_trace_when_none_is_left() {
    let mut cloud = Cloud::new();
    cloud.claims = |cell, _| Some(if cell.as_str() == "zb-c1" { Phase::Claimed } else { Phase::Refused });
    let id = cloud.launch(1)[0];
    assert_eq!(cloud.state(id), Some(State::Running));
    cloud.claims = |_, _| Some(Phase::Refused);
    let before = cloud.store.clone();
    let refusal = cloud.ask(launch_request(1, 1, "again")).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::InsufficientCapacity(why) if why.contains("h1: needs 2 vCPU")),
        "{refusal:?}"
    );
    assert_eq!(before.len(), cloud.store.len());
    cloud.claims = |_, _| Some(Phase::Claimed);
    cloud.ask(launch_request(1, 1, "again")).unwrap();
}

#[test]
fn between_min_and_max_what_fits_is_launched() {
    let mut cloud = Cloud::new();
    cloud.claims = |cell, intent| {
        let fits = cell.as_str() == "za-c1" && intent.spec.as_ref().unwrap().launch_index < 2;
        Some(if fits { Phase::Claimed } else { Phase::Refused })
    };
    let Ok(Answer::Launched(_, instances)) = cloud.ask(launch_request(1, 5, "")) else {
        panic!("not launched")
    };
    assert_eq!(instances.len(), 2);
    assert_eq!(cloud.instances(), 2);
    let account = cloud.account;
    cloud.restart();
    assert_eq!(cloud.region.model().read().unwrap().account(account).unwrap().instances.len(), 2);
    cloud.claims = |cell, intent| {
        let fits = cell.as_str() == "za-c1" && intent.spec.as_ref().unwrap().launch_index < 2;
        Some(if fits { Phase::Claimed } else { Phase::Refused })
    };
    assert!(cloud.ask(launch_request(3, 5, "")).is_err());
    let destroyed = cloud.intents.iter().filter(|(_, intent)| intent.target() == Target::Released);
    assert!(destroyed.count() >= 2, "claims of an undone launch are released");
    assert_eq!(cloud.instances(), 2);
}

#[test]
fn a_slow_cell_is_no_refusal() {
    let mut cloud = Cloud::new();
    cloud.claims = |_, _| None;
    let id = cloud.ask_later(launch_request(1, 1, "slow"));
    assert!(!cloud.answers.contains_key(&id));
    assert_eq!(cloud.instances(), 0, "nobody has been told yet");
    cloud.pass(Duration::from_secs(3));
    let Some(Ok(Answer::Launched(reservation, instances))) = cloud.answers.remove(&id) else {
        panic!("no answer")
    };
    assert_eq!(reservation.acceptance(), Acceptance::Acknowledged);
    assert_eq!(cloud.state(instances[0].id()), Some(State::Pending));
    cloud.claims = |_, _| Some(Phase::Claimed);
    cloud.pass(Duration::from_secs(2));
    assert_eq!(cloud.state(instances[0].id()), Some(State::Running));
    cloud.pass(Duration::from_secs(70));
    let settled = cloud.store.iter().any(|(key, (value, _))| {
        matches!(decode(key, value), Ok(Some((_, _, Record::Reservation(r)))) if r.acceptance() == Acceptance::Settled)
    });
    assert!(settled);
}

#[test]
fn an_acknowledged_launch_that_finds_no_place_is_terminated_with_the_reason() {
    let mut cloud = Cloud::new();
    cloud.claims = |_, _| None;
    let id = cloud.ask_later(launch_request(1, 1, ""));
    cloud.pass(Duration::from_secs(3));
    let Some(Ok(Answer::Launched(_, instances))) = cloud.answers.remove(&id) else { panic!("no answer") };
    cloud.claims = |_, _| Some(Phase::Refused);
    cloud.pass(Duration::from_secs(2));
    assert_eq!(cloud.state(instances[0].id()), Some(State::Terminated));
    // The claim had been sent twice, and the second time there was room.
    let claims = |(_, intent): &&(CellId, VmIntent)| intent.target() == Target::Claimed;
    let (cell, claim) = cloud.intents.iter().rfind(claims).unwrap().clone();
    let late = report(&cell, &claim, Phase::Claimed, StopCause::Unspecified);
    cloud.event(Event::Cell(cell.clone(), wrap(late)));
    let (to, last) = cloud.intents.last().unwrap();
    assert_eq!((to, last.target()), (&cell, Target::Released), "the place is given back");
}

#[test]
fn a_start_that_finds_no_place_says_so_and_the_instance_stays_stopped() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    cloud.ask(Request::Stop { instances: vec![id], force: false }).unwrap();
    cloud.claims = |_, _| Some(Phase::Refused);
    assert!(matches!(cloud.ask(Request::Start(vec![id])), Err(Refusal::InsufficientCapacity(_))));
    assert_eq!(cloud.state(id), Some(State::Stopped));
    cloud.claims = |_, _| Some(Phase::Claimed);
    cloud.ask(Request::Start(vec![id])).unwrap();
    assert_eq!(cloud.state(id), Some(State::Running));
}

#[test]
fn a_guest_that_powers_itself_off_is_stopped_or_terminated() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    cloud.host_says(id, Phase::Stopped, StopCause::Guest);
    assert_eq!(cloud.state(id), Some(State::Stopped));
    let mut request = launch_request(1, 1, "");
    if let Request::Launch(launch) = &mut request {
        launch.template.terminate_on_shutdown = true;
    }
    let Ok(Answer::Launched(_, instances)) = cloud.ask(request) else { panic!("not launched") };
    cloud.host_says(instances[0].id(), Phase::Stopped, StopCause::Guest);
    assert_eq!(cloud.state(instances[0].id()), Some(State::Terminated));
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    let (cell, run) = cloud.intents.last().unwrap().clone();
    cloud.ask(Request::Stop { instances: vec![id], force: false }).unwrap();
    let acked = cloud.acks.len();
    cloud.event(Event::Cell(cell.clone(), wrap(report(&cell, &run, Phase::Running, StopCause::Unspecified))));
    assert_eq!(cloud.state(id), Some(State::Stopped));
    // Acknowledged, so that the cell need not say it again; and so is its answer to what it is told again.
    assert_eq!(cloud.acks.len(), acked + 2);
}

#[test]
fn quotas_protection_and_states_are_kept() {
    let mut cloud = Cloud::new();
    assert!(matches!(cloud.ask(launch_request(17, 17, "")), Err(Refusal::VcpuQuota { limit: 32, .. })));
    let ids = cloud.launch(16);
    assert!(matches!(cloud.ask(launch_request(1, 1, "")), Err(Refusal::VcpuQuota { used: 32, .. })));
    let protect = crate::request::InstanceChange::DisableApiTermination(true);
    cloud.ask(Request::InstanceModify(ids[0], protect)).unwrap();
    assert_eq!(
        cloud.ask(Request::Terminate(ids.clone())).unwrap_err(),
        Refusal::TerminationProtected(ids[0])
    );
    assert_eq!(cloud.state(ids[1]), Some(State::Running), "refused as a whole");
    let unknown = InstanceId::from_bits(1);
    let missing = cloud.ask(Request::Stop { instances: vec![ids[1], unknown], force: false }).unwrap_err();
    assert_eq!(missing, Refusal::InstancesNotFound(vec![unknown]));
    cloud.ask(Request::Terminate(vec![ids[1]])).unwrap();
    assert!(matches!(cloud.ask(Request::Start(vec![ids[1]])), Err(Refusal::IncorrectState { .. })));
    cloud.launch(1);
}

/// A cloud whose account may have many instances, and whose cells have room for them.
fn large_cloud() -> Cloud {
    let mut cloud = Cloud::new();
    cloud.vcpus = 10_000;
    cloud.restart();
    cloud
}

#[test]
fn a_large_launch_settles_and_ends_over_several_commits() {
    let mut cloud = large_cloud();
    let ids = cloud.launch(300);
    assert_eq!(ids.len(), 300);
    assert!(ids.iter().all(|id| cloud.state(*id) == Some(State::Running)));
    let Ok(Answer::States(changes)) = cloud.ask(Request::Stop { instances: ids.clone(), force: false })
    else {
        panic!("not stopped")
    };
    assert_eq!(changes.len(), 300);
    assert!(ids.iter().all(|id| cloud.state(*id) == Some(State::Stopped)));
    cloud.ask(Request::Start(ids.clone())).unwrap();
    cloud.ask(Request::Terminate(ids.clone())).unwrap();
    assert!(ids.iter().all(|id| cloud.state(*id) == Some(State::Terminated)));
    cloud.pass(Duration::from_secs(3700));
    assert_eq!(cloud.instances(), 0, "all have had their time at once");
}

#[test]
fn large_user_data_fits_its_commits_and_reaches_every_guest() {
    let mut cloud = large_cloud();
    let mut request = launch_request(200, 200, "");
    if let Request::Launch(launch) = &mut request {
        launch.template.user_data = vec![7; 16 * 1024];
    }
    let Ok(Answer::Launched(_, instances)) = cloud.ask(request) else { panic!("not launched") };
    assert_eq!(instances.len(), 200);
    assert!(cloud.commit_bytes_max < Commit::BYTES_MAX / 2, "{}", cloud.commit_bytes_max);
    let with_data = |intent: &VmIntent| intent.spec.as_ref().unwrap().user_data.len() == 16 * 1024;
    assert!(cloud.intents.iter().all(|(_, intent)| with_data(intent)));
    let change = crate::request::InstanceChange::UserData(b"own".to_vec());
    cloud.ask(Request::Stop { instances: vec![instances[0].id()], force: false }).unwrap();
    cloud.ask(Request::InstanceModify(instances[0].id(), change)).unwrap();
    cloud.ask(Request::Start(vec![instances[0].id()])).unwrap();
    assert_eq!(cloud.intents.last().unwrap().1.spec.as_ref().unwrap().user_data, b"own");
}

#[test]
fn a_crash_in_the_middle_of_settling_loses_nobody() {
    for commits in 1..12 {
        let mut cloud = large_cloud();
        cloud.commits_left = Some(commits);
        let id = cloud.ask_later(launch_request(300, 300, "big"));
        let crashed = !cloud.answers.contains_key(&id);
        cloud.commits_left = None;
        cloud.restart();
        cloud.pass(Duration::from_secs(20));
        cloud.pass(Duration::from_secs(20));
        let Ok(Answer::Launched(_, instances)) = cloud.ask(launch_request(300, 300, "big")) else {
            panic!("not launched after a crash at commit {commits}")
        };
        assert_eq!(instances.len(), 300, "crashed: {crashed}, at commit {commits}");
        assert_eq!(cloud.instances(), 300);
        cloud.pass(Duration::from_secs(20));
        assert!(instances.iter().all(|i| cloud.state(i.id()) == Some(State::Running)), "at commit {commits}");
    }
}

#[test]
fn a_launch_that_nobody_waits_for_becomes_visible() {
    let mut cloud = Cloud::new();
    cloud.claims = |_, _| None;
    cloud.ask_later(launch_request(1, 1, ""));
    cloud.restart();
    assert_eq!(cloud.instances(), 0);
    cloud.pass(Duration::from_secs(30));
    assert_eq!(cloud.instances(), 1, "pending, and can be terminated");
}

#[test]
fn a_token_of_instances_that_are_forgotten_says_so() {
    let mut cloud = Cloud::new();
    let Ok(Answer::Launched(_, instances)) = cloud.ask(launch_request(1, 1, "once")) else {
        panic!("no launch")
    };
    cloud.ask(Request::Terminate(vec![instances[0].id()])).unwrap();
    cloud.pass(Duration::from_secs(3700));
    cloud.pass(Duration::from_secs(100));
    let refusal = cloud.ask(launch_request(1, 1, "once")).unwrap_err();
    assert_eq!(refusal, Refusal::TokenInstanceTerminated("once".into()));
}

#[test]
fn a_claim_of_a_stopped_instance_is_never_released() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    cloud.ask(Request::Stop { instances: vec![id], force: false }).unwrap();
    let (cell, last) = cloud.intents.last().unwrap().clone();
    let claim = VmIntent { attempt: last.attempt + 5, target: Target::Claimed.into(), ..last };
    let sent = cloud.intents.len();
    cloud.event(Event::Cell(
        cell.clone(),
        wrap(report(&cell, &claim, Phase::Claimed, StopCause::Unspecified)),
    ));
    assert!(cloud.intents[sent..].iter().all(|(_, intent)| intent.target() == Target::Stopped));
}

#[test]
fn a_full_store_refuses_launches_and_takes_terminations() {
    let mut cloud = Cloud::new();
    let id = cloud.launch(1)[0];
    cloud.full = true;
    let launched = cloud.ask(launch_request(1, 1, ""));
    assert!(matches!(launched, Err(Refusal::StoreFull(_))), "{launched:?}");
    cloud.ask(Request::Terminate(vec![id])).unwrap();
    assert_eq!(cloud.state(id), Some(State::Terminated));
    cloud.full = false;
    cloud.launch(1);
}

#[test]
fn a_cell_that_knows_nothing_of_an_instance_lets_it_stop() {
    let mut cloud = Cloud::new();
    let ids = cloud.launch(2);
    cloud.host_says(ids[0], Phase::Refused, StopCause::Unspecified);
    assert_eq!(cloud.state(ids[0]), Some(State::Stopped), "it runs no longer, for all that is known");
    let reason = {
        let model = cloud.region.model();
        let model = model.read().unwrap();
        model.instance(ids[0]).unwrap().reason_message.clone()
    };
    assert!(reason.starts_with("The instance's cell knows nothing of it"), "{reason}");
    cloud.hosts = false;
    cloud.ask(Request::Stop { instances: vec![ids[1]], force: false }).unwrap();
    assert_eq!(cloud.state(ids[1]), Some(State::Stopping));
    cloud.host_says(ids[1], Phase::Refused, StopCause::Unspecified);
    assert_eq!(cloud.state(ids[1]), Some(State::Stopped));
}

#[test]
fn a_cell_that_was_restored_is_told_again_what_is_wanted() {
    let mut cloud = Cloud::new();
    let ids = cloud.launch(2);
    let old: Vec<_> = cloud.intents.iter().filter(|(_, i)| i.target() == Target::Running).cloned().collect();
    cloud.ask(Request::Stop { instances: vec![ids[0]], force: false }).unwrap();
    cloud.ask(Request::Terminate(vec![ids[1]])).unwrap();
    assert_eq!(cloud.state(ids[1]), Some(State::Terminated));
    let sent = cloud.intents.len();
    for (cell, intent) in old {
        let says = report(&cell, &intent, Phase::Running, StopCause::Unspecified);
        cloud.event(Event::Cell(cell, wrap(says)));
    }
    let again: Vec<_> = cloud.intents[sent..].iter().map(|(_, i)| (spec_id(i), i.target())).collect();
    let expected = [(ids[0], Target::Stopped), (ids[1], Target::Destroyed)];
    assert!(again.len() == 2 && expected.iter().all(|wanted| again.contains(wanted)), "{again:?}");
    // It was answered, so it is not repeated.
    let sent = cloud.intents.len();
    cloud.pass(Duration::from_secs(5));
    assert_eq!(cloud.intents.len(), sent);
}
