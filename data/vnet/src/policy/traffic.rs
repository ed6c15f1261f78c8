//! Protocols and ports: what rules tell apart, cut into cells in each of which all rules agree.
//!
//! A key is 16 bits: the destination port of TCP and UDP, type and code of ICMP, 0 for everything else. Rules of other
//! protocols say nothing of ports, as in AWS.

use crate::packet::{Flow, protocol};

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    /// `None`: every protocol.
    protocol: Option<u8>,
    first: u16,
    last: u16,
}

/// What a flow is, to rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficKey {
    protocol: u8,
    key: u16,
}

impl Traffic {
    /// What a document says; `None` if nothing can match it.
    pub fn read(stored: &contract::Traffic) -> Option<Traffic> {
        let all = |protocol| Some(Traffic { protocol, first: 0, last: u16::MAX });
        let Ok(number) = u8::try_from(stored.protocol) else {
            return if stored.protocol == 256 { all(None) } else { None };
        };
        let (first, last) = match number {
            protocol::TCP | protocol::UDP => {
                (u16::try_from(stored.first).ok()?, stored.last.min(65_535) as u16)
            }
            protocol::ICMP | protocol::ICMPV6 => {
                match (u8::try_from(stored.first), u8::try_from(stored.last)) {
                    _ if stored.first == 65_536 => (0, u16::MAX),
                    (Ok(kind), Ok(code)) => {
                        (u16::from_be_bytes([kind, code]), u16::from_be_bytes([kind, code]))
                    }
                    (Ok(kind), Err(_)) if stored.last == 65_536 => {
                        (u16::from_be_bytes([kind, 0]), u16::from_be_bytes([kind, u8::MAX]))
                    }
                    _ => return None,
                }
            }
            other => return all(Some(other)),
        };
        (first <= last).then_some(Traffic { protocol: Some(number), first, last })
    }
}

impl TrafficKey {
    /// Of a packet on its way.
    pub fn of(flow: &Flow) -> TrafficKey {
        let key = match flow.protocol {
            protocol::TCP | protocol::UDP => flow.destination_port,
            protocol::ICMP | protocol::ICMPV6 => u16::from_be_bytes([flow.icmp.0, flow.icmp.1]),
            _ => 0,
        };
        TrafficKey { protocol: flow.protocol, key }
    }

    /// Of the packet that this one answers: the one that began the connection.
    pub fn answered_by(flow: &Flow) -> TrafficKey {
        let key = match (flow.protocol, flow.icmp) {
            (protocol::TCP | protocol::UDP, _) => flow.source_port,
            (protocol::ICMP, (kind, code)) => u16::from_be_bytes([icmp_question(kind), code]),
            (protocol::ICMPV6, (129, code)) => u16::from_be_bytes([128, code]),
            (protocol::ICMPV6, (kind, code)) => u16::from_be_bytes([kind, code]),
            _ => 0,
        };
        TrafficKey { protocol: flow.protocol, key }
    }
}

/// The type of the ICMP message (RFC 792, RFC 950) that one of this type answers; else the type itself.
fn icmp_question(kind: u8) -> u8 {
    match kind {
        0 => 8,
        14 => 13,
        16 => 15,
        18 => 17,
        other => other,
    }
}

/// The cells that a list of rules cuts traffic into.
#[derive(Clone, Debug)]
pub struct Cells {
    /// For each protocol its table; 0 is that of all protocols without one of their own.
    table_of: Box<[u16; 256]>,
    /// For each table, where its cells begin; and the number of all cells.
    tables: Vec<u32>,
    protocols: Vec<Option<u8>>,
    /// The first key of each cell.
    starts: Vec<u16>,
}

