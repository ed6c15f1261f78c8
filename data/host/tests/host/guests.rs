//! Real guests under QEMU, one agent process. They need an image directory in `NEPHOS_TEST_IMAGE_DIR` (with an image
//! whose guest shuts down at the power button and prints the user data's first line), and they run as root with a
//! user a VM, or as anybody without.

use super::cell::{Cell, until};
use super::status_json;
use super::switch::{Switch, attachments};
use contract::{Phase, StopCause, Target, VmAssignment, VmInterface};
use host::qmp::QmpClient;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const VM: &str = "i-0123456789abcdef0";
const USER_DATA: &str = "#!/bin/sh\necho the user data was here\n";

struct Host {
    directory: PathBuf,
    agent: Option<Child>,
}

/// Guests outlive their agent; those of a test must not outlive it.
impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for pid in guests(&self.directory) {
            kill(pid, Signal::KILL);
        }
    }
}

fn images() -> PathBuf {
    std::env::var_os("NEPHOS_TEST_IMAGE_DIR")
        .map(PathBuf::from)
        .expect("NEPHOS_TEST_IMAGE_DIR names the directory with the images")
}

fn image() -> String {
    let entries = std::fs::read_dir(images()).unwrap();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Of several the newest: the one that has the name.
    let is_newest = |name: &str| {
        let about = std::fs::read_to_string(images().join(name).join("image.toml")).unwrap_or_default();
        about.contains("name = \"nephos-linux\"\n")
    };
    let images = names.filter(|name| name.starts_with("ami-"));
    let best = images.max_by_key(|name| (is_newest(name), name.clone()));
    best.expect("an image in NEPHOS_TEST_IMAGE_DIR")
}

impl Host {
    fn new(directory: &Path) -> Host {
        Host { directory: directory.to_owned(), agent: None }
    }

    fn agent_start(&mut self) {
        let path = self.directory.join("host.toml");
        let mut config = super::config(&self.directory);
        config.vmm = host::config::VmmChoice::Qemu;
        config.images = images();
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_host-under-test")).arg(path).spawn().unwrap();
        self.agent = Some(agent);
    }

    fn agent_signal(&mut self, signal: Signal) {
        let mut agent = self.agent.take().unwrap();
        kill(agent.id(), signal);
        agent.wait().unwrap();
    }

    fn pid(&self) -> Option<u32> {
        status_json(&self.directory)?["vms"][VM]["pid"].as_u64().map(|pid| pid as u32)
    }
}

fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The processes whose command line names the test's directory: its QEMUs.
fn guests(directory: &Path) -> Vec<u32> {
    let needle = directory.join("host/vms").display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&needle)
    })
    .collect()
}

fn with_image(assignment: &mut VmAssignment) {
    let spec = assignment.spec.as_mut().unwrap();
    spec.image_id = image();
    spec.user_data = USER_DATA.into();
}

