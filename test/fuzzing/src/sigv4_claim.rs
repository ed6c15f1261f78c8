//! Signatures: what nobody signed is never proven, what was signed is, and any change afterwards is seen.
//!
//! Input, line by line: method, path, query, headers as `name: value`, an empty line; then the body.

use crate::input::Input;
use aws::Request;
use aws::sigv4::{Credentials, Rules, Scope, SigningKey, claim, sign};
use base::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_unix_ms(1_767_323_045_000);
const SECRET: &str = "a secret that no input knows";
const RULES: Rules<'_> = Rules { region: "us-east-1", services: &["ec2", "sts", "servicequotas"], now: NOW };

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(['\r', '\0'], "");
    let (method, path, query) = (text(input.line()), text(input.line()), text(input.line()));
    let mut headers = Vec::new();
    while !input.is_empty() {
        let line = text(input.line());
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let body = input.rest();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let request = Request { method: &method, path: &path, query: &query, headers: &headers, body };
    if let Ok(claim) = claim(&request, &RULES) {
        let key = SigningKey::derive(SECRET, &claim.scope);
        assert!(claim.verify(&request, &key).is_err(), "nobody knows the secret");
    }
    round_trip(&request);
}

/// Signs the request and looks at it, whole and changed.
fn round_trip(request: &Request<'_>) {
    // What the signer adds itself, and what an HTTP library would not let through as a header's name.
    let ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-amz-") || name == "authorization" || name == "host"
    };
    let token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let mut headers = vec![("Host", "localhost:4566")];
    headers.extend(request.headers.iter().filter(|(name, _)| token(name) && !ours(name)));
    let decoded = percent_encoding::percent_decode_str(request.query).decode_utf8_lossy();
    if decoded.to_ascii_lowercase().contains("x-amz-") {
        return;
    }
    let bare = Request { headers: &headers, ..*request };
    let credentials = Credentials {
        access_key_id: "AKIAEXAMPLE",
        secret: SECRET,
        session_token: None,
        region: RULES.region,
        service: "ec2",
    };
    let Ok(added) = sign(&bare, &credentials, NOW) else { return };
    let mut signed = headers.clone();
    signed.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    let whole = Request { headers: &signed, ..bare };
    let proven = |request: &Request<'_>| {
        let claim = claim(request, &RULES)?;
        let scope = Scope { day: claim.scope.day.clone(), region: "us-east-1".into(), service: "ec2".into() };
        claim.verify(request, &SigningKey::derive(SECRET, &scope))
    };
    assert_eq!(proven(&whole), Ok(()), "{whole:?}");

    let mut body = whole.body.to_vec();
    match body.len() {
        0 => body.push(0),
        length => body[length / 2] ^= 1,
    }
    assert!(proven(&Request { body: &body, ..whole }).is_err(), "another body");
    let method = format!("{}X", whole.method);
    assert!(proven(&Request { method: &method, ..whole }).is_err(), "another method");
    let path = format!("{}/more", whole.path);
    assert!(proven(&Request { path: &path, ..whole }).is_err(), "another path");
    let query = format!("{}&more=1", whole.query);
    assert!(proven(&Request { query: &query, ..whole }).is_err(), "another query");
    let mut other = signed.clone();
    other[0].1 = "localhost:4567";
    assert!(proven(&Request { headers: &other, ..whole }).is_err(), "another host");
    other = signed.clone();
    other.push(("x-amz-more", "1"));
    assert!(proven(&Request { headers: &other, ..whole }).is_err(), "a header that nobody signed");
}
