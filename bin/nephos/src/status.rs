//! `nephos status`: the tree of region, zones, cells, racks, hosts and VMs, each with its state.
//!
//! Processes are known by their pid files and VMs by what each host has written of itself, so all of it works with
//! the control plane dead; what the region thinks of the instances is added where the region answers.

use crate::arguments::Show;
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::operator;
use crate::process::{self, State};
use contract::trust::{Identity, Role};
use contract::{StatusRequest, StatusResponse};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `nephos status`
pub fn status(show: &Show) -> Result<(), Error> {
    let cloud = Cloud::open(&show.at)?;
    let tree = tree(&cloud)?;
    if show.json {
        say!("{tree:#}");
    } else {
        print(&tree);
    }
    Ok(())
}

fn tree(cloud: &Cloud) -> Result<Value, Error> {
    let process =
        |role, instance: &dyn std::fmt::Display| identity_value(cloud, &Identity::new(role, instance));
    let region = process(Role::Region, &cloud.topology.region);
    let answer = operator::ask(cloud, |mut region| async move { region.status(StatusRequest {}).await });
    let (seen, silence) = match answer {
        Ok(seen) => (seen, Value::Null),
        Err(error) => (StatusResponse::default(), json!(error.to_string())),
    };
    let instances: BTreeMap<&str, &contract::InstanceStatus> =
        seen.instances.iter().map(|instance| (instance.instance_id.as_str(), instance)).collect();
    let mut zones = Vec::new();
    for zone in cloud.layout()? {
        let mut racks: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (host, rack) in &zone.hosts {
            let value = host_value(cloud, host.as_str(), process(Role::Host, host), &instances);
            racks.entry(rack.to_string()).or_default().push(value);
        }
        let racks: Vec<Value> =
            racks.into_iter().map(|(rack, hosts)| json!({ "rack": rack, "hosts": hosts })).collect();
        let cells = seen.zones.iter().flat_map(|zone| &zone.cells);
        let capacity = cells.clone().find(|cell| cell.cell_id == zone.cell.as_str()).map(|cell| {
            json!({
                "hosts": cell.hosts, "hosts_healthy": cell.hosts_healthy,
                "vcpus": cell.vcpus, "vcpus_free": cell.vcpus_free,
                "memory_mib": cell.memory_mib, "memory_free_mib": cell.memory_free_mib,
            })
        });
        let cell = json!({
            "cell": zone.cell.to_string(), "process": process(Role::Cell, &zone.cell),
            "capacity": capacity, "racks": racks,
        });
        zones.push(json!({
            "zone": zone.zone.to_string(), "process": process(Role::Zone, &zone.zone), "cells": [cell],
        }));
    }
    let supervisor = process::supervisor(cloud).map(process::Process::pid);
    let unplaced: Vec<Value> = seen
        .instances
        .iter()
        .filter(|instance| instance.host_id.is_empty() && instance.state != "terminated")
        .map(|instance| json!({ "instance": instance.instance_id, "state": instance.state, "cell": instance.cell_id }))
        .collect();
    Ok(json!({
        "dir": cloud.dir, "up": supervisor.is_some(), "supervisor_pid": supervisor,
        "endpoint": format!("http://127.0.0.1:{}", cloud.topology.port),
        "region": cloud.topology.region.to_string(), "process": region, "region_silent": silence,
        "store": cloud.store_identity().map(|store| identity_value(cloud, &store)),
        "zones": zones, "unplaced": unplaced,
    }))
}

/// The process of an identity; of several the one that leads, and all of them beside it.
fn identity_value(cloud: &Cloud, identity: &Identity) -> Value {
    let members = cloud.processes(identity);
    let processes: Vec<Value> = members.iter().map(|member| process_value(cloud, member)).collect();
    let leads = |process: &&Value| process["leads"] == true;
    let first = processes.iter().find(leads).or(processes.first()).cloned().unwrap_or(Value::Null);
    match (first, processes.len()) {
        (Value::Object(mut leader), 2..) => {
            leader.insert("processes".into(), Value::Array(processes));
            Value::Object(leader)
        }
        (only, _) => only,
    }
}

fn process_value(cloud: &Cloud, member: &Member) -> Value {
    let mut value = match process::state(cloud, member) {
        State::Running(process) => {
            // What it has written of itself, which holds while it lives.
            let standing = std::fs::read_to_string(cloud.standing_file(member)).ok();
            let leads = standing.as_ref().map(|standing| standing.starts_with("leads"));
            json!({ "state": "running", "pid": process.pid(), "standing": standing, "leads": leads })
        }
        State::Dead => json!({ "state": "dead" }),
        State::Held => json!({ "state": "killed" }),
    };
    value["label"] = json!(member.label());
    value
}

/// A host by its own word: `status.json`, which holds while nobody has changed it since.
fn host_value(
    cloud: &Cloud,
    host: &str,
    process: Value,
    instances: &BTreeMap<&str, &contract::InstanceStatus>,
) -> Value {
    let path = cloud.host_dir(host).join("status.json");
    let own: Value =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null);
    let vms = own["vms"].as_object().into_iter().flatten().map(|(id, vm)| {
        let region = instances.get(id.as_str()).map(|instance| {
            json!({ "state": instance.state, "type": instance.instance_type, "account": instance.account_id,
                    "reason": instance.state_reason })
        });
        json!({ "instance": id, "host_says": vm, "region_says": region })
    });
    let vms: Vec<Value> = vms.collect();
    json!({
        "host": host, "process": process, "cell_connected": own["cell_connected"],
        "accelerator": own["accelerator"], "accelerator_reason": own["accelerator_reason"],
        "isolation": own["isolation"], "capacity": own["capacity"], "orphans": own["orphans"],
        "document_held": own["document_held"], "damaged": own["damaged"], "vms": vms,
    })
}

