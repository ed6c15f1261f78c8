//! The flow table: what was decided for a flow, ready to be carried out.
//!
//! It is a cache. Open addressing, one cache line a key, its entry at the same place in a second array, so that both can
//! be fetched before either is looked at. A key lies within [`WINDOW`] slots of its hash; where all of these are taken,
//! the one that was not used for longest gives way. What is lost so is decided anew: the connections are elsewhere.

use super::connection::Slot;
use super::memory::{huge, prefetch};
use super::port::PortStamp;
use super::verdict::{Knowledge, PortIndex, Validity, Vni};
use crate::packet::parse::{Headers, address};
use crate::packet::{Flow, geneve};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Slots in which a key can be.
pub const WINDOW: usize = 8;

/// A flow as one side of this switch sees it: six words.
pub type FlowKey = [u64; 6];

/// The key of a packet that comes from a port.
#[inline]
pub fn key_of_port(headers: &Headers, port: PortIndex, stamp: PortStamp) -> FlowKey {
    key(headers, u64::from(stamp.0 & 0x7fff_ffff) << 32 | u64::from(port.0))
}

/// The key of a packet that comes from the underlay.
#[inline]
pub fn key_of_underlay(headers: &Headers, vni: Vni) -> FlowKey {
    key(headers, 1 << 63 | u64::from(vni.0))
}

#[inline]
fn key(headers: &Headers, origin: u64) -> FlowKey {
    let ([s0, s1], [d0, d1]) = (headers.source, headers.destination);
    let ports = u64::from(headers.ports.0) << 48 | u64::from(headers.ports.1) << 32;
    let icmp = u64::from(headers.icmp.0) << 16 | u64::from(headers.icmp.1) << 8;
    let rest = ports | u64::from(headers.protocol) << 24 | icmp | u64::from(headers.ipv6);
    [s0, s1, d0, d1, rest, origin]
}

/// A flow from its key.
fn flow_of(key: &FlowKey) -> Flow {
    let [s0, s1, d0, d1, rest, _] = *key;
    let ipv6 = rest & 1 != 0;
    Flow {
        protocol: (rest >> 24) as u8,
        source: address([s0, s1], ipv6),
        destination: address([d0, d1], ipv6),
        source_port: (rest >> 48) as u16,
        destination_port: (rest >> 32) as u16,
        icmp: ((rest >> 16) as u8, (rest >> 8) as u8),
    }
}

/// The way of a flow through this switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Way {
    /// None: the slot is free.
    #[default]
    None,
    /// From a port to a port.
    Local,
    /// From a port to another host.
    ToHost,
    /// From another host to a port.
    FromHost,
}

/// What was decided: two cache lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it rests on, where it leaves its port and where it reaches one.
    pub validity: [Validity; 2],
    /// Its connections at these two points.
    pub slots: [Slot; 2],
    /// Packets carried; of a large packet, its pieces.
    pub packets: u64,
    /// Bytes carried, of Ethernet frames.
    pub bytes: u64,
    /// To another host: what is put in front of the packet.
    pub geneve: [u8; geneve::LENGTH],
    /// The Ethernet addresses that it gets.
    pub ethernet: [u8; 12],
    /// The other host, an IPv4 address mapped into IPv6.
    pub host: [u8; 16],
    /// The port that it goes to.
    pub hop: PortIndex,
    /// And which of those that had this index.
    pub hop_stamp: PortStamp,
    /// The other host's UDP port.
    pub host_port: u16,
    /// Ours, of its packets.
    pub source_port: u16,
    /// The largest IP packet that passes.
    pub mtu: u16,
    /// Its way.
    pub way: Way,
}

const _: () = assert!(size_of::<Entry>() == 128 && size_of::<Key>() == 64);

impl Default for Entry {
    fn default() -> Self {
        Entry {
            validity: [Validity::default(); 2],
            slots: [Slot::default(); 2],
            packets: 0,
            bytes: 0,
            geneve: [0; geneve::LENGTH],
            ethernet: [0; 12],
            host: [0; 16],
            hop: PortIndex(0),
            hop_stamp: PortStamp(0),
            host_port: 0,
            source_port: 0,
            mtu: 0,
            way: Way::None,
        }
    }
}

impl Entry {
    /// The other host.
    #[inline]
    pub fn underlay(&self) -> SocketAddr {
        match self.host {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => {
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), self.host_port).into()
            }
            octets => SocketAddrV6::new(octets.into(), self.host_port, 0, 0).into(),
        }
    }
}

/// A host's address as an entry has it.
#[inline]
pub fn host_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Default)]
struct Key {
    words: FlowKey,
    used_s: u32,
    /// What the sender on the other host said that it knew.
    knowledge: Knowledge,
    taken: bool,
    /// Its connections were seen to be open, in the second `used_s`: an ordinary packet would change nothing of them
    /// before the next.
    settled: bool,
}

impl Key {
    /// Without a branch for each word, and without a call.
    #[inline]
    fn is(&self, key: &FlowKey) -> bool {
        let different =
            self.words.iter().zip(key).fold(0, |different, (own, other)| different | (own ^ other));
        different == 0 && self.taken
    }
}

