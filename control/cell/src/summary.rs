//! What the cell tells its zone: how much there is, how much is free, and in which shapes.
//!
//! Sent when the link comes up, after changes at most twice a second, and every five seconds.

use crate::cell::{Cell, Effect};
use crate::placement::Room;
use base::clock::Timestamp;
use contract::{CellSummary, FreeShape};
use std::collections::BTreeMap;
use std::time::Duration;

const INTERVAL_MIN: Duration = Duration::from_millis(500);
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Rows of free shapes at the most.
const SHAPES_MAX: usize = 256;

/// What was sent last, and whether there may be something newer.
#[derive(Default)]
pub(crate) struct SummarySent {
    last: Option<(CellSummary, Timestamp)>,
    look: bool,
}

impl SummarySent {
    /// Something that a summary shows has changed.
    pub(crate) fn changed(&mut self) {
        self.look = true;
    }

    /// Time has passed: a host may have fallen silent.
    pub(crate) fn look_again(&mut self) {
        self.look = true;
    }

    /// A new link: the zone knows nothing.
    pub(crate) fn forget(&mut self) {
        *self = SummarySent { look: true, ..SummarySent::default() };
    }
}

impl Cell {
    pub(crate) fn summary_send(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let rested = self.summary.last.as_ref().is_none_or(|(_, at)| now.since(*at) >= INTERVAL_MIN);
        if !self.zone_up || !self.summary.look || !rested {
            return;
        }
        self.summary.look = false;
        let summary = self.summary(now);
        let due = self
            .summary
            .last
            .as_ref()
            .is_none_or(|(last, at)| *last != summary || now.since(*at) >= INTERVAL_MAX);
        if due {
            self.summary.last = Some((summary.clone(), now));
            out.push(Effect::ToZone(summary));
        }
    }

    /// What the cell has to give at `now`. What is free counts only on hosts that would be given a VM.
    pub fn summary(&self, now: Timestamp) -> CellSummary {
        let mut summary = CellSummary {
            cell_id: self.identity.cell.to_string(),
            vms: self.vm_records().count() as u32,
            ..CellSummary::default()
        };
        let mut shapes: BTreeMap<Room, u32> = BTreeMap::new();
        for host in self.hosts.values() {
            let Some(record) = &host.record else { continue };
            summary.hosts += 1;
            summary.vcpus = summary.vcpus.saturating_add(record.capacity.vcpus);
            summary.memory_mib += record.capacity.memory_mib;
            if !self.host_health(now, host).is_fit() {
                continue;
            }
            let free = record.capacity.minus(host.used);
            summary.hosts_healthy += 1;
            summary.vcpus_free = summary.vcpus_free.saturating_add(free.vcpus);
            summary.memory_free_mib += free.memory_mib;
            *shapes.entry(free).or_default() += 1;
        }
        summary.free = shapes_merge(shapes);
        summary
    }
}

/// At most [`SHAPES_MAX`] rows. Neighbours are merged downwards, so that a row never promises what is not there.
fn shapes_merge(shapes: BTreeMap<Room, u32>) -> Vec<FreeShape> {
    let rows: Vec<(Room, u32)> = shapes.into_iter().collect();
    let together = rows.len().div_ceil(SHAPES_MAX).max(1);
    rows.chunks(together)
        .map(|chunk| FreeShape {
            vcpus: chunk.iter().map(|(room, _)| room.vcpus).min().unwrap_or_default(),
            memory_mib: chunk
                .iter()
                .map(|(room, _)| u32::try_from(room.memory_mib).unwrap_or(u32::MAX))
                .min()
                .unwrap_or_default(),
            hosts: chunk.iter().map(|(_, hosts)| hosts).sum(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_merged_downwards() {
        let few = BTreeMap::from([(Room { vcpus: 2, memory_mib: 100 }, 3)]);
        assert_eq!(shapes_merge(few), [FreeShape { vcpus: 2, memory_mib: 100, hosts: 3 }]);
        let many: BTreeMap<Room, u32> =
            (0..1000).map(|n| (Room { vcpus: n, memory_mib: u64::from(2000 - n) }, 1)).collect();
        let rows = shapes_merge(many);
        assert!(rows.len() <= SHAPES_MAX);
        assert_eq!(rows.iter().map(|row| row.hosts).sum::<u32>(), 1000);
        assert_eq!(rows[0], FreeShape { vcpus: 0, memory_mib: 1997, hosts: 4 });
    }
}
