//! What a structure of the API is: how it is read from a request's parameters and written into an answer.
//!
//! Wire bytes become one generic tree ([`Node`], made by [`crate::protocol`]); [`Shape::read`] consumes it. A
//! structure refuses every key that it does not read ([`Members::open`]), so nothing is dropped silently.
//! [`Shape::write`] prints through a [`Writer`], which knows the protocol. Structures derive `Shape`; this file
//! has the scalars, [`Blob`], lists and options.
//!
//! Absence: an `Option` left out of a request is `None`, a `Vec` is empty, anything else is `MissingParameter`
//! unless it is marked `#[shape(default)]`. In an answer `None` is omitted and an empty list is `<tagSet/>`.

mod node;
mod writer;

pub use node::{Limits, Node, Path};
pub use writer::Writer;

use crate::ApiError;
use crate::protocol::Protocol;
use base::clock::Timestamp;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::collections::BTreeMap;

/// The three names of a structure's member.
#[derive(Debug)]
pub struct Member {
    /// In awsQuery and JSON, both ways: `Tags`.
    pub name: &'static str,
    /// In an EC2 request: `Tag` (of `Tag.1.Key`).
    pub request: &'static str,
    /// In an EC2 answer: `tagSet`.
    pub response: &'static str,
}

impl Member {
    fn request_name(&self, protocol: Protocol) -> &'static str {
        if protocol == Protocol::Ec2 { self.request } else { self.name }
    }

    fn response_name(&self, protocol: Protocol) -> &'static str {
        if protocol == Protocol::Ec2 { self.response } else { self.name }
    }
}

/// A value of the API.
pub trait Shape: Sized {
    /// Reads the value from the parameters at `path`, consuming all of `node` or refusing it.
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError>;

    /// What the value is when the request does not have it.
    fn absent(path: &Path<'_>) -> Result<Self, ApiError> {
        Err(ApiError::missing_parameter(path))
    }

    /// Prints the value.
    fn write(&self, writer: &mut Writer);

    /// Whether the value is left out of an answer.
    fn is_absent(&self) -> bool {
        false
    }
}

/// The members of a structure that is being read. Used by the derived code.
#[derive(Debug)]
pub struct Members<'a> {
    nodes: BTreeMap<String, Node>,
    path: &'a Path<'a>,
}

impl<'a> Members<'a> {
    /// How many unknown parameters one error names.
    const NAMED: usize = 8;

    /// Opens a structure, after refusing whatever of it is not in `members`.
    pub fn open(
        node: Node,
        path: &'a Path<'a>,
        members: &[Member],
        unsupported: &[&str],
    ) -> Result<Self, ApiError> {
        let nodes = match node {
            Node::Map(nodes) => nodes,
            other => return Err(ApiError::invalid_value(path, other.shown(), "A structure is expected.")),
        };
        let protocol = path.protocol();
        let known = |key: &str| members.iter().any(|member| member.request_name(protocol) == key);
        let mut unknown = Vec::new();
        for (key, node) in nodes.iter().filter(|(key, _)| !known(key)) {
            let path = path.name(key);
            if unsupported.contains(&key.as_str()) {
                return Err(ApiError::unsupported_parameter(&path));
            }
            if unknown.len() < Self::NAMED {
                unknown.push(node.first_leaf(&path));
            }
        }
        if !unknown.is_empty() {
            return Err(ApiError::unknown_parameters(path, &unknown));
        }
        Ok(Members { nodes, path })
    }

    /// Takes a member; its type says what absence means.
    pub fn take<T: Shape>(&mut self, member: &Member) -> Result<T, ApiError> {
        let name = member.request_name(self.path.protocol());
        let path = self.path.name(name);
        match self.nodes.remove(name) {
            None | Some(Node::Null) => T::absent(&path),
            Some(node) => T::read(node, &path),
        }
    }

    /// Takes a member that is its default when absent.
    pub fn take_or_default<T: Shape + Default>(&mut self, member: &Member) -> Result<T, ApiError> {
        self.take::<Option<T>>(member).map(Option::unwrap_or_default)
    }

    /// Takes a list that must have elements.
    pub fn take_filled<T: Shape>(&mut self, member: &Member) -> Result<Vec<T>, ApiError> {
        let list: Vec<T> = self.take(member)?;
        if list.is_empty() {
            let name = member.request_name(self.path.protocol());
            return Err(ApiError::missing_parameter(&self.path.name(name)));
        }
        Ok(list)
    }
}

impl<T: Shape> Shape for Option<T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        T::read(node, path).map(Some)
    }
    fn absent(_path: &Path<'_>) -> Result<Self, ApiError> {
        Ok(None)
    }
    fn write(&self, writer: &mut Writer) {
        if let Some(value) = self {
            value.write(writer);
        }
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        let (member, elements) = node.into_elements(path)?;
        let path = if member { &path.name("member") } else { path };
        elements.into_iter().map(|(index, node)| T::read(node, &path.index(index))).collect()
    }
    fn absent(_path: &Path<'_>) -> Result<Self, ApiError> {
        Ok(Vec::new())
    }
    fn write(&self, writer: &mut Writer) {
        writer.list_open();
        for element in self {
            writer.element(element);
        }
        writer.list_close();
    }
}

