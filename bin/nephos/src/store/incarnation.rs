//! `nephos store incarnation`: what a restore means to hosts, for an etcd, which is restored with its own tools. They
//! have heard of higher revisions than the restored stores have: a higher incarnation makes what these say newer.

use super::engine::{self, Namespace};
use super::migrate::incarnation_above;
use crate::arguments::At;
use crate::cloud::Cloud;
use crate::error::Error;
use crate::{process, supervisor};
use tokio::runtime::Runtime;

/// `nephos store incarnation`
pub fn incarnation(at: &At, above: u64) -> Result<(), Error> {
    let mut cloud = Cloud::open(at)?;
    if !engine::is_etcd(&cloud) {
        return Err(Error::Said(format!(
            "the cloud in {} has its store {}: `nephos store restore` raises the incarnation of what it restores",
            cloud.dir.display(),
            cloud.store_text()
        )));
    }
    // A supervisor that runs keeps the lock, and changes nothing.
    let lock = supervisor::lock(&cloud.dir)?;
    if lock.is_none() && process::supervisor(&cloud).is_none() {
        return Err(Error::Said(
            "another `nephos` is just starting, stopping or moving this cloud; try again".into(),
        ));
    }
    let running = process::running(&cloud, &engine::processes(&cloud)?);
    if !running.is_empty() {
        let labels: Vec<String> = running.iter().map(|(member, _)| member.label()).collect();
        return Err(Error::Said(format!(
            "{} would go on with what they knew of the store; `nephos kill control-plane` ends them",
            labels.join(", ")
        )));
    }
    let runtime =
        Runtime::new().map_err(|source| Error::Process { what: "start a runtime".into(), source })?;
    let raised = runtime.block_on(async {
        let namespaces = Namespace::all(&cloud)?;
        let mut stores = Vec::new();
        for namespace in &namespaces {
            stores.push(namespace.open(&cloud).await?);
        }
        let above = incarnation_above(&cloud, &stores, above)?;
        // First, so that it is remembered whatever comes.
        cloud.topology.incarnation = above + 1;
        cloud.save()?;
        let mut raised = Vec::new();
        for (namespace, store) in namespaces.iter().zip(&stores) {
            let new = store.incarnation_raise(above).await;
            let new = new.map_err(|error| namespace.wrong("its incarnation is not raised", &error))?;
            raised.push((namespace.owner(), store.incarnation(), new));
        }
        Ok::<_, Error>(raised)
    })?;
    for (owner, old, new) in raised {
        say!("{owner}: incarnation {new}, was {old}");
    }
    let start = if lock.is_some() { "up" } else { "start control-plane" };
    say!("`nephos {start}` starts the control plane with them.");
    Ok(())
}
