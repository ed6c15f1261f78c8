use super::*;
use crate::fleet::Fleet;
use contract::{CellSummary, FreeShape, ZoneSummary};
use std::collections::BTreeMap;

fn fleet(free: &[(&str, &str, bool, Option<u32>)]) -> Fleet {
    let mut fleet =
        Fleet::new(free.iter().map(|(zone, cell, ..)| (zone.parse().unwrap(), vec![cell.parse().unwrap()])));
    for (zone, cell, connected, vcpus) in free {
        fleet.cells.get_mut(&cell.parse().unwrap()).unwrap().connected = *connected;
        if let Some(vcpus) = vcpus {
            let free = vec![FreeShape { vcpus: *vcpus, memory_mib: 65536, hosts: 1 }];
            let cell =
                CellSummary { cell_id: (*cell).into(), vcpus_free: *vcpus, free, ..CellSummary::default() };
            let summary = ZoneSummary { zone: (*zone).into(), cells: vec![cell] };
            fleet.summarised(&zone.parse().unwrap(), summary);
        }
    }
    fleet
}

fn request(count: u32, count_min: u32) -> PlaceRequest {
    PlaceRequest { count, count_min, vcpus: 2, memory_mib: 1024, zone: None, excluded: vec![] }
}

fn chosen(fleet: &Fleet, request: &PlaceRequest) -> Option<String> {
    plan(fleet, &BTreeMap::new(), request).ok().map(|decision| decision.cell.to_string())
}

#[test]
fn the_roomiest_connected_cell_is_chosen() {
    let fleet =
        fleet(&[("za", "ca", true, Some(4)), ("zb", "cb", true, Some(8)), ("zc", "cc", false, Some(64))]);
    assert_eq!(chosen(&fleet, &request(1, 1)).as_deref(), Some("cb"));
}

#[test]
fn launches_spread_over_zones() {
    let fleet = fleet(&[("za", "ca", true, Some(8)), ("zb", "cb", true, Some(64))]);
    let occupied = BTreeMap::from([("zb".parse().unwrap(), 2)]);
    assert_eq!(plan(&fleet, &occupied, &request(1, 1)).unwrap().cell.as_str(), "ca");
}

#[test]
fn a_cell_that_takes_all_beats_one_that_takes_enough() {
    let fleet = fleet(&[("za", "ca", true, Some(4)), ("zb", "cb", true, Some(16))]);
    let occupied = BTreeMap::from([("zb".parse().unwrap(), 10)]);
    assert_eq!(plan(&fleet, &occupied, &request(4, 1)).unwrap().cell.as_str(), "cb");
}

#[test]
fn an_unknown_cell_is_asked_only_when_no_known_one_has_room() {
    let known_and_not = fleet(&[("za", "ca", true, Some(2)), ("zb", "cb", true, None)]);
    assert_eq!(chosen(&known_and_not, &request(1, 1)).as_deref(), Some("ca"));
    assert_eq!(chosen(&known_and_not, &request(4, 4)).as_deref(), Some("cb"));
}

#[test]
fn a_refusal_names_what_each_cell_lacked() {
    let fleet = fleet(&[("za", "ca", true, Some(2)), ("zb", "cb", false, Some(64))]);
    let refused = plan(&fleet, &BTreeMap::new(), &request(4, 4)).unwrap_err();
    let sentence = refused.sentence("t3.micro");
    assert!(sentence.contains("ca: has room for 1 of 2 vCPU and 1024 MiB each, 4 needed"), "{sentence}");
    assert!(sentence.contains("cb: not answering"), "{sentence}");
    let excluded = PlaceRequest { excluded: vec!["ca".parse().unwrap()], ..request(1, 1) };
    assert!(plan(&fleet, &BTreeMap::new(), &excluded).is_err());
}
