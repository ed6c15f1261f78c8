//! DNS messages (RFC 1035), as far as a resolver that mostly passes questions on must read and write them.
//!
//! Invariant: reading is total and bounded: a compression pointer leads only backwards, and a name has 255 bytes.

use std::fmt::Write as _;

/// Types of records (IANA's numbers).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A zone's server.
    pub const NS: u16 = 2;
    /// Another name for this one.
    pub const CNAME: u16 = 5;
    /// Where a zone begins.
    pub const SOA: u16 = 6;
    /// The name of an address.
    pub const PTR: u16 = 12;
    /// Text.
    pub const TXT: u16 = 16;
    /// A mail server.
    pub const MX: u16 = 15;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A service's host and port.
    pub const SRV: u16 = 33;
    /// Another name for all below this one.
    pub const DNAME: u16 = 39;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// A zone's changes.
    pub const IXFR: u16 = 251;
    /// A whole zone.
    pub const AXFR: u16 = 252;
    /// All that there is.
    pub const ANY: u16 = 255;
}

/// Response codes.
pub mod rcode {
    /// Answered.
    pub const NOERROR: u8 = 0;
    /// The query is not one.
    pub const FORMERR: u8 = 1;
    /// No answer could be had.
    pub const SERVFAIL: u8 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u8 = 3;
    /// That kind of query is not understood.
    pub const NOTIMP: u8 = 4;
    /// That is not answered here.
    pub const REFUSED: u8 = 5;
    /// EDNS of a version that is not known (16: the part in OPT is 1, that in the header 0).
    pub const BADVERS: u8 = 16;
}

/// The Internet's class.
pub const CLASS_IN: u16 = 1;
const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;

/// A name, as on the wire and uncompressed, with its sender's upper and lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// From text with dots, with or without one at the end; `None` if it is not a name.
    pub fn parse(text: &str) -> Option<Name> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let text = text.strip_suffix('.').unwrap_or(text);
        if !text.is_empty() {
            for label in text.split('.') {
                let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
                wire.push(length);
                wire.extend(label.as_bytes());
            }
        }
        wire.push(0);
        (wire.len() <= NAME_BYTES_MAX).then_some(Name(wire))
    }

    /// The name above all names.
    pub fn root() -> Name {
        Name(vec![0])
    }

    /// Reads the name at `at`, and says where the message goes on behind it.
    pub fn read(message: &[u8], at: usize) -> Option<(Name, usize)> {
        let (mut wire, mut at, mut end) = (Vec::new(), at, None);
        loop {
            let length = *message.get(at)?;
            match length >> 6 {
                0 => {
                    let label = message.get(at..=at + usize::from(length))?;
                    wire.extend(label);
                    if wire.len() > NAME_BYTES_MAX {
                        return None;
                    }
                    at += label.len();
                    if length == 0 {
                        return Some((Name(wire), end.unwrap_or(at)));
                    }
                }
                3 => {
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
                    end = end.or(Some(at + 2));
                    // Only backwards: so it ends.
                    if target >= at {
                        return None;
                    }
                    at = target;
                }
                _ => return None,
            }
        }
    }

    /// Uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// In lower case with dots, without one at the end; `None` if a label has a byte that no such text could show.
    pub fn text(&self) -> Option<String> {
        let mut text = String::with_capacity(self.0.len());
        let mut rest = self.0.as_slice();
        while let Some((length, more)) = rest.split_first().filter(|(length, _)| **length != 0) {
            let (label, more) = more.split_at_checked(usize::from(*length))?;
            if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            label.iter().for_each(|byte| text.push(char::from(byte.to_ascii_lowercase())));
            rest = more;
        }
        Some(text)
    }

    /// As DNS compares names.
    pub fn same_as(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Of what.
    pub name: Name,
    /// Which records.
    pub kind: u16,
    /// Of which class.
    pub class: u16,
}

impl Question {
    fn read(message: &[u8], at: usize) -> Option<(Question, usize)> {
        let (name, at) = Name::read(message, at)?;
        let [a, b, c, d] = *message.get(at..)?.first_chunk()?;
        let (kind, class) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some((Question { name, kind, class }, at + 4))
    }

    fn write(&self, message: &mut Vec<u8>) {
        message.extend(self.name.wire());
        message.extend(self.kind.to_be_bytes());
        message.extend(self.class.to_be_bytes());
    }
}

/// What a client says of itself with EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// How large an answer it takes by UDP.
    pub size: u16,
    /// It wants DNSSEC's records.
    pub dnssec: bool,
    /// 0 is the only one.
    pub version: u8,
}

/// A query, or the fixed part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The sender's.
    pub id: u16,
    /// QR, opcode and all other bits.
    pub flags: u16,
    /// What is asked.
    pub question: Question,
    /// If there is an OPT record.
    pub edns: Option<Edns>,
}

