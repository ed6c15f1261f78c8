//! What a service is: a table of operations, a trait with one method for each, and the way from a [`Call`] to it.
//!
//! [`service!`](crate::service!) makes the trait from the table. A method that is not overridden answers
//! `UnsupportedOperation`; so does an operation that only AWS has (the table's `unsupported` names); a name that AWS
//! does not have answers `InvalidAction` (query) or `UnknownOperationException` (JSON). Never an empty success.

use crate::protocol::{self, Call, Protocol};
use crate::shape::{Path, Shape};
use crate::{ApiError, Response, codes};
use base::ids::{AccountId, RegionName};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

/// The future answer of an operation.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// The future answer of an operation, encoded: never an error, for errors are encoded too.
pub type Encoded<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

/// Who asks, as the gateway established it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account that the request acts in.
    pub account: AccountId,
    /// The access key that signed.
    pub access_key_id: String,
    /// `arn:aws:iam::123456789012:user/name`.
    pub principal_arn: String,
    /// `AIDA...`, or the account number for its root.
    pub principal_id: String,
    /// The region asked.
    pub region: RegionName,
    /// Unique to this request; in the answer, the log and the audit.
    pub request_id: String,
    /// The address that the request came from.
    pub source_ip: IpAddr,
    /// The client's own description of itself; empty if it sent none.
    pub user_agent: String,
}

/// What is fixed about a service.
#[derive(Debug)]
pub struct ServiceTable {
    /// The name in a credential scope, and of the service's actions in policies: `ec2`.
    pub name: &'static str,
    /// How it speaks.
    pub protocol: Protocol,
    /// Its API version: `2016-11-15`.
    pub version: &'static str,
    /// The XML namespace of its answers; empty for JSON.
    pub namespace: &'static str,
    /// What stands before the dot in `X-Amz-Target`; empty for query.
    pub target_prefix: &'static str,
    /// Operations that the trait has a method for.
    pub operations: &'static [&'static str],
    /// Operations that AWS has and the trait does not, separated by white space.
    pub unsupported: &'static str,
}

impl ServiceTable {
    /// The error for an operation that the trait has no method for.
    pub fn refusal(&self, operation: &str) -> ApiError {
        if self.unsupported.split_ascii_whitespace().any(|name| name == operation) {
            return ApiError::unsupported_operation(operation);
        }
        let shown: String = operation.chars().take(128).collect();
        let code =
            if self.protocol.is_json() { codes::UNKNOWN_OPERATION_EXCEPTION } else { codes::INVALID_ACTION };
        ApiError::new(code, format!("The action {shown} is not valid for this web service."))
    }
}

/// Reads the input of `call`, asks `operation` with it, and encodes what comes. Used by the macro's code.
pub fn perform<'a, I: Shape, O: Shape + 'a>(
    service: &'static ServiceTable,
    operation: &'static str,
    caller: &'a Caller,
    call: Call,
    method: impl FnOnce(I) -> Answer<'a, O>,
) -> Encoded<'a> {
    match I::read(call.parameters, &Path::root(service.protocol)) {
        Err(error) => refuse(service, caller, error),
        Ok(input) => {
            let answer = method(input);
            Box::pin(async move {
                match answer.await {
                    Ok(output) => protocol::encode(service, operation, &output, &caller.request_id),
                    Err(error) => protocol::encode_error(service, &error, &caller.request_id),
                }
            })
        }
    }
}

/// The encoded error, as a future. Used by the macro's code.
pub fn refuse<'a>(service: &'static ServiceTable, caller: &'a Caller, error: ApiError) -> Encoded<'a> {
    Box::pin(std::future::ready(protocol::encode_error(service, &error, &caller.request_id)))
}

/// Makes a service's table and trait from a list of its operations:
///
/// ```ignore
/// service! {
///     /// The docs of the trait.
///     pub trait Sts in SERVICE {
///         name: "sts", protocol: Query, version: "2011-06-15",
///         namespace: "https://sts.amazonaws.com/doc/2011-06-15/", target_prefix: "",
///         unsupported: "AssumeRole GetSessionToken",
///     }
///     GetCallerIdentity => get_caller_identity(GetCallerIdentityRequest) -> CallerIdentity;
/// }
/// ```
#[macro_export]
macro_rules! service {
    (
        $(#[$doc:meta])*
        pub trait $service:ident in $table:ident {
            name: $name:literal, protocol: $protocol:ident, version: $version:literal,
            namespace: $namespace:literal, target_prefix: $target_prefix:literal,
            unsupported: $unsupported:literal $(,)?
        }
        $($operation:ident => $method:ident($input:ty) -> $output:ty;)*
    ) => {
        /// What is fixed about the service.
        pub static $table: $crate::service::ServiceTable = $crate::service::ServiceTable {
            name: $name,
            protocol: $crate::protocol::Protocol::$protocol,
            version: $version,
            namespace: $namespace,
            target_prefix: $target_prefix,
            operations: &[$(stringify!($operation)),*],
            unsupported: $unsupported,
        };

        $(#[$doc])*
        pub trait $service: Send + Sync {
            $(
                #[doc = concat!("AWS's `", stringify!($operation), "`.")]
                fn $method<'a>(
                    &'a self,
                    caller: &'a $crate::service::Caller,
                    input: $input,
                ) -> $crate::service::Answer<'a, $output> {
                    let _ = (caller, input);
                    let error = $crate::ApiError::unsupported_operation(stringify!($operation));
                    Box::pin(::std::future::ready(Err(error)))
                }
            )*

            /// Carries out a call and encodes its answer, whatever it is.
            fn dispatch<'a>(
                &'a self,
                caller: &'a $crate::service::Caller,
                call: $crate::protocol::Call,
            ) -> $crate::service::Encoded<'a> {
                match call.operation.as_str() {
                    $(stringify!($operation) => $crate::service::perform(
                        &$table,
                        stringify!($operation),
                        caller,
                        call,
                        |input| self.$method(caller, input),
                    ),)*
                    other => $crate::service::refuse(&$table, caller, $table.refusal(other)),
                }
            }
        }
    };
}
