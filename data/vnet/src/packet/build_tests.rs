use super::*;
use crate::engine::verdict::DropReason;
use crate::packet::parse::{Kind, parse, quoted, tcp};
use proptest::prelude::*;

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    let options = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (any::<(u16, u16)>(), any::<(u32, u32)>(), any::<u8>(), any::<u16>(), options).prop_map(
            |(ports, (sequence, acknowledgement), flags, window, options)| Transport::Tcp {
                ports,
                sequence,
                acknowledgement,
                flags,
                window,
                options,
            }
        ),
        any::<(u16, u16)>().prop_map(|(a, b)| Transport::Udp(a, b)),
        any::<(u8, u8, [u8; 4])>().prop_map(|(kind, code, rest)| Transport::Icmp(kind, code, rest)),
        (140u8..250).prop_map(Transport::Other),
    ]
}

pub(crate) fn packets() -> impl Strategy<Value = Build> {
    let payload = proptest::collection::vec(any::<u8>(), 0..120);
    let options = proptest::collection::vec(any::<u8>(), 0..40);
    (any::<([u8; 6], [u8; 6])>(), addresses(), transport(), payload, options, any::<(bool, u16)>()).prop_map(
        |((from, to), (source, destination), transport, payload, options, (dont_fragment, id))| Build {
            ethernet: (Mac(from), Mac(to)),
            source,
            destination,
            transport,
            payload,
            options,
            dont_fragment,
            id,
            ..Build::default()
        },
    )
}

proptest! {
    #[test]
    fn what_is_built_is_read(build in packets(), padding in 0usize..20) {
        let mut bytes = build.bytes();
        let length = bytes.len();
        bytes.resize(length + padding, 0);
        let headers = parse(&bytes, bytes.len() as u32).unwrap();
        prop_assert_eq!(headers.ethernet, build.ethernet);
        prop_assert_eq!(headers.end as usize, length);
        prop_assert_eq!((headers.flow().source, headers.flow().destination), (build.source, build.destination));
        prop_assert_eq!(&bytes[usize::from(headers.payload)..length], &build.payload);
        let ports = (headers.flow().source_port, headers.flow().destination_port);
        match build.transport {
            Transport::Tcp { ports: built, flags, .. } => {
                prop_assert_eq!((ports, headers.tcp_flags), (built, flags));
            }
            Transport::Udp(a, b) => prop_assert_eq!(ports, (a, b)),
            Transport::Icmp(kind, code, _) => prop_assert_eq!(headers.flow().icmp, (kind, code)),
            Transport::Other(number) => prop_assert_eq!(headers.flow().protocol, number),
        }
    }

    #[test]
    fn checksums_are_right(build in packets()) {
        let bytes = build.bytes();
        let headers = parse(&bytes, bytes.len() as u32).unwrap();
        let l4 = usize::from(headers.l4);
        if build.source.is_ipv4() {
            prop_assert!(Sum::of(&bytes[ETHERNET..l4]).is_intact());
        }
        let pseudo = Sum::pseudo(
            build.source, build.destination, headers.flow().protocol, (bytes.len() - l4) as u32,
        );
        match headers.flow().protocol {
            protocol::ICMP => prop_assert!(Sum::of(&bytes[l4..]).is_intact()),
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => {
                prop_assert!((pseudo + Sum::of(&bytes[l4..])).is_intact());
            }
            _ => {}
        }
    }

    #[test]
    fn fragments_are_read(build in packets(), id: u16, offset in 3u16..8000, more: bool) {
        let fragment = Fragment { id: id.into(), offset: offset * 8, more };
        let mut build = Build { fragment: Some(fragment), ..build };
        build.payload.resize(64, 7);
        let bytes = build.bytes();
        let headers = parse(&bytes, bytes.len() as u32).unwrap();
        prop_assert_eq!(headers.fragment, Some(fragment));
        prop_assert_eq!(&bytes[usize::from(headers.payload)..], &build.payload);
        prop_assert_eq!((headers.flow().source_port, headers.flow().destination_port), (0, 0));
    }

    #[test]
    fn any_change_of_any_packet(build in packets(), changes: Vec<(prop::sample::Index, u8)>, cut: prop::sample::Index) {
        let mut bytes = build.bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let length = bytes.len() as u32;
        bytes.truncate(cut.index(bytes.len() + 1));
        if let Ok(headers) = parse(&bytes, length) {
            prop_assert!(u32::from(headers.l4) <= headers.end && headers.l4 <= headers.payload);
            prop_assert!(headers.end <= length && usize::from(headers.payload) <= bytes.len().max(14));
            let _ = quoted(&bytes, &headers);
        }
    }

    #[test]
    fn an_error_quotes_its_packet(build in packets()) {
        let bytes = build.bytes();
        let headers = parse(&bytes, bytes.len() as u32).unwrap();
        let router = if build.source.is_ipv4() { [9; 4].into() } else { [9; 16].into() };
        let error = too_big((Mac([2; 6]), router), 1400, &bytes, &headers).unwrap();
        let told = parse(&error, error.len() as u32).unwrap();
        prop_assert_eq!(told.kind, Kind::IcmpError);
        if let Some(flow) = quoted(&error, &told) {
            prop_assert_eq!((flow.source, flow.destination), (build.source, build.destination));
            prop_assert_eq!(flow.source_port, headers.flow().source_port);
            prop_assert_eq!(flow.destination_port, headers.flow().destination_port);
        } else {
            let mute = matches!(build.transport, Transport::Icmp(..) | Transport::Other(_));
            let options = build.options.len() > 20;
            prop_assert!(mute || options);
        }
    }
}

