//! A cloud's stores move from engine to engine under its instances: none of them notices, the hosts take the new
//! control plane for the newer one, and a move that is cut off changes nothing.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Output;
use testbed::{Etcd, LONG, Options, Said, Testbed, wait};

const LAUNCH: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
    answer = patient.run_instances(ImageId='nephos-linux', InstanceType='t3.nano', MinCount=args['count'],
                                   MaxCount=args['count'])
    return [i['InstanceId'] for i in answer['Instances']]
";
const TERMINATE: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
    return patient.terminate_instances(InstanceIds=args['ids'])['ResponseMetadata']['HTTPStatusCode']
";
const RUNNING: &str = "
    patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
    return sorted(i['InstanceId'] for r in patient.describe_instances()['Reservations'] for i in r['Instances']
                  if i['State']['Name'] == 'running')
";

fn launch(cloud: &Testbed, count: u32) -> Vec<String> {
    let ids: Vec<String> = serde_json::from_value(cloud.boto3_with(json!({ "count": count }), LAUNCH))
        .expect("instances have ids");
    cloud.state_wait(&ids.iter().map(String::as_str).collect::<Vec<_>>(), "running");
    ids
}

/// Where each VM is, and how often it was started again.
fn placed(cloud: &Testbed) -> BTreeMap<String, (String, String, u64)> {
    cloud.vms().into_iter().map(|(id, vm)| (id, (vm.host, vm.phase, vm.restarts))).collect()
}

/// The processes that a move leaves alone.
fn untouched(cloud: &Testbed) -> BTreeMap<String, u32> {
    let mut roles = cloud.roles();
    roles.retain(|role, _| role.starts_with("host-") || role.starts_with("zone-"));
    roles
}

/// The processes that it ends.
fn control_plane(cloud: &Testbed) -> BTreeMap<String, u32> {
    let mut roles = cloud.roles();
    roles.retain(|role, _| !role.starts_with("host-") && !role.starts_with("zone-"));
    roles
}

/// What was there when the story began.
struct Story {
    cloud: Testbed,
    instances: Vec<String>,
    placed: BTreeMap<String, (String, String, u64)>,
    untouched: BTreeMap<String, u32>,
}

impl Story {
    fn begin(options: Options) -> Story {
        let cloud = Testbed::start(options);
        let mut instances = launch(&cloud, 3);
        instances.sort();
        instances.iter().for_each(|id| drop(cloud.vm_wait(id, "running")));
        let (placed, untouched) = (placed(&cloud), untouched(&cloud));
        assert_eq!((placed.len(), untouched.len()), (3, cloud.hosts().len() + 1));
        Story { cloud, instances, placed, untouched }
    }

    /// Starts the cloud with the store that it is to have now; it goes on as if nothing had been.
    fn goes_on(&mut self, standby: bool, store: Option<&str>) {
        self.cloud.options_mut().standby = standby;
        self.cloud.options_mut().store = store.map(str::to_owned);
        self.cloud.up();
        self.as_before();
        let cloud = &self.cloud;
        let new = launch(cloud, 1);
        cloud.vm_wait(&new[0], "running");
        cloud.boto3_with(json!({ "ids": new }), TERMINATE);
        cloud.state_wait(&[&new[0]], "terminated");
        wait("its VM is gone", LONG, || cloud.vm(&new[0]).is_none().then_some(()));
        self.as_before();
        for host in cloud.hosts() {
            // One that nothing was launched on may still be about to dial.
            let status = wait("every host has taken the new leader", LONG, || {
                Some(cloud.host_status(&host)).filter(|status| status["cell_connected"] == true)
            });
            assert_eq!(status["orphans"], json!([]), "{status}");
            assert!(status["document_held"].as_str().unwrap_or_default().is_empty(), "{status}");
        }
    }

    /// The same instances run where they ran, none was restarted, and no host or zone either.
    fn as_before(&self) {
        assert_eq!(self.cloud.boto3(RUNNING), json!(self.instances));
        wait("each is where it was", LONG, || (placed(&self.cloud) == self.placed).then_some(()));
        assert_eq!(untouched(&self.cloud), self.untouched);
    }

    fn migrate(&self, to: &str) -> String {
        let said = self.cloud.nephos_ok(&["store", "migrate", "--to", to]);
        assert!(said.contains("keys") && said.contains("`nephos up` starts it"), "{said}");
        said
    }

    /// Refused before anything was done.
    fn refused(&self, to: &str, why: &str) {
        let before = control_plane(&self.cloud);
        let Said { code, stderr, .. } = self.cloud.nephos(&["store", "migrate", "--to", to]);
        assert!(code == 1 && stderr.contains(why), "{stderr}");
        assert_eq!(control_plane(&self.cloud), before, "nothing was stopped");
        self.as_before();
    }

    /// Begins to migrate, and sends the signal once the condition holds, unless it is done before that.
    fn cut_off(&self, to: &str, by: Signal, condition: impl Fn() -> bool) -> Output {
        let mut child = self.cloud.nephos_begin(&["store", "migrate", "--to", to]);
        let began = std::time::Instant::now();
        while !condition() && child.try_wait().expect("a child can be waited for").is_none() {
            assert!(began.elapsed() < LONG, "neither the condition nor the end has come");
            std::thread::yield_now();
        }
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, by);
        }
        child.wait_with_output().expect("a child can be waited for")
    }

    fn roles_of(&self, role: &str) -> usize {
        self.cloud.roles().keys().filter(|name| name.starts_with(role)).count()
    }
}

