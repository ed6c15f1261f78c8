//! New key pairs, as CreateKeyPair gives them out. The private half is returned and kept nowhere.
//!
//! aws-lc makes the keys. The forms around them are few enough to be written here: PKCS#1 is what PKCS#8 wraps, and
//! OpenSSH's format is a dozen strings (OpenSSH, PROTOCOL.key).

use super::public_key::{PublicKey, colons};
use super::wire::{Der, ssh_string};
use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base::random::Random;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A key could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library cannot make a key")]
pub struct GenerateError;

/// A key pair, both halves.
pub struct GeneratedKey {
    /// The public half.
    pub public: PublicKey,
    /// As AWS shows it for a key that it made.
    pub fingerprint: String,
    /// The private half: PEM, unencrypted.
    pub private_pem: String,
}

/// A new RSA key of 2048 bits: PKCS#1; its fingerprint is SHA-1 of the PKCS#8 form. Takes up to seconds of a core.
pub fn rsa_generate() -> Result<GeneratedKey, GenerateError> {
    let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).map_err(|_| GenerateError)?;
    let pkcs8 = key.as_der().map_err(|_| GenerateError)?;
    let pkcs1 = pkcs8_unwrap(pkcs8.as_ref()).ok_or(GenerateError)?;
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, pkcs8.as_ref());
    Ok(GeneratedKey {
        public: pkcs1_public(pkcs1).ok_or(GenerateError)?,
        fingerprint: colons(sha1.as_ref()),
        private_pem: pem("RSA PRIVATE KEY", pkcs1, 64),
    })
}

/// A new ED25519 key, in OpenSSH's format with `comment` in it.
pub fn ed25519_generate(random: &mut Random, comment: &str) -> Result<GeneratedKey, GenerateError> {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| GenerateError)?;
    let point: [u8; 32] = key.public_key().as_ref().try_into().map_err(|_| GenerateError)?;
    let public = PublicKey::Ed25519(point);
    let check = (random.u64() as u32).to_be_bytes();
    let mut private = [check, check].concat();
    private.extend(ssh_string(b"ssh-ed25519"));
    private.extend(ssh_string(&point));
    private.extend(ssh_string(&[seed, point].concat()));
    private.extend(ssh_string(comment.as_bytes()));
    // Padded with 1, 2, 3... to a multiple of the block size of no cipher.
    private.extend((1..=8u8).take((8 - private.len() % 8) % 8));
    let mut bytes = b"openssh-key-v1\0".to_vec();
    for string in [b"none".as_slice(), b"none", b""] {
        bytes.extend(ssh_string(string));
    }
    bytes.extend(1u32.to_be_bytes());
    bytes.extend(ssh_string(&public.blob()));
    bytes.extend(ssh_string(&private));
    Ok(GeneratedKey {
        fingerprint: public.fingerprint(),
        public,
        private_pem: pem("OPENSSH PRIVATE KEY", &bytes, 70),
    })
}

/// `PrivateKeyInfo`: `{ version, { algorithm }, OCTET STRING }`.
fn pkcs8_unwrap(pkcs8: &[u8]) -> Option<&[u8]> {
    let mut outer = Der(Der(pkcs8).take(Der::SEQUENCE)?);
    outer.take(Der::INTEGER)?;
    outer.take(Der::SEQUENCE)?;
    outer.take(Der::OCTET_STRING)
}

/// `RSAPrivateKey`: `{ version, modulus, publicExponent, ... }`.
fn pkcs1_public(pkcs1: &[u8]) -> Option<PublicKey> {
    let mut key = Der(Der(pkcs1).take(Der::SEQUENCE)?);
    key.take(Der::INTEGER)?;
    let (modulus, exponent) = (key.unsigned()?.to_vec(), key.unsigned()?.to_vec());
    Some(PublicKey::Rsa { exponent, modulus })
}

fn pem(label: &str, bytes: &[u8], columns: usize) -> String {
    let text = STANDARD.encode(bytes);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(columns) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----"));
    pem
}
