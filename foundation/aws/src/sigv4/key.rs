//! Signing keys: derived from a secret for one day, region and service, and kept.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base::clock::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Where a signing key is good: `20150830/us-east-1/ec2/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// `YYYYMMDD`.
    pub day: String,
    /// `us-east-1`.
    pub region: String,
    /// `ec2`.
    pub service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

/// A key that signs for one scope. Its bytes are never printed.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// `HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), service), "aws4_request")`.
    pub fn derive(secret: &str, scope: &Scope) -> Self {
        let mut key = hmac::Key::new(HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        for part in [&scope.day, &scope.region, &scope.service, "aws4_request"] {
            key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        SigningKey(key)
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 32] {
        let mut signature = [0; 32];
        signature.copy_from_slice(hmac::sign(&self.0, bytes).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Compares two secrets (session tokens, for one) in a time that does not tell where they differ.
pub fn secrets_equal(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// Derived keys, so that a key costs its four HMACs once a day, and not with each request.
///
/// Two generations of at most `capacity` keys each: when the younger is full, the older is forgotten. A key that is
/// in use moves to the younger one.
#[derive(Debug)]
pub struct SigningKeys {
    capacity: usize,
    generations: Mutex<[Generation; 2]>,
}

type Generation = BTreeMap<(String, Scope), Entry>;

/// The secret stands with its key, so that a key made from another secret is never answered.
#[derive(Clone)]
struct Entry {
    secret: String,
    key: SigningKey,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

impl SigningKeys {
    /// Keeps at most twice `capacity` keys (at least one).
    pub fn new(capacity: usize) -> Self {
        SigningKeys { capacity: capacity.max(1), generations: Mutex::default() }
    }

    /// The key of this access key for this scope.
    pub fn get(&self, access_key_id: &str, secret: &str, scope: &Scope) -> SigningKey {
        let name = (access_key_id.to_owned(), scope.clone());
        // A panic elsewhere leaves the maps whole, so a poisoned lock is as good as any.
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [younger, older] = &mut *generations;
        let kept = |entry: &&Entry| secrets_equal(&entry.secret, secret);
        if let Some(entry) = younger.get(&name).filter(kept) {
            return entry.key.clone();
        }
        let key = match older.get(&name).filter(kept) {
            Some(entry) => entry.key.clone(),
            None => SigningKey::derive(secret, scope),
        };
        if younger.len() >= self.capacity {
            *older = std::mem::take(younger);
        }
        younger.insert(name, Entry { secret: secret.to_owned(), key: key.clone() });
        key
    }

    /// How many keys are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).iter().map(BTreeMap::len).sum()
    }
}

/// Reads `20150830T123600Z`.
pub(super) fn amz_date_parse(text: &str) -> Option<Timestamp> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    // The parser alone would take signs in the year.
    if text.len() != 16 || !text.as_bytes()[..8].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let instant = time::PrimitiveDateTime::parse(text, &format).ok()?.assume_utc();
    u64::try_from(instant.unix_timestamp()).ok().map(|seconds| Timestamp::from_unix_ms(seconds * 1000))
}

/// Prints `20150830T123600Z`.
pub(super) fn amz_date(timestamp: Timestamp) -> String {
    timestamp.iso8601()[..19].replace(['-', ':'], "") + "Z"
}
