//! DHCPv4 (RFC 2131, options of RFC 2132): a guest is told the primary address that its interface has anyway.
//!
//! There are no leases to keep: an address belongs to its interface for as long as that exists, so any number of
//! servers anywhere give the same answer. A lease lasts an hour, as in AWS, so that changed options arrive.
//!
//! Deliberately absent: relays (a packet with `giaddr` is dropped), BOOTP without DHCP, the overload option (a reply is
//! kept within what every client takes: 548 bytes), and everything that follows a RELEASE or DECLINE.

use super::Ignored;
use super::facts::PortFacts;
use super::wire::Envelope;
use crate::packet::Mac;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The server's port; the client's is one more.
pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// How long a guest may use its address before it asks again.
pub const LEASE_S: u32 = 3600;

/// RFC 2131, section 2: every client takes 576 bytes of IP packet.
const MESSAGE_BYTES_MAX: usize = 548;
/// RFC 1542, section 2.1: a BOOTP message has at least 300.
const MESSAGE_BYTES_MIN: usize = 300;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Option codes (RFC 2132; 121: RFC 3442).
mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP: u8 = 42;
    pub const NETBIOS_SERVERS: u8 = 44;
    pub const NETBIOS_NODE: u8 = 46;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const CLIENT: u8 = 61;
    pub const ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// Message types.
mod message {
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const INFORM: u8 = 8;
}

/// What a reply needs to know of its request.
///
/// ```text
/// op │ htype │ hlen │ hops │ xid:32 │ secs:16 │ flags:16 │ ciaddr:32 │ yiaddr:32 │ siaddr:32 │ giaddr:32 │
/// chaddr:128 │ sname:64 bytes │ file:128 bytes │ magic:32 │ options: (code │ length │ value)* 255
/// ```
#[derive(Debug)]
struct Request<'a> {
    transaction: [u8; 4],
    flags: [u8; 2],
    client_address: Ipv4Addr,
    relayed: bool,
    hardware: Mac,
    kind: u8,
    server: Option<Ipv4Addr>,
    requested: Option<Ipv4Addr>,
    wanted: Option<&'a [u8]>,
    client: Option<&'a [u8]>,
}

fn parse(bytes: &[u8]) -> Option<Request<'_>> {
    let (fixed, rest) = bytes.split_first_chunk::<236>()?;
    let mut options = rest.strip_prefix(&MAGIC)?;
    let address_at = |at: usize| fixed.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
    // A request, of Ethernet.
    if !fixed.starts_with(&[1, 1, 6]) {
        return None;
    }
    let mut request = Request {
        transaction: *fixed.get(4..)?.first_chunk()?,
        flags: *fixed.get(10..)?.first_chunk()?,
        client_address: address_at(12)?,
        relayed: !address_at(24)?.is_unspecified(),
        hardware: Mac(*fixed.get(28..)?.first_chunk()?),
        kind: 0,
        server: None,
        requested: None,
        wanted: None,
        client: None,
    };
    while let Some((code, rest)) = options.split_first() {
        match *code {
            option::PAD => {
                options = rest;
                continue;
            }
            option::END => break,
            _ => {}
        }
        let (length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        let address = || value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        match *code {
            option::MESSAGE_TYPE => request.kind = *value.first()?,
            option::SERVER => request.server = Some(address()?),
            option::REQUESTED_ADDRESS => request.requested = Some(address()?),
            option::WANTED => request.wanted = Some(value),
            option::CLIENT => request.client = Some(value),
            _ => {}
        }
        options = rest;
    }
    (request.kind != 0).then_some(request)
}

/// The reply to a guest's message, as a frame.
pub(super) fn answer(payload: &[u8], facts: &PortFacts) -> Result<Vec<u8>, Ignored> {
    let request = parse(payload).ok_or(Ignored::Malformed)?;
    if request.hardware != facts.interface.mac {
        return Err(Ignored::Spoofed);
    }
    let own = facts.interface.primary_ipv4().ok_or(Ignored::Disabled)?;
    let server = facts.interface.subnet.router().ok_or(Ignored::Disabled)?;
    if request.relayed || request.server.is_some_and(|chosen| chosen != server) {
        return Err(Ignored::Unasked);
    }
    match request.kind {
        message::DISCOVER => Ok(reply(message::OFFER, &request, own, server, facts)),
        message::REQUEST => {
            // Section 4.3.2: an address is named in the option (SELECTING, INIT-REBOOT), or is in use already
            // (RENEWING, REBINDING).
            let named = request.requested.unwrap_or(request.client_address);
            let kind = if named == own { message::ACK } else { message::NAK };
            Ok(reply(kind, &request, own, server, facts))
        }
        message::INFORM if request.client_address == own => {
            Ok(reply(message::ACK, &request, own, server, facts))
        }
        message::INFORM => Err(Ignored::Spoofed),
        _ => Err(Ignored::Unasked),
    }
}

