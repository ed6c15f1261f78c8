//! Where an etcd is and how to speak to it: given by a program, or parsed from a URL.
//!
//! ```text
//!   etcd://[user:password@]host[:port][,host[:port]...][/prefix][?option=value[&option=value...]]
//!
//!   prefix        the namespace: every key of the store begins with `prefix/`; none: the whole cluster is the store
//!   ca=FILE       the server's certificate must be signed by one of these (PEM); the connection is TLS
//!   tls=true      the connection is TLS; without `ca` the system's roots are trusted
//!   cert=FILE     this client's certificate (PEM), with
//!   key=FILE      its private key (PEM)
//!   name=NAME     the name that the server's certificate must hold, if it is not its host
//! ```
//!
//! User, password, prefix and the options' values are percent-encoded where they must be.
//!
//! Invariant: nothing is read or resolved here; addresses and certificates are read before each connection, so that
//! a peer may move and a certificate be renewed under a running process.

use base::config::Address;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// etcd's port for clients.
const PORT: u16 = 2379;

/// Why there is no store in an etcd.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The URL does not say where the store is.
    #[error("the store's URL: {0}")]
    Url(String),
    /// Nobody answered as a store does, in the time that there was.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// What stands under the prefix is not a store of ours.
    #[error("this is no store: {0}")]
    NotAStore(String),
}

/// Where the store is, and its bounds.
#[derive(Clone)]
pub struct EtcdOptions {
    /// The cluster's members; whichever answers is used.
    pub endpoints: Vec<Address>,
    /// What each key of the store begins with in the cluster; empty, or ending with `/`.
    pub prefix: Vec<u8>,
    /// `None`: without TLS.
    pub tls: Option<EtcdTlsSource>,
    /// For etcd's own authentication.
    pub user: Option<EtcdUser>,
    /// How long one member may take to accept a connection, and then to say that it has a quorum.
    pub connect_timeout: Duration,
    /// How long one request may be without an answer: then a read asks the next member, and a commit has
    /// [`Failed`](crate::CommitError::Failed).
    pub answer_timeout: Duration,
    /// How long a break is waited out, for reads, and for commits that were certainly not sent.
    pub patience: Duration,
    /// Commits without an answer yet, at most; more wait.
    pub commits_in_flight: usize,
    /// Commits that wait for one watcher, before it has lagged.
    pub watch_queue_commits: usize,
}

/// PEM, as it is now.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The authorities that may sign the server's certificate; `None`: the system's.
    pub ca: Option<Vec<u8>>,
    /// This client's certificate and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the server's certificate must hold; `None`: its host.
    pub server_name: Option<String>,
}

/// Gives what TLS needs, before each connection.
pub type EtcdTlsSource = Arc<dyn Fn() -> io::Result<EtcdTls> + Send + Sync>;

/// One of etcd's users.
#[derive(Clone)]
pub struct EtcdUser {
    /// The user's name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl EtcdOptions {
    /// A store in the cluster of these members, with the bounds that fit most.
    pub fn new(endpoints: Vec<Address>, prefix: &str) -> EtcdOptions {
        EtcdOptions {
            endpoints,
            prefix: prefix_bytes(prefix.as_bytes()),
            tls: None,
            user: None,
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(3),
            patience: Duration::from_secs(5),
            commits_in_flight: 1024,
            watch_queue_commits: 8192,
        }
    }

    /// Reads a URL; see the file's head.
    pub fn parse(url: &str) -> Result<EtcdOptions, EtcdError> {
        let rest = url.strip_prefix("etcd://").ok_or_else(|| refused("it does not begin with etcd://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user_parse(user)?), hosts),
            None => (None, authority),
        };
        let endpoints = hosts.split(',').map(endpoint_parse).collect::<Result<_, _>>()?;
        let mut options = EtcdOptions::new(endpoints, "");
        options.prefix = prefix_bytes(&percent_decode_str(prefix).collect::<Vec<u8>>());
        options.user = user;
        options.tls = tls_parse(query)?;
        Ok(options)
    }
}

impl fmt::Debug for EtcdOptions {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix.escape_ascii().to_string())
            .field("tls", &self.tls.is_some())
            .field("user", &self.user.as_ref().map(|user| &user.name))
            .finish_non_exhaustive()
    }
}

fn refused(why: impl Into<String>) -> EtcdError {
    EtcdError::Url(why.into())
}

fn prefix_bytes(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while bytes.last() == Some(&b'/') {
        bytes.pop();
    }
    if !bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes
}

