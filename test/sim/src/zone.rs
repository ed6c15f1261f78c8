//! A stand-in for the zone's process: passes its cells' summaries on to the region, and remembers nothing across a
//! crash. (The zone's own core does not decide anything yet.)

use crate::message::Message;
use crate::process::Node;
use crate::world::World;
use contract::{CellSummary, ZoneSummary};
use std::collections::BTreeMap;

/// The newest summary of each cell.
#[derive(Default)]
pub(crate) struct Zone {
    /// `None`: the process is dead.
    pub(crate) core: Option<BTreeMap<String, CellSummary>>,
    pub(crate) life: u64,
}

impl Zone {
    pub(crate) fn start(&mut self) {
        self.core = Some(BTreeMap::new());
    }

    pub(crate) fn crash(&mut self) {
        self.core = None;
        self.life += 1;
    }

    pub(crate) fn summarised(&mut self, summary: CellSummary) {
        if let Some(summaries) = &mut self.core {
            summaries.insert(summary.cell_id.clone(), summary);
        }
    }
}

impl World {
    /// Tells the region all that is known.
    pub(crate) fn zone_send(&mut self, zone: usize) {
        let Some(summaries) = &self.zones[zone].core else { return };
        let cells = summaries.values().cloned().collect();
        let summary = ZoneSummary { zone: self.zone_names[zone].to_string(), cells };
        self.link_send(Node::Zone(zone), Node::Region, Message::ZoneSummary(summary));
    }
}
