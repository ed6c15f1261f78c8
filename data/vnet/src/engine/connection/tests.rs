use super::*;
use crate::packet::parse::tcp;
use crate::packet::{Flow, protocol};
use base::random::Random;
use proptest::prelude::*;
use std::fs;

const BOOT: u128 = 7;

fn key() -> HashKey {
    HashKey::new(&mut Random::from_seed(3))
}

fn bounds(total: u32, per_port: u32) -> Bounds {
    Bounds { total, per_port, timeouts: Timeouts::default() }
}

fn udp(number: u16) -> Flow {
    Flow {
        protocol: protocol::UDP,
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        source_port: number,
        destination_port: 53,
        icmp: (0, 0),
    }
}

fn back(flow: &Flow) -> Flow {
    Flow {
        source: flow.destination,
        destination: flow.source,
        source_port: flow.destination_port,
        destination_port: flow.source_port,
        ..*flow
    }
}

fn segment(from: Initiator) -> Segment {
    Segment { from, flags: 0, data: true }
}

fn begun(table: &mut Connections, port: u64, number: u16, now_s: u32) -> Result<Slot, Full> {
    table.begin(&Tuple::of(port, &udp(number), Initiator::Port), Initiator::Port, State::Udp, 1, now_s)
}

fn is_known(table: &Connections, port: u64, number: u16, now_s: u32) -> bool {
    table.known(&Tuple::of(port, &udp(number), Initiator::Port), now_s).is_some()
}

#[test]
fn both_directions_are_one() {
    let mut table = Connections::in_memory(bounds(8, 8), key());
    let slot = begun(&mut table, 1, 1000, 5).unwrap();
    let answer = Tuple::of(1, &back(&udp(1000)), Initiator::Peer);
    assert_eq!(table.take_up(&answer, segment(Initiator::Peer), 6), Some((slot, Initiator::Port)));
    let elsewhere = Tuple::of(2, &back(&udp(1000)), Initiator::Peer);
    assert_eq!(table.take_up(&elsewhere, segment(Initiator::Peer), 6), None);
}

#[test]
fn pings_of_both_ends_with_one_identifier_are_two() {
    let ping = Flow { protocol: protocol::ICMP, source_port: 9, destination_port: 9, icmp: (8, 0), ..udp(0) };
    let own = Tuple::of(1, &ping, Initiator::Port);
    let answer = Tuple::of(1, &Flow { icmp: (0, 0), ..back(&ping) }, Initiator::Peer);
    let others = Tuple::of(1, &back(&ping), Initiator::Peer);
    assert_eq!(own, answer);
    assert_ne!(own, others);
}

#[test]
fn a_full_table_keeps_what_it_has() {
    let mut table = Connections::in_memory(bounds(4, 3), key());
    for number in 0..3 {
        begun(&mut table, 1, number, 0).unwrap();
    }
    assert_eq!(begun(&mut table, 1, 3, 0), Err(Full), "the port's share");
    begun(&mut table, 2, 0, 0).unwrap();
    assert_eq!(begun(&mut table, 3, 0, 0), Err(Full), "the table");
    for number in 0..3 {
        assert!(is_known(&table, 1, number, 10));
    }
}

#[test]
fn what_has_expired_is_swept_a_few_at_a_time() {
    let mut table = Connections::in_memory(bounds(16, 16), key());
    let old = begun(&mut table, 1, 0, 0).unwrap();
    for number in 1..16 {
        begun(&mut table, 1, number, 20).unwrap();
    }
    assert!(table.goes_on(old, segment(Initiator::Port), 30));
    assert!(!table.goes_on(old, segment(Initiator::Port), 31));
    let swept = (0..4).map(|_| table.sweep(4, 31)).sum::<u32>();
    assert_eq!((swept, table.len(), table.held_by(1)), (1, 15, 15));
    let again = begun(&mut table, 1, 16, 31).unwrap();
    assert!(!table.goes_on(old, segment(Initiator::Port), 31), "another has the slot");
    assert!(table.goes_on(again, segment(Initiator::Port), 31));
    assert_eq!(table.sweep(u32::MAX, 100), 16);
    assert!(table.is_empty());
}

