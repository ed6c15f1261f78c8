//! What the region knows of its zones and cells: who is connected, and what each has to give. In memory only:
//! summaries come again.

use base::ids::{CellId, ZoneName};
use contract::{CellSummary, ZoneSummary};
use std::collections::BTreeMap;

/// The region's zones and cells, as configured, with what they last said.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Every configured zone.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// Every configured cell.
    pub cells: BTreeMap<CellId, Cell>,
}

/// A zone.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Its link is up.
    pub connected: bool,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Where it is.
    pub zone: ZoneName,
    /// Its link is up.
    pub connected: bool,
    /// What it last told its zone; `None` before the zone has said anything.
    pub summary: Option<CellSummary>,
}

impl Cell {
    /// How many VMs of this size its hosts could take by the last summary; `None` if there is none.
    pub fn fits(&self, vcpus: u32, memory_mib: u32) -> Option<u32> {
        let summary = self.summary.as_ref()?;
        let each = |free: &contract::FreeShape| {
            (free.vcpus / vcpus.max(1)).min(free.memory_mib / memory_mib.max(1)).saturating_mul(free.hosts)
        };
        Some(summary.free.iter().map(each).fold(0, u32::saturating_add))
    }
}

impl Fleet {
    /// A fleet of these zones and their cells, about which nothing is known yet.
    pub fn new(zones: impl IntoIterator<Item = (ZoneName, Vec<CellId>)>) -> Fleet {
        let mut fleet = Fleet::default();
        for (zone, cells) in zones {
            for cell in cells {
                fleet.cells.insert(cell, Cell { zone: zone.clone(), connected: false, summary: None });
            }
            fleet.zones.insert(zone, Zone::default());
        }
        fleet
    }

    /// Forgets what a zone has said: it does not answer any more, or speaks anew.
    pub fn forget(&mut self, zone: &ZoneName) {
        for cell in self.cells.values_mut().filter(|cell| cell.zone == *zone) {
            cell.summary = None;
        }
    }

    /// Takes a zone's summary: cells that it leaves out are unknown, cells that are not the zone's are passed over.
    pub fn summarised(&mut self, zone: &ZoneName, summary: ZoneSummary) {
        self.forget(zone);
        for cell_summary in summary.cells {
            let cell = cell_summary.cell_id.parse().ok().and_then(|id: CellId| self.cells.get_mut(&id));
            if let Some(cell) = cell.filter(|cell| cell.zone == *zone) {
                cell.summary = Some(cell_summary);
            }
        }
    }
}
