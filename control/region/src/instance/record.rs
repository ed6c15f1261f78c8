//! What is stored of launches and instances.

use super::catalogue;
use super::state::{Acceptance, Stage};
use crate::network_interface::record::LaunchInterfaceRecord;
use crate::tag::record::TagRecord;
use base::clock::Timestamp;
use base::ids::InstanceId;

/// One RunInstances call: from it its members are derived until each has a record of its own, so that accepting
/// a launch costs the same however many instances it asks for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReservationRecord {
    /// `r-...`
    #[prost(string, tag = "1")]
    pub reservation_id: String,
    /// Members' ids are derived from these 68 bits (low 64 here, high 4 in `seed_high`).
    #[prost(uint64, tag = "2")]
    pub seed_low: u64,
    /// The upper bits of the seed.
    #[prost(uint32, tag = "3")]
    pub seed_high: u32,
    /// How many were asked for (MaxCount).
    #[prost(uint32, tag = "4")]
    pub count: u32,
    /// How many must be had (MinCount).
    #[prost(uint32, tag = "5")]
    pub count_min: u32,
    /// A [`super::state::Acceptance`].
    #[prost(uint32, tag = "6")]
    pub acceptance: u32,
    /// When it was accepted.
    #[prost(uint64, tag = "7")]
    pub accepted_unix_ms: u64,
    /// What each member is made of.
    #[prost(message, optional, tag = "8")]
    pub template: Option<TemplateRecord>,
    /// The zone that was chosen.
    #[prost(string, tag = "9")]
    pub zone: String,
    /// The customer named the zone: no other will do.
    #[prost(bool, tag = "10")]
    pub zone_fixed: bool,
    /// The cell that was asked first.
    #[prost(string, tag = "11")]
    pub cell_id: String,
    /// Why that cell.
    #[prost(message, repeated, tag = "12")]
    pub verdicts: Vec<CellVerdictRecord>,
    /// The idempotency token, if one was given.
    #[prost(string, tag = "13")]
    pub client_token: String,
    /// The members' first interfaces; launches from before there were networks have none.
    #[prost(message, optional, tag = "14")]
    pub interface: Option<LaunchInterfaceRecord>,
}

/// What the members of a launch have in common.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TemplateRecord {
    /// `ami-...`
    #[prost(string, tag = "1")]
    pub image_id: String,
    /// `t3.micro`
    #[prost(string, tag = "2")]
    pub instance_type: String,
    /// Decoded, at most 16 KiB. In an instance's own template only where `own_user_data` says so: a launch keeps it
    /// once for all members.
    #[prost(bytes = "vec", tag = "3")]
    pub user_data: Vec<u8>,
    /// Empty without one.
    #[prost(string, tag = "4")]
    pub key_name: String,
    /// The OpenSSH line, copied at launch: deleting the key pair changes no instance.
    #[prost(string, tag = "5")]
    pub ssh_public_key: String,
    /// Sorted by key.
    #[prost(message, repeated, tag = "6")]
    pub tags: Vec<TagRecord>,
    /// TerminateInstances is refused while true.
    #[prost(bool, tag = "7")]
    pub disable_api_termination: bool,
    /// A guest that powers itself off is terminated, not stopped.
    #[prost(bool, tag = "8")]
    pub terminate_on_shutdown: bool,
    /// StopInstances and TerminateInstances are refused while true.
    #[prost(bool, tag = "9")]
    pub disable_api_stop: bool,
}

/// Why the region chose a cell, or passed it over.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CellVerdictRecord {
    /// The cell's zone.
    #[prost(string, tag = "1")]
    pub zone: String,
    /// The cell.
    #[prost(string, tag = "2")]
    pub cell_id: String,
    /// Whether it was chosen.
    #[prost(bool, tag = "3")]
    pub chosen: bool,
    /// For people.
    #[prost(string, tag = "4")]
    pub verdict: String,
}

