//! The file by which simulated machines outlive the process that simulates them, as QEMU's outlive theirs: one for
//! all machines of a host, because there may be thousands and each file costs what starting one of them does.
//!
//! ```text
//!   BOOT_ID                     of the machine's boot: with that, everything that ran is gone
//!   i-0123456789abcdef0 running
//!   i-0123456789abcdef0 halted  the last word about a machine counts
//!   i-0123456789abcdef0 gone
//! ```
//!
//! Not durable, on purpose: what it says ends with the boot.

use base::ids::InstanceId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "simulated";
/// Lines beyond twice the machines, after which the file is written anew.
const LINES_MIN: usize = 1_000;

/// The machines that an agent left on this boot, and whether each has halted.
pub fn machines(vms: &Path) -> BTreeMap<InstanceId, bool> {
    let text = std::fs::read_to_string(vms.join(NAME)).unwrap_or_default();
    let mut lines = text.lines();
    let mut machines = BTreeMap::new();
    if lines.next().is_none_or(|first| first != boot_id()) {
        return machines;
    }
    // A line that an agent's end cut short was never answered for.
    for (vm, state) in lines.filter_map(|line| line.split_once(' ')) {
        let Ok(vm) = vm.parse() else { continue };
        match state {
            "running" => drop(machines.insert(vm, false)),
            "halted" => drop(machines.insert(vm, true)),
            "gone" => drop(machines.remove(&vm)),
            _ => {}
        }
    }
    machines
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The file, being written.
pub(super) struct MachineFile {
    vms: PathBuf,
    machines: BTreeMap<InstanceId, bool>,
    /// `None`: it is to be written anew.
    file: Option<File>,
    lines: usize,
}

impl MachineFile {
    /// That of the VMs under `vms`, as it is.
    pub(super) fn open(vms: &Path) -> Self {
        MachineFile { vms: vms.to_owned(), machines: machines(vms), file: None, lines: 0 }
    }

    /// The machines in it, and whether each has halted.
    pub(super) fn machines(&self) -> &BTreeMap<InstanceId, bool> {
        &self.machines
    }

    /// The machine runs now.
    pub(super) fn runs(&mut self, vm: InstanceId) -> io::Result<()> {
        self.machines.insert(vm, false);
        let noted = self.note(vm, "running");
        if noted.is_err() {
            self.machines.remove(&vm);
        }
        noted
    }

    /// Its guest is off now.
    pub(super) fn halted(&mut self, vm: InstanceId) -> io::Result<()> {
        self.machines.insert(vm, true);
        self.note(vm, "halted")
    }

    /// It is no more.
    pub(super) fn gone(&mut self, vm: InstanceId) -> io::Result<()> {
        match self.machines.remove(&vm) {
            Some(_) => self.note(vm, "gone"),
            None => Ok(()),
        }
    }

    fn note(&mut self, vm: InstanceId, state: &str) -> io::Result<()> {
        let bounded = self.lines < 2 * self.machines.len() + LINES_MIN;
        // After an error it is written anew: half a line may stand there.
        self.file = match self.file.take().filter(|_| bounded) {
            Some(mut file) => {
                file.write_all(format!("{vm} {state}\n").as_bytes())?;
                self.lines += 1;
                Some(file)
            }
            None => Some(self.write_anew()?),
        };
        Ok(())
    }

    fn write_anew(&mut self) -> io::Result<File> {
        let mut text = format!("{}\n", boot_id());
        for (vm, halted) in &self.machines {
            let state = if *halted { "halted" } else { "running" };
            let _ = writeln!(text, "{vm} {state}");
        }
        let fresh = self.vms.join(".simulated.new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, self.vms.join(NAME))?;
        self.lines = self.machines.len();
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_machine_counts_and_the_file_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let vm = InstanceId::from_bits;
        let mut file = MachineFile::open(directory.path());
        for _ in 0..2_000 {
            file.runs(vm(1)).unwrap();
            file.halted(vm(2)).unwrap();
            file.runs(vm(3)).unwrap();
            file.gone(vm(3)).unwrap();
        }
        let expected = BTreeMap::from([(vm(1), false), (vm(2), true)]);
        assert_eq!(machines(directory.path()), expected);
        let path = directory.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < LINES_MIN + 10);
        // Half a line, and then a new process.
        std::fs::write(&path, text + "i-00000000000000001 hal").unwrap();
        let mut file = MachineFile::open(directory.path());
        assert_eq!(*file.machines(), expected);
        file.halted(vm(1)).unwrap();
        assert_eq!(machines(directory.path()), BTreeMap::from([(vm(1), true), (vm(2), true)]));
        // Another boot: nothing runs.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&boot_id(), "another")).unwrap();
        assert!(machines(directory.path()).is_empty());
    }
}
