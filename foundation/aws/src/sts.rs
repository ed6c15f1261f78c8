//! The Security Token Service: who am I.

use crate::{Shape, service};

service! {
    /// AWS STS, version 2011-06-15.
    pub trait Sts in SERVICE {
        name: "sts", protocol: Query, version: "2011-06-15",
        namespace: "https://sts.amazonaws.com/doc/2011-06-15/", target_prefix: "",
        unsupported: "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot
            DecodeAuthorizationMessage GetAccessKeyInfo GetDelegatedAccessToken GetFederationToken
            GetSessionToken GetWebIdentityToken",
    }
    GetCallerIdentity => get_caller_identity(GetCallerIdentityRequest) -> CallerIdentity;
}

/// The input of GetCallerIdentity: nothing.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct GetCallerIdentityRequest {}

/// The answer of GetCallerIdentity.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CallerIdentity {
    /// `AIDA...`, or the account number for its root.
    pub user_id: String,
    /// The account's twelve digits.
    pub account: String,
    /// The principal's name: `arn:aws:iam::123456789012:user/name`.
    pub arn: String,
}
