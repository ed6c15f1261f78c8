//! The VPC's resolver: the names that follow from addresses, private records, and for all else the host's resolvers.
//!
//! In this order: private records (of Route 53's private zones, with CNAMEs and wildcards), `ip-10-0-0-5.ec2.internal`
//! and the names of addresses in the VPC, and then the question goes to the resolvers of the host ([`forward`]).
//! Sources: VPC User Guide, "Understanding Amazon DNS" and "DNS attributes for your VPC"; RFC 1034, 1035, 2308, 4592.
//!
//! A name that follows from an address exists if an interface has that address; so nothing needs to be told of names.
//!
//! Deliberately absent: a cache (the host's resolvers have one), DNSSEC, names of instances by id, public names, and
//! delegation out of a private zone.

pub mod forward;
pub mod message;

use super::facts::{Directory, PortFacts, VpcFacts, short_name};
use message::{Answer, CLASS_IN, Name, Query, Response, flag, kind, rcode};
use std::net::{IpAddr, Ipv4Addr};

/// How long a name that follows from an address may be kept, as in AWS.
const NAME_TTL_S: u32 = 60;
/// How many CNAMEs are followed, one after the other.
const CHAIN_MAX: usize = 8;
/// A name that leads to the metadata service, in every VPC.
const METADATA_NAME: &str = "instance-data";

/// What becomes of a query.
#[derive(Debug)]
pub enum Resolution {
    /// It is answered here.
    Answered(Response),
    /// It goes on to the host's resolvers.
    Forward {
        /// The name to ask for.
        name: Name,
        /// CNAMEs that lead from the query's name to that one.
        chain: Vec<Answer>,
    },
}

/// Resolves a query.
pub fn resolve(query: &Query, facts: &PortFacts, directory: &dyn Directory) -> Resolution {
    let refuse = |code| Resolution::Answered(Response { code, ..Response::default() });
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return refuse(rcode::BADVERS);
    }
    if query.question.class != CLASS_IN || matches!(query.question.kind, kind::AXFR | kind::IXFR) {
        return refuse(rcode::REFUSED);
    }
    let mut chain: Vec<Answer> = Vec::new();
    let mut name = query.question.name.clone();
    while let Some(found) = local(&name, query.question.kind, facts, directory) {
        let next = found.alias;
        chain.extend(found.answers);
        let Some(next) = next else {
            let authority = found.soa.filter(|_| found.empty);
            return Resolution::Answered(Response { code: found.code, answers: chain, authority });
        };
        if chain.len() > CHAIN_MAX {
            return refuse(rcode::SERVFAIL);
        }
        name = next;
    }
    match query.flags & flag::RD {
        0 if chain.is_empty() => refuse(rcode::REFUSED),
        // Who wants no recursion gets what is known.
        0 => Resolution::Answered(Response { answers: chain, ..Response::default() }),
        _ => Resolution::Forward { name, chain },
    }
}

/// What is known here of one name.
struct Found {
    code: u8,
    answers: Vec<Answer>,
    /// The name exists, or not, and has nothing of the kind.
    empty: bool,
    /// The answer is a CNAME to this.
    alias: Option<Name>,
    soa: Option<Answer>,
}

impl Found {
    fn nothing(code: u8, soa: Option<Answer>) -> Found {
        Found { code, answers: Vec::new(), empty: true, alias: None, soa }
    }

    fn one(name: &Name, kind: u16, data: Vec<u8>) -> Found {
        let answer = Answer { name: name.clone(), kind, ttl_s: NAME_TTL_S, data };
        Found { code: rcode::NOERROR, answers: vec![answer], empty: false, alias: None, soa: None }
    }
}

/// What is known here of a name; `None` if others are to be asked.
fn local(name: &Name, kind: u16, facts: &PortFacts, directory: &dyn Directory) -> Option<Found> {
    let text = name.text()?;
    let vpc = &facts.interface.vpc;
    // VPC User Guide: private zones need both attributes.
    if vpc.dns_hostnames
        && let Some(found) = private(name, &text, kind, directory)
    {
        return Some(found);
    }
    own_names(name, &text, kind, vpc, directory)
}

/// Private records: of the name itself, else of the wildcard that covers it.
fn private(name: &Name, text: &str, kind: u16, directory: &dyn Directory) -> Option<Found> {
    let apex = ancestors(text).find_map(|zone| {
        let soa = directory.records(zone).iter().find(|record| record.kind == kind::SOA)?;
        let data = soa.data.first()?.clone();
        // RFC 2308, section 5: a negative answer is kept for as long as the SOA's last field says.
        let minimum = data.last_chunk().map_or(soa.ttl_s, |bytes| u32::from_be_bytes(*bytes));
        let ttl_s = soa.ttl_s.min(minimum);
        Name::parse(zone).map(|name| (zone, Answer { name, kind: kind::SOA, ttl_s, data }))
    });
    let (zone, soa) = apex.unzip();
    let exists = |name: &str| !directory.records(name).is_empty() || directory.has_below(name);
    if exists(text) {
        // An existing name hides every wildcard (RFC 4592, section 2.2.1), but where there is no zone, a name that only
        // has others below it is not ours.
        if directory.records(text).is_empty() && zone.is_none() {
            return None;
        }
        return Some(of_kind(name, kind, directory.records(text), soa));
    }
    let encloser = ancestors(text).skip(1).find(|parent| exists(parent))?;
    let wildcard = directory.records(&format!("*.{encloser}"));
    match (wildcard.is_empty(), zone) {
        (false, _) => Some(of_kind(name, kind, wildcard, soa)),
        (true, Some(_)) => Some(Found::nothing(rcode::NXDOMAIN, soa)),
        (true, None) => None,
    }
}

