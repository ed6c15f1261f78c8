//! The short commands: `env`, `kill`, `start`.

use crate::account;
use crate::arguments::{At, Target};
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::process::{self, State};
use crate::shell::quoted;
use contract::trust::Role;
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a process has to die or to come back.
const WAIT: Duration = Duration::from_secs(20);

/// `nephos env`: for `eval`, so nothing but exports goes to standard output.
pub fn env(at: &At) -> Result<(), Error> {
    let cloud = Cloud::open(at)?;
    let members = cloud.members()?;
    let mut regions = members.iter().filter(|member| member.identity.role == Role::Region);
    let runs = regions.any(|region| matches!(process::state(&cloud, region), State::Running(_)));
    // A cloud whose control plane was killed on purpose is still up.
    if !runs && process::supervisor(&cloud).is_none() {
        return Err(Error::NotUp(cloud.dir));
    }
    let keys = account::default_read(&cloud)?;
    say!("export AWS_ENDPOINT_URL=http://127.0.0.1:{}", cloud.topology.port);
    say!("export AWS_ACCESS_KEY_ID={}", quoted(&keys.access_key_id));
    say!("export AWS_SECRET_ACCESS_KEY={}", quoted(&keys.secret_access_key));
    let region = cloud.topology.region.to_string();
    say!("export AWS_DEFAULT_REGION={0}\nexport AWS_REGION={0}", quoted(&region));
    say!("unset AWS_SESSION_TOKEN AWS_PROFILE");
    Ok(())
}

/// `nephos kill`
pub fn kill(target: &Target) -> Result<(), Error> {
    let cloud = Cloud::open(&target.at)?;
    for member in select(&cloud, &target.target)? {
        // First the word to leave it dead, then the kill: the supervisor must not be quicker.
        let hold = cloud.run_file(&member, "hold");
        std::fs::write(&hold, "").map_err(Error::file("write", &hold))?;
        if let State::Running(process) = process::state(&cloud, &member) {
            process.signal(Signal::KILL);
            wait(&format!("{} does not die", member.label()), || !process.alive())?;
            say!("{} killed (pid {})", member.label(), process.pid());
        } else {
            say!("{} was dead already", member.label());
        }
    }
    Ok(())
}

/// `nephos start`
pub fn start(target: &Target) -> Result<(), Error> {
    let cloud = Cloud::open(&target.at)?;
    let members = select(&cloud, &target.target)?;
    if process::supervisor(&cloud).is_none() {
        return Err(Error::NotUp(cloud.dir));
    }
    for member in &members {
        let processes = cloud.processes(&member.identity);
        if !processes.iter().any(|member| matches!(process::state(&cloud, member), State::Running(_))) {
            // The word of its predecessor, which would look as if it were there already.
            addresses(&cloud, member).iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        cloud.hold_remove(member)?;
    }
    for member in &members {
        let log = cloud.run_file(member, "log");
        let failure = format!("{} does not start; its log is {}", member.label(), log.display());
        wait(&failure, || works(&cloud, member))?;
        say!("{} runs", member.label());
    }
    Ok(())
}

/// The files that a process writes once it can be reached.
fn addresses(cloud: &Cloud, member: &Member) -> Vec<PathBuf> {
    match member.identity.role {
        Role::Region => vec![cloud.api_address_file(), cloud.operator_address_file()],
        Role::Zone | Role::Cell | Role::Store => vec![cloud.address_file(&member.identity)],
        Role::Host | Role::Vswitch | Role::Operator => Vec::new(),
    }
}

/// Whether a process runs and says so itself: by its address, or as a host by its status.
fn works(cloud: &Cloud, member: &Member) -> bool {
    let State::Running(process) = process::state(cloud, member) else { return false };
    if member.identity.role == Role::Host {
        let path = cloud.host_dir(&member.identity.instance).join("status.json");
        let text = std::fs::read(path).unwrap_or_default();
        let status: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        return status["agent_pid"] == process.pid();
    }
    // Of several, one has the address; the others are there when they know whether they lead.
    let stands = member.process == 0 || cloud.standing_file(member).exists();
    stands && addresses(cloud, member).iter().all(|path| path.exists())
}

/// The processes that `ROLE[/INSTANCE]` names.
pub fn select(cloud: &Cloud, target: &str) -> Result<Vec<Member>, Error> {
    let (role, instance) = match target.split_once('/') {
        Some((role, instance)) => (role, Some(instance)),
        None => (target, None),
    };
    let of_role = |member: &Member| match role {
        "control-plane" => member.identity.role != Role::Host,
        role => member.identity.role.as_str() == role,
    };
    let members = cloud.members()?;
    let known: Vec<String> = members.iter().map(Member::label).collect();
    let named = |name: &str, member: &Member| name == member.identity.instance || target == member.label();
    let wanted = |member: &Member| of_role(member) && instance.is_none_or(|name| named(name, member));
    let selected: Vec<Member> = members.into_iter().filter(wanted).collect();
    if selected.is_empty() {
        return Err(Error::Said(format!(
            "`{target}` names no process of this cloud; there are control-plane, {}",
            known.join(", ")
        )));
    }
    Ok(selected)
}

fn wait(failure: &str, mut done: impl FnMut() -> bool) -> Result<(), Error> {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > WAIT {
            return Err(Error::Said(format!("{failure} (waited {} s)", WAIT.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
