//! A small AWS client: HTTP/1.1 over one connection that is kept, each request signed. The same for us and for the
//! peer, so that what it costs is the same too.

use anyhow::{Context, Result, bail};
use aws::Request;
use aws::sigv4::{Credentials, sign};
use base::clock::Timestamp;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);
pub const REGION: &str = "us-east-1";

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// `ec2`
    pub service: &'static str,
    /// `Action=...&Version=...`
    pub body: String,
}

impl Question {
    /// Of EC2; `parameters` are encoded already and begin with `&`, if there are any.
    pub fn ec2(action: &str, parameters: &str) -> Question {
        Question { service: "ec2", body: format!("Action={action}&Version=2016-11-15{parameters}") }
    }

    /// STS's GetCallerIdentity.
    pub fn caller_identity() -> Question {
        Question { service: "sts", body: String::from("Action=GetCallerIdentity&Version=2011-06-15") }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    /// The text of the first element of this name.
    pub fn element(&self, name: &str) -> Option<&str> {
        self.elements(name).next()
    }

    /// The texts of all elements of this name that hold only text.
    pub fn elements<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let open = format!("<{name}>");
        let pieces: Vec<&str> = self.body.split(open.as_str()).skip(1).collect();
        pieces.into_iter().filter_map(|piece| piece.split_once('<').map(|(text, _)| text))
    }
}

/// A client of one server, with one key.
pub struct Client {
    address: SocketAddr,
    host: String,
    keys: Keys,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// Connects at the first request.
    pub fn new(address: SocketAddr, keys: &Keys) -> Client {
        Client { address, host: address.to_string(), keys: keys.clone(), connection: None }
    }

    /// Asks; any answer that is not 200 is an error, in the server's words.
    pub fn ask(&mut self, question: &Question) -> Result<Reply> {
        let reply = self.send(question)?;
        if reply.status != 200 {
            let action = question.body.split('&').next().unwrap_or_default();
            bail!("{action} was answered with {}: {}", reply.status, reply.body);
        }
        Ok(reply)
    }

    /// Asks, whatever is answered. A kept connection that the server has closed is opened anew once.
    pub fn send(&mut self, question: &Question) -> Result<Reply> {
        let bytes = self.request(question)?;
        if let Some(mut connection) = self.connection.take()
            && let Ok((reply, keep)) = exchange(&mut connection, &bytes)
        {
            self.connection = keep.then_some(connection);
            return Ok(reply);
        }
        let stream =
            TcpStream::connect(self.address).with_context(|| format!("cannot reach {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut connection = BufReader::with_capacity(64 * 1024, stream);
        let (reply, keep) =
            exchange(&mut connection, &bytes).with_context(|| format!("{} broke off", self.address))?;
        self.connection = keep.then_some(connection);
        Ok(reply)
    }

    fn request(&self, question: &Question) -> Result<Vec<u8>> {
        let headers = [
            ("host", self.host.as_str()),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ];
        let request = Request {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: question.body.as_bytes(),
        };
        let credentials = Credentials {
            access_key_id: &self.keys.access_key_id,
            secret: &self.keys.secret_access_key,
            session_token: None,
            region: REGION,
            service: question.service,
        };
        let added = sign(&request, &credentials, Timestamp::now())?;
        let mut text = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n", question.body.len());
        let added = added.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in headers.into_iter().chain(added) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        Ok((text + "\r\n" + &question.body).into_bytes())
    }
}

/// Sends a request and reads the answer; and whether the connection can be used again.
fn exchange(connection: &mut BufReader<TcpStream>, request: &[u8]) -> Result<(Reply, bool)> {
    connection.get_mut().write_all(request)?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP status line")?;
    let (mut length, mut chunked, mut keep) = (None, false, line.starts_with("HTTP/1.1"));
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = Some(value.parse::<usize>()?),
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", value) if value.eq_ignore_ascii_case("close") => keep = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => read_chunks(connection, &mut body)?,
        Some(length) => {
            body.resize(length, 0);
            connection.read_exact(&mut body)?;
        }
        None => {
            keep = false;
            connection.read_to_end(&mut body)?;
        }
    }
    Ok((Reply { status, body: String::from_utf8(body)? }, keep))
}

fn read_chunks(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16).context("no chunk length")?;
        let start = body.len();
        body.resize(start + length, 0);
        connection.read_exact(&mut body[start..])?;
        line.clear();
        connection.read_line(&mut line)?;
        if length == 0 {
            return Ok(());
        }
    }
}
