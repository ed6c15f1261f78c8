//! `status.json` in the host's directory: what the operator sees of a host, with every control process dead. For
//! people and for `nephos status`; nothing decides on it.

use crate::accelerator::AcceleratorAnswer;
use crate::agent::HostAgent;
use crate::config::{HostConfig, VmmChoice};
use crate::vmm::{VmProcess, Vmm};
use base::clock::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The whole file.
#[derive(Clone, Debug, Serialize)]
pub struct StatusFile {
    /// The host's name.
    pub host_id: String,
    /// The agent's process.
    pub agent_pid: u32,
    /// When the agent started, RFC 3339.
    pub agent_started: String,
    /// Whether the cell is reached.
    pub cell_connected: bool,
    /// `qemu` or `simulated`.
    pub vmm: VmmChoice,
    /// `kvm`, `tcg` or `simulated`; empty until known.
    pub accelerator: String,
    /// Why that one.
    pub accelerator_reason: String,
    /// How guests are kept apart.
    pub isolation: String,
    /// What was configured, and what is there.
    pub capacity: CapacityStatus,
    /// The highest leader's term seen.
    pub term: u64,
    /// Of the document held, as `INCARNATION.REVISION`.
    pub document_generation: String,
    /// Why the newest document is not taken; empty if it is.
    pub document_held: String,
    /// VMs here that the document does not name.
    pub orphans: Vec<String>,
    /// What cannot be read of the ledger.
    pub damaged: Vec<String>,
    /// Each VM.
    pub vms: BTreeMap<String, VmStatusFile>,
}

/// Configured and physical capacity.
#[derive(Clone, Debug, Serialize)]
pub struct CapacityStatus {
    /// Configured.
    pub vcpus: u32,
    /// Configured, in MiB.
    pub memory_mib: u32,
    /// Of the machine.
    pub physical_cpus: u32,
    /// Of the machine, in MiB; 0 if it cannot be read.
    pub physical_memory_mib: u64,
    /// More was configured than is there.
    pub overcommitted: bool,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmStatusFile {
    /// For example `running`.
    pub phase: String,
    /// Why it is stopped; empty if it is not.
    pub stop_cause: String,
    /// The placement.
    pub attempt: u32,
    /// Of the assignment, as `INCARNATION.REVISION`.
    pub generation: String,
    /// How often it was started again after it died, since the agent started.
    pub restarts: u32,
    /// Why, where there is a why.
    pub message: String,
    /// What runs it.
    #[serde(flatten)]
    pub process: VmProcess,
}

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    pub(crate) config: HostConfig,
    pub(crate) started: Timestamp,
    pub(crate) capacity: CapacityStatus,
    pub(crate) host_damaged: String,
}

impl CapacityStatus {
    /// Looks at the machine.
    pub(crate) fn look(config: &HostConfig) -> Self {
        let physical_cpus = std::thread::available_parallelism().map_or(0, |count| count.get() as u32);
        let physical_memory_mib = memory_mib().unwrap_or(0);
        let more_memory = physical_memory_mib > 0 && u64::from(config.memory_mib) > physical_memory_mib;
        CapacityStatus {
            vcpus: config.vcpus,
            memory_mib: config.memory_mib,
            physical_cpus,
            physical_memory_mib,
            overcommitted: more_memory || (physical_cpus > 0 && config.vcpus > physical_cpus),
        }
    }
}

fn memory_mib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// How guests are kept apart, in a sentence.
fn isolation(config: &HostConfig) -> String {
    match (config.vmm, config.uids()) {
        (VmmChoice::Simulated, _) => "there are no guests".into(),
        (VmmChoice::Qemu, Some(range)) => {
            let last = range.first + (range.count - 1);
            format!("each guest has a user of its own ({} to {last}) and QEMU's sandbox", range.first)
        }
        (VmmChoice::Qemu, None) => {
            "single trust: without root all guests share the agent's user; QEMU's sandbox only".into()
        }
    }
}

impl StatusFile {
    pub(crate) fn of(
        fixed: &Fixed,
        agent: &HostAgent,
        vmm: &dyn Vmm,
        accelerator: Option<&AcceleratorAnswer>,
        cell_connected: bool,
    ) -> Self {
        let status = agent.status();
        let text = |generation| contract::convert::generation(generation).to_string();
        let vms = status.vms.iter().map(|vm| {
            let process = vm.instance_id.parse().map(|id| vmm.process(id)).unwrap_or_default();
            let file = VmStatusFile {
                phase: short(vm.phase().as_str_name(), "PHASE_"),
                stop_cause: short(vm.stop_cause().as_str_name(), "STOP_CAUSE_"),
                attempt: vm.attempt,
                generation: text(vm.generation),
                restarts: vm.restarts,
                message: vm.message.clone(),
                process,
            };
            (vm.instance_id.clone(), file)
        });
        let mut damaged: Vec<String> = agent.unrecorded().map(|(id, why)| format!("{id}: {why}")).collect();
        damaged.extend((!fixed.host_damaged.is_empty()).then(|| fixed.host_damaged.clone()));
        let simulated = fixed.config.vmm == VmmChoice::Simulated;
        let name = accelerator.map_or("", |answer| answer.accelerator.as_str());
        let reason = accelerator.map_or("", |answer| answer.reason.as_str());
        StatusFile {
            host_id: fixed.config.host_id.to_string(),
            agent_pid: std::process::id(),
            agent_started: fixed.started.iso8601(),
            cell_connected,
            vmm: fixed.config.vmm,
            accelerator: if simulated { "simulated".into() } else { name.into() },
            accelerator_reason: if simulated { "configured".into() } else { reason.into() },
            isolation: isolation(&fixed.config),
            capacity: fixed.capacity.clone(),
            term: status.term,
            document_generation: text(status.document_generation),
            document_held: status.document_held.clone(),
            orphans: status.orphans.clone(),
            damaged,
            vms: vms.collect(),
        }
    }
}

/// `STOP_CAUSE_SHUT_DOWN` as `shut-down`; what is not specified as nothing.
fn short(name: &str, prefix: &str) -> String {
    let short = name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', "-");
    if short == "unspecified" { String::new() } else { short }
}

/// Puts the status in its place, whole. Not durable: it is written anew at every start.
pub(crate) fn write(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let fresh = directory.join(".status.json.new");
    // Made anew: the mode of one that is there would stay.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(&fresh)?.write_all(bytes)?;
    std::fs::rename(&fresh, directory.join("status.json"))
}
