//! Two processes of the region and of each cell over a store of their own: whichever leads may die at any moment, and
//! so may the store, while a client launches. It goes on within seconds, and with exactly what was acknowledged.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed::{Etcd, LONG, Options, Testbed, process, wait};

/// The promise for a process that dies; with the store's own start where it is the store.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

/// Launches one instance after another until the file `stop` is there, each with a token of its own and with patience,
/// and counts in the file `progress`: what was acknowledged, and what else was answered.
const LAUNCHES: &str = "
    import os
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 1}, read_timeout=10, connect_timeout=2)
    launched, refused, number = [], {}, 0
    while not os.path.exists(args['stop']):
        number += 1
        deadline = time.monotonic() + 30
        while True:
            try:
                answer = patient.run_instances(ImageId='nephos-linux', InstanceType='t3.nano', MinCount=1, MaxCount=1,
                                               ClientToken='standby-%d' % number)
                launched.append(answer['Instances'][0]['InstanceId'])
                break
            except botocore.exceptions.ClientError as error:
                status = error.response['ResponseMetadata']['HTTPStatusCode']
                if status < 500 or time.monotonic() > deadline:
                    raise
                why = '%d %s' % (status, error.response['Error']['Code'])
            except botocore.exceptions.BotoCoreError as error:
                if time.monotonic() > deadline:
                    raise
                why = type(error).__name__
            refused[why] = refused.get(why, 0) + 1
            time.sleep(0.02)
        with open(args['progress'] + '.new', 'w') as file:
            file.write(str(len(launched)))
        os.rename(args['progress'] + '.new', args['progress'])
        time.sleep(0.02)
    return {'launched': launched, 'refused': refused}
";

/// Launches one instance and waits until it runs.
const ONE: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 1}, read_timeout=10, connect_timeout=2)
    def insist(call):
        deadline = time.monotonic() + 30
        while True:
            try:
                return call()
            except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
    launch = lambda: patient.run_instances(ImageId='nephos-linux', InstanceType='t3.nano', MinCount=1, MaxCount=1,
                                           ClientToken=args['token'])
    id = insist(launch)['Instances'][0]['InstanceId']
    describe = lambda: patient.describe_instances(InstanceIds=[id])['Reservations'][0]['Instances'][0]
    while insist(describe)['State']['Name'] != 'running':
        time.sleep(0.02)
    return id
";

const INVENTORY: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
    return [[i['InstanceId'], i['State']['Name']]
            for page in patient.get_paginator('describe_instances').paginate()
            for r in page['Reservations'] for i in r['Instances']]
";

fn cloud() -> Testbed {
    let mut options = options();
    options.standby = true;
    Testbed::start(options)
}

fn options() -> Options {
    let mut options = Options::simulated(1);
    options.hosts_per_zone = 2;
    (options.vcpus_per_host, options.memory_per_host, options.vcpus_per_account) = (4_096, 4_096, 16_000);
    options
}

/// A process of the region or the cell, as `nephos status` sees it.
fn role(cloud: &Testbed, role: &str) -> Value {
    let status = cloud.nephos_json(&["status", "--json"]);
    match role {
        "region" => status["process"].clone(),
        "store" => status["store"].clone(),
        _ => status["zones"][0]["cells"][0]["process"].clone(),
    }
}

/// The label and pid of the process that leads.
fn leader(cloud: &Testbed, of: &str) -> (String, u32) {
    wait(&format!("one process of the {of} leads, and one stands by"), LONG, || {
        let found = role(cloud, of);
        let processes = found["processes"].as_array()?;
        let leading: Vec<&Value> = processes.iter().filter(|process| process["leads"] == true).collect();
        let standing_by = processes.iter().filter(|process| process["leads"] == false).count();
        let [leader] = leading[..] else { return None };
        (standing_by == 1).then_some(())?;
        Some((leader["label"].as_str()?.to_owned(), leader["pid"].as_u64()? as u32))
    })
}

struct Launching<'a> {
    cloud: &'a Testbed,
    progress: PathBuf,
}

