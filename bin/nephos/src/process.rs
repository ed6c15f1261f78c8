//! Processes: who is alive, who is left dead on purpose, whose they are.
//!
//! A pid file holds `PID START BOOT`, where START is the process's start time in clock ticks since boot
//! (`/proc/PID/stat`, field 22; proc(5)) and BOOT the boot's id: a pid alone may by now belong to somebody else. A
//! process without its pid file is found by its command line, which names its config.

use crate::cloud::{Cloud, Member};
use crate::error::Error;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process that was alive when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    start: u64,
}

impl Process {
    /// The live process with this pid.
    pub fn of_pid(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command, in parentheses, may hold anything: fields are counted from its end. State is the first.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Process { pid, start })
    }

    /// The process that the pid file names, if it is alive.
    pub fn of_file(path: &Path) -> Option<Process> {
        let text = fs::read_to_string(path).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let process = Process { pid: fields.next()?.parse().ok()?, start: fields.next()?.parse().ok()? };
        (fields.next()? == boot_id() && process.alive()).then_some(process)
    }

    /// Writes the pid file.
    pub fn write(self, path: &Path) -> Result<(), Error> {
        let text = format!("{} {} {}\n", self.pid, self.start, boot_id());
        base::disk::file_replace(path, text.as_bytes(), 0o644).map_err(Error::file("write", path))
    }

    /// Whether it still runs.
    pub fn alive(self) -> bool {
        Process::of_pid(self.pid) == Some(self)
    }

    /// Its pid.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Sends a signal; a process that is gone by now is as good.
    pub fn signal(self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.alive()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether a bit of a signal mask of `/proc/PID/status`, for example `SigCgt`, is set.
    pub fn signal_mask(self, mask: &str, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let found = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(':'));
        let bits = found.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
        bits & (1 << (signal.as_raw() - 1)) != 0
    }
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The state of a member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running(Process),
    /// It is dead and will be started again.
    Dead,
    /// `nephos kill` has left it dead.
    Held,
}

/// The state of a member's process.
pub fn state(cloud: &Cloud, member: &Member) -> State {
    match Process::of_file(&cloud.run_file(member, "pid")) {
        Some(process) => State::Running(process),
        None if held(cloud, member) => State::Held,
        None => State::Dead,
    }
}

/// Whether `nephos kill` wants the member dead.
pub fn held(cloud: &Cloud, member: &Member) -> bool {
    cloud.run_file(member, "hold").exists()
}

/// The supervisor, if it is alive.
pub fn supervisor(cloud: &Cloud) -> Option<Process> {
    Process::of_file(&cloud.run().join("supervisor.pid"))
}

/// Those of the members that run, by their pid files or else by their command lines; of the latter the pid files
/// are written.
pub fn running(cloud: &Cloud, members: &[Member]) -> Vec<(Member, Process)> {
    let mut running = Vec::new();
    let mut dead = BTreeMap::new();
    for member in members {
        match state(cloud, member) {
            State::Running(process) => running.push((member.clone(), process)),
            State::Dead | State::Held => drop(dead.insert(cloud.config_file(member), member)),
        }
    }
    if dead.is_empty() {
        return running;
    }
    for (process, config) in by_option("--config", |path| dead.contains_key(path)) {
        let Some(member) = dead.get(&config) else { continue };
        if let Err(error) = process.write(&cloud.run_file(member, "pid")) {
            eprintln!("nephos: {}", base::error::chain(&error));
        }
        running.push(((*member).clone(), process));
    }
    running
}

/// A guest that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The host that it is on.
    pub host: String,
    /// For people.
    pub label: String,
}

/// The cloud's guests, found without anybody's help: QEMUs by the pid file on their command lines, simulated ones
/// by the file that stands for their processes.
pub fn guests(cloud: &Cloud) -> Vec<Guest> {
    let hosts = cloud.dir.join("hosts");
    let host_of = |path: &Path| {
        let host = path.strip_prefix(&hosts).ok()?.iter().next()?;
        Some(host.to_string_lossy().into_owned())
    };
    let mut guests = Vec::new();
    for (process, path) in by_option("-pidfile", |path| path.starts_with(&hosts)) {
        let Some(host) = host_of(&path) else { continue };
        let vm = path.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
        let label = format!("the QEMU of {} (pid {})", vm.to_string_lossy(), process.pid);
        guests.push(Guest { host, label });
    }
    let inside = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for host in inside(&hosts) {
        let name = host_of(&host).unwrap_or_default();
        let simulated = host::vmm::simulated::machines(&host.join("vms"));
        let labels = simulated.into_keys().map(|vm| format!("the simulated {vm}"));
        guests.extend(labels.map(|label| Guest { host: name.clone(), label }));
    }
    guests
}

/// The processes on whose command lines the option has a fitting path.
fn by_option(option: &str, fits: impl Fn(&Path) -> bool) -> Vec<(Process, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(process) = Process::of_pid(pid) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let Some(_) = words.find(|word| *word == option.as_bytes()) else { continue };
        let path = Path::new(OsStr::from_bytes(words.next().unwrap_or_default()));
        if fits(path) && process.alive() {
            found.push((process, path.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_names_one_process_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("me.pid");
        let me = Process::of_pid(std::process::id()).unwrap();
        me.write(&path).unwrap();
        assert_eq!(Process::of_file(&path), Some(me));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot_id(), "another-boot")).unwrap();
        assert_eq!(Process::of_file(&path), None, "a pid of another boot");
        let other = Process { start: me.start + 1, ..me };
        other.write(&path).unwrap();
        assert_eq!(Process::of_file(&path), None, "a pid that was given to somebody else");
        fs::write(&path, "garbage").unwrap();
        assert_eq!(Process::of_file(&path), None);
    }

    #[test]
    fn a_process_is_found_by_a_path_on_its_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read _", "nephos", "--config"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let expected = [(Process::of_pid(child.id()).unwrap(), path.clone())];
        // The parent of a process goes on just before its command line can be read.
        let found = || by_option("--config", |at| at == path);
        assert!((0..1000).any(|_| found() == expected));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(by_option("--config", |at| at == path), []);
    }
}
