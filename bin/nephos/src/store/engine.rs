//! The stores of a cloud, one of the region and one of each cell, as commands reach them while no process of the
//! control plane runs: an embedded one is opened here, the shared one is served by this very process, on a port and
//! with an end of its own, and an etcd is where it is.
//!
//! Invariant: a store that the cloud has is opened only if it is there: an empty one made in the place of one that was
//! lost would make orphans of all VMs. So is one that is only looked at, of which nothing is changed.
//! Invariant: what is served here ends with this process, however that ends.
//! Invariant: stores that are being made lie in `store.migrating`, where no process looks for one.

use crate::cloud::{Cloud, EMBEDDED, Member, SHARED};
use crate::error::Error;
use base::error::chain;
use contract::trust::Role;
use metastore::{
    EtcdOptions, MOVED, OpenError, ReadError, Store, StoreOptions, StorePlace, UNFINISHED, embedded_target,
};
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
    term_key: &'static str,
}

impl Namespace {
    /// Those of a cloud.
    pub fn all(cloud: &Cloud) -> Result<Vec<Namespace>, Error> {
        let mut all: Vec<Namespace> = Vec::new();
        for member in cloud.members()? {
            let (leader_key, term_key) = match member.identity.role {
                Role::Region => (region::record::LEADER_KEY, region::record::TERM_KEY),
                Role::Cell => (cell::LEADER_KEY, cell::TERM_KEY),
                Role::Zone | Role::Host | Role::Vswitch | Role::Store | Role::Operator => continue,
            };
            // Processes that share an identity share its store.
            if all.last().is_none_or(|last| last.member.identity != member.identity) {
                all.push(Namespace { member, leader_key, term_key });
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

    /// Under which the highest term is, and whose store it is.
    pub fn term_key(&self) -> &'static str {
        self.term_key
    }

    /// Its own directory; `None`: it is in an etcd, ours or somebody else's.
    pub fn directory(&self, cloud: &Cloud) -> Option<PathBuf> {
        match self.place(cloud) {
            StorePlace::Embedded(directory) => Some(directory),
            StorePlace::Etcd(_) => None,
        }
    }

    /// Opens it where the cloud has it: one that is there, has been led with, and is all of it. `unsettled`: what a
    /// migration has sealed will do as well.
    pub async fn open(&self, cloud: &Cloud, unsettled: bool) -> Result<Store, Error> {
        let store = match self.directory(cloud) {
            None => self.look(cloud).await?,
            Some(directory) => {
                let options = StoreOptions::bounded(cloud.state_bytes_max());
                Store::open_existing(&directory, options)
                    .map_err(|error| self.unopened(&directory, &error))?
            }
        };
        self.check(&store, cloud, unsettled).await?;
        Ok(store)
    }

    /// What is under its prefix in the cloud's etcd, which may be no store.
    pub async fn look(&self, cloud: &Cloud) -> Result<Store, Error> {
        let options = self.etcd_options(cloud)?;
        Store::etcd_found(options).await.map_err(|error| self.unreached(cloud, &error))
    }

    /// [`Namespace::open`] in a directory; `None`: a process of the cloud has it open, and so has led with it.
    pub async fn open_unless_used(&self, cloud: &Cloud, directory: &Path) -> Result<Option<Store>, Error> {
        metastore::store_required(directory).map_err(|error| self.unopened(directory, &error))?;
        match Store::open_existing(directory, StoreOptions::bounded(cloud.state_bytes_max())) {
            Err(OpenError::Locked { .. }) => Ok(None),
            Err(error) => Err(self.unopened(directory, &error)),
            Ok(store) => self.check(&store, cloud, false).await.map(|()| Some(store)),
        }
    }

    /// Opens it where the cloud is to have it: in an etcd it is made, in a directory [`Engine::make`] has done that.
    pub async fn make(&self, cloud: &Cloud) -> Result<Store, Error> {
        let Some(directory) = self.directory(cloud) else {
            let options = self.etcd_options(cloud)?;
            return Store::etcd(options).await.map_err(|error| self.unreached(cloud, &error));
        };
        let made = directory.with_file_name(MIGRATING);
        Store::open_existing(&made, StoreOptions::bounded(cloud.state_bytes_max()))
            .map_err(|error| self.unopened(&made, &error))
    }

    /// Whether somebody has led with the store, and nothing says that it is not whole, or not in use any more.
    async fn check(&self, store: &Store, cloud: &Cloud, unsettled: bool) -> Result<(), Error> {
        let read = |error: ReadError| self.unreached(cloud, &error);
        let wrong = |why: String| Err(Error::Said(format!("{}: its store {why}", self.owner())));
        let text = cloud.store_text();
        let term = match store.incarnation() {
            0 => None,
            _ => store.get(self.term_key.as_bytes()).await.map_err(read)?,
        };
        let Some(term) = term else {
            return wrong(format!(
                "({text}) is not there, or empty: nobody has ever led with it. If it was lost, restore it first; a new \
                 cloud's is there once it was up"
            ));
        };
        // As elections write it: the term in eight bytes, then whose it is.
        let owner = term.value.get(8..).unwrap_or_default();
        if owner != self.owner().as_bytes() {
            return wrong(format!("({text}) is that of {}", owner.escape_ascii()));
        }
        if let Some(to) = store.get(MOVED).await.map_err(read)? {
            let to = String::from_utf8_lossy(&to.value).into_owned();
            return wrong(format!("({text}) is a former one: everything was moved from it to {to}"));
        }
        if !unsettled && store.get(UNFINISHED).await.map_err(read)?.is_some() {
            return wrong(format!("({text}) is not whole: a migration fills it, or was cut off"));
        }
        Ok(())
    }

    fn etcd_options(&self, cloud: &Cloud) -> Result<EtcdOptions, Error> {
        match self.place(cloud) {
            StorePlace::Etcd(url) => {
                EtcdOptions::parse(&url).map_err(|error| self.wrong("its place", &error))
            }
            StorePlace::Embedded(directory) => {
                Err(Error::Said(format!("{} is in no etcd", directory.display())))
            }
        }
    }

    fn unreached(&self, cloud: &Cloud, error: &(dyn std::error::Error + 'static)) -> Error {
        self.wrong(&format!("the store {}", cloud.store_text()), error)
    }

    fn unopened(&self, directory: &Path, error: &OpenError) -> Error {
        let what = format!("cannot open {}", directory.display());
        match error {
            OpenError::Absent { .. } => Error::Said(format!(
                "{}: {what}: there is no store. If it was lost, restore it first (`nephos store restore`); a new cloud's \
                 is there once it was up",
                self.owner()
            )),
            error => self.wrong(&what, error),
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
    Ok(Namespace::all(cloud)?.iter().filter_map(|namespace| namespace.directory(cloud)).collect())
}

/// Whether the store that the processes share is there; there is nothing to be said of other engines.
pub fn shared_check(cloud: &Cloud) -> Result<(), Error> {
    if cloud.store_identity().is_none() {
        return Ok(());
    }
    for directory in directories(cloud)? {
        metastore::store_required(&directory).map_err(|error| {
            let (path, why) = (directory.display(), chain(&error));
            Error::Said(format!(
                "cannot open {path}: {why}. If it was lost, restore it first (`nephos store restore`)"
            ))
        })?;
    }
    Ok(())
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
        // To serve it would make it.
        shared_check(cloud)?;
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
        namespace.open(&self.cloud, false).await
    }

    /// Opens a store that [`Engine::make`] has made; in an etcd it is made now.
    pub async fn open_made(&self, namespace: &Namespace) -> Result<Store, Error> {
        namespace.make(&self.cloud).await
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
