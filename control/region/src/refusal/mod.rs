//! Why the resource manager refuses a request: the closed list that the API turns into AWS's error codes
//! (`api/errors.rs`).

mod network;

pub use network::{Limit, NetworkRefusal};

use crate::instance::state::State;
use base::ids::{AccountId, InstanceId};

/// A request that was understood and refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such account in this region.
    #[error("the account {0} does not exist")]
    AccountNotFound(AccountId),
    /// Instances that do not exist in the account (or were terminated over an hour ago).
    #[error("no such instances: {0:?}")]
    InstancesNotFound(Vec<InstanceId>),
    /// The instance is in a state in which this cannot be done.
    #[error("the instance '{instance}' is not in a state from which it can be {wanted}: it is {state}")]
    IncorrectState {
        /// Which.
        instance: InstanceId,
        /// Its state now.
        state: State,
        /// What was asked, as a participle: "started".
        wanted: &'static str,
    },
    /// The instance must be stopped for this.
    #[error("the instance '{0}' is not stopped")]
    NotStopped(InstanceId),
    /// Stop protection is on.
    #[error("the instance '{instance}' may not be {wanted}: its disableApiStop attribute is true")]
    StopProtected {
        /// Which.
        instance: InstanceId,
        /// What was asked, as a participle: "stopped".
        wanted: &'static str,
    },
    /// Termination protection is on.
    #[error("the instance '{0}' may not be terminated: its disableApiTermination attribute is true")]
    TerminationProtected(InstanceId),
    /// The same idempotency token came with other parameters.
    #[error("the client token '{0}' was used before with other parameters")]
    TokenMismatch(String),
    /// The idempotency token made instances that were terminated and are forgotten.
    #[error("the instances that the client token '{0}' made have been terminated")]
    TokenInstanceTerminated(String),
    /// More is asked at once than one commit can hold.
    #[error("the request changes more at once than can be changed together; split it")]
    TooLarge,
    /// The account would use more vCPUs than its quota.
    #[error("{wanted} more vCPUs would exceed the quota of {limit}: {used} are in use")]
    VcpuQuota {
        /// What the request needs.
        wanted: u32,
        /// What is in use.
        used: u32,
        /// The quota.
        limit: u32,
    },
    /// No cell has room.
    #[error("{0}")]
    InsufficientCapacity(String),
    /// The key pair does not exist.
    #[error("the key pair '{0}' does not exist")]
    KeyPairNotFound(String),
    /// A key pair of that name exists.
    #[error("the key pair '{0}' already exists")]
    KeyPairExists(String),
    /// A resource to be tagged does not exist.
    #[error("the resource '{0}' does not exist")]
    ResourceNotFound(String),
    /// More tags than a resource may have.
    #[error("the resource '{resource}' would have {count} tags; the most is {max}")]
    TooManyTags {
        /// Which.
        resource: String,
        /// How many it would have.
        count: usize,
        /// The most.
        max: usize,
    },
    /// The network does not allow it.
    #[error(transparent)]
    Network(#[from] NetworkRefusal),
    /// The idempotency token made something that is gone.
    #[error("what the client token '{0}' made is gone")]
    TokenResourceGone(String),
    /// Too much waits already; try again.
    #[error("too many requests of this account are waiting")]
    Busy,
    /// The store is full: only what ends or changes something is taken. Nothing was changed.
    #[error("the region's store is full: {0}")]
    StoreFull(String),
    /// The store cannot be written.
    #[error("the region's store cannot be written now: {0}")]
    StoreFailed(String),
}
