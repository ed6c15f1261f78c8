//! AWS's own vectors, read from where cargo put the package `aws-sigv4`; and what a verifier must refuse, which no
//! vector says.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the vectors, one folder each.
fn vectors() -> Vec<PathBuf> {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect(program);
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    // Only this platform's packages are sure to be on this machine.
    let rustc = run("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = run(
        &cargo,
        &[
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform",
            host,
            "--manifest-path",
            manifest,
        ],
    );
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "aws-sigv4");
    let manifest = package.expect("aws-sigv4 is a dependency")["manifest_path"].as_str().unwrap();
    let suite = Path::new(manifest).with_file_name("aws-signing-test-suite").join("v4");
    let mut folders: Vec<_> = fs::read_dir(suite).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Two folders without a context are signed with settings that only that crate has.
    folders.retain(|folder| folder.join("context.json").exists());
    folders.sort();
    folders
}

/// A request as text, taken apart. A header's line that starts with a space continues the one before.
struct Message {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Message {
    fn parse(text: &str) -> Message {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap();
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.rsplit_once(' ').map_or(rest, |(target, _)| target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            match line.split_once(':') {
                Some((name, value)) if !line.starts_with(' ') => headers.push((name.into(), value.into())),
                _ => headers.last_mut().unwrap().1 += &format!(" {}", line.trim()),
            }
        }
        let [method, path, query, body] = [method, path, query, body].map(str::to_owned);
        Message { method, path, query, headers, body }
    }

    fn check<T>(&self, check: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        check(&Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: self.body.as_bytes(),
        })
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{folder:?}/{name}: {error}"))
}

#[test]
fn awss_own_vectors_verify() {
    let (mut header_form, mut query_form, mut refused) = (0, 0, 0);
    for folder in vectors() {
        let context: Value = serde_json::from_str(&read(&folder, "context.json")).unwrap();
        let secret = context["credentials"]["secret_access_key"].as_str().unwrap();
        let rule = match context["normalize"].as_bool() {
            Some(false) => PathRule::Verbatim,
            _ => PathRule::Normalize,
        };
        let (region, service) = (context["region"].as_str().unwrap(), context["service"].as_str().unwrap());
        for form in ["header", "query"] {
            let message = Message::parse(&read(&folder, &format!("{form}-signed-request.txt")));
            message.check(|request| {
                let date = read(&folder, &format!("{form}-string-to-sign.txt"));
                let now = key::amz_date_parse(date.lines().nth(1).unwrap()).unwrap();
                let claim = claim(request, &Rules { region, services: &[service], now });
                if context["omit_session_token"] == true && form == "header" {
                    // The token was added after signing; we want it signed.
                    assert_eq!(claim, Err(SigV4Error::UnsignedHeader("x-amz-security-token".into())));
                    refused += 1;
                    return;
                }
                let claim = claim.unwrap_or_else(|error| panic!("{folder:?} {form}: {error}"));
                assert_eq!(claim.presigned, form == "query");
                let key = SigningKey::derive(secret, &claim.scope);
                if context["omit_session_token"] == true {
                    assert_eq!(claim.verify_with(request, &key, rule), Err(SigV4Error::Mismatch));
                    refused += 1;
                    return;
                }
                let canonical = canonical::canonical_request(request, &claim.signed_headers, rule).unwrap();
                assert_eq!(canonical, read(&folder, &format!("{form}-canonical-request.txt")), "{folder:?}");
                claim.verify_with(request, &key, rule).unwrap_or_else(|e| panic!("{folder:?} {form}: {e}"));
                *(if form == "header" { &mut header_form } else { &mut query_form }) += 1;
            });
        }
    }
    println!("vectors: {header_form} header, {query_form} query, {refused} refused as they must be");
    assert!(header_form >= 37 && query_form >= 37 && refused >= 2, "{header_form} {query_form} {refused}");
}

const CREDENTIALS: Credentials<'_> = Credentials {
    access_key_id: "AKIDEXAMPLE",
    secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    session_token: Some("token"),
    region: "us-east-1",
    service: "ec2",
};

fn noon() -> Timestamp {
    key::amz_date_parse("20260102T120000Z").unwrap()
}