/// The flags of a message's header.
pub mod flag {
    /// It is an answer.
    pub const QR: u16 = 0x8000;
    /// Some of it is missing.
    pub const TC: u16 = 0x0200;
    /// The client wants recursion.
    pub const RD: u16 = 0x0100;
    /// The server does recursion.
    pub const RA: u16 = 0x0080;
    /// Not to be validated (RFC 4035).
    pub const CD: u16 = 0x0010;
    /// What kind of message it is.
    pub const OPCODE: u16 = 0x7800;
}

/// Why a query is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// Nothing that could be answered: too short, or an answer itself.
    Nothing,
    /// To be answered with a code, to this id and with these flags.
    Refused(u16, u16, u8),
}

/// Reads a query with its one question.
pub fn read_query(message: &[u8]) -> Result<Query, QueryError> {
    let header: &[u8; HEADER_BYTES] = message.first_chunk().ok_or(QueryError::Nothing)?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, flags) = (field(0), field(2));
    if flags & flag::QR != 0 {
        return Err(QueryError::Nothing);
    }
    if flags & flag::OPCODE != 0 {
        return Err(QueryError::Refused(id, flags, rcode::NOTIMP));
    }
    let malformed = QueryError::Refused(id, flags, rcode::FORMERR);
    // A query has no answers, and an additional section of a few records: EDNS, a signature.
    if field(4) != 1 || field(6) != 0 || field(8) != 0 || field(10) > 4 {
        return Err(malformed);
    }
    let (question, mut at) = Question::read(message, HEADER_BYTES).ok_or(malformed)?;
    let mut edns = None;
    for _ in 0..field(10) {
        let (record, next) = RawRecord::read(message, at).ok_or(malformed)?;
        if record.kind == kind::OPT {
            let [_, version, flags, _] = record.ttl.to_be_bytes();
            let found = Edns { size: record.class, dnssec: flags & 0x80 != 0, version };
            // RFC 6891, section 6.1.1: at most one.
            if edns.replace(found).is_some() {
                return Err(malformed);
            }
        }
        at = next;
    }
    Ok(Query { id, flags, question, edns })
}

/// A record of a message, its data where it is.
#[derive(Clone, Debug)]
struct RawRecord {
    name: Name,
    kind: u16,
    class: u16,
    ttl: u32,
    data: std::ops::Range<usize>,
}

impl RawRecord {
    fn read(message: &[u8], at: usize) -> Option<(RawRecord, usize)> {
        let (name, at) = Name::read(message, at)?;
        let [a, b, c, d, e, f, g, h, i, j] = *message.get(at..)?.first_chunk()?;
        let data = at + 10..at + 10 + usize::from(u16::from_be_bytes([i, j]));
        message.get(data.clone())?;
        let (kind, class) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let end = data.end;
        Some((RawRecord { name, kind, class, ttl: u32::from_be_bytes([e, f, g, h]), data }, end))
    }
}

/// A record to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of what.
    pub name: Name,
    /// Which kind.
    pub kind: u16,
    /// How long it may be kept.
    pub ttl_s: u32,
    /// Names in it uncompressed.
    pub data: Vec<u8>,
}

/// The answer section of another server's message, its names uncompressed, so that they can be said elsewhere.
/// Also its code, and whether it says that something is missing. `None`: it cannot be read.
pub fn read_answers(message: &[u8]) -> Option<(u8, bool, Vec<Answer>)> {
    let header: &[u8; HEADER_BYTES] = message.first_chunk()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (_, mut at) = Question::read(message, HEADER_BYTES)?;
    let mut answers = Vec::new();
    for _ in 0..field(6) {
        let (record, next) = RawRecord::read(message, at)?;
        at = next;
        if record.class == CLASS_IN {
            let data = uncompressed(message, &record)?;
            answers.push(Answer { name: record.name, kind: record.kind, ttl_s: record.ttl, data });
        }
    }
    Some((header[3] & 0x0f, field(2) & flag::TC != 0, answers))
}

/// A record's data with its names written out. Types since RFC 3597 do not compress theirs.
fn uncompressed(message: &[u8], record: &RawRecord) -> Option<Vec<u8>> {
    let bytes = message.get(record.data.clone())?;
    let (fixed, names) = match record.kind {
        kind::NS | kind::CNAME | kind::PTR | kind::DNAME => (0, 1),
        kind::MX => (2, 1),
        kind::SRV => (6, 1),
        kind::SOA => (0, 2),
        _ => return Some(bytes.to_vec()),
    };
    let mut data = bytes.get(..fixed)?.to_vec();
    let mut at = record.data.start + fixed;
    for _ in 0..names {
        let (name, next) = Name::read(message, at)?;
        data.extend(name.wire());
        at = next;
    }
    data.extend(message.get(at..record.data.end)?);
    Some(data)
}

