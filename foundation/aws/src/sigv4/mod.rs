//! AWS Signature Version 4: who asks, proven. Header form and presigned form.
//!
//! In two steps, so that the caller can look the secret up between them: [`claim`] reads what the request says
//! about itself and checks all that needs no secret; [`Claim::verify`] recomputes the signature. Source: AWS,
//! "Signature Version 4 signing process", and AWS's own test vectors (see the tests).
//!
//! Stricter than a signer must be, for what is not signed can be changed by anyone on the way: `host` and every
//! `x-amz-*` header present must be signed; the body's hash is always recomputed. Chunked and unsigned payloads are
//! S3's alone and refused. Replay within the 15 minutes is possible, as it is in AWS; idempotency tokens are for it.

mod canonical;
mod key;
mod sign;

pub use key::{Scope, SigningKey, SigningKeys, secrets_equal};
pub use sign::{Credentials, sign};

use crate::protocol::Protocol;
use crate::{ApiError, Request, codes};
use base::clock::Timestamp;
use canonical::PathRule;
use std::time::Duration;

/// How far a client's clock may be from ours.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a presigned request may live.
pub const PRESIGNED_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Why a request is not who it says it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigV4Error {
    /// No signature at all.
    #[error("Request is missing Authentication Token")]
    Missing,
    /// A signature that lacks a part or has one twice; the text says which.
    #[error("{0}")]
    Incomplete(String),
    /// The credential scope is not ours; the text says what is expected.
    #[error("{0}")]
    WrongScope(String),
    /// A header that must be signed is not.
    #[error("The header `{0}` must be signed")]
    UnsignedHeader(String),
    /// The payload is unsigned or chunked, or is not the one that was signed.
    #[error("{0}")]
    Payload(&'static str),
    /// The request's time is too far from ours, or its presigned life is over.
    #[error("{0}")]
    Expired(String),
    /// The signature is not the one that we compute.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// No such access key, or the session token is not the key's.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token's life is over.
    #[error("The security token included in the request is expired")]
    TokenExpired,
}

impl SigV4Error {
    /// The error as the service's clients know it. EC2 does not tell a wrong key from a wrong signature.
    pub fn to_api(&self, protocol: Protocol) -> ApiError {
        use SigV4Error::*;
        let (ec2, query, json) = match self {
            Missing => (
                codes::MISSING_AUTHENTICATION_TOKEN,
                codes::MISSING_AUTHENTICATION_TOKEN,
                codes::MISSING_AUTHENTICATION_TOKEN_EXCEPTION,
            ),
            Incomplete(_) => (
                codes::INCOMPLETE_SIGNATURE,
                codes::INCOMPLETE_SIGNATURE,
                codes::INCOMPLETE_SIGNATURE_EXCEPTION,
            ),
            Expired(_) => {
                (codes::REQUEST_EXPIRED, codes::SIGNATURE_DOES_NOT_MATCH, codes::INVALID_SIGNATURE_EXCEPTION)
            }
            WrongScope(_) | UnsignedHeader(_) | Payload(_) => (
                codes::SIGNATURE_DOES_NOT_MATCH,
                codes::SIGNATURE_DOES_NOT_MATCH,
                codes::INVALID_SIGNATURE_EXCEPTION,
            ),
            Mismatch => {
                (codes::AUTH_FAILURE, codes::SIGNATURE_DOES_NOT_MATCH, codes::INVALID_SIGNATURE_EXCEPTION)
            }
            UnknownKey => {
                (codes::AUTH_FAILURE, codes::INVALID_CLIENT_TOKEN_ID, codes::UNRECOGNIZED_CLIENT_EXCEPTION)
            }
            TokenExpired => (codes::REQUEST_EXPIRED, codes::EXPIRED_TOKEN, codes::EXPIRED_TOKEN_EXCEPTION),
        };
        match protocol {
            Protocol::Ec2 if ec2 == codes::AUTH_FAILURE => {
                ApiError::new(ec2, "AWS was not able to validate the provided access credentials")
            }
            Protocol::Ec2 => ApiError::new(ec2, self.to_string()),
            Protocol::Query => ApiError::new(query, self.to_string()),
            Protocol::Json10 | Protocol::Json11 => ApiError::new(json, self.to_string()),
        }
    }
}

/// What a request must fit.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The region that we are. (STS and other global services are signed for a region too.)
    pub region: &'a str,
    /// The signing names that we serve: `ec2`, `sts`...
    pub services: &'a [&'a str],
    /// The time now.
    pub now: Timestamp,
}

