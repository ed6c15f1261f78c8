//! The query protocols' requests (EC2's and awsQuery's), and awsQuery's XML answers.
//!
//! `GET /?Action=...` and a form in the body are both legal, even together; a parameter given twice is an error,
//! for which of the two is meant is anyone's guess.

use super::{Call, Protocol, XML_DECLARATION, too_large};
use crate::service::ServiceTable;
use crate::shape::{Limits, Node, Shape, Writer};
use crate::{ApiError, Fault, Request, codes};

/// The parameters of a presigned signature: they belong to [`crate::sigv4`], not to the operation.
const PRESIGNED: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

pub(super) fn decode(service: &ServiceTable, request: &Request<'_>) -> Result<Call, ApiError> {
    if !matches!(request.method, "GET" | "POST") {
        let message = format!("The method {} is not allowed; use POST", request.method);
        return Err(ApiError::new(codes::MALFORMED_QUERY_STRING, message));
    }
    let body = std::str::from_utf8(request.body).map_err(|_| malformed("The request's body is not UTF-8"))?;
    let content_type = request.header("content-type").unwrap_or("application/x-www-form-urlencoded");
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !body.is_empty() && !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(malformed("The request's body must be application/x-www-form-urlencoded"));
    }
    let mut parameters = parse(request.query, body)?;
    let Node::Map(nodes) = &mut parameters else { return Err(ApiError::internal()) };
    let mut take = |name: &str| match nodes.remove(name) {
        Some(Node::Text(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(&format!("The parameter {name} is not a structure"))),
        None => Ok(None),
    };
    let missing = || ApiError::new(codes::MISSING_ACTION, "The request must contain the parameter Action");
    let operation = take("Action")?.ok_or_else(missing)?;
    let version = take("Version")?.unwrap_or_else(|| service.version.to_owned());
    if version != service.version {
        let message = format!("The requested version ({version}) of service {} does not exist", service.name);
        return Err(ApiError::new(codes::NO_SUCH_VERSION, message));
    }
    Ok(Call { service: service.name, operation, version, parameters })
}

/// The tree of all parameters of a query string and a form body, without a presigned signature's own.
pub fn parse(query: &str, body: &str) -> Result<Node, ApiError> {
    if query.len().saturating_add(body.len()) > Limits::BYTES {
        return Err(too_large());
    }
    let mut node = Node::empty();
    let pairs = |text| str::split(text, '&').filter(|pair| !pair.is_empty());
    let all = pairs(query).map(|pair| (pair, true)).chain(pairs(body).map(|pair| (pair, false)));
    for (count, (pair, in_query)) in all.enumerate() {
        if count >= Limits::PARAMETERS {
            let message = format!("The request has more than {} parameters", Limits::PARAMETERS);
            return Err(malformed(&message));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (percent_decode(key)?, percent_decode(value)?);
        if !(in_query && PRESIGNED.contains(&key.as_str())) {
            node.insert(&key, value)?;
        }
    }
    Ok(node)
}

/// Decodes `%41` and `+`. The signature's canonical query is made from the same decoding, so that no two readings
/// of one request exist.
pub(crate) fn percent_decode(text: &str) -> Result<String, ApiError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(malformed("The request has an incomplete percent escape"));
                };
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| malformed("The request has parameters that are not UTF-8"))
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(codes::MALFORMED_QUERY_STRING, message)
}

/// botocore fails without the `XResult` element, so it is there even if it is empty.
pub(super) fn encode<T: Shape>(
    service: &ServiceTable,
    operation: &str,
    answer: &T,
    request_id: &str,
) -> String {
    let mut writer = Writer::new(Protocol::Query);
    writer.raw(&format!("{XML_DECLARATION}<{operation}Response xmlns=\"{}\">", service.namespace));
    writer.named(&format!("{operation}Result"), answer);
    writer.raw("<ResponseMetadata>");
    writer.named("RequestId", &request_id.to_owned());
    writer.raw(&format!("</ResponseMetadata></{operation}Response>"));
    writer.finish()
}

pub(super) fn encode_error(service: &ServiceTable, error: &ApiError, request_id: &str) -> String {
    let fault = match error.fault {
        Fault::Sender => "Sender",
        Fault::Receiver => "Receiver",
    };
    let mut writer = Writer::new(Protocol::Query);
    writer.raw(&format!("{XML_DECLARATION}<ErrorResponse xmlns=\"{}\"><Error>", service.namespace));
    writer.named("Type", &fault.to_owned());
    writer.named("Code", &error.code.to_string());
    writer.named("Message", &error.message);
    writer.raw("</Error>");
    writer.named("RequestId", &request_id.to_owned());
    writer.raw("</ErrorResponse>");
    writer.finish()
}
