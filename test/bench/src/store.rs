//! `store`: the metadata store's process beside one node of etcd, both reached through the same engine of the same
//! handle, over the same RPC and mutual TLS, on the same disk. The parts are in files by noun.

mod commit;
mod read;
mod region;
mod server;
mod state;
mod watch;

use crate::Part;
use crate::process::{self, Process};
use crate::report::{Better, Case};
use anyhow::{Context, Result};
use metastore::{Commit, Op};
use std::future::Future;
use std::time::{Duration, Instant};

/// The parts.
pub const PARTS: &[Part] = &[
    Part { name: "commit", measure: commit::measure },
    Part { name: "read", measure: read::measure },
    Part { name: "watch", measure: watch::measure },
    Part { name: "state", measure: state::measure },
    Part { name: "region", measure: region::measure },
];

/// Bytes of a record's value, where a part does not say otherwise.
const VALUE_BYTES: usize = 512;

/// One put without a condition.
fn put(key: String, value: Vec<u8>) -> Commit {
    Commit { conditions: Vec::new(), ops: vec![Op::Put(key.into_bytes(), value)] }
}

/// The runtime of the clients.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the clients")
}

/// What a closed loop of asynchronous clients has measured.
struct Outcome {
    /// Answers a second.
    rate: f64,
    /// Of each answer, in milliseconds, sorted.
    latencies_ms: Vec<f64>,
    /// CPU time of the server, per answer, in microseconds.
    cpu_us: f64,
}

impl Outcome {
    fn percentile_ms(&self, share: f64) -> f64 {
        percentile(&self.latencies_ms, share)
    }
}

/// The value that this share (0 to 1) of sorted values does not exceed.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// So many clients, each of which asks again as soon as it has its answer, for a while. `ask` is given the client's
/// number and how often it has asked.
async fn closed_loop<F, A>(server: Process, clients: usize, duration: Duration, ask: F) -> Result<Outcome>
where
    F: Fn(usize, usize) -> A + Clone + Send + 'static,
    A: Future<Output = Result<()>> + Send,
{
    let cpu_before = process::cpu(&[server]);
    let began = Instant::now();
    let client = |number: usize| {
        let ask = ask.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < duration {
                let asked = Instant::now();
                ask(number, latencies.len()).await?;
                latencies.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            Ok::<_, anyhow::Error>(latencies)
        })
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    let mut latencies_ms = Vec::new();
    for client in clients {
        latencies_ms.extend(client.await??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = process::cpu(&[server]).saturating_sub(cpu_before);
    latencies_ms.sort_by(f64::total_cmp);
    let answers = latencies_ms.len().max(1) as f64;
    Ok(Outcome {
        rate: latencies_ms.len() as f64 / seconds,
        latencies_ms,
        cpu_us: cpu.as_secs_f64() * 1e6 / answers,
    })
}

/// The outcomes of both, run by run.
#[derive(Default)]
struct Both {
    ours: Vec<Outcome>,
    peers: Vec<Outcome>,
}

impl Both {
    /// Rate, latency and CPU as cases.
    fn cases(&self, name: &str) -> Vec<Case> {
        let case = |what: &str, unit, better, value: fn(&Outcome) -> f64| {
            let values = |outcomes: &[Outcome]| outcomes.iter().map(value).collect::<Vec<f64>>();
            let (ours, peers) = (values(&self.ours), values(&self.peers));
            Case::beside(format!("{name}, {what}"), unit, better, &ours, server::PEER, &peers)
        };
        vec![
            case("rate", "op/s", Better::More, |outcome| outcome.rate),
            case("p50", "ms", Better::Less, |outcome| outcome.percentile_ms(0.5)),
            case("p99", "ms", Better::Less, |outcome| outcome.percentile_ms(0.99)),
            case("CPU of the server", "us/op", Better::Less, |outcome| outcome.cpu_us),
        ]
    }
}