/// An instance.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstanceRecord {
    /// `i-...`
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// `r-...`
    #[prost(string, tag = "2")]
    pub reservation_id: String,
    /// Its index within the launch.
    #[prost(uint32, tag = "3")]
    pub launch_index: u32,
    /// A [`super::state::Stage`].
    #[prost(uint32, tag = "4")]
    pub stage: u32,
    /// Which placement this is; only the confirmed one runs.
    #[prost(uint32, tag = "5")]
    pub attempt: u32,
    /// Raised with every change of what the host shall do: the revision of the intent's generation.
    #[prost(uint64, tag = "6")]
    pub intent: u64,
    /// Where it is, or where a place is being claimed.
    #[prost(string, tag = "7")]
    pub zone: String,
    /// The cell.
    #[prost(string, tag = "8")]
    pub cell_id: String,
    /// The host that holds its disk; empty before the first claim is answered.
    #[prost(string, tag = "9")]
    pub host_id: String,
    /// The host's rack.
    #[prost(string, tag = "10")]
    pub rack_id: String,
    /// Cells that refused it, so that none is asked twice for one start.
    #[prost(string, repeated, tag = "11")]
    pub refused_by: Vec<String>,
    /// What it is made of; changes with ModifyInstanceAttribute.
    #[prost(message, optional, tag = "12")]
    pub template: Option<TemplateRecord>,
    /// When it was last launched or started.
    #[prost(uint64, tag = "13")]
    pub launched_unix_ms: u64,
    /// When its stage last changed.
    #[prost(uint64, tag = "14")]
    pub changed_unix_ms: u64,
    /// `Client.UserInitiatedShutdown`, `Server.InternalError`...; empty without one.
    #[prost(string, tag = "15")]
    pub reason_code: String,
    /// The sentence that goes with it.
    #[prost(string, tag = "16")]
    pub reason_message: String,
    /// How often the customer has asked for a reboot.
    #[prost(uint64, tag = "17")]
    pub reboots: u64,
    /// The last stop was asked to be forced.
    #[prost(bool, tag = "18")]
    pub force: bool,
    /// Why the region chose the cell.
    #[prost(message, repeated, tag = "20")]
    pub verdicts: Vec<CellVerdictRecord>,
    /// Why the cell chose the host.
    #[prost(message, optional, tag = "21")]
    pub explanation: Option<contract::Explanation>,
    /// Its user data was changed after the launch and is in its own template.
    #[prost(bool, tag = "22")]
    pub own_user_data: bool,
}

impl ReservationRecord {
    /// How far it has been accepted.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance::from_number(self.acceptance).unwrap_or(Acceptance::Settled)
    }

    /// vCPUs of all members together.
    pub fn vcpus(&self) -> u32 {
        self.count * self.template.as_ref().map_or(0, TemplateRecord::vcpus)
    }
}

impl TemplateRecord {
    /// vCPUs of the instance type; 0 for a type that this version does not know.
    pub fn vcpus(&self) -> u32 {
        catalogue::find(&self.instance_type).map_or(0, |shape| shape.vcpus)
    }

    /// Memory of the instance type, in MiB; 0 for a type that this version does not know.
    pub fn memory_mib(&self) -> u32 {
        catalogue::find(&self.instance_type).map_or(0, |shape| shape.memory_mib)
    }
}

impl InstanceRecord {
    /// Where it is on its way. A stage that this version does not know is left alone: nothing starts from it.
    pub fn stage(&self) -> Stage {
        Stage::from_number(self.stage).unwrap_or(Stage::Stopped)
    }

    /// Moves it, with the reason (empty for none).
    pub fn move_to(&mut self, stage: Stage, now: Timestamp, code: &str, message: impl Into<String>) {
        self.stage = stage as u32;
        self.changed_unix_ms = now.unix_ms();
        self.reason_code = code.to_owned();
        self.reason_message = message.into();
    }

    /// vCPUs that it holds now.
    pub fn vcpus_occupied(&self) -> u32 {
        if self.stage().occupies() { self.template.as_ref().map_or(0, TemplateRecord::vcpus) } else { 0 }
    }

    /// Its id.
    pub fn id(&self) -> InstanceId {
        self.instance_id.parse().unwrap_or(InstanceId::from_bits(0))
    }
}

/// An idempotency token that was used: the same token with the same parameters gets the same answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TokenRecord {
    /// SHA-256 of the parameters.
    #[prost(bytes = "vec", tag = "1")]
    pub parameters_sha256: Vec<u8>,
    /// What was made: a reservation's id.
    #[prost(string, tag = "2")]
    pub made: String,
    /// When it was first used.
    #[prost(uint64, tag = "3")]
    pub used_unix_ms: u64,
}
