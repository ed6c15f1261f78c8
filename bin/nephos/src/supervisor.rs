//! The supervisor: starts every role as a process of its own, starts again what dies, and stops all in order.
//!
//! It holds no state but pid files, so it can die too: roles and guests go on, and the next `up` takes them over.
//! `nephos kill` leaves a `hold` file beside the pid file, which this loop respects, and `nephos start` removes it.
//!
//! Nothing that can pass by itself (a full disk, no room for another process) ends the loop: it is said, and tried
//! again. How a cloud goes down is told in [`crate::down`].

use crate::account::{self, Keys};
use crate::arguments::Up;
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::process::{self, Process, State};
use crate::{images, log, operator, shell};
use base::error::chain;
use contract::trust::Role;
use contract::{StatusRequest, ZoneStatus};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
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
/// How often the logs' sizes are looked at.
const LOGS_EVERY: Duration = Duration::from_secs(60);
/// How often certificates are looked at, and how soon again after a failure.
const RENEW_EVERY: Duration = Duration::from_secs(3600);
const RENEW_AGAIN: Duration = Duration::from_secs(60);
/// How long hosts have to be seen by the region at the start.
const HOSTS_WAIT: Duration = Duration::from_secs(5);
/// How long the API has to answer at the start.
const API_WAIT: Duration = Duration::from_secs(60);
/// How long a supervisor that is killed, or just busy, may keep the lock.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(10);
/// A region that was started more often has no prospect, if it never ran before.
const STARTS_MAX: u32 = 5;
/// In the environment of a supervisor that `--detach` has put into the background.
const DETACHED: &str = "NEPHOS_DETACHED";

/// `nephos up`
pub fn up(arguments: &Up) -> Result<(), Error> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let began = Instant::now();
    let dir = Cloud::directory_prepare(&arguments.at)?;
    if arguments.detach {
        return detach(arguments, &dir, began);
    }
    let stop = stop_on_signals()?;
    let Some(_lock) = lock_or_ready(arguments, &dir, &stop)? else { return Ok(()) };
    let mut supervisor = Supervisor::new(Cloud::ensure(arguments)?)?;
    images::ensure(&supervisor.cloud)?;
    supervisor.cloud.write(arguments.crash_at.as_deref())?;
    supervisor.write_own_pid()?;
    supervisor.port_check()?;
    say!("Starting {} processes in {} ...", supervisor.members.len(), dir.display());
    supervisor.forget_holds()?;
    if let Some(keys) = supervisor.api_wait(&stop)? {
        // In the background, the log is no place for a secret; who waits for this greets.
        if !detached() {
            say!("The cloud answers after {:.1} s.\n", began.elapsed().as_secs_f64());
            shell::greet(&supervisor.cloud, &keys);
        }
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
            supervisor.look();
            supervisor.logs_bound();
            supervisor.renew();
        }
    }
    supervisor.stop()
}

