//! Where a process's store is, and how the process comes to lead with it: the way in of every role that has a store.

use crate::election::{Election, ElectionError, Leadership, Standing};
use crate::embedded::{OpenError, StoreOptions};
use crate::etcd::{EtcdError, EtcdOptions};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long after a store could not be reached it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// How long a store has to answer before it is said that it does not.
const OPEN_WAIT: Duration = Duration::from_millis(1500);

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
    /// it waits for. A store that cannot be reached is waited for too. An embedded store's state takes at most
    /// `state_bytes_max`; others have bounds of their own.
    pub async fn lead(
        &self,
        election: &Election,
        state_bytes_max: u64,
        mut standing: impl FnMut(Standing),
    ) -> Result<(Store, Leadership), PlaceError> {
        let (store, leadership) = match self {
            StorePlace::Embedded(directory) => {
                let (path, directory) = (directory.clone(), directory.display().to_string());
                let options = StoreOptions::bounded(state_bytes_max);
                let opened = tokio::task::spawn_blocking(move || Store::open_with(&path, options)).await;
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

/// Opens a shared store and stands for election, again and again until this process leads.
async fn shared(
    address: &str,
    election: &Election,
    standing: &mut impl FnMut(Standing),
) -> Result<(Store, Leadership), PlaceError> {
    let options = EtcdOptions::parse(address).map_err(|error| PlaceError::Address(error.to_string()))?;
    let mut opened: Option<Store> = None;
    loop {
        let store = match &opened {
            Some(store) => Ok(store.clone()),
            None => open(options.clone()).await?,
        };
        let why = match store {
            Ok(store) => match election.campaign(&store, &mut *standing).await {
                Ok(leadership) => return Ok((store, leadership)),
                Err(ElectionError::Unavailable(why)) => {
                    opened = Some(store);
                    why
                }
                // What this handle knows of the store holds no longer.
                Err(ElectionError::Failed(why)) => {
                    opened = None;
                    why
                }
                Err(error) => return Err(error.into()),
            },
            Err(why) => why,
        };
        standing(Standing::Cut(why));
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// The store, or why it cannot be reached.
async fn open(options: EtcdOptions) -> Result<Result<Store, String>, PlaceError> {
    match tokio::time::timeout(OPEN_WAIT, Store::etcd(options)).await {
        Ok(Ok(store)) => Ok(Ok(store)),
        Ok(Err(EtcdError::Unavailable(why))) => Ok(Err(why)),
        Ok(Err(error)) => Err(PlaceError::Address(error.to_string())),
        Err(_) => Ok(Err("it does not answer".to_owned())),
    }
}