impl Cells {
    /// The cells of these rules.
    pub fn build(rules: &[Traffic]) -> Cells {
        let mut named: Vec<u8> = rules.iter().filter_map(|rule| rule.protocol).collect();
        named.sort_unstable();
        named.dedup();
        let mut cells = Cells {
            table_of: Box::new([0; 256]),
            tables: vec![0, 1],
            protocols: vec![None],
            starts: vec![0],
        };
        for number in named {
            if let Some(table) = cells.table_of.get_mut(usize::from(number)) {
                *table = cells.protocols.len() as u16;
            }
            cells.protocols.push(Some(number));
            let of = rules.iter().filter(|rule| rule.protocol == Some(number));
            let mut starts: Vec<u16> = of
                .flat_map(|rule| [Some(rule.first), rule.last.checked_add(1)])
                .flatten()
                .chain([0])
                .collect();
            starts.sort_unstable();
            starts.dedup();
            cells.starts.extend(starts);
            cells.tables.push(cells.starts.len() as u32);
        }
        cells
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The cell that this is in.
    pub fn find(&self, traffic: TrafficKey) -> usize {
        let table = self.table_of.get(usize::from(traffic.protocol)).copied().unwrap_or(0);
        let Some([begin, end]) =
            self.tables.get(usize::from(table)..).and_then(|rest| rest.first_chunk::<2>())
        else {
            return 0;
        };
        let begin = *begin as usize;
        let starts = self.starts.get(begin..*end as usize).unwrap_or_default();
        begin + starts.partition_point(|start| *start <= traffic.key).saturating_sub(1)
    }

    /// The cells of what a rule is about, which is one of those that these were built from.
    pub fn of(&self, rule: Traffic) -> impl Iterator<Item = usize> {
        let bounds = self.tables.windows(2).zip(&self.protocols).filter_map(move |(bounds, protocol)| {
            let whole = rule.protocol.is_none();
            (whole || rule.protocol == *protocol).then_some((*bounds.first()?, *bounds.last()?, whole))
        });
        bounds.flat_map(move |(begin, end, whole)| {
            (begin as usize..end as usize).filter(move |cell| {
                whole || self.starts.get(*cell).is_some_and(|start| (rule.first..=rule.last).contains(start))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(protocol: u32, first: u32, last: u32) -> Option<Traffic> {
        Traffic::read(&contract::Traffic { protocol, first, last })
    }

    #[test]
    fn traffic_is_read_as_aws_writes_it() {
        let of = |protocol, first, last| Some(Traffic { protocol, first, last });
        assert_eq!(read(256, 0, 0), of(None, 0, 65_535));
        assert_eq!(read(6, 443, 443), of(Some(6), 443, 443));
        assert_eq!(read(17, 0, 65_535), of(Some(17), 0, 65_535));
        assert_eq!(read(1, 65_536, 65_536), of(Some(1), 0, 65_535));
        assert_eq!(read(1, 8, 65_536), of(Some(1), 0x0800, 0x08ff));
        assert_eq!(read(58, 128, 0), of(Some(58), 0x8000, 0x8000));
        assert_eq!(read(50, 7, 7), of(Some(50), 0, 65_535));
        for (protocol, first, last) in [(257, 0, 0), (6, 70_000, 70_000), (6, 5, 4), (1, 256, 0), (1, 8, 256)]
        {
            assert_eq!(read(protocol, first, last), None, "{protocol} {first} {last}");
        }
    }

    #[test]
    fn a_cell_is_in_a_rule_or_not() {
        let rules = [
            read(6, 80, 90).unwrap(),
            read(6, 85, 65_535).unwrap(),
            read(17, 0, 0).unwrap(),
            read(47, 0, 0).unwrap(),
            read(256, 0, 0).unwrap(),
        ];
        let cells = Cells::build(&rules);
        for protocol in [1, 6, 17, 47] {
            for key in [0, 1, 79, 80, 84, 85, 90, 91, 65_535] {
                let cell = cells.find(TrafficKey { protocol, key });
                for rule in rules {
                    let ports = protocol == 47 || (rule.first..=rule.last).contains(&key);
                    let expected = rule.protocol.is_none_or(|named| named == protocol && ports);
                    assert_eq!(cells.of(rule).any(|of| of == cell), expected, "{rule:?} {protocol} {key}");
                }
            }
        }
    }

    #[test]
    fn every_protocol_may_have_rules() {
        let rules: Vec<_> = (0..256).map(|number| read(number, 0, 0).unwrap()).collect();
        let cells = Cells::build(&rules);
        for (protocol, rule) in (0..=255).zip(rules) {
            let cell = cells.find(TrafficKey { protocol, key: 0 });
            assert_eq!(cells.of(rule).collect::<Vec<_>>(), [cell]);
        }
    }

    #[test]
    fn an_answer_says_what_was_asked() {
        let flow = |protocol, icmp| Flow {
            protocol,
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            source_port: 443,
            destination_port: 50_000,
            icmp,
        };
        let key = |protocol, icmp| TrafficKey::answered_by(&flow(protocol, icmp)).key;
        assert_eq!(key(6, (0, 0)), 443);
        assert_eq!(key(1, (0, 0)), 0x0800);
        assert_eq!(key(1, (14, 0)), 0x0d00);
        assert_eq!(key(58, (129, 0)), 0x8000);
        assert_eq!(key(47, (0, 0)), 0);
        assert_eq!(TrafficKey::of(&flow(6, (0, 0))).key, 50_000);
    }
}
