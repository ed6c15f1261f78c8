//! The owner of a zone's state: the newest summary of each cell, and when the region was last told.
//!
//! Sent when a region links, after changes at most twice a second, and every five seconds. A cell whose link is
//! gone keeps its last summary for a while (it may only have restarted), then is left out.

use base::clock::Timestamp;
use base::ids::{CellId, ZoneName};
use contract::{CellSummary, ZoneSummary};
use std::collections::BTreeMap;
use std::time::Duration;

const INTERVAL_MIN: Duration = Duration::from_millis(500);
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long a cell without a link is still counted on.
const ABSENCE_MAX: Duration = Duration::from_secs(15);

/// What happens to a zone.
#[derive(Clone, Debug)]
pub enum Event {
    /// A region has linked.
    RegionUp,
    /// The region's link is gone.
    RegionDown,
    /// A cell has linked.
    CellUp(CellId),
    /// A cell's link is gone.
    CellDown(CellId),
    /// A cell said what it has.
    Cell(CellId, CellSummary),
    /// Time passes: about four times a second.
    Tick,
}

/// What a zone wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To the region; there is a link.
    ToRegion(ZoneSummary),
}

#[derive(Default)]
struct Cell {
    summary: Option<CellSummary>,
    /// Since when there is no link; `None` while there is one.
    absent_since: Option<Timestamp>,
}

/// A zone. See the file's head.
pub struct Zone {
    name: ZoneName,
    cells: BTreeMap<CellId, Cell>,
    region_up: bool,
    sent: Option<(ZoneSummary, Timestamp)>,
}

impl Zone {
    /// A zone that has heard of no cell yet.
    pub fn new(name: ZoneName) -> Zone {
        Zone { name, cells: BTreeMap::new(), region_up: false, sent: None }
    }

    /// Takes one event; the effects are to be carried out in order.
    pub fn apply(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        match event {
            Event::RegionUp => {
                self.region_up = true;
                self.sent = None;
            }
            Event::RegionDown => self.region_up = false,
            Event::CellUp(cell) => self.cells.entry(cell).or_default().absent_since = None,
            Event::CellDown(cell) => {
                if let Some(cell) = self.cells.get_mut(&cell) {
                    cell.absent_since.get_or_insert(now);
                }
            }
            Event::Cell(cell, summary) if summary.cell_id == cell.as_str() => {
                self.cells.entry(cell).or_default().summary = Some(summary);
            }
            Event::Cell(cell, summary) => {
                tracing::warn!(%cell, claims = summary.cell_id, "a cell speaks for another");
            }
            Event::Tick => {
                let absent = |cell: &Cell| cell.absent_since.is_some_and(|at| now.since(at) > ABSENCE_MAX);
                self.cells.retain(|_, cell| !absent(cell));
            }
        }
        self.summary_due(now).into_iter().collect()
    }

    fn summary_due(&mut self, now: Timestamp) -> Option<Effect> {
        if !self.region_up {
            return None;
        }
        let age = self.sent.as_ref().map(|(_, at)| now.since(*at));
        if age.is_some_and(|age| age < INTERVAL_MIN) {
            return None;
        }
        let cells = self.cells.values().filter_map(|cell| cell.summary.clone()).collect();
        let summary = ZoneSummary { zone: self.name.to_string(), cells };
        let news = self.sent.as_ref().is_none_or(|(last, _)| *last != summary);
        if !news && age.is_some_and(|age| age < INTERVAL_MAX) {
            return None;
        }
        self.sent = Some((summary.clone(), now));
        Some(Effect::ToRegion(summary))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        zone: Zone,
        now: Timestamp,
        sent: Vec<ZoneSummary>,
    }

    impl Fake {
        fn new() -> Fake {
            let zone = Zone::new("z1".parse().unwrap());
            Fake { zone, now: Timestamp::from_unix_ms(1_000_000), sent: Vec::new() }
        }

        fn apply(&mut self, event: Event) {
            for Effect::ToRegion(summary) in self.zone.apply(self.now, event) {
                self.sent.push(summary);
            }
        }

        fn pass(&mut self, ms: u64) {
            for _ in 0..ms / 250 {
                self.now = self.now + Duration::from_millis(250);
                self.apply(Event::Tick);
            }
        }

        fn cell(&mut self, name: &str, vcpus_free: u32) {
            let summary = CellSummary { cell_id: name.into(), vcpus_free, ..CellSummary::default() };
            self.apply(Event::Cell(name.parse().unwrap(), summary));
        }

        /// The cells of the newest summary, with what is free.
        fn newest(&self) -> Vec<(&str, u32)> {
            let cells = &self.sent.last().unwrap().cells;
            cells.iter().map(|cell| (cell.cell_id.as_str(), cell.vcpus_free)).collect()
        }
    }

    #[test]
    fn the_region_hears_at_once_then_of_changes_then_every_five_seconds() {
        let mut fake = Fake::new();
        fake.cell("c1", 8);
        assert!(fake.sent.is_empty());
        fake.apply(Event::RegionUp);
        assert_eq!(fake.newest(), [("c1", 8)]);
        fake.cell("c2", 4);
        fake.cell("c1", 7);
        assert_eq!(fake.sent.len(), 1);
        fake.pass(500);
        assert_eq!((fake.sent.len(), fake.newest()), (2, vec![("c1", 7), ("c2", 4)]));
        fake.pass(4750);
        assert_eq!(fake.sent.len(), 2);
        fake.pass(250);
        assert_eq!(fake.sent.len(), 3);
        fake.apply(Event::RegionDown);
        fake.pass(10_000);
        assert_eq!(fake.sent.len(), 3);
    }

    #[test]
    fn a_cell_that_is_gone_is_counted_on_for_fifteen_seconds() {
        let mut fake = Fake::new();
        fake.apply(Event::RegionUp);
        let c1: CellId = "c1".parse().unwrap();
        fake.apply(Event::CellUp(c1.clone()));
        fake.cell("c1", 8);
        fake.apply(Event::CellDown(c1.clone()));
        fake.pass(10_000);
        assert_eq!(fake.newest(), [("c1", 8)]);
        fake.apply(Event::CellUp(c1.clone()));
        fake.pass(20_000);
        assert_eq!(fake.newest(), [("c1", 8)], "it came back");
        fake.apply(Event::CellDown(c1));
        fake.pass(16_000);
        assert_eq!(fake.newest(), []);
    }

    #[test]
    fn a_cell_speaks_only_for_itself() {
        let mut fake = Fake::new();
        fake.apply(Event::RegionUp);
        let other = CellSummary { cell_id: "c2".into(), ..CellSummary::default() };
        fake.apply(Event::Cell("c1".parse().unwrap(), other));
        fake.pass(1000);
        assert_eq!(fake.newest(), []);
    }
}
