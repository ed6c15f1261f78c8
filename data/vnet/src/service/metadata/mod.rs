//! The instance metadata service, versions 1 and 2: from a request to a response.
//!
//! Source: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata": a token is asked for with
//! `PUT /latest/api/token`, its life in `X-aws-ec2-metadata-token-ttl-seconds`, and sent in `X-aws-ec2-metadata-token`;
//! a PUT that came through a proxy (`X-Forwarded-For`) is refused; statuses are 400 (the PUT is not valid), 401 (the
//! token is not), 403 (not allowed, or the service is switched off) and 404.
//!
//! Deliberately absent until it is built elsewhere: role credentials (`iam/`) and the identity document's signatures.

pub mod http;
pub mod token;
mod tree;

use super::Now;
use super::facts::PortFacts;
use base::random::Random;
use http::{Request, Response};
use token::TokenKey;
use tree::Node;

const TOKEN_PATH: &str = "/latest/api/token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// The response to a request of the port's instance.
pub(super) fn answer(
    request: &Request,
    now: Now,
    facts: &PortFacts,
    key: &TokenKey,
    random: &mut Random,
) -> Response {
    let Some(instance) = &facts.instance else { return Response::error(404) };
    let options = instance.options;
    if !options.endpoint {
        return Response::error(403);
    }
    let now_unix_s = now.unix_ns / 1_000_000_000;
    match request.method.as_str() {
        "PUT" if request.header("x-forwarded-for").is_some() => Response::error(403),
        "PUT" if request.path == TOKEN_PATH => match ttl(request) {
            None => Response::error(400),
            Some(ttl_s) => Response {
                token_ttl_s: Some(ttl_s),
                hop_limit: Some(options.hop_limit.clamp(1, 64)),
                ..Response::text(key.issue(random, now_unix_s, ttl_s, &instance.instance_id))
            },
        },
        "GET" | "HEAD" => {
            let left_s = match request.header(TOKEN_HEADER) {
                None if options.tokens_required => return Response::error(401),
                None => None,
                Some(token) => match key.check(token, now_unix_s, &instance.instance_id) {
                    None => return Response::error(401),
                    left_s => left_s,
                },
            };
            let found = read(instance, &request.path).unwrap_or_else(|| Response::error(404));
            Response { token_ttl_s: left_s, ..found }
        }
        _ => Response::error(405),
    }
}

/// How long a token is to live: 1 second to six hours.
fn ttl(request: &Request) -> Option<u64> {
    let text = request.header(TTL_HEADER)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|ttl_s| digits && (1..=token::TTL_S_MAX).contains(ttl_s))
}

fn read(instance: &super::facts::InstanceFacts, path: &str) -> Option<Response> {
    let path = decoded(path)?;
    let slash = path.ends_with('/');
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let Some(version) = parts.next() else { return Some(Response::text(tree::VERSIONS.join("\n"))) };
    let parts: Vec<&str> = parts.collect();
    match tree::read(instance, version, &parts, slash)? {
        Node::Directory(names) => Some(Response::text(names.join("\n"))),
        Node::Leaf(value) if parts == ["user-data"] => {
            Some(Response { content_type: "application/octet-stream", ..Response::text(value) })
        }
        Node::Leaf(value) => Some(Response::text(value)),
    }
}

/// Without percent-encoding, which a tag's key can need.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, more) = more.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
