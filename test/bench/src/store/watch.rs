//! One commit at a time, and a thousand watchers of its key: how long until each has heard of it.

use super::server::{Kind, Server};
use super::{VALUE_BYTES, percentile, put, runtime};
use crate::Place;
use crate::cloud::directory;
use crate::process;
use crate::report::{Better, Case, RUNS, progress};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const WATCHERS: usize = 1_000;
const COMMITS: usize = 50;
/// Nobody may hear later than that.
const HEARD_BY: Duration = Duration::from_secs(10);

/// What one run has measured.
struct Outcome {
    /// Of each delivery, from the commit's call, in milliseconds, sorted.
    latencies_ms: Vec<f64>,
    /// CPU time of the server, per delivery, in microseconds.
    cpu_us: f64,
}

/// Measures both, in turns.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    runtime()?.block_on(async {
        let (ours_directory, peers_directory) = (directory()?, directory()?);
        let ours = Server::start(place, Kind::Ours, ours_directory.path()).await?;
        let peers = Server::start(place, Kind::Etcd, peers_directory.path()).await?;
        let (mut our_runs, mut peer_runs) = (Vec::new(), Vec::new());
        for run in 1..=RUNS {
            our_runs.push(deliveries(&ours).await?);
            peer_runs.push(deliveries(&peers).await?);
            progress(&format!("run {run} of {RUNS}"));
        }
        let case = |what: &str, unit, value: fn(&Outcome) -> f64| {
            let values = |runs: &[Outcome]| runs.iter().map(value).collect::<Vec<f64>>();
            let (ours, peers) = (values(&our_runs), values(&peer_runs));
            let name = format!("watch by {WATCHERS}, {what}");
            Case::beside(name, unit, Better::Less, &ours, super::server::PEER, &peers)
        };
        Ok(vec![
            case("delivery p50", "ms", |outcome| percentile(&outcome.latencies_ms, 0.5)),
            case("delivery p99", "ms", |outcome| percentile(&outcome.latencies_ms, 0.99)),
            case("CPU of the server", "us/delivery", |outcome| outcome.cpu_us),
        ])
    })
}

async fn deliveries(server: &Server) -> Result<Outcome> {
    let store = server.store().await?;
    let from = store.revision().await?;
    let (heard, mut hearing) = mpsc::unbounded_channel::<Instant>();
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = store.watch(b"watch/", from).await?;
        let heard = heard.clone();
        watchers.push(tokio::spawn(async move {
            while watch.next().await.is_ok() && heard.send(Instant::now()).is_ok() {}
        }));
    }
    let mut latencies_ms = Vec::with_capacity(WATCHERS * COMMITS);
    let cpu_before = process::cpu(&[server.process()]);
    for turn in 0..COMMITS {
        let began = Instant::now();
        store.commit(put(String::from("watch/key"), vec![turn as u8; VALUE_BYTES])).await?;
        for _ in 0..WATCHERS {
            let next = tokio::time::timeout(HEARD_BY, hearing.recv()).await;
            let at = next.context("a watcher did not hear of a commit")?.context("all watches ended")?;
            latencies_ms.push(at.duration_since(began).as_secs_f64() * 1e3);
        }
    }
    let cpu = process::cpu(&[server.process()]).saturating_sub(cpu_before);
    for watcher in watchers {
        watcher.abort();
    }
    latencies_ms.sort_by(f64::total_cmp);
    Ok(Outcome { cpu_us: cpu.as_secs_f64() * 1e6 / latencies_ms.len() as f64, latencies_ms })
}