/// A flow, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSeen {
    /// Which.
    pub flow: Flow,
    /// The port that it comes from; none: from another host.
    pub from: Option<PortIndex>,
    /// The port that it goes to; none: to another host.
    pub to: Option<PortIndex>,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Its last packet.
    pub used_s: u32,
}

/// The table.
pub struct Flows {
    keys: Vec<Key>,
    entries: Vec<Entry>,
    mask: usize,
}

impl Flows {
    /// With room for twice as many slots as flows are expected, at 192 bytes each.
    pub fn new(flows: usize) -> Flows {
        let slots = (flows.max(WINDOW) * 2).next_power_of_two();
        // The window of the last home goes on behind the end.
        let size = slots + WINDOW - 1;
        Flows { keys: huge(Key::default(), size), entries: huge(Entry::default(), size), mask: slots - 1 }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// Begins to load what a flow with this hash most likely has: its key at its home or behind it, its entry there.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let home = self.home(hash);
        if let Some([first, second]) = self.keys.get(home..).and_then(|keys| keys.first_chunk::<2>()) {
            prefetch(first);
            prefetch(second);
        }
        self.prefetch_entry(home);
    }

    /// Begins to load an entry.
    #[inline]
    fn prefetch_entry(&self, at: usize) {
        if let Some(entry) = self.entries.get(at) {
            prefetch(&entry.validity);
            prefetch(&entry.geneve);
        }
    }

    /// Where a key is now, whatever its entry rests on; and begins to load that, if it was not foreseen.
    #[inline]
    pub fn locate(&self, key: &FlowKey, hash: u64) -> Option<usize> {
        let home = self.home(hash);
        let window = self.keys.get(home..home + WINDOW)?;
        let at = home + window.iter().position(|slot| slot.is(key))?;
        if at != home {
            self.prefetch_entry(at);
        }
        Some(at)
    }

    /// An entry, and whether its connections are wanted too.
    #[inline]
    pub fn likely(&self, at: usize, now_s: u32) -> Option<(&Entry, bool)> {
        Some((self.entries.get(at)?, !self.is_settled(at, now_s)))
    }

    /// Whether the connections of a flow need not be looked at for an ordinary packet.
    #[inline]
    pub fn is_settled(&self, at: usize, now_s: u32) -> bool {
        self.keys.get(at).is_some_and(|key| key.settled && key.used_s == now_s)
    }

    /// Its connections are open now, or not.
    #[inline]
    pub fn settle(&mut self, at: usize, settled: bool) {
        if let Some(key) = self.keys.get_mut(at)
            && key.settled != settled
        {
            key.settled = settled;
        }
    }

    /// Where a flow's entry is, if it has one, decided for a sender that knew the same. `located` is where it was.
    #[inline]
    pub fn find(
        &self,
        key: &FlowKey,
        hash: u64,
        knowledge: Knowledge,
        located: Option<usize>,
    ) -> Option<usize> {
        let is_at = |at: usize| self.keys.get(at).is_some_and(|slot| slot.is(key));
        let at = located.filter(|at| is_at(*at)).or_else(|| self.locate(key, hash))?;
        self.keys.get(at).filter(|slot| slot.knowledge == knowledge).map(|_| at)
    }

    /// An entry, and the note that it was used.
    #[inline]
    pub fn use_entry(&mut self, at: usize, now_s: u32) -> Option<&mut Entry> {
        if let Some(key) = self.keys.get_mut(at)
            && key.used_s != now_s
        {
            key.used_s = now_s;
        }
        self.entries.get_mut(at)
    }

    /// An entry.
    #[inline]
    pub fn entry(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    /// Puts what was decided in the place of what was decided before; else in a free slot; else in that of the flow in
    /// the window that was not used for longest. What was counted of the same flow goes on.
    pub fn insert(
        &mut self,
        key: &FlowKey,
        hash: u64,
        knowledge: Knowledge,
        mut entry: Entry,
        now_s: u32,
    ) -> usize {
        let home = self.home(hash);
        let window = self.keys.get(home..home + WINDOW).unwrap_or_default();
        let same = window.iter().position(|slot| slot.is(key));
        let free = || window.iter().position(|slot| !slot.taken);
        let oldest = || (0..window.len()).min_by_key(|at| window.get(*at).map_or(0, |slot| slot.used_s));
        let at = home + same.or_else(free).or_else(oldest).unwrap_or_default();
        if let (Some(_), Some(before)) = (same, self.entries.get(at)) {
            (entry.packets, entry.bytes) = (before.packets, before.bytes);
        }
        if let (Some(to), Some(slot)) = (self.entries.get_mut(at), self.keys.get_mut(at)) {
            *to = entry;
            *slot = Key { words: *key, used_s: now_s, knowledge, taken: true, settled: false };
        }
        at
    }

    /// What flows there are, in no order that means anything, but the same one if asked again.
    pub fn seen(&self) -> impl Iterator<Item = FlowSeen> + '_ {
        self.keys.iter().zip(&self.entries).filter(|(key, _)| key.taken).map(|(key, entry)| {
            let origin = key.words[5];
            FlowSeen {
                flow: flow_of(&key.words),
                from: (origin >> 63 == 0).then_some(PortIndex(origin as u32)),
                to: (entry.way != Way::ToHost).then_some(entry.hop),
                packets: entry.packets,
                bytes: entry.bytes,
                used_s: key.used_s,
            }
        })
    }
}
