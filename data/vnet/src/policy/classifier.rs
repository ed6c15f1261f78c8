//! The rules of a set of security groups in one direction, compiled: whether they allow a packet takes a search for
//! its cell (protocol and port), one for the class of its other end's address, and two tests of bits.
//!
//! ```text
//!   cell ─► row: a bit for each class of addresses      ── the class of the other end's address ──► allowed
//!           a bit for each group that rules refer to  ──── those that the other end is in ────────► allowed
//! ```
//!
//! Groups only allow, so rows are unions of rules, and no order matters. Which rule it was is found again from the
//! rules themselves, by whoever asks.

use super::classes::Classes;
use super::prefix::Prefix;
use super::traffic::{Cells, Traffic, TrafficKey};
use std::net::IpAddr;
use std::sync::Arc;

/// The other end that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Any of these: one prefix, or those of a list.
    Prefixes(Arc<[Prefix]>),
    /// Whoever is in this group.
    Group(u32),
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `sgr-...`
    pub id: Arc<str>,
    /// The group whose rule it is.
    pub group: u32,
    /// What it is about.
    pub traffic: Traffic,
    /// The other end.
    pub peer: Peer,
}

/// Compiled rules.
#[derive(Debug)]
pub struct Classifier {
    cells: Cells,
    classes: Classes,
    /// For each cell, [`Self::class_words`] words: the bits of the classes that it allows.
    class_bits: Vec<u64>,
    class_words: usize,
    /// Groups that rules refer to, sorted; each has its place as a bit.
    refers: Vec<u32>,
    /// For each cell, [`Self::refer_words`] words: the bits of the groups that it allows.
    refer_bits: Vec<u64>,
    refer_words: usize,
    /// The interned sets with one of those groups in them, sorted, and for each of them the groups' bits.
    sets: Vec<u32>,
    set_bits: Vec<u64>,
    rules: Vec<Rule>,
}

fn word(bit: usize) -> (usize, u64) {
    (bit / 64, 1 << (bit % 64))
}

fn set(bits: &mut [u64], bit: usize) {
    let (at, mask) = word(bit);
    if let Some(word) = bits.get_mut(at) {
        *word |= mask;
    }
}

impl Classifier {
    /// Of these rules. It knows no sets of groups before [`Self::set_add`].
    pub fn build(rules: Vec<Rule>) -> Classifier {
        let traffic: Vec<Traffic> = rules.iter().map(|rule| rule.traffic).collect();
        let cells = Cells::build(&traffic);
        let mut prefixes = Vec::new();
        let mut refers = Vec::new();
        for rule in &rules {
            match &rule.peer {
                Peer::Prefixes(some) => prefixes.extend(some.iter().copied()),
                Peer::Group(group) => refers.push(*group),
            }
        }
        refers.sort_unstable();
        refers.dedup();
        let classes = Classes::build(prefixes);
        let (class_words, refer_words) = (classes.len().div_ceil(64), refers.len().div_ceil(64));
        let mut class_bits = vec![0; cells.len() * class_words];
        let mut refer_bits = vec![0; cells.len() * refer_words];
        let mut mask = vec![0; class_words];
        for rule in &rules {
            match &rule.peer {
                Peer::Prefixes(prefixes) => {
                    mask.fill(0);
                    for prefix in prefixes.iter() {
                        classes.inside(*prefix).for_each(|class| set(&mut mask, class));
                    }
                    for cell in cells.of(rule.traffic) {
                        let row = class_bits.get_mut(cell * class_words..).unwrap_or_default();
                        row.iter_mut().zip(&mask).for_each(|(word, mask)| *word |= mask);
                    }
                }
                Peer::Group(group) => {
                    let bit = refers.partition_point(|other| other < group);
                    for cell in cells.of(rule.traffic) {
                        set(refer_bits.get_mut(cell * refer_words..).unwrap_or_default(), bit);
                    }
                }
            }
        }
        Classifier {
            cells,
            classes,
            class_bits,
            class_words,
            refers,
            refer_bits,
            refer_words,
            sets: Vec::new(),
            set_bits: Vec::new(),
            rules,
        }
    }

    /// Whether the rules allow it. `peer_set` is the set of groups that the other end is in.
    pub fn allows(&self, traffic: TrafficKey, peer: IpAddr, peer_set: u32) -> bool {
        let cell = self.cells.find(traffic);
        let (at, mask) = word(self.classes.of(peer));
        let by_address =
            self.class_bits.get(cell * self.class_words + at).is_some_and(|word| word & mask != 0);
        by_address || (peer_set != 0 && self.refer_words != 0 && self.allows_set(cell, peer_set))
    }

    fn allows_set(&self, cell: usize, peer_set: u32) -> bool {
        let Ok(at) = self.sets.binary_search(&peer_set) else { return false };
        let row = self.refer_bits.get(cell * self.refer_words..).unwrap_or_default().iter();
        let of_set = self.set_bits.get(at * self.refer_words..).unwrap_or_default();
        row.zip(of_set).take(self.refer_words).any(|(row, of_set)| row & of_set != 0)
    }

    /// The first rule that allows it, given the groups that the other end is in. There is one exactly if
    /// [`Self::allows`].
    pub fn rule(&self, traffic: TrafficKey, peer: IpAddr, peer_groups: &[u32]) -> Option<&Rule> {
        let cell = self.cells.find(traffic);
        self.rules.iter().find(|rule| {
            self.cells.of(rule.traffic).any(|of| of == cell)
                && match &rule.peer {
                    Peer::Prefixes(prefixes) => prefixes.iter().any(|prefix| prefix.contains(peer)),
                    Peer::Group(group) => peer_groups.contains(group),
                }
        })
    }

    /// A set of groups now has this number.
    pub fn set_add(&mut self, number: u32, groups: &[u32]) {
        if self.refers.is_empty() {
            return;
        }
        let mut bits = vec![0; self.refer_words];
        for group in groups {
            if let Ok(bit) = self.refers.binary_search(group) {
                set(&mut bits, bit);
            }
        }
        if let (true, Err(at)) = (bits.iter().any(|word| *word != 0), self.sets.binary_search(&number)) {
            self.sets.insert(at, number);
            let at = at * self.refer_words;
            self.set_bits.splice(at..at, bits);
        }
    }

    /// The number means nothing any more.
    pub fn set_remove(&mut self, number: u32) {
        if let Ok(at) = self.sets.binary_search(&number) {
            self.sets.remove(at);
            self.set_bits.drain(at * self.refer_words..(at + 1) * self.refer_words);
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        (self.class_bits.len() + self.refer_bits.len() + self.set_bits.len()) * 8
            + self.classes.len() * (size_of::<Prefix>() + 16)
            + self.rules.len() * size_of::<Rule>()
            + self.sets.len() * 4
    }
}
