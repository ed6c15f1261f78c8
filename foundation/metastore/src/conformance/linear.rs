//! Whether a concurrent history is linearizable: whether each call can be given a moment between its beginning and
//! its end, so that all answers are those of one store that does one call at a time.
//!
//! The search is Wing and Gong's ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memoisation of what
//! was tried ("Testing for linearizability", 2017), on each independent part of the history by itself (Horn and
//! Kroening, "Faster linearizability checking via P-compositionality", 2015): calls that have no key in common,
//! not even through others, are independent.
//!
//! Besides values it checks revisions: a key's grow with every change of it, and a read names the one of the commit.
//!
//! Invariant: every value is written once in a history, so that a read tells which commit it saw.

use crate::{Key, Revision};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A value, which is written once.
pub type Written = u64;

/// A call, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A read of these keys at one moment.
    Read(BTreeMap<Key, Option<(Written, Revision)>>),
    /// A commit: what it demands of keys (`None`: absent), what it writes (`None`: nothing, the key goes).
    Commit {
        /// Its conditions.
        conditions: BTreeMap<Key, Option<Revision>>,
        /// Its operations.
        writes: BTreeMap<Key, Option<Written>>,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, at this revision (of the commit before it, if it changed nothing).
    Done(Revision),
    /// One of its conditions did not hold.
    Conflict,
    /// It may happen at any moment after its beginning, or never.
    Unknown,
}

/// A call with its times, which are of one clock and all different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub client: usize,
    /// When it began.
    pub begin: u64,
    /// When its answer came; `u64::MAX`: none came.
    pub end: u64,
    /// What it was.
    pub action: Action,
}

/// What the checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none. The longest beginning of an order that was found, and the calls that cannot follow.
    Violation(String),
    /// It was not found out within the bound on work.
    Undecided,
}

/// States that are looked at in one part, at most.
const STATES_MAX: usize = 3_000_000;

type State = BTreeMap<Key, (Written, Revision)>;

/// Finds out whether the history is linearizable.
pub fn linearizable(calls: &[Call]) -> Verdict {
    let revisions = revisions_read(calls);
    for part in parts(calls) {
        match part_check(&part, &revisions) {
            Verdict::Linearizable => {}
            other => return other,
        }
    }
    Verdict::Linearizable
}

/// The revision of each value that a read or an answer names: what a commit without an answer made is known by it.
fn revisions_read(calls: &[Call]) -> BTreeMap<Written, Revision> {
    let mut revisions = BTreeMap::new();
    for call in calls {
        if let Action::Read(seen) = &call.action {
            revisions.extend(seen.values().flatten().copied());
        }
    }
    revisions
}

/// The calls, divided so that no key is in two parts.
fn parts(calls: &[Call]) -> Vec<Vec<&Call>> {
    let mut parts: Vec<(BTreeSet<&Key>, Vec<&Call>)> = Vec::new();
    for call in calls {
        let (mut keys, mut joined) = (keys(&call.action), vec![call]);
        let (touched, apart) = parts.into_iter().partition(|(others, _)| !others.is_disjoint(&keys));
        parts = apart;
        for (others, mut calls) in touched {
            keys.extend(others);
            joined.append(&mut calls);
        }
        parts.push((keys, joined));
    }
    for (_, calls) in &mut parts {
        calls.sort_by_key(|call| call.begin);
    }
    parts.into_iter().map(|(_, calls)| calls).collect()
}

fn keys(action: &Action) -> BTreeSet<&Key> {
    match action {
        Action::Read(seen) => seen.keys().collect(),
        Action::Commit { conditions, writes, .. } => conditions.keys().chain(writes.keys()).collect(),
    }
}

/// Which calls have their moment already.
type Placed = Vec<u64>;

fn is_placed(placed: &Placed, index: usize) -> bool {
    placed[index / 64] & (1 << (index % 64)) != 0
}

fn place(placed: &Placed, index: usize) -> Placed {
    let mut next = placed.clone();
    next[index / 64] |= 1 << (index % 64);
    next
}

fn part_check(calls: &[&Call], revisions: &BTreeMap<Written, Revision>) -> Verdict {
    let mut tried: HashSet<(Placed, State)> = HashSet::new();
    let mut open = vec![(vec![0; calls.len().div_ceil(64)], State::new(), Vec::new())];
    let mut longest: (Vec<usize>, State) = Default::default();
    while let Some((placed, state, order)) = open.pop() {
        if order.len() >= longest.0.len() {
            longest = (order.clone(), state.clone());
        }
        let left = || (0..calls.len()).filter(|index| !is_placed(&placed, *index));
        // The next moment is before the first end among those that have none yet.
        let Some(horizon) = left().map(|index| calls[index].end).min().filter(|end| *end < u64::MAX) else {
            return Verdict::Linearizable;
        };
        // The last is tried first: those with the earliest end, which most orders begin with.
        let mut next: Vec<usize> = left().filter(|index| calls[*index].begin < horizon).collect();
        next.sort_by_key(|index| std::cmp::Reverse(calls[*index].end));
        for index in next {
            let Some(after) = apply(&calls[index].action, &state, revisions) else { continue };
            let placed = place(&placed, index);
            if tried.insert((placed.clone(), after.clone())) {
                let order = order.iter().copied().chain([index]).collect();
                open.push((placed, after, order));
            }
        }
        if tried.len() > STATES_MAX {
            return Verdict::Undecided;
        }
    }
    Verdict::Violation(story(calls, &longest.0, &longest.1))
}

