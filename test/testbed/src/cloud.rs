//! One cloud under test: started, asked, hurt, and always taken away.
//!
//! Its directory lies in the system's temporary one and lets other users pass, because each guest's QEMU has a user
//! of its own there. Clouds with real guests take turns: guests are slow together on a small machine.

use crate::clients::{self, Outcome, Refusal, isolated};
use crate::wait::{LONG, wait};
use crate::{environment, process};
use base::step::LaunchStep;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Held by the cloud whose guests are real.
static GUESTS: Mutex<()> = Mutex::new(());

/// How much of each log a failed test shows.
const LOG_LINES_SHOWN: usize = 25;

/// What kind of cloud.
#[derive(Clone, Debug)]
pub struct Options {
    /// Availability zones.
    pub zones: u8,
    /// Hosts in each.
    pub hosts_per_zone: u8,
    /// vCPUs of each host.
    pub vcpus_per_host: u32,
    /// Memory of each host, in GiB.
    pub memory_per_host: u32,
    /// Real guests, or none at all.
    pub guests: bool,
    /// vCPUs that an account may use.
    pub vcpus_per_account: u32,
    /// Seconds that a guest has to shut down.
    pub shutdown_timeout_s: u64,
    /// Two processes of the region and of each cell, over a store of their own.
    pub standby: bool,
    /// The same over etcd, by its URL.
    pub store: Option<String>,
    /// Kill the process that reaches this step of a launch, once.
    pub crash_at: Option<LaunchStep>,
    /// The user and group id that the cloud runs as; the test's own if there is none. Takes root.
    pub user: Option<u32>,
    /// The records of networks are kept.
    pub networks: bool,
}

impl Options {
    /// Real guests, in so many zones with one host each.
    pub fn guests(zones: u8) -> Options {
        Options { guests: true, ..Options::simulated(zones) }
    }

    /// No guests: for all that needs none.
    pub fn simulated(zones: u8) -> Options {
        Options {
            zones,
            hosts_per_zone: 1,
            vcpus_per_host: 8,
            memory_per_host: 16,
            guests: false,
            vcpus_per_account: 256,
            shutdown_timeout_s: 60,
            standby: false,
            store: None,
            crash_at: None,
            user: None,
            networks: false,
        }
    }
}

/// An account's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `AKIA...`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A VM by its host's word (`status.json`), which holds with the control plane dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// The host's name.
    pub host: String,
    /// For example `running`.
    pub phase: String,
    /// For example `shut-down`; empty while it is not stopped.
    pub stop_cause: String,
    /// QEMU's.
    pub pid: Option<u32>,
    /// QEMU's user, if it has one of its own.
    pub uid: Option<u64>,
    /// How often it was started again after it died.
    pub restarts: u64,
    /// Why, where there is a why.
    pub message: String,
}

