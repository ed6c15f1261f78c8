//! Commits of one put each, from 1, 16 and 64 clients over one connection.

use super::server::{Kind, Server};
use super::{Both, VALUE_BYTES, closed_loop, put, runtime};
use crate::Place;
use crate::cloud::directory;
use crate::report::{Case, RUNS, progress};
use anyhow::Result;
use std::time::Duration;

const CLIENTS: [usize; 3] = [1, 16, 64];
const DURATION: Duration = Duration::from_secs(3);
/// Keys of each client, which it writes again and again.
const KEYS: usize = 1_000;

/// Measures both, in turns.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    runtime()?.block_on(async {
        let (ours_directory, peers_directory) = (directory()?, directory()?);
        let ours = Server::start(place, Kind::Ours, ours_directory.path()).await?;
        let peers = Server::start(place, Kind::Etcd, peers_directory.path()).await?;
        let mut outcomes: [Both; 3] = Default::default();
        for run in 1..=RUNS {
            for (clients, both) in CLIENTS.into_iter().zip(&mut outcomes) {
                both.ours.push(commits(&ours, clients).await?);
                both.peers.push(commits(&peers, clients).await?);
            }
            progress(&format!("run {run} of {RUNS}"));
        }
        let named = CLIENTS.into_iter().zip(&outcomes).flat_map(|(clients, both)| {
            let plural = if clients == 1 { "" } else { "s" };
            both.cases(&format!("commit {clients} client{plural}"))
        });
        Ok(named.collect())
    })
}

async fn commits(server: &Server, clients: usize) -> Result<super::Outcome> {
    let store = server.store().await?;
    closed_loop(server.process(), clients, DURATION, move |client, turn| {
        let commit = put(format!("commit/{client}/{}", turn % KEYS), vec![turn as u8; VALUE_BYTES]);
        let done = store.commit(commit);
        async move {
            done.await?;
            Ok(())
        }
    })
    .await
}