/// The records of a kind, or the CNAME that stands for all kinds.
fn of_kind(name: &Name, kind: u16, records: &[super::facts::Record], soa: Option<Answer>) -> Found {
    let wanted = |record: &&super::facts::Record| record.kind == kind || kind == kind::ANY;
    let answers = |record: &super::facts::Record| -> Vec<Answer> {
        let (kind, ttl_s) = (record.kind, record.ttl_s);
        record
            .data
            .iter()
            .map(|data| Answer { name: name.clone(), kind, ttl_s, data: data.clone() })
            .collect()
    };
    let found: Vec<Answer> = records.iter().filter(wanted).flat_map(answers).collect();
    if !found.is_empty() {
        return Found { code: rcode::NOERROR, answers: found, empty: false, alias: None, soa };
    }
    let alias = records.iter().find(|record| record.kind == kind::CNAME).and_then(|record| {
        let (target, _) = Name::read(record.data.first()?, 0)?;
        Some((answers(record).into_iter().take(1).collect(), target))
    });
    match alias {
        Some((answers, target)) => {
            Found { code: rcode::NOERROR, answers, empty: false, alias: Some(target), soa }
        }
        None => Found::nothing(rcode::NOERROR, soa),
    }
}

/// The name, then the names that it lies in, up to the top.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1)).filter(|name| !name.is_empty())
}

/// Names that follow from addresses, in both directions.
fn own_names(name: &Name, text: &str, kind: u16, vpc: &VpcFacts, directory: &dyn Directory) -> Option<Found> {
    let zone = vpc.zone();
    if let Some(address) = message::reverse(text) {
        let soa = Some(soa(&message::reverse_name(address), &zone));
        return reverse(name, address, kind, &zone, soa, vpc, directory);
    }
    // `ec2.internal` is the zone of one region; the metadata service's name is in it everywhere.
    let in_zone = |zone: &str| -> Option<Option<String>> {
        let rest = text.strip_suffix(zone)?;
        if rest.is_empty() { Some(None) } else { rest.strip_suffix('.').map(|host| Some(host.to_owned())) }
    };
    let host = in_zone(&zone)
        .or_else(|| in_zone("ec2.internal").filter(|host| host.as_deref() == Some(METADATA_NAME)))?;
    let empty = Found::nothing(rcode::NOERROR, Some(soa(&zone, &zone)));
    let host = match host {
        None if kind == kind::SOA => {
            let soa = soa(&zone, &zone);
            return Some(Found::one(name, kind, soa.data));
        }
        None => return Some(empty),
        Some(host) => host,
    };
    if host == METADATA_NAME {
        return Some(match kind {
            kind::A => Found::one(name, kind, super::classify::METADATA_V4.octets().to_vec()),
            kind::AAAA => Found::one(name, kind, super::classify::METADATA_V6.octets().to_vec()),
            _ => empty,
        });
    }
    let address = host_address(&host).filter(|address| directory.mac_of(IpAddr::V4(*address)).is_some());
    Some(match address {
        None => Found::nothing(rcode::NXDOMAIN, Some(soa(&zone, &zone))),
        Some(address) if kind == kind::A => Found::one(name, kind, address.octets().to_vec()),
        Some(_) => empty,
    })
}

/// The name of an address. Addresses outside of the VPC are others' to name.
fn reverse(
    name: &Name,
    address: IpAddr,
    kind: u16,
    zone: &str,
    soa: Option<Answer>,
    vpc: &VpcFacts,
    directory: &dyn Directory,
) -> Option<Found> {
    let is_metadata = address == IpAddr::V4(super::classify::METADATA_V4);
    if !is_metadata && !vpc.contains(address) {
        return None;
    }
    let target = match address {
        _ if is_metadata => format!("{METADATA_NAME}.ec2.internal"),
        _ if directory.mac_of(address).is_none() => return Some(Found::nothing(rcode::NXDOMAIN, soa)),
        IpAddr::V4(address) => format!("{}.{zone}", short_name(address)),
        // Names follow from IPv4 addresses alone.
        IpAddr::V6(_) => return Some(Found::nothing(rcode::NOERROR, soa)),
    };
    match (kind, Name::parse(&target)) {
        (kind::PTR, Some(target)) => Some(Found::one(name, kind::PTR, target.wire().to_vec())),
        _ => Some(Found::nothing(rcode::NOERROR, soa)),
    }
}

/// `ip-10-0-0-5`, read; only in the form in which it is written.
fn host_address(host: &str) -> Option<Ipv4Addr> {
    let text = host.strip_prefix("ip-")?;
    let address: Ipv4Addr = text.replace('-', ".").parse().ok()?;
    (short_name(address) == host).then_some(address)
}

/// A zone's SOA: a negative answer is kept as long as a positive one.
fn soa(apex: &str, zone: &str) -> Answer {
    let mut data = Vec::new();
    for host in ["ns", "hostmaster"] {
        data.extend(Name::parse(&format!("{host}.{zone}")).as_ref().map_or(&[0][..], Name::wire));
    }
    // Serial, refresh, retry, expire, minimum.
    for field in [1, 3600, 900, 604_800, NAME_TTL_S] {
        data.extend(u32::to_be_bytes(field));
    }
    let name = Name::parse(apex).unwrap_or_else(Name::root);
    Answer { name, kind: kind::SOA, ttl_s: NAME_TTL_S, data }
}

#[cfg(test)]
mod tests;