fn print(tree: &Value) {
    let up = if tree["up"] == true { "up" } else { "down" };
    say!("cloud {} ({up}), {}", text(&tree["dir"]), text(&tree["endpoint"]));
    if tree["store"].is_object() {
        say!("store {:<29} {}", text(&tree["region"]), process_text(&tree["store"]));
    }
    say!("region {:<28} {}", text(&tree["region"]), process_text(&tree["process"]));
    if let Some(why) = tree["region_silent"].as_str() {
        say!("  ! {why}");
    }
    for zone in list(&tree["zones"]) {
        say!("  zone {:<28} {}", text(&zone["zone"]), process_text(&zone["process"]));
        for cell in list(&zone["cells"]) {
            let capacity = &cell["capacity"];
            let free = if capacity.is_object() {
                format!(
                    ", {} of {} vCPU and {} of {} GiB free",
                    capacity["vcpus_free"],
                    capacity["vcpus"],
                    gib(&capacity["memory_free_mib"]),
                    gib(&capacity["memory_mib"])
                )
            } else {
                String::new()
            };
            say!("    cell {:<26} {}{free}", text(&cell["cell"]), process_text(&cell["process"]));
            for rack in list(&cell["racks"]) {
                say!("      rack {}", text(&rack["rack"]));
                for host in list(&rack["hosts"]) {
                    print_host(host);
                }
            }
        }
    }
    for instance in list(&tree["unplaced"]) {
        say!("  {} {} (in no host yet)", text(&instance["instance"]), text(&instance["state"]));
    }
    print_notes(tree);
}

fn print_host(host: &Value) {
    let accelerator = host["accelerator"].as_str().filter(|a| !a.is_empty()).unwrap_or("accelerator unknown");
    say!("        host {:<22} {}, {accelerator}", text(&host["host"]), process_text(&host["process"]));
    for vm in list(&host["vms"]) {
        let (own, region) = (&vm["host_says"], &vm["region_says"]);
        let kind = region["type"].as_str().unwrap_or("");
        let state = match region["state"].as_str() {
            Some(state) if state != text(&own["phase"]) => {
                format!("{} (region: {state})", text(&own["phase"]))
            }
            _ => text(&own["phase"]),
        };
        let pid = own["pid"].as_u64().map(|pid| format!(", pid {pid}")).unwrap_or_default();
        say!("          {} {kind} {state}{pid}", text(&vm["instance"]));
        if let Some(message) = own["message"].as_str().filter(|message| !message.is_empty()) {
            say!("            {message}");
        }
    }
    for orphan in list(&host["orphans"]) {
        say!("          ! {} runs here and its cell does not know it", text(orphan));
    }
    if let Some(held) = host["document_held"].as_str().filter(|held| !held.is_empty()) {
        say!("          ! a document is held back: {held}");
    }
    for damaged in list(&host["damaged"]) {
        say!("          ! damaged: {}", text(damaged));
    }
}

/// What is true of the whole cloud, once.
fn print_notes(tree: &Value) {
    let hosts = || {
        list(&tree["zones"])
            .flat_map(|zone| list(&zone["cells"]))
            .flat_map(|cell| list(&cell["racks"]))
            .flat_map(|rack| list(&rack["hosts"]))
    };
    let mut notes: Vec<String> = hosts()
        .flat_map(|host| [&host["isolation"], &host["accelerator_reason"]])
        .filter_map(Value::as_str)
        .filter(|note| !note.is_empty())
        .map(str::to_owned)
        .collect();
    if hosts().any(|host| host["capacity"]["overcommitted"] == true) {
        let capacity = hosts().map(|host| &host["capacity"]).find(|capacity| capacity.is_object());
        let physical = capacity.map(|c| (c["physical_cpus"].clone(), gib(&c["physical_memory_mib"])));
        let (cpus, memory) = physical.unwrap_or_default();
        let of = hosts().count();
        notes.push(format!("overcommitted: {of} hosts share this machine's {cpus} CPUs and {memory} GiB"));
    }
    notes.sort();
    notes.dedup();
    for note in notes {
        say!("note: {note}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn gib(mib: &Value) -> u64 {
    mib.as_u64().unwrap_or(0) / 1024
}

fn process_text(process: &Value) -> String {
    match process["processes"].as_array() {
        Some(processes) => processes.iter().map(one_process_text).collect::<Vec<_>>().join("; "),
        None => one_process_text(process),
    }
}

fn one_process_text(process: &Value) -> String {
    let standing = process["standing"].as_str().map(|standing| format!(", {standing}")).unwrap_or_default();
    match (process["state"].as_str(), process["pid"].as_u64()) {
        (Some(state), Some(pid)) => format!("{state} (pid {pid}){standing}"),
        (Some(state), None) => state.to_owned(),
        _ => "unknown".to_owned(),
    }
}
