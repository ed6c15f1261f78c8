//! awsJson: the parser, the shapes of every operation, and the way to a service.
//!
//! Input: the header `X-Amz-Target`, a line feed, the body.

use crate::input::Input;
use crate::query_decode::{Nobody, ask};
use aws::Request;
use aws::service_quotas::{SERVICE, ServiceQuotas};

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let (target, body) = (String::from_utf8_lossy(input.line()), input.rest());
    let _ = aws::protocol::json::parse(body);
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &*target)];
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body };
    ask(&SERVICE, &request, |caller, call| ServiceQuotas::dispatch(&Nobody, caller, call));
}