/// A directory that every user can pass.
fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_boots_is_adopted_restarted_rebooted_stopped_and_destroyed() {
    let directory = directory();
    let mut cell = Cell::start(directory.path()).await;
    let mut host = Host::new(directory.path());
    host.agent_start();
    cell.intend(VM, Target::Running, with_image);
    cell.reaches(VM, Phase::Running).await;
    cell.console_shows(VM, "the user data was here").await;
    let pid = until("status.json names the process", &Default::default(), || host.pid()).await;
    assert_eq!(guests(directory.path()), [pid]);
    let status = status_json(directory.path()).unwrap();
    assert!(status["accelerator_reason"] != "", "{status}");
    if rustix::process::geteuid().is_root() {
        assert!(status["vms"][VM]["uid"].as_u64() >= Some(800_000), "{status}");
    } else {
        assert!(status["isolation"].as_str().unwrap().contains("single trust"), "{status}");
    }

    // kill -9 of the agent: the guest goes on, and the next agent adopts it.
    host.agent_signal(Signal::KILL);
    cell.host_lost().await;
    assert_eq!(guests(directory.path()), [pid]);
    host.agent_start();
    cell.reaches(VM, Phase::Running).await;
    assert_eq!(cell.phases(VM), [Phase::Running]);
    assert_eq!(guests(directory.path()), [pid]);

    // kill -9 of QEMU: it is started again.
    kill(pid, Signal::KILL);
    let status = cell.waits(VM, "it was started again", |s| s.restarts == 1 && s.phase() == Phase::Running);
    assert!(status.await.message.contains("its QEMU ended"));

    cell.phases_forget();
    cell.intend(VM, Target::Running, |assignment| assignment.spec.as_mut().unwrap().reboots = 1);
    let before = guests(directory.path());
    until("the reboot has made another process", &Default::default(), || {
        let now = guests(directory.path());
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    cell.reaches(VM, Phase::Running).await;
    assert_eq!(cell.phases(VM), [Phase::Running], "a reboot is not seen as a stop");

    cell.intend(VM, Target::Stopped, |_| {});
    let stopped = cell.reaches(VM, Phase::Stopped).await;
    assert_eq!(stopped.stop_cause(), StopCause::ShutDown, "{}", stopped.message);
    assert!(guests(directory.path()).is_empty());
    cell.console_shows(VM, "the user data was here").await;

    cell.intend(VM, Target::Destroyed, |_| {});
    cell.reaches(VM, Phase::Destroyed).await;
    assert!(!directory.path().join("host/vms").join(VM).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_down_takes_its_guests_down_and_starts_them_again_without_a_cell() {
    let directory = directory();
    let mut cell = Cell::start(directory.path()).await;
    let mut host = Host::new(directory.path());
    host.agent_start();
    cell.intend(VM, Target::Running, with_image);
    cell.reaches(VM, Phase::Running).await;
    cell.console_shows(VM, "the user data was here").await;
    cell.phases_forget();
    host.agent_signal(Signal::POWER);
    assert!(guests(directory.path()).is_empty());
    assert!(!cell.phases(VM).contains(&Phase::Stopped));
    std::fs::write(directory.path().join("cell"), "127.0.0.1:1").unwrap();
    host.agent_start();
    until("the guest runs again", &Default::default(), || {
        (guests(directory.path()).len() == 1).then_some(())
    })
    .await;
    host.agent_signal(Signal::TERM);
    assert_eq!(guests(directory.path()).len(), 1, "SIGTERM leaves the guests running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_switches_itself_off_unseen_is_told_from_one_that_died() {
    let directory = directory();
    let mut cell = Cell::start(directory.path()).await;
    let mut host = Host::new(directory.path());
    host.agent_start();
    cell.intend(VM, Target::Running, |assignment| {
        with_image(assignment);
        assignment.spec.as_mut().unwrap().user_data = b"#!/bin/sh\necho SELFOFF\nsleep 2\npoweroff\n".into();
    });
    cell.reaches(VM, Phase::Running).await;
    cell.console_shows(VM, "SELFOFF").await;
    host.agent_signal(Signal::KILL);
    cell.host_lost().await;
    let socket = directory.path().join("host/vms").join(VM).join("machine/qmp.sock");
    let off = async {
        loop {
            let mut qmp = QmpClient::connect(&socket).await.unwrap();
            let status = qmp.execute("query-status", serde_json::json!({})).await.unwrap();
            if status["status"] == "shutdown" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), off).await.unwrap();
    host.agent_start();
    assert_eq!(cell.reaches(VM, Phase::Stopped).await.stop_cause(), StopCause::Guest);
    assert!(guests(directory.path()).is_empty());
}

fn cards_set(assignment: &mut VmAssignment, indexes: &[u32]) {
    let interface = |index: &u32| VmInterface {
        interface_id: format!("eni-{index:017x}"),
        mac: vec![2, 0, 0, 0, 0, *index as u8],
        device_index: *index,
        mtu: 0,
    };
    assignment.spec.as_mut().unwrap().interfaces = indexes.iter().map(interface).collect();
}

/// Where there is a memory controller, the guest's memory is on its account although the switch could map it.
fn shared_memory_counts() {
    let group = Path::new("/sys/fs/cgroup/memory/nephos").join(VM);
    let Ok(text) = std::fs::read_to_string(group.join("memory.stat")) else {
        eprintln!("not checked: no memory controller has a group {}", group.display());
        return;
    };
    let shared = text.lines().find_map(|line| line.strip_prefix("shmem ")?.parse::<u64>().ok());
    assert!(shared > Some(32 << 20), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_waits_for_the_switch_and_has_the_cards_that_its_assignment_names() {
    const CARDS: &[u8] =
        b"#!/bin/sh\nwhile :; do echo \"cards: $(ls /sys/class/net | tr '\\n' ' ')\"; sleep 1; done\n";
    let directory = directory();
    let vnet = directory.path().join("host/vnet");
    let mut cell = Cell::start(directory.path()).await;
    let mut host = Host::new(directory.path());
    host.agent_start();
    cell.intend(VM, Target::Running, |assignment| {
        with_image(assignment);
        cards_set(assignment, &[0]);
        assignment.spec.as_mut().unwrap().user_data = CARDS.into();
    });
    let waits =
        |status: &contract::VmStatus| status.message.contains("the host's switch does not serve eni-");
    let status = cell.waits(VM, "it says what it waits for", waits).await;
    assert_eq!((status.phase(), status.restarts), (Phase::Starting, 0));
    assert!(guests(directory.path()).is_empty());
    // It can be stopped while it waits, and waits again.
    cell.intend(VM, Target::Stopped, |_| {});
    assert_eq!(cell.reaches(VM, Phase::Stopped).await.stop_cause(), StopCause::PoweredOff);
    cell.intend(VM, Target::Running, |assignment| assignment.attempt = 2);
    cell.waits(VM, "it says what it waits for", waits).await;
    let attached = attachments(&vnet);
    assert_eq!((attached.len(), attached[0].instance_id.as_str(), attached[0].queue_pairs), (1, VM, 1));

    let switch = Switch::start(vnet.clone());
    assert_eq!(cell.reaches(VM, Phase::Running).await.message, "");
    cell.console_shows(VM, "cards: eth0 lo").await;
    assert_eq!(switch.connected(), ["eni-00000000000000000"]);
    shared_memory_counts();

    // A card more, and not any more; under another agent, and while the switch is another one.
    drop(switch);
    host.agent_signal(Signal::KILL);
    cell.host_lost().await;
    cell.intend(VM, Target::Running, |assignment| cards_set(assignment, &[0, 2]));
    host.agent_start();
    cell.waits(VM, "it waits for the second card", waits).await;
    let switch = Switch::start(vnet.clone());
    cell.console_shows(VM, "cards: eth0 eth1 lo").await;
    assert_eq!(cell.waits(VM, "nothing is missing", |status| status.message.is_empty()).await.restarts, 0);
    cell.intend(VM, Target::Running, |assignment| cards_set(assignment, &[0]));
    until("the second card is gone", &Default::default(), || (attachments(&vnet).len() == 1).then_some(()))
        .await;
    cell.waits(VM, "nothing is missing", |status| status.message.is_empty()).await;
    assert_eq!(switch.connected(), ["eni-00000000000000000"]);

    // Attachments go with the VM, not with its process.
    cell.intend(VM, Target::Stopped, |_| {});
    let stopped = cell.reaches(VM, Phase::Stopped).await;
    assert_eq!(stopped.stop_cause(), StopCause::ShutDown, "{}", stopped.message);
    assert_eq!(attachments(&vnet).len(), 1);
    cell.intend(VM, Target::Destroyed, |_| {});
    cell.reaches(VM, Phase::Destroyed).await;
    assert!(attachments(&vnet).is_empty());
}
