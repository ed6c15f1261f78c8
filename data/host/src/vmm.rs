//! What the agent asks of a virtual machine monitor and what it hears back: the seam between decision and machine.
//!
//! Carried out by [`crate::qemu`] with real guests and by [`simulated`] without any. A driver works through one
//! VM's commands in order. It says what happened with exactly one event for each `Start`, `PowerOff` and `Destroy`,
//! and with a further one whenever a VM does something unasked.
//!
//! Invariant: a driver destroys only on [`VmmCommand::Destroy`], and never ends a VM because it ends itself.

use base::generation::Attempt;
use base::ids::InstanceId;
use contract::{VmInterface, VmSpec};
use std::future::Future;
use std::pin::Pin;

pub mod simulated;

/// What to do with one VM.
#[derive(Clone, Debug, PartialEq)]
pub enum VmmCommand {
    /// Make what is missing of its files and start it. Answered by `Started` or `StartFailed`, in front of which
    /// `Waiting` may be said any number of times; a VM that waits takes
    /// another spec.
    Start {
        /// What to start.
        spec: Box<VmSpec>,
        /// The placement, for the log.
        attempt: Attempt,
    },
    /// Have the running VM have these network cards and no others. Answered by `Interfaces`, each time that how far
    /// this has come changes; goes on by itself until it is so.
    Interfaces {
        /// Its spec's.
        interfaces: Vec<VmInterface>,
    },
    /// Press the power button. The guest may react, by `GuestShutdown`, or not.
    ShutDown,
    /// End the VM's process, whatever the guest does. Answered by `Exited`, also if nothing ran.
    PowerOff,
    /// End the process and remove every file of the VM. Answered by `Destroyed` or `DestroyFailed`.
    Destroy,
    /// Read the newest part of the console. Answered by `Console`.
    ConsoleRead {
        /// The cell's, for the answer.
        request_id: u64,
        /// How much of it at the most.
        bytes_max: u32,
    },
}

/// What became of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmmEvent {
    /// Its virtual processors run.
    Started,
    /// It cannot start yet, because of something that is not the VM's; it starts as soon as it can, unasked.
    Waiting {
        /// For people.
        why: String,
    },
    /// It does not run, and why.
    StartFailed {
        /// For people.
        why: String,
    },
    /// How its network cards are.
    Interfaces {
        /// Why they are not yet as they shall be; empty: they are.
        missing: String,
    },
    /// The guest has switched itself off, asked or not. The process stays until `PowerOff`, so that a restarted
    /// agent can still tell this from a crash.
    GuestShutdown,
    /// The process has ended.
    Exited {
        /// For people.
        why: String,
    },
    /// Process and files are gone.
    Destroyed,
    /// Something of it is still there.
    DestroyFailed {
        /// For people.
        why: String,
    },
    /// The answer to `ConsoleRead`.
    Console {
        /// Of the question.
        request_id: u64,
        /// The newest bytes.
        data: Vec<u8>,
        /// When the newest of them was written; 0 if none was.
        written_unix_ms: u64,
    },
}

/// A VM that was there when the driver looked, at the agent's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub vm: InstanceId,
    /// Its guest has switched itself off; only the process is left.
    pub halted: bool,
}

/// What runs a VM, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VmProcess {
    /// The process, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The user that it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its control groups, or why it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup: String,
}

/// A driver of virtual machines. Its events arrive on the channel that it was made with.
pub trait Vmm: Send {
    /// Finds and adopts what runs already. Called once, before any command.
    fn survey(&mut self) -> Pin<Box<dyn Future<Output = Vec<Found>> + Send + '_>>;

    /// Queues a command; returns at once.
    fn command(&mut self, vm: InstanceId, command: VmmCommand);

    /// What runs the VM.
    fn process(&self, vm: InstanceId) -> VmProcess;
}
