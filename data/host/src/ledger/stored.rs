//! The ledger's records as protobuf. Field numbers are for ever: a field that goes leaves its number unused.

use super::{HostRecord, StopRecord, VmRecord};
use base::generation::Term;
use base::ids::InstanceId;
use contract::{StopCause, VmAssignment};
use prost::Message;
use prost::bytes::Bytes;

/// The payload of a frame.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredChange {
    #[prost(message, optional, tag = "1")]
    pub(super) host: Option<StoredHost>,
    /// Each a [`StoredVm`]: kept as bytes, shared, so that a snapshot need not encode them again.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) vms: Vec<Bytes>,
    /// In the head of a snapshot: how many VMs follow.
    #[prost(uint32, optional, tag = "3")]
    pub(super) snapshot_vms: Option<u32>,
    /// In the head of a snapshot: the number of the journal that holds what came after it.
    #[prost(uint64, optional, tag = "4")]
    pub(super) journal: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredHost {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(message, optional, tag = "2")]
    document_generation: Option<contract::Generation>,
    #[prost(bool, tag = "3")]
    going_down: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredVm {
    #[prost(string, tag = "1")]
    id: String,
    /// Without one the VM is forgotten.
    #[prost(message, optional, tag = "2")]
    record: Option<StoredRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(message, optional, tag = "1")]
    assignment: Option<VmAssignment>,
    #[prost(message, optional, tag = "2")]
    stopped: Option<StoredStop>,
    #[prost(uint64, tag = "3")]
    reboots_done: u64,
    #[prost(bool, tag = "4")]
    destroyed: bool,
    #[prost(bool, tag = "5")]
    orphan: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredStop {
    #[prost(message, optional, tag = "1")]
    generation: Option<contract::Generation>,
    #[prost(enumeration = "StopCause", tag = "2")]
    cause: i32,
    #[prost(string, tag = "3")]
    message: String,
}

impl From<HostRecord> for StoredHost {
    fn from(host: HostRecord) -> Self {
        let HostRecord { term, document_generation, going_down } = host;
        StoredHost { term: term.0, document_generation: Some(document_generation.into()), going_down }
    }
}

impl From<StoredHost> for HostRecord {
    fn from(stored: StoredHost) -> Self {
        let document_generation = contract::convert::generation(stored.document_generation);
        HostRecord { term: Term(stored.term), document_generation, going_down: stored.going_down }
    }
}

/// The bytes of a VM's new record; `None` forgets it.
pub(super) fn vm_encode(id: InstanceId, record: Option<VmRecord>) -> Bytes {
    StoredVm { id: id.to_string(), record: record.map(StoredRecord::from) }.encode_to_vec().into()
}

/// What [`vm_encode`] wrote. The checksum held, so an error is this program's, or a newer one's.
pub(super) fn vm_decode(bytes: &[u8]) -> Result<(InstanceId, Option<VmRecord>), String> {
    let stored = StoredVm::decode(bytes).map_err(|e| e.to_string())?;
    let id = stored.id.parse().map_err(|e: base::ids::IdError| e.to_string())?;
    Ok((id, stored.record.map(VmRecord::try_from).transpose()?))
}

impl From<VmRecord> for StoredRecord {
    fn from(record: VmRecord) -> Self {
        let VmRecord { assignment, stopped, reboots_done, destroyed, orphan } = record;
        let stopped = stopped.map(|stopped| StoredStop {
            generation: Some(stopped.generation.into()),
            cause: stopped.cause.into(),
            message: stopped.message,
        });
        StoredRecord { assignment: Some(assignment), stopped, reboots_done, destroyed, orphan }
    }
}

impl TryFrom<StoredRecord> for VmRecord {
    type Error = String;
    fn try_from(stored: StoredRecord) -> Result<Self, String> {
        let StoredRecord { assignment, stopped, reboots_done, destroyed, orphan } = stored;
        let assignment = assignment.filter(|a| a.spec.is_some()).ok_or("a record has no assignment")?;
        let stopped = stopped.map(|stopped| StopRecord {
            generation: contract::convert::generation(stopped.generation),
            cause: stopped.cause(),
            message: stopped.message,
        });
        Ok(VmRecord { assignment, stopped, reboots_done, destroyed, orphan })
    }
}
