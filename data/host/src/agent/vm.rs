//! One VM's state on this host, and what follows from what is wanted of it and from what its VMM says.
//!
//! ```text
//!                    Unsurveyed
//!           not found │      │ found
//!                     ▼      ▼
//!     ┌────────────► Down   Running ◄──── Started ────┐
//!     │               │        │ │ └─ GuestShutdown ─►│──────────────► Halted
//!     │               └ start ─┼─┼──► Starting ───────┘                 │
//!     │                        │ └─ ACPI ► Asked ── GuestShutdown ──────┤
//!     │                        │             │ out of time, or force    │ once the ledger knows why
//!     │                   Exited             ▼                          ▼
//!     │                        ▼          Cutting ◄─────────────────────┘
//!     ├── out of budget ─── Resting          │
//!     └───────────────────────────── Exited ─┘
//!
//!     any ── tombstone ──► Destroying ── Destroyed ──► Destroyed
//! ```
//!
//! [`VmState::hear`] is what a VMM's word makes of a state, [`VmState::pursue`] what to do next about a want. Both
//! are pure; the agent carries out what they return.

use crate::vmm::VmmEvent;
use base::clock::Timestamp;
use base::generation::Generation;
use contract::StopCause;
use std::time::Duration;

/// How long until the power button is pressed again: a guest that was still booting did not hear it.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const DESTROY_AGAIN: Duration = Duration::from_secs(5);
/// How long a driver may be silent about an end or a destruction until it is told again: longer than it ever takes,
/// so that the first answer does not meet the second question.
const END_AGAIN: Duration = Duration::from_secs(60);

/// Where a VM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VmState {
    /// The driver has not yet said whether it runs.
    Unsurveyed,
    /// No process.
    Down {
        /// On its way through a reboot: the customer still sees it running.
        rebooting: bool,
    },
    /// The driver starts it.
    Starting {
        rebooting: bool,
        /// What the driver waits for, if it has said so.
        waits_for: Option<String>,
    },
    /// The guest runs.
    Running,
    /// The power button was pressed.
    Asked { purpose: Purpose, deadline: Timestamp, again_at: Timestamp },
    /// The guest has switched itself off; the process waits to be ended.
    Halted { purpose: Purpose },
    /// The process is being ended.
    Cutting { purpose: Purpose, halted: bool, again_at: Timestamp },
    /// It died; it is started again then.
    Resting { until: Timestamp },
    /// Process and files are being removed.
    Destroying { again_at: Timestamp },
    /// Nothing of it is left.
    Destroyed,
}

/// Why a guest goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The assignment of that generation says so.
    Stop(Generation),
    /// To come up again.
    Reboot,
    /// The whole host goes down; it comes up again with it.
    HostDown,
    /// To be destroyed.
    Destroy,
    /// Unasked, under the assignment of that generation.
    Guest(Generation),
}

/// What the ledger says must become of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The ledger does not know it: leave it as it is.
    Leave,
    Run {
        reboot: bool,
        /// The ledger must first take note of this start.
        prepare: bool,
    },
    /// Down because the host goes down.
    Rest,
    Stop {
        generation: Generation,
        force: bool,
        /// The ledger knows why it is stopped.
        recorded: bool,
    },
    Destroy {
        force: bool,
    },
}

/// What the agent must do about one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    ShutDown,
    PowerOff,
    Destroy,
    /// Write down why it is stopped, unless that is known.
    RecordStop(Generation, StopCause, &'static str),
    /// Write down that the coming start takes care of all that was asked so far.
    RecordStart,
    /// Write down that it is destroyed.
    RecordDestroyed,
}

/// What the end of a process or of a guest means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to remember.
    Quiet,
    /// It runs.
    Started,
    /// It is stopped, for good.
    Stopped(Generation, StopCause, String),
    /// It died or did not start: the restart budget decides.
    Failed(String),
}

impl VmState {
    /// Whether a process may exist.
    pub(super) fn has_process(&self) -> bool {
        match self {
            VmState::Starting { .. }
            | VmState::Running
            | VmState::Asked { .. }
            | VmState::Halted { .. }
            | VmState::Cutting { .. } => true,
            VmState::Unsurveyed
            | VmState::Down { .. }
            | VmState::Resting { .. }
            | VmState::Destroying { .. }
            | VmState::Destroyed => false,
        }
    }

    /// Why the guest goes down, if it does.
    pub(super) fn purpose(&self) -> Option<Purpose> {
        match self {
            VmState::Asked { purpose, .. }
            | VmState::Halted { purpose }
            | VmState::Cutting { purpose, .. } => Some(*purpose),
            VmState::Unsurveyed
            | VmState::Down { .. }
            | VmState::Starting { .. }
            | VmState::Running
            | VmState::Resting { .. }
            | VmState::Destroying { .. }
            | VmState::Destroyed => None,
        }
    }

