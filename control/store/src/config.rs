//! `nephos store`'s configuration.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `nephos store` is told. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store this is; its certificate names the same.
    pub name: String,
    /// Where to listen: `address:port`; port 0 takes any free one.
    pub listen: String,
    /// Where to write the bound address.
    pub address_file: PathBuf,
    /// The directory of this process's certificate.
    pub credentials: PathBuf,
    /// The directory of the store.
    pub directory: PathBuf,
    /// What the state of all namespaces together may take in memory, in bytes.
    #[serde(default = "metastore::EngineOptions::state_bytes_max_default")]
    pub state_bytes_max: u64,
}
