//! VMs as QEMU processes: one process, one directory, one user, one control group a VM.
//!
//! ```text
//!   vms/i-…/            the agent's, 0711
//!     disk-made         says that disk.qcow2 was made once: it is never made again
//!     meta-data         opt/nephos/meta-data        the VM's user's, 0400
//!     user-data         opt/nephos/user-data        the same
//!     console.log       see crate::console          agent's
//!     qemu.log          what QEMU prints            written by QEMU through its stderr; bounded
//!     ports/            its network cards: see crate::card   agent's
//!     machine/          the VM's user's, 0700
//!       disk.qcow2      overlay on the image's disk
//!       qmp.sock        how the agent speaks to QEMU
//!       qemu.pid        written by QEMU; its path on the command line identifies the process
//! ```
//!
//! QEMU is started in a session of its own, with nothing of the agent's but a log file, so that it outlives the
//! agent; privileges are dropped before it is executed (QEMU's own `-runas` dies in its sandbox).
//!
//! [`command`] is pure, [`process`] starts, finds and ends, [`driver`] is the [`crate::vmm::Vmm`], [`plug`] puts network
//! cards into a VM that runs.

pub mod command;
pub mod driver;
mod plug;
pub mod process;

use base::ids::InstanceId;

/// The names of a VM's files, relative to its directory.
pub(crate) mod files {
    pub(crate) const MACHINE: &str = "machine";
    pub(crate) const DISK: &str = "machine/disk.qcow2";
    pub(crate) const DISK_MADE: &str = "disk-made";
    pub(crate) const QMP_SOCKET: &str = "machine/qmp.sock";
    pub(crate) const PID: &str = "machine/qemu.pid";
    pub(crate) const META_DATA: &str = "meta-data";
    pub(crate) const USER_DATA: &str = "user-data";
    pub(crate) const CONSOLE: &str = "console.log";
    pub(crate) const LOG: &str = "qemu.log";
}

/// The machine's UUID. Like EC2's it starts with `ec2` (AWS: "Detect whether a host is an EC2 instance"); the
/// instance id's 17 digits fill the rest.
pub fn uuid(vm: InstanceId) -> String {
    let digits = format!("{:017x}", vm.bits() & ((1 << 68) - 1));
    let part = |from: usize, to: usize| &digits[from..to];
    format!("ec2{}-{}-4{}-8{}-0000000000{}", part(0, 5), part(5, 9), part(9, 12), part(12, 15), part(15, 17))
}
