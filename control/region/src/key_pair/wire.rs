//! The two binary notations of keys: SSH's (RFC 4251 section 5) and the little of DER (X.690) that keys use.
//!
//! ```text
//!   SSH   string: length (4 bytes, big-endian) | bytes       mpint: a string, leading zero if the top bit is set
//!   DER   tag (1 byte) | length (1 byte, or 0x80 + n and n bytes) | content
//! ```

/// SSH's notation, read from the front.
pub struct Ssh<'a>(pub &'a [u8]);

impl<'a> Ssh<'a> {
    /// The next string.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (string, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// The next number, if it is positive, without leading zeros.
    pub fn mpint(&mut self) -> Option<&'a [u8]> {
        positive(self.string()?)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A string in SSH's notation.
pub fn ssh_string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// A positive number in SSH's notation.
pub fn ssh_mpint(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(byte) if byte & 0x80 != 0 => ssh_string(&[&[0], number].concat()),
        _ => ssh_string(number),
    }
}

/// DER, read from the front.
pub struct Der<'a>(pub &'a [u8]);

#[allow(missing_docs)]
impl<'a> Der<'a> {
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const SEQUENCE: u8 = 0x30;

    /// The next element's content, if its tag is this.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81 | 0x82 => {
                let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (*found == tag).then_some(content)
    }

    /// The next number, if it is positive, without leading zeros.
    pub fn unsigned(&mut self) -> Option<&'a [u8]> {
        positive(self.take(Self::INTEGER)?)
    }
}

/// An element in DER, of at most 65,535 bytes.
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match length {
        0..=0x7f => bytes.push(length as u8),
        0x80..=0xff => bytes.extend([0x81, length as u8]),
        _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}

fn positive(number: &[u8]) -> Option<&[u8]> {
    let negative = number.first().is_some_and(|byte| byte & 0x80 != 0);
    let start = number.iter().position(|byte| *byte != 0)?;
    (!negative).then_some(&number[start..])
}
