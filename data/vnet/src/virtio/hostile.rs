//! What a hostile guest or front end may say: each function takes any bytes and panics on a finding.
//!
//! Called by the fuzz targets and by property tests.

use super::RING_SIZE_MAX;
use super::feature;
use super::memory::Memory;
use super::message::{HEADER_LENGTH, Header, Region, Request, RingAddresses};
use super::queue::{Direction, Queue};
use super::session::{Effect, RingSetup, Session};
use rustix::fs::{MemfdFlags, SealFlags};
use std::sync::Arc;

/// Messages, one behind the other: the first byte of each says how many descriptors come with it. A whole
/// conversation is carried on; what is decoded is encoded as it came.
pub fn messages(mut bytes: &[u8]) {
    let mut session = Session::new(2);
    while let Some((count, rest)) = bytes.split_first() {
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_LENGTH>() else { return };
        let Ok(header) = Header::decode(header) else { return };
        let (payload, rest) = rest.split_at(header.size.min(rest.len()));
        bytes = rest;
        let descriptors: Vec<u8> = (0..count % 10).collect();
        let Ok(request) = Request::decode(&header, payload, descriptors.clone()) else { continue };
        let again = Request::decode(&header, payload, descriptors).expect("decoded before");
        let (number, encoded, descriptors) = again.encode();
        let short = Header { request: number, size: encoded.len(), ..header };
        let decoded = Request::decode(&short, &encoded, descriptors).expect("what we encode can be decoded");
        assert_eq!(decoded, request, "encoding changed a request");
        if let Ok(outcome) = session.receive(&header, request) {
            for effect in outcome.effects {
                if let Effect::RingStart(RingSetup { index, size, .. }) = effect {
                    assert!(index < 4 && size.is_power_of_two() && size <= RING_SIZE_MAX);
                }
            }
        }
    }
}

/// Bytes of memory: two regions with a gap between.
const REGION: u64 = 8192;
const BASES: [u64; 2] = [0x10000, 0x20000];

/// A guest's whole memory, rings and all: 8 entries, descriptors at 0x10000, available ring at 0x10100, used ring at
/// 0x10200. What lies behind the bytes is zero. Chains are taken and given back, both ways.
pub fn descriptors(bytes: &[u8]) {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("hostile", flags).expect("memory");
    rustix::fs::ftruncate(&file, 2 * REGION).expect("memory");
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).expect("memory");
    let bytes = bytes.get(..2 * REGION as usize).unwrap_or(bytes);
    rustix::io::pwrite(&file, bytes, 0).expect("memory");
    let region = |at: usize| {
        let guest = BASES[at];
        (
            Region { guest, size: REGION, user: guest, offset: at as u64 * REGION },
            file.try_clone().expect("memory"),
        )
    };
    let memory = Arc::new(Memory::map(vec![region(0), region(1)]).expect("mapped"));
    let addresses = RingAddresses {
        index: 0,
        flags: 0,
        descriptors: 0x10000,
        available: 0x10100,
        used: 0x10200,
        log: 0x10200,
    };
    let setup = RingSetup { index: 0, size: 8, addresses, position: 0 };
    for direction in [Direction::Read, Direction::Write] {
        let features = feature::INDIRECT_DESC | feature::EVENT_IDX;
        let mut queue = Queue::start(memory.clone(), &setup, features).expect("within the memory");
        // A guest that gives ever more can keep us busy, but only for as long as we want to be.
        for _ in 0..32 {
            let mut pieces = Vec::new();
            let Some(chain) = queue.take(direction, |piece| pieces.push(piece)) else { break };
            let length: usize = pieces.iter().map(|piece| piece.length).sum();
            assert_eq!(length, chain.length as usize, "a chain is as long as its buffers");
            assert!(pieces.len() <= 2 * usize::from(RING_SIZE_MAX), "a chain without end");
            for piece in &pieces {
                let fits = |base: &u64| {
                    piece.address >= *base && piece.address + piece.length as u64 <= base + REGION
                };
                assert!(piece.length > 0 && BASES.iter().any(fits), "{piece:?} is not in the guest's memory");
                let (start, there) = memory.guest(piece.address, piece.length, &mut 0).expect("in memory");
                assert_eq!((start, there), (piece.start, piece.length));
            }
            queue.give_back(chain.head, 0);
            queue.publish();
        }
        if let Some((_, piece)) = queue.take_plain(100) {
            assert!(piece.length >= 100);
        }
        queue.kicks_ask();
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::Descriptor;
    use super::*;
    use proptest::prelude::*;

    /// Mostly what could be a driver's, so that it is not all refused at the first look.
    fn descriptor() -> impl Strategy<Value = Descriptor> {
        let address = prop_oneof![
            4 => 0x10000_u64..0x12010,
            4 => 0x20000_u64..0x22010,
            1 => any::<u64>(),
        ];
        let length = prop_oneof![4 => 0_u32..256, 1 => any::<u32>(), 2 => (1_u32..64).prop_map(|n| n * 16)];
        let flags = prop_oneof![3 => Just(0_u16), 3 => Just(1), 3 => Just(2), 3 => Just(3), 3 => Just(4), 1 => any::<u16>()];
        (address, length, flags, prop_oneof![8 => 0_u16..9, 1 => any::<u16>()])
            .prop_map(|(address, length, flags, next)| Descriptor { address, length, flags, next })
    }

    fn words(table: &[Descriptor]) -> Vec<u8> {
        table
            .iter()
            .flat_map(|d| [d.to_words().0.to_le_bytes(), d.to_words().1.to_le_bytes()].concat())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_table_is_borne(
            table in prop::collection::vec(descriptor(), 8),
            elsewhere in prop::collection::vec(descriptor(), 0..200),
            heads in prop::collection::vec(prop_oneof![6 => 0_u16..8, 1 => any::<u16>()], 8),
            available in prop_oneof![8 => 0_u16..9, 1 => any::<u16>()],
            used in prop_oneof![8 => Just(0_u16), 1 => any::<u16>()],
        ) {
            let mut bytes = words(&table);
            bytes.resize(0x100, 0);
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&used.wrapping_add(available).to_le_bytes());
            bytes.extend(heads.iter().flat_map(|head| head.to_le_bytes()));
            bytes.resize(0x202, 0);
            bytes.extend_from_slice(&used.to_le_bytes());
            bytes.resize(0x400, 0);
            bytes.extend(words(&elsewhere));
            descriptors(&bytes);
        }

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            descriptors(&bytes);
            messages(&bytes);
        }

        #[test]
        fn any_message_is_borne(said in prop::collection::vec(
            (any::<u8>(), 0_u32..40, prop::collection::vec(any::<u8>(), 0..80)), 0..8,
        )) {
            let mut bytes = Vec::new();
            for (descriptors, request, payload) in said {
                let header = Header { request, reply: false, need_reply: true, size: payload.len() };
                bytes.push(descriptors);
                bytes.extend(header.encode(&payload));
            }
            messages(&bytes);
        }
    }
}