/// A signed POST of `Action=DescribeInstances`.
fn signed() -> Message {
    let mut message = Message {
        method: "POST".into(),
        path: "/".into(),
        query: "b=2&a=%20".into(),
        headers: vec![("Host".into(), "localhost:4566".into())],
        body: "Action=DescribeInstances".into(),
    };
    let hash = canonical::sha256_hex(message.body.as_bytes());
    message.headers.push(("X-Amz-Content-Sha256".into(), hash));
    let added = message.check(|request| sign(request, &CREDENTIALS, noon())).unwrap();
    message.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
    message
}

fn verified_at(message: &Message, now: Timestamp) -> Result<Claim, SigV4Error> {
    message.check(|request| {
        let claim = claim(request, &Rules { region: "us-east-1", services: &["ec2", "sts"], now })?;
        let keys = SigningKeys::new(4);
        claim.verify(request, &keys.get(&claim.access_key_id, CREDENTIALS.secret, &claim.scope))?;
        Ok(claim)
    })
}

fn changed(change: impl FnOnce(&mut Message)) -> Result<Claim, SigV4Error> {
    let mut message = signed();
    change(&mut message);
    verified_at(&message, noon())
}

fn header<'a>(message: &'a mut Message, name: &str) -> &'a mut String {
    &mut message.headers.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)).unwrap().1
}

#[test]
fn what_we_sign_verifies_and_any_change_does_not() {
    let claim = verified_at(&signed(), noon()).unwrap();
    assert_eq!((claim.access_key_id.as_str(), claim.presigned), ("AKIDEXAMPLE", false));
    assert_eq!(claim.scope.to_string(), "20260102/us-east-1/ec2/aws4_request");
    assert_eq!((claim.session_token.as_deref(), claim.timestamp), (Some("token"), noon()));
    assert_eq!(changed(|m| m.query = "a=+&b=2".into()), Ok(claim), "the same parameters in other words");

    assert_eq!(changed(|m| m.method = "GET".into()), Err(SigV4Error::Mismatch));
    assert_eq!(changed(|m| m.query = "a=%2B&b=2".into()), Err(SigV4Error::Mismatch));
    assert_eq!(changed(|m| m.path = "/x".into()), Err(SigV4Error::Mismatch));
    assert_eq!(changed(|m| *header(m, "host") = "evil".into()), Err(SigV4Error::Mismatch));
    assert_eq!(changed(|m| *header(m, "x-amz-security-token") = "t".into()), Err(SigV4Error::Mismatch));
    assert_eq!(changed(|m| *header(m, "x-amz-date") = "20260102T120001Z".into()), Err(SigV4Error::Mismatch));
    assert!(matches!(changed(|m| m.body.push('x')), Err(SigV4Error::Payload(_))));
    let both = |m: &mut Message| {
        m.body.push('x');
        *header(m, "x-amz-content-sha256") = canonical::sha256_hex(m.body.as_bytes());
    };
    assert_eq!(changed(both), Err(SigV4Error::Mismatch));
    for hash in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x"] {
        let result = changed(|m| *header(m, "x-amz-content-sha256") = hash.into());
        assert!(matches!(result, Err(SigV4Error::Payload(_))), "{hash}");
    }
}

#[test]
fn what_is_not_signed_is_refused() {
    let target = ("X-Amz-Target".to_owned(), "x".to_owned());
    let unsigned = changed(|m| m.headers.push(target));
    assert_eq!(unsigned, Err(SigV4Error::UnsignedHeader("x-amz-target".into())));
    let hostless = changed(|m| {
        let value = header(m, "authorization");
        *value = value.replace("SignedHeaders=host;", "SignedHeaders=");
    });
    assert_eq!(hostless, Err(SigV4Error::UnsignedHeader("host".into())));
    assert_eq!(changed(|m| m.headers.retain(|(name, _)| name != "authorization")), Err(SigV4Error::Missing));
    let twice = changed(|m| m.headers.push(m.headers[m.headers.len() - 1].clone()));
    assert!(matches!(twice, Err(SigV4Error::Incomplete(_))));
    let replaced = |from: &str, to: &str| {
        changed(|m| {
            let value = header(m, "authorization");
            assert!(value.contains(from), "{from}");
            *value = value.replace(from, to);
        })
    };
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("aws4_request", "aws5_request"),
        ("Credential=", "Credentials="),
        ("Signature=", "Signature=A"),
        ("host;x-amz-content-sha256", "x-amz-content-sha256;host"),
        ("SignedHeaders=host", "SignedHeaders=gone;host"),
        (", SignedHeaders", ", Signature=a, SignedHeaders"),
    ] {
        assert!(matches!(replaced(from, to), Err(SigV4Error::Incomplete(_))), "{from} -> {to}");
    }
    for (from, to) in [("/us-east-1/", "/us-west-1/"), ("/ec2/", "/s3/"), ("/20260102/", "/20260103/")] {
        assert!(matches!(replaced(from, to), Err(SigV4Error::WrongScope(_))), "{from} -> {to}");
    }
    assert_eq!(replaced("/ec2/", "/sts/"), Err(SigV4Error::Mismatch));
}

