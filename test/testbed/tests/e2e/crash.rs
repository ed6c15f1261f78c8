//! Nothing acknowledged is lost: processes killed with SIGKILL at every step of a launch, on a real cloud without
//! guests. The list of steps is the code's own; a step that no process ever reached fails the test.

use base::step::LaunchStep;
use serde_json::{Value, json};
use testbed::{LONG, Options, Testbed, wait};

/// A launch as a careful client makes it: with a token, and with the SDK's retries.
const LAUNCH: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10}, read_timeout=20, connect_timeout=5)
    answer = patient.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=2, MaxCount=2,
                                   ClientToken='crash-test')
    return {'reservation': answer['ReservationId'],
            'instances': sorted(i['InstanceId'] for i in answer['Instances'])}
";

/// What the account has: each instance with its reservation and state.
const INVENTORY: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
    return [[i['InstanceId'], r['ReservationId'], i['State']['Name']]
            for page in patient.get_paginator('describe_instances').paginate()
            for r in page['Reservations'] for i in r['Instances']]
";

/// Who is killed besides the process that reaches the step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    LiveOn,
    /// Every process of the control plane.
    Die,
}

#[test]
fn a_process_killed_at_any_step_of_a_launch_loses_and_doubles_nothing() {
    LaunchStep::ALL.iter().for_each(|step| launch_through_a_crash(*step, Others::LiveOn));
}

#[test]
fn a_control_plane_killed_at_any_step_of_a_launch_loses_and_doubles_nothing() {
    LaunchStep::ALL.iter().for_each(|step| launch_through_a_crash(*step, Others::Die));
}

fn launch_through_a_crash(step: LaunchStep, others: Others) {
    let mut options = Options::simulated(1);
    options.hosts_per_zone = 2;
    options.crash_at = Some(step);
    let cloud = Testbed::start(options);
    let marker = cloud.dir().join("run").join(format!("crashed-at-{step}"));
    let acknowledged = std::thread::scope(|scope| {
        let launch = scope.spawn(|| cloud.boto3(LAUNCH));
        wait(&format!("a process reaches {step}"), LONG, || marker.exists().then_some(()));
        if others == Others::Die {
            cloud.control_plane_kill();
        }
        launch.join().expect("the launch is answered")
    });
    let instances = acknowledged["instances"].as_array().expect("a list").clone();
    assert_eq!(instances.len(), 2, "{step}: {acknowledged}");
    let expected: Vec<Value> =
        instances.iter().map(|id| json!([id, acknowledged["reservation"], "running"])).collect();
    wait(&format!("{step}: exactly what was acknowledged runs: {acknowledged}"), LONG, || {
        let mut seen = cloud.boto3(INVENTORY).as_array().cloned().unwrap_or_default();
        seen.sort_by_key(Value::to_string);
        (seen == expected).then_some(())
    });
    assert_eq!(cloud.boto3(LAUNCH), acknowledged, "{step}: the same token gets the same answer");
    // Each instance once on all hosts together, and nothing else. What hosts say of themselves comes a moment later.
    wait(&format!("{step}: the hosts run {instances:?}, each once"), LONG, || {
        let mut on_hosts: Vec<Value> = cloud.vms().into_iter().map(|(id, _)| json!(id)).collect();
        on_hosts.sort_by_key(Value::to_string);
        (on_hosts == instances).then_some(())
    });
    for host in cloud.hosts() {
        assert_eq!(cloud.host_status(&host)["orphans"], json!([]), "{step}");
    }
    let total = cloud.boto3(INVENTORY);
    assert_eq!(total.as_array().map(Vec::len), Some(2), "{step}: {total}");
}