impl Launching<'_> {
    fn acknowledged(&self) -> u32 {
        std::fs::read_to_string(&self.progress).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Hurts the cloud once launches go, and waits until they go again: how long it took.
    fn through(&self, what: &str, hurt: impl FnOnce()) -> (Duration, Value) {
        let before = self.acknowledged();
        wait("launches are acknowledged", LONG, || (self.acknowledged() > before + 5).then_some(()));
        hurt();
        let began = Instant::now();
        let id = self.cloud.boto3_with(json!({ "token": what }), ONE);
        let took = began.elapsed();
        eprintln!("{what}: a launch runs {:.2} s later", took.as_secs_f64());
        let before = self.acknowledged();
        wait("launches are acknowledged again", LONG, || (self.acknowledged() > before + 5).then_some(()));
        (took, id)
    }
}

/// Ends the launches when it is dropped.
struct Stop(PathBuf);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.0, "");
    }
}

#[test]
fn leaders_and_the_store_die_while_a_client_launches() {
    let cloud = cloud();
    let (stop, progress) = (cloud.dir().join("stop-launches"), cloud.dir().join("launched"));
    let (mut expected, took) = std::thread::scope(|scope| {
        let arguments = json!({ "stop": stop, "progress": progress });
        let launches = scope.spawn(|| cloud.boto3_with(arguments, LAUNCHES));
        // Whatever fails here, the launches end.
        let stop = Stop(stop.clone());
        let launching = Launching { cloud: &cloud, progress: progress.clone() };
        let mut all = Vec::new();
        for of in ["region", "cell"] {
            let (_, pid) = leader(&cloud, of);
            all.push((format!("{of}'s leader killed"), launching.through(of, || process::kill(pid))));
            // Whoever was first: the one that stood by, or the killed one, which is started again at once.
            assert_ne!(leader(&cloud, of).1, pid);
        }
        let vms = cloud.vms().len();
        let pid = cloud.pid("store/us-east-1").expect("the store runs");
        all.push(("store killed".to_owned(), launching.through("store", || process::kill(pid))));
        assert!(cloud.vms().len() >= vms, "guests do not depend on the store");
        leader(&cloud, "region");
        leader(&cloud, "cell");
        all.push(("store gone for long".to_owned(), launching.through("outage", || outage(&cloud))));
        assert!(cloud.vms().len() >= vms, "guests do not depend on the store");
        drop(stop);
        let answer = launches.join().expect("all launches are acknowledged");
        eprintln!(
            "{} launches acknowledged; refused meanwhile: {}",
            launching.acknowledged(),
            answer["refused"]
        );
        let mut expected: BTreeSet<String> = ids(&answer["launched"]);
        expected.extend(all.iter().filter_map(|(_, (_, id))| id.as_str().map(str::to_owned)));
        (expected, all.into_iter().map(|(what, (took, _))| (what, took)).collect::<Vec<_>>())
    });
    exactly(&cloud, &mut expected);
    for (what, took) in &took {
        let bound = if what.starts_with("store") { FAILOVER_MAX * 2 } else { FAILOVER_MAX };
        assert!(*took < bound, "{what}: {took:?}");
    }
}

/// The store is away for longer than a leader leads without it: customers are told to try again until it is back.
fn outage(cloud: &Testbed) {
    cloud.nephos_ok(&["kill", "store"]);
    let answer = wait("customers are told to try again", LONG, || {
        let answer = cloud.boto3(
            "
            try:
                return raw({'Action': 'DescribeInstances', 'Version': '2016-11-15'})
            except OSError:
                return None",
        );
        (answer["status"] == 503).then_some(answer)
    });
    assert!(answer["body"].to_string().contains("ServiceUnavailable"), "{answer}");
    let status = cloud.nephos_ok(&["status"]);
    assert!(status.contains("waits for the store"), "{status}");
    cloud.nephos_ok(&["start", "store"]);
}

