//! Puts network cards into a VM that runs, and takes them out: one look at what is there, one step towards what shall
//! be. Called by the driver once a second until nothing is missing, so that it does not matter what an earlier step, or
//! an earlier agent, came to.
//!
//! A card goes when the guest lets go of it. The first card stays (as on EC2), and a VM that was started without cards
//! shares no memory with the switch, so that it gets one at its next start only: both are said.

use super::command::{MEMORY, root_port};
use super::files;
use super::process::Place;
use crate::card::{Card, CardError};
use crate::isolation::Credentials;
use crate::qmp::{QmpClient, QmpError};
use base::error::chain;
use base::ids::{InstanceId, NetworkInterfaceId};
use contract::VmInterface;
use serde_json::{Value, json};
use std::path::Path;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlugError {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

/// Brings the cards of a VM nearer to those wanted. Says what is still missing; empty if nothing is.
pub(super) async fn step(
    place: &Place,
    vm: InstanceId,
    wanted: &[VmInterface],
    qmp: &mut QmpClient,
) -> Result<String, PlugError> {
    let directory = place.directory(vm);
    let wanted = Card::list(wanted)?;
    let attached = place.vnet.attached(&directory)?;
    if wanted.is_empty() && attached.is_empty() {
        return Ok(String::new());
    }
    let plugged = children(qmp, "/machine/peripheral").await?;
    let is_plugged = |id: &NetworkInterfaceId| plugged.iter().any(|name| *name == id.to_string());
    let mut missing = Vec::new();
    for id in attached.iter().filter(|id| !wanted.iter().any(|card| card.interface == **id)) {
        if is_plugged(id) {
            let asked = refusal(qmp.execute("device_del", json!({"id": id.to_string()})).await)?;
            let why = asked.map(|why| format!(" ({why})")).unwrap_or_default();
            missing.push(format!("the guest has not let go of {id} yet{why}"));
        } else {
            let id_text = id.to_string();
            // What is gone already is refused.
            refusal(qmp.execute("netdev_del", json!({"id": id_text})).await)?;
            refusal(qmp.execute("chardev-remove", json!({"id": id_text})).await)?;
            place.vnet.detach(&directory, vm, *id)?;
        }
    }
    for card in wanted.iter().filter(|card| !is_plugged(&card.interface)) {
        missing.extend(plug(place, vm, card, qmp).await?);
    }
    Ok(missing.join("; "))
}

/// Puts a card in, or says why not.
async fn plug(
    place: &Place,
    vm: InstanceId,
    card: &Card,
    qmp: &mut QmpClient,
) -> Result<Option<String>, PlugError> {
    let id = card.interface.to_string();
    if !children(qmp, "/objects").await?.iter().any(|name| name == MEMORY) {
        let why = format!("{id} is put in when the instance is next started: it was started without any");
        return Ok(Some(why));
    }
    let directory = place.directory(vm);
    place.vnet.attach(&directory, vm, card, owner(place, &directory), 1)?;
    let wanted = std::slice::from_ref(card);
    if let Some(why) = place.vnet.silent(wanted) {
        return Ok(Some(why));
    }
    let address = json!({"type": "unix", "data": {"path": card.socket()}});
    let backend = json!({"type": "socket", "data": {"addr": address, "server": false, "reconnect": 1}});
    // Of an earlier step; what follows is refused if there is none.
    refusal(qmp.execute("chardev-add", json!({"id": id, "backend": backend})).await)?;
    let netdev = json!({"type": "vhost-user", "id": id, "chardev": id, "queues": 1});
    refusal(qmp.execute("netdev_add", netdev).await)?;
    let mut device = json!({
        "driver": "virtio-net-pci", "id": id, "netdev": id, "mac": card.mac_text(), "romfile": "",
        "mrg_rxbuf": true, "bus": root_port(card.device_index),
    });
    if card.mtu > 0 {
        device["host_mtu"] = json!(card.mtu);
    }
    // As at a start: see `command`.
    let kvm = qmp.execute("query-kvm", json!({})).await?;
    if kvm.get("enabled") != Some(&Value::Bool(true)) {
        device["vectors"] = json!(0);
    }
    let refused = refusal(qmp.execute("device_add", device).await)?;
    Ok(refused.map(|why| format!("{id} cannot be put in: {why}")))
}

/// Whom the VM's process belongs to, if that is not the agent's own user.
fn owner(place: &Place, directory: &Path) -> Option<Credentials> {
    use std::os::unix::fs::MetadataExt;
    place.uids?;
    let metadata = directory.join(files::MACHINE).metadata().ok()?;
    Some(Credentials { uid: metadata.uid(), gid: metadata.gid() })
}

/// The names under a path of QEMU's object tree.
async fn children(qmp: &mut QmpClient, path: &str) -> Result<Vec<String>, QmpError> {
    let answer = qmp.execute("qom-list", json!({"path": path})).await?;
    let entries = answer.as_array().into_iter().flatten();
    Ok(entries.filter_map(|entry| Some(entry.get("name")?.as_str()?.to_owned())).collect())
}

/// What QEMU has against a command; other errors are errors.
fn refusal(answer: Result<Value, QmpError>) -> Result<Option<String>, QmpError> {
    match answer {
        Ok(_) => Ok(None),
        Err(QmpError::Refused { description, .. }) => Ok(Some(description)),
        Err(error) => Err(error),
    }
}

/// What a failed step leaves missing.
pub(super) fn failed(error: &PlugError) -> String {
    format!("its network cards cannot be changed: {}", chain(error))
}
