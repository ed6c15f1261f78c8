//! Signing in the header form: for tests, and for tools that call the API without an SDK.

use super::canonical::{self, PathRule};
use super::key::amz_date;
use super::{ALGORITHM, Scope, SigningKey};
use crate::{ApiError, Request};
use base::clock::Timestamp;

/// What to sign with, and for where.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The access key.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret: &'a str,
    /// The session token, if the key is a temporary one.
    pub session_token: Option<&'a str>,
    /// `us-east-1`.
    pub region: &'a str,
    /// `ec2`.
    pub service: &'a str,
}

/// The headers to add to `request`, which has its `host` already. An error only if its query cannot be read.
pub fn sign(
    request: &Request<'_>,
    credentials: &Credentials<'_>,
    now: Timestamp,
) -> Result<Vec<(&'static str, String)>, ApiError> {
    let date = amz_date(now);
    let scope = Scope {
        day: date[..8].to_owned(),
        region: credentials.region.to_owned(),
        service: credentials.service.to_owned(),
    };
    let mut added = vec![("x-amz-date", date.clone())];
    added.extend(credentials.session_token.map(|token| ("x-amz-security-token", token.to_owned())));
    let mut headers = request.headers.to_vec();
    headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    names.dedup();
    let request = Request { headers: &headers, ..*request };
    let canonical = canonical::canonical_request(&request, &names, PathRule::Normalize)?;
    let to_sign = canonical::string_to_sign(&date, &scope, &canonical);
    let signature = SigningKey::derive(credentials.secret, &scope).sign(to_sign.as_bytes());
    let (key, names, signature) = (credentials.access_key_id, names.join(";"), canonical::hex(&signature));
    let authorization =
        format!("{ALGORITHM} Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}");
    added.push(("authorization", authorization));
    Ok(added)
}