    /// The state after `event`. A word that does not fit the state is late, and changes nothing.
    pub(super) fn hear(self, event: VmmEvent, generation: Generation, now: Timestamp) -> (VmState, Heard) {
        match event {
            VmmEvent::Started => match self {
                VmState::Starting { .. } => (VmState::Running, Heard::Started),
                other => (other, Heard::Quiet),
            },
            VmmEvent::Waiting { why } => match self {
                VmState::Starting { rebooting, .. } => {
                    (VmState::Starting { rebooting, waits_for: Some(why) }, Heard::Quiet)
                }
                other => (other, Heard::Quiet),
            },
            VmmEvent::StartFailed { why } => match self {
                VmState::Starting { .. } => (VmState::Down { rebooting: false }, Heard::Failed(why)),
                other => (other, Heard::Quiet),
            },
            VmmEvent::GuestShutdown => self.hear_halt(generation),
            VmmEvent::Exited { why } => self.hear_exit(why),
            VmmEvent::Destroyed => match self {
                VmState::Destroying { .. } => (VmState::Destroyed, Heard::Quiet),
                other => (other, Heard::Quiet),
            },
            VmmEvent::DestroyFailed { .. } => match self {
                VmState::Destroying { .. } => {
                    (VmState::Destroying { again_at: now + DESTROY_AGAIN }, Heard::Quiet)
                }
                other => (other, Heard::Quiet),
            },
            VmmEvent::Console { .. } | VmmEvent::Interfaces { .. } => (self, Heard::Quiet),
        }
    }

    fn hear_halt(self, generation: Generation) -> (VmState, Heard) {
        let purpose = match self {
            VmState::Starting { .. } | VmState::Running => Purpose::Guest(generation),
            VmState::Asked { purpose, .. } => purpose,
            other @ (VmState::Unsurveyed
            | VmState::Down { .. }
            | VmState::Halted { .. }
            | VmState::Cutting { .. }
            | VmState::Resting { .. }
            | VmState::Destroying { .. }
            | VmState::Destroyed) => return (other, Heard::Quiet),
        };
        (VmState::Halted { purpose }, purpose.halted())
    }

    fn hear_exit(self, why: String) -> (VmState, Heard) {
        let down = |purpose: Purpose| VmState::Down { rebooting: purpose == Purpose::Reboot };
        match self {
            VmState::Starting { .. } | VmState::Running => {
                (VmState::Down { rebooting: false }, Heard::Failed(why))
            }
            VmState::Asked { purpose, .. } => {
                let message = format!("it ended while the guest was shutting down: {why}");
                (down(purpose), purpose.cut(message))
            }
            VmState::Halted { purpose } => (down(purpose), purpose.halted()),
            VmState::Cutting { purpose, halted: true, .. } => (down(purpose), purpose.halted()),
            VmState::Cutting { purpose, halted: false, .. } => (down(purpose), purpose.cut(String::new())),
            other @ (VmState::Unsurveyed
            | VmState::Down { .. }
            | VmState::Resting { .. }
            | VmState::Destroying { .. }
            | VmState::Destroyed) => (other, Heard::Quiet),
        }
    }

    /// What to do next. `pending`: the ledger is still being written about this VM, so that nothing may start or
    /// be concluded from what it says.
    pub(super) fn pursue(
        self,
        want: Want,
        pending: bool,
        now: Timestamp,
        shutdown_timeout: Duration,
    ) -> (VmState, Option<Action>) {
        match self {
            VmState::Unsurveyed => (VmState::Unsurveyed, None),
            VmState::Down { rebooting } => Self::pursue_down(rebooting, want, pending, now),
            VmState::Starting { rebooting, waits_for } => match want {
                Want::Destroy { .. } => destroying(now),
                Want::Rest => cutting(Purpose::HostDown, false, now),
                // One that waits has no guest that could be asked.
                Want::Stop { generation, force, .. } if force || waits_for.is_some() => {
                    cutting(Purpose::Stop(generation), false, now)
                }
                Want::Stop { .. } | Want::Run { .. } | Want::Leave => {
                    (VmState::Starting { rebooting, waits_for }, None)
                }
            },
            VmState::Running => match want {
                Want::Leave | Want::Run { reboot: false, .. } => (VmState::Running, None),
                Want::Destroy { force: true } => destroying(now),
                Want::Stop { generation, force: true, .. } => cutting(Purpose::Stop(generation), false, now),
                Want::Destroy { force: false }
                | Want::Rest
                | Want::Run { reboot: true, .. }
                | Want::Stop { force: false, .. } => {
                    let purpose = want.purpose().unwrap_or(Purpose::Reboot);
                    let asked = VmState::Asked {
                        purpose,
                        deadline: now + shutdown_timeout,
                        again_at: now + ASK_AGAIN,
                    };
                    (asked, Some(Action::ShutDown))
                }
            },
            VmState::Asked { purpose, deadline, again_at } => {
                let purpose = want.purpose().unwrap_or(purpose);
                let out_of_time = now >= deadline || want.forced();
                match purpose {
                    Purpose::Destroy if out_of_time => destroying(now),
                    _ if out_of_time => cutting(purpose, false, now),
                    _ if now >= again_at => {
                        let asked = VmState::Asked { purpose, deadline, again_at: now + ASK_AGAIN };
                        (asked, Some(Action::ShutDown))
                    }
                    _ => (VmState::Asked { purpose, deadline, again_at }, None),
                }
            }
            VmState::Halted { purpose } => Self::pursue_halted(purpose, want, pending, now),
            VmState::Cutting { purpose, halted, again_at } => match want {
                Want::Destroy { .. } => destroying(now),
                _ if now >= again_at => cutting(purpose, halted, now),
                Want::Leave | Want::Run { .. } | Want::Rest | Want::Stop { .. } => {
                    (VmState::Cutting { purpose, halted, again_at }, None)
                }
            },
            VmState::Resting { until } => match want {
                Want::Run { .. } if now < until => (VmState::Resting { until }, None),
                Want::Leave => (VmState::Resting { until }, None),
                Want::Run { .. } | Want::Rest | Want::Stop { .. } | Want::Destroy { .. } => {
                    Self::pursue_down(false, want, pending, now)
                }
            },
            VmState::Destroying { again_at } if now >= again_at => destroying(now),
            VmState::Destroying { again_at } => (VmState::Destroying { again_at }, None),
            VmState::Destroyed => match want {
                Want::Destroy { .. } if pending => (VmState::Destroyed, None),
                Want::Destroy { .. } => (VmState::Destroyed, Some(Action::RecordDestroyed)),
                Want::Run { .. } | Want::Stop { .. } => Self::pursue_down(false, want, pending, now),
                Want::Leave | Want::Rest => (VmState::Destroyed, None),
            },
        }
    }

