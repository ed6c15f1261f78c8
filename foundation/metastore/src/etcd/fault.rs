//! What an error of etcd means: whether the request was looked at, and whether another try may help.
//!
//! etcd tells its errors apart by gRPC code and text; the texts are those of its `rpctypes` package.
//!
//! Invariant: whatever is not known to be certain is [`Fault::Unknown`].

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

/// What went wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was certainly not looked at; another member may do it.
    NotSent(String),
    /// It was certainly not looked at, because there is too much to do.
    Busy(String),
    /// It was looked at and refused, for a reason that another try will meet again. Nothing was changed.
    Refused(String),
    /// It breaks a bound of the server's. Nothing was changed.
    OutOfBounds(String),
    /// The server's quota is used up. Nothing was changed.
    Full(String),
    /// It names a lease that is not there. Nothing was changed.
    LeaseNotFound,
    /// It names a revision that was compacted.
    Compacted,
    /// It names a revision that is not there yet.
    Future,
    /// It may have been done, or not, or still be under way.
    Unknown(String),
    /// What is reached is not the store that was opened; for good.
    Gone(String),
}

impl Fault {
    /// For people.
    pub(super) fn said(&self) -> String {
        match self {
            Fault::NotSent(why)
            | Fault::Busy(why)
            | Fault::Refused(why)
            | Fault::OutOfBounds(why)
            | Fault::Full(why)
            | Fault::Unknown(why)
            | Fault::Gone(why) => why.clone(),
            Fault::LeaseNotFound => "the lease is not there".to_owned(),
            Fault::Compacted => "the revision is compacted".to_owned(),
            Fault::Future => "the revision is not there yet".to_owned(),
        }
    }

    pub(super) fn of(error: &Error) -> Fault {
        match error {
            Error::GRpcStatus(status) => Self::of_status(status),
            Error::LeaseKeepAliveError(why) if why == "lease not found" => Fault::LeaseNotFound,
            other => Fault::Unknown(other.to_string()),
        }
    }

    fn of_status(status: &Status) -> Fault {
        let message = status.message();
        let said = || message.trim_start_matches("etcdserver: ").to_owned();
        if connect_failed(status) {
            return Fault::NotSent(chain(status));
        }
        match status.code() {
            Code::OutOfRange if message.contains("has been compacted") => Fault::Compacted,
            Code::OutOfRange if message.contains("future revision") => Fault::Future,
            Code::NotFound if message.contains("requested lease not found") => Fault::LeaseNotFound,
            // Said before the request is proposed, because the client demands a leader.
            Code::Unavailable if message == "etcdserver: no leader" => Fault::NotSent(said()),
            Code::ResourceExhausted if message.contains("too many requests") => Fault::Busy(said()),
            Code::ResourceExhausted if message.contains("space exceeded") => Fault::Full(said()),
            Code::InvalidArgument
                if message.contains("too many operations")
                    || message.contains("request is too large")
                    || message.contains("duplicate key")
                    || message.contains("key is not provided")
                    || message.contains("too large lease TTL") =>
            {
                Fault::OutOfBounds(said())
            }
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition => Fault::Refused(said()),
            _ => Fault::Unknown(chain(status)),
        }
    }
}

/// Whether there was no connection to send it on.
fn connect_failed(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error with what it came from, for people.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    // A status prints its source itself, at length.
    let status = error.downcast_ref::<Status>();
    let mut text = status.map_or_else(|| error.to_string(), |status| status.message().to_owned());
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}
