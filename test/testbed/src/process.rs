//! Processes of a cloud as the machine sees them: alive or not, killed by pid, found by what they were started with.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Whether the process runs. One that has ended and was not yet waited for does not.
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// Sends SIGKILL. A process that is gone is as good.
pub fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The processes with `directory` in an argument: every process of a cloud, its QEMUs included, has its own
/// directory there.
pub fn of_directory(directory: &Path) -> BTreeSet<u32> {
    let needle = directory.as_os_str().as_encoded_bytes();
    let holds = |line: &[u8]| line.windows(needle.len()).any(|part| part == needle);
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| holds(&line)))
        .filter(|pid| alive(*pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_directory_until_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(directory.path().join("config"))
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let found = || of_directory(directory.path());
        crate::wait("the process is seen", crate::LONG, || found().contains(&child.id()).then_some(()));
        kill(child.id());
        crate::wait("it is gone", crate::LONG, || found().is_empty().then_some(()));
        assert!(!alive(child.id()), "a zombie does not run");
        child.wait().unwrap();
    }
}