#[test]
fn a_port_takes_its_connections_with_it() {
    let mut table = Connections::in_memory(bounds(8, 8), key());
    begun(&mut table, 1, 0, 0).unwrap();
    begun(&mut table, 2, 0, 0).unwrap();
    table.port_gone(1);
    assert_eq!(table.sweep(8, 1), 1);
    assert!(!is_known(&table, 1, 0, 1) && is_known(&table, 2, 0, 1));
    begun(&mut table, 1, 0, 1).unwrap();
    assert_eq!(table.sweep(8, 1), 0, "it came again");
}

proptest! {
    /// Against a map, through removals that close gaps.
    #[test]
    fn the_index_is_a_map(steps in proptest::collection::vec((0u16..40, 0u32..90), 1..200)) {
        let mut table = Connections::in_memory(bounds(24, 24), key());
        let mut model = BTreeMap::new();
        let mut now_s = 0;
        for (number, pause) in steps {
            now_s += pause / 10;
            let tuple = Tuple::of(1, &udp(number), Initiator::Port);
            let lives = |seen: &u32| now_s - seen <= 30;
            model.retain(|_, seen| lives(seen));
            match table.take_up(&tuple, segment(Initiator::Port), now_s) {
                Some((slot, _)) => {
                    prop_assert!(model.contains_key(&number));
                    table.observe(slot, segment(Initiator::Port), now_s);
                    model.insert(number, now_s);
                }
                None => {
                    prop_assert!(!model.contains_key(&number));
                    if begun(&mut table, 1, number, now_s).is_ok() {
                        model.insert(number, now_s);
                    }
                }
            }
            if pause % 7 == 0 {
                table.sweep(5, now_s);
            }
            for other in 0..40 {
                prop_assert_eq!(is_known(&table, 1, other, now_s), model.contains_key(&other));
            }
        }
    }
}

/// A file with connections 0 to 9 of port 1.
fn filled(path: &std::path::Path) {
    let (mut table, adopted) = Connections::open(path, bounds(16, 16), key(), BOOT, 100).unwrap();
    assert_eq!(adopted, Adopted::Anew(Refusal::Absent));
    for number in 0..10 {
        begun(&mut table, 1, number, 100).unwrap();
    }
}

fn opened(path: &std::path::Path) -> (Connections, Adopted) {
    // Another process has another key.
    let key = HashKey::new(&mut Random::from_seed(4));
    Connections::open(path, bounds(16, 16), key, BOOT, 110).unwrap()
}

#[test]
fn a_later_process_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connections");
    filled(&path);
    let (mut table, adopted) = opened(&path);
    assert_eq!(adopted, Adopted::Kept { connections: 10, damaged: 0 });
    assert_eq!((table.len(), table.held_by(1)), (10, 10));
    assert!((0..10).all(|number| is_known(&table, 1, number, 110)));
    for number in 10..16 {
        begun(&mut table, 1, number, 110).unwrap();
    }
    assert_eq!(begun(&mut table, 1, 16, 110), Err(Full));
    assert!(matches!(Connections::open(&path, bounds(16, 16), key(), BOOT, 110), Err(OpenError::InUse(_))));
}