fn text(encoded: &str, what: &str) -> Result<String, EtcdError> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    decoded.map(Into::into).map_err(|_| refused(format!("{what} is not UTF-8")))
}

fn user_parse(user: &str) -> Result<EtcdUser, EtcdError> {
    let (name, password) =
        user.split_once(':').ok_or_else(|| refused("a user without a password (user:password@)"))?;
    if name.is_empty() {
        return Err(refused("a password without a user (user:password@)"));
    }
    Ok(EtcdUser { name: text(name, "the user")?, password: text(password, "the password")? })
}

fn endpoint_parse(host: &str) -> Result<Address, EtcdError> {
    let malformed =
        || refused(format!("`{host}` is not host or host:port (an IPv6 host stands in brackets)"));
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, "")) => (host, None),
        Some((_, port)) => {
            (&host[..host.len() - port.len()], Some(port.strip_prefix(':').ok_or_else(malformed)?))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let port = port.map_or(Ok(PORT), str::parse).map_err(|_| malformed())?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "@/?#".contains(c)) {
        return Err(malformed());
    }
    Ok(Address::Fixed(format!("{name}:{port}")))
}

fn tls_parse(query: &str) -> Result<Option<EtcdTlsSource>, EtcdError> {
    let (mut ca, mut cert, mut key, mut name, mut tls) = (None, None, None, None, None);
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (what, value) =
            option.split_once('=').ok_or_else(|| refused(format!("option `{option}` has no value")))?;
        let value = text(value, what)?;
        match what {
            "ca" => ca = Some(PathBuf::from(value)),
            "cert" => cert = Some(PathBuf::from(value)),
            "key" => key = Some(PathBuf::from(value)),
            "name" => name = Some(value),
            "tls" if value == "true" || value == "false" => tls = Some(value == "true"),
            "tls" => return Err(refused(format!("tls={value}: true or false"))),
            _ => return Err(refused(format!("unknown option `{what}` (ca, cert, key, name, tls)"))),
        }
    }
    if cert.is_some() != key.is_some() {
        return Err(refused("`cert` and `key` come together"));
    }
    if !tls.unwrap_or(ca.is_some()) {
        return match ca.is_some() || cert.is_some() || name.is_some() {
            true => Err(refused("`cert`, `key` and `name` need TLS: give `ca`, or `tls=true`")),
            false => Ok(None),
        };
    }
    let pair = cert.zip(key);
    Ok(Some(Arc::new(move || {
        let identity = match &pair {
            Some((cert, key)) => Some((file(cert)?, file(key)?)),
            None => None,
        };
        Ok(EtcdTls { ca: ca.as_ref().map(file).transpose()?, identity, server_name: name.clone() })
    })))
}

fn file(path: &PathBuf) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_it_all() {
        let options =
            EtcdOptions::parse("etcd://me:p%40ss@one:1,two,[::1]:3/cell/us-east-1a?ca=/ca&name=n").unwrap();
        let fixed = |address: &str| Address::Fixed(address.to_owned());
        assert_eq!(options.endpoints, [fixed("one:1"), fixed("two:2379"), fixed("[::1]:3")]);
        assert_eq!(options.prefix, b"cell/us-east-1a/");
        assert!(options.tls.is_some());
        let user = options.user.clone().unwrap();
        assert_eq!((user.name.as_str(), user.password.as_str()), ("me", "p@ss"));
        assert!(!format!("{options:?}").contains("p@ss"));
        let plain = EtcdOptions::parse("etcd://localhost").unwrap();
        assert_eq!(
            (plain.prefix.as_slice(), plain.tls.is_none(), plain.user.is_none()),
            (&b""[..], true, true)
        );
    }

    #[test]
    fn a_wrong_url_is_refused_with_the_reason() {
        for (url, why) in [
            ("http://localhost", "etcd://"),
            ("etcd://", "host:port"),
            ("etcd://one,,two", "host:port"),
            ("etcd://one:port", "host:port"),
            ("etcd://[::1]3", "host:port"),
            ("etcd://me@one", "without a password"),
            ("etcd://one?ca", "has no value"),
            ("etcd://one?color=red", "unknown option `color`"),
            ("etcd://one?tls=yes", "true or false"),
            ("etcd://one?ca=a&cert=b", "come together"),
            ("etcd://one?cert=b&key=c", "need TLS"),
            ("etcd://one?tls=false&ca=b", "need TLS"),
        ] {
            let error = EtcdOptions::parse(url).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
