//! The three numbers that order messages: generations (which intent is newer), terms (which leader is newer) and
//! attempts (which placement is newer).

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which intent is newer. A pair, compared left to right, so that restoring or migrating a store (which raises
/// the incarnation) never makes its fresh intent look stale to hosts that saw a higher revision before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Raised whenever a store is restored or migrated; starts at 1.
    pub incarnation: u64,
    /// The store's revision at which the intent was committed.
    pub revision: u64,
}

impl Generation {
    /// The generation before every other.
    pub const ZERO: Generation = Generation { incarnation: 0, revision: 0 };

    /// The generation at `revision` of the store's `incarnation`.
    pub const fn new(incarnation: u64, revision: u64) -> Self {
        Generation { incarnation, revision }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

/// Which leader is newer: raised at every start of a controller, carried by each of its messages. A host
/// persists the highest that it has seen and refuses lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

/// The highest incarnation of a store: terms and the ids of leases have room for so many.
pub const INCARNATION_MAX: u64 = (1 << 19) - 1;

impl Term {
    /// Bits of a term below those that say the store's incarnation.
    const INCARNATION_SHIFT: u32 = 40;

    /// The term of the leader after the one of this term, in a store of this incarnation. A restored store has
    /// forgotten the last terms that its leaders had, so each incarnation's begin above all of the one before.
    pub const fn next(self, incarnation: u64) -> Term {
        let first = incarnation.saturating_sub(1) << Self::INCARNATION_SHIFT;
        if self.0 < first { Term(first) } else { Term(self.0 + 1) }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which placement of one instance is newer: 1 for the first, raised whenever the region decides anew (another
/// cell, or a start after a stop). Only the attempt that the region has confirmed may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The attempt after this one.
    pub const fn next(self) -> Attempt {
        Attempt(self.0 + 1)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_store_is_newer_whatever_its_revision() {
        assert!(Generation::new(2, 1) > Generation::new(1, 1_000_000));
        assert!(Generation::new(1, 2) > Generation::new(1, 1));
        let before = (0..1000).fold(Term(0), |term, _| term.next(1));
        assert_eq!((before, Term(0).next(1)), (Term(1000), Term(1)));
        let restored = Term(3).next(2);
        assert!(restored > before && restored.next(2) == Term(restored.0 + 1));
        assert!(Term(3).next(3) > restored.next(2).next(2));
    }
}
