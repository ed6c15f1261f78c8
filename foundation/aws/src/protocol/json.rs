//! awsJson 1.0 and 1.1: the operation in `X-Amz-Target`, an object in the body.
//!
//! A key given twice is an error: the usual "last one wins" would let two readers of one request disagree.

use super::{Call, Protocol, too_large};
use crate::service::ServiceTable;
use crate::shape::{Limits, Node, Shape, Writer};
use crate::{ApiError, Request, codes};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

pub(super) fn decode(service: &ServiceTable, request: &Request<'_>) -> Result<Call, ApiError> {
    let unknown = |message: String| ApiError::new(codes::UNKNOWN_OPERATION_EXCEPTION, message);
    if request.method != "POST" {
        return Err(unknown(format!("The method {} is not allowed; use POST", request.method)));
    }
    let target = request.header("x-amz-target").unwrap_or_default();
    let operation = target.strip_prefix(service.target_prefix).and_then(|rest| rest.strip_prefix('.'));
    let operation = operation.ok_or_else(|| {
        unknown(format!("The header X-Amz-Target must be {}.OPERATION", service.target_prefix))
    })?;
    let content_type = request.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(service.protocol.content_type()) {
        let message = format!("The request's body must be {}", service.protocol.content_type());
        return Err(ApiError::new(codes::SERIALIZATION_EXCEPTION, message));
    }
    Ok(Call {
        service: service.name,
        operation: operation.to_owned(),
        version: service.version.to_owned(),
        parameters: parse(request.body)?,
    })
}

/// The tree of a JSON body; an empty body is an empty object.
pub fn parse(body: &[u8]) -> Result<Node, ApiError> {
    if body.len() > Limits::BYTES {
        return Err(too_large());
    }
    if body.is_empty() {
        return Ok(Node::empty());
    }
    let malformed = |message: String| ApiError::new(codes::SERIALIZATION_EXCEPTION, message);
    let budget = Cell::new(Limits::PARAMETERS);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let node = NodeSeed { depth: 0, budget: &budget }
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node))
        .map_err(|error| malformed(format!("The request's body cannot be read: {error}")))?;
    match node {
        Node::Map(_) => Ok(node),
        _ => Err(malformed("The request's body must be an object".into())),
    }
}

/// Reads one value, within the bounds on depth and number of values.
#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    depth: usize,
    budget: &'a Cell<usize>,
}

impl NodeSeed<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= Limits::DEPTH {
            return Err(E::custom("it is nested too deeply"));
        }
        Ok(NodeSeed { depth: self.depth + 1, budget: self.budget })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let left =
            self.budget.get().checked_sub(1).ok_or_else(|| D::Error::custom("it has too many values"))?;
        self.budget.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let seed = self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element_seed(seed)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let seed = self.deeper()?;
        let mut nodes = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            let node = access.next_value_seed(seed)?;
            if nodes.insert(key, node).is_some() {
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Node::Map(nodes))
    }
}

pub(super) fn encode<T: Shape>(protocol: Protocol, answer: &T) -> String {
    let mut writer = Writer::new(protocol);
    answer.write(&mut writer);
    writer.finish()
}

pub(super) fn encode_error(protocol: Protocol, error: &ApiError) -> String {
    let mut writer = Writer::new(protocol);
    writer.structure_open();
    writer.named("__type", &error.code.to_string());
    writer.named("message", &error.message);
    writer.structure_close();
    writer.finish()
}
