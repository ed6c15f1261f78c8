//! Bad input of every kind: AWS's code, a message that says what was wrong, and a region that does not mind.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use testbed::{Options, Testbed};

const RUN: &str = "ImageId='nephos-linux', InstanceType='t3.micro', MinCount=1, MaxCount=1";

#[test]
fn bad_input_is_refused_with_aws_codes_and_kills_nothing() {
    let mut options = Options::simulated(1);
    options.vcpus_per_account = 4;
    let cloud = Testbed::start(options);
    let processes = cloud.roles();
    requests_that_name_what_is_not_there(&cloud);
    launches_that_cannot_be(&cloud);
    networks_that_nobody_carries(&cloud);
    signatures_that_do_not_hold(&cloud);
    parameters_that_are_not_known(&cloud);
    bytes_that_are_no_request(&cloud);
    let identity = cloud.boto3("return sts.get_caller_identity()['Account']");
    assert_eq!(identity.as_str().map(str::len), Some(12));
    assert_eq!(cloud.roles(), processes, "a process was started again, so it had died");
}

/// The code, and words that the message must have.
fn refused(cloud: &Testbed, script: &str, code: &str, words: &[&str]) {
    let refusal = cloud.boto3_refused(script);
    assert_eq!(refusal.code, code, "{script}: {refusal:?}");
    for word in words {
        assert!(refusal.message.contains(word), "{script}: {word:?} is not in {refusal:?}");
    }
}

/// Guests have no network card: what would have no effect is not answered as if it had, and no address is invented.
fn networks_that_nobody_carries(cloud: &Testbed) {
    for script in [
        "ec2.create_vpc(CidrBlock='10.0.0.0/16')",
        "ec2.create_security_group(GroupName='web', Description='web')",
        "ec2.allocate_address()",
        "ec2.describe_network_interfaces()",
    ] {
        refused(cloud, script, "UnsupportedOperation", &["no network card"]);
    }
    let launched = cloud.boto3(&format!("return ec2.run_instances({RUN})['Instances'][0]"));
    assert_eq!(launched["NetworkInterfaces"], json!([]));
    assert!(launched.get("PrivateIpAddress").is_none() && launched.get("SubnetId").is_some(), "{launched}");
    cloud.boto3(&format!("ec2.terminate_instances(InstanceIds=[{}])", launched["InstanceId"]));
}

fn requests_that_name_what_is_not_there(cloud: &Testbed) {
    let describe = |id: &str| format!("ec2.describe_instances(InstanceIds=['{id}'])");
    for malformed in ["i-xyz", "banana", "i-0123456789ABCDEF0", "i-"] {
        refused(cloud, &describe(malformed), "InvalidInstanceID.Malformed", &[malformed]);
    }
    let absent = "i-0123456789abcdef0";
    refused(cloud, &describe(absent), "InvalidInstanceID.NotFound", &[absent]);
    for operation in ["stop", "start", "terminate", "reboot"] {
        let script = format!("ec2.{operation}_instances(InstanceIds=['{absent}'])");
        refused(cloud, &script, "InvalidInstanceID.NotFound", &[absent]);
    }
    let script = format!("ec2.get_console_output(InstanceId='{absent}')");
    refused(cloud, &script, "InvalidInstanceID.NotFound", &[absent]);
    let run = |what: &str| format!("ec2.run_instances({what}, MinCount=1, MaxCount=1)");
    let image = "ami-0123456789abcdef0";
    let script = run(&format!("ImageId='{image}', InstanceType='t3.micro'"));
    refused(cloud, &script, "InvalidAMIID.NotFound", &[image]);
    let script = run("ImageId='ami-zzz', InstanceType='t3.micro'");
    refused(cloud, &script, "InvalidAMIID.Malformed", &["ami-zzz"]);
    let script = run("ImageId='nephos-linux', InstanceType='t9.giant'");
    refused(cloud, &script, "InvalidParameterValue", &["t9.giant"]);
    let script = run("ImageId='nephos-linux', InstanceType='t3.micro', KeyName='nobody'");
    refused(cloud, &script, "InvalidKeyPair.NotFound", &["nobody"]);
    let script =
        run("ImageId='nephos-linux', InstanceType='t3.micro', Placement={'AvailabilityZone': 'us-east-1x'}");
    refused(cloud, &script, "InvalidParameterValue", &["us-east-1x"]);
    let script = "ec2.describe_instances(Filters=[{'Name': 'colour', 'Values': ['red']}])";
    refused(cloud, script, "InvalidParameterValue", &["colour"]);
    refused(cloud, "ec2.describe_instances(NextToken='forged')", "InvalidNextToken", &[]);
}

fn launches_that_cannot_be(cloud: &Testbed) {
    let script = "ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=2, MaxCount=1)";
    refused(cloud, script, "InvalidParameterValue", &["minCount (2)", "maxCount (1)"]);
    let script = "ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.micro', MinCount=3, MaxCount=3)";
    // Three of two vCPUs each, where four may be had.
    refused(cloud, script, "VcpuLimitExceeded", &["4"]);
    refused(cloud, &format!("ec2.run_instances({RUN}, DryRun=True)"), "DryRunOperation", &[]);
    // One token for two different launches.
    cloud.boto3(&format!("ec2.run_instances({RUN}, ClientToken='bad-input')"));
    let script = "ec2.run_instances(ImageId='nephos-linux', InstanceType='t3.small', MinCount=1, MaxCount=1, \
                  ClientToken='bad-input')";
    refused(cloud, script, "IdempotentParameterMismatch", &["bad-input"]);
}

