//! Who asks: the SigV4 signature, checked against the account's secret.

use aws::service::{Caller, ServiceTable};
use aws::sigv4::{Rules, SigV4Error, SigningKeys, claim};
use aws::{ApiError, Request};
use base::clock::Timestamp;
use base::ids::{AccountId, RegionName};
use std::net::IpAddr;

/// What is known of an access key.
#[derive(Clone)]
pub struct Credential {
    /// Whose it is.
    pub account: AccountId,
    /// What signatures are made with.
    pub secret_access_key: String,
    /// `arn:aws:iam::123456789012:root`
    pub principal_arn: String,
    /// The account's number for its root.
    pub principal_id: String,
}

/// Where secrets are looked up. Called for every request: answered from memory.
pub trait CredentialSource: Send + Sync {
    /// The key's credential, if there is such a key.
    fn find(&self, access_key_id: &str) -> Option<Credential>;
}

/// The service that the request's credential scope names, before anything about it is proven: it decides in which
/// form even a refusal is written.
pub(crate) fn service_of<'a>(
    request: &Request<'_>,
    services: &[&'a ServiceTable],
) -> Option<&'a ServiceTable> {
    let credential = match request.header("authorization") {
        Some(header) => header.split("Credential=").nth(1)?.split(',').next()?.to_owned(),
        None => {
            let pair = request.query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
            pair.replace("%2F", "/").replace("%2f", "/")
        }
    };
    let name = credential.split('/').nth(3)?;
    services.iter().copied().find(|service| service.name == name)
}

/// Proves who asks.
pub(crate) fn authenticate(
    request: &Request<'_>,
    service: &'static ServiceTable,
    region: &RegionName,
    source: &dyn CredentialSource,
    keys: &SigningKeys,
    now: Timestamp,
) -> Result<(Credential, String), ApiError> {
    let refuse = |error: SigV4Error| error.to_api(service.protocol);
    let rules = Rules { region: region.as_str(), services: &[service.name], now };
    let claim = claim(request, &rules).map_err(refuse)?;
    let credential = source.find(&claim.access_key_id).ok_or_else(|| refuse(SigV4Error::UnknownKey))?;
    // Long-lived keys have no session token: one that is sent along is not the key's.
    if claim.session_token.is_some() {
        return Err(refuse(SigV4Error::UnknownKey));
    }
    let key = keys.get(&claim.access_key_id, &credential.secret_access_key, &claim.scope);
    claim.verify(request, &key).map_err(refuse)?;
    Ok((credential, claim.access_key_id))
}

/// The caller, once proven.
pub(crate) fn caller(
    credential: Credential,
    access_key_id: String,
    region: &RegionName,
    request: &Request<'_>,
    request_id: String,
    source_ip: IpAddr,
) -> Caller {
    Caller {
        account: credential.account,
        access_key_id,
        principal_arn: credential.principal_arn,
        principal_id: credential.principal_id,
        region: region.clone(),
        request_id,
        source_ip,
        user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
    }
}
