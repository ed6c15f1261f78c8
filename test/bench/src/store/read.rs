//! Reads of one key, and of a page of a range, from 16 clients over one connection; both servers answer with what
//! every acknowledged commit has left.

use super::server::{Kind, Server};
use super::{Both, VALUE_BYTES, closed_loop, runtime};
use crate::Place;
use crate::cloud::directory;
use crate::report::{Case, RUNS, progress};
use anyhow::{Result, ensure};
use metastore::{Commit, Op, RangeQuery, Store};
use std::time::Duration;

const CLIENTS: usize = 16;
const DURATION: Duration = Duration::from_secs(2);
const RECORDS: usize = 10_000;
/// Records of a page.
const PAGE: usize = 100;

/// Measures both, in turns.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    runtime()?.block_on(async {
        let (ours_directory, peers_directory) = (directory()?, directory()?);
        let ours = Server::start(place, Kind::Ours, ours_directory.path()).await?;
        let peers = Server::start(place, Kind::Etcd, peers_directory.path()).await?;
        fill(&ours.store().await?).await?;
        fill(&peers.store().await?).await?;
        let (mut points, mut pages) = (Both::default(), Both::default());
        for run in 1..=RUNS {
            points.ours.push(point_reads(&ours).await?);
            points.peers.push(point_reads(&peers).await?);
            pages.ours.push(page_reads(&ours).await?);
            pages.peers.push(page_reads(&peers).await?);
            progress(&format!("run {run} of {RUNS}"));
        }
        let mut cases = points.cases("read of one key, 16 clients");
        cases.extend(pages.cases("range of 100 records, 16 clients"));
        Ok(cases)
    })
}

fn key(number: usize) -> Vec<u8> {
    format!("read/{number:06}").into_bytes()
}

async fn fill(store: &Store) -> Result<()> {
    for first in (0..RECORDS).step_by(Commit::OPS_MAX) {
        let numbers = first..RECORDS.min(first + Commit::OPS_MAX);
        let ops = numbers.map(|number| Op::Put(key(number), vec![number as u8; VALUE_BYTES]));
        store.commit(Commit { conditions: Vec::new(), ops: ops.collect() }).await?;
    }
    Ok(())
}

/// A number that looks random, the same for both servers.
fn scattered(client: usize, turn: usize) -> usize {
    (client * 7_919 + turn).wrapping_mul(2_654_435_761) >> 7
}

async fn point_reads(server: &Server) -> Result<super::Outcome> {
    let store = server.store().await?;
    closed_loop(server.process(), CLIENTS, DURATION, move |client, turn| {
        let store = store.clone();
        async move {
            let entry = store.get(&key(scattered(client, turn) % RECORDS)).await?;
            ensure!(entry.is_some_and(|entry| entry.value.len() == VALUE_BYTES), "a record is missing");
            Ok(())
        }
    })
    .await
}

async fn page_reads(server: &Server) -> Result<super::Outcome> {
    let store = server.store().await?;
    closed_loop(server.process(), CLIENTS, DURATION, move |client, turn| {
        let store = store.clone();
        async move {
            let first = scattered(client, turn) % (RECORDS - PAGE);
            let query = RangeQuery::between(key(first), Some(b"read0".to_vec())).limit(PAGE);
            let page = store.range(&query).await?;
            ensure!(page.entries.len() == PAGE, "a page has {} records", page.entries.len());
            Ok(())
        }
    })
    .await
}
