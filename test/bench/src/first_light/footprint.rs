//! What the default cloud (3 zones, 6 hosts, no guests) takes while nobody asks anything of it.

use crate::Place;
use crate::cloud::{Cloud, directory};
use crate::process::{self, Process};
use crate::report::{Case, RUNS, progress};
use anyhow::Result;
use std::time::{Duration, Instant};

/// After the start, before anything is measured: links settle, the accelerator is proven.
const SETTLE: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(20);

/// Measures the control plane (region, zones, cells) apart from hosts and supervisor.
pub fn measure(place: &Place) -> Result<Vec<Case>> {
    let directory = directory()?;
    let cloud = Cloud::ready(place, directory.path(), &[])?;
    progress(&format!("letting the cloud settle for {} s", SETTLE.as_secs()));
    std::thread::sleep(SETTLE);
    let (control, others) = cloud.planes()?;
    let (mut memory, mut cpu) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for run in 1..=RUNS {
        let before = [process::cpu(&control), process::cpu(&others)];
        let began = Instant::now();
        std::thread::sleep(IDLE);
        let seconds = began.elapsed().as_secs_f64();
        for (plane, processes) in [&control, &others].into_iter().enumerate() {
            let used = process::cpu(processes).saturating_sub(before[plane]);
            cpu[plane].push(used.as_secs_f64() / seconds * 100.0);
            let bytes: u64 = processes.iter().map(|process: &Process| process.pss_bytes()).sum();
            memory[plane].push(bytes as f64 / 1e6);
        }
        progress(&format!("run {run} of {RUNS}"));
    }
    cloud.down()?;
    let both =
        |of: &[Vec<f64>; 2]| of[0].iter().zip(&of[1]).map(|(one, other)| one + other).collect::<Vec<f64>>();
    let count = |processes: &[Process]| [processes.len() as f64];
    Ok(vec![
        Case::alone("idle cloud: control plane, processes", "count", &count(&control)),
        Case::alone("idle cloud: hosts and supervisor, processes", "count", &count(&others)),
        Case::alone("idle cloud: control plane, PSS", "MB", &memory[0]),
        Case::alone("idle cloud: hosts and supervisor, PSS", "MB", &memory[1]),
        Case::alone("idle cloud: all, PSS", "MB", &both(&memory)),
        Case::alone("idle cloud: control plane, CPU", "% core", &cpu[0]),
        Case::alone("idle cloud: hosts and supervisor, CPU", "% core", &cpu[1]),
        Case::alone("idle cloud: all, CPU", "% core", &both(&cpu)),
    ])
}