/// An answer with what the resolver knows itself.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// See [`rcode`].
    pub code: u8,
    /// In the order in which they are said.
    pub answers: Vec<Answer>,
    /// The zone's SOA, if there is nothing to answer.
    pub authority: Option<Answer>,
}

/// How large an answer by UDP may be: what the client says, within what crosses any network whole
/// (RFC 9715 recommends 1400 at most; 1232 fits IPv6's smallest MTU).
pub fn udp_limit(edns: Option<Edns>) -> usize {
    edns.map_or(512, |edns| usize::from(edns.size.clamp(512, 1232)))
}

impl Response {
    /// On the wire, in at most `limit` bytes: what does not fit is left out whole, and TC says so (RFC 2181,
    /// section 9).
    pub fn write(&self, query: &Query, limit: usize) -> Vec<u8> {
        let whole = self.write_whole(query, false);
        if whole.len() <= limit { whole } else { Response::default().write_whole(query, true) }
    }

    fn write_whole(&self, query: &Query, truncated: bool) -> Vec<u8> {
        let flags = flag::QR
            | flag::RA
            | (query.flags & (flag::RD | flag::CD))
            | if truncated { flag::TC } else { 0 }
            | u16::from(self.code & 0x0f);
        let count = |number: usize| (number as u16).to_be_bytes();
        let mut message = Vec::with_capacity(128);
        message.extend(query.id.to_be_bytes());
        message.extend(flags.to_be_bytes());
        message.extend(count(1));
        message.extend(count(self.answers.len().min(usize::from(u16::MAX))));
        message.extend(count(usize::from(self.authority.is_some())));
        message.extend(count(usize::from(query.edns.is_some())));
        query.question.write(&mut message);
        for record in self.answers.iter().take(usize::from(u16::MAX)).chain(&self.authority) {
            // Nearly always it is the question's own name, which begins behind the header.
            if record.name.same_as(&query.question.name) {
                message.extend([0xc0, HEADER_BYTES as u8]);
            } else {
                message.extend(record.name.wire());
            }
            message.extend(record.kind.to_be_bytes());
            message.extend(CLASS_IN.to_be_bytes());
            message.extend(record.ttl_s.to_be_bytes());
            message.extend(count(record.data.len()));
            message.extend(&record.data);
        }
        if let Some(edns) = query.edns {
            write_opt(&mut message, edns, self.code >> 4);
        }
        message
    }
}

/// `root │ 41 │ size:16 │ extended code │ version │ DO, zero:16 │ length 0` (RFC 6891, section 6.1.2).
fn write_opt(message: &mut Vec<u8>, edns: Edns, extended_code: u8) {
    let dnssec = if edns.dnssec { 0x80 } else { 0 };
    message.push(0);
    message.extend(kind::OPT.to_be_bytes());
    message.extend((udp_limit(Some(edns)) as u16).to_be_bytes());
    message.extend([extended_code, 0, dnssec, 0, 0, 0]);
}

/// An answer that has nothing but a code, to a query that could not be read.
pub fn refusal(id: u16, flags: u16, code: u8) -> Vec<u8> {
    let flags = flag::QR | flag::RA | (flags & (flag::OPCODE | flag::RD)) | u16::from(code);
    let mut message = id.to_be_bytes().to_vec();
    message.extend(flags.to_be_bytes());
    message.extend([0; 8]);
    message
}

/// A query to another resolver: the question, and of the client's EDNS the size and whether it wants DNSSEC. Its other
/// options are between it and us.
pub fn write_query(id: u16, question: &Question, flags: u16, edns: Option<Edns>) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend((flag::RD | (flags & flag::CD)).to_be_bytes());
    message.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
    question.write(&mut message);
    if let Some(edns) = edns {
        write_opt(&mut message, edns, 0);
    }
    message
}

/// Whether a message is an answer to a query with this id and question.
pub fn answers_query(message: &[u8], id: u16, question: &Question) -> bool {
    let Some(header) = message.first_chunk::<HEADER_BYTES>() else { return false };
    let same_id = header[..2] == id.to_be_bytes();
    let is_answer = header[2] & 0x80 != 0 && header[4..6] == [0, 1];
    let same_question = |asked: &Question| {
        asked.name.same_as(&question.name) && (asked.kind, asked.class) == (question.kind, question.class)
    };
    same_id
        && is_answer
        && Question::read(message, HEADER_BYTES).is_some_and(|(asked, _)| same_question(&asked))
}

