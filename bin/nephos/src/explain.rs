//! `nephos explain`: why an instance is where it is.

use crate::arguments::Explain;
use crate::cloud::Cloud;
use crate::error::Error;
use crate::operator;
use contract::{ExplainRequest, ExplainResponse};
use serde_json::json;

/// `nephos explain`
pub fn explain(arguments: &Explain) -> Result<(), Error> {
    let cloud = Cloud::open(&arguments.show.at)?;
    let request = ExplainRequest { instance_id: arguments.instance.clone() };
    let why = operator::ask(&cloud, |mut region| async move { region.explain(request).await })?;
    if arguments.show.json {
        say!("{:#}", as_json(&why));
    } else {
        print(&why);
    }
    Ok(())
}

fn print(why: &ExplainResponse) {
    let place = if why.host_id.is_empty() { "nowhere yet" } else { why.host_id.as_str() };
    say!("{} ({}) is on {place}, placement attempt {}", why.instance_id, why.state, why.attempt);
    say!("\nThe region chose the cell:");
    for cell in &why.cells {
        let mark = if cell.chosen { "*" } else { " " };
        say!("  {mark} {:<18} {:<14} {}", cell.cell_id, cell.zone, cell.verdict);
    }
    let hosts = why.hosts.clone().unwrap_or_default();
    say!("\nThe cell chose the host:");
    for host in &hosts.hosts {
        let mark = if host.chosen { "*" } else { " " };
        say!("  {mark} {:<22} {:<18} {}", host.host_id, host.rack_id, host.verdict);
    }
    if hosts.hosts.is_empty() {
        say!("    no cell has answered yet");
    }
    if hosts.omitted > 0 {
        say!("    and {} more hosts were looked at", hosts.omitted);
    }
}

fn as_json(why: &ExplainResponse) -> serde_json::Value {
    let hosts = why.hosts.clone().unwrap_or_default();
    json!({
        "instance_id": why.instance_id,
        "account_id": why.account_id,
        "state": why.state,
        "zone": why.zone,
        "cell": why.cell_id,
        "rack": why.rack_id,
        "host": why.host_id,
        "attempt": why.attempt,
        "cells": why.cells.iter().map(|cell| json!({
            "zone": cell.zone, "cell": cell.cell_id, "chosen": cell.chosen, "verdict": cell.verdict,
        })).collect::<Vec<_>>(),
        "hosts": hosts.hosts.iter().map(|host| json!({
            "host": host.host_id, "rack": host.rack_id, "chosen": host.chosen, "verdict": host.verdict,
        })).collect::<Vec<_>>(),
        "hosts_omitted": hosts.omitted,
    })
}
