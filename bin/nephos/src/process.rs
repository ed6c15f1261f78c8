//! Processes by pid file: who is alive, who is left dead on purpose.
//!
//! A pid file holds `PID START`, where START is the process's start time in clock ticks since boot
//! (`/proc/PID/stat`, field 22; proc(5)): a pid alone may by now belong to somebody else.

use crate::cloud::{Cloud, Member};
use crate::error::Error;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;

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
        let (pid, start) = text.trim().split_once(' ')?;
        let process = Process { pid: pid.parse().ok()?, start: start.parse().ok()? };
        process.alive().then_some(process)
    }

    /// Writes the pid file.
    pub fn write(self, path: &Path) -> Result<(), Error> {
        let text = format!("{} {}\n", self.pid, self.start);
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
        let other = Process { start: me.start + 1, ..me };
        other.write(&path).unwrap();
        assert_eq!(Process::of_file(&path), None, "a pid that was given to somebody else");
        fs::write(&path, "garbage").unwrap();
        assert_eq!(Process::of_file(&path), None);
    }
}
