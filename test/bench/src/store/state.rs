//! A state of 1 GB (a million records): what it takes in memory, and how long a start after a crash takes.

use super::runtime;
use super::server::{Kind, PEER, Server};
use crate::Place;
use crate::cloud::directory;
use crate::report::{Better, Case, RUNS, progress};
use anyhow::{Result, ensure};
use metastore::{Commit, Op, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const RECORDS: usize = 1_000_000;
const VALUE_BYTES: usize = 1_000;
/// Commits at once while the state is loaded.
const LOADERS: usize = 16;

/// What one server has shown.
struct Shown {
    memory_per_record: f64,
    load_seconds: f64,
    recoveries: Vec<f64>,
}

/// Measures one, and then the other: two such states at once would be in each other's way.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    runtime()?.block_on(async {
        let ours = shown(place, Kind::Ours).await?;
        let peers = shown(place, Kind::Etcd).await?;
        let beside = |name: &str, unit, ours: &[f64], peers: &[f64]| {
            Case::beside(name, unit, Better::Less, ours, PEER, peers)
        };
        Ok(vec![
            beside("1 GB: load in commits of 128 records", "s", &[ours.load_seconds], &[peers.load_seconds]),
            beside(
                "1 GB: memory (PSS) per record of 1,000 B",
                "B",
                &[ours.memory_per_record],
                &[peers.memory_per_record],
            ),
            beside("1 GB: kill -9 to first answer", "s", &ours.recoveries, &peers.recoveries),
        ])
    })
}

async fn shown(place: &Place, kind: Kind) -> Result<Shown> {
    let directory = directory()?;
    let mut server = Server::start(place, kind, directory.path()).await?;
    let empty = server.process().pss_bytes();
    let began = Instant::now();
    load(&server.store().await?).await?;
    let load_seconds = began.elapsed().as_secs_f64();
    progress(&format!("{kind:?}: loaded in {load_seconds:.0} s"));
    let mut recoveries = Vec::new();
    for run in 1..=RUNS {
        recoveries.push(server.restart().await?.as_secs_f64());
        progress(&format!("{kind:?}: recovery {run} of {RUNS}: {:.2} s", recoveries[run - 1]));
        let last = server.store().await?.get(&key(RECORDS - 1)).await?;
        ensure!(last.is_some(), "a record is missing after a start");
    }
    // After a start: without what loading has left behind.
    let memory = server.process().pss_bytes().saturating_sub(empty);
    Ok(Shown { memory_per_record: memory as f64 / RECORDS as f64, load_seconds, recoveries })
}

fn key(number: usize) -> Vec<u8> {
    format!("state/{number:08}").into_bytes()
}

async fn load(store: &Store) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let loader = || {
        let (store, next) = (store.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let first = next.fetch_add(Commit::OPS_MAX, Ordering::Relaxed);
                if first >= RECORDS {
                    return Ok::<_, anyhow::Error>(());
                }
                let numbers = first..RECORDS.min(first + Commit::OPS_MAX);
                let ops = numbers.map(|number| Op::Put(key(number), vec![number as u8; VALUE_BYTES]));
                store.commit(Commit { conditions: Vec::new(), ops: ops.collect() }).await?;
            }
        })
    };
    let loaders: Vec<_> = (0..LOADERS).map(|_| loader()).collect();
    for loader in loaders {
        loader.await??;
    }
    Ok(())
}