/// Starts this command again in the background, and waits until the cloud answers.
fn detach(arguments: &Up, dir: &Path, began: Instant) -> Result<(), Error> {
    let path = dir.join("run/supervisor.log");
    let log =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("write", &path))?;
    let from = log.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    let errors = log.try_clone().map_err(Error::file("write", &path))?;
    let failed = |source| Error::Process { what: "start the supervisor".into(), source };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("nephos").args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"));
    command.env(DETACHED, "1");
    let mut child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(failed)?;
    say!("Starting the cloud in {} ...", dir.display());
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            let cloud = Cloud::open(&arguments.at);
            if let Some(cloud) = cloud.ok().filter(|cloud| status.success() && ready(cloud)) {
                say!("The cloud in {} is up already.\n", dir.display());
                shell::greet(&cloud, &account::default_read(&cloud)?);
                return Ok(());
            }
            let text = fs::read(&path).unwrap_or_default();
            let said =
                String::from_utf8_lossy(text.get(from as usize..).unwrap_or_default()).trim().to_owned();
            return Err(Error::Said(format!("the supervisor ended ({status}): {said}")));
        }
        if let Ok(cloud) = Cloud::open(&arguments.at)
            && ready(&cloud)
            && process::supervisor(&cloud).is_some_and(|s| s.pid() == child.id())
        {
            say!("The cloud answers after {:.1} s.\n", began.elapsed().as_secs_f64());
            shell::greet(&cloud, &account::default_read(&cloud)?);
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn detached() -> bool {
    std::env::var_os(DETACHED).is_some()
}

/// The supervisor has said that the API answers, and lives.
fn ready(cloud: &Cloud) -> bool {
    cloud.run().join("ready").exists() && process::supervisor(cloud).is_some()
}

/// The lock; or `None` where another `up` has it and its cloud answers (or this one was told to stop). What holds
/// it else is just starting the cloud or taking it down, which is waited for.
fn lock_or_ready(arguments: &Up, dir: &Path, stop: &AtomicBool) -> Result<Option<File>, Error> {
    let began = Instant::now();
    let mut said = false;
    while !stop.load(Ordering::Relaxed) {
        if let Some(lock) = lock(dir)? {
            return Ok(Some(lock));
        }
        let cloud = Cloud::open(&arguments.at).ok();
        if let Some(cloud) = cloud.as_ref().filter(|cloud| ready(cloud))
            && operator::ask(cloud, |mut region| async move { region.status(StatusRequest {}).await }).is_ok()
        {
            cloud.refuse_changes(arguments)?;
            if !detached() {
                say!("The cloud in {} is up already.\n", dir.display());
                shell::greet(cloud, &account::default_read(cloud)?);
            }
            return Ok(None);
        }
        let shutdown = cloud.map_or(0, |cloud| cloud.topology.shutdown_timeout);
        if began.elapsed() > API_WAIT * 2 + Duration::from_secs(shutdown) {
            return Err(Error::Said(format!(
                "another `nephos` has the cloud in {} and its API does not answer; `nephos status` shows more, and \
                 its log is {}",
                dir.display(),
                dir.join("run/supervisor.log").display()
            )));
        }
        if !said {
            say!(
                "Another `nephos` is just starting, stopping or moving the cloud in {}; waiting ...",
                dir.display()
            );
            said = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(None)
}

/// Only one supervisor a cloud. `None`: there is one already.
pub fn lock(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("run/supervisor.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::file("write", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::file("lock", &path)(error.into())),
    }
}

/// Ends the supervisor, and nothing else: what it has started goes on without it. The lock, to be held by whoever
/// changes what it would start.
pub fn take_over(cloud: &Cloud) -> Result<File, Error> {
    let began = Instant::now();
    loop {
        if let Some(lock) = lock(&cloud.dir)? {
            let _ = fs::remove_file(cloud.run().join("ready"));
            let _ = fs::remove_file(cloud.run().join("supervisor.pid"));
            return Ok(lock);
        }
        // One that is not ready is just starting the cloud, or taking it down.
        if ready(cloud)
            && let Some(supervisor) = process::supervisor(cloud)
        {
            supervisor.signal(Signal::KILL);
        }
        if began.elapsed() > TAKE_OVER_WAIT {
            return Err(Error::Said(
                "another `nephos` is just starting, stopping or moving this cloud; try again when it is done"
                    .into(),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True once SIGINT, SIGTERM or SIGHUP has come. A SIGHUP that the caller has switched off (`nohup`) stays so.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    if detached() {
        let _ = rustix::process::setsid();
    }
    let me = Process::of_pid(std::process::id());
    let hup_ignored = me.is_some_and(|me| me.signal_mask("SigIgn", Signal::HUP));
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !hup_ignored) {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|source| Error::Process { what: "listen for signals".into(), source })?;
    }
    Ok(stop)
}

/// A process that is looked after.
#[derive(Default)]
pub struct Charge {
    /// Where this supervisor started it.
    pub child: Option<Child>,
    started: Option<Instant>,
    backoff: Duration,
    start_at: Option<Instant>,
    starts: u32,
}

/// A cloud's processes, and what to do about them.
pub struct Supervisor {
    /// Theirs.
    pub cloud: Cloud,
    /// All that there should be, control plane first.
    pub members: Vec<Member>,
    /// What is known of each.
    pub charges: BTreeMap<Member, Charge>,
    renew_at: Instant,
    logs_at: Instant,
}

impl Supervisor {
    /// Starts nothing yet.
    pub fn new(cloud: Cloud) -> Result<Supervisor, Error> {
        let (members, now) = (cloud.members()?, Instant::now());
        let (renew_at, logs_at) = (now + RENEW_EVERY, now);
        Ok(Supervisor { cloud, members, charges: BTreeMap::new(), renew_at, logs_at })
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
        let running = process::running(&self.cloud, &self.members);
        if running.iter().any(|(member, _)| member.identity.role == Role::Region) {
            return Ok(());
        }
        std::net::TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|error| {
            Error::Said(format!("port {port} is taken ({error}); choose another with --port, or 0 for any"))
        })
    }

    /// What an earlier `kill` left dead comes back with `up`.
    fn forget_holds(&self) -> Result<(), Error> {
        self.members.iter().try_for_each(|member| self.cloud.hold_remove(member))
    }

    /// Starts what is dead and not held. What fails is said, and tried again later.
    fn look(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for member in &self.members {
            let charge = self.charges.entry(member.clone()).or_default();
            charge.collect(&self.cloud, member);
            match process::state(&self.cloud, member) {
                State::Running(_) => {
                    if charge.started.is_some_and(|started| started.elapsed() > STEADY_AFTER) {
                        charge.backoff = Duration::ZERO;
                    }
                }
                State::Held => charge.start_at = None,
                State::Dead => {
                    if now >= *charge.start_at.get_or_insert(now + charge.backoff) {
                        due.push(member.clone());
                    }
                }
            }
        }
        if due.is_empty() {
            return;
        }
        // It may run without its pid file: a supervisor can die between the two.
        let running = process::running(&self.cloud, &due);
        for (member, process) in &running {
            say!("{} runs already (pid {})", member.label(), process.pid());
        }
        for member in due.iter().filter(|due| !running.iter().any(|(member, _)| member == *due)) {
            if let Some(charge) = self.charges.get_mut(member) {
                charge.start(&self.cloud, member, now);
            }
        }
    }

    /// Renews certificates that are due. A process reads its own when it starts, so those that have a new one are
    /// ended and started again: guests do not notice.
    fn renew(&mut self) {
        if Instant::now() < self.renew_at {
            return;
        }
        let renewed = self.cloud.certificates_renew();
        self.renew_at = Instant::now() + if renewed.is_ok() { RENEW_EVERY } else { RENEW_AGAIN };
        let renewed = renewed.unwrap_or_else(|error| {
            eprintln!("nephos: certificates cannot be renewed; trying again: {}", chain(&error));
            Vec::new()
        });
        for member in renewed {
            if let State::Running(process) = process::state(&self.cloud, &member) {
                say!("{} has a new certificate and is started again", member.label());
                process.signal(Signal::TERM);
            }
        }
    }

    fn logs_bound(&mut self) {
        if Instant::now() < self.logs_at {
            return;
        }
        self.logs_at = Instant::now() + LOGS_EVERY;
        log::bound(&self.cloud.run().join("supervisor.log"));
        for member in &self.members {
            log::bound(&self.cloud.run_file(member, "log"));
        }
    }

    /// Starts all, and waits for the API while looking after the processes. `None`: told to stop meanwhile.
    fn api_wait(&mut self, stop: &AtomicBool) -> Result<Option<Keys>, Error> {
        let began = Instant::now();
        self.logs_bound();
        let adopted = !process::running(&self.cloud, &self.members).is_empty();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.look();
            if self.cloud.operator_address_file().exists()
                && let Ok(keys) = account::default_ensure(&self.cloud)
            {
                self.hosts_wait(stop);
                let ready = self.cloud.run().join("ready");
                fs::write(&ready, "").map_err(Error::file("write", &ready))?;
                return Ok(Some(keys));
            }
            let region = self.charges.iter().find(|(member, _)| member.identity.role == Role::Region);
            let hopeless = !adopted && region.is_some_and(|(_, charge)| charge.starts > STARTS_MAX);
            if hopeless || began.elapsed() > API_WAIT {
                let region = region.map(|(member, _)| self.cloud.run_file(member, "log"));
                let why = region.map(|path| log::end(&path)).unwrap_or_default();
                let left = self.give_up();
                return Err(Error::Said(format!("the region does not come up. {left}Its log ends:\n{why}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Supervisor {
    /// Waits until the region has room in every zone, so that the first thing that somebody types finds a host. Only
    /// for a while: a zone without hosts is for `nephos status` to show, not a reason not to start.
    fn hosts_wait(&mut self, stop: &AtomicBool) {
        let began = Instant::now();
        while began.elapsed() < HOSTS_WAIT && !stop.load(Ordering::Relaxed) {
            self.look();
            let seen =
                operator::ask(&self.cloud, |mut region| async move { region.status(StatusRequest {}).await });
            let has_hosts = |zone: &ZoneStatus| zone.cells.iter().any(|cell| cell.hosts_healthy > 0);
            if seen.is_ok_and(|seen| seen.zones.iter().all(has_hosts)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Charge {
    /// Takes note of an end.
    fn collect(&mut self, cloud: &Cloud, member: &Member) {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            self.child = None;
            if !process::held(cloud, member) {
                eprintln!(
                    "nephos: {} ended ({status}); starting it again. Its log: {}",
                    member.label(),
                    cloud.run_file(member, "log").display()
                );
            }
        }
    }

    fn start(&mut self, cloud: &Cloud, member: &Member, now: Instant) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_LAST);
        self.start_at = None;
        self.started = Some(now);
        self.starts += 1;
        match spawn(cloud, member) {
            // `kill` may have looked for the process just before it was there.
            Ok(mut child) if process::held(cloud, member) => {
                let _ = child.kill().and_then(|()| child.wait());
            }
            Ok(child) => self.child = Some(child),
            Err(error) => eprintln!("nephos: {}; trying again", chain(&error)),
        }
    }
}

/// Starts a member's process, out of reach of the terminal's ctrl-C, and writes its pid file.
pub fn spawn(cloud: &Cloud, member: &Member) -> Result<Child, Error> {
    let path = cloud.run_file(member, "log");
    let log =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("write", &path))?;
    // Its predecessor's word.
    let _ = fs::remove_file(cloud.standing_file(member));
    let failed = |source| Error::Process { what: format!("start {}", member.label()), source };
    let errors = log.try_clone().map_err(failed)?;
    // This very program, also where its file was replaced meanwhile.
    let child = Command::new("/proc/self/exe")
        .arg0("nephos")
        .arg(member.identity.role.as_str())
        .arg("--config")
        .arg(cloud.config_file(member))
        .env_remove(DETACHED)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(failed)?;
    if let Some(process) = Process::of_pid(child.id())
        && let Err(error) = process.write(&cloud.run_file(member, "pid"))
    {
        // It is found by its command line, and the file written then.
        eprintln!("nephos: {}", chain(&error));
    }
    Ok(child)
}
