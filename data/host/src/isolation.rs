//! What keeps one VM's process from the next one's and from the host's: a user of its own, and a control group of
//! its own. (Its sandbox is QEMU's own, see [`crate::qemu`].)
//!
//! As root each VM gets a user id from the configured range, so that a guest that breaks out of its QEMU finds
//! nobody else's disk. Without root there is one user for the agent and all guests; the status says so.
//!
//! Control groups give each VM its share of the processors and bound its memory and threads. A VM with network cards
//! shares its memory with the host's switch (see [`crate::qemu::command`]); a page of it counts to whoever touches it
//! first, which is the VM but for buffers that a guest has offered and never written. So the limit holds as it is: the
//! memory has a fixed size, and a switch that fills buffers takes of the VM's account, it adds nothing to it. Version 1 and the
//! unified hierarchy are both used where they can be written; where neither can, the VM runs without, and the
//! status says that too.

use base::ids::InstanceId;
use contract::VmSpec;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What QEMU needs beside the guest's memory: its code cache under TCG (see [`crate::qemu`]) and itself.
const MEMORY_OVERHEAD_MIB: u64 = 768;
const CGROUPS: &str = "/sys/fs/cgroup";
const PARENT: &str = "nephos";

/// The user ids that VMs get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidRange {
    /// The lowest.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The ids that a VM's process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why a VM's process cannot be isolated as it should.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// All in use.
    #[error("all {count} user ids from {first} are in use by other VMs; widen `uids` in the host's config")]
    NoUid {
        /// The range.
        first: u32,
        /// The range.
        count: u32,
    },
    /// A file of the VM is out of its user's reach.
    #[error(
        "user {uid} cannot reach {wanted}: {obstacle} has the mode {mode:04o}; put the host's directory and its \
         images where every user may pass (o+x), or change that mode"
    )]
    Unreachable {
        /// The VM's user.
        uid: u32,
        /// What it must reach.
        wanted: PathBuf,
        /// What stands in the way.
        obstacle: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file cannot be looked at.
    #[error("cannot look at {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Whether this process may give its VMs users of their own.
pub fn can_switch_users() -> bool {
    rustix::process::geteuid().is_root()
}

/// The lowest id of `range` that owns no other VM's `machine` directory under `vms`, or the one that owns this
/// VM's already.
pub fn uid_choose(vms: &Path, vm: InstanceId, range: UidRange) -> Result<u32, IsolationError> {
    let UidRange { first, count } = range;
    let in_range = |uid: &u32| (first..first.saturating_add(count)).contains(uid);
    let owner = |directory: &Path| directory.join("machine").metadata().ok().map(|metadata| metadata.uid());
    if let Some(own) = owner(&vms.join(vm.to_string())).filter(in_range) {
        return Ok(own);
    }
    let entries =
        std::fs::read_dir(vms).map_err(|source| IsolationError::File { path: vms.to_owned(), source })?;
    let taken: std::collections::BTreeSet<u32> =
        entries.filter_map(|entry| owner(&entry.ok()?.path())).filter(in_range).collect();
    (first..first.saturating_add(count))
        .find(|uid| !taken.contains(uid))
        .ok_or(IsolationError::NoUid { first, count })
}

/// Checks that `uid`, in no group of importance, can pass every directory to `path` and read what is there.
/// `path` is absolute.
pub fn reachable(path: &Path, uid: u32) -> Result<(), IsolationError> {
    let look = |path: &Path| {
        path.metadata().map_err(|source| IsolationError::File { path: path.to_owned(), source })
    };
    for (depth, part) in path.ancestors().enumerate() {
        let metadata = look(part)?;
        let mode = metadata.mode() & 0o7777;
        let needed = if depth == 0 && !metadata.is_dir() { 0o4 } else { 0o1 };
        let has = if metadata.uid() == uid { mode >> 6 } else { mode };
        if has & needed == 0 {
            let (wanted, obstacle) = (path.to_owned(), part.to_owned());
            return Err(IsolationError::Unreachable { uid, wanted, obstacle, mode });
        }
    }
    Ok(())
}

/// A VM's place in the control groups.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// Open `cgroup.procs` files, into which the process writes itself before it becomes QEMU.
    pub joins: Vec<OwnedFd>,
    /// For the operator: which controllers bind it, or why none does.
    pub summary: String,
}

