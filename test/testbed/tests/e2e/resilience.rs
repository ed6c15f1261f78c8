//! Guests do not depend on what manages them: every process of the cloud is killed in turn, and they run on.

use serde_json::json;
use std::collections::BTreeMap;
use testbed::{LONG, Options, Testbed, process, wait};

const RUN: &str = "
    answer = ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=1, MaxCount=1,
                               **args)
    return answer['Instances'][0]['InstanceId']
";

fn run(cloud: &Testbed, arguments: serde_json::Value) -> String {
    let id = cloud.boto3_with(arguments, RUN);
    id.as_str().expect("an instance has an id").to_owned()
}

fn booted(cloud: &Testbed, id: &str) {
    cloud.state_wait(&[id], "running");
    cloud.console_wait(id, "user space is up");
}

#[test]
fn guests_run_on_whatever_is_killed_around_them() {
    let mut options = Options::guests(1);
    options.hosts_per_zone = 2;
    let mut cloud = Testbed::start(options);
    let one = run(&cloud, json!({}));
    let two = run(&cloud, json!({}));
    booted(&cloud, &one);
    booted(&cloud, &two);
    let hosts = [cloud.vm_wait(&one, "running").host, cloud.vm_wait(&two, "running").host];
    let guests = Guests { ids: [one, two], hosts };
    guests.outlive_their_agent(&cloud);
    guests.outlive_the_supervisor(&mut cloud);
    guests.outlive_the_control_plane_and_reboot_without_it(&cloud);
    guests.come_back_when_their_qemu_dies(&cloud);
    guests.come_back_with_the_cloud(&mut cloud);
}

struct Guests {
    ids: [String; 2],
    /// Each one's.
    hosts: [String; 2],
}

impl Guests {
    fn pids(&self, cloud: &Testbed) -> [u32; 2] {
        [0, 1].map(|index| cloud.guest_pid(&self.ids[index]))
    }

    fn label(&self, index: usize) -> String {
        format!("host/{}", self.hosts[index])
    }

    /// Waits until the whole cloud works again, down to each host's word on its guest.
    fn answer(&self, cloud: &Testbed) {
        wait("all hosts have their cell again", LONG, || {
            let connected = |host: &String| cloud.host_status(host)["cell_connected"] == true;
            self.hosts.iter().all(connected).then_some(())
        });
        let script = "
            patient = client('ec2', retries={'mode': 'standard', 'max_attempts': 10})
            return patient.get_console_output(InstanceId=args['id'])['InstanceId']";
        for id in &self.ids {
            assert_eq!(cloud.boto3_with(json!({ "id": id }), script), **id);
            cloud.state_wait(&[id], "running");
        }
    }

    fn outlive_their_agent(&self, cloud: &Testbed) {
        let pids = self.pids(cloud);
        let agent = cloud.pid(&self.label(0)).expect("the agent runs");
        cloud.nephos_ok(&["kill", &self.label(0)]);
        assert!(!process::alive(agent));
        assert!(process::alive(pids[0]), "the guest died with its agent");
        cloud.nephos_ok(&["start", &self.label(0)]);
        wait("the new agent has adopted the guest", LONG, || {
            let status = cloud.host_status(&self.hosts[0]);
            let new = status["agent_pid"].as_u64() != Some(u64::from(agent));
            (new && status["vms"][&self.ids[0]]["pid"] == pids[0]).then_some(())
        });
        self.answer(cloud);
        assert_eq!(self.pids(cloud), pids);
        assert_eq!(cloud.vm_wait(&self.ids[0], "running").restarts, 0);
    }

    fn outlive_the_supervisor(&self, cloud: &mut Testbed) {
        let (pids, roles) = (self.pids(cloud), cloud.roles());
        let supervisor = cloud.pid("supervisor").expect("the supervisor runs");
        process::kill(supervisor);
        wait("the supervisor is dead", LONG, || (!process::alive(supervisor)).then_some(()));
        // Nobody is there to start a role again, so these are the same processes, and they work.
        self.answer(cloud);
        assert_eq!(cloud.roles(), roles);
        assert_eq!(cloud.nephos_json(&["status", "--json"])["up"], false);
        cloud.up();
        assert_eq!(cloud.nephos_json(&["status", "--json"])["up"], true);
        self.answer(cloud);
        assert_eq!(cloud.roles(), roles, "`up` was to adopt the roles");
        assert_eq!(self.pids(cloud), pids);
    }

