//! The metadata stores are lost and restored from backups that are older than some guests: nothing that runs is
//! touched, what the backups know is managed again, and what they do not know is listed.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use testbed::{LONG, Options, Testbed, process, wait};

const RUN: &str = "
    answer = client('ec2', retries={'mode': 'standard', 'max_attempts': 10}).run_instances(
        ImageId='nephos-linux', InstanceType='t3.micro', MinCount=args['count'], MaxCount=args['count'])
    return [i['InstanceId'] for i in answer['Instances']]
";
const LIST: &str = "
    return sorted(i['InstanceId'] for r in client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
        .describe_instances()['Reservations'] for i in r['Instances'] if i['State']['Name'] == 'running')
";

fn run(cloud: &Testbed, count: u32) -> Vec<String> {
    let ids = cloud.boto3_with(json!({ "count": count }), RUN);
    let ids: Vec<String> = serde_json::from_value(ids).expect("instances have ids");
    cloud.state_wait(&ids.iter().map(String::as_str).collect::<Vec<_>>(), "running");
    ids
}

fn pids(cloud: &Testbed, ids: &[String]) -> BTreeMap<String, u32> {
    ids.iter().map(|id| (id.clone(), cloud.guest_pid(id))).collect()
}

/// Every orphan that `nephos status` lists.
fn orphans(status: &Value) -> Vec<String> {
    let each = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let cells = each(status, "zones").into_iter().flat_map(|zone| each(&zone, "cells"));
    let hosts = cells.flat_map(|cell| each(&cell, "racks")).flat_map(|rack| each(&rack, "hosts"));
    let mut orphans: Vec<String> = hosts
        .flat_map(|host| each(&host, "orphans"))
        .map(|id| id.as_str().unwrap_or_default().into())
        .collect();
    orphans.sort();
    orphans
}

#[test]
fn guests_run_on_when_older_backups_are_restored_under_them() {
    let cloud = Testbed::start(Options::guests(1));
    let path = |name: &str| cloud.dir().join(name).display().to_string();
    let known = run(&cloud, 1);
    // The region's first: a cell that knows more than its region is what they can live with.
    let cell = "cell/us-east-1a-c1";
    let stores = [
        ("region", path("region.backup"), path("region/store")),
        (cell, path("cell.backup"), path("cells/us-east-1a-c1/store")),
    ];
    for (role, backup, _) in &stores {
        let said = cloud.nephos_ok(&["store", "backup", role, "--to", backup]);
        assert!(said.contains("a whole backup") && said.contains("incarnation 1"), "{said}");
        let again = cloud.nephos(&["store", "backup", role, "--to", backup]);
        assert!(again.code == 1 && again.stderr.contains("is there already"), "{again:?}");
    }
    let nobody = cloud.nephos(&["store", "backup", "zone", "--to", &path("zone.backup")]);
    assert!(nobody.code == 1 && nobody.stderr.contains("has no metadata store"), "{nobody:?}");

    // More than half of what the host has then, so that it would hold such a document of the same incarnation.
    let unknown = run(&cloud, 3);
    let before = [pids(&cloud, &known), pids(&cloud, &unknown)];
    let busy = cloud.nephos(&["store", "restore", &stores[0].1, "--to", &stores[0].2, "--replace"]);
    assert!(busy.code == 1 && busy.stderr.contains("in use by process"), "{busy:?}");
    cloud.nephos_ok(&["kill", "control-plane"]);
    for (role, backup, store) in &stores {
        let found = cloud.nephos_json(&["store", "verify", store, "--json"]);
        let taken = cloud.nephos_json(&["store", "verify", backup, "--json"]);
        assert!(found["revision"].as_u64() > taken["revision"].as_u64(), "{role}: {found} {taken}");
        let refused = cloud.nephos(&["store", "restore", backup, "--to", store]);
        assert!(refused.code == 1 && refused.stderr.contains("--replace"), "{refused:?}");
        let said = cloud.nephos_ok(&["store", "restore", backup, "--to", store, "--replace"]);
        assert!(said.contains("incarnation 2 now") && said.contains("store.before-2"), "{said}");
        let restored = cloud.nephos_json(&["store", "verify", store, "--json"]);
        assert_eq!(
            (&restored["incarnation"], &restored["revision"]),
            (&json!(2), &taken["revision"]),
            "{role}"
        );
    }
    cloud.nephos_ok(&["start", "control-plane"]);

    let mut unknown_sorted = unknown.clone();
    unknown_sorted.sort();
    wait("what the backups do not know is listed as orphans", LONG, || {
        (orphans(&cloud.nephos_json(&["status", "--json"])) == unknown_sorted).then_some(())
    });
    let text = cloud.nephos_ok(&["status"]);
    for id in &unknown {
        assert!(text.contains(&format!("! {id} runs here and its cell does not know it")), "{text}");
    }
    assert!(!text.contains("held back"), "{text}");
    assert_eq!(cloud.boto3_with(json!({}), LIST), json!(known), "the API is as it was at the backup");
    cloud.state_wait(&[&known[0]], "running");
    cloud.console_wait(&known[0], "user space is up");
    assert_eq!(
        [pids(&cloud, &known), pids(&cloud, &unknown)],
        before,
        "every guest is the process that it was"
    );

    // What is known is managed again, and there is room for more.
    let new = run(&cloud, 2);
    let stopped = pids(&cloud, &new[..1]);
    cloud.boto3_with(
        json!({ "id": new[0] }),
        "return ec2.terminate_instances(InstanceIds=[args['id']])['ResponseMetadata']['HTTPStatusCode']",
    );
    cloud.state_wait(&[&new[0]], "terminated");
    wait("its guest is gone", LONG, || (!process::alive(stopped[&new[0]])).then_some(()));
    cloud.boto3_with(
        json!({ "id": known[0] }),
        "return ec2.terminate_instances(InstanceIds=[args['id']])['ResponseMetadata']['HTTPStatusCode']",
    );
    cloud.state_wait(&[&known[0]], "terminated");
    assert_eq!(pids(&cloud, &unknown), before[1], "orphans are nobody's to end");
    assert_eq!(orphans(&cloud.nephos_json(&["status", "--json"])), unknown_sorted);
}