/// A cloud under test.
pub struct Testbed {
    options: Options,
    binary: PathBuf,
    images: PathBuf,
    /// Removed with the testbed, once every process is gone.
    temporary: tempfile::TempDir,
    environment: Vec<(String, String)>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Testbed {
    /// Starts a cloud and waits until its API answers.
    pub fn start(options: Options) -> Testbed {
        let mut testbed = Testbed::prepare(options);
        testbed.up();
        testbed
    }

    /// All of a cloud but its processes.
    pub fn prepare(options: Options) -> Testbed {
        let turn = options.guests.then(|| GUESTS.lock().unwrap_or_else(PoisonError::into_inner));
        let temporary = tempfile::Builder::new().prefix("nephos-test-").tempdir();
        let temporary = temporary.expect("a temporary directory can be made");
        set_mode(temporary.path(), 0o711);
        let home = temporary.path().join("home");
        fs::create_dir(&home).expect("a directory can be made");
        let (mut binary, mut images) = (environment::binary(), environment::images());
        if let Some(user) = options.user {
            // Neither the build's folder nor the temporary one need be open to that user.
            binary = copied(&binary, &temporary.path().join("nephos"));
            images = copied(&images, &temporary.path().join("images"));
            let cloud = temporary.path().join("cloud");
            fs::create_dir(&cloud).expect("a directory can be made");
            for path in [&home, &cloud] {
                chown(path, Some(user), Some(user)).expect("root can give a directory away");
            }
        }
        Testbed { options, binary, images, temporary, environment: Vec::new(), _turn: turn }
    }

    /// `nephos up`, as often as wanted; the first time makes the cloud.
    pub fn up(&mut self) {
        let said = self.up_try(&[]);
        assert_eq!(said.code, 0, "`nephos up` failed: {}{}", said.stdout, said.stderr);
        let exports = self.nephos_ok(&["env"]);
        let exports = exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        self.environment = exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }

    /// `nephos up --detach` with this cloud's options and these arguments, whatever comes of it.
    pub fn up_try(&self, arguments: &[&str]) -> Said {
        let o = &self.options;
        let mut all: Vec<String> = vec!["up".into(), "--detach".into()];
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        // On the command line, so that the supervisor is found by it.
        option("--dir", self.dir().display().to_string());
        option("--images", self.images.display().to_string());
        option("--zones", o.zones.to_string());
        option("--hosts-per-zone", o.hosts_per_zone.to_string());
        option("--vcpus-per-host", o.vcpus_per_host.to_string());
        option("--memory-per-host", o.memory_per_host.to_string());
        option("--vmm", if o.guests { "qemu" } else { "simulated" }.to_owned());
        option("--vcpus-per-account", o.vcpus_per_account.to_string());
        option("--shutdown-timeout", o.shutdown_timeout_s.to_string());
        if let Some(step) = o.crash_at {
            option("--crash-at", step.to_string());
        }
        if o.networks {
            all.push("--networks".into());
        }
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        if !arguments.contains(&"--port") {
            option("--port", "0".into());
        }
        all.extend(o.standby.then(|| "--standby".to_owned()));
        all.extend(o.store.iter().flat_map(|url| ["--store".to_owned(), url.clone()]));
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self.nephos(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the next [`Testbed::up`] asks for.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// The operator's command line on this cloud, begun; what it prints is read at its end.
    pub fn nephos_begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.nephos_command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("nephos can be started")
    }

    /// The operator's command line on this cloud.
    pub fn nephos(&self, arguments: &[&str]) -> Said {
        run(self.nephos_command(arguments))
    }

    /// The same, which must succeed: its standard output.
    pub fn nephos_ok(&self, arguments: &[&str]) -> String {
        let said = self.nephos(arguments);
        assert_eq!(said.code, 0, "`nephos {}` failed: {}", arguments.join(" "), said.stderr);
        said.stdout
    }

    /// The same, with JSON as its standard output.
    pub fn nephos_json(&self, arguments: &[&str]) -> Value {
        let text = self.nephos_ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|why| panic!("{text} is no JSON: {why}"))
    }

    fn nephos_command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.options.user {
            None => isolated(&self.binary),
            Some(user) => {
                let mut command = isolated(Path::new("setpriv"));
                let user = user.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(&self.binary);
                command
            }
        };
        command.args(arguments).env("HOME", self.home()).env("NEPHOS_DIR", self.dir());
        command
    }

