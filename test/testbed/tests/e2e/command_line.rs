//! The operator's command line: what it prints, and exit codes that scripts can trust.

use serde_json::{Value, json};
use std::net::TcpListener;
use testbed::{Keys, LONG, Options, Testbed, process, wait};

#[test]
fn the_command_line_says_what_is_and_what_to_do() {
    let mut options = Options::simulated(1);
    options.hosts_per_zone = 3;
    let mut cloud = Testbed::prepare(options);
    before_the_first_up(&cloud);
    a_taken_port_is_said(&cloud);
    cloud.up();
    a_wrong_command_line_is_said(&cloud);
    a_second_up_changes_nothing(&cloud);
    processes_are_killed_and_started(&cloud);
    an_instance_is_explained(&cloud);
    an_account_is_made(&cloud);
    after_the_last_down(&cloud);
}

fn before_the_first_up(cloud: &Testbed) {
    for command in [&["status"][..], &["env"], &["down"], &["kill", "region"], &["start", "region"]] {
        let said = cloud.nephos(command);
        assert_eq!(said.code, 3, "{command:?}: {said:?}");
        assert!(said.stderr.contains("nephos up"), "it says what to do: {said:?}");
    }
}

fn a_taken_port_is_said(cloud: &Testbed) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it has a port").port().to_string();
    let said = cloud.up_try(&["--port", &port]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains(&format!("port {port} is taken")), "{said:?}");
    assert!(said.stderr.contains("--port"), "it says what to do: {said:?}");
    assert!(cloud.roles().is_empty(), "it left processes");
    drop(taken);
}

fn a_wrong_command_line_is_said(cloud: &Testbed) {
    for wrong in [&["up", "--colour"][..], &["dance"], &["kill"], &["up", "--zones", "0"], &[]] {
        let said = cloud.nephos(wrong);
        assert_eq!(said.code, 2, "{wrong:?}: {said:?}");
        assert!(said.stderr.contains("--help"), "{said:?}");
    }
    let said = cloud.nephos(&["kill", "host/nobody"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("host/us-east-1a-c1-h2"), "it names what there is: {said:?}");
    for command in ["up", "down", "status", "env", "kill", "start", "account", "explain"] {
        assert!(cloud.nephos_ok(&[command, "--help"]).contains("Usage"), "{command}");
    }
}

fn a_second_up_changes_nothing(cloud: &Testbed) {
    let (roles, supervisor) = (cloud.roles(), cloud.pid("supervisor"));
    assert_eq!(roles.len(), 6, "region, zone, cell and three hosts: {roles:?}");
    let said = cloud.up_try(&[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("is up already"), "{said:?}");
    let said = cloud.up_try(&["--small"]);
    assert_ne!(said.code, 0, "a cloud of another shape: {said:?}");
    assert_eq!((cloud.roles(), cloud.pid("supervisor")), (roles, supervisor));
}

fn processes_are_killed_and_started(cloud: &Testbed) {
    let region = cloud.pid("region/us-east-1").expect("the region runs");
    let said = cloud.nephos_ok(&["kill", "region"]);
    assert!(said.contains(&format!("region/us-east-1 killed (pid {region})")), "{said}");
    assert!(!process::alive(region));
    let status = cloud.nephos_json(&["status", "--json"]);
    assert_eq!(status["process"]["state"], "killed", "{status}");
    assert!(status["region_silent"].is_string(), "{status}");
    cloud.nephos_ok(&["kill", "control-plane"]);
    let status = cloud.nephos_json(&["status", "--json"]);
    let cell = &status["zones"][0]["cells"][0];
    assert_eq!(cell["process"]["state"], "killed", "{status}");
    let hosts = cell["racks"].as_array().expect("racks").iter().flat_map(|rack| rack["hosts"].as_array());
    let hosts: Vec<&Value> = hosts.flatten().collect();
    assert_eq!(hosts.len(), 3);
    assert!(hosts.iter().all(|host| host["process"]["state"] == "running"), "{status}");
    assert!(cloud.nephos_ok(&["status"]).contains("killed"));
    cloud.nephos_ok(&["start", "control-plane"]);
    assert_ne!(cloud.pid("region/us-east-1"), None);
    wait("the region answers the operator again", LONG, || {
        let status = cloud.nephos_json(&["status", "--json"]);
        (status["region_silent"].is_null()
            && status["zones"][0]["cells"][0]["capacity"]["hosts_healthy"] == 3)
            .then_some(())
    });
}

fn an_instance_is_explained(cloud: &Testbed) {
    let id = cloud.boto3(
        "return ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=1, MaxCount=1)\
         ['Instances'][0]['InstanceId']",
    );
    let id = id.as_str().expect("an instance has an id");
    cloud.state_wait(&[id], "running");
    let why = cloud.nephos_json(&["explain", "--json", id]);
    let host = cloud.vm_wait(id, "running").host;
    assert_eq!(why["host"], json!(host), "{why}");
    let verdicts = why["hosts"].as_array().expect("hosts");
    assert_eq!(verdicts.len(), 3, "{why}");
    for verdict in verdicts {
        assert_eq!(verdict["chosen"] == true, verdict["host"] == json!(host), "{why}");
        assert!(verdict["verdict"].as_str().is_some_and(|text| !text.is_empty()), "{why}");
    }
    assert!(cloud.nephos_ok(&["explain", id]).contains(&host));
    let said = cloud.nephos(&["explain", "i-0123456789abcdef0"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("i-0123456789abcdef0"), "{said:?}");
    let status = cloud.nephos_ok(&["status"]);
    assert!(status.contains(id), "{status}");
}

fn an_account_is_made(cloud: &Testbed) {
    let made = cloud.nephos_json(&["account", "create", "team-a"]);
    let text = |name: &str| made[name].as_str().expect("a string").to_owned();
    let keys = Keys { access_key_id: text("access_key_id"), secret_access_key: text("secret_access_key") };
    let said = cloud.aws_try(&["sts", "get-caller-identity"], Some(&keys));
    assert_eq!(said.code, 0, "{said:?}");
    let identity: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(identity["Account"], made["account_id"], "{identity}");
    assert_ne!(cloud.aws(&["sts", "get-caller-identity"])["Account"], made["account_id"]);
    // What others have is not there for it.
    let said = cloud.aws_try(&["ec2", "describe-instances"], Some(&keys));
    let instances: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(instances["Reservations"], json!([]));
}

fn after_the_last_down(cloud: &Testbed) {
    cloud.nephos_ok(&["down"]);
    assert!(cloud.roles().is_empty());
    let said = cloud.nephos(&["down"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("down already"), "{said:?}");
    let status = cloud.nephos_json(&["status", "--json"]);
    assert_eq!(status["up"], false);
    let said = cloud.nephos(&["start", "region"]);
    assert_eq!(said.code, 3, "{said:?}");
}
