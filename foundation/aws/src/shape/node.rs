//! The tree of a request's parameters, between the wire and the shapes.
//!
//! In a query, `Filter.1.Value.2=x` is a path of maps: list indexes stay keys until a list is read, so a hostile
//! `Filter.999999999.Name` costs what its text costs. Bounds are on bytes, parameters, depth and list length.

use crate::ApiError;
use crate::codes;
use crate::protocol::Protocol;
use std::collections::BTreeMap;
use std::fmt;

/// What a request may have of everything.
#[derive(Clone, Copy, Debug)]
pub struct Limits;

impl Limits {
    /// Bytes of query string and body together.
    pub const BYTES: usize = 1 << 20;
    /// Parameters of a query, or values in a JSON body.
    pub const PARAMETERS: usize = 10_000;
    /// Segments of a parameter's name, or levels of a JSON body.
    pub const DEPTH: usize = 16;
    /// Elements of one list.
    pub const LIST: usize = 1000;
}

/// One parameter, or a structure or list of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// JSON's `null`: the same as absence.
    Null,
    /// JSON's `true` or `false`.
    Bool(bool),
    /// JSON's number, as written.
    Number(String),
    /// A string; in a query every scalar.
    Text(String),
    /// A structure; in a query also a list, by index.
    Map(BTreeMap<String, Node>),
    /// JSON's list.
    List(Vec<Node>),
}

impl Node {
    /// No parameters at all.
    pub fn empty() -> Self {
        Node::Map(BTreeMap::new())
    }

    /// Puts `value` at the dotted `key`; an error if something is there already or the key is malformed.
    pub fn insert(&mut self, key: &str, value: String) -> Result<(), ApiError> {
        let malformed = |why: &str| {
            let shown: String = key.chars().take(128).collect();
            ApiError::new(codes::MALFORMED_QUERY_STRING, format!("The parameter {shown} {why}"))
        };
        if key.split('.').count() > Limits::DEPTH {
            return Err(malformed("is nested too deeply"));
        }
        let mut node = self;
        for segment in key.split('.') {
            if segment.is_empty() {
                return Err(malformed("has an empty name"));
            }
            let Node::Map(nodes) = node else {
                return Err(malformed("is both a value and a structure"));
            };
            node = nodes.entry(segment.to_owned()).or_insert(Node::Null);
            if *node == Node::Null {
                *node = Node::empty();
            }
        }
        // A place just made is an empty map; no other map is empty.
        match node {
            Node::Map(nodes) if nodes.is_empty() => *node = Node::Text(value),
            Node::Map(_) => return Err(malformed("is both a value and a structure")),
            _ => return Err(malformed("is given more than once")),
        }
        Ok(())
    }

    /// The elements of a list in order with their index, and whether they stand under awsQuery's `member`.
    pub(super) fn into_elements(self, path: &Path<'_>) -> Result<(bool, Vec<(u32, Node)>), ApiError> {
        let not_a_list = |node: &Node| ApiError::invalid_value(path, node.shown(), "A list is expected.");
        let (member, elements) = match self {
            Node::List(nodes) => (false, (1..).zip(nodes).collect()),
            // awsQuery's spelling of an empty list is `Targets=`.
            Node::Text(text) if text.is_empty() && path.protocol() == Protocol::Query => (false, Vec::new()),
            Node::Map(mut nodes) if path.protocol() == Protocol::Query => {
                let elements = nodes.remove("member");
                if let Some((key, node)) = nodes.first_key_value() {
                    return Err(ApiError::unknown_parameters(path, &[node.first_leaf(&path.name(key))]));
                }
                match elements {
                    Some(Node::Map(nodes)) => (true, indexed(nodes, &path.name("member"))?),
                    Some(Node::Text(text)) if text.is_empty() => (true, Vec::new()),
                    other => return Err(not_a_list(&other.unwrap_or(Node::Null))),
                }
            }
            Node::Map(nodes) if path.protocol() == Protocol::Ec2 => (false, indexed(nodes, path)?),
            other => return Err(not_a_list(&other)),
        };
        if elements.len() > Limits::LIST {
            let message = format!("The parameter {path} has more than {} elements", Limits::LIST);
            return Err(ApiError::new(codes::INVALID_PARAMETER_VALUE, message));
        }
        Ok((member, elements))
    }

    /// The node as an error shows it.
    pub(super) fn shown(&self) -> &str {
        match self {
            Node::Null => "null",
            Node::Bool(true) => "true",
            Node::Bool(false) => "false",
            Node::Number(text) | Node::Text(text) => text,
            Node::Map(_) => "a structure",
            Node::List(_) => "a list",
        }
    }

    /// The full wire name of the first parameter at or below `path`.
    pub(super) fn first_leaf(&self, path: &Path<'_>) -> String {
        match self {
            Node::Map(nodes) => match nodes.first_key_value() {
                Some((key, node)) => node.first_leaf(&path.name(key)),
                None => path.to_string(),
            },
            _ => path.to_string(),
        }
    }
}

/// The elements of a query's list, by their index; gaps are legal, other keys are not.
fn indexed(nodes: BTreeMap<String, Node>, path: &Path<'_>) -> Result<Vec<(u32, Node)>, ApiError> {
    let mut elements = Vec::with_capacity(nodes.len());
    for (key, node) in nodes {
        // One spelling per index, so that `1` and `01` cannot both be given.
        let digits = key.bytes().all(|byte| byte.is_ascii_digit()) && (key == "0" || !key.starts_with('0'));
        match key.parse() {
            Ok(index) if digits => elements.push((index, node)),
            _ => return Err(ApiError::unknown_parameters(path, &[node.first_leaf(&path.name(&key))])),
        }
    }
    elements.sort_by_key(|(index, _)| *index);
    Ok(elements)
}

/// Where in the request a node stands: printed as its wire name, `Filter.1.Value`.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    protocol: Protocol,
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Segment<'a> {
    Name(&'a str),
    Index(u32),
}

impl<'a> Path<'a> {
    /// The whole request.
    pub const fn root(protocol: Protocol) -> Self {
        Path { protocol, parent: None, segment: Segment::Name("") }
    }

    /// The member `name` of the structure here.
    pub fn name(&'a self, name: &'a str) -> Path<'a> {
        Path { protocol: self.protocol, parent: Some(self), segment: Segment::Name(name) }
    }

    /// The element `index` of the list here.
    pub fn index(&'a self, index: u32) -> Path<'a> {
        Path { protocol: self.protocol, parent: Some(self), segment: Segment::Index(index) }
    }

    /// The protocol that the request came in.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether scalars come as text (query), rather than typed (JSON).
    pub(super) fn is_text(&self) -> bool {
        !self.protocol.is_json()
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        if parent.parent.is_some() {
            write!(f, "{parent}.")?;
        }
        match self.segment {
            Segment::Name(name) => f.write_str(name),
            Segment::Index(index) => write!(f, "{index}"),
        }
    }
}