/// The state after the call, if its answer is right in this one.
fn apply(action: &Action, state: &State, revisions: &BTreeMap<Written, Revision>) -> Option<State> {
    match action {
        Action::Read(seen) => {
            let right = seen.iter().all(|(key, value)| state.get(key) == value.as_ref());
            right.then(|| state.clone())
        }
        Action::Commit { conditions, writes, outcome } => {
            let holds = conditions
                .iter()
                .all(|(key, expected)| state.get(key).map(|(_, revision)| *revision) == *expected);
            match outcome {
                Outcome::Conflict => (!holds).then(|| state.clone()),
                Outcome::Done(revision) if holds => write(state, writes, |_| *revision),
                // One whose value nobody read can have any revision, and nobody names it in a condition.
                Outcome::Unknown if holds => write(state, writes, |written| {
                    written.and_then(|written| revisions.get(&written).copied()).unwrap_or(UNSEEN)
                }),
                _ => None,
            }
        }
    }
}

/// The revision of what nobody read.
const UNSEEN: Revision = Revision(u64::MAX);

fn write(
    state: &State,
    writes: &BTreeMap<Key, Option<Written>>,
    revision: impl Fn(Option<Written>) -> Revision,
) -> Option<State> {
    let mut after = state.clone();
    for (key, written) in writes {
        let revision = revision(*written);
        let before = match written {
            Some(written) => after.insert(key.clone(), (*written, revision)),
            None => after.remove(key),
        };
        if before.is_some_and(|(_, before)| before != UNSEEN && before >= revision) {
            return None;
        }
    }
    Some(after)
}

/// The end of the longest order, the state after it, and what cannot come next.
fn story(calls: &[&Call], order: &[usize], state: &State) -> String {
    use std::fmt::Write;
    let mut story = String::from("no order explains the history; one goes so far:\n");
    for index in order.iter().skip(order.len().saturating_sub(8)) {
        let _ = writeln!(story, "    {:?}", calls[*index]);
    }
    let _ = writeln!(story, "  then the state is\n    {state:?}\n  and none of these can be next:");
    let left = (0..calls.len()).filter(|index| !order.contains(index));
    let horizon = left.clone().map(|index| calls[index].end).min().unwrap_or(u64::MAX);
    for index in left.filter(|index| calls[*index].begin < horizon) {
        let _ = writeln!(story, "    {:?}", calls[index]);
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        b"k".to_vec()
    }

    fn write_call(begin: u64, end: u64, written: Written, outcome: Outcome) -> Call {
        let writes = [(key(), Some(written))].into();
        Call { client: 0, begin, end, action: Action::Commit { conditions: [].into(), writes, outcome } }
    }

    fn read_call(begin: u64, end: u64, seen: Option<(Written, u64)>) -> Call {
        let seen = seen.map(|(written, revision)| (written, Revision(revision)));
        Call { client: 1, begin, end, action: Action::Read([(key(), seen)].into()) }
    }

    fn done(revision: u64) -> Outcome {
        Outcome::Done(Revision(revision))
    }

    #[test]
    fn a_read_beside_a_write_may_see_either_and_after_it_only_that() {
        let write = write_call(1, 4, 7, done(1));
        for (seen, begin, end, right) in [
            (None, 2, 3, true),
            (Some((7, 1)), 2, 3, true),
            (Some((7, 1)), 5, 6, true),
            (None, 5, 6, false),
            (Some((7, 2)), 5, 6, false),
            (Some((8, 1)), 5, 6, false),
        ] {
            let verdict = linearizable(&[write.clone(), read_call(begin, end, seen)]);
            assert_eq!(verdict == Verdict::Linearizable, right, "{seen:?} {begin} {verdict:?}");
        }
    }

    #[test]
    fn what_was_seen_is_not_unseen_again() {
        let write = write_call(1, u64::MAX, 7, Outcome::Unknown);
        let (seen, unseen) = (read_call(2, 3, Some((7, 1))), read_call(4, 5, None));
        assert!(matches!(linearizable(&[write.clone(), seen, unseen]), Verdict::Violation(_)));
        let (unseen, seen) = (read_call(2, 3, None), read_call(4, 5, Some((7, 1))));
        assert_eq!(linearizable(&[write.clone(), unseen, seen]), Verdict::Linearizable);
        assert_eq!(linearizable(&[write, read_call(2, 3, None)]), Verdict::Linearizable);
    }

    #[test]
    fn of_two_that_demand_the_same_one_conflicts() {
        let claim = |begin, end, written, outcome| {
            let Action::Commit { writes, .. } = write_call(begin, end, written, outcome).action else {
                unreachable!()
            };
            let conditions = [(key(), None)].into();
            Call { client: 0, begin, end, action: Action::Commit { conditions, writes, outcome } }
        };
        let first = claim(1, 3, 7, done(1));
        let verdict = linearizable(&[first.clone(), claim(2, 4, 8, Outcome::Conflict)]);
        assert_eq!(verdict, Verdict::Linearizable);
        assert!(matches!(linearizable(&[first, claim(2, 4, 8, done(2))]), Verdict::Violation(_)));
    }
}
