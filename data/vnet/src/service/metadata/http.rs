//! HTTP/1.1 (RFC 9112), as much of it as the metadata service takes: requests without a body that matters.
//!
//! Invariant: reading is total and bounded: [`HEAD_BYTES_MAX`] before a request is whole, [`BODY_BYTES_MAX`] behind it.
//! What could be understood in two ways (two lengths, a transfer coding, a folded line) is refused.

/// The longest head of a request.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The longest body that is read, and thrown away.
pub const BODY_BYTES_MAX: usize = 4 * 1024;
const HEADERS_MAX: usize = 64;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For example `GET`.
    pub method: String,
    /// Without scheme, host and query; begins with `/`. As it was sent.
    pub path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The client sends more on this connection, or may.
    pub keep_alive: bool,
}

impl Request {
    /// A header's first value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What a stream's beginning is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not whole yet.
    Partial,
    /// A request, and how many bytes it took.
    Request(Request, usize),
    /// No request: answered with this status, and the connection is closed.
    Bad(u16),
}

/// Reads the request at the beginning of a stream.
pub fn parse(bytes: &[u8]) -> Parsed {
    let Some(head_bytes) = head_length(bytes) else {
        return if bytes.len() > HEAD_BYTES_MAX { Parsed::Bad(431) } else { Parsed::Partial };
    };
    if head_bytes > HEAD_BYTES_MAX {
        return Parsed::Bad(431);
    }
    let head = bytes.get(..head_bytes).and_then(|head| std::str::from_utf8(head).ok());
    let Some(head) = head else { return Parsed::Bad(400) };
    let (request, body_bytes) = match parse_head(head) {
        Ok(parsed) => parsed,
        Err(status) => return Parsed::Bad(status),
    };
    if body_bytes > BODY_BYTES_MAX {
        return Parsed::Bad(413);
    }
    let length = head_bytes + body_bytes;
    if bytes.len() < length { Parsed::Partial } else { Parsed::Request(request, length) }
}

/// How long the head is, with the empty line that ends it. A line may end in LF alone (RFC 9112, section 2.2).
fn head_length(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.get(..bytes.len().min(HEAD_BYTES_MAX + 4))?;
    let mut at = 0;
    while let Some(end) = bytes.get(at..)?.iter().position(|byte| *byte == b'\n') {
        let line = bytes.get(at..at + end)?;
        at += end + 1;
        // Empty lines before a request are not its end.
        let began = bytes.get(..at)?.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        if began && matches!(line, b"" | b"\r") {
            return Some(at);
        }
    }
    None
}

fn parse_head(head: &str) -> Result<(Request, usize), u16> {
    let mut lines =
        head.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).skip_while(|l| l.is_empty());
    let (method, path, minor) = parse_request_line(lines.next().ok_or(400u16)?)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(400u16)?;
        if headers.len() >= HEADERS_MAX {
            return Err(431);
        }
        if name.is_empty()
            || !name.bytes().all(is_token)
            || value.bytes().any(|byte| byte < b' ' && byte != b'\t')
        {
            return Err(400);
        }
        headers.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let all =
        |name: &'static str| headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value);
    if all("transfer-encoding").next().is_some() {
        return Err(501);
    }
    let mut lengths = all("content-length");
    let body_bytes = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(length), None) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map_err(|_| 413u16)?
        }
        _ => return Err(400),
    };
    // RFC 9112, section 3.2.
    if minor == b'1' && all("host").count() != 1 {
        return Err(400);
    }
    let says = |word: &str| {
        all("connection")
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    let keep_alive = if minor == b'1' { !says("close") } else { says("keep-alive") };
    Ok((Request { method, path, headers, keep_alive }, body_bytes))
}

/// `METHOD SP TARGET SP HTTP/1.x`; the minor version as a digit.
fn parse_request_line(line: &str) -> Result<(String, String, u8), u16> {
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(400);
    };
    if method.is_empty()
        || !method.bytes().all(is_token)
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(400);
    }
    let minor = match version.as_bytes() {
        b"HTTP/1.0" => b'0',
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => b'1',
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(505),
        _ => return Err(400),
    };
    // A proxy's form names the host; which one does not matter here.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    if !path.starts_with('/') {
        return Err(400);
    }
    let path = path.split(['?', '#']).next().unwrap_or(path);
    Ok((method.to_owned(), path.to_owned(), minor))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// For example 200.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// The seconds that the token has left, which AWS says in a header.
    pub token_ttl_s: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
    /// The TTL of the packets that carry it, if it is not the usual one.
    pub hop_limit: Option<u8>,
}

impl Response {
    /// A text.
    pub fn text(body: impl Into<Vec<u8>>) -> Response {
        let body = body.into();
        Response { status: 200, content_type: "text/plain", token_ttl_s: None, body, hop_limit: None }
    }

    /// An error, with the page that AWS's service has: clients show it.
    pub fn error(status: u16) -> Response {
        let reason = reason(status);
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
             <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
             \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
             <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
             <head>\n  <title>{status} - {reason}</title>\n </head>\n <body>\n  <h1>{status} - {reason}</h1>\n \
             </body>\n</html>\n"
        );
        Response { status, content_type: "text/html", ..Response::text(body) }
    }

    /// On the wire. A HEAD request gets no body, only its length.
    pub fn write(&self, head_only: bool, keep_alive: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
            if keep_alive { "keep-alive" } else { "close" },
        );
        if let Some(ttl_s) = self.token_ttl_s {
            head += &format!("X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {ttl_s}\r\n");
        }
        if self.status == 405 {
            head += "Allow: GET, HEAD, PUT\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend(&self.body);
        }
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Request(request, length) if length == text.len() => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn requests_of_all_shapes() {
        let get = request("GET /latest/meta-data/?x=1 HTTP/1.1\r\nHost: a\r\nX-Thing:  b \r\n\r\n");
        assert_eq!(
            (get.method.as_str(), get.path.as_str(), get.keep_alive),
            ("GET", "/latest/meta-data/", true)
        );
        assert_eq!((get.header("x-thing"), get.header("x-other")), (Some("b"), None));
        assert!(!request("GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n").keep_alive);
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
        assert_eq!(request("GET http://169.254.169.254/a/b HTTP/1.1\r\nHost: a\r\n\r\n").path, "/a/b");
        assert_eq!(request("GET http://169.254.169.254 HTTP/1.1\r\nHost: a\r\n\r\n").path, "/");
        request("\r\nPUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET / FTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", 413),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        ] {
            assert_eq!(parse(text.as_bytes()), Parsed::Bad(status), "{text:?}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), Parsed::Bad(400));
    }

    #[test]
    fn an_endless_head_is_refused_before_it_is_a_leak() {
        assert_eq!(parse(&[b'a'; HEAD_BYTES_MAX]), Parsed::Partial);
        assert_eq!(parse(&[b'a'; HEAD_BYTES_MAX + 1]), Parsed::Bad(431));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX));
        assert_eq!(parse(many.as_bytes()), Parsed::Bad(431));
    }

    proptest! {
        #[test]
        fn a_request_is_whole_only_at_its_end(cut in 0usize..90) {
            let text = b"PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 4\r\n\r\nbody";
            let cut = cut.min(text.len());
            let whole = matches!(parse(&text[..cut]), Parsed::Request(..));
            prop_assert_eq!(whole, cut == text.len());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[A-Z /.:\r\n0-9a-e-]{0,120}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
            let _ = parse(format!("GET {text}\r\n\r\n").as_bytes());
        }
    }
}