#[test]
fn a_clouds_stores_move_from_engine_to_engine_under_its_instances() {
    let etcd = Etcd::start();
    let url = etcd.url("a-cloud");
    let mut options = Options::simulated(1);
    options.hosts_per_zone = 2;
    let mut story = Story::begin(options);

    // What will not do is found out before anything is stopped.
    etcd.ctl(&["put", "taken/region/us-east-1/key", "value"]);
    story.refused(&etcd.url("taken"), "not empty: it has the key key");
    story.refused("embedded", "has its store there already");
    story.refused("etc://127.0.0.1", "does not begin with etcd://");
    story.refused("etcd://127.0.0.1:1/nobody", "cannot be reached");

    let said = story.migrate("shared");
    assert!(said.contains("incarnation 2") && said.contains("region/store.before-2"), "{said}");
    let said = story.cloud.up_try(&["--store", &url]);
    assert!(said.code == 1 && said.stderr.contains("nephos store migrate"), "{said:?}");
    story.goes_on(true, None);
    assert_eq!((story.roles_of("region-"), story.roles_of("store-")), (2, 1));

    // Told to stop as soon as it has ended the supervisor: the cloud is what it was.
    let output = story.cut_off(&url, Signal::INT, || story.cloud.pid("supervisor").is_none());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && stderr.contains("The cloud is as it was"), "{stderr}");
    story.goes_on(true, None);
    // Killed when nobody leads any more; and done again from there.
    let output = story.cut_off(&url, Signal::KILL, || story.roles_of("region-") == 0);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = story.migrate(&url);
    assert!(said.contains("incarnation 3") && said.contains("store/store.before-3"), "{said}");
    story.goes_on(false, Some(&url));
    assert_eq!((story.roles_of("region-"), story.roles_of("store-")), (2, 0));
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "a-cloud/"]);
    assert!(keys.contains("a-cloud/region/us-east-1/") && !keys.contains("unfinished"), "{keys}");

    story.refused(&etcd.url("a-cloud/region/us-east-1"), "would lie among those of the present one");

    // Killed while it makes the new stores, unless it was quicker.
    let made = story.cloud.dir().join("cells/us-east-1a-c1/store.migrating");
    let output = story.cut_off("embedded", Signal::KILL, || made.exists());
    if !output.status.success() {
        let said = story.migrate("embedded");
        assert!(said.contains("incarnation 4") && said.contains("stays in etcd at"), "{said}");
    }
    story.goes_on(false, None);
    assert!(story.roles_of("region-") == 1 && !made.exists());

    // Of a cloud that is down; its instances start with it.
    story.cloud.nephos_ok(&["down"]);
    story.migrate("shared");
    story.cloud.options_mut().standby = true;
    story.cloud.up();
    story.cloud.state_wait(&story.instances.iter().map(String::as_str).collect::<Vec<_>>(), "running");
    assert_eq!(story.cloud.boto3(RUNNING), json!(story.instances));
}

#[test]
fn hosts_take_what_an_etcd_says_that_was_restored() {
    let mut etcd = Etcd::start();
    let url = etcd.url("a-cloud");
    let mut options = Options::simulated(1);
    options.store = Some(url.clone());
    let mut story = Story::begin(options);
    let snapshot = etcd.snapshot();
    let cloud = &story.cloud;
    let forgotten = launch(cloud, 1);
    let host = cloud.vm_wait(&forgotten[0], "running").host;
    let refused = cloud.nephos(&["store", "incarnation"]);
    assert!(refused.code == 1 && refused.stderr.contains("region/us-east-1/1"), "{refused:?}");
    assert!(refused.stderr.contains("nephos kill control-plane"), "{refused:?}");
    for role in ["region", "cell"] {
        cloud.nephos_ok(&["kill", role]);
    }
    // Twice from one snapshot: what the first restore has said is old as well.
    for incarnation in [2, 3] {
        etcd.restore(&snapshot);
        let refused = cloud.nephos(&["store", "incarnation", "--above", "524287"]);
        assert!(refused.code == 1 && refused.stderr.contains("too high"), "{refused:?}");
        let said = cloud.nephos_ok(&["store", "incarnation"]);
        for owner in ["region/us-east-1", "cell/us-east-1a-c1"] {
            assert!(said.contains(&format!("{owner}: incarnation {incarnation}, was 1")), "{said}");
        }
    }
    cloud.nephos_ok(&["start", "control-plane"]);
    wait("what the snapshot does not know is an orphan", LONG, || {
        (cloud.host_status(&host)["orphans"] == json!(forgotten)).then_some(())
    });
    assert_eq!(cloud.boto3(RUNNING), json!(story.instances));
    let new = launch(cloud, 1);
    cloud.boto3_with(json!({ "ids": [new[0], story.instances[0]] }), TERMINATE);
    cloud.state_wait(&[&new[0], &story.instances[0]], "terminated");
    story.placed.remove(&story.instances.remove(0));
    let orphan = cloud.vm(&forgotten[0]).expect("nothing ends an orphan");
    story.placed.insert(forgotten[0].clone(), (orphan.host, orphan.phase, orphan.restarts));
    story.as_before();
    let embedded = cloud.nephos(&["store", "migrate", "--to", "embedded"]);
    assert!(embedded.code == 0 && embedded.stdout.contains("incarnation 4"), "{embedded:?}");
    let said = cloud.nephos(&["store", "incarnation"]);
    assert!(said.code == 1 && said.stderr.contains("`nephos store restore` raises"), "{said:?}");
}
