//! The steps of one launch, across all planes: the list that the crash tests iterate.
//!
//! A core that reaches a step says so with an effect; the process's shell may then kill the process there
//! (`crash_at` in its config), and the simulator may crash it. A test that never saw a step fails, so the list
//! cannot drift from the code.

use std::fmt;
use std::str::FromStr;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal by $role:ident;)*) => {
        /// A step of RunInstances, in the order of a launch that meets no obstacle.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum LaunchStep { $($(#[$doc])* $name,)* }

        impl LaunchStep {
            /// Every step, in order.
            pub const ALL: &'static [LaunchStep] = &[$(LaunchStep::$name,)*];

            /// The step's name in configs and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(LaunchStep::$name => $text,)* }
            }

            /// The role whose process takes the step.
            pub const fn role(self) -> StepRole {
                match self { $(LaunchStep::$name => StepRole::$role,)* }
            }
        }
    };
}

/// The roles that take part in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepRole {
    /// `nephos region`
    Region,
    /// `nephos cell`
    Cell,
    /// `nephos host`
    Host,
}

steps! {
    /// The region has read the request; nothing is stored.
    RequestReceived = "request-received" by Region;
    /// The reservation, with the idempotency token and the decision, is durable.
    LaunchAccepted = "launch-accepted" by Region;
    /// The claim is on its way to the cell.
    ClaimSent = "claim-sent" by Region;
    /// The cell has read the claim; nothing is stored.
    ClaimReceived = "claim-received" by Cell;
    /// The cell's provisional claim is durable.
    ClaimCommitted = "claim-committed" by Cell;
    /// The region has read the cell's answer; nothing is stored.
    ClaimAnswered = "claim-answered" by Region;
    /// The attempt is confirmed, durably.
    AttemptConfirmed = "attempt-confirmed" by Region;
    /// The customer has been answered.
    CustomerAnswered = "customer-answered" by Region;
    /// The cell has read the confirmation; nothing is stored.
    ConfirmReceived = "confirm-received" by Cell;
    /// The cell's intent that the VM runs is durable.
    VmIntended = "vm-intended" by Cell;
    /// The host's document is on its way.
    DocumentSent = "document-sent" by Cell;
    /// The host's ledger holds the VM, durably.
    LedgerWritten = "ledger-written" by Host;
    /// The VM's process has started.
    VmStarted = "vm-started" by Host;
    /// The cell has read the host's report.
    ReportReceived = "report-received" by Cell;
    /// The region has read the cell's report; nothing is stored.
    RunningReported = "running-reported" by Region;
    /// `running` is durable.
    RunningCommitted = "running-committed" by Region;
}

impl fmt::Display for LaunchStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step name that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step of a launch")]
pub struct UnknownStep(String);

impl FromStr for LaunchStep {
    type Err = UnknownStep;
    fn from_str(text: &str) -> Result<Self, UnknownStep> {
        LaunchStep::ALL
            .iter()
            .copied()
            .find(|step| step.as_str() == text)
            .ok_or_else(|| UnknownStep(text.to_owned()))
    }
}