fn ids(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What was acknowledged runs, each once, and nothing else exists.
fn exactly(cloud: &Testbed, expected: &mut BTreeSet<String>) {
    wait("exactly what was acknowledged runs", LONG, || {
        let seen = cloud.boto3(INVENTORY);
        let seen: Vec<&Value> = seen.as_array().into_iter().flatten().collect();
        let running = seen.iter().filter(|pair| pair[1] == "running");
        let running: BTreeSet<String> =
            running.filter_map(|pair| pair[0].as_str().map(str::to_owned)).collect();
        (seen.len() == expected.len() && running == *expected).then_some(())
    });
    wait("the hosts run them, each once", LONG, || {
        let on_hosts: Vec<String> = cloud.vms().into_iter().map(|(id, _)| id).collect();
        let once: BTreeSet<String> = on_hosts.iter().cloned().collect();
        (on_hosts.len() == once.len() && once == *expected).then_some(())
    });
    for host in cloud.hosts() {
        assert_eq!(cloud.host_status(&host)["orphans"], json!([]));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("the process is there");
}

#[test]
fn a_leader_that_slept_wakes_up_as_nobody() {
    let cloud = cloud();
    let mut expected = BTreeSet::new();
    for of in ["region", "cell"] {
        let (label, pid) = leader(&cloud, of);
        signal(pid, Signal::STOP);
        wait(&format!("another process of the {of} leads"), LONG, || {
            let processes = role(&cloud, of)["processes"].as_array().cloned().unwrap_or_default();
            processes
                .iter()
                .any(|other| other["leads"] == true && other["label"] != label.as_str())
                .then_some(())
        });
        // Only its own process knows that it leads no longer, and says so when it wakes up.
        signal(pid, Signal::CONT);
        wait("the former leader leaves", LONG, || (!process::alive(pid)).then_some(()));
        let log = cloud.dir().join("run").join(format!("{}.log", label.replace('/', "-")));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(log.contains("leads no longer"), "{log}");
        let (now, _) = leader(&cloud, of);
        assert_ne!(now, label);
        let id = cloud.boto3_with(json!({ "token": format!("after the {of}") }), ONE);
        expected.extend(id.as_str().map(str::to_owned));
    }
    exactly(&cloud, &mut expected);
}

#[test]
fn the_command_line_names_each_of_two_processes() {
    let mut cloud = cloud();
    let (label, pid) = leader(&cloud, "cell");
    let status = cloud.nephos_ok(&["status"]);
    assert!(
        status.contains("leads in term 1") && status.contains(&format!("stands by for {label}")),
        "{status}"
    );
    let said = cloud.nephos_ok(&["kill", &label]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{label} killed (pid {pid})")), "{said}");
    wait("the other leads", LONG, || (role(&cloud, "cell")["leads"] == true).then_some(()));
    let said = cloud.nephos_ok(&["start", &label]);
    assert!(said.contains(&format!("{label} runs")), "{said}");
    let (now, _) = leader(&cloud, "cell");
    assert_ne!(now, label);
    let said = cloud.nephos_ok(&["kill", "control-plane"]);
    for of in ["store/us-east-1", "region/us-east-1/1", "region/us-east-1/2", "cell/us-east-1a-c1/2"] {
        assert!(said.contains(&format!("{of} killed")), "{said}");
    }
    cloud.nephos_ok(&["start", "control-plane"]);
    leader(&cloud, "region");
    leader(&cloud, "cell");
    let backup = cloud.dir().join("all.backup");
    let backup = backup.to_str().expect("a name");
    let said = cloud.nephos_ok(&["store", "backup", "store", "--to", backup]);
    assert!(said.contains("a whole backup"), "{said}");
    cloud.nephos_ok(&["store", "verify", backup]);
    // The shape of a cloud does not change: `up` without a word finds it as it was.
    cloud.nephos_ok(&["down"]);
    cloud.up();
    leader(&cloud, "region");
}

#[test]
fn a_cloud_over_etcd_survives_the_death_of_its_leaders() {
    let etcd = Etcd::start();
    let mut options = options();
    options.store = Some(etcd.url("a-cloud"));
    let cloud = Testbed::start(options);
    let mut expected = BTreeSet::new();
    for of in ["region", "cell"] {
        let (_, pid) = leader(&cloud, of);
        process::kill(pid);
        let began = Instant::now();
        let id = cloud.boto3_with(json!({ "token": of }), ONE);
        let took = began.elapsed();
        eprintln!("etcd, {of}: a launch runs {:.2} s later", took.as_secs_f64());
        assert!(took < FAILOVER_MAX, "{took:?}");
        assert_ne!(leader(&cloud, of).1, pid);
        expected.extend(id.as_str().map(str::to_owned));
    }
    exactly(&cloud, &mut expected);
}
