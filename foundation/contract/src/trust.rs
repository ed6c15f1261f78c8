//! Who is at the other end: mutual TLS from one certificate authority, and the identity in each certificate.
//!
//! A certificate carries one DNS name, `INSTANCE.ROLE.nephos.internal`: the dialler checks it against whom it
//! meant to reach, and the listener reads from it who calls ([`peer`]) and whether they may ([`Identity::allow`]).
//! Certificates live 90 days and are renewed at a third of it by whoever issued them.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use tonic::transport::{Certificate, ClientTlsConfig, Identity as PemPair, ServerTlsConfig};

const DOMAIN: &str = "nephos.internal";
/// How long a certificate lives.
pub const CERTIFICATE_DAYS: i64 = 90;
/// The age at which it is renewed.
pub const RENEWAL_DAYS: i64 = CERTIFICATE_DAYS / 3;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `nephos region`
    Region,
    /// `nephos zone`
    Zone,
    /// `nephos cell`
    Cell,
    /// `nephos host`
    Host,
    /// `nephos vswitch`; its certificate names its host.
    Vswitch,
    /// `nephos store`
    Store,
    /// A person's command line.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 7] =
        [Role::Region, Role::Zone, Role::Cell, Role::Host, Role::Vswitch, Role::Store, Role::Operator];

    /// The role's name, as in `nephos ROLE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Region => "region",
            Role::Zone => "zone",
            Role::Cell => "cell",
            Role::Host => "host",
            Role::Vswitch => "vswitch",
            Role::Store => "store",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = TrustError;
    fn from_str(text: &str) -> Result<Self, TrustError> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| TrustError::Name(text.to_owned()))
    }
}

/// Which process: a role and the instance's name (`us-east-1a-c1-h1`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is.
    pub role: Role,
    /// Which of them it is.
    pub instance: String,
}

impl Identity {
    /// The process `instance` of `role`.
    pub fn new(role: Role, instance: impl fmt::Display) -> Self {
        Identity { role, instance: instance.to_string() }
    }

    /// The certificate's DNS name.
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{DOMAIN}", self.instance, self.role)
    }

    fn from_dns_name(name: &str) -> Result<Self, TrustError> {
        let error = || TrustError::Name(name.to_owned());
        let rest = name.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.')).ok_or_else(error)?;
        let (instance, role) = rest.rsplit_once('.').ok_or_else(error)?;
        Ok(Identity { role: role.parse()?, instance: instance.to_owned() })
    }

    /// Refuses a caller of another role.
    // A `Status` is large; it is made once a call.
    #[allow(clippy::result_large_err)]
    pub fn allow(&self, role: Role) -> Result<(), tonic::Status> {
        if self.role == role {
            return Ok(());
        }
        Err(tonic::Status::permission_denied(format!("a {} may not call this; only a {role} may", self.role)))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.instance)
    }
}

/// What can be wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate cannot be made or read.
    #[error("cannot make or read a certificate: {0}")]
    Certificate(String),
    /// A name that is not of the form `INSTANCE.ROLE.nephos.internal`.
    #[error("`{0}` names no role of Nephos")]
    Name(String),
}

impl From<rcgen::Error> for TrustError {
    fn from(error: rcgen::Error) -> Self {
        TrustError::Certificate(error.to_string())
    }
}

