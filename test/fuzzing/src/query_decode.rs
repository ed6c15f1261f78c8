//! The query protocols: the parser, the shapes of every operation, and the way to a service.
//!
//! Input: the query string, a line feed, the form body. The same bytes are asked of EC2 and of STS.

use crate::input::Input;
use aws::ec2::Ec2;
use aws::service::Encoded;
use aws::sts::Sts;
use aws::{Call, Caller, Request, Response, ServiceTable, protocol};
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll, Waker};

/// A service that has no operation of its own: what is read is then refused.
pub(crate) struct Nobody;

impl Ec2 for Nobody {}
impl Sts for Nobody {}
impl aws::service_quotas::ServiceQuotas for Nobody {}

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let (query, body) = (String::from_utf8_lossy(input.line()), input.rest());
    let _ = protocol::query::parse(&query, &String::from_utf8_lossy(body));
    let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let request = Request { method: "POST", path: "/", query: &query, headers: &headers, body };
    ask(&aws::ec2::SERVICE, &request, |caller, call| Nobody.ec2(caller, call));
    ask(&aws::sts::SERVICE, &request, |caller, call| Sts::dispatch(&Nobody, caller, call));
}

impl Nobody {
    fn ec2<'a>(&'a self, caller: &'a Caller, call: Call) -> Encoded<'a> {
        Ec2::dispatch(self, caller, call)
    }
}

/// Decodes and dispatches. Whatever a client sends is the client's fault, and says so.
pub(crate) fn ask(
    service: &ServiceTable,
    request: &Request<'_>,
    dispatch: impl for<'a> FnOnce(&'a Caller, Call) -> Encoded<'a>,
) {
    let caller = Caller {
        account: base::ids::AccountId::from_number(1).expect("1 is an account number"),
        access_key_id: String::new(),
        principal_arn: String::new(),
        principal_id: String::new(),
        region: "us-east-1".parse().expect("a region's name"),
        request_id: String::from("r"),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: String::new(),
    };
    let response = match protocol::decode(service, request) {
        Ok(call) => ready(dispatch(&caller, call)),
        Err(error) => protocol::encode_error(service, &error, "r"),
    };
    assert!((400..500).contains(&response.status), "{response:?}");
    assert!(response.error_code.is_some(), "{response:?}");
}

/// The answer of a service that never waits.
fn ready(mut answer: Encoded<'_>) -> Response {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(response) => response,
        Poll::Pending => panic!("a service without operations waited"),
    }
}
