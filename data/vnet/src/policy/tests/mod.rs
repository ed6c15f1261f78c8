//! The compiled rules against the naive reading of the same documents, under random changes; and by hand, what AWS
//! says of each thing and how far a change reaches.

pub(crate) mod naive;
mod table;
pub(crate) mod world;

use super::*;
use crate::engine::verdict::Hop as VerdictHop;
use base::random::Random;
use naive::{Answer, Documents, Hop};
use world::Change;

const POINTS: [Point; 2] = [Point::Leaving, Point::Reaching];
const INITIATORS: [Initiator; 2] = [Initiator::Port, Initiator::Peer];

fn apply(policy: &mut VpcPolicy, change: &Change) {
    match change {
        Change::Vpc(document) => policy.vpc_apply(document),
        Change::VpcGone(vpc) => policy.vpc_remove(vpc.parse().unwrap()),
        Change::Port(port) => assert!(policy.port_set(port).is_some()),
        Change::PortGone(interface) => policy.port_remove(interface.parse().unwrap()),
    }
}

/// Policy compiled from the documents as they are now.
fn compile(documents: &Documents) -> VpcPolicy {
    let mut policy = VpcPolicy::new(world::own(), 7);
    documents.vpcs.values().for_each(|vpc| policy.vpc_apply(vpc));
    documents.ports.values().for_each(|port| assert!(policy.port_set(port).is_some()));
    policy
}

fn ask(policy: &VpcPolicy, interface: &str, flow: &Flow, point: Point, initiator: Initiator) -> Verdict {
    let Some(port) = policy.port_index(interface.parse().unwrap()) else {
        return Verdict::Drop(DropReason::NotHere);
    };
    let verdict = match point {
        Point::Leaving => policy.leaving(port, flow, initiator),
        Point::Reaching => policy.reaching(port, flow, initiator),
    };
    let trace = policy.trace(port, flow, point, initiator);
    assert_eq!(trace.verdict, Some(verdict));
    for step in &trace.steps {
        match step {
            Step::Groups { allowed, rule, .. } => assert_eq!(*allowed, rule.is_some(), "{trace}"),
            Step::Acl { allowed, entry, .. } => assert!(!allowed || entry.is_some(), "{trace}"),
            Step::Route { .. } | Step::Mapping { .. } => {}
        }
    }
    verdict
}

fn agree(policy: &VpcPolicy, verdict: &Verdict, expected: &Answer) -> bool {
    match (verdict, expected) {
        (Verdict::Drop(reason), Err(expected)) => reason == expected,
        (Verdict::Pass(pass), Ok((hop, ethernet))) => {
            pass.ethernet == *ethernet
                && match (&pass.hop, hop) {
                    (VerdictHop::Port(port), Hop::Port(interface)) => {
                        policy.interface_of(*port).unwrap().to_string() == *interface
                    }
                    (VerdictHop::Host { vni, underlay }, Hop::Host(number, at)) => {
                        (vni.0, underlay) == (*number, at)
                    }
                    (VerdictHop::Host { vni, underlay }, Hop::Edge(number, edges)) => {
                        vni.0 == *number && edges.contains(underlay)
                    }
                    _ => false,
                }
        }
        _ => false,
    }
}

/// A flow that a port of the documents could have.
fn flow_of(documents: &Documents, interface: &str, point: Point, random: &mut Random) -> Flow {
    let mut flow = world::flow(random);
    let Some(port) = documents.ports.get(interface) else { return flow };
    let own = port
        .addresses
        .iter()
        .map(|bytes| world::ip(bytes))
        .find(|own| own.is_ipv4() == flow.source.is_ipv4());
    if let (Some(own), true) = (own, random.chance(0.9)) {
        match point {
            Point::Leaving => flow.source = own,
            Point::Reaching => flow.destination = own,
        }
    }
    flow
}

/// Returns how often a flow passed, and how often an answer from before a change held after it.
fn sequence(seed: u64, steps: usize) -> (usize, usize) {
    let mut random = Random::from_seed(seed);
    let (mut documents, mut policy) = (Documents::default(), VpcPolicy::new(world::own(), random.u64()));
    let (mut passed, mut held) = (0, 0);
    let mut kept: Vec<(String, Flow, Point, Initiator, Pass)> = Vec::new();
    for step in 0..steps {
        let change = world::change(&mut documents, &mut random);
        apply(&mut policy, &change);
        let at = format!("seed {seed} step {step}: {change:?}");
        // What still holds is still so.
        kept.retain(|(.., pass)| policy.holds(&pass.validity));
        held += kept.len();
        for (interface, flow, point, initiator, pass) in &kept {
            let verdict = ask(&policy, interface, flow, *point, *initiator);
            assert_eq!(verdict, Verdict::Pass(*pass), "{at}: {interface} {point:?} {initiator:?} {flow:?}");
        }
        for _ in 0..60 {
            let interface = world::interface(random.below(7));
            let point = POINTS[random.below(2) as usize];
            let initiator = INITIATORS[random.below(2) as usize];
            let flow = flow_of(&documents, &interface, point, &mut random);
            let verdict = ask(&policy, &interface, &flow, point, initiator);
            let expected = documents.ask(&interface, &flow, point, initiator, world::own());
            assert!(
                agree(&policy, &verdict, &expected),
                "{at}: {interface} {point:?} {initiator:?} {flow:?}: {verdict:?}, expected {expected:?}"
            );
            if let Verdict::Pass(pass) = verdict {
                assert!(policy.holds(&pass.validity));
                passed += 1;
                kept.push((interface, flow, point, initiator, pass));
            }
        }
        kept.truncate(400);
        if step % 8 == 0 {
            scratch_compare(&policy, &documents, &mut random, &at);
        }
    }
    (passed, held)
}

/// What changed piece by piece is what is compiled at once, and nothing of the past is left.
fn scratch_compare(policy: &VpcPolicy, documents: &Documents, random: &mut Random, at: &str) {
    let scratch = compile(documents);
    let counts = |policy: &VpcPolicy| PolicySize { mapping_bytes: 0, rule_bytes: 0, ..policy.size() };
    assert_eq!(counts(policy), counts(&scratch), "{at}");
    for _ in 0..40 {
        let interface = world::interface(random.below(7));
        let point = POINTS[random.below(2) as usize];
        let flow = flow_of(documents, &interface, point, random);
        for initiator in INITIATORS {
            let named = |policy: &VpcPolicy| match ask(policy, &interface, &flow, point, initiator) {
                Verdict::Pass(pass) => match pass.hop {
                    VerdictHop::Port(port) => Ok((policy.interface_of(port), None, pass.ethernet)),
                    hop => Ok((None, Some(hop), pass.ethernet)),
                },
                Verdict::Drop(reason) => Err(reason),
            };
            assert_eq!(named(policy), named(&scratch), "{at}: {interface} {flow:?}");
        }
    }
}

#[test]
fn answers_are_those_of_the_documents_after_any_changes() {
    let counts: Vec<_> = (0..40).map(|seed| sequence(seed, 80)).collect();
    let (passed, held) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    assert!(passed > 15_000 && held > 50_000, "little was tried: {passed} passed, {held} held");
}

/// More of the same: `--ignored`.
#[test]
#[ignore = "minutes"]
fn answers_are_those_of_the_documents_after_very_many_changes() {
    for seed in 1_000..4_000 {
        sequence(seed, 100);
    }
}
