//! The instance's state machine.
//!
//! ```text
//!               claimed            running
//!   Claiming ───────────► Starting ───────► Running ◄─┐ (reboot: stays Running)
//!    ▲   │ refused           │                │ stop  │
//!    │   ├──────────► Terminated (launch)     ▼       │
//!    │   └──────────► Stopped (start)      Stopping ──┘ never: a stop is not taken back
//!    │                       │ guest off      │ stopped
//!    │ start                 ▼                ▼
//!    └───────────────────  Stopped  ◄─────────┘
//!
//!   every stage but Terminated ── terminate ──► ShuttingDown ── destroyed ──► Terminated
//! ```
//!
//! A guest that powers itself off goes from Starting or Running to Stopped, or to ShuttingDown if it was launched
//! so (InstanceInitiatedShutdownBehavior).

use std::fmt;

/// Where an instance is on its way. Customers see its [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Stage {
    /// A cell is asked for a place; nothing runs.
    Claiming = 1,
    /// The place is confirmed; the host is to start it.
    Starting = 2,
    /// The host says that it runs.
    Running = 3,
    /// The host is to stop it.
    Stopping = 4,
    /// Nothing runs; the disk stays on its host.
    Stopped = 5,
    /// The host is to destroy it.
    ShuttingDown = 6,
    /// Gone; readable for an hour.
    Terminated = 7,
}

impl Stage {
    /// From a record. An unknown number (a newer version's) is an error of the store.
    pub fn from_number(number: u32) -> Option<Stage> {
        use Stage::*;
        [Claiming, Starting, Running, Stopping, Stopped, ShuttingDown, Terminated]
            .into_iter()
            .find(|stage| *stage as u32 == number)
    }

    /// What customers see.
    pub const fn state(self) -> State {
        match self {
            Stage::Claiming | Stage::Starting => State::Pending,
            Stage::Running => State::Running,
            Stage::Stopping => State::Stopping,
            Stage::Stopped => State::Stopped,
            Stage::ShuttingDown => State::ShuttingDown,
            Stage::Terminated => State::Terminated,
        }
    }

    /// Whether the instance holds CPU and memory (and counts against the account's quota).
    pub const fn occupies(self) -> bool {
        matches!(self, Stage::Claiming | Stage::Starting | Stage::Running | Stage::Stopping)
    }

    /// What the cell is told.
    pub const fn target(self) -> contract::Target {
        match self {
            Stage::Claiming => contract::Target::Claimed,
            Stage::Starting | Stage::Running => contract::Target::Running,
            Stage::Stopping | Stage::Stopped => contract::Target::Stopped,
            // A terminated one is told only to a cell that speaks of it as if it were not.
            Stage::ShuttingDown | Stage::Terminated => contract::Target::Destroyed,
        }
    }
}

/// An instance's state as AWS names it, with its code.
/// Source: Amazon EC2 API Reference, `InstanceState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum State {
    Pending = 0,
    Running = 16,
    ShuttingDown = 32,
    Terminated = 48,
    Stopping = 64,
    Stopped = 80,
}

impl State {
    /// AWS's numeric code.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// AWS's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Running => "running",
            State::ShuttingDown => "shutting-down",
            State::Terminated => "terminated",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can happen to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cell holds a place for the current attempt.
    Claimed,
    /// No cell has room; `first` if the instance has never run.
    Refused {
        /// It is being launched, not started again.
        first: bool,
    },
    /// The host says that it runs.
    Runs,
    /// The host says that it stopped, as intended.
    Stopped,
    /// The host says that it stopped, unasked (the guest's own doing, or a failure).
    StoppedUnasked {
        /// It was launched to be terminated when that happens.
        terminate: bool,
    },
    /// The host says that it is destroyed.
    Destroyed,
    /// The customer wants it stopped.
    StopAsked,
    /// The customer wants it started.
    StartAsked,
    /// The customer wants it terminated.
    TerminateAsked,
}

/// The stage after `event`; `None`: the event means nothing in this stage (it is late, or not allowed).
pub const fn next(stage: Stage, event: Event) -> Option<Stage> {
    use Stage::*;
    match event {
        Event::Claimed => match stage {
            Claiming => Some(Starting),
            Starting | Running | Stopping | Stopped | ShuttingDown | Terminated => None,
        },
        Event::Refused { first } => match stage {
            Claiming => Some(if first { Terminated } else { Stopped }),
            Starting | Running | Stopping | Stopped | ShuttingDown | Terminated => None,
        },
        Event::Runs => match stage {
            Starting => Some(Running),
            Claiming | Running | Stopping | Stopped | ShuttingDown | Terminated => None,
        },
        Event::Stopped => match stage {
            Stopping => Some(Stopped),
            Claiming | Starting | Running | Stopped | ShuttingDown | Terminated => None,
        },
        Event::StoppedUnasked { terminate } => match stage {
            Starting | Running => Some(if terminate { ShuttingDown } else { Stopped }),
            Stopping => Some(Stopped),
            Claiming | Stopped | ShuttingDown | Terminated => None,
        },
        Event::Destroyed => match stage {
            ShuttingDown => Some(Terminated),
            Claiming | Starting | Running | Stopping | Stopped | Terminated => None,
        },
        Event::StopAsked => match stage {
            Starting | Running => Some(Stopping),
            Claiming | Stopping | Stopped | ShuttingDown | Terminated => None,
        },
        Event::StartAsked => match stage {
            Stopped => Some(Claiming),
            Claiming | Starting | Running | Stopping | ShuttingDown | Terminated => None,
        },
        Event::TerminateAsked => match stage {
            Claiming | Starting | Running | Stopping | Stopped => Some(ShuttingDown),
            ShuttingDown | Terminated => None,
        },
    }
}

/// How far a launch has been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Acceptance {
    /// Places are being claimed; nobody has been told. If too few can be had it is undone without a trace.
    Claiming = 1,
    /// The customer has been told `pending` before all places were claimed: what fails now is in StateReason.
    Acknowledged = 2,
    /// Every member has a record of its own, or was dropped (between MinCount and MaxCount).
    Settled = 3,
}

impl Acceptance {
    /// From a record.
    pub fn from_number(number: u32) -> Option<Acceptance> {
        use Acceptance::*;
        [Claiming, Acknowledged, Settled].into_iter().find(|a| *a as u32 == number)
    }
}
