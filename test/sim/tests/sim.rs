//! The proof: many seeds, each twice; a crash at every step; and a checker that notices what it should.
//!
//! A failing seed prints how to run it alone. `NEPHOS_SIM_SEED=N` runs one seed, `NEPHOS_SIM_SEEDS=N` another number
//! of them, `NEPHOS_SIM_TRACE=1` prints every event:
//!
//! ```text
//! NEPHOS_SIM_SEED=17 NEPHOS_SIM_TRACE=1 cargo test -p sim seeds -- --nocapture
//! ```

use base::step::LaunchStep;
use sim::invariant::Invariant;
use sim::trace::Sight;
use sim::{CrashPoint, Report, Sabotage, Scenario, run};
use std::time::Duration;

const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn trace() -> bool {
    number("NEPHOS_SIM_TRACE").is_some_and(|on| on != 0)
}

/// Runs a scenario twice: nothing is violated, and both runs are the same.
fn twice(scenario: &Scenario) -> Report {
    let report = run(scenario);
    let seed = scenario.seed;
    if let Some(violation) = &report.violation {
        panic!(
            "seed {seed}: {:?} at {}: {}\nagain: NEPHOS_SIM_SEED={seed} NEPHOS_SIM_TRACE=1 cargo test -p sim seeds -- --nocapture",
            violation.invariant, violation.at, violation.what
        );
    }
    let again = run(&Scenario { trace: false, ..scenario.clone() });
    assert_eq!(report, again, "seed {seed}: two runs, two histories");
    report
}

/// Every fourth seed has few hosts, so that room is scarce; the others have 200.
fn scenario(seed: u64) -> Scenario {
    let scenario = if seed % 4 == 3 { Scenario::scarce(seed) } else { Scenario::of_seed(seed) };
    Scenario { trace: trace(), ..scenario }
}

#[test]
fn seeds() {
    if let Some(seed) = number("NEPHOS_SIM_SEED") {
        println!("{:#?}", twice(&scenario(seed)));
        return;
    }
    let seeds = number("NEPHOS_SIM_SEEDS").unwrap_or(SEEDS);
    let mut sum = Report::default();
    for seed in 0..seeds {
        sum.add(&twice(&scenario(seed)));
    }
    println!(
        "{seeds} seeds, each twice with the same hash: {} events, {} virtual hours, {} instances acknowledged, {} \
         calls retried, {} crashes, {} host reboots, {} partitions, {} store failures",
        sum.events,
        sum.elapsed_ms / 3_600_000,
        sum.instances,
        sum.retries,
        sum.crashes,
        sum.reboots,
        sum.partitions,
        sum.store_failures
    );
    for step in LaunchStep::ALL {
        let count =
            |counts: &std::collections::BTreeMap<_, u64>| counts.get(step).copied().unwrap_or_default();
        println!("{step:>20}: reached {:>6}, crashed at {:>4}", count(&sum.steps), count(&sum.crashed_at));
    }
    println!("sights: {:?}", sum.sights);
    let spared: Vec<&LaunchStep> =
        LaunchStep::ALL.iter().filter(|step| !sum.crashed_at.contains_key(step)).collect();
    let unseen: Vec<&Sight> = Sight::ALL.iter().filter(|sight| !sum.sights.contains_key(sight)).collect();
    if seeds >= SEEDS {
        assert!(spared.is_empty(), "no process ever crashed at {spared:?}");
        assert!(unseen.is_empty(), "never met: {unseen:?}");
    }
}

#[test]
fn a_crash_at_every_step_loses_nothing() {
    for step in LaunchStep::ALL {
        for control_plane in [false, true] {
            for nth in 1..=3 {
                let crash_at = Some(CrashPoint { step: *step, nth, control_plane });
                let calm =
                    Scenario { hosts: 12, clients: 2, calls: 4, crash_at, ..Scenario::calm(u64::from(nth)) };
                let report = twice(&calm);
                assert_eq!(report.crashed_at.get(step), Some(&1), "{step} was not reached {nth} times");
                assert!(report.instances > 0, "{step}: nothing was launched");
            }
        }
    }
}

/// The checker reports the rule that a sabotage breaks, within some seeds.
fn caught(sabotage: Sabotage, invariant: Invariant) {
    let found = (0..50).find_map(|seed| {
        let scenario =
            Scenario { hosts: 30, host_vcpus: 4, sabotage: Some(sabotage), ..Scenario::of_seed(seed) };
        let violation = run(&scenario).violation?;
        println!("{sabotage:?}: seed {seed}: {:?}: {}", violation.invariant, violation.what);
        (violation.invariant == invariant).then_some(seed)
    });
    assert!(found.is_some(), "{sabotage:?} breaks {invariant:?}, and nobody noticed");
}

#[test]
fn a_vm_on_two_hosts_is_noticed() {
    caught(Sabotage::DocumentsCopied, Invariant::OneHost);
}

#[test]
fn a_lost_instance_is_noticed() {
    caught(Sabotage::SyncsLie, Invariant::NothingLost);
}

#[test]
fn a_host_over_capacity_is_noticed() {
    caught(Sabotage::CapacityDoubled, Invariant::WithinCapacity);
}

#[test]
fn a_state_that_goes_back_is_noticed() {
    caught(Sabotage::ReadsStale, Invariant::StatesForward);
}

#[test]
fn a_vm_that_nobody_destroys_is_noticed() {
    caught(Sabotage::TombstonesLost, Invariant::ComesToRest);
}

#[test]
fn without_faults_everything_is_answered_at_once() {
    let calm = Scenario { activity: Duration::from_secs(20), ..Scenario::calm(1) };
    let report = twice(&calm);
    assert_eq!((report.crashes, report.retries, report.partitions), (0, 0, 0));
    assert!(report.instances > 0);
}