#[test]
fn what_is_not_ours_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, change: &dyn Fn(&std::path::Path), wanted: Refusal| {
        let path = folder.path().join(name);
        filled(&path);
        change(&path);
        let (table, adopted) = opened(&path);
        assert_eq!((adopted, table.len()), (Adopted::Anew(wanted), 0), "{name}");
        drop(table);
        assert_eq!(opened(&path).1, Adopted::Kept { connections: 0, damaged: 0 }, "{name}, again");
    };
    let patch = |at: usize, byte: u8| {
        move |path: &std::path::Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] ^= byte;
            // A file of another version, say, with its own right checksum.
            let sum = crc_fast::crc32_iscsi(&bytes[..40]).to_le_bytes();
            bytes[40..44].copy_from_slice(&sum);
            fs::write(path, bytes).unwrap();
        }
    };
    check("empty", &|path| fs::write(path, []).unwrap(), Refusal::Absent);
    check("magic", &patch(0, 1), Refusal::Damaged);
    check("version", &patch(8, 2), Refusal::Layout);
    check("record", &patch(12, 2), Refusal::Layout);
    check("capacity", &patch(16, 1), Refusal::Capacity);
    check("boot", &patch(30, 1), Refusal::Boot);
    for length in [1, 43, 44, 4095, 4096, 4096 + 64, 4096 + 16 * 64 - 1] {
        let cut = |path: &std::path::Path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(length).unwrap();
        };
        check(&format!("cut at {length}"), &cut, Refusal::Damaged);
    }
    for at in 0..44 {
        let flip = |path: &std::path::Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] ^= 0x10;
            fs::write(path, bytes).unwrap();
        };
        check(&format!("bit flipped at {at}"), &flip, Refusal::Damaged);
    }
}

/// Every byte of a record damaged, one at a time: that one is thrown away, the others go on.
#[test]
fn a_damaged_record_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connections");
    filled(&path);
    let intact = fs::read(&path).unwrap();
    for at in 0..64 {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = intact.clone();
            bytes[4096 + 3 * 64 + at] ^= change;
            fs::write(&path, bytes).unwrap();
            let (table, adopted) = opened(&path);
            assert_eq!(adopted, Adopted::Kept { connections: 9, damaged: 1 }, "byte {at} ^ {change:#x}");
            assert!((0..10).all(|number| is_known(&table, 1, number, 110) == (number != 3)));
        }
    }
}

/// A process killed after any number of the words of a record were stored, in any order: whole, or not there.
#[test]
fn half_a_record_is_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connections");
    filled(&path);
    let after = fs::read(&path).unwrap();
    let record = |bytes: &[u8]| bytes[4096 + 9 * 64..4096 + 10 * 64].to_vec();
    let whole = record(&after);
    // What was in the slot before: nothing, or another connection that had ended.
    let mut ended = whole.clone();
    ended[0] ^= 1;
    ended[4..16].fill(0);
    ended[30] ^= 0x55;
    ended[60] ^= 0x55;
    for before in [vec![0; 64], ended] {
        for stored in 0..256u32 {
            let mut bytes = after.clone();
            for word in (0..8).filter(|word| stored & (1 << word) == 0) {
                let at = 4096 + 9 * 64 + word * 8;
                bytes[at..at + 8].copy_from_slice(&before[word * 8..word * 8 + 8]);
            }
            let is_whole = record(&bytes) == whole;
            fs::write(&path, bytes).unwrap();
            let (table, adopted) = opened(&path);
            let Adopted::Kept { connections, .. } = adopted else { panic!("{adopted:?}") };
            assert_eq!(connections, 9 + u32::from(is_whole), "{stored:#b}");
            assert!(!is_whole || is_known(&table, 1, 9, 110));
        }
    }
}

#[test]
fn a_record_from_the_future_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("connections");
    filled(&path);
    let (_, adopted) = Connections::open(&path, bounds(16, 16), key(), BOOT, 99).unwrap();
    assert_eq!(adopted, Adopted::Kept { connections: 0, damaged: 10 });
}

#[test]
fn a_syn_takes_the_place_of_what_is_over() {
    let mut table = Connections::in_memory(bounds(4, 4), key());
    let flow = Flow { protocol: protocol::TCP, ..udp(1) };
    let tuple = Tuple::of(1, &flow, Initiator::Port);
    let slot = table.begin(&tuple, Initiator::Port, State::Established, 0, 0).unwrap();
    let with = |from, flags| Segment { from, flags, data: false };
    table.observe(slot, with(Initiator::Peer, tcp::RST), 1);
    assert!(!table.goes_on(slot, with(Initiator::Peer, tcp::SYN), 2));
    assert_eq!(table.take_up(&tuple, with(Initiator::Peer, tcp::SYN), 2), None);
    assert!(table.is_empty());
}
