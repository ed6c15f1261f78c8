//! One table row per rule of placement.

use super::*;

struct Fleet(Vec<(HostId, RackId, Room, Room, Health, u32, u32)>);

impl Fleet {
    fn new() -> Self {
        Fleet(Vec::new())
    }

    /// A healthy host with 8 vCPU and 8192 MiB, of which `used` vCPU (and as many GiB) are taken.
    fn host(mut self, name: &str, rack: &str, used: u32) -> Self {
        let used = Room { vcpus: used, memory_mib: u64::from(used) * 1024 };
        let capacity = Room { vcpus: 8, memory_mib: 8192 };
        let (host, rack) = (name.parse().unwrap(), rack.parse().unwrap());
        self.0.push((host, rack, capacity, used, Health::Healthy, 0, 0));
        self
    }

    fn health(mut self, health: Health) -> Self {
        self.0.last_mut().unwrap().4 = health;
        self
    }

    fn siblings(mut self, on_host: u32, in_rack: u32) -> Self {
        let last = self.0.last_mut().unwrap();
        (last.5, last.6) = (on_host, in_rack);
        self
    }

    fn plan(&self, vcpus: u32, memory_mib: u64, only: Option<&str>) -> Result<Placed, Refusal> {
        let facts: Vec<HostFacts<'_>> = self
            .0
            .iter()
            .map(|(host, rack, capacity, used, health, siblings_on_host, siblings_in_rack)| HostFacts {
                host,
                rack,
                capacity: *capacity,
                used: *used,
                health: *health,
                siblings_on_host: *siblings_on_host,
                siblings_in_rack: *siblings_in_rack,
            })
            .collect();
        let only: Option<HostId> = only.map(|only| only.parse().unwrap());
        plan(&facts, &PlaceRequest { room: Room { vcpus, memory_mib }, only: only.as_ref() })
    }
}

fn verdicts(explanation: &Explanation) -> Vec<(&str, bool, &str)> {
    explanation.hosts.iter().map(|v| (v.host_id.as_str(), v.chosen, v.verdict.as_str())).collect()
}

#[test]
fn the_fullest_host_that_fits_is_chosen_and_every_verdict_says_why() {
    let fleet = Fleet::new().host("h1", "r1", 2).host("h2", "r1", 5).host("h3", "r1", 7);
    let placed = fleet.plan(2, 1024, None).unwrap();
    assert_eq!(placed.host.as_str(), "h2");
    assert_eq!(
        verdicts(&placed.explanation),
        [
            (
                "h2",
                true,
                "no VM of the reservation is in its rack; leaves 1 of 8 vCPU and 2048 of 8192 MiB free"
            ),
            ("h1", false, "fits, but less tightly: would leave 4 vCPU and 5120 MiB"),
            ("h3", false, "needs 2 vCPU, has 1 of 8 free"),
        ]
    );
}

#[test]
fn a_reservation_is_spread_over_racks_then_over_hosts() {
    let fleet = Fleet::new()
        .host("h1", "r1", 4)
        .siblings(1, 1)
        .host("h2", "r1", 4)
        .siblings(0, 1)
        .host("h3", "r2", 0)
        .siblings(0, 0);
    assert_eq!(fleet.plan(1, 1024, None).unwrap().host.as_str(), "h3");
    let fleet = Fleet::new().host("h1", "r1", 4).siblings(1, 1).host("h2", "r1", 0).siblings(0, 1);
    let placed = fleet.plan(1, 1024, None).unwrap();
    assert_eq!(placed.host.as_str(), "h2");
    assert_eq!(placed.explanation.hosts[1].verdict, "fits, but 1 VMs of the reservation are on it");
}

#[test]
fn ties_go_to_the_lower_host_id_and_heard_hosts_go_before_presumed_ones() {
    let fleet = Fleet::new().host("h2", "r1", 0).host("h1", "r1", 0);
    assert_eq!(fleet.plan(1, 1, None).unwrap().host.as_str(), "h1");
    let fleet = Fleet::new().host("h1", "r1", 6).health(Health::Presumed).host("h2", "r1", 0);
    assert_eq!(fleet.plan(1, 1, None).unwrap().host.as_str(), "h2");
    let fleet = Fleet::new().host("h1", "r1", 6).health(Health::Presumed);
    assert_eq!(fleet.plan(1, 1, None).unwrap().host.as_str(), "h1");
}

#[test]
fn a_refusal_says_what_each_host_lacks() {
    let fleet = Fleet::new()
        .host("h1", "r1", 7)
        .host("h2", "r1", 0)
        .health(Health::Silent(Duration::from_secs(12)))
        .host("h3", "r2", 8);
    let refusal = fleet.plan(2, 2048, None).unwrap_err();
    assert_eq!(refusal.message, "no host of the cell can take 2 vCPU and 2048 MiB");
    assert_eq!(
        verdicts(&refusal.explanation),
        [
            ("h1", false, "needs 2 vCPU, has 1 of 8 free; needs 2048 MiB, has 1024 of 8192 free"),
            ("h2", false, "not answering since 12 s"),
            ("h3", false, "needs 2 vCPU, has 0 of 8 free; needs 2048 MiB, has 0 of 8192 free"),
        ]
    );
    assert_eq!(Fleet::new().plan(1, 1, None).unwrap_err().message, "the cell has no hosts yet");
    let huge = Fleet::new().host("h1", "r1", 0).plan(u32::MAX, u64::MAX, None).unwrap_err();
    assert_eq!(huge.explanation.hosts.len(), 1);
}

#[test]
fn a_pinned_vm_goes_to_its_disk_or_nowhere() {
    let fleet = Fleet::new().host("h1", "r1", 0).host("h2", "r1", 8);
    assert_eq!(fleet.plan(1, 1, Some("h1")).unwrap().host.as_str(), "h1");
    let refusal = fleet.plan(1, 1, Some("h2")).unwrap_err();
    assert_eq!(
        verdicts(&refusal.explanation),
        [
            ("h2", false, "needs 1 vCPU, has 0 of 8 free; needs 1 MiB, has 0 of 8192 free"),
            ("h1", false, "the VM's disk is on another host"),
        ]
    );
    let unknown = fleet.plan(1, 1, Some("h9")).unwrap_err();
    assert_eq!(unknown.explanation.hosts[0].verdict, "has the disk, but has not registered with this cell");
    assert_eq!(unknown.explanation.hosts.len(), 3);
}

#[test]
fn an_explanation_is_bounded_and_counts_what_it_leaves_out() {
    let mut fleet = Fleet::new();
    for n in 0..100 {
        fleet = fleet.host(&format!("h{n:03}"), "r1", 0);
    }
    let placed = fleet.plan(1, 1, None).unwrap();
    assert_eq!((placed.explanation.hosts.len(), placed.explanation.omitted), (64, 36));
    assert!(placed.explanation.hosts[0].chosen);
    for only in [None, Some("h050")] {
        let refusal = fleet.plan(9, 1, only).unwrap_err();
        assert_eq!((refusal.explanation.hosts.len(), refusal.explanation.omitted), (64, 36));
    }
}
