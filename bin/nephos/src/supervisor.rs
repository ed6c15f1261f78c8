//! The supervisor: starts every role as a process of its own, starts again what dies, and stops all in order.
//!
//! It holds no state but pid files, so it can die too: roles and guests go on, and the next `up` takes them over.
//! `nephos kill` leaves a `hold` file beside the pid file, which this loop respects, and `nephos start` removes it.

use crate::account::{self, Keys};
use crate::arguments::{At, Up};
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::process::{self, Process, State};
use contract::trust::Role;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often dead processes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// A process that has run so long starts its backoff anew.
const STEADY_AFTER: Duration = Duration::from_secs(30);
/// A log that is larger at a start of its process is put aside.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// How often certificates are looked at.
const RENEW_EVERY: Duration = Duration::from_secs(3600);
/// How long the API has to answer at the start.
const API_WAIT: Duration = Duration::from_secs(60);
/// How long a control-plane process has to end when asked.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// `nephos up`
pub fn up(arguments: &Up) -> Result<(), Error> {
    let began = Instant::now();
    let cloud = Cloud::ensure(arguments)?;
    if arguments.detach {
        return detach(arguments, &cloud);
    }
    let Some(_lock) = lock(&cloud)? else {
        let keys = account::default_read(&cloud)?;
        say!("The cloud in {} is up already.", cloud.dir.display());
        greet(&cloud, &keys, began);
        return Ok(());
    };
    let stop = stop_on_signals()?;
    let mut supervisor = Supervisor::new(cloud)?;
    supervisor.cloud.write(arguments.crash_at.as_deref())?;
    supervisor.write_own_pid()?;
    supervisor.port_check()?;
    say!("Starting {} processes in {} ...", supervisor.members.len(), supervisor.cloud.dir.display());
    supervisor.forget_holds()?;
    supervisor.look()?;
    let keys = supervisor.api_wait(&stop)?;
    if let Some(keys) = keys {
        greet(&supervisor.cloud, &keys, began);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
            supervisor.look()?;
            supervisor.renew()?;
        }
    }
    supervisor.stop()
}

