//! Randomness as a value that its user owns: seeded by the operating system in a process, by the run's seed in
//! the simulator.

use rand::rngs::{ChaCha12Rng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};

/// A cryptographically strong generator (ChaCha12). Everything secret or unique in Nephos is drawn from one.
pub struct Random(ChaCha12Rng);

impl Random {
    /// Seeded by the operating system.
    ///
    /// # Panics
    /// If the operating system has no randomness to give: nothing that follows could be safe.
    pub fn from_os() -> Self {
        let mut seed = [0u8; 32];
        SysRng.try_fill_bytes(&mut seed).expect("the operating system gives randomness");
        Random(ChaCha12Rng::from_seed(seed))
    }

    /// The same sequence for the same seed: the simulator's.
    pub fn from_seed(seed: u64) -> Self {
        Random(ChaCha12Rng::seed_from_u64(seed))
    }

    /// 64 uniform bits.
    pub fn u64(&mut self) -> u64 {
        self.0.random()
    }

    /// 128 uniform bits.
    pub fn u128(&mut self) -> u128 {
        self.0.random()
    }

    /// Uniform in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    /// True with the given probability (0.0 to 1.0).
    pub fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

impl std::fmt::Debug for Random {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Random")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence() {
        let (mut a, mut b) = (Random::from_seed(7), Random::from_seed(7));
        assert_eq!((a.u64(), a.below(10), a.u128()), (b.u64(), b.below(10), b.u128()));
        assert_ne!(Random::from_os().u128(), Random::from_os().u128());
    }
}
