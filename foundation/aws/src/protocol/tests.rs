//! Requests as clients send them, answers and errors as clients must see them, byte for byte.

use super::*;
use crate::ec2::{self, Ec2};
use crate::service::{Answer, Caller};
use crate::service_quotas::{self, ServiceQuotas};
use crate::shape::Blob;
use crate::sts::{self, CallerIdentity, GetCallerIdentityRequest, Sts};
use base::clock::Timestamp;
use proptest::prelude::*;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll, Waker};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");

fn form(body: &str) -> Request<'_> {
    Request { method: "POST", path: "/", query: "", headers: &[FORM], body: body.as_bytes() }
}

fn caller() -> Caller {
    Caller {
        account: "123456789012".parse().unwrap(),
        access_key_id: "AKIDEXAMPLE".into(),
        principal_arn: "arn:aws:iam::123456789012:root".into(),
        principal_id: "123456789012".into(),
        region: "us-east-1".parse().unwrap(),
        request_id: "req-1".into(),
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: String::new(),
    }
}

/// The futures here are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

struct Cloud;

impl Sts for Cloud {
    fn get_caller_identity<'a>(
        &'a self,
        caller: &'a Caller,
        _input: GetCallerIdentityRequest,
    ) -> Answer<'a, CallerIdentity> {
        Box::pin(async move {
            Ok(CallerIdentity {
                user_id: caller.principal_id.clone(),
                account: caller.account.to_string(),
                arn: caller.principal_arn.clone(),
            })
        })
    }
}

impl Ec2 for Cloud {
    fn run_instances<'a>(
        &'a self,
        _caller: &'a Caller,
        input: ec2::RunInstancesRequest,
    ) -> Answer<'a, ec2::Reservation> {
        Box::pin(async move {
            assert_eq!(input.user_data, Some(Blob(b"hi".to_vec())));
            let instance = ec2::Instance {
                instance_id: "i-1".into(),
                launch_time: Timestamp::from_unix_ms(0),
                tags: input.tag_specifications[0].tags.clone(),
                ..ec2::Instance::default()
            };
            Ok(ec2::Reservation { instances: vec![instance], ..ec2::Reservation::default() })
        })
    }

    fn reboot_instances<'a>(
        &'a self,
        _caller: &'a Caller,
        _input: ec2::RebootInstancesRequest,
    ) -> Answer<'a, ec2::Return> {
        Box::pin(async { Ok(ec2::Return::TRUE) })
    }
}

impl ServiceQuotas for Cloud {}

fn ec2_call(request: &Request<'_>) -> Response {
    let caller = caller();
    match decode(&ec2::SERVICE, request) {
        Ok(call) => now(Ec2::dispatch(&Cloud, &caller, call)),
        Err(error) => encode_error(&ec2::SERVICE, &error, &caller.request_id),
    }
}

fn ec2_error(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>req-1</RequestID></Response>"
    )
}