fn reply(kind: u8, request: &Request<'_>, own: Ipv4Addr, server: Ipv4Addr, facts: &PortFacts) -> Vec<u8> {
    let informs = request.kind == message::INFORM;
    let refuses = kind == message::NAK;
    let given = if informs || refuses { Ipv4Addr::UNSPECIFIED } else { own };
    let client = if refuses { Ipv4Addr::UNSPECIFIED } else { request.client_address };
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(request.transaction);
    bytes.extend([0, 0]);
    bytes.extend(request.flags);
    bytes.extend(client.octets());
    bytes.extend(given.octets());
    bytes.extend([0; 8]);
    bytes.extend(request.hardware.0);
    bytes.resize(236, 0);
    bytes.extend(MAGIC);
    push(&mut bytes, option::MESSAGE_TYPE, &[kind]);
    push(&mut bytes, option::SERVER, &server.octets());
    // RFC 6842: back to whom it came from.
    if let Some(client) = request.client {
        push(&mut bytes, option::CLIENT, client);
    }
    if !refuses {
        if !informs {
            push(&mut bytes, option::LEASE, &LEASE_S.to_be_bytes());
        }
        configure(&mut bytes, request.wanted, facts);
    }
    bytes.push(option::END);
    bytes.resize(bytes.len().max(MESSAGE_BYTES_MIN), 0);
    envelope(refuses, request, own, server, facts).seal(&bytes)
}

/// Section 4.1: to the address that the client has; else to all, if it says that it must be so, or is refused;
/// else to the address that it is to have.
fn envelope(
    refuses: bool,
    request: &Request<'_>,
    own: Ipv4Addr,
    server: Ipv4Addr,
    facts: &PortFacts,
) -> Envelope {
    let broadcast = request.flags[0] & 0x80 != 0;
    let (address, mac) = if refuses || (broadcast && request.client_address.is_unspecified()) {
        (Ipv4Addr::BROADCAST, Mac([0xff; 6]))
    } else {
        (own, facts.interface.mac)
    };
    Envelope {
        destination_mac: mac,
        source_mac: facts.router_mac,
        source: SocketAddr::new(server.into(), SERVER_PORT),
        destination: SocketAddr::new(address.into(), CLIENT_PORT),
    }
}

/// The options that were asked for, in the order in which they were; without a list, all that every client knows.
fn configure(bytes: &mut Vec<u8>, wanted: Option<&[u8]>, facts: &PortFacts) {
    const USUAL: [u8; 9] = [
        option::MASK,
        option::ROUTER,
        option::DNS,
        option::DOMAIN_NAME,
        option::HOST_NAME,
        option::MTU,
        option::NTP,
        option::NETBIOS_SERVERS,
        option::NETBIOS_NODE,
    ];
    let wanted = wanted.unwrap_or(&USUAL);
    // RFC 2132, section 3.3: the mask comes before the router.
    if wanted.contains(&option::MASK)
        && let Some(value) = value_of(option::MASK, facts)
    {
        push(bytes, option::MASK, &value);
    }
    for (at, code) in wanted.iter().enumerate() {
        let before = wanted.get(..at).unwrap_or_default();
        if *code != option::MASK
            && !before.contains(code)
            && let Some(value) = value_of(*code, facts)
        {
            push(bytes, *code, &value);
        }
    }
}

/// The value of an option; empty ones are not sent.
fn value_of(code: u8, facts: &PortFacts) -> Option<Vec<u8>> {
    let (subnet, vpc) = (&facts.interface.subnet, &facts.interface.vpc);
    let addresses = |list: &[IpAddr]| -> Vec<u8> {
        let octets = list.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(address.octets()),
            IpAddr::V6(_) => None,
        });
        octets.flatten().collect()
    };
    let value = match code {
        option::MASK => subnet.cidr?.mask().octets().to_vec(),
        option::ROUTER => subnet.router()?.octets().to_vec(),
        option::DNS if vpc.dhcp.domain_name_servers.is_empty() => match vpc.dns_support {
            true => vpc.resolver()?.octets().to_vec(),
            false => Vec::new(),
        },
        option::DNS => addresses(&vpc.dhcp.domain_name_servers),
        option::DOMAIN_NAME if vpc.dhcp.domain_name.is_empty() => vpc.zone().into_bytes(),
        option::DOMAIN_NAME => vpc.dhcp.domain_name.clone().into_bytes(),
        option::HOST_NAME => facts.interface.short_name()?.into_bytes(),
        option::MTU => facts.mtu.to_be_bytes().to_vec(),
        option::NTP => addresses(&vpc.dhcp.ntp_servers),
        option::NETBIOS_SERVERS => {
            vpc.dhcp.netbios_name_servers.iter().flat_map(|address| address.octets()).collect()
        }
        option::NETBIOS_NODE if vpc.dhcp.netbios_node_type != 0 => vec![vpc.dhcp.netbios_node_type],
        option::ROUTES => routes(subnet.router()?),
        _ => Vec::new(),
    };
    (!value.is_empty()).then_some(value)
}

/// RFC 3442: a client that asks for routes takes no notice of the router, so the default route is among them. The
/// metadata service is on the link, and stays reachable when the default route is gone.
fn routes(router: Ipv4Addr) -> Vec<u8> {
    let mut value = vec![32];
    value.extend(METADATA.octets());
    value.extend([0; 4]);
    value.push(0);
    value.extend(router.octets());
    value
}

/// Adds an option if it still fits, with room for the end.
fn push(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    let fits = bytes.len() + 2 + value.len() < MESSAGE_BYTES_MAX;
    if let Ok(length) = u8::try_from(value.len())
        && fits
    {
        bytes.extend([code, length]);
        bytes.extend(value);
    }
}

#[cfg(test)]
mod tests;
