//! The stores of a cloud, one of the region and one of each cell, as commands reach them while no process of the
//! control plane runs: an embedded one is opened here, the shared one is served by this very process, on a port and
//! with an end of its own, and an etcd is where it is.
//!
//! Invariant: what is served here ends with this process, however that ends.
//! Invariant: stores that are being made lie in `store.migrating`, where no process looks for one.

use crate::cloud::{Cloud, EMBEDDED, Member, SHARED};
use crate::error::Error;
use base::error::chain;
use contract::trust::Role;
use metastore::{EtcdOptions, Store, StoreOptions, StorePlace, embedded_target};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{StoreConfig, StoreError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The directory of a store that is not in its place yet, beside that.
pub const MIGRATING: &str = "store.migrating";
/// How often a store that is being opened is asked whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The store of the region or of a cell.
pub struct Namespace {
    member: Member,
    leader_key: &'static str,
}

impl Namespace {
    /// Those of a cloud.
    pub fn all(cloud: &Cloud) -> Result<Vec<Namespace>, Error> {
        let mut all: Vec<Namespace> = Vec::new();
        for member in cloud.members()? {
            let leader_key = match member.identity.role {
                Role::Region => region::record::LEADER_KEY,
                Role::Cell => cell::LEADER_KEY,
                Role::Zone | Role::Host | Role::Vswitch | Role::Store | Role::Operator => continue,
            };
            // Processes that share an identity share its store.
            if all.last().is_none_or(|last| last.member.identity != member.identity) {
                all.push(Namespace { member, leader_key });
            }
        }
        Ok(all)
    }

    /// Whose it is: `cell/us-east-1a-c1`.
    pub fn owner(&self) -> String {
        self.member.identity.to_string()
    }

    /// Whether the key says who leads at the moment, which moves with nobody.
    pub fn says_who_leads(&self, key: &[u8]) -> bool {
        key == self.leader_key.as_bytes()
    }

    fn place(&self, cloud: &Cloud) -> StorePlace {
        cloud.store_place(&self.member, &cloud.member_dir(&self.member))
    }

    /// What all of its keys begin with in the cloud's etcd, if it has one.
    fn prefix(&self, cloud: &Cloud) -> Option<Vec<u8>> {
        match self.place(cloud) {
            StorePlace::Etcd(url) if is_etcd(cloud) => Some(EtcdOptions::parse(&url).ok()?.prefix),
            _ => None,
        }
    }

    /// Opens it where the cloud has it.
    pub async fn open(&self, cloud: &Cloud) -> Result<Store, Error> {
        match self.place(cloud) {
            StorePlace::Embedded(directory) => {
                Store::open_with(&directory, StoreOptions::bounded(cloud.state_bytes_max()))
                    .map_err(|error| self.wrong(&format!("cannot open {}", directory.display()), &error))
            }
            StorePlace::Etcd(url) => {
                let options = EtcdOptions::parse(&url).map_err(|error| self.wrong("its place", &error))?;
                let what = format!("the store {}", cloud.store_text());
                Store::etcd(options).await.map_err(|error| self.wrong(&what, &error))
            }
        }
    }

    /// Why something cannot be done with it.
    pub fn wrong(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Said(format!("{}: {what}: {}", self.owner(), chain(error)))
    }
}

/// The processes that have a store or keep it.
pub fn processes(cloud: &Cloud) -> Result<Vec<Member>, Error> {
    let mut members = cloud.members()?;
    members.retain(|member| matches!(member.identity.role, Role::Region | Role::Cell | Role::Store));
    Ok(members)
}

/// Whether the stores are in an etcd, which is somebody else's.
pub fn is_etcd(cloud: &Cloud) -> bool {
    ![EMBEDDED, SHARED].contains(&cloud.topology.store.as_str())
}

/// Whether a store that the cloud is to have would lie among the keys of one that it has, were it the same etcd.
pub fn lies_inside(next: &Cloud, cloud: &Cloud) -> Result<bool, Error> {
    let prefixes = |of: &Cloud| -> Result<Vec<Vec<u8>>, Error> {
        Ok(Namespace::all(of)?.iter().filter_map(|namespace| namespace.prefix(of)).collect())
    };
    let former = prefixes(cloud)?;
    Ok(prefixes(next)?.iter().any(|new| former.iter().any(|old| new != old && new.starts_with(old))))
}

/// The directories of the cloud's stores: of all, of the one that they share, or none.
pub fn directories(cloud: &Cloud) -> Result<Vec<PathBuf>, Error> {
    if let Some(store) = cloud.store_identity() {
        return Ok(vec![cloud.member_dir(&Member::only(store)).join("store")]);
    }
    let places = Namespace::all(cloud)?.into_iter().map(|namespace| namespace.place(cloud));
    let directory = |place| match place {
        StorePlace::Embedded(directory) => Some(directory),
        StorePlace::Etcd(_) => None,
    };
    Ok(places.filter_map(directory).collect())
}

/// Removes what [`Engine::make`] has made in directories, of a migration that was cut off.
pub fn made_remove(cloud: &Cloud) -> Result<(), Error> {
    for directory in directories(cloud)? {
        let made = directory.with_file_name(MIGRATING);
        if made.exists() {
            fs::remove_dir_all(&made).map_err(Error::file("remove", &made))?;
        }
    }
    Ok(())
}

/// All stores of a cloud, reachable until it ends.
pub struct Engine {
    /// With the port on which the shared store is served here.
    cloud: Cloud,
    served: Option<Served>,
}

struct Served {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), StoreError>>,
}

