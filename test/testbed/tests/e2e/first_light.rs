//! The first thing that anybody does: instances in three zones, by the aws CLI, through all of their life.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use testbed::{LONG, Options, Testbed, wait};

/// Says hello, and puts something on the disk that every later boot says again.
fn user_data(zone: &str) -> String {
    format!(
        "#!/bin/sh\n\
         echo \"hello from {zone}\"\n\
         echo 'kept since the first boot in {zone}' > /root/kept\n\
         echo '::once:/bin/cat /root/kept' >> /etc/inittab\n\
         sync\n"
    )
}

/// Follows DescribeInstances until every instance runs or is done with: the states that each was seen in.
const WATCH: &str = "
    seen = {}
    until = time.time() + 120
    while time.time() < until:
        for page in ec2.get_paginator('describe_instances').paginate():
            for reservation in page['Reservations']:
                for instance in reservation['Instances']:
                    states = seen.setdefault(instance['InstanceId'], [])
                    state = instance['State']['Name']
                    if not states or states[-1] != state:
                        states.append(state)
        if len(seen) == args['count'] and all(states[-1] == 'running' for states in seen.values()):
            break
        time.sleep(0.02)
    return seen
";

#[test]
fn instances_in_three_zones_live_their_lives() {
    let cloud = Testbed::start(Options::guests(3));
    let zones = ["us-east-1a", "us-east-1b", "us-east-1c"];
    let instances = launched(&cloud, &zones);
    for (zone, instance) in zones.iter().zip(&instances) {
        let boot = cloud.console_wait(instance, "user-data: end");
        assert!(boot.contains(&format!("instance-id: {instance}")), "{boot}");
        assert!(boot.contains(&format!("availability-zone: {zone}")), "{boot}");
        assert!(boot.contains(&format!("hello from {zone}")), "{boot}");
        assert!(boot.contains("user-data: end, exit status 0"), "{boot}");
    }
    let ids: Vec<&str> = instances.iter().map(String::as_str).collect();
    waited(&cloud, "instance-running", &ids);
    let latest = cloud.aws(&["ec2", "get-console-output", "--latest", "--instance-id", ids[0]]);
    assert!(latest["Output"].as_str().unwrap_or_default().contains("hello from us-east-1a"), "{latest}");
    stopped_and_started(&cloud, ids[0], zones[0]);
    rebooted(&cloud, ids[1]);
    terminated(&cloud, &ids);
}

/// One launch in each zone, while DescribeInstances is followed.
fn launched(cloud: &Testbed, zones: &[&str]) -> Vec<String> {
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| cloud.boto3_with(json!({ "count": zones.len() }), WATCH));
        let launches: Vec<_> = zones.iter().map(|zone| scope.spawn(|| launch(cloud, zone))).collect();
        let launches = launches.into_iter().map(|launch| launch.join());
        let instances: Vec<String> = launches.map(|id| id.expect("an instance is launched")).collect();
        let seen = watch.join().expect("instances can be described meanwhile");
        // The launch's own answer said `pending` (see `launch`); it may have passed before anybody looked again.
        for instance in &instances {
            let states = &seen[instance];
            assert!([json!(["pending", "running"]), json!(["running"])].contains(states), "{seen}");
        }
        instances
    })
}

fn launch(cloud: &Testbed, zone: &str) -> String {
    let placement = format!("AvailabilityZone={zone}");
    let script = user_data(zone);
    let reservation = cloud.aws(&[
        "ec2",
        "run-instances",
        "--image-id",
        "nephos-linux",
        "--instance-type",
        "t3.micro",
        "--placement",
        &placement,
        "--user-data",
        &script,
    ]);
    let instance = &reservation["Instances"][0];
    assert_eq!(instance["State"]["Name"], "pending", "{reservation}");
    assert_eq!(instance["Placement"]["AvailabilityZone"], zone, "{reservation}");
    instance["InstanceId"].as_str().expect("an instance has an id").to_owned()
}

/// The aws CLI's waiter looks every 15 seconds, so it is called when its wish is fulfilled; boto3's is not.
fn waited(cloud: &Testbed, waiter: &str, ids: &[&str]) {
    let name = waiter.replace('-', "_");
    cloud.boto3_with(
        json!({ "waiter": name, "ids": ids }),
        "ec2.get_waiter(args['waiter']).wait(
            InstanceIds=args['ids'], WaiterConfig={'Delay': 1, 'MaxAttempts': 120})",
    );
    let mut arguments = vec!["ec2", "wait", waiter, "--instance-ids"];
    arguments.extend(ids);
    cloud.aws(&arguments);
}

fn stopped_and_started(cloud: &Testbed, id: &str, zone: &str) {
    let pid = cloud.guest_pid(id);
    let changes = cloud.aws(&["ec2", "stop-instances", "--instance-ids", id]);
    assert_eq!(state_change(&changes, "StoppingInstances"), ("running", "stopping"), "{changes}");
    waited(cloud, "instance-stopped", &[id]);
    assert!(!testbed::process::alive(pid), "the VM's process runs on after the stop");
    let vm = cloud.vm_wait(id, "stopped");
    assert_eq!(vm.stop_cause, "shut-down", "the guest was to end by ACPI: {vm:?}");

    let changes = cloud.aws(&["ec2", "start-instances", "--instance-ids", id]);
    assert_eq!(state_change(&changes, "StartingInstances"), ("stopped", "pending"), "{changes}");
    waited(cloud, "instance-running", &[id]);
    // The second boot says what the first one wrote, and does not run the user-data again.
    let kept = format!("kept since the first boot in {zone}");
    let output = cloud.console_wait(id, &kept);
    assert_eq!(output.matches("user-data: begin").count(), 1, "{output}");
    assert_eq!(output.matches(&format!("instance-id: {id}")).count(), 2, "two boots: {output}");
    assert_ne!(cloud.guest_pid(id), pid);
}

fn rebooted(cloud: &Testbed, id: &str) {
    cloud.aws(&["ec2", "reboot-instances", "--instance-ids", id]);
    let boots = format!("instance-id: {id}");
    wait("the guest has booted twice", LONG, || {
        let output = cloud.console_wait(id, &boots);
        (output.matches(&boots).count() == 2 && output.contains("kept since")).then_some(())
    });
    // A reboot is not a stop.
    cloud.state_wait(&[id], "running");
    assert_eq!(cloud.vm_wait(id, "running").restarts, 0);
}

fn terminated(cloud: &Testbed, ids: &[&str]) {
    let homes: BTreeMap<&str, String> = ids.iter().filter_map(|id| Some((*id, cloud.vm(id)?.host))).collect();
    assert_eq!(homes.len(), ids.len());
    assert_eq!(cloud.guests().len(), ids.len());
    let mut arguments = vec!["ec2", "terminate-instances", "--instance-ids"];
    arguments.extend(ids);
    let changes = cloud.aws(&arguments);
    assert_eq!(state_change(&changes, "TerminatingInstances"), ("running", "shutting-down"), "{changes}");
    waited(cloud, "instance-terminated", ids);
    assert_eq!(cloud.guests().len(), 0, "QEMU runs on after its instance was terminated");
    for (id, host) in homes {
        let directory = cloud.dir().join("hosts").join(host).join("vms").join(id);
        assert!(!directory.exists(), "{} is left of a terminated instance", directory.display());
    }
}

fn state_change<'a>(changes: &'a Value, list: &str) -> (&'a str, &'a str) {
    let change = &changes[list][0];
    let name = |state: &'a Value| state["Name"].as_str().unwrap_or_default();
    (name(&change["PreviousState"]), name(&change["CurrentState"]))
}
