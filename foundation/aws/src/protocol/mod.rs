//! The wire protocols: from a request to a [`Call`], from a shape or an error to a [`Response`].
//!
//! Called by the gateway ([`decode`], [`encode_error`]) and by [`crate::service`] ([`encode`]). Which protocol a
//! request is in follows from the service of its credential scope, never from guessing at the bytes.

mod ec2;
pub mod json;
pub mod query;

use crate::service::ServiceTable;
use crate::shape::{Node, Shape};
use crate::{ApiError, Request, Response, codes};

/// How a service's messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// EC2's own: query in, XML with `item` and `xSet` out.
    Ec2,
    /// awsQuery: query with `member` in, XML with `member` out.
    Query,
    /// awsJson 1.0.
    Json10,
    /// awsJson 1.1.
    Json11,
}

impl Protocol {
    /// Whether the protocol is one of the JSON ones.
    pub const fn is_json(self) -> bool {
        matches!(self, Protocol::Json10 | Protocol::Json11)
    }

    /// The content type of an answer, as AWS sends it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Protocol::Ec2 => "text/xml;charset=UTF-8",
            Protocol::Query => "text/xml",
            Protocol::Json10 => "application/x-amz-json-1.0",
            Protocol::Json11 => "application/x-amz-json-1.1",
        }
    }
}

/// A request, decoded as far as that is possible without the operation's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service's signing name: `ec2`.
    pub service: &'static str,
    /// `RunInstances`. Any text: it is checked when the call is dispatched.
    pub operation: String,
    /// The API version that the request names; the service's own if it names none.
    pub version: String,
    /// Everything else.
    pub parameters: Node,
}

/// Reads a request to `service`.
pub fn decode(service: &ServiceTable, request: &Request<'_>) -> Result<Call, ApiError> {
    if service.protocol.is_json() { json::decode(service, request) } else { query::decode(service, request) }
}

/// Prints the answer of `operation`.
pub fn encode<T: Shape>(service: &ServiceTable, operation: &str, answer: &T, request_id: &str) -> Response {
    let body = match service.protocol {
        Protocol::Ec2 => ec2::encode(service, operation, answer, request_id),
        Protocol::Query => query::encode(service, operation, answer, request_id),
        Protocol::Json10 | Protocol::Json11 => json::encode(service.protocol, answer),
    };
    response(service.protocol, 200, body, request_id)
}

/// Prints an error.
pub fn encode_error(service: &ServiceTable, error: &ApiError, request_id: &str) -> Response {
    let protocol = service.protocol;
    let body = match protocol {
        Protocol::Ec2 => ec2::encode_error(error, request_id),
        Protocol::Query => query::encode_error(service, error, request_id),
        Protocol::Json10 | Protocol::Json11 => json::encode_error(protocol, error),
    };
    let mut response = response(protocol, error.status, body, request_id);
    if protocol.is_json() {
        response.headers.push(("x-amzn-errortype", error.code.to_string()));
    }
    response.error_code = Some(error.code.clone());
    response
}

fn response(protocol: Protocol, status: u16, body: String, request_id: &str) -> Response {
    let headers = vec![
        ("content-type", protocol.content_type().to_owned()),
        ("x-amzn-requestid", request_id.to_owned()),
    ];
    Response { status, headers, body, error_code: None }
}

/// The first line of every XML answer.
const XML_DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

fn too_large() -> ApiError {
    let message = format!("The request is larger than {} bytes", crate::shape::Limits::BYTES);
    ApiError::new(codes::REQUEST_ENTITY_TOO_LARGE, message)
}

#[cfg(test)]
mod tests;
