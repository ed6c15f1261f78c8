//! DHCPv6 (RFC 8415): a guest is told the IPv6 addresses that its interface has anyway. Stateless here, as DHCPv4 is.
//!
//! All addresses of the interface go into the first association (IA_NA) of a message; others are told that there are
//! none left. Deliberately absent: relays, temporary addresses (IA_TA is not answered), delegated prefixes (an IA_PD is
//! told that there are none), reconfiguration and authentication.

use super::Ignored;
use super::facts::PortFacts;
use super::wire::{Envelope, link_local};
use crate::packet::Mac;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The server's port.
pub const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;
/// `All_DHCP_Relay_Agents_and_Servers`.
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Where the resolver is. Source: VPC User Guide, "Understanding Amazon DNS".
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x253);

/// How long a guest may use its addresses before it asks again.
const LEASE_S: u32 = 3600;
/// Section 21.4: recommended are 0.5 and 0.8 of the shortest preferred lifetime.
const RENEW_S: u32 = 1800;
const REBIND_S: u32 = 2880;

/// Options (RFC 8415; 23 and 24: RFC 3646; 56: RFC 5908).
mod option {
    pub const CLIENT: u16 = 1;
    pub const SERVER: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const ADDRESS: u16 = 5;
    pub const WANTED: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const STATUS: u16 = 13;
    pub const RAPID_COMMIT: u16 = 14;
    pub const DNS: u16 = 23;
    pub const DOMAINS: u16 = 24;
    pub const IA_PD: u16 = 25;
    pub const REFRESH: u16 = 32;
    pub const NTP: u16 = 56;
}

/// Message types.
mod message {
    pub const SOLICIT: u8 = 1;
    pub const ADVERTISE: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const CONFIRM: u8 = 4;
    pub const RENEW: u8 = 5;
    pub const REBIND: u8 = 6;
    pub const REPLY: u8 = 7;
    pub const RELEASE: u8 = 8;
    pub const DECLINE: u8 = 9;
    pub const INFORMATION_REQUEST: u8 = 11;
}

/// Status codes.
mod status {
    pub const SUCCESS: u16 = 0;
    pub const NO_ADDRESSES: u16 = 2;
    pub const NOT_ON_LINK: u16 = 4;
    pub const NO_PREFIX: u16 = 6;
}

/// More associations in one message than any guest has.
const ASSOCIATIONS_MAX: usize = 8;
/// A DUID has at most 128 bytes after its type (section 11.1).
const DUID_BYTES_MAX: usize = 130;

#[derive(Debug, Default)]
struct Request<'a> {
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    wanted: &'a [u8],
    rapid: bool,
    /// Of IA_NA: identifier, and the addresses that the client names.
    associations: Vec<([u8; 4], Vec<Ipv6Addr>)>,
    /// Identifiers of IA_PD.
    delegations: Vec<[u8; 4]>,
}

/// One option off the front: `code:16 │ length:16 │ value`.
fn next_option<'a>(options: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let (code, rest) = options.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *options = rest;
    Some((u16::from_be_bytes(*code), value))
}

fn parse(mut options: &[u8]) -> Option<Request<'_>> {
    let mut request = Request::default();
    while !options.is_empty() {
        let (code, value) = next_option(&mut options)?;
        match code {
            option::CLIENT => request.client = Some(value),
            option::SERVER => request.server = Some(value),
            option::WANTED => request.wanted = value,
            option::RAPID_COMMIT => request.rapid = true,
            option::IA_NA if request.associations.len() < ASSOCIATIONS_MAX => {
                let (id, rest) = value.split_first_chunk()?;
                request.associations.push((*id, addresses(rest.get(8..)?)?));
            }
            option::IA_PD if request.delegations.len() < ASSOCIATIONS_MAX => {
                request.delegations.push(*value.first_chunk()?);
            }
            _ => {}
        }
    }
    request.client.is_none_or(|client| client.len() <= DUID_BYTES_MAX).then_some(request)
}

