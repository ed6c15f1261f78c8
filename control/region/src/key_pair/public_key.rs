//! Public keys: read from the forms that ImportKeyPair takes, written as OpenSSH lines, and fingerprinted as AWS does.
//!
//! Sources: RFC 4253 section 6.6 and RFC 8709 (the SSH blob), RFC 4716 (the SSH2 block), RFC 8017 and RFC 8410 (the
//! DER forms); Amazon EC2 User Guide, "Create a key pair" and "Verify the fingerprint of your key pair".

use super::wire::{Der, Ssh, der, ssh_mpint, ssh_string};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::fmt::Write;

/// Lengths of RSA keys that AWS takes, in bits.
const RSA_BITS: [usize; 3] = [1024, 2048, 4096];
/// More than the longest key takes in any form.
const TEXT_BYTES_MAX: usize = 16 * 1024;

const RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ED25519_OID: &[u8] = &[0x2b, 0x65, 0x70];

/// Why text is not a public key that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// None of the forms.
    #[error("Key is not in valid OpenSSH public key format")]
    Format,
    /// An RSA key of another length.
    #[error("RSA keys of 1024, 2048 and 4096 bits are supported; this one has {0} bits")]
    Bits(usize),
    /// A key of another algorithm.
    #[error("Keys of type {0} are not supported; RSA and ED25519 are")]
    Algorithm(String),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Both numbers big-endian, without leading zeros.
    Rsa {
        /// The public exponent.
        exponent: Vec<u8>,
        /// The product of the primes.
        modulus: Vec<u8>,
    },
    /// The point, compressed.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads an OpenSSH line, an SSH2 block (RFC 4716), or DER, in base64 or as it is.
    pub fn parse(material: &[u8]) -> Result<PublicKey, PublicKeyError> {
        if material.len() > TEXT_BYTES_MAX {
            return Err(PublicKeyError::Format);
        }
        if material.first() == Some(&0x30)
            && let Some(key) = spki_read(material)
        {
            return key.check();
        }
        let text = std::str::from_utf8(material).map_err(|_| PublicKeyError::Format)?.trim();
        if text.starts_with("---- BEGIN SSH2 PUBLIC KEY ----") {
            return blob_read(&ssh2_unwrap(text).ok_or(PublicKeyError::Format)?)?.check();
        }
        let mut words = text.split_ascii_whitespace();
        if let (Some(algorithm), Some(blob)) = (words.next(), words.next())
            && algorithm.contains('-')
            && !algorithm.starts_with('-')
        {
            let known = matches!(algorithm, "ssh-rsa" | "ssh-ed25519");
            if text.lines().count() != 1 || !known {
                let shown = algorithm.chars().take(64).collect();
                return Err(if known { PublicKeyError::Format } else { PublicKeyError::Algorithm(shown) });
            }
            let blob = STANDARD.decode(blob).map_err(|_| PublicKeyError::Format)?;
            let key = blob_read(&blob)?;
            return if key.algorithm() == algorithm { key.check() } else { Err(PublicKeyError::Format) };
        }
        let packed: String = text.split_ascii_whitespace().collect();
        let der = STANDARD.decode(packed).map_err(|_| PublicKeyError::Format)?;
        spki_read(&der).ok_or(PublicKeyError::Format)?.check()
    }

    fn check(self) -> Result<PublicKey, PublicKeyError> {
        if let PublicKey::Rsa { exponent, modulus } = &self {
            let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
            if !RSA_BITS.contains(&bits) {
                return Err(PublicKeyError::Bits(bits));
            }
            let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
            if !odd(modulus) || !odd(exponent) || exponent.as_slice() == [1] {
                return Err(PublicKeyError::Format);
            }
        }
        Ok(self)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            PublicKey::Rsa { .. } => "ssh-rsa",
            PublicKey::Ed25519(_) => "ssh-ed25519",
        }
    }

    /// AWS's word for the kind: `rsa` or `ed25519`.
    pub fn key_type(&self) -> &'static str {
        match self {
            PublicKey::Rsa { .. } => "rsa",
            PublicKey::Ed25519(_) => "ed25519",
        }
    }

    /// The key as SSH sends it.
    pub fn blob(&self) -> Vec<u8> {
        let mut blob = ssh_string(self.algorithm().as_bytes());
        match self {
            PublicKey::Rsa { exponent, modulus } => {
                blob.extend(ssh_mpint(exponent));
                blob.extend(ssh_mpint(modulus));
            }
            PublicKey::Ed25519(point) => blob.extend(ssh_string(point)),
        }
        blob
    }

    /// The OpenSSH line, with `comment` at its end.
    pub fn line(&self, comment: &str) -> String {
        format!("{} {} {comment}", self.algorithm(), STANDARD.encode(self.blob()))
    }

    /// The fingerprint that AWS shows for an imported key (and for any ED25519 key): MD5 of an RSA key's DER form in
    /// hexadecimal, SHA-256 of an ED25519 key's SSH form in base64.
    pub fn fingerprint(&self) -> String {
        match self {
            PublicKey::Rsa { exponent, modulus } => colons(&Md5::digest(spki_write(exponent, modulus))),
            PublicKey::Ed25519(_) => STANDARD.encode(digest::digest(&digest::SHA256, &self.blob())),
        }
    }
}

