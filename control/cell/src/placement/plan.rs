//! Filter, then choose: spread the VMs of one reservation over racks and hosts, then fill the fullest host that
//! fits, so that large gaps stay whole. Ties go to the lower host id, so that equal facts give equal plans.

use super::{Health, HostFacts, PlaceRequest, Placed, Refusal, Room};
use base::ids::HostId;
use contract::{Explanation, HostVerdict};
use std::time::Duration;

/// Verdicts that an explanation holds at the most: it is stored with the claim and travels to the region.
const VERDICTS_MAX: usize = 64;

/// What is compared, in this order; the smallest is chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    presumed: bool,
    siblings_in_rack: u32,
    siblings_on_host: u32,
    left: Room,
    host: &'a HostId,
}

/// Chooses a host for `request`, or says what each host lacks.
pub fn plan(facts: &[HostFacts<'_>], request: &PlaceRequest<'_>) -> Result<Placed, Refusal> {
    let mut fitting: Vec<(Rank<'_>, &HostFacts<'_>)> = Vec::new();
    let mut unfit: Vec<&HostFacts<'_>> = Vec::new();
    for host in facts {
        if fits(host, request) {
            fitting.push((rank(host, request), host));
        } else {
            unfit.push(host);
        }
    }
    fitting.sort_unstable_by_key(|(rank, _)| *rank);
    let Some(&(best, chosen)) = fitting.first() else {
        return Err(refusal(&unfit, request));
    };
    let looked_at = fitting.len() + unfit.len();
    let mut hosts = vec![verdict(chosen, true, chosen_because(chosen, best))];
    let others = fitting.iter().skip(1).map(|(rank, host)| verdict(host, false, passed_over(*rank, best)));
    let rejected = unfit.iter().map(|host| verdict(host, false, lacks(host, request)));
    hosts.extend(others.chain(rejected).take(VERDICTS_MAX - 1));
    let omitted = (looked_at - hosts.len()) as u32;
    Ok(Placed {
        host: chosen.host.clone(),
        rack: chosen.rack.clone(),
        explanation: Explanation { hosts, omitted },
    })
}

fn fits(host: &HostFacts<'_>, request: &PlaceRequest<'_>) -> bool {
    request.only.is_none_or(|only| only == host.host)
        && host.health.is_fit()
        && request.room.plus(host.used).within(host.capacity)
}

fn rank<'a>(host: &HostFacts<'a>, request: &PlaceRequest<'_>) -> Rank<'a> {
    Rank {
        presumed: host.health == Health::Presumed,
        siblings_in_rack: host.siblings_in_rack,
        siblings_on_host: host.siblings_on_host,
        left: host.capacity.minus(host.used).minus(request.room),
        host: host.host,
    }
}

fn refusal(unfit: &[&HostFacts<'_>], request: &PlaceRequest<'_>) -> Refusal {
    let Room { vcpus, memory_mib } = request.room;
    // A pinned VM's own host is what matters: it goes first, and an unknown one is named too.
    let mut hosts = Vec::new();
    if let Some(only) = request.only {
        hosts.push(match unfit.iter().find(|host| host.host == only) {
            Some(host) => verdict(host, false, lacks(host, request)),
            None => HostVerdict {
                host_id: only.to_string(),
                rack_id: String::new(),
                chosen: false,
                verdict: "has the disk, but has not registered with this cell".into(),
            },
        });
    }
    let named = hosts.len();
    let others = unfit.iter().filter(|host| request.only != Some(host.host));
    let others_count = others.clone().count();
    hosts.extend(others.take(VERDICTS_MAX - named).map(|host| verdict(host, false, lacks(host, request))));
    let omitted = (named + others_count - hosts.len()) as u32;
    let message = match request.only {
        Some(only) => format!(
            "the host {only}, where the VM's disk is, cannot take {vcpus} vCPU and {memory_mib} MiB now: {}",
            hosts[0].verdict
        ),
        None if unfit.is_empty() => "the cell has no hosts yet".into(),
        None => format!("no host of the cell can take {vcpus} vCPU and {memory_mib} MiB"),
    };
    Refusal { message, explanation: Explanation { hosts, omitted } }
}

fn verdict(host: &HostFacts<'_>, chosen: bool, verdict: String) -> HostVerdict {
    HostVerdict { host_id: host.host.to_string(), rack_id: host.rack.to_string(), chosen, verdict }
}

fn chosen_because(host: &HostFacts<'_>, rank: Rank<'_>) -> String {
    let Room { vcpus, memory_mib } = rank.left;
    let spread = match (rank.siblings_in_rack, rank.siblings_on_host) {
        (0, _) => String::from("no VM of the reservation is in its rack"),
        (in_rack, on_host) => {
            format!("{in_rack} VMs of the reservation are in its rack, {on_host} on the host: the fewest")
        }
    };
    let Room { vcpus: of_vcpus, memory_mib: of_memory } = host.capacity;
    format!("{spread}; leaves {vcpus} of {of_vcpus} vCPU and {memory_mib} of {of_memory} MiB free")
}

fn passed_over(rank: Rank<'_>, best: Rank<'_>) -> String {
    let Room { vcpus, memory_mib } = rank.left;
    if rank.presumed != best.presumed {
        "fits, but has not answered since the cell started".into()
    } else if rank.siblings_in_rack != best.siblings_in_rack {
        format!("fits, but {} VMs of the reservation are in its rack", rank.siblings_in_rack)
    } else if rank.siblings_on_host != best.siblings_on_host {
        format!("fits, but {} VMs of the reservation are on it", rank.siblings_on_host)
    } else if rank.left != best.left {
        format!("fits, but less tightly: would leave {vcpus} vCPU and {memory_mib} MiB")
    } else {
        "fits equally well; the first by name was taken".into()
    }
}

fn lacks(host: &HostFacts<'_>, request: &PlaceRequest<'_>) -> String {
    if request.only.is_some_and(|only| only != host.host) {
        return "the VM's disk is on another host".into();
    }
    if let Health::Silent(silent) = host.health {
        return format!("not answering since {}", seconds(silent));
    }
    if host.health == Health::Refusing {
        return "refuses this cell: it has followed a newer leader".into();
    }
    let free = host.capacity.minus(host.used);
    let mut lacking = Vec::new();
    if request.room.vcpus > free.vcpus {
        let Room { vcpus, .. } = host.capacity;
        lacking.push(format!("needs {} vCPU, has {} of {vcpus} free", request.room.vcpus, free.vcpus));
    }
    if request.room.memory_mib > free.memory_mib {
        let Room { memory_mib, .. } = host.capacity;
        let (needs, has) = (request.room.memory_mib, free.memory_mib);
        lacking.push(format!("needs {needs} MiB, has {has} of {memory_mib} free"));
    }
    if lacking.is_empty() {
        // Sizes near the type's end: the sum saturates although each part seems to fit.
        lacking.push("is fully claimed".into());
    }
    lacking.join("; ")
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
