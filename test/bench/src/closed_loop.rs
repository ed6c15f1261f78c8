//! The closed loop: some clients, each of which asks again as soon as it has its answer.

use crate::client::{Client, Keys, Question, Reply};
use crate::process::{self, Process};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What to drive.
pub struct Server<'a> {
    /// Where.
    pub address: SocketAddr,
    /// The clients' keys: client n begins with key n and takes the next with each request.
    pub keys: &'a [Keys],
    /// What answers: whose CPU time counts first.
    pub processes: &'a [Process],
    /// What works in the background for it: of a cloud the hosts, which are other machines in earnest.
    pub background: &'a [Process],
}

/// How long.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Clients at once.
    pub clients: usize,
    /// Until this has passed...
    pub duration: Duration,
    /// ...or so many answers are there.
    pub answers_max: usize,
}

/// What came of it.
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// CPU time of what answers, per answer, in microseconds.
    pub cpu_us: f64,
    /// The same of the background.
    pub background_cpu_us: f64,
    /// Of each answer, in milliseconds, sorted.
    pub latencies_ms: Vec<f64>,
}

impl Outcome {
    /// The latency that this share of answers (0 to 1) kept within, in milliseconds.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.latencies_ms.len().saturating_sub(1);
        self.latencies_ms.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
    }
}

/// Runs the loop. `answered` sees every answer. One failure ends it and is the result.
pub fn run(
    server: &Server<'_>,
    bound: Bound,
    question: &Question,
    answered: &(dyn Fn(&Keys, &Reply) + Sync),
) -> Result<Outcome> {
    let asked = AtomicUsize::new(0);
    let cpu = || [process::cpu(server.processes), process::cpu(server.background)];
    let cpu_before = cpu();
    let began = Instant::now();
    let latencies: Vec<Result<Vec<f64>>> = std::thread::scope(|scope| {
        let client = |index: usize| {
            let asked = &asked;
            // A connection for each key: a client of the SDK's kind keeps its own.
            let each_key = server.keys.iter().map(|keys| (keys, Client::new(server.address, keys)));
            let mut clients: Vec<(&Keys, Client)> = each_key.collect();
            move || {
                let mut latencies = Vec::new();
                let mut turn = index;
                while began.elapsed() < bound.duration
                    && asked.fetch_add(1, Ordering::Relaxed) < bound.answers_max
                {
                    let count = clients.len();
                    let (keys, client) = &mut clients[turn % count];
                    turn += bound.clients;
                    let start = Instant::now();
                    let reply = client.ask(question)?;
                    latencies.push(start.elapsed().as_secs_f64() * 1_000.0);
                    answered(keys, &reply);
                }
                Ok(latencies)
            }
        };
        let threads: Vec<_> = (0..bound.clients).map(|index| scope.spawn(client(index))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok(Vec::new())));
        joined.collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let cpu_after = cpu();
    let mut all = Vec::new();
    for latencies in latencies {
        all.extend(latencies.context("a client failed")?);
    }
    all.sort_by(f64::total_cmp);
    let answers = all.len().max(1) as f64;
    let cpu_us = |of: usize| cpu_after[of].saturating_sub(cpu_before[of]).as_secs_f64() * 1e6 / answers;
    Ok(Outcome {
        rate: all.len() as f64 / seconds,
        cpu_us: cpu_us(0),
        background_cpu_us: cpu_us(1),
        latencies_ms: all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_answers() {
        let latencies_ms: Vec<f64> = (0..=100).map(f64::from).collect();
        let outcome = Outcome { rate: 0.0, cpu_us: 0.0, background_cpu_us: 0.0, latencies_ms };
        assert_eq!((outcome.percentile_ms(0.5), outcome.percentile_ms(0.99)), (50.0, 99.0));
        let none = Outcome { rate: 0.0, cpu_us: 0.0, background_cpu_us: 0.0, latencies_ms: Vec::new() };
        assert_eq!(none.percentile_ms(0.5), 0.0);
    }
}
