//! What the cell stores of one host, so that a restarted cell knows whom to expect, and what absent hosts have.

use crate::placement::Room;
use crate::vm::record::RecordError;
use base::ids::{HostId, IdError, RackId};
use prost::Message;

/// The keys of host records: this and the host's id.
pub(crate) const PREFIX: &str = "cell/host/";

/// The key of a host's record.
pub(crate) fn key(host: &HostId) -> metastore::Key {
    format!("{PREFIX}{host}").into_bytes()
}

/// Where the underlay reaches a host's switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// 4 or 16 bytes.
    pub(crate) address: Vec<u8>,
    /// UDP.
    pub(crate) port: u32,
}

/// The stored record of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRecord {
    /// What its operator gave it.
    pub(crate) capacity: Room,
    /// The failure domain that it is in.
    pub(crate) rack: RackId,
    /// It registered with less than was claimed on it already.
    pub(crate) lowered: bool,
    /// Of its switch, once that has said so.
    pub(crate) underlay: Option<Underlay>,
}

impl HostRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Stored {
            vcpus: self.capacity.vcpus,
            memory_mib: self.capacity.memory_mib,
            rack_id: self.rack.to_string(),
            lowered: self.lowered,
            underlay_address: self.underlay.iter().flat_map(|underlay| underlay.address.clone()).collect(),
            underlay_port: self.underlay.as_ref().map_or(0, |underlay| underlay.port),
        }
        .encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<HostRecord, RecordError> {
        let stored = Stored::decode(bytes)?;
        Ok(HostRecord {
            capacity: Room { vcpus: stored.vcpus, memory_mib: stored.memory_mib },
            rack: stored.rack_id.parse()?,
            lowered: stored.lowered,
            underlay: (!stored.underlay_address.is_empty())
                .then_some(Underlay { address: stored.underlay_address, port: stored.underlay_port }),
        })
    }
}

impl metastore::table::Record for HostRecord {
    const PREFIX: &'static str = PREFIX;
    type Id = HostId;

    fn key(id: &HostId) -> metastore::Key {
        key(id)
    }

    fn id(key: &[u8]) -> Result<HostId, String> {
        let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(PREFIX));
        name.ok_or("its key is no host's")?.parse().map_err(|error: IdError| error.to_string())
    }

    fn encode(&self) -> metastore::Value {
        HostRecord::encode(self)
    }

    fn decode(_: &HostId, bytes: &[u8]) -> Result<HostRecord, String> {
        HostRecord::decode(bytes).map_err(|error| base::error::chain(&error))
    }
}

/// Field numbers are for ever.
#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(uint32, tag = "1")]
    vcpus: u32,
    #[prost(uint64, tag = "2")]
    memory_mib: u64,
    #[prost(string, tag = "3")]
    rack_id: String,
    #[prost(bool, tag = "4")]
    lowered: bool,
    #[prost(bytes = "vec", tag = "5")]
    underlay_address: Vec<u8>,
    #[prost(uint32, tag = "6")]
    underlay_port: u32,
}
