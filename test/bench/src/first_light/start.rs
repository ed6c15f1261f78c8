//! `up`: from the command to the API's first answer, in a new directory and in one that has been up before.

use crate::Place;
use crate::cloud::{Cloud, directory, port_free};
use crate::report::{Case, RUNS, progress};
use anyhow::Result;
use std::time::Instant;

/// Measures both, in turns.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    let [mut first, mut second, mut hosts] = [const { Vec::new() }; 3];
    for run in 1..=RUNS {
        let (directory, port) = (directory()?, port_free()?);
        for times in [&mut first, &mut second] {
            let began = Instant::now();
            let cloud = Cloud::up(place, directory.path(), port, &["--detach"])?;
            times.push(cloud.answered_after.as_secs_f64());
            cloud.hosts_wait()?;
            hosts.push(began.elapsed().as_secs_f64());
            cloud.down()?;
        }
        progress(&format!("run {run} of {RUNS}"));
    }
    Ok(vec![
        Case::alone("up first start", "s", &first),
        Case::alone("up second start", "s", &second),
        Case::alone("up either start, to all hosts ready", "s", &hosts),
    ])
}
