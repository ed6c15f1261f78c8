//! RunInstances: to its acknowledgement, with placement on simulated hosts, and to a real guest's user space.

use super::{ROOMY, run_instances, terminate};
use crate::Place;
use crate::client::{Client, Keys, Question, Reply};
use crate::closed_loop::{self, Bound, Outcome, Server};
use crate::cloud::{Cloud, directory};
use crate::report::{Case, RUNS, progress};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const ACCOUNTS: usize = 100;
/// One account's one client.
const ALONE: Bound = Bound { clients: 1, duration: Duration::from_secs(30), answers_max: 300 };
/// Many accounts' clients.
const CROWD: Bound = Bound { clients: 16, duration: Duration::from_secs(30), answers_max: 1_500 };
/// The line with which the guest's boot ends, in part.
const USER_SPACE: &str = "nephos: user space is up";
const GUEST_WAIT: Duration = Duration::from_secs(120);

/// Measures one account and a hundred, in turns.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    let directory = directory()?;
    let cloud = Cloud::ready(place, directory.path(), &ROOMY)?;
    progress(&format!("making {ACCOUNTS} accounts"));
    let accounts = cloud.accounts(ACCOUNTS)?;
    let launch = run_instances(place, 1)?;
    let (mut alone, mut crowd) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        alone.push(acknowledge(&cloud, &launch, &accounts[..1], ALONE)?);
        crowd.push(acknowledge(&cloud, &launch, &accounts, CROWD)?);
        progress(&format!("run {run} of {RUNS}"));
    }
    cloud.down()?;
    let mut cases = Vec::new();
    for (who, outcomes) in [("1 account, 1 client", &alone), ("100 accounts, 16 clients", &crowd)] {
        let case = |what: &str, unit, value: &dyn Fn(&Outcome) -> f64| {
            let values: Vec<f64> = outcomes.iter().map(value).collect();
            Case::alone(format!("RunInstances acknowledged, {who}, {what}"), unit, &values)
        };
        cases.push(case("p50", "ms", &|outcome| outcome.percentile_ms(0.5)));
        cases.push(case("p99", "ms", &|outcome| outcome.percentile_ms(0.99)));
        cases.push(case("rate", "req/s", &|outcome| outcome.rate));
        cases.push(case("CPU of the control plane", "us/req", &|outcome| outcome.cpu_us));
        cases.push(case("CPU of the hosts", "us/req", &|outcome| outcome.background_cpu_us));
    }
    Ok(cases)
}

/// Launches and, outside what is measured, terminates.
fn acknowledge(cloud: &Cloud, launch: &Question, accounts: &[Keys], bound: Bound) -> Result<Outcome> {
    let (control, hosts) = cloud.planes()?;
    let server = Server { address: cloud.address, keys: accounts, processes: &control, background: &hosts };
    let made: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    let launched = |keys: &Keys, reply: &Reply| {
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = reply.elements("instanceId").map(str::to_owned);
        made.entry(keys.access_key_id.clone()).or_default().extend(ids);
    };
    let outcome = closed_loop::run(&server, bound, launch, &launched)?;
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    for keys in accounts {
        if let Some(instances) = made.get(&keys.access_key_id) {
            terminate(&mut Client::new(cloud.address, keys), instances)?;
        }
    }
    Ok(outcome)
}

/// Measures real guests, one after the other.
pub fn measure_guest(place: &Place) -> Result<Vec<Case>> {
    let directory = directory()?;
    let cloud = Cloud::ready(place, directory.path(), &["--shutdown-timeout", "5"])?;
    let mut client = cloud.client();
    let (mut to_running, mut to_user_space) = (Vec::new(), Vec::new());
    // The first guest warms the host's page cache, and waits for the accelerator to be proven.
    for run in 0..=RUNS {
        let began = Instant::now();
        let reply = client.ask(&run_instances(place, 1)?)?;
        let instance = reply.element("instanceId").context("RunInstances names no instance")?.to_owned();
        let (running, user_space) = boot_wait(&mut client, &instance, began)?;
        if run > 0 {
            to_running.push(running);
            to_user_space.push(user_space);
        }
        terminate(&mut client, &[instance])?;
        progress(&format!("guest {run} of {RUNS}: {user_space:.2} s"));
    }
    cloud.down()?;
    Ok(vec![
        Case::alone("RunInstances to state running", "s", &to_running),
        Case::alone("RunInstances to guest user space", "s", &to_user_space),
    ])
}

/// Seconds from `began` until the instance is `running`, and until its console says that user space is up.
fn boot_wait(client: &mut Client, instance: &str, began: Instant) -> Result<(f64, f64)> {
    let state = Question::ec2("DescribeInstances", &format!("&InstanceId.1={instance}"));
    let console = Question::ec2("GetConsoleOutput", &format!("&InstanceId={instance}&Latest=true"));
    let mut running = None;
    let mut said = String::new();
    while began.elapsed() < GUEST_WAIT {
        if running.is_none() && client.ask(&state)?.elements("name").any(|name| name == "running") {
            running = Some(began.elapsed().as_secs_f64());
        }
        // Unavailable while the host has not heard of it yet.
        let reply = client.send(&console)?;
        let output = reply.element("output").unwrap_or_default();
        let output = BASE64_STANDARD.decode(output.trim()).unwrap_or_default();
        said = String::from_utf8_lossy(&output).into_owned();
        if said.contains(USER_SPACE) {
            let seconds = began.elapsed().as_secs_f64();
            return Ok((running.unwrap_or(seconds), seconds));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the guest of {instance} is not up after {} s; its console: {said}", GUEST_WAIT.as_secs())
}