    fn outlive_the_control_plane_and_reboot_without_it(&self, cloud: &Testbed) {
        let pids = self.pids(cloud);
        cloud.nephos_ok(&["kill", "control-plane"]);
        assert!(cloud.roles().keys().all(|role| role.starts_with("host-")), "{:?}", cloud.roles());
        assert_eq!(self.pids(cloud), pids);

        // The machine of the first host loses power: agent and guest are gone at once, nobody is told.
        cloud.nephos_ok(&["kill", &self.label(0)]);
        process::kill(pids[0]);
        wait("the guest is dead", LONG, || (!process::alive(pids[0])).then_some(()));
        cloud.nephos_ok(&["start", &self.label(0)]);
        let rebooted = wait("the guest runs again, from its host's ledger", LONG, || {
            let vm = cloud.vm(&self.ids[0]).filter(|vm| vm.phase == "running")?;
            vm.pid.filter(|pid| *pid != pids[0] && process::alive(*pid))
        });
        let console = cloud.dir().join("hosts").join(&self.hosts[0]).join("vms").join(&self.ids[0]);
        wait("and boots", LONG, || {
            let output = std::fs::read(console.join("console.log")).unwrap_or_default();
            (String::from_utf8_lossy(&output).matches("user space is up").count() == 2).then_some(())
        });
        assert!(cloud.roles().keys().all(|role| role.starts_with("host-")), "{:?}", cloud.roles());

        cloud.nephos_ok(&["start", "control-plane"]);
        self.answer(cloud);
        assert_eq!(
            self.pids(cloud),
            [rebooted, pids[1]],
            "a guest was restarted by the returned control plane"
        );
    }

    fn come_back_when_their_qemu_dies(&self, cloud: &Testbed) {
        let pids = self.pids(cloud);
        process::kill(pids[0]);
        let vm = wait("the guest is started again", LONG, || {
            let vm = cloud.vm(&self.ids[0]).filter(|vm| vm.phase == "running" && vm.restarts == 1)?;
            vm.pid.is_some_and(|pid| pid != pids[0] && process::alive(pid)).then_some(vm)
        });
        assert!(vm.message.contains("signal: 9"), "the status gives the reason: {vm:?}");
        let status = cloud.nephos_ok(&["status"]);
        assert!(status.contains(&vm.message), "{status}");
        self.answer(cloud);
        assert_eq!(self.pids(cloud)[1], pids[1]);
    }

    fn come_back_with_the_cloud(&self, cloud: &mut Testbed) {
        // One that its owner stopped stays stopped.
        cloud.console_wait(&self.ids[1], "user space is up");
        let id = &self.ids[1];
        cloud.boto3_with(json!({ "id": id }), "ec2.stop_instances(InstanceIds=[args['id']])");
        cloud.state_wait(&[id], "stopped");
        let before = cloud.guest_pid(&self.ids[0]);
        cloud.nephos_ok(&["down"]);
        assert!(cloud.guests().is_empty(), "guests run on after `down`");
        assert_eq!(cloud.roles(), BTreeMap::new());
        cloud.up();
        let after = wait("what ran runs again", LONG, || {
            let vm = cloud.vm(&self.ids[0]).filter(|vm| vm.phase == "running")?;
            vm.pid.filter(|pid| *pid != before && process::alive(*pid))
        });
        cloud.state_wait(&[&self.ids[0]], "running");
        cloud.state_wait(&[id], "stopped");
        assert_eq!(cloud.guests().into_iter().collect::<Vec<_>>(), [after]);
    }
}

#[test]
fn a_guest_that_powers_itself_off_stops_or_is_terminated() {
    let cloud = Testbed::start(Options::guests(1));
    let script = "#!/bin/sh\npoweroff\n";
    let stops = run(&cloud, json!({ "UserData": script }));
    let ends = run(&cloud, json!({ "UserData": script, "InstanceInitiatedShutdownBehavior": "terminate" }));
    cloud.state_wait(&[&stops], "stopped");
    cloud.state_wait(&[&ends], "terminated");
    let reason = "
        for r in ec2.describe_instances(InstanceIds=[args['id']])['Reservations']:
            return r['Instances'][0]['StateReason']['Code']";
    for id in [&stops, &ends] {
        let code = cloud.boto3_with(json!({ "id": id }), reason);
        assert_eq!(code, "Client.InstanceInitiatedShutdown");
    }
    assert_eq!(cloud.vm_wait(&stops, "stopped").stop_cause, "guest");
    wait("nothing is left of the other", LONG, || cloud.vm(&ends).is_none().then_some(()));
    assert!(cloud.guests().is_empty());
    // The agent does not start it again for what it was told before, after its own restart either.
    let host = format!("host/{}", cloud.vm_wait(&stops, "stopped").host);
    let agent = cloud.pid(&host);
    cloud.nephos_ok(&["kill", &host]);
    cloud.nephos_ok(&["start", &host]);
    wait("the new agent has surveyed its VMs", LONG, || {
        let status = cloud.host_status(host.trim_start_matches("host/"));
        let new = status["agent_pid"].as_u64() != agent.map(u64::from);
        (new && status["cell_connected"] == true && status["vms"][&stops]["phase"] == "stopped").then_some(())
    });
    // Its owner may.
    cloud.boto3_with(json!({ "id": stops }), "ec2.start_instances(InstanceIds=[args['id']])");
    booted(&cloud, &stops);
}
