//! What customers and operators can ask the region to change, in the region's own words. (Reads do not come here:
//! they are served from the model.)

use crate::instance::record::{InstanceRecord, ReservationRecord, TemplateRecord};
use crate::instance::state::State;
use crate::key_pair::record::KeyPairRecord;
use crate::network::{NetworkChange, Token};
use crate::network_interface::launch::LaunchInterface;
use crate::record::Record;
use crate::security_group::MadeRules;
use crate::tag::record::TagRecord;
use base::ids::{AccountId, InstanceId, KeyPairId, ZoneName};
use std::sync::Arc;

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Make an account; asked twice with one token, makes one.
    AccountCreate {
        /// For people.
        name: String,
        /// The idempotency token; may be empty.
        client_token: String,
    },
    /// RunInstances.
    Launch(Box<LaunchRequest>),
    /// StartInstances.
    Start(Vec<InstanceId>),
    /// StopInstances.
    Stop {
        /// Which.
        instances: Vec<InstanceId>,
        /// Without asking the guests.
        force: bool,
    },
    /// RebootInstances.
    Reboot(Vec<InstanceId>),
    /// TerminateInstances.
    Terminate(Vec<InstanceId>),
    /// ModifyInstanceAttribute.
    InstanceModify(InstanceId, InstanceChange),
    /// CreateKeyPair and ImportKeyPair: the public half of a key that is made or read already.
    KeyPairCreate(Box<KeyPairRecord>),
    /// DeleteKeyPair.
    KeyPairDelete {
        /// By name...
        name: Option<String>,
        /// ...or by id.
        id: Option<KeyPairId>,
    },
    /// CreateTags.
    TagsCreate {
        /// Ids of any resources.
        resources: Vec<String>,
        /// Overwrites tags of the same keys.
        tags: Vec<TagRecord>,
    },
    /// A change of the network, with its idempotency token.
    Network(Box<NetworkChange>, Option<Token>),
    /// DeleteTags.
    TagsDelete {
        /// Ids of any resources.
        resources: Vec<String>,
        /// Keys, each with the value it must have (`None`: any). Empty: all tags.
        tags: Vec<(String, Option<String>)>,
    },
}

/// RunInstances, checked and resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchRequest {
    /// The fewest that are of use.
    pub count_min: u32,
    /// How many are wanted.
    pub count: u32,
    /// What each needs.
    pub vcpus: u32,
    /// What each needs.
    pub memory_mib: u32,
    /// What each is made of.
    pub template: TemplateRecord,
    /// The zone that the customer named, by itself or by a subnet.
    pub zone: Option<ZoneName>,
    /// Each one's first interface.
    pub interface: LaunchInterface,
    /// The idempotency token; empty without one.
    pub client_token: String,
    /// SHA-256 of all parameters but the token.
    pub parameters_sha256: [u8; 32],
}

/// ModifyInstanceAttribute's changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    /// The instance must be stopped.
    InstanceType(String),
    /// Termination protection.
    DisableApiTermination(bool),
    /// Stop protection.
    DisableApiStop(bool),
    /// The instance must be stopped; decoded.
    UserData(Vec<u8>),
    /// What a guest's own power-off does.
    TerminateOnShutdown(bool),
}

/// What became of a request; durable when it is given.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The account with its key.
    Account(AccountId),
    /// The launch and its members, as of the answer.
    Launched(Arc<ReservationRecord>, Vec<Arc<InstanceRecord>>),
    /// Each instance's state before and after.
    States(Vec<StateChange>),
    /// The key pair.
    KeyPair(Arc<KeyPairRecord>),
    /// A key pair that is gone, if it was there.
    KeyPairGone(Option<KeyPairId>),
    /// The resource that was made or changed.
    Resource(Record),
    /// Rules of a security group that were made or removed.
    Rules(MadeRules),
    /// The id of an association that was made.
    Association(String),
    /// Nothing to say.
    Done,
}

/// One instance's state before and after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which.
    pub instance: InstanceId,
    /// Before.
    pub before: State,
    /// After.
    pub after: State,
}