/// An operation that answers nothing, or takes nothing.
impl Shape for () {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        Members::open(node, path, &[], &[]).map(|_| ())
    }
    fn write(&self, writer: &mut Writer) {
        writer.structure_open();
        writer.structure_close();
    }
}

impl Shape for String {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        match node {
            Node::Text(text) => Ok(text),
            other => Err(ApiError::invalid_value(path, other.shown(), "A string is expected.")),
        }
    }
    fn write(&self, writer: &mut Writer) {
        writer.text(self);
    }
}

impl Shape for bool {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        match &node {
            Node::Bool(value) => Ok(*value),
            Node::Text(text) if path.is_text() && text.eq_ignore_ascii_case("true") => Ok(true),
            Node::Text(text) if path.is_text() && text.eq_ignore_ascii_case("false") => Ok(false),
            other => Err(ApiError::invalid_value(path, other.shown(), "`true` or `false` is expected.")),
        }
    }
    fn write(&self, writer: &mut Writer) {
        writer.bare(self);
    }
}

macro_rules! numbers {
    ($($number:ty, $reason:literal;)*) => {$(
        impl Shape for $number {
            fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
                match &node {
                    Node::Number(text) => text.parse().ok(),
                    Node::Text(text) if path.is_text() => text.parse().ok(),
                    _ => None,
                }
                .ok_or_else(|| ApiError::invalid_value(path, node.shown(), $reason))
            }
            fn write(&self, writer: &mut Writer) {
                writer.bare(self);
            }
        }
    )*};
}

numbers! {
    i32, "A 32-bit integer is expected.";
    i64, "A 64-bit integer is expected.";
    u32, "A 32-bit integer that is not negative is expected.";
}

impl Shape for f64 {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        let number: Option<f64> = match &node {
            Node::Number(text) => text.parse().ok(),
            Node::Text(text) if path.is_text() => text.parse().ok(),
            _ => None,
        };
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| ApiError::invalid_value(path, node.shown(), "A finite number is expected."))
    }
    fn write(&self, writer: &mut Writer) {
        // `{:?}` keeps the `.0` of a whole number, as AWS prints it. JSON has no word for NaN or infinity.
        if self.is_finite() {
            writer.bare(&format_args!("{self:?}"));
        } else {
            writer.bare(&"null");
        }
    }
}

/// ISO 8601 in query and XML, seconds since the epoch (with a fraction) in JSON.
impl Shape for Timestamp {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        let unix_ms = match &node {
            Node::Text(text) if path.is_text() => iso8601_parse(text),
            Node::Number(text) => text.parse::<f64>().ok().map(|seconds| seconds * 1000.0).and_then(whole_ms),
            _ => None,
        };
        unix_ms
            .map(Timestamp::from_unix_ms)
            .ok_or_else(|| ApiError::invalid_value(path, node.shown(), "A time is expected."))
    }
    fn write(&self, writer: &mut Writer) {
        if writer.protocol().is_json() {
            let (seconds, ms) = (self.unix_ms() / 1000, self.unix_ms() % 1000);
            writer.bare(&format_args!("{seconds}.{ms:03}"));
        } else {
            writer.text(&self.iso8601());
        }
    }
}

/// The largest time read: the end of the year 9999, which is also what [`Timestamp::iso8601`] can print.
const UNIX_MS_END: f64 = 253_402_300_800_000.0;

fn whole_ms(ms: f64) -> Option<u64> {
    (0.0..UNIX_MS_END).contains(&ms).then(|| ms.round() as u64)
}

fn iso8601_parse(text: &str) -> Option<u64> {
    use time::format_description::well_known::Rfc3339;
    let instant = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    whole_ms(instant.unix_timestamp_nanos() as f64 / 1e6)
}

/// A switch that can only be off, because Nephos does not have what it switches on: absent and `false`, which many
/// clients send unasked, are read; `true` is refused with `UnsupportedOperation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Off;

impl Shape for Off {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        if bool::read(node, path)? { Err(ApiError::unsupported_parameter(path)) } else { Ok(Off) }
    }
    fn absent(_path: &Path<'_>) -> Result<Self, ApiError> {
        Ok(Off)
    }
    fn write(&self, writer: &mut Writer) {
        writer.bare(&false);
    }
}

/// Bytes, which travel as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

/// The standard alphabet; padding is written, and may be missing when read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Shape for Blob {
    fn read(node: Node, path: &Path<'_>) -> Result<Self, ApiError> {
        let bytes = match &node {
            Node::Text(text) => {
                // Clients such as `base64(1)` break lines.
                let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
                BASE64.decode(packed).ok()
            }
            _ => None,
        };
        bytes.map(Blob).ok_or_else(|| ApiError::invalid_value(path, node.shown(), "Invalid BASE64 encoding."))
    }
    fn write(&self, writer: &mut Writer) {
        writer.text(&BASE64.encode(&self.0));
    }
}

#[cfg(test)]
mod tests;