fn udp() -> Build {
    Build {
        source: [10, 0, 0, 1].into(),
        destination: [10, 0, 0, 2].into(),
        transport: Transport::Udp(1000, 53),
        payload: b"question".to_vec(),
        ..Build::default()
    }
}

#[test]
fn what_is_not_carried() {
    let bytes = udp().bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        parse(&bytes, bytes.len() as u32).map(|headers| headers.flow().protocol)
    };
    assert_eq!(with(12, 0x08), Ok(protocol::UDP));
    assert_eq!(with(12, 0x81), Err(DropReason::Unsupported), "a VLAN tag");
    assert_eq!(with(14, 0x65), Err(DropReason::Malformed), "IPv6 in IPv4's type");
    assert_eq!(with(14, 0x44), Err(DropReason::Malformed), "a header of 16 bytes");
    assert_eq!(with(17, 200), Err(DropReason::Malformed), "longer than the frame");
    assert_eq!(with(23, protocol::ICMPV6), Err(DropReason::Unsupported), "ICMPv6 in IPv4");
    assert_eq!(with(39, 3), Err(DropReason::Malformed), "UDP shorter than its header");
}

#[test]
fn extension_headers_are_bounded() {
    let chain = |count: usize| {
        let mut payload = Vec::new();
        for number in 0..count {
            let next = if number + 1 == count { protocol::UDP } else { 60 };
            payload.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
        }
        payload.extend_from_slice(&[0, 7, 0, 53, 0, 8, 0, 0]);
        let transport = Transport::Other(if count == 0 { protocol::UDP } else { 60 });
        let bytes = Build { transport, payload, ..Build::default() }.bytes();
        parse(&bytes, bytes.len() as u32)
            .map(|headers| (headers.flow().protocol, headers.flow().destination_port))
    };
    for count in 0..8 {
        assert_eq!(chain(count), Ok((protocol::UDP, 53)), "{count}");
    }
    assert_eq!(chain(8), Err(DropReason::Malformed));
}

#[test]
fn fragments_that_hide_flags_are_refused() {
    let transport = Transport::Tcp {
        ports: (1, 2),
        sequence: 0,
        acknowledgement: 0,
        flags: tcp::SYN,
        window: 0,
        options: Vec::new(),
    };
    let fragment = |offset, more| Some(Fragment { id: 1, offset, more });
    let build = Build { transport, payload: vec![0; 16], dont_fragment: false, ..udp() };
    let read = |fragment| {
        let bytes = Build { fragment, ..build.clone() }.bytes();
        parse(&bytes, bytes.len() as u32).map(|headers| headers.tcp_flags)
    };
    assert_eq!(read(fragment(0, false)), Ok(tcp::SYN), "a whole packet");
    assert_eq!(read(fragment(8, true)), Err(DropReason::Malformed), "RFC 3128");
    assert_eq!(read(fragment(24, true)), Ok(0));
    // A first fragment without the whole header (RFC 1858).
    let mut bytes = Build { fragment: fragment(0, true), ..build.clone() }.bytes();
    bytes.truncate(14 + 20 + 8);
    bytes[17] = 28;
    assert_eq!(parse(&bytes, bytes.len() as u32), Err(DropReason::Malformed));
}