/// `1f:51:ae...`
pub fn colons(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (index, byte) in bytes.iter().enumerate() {
        let colon = if index > 0 { ":" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

fn blob_read(blob: &[u8]) -> Result<PublicKey, PublicKeyError> {
    let mut blob = Ssh(blob);
    let algorithm = blob.string().ok_or(PublicKeyError::Format)?;
    let key = match algorithm {
        b"ssh-rsa" => blob.mpint().zip(blob.mpint()).map(|(exponent, modulus)| PublicKey::Rsa {
            exponent: exponent.to_vec(),
            modulus: modulus.to_vec(),
        }),
        b"ssh-ed25519" => blob.string().and_then(|point| point.try_into().ok()).map(PublicKey::Ed25519),
        other => {
            let shown = String::from_utf8_lossy(other).chars().take(64).collect();
            return Err(PublicKeyError::Algorithm(shown));
        }
    };
    key.filter(|_| blob.is_empty()).ok_or(PublicKeyError::Format)
}

/// The body of an SSH2 block: what follows the headers, of which a line may go on after a backslash.
fn ssh2_unwrap(text: &str) -> Option<Vec<u8>> {
    let mut body = String::new();
    let mut in_header = false;
    let mut lines = text.lines().map(str::trim).skip(1);
    for line in lines.by_ref() {
        if line == "---- END SSH2 PUBLIC KEY ----" {
            return STANDARD.decode(body).ok();
        }
        if in_header || line.contains(':') {
            in_header = line.ends_with('\\');
        } else {
            body.push_str(line);
        }
    }
    None
}

/// `SubjectPublicKeyInfo`: `{ { algorithm, parameters }, BIT STRING }`.
fn spki_read(bytes: &[u8]) -> Option<PublicKey> {
    let mut outer = Der(bytes);
    let mut spki = Der(outer.take(Der::SEQUENCE)?);
    let mut algorithm = Der(spki.take(Der::SEQUENCE)?);
    let oid = algorithm.take(Der::OID)?;
    // The first byte counts unused bits.
    let key = spki.take(Der::BIT_STRING)?.strip_prefix(&[0])?;
    if !outer.0.is_empty() || !spki.0.is_empty() {
        return None;
    }
    match oid {
        RSA_OID => {
            let mut numbers = Der(Der(key).take(Der::SEQUENCE)?);
            let (modulus, exponent) = (numbers.unsigned()?.to_vec(), numbers.unsigned()?.to_vec());
            Some(PublicKey::Rsa { exponent, modulus })
        }
        ED25519_OID => key.try_into().ok().map(PublicKey::Ed25519),
        _ => None,
    }
}

fn spki_write(exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let signed = number.first().is_some_and(|byte| byte & 0x80 != 0);
        let zero: &[u8] = if signed { &[0] } else { &[] };
        der(Der::INTEGER, &[zero, number].concat())
    };
    let key = der(Der::SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    let algorithm = der(Der::SEQUENCE, &[der(Der::OID, RSA_OID), der(Der::NULL, &[])].concat());
    let key = der(Der::BIT_STRING, &[&[0], key.as_slice()].concat());
    der(Der::SEQUENCE, &[algorithm, key].concat())
}
