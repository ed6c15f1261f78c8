//! All of it without root.

use serde_json::json;
use testbed::{Options, Testbed, process};

/// `nobody` on Debian; any that is not root would do.
const USER: u32 = 65_534;

#[test]
fn a_guest_boots_without_root() {
    let mut options = Options::guests(1);
    if rustix::process::geteuid().is_root() {
        options.user = Some(USER);
    }
    let cloud = Testbed::start(options);
    let id = cloud.boto3(
        "return ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=1, MaxCount=1,
                                  UserData='#!/bin/sh\\necho nobody said hello\\n')['Instances'][0]['InstanceId']",
    );
    let id = id.as_str().expect("an instance has an id");
    cloud.console_wait(id, "nobody said hello");
    let vm = cloud.vm_wait(id, "running");
    assert_eq!(vm.uid, None, "without root no guest has a user of its own");
    let pid = cloud.guest_pid(id);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    assert!(uids.split_ascii_whitespace().all(|uid| uid != "0"), "QEMU runs as root: {uids}");
    let said = cloud.nephos_ok(&["status"]);
    assert!(said.contains("single trust") && said.contains("all guests share"), "{said}");
    cloud.boto3_with(json!({ "id": id }), "ec2.terminate_instances(InstanceIds=[args['id']])");
    cloud.state_wait(&[id], "terminated");
    assert!(!process::alive(pid));
}

/// With root each guest has a user of its own.
#[test]
fn with_root_guests_do_not_share_a_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cloud = Testbed::start(Options::guests(1));
    let ids = cloud.boto3(
        "return [i['InstanceId'] for i in ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro',
                                                            MinCount=2, MaxCount=2)['Instances']]",
    );
    let ids = ids.as_array().expect("a list").iter().filter_map(|id| id.as_str());
    let uids: Vec<_> = ids.map(|id| cloud.vm_wait(id, "running").uid.expect("a user")).collect();
    assert_eq!(uids.len(), 2);
    assert_ne!(uids[0], uids[1]);
    assert!(uids.iter().all(|uid| *uid >= 800_000), "{uids:?}");
    assert!(cloud.nephos_ok(&["status"]).contains("each guest has a user of its own"));
}