/// The addresses within an association.
fn addresses(mut options: &[u8]) -> Option<Vec<Ipv6Addr>> {
    let mut found = Vec::new();
    while !options.is_empty() {
        let (code, value) = next_option(&mut options)?;
        if code == option::ADDRESS && found.len() < 64 {
            found.push(Ipv6Addr::from(*value.first_chunk::<16>()?));
        }
    }
    Some(found)
}

/// The reply to a guest's message, as a frame. `source`: where the guest sent it from.
pub(super) fn answer(payload: &[u8], source: SocketAddr, facts: &PortFacts) -> Result<Vec<u8>, Ignored> {
    let ([kind, transaction @ ..], options) = payload.split_first_chunk::<4>().ok_or(Ignored::Malformed)?;
    let request = parse(options).ok_or(Ignored::Malformed)?;
    if facts.interface.subnet.cidr_ipv6.is_none() {
        return Err(Ignored::Disabled);
    }
    let IpAddr::V6(source) = source.ip() else { return Err(Ignored::Malformed) };
    let server = server_id(facts.router_mac);
    check_ids(*kind, &request, &server)?;
    let mut body = Vec::new();
    push(&mut body, option::SERVER, &server);
    if let Some(client) = request.client {
        push(&mut body, option::CLIENT, client);
    }
    let own: Vec<Ipv6Addr> = facts.interface.ipv6s().collect();
    let reply = match *kind {
        message::SOLICIT => {
            push(&mut body, option::PREFERENCE, &[255]);
            assign(&mut body, &request, &own, Former::Forget);
            configure(&mut body, request.wanted, facts);
            if request.rapid {
                push(&mut body, option::RAPID_COMMIT, &[]);
                message::REPLY
            } else {
                message::ADVERTISE
            }
        }
        message::REQUEST => {
            assign(&mut body, &request, &own, Former::Forget);
            configure(&mut body, request.wanted, facts);
            message::REPLY
        }
        message::RENEW | message::REBIND => {
            assign(&mut body, &request, &own, Former::End);
            configure(&mut body, request.wanted, facts);
            message::REPLY
        }
        message::CONFIRM => {
            let mut named = request.associations.iter().flat_map(|(_, addresses)| addresses).peekable();
            // Section 18.3.3: without an address there is nothing to confirm, and no answer.
            named.peek().ok_or(Ignored::Unasked)?;
            let here = named.all(|address| own.contains(address));
            push_status(&mut body, if here { status::SUCCESS } else { status::NOT_ON_LINK });
            message::REPLY
        }
        message::INFORMATION_REQUEST => {
            configure(&mut body, request.wanted, facts);
            push(&mut body, option::REFRESH, &LEASE_S.to_be_bytes());
            message::REPLY
        }
        // RELEASE and DECLINE: nothing changes, and section 18.3.7 wants an answer.
        _ => {
            push_status(&mut body, status::SUCCESS);
            message::REPLY
        }
    };
    let mut bytes = vec![reply];
    bytes.extend(transaction);
    bytes.extend(body);
    let envelope = Envelope {
        destination_mac: facts.interface.mac,
        source_mac: facts.router_mac,
        source: SocketAddr::new(link_local(facts.router_mac).into(), SERVER_PORT),
        destination: SocketAddr::new(source.into(), CLIENT_PORT),
    };
    Ok(envelope.seal(&bytes))
}

/// Section 16: which messages name a client, and which a server.
fn check_ids(kind: u8, request: &Request<'_>, own: &[u8]) -> Result<(), Ignored> {
    let (client, server) = (request.client.is_some(), request.server);
    match kind {
        message::SOLICIT | message::CONFIRM | message::REBIND if client && server.is_none() => Ok(()),
        message::REQUEST | message::RENEW | message::RELEASE | message::DECLINE if client => match server {
            Some(server) if server == own => Ok(()),
            Some(_) => Err(Ignored::Unasked),
            None => Err(Ignored::Malformed),
        },
        message::INFORMATION_REQUEST if !request.associations.is_empty() => Err(Ignored::Malformed),
        message::INFORMATION_REQUEST if server.is_some_and(|server| server != own) => Err(Ignored::Unasked),
        message::INFORMATION_REQUEST => Ok(()),
        message::SOLICIT..=message::REBIND | message::RELEASE | message::DECLINE => Err(Ignored::Malformed),
        _ => Err(Ignored::Unasked),
    }
}

