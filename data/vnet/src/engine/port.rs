//! The switch's ports, as the engine must know them: identity, address, limits, counters.

use super::fragment::Fragments;
use super::limit::{Bucket, Limit};
use super::verdict::{DropReason, PortIndex};
use crate::packet::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// More ports than that a switch does not have.
pub const PORTS_MAX: u32 = 65_536;

/// A port, when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// The same after a restart, and no other port's: its connections are kept under it.
    pub id: u64,
    /// All that it sends comes from here.
    pub mac: Mac,
    /// The largest IP packet that it takes.
    pub mtu: u16,
    /// The router of its subnet: who tells it that a packet was too large.
    pub router: Router,
    /// Addresses at which the network itself answers.
    pub services: Vec<IpAddr>,
    /// What it may send.
    pub send: Limit,
    /// What it may get.
    pub receive: Limit,
}

/// A subnet's router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    /// On Ethernet.
    pub mac: Mac,
    /// For IPv4.
    pub ipv4: Ipv4Addr,
    /// For IPv6: its link-local address.
    pub ipv6: Ipv6Addr,
}

impl Router {
    /// Of the same family as a packet's.
    pub fn address(&self, ipv6: bool) -> IpAddr {
        if ipv6 { self.ipv6.into() } else { self.ipv4.into() }
    }
}

/// Which of the ports that had an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortStamp(pub u32);

/// Packets and bytes of Ethernet frames; of a large packet its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    /// Some more.
    #[inline]
    pub fn add(&mut self, packets: u32, bytes: u32) {
        self.packets += u64::from(packets);
        self.bytes += u64::from(bytes);
    }
}

/// What a port did. A packet between two ports is counted at both; a dropped one where it was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// What the guest sent, whatever became of it.
    pub sent: Traffic,
    /// What was handed to it.
    pub received: Traffic,
    drops: [u64; DropReason::COUNT],
}

impl Counters {
    /// One more packet dropped.
    pub fn drop(&mut self, reason: DropReason) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How many were dropped.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }
}

/// A port that is there.
pub struct Port {
    /// As it came.
    pub config: PortConfig,
    /// Which of those that had its index.
    pub stamp: PortStamp,
    /// What it did.
    pub counters: Counters,
    /// Of what it sends.
    pub send: Bucket,
    /// Of what it gets.
    pub receive: Bucket,
    /// Packets of which it sent or gets a first fragment.
    pub fragments: Fragments,
}

/// All of them.
#[derive(Default)]
pub struct Ports {
    ports: Vec<Option<Box<Port>>>,
    stamps: u32,
}

impl Ports {
    /// A port.
    #[inline]
    pub fn get(&self, index: PortIndex) -> Option<&Port> {
        self.ports.get(index.0 as usize)?.as_deref()
    }

    /// A port.
    #[inline]
    pub fn get_mut(&mut self, index: PortIndex) -> Option<&mut Port> {
        self.ports.get_mut(index.0 as usize)?.as_deref_mut()
    }

    /// A port comes, or is another from here on; one with the same identity keeps its counters. False, and nothing
    /// done, for an index beyond [`PORTS_MAX`].
    pub fn set(&mut self, index: PortIndex, mut config: PortConfig) -> bool {
        if index.0 >= PORTS_MAX {
            return false;
        }
        // IPv6 knows no less (RFC 8200, section 5); it also bounds how many pieces a packet is cut into.
        config.mtu = config.mtu.max(1280);
        let at = index.0 as usize;
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.stamps += 1;
        let stamp = PortStamp(self.stamps);
        let Some(place) = self.ports.get_mut(at) else { return false };
        match place {
            Some(port) if port.config.id == config.id => {
                port.send.change(config.send);
                port.receive.change(config.receive);
                port.stamp = stamp;
                port.config = config;
            }
            _ => {
                *place = Some(Box::new(Port {
                    send: Bucket::new(config.send),
                    receive: Bucket::new(config.receive),
                    config,
                    stamp,
                    counters: Counters::default(),
                    fragments: Fragments::default(),
                }));
            }
        }
        true
    }

    /// A port goes.
    pub fn remove(&mut self, index: PortIndex) -> Option<Box<Port>> {
        self.ports.get_mut(index.0 as usize)?.take()
    }

    /// All that there are, by index.
    pub fn iter(&self) -> impl Iterator<Item = (PortIndex, &Port)> {
        (0..).zip(&self.ports).filter_map(|(index, port)| Some((PortIndex(index), port.as_deref()?)))
    }
}