/// `nephos down`
pub fn down(at: &At) -> Result<(), Error> {
    let cloud = Cloud::open(at)?;
    if let Some(process) = process::supervisor(&cloud) {
        say!("Stopping the cloud in {}: guests are asked to shut down ...", cloud.dir.display());
        process.signal(Signal::TERM);
        let wait = Duration::from_secs(cloud.topology.shutdown_timeout + 60);
        let began = Instant::now();
        while process.alive() {
            if began.elapsed() > wait {
                return Err(Error::Said(format!(
                    "the supervisor (pid {}) still stops guests after {} s; its log is {}",
                    process.pid(),
                    wait.as_secs(),
                    cloud.run().join("supervisor.log").display()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        say!("The cloud is down. `nephos up` starts it again, with the guests that were running.");
        return Ok(());
    }
    let Some(_lock) = lock(&cloud)? else {
        return Err(Error::Said(
            "another `nephos` is just starting or stopping this cloud; try again".into(),
        ));
    };
    let mut supervisor = Supervisor::new(cloud)?;
    if supervisor.members.iter().all(|m| !matches!(process::state(&supervisor.cloud, m), State::Running(_))) {
        say!("The cloud in {} is down already.", supervisor.cloud.dir.display());
        return Ok(());
    }
    supervisor.stop()
}

/// Starts this command again in the background, and waits until the cloud answers.
fn detach(arguments: &Up, cloud: &Cloud) -> Result<(), Error> {
    let began = Instant::now();
    if process::supervisor(cloud).is_some() {
        say!("The cloud in {} is up already.", cloud.dir.display());
        greet(cloud, &account::default_read(cloud)?, began);
        return Ok(());
    }
    let path = cloud.run().join("supervisor.log");
    let log =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("write", &path))?;
    let from = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let errors = log.try_clone().map_err(Error::file("write", &path))?;
    let failed = |source| Error::Process { what: "start the supervisor".into(), source };
    let exe = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(exe);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"));
    command.env("NEPHOS_DETACHED", "1");
    let mut child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
    say!("Starting the cloud in {} ...", cloud.dir.display());
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            let text = fs::read(&path).unwrap_or_default();
            let said =
                String::from_utf8_lossy(text.get(from as usize..).unwrap_or_default()).trim().to_owned();
            return Err(Error::Said(format!("the supervisor ended ({status}): {said}")));
        }
        if cloud.run().join("ready").exists()
            && process::supervisor(cloud).is_some_and(|s| s.pid() == child.id())
        {
            let _ = arguments;
            greet(cloud, &account::default_read(cloud)?, began);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn greet(cloud: &Cloud, keys: &Keys, began: Instant) {
    let dir = match std::env::var_os("NEPHOS_DIR") {
        None if crate::cloud::directory(&At { dir: None }).is_ok_and(|default| default == cloud.dir) => {
            String::new()
        }
        _ => format!(" --dir {}", cloud.dir.display()),
    };
    say!("The cloud answers after {:.1} s.\n", began.elapsed().as_secs_f64());
    say!("  endpoint     http://127.0.0.1:{}", cloud.topology.port);
    say!("  region       {}", cloud.topology.region);
    say!("  account      {} ({})", keys.account_id, keys.name);
    say!("  access key   {}", keys.access_key_id);
    say!("  secret       {}\n", keys.secret_access_key);
    say!("Next, in another terminal:\n");
    say!("  eval \"$(nephos env{dir})\"");
    say!("  aws ec2 run-instances --image-id nephos-linux --instance-type t3.micro --count 1");
    say!("  nephos status{dir}\n");
    let _ = std::io::stdout().flush();
}

/// Only one supervisor a cloud. `None`: there is one already.
fn lock(cloud: &Cloud) -> Result<Option<File>, Error> {
    let path = cloud.run().join("supervisor.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::file("write", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::file("lock", &path)(error.into())),
    }
}

/// True once SIGINT or SIGTERM has come.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    if std::env::var_os("NEPHOS_DETACHED").is_some() {
        let _ = rustix::process::setsid();
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|source| Error::Process { what: "listen for signals".into(), source })?;
    }
    Ok(stop)
}

/// A process that is looked after.
#[derive(Default)]
struct Charge {
    child: Option<Child>,
    started: Option<Instant>,
    backoff: Duration,
    start_at: Option<Instant>,
    starts: u32,
}

struct Supervisor {
    cloud: Cloud,
    members: Vec<Member>,
    charges: BTreeMap<Member, Charge>,
    renew_at: Instant,
}

impl Supervisor {
    fn new(cloud: Cloud) -> Result<Supervisor, Error> {
        let members = cloud.members()?;
        Ok(Supervisor { cloud, members, charges: BTreeMap::new(), renew_at: Instant::now() + RENEW_EVERY })
    }

    fn write_own_pid(&self) -> Result<(), Error> {
        let _ = fs::remove_file(self.cloud.run().join("ready"));
        let me = Process::of_pid(std::process::id());
        let me = me.ok_or_else(|| {
            Error::Said("/proc is not mounted; Nephos needs it to know its processes".into())
        })?;
        me.write(&self.cloud.run().join("supervisor.pid"))
    }

    /// A port that somebody else has is found out here, where it can be said well.
    fn port_check(&self) -> Result<(), Error> {
        let port = self.cloud.topology.port;
        let region = self.members.iter().find(|member| member.identity.role == Role::Region);
        if region.is_some_and(|region| matches!(process::state(&self.cloud, region), State::Running(_))) {
            return Ok(());
        }
        std::net::TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|error| {
            Error::Said(format!("port {port} is taken ({error}); choose another with --port, or 0 for any"))
        })
    }

    /// What an earlier `kill` left dead comes back with `up`.
    fn forget_holds(&self) -> Result<(), Error> {
        for member in &self.members {
            let hold = self.cloud.run_file(member, "hold");
            match fs::remove_file(&hold) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", &hold)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Starts what is dead and not held.
    fn look(&mut self) -> Result<(), Error> {
        for member in self.members.clone() {
            let charge = self.charges.entry(member.clone()).or_default();
            if let Some(child) = &mut charge.child
                && let Ok(Some(status)) = child.try_wait()
            {
                charge.child = None;
                if !process::held(&self.cloud, &member) {
                    eprintln!(
                        "nephos: {} ended ({status}); starting it again. Its log: {}",
                        member.label(),
                        self.cloud.run_file(&member, "log").display()
                    );
                }
            }
            match process::state(&self.cloud, &member) {
                State::Running(_) => {
                    if charge.started.is_some_and(|started| started.elapsed() > STEADY_AFTER) {
                        charge.backoff = Duration::ZERO;
                    }
                }
                State::Held => charge.start_at = None,
                State::Dead => {
                    let now = Instant::now();
                    let due = *charge.start_at.get_or_insert(now + charge.backoff);
                    if now >= due {
                        charge.backoff = (charge.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_LAST);
                        charge.start_at = None;
                        charge.started = Some(now);
                        charge.starts += 1;
                        charge.child = Some(spawn(&self.cloud, &member)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Renews certificates that are due. A process reads its own when it starts, so those that have a new one are
    /// ended and started again: guests do not notice.
    fn renew(&mut self) -> Result<(), Error> {
        if Instant::now() < self.renew_at {
            return Ok(());
        }
        self.renew_at = Instant::now() + RENEW_EVERY;
        for member in self.cloud.certificates_renew()? {
            if let State::Running(process) = process::state(&self.cloud, &member) {
                say!("{} has a new certificate and is started again", member.label());
                process.signal(Signal::TERM);
            }
        }
        Ok(())
    }

    /// Waits for the API, while looking after the processes. `None`: told to stop meanwhile.
    fn api_wait(&mut self, stop: &AtomicBool) -> Result<Option<Keys>, Error> {
        let began = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if self.cloud.operator_address_file().exists()
                && let Ok(keys) = account::default_ensure(&self.cloud)
            {
                let ready = self.cloud.run().join("ready");
                fs::write(&ready, "").map_err(Error::file("write", &ready))?;
                return Ok(Some(keys));
            }
            let region = self.charges.iter().find(|(member, _)| member.identity.role == Role::Region);
            let failing = region.is_some_and(|(_, charge)| charge.starts > 5);
            if failing || began.elapsed() > API_WAIT {
                let why = self.last_words();
                let _ = self.stop();
                return Err(Error::Said(format!("the region does not come up. Its log ends:\n{why}")));
            }
            std::thread::sleep(Duration::from_millis(10));
            self.look()?;
        }
    }

    fn last_words(&self) -> String {
        let region = self.members.iter().find(|member| member.identity.role == Role::Region);
        let log = region.map(|region| self.cloud.run_file(region, "log"));
        let text = log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Stops all: first the control plane, so that it does not take the guests' ends for their own doing; then the
    /// hosts, each of which powers its guests off.
    fn stop(&mut self) -> Result<(), Error> {
        let _ = fs::remove_file(self.cloud.run().join("ready"));
        let control: Vec<Member> = self.of_role(|role| role != Role::Host);
        for member in &control {
            if let State::Running(process) = process::state(&self.cloud, member) {
                process.signal(Signal::TERM);
            }
        }
        for member in &control {
            self.end_wait(member, STOP_WAIT);
        }
        let hosts = self.of_role(|role| role == Role::Host);
        say!("The control plane has stopped; {} hosts power their guests off ...", hosts.len());
        let _ = std::io::stdout().flush();
        for host in &hosts {
            self.host_power_off(host)?;
        }
        let wait = Duration::from_secs(self.cloud.topology.shutdown_timeout) + STOP_WAIT;
        for host in &hosts {
            self.end_wait(host, wait);
        }
        for member in control.iter().chain(&hosts) {
            let _ = fs::remove_file(self.cloud.run_file(member, "pid"));
            let _ = fs::remove_file(self.cloud.run_file(member, "address"));
        }
        let _ = fs::remove_file(self.cloud.api_address_file());
        let _ = fs::remove_file(self.cloud.operator_address_file());
        let _ = fs::remove_file(self.cloud.run().join("supervisor.pid"));
        say!("The cloud is down.");
        Ok(())
    }

    fn of_role(&self, wanted: impl Fn(Role) -> bool) -> Vec<Member> {
        self.members.iter().filter(|member| wanted(member.identity.role)).cloned().collect()
    }

    /// Tells a host that its machine goes down (SIGPWR). A host whose agent is dead gets one for this: its guests
    /// must be powered off too.
    fn host_power_off(&mut self, host: &Member) -> Result<(), Error> {
        if !matches!(process::state(&self.cloud, host), State::Running(_)) {
            let child = spawn(&self.cloud, host)?;
            self.charges.entry(host.clone()).or_default().child = Some(child);
        }
        let State::Running(process) = process::state(&self.cloud, host) else { return Ok(()) };
        // Until the agent listens for the signal it would only die of it.
        let began = Instant::now();
        while process.alive() && !listens_for_power(process.pid()) {
            if began.elapsed() > STOP_WAIT {
                return Err(Error::Said(format!(
                    "{} does not come up to power its guests off",
                    host.label()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        process.signal(Signal::POWER);
        Ok(())
    }

    /// Waits for a process to end; kills it if it does not.
    fn end_wait(&mut self, member: &Member, wait: Duration) {
        let State::Running(process) = process::state(&self.cloud, member) else { return };
        let began = Instant::now();
        while process.alive() {
            // A child stays a zombie until it is waited for, and `alive` knows that.
            if began.elapsed() > wait {
                eprintln!("nephos: {} does not end within {} s; killing it", member.label(), wait.as_secs());
                process.signal(Signal::KILL);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(child) = self.charges.get_mut(member).and_then(|charge| charge.child.as_mut()) {
            let _ = child.try_wait();
        }
    }
}

/// Whether a process catches SIGPWR (`SigCgt` of `/proc/PID/status`; proc(5)).
fn listens_for_power(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (Signal::POWER.as_raw() - 1)) != 0
}

/// Starts a member's process and writes its pid file.
fn spawn(cloud: &Cloud, member: &Member) -> Result<Child, Error> {
    let path = cloud.run_file(member, "log");
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        let _ = fs::rename(&path, cloud.run_file(member, "log.old"));
    }
    let log =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("write", &path))?;
    let failed = |source| Error::Process { what: format!("start {}", member.label()), source };
    let errors = log.try_clone().map_err(failed)?;
    let exe = std::env::current_exe().map_err(failed)?;
    let child = Command::new(exe)
        .arg(member.identity.role.as_str())
        .arg("--config")
        .arg(cloud.config_file(member))
        .env_remove("NEPHOS_DETACHED")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    if let Some(process) = Process::of_pid(child.id()) {
        process.write(&cloud.run_file(member, "pid"))?;
    }
    Ok(child)
}
