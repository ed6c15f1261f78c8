//! A zone's process: its core, which remembers nothing across a crash.

use crate::message::Message;
use crate::process::Node;
use crate::world::World;
use zone::{Effect, Event};

/// A zone's process.
#[derive(Default)]
pub(crate) struct Zone {
    /// `None`: it is dead.
    pub(crate) core: Option<zone::Zone>,
    pub(crate) life: u64,
}

impl Zone {
    pub(crate) fn crash(&mut self) {
        self.core = None;
        self.life += 1;
    }
}

impl World {
    pub(crate) fn zone_start(&mut self, index: usize) {
        self.zones[index].core = Some(zone::Zone::new(self.zone_names[index].clone()));
    }

    /// Hands a zone an event and carries out what it wants.
    pub(crate) fn zone_apply(&mut self, index: usize, event: Event) {
        let now = self.now();
        let Some(core) = &mut self.zones[index].core else { return };
        for Effect::ToRegion(summary) in core.apply(now, event) {
            self.link_send(Node::Zone(index), Node::Region, Message::ZoneSummary(summary));
        }
    }
}