impl Engine {
    /// What the cloud has.
    pub async fn begin(cloud: &Cloud) -> Result<Engine, Error> {
        let mut engine = Engine { cloud: cloud.clone(), served: None };
        if cloud.store_identity().is_some() {
            for directory in directories(cloud)? {
                engine.serve(&directory).await?;
            }
        }
        Ok(engine)
    }

    /// What the cloud is to have: empty stores of the incarnation after `above`, not in their places yet; in an etcd
    /// what is there.
    pub async fn make(cloud: &Cloud, above: u64) -> Result<Engine, Error> {
        let mut engine = Engine { cloud: cloud.clone(), served: None };
        made_remove(cloud)?;
        for directory in directories(cloud)? {
            let made = directory.with_file_name(MIGRATING);
            let options = StoreOptions::bounded(cloud.state_bytes_max());
            // Closed again: whoever needs it opens it.
            embedded_target(&made, above, options).map_err(|error| {
                Error::Said(format!("cannot make a store in {}: {}", made.display(), chain(&error)))
            })?;
            if cloud.store_identity().is_some() {
                engine.serve(&made).await?;
            }
        }
        Ok(engine)
    }

    /// Opens a store that [`Engine::begin`] has found.
    pub async fn open(&self, namespace: &Namespace) -> Result<Store, Error> {
        namespace.open(&self.cloud).await
    }

    /// Opens a store that [`Engine::make`] has made.
    pub async fn open_made(&self, namespace: &Namespace) -> Result<Store, Error> {
        let StorePlace::Embedded(directory) = namespace.place(&self.cloud) else {
            return namespace.open(&self.cloud).await;
        };
        let made = directory.with_file_name(MIGRATING);
        Store::open_with(&made, StoreOptions::bounded(self.cloud.state_bytes_max()))
            .map_err(|error| namespace.wrong(&format!("cannot open {}", made.display()), &error))
    }

    /// Ends what is served here, in order.
    pub async fn end(self) -> Result<(), Error> {
        let Some(Served { stop, serving }) = self.served else { return Ok(()) };
        drop(stop);
        ended(serving).await
    }

    /// Serves the shared store in this process, as its own would, on a free port.
    async fn serve(&mut self, directory: &Path) -> Result<(), Error> {
        let Some(identity) = self.cloud.store_identity() else { return Ok(()) };
        let member = Member::only(identity);
        let address_file = self.cloud.run_file(&member, "migrating");
        let _ = fs::remove_file(&address_file);
        let config = StoreConfig {
            name: member.identity.instance.clone(),
            listen: "127.0.0.1:0".into(),
            address_file: address_file.clone(),
            credentials: self.cloud.member_dir(&member).join("tls"),
            directory: directory.to_owned(),
            state_bytes_max: self.cloud.state_bytes_max(),
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(store::serve_until(config, async {
            let _ = stopped.await;
        }));
        // It reads all of the store first, which takes as long as it does.
        while !address_file.exists() && !serving.is_finished() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if serving.is_finished() {
            ended(serving).await?;
            return Err(Error::Said("the store ended unexpectedly".into()));
        }
        let address = fs::read_to_string(&address_file).map_err(Error::file("read", &address_file))?;
        let _ = fs::remove_file(&address_file);
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.cloud.topology.store_port =
            port.ok_or_else(|| Error::Said(format!("the store listens on `{address}`, which is no port")))?;
        self.served = Some(Served { stop, serving });
        Ok(())
    }
}

async fn ended(serving: JoinHandle<Result<(), StoreError>>) -> Result<(), Error> {
    let role = "store";
    match serving.await {
        Ok(served) => served.map_err(|error| Error::Role { role, source: Box::new(error) }),
        Err(panicked) => Err(Error::Role { role, source: Box::new(panicked) }),
    }
}
