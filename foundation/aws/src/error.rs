//! The error that an AWS client sees: a code it matches on, a sentence for a person, a status, and whose fault.
//!
//! Built by this crate's decoders and by the services; encoded by [`crate::protocol`]. The mapping from a plane's
//! own error kinds to these codes is the gateway's and deliberately absent here.

use crate::codes::{self, Code};
use crate::shape::Path;
use std::borrow::Cow;

/// Whose fault an error is; awsQuery writes it as `<Type>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client's: the same request will fail again.
    Sender,
    /// Ours: the same request may succeed later.
    Receiver,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// AWS's code, for example `InvalidInstanceID.NotFound`. Clients match it by string.
    pub code: Cow<'static, str>,
    /// A sentence for a person; it never holds internals.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
    /// Whose fault it is.
    pub fault: Fault,
}

impl ApiError {
    /// An error with a code of the table and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ApiError {
            code: Cow::Borrowed(code.name),
            message: message.into(),
            status: code.status,
            fault: code.fault,
        }
    }

    /// A code that the table does not have: the client's fault, status 400.
    pub fn client(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        ApiError { code: code.into(), message: message.into(), status: 400, fault: Fault::Sender }
    }

    /// `UnsupportedOperation`: AWS has the operation, Nephos does not yet.
    pub fn unsupported_operation(operation: &str) -> Self {
        let message = format!("The operation {operation} is not supported by Nephos yet.");
        ApiError::new(codes::UNSUPPORTED_OPERATION, message)
    }

    /// `DryRunOperation`: the request would have succeeded.
    pub fn dry_run() -> Self {
        let message = "Request would have succeeded, but DryRun flag is set.";
        ApiError::new(codes::DRY_RUN_OPERATION, message)
    }

    /// `InternalError`: a defect of ours; what it was is in our log, under the request id.
    pub fn internal() -> Self {
        ApiError::new(codes::INTERNAL_ERROR, "An internal error has occurred.")
    }

    /// A required parameter is missing.
    pub fn missing_parameter(path: &Path<'_>) -> Self {
        let code =
            if path.protocol().is_json() { codes::VALIDATION_EXCEPTION } else { codes::MISSING_PARAMETER };
        ApiError::new(code, format!("The request must contain the parameter {path}"))
    }

    /// Parameters that AWS does not have.
    pub fn unknown_parameters(path: &Path<'_>, names: &[String]) -> Self {
        let code =
            if path.protocol().is_json() { codes::VALIDATION_EXCEPTION } else { codes::UNKNOWN_PARAMETER };
        let message = match names {
            [one] => format!("The parameter {one} is not recognized"),
            many => format!("The parameters {} are not recognized", many.join(", ")),
        };
        ApiError::new(code, message)
    }

    /// A parameter that AWS has and Nephos does not yet.
    pub fn unsupported_parameter(path: &Path<'_>) -> Self {
        let message = format!("The parameter {path} is not supported by Nephos yet.");
        ApiError::new(codes::UNSUPPORTED_OPERATION, message)
    }

    /// A value that cannot be right, with the reason as a sentence.
    pub fn invalid_value(path: &Path<'_>, value: &str, reason: &str) -> Self {
        let code = if path.protocol().is_json() {
            codes::SERIALIZATION_EXCEPTION
        } else {
            codes::INVALID_PARAMETER_VALUE
        };
        let shown: String = value.chars().take(64).collect();
        let ellipsis = if shown.len() < value.len() { "..." } else { "" };
        ApiError::new(code, format!("Value ({shown}{ellipsis}) for parameter {path} is invalid. {reason}"))
    }
}
