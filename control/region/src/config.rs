//! The region's configuration file.

use crate::pool::Pools;
use base::config::{Address, CrashAt};
use base::ids::{CellId, RegionName, ZoneName};
use metastore::StorePlace;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `nephos region` is told. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Its name, for example `us-east-1`.
    pub region: RegionName,
    /// Where the AWS API listens: `host:port`, port 0 for any.
    pub api_listen: String,
    /// Where to write the API's address once it listens.
    pub api_address_file: PathBuf,
    /// Where the operator's service listens.
    pub operator_listen: String,
    /// Where to write the operator's address once it listens.
    pub operator_address_file: PathBuf,
    /// The directory with this process's certificate.
    pub credentials: PathBuf,
    /// Where the store is.
    pub store: StorePlace,
    /// What the state of an embedded store may take in memory, in bytes.
    #[serde(default = "metastore::EngineOptions::state_bytes_max_default")]
    pub state_bytes_max: u64,
    /// Which of the processes that share the store this is, for people.
    pub process: String,
    /// Where to write whether this process leads.
    pub standing_file: PathBuf,
    /// The directory of images.
    pub images: PathBuf,
    /// vCPUs that an account's instances may occupy together.
    pub vcpus_per_account: u32,
    /// What each account may ask of the API in the long run.
    pub requests_per_second_per_account: u32,
    /// Addresses that are the region's to give.
    #[serde(default)]
    pub pools: Pools,
    /// Hosts have switches: networks can be changed, and instances have addresses.
    #[serde(default)]
    pub networks: bool,
    /// The region's zones.
    pub zones: Vec<ZoneEntry>,
    /// For tests: kills this process at a step of a launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_at: Option<CrashAt>,
}

/// A zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneEntry {
    /// Its name.
    pub name: ZoneName,
    /// Where it listens.
    pub address: Address,
    /// Its cells.
    pub cells: Vec<CellEntry>,
}

/// A cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellEntry {
    /// Its id.
    pub id: CellId,
    /// Where it listens.
    pub address: Address,
}
