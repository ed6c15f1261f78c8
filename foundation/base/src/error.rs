//! The closed list of what can be wrong, and how an error is printed.
//!
//! Each module that callers act on has its own `thiserror` enum. At a plane's edge such an error becomes an
//! [`Error`]: a [`Kind`] that the other side can act on, a public sentence for the person who asked, and the
//! internal cause, which never leaves the process (it is logged once, by [`chain`], where it is handled).

use std::error::Error as StdError;
use std::fmt;

/// What kind of thing is wrong: what a caller can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself cannot be right.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already, with other properties.
    AlreadyExists,
    /// The thing is in a state in which this cannot be done.
    Conflict,
    /// A quota of the account would be exceeded.
    QuotaExceeded,
    /// The cloud has no room for it now.
    InsufficientCapacity,
    /// Too many requests; try again later.
    Throttled,
    /// The caller is not who they say, or may not do this.
    Denied,
    /// AWS has it, Nephos does not (yet).
    Unsupported,
    /// Something needed is not answering; try again.
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl Kind {
    /// Whether the same request may succeed later, unchanged.
    pub const fn retriable(self) -> bool {
        matches!(self, Kind::InsufficientCapacity | Kind::Throttled | Kind::Unavailable | Kind::Internal)
    }
}

/// An error at the edge of a plane: a public half, and an internal half that cannot leak ([`fmt::Display`] and
/// serialisation show the public half only).
#[derive(Debug)]
pub struct Error {
    /// What a caller can act on.
    pub kind: Kind,
    /// A whole sentence: what was wrong and what to do.
    pub message: String,
    internal: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without an internal cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), internal: None }
    }

    /// With the cause that the log may show and the caller may not.
    pub fn with_internal(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.internal = Some(cause.into());
        self
    }

    /// The internal half, for the log.
    pub fn internal(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.internal.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {}

/// The whole chain of an error on one line: `what failed: why: why`.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_is_printed_once_and_the_internal_half_stays_inside() {
        let outer = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&outer), "cannot open the store: disk on fire");
        let edge = Error::new(Kind::Unavailable, "Try again.").with_internal(outer);
        assert_eq!(chain(&edge), "Try again.");
        assert!(edge.internal().is_some());
    }
}