/// What a request says about who sent it: nothing is proven until [`Claim::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The access key that signed.
    pub access_key_id: String,
    /// Day, region and service of the key.
    pub scope: Scope,
    /// When it was signed.
    pub timestamp: Timestamp,
    /// The session token sent along; it must be exactly the key's ([`secrets_equal`]).
    pub session_token: Option<String>,
    /// Whether it is the presigned form.
    pub presigned: bool,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    amz_date: String,
}

/// Reads a request's signature, and checks all of it that needs no secret.
pub fn claim(request: &Request<'_>, rules: &Rules<'_>) -> Result<Claim, SigV4Error> {
    let query = canonical::query_pairs(request.query).map_err(|error| incomplete(&error.message))?;
    let presigned = query.iter().any(|(name, _)| name == "X-Amz-Algorithm");
    let claim = match (presigned, request.header("authorization")) {
        (true, Some(_)) => {
            return Err(incomplete("The request is signed both in its header and in its query"));
        }
        (true, None) => claim_presigned(&query, rules)?,
        (false, Some(authorization)) => claim_header(request, authorization, rules)?,
        (false, None) => return Err(SigV4Error::Missing),
    };
    claim.scope_check(rules)?;
    claim.headers_check(request)?;
    payload_check(request, &query)?;
    Ok(claim)
}

fn incomplete(what: &str) -> SigV4Error {
    SigV4Error::Incomplete(what.to_owned())
}

/// `AWS4-HMAC-SHA256 Credential=KEY/DAY/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX`.
fn claim_header(request: &Request<'_>, authorization: &str, rules: &Rules<'_>) -> Result<Claim, SigV4Error> {
    if request.headers_named("authorization").count() > 1 {
        return Err(incomplete("The request has more than one Authorization header"));
    }
    let parts = authorization
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.starts_with(' '))
        .ok_or_else(|| incomplete("Authorization header requires the algorithm AWS4-HMAC-SHA256"))?;
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in parts.split(',') {
        let (name, value) = part.trim().split_once('=').unwrap_or((part, ""));
        let place = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(incomplete("Authorization header has an unknown part")),
        };
        if place.replace(value).is_some() {
            return Err(SigV4Error::Incomplete(format!("Authorization header has '{name}' twice")));
        }
    }
    let requires =
        |name| SigV4Error::Incomplete(format!("Authorization header requires '{name}' parameter."));
    let amz_date = one_header(request, "x-amz-date")?
        .ok_or_else(|| incomplete("Authorization header requires existence of a 'X-Amz-Date' header."))?;
    let claim = Claim::parse(
        credential.ok_or_else(|| requires("Credential"))?,
        signed_headers.ok_or_else(|| requires("SignedHeaders"))?,
        signature.ok_or_else(|| requires("Signature"))?,
        amz_date,
        one_header(request, "x-amz-security-token")?.map(str::to_owned),
        false,
    )?;
    let skew = claim.timestamp.since(rules.now).max(rules.now.since(claim.timestamp));
    if skew > CLOCK_SKEW_MAX {
        let (signed, now) = (&claim.amz_date, rules.now);
        let message = format!("Signature expired: {signed} is more than 15 minutes away from {now}");
        return Err(SigV4Error::Expired(message));
    }
    Ok(claim)
}

/// The presigned form: the same parts as parameters of the query.
fn claim_presigned(query: &[(String, String)], rules: &Rules<'_>) -> Result<Claim, SigV4Error> {
    let optional = |name: &str| {
        let mut values = query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(SigV4Error::Incomplete(format!("The query has '{name}' twice"))),
            (value, None) => Ok(value),
        }
    };
    let one = |name: &str| {
        let requires =
            || SigV4Error::Incomplete(format!("AWS query-string parameters must include '{name}'."));
        optional(name)?.ok_or_else(requires)
    };
    if one("X-Amz-Algorithm")? != ALGORITHM {
        return Err(incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
    }
    let life = one("X-Amz-Expires")?.parse().map(Duration::from_secs);
    let life = life.ok().filter(|life| (Duration::from_secs(1)..=PRESIGNED_LIFE_MAX).contains(life));
    let life = life.ok_or_else(|| incomplete("X-Amz-Expires must be 1 to 604800 seconds"))?;
    let claim = Claim::parse(
        one("X-Amz-Credential")?,
        one("X-Amz-SignedHeaders")?,
        one("X-Amz-Signature")?,
        one("X-Amz-Date")?,
        optional("X-Amz-Security-Token")?.map(str::to_owned),
        true,
    )?;
    if rules.now > claim.timestamp + life || claim.timestamp > rules.now + CLOCK_SKEW_MAX {
        return Err(SigV4Error::Expired(String::from("Request has expired.")));
    }
    Ok(claim)
}

