//! What happened: a hash over every event, numbers for the report, and a readable line an event on request.

use crate::invariant::Violation;
use base::clock::Timestamp;
use base::step::LaunchStep;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// Something that a simulation worth its time meets: a test fails if it never did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// A launch was answered before all of its places were claimed.
    AnsweredEarly,
    /// A launch got fewer instances than it would have liked.
    FewerThanMax,
    /// A launch was refused for want of room.
    LaunchRefused,
    /// A start was refused for want of room.
    StartRefused,
    /// A launch that had been answered was asked for again, and answered the same.
    TokenReplayed,
    /// An answer came although its call had been made before, and had failed.
    AnsweredAgain,
    /// A restarted agent found machines running.
    MachinesAdopted,
    /// A host started machines while its cell was dead.
    StartedAlone,
    /// A guest's own power-off ended its instance.
    TerminatedByGuest,
    /// A store cut off what a crash had torn.
    StoreTorn,
}

impl Sight {
    /// All of them.
    pub const ALL: &'static [Sight] = &[
        Sight::AnsweredEarly,
        Sight::FewerThanMax,
        Sight::LaunchRefused,
        Sight::StartRefused,
        Sight::TokenReplayed,
        Sight::AnsweredAgain,
        Sight::MachinesAdopted,
        Sight::StartedAlone,
        Sight::TerminatedByGuest,
        Sight::StoreTorn,
    ];
}

/// What became of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Over every event delivered, its time and its content.
    pub hash: u64,
    /// Events delivered.
    pub events: u64,
    /// Processes that died, by any cause.
    pub crashes: u64,
    /// Hosts that lost power.
    pub reboots: u64,
    /// Stores whose disk failed.
    pub store_failures: u64,
    /// Links cut.
    pub partitions: u64,
    /// Calls that customers made again.
    pub retries: u64,
    /// Instances that customers were told of.
    pub instances: u64,
    /// Virtual time.
    pub elapsed_ms: u64,
    /// How often each step was reached.
    pub steps: BTreeMap<LaunchStep, u64>,
    /// How often a process crashed at each step.
    pub crashed_at: BTreeMap<LaunchStep, u64>,
    /// How often what must happen sometimes did.
    pub sights: BTreeMap<Sight, u64>,
    /// What did not hold.
    pub violation: Option<Violation>,
}

impl Report {
    /// Notes that something happened.
    pub(crate) fn saw(&mut self, sight: Sight) {
        *self.sights.entry(sight).or_default() += 1;
    }

    /// Adds the numbers of another run.
    pub fn add(&mut self, other: &Report) {
        self.events += other.events;
        self.crashes += other.crashes;
        self.reboots += other.reboots;
        self.store_failures += other.store_failures;
        self.partitions += other.partitions;
        self.retries += other.retries;
        self.instances += other.instances;
        self.elapsed_ms += other.elapsed_ms;
        for (sight, count) in &other.sights {
            *self.sights.entry(*sight).or_default() += count;
        }
        for (mine, theirs) in [(&mut self.steps, &other.steps), (&mut self.crashed_at, &other.crashed_at)] {
            for (step, count) in theirs {
                *mine.entry(*step).or_default() += count;
            }
        }
    }
}

/// The hash of everything so far.
pub(crate) struct Trace {
    hasher: DefaultHasher,
    print: bool,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Trace {
        Trace { hasher: DefaultHasher::new(), print }
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.hasher.write_u64(number);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.write_u64(bytes.len() as u64);
        self.hasher.write(bytes);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// A line for people; made only if it is printed.
    pub(crate) fn line(&self, now: Timestamp, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>9.3} {}", now.unix_ms() as f64 / 1000.0, text());
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}
