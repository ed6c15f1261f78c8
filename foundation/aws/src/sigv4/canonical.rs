//! The canonical request: the one text that signer and verifier hash.
//!
//! ```text
//! POST                      method
//! /                         path, percent-encoded once more than it was sent
//! a=1&b=2                   query, decoded, encoded again, sorted; without X-Amz-Signature
//! host:example.com          each signed header: lower case, trimmed, inner spaces as one
//!
//! host;x-amz-date           their names
//! e3b0c442...               SHA-256 of the body
//! ```

use super::{ALGORITHM, Scope};
use crate::protocol::query::percent_decode;
use crate::{ApiError, Request};
use aws_lc_rs::digest::{SHA256, digest};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write;

/// RFC 3986's unreserved characters stay.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// What is done to the path before it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathRule {
    /// `.`, `..` and doubled slashes are resolved: every service but S3.
    Normalize,
    /// Left as it is: S3's rule. Here only AWS's test vectors want it.
    #[cfg_attr(not(test), expect(dead_code))]
    Verbatim,
}

/// The query's parameters, decoded.
pub(super) fn query_pairs(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((percent_decode(name)?, percent_decode(value)?))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

pub(super) fn canonical_request(
    request: &Request<'_>,
    signed_headers: &[String],
    rule: PathRule,
) -> Result<String, ApiError> {
    let mut text = format!("{}\n{}\n", request.method, canonical_path(request.path, rule));
    text.push_str(&canonical_query(request.query)?);
    text.push('\n');
    for name in signed_headers {
        text.push_str(name);
        text.push(':');
        for (index, value) in request.headers_named(name).enumerate() {
            if index > 0 {
                text.push(',');
            }
            for (index, word) in value.split_ascii_whitespace().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(word);
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed_headers.join(";"));
    text.push('\n');
    text.push_str(&sha256_hex(request.body));
    Ok(text)
}

fn canonical_path(path: &str, rule: PathRule) -> String {
    let encode = |path: &str| utf8_percent_encode(path, PATH).to_string();
    match rule {
        PathRule::Verbatim if path.is_empty() => "/".into(),
        PathRule::Verbatim => encode(path),
        PathRule::Normalize => {
            let mut segments: Vec<&str> = Vec::new();
            for segment in path.split('/') {
                match segment {
                    "" | "." => {}
                    ".." => drop(segments.pop()),
                    other => segments.push(other),
                }
            }
            let tail = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
            encode(&format!("/{}{tail}", segments.join("/")))
        }
    }
}

fn canonical_query(query: &str) -> Result<String, ApiError> {
    let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut pairs: Vec<(String, String)> = query_pairs(query)?
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(pairs.join("&"))
}

/// What the signature signs.
pub(super) fn string_to_sign(amz_date: &str, scope: &Scope, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{amz_date}\n{scope}\n{}", sha256_hex(canonical_request.as_bytes()))
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lower-case hexadecimal digits, as signers write them.
pub(super) fn hex_decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
