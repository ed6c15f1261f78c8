//! A request and an answer as bytes, without any HTTP library: what the gateway hands in and gets back.

use std::borrow::Cow;

/// A request as it came over the wire; nothing in it is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`...
    pub method: &'a str,
    /// The path as sent, still percent-encoded; `/` if empty.
    pub path: &'a str,
    /// What follows the `?`, as sent; empty if there was none.
    pub query: &'a str,
    /// All headers in the order sent, names in any case, repeated ones repeated.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first header of this name (given in lower case).
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers_named(name).next()
    }

    /// All headers of this name (given in lower case), in the order sent.
    pub fn headers_named<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// An answer, ready for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// All headers except the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// The error's code, if this is an error: for the audit and the metrics.
    pub error_code: Option<Cow<'static, str>>,
}

impl Response {
    /// The header of this name (as we spell it).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }
}
