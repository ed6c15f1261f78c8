//! What is stored of a key pair: the public half only.

use crate::tag::record::TagRecord;

/// A key pair. The private half is given to the customer once and never stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyPairRecord {
    /// `key-...`
    #[prost(string, tag = "1")]
    pub key_pair_id: String,
    /// Unique in the account.
    #[prost(string, tag = "2")]
    pub key_name: String,
    /// `rsa` or `ed25519`
    #[prost(string, tag = "3")]
    pub key_type: String,
    /// As AWS prints it for how the key came to be.
    #[prost(string, tag = "4")]
    pub fingerprint: String,
    /// One OpenSSH line: `ssh-ed25519 AAAA... name`.
    #[prost(string, tag = "5")]
    pub public_key: String,
    /// When it was made.
    #[prost(uint64, tag = "6")]
    pub created_unix_ms: u64,
    /// Sorted by key.
    #[prost(message, repeated, tag = "7")]
    pub tags: Vec<TagRecord>,
}
