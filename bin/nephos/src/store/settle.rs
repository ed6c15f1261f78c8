//! What is left of a migration once `cloud.toml` names the new stores and bears [`Moving`]: the new ones in an etcd still
//! hold their marks, and a former etcd does not know yet that it is one.
//!
//! Called by `nephos store migrate` itself and, if that was cut off just there, by `nephos up`, before it starts anything.
//!
//! Invariant: doing it twice, or half and then again, does no harm.

use super::engine::{self, Namespace};
use crate::cloud::Cloud;
use crate::error::Error;
use crate::supervisor;
use base::error::chain;
use tokio::runtime::Runtime;

/// Does what is left, if anything is; to be called under the supervisor's lock.
pub fn settle(cloud: Cloud) -> Result<Cloud, Error> {
    if cloud.topology.moving.is_none() {
        return Ok(cloud);
    }
    let _edit = supervisor::edit(&cloud.dir)?;
    let text = cloud.store_text();
    finish(cloud).map_err(|error| {
        Error::Said(format!(
            "the cloud's stores were moved, to where they are {text}, and that is not all done: {}; `nephos up` tries \
             again",
            chain(&error)
        ))
    })
}

/// Refuses a cloud of which something is left to be done.
pub fn settled(cloud: &Cloud) -> Result<(), Error> {
    match cloud.topology.moving {
        None => Ok(()),
        Some(_) => Err(Error::Said(format!(
            "the cloud in {} has its store {} by a move that was cut off at its end: `nephos up` does what is left of it",
            cloud.dir.display(),
            cloud.store_text()
        ))),
    }
}

/// [`settle`], under the lock of [`supervisor::edit`] as well.
pub fn finish(mut cloud: Cloud) -> Result<Cloud, Error> {
    let Some(moving) = cloud.topology.moving.take() else { return Ok(cloud) };
    let mut former = cloud.clone();
    former.topology.store = moving.from;
    let runtime =
        Runtime::new().map_err(|source| Error::Process { what: "start a runtime".into(), source })?;
    runtime.block_on(async {
        // First, so that whoever should still lead there is refused before anybody leads here.
        if engine::is_etcd(&former)
            && let Err(error) = retire(&former, &cloud).await
        {
            let (why, place) = (chain(&error), former.store_text());
            eprintln!(
                "nephos: {why}. So what is {place} does not say that it is a former store: see to it that nothing \
                 starts with it"
            );
        }
        match engine::is_etcd(&cloud) {
            true => marks_remove(&cloud, &moving.name).await,
            false => Ok(()),
        }
    })?;
    cloud.save()?;
    Ok(cloud)
}

async fn marks_remove(cloud: &Cloud, name: &str) -> Result<(), Error> {
    let mut stores = Vec::new();
    for namespace in Namespace::all(cloud)? {
        let store = namespace.open(cloud, true).await?;
        stores.push((namespace, store));
    }
    for (namespace, store) in &stores {
        let settled = metastore::settle(store, name).await;
        settled.map_err(|error| namespace.wrong("its move is not finished", &error))?;
    }
    Ok(())
}

async fn retire(former: &Cloud, cloud: &Cloud) -> Result<(), Error> {
    for namespace in Namespace::all(former)? {
        let store = namespace.look(former).await?;
        let retired = metastore::retire(&store, namespace.term_key().as_bytes(), &cloud.store_text()).await;
        retired.map_err(|error| namespace.wrong("its former store", &error))?;
    }
    Ok(())
}