/// Makes the groups of a VM, with the limits of `spec`.
pub fn cgroup_ensure(vm: InstanceId, spec: &VmSpec) -> Cgroup {
    let root = Path::new(CGROUPS);
    let unified = if root.join("cgroup.controllers").exists() { root.into() } else { root.join("unified") };
    let mut group = Cgroup::default();
    let (mut bound, mut failures) = (Vec::new(), Vec::new());
    for (controller, v1, v2) in limits(spec) {
        let (directory, settings) = if has_v2(&unified, controller) {
            (unified.join(PARENT).join(vm.to_string()), v2)
        } else {
            (root.join(controller).join(PARENT).join(vm.to_string()), v1)
        };
        match enter(&directory, &unified, controller, &settings) {
            Ok(join) => {
                bound.push(controller);
                group.joins.push(join);
            }
            Err(why) => failures.push(format!("{controller}: {why}")),
        }
    }
    group.summary = match (bound.is_empty(), failures.is_empty()) {
        (false, true) => bound.join(", "),
        (false, false) => format!("{}; not {}", bound.join(", "), failures.join(", ")),
        (true, _) => format!("none ({})", failures.join(", ")),
    };
    group
}

/// Removes the groups of a VM whose process has ended. What cannot be removed is empty, and stays.
pub fn cgroup_remove(vm: InstanceId) {
    let root = Path::new(CGROUPS);
    for controller in ["", "unified", "cpu", "memory", "pids"] {
        let _ = std::fs::remove_dir(root.join(controller).join(PARENT).join(vm.to_string()));
    }
}

type Settings = Vec<(&'static str, String)>;

/// Per controller: the settings under version 1, and under version 2.
fn limits(spec: &VmSpec) -> [(&'static str, Settings, Settings); 3] {
    let vcpus = u64::from(spec.vcpus.max(1));
    let memory_bytes = (u64::from(spec.memory_mib) + MEMORY_OVERHEAD_MIB) << 20;
    // QEMU's I/O workers (64), its virtual processors, and a few of its own.
    let pids = (vcpus + 64 + 32).to_string();
    [
        (
            "cpu",
            vec![("cpu.shares", (1024 * vcpus).to_string())],
            vec![("cpu.weight", (100 * vcpus).min(10_000).to_string())],
        ),
        (
            "memory",
            vec![("memory.limit_in_bytes", memory_bytes.to_string())],
            vec![("memory.max", memory_bytes.to_string())],
        ),
        ("pids", vec![("pids.max", pids.clone())], vec![("pids.max", pids)]),
    ]
}

fn has_v2(unified: &Path, controller: &str) -> bool {
    let controllers = std::fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == controller)
}

fn enter(directory: &Path, unified: &Path, controller: &str, settings: &Settings) -> Result<OwnedFd, String> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| format!("{path}: {e}")
    };
    std::fs::create_dir_all(directory).map_err(at(directory))?;
    if directory.starts_with(unified) {
        for parent in [unified.to_owned(), unified.join(PARENT)] {
            let control = parent.join("cgroup.subtree_control");
            std::fs::write(&control, format!("+{controller}")).map_err(at(&control))?;
        }
    }
    for (file, value) in settings {
        let path = directory.join(file);
        std::fs::write(&path, value).map_err(at(&path))?;
    }
    let procs = directory.join("cgroup.procs");
    OpenOptions::new().write(true).open(&procs).map(OwnedFd::from).map_err(at(&procs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_stands_in_a_users_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        let file = closed.join("disk");
        std::fs::write(&file, "").unwrap();
        let mode_set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode_set(directory.path(), 0o755);
        for (directory_mode, file_mode, obstacle) in
            [(0o700, 0o644, Some(&closed)), (0o711, 0o644, None), (0o711, 0o600, Some(&file))]
        {
            mode_set(&closed, directory_mode);
            mode_set(&file, file_mode);
            let found = match reachable(&file, 4_000_000_000) {
                Ok(()) => None,
                Err(IsolationError::Unreachable { obstacle, .. }) => Some(obstacle),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found.as_ref(), obstacle);
        }
    }

    #[test]
    fn each_vm_gets_a_user_of_the_range_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let (a, b) = (InstanceId::from_bits(1), InstanceId::from_bits(2));
        std::fs::create_dir_all(directory.path().join(a.to_string()).join("machine")).unwrap();
        let range = UidRange { first: own, count: 2 };
        assert_eq!(uid_choose(directory.path(), a, range).unwrap(), own);
        assert_eq!(uid_choose(directory.path(), b, range).unwrap(), own + 1);
        let full = UidRange { first: own, count: 1 };
        assert!(matches!(uid_choose(directory.path(), b, full), Err(IsolationError::NoUid { .. })));
    }
}