    /// The aws CLI with the default account's keys: what it printed. It must succeed.
    pub fn aws(&self, arguments: &[&str]) -> Value {
        let said = self.aws_try(arguments, None);
        assert_eq!(said.code, 0, "`aws {}` failed: {}", arguments.join(" "), said.stderr);
        if said.stdout.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&said.stdout).unwrap_or_else(|why| panic!("{} is no JSON: {why}", said.stdout))
    }

    /// The aws CLI, with other keys than the default account's if there are any, whatever comes of it.
    pub fn aws_try(&self, arguments: &[&str], keys: Option<&Keys>) -> Said {
        let mut command = isolated(&environment::client("aws"));
        command.args(["--output", "json"]).args(arguments);
        command.envs(self.environment.iter().cloned()).env("HOME", self.home());
        if let Some(keys) = keys {
            command.env("AWS_ACCESS_KEY_ID", &keys.access_key_id);
            command.env("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key);
        }
        run(command)
    }

    /// Runs the body of a Python function, see `python/worker.py`: what it returns.
    pub fn boto3(&self, script: &str) -> Value {
        self.boto3_with(json!({}), script)
    }

    /// The same, with `args`.
    pub fn boto3_with(&self, arguments: Value, script: &str) -> Value {
        match clients::python(script, &arguments, &self.environment) {
            Outcome::Value(value) => value,
            Outcome::Refused(refusal) => panic!("{refusal:?} for\n{script}"),
            Outcome::Failed(why) => panic!("{why} from\n{script}"),
        }
    }

    /// Runs a script that must end with an error from AWS's client.
    pub fn boto3_refused(&self, script: &str) -> Refusal {
        match clients::python(script, &json!({}), &self.environment) {
            Outcome::Refused(refusal) => refusal,
            Outcome::Value(value) => panic!("this was not refused but answered {value}:\n{script}"),
            Outcome::Failed(why) => panic!("{why} from\n{script}"),
        }
    }

    /// The cloud's directory.
    pub fn dir(&self) -> PathBuf {
        self.temporary.path().join("cloud")
    }

    /// `127.0.0.1:PORT` of the API.
    pub fn address(&self) -> String {
        let url = self.variable("AWS_ENDPOINT_URL");
        url.strip_prefix("http://").unwrap_or(url).to_owned()
    }

    /// The default account's keys.
    pub fn keys(&self) -> Keys {
        Keys {
            access_key_id: self.variable("AWS_ACCESS_KEY_ID").to_owned(),
            secret_access_key: self.variable("AWS_SECRET_ACCESS_KEY").to_owned(),
        }
    }

    fn variable(&self, name: &str) -> &str {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("`nephos env` exports no {name}"))
    }

    fn home(&self) -> PathBuf {
        self.temporary.path().join("home")
    }

    /// The live process of a role (`region/us-east-1`), or the `supervisor`.
    pub fn pid(&self, label: &str) -> Option<u32> {
        pid_read(&self.dir().join("run").join(format!("{}.pid", label.replace('/', "-"))))
    }

    /// The live processes of all roles with these names in `run/` (`region-us-east-1`).
    pub fn roles(&self) -> BTreeMap<String, u32> {
        let files = names(&self.dir().join("run"));
        let roles = files.iter().filter_map(|file| file.strip_suffix(".pid")).filter(|r| *r != "supervisor");
        roles.filter_map(|role| Some((role.to_owned(), self.pid(role)?))).collect()
    }

    /// SIGKILL for the live processes of the control plane; the supervisor starts them again.
    pub fn control_plane_kill(&self) {
        for (role, pid) in self.roles() {
            if !role.starts_with("host-") {
                process::kill(pid);
            }
        }
    }

    /// The names of all hosts.
    pub fn hosts(&self) -> Vec<String> {
        names(&self.dir().join("hosts"))
    }

    /// What a host says of itself; null while it has said nothing.
    pub fn host_status(&self, host: &str) -> Value {
        let text = fs::read(self.dir().join("hosts").join(host).join("status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// All VMs, by the hosts' word: instance, and where it is. More than one for an instance on two hosts.
    pub fn vms(&self) -> Vec<(String, Vm)> {
        let mut vms = Vec::new();
        for host in self.hosts() {
            let status = self.host_status(&host);
            for (instance, vm) in status["vms"].as_object().into_iter().flatten() {
                vms.push((instance.clone(), vm_of(&host, vm)));
            }
        }
        vms
    }

    /// A VM by its host's word.
    pub fn vm(&self, instance: &str) -> Option<Vm> {
        self.vms().into_iter().find(|(id, _)| id == instance).map(|(_, vm)| vm)
    }

    /// Waits until a VM is in the phase and, if it is `running`, has a live process.
    pub fn vm_wait(&self, instance: &str, phase: &str) -> Vm {
        wait(&format!("{instance} is {phase} on its host"), LONG, || {
            let vm = self.vm(instance).filter(|vm| vm.phase == phase)?;
            (phase != "running" || !self.options.guests || vm.pid.is_some_and(process::alive)).then_some(vm)
        })
    }

    /// The QEMU process of a VM that runs.
    pub fn guest_pid(&self, instance: &str) -> u32 {
        self.vm_wait(instance, "running").pid.unwrap_or_else(|| panic!("{instance} has no process"))
    }

    /// All QEMU processes of this cloud.
    pub fn guests(&self) -> BTreeSet<u32> {
        let command = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let all = process::of_directory(self.temporary.path()).into_iter();
        all.filter(|pid| command(*pid).starts_with("qemu-system")).collect()
    }

    /// Waits until the instance's console, read through the API, shows the text: the whole output.
    pub fn console_wait(&self, instance: &str, text: &str) -> String {
        wait(&format!("the console of {instance} shows {text:?}"), LONG, || {
            let output = self.boto3_with(
                json!({ "id": instance }),
                "return ec2.get_console_output(InstanceId=args['id'], Latest=True).get('Output', '')",
            );
            output.as_str().filter(|output| output.contains(text)).map(str::to_owned)
        })
    }

    /// Waits until the API has every one of the instances in the state.
    pub fn state_wait(&self, instances: &[&str], state: &str) {
        let script = "return [i['State']['Name'] for r in ec2.describe_instances(InstanceIds=args['ids'])\
                      ['Reservations'] for i in r['Instances']]";
        wait(&format!("{instances:?} are {state}"), LONG, || {
            let states = self.boto3_with(json!({ "ids": instances }), script);
            let states = states.as_array().map(Vec::as_slice).unwrap_or_default();
            (states.len() == instances.len() && states.iter().all(|has| has == state)).then_some(())
        });
    }

    /// The ends of all logs, for a failed test.
    fn logs_show(&self) {
        let mut logs: Vec<PathBuf> = Vec::new();
        let run = self.dir().join("run");
        logs.extend(names(&run).iter().filter(|name| name.ends_with(".log")).map(|name| run.join(name)));
        for host in self.hosts() {
            let vms = self.dir().join("hosts").join(host).join("vms");
            logs.extend(
                names(&vms).iter().flat_map(|vm| ["qemu.log", "console.log"].map(|f| vms.join(vm).join(f))),
            );
        }
        for pid in self.guests() {
            // Ticks of its CPU time tell a guest that spins from one that waits.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let ticks: Vec<&str> = stat.split_ascii_whitespace().skip(13).take(2).collect();
            eprintln!("---- QEMU {}, CPU ticks {ticks:?}", command_line(pid));
        }
        for log in logs {
            let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            if !end.is_empty() {
                eprintln!("---- the end of {}\n{}", log.display(), end.join("\n"));
            }
        }
    }
}

/// Whatever happened: no process and no file stays. A cloud that is well is taken down in order first, and must
/// then have left nothing itself.
impl Drop for Testbed {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let down = (!failed && self.pid("supervisor").is_some()).then(|| self.nephos(&["down"]));
        let left = process::of_directory(self.temporary.path());
        let names: Vec<String> = left.iter().map(|pid| command_line(*pid)).collect();
        if failed || down.as_ref().is_some_and(|said| said.code != 0 || !left.is_empty()) {
            self.logs_show();
        }
        let began = Instant::now();
        loop {
            // Again, because one that was just being started may have been missed.
            let left = process::of_directory(self.temporary.path());
            if left.is_empty() || began.elapsed() > LONG {
                break;
            }
            left.into_iter().for_each(process::kill);
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(said) = down {
            assert_eq!(said.code, 0, "`nephos down` failed: {}", said.stderr);
            assert!(names.is_empty(), "`nephos down` left processes: {names:#?}");
        }
    }
}

fn vm_of(host: &str, vm: &Value) -> Vm {
    let text = |name: &str| vm[name].as_str().unwrap_or_default().to_owned();
    Vm {
        host: host.to_owned(),
        phase: text("phase"),
        stop_cause: text("stop_cause"),
        pid: vm["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        uid: vm["uid"].as_u64(),
        restarts: vm["restarts"].as_u64().unwrap_or(0),
        message: text("message"),
    }
}

/// `PID START`; only of a process that runs.
fn pid_read(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let pid = text.split_ascii_whitespace().next()?.parse().ok()?;
    process::alive(pid).then_some(pid)
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

/// The names in a directory, sorted; none if there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("own files' permissions can be set");
}

/// Copies a file, or a folder of folders, so that every user can read it.
fn copied(from: &Path, to: &Path) -> PathBuf {
    if from.is_dir() {
        fs::create_dir(to).expect("a directory can be made");
        set_mode(to, 0o755);
        for name in names(from) {
            copied(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|why| panic!("cannot copy {}: {why}", from.display()));
        let mode = fs::metadata(from).map(|metadata| metadata.permissions().mode()).unwrap_or(0);
        set_mode(to, if mode & 0o100 == 0 { 0o644 } else { 0o755 });
    }
    to.to_owned()
}

/// Runs a program to its end, which must come.
fn run(mut command: Command) -> Said {
    let line = format!("{command:?}");
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|why| panic!("cannot run {line}: {why}"));
    let (stdout, stderr) = (drained(child.stdout.take()), drained(child.stderr.take()));
    let code = end(&mut child, &line);
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Said { code, stdout: text(stdout), stderr: text(stderr) }
}

fn drained(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn end(child: &mut Child, line: &str) -> i32 {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status.code().unwrap_or(-1);
        }
        if began.elapsed() > 2 * LONG {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
