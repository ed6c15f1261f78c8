//! How large a cloud is, how long it is disturbed, and by what.

use base::random::Random;
use base::step::LaunchStep;
use std::time::Duration;

/// A crash exactly at a step of a launch: everything before the step has been done, nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Where.
    pub step: LaunchStep,
    /// At the first time that it is reached (1), or a later one.
    pub nth: u32,
    /// Region, zones and cells all die there, not only the process that takes the step.
    pub control_plane: bool,
}

/// A fault that breaks the design's own promises, so that a test can tell whether the checker would notice. Each
/// stands in the simulator, none in the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A switch copies documents: what a cell assigns to one host, its neighbour is told to run too.
    DocumentsCopied,
    /// The region's disk answers syncs without having written anything.
    SyncsLie,
    /// Hosts register with twice what they have.
    CapacityDoubled,
    /// Customers read from a copy of the region's model that lags.
    ReadsStale,
    /// Tombstones never reach a host: its documents arrive without them.
    TombstonesLost,
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything random comes from it.
    pub seed: u64,
    /// Cells in each of the three zones.
    pub cells_per_zone: usize,
    /// In all cells together.
    pub hosts: usize,
    /// Of each host.
    pub host_vcpus: u32,
    /// Of each host.
    pub host_memory_mib: u32,
    /// Each with some calls to make; two share an account.
    pub clients: usize,
    /// Calls a client makes.
    pub calls: u32,
    /// How long clients act and faults happen, before peace.
    pub activity: Duration,
    /// Faults at random times.
    pub faults: u32,
    /// Crashes after a random effect of a random process.
    pub crashes_between_effects: u32,
    /// A crash at a step.
    pub crash_at: Option<CrashPoint>,
    /// Links repeat some messages up to three seconds late, after newer ones.
    pub duplicates: bool,
    /// Answers to customers are lost on their way, now and then.
    pub answers_lost: bool,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
    /// Every event is printed.
    pub trace: bool,
}

impl Scenario {
    /// The zones of every simulated region.
    pub const ZONES: usize = 3;

    /// The scenario of a seed: 200 hosts, and everything that can go wrong.
    pub fn of_seed(seed: u64) -> Scenario {
        let mut random = Random::from_seed(seed ^ 0x5ce0_a710);
        let step = LaunchStep::ALL[random.below(LaunchStep::ALL.len() as u64) as usize];
        let crash_at =
            CrashPoint { step, nth: 1 + random.below(4) as u32, control_plane: random.chance(0.2) };
        Scenario {
            seed,
            cells_per_zone: 1 + random.below(2) as usize,
            hosts: 200,
            host_vcpus: [2, 4, 8][random.below(3) as usize],
            host_memory_mib: 16 * 1024,
            clients: 4,
            calls: 12,
            activity: Duration::from_secs(15),
            faults: random.below(24) as u32,
            crashes_between_effects: random.below(12) as u32,
            crash_at: Some(crash_at),
            duplicates: random.chance(0.5),
            answers_lost: random.chance(0.5),
            sabotage: None,
            trace: false,
        }
    }

    /// The same with few hosts, so that room is scarce.
    pub fn scarce(seed: u64) -> Scenario {
        Scenario { hosts: 9, host_vcpus: 4, calls: 20, ..Scenario::of_seed(seed) }
    }

    /// Three clients and nothing that goes wrong.
    pub fn calm(seed: u64) -> Scenario {
        Scenario {
            faults: 0,
            crashes_between_effects: 0,
            crash_at: None,
            duplicates: false,
            answers_lost: false,
            ..Scenario::of_seed(seed)
        }
    }
}
