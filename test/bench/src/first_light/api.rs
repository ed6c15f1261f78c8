//! The API beside moto's server: the same signed requests by the same closed loop, in turns.

use super::{ROOMY, run_instances, terminate};
use crate::Place;
use crate::client::{Client, Keys, Question, Reply};
use crate::closed_loop::{self, Bound, Outcome, Server};
use crate::cloud::{Cloud, directory};
use crate::peer::{self, Moto};
use crate::process::Process;
use crate::report::{Better, Case, RUNS, progress};
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One for each client: one account is throttled, as in AWS.
const ACCOUNTS: usize = 16;
/// A few clients keep two cores busy with reads.
const READ: Bound = Bound { clients: 4, duration: Duration::from_secs(3), answers_max: usize::MAX };
/// A launch waits for the disk: more of them share a wait. Bounded, for hosts hold at most 1,000 VMs each.
const LAUNCH: Bound = Bound { clients: ACCOUNTS, duration: Duration::from_secs(5), answers_max: 1_500 };
const INSTANCES: usize = 100;

struct Both<'a> {
    cloud: &'a Cloud,
    control: Vec<Process>,
    hosts: Vec<Process>,
    accounts: Vec<Keys>,
    moto: &'a Moto,
}

/// Measures reads, then launches.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    let directory = directory()?;
    let cloud = Cloud::ready(place, directory.path(), &ROOMY)?;
    let moto = Moto::start(place)?;
    let (control, hosts) = cloud.planes()?;
    let both = Both { control, hosts, accounts: cloud.accounts(ACCOUNTS)?, cloud: &cloud, moto: &moto };
    let mut cases = Vec::new();
    let mut instances = Vec::new();
    for keys in &both.accounts {
        let reply = Client::new(cloud.address, keys).ask(&run_instances(place, INSTANCES)?)?;
        instances.push(reply.elements("instanceId").map(str::to_owned).collect::<Vec<String>>());
    }
    moto.client().ask(&run_instances(place, INSTANCES)?)?;
    let reads = [
        ("DescribeInstances 100", Question::ec2("DescribeInstances", "")),
        ("DescribeVpcs", Question::ec2("DescribeVpcs", "")),
        ("GetCallerIdentity", Question::caller_identity()),
    ];
    for (name, question) in reads {
        cases.extend(both.compare(name, &question, READ)?);
    }
    for (keys, instances) in both.accounts.iter().zip(&instances) {
        terminate(&mut Client::new(cloud.address, keys), instances)?;
    }
    cases.extend(both.compare("RunInstances", &run_instances(place, 1)?, LAUNCH)?);
    cloud.down()?;
    Ok(cases)
}

impl Both<'_> {
    /// In turns; for a cloud CPU is the control plane's.
    fn compare(&self, name: &str, question: &Question, bound: Bound) -> Result<Vec<Case>> {
        let (mut ours, mut peers): (Vec<Outcome>, Vec<Outcome>) = (Vec::new(), Vec::new());
        for run in 1..=RUNS {
            let made: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
            let launched = |keys: &Keys, reply: &Reply| {
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                let ids = reply.elements("instanceId").map(str::to_owned);
                made.entry(keys.access_key_id.clone()).or_default().extend(ids);
            };
            let launches = question.body.contains("Action=RunInstances");
            let address = self.cloud.address;
            let server =
                Server { address, keys: &self.accounts, processes: &self.control, background: &self.hosts };
            let nothing = |_: &Keys, _: &Reply| {};
            let answered: &(dyn Fn(&Keys, &Reply) + Sync) = if launches { &launched } else { &nothing };
            ours.push(closed_loop::run(&server, bound, question, answered)?);
            let made = std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner));
            for keys in &self.accounts {
                if let Some(instances) = made.get(&keys.access_key_id) {
                    terminate(&mut Client::new(self.cloud.address, keys), instances)?;
                }
            }
            if launches {
                self.moto.reset()?;
            }
            let (keys, process) = ([self.moto.keys.clone()], [self.moto.process()]);
            let server =
                Server { address: self.moto.address, keys: &keys, processes: &process, background: &[] };
            peers.push(closed_loop::run(&server, bound, question, &nothing)?);
            progress(&format!("{name}: run {run} of {RUNS}"));
        }
        let of = |outcomes: &[Outcome], value: fn(&Outcome) -> f64| -> Vec<f64> {
            outcomes.iter().map(value).collect()
        };
        let case = |what: &str, unit, better, value: fn(&Outcome) -> f64| {
            Case::beside(
                format!("{name}, {what}"),
                unit,
                better,
                &of(&ours, value),
                peer::NAME,
                &of(&peers, value),
            )
        };
        let mut cases = vec![
            case("rate", "req/s", Better::More, |outcome| outcome.rate),
            case("CPU", "us/req", Better::Less, |outcome| outcome.cpu_us),
            case("p50", "ms", Better::Less, |outcome| outcome.percentile_ms(0.5)),
            case("p99", "ms", Better::Less, |outcome| outcome.percentile_ms(0.99)),
        ];
        if name == "RunInstances" {
            // The peer has no hosts.
            let background = of(&ours, |outcome| outcome.background_cpu_us);
            cases.push(Case::alone(format!("{name}, CPU of the hosts"), "us/req", &background));
        }
        Ok(cases)
    }
}