/// `d.c.b.a.in-addr.arpa` and its IPv6 counterpart (RFC 3596), read. `None`: it is not the name of one address.
pub fn reverse(name: &str) -> Option<std::net::IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut parts = octets.split('.').rev();
        let mut octet = || {
            let text = parts.next()?;
            let plain = text.len() == 1 || !text.starts_with('0');
            text.parse::<u8>().ok().filter(|_| plain && text.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let address = [octet()?, octet()?, octet()?, octet()?];
        return parts.next().is_none().then(|| address.into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut address = 0u128;
    let mut count = 0;
    for nibble in nibbles.split('.').rev() {
        let digit = nibble.chars().next().filter(|_| nibble.len() == 1)?.to_digit(16)?;
        address = address << 4 | u128::from(digit);
        count += 1;
        if count > 32 {
            return None;
        }
    }
    (count == 32).then(|| std::net::Ipv6Addr::from_bits(address).into())
}

/// The name under which an address's name is asked for.
pub fn reverse_name(address: std::net::IpAddr) -> String {
    let mut name = String::new();
    match address {
        std::net::IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let _ = write!(name, "{d}.{c}.{b}.{a}.in-addr.arpa");
        }
        std::net::IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(name, "{:x}.{:x}.", octet & 0x0f, octet >> 4);
            }
            name.push_str("ip6.arpa");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_text_and_on_the_wire() {
        let name = Name::parse("Ec2.Internal.").unwrap();
        assert_eq!(name.wire(), b"\x03Ec2\x08Internal\0");
        assert_eq!(name.text().unwrap(), "ec2.internal");
        assert_eq!(Name::parse("").unwrap().wire(), b"\0");
        for bad in ["..", ".a", "a..b", &"x".repeat(64), &"x.".repeat(128)] {
            assert_eq!(Name::parse(bad), None, "{bad}");
        }
        assert_eq!(Name::read(b"\x03a.b\0", 0).unwrap().0.text(), None);
    }

    #[test]
    fn a_compressed_name_is_read_and_a_loop_is_not() {
        // RFC 1035, section 4.1.4: F.ISI.ARPA and FOO.F.ISI.ARPA.
        let message = b"\x01F\x03ISI\x04ARPA\0\x03FOO\xc0\x00rest";
        let (name, end) = Name::read(message, 12).unwrap();
        assert_eq!((name.text().unwrap().as_str(), end), ("foo.f.isi.arpa", 18));
        assert_eq!(Name::read(b"\xc0\x00", 0), None);
        assert_eq!(Name::read(b"\x01a\xc0\x00", 0), None);
        assert_eq!(Name::read(b"\x01a\xc0\x09\0\0\0\0\0\0", 0), None);
        assert_eq!(Name::read(b"\x41a\0", 0), None);
        assert_eq!(Name::read(b"\x05abc", 0), None);
    }

    #[test]
    fn reverse_names() {
        for text in ["10.0.0.5", "2600:1f18::5", "0.0.0.0", "255.1.20.3"] {
            let address: std::net::IpAddr = text.parse().unwrap();
            assert_eq!(reverse(&reverse_name(address)), Some(address));
        }
        for bad in [
            "1.10.in-addr.arpa",
            "1.2.3.4.5.in-addr.arpa",
            "256.0.0.10.in-addr.arpa",
            "01.0.0.10.in-addr.arpa",
            "+1.0.0.10.in-addr.arpa",
            "5.0.ip6.arpa",
            "in-addr.arpa",
        ] {
            assert_eq!(reverse(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_in_another_server_s_answer_are_written_out() {
        let question = Question { name: Name::parse("a.example").unwrap(), kind: kind::A, class: CLASS_IN };
        let mut message = write_query(7, &question, 0, None);
        message[2] |= 0x80;
        message[7] = 2;
        // a.example CNAME b.example, with example from the question; b.example A.
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'b', 0xc0, 14]);
        message.extend([1, b'b', 0xc0, 14, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        assert!(answers_query(&message, 7, &question));
        let (code, truncated, answers) = read_answers(&message).unwrap();
        assert_eq!((code, truncated, answers.len()), (0, false, 2));
        assert_eq!(answers[0].data, b"\x01b\x07example\0");
        assert_eq!(
            (answers[1].name.text().unwrap().as_str(), &answers[1].data[..]),
            ("b.example", &[192, 0, 2, 1][..])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0usize..90) {
            let _ = (Name::read(&bytes, at), read_query(&bytes), read_answers(&bytes));
            if let Some((name, _)) = Name::read(&bytes, at) {
                let _ = name.text().as_deref().map(|text| (reverse(text), Name::parse(text)));
            }
        }

        #[test]
        fn a_query_is_read_as_it_was_written(id: u16, size: u16, dnssec: bool, kind: u16) {
            let edns = Edns { size: size.clamp(512, 1232), dnssec, version: 0 };
            let question = Question { name: Name::parse("a.example").unwrap(), kind, class: CLASS_IN };
            let read = read_query(&write_query(id, &question, 0, Some(edns))).unwrap();
            prop_assert_eq!(read, Query { id, flags: flag::RD, question, edns: Some(edns) });
        }
    }
}