#[test]
fn time_has_two_edges() {
    let at = |minutes: i64| {
        let ms = noon().unix_ms() as i64 + minutes * 60_000;
        verified_at(&signed(), Timestamp::from_unix_ms(ms as u64)).map(|_| ())
    };
    assert_eq!((at(-15), at(15)), (Ok(()), Ok(())));
    assert!(matches!((at(-16), at(16)), (Err(SigV4Error::Expired(_)), Err(SigV4Error::Expired(_)))));
    for text in ["", "20260102T120000", "+026010112:00:00Z", "20261302T120000Z", "20260102T250000Z"] {
        assert_eq!(key::amz_date_parse(text), None, "{text}");
    }
}

#[test]
fn each_service_has_its_own_codes() {
    let code = |error: &SigV4Error, protocol| error.to_api(protocol).code.into_owned();
    assert_eq!(code(&SigV4Error::Mismatch, Protocol::Ec2), "AuthFailure");
    assert_eq!(code(&SigV4Error::Mismatch, Protocol::Query), "SignatureDoesNotMatch");
    assert_eq!(code(&SigV4Error::UnknownKey, Protocol::Ec2), "AuthFailure");
    assert_eq!(code(&SigV4Error::UnknownKey, Protocol::Query), "InvalidClientTokenId");
    assert_eq!(code(&SigV4Error::UnknownKey, Protocol::Json11), "UnrecognizedClientException");
    assert_eq!(SigV4Error::Mismatch.to_api(Protocol::Ec2).status, 401);
    let (unknown, wrong) =
        (SigV4Error::UnknownKey.to_api(Protocol::Ec2), SigV4Error::Mismatch.to_api(Protocol::Ec2));
    assert_eq!(unknown, wrong, "EC2 does not tell whether a key exists");
}

#[test]
fn kept_keys_are_bounded_and_never_of_another_secret() {
    let keys = SigningKeys::new(2);
    let scope = |day: u32| Scope { day: day.to_string(), region: "r".into(), service: "s".into() };
    for day in 0..100 {
        let kept = keys.get("a", "one", &scope(day)).sign(b"x");
        assert_eq!(kept, SigningKey::derive("one", &scope(day)).sign(b"x"));
        assert_eq!(kept, keys.get("a", "one", &scope(day)).sign(b"x"));
    }
    assert!(keys.len() <= 4);
    assert_eq!(keys.get("a", "two", &scope(99)).sign(b"x"), SigningKey::derive("two", &scope(99)).sign(b"x"));
    assert!(secrets_equal("a", "a") && !secrets_equal("a", "b") && !secrets_equal("a", "aa"));
}

proptest! {
    #[test]
    fn no_signature_panics(authorization in "(AWS4-HMAC-SHA256 )?.{0,80}", query in "(X-Amz-[A-Za-z]{4,9}=.{0,9}&?){0,6}", date in "[0-9TZ]{16}|.{0,20}") {
        let headers = [("host", "h"), ("authorization", authorization.as_str()), ("x-amz-date", date.as_str())];
        for query in ["", &query] {
            let request = Request { method: "POST", path: "/%", query, headers: &headers, body: b"" };
            let _ = claim(&request, &Rules { region: "r", services: &["s"], now: noon() });
            let request = Request { headers: &headers[..1], ..request };
            let _ = claim(&request, &Rules { region: "r", services: &["s"], now: noon() });
        }
    }
}
