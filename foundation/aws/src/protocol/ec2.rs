//! EC2's own XML. Its requests are read by [`super::query`]; only list indexes differ, and shapes know that.

use super::XML_DECLARATION;
use crate::ApiError;
use crate::protocol::Protocol;
use crate::service::ServiceTable;
use crate::shape::{Shape, Writer};

pub(super) fn encode<T: Shape>(
    service: &ServiceTable,
    operation: &str,
    answer: &T,
    request_id: &str,
) -> String {
    let mut writer = Writer::new(Protocol::Ec2);
    writer.raw(&format!("{XML_DECLARATION}<{operation}Response xmlns=\"{}\">", service.namespace));
    writer.named("requestId", &request_id.to_owned());
    answer.write(&mut writer);
    writer.raw(&format!("</{operation}Response>"));
    writer.finish()
}

/// `RequestID` in errors, `requestId` in answers: so it is in AWS.
pub(super) fn encode_error(error: &ApiError, request_id: &str) -> String {
    let mut writer = Writer::new(Protocol::Ec2);
    writer.raw(XML_DECLARATION);
    writer.raw("<Response><Errors><Error>");
    writer.named("Code", &error.code.to_string());
    writer.named("Message", &error.message);
    writer.raw("</Error></Errors>");
    writer.named("RequestID", &request_id.to_owned());
    writer.raw("</Response>");
    writer.finish()
}