/// DUID-LL (section 11.4) of the router: the same from every switch, so that a guest that moves renews where it is.
fn server_id(router: Mac) -> Vec<u8> {
    let mut duid = vec![0, 3, 0, 1];
    duid.extend(router.0);
    duid
}

/// What becomes of addresses that the client names and does not have.
#[derive(Clone, Copy, PartialEq)]
enum Former {
    /// It asks for them for the first time: not mentioned.
    Forget,
    /// It uses them: their lifetimes are 0 from now on (section 18.3.4).
    End,
}

/// Answers each association: the first has all addresses.
fn assign(body: &mut Vec<u8>, request: &Request<'_>, own: &[Ipv6Addr], former: Former) {
    for (at, (id, named)) in request.associations.iter().enumerate() {
        let own = if at == 0 { own } else { &[] };
        let ended = named.iter().filter(|address| former == Former::End && !own.contains(address));
        let mut association = id.to_vec();
        association.extend(RENEW_S.to_be_bytes());
        association.extend(REBIND_S.to_be_bytes());
        for (address, lease_s) in own.iter().map(|own| (own, LEASE_S)).chain(ended.map(|ended| (ended, 0))) {
            let mut value = address.octets().to_vec();
            value.extend(lease_s.to_be_bytes());
            value.extend(lease_s.to_be_bytes());
            push(&mut association, option::ADDRESS, &value);
        }
        if own.is_empty() {
            push_status(&mut association, status::NO_ADDRESSES);
        }
        push(body, option::IA_NA, &association);
    }
    for id in &request.delegations {
        let mut association = id.to_vec();
        association.extend([0; 8]);
        push_status(&mut association, status::NO_PREFIX);
        push(body, option::IA_PD, &association);
    }
}

/// The options that were asked for.
fn configure(body: &mut Vec<u8>, wanted: &[u8], facts: &PortFacts) {
    let vpc = &facts.interface.vpc;
    let asked = |code: u16| wanted.as_chunks::<2>().0.contains(&code.to_be_bytes());
    let ipv6 = |addresses: &[IpAddr]| -> Vec<Ipv6Addr> {
        let only = addresses.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        });
        only.collect()
    };
    if asked(option::DNS) {
        let servers = match (vpc.dhcp.domain_name_servers.is_empty(), vpc.dns_support) {
            (true, true) => vec![RESOLVER],
            (true, false) => Vec::new(),
            (false, _) => ipv6(&vpc.dhcp.domain_name_servers),
        };
        let value: Vec<u8> = servers.iter().flat_map(Ipv6Addr::octets).collect();
        if !value.is_empty() {
            push(body, option::DNS, &value);
        }
    }
    if asked(option::DOMAINS) {
        let own_zone = vpc.zone();
        let domain = if vpc.dhcp.domain_name.is_empty() { &own_zone } else { &vpc.dhcp.domain_name };
        // EC2 API Reference, `CreateDhcpOptions`: some clients take several names, with spaces between them.
        let names = domain.split_ascii_whitespace().filter_map(super::dns::message::Name::parse);
        let value: Vec<u8> = names.flat_map(|name| name.wire().to_vec()).collect();
        if !value.is_empty() {
            push(body, option::DOMAINS, &value);
        }
    }
    if asked(option::NTP) {
        // Suboption 1: a server's address.
        let mut value = Vec::new();
        for server in ipv6(&vpc.dhcp.ntp_servers) {
            push(&mut value, 1, &server.octets());
        }
        if !value.is_empty() {
            push(body, option::NTP, &value);
        }
    }
}

fn push(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    if let Ok(length) = u16::try_from(value.len()) {
        body.extend(code.to_be_bytes());
        body.extend(length.to_be_bytes());
        body.extend(value);
    }
}