/// Sends what no client would send: the status, and the body.
fn raw(cloud: &Testbed, call: &str) -> (u64, String) {
    let answer = cloud.boto3(&format!("return raw({call})"));
    (answer["status"].as_u64().unwrap_or(0), answer["body"].as_str().unwrap_or_default().to_owned())
}

fn raw_refused(cloud: &Testbed, call: &str, status: u64, code: &str, words: &[&str]) {
    let (has, body) = raw(cloud, call);
    assert_eq!(has, status, "{call}: {body}");
    assert!(body.contains(&format!("<Code>{code}</Code>")), "{call}: {body}");
    for word in words {
        assert!(body.contains(word), "{call}: {word:?} is not in {body}");
    }
}

const REGIONS: &str = "{'Action': 'DescribeRegions', 'Version': '2016-11-15'}";

fn signatures_that_do_not_hold(cloud: &Testbed) {
    let (status, body) = raw(cloud, REGIONS);
    assert_eq!(status, 200, "what the others are changed from is right: {body}");
    // EC2 has one code for unknown keys and wrong signatures.
    let validate = &["not able to validate the provided access credentials"];
    raw_refused(cloud, &format!("{REGIONS}, secret='wrong'"), 401, "AuthFailure", validate);
    raw_refused(cloud, &format!("{REGIONS}, key='AKIAIOSFODNN7EXAMPLE'"), 401, "AuthFailure", validate);
    let call = format!("{REGIONS}, tamper=b'Action=DescribeRegionz&Version=2016-11-15'");
    raw_refused(cloud, &call, 401, "AuthFailure", validate);
    let caller = "{'Action': 'GetCallerIdentity', 'Version': '2011-06-15'}, service='sts'";
    raw_refused(cloud, &format!("{caller}, secret='wrong'"), 403, "SignatureDoesNotMatch", &[]);
    for skew_s in [-3600, 3600] {
        let call = format!("{REGIONS}, skew_s={skew_s}");
        raw_refused(cloud, &call, 400, "RequestExpired", &[]);
    }
    raw_refused(cloud, &format!("{REGIONS}, sign=False"), 403, "MissingAuthenticationToken", &[]);
    // The same in a query string, as GET.
    let (status, body) = raw(cloud, &format!("b'', method='GET', query={REGIONS}"));
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("us-east-1"), "{body}");
}

fn parameters_that_are_not_known(cloud: &Testbed) {
    let call = "{'Action': 'DescribeRegions', 'Version': '2016-11-15', 'Nonsense': '1'}";
    raw_refused(cloud, call, 400, "UnknownParameter", &["Nonsense"]);
    raw_refused(cloud, "{'Action': 'MakeCoffee', 'Version': '2016-11-15'}", 400, "InvalidAction", &[]);
    raw_refused(
        cloud,
        "{'Action': 'RunInstances', 'Version': '2016-11-15', 'MinCount': 'many', 'MaxCount': '1', \
          'ImageId': 'nephos-linux'}",
        400,
        "InvalidParameterValue",
        &["many"],
    );
    raw_refused(cloud, "{'Action': 'RunInstances', 'Version': '2016-11-15'}", 400, "MissingParameter", &[]);
    // What AWS has and this does not.
    let script = format!("ec2.run_instances({RUN}, IamInstanceProfile={{'Name': 'role'}})");
    refused(cloud, &script, "UnsupportedOperation", &["IamInstanceProfile"]);
    refused(cloud, "ec2.create_volume(AvailabilityZone='us-east-1a', Size=1)", "UnsupportedOperation", &[]);
}

fn bytes_that_are_no_request(cloud: &Testbed) {
    let large = "b'Action=DescribeRegions&Version=2016-11-15&Filler=' + b'x' * 10_000_000";
    let (status, body) = raw(cloud, large);
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("larger"), "{body}");
    raw_refused(cloud, "b'\\xff\\xfe=%zz&&&===', sign=True", 400, "MalformedQueryString", &[]);

    let address = cloud.address();
    let connect = || {
        let stream = TcpStream::connect(&address).expect("the API takes connections");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a bound can be set");
        stream
    };
    // Half a request, then nobody.
    let mut half = connect();
    half.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAction=Desc")
        .expect("it is sent");
    half.shutdown(Shutdown::Both).expect("a connection can be closed");
    // Half a request, and silence: it must not keep others waiting, so it stays open to the end of this.
    let mut silent = connect();
    silent.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le").expect("it is sent");
    // No HTTP at all: an answer that says so, or the end of the connection, but an end.
    for garbage in [&b"\x00\x01\x02\xff\xfe\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"HELLO\r\n\r\n"] {
        let mut stream = connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    let zones: Value = cloud.boto3("return len(ec2.describe_availability_zones()['AvailabilityZones'])");
    assert_eq!(zones, json!(1));
    drop(silent);
}