#[test]
fn ec2_runs_an_instance() {
    let response = ec2_call(&form(
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-1&MinCount=1&MaxCount=1&UserData=aGk%3D\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name\
         &TagSpecification.1.Tag.1.Value=a%26b&ClientToken=c",
    ));
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/xml;charset=UTF-8"));
    assert_eq!(response.header("x-amzn-requestid"), Some("req-1"));
    let body = response.body;
    let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RunInstancesResponse \
                 xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>req-1</requestId><reservationId/>\
                 <ownerId/><groupSet/><instancesSet><item><instanceId>i-1</instanceId>";
    assert!(body.starts_with(start), "{body}");
    for part in [
        "<instanceState><code>0</code><name/></instanceState><privateDnsName/><dnsName/><reason/>",
        "<launchTime>1970-01-01T00:00:00.000Z</launchTime>",
        "<tagSet><item><key>Name</key><value>a&amp;b</value></item></tagSet>",
        "<productCodes/>",
        "<blockDeviceMapping/>",
        "</item></instancesSet></RunInstancesResponse>",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(!body.contains("ipAddress") && !body.contains("subnetId"), "{body}");
}

#[test]
fn ec2_answers_what_it_does_not_do() {
    let check = |body: &str, code: &str, message: &str| {
        let response = ec2_call(&form(body));
        assert_eq!((response.status, response.body), (400, ec2_error(code, message)), "{body}");
        assert_eq!(response.error_code.as_deref(), Some(code));
    };
    let unsupported = |operation: &str| format!("The operation {operation} is not supported by Nephos yet.");
    check("Action=DescribeVpcs", "UnsupportedOperation", &unsupported("DescribeVpcs"));
    check("Action=CreateFleet", "UnsupportedOperation", &unsupported("CreateFleet"));
    check("Action=MakeTea", "InvalidAction", "The action MakeTea is not valid for this web service.");
    check("Version=2016-11-15", "MissingAction", "The request must contain the parameter Action");
    check(
        "Action=RebootInstances&Version=2009-01-01",
        "NoSuchVersion",
        "The requested version (2009-01-01) of service ec2 does not exist",
    );
    check("Action=RebootInstances", "MissingParameter", "The request must contain the parameter InstanceId");
    check(
        "Action=RunInstances&ImageId=a&MinCount=1&MaxCount=1&BlockDeviceMapping.1.Ebs.Encrypted=true",
        "UnsupportedOperation",
        "The parameter BlockDeviceMapping is not supported by Nephos yet.",
    );
    check(
        "Action=RunInstances&ImageId=a&MinCount=1&MaxCount=1&EbsOptimized=false&Monitoring.Enabled=true",
        "UnsupportedOperation",
        "The parameter Monitoring.Enabled is not supported by Nephos yet.",
    );
    check(
        "Action=RebootInstances&InstanceId.1=i&X-Amz-Date=x",
        "UnknownParameter",
        "The parameter X-Amz-Date is not recognized",
    );
    check(
        "Action=RebootInstances&InstanceId.1=i&Filter.1.Bogus=%3Cx%3E",
        "UnknownParameter",
        "The parameter Filter.1.Bogus is not recognized",
    );
}

#[test]
fn a_get_and_a_mixed_request_are_legal() {
    let get = Request {
        method: "GET",
        path: "/",
        query: "Action=RebootInstances&InstanceId.1=i-1&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab",
        headers: &[],
        body: b"",
    };
    let done = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RebootInstancesResponse \
                xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>req-1</requestId>\
                <return>true</return></RebootInstancesResponse>";
    assert_eq!(ec2_call(&get).body, done);
    let mixed = Request { query: "Action=RebootInstances", ..form("InstanceId.1=i-1") };
    assert_eq!(ec2_call(&mixed).body, done);
    let twice = Request { query: "InstanceId.1=i-2", ..form("Action=RebootInstances&InstanceId.1=i-1") };
    assert_eq!(
        ec2_call(&twice).body,
        ec2_error("MalformedQueryString", "The parameter InstanceId.1 is given more than once")
    );
    let json = Request { headers: &[("content-type", "application/json")], ..form("Action=RebootInstances") };
    assert_eq!(ec2_call(&json).error_code.as_deref(), Some("MalformedQueryString"));
    assert_eq!(ec2_call(&Request { method: "PUT", ..get }).status, 400);
}

#[test]
fn sts_speaks_aws_query() {
    let caller = caller();
    let call = decode(&sts::SERVICE, &form("Action=GetCallerIdentity&Version=2011-06-15")).unwrap();
    let response = now(Sts::dispatch(&Cloud, &caller, call));
    assert_eq!(response.header("content-type"), Some("text/xml"));
    assert_eq!(
        response.body,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<GetCallerIdentityResponse \
         xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <UserId>123456789012</UserId><Account>123456789012</Account>\
         <Arn>arn:aws:iam::123456789012:root</Arn></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>req-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    );
    let call = decode(&sts::SERVICE, &form("Action=AssumeRole&Version=2011-06-15&RoleArn=x")).unwrap();
    let response = now(Sts::dispatch(&Cloud, &caller, call));
    assert_eq!(
        response.body,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse \
         xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>UnsupportedOperation</Code>\
         <Message>The operation AssumeRole is not supported by Nephos yet.</Message></Error>\
         <RequestId>req-1</RequestId></ErrorResponse>"
    );
    let receiver = encode_error(&sts::SERVICE, &ApiError::internal(), "req-1");
    assert_eq!(receiver.status, 500);
    assert!(receiver.body.contains("<Type>Receiver</Type>"));
}

fn json_request<'a>(headers: &'a [(&'a str, &'a str)], body: &'a str) -> Request<'a> {
    Request { method: "POST", path: "/", query: "", headers, body: body.as_bytes() }
}

#[test]
fn service_quotas_speaks_json() {
    let caller = caller();
    let content = ("Content-Type", "application/x-amz-json-1.1");
    let target = ("X-Amz-Target", "ServiceQuotasV20190624.GetServiceQuota");
    let body = r#"{"ServiceCode":"ec2","QuotaCode":"L-1216C47A"}"#;
    let call = decode(&service_quotas::SERVICE, &json_request(&[content, target], body)).unwrap();
    assert_eq!(call.operation, "GetServiceQuota");
    let response = now(ServiceQuotas::dispatch(&Cloud, &caller, call));
    assert_eq!(response.status, 400);
    assert_eq!(response.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(response.header("x-amzn-errortype"), Some("UnsupportedOperation"));
    assert_eq!(
        response.body,
        r#"{"__type":"UnsupportedOperation","message":"The operation GetServiceQuota is not supported by Nephos yet."}"#
    );
    let check = |headers: &[(&str, &str)], body: &str, code: &str| {
        let error = decode(&service_quotas::SERVICE, &json_request(headers, body)).unwrap_err();
        assert_eq!(error.code, code);
    };
    check(&[content, ("X-Amz-Target", "DynamoDB_20120810.PutItem")], "{}", "UnknownOperationException");
    check(&[content], "{}", "UnknownOperationException");
    check(&[target], "{}", "SerializationException");
    check(&[content, target], "[]", "SerializationException");
    let refusal = service_quotas::SERVICE.refusal("MakeTea");
    assert_eq!(refusal.code, "UnknownOperationException");
    assert_eq!(service_quotas::SERVICE.refusal("ListServices").code, "UnsupportedOperation");
    let quotas = service_quotas::ListServiceQuotasResponse::default();
    assert_eq!(encode(&service_quotas::SERVICE, "ListServiceQuotas", &quotas, "r").body, r#"{"Quotas":[]}"#);
}

#[test]
fn the_tables_name_each_operation_once() {
    for service in [&ec2::SERVICE, &sts::SERVICE, &service_quotas::SERVICE] {
        let mut names: Vec<&str> = service.unsupported.split_ascii_whitespace().collect();
        names.extend(service.operations);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{}", service.name);
    }
}

proptest! {
    #[test]
    fn no_request_panics(
        method in "GET|POST|PUT",
        query in "(Action=(RunInstances|DescribeTags|.{0,5}))?(&[A-Za-z0-9.=%&+]{0,60})?",
        body in proptest::collection::vec(any::<u8>(), 0..100),
        target in "(ServiceQuotasV20190624\\.)?.{0,10}",
    ) {
        let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
        let request = Request { method: &method, path: "/", query: &query, headers: &headers, body: &body };
        let _ = decode(&service_quotas::SERVICE, &request);
        let request = Request { headers: &[], ..request };
        let response = ec2_call(&request);
        prop_assert!(response.status == 200 || response.error_code.is_some());
    }
}