fn push_status(body: &mut Vec<u8>, code: u16) {
    push(body, option::STATUS, &code.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GUEST, ROUTER, facts};
    use super::*;
    use crate::service::wire::{Checksums, ethernet, ip, udp};
    use proptest::prelude::*;

    const OWN: &str = "2600:1f18::5";
    const DUID: &[u8] = &[0, 1, 0, 1, 1, 2, 3, 4, 2, 0, 0, 0, 0, 5];

    fn message(kind: u8, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xab, 0xcd, 0xef];
        options.iter().for_each(|(code, value)| push(&mut bytes, *code, value));
        bytes
    }

    fn client() -> (u16, Vec<u8>) {
        (option::CLIENT, DUID.to_vec())
    }

    fn server() -> (u16, Vec<u8>) {
        (option::SERVER, server_id(ROUTER))
    }

    fn association(id: u8, addresses: &[&str]) -> (u16, Vec<u8>) {
        let mut value = vec![0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0];
        for address in addresses {
            let mut octets = address.parse::<Ipv6Addr>().unwrap().octets().to_vec();
            octets.extend([0; 8]);
            push(&mut value, option::ADDRESS, &octets);
        }
        (option::IA_NA, value)
    }

    /// What an answered association holds: addresses with their lifetimes, a status.
    fn leased(id: u8, addresses: &[(&str, u32)], code: Option<u16>) -> (u16, Vec<u8>) {
        let mut value = vec![0, 0, 0, id];
        value.extend(RENEW_S.to_be_bytes());
        value.extend(REBIND_S.to_be_bytes());
        for (address, lifetime_s) in addresses {
            let mut octets = address.parse::<Ipv6Addr>().unwrap().octets().to_vec();
            octets.extend(lifetime_s.to_be_bytes());
            octets.extend(lifetime_s.to_be_bytes());
            push(&mut value, option::ADDRESS, &octets);
        }
        code.iter().for_each(|code| push_status(&mut value, *code));
        (option::IA_NA, value)
    }

    type Options = Vec<(u16, Vec<u8>)>;

    fn ask(kind: u8, options: &[(u16, Vec<u8>)]) -> Result<(u8, Options), Ignored> {
        let source = "[fe80::1234]:546".parse().unwrap();
        let frame = answer(&message(kind, options), source, &facts())?;
        let frame = ethernet(&frame).unwrap();
        let packet = ip(frame.payload, Checksums::Verify).unwrap();
        let datagram = udp(&packet, Checksums::Verify).unwrap();
        assert_eq!((frame.destination, packet.destination), (GUEST, source.ip()));
        assert_eq!((datagram.source, datagram.destination), (547, 546));
        let (head, mut rest) = datagram.payload.split_first_chunk::<4>().unwrap();
        assert_eq!(head[1..], [0xab, 0xcd, 0xef]);
        let mut found = Vec::new();
        while let Some((code, value)) = next_option(&mut rest) {
            found.push((code, value.to_vec()));
        }
        assert!(rest.is_empty());
        Ok((head[0], found))
    }

    #[test]
    fn a_guest_finds_its_addresses() {
        let wanted = (option::WANTED, vec![0, 23, 0, 24]);
        let resolver = (option::DNS, RESOLVER.octets().to_vec());
        let domain = (option::DOMAINS, b"\x03ec2\x08internal\0".to_vec());
        let lease = leased(7, &[(OWN, LEASE_S)], None);
        assert_eq!(
            ask(message::SOLICIT, &[client(), association(7, &[]), wanted.clone()]),
            Ok((
                message::ADVERTISE,
                vec![server(), client(), (7, vec![255]), lease.clone(), resolver.clone(), domain.clone()]
            ))
        );
        assert_eq!(
            ask(message::REQUEST, &[client(), server(), association(7, &[OWN]), wanted.clone()]),
            Ok((message::REPLY, vec![server(), client(), lease, resolver, domain]))
        );
        let (kind, options) =
            ask(message::SOLICIT, &[client(), (option::RAPID_COMMIT, vec![]), association(7, &[])]).unwrap();
        assert_eq!(kind, message::REPLY);
        assert!(options.contains(&(option::RAPID_COMMIT, vec![])));
    }

    #[test]
    fn a_second_association_and_a_prefix_get_nothing() {
        let delegation = (option::IA_PD, vec![0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let asked = [client(), association(1, &[]), association(2, &[]), delegation];
        let (_, options) = ask(message::SOLICIT, &asked).unwrap();
        assert_eq!(options[3], leased(1, &[(OWN, LEASE_S)], None));
        assert_eq!(options[4], leased(2, &[], Some(status::NO_ADDRESSES)));
        assert_eq!(options[5].1[..4], [0, 0, 0, 9]);
        assert_eq!(options[5].1[12..], [0, 13, 0, 2, 0, 6]);
    }

    #[test]
    fn an_address_that_is_not_the_guest_s_any_more_ends() {
        let asked = association(7, &[OWN, "2600:1f18::77"]);
        let expected = leased(7, &[(OWN, LEASE_S), ("2600:1f18::77", 0)], None);
        let renewed = ask(message::RENEW, &[client(), server(), asked.clone()]).unwrap();
        assert_eq!(renewed, (message::REPLY, vec![server(), client(), expected.clone()]));
        assert_eq!(ask(message::REBIND, &[client(), asked]).unwrap(), renewed);
    }

    #[test]
    fn a_guest_that_comes_back_learns_whether_it_is_where_it_was() {
        let confirm = |addresses: &[&str]| ask(message::CONFIRM, &[client(), association(7, addresses)]);
        let status =
            |code: u8| Ok((message::REPLY, vec![server(), client(), (option::STATUS, vec![0, code])]));
        assert_eq!(confirm(&[OWN]), status(0));
        assert_eq!(confirm(&["2001:db8::5"]), status(4));
        assert_eq!(confirm(&[]), Err(Ignored::Unasked));
    }

    #[test]
    fn who_has_addresses_is_told_the_rest() {
        let (kind, options) = ask(message::INFORMATION_REQUEST, &[(option::WANTED, vec![0, 23])]).unwrap();
        assert_eq!(kind, message::REPLY);
        let codes: Vec<u16> = options.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [option::SERVER, option::DNS, option::REFRESH]);
        let (_, options) = ask(message::RELEASE, &[client(), server(), association(7, &[OWN])]).unwrap();
        assert_eq!(options.last().unwrap(), &(option::STATUS, vec![0, 0]));
    }

    #[test]
    fn messages_name_whom_they_must() {
        let other = (option::SERVER, vec![0, 3, 0, 1, 9, 9, 9, 9, 9, 9]);
        assert_eq!(ask(message::SOLICIT, &[association(1, &[])]), Err(Ignored::Malformed));
        assert_eq!(ask(message::SOLICIT, &[client(), server()]), Err(Ignored::Malformed));
        assert_eq!(ask(message::REQUEST, &[client()]), Err(Ignored::Malformed));
        assert_eq!(ask(message::REQUEST, &[client(), other.clone()]), Err(Ignored::Unasked));
        assert_eq!(ask(message::INFORMATION_REQUEST, &[other]), Err(Ignored::Unasked));
        assert_eq!(ask(message::INFORMATION_REQUEST, &[association(1, &[])]), Err(Ignored::Malformed));
        for kind in [0, message::ADVERTISE, message::REPLY, 10, 12, 13, 255] {
            assert!(ask(kind, &[client(), server()]).is_err(), "type {kind}");
        }
    }

    proptest! {
        #[test]
        fn any_damage_is_read_without_a_panic(
            changes in prop::collection::vec((0usize..90, any::<u8>()), 0..8),
            length in 0usize..100,
        ) {
            let options = [client(), server(), association(7, &[OWN]), (option::WANTED, vec![0, 23, 0, 24, 0])];
            let mut bytes = message(message::REQUEST, &options);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(length);
            let _ = answer(&bytes, "[fe80::1]:546".parse().unwrap(), &facts());
        }
    }
}
