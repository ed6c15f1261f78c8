//! What a guest sends, and what comes from the underlay: Ethernet, ARP, IP and what is in it; Geneve; virtio's header.
//!
//! Input: how much of the packet its head has, virtio's header, the packet.

use crate::input::Input;
use vnet::engine::coalesce::Merge;
use vnet::engine::segment::{Cut, complete};
use vnet::packet::arp::Arp;
use vnet::packet::checksum::Sum;
use vnet::packet::geneve;
use vnet::packet::offload::{LENGTH, Offload};
use vnet::packet::parse::{parse, quoted};

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let head = usize::from(input.u8());
    let header = input.take(LENGTH);
    let packet = input.rest();
    let (head, rest) = packet.split_at(head.min(packet.len()));
    let length = packet.len() as u32;
    if let Ok(geneve) = geneve::parse(head) {
        assert!(geneve.length <= head.len());
    }
    let _ = Arp::parse(head);
    let offload = header.first_chunk::<LENGTH>().and_then(Offload::decode);
    if let Some(offload) = offload {
        assert_eq!(Offload::decode(&offload.encode()), Some(offload));
    }
    let Ok(headers) = parse(head, length) else { return };
    assert!(headers.end <= length && headers.l4 <= headers.payload);
    assert!(u32::from(headers.l4) <= headers.end && usize::from(headers.l4) <= head.len());
    let _ = quoted(head, &headers);
    let offload = offload.unwrap_or_default();
    if offload.fits(&headers, head.len()) {
        complete(&mut head.to_vec(), &mut { offload }, Sum::of(rest));
    }
    if let Ok(cut) = Cut::new(head, 0, &offload, length) {
        for piece in [0, 1, cut.count() - 1] {
            let range = cut.range(piece);
            assert!(range.start <= range.end && range.end <= length);
            assert_eq!(cut.piece(piece, Sum::default()).len(), cut.header());
        }
    }
    let payload = packet.get(headers.payload.into()..).unwrap_or_default();
    if let Some(mut merge) = Merge::begin(head, length, Sum::of(payload)) {
        merge.add(head, length, Sum::of(payload));
        let (head, offload) = merge.finish();
        assert!(parse(head.bytes(), 1 << 20).is_ok() && offload.data_valid != offload.needs_csum);
    }
}