    fn pursue_down(rebooting: bool, want: Want, pending: bool, now: Timestamp) -> (VmState, Option<Action>) {
        let down = VmState::Down { rebooting };
        match want {
            Want::Destroy { .. } => destroying(now),
            Want::Leave | Want::Rest => (down, None),
            Want::Run { .. } | Want::Stop { .. } if pending => (down, None),
            Want::Run { prepare: true, .. } => (down, Some(Action::RecordStart)),
            Want::Run { prepare: false, .. } => {
                (VmState::Starting { rebooting, waits_for: None }, Some(Action::Start))
            }
            Want::Stop { recorded: true, .. } => (down, None),
            Want::Stop { generation, recorded: false, .. } => {
                let record =
                    Action::RecordStop(generation, StopCause::PoweredOff, "it was not running when asked");
                (down, Some(record))
            }
        }
    }

    /// A process whose guest is off goes as soon as the ledger knows why the guest went down.
    fn pursue_halted(
        purpose: Purpose,
        want: Want,
        pending: bool,
        now: Timestamp,
    ) -> (VmState, Option<Action>) {
        let halted = VmState::Halted { purpose };
        match want {
            Want::Leave => (halted, None),
            Want::Destroy { .. } => destroying(now),
            Want::Run { .. } | Want::Rest | Want::Stop { .. } if pending => (halted, None),
            Want::Run { .. } | Want::Rest | Want::Stop { .. } => cutting(purpose, true, now),
        }
    }
}

fn destroying(now: Timestamp) -> (VmState, Option<Action>) {
    (VmState::Destroying { again_at: now + END_AGAIN }, Some(Action::Destroy))
}

fn cutting(purpose: Purpose, halted: bool, now: Timestamp) -> (VmState, Option<Action>) {
    (VmState::Cutting { purpose, halted, again_at: now + END_AGAIN }, Some(Action::PowerOff))
}

impl Want {
    /// Why the guest goes down, if it must.
    fn purpose(self) -> Option<Purpose> {
        match self {
            Want::Leave | Want::Run { reboot: false, .. } => None,
            Want::Run { reboot: true, .. } => Some(Purpose::Reboot),
            Want::Rest => Some(Purpose::HostDown),
            Want::Stop { generation, .. } => Some(Purpose::Stop(generation)),
            Want::Destroy { .. } => Some(Purpose::Destroy),
        }
    }

    fn forced(self) -> bool {
        match self {
            Want::Stop { force, .. } | Want::Destroy { force } => force,
            Want::Leave | Want::Run { .. } | Want::Rest => false,
        }
    }
}

impl Purpose {
    /// What it means that the guest has switched itself off.
    fn halted(self) -> Heard {
        match self {
            Purpose::Stop(generation) => Heard::Stopped(generation, StopCause::ShutDown, String::new()),
            Purpose::Guest(generation) => {
                Heard::Stopped(generation, StopCause::Guest, "the guest shut itself down".into())
            }
            Purpose::Reboot | Purpose::HostDown | Purpose::Destroy => Heard::Quiet,
        }
    }

    /// What it means that the process has ended under a guest that was on.
    fn cut(self, message: String) -> Heard {
        match self {
            Purpose::Stop(generation) | Purpose::Guest(generation) => {
                Heard::Stopped(generation, StopCause::PoweredOff, message)
            }
            Purpose::Reboot | Purpose::HostDown | Purpose::Destroy => Heard::Quiet,
        }
    }
}