/// The header of this name, which may be there once.
fn one_header<'a>(request: &Request<'a>, name: &str) -> Result<Option<&'a str>, SigV4Error> {
    let mut values = request.headers_named(name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(SigV4Error::Incomplete(format!("The request has the header '{name}' twice"))),
        (value, None) => Ok(value.map(str::trim)),
    }
}

/// A payload must be wholly signed, and be what its own header says.
fn payload_check(request: &Request<'_>, query: &[(String, String)]) -> Result<(), SigV4Error> {
    let in_query = query.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-amz-content-sha256"));
    if in_query {
        return Err(SigV4Error::Payload("X-Amz-Content-Sha256 must be a header"));
    }
    match one_header(request, "x-amz-content-sha256")? {
        None => Ok(()),
        Some(hash) if hash == canonical::sha256_hex(request.body) => Ok(()),
        Some("UNSIGNED-PAYLOAD") => Err(SigV4Error::Payload("An unsigned payload is not accepted")),
        Some(hash) if hash.starts_with("STREAMING-") => {
            Err(SigV4Error::Payload("A payload signed in chunks is not accepted"))
        }
        Some(_) => Err(SigV4Error::Payload(
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )),
    }
}

impl Claim {
    fn parse(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        amz_date: &str,
        session_token: Option<String>,
        presigned: bool,
    ) -> Result<Self, SigV4Error> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key_id, day, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(
                "Credential must be of the form <key>/<date>/<region>/<service>/aws4_request",
            ));
        };
        let sorted = signed_headers.split(';').is_sorted_by(|a, b| a < b);
        if !sorted || signed_headers.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(incomplete("SignedHeaders must be in lower case, sorted, and each there once"));
        }
        let signature = canonical::hex_decode(signature)
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| incomplete("Signature must be 64 hexadecimal digits"))?;
        let timestamp = key::amz_date_parse(amz_date)
            .ok_or_else(|| incomplete("X-Amz-Date must be in the form YYYYMMDD'T'HHMMSS'Z'"))?;
        if !amz_date.starts_with(day) || day.len() != 8 {
            return Err(SigV4Error::WrongScope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{day}' != '{amz_date}'"
            )));
        }
        Ok(Claim {
            access_key_id: access_key_id.to_owned(),
            scope: Scope { day: day.to_owned(), region: region.to_owned(), service: service.to_owned() },
            timestamp,
            session_token,
            presigned,
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature,
            amz_date: amz_date.to_owned(),
        })
    }

    fn scope_check(&self, rules: &Rules<'_>) -> Result<(), SigV4Error> {
        let (region, service) = (&self.scope.region, self.scope.service.as_str());
        if region != rules.region {
            let message = format!("Credential should be scoped to a valid region, not '{region}'.");
            return Err(SigV4Error::WrongScope(message));
        }
        if !rules.services.contains(&service) {
            let message =
                format!("Credential should be scoped to a service of this endpoint, not '{service}'.");
            return Err(SigV4Error::WrongScope(message));
        }
        Ok(())
    }

    /// `host` and all `x-amz-*` must be signed, and what is signed must be there.
    fn headers_check(&self, request: &Request<'_>) -> Result<(), SigV4Error> {
        let signed = |name: &str| self.signed_headers.iter().any(|signed| signed.eq_ignore_ascii_case(name));
        if !signed("host") {
            return Err(SigV4Error::UnsignedHeader("host".into()));
        }
        let amz = |name: &str| name.len() >= 6 && name.as_bytes()[..6].eq_ignore_ascii_case(b"x-amz-");
        if let Some((name, _)) = request.headers.iter().find(|(name, _)| amz(name) && !signed(name)) {
            return Err(SigV4Error::UnsignedHeader(name.to_ascii_lowercase()));
        }
        match self.signed_headers.iter().find(|name| request.header(name).is_none()) {
            Some(name) => Err(SigV4Error::Incomplete(format!("The signed header '{name}' is missing"))),
            None => Ok(()),
        }
    }

    /// Proves that the request was signed with `key`, the key of this claim's access key and scope.
    pub fn verify(&self, request: &Request<'_>, key: &SigningKey) -> Result<(), SigV4Error> {
        self.verify_with(request, key, PathRule::Normalize)
    }

    fn verify_with(&self, request: &Request<'_>, key: &SigningKey, rule: PathRule) -> Result<(), SigV4Error> {
        let canonical = canonical::canonical_request(request, &self.signed_headers, rule)
            .map_err(|error| incomplete(&error.message))?;
        let to_sign = canonical::string_to_sign(&self.amz_date, &self.scope, &canonical);
        let expected = key.sign(to_sign.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &self.signature)
            .map_err(|_| SigV4Error::Mismatch)
    }
}

#[cfg(test)]
mod tests;