/// The certificate authority of one cloud: made at its first start, kept by whoever starts processes.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Reads the authority from `directory` (`ca.pem`, `ca.key`), or makes it there.
    pub fn open(directory: &Path) -> Result<Self, TrustError> {
        let (certificate_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !certificate_path.exists() {
            let key = KeyPair::generate()?;
            let params = authority_params()?;
            let certificate = params.self_signed(&key)?;
            // The key first: a certificate without its key would be taken for a finished authority.
            write(&key_path, key.serialize_pem().as_bytes())?;
            write(&certificate_path, certificate.pem().as_bytes())?;
        }
        let certificate_pem = read(&certificate_path)?;
        let key = KeyPair::from_pem(&read(&key_path)?)?;
        let issuer = Issuer::new(authority_params()?, key);
        Ok(Authority { issuer, certificate_pem })
    }

    /// Issues a certificate for `identity` into `directory` (`ca.pem`, `cert.pem`, `key.pem`, all 0600), unless
    /// one is there that is younger than [`RENEWAL_DAYS`]. Says whether it issued one.
    pub fn issue(&self, identity: &Identity, directory: &Path) -> Result<bool, TrustError> {
        let certificate_path = directory.join("cert.pem");
        if certificate_age_days(&certificate_path).is_some_and(|days| days < RENEWAL_DAYS) {
            return Ok(false);
        }
        std::fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![identity.dns_name()])?;
        params.distinguished_name = named(&identity.to_string());
        params.not_before = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        params.not_after = params.not_before + time::Duration::days(CERTIFICATE_DAYS);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        write(&directory.join("ca.pem"), self.certificate_pem.as_bytes())?;
        write(&directory.join("key.pem"), key.serialize_pem().as_bytes())?;
        write(&certificate_path, certificate.pem().as_bytes())?;
        Ok(true)
    }
}

fn authority_params() -> Result<CertificateParams, TrustError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = named("Nephos cloud authority");
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = params.not_before + time::Duration::days(20 * 365);
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn certificate_age_days(path: &Path) -> Option<i64> {
    let pem = std::fs::read(path).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let issued = pem.parse_x509().ok()?.validity().not_before.to_datetime();
    Some((time::OffsetDateTime::now_utc() - issued).whole_days())
}

/// A process's own certificate and the authority it trusts.
pub struct Credentials {
    ca: String,
    certificate: String,
    key: String,
}

impl Credentials {
    /// Reads what [`Authority::issue`] wrote.
    pub fn open(directory: &Path) -> Result<Self, TrustError> {
        Ok(Credentials {
            ca: read(&directory.join("ca.pem"))?,
            certificate: read(&directory.join("cert.pem"))?,
            key: read(&directory.join("key.pem"))?,
        })
    }

    /// For a listener: only callers with a certificate of the same authority.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(PemPair::from_pem(&self.certificate, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
    }

    /// For a dialler that means to reach `peer` and nobody else.
    pub fn client(&self, peer: &Identity) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(PemPair::from_pem(&self.certificate, &self.key))
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(peer.dns_name())
    }
}

/// Who called, by their certificate.
// A `Status` is large; it is made once a call.
#[allow(clippy::result_large_err)]
pub fn peer<T>(request: &tonic::Request<T>) -> Result<Identity, tonic::Status> {
    let denied = |why: &str| tonic::Status::unauthenticated(format!("no usable client certificate: {why}"));
    let certificates = request.peer_certs().ok_or_else(|| denied("none was given"))?;
    let der = certificates.first().ok_or_else(|| denied("none was given"))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|_| denied("it cannot be parsed"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| denied("its names cannot be parsed"))?
        .ok_or_else(|| denied("it names nobody"))?;
    let name = names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    Identity::from_dns_name(name.unwrap_or_default()).map_err(|e| denied(&e.to_string()))
}

fn file_error(path: &Path, source: std::io::Error) -> TrustError {
    TrustError::File { path: path.display().to_string(), source }
}

fn read(path: &Path) -> Result<String, TrustError> {
    std::fs::read_to_string(path).map_err(|source| file_error(path, source))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    base::disk::file_replace(path, bytes, 0o600).map_err(|source| file_error(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_a_certificate() {
        let identity = Identity::new(Role::Cell, "us-east-1a-c1");
        assert_eq!(Identity::from_dns_name(&identity.dns_name()).unwrap(), identity);
        for wrong in ["", "nephos.internal", "x.nephos.internal", "x.king.nephos.internal", "x.cell.example"]
        {
            assert!(Identity::from_dns_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_young_certificate_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path()).unwrap();
        let identity = Identity::new(Role::Host, "h1");
        let into = directory.path().join("h1");
        assert!(authority.issue(&identity, &into).unwrap());
        let again = Authority::open(directory.path()).unwrap();
        assert!(!again.issue(&identity, &into).unwrap());
        Credentials::open(&into).unwrap();
    }
}
