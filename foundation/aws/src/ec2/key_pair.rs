//! Key pairs for logging in.

use super::{Filter, Tag, TagSpecification};
use crate::Shape;
use crate::shape::Blob;
use base::clock::Timestamp;

/// The input of CreateKeyPair.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct CreateKeyPairRequest {
    /// A name of the account's own, 1 to 255 ASCII characters.
    pub key_name: String,
    /// `rsa` (the default) or `ed25519`.
    pub key_type: Option<String>,
    /// `pem` (the default) or `ppk`.
    pub key_format: Option<String>,
    /// Its tags.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The input of ImportKeyPair.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct ImportKeyPairRequest {
    /// A name of the account's own, 1 to 255 ASCII characters.
    pub key_name: String,
    /// The public key: OpenSSH's format, or DER, or the base64 of DER.
    pub public_key_material: Blob,
    /// Its tags.
    pub tag_specifications: Vec<TagSpecification>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of CreateKeyPair and ImportKeyPair.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct KeyPair {
    /// `key-0123456789abcdef0`.
    pub key_pair_id: String,
    /// Its name.
    pub key_name: String,
    /// A digest of it, in the form that AWS has for its kind and origin.
    pub key_fingerprint: String,
    /// The private key: CreateKeyPair only, and never again.
    pub key_material: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The input of DescribeKeyPairs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeKeyPairsRequest {
    /// Only these, by name.
    pub key_names: Vec<String>,
    /// Only these, by id.
    pub key_pair_ids: Vec<String>,
    /// Also the public keys.
    pub include_public_key: Option<bool>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DescribeKeyPairs.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DescribeKeyPairsResponse {
    /// The key pairs.
    #[shape(response = "keySet")]
    pub key_pairs: Vec<KeyPairDescription>,
}

/// A key pair, without its private half.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct KeyPairDescription {
    /// `key-0123456789abcdef0`.
    pub key_pair_id: String,
    /// Its name.
    pub key_name: String,
    /// `rsa` or `ed25519`.
    pub key_type: String,
    /// A digest of it.
    pub key_fingerprint: String,
    /// OpenSSH's format, if it was asked for.
    pub public_key: Option<String>,
    /// When it was made or imported.
    pub create_time: Timestamp,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// The input of DeleteKeyPair: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteKeyPairRequest {
    /// Its name.
    pub key_name: Option<String>,
    /// Its id.
    pub key_pair_id: Option<String>,
    /// Only ask whether it would be allowed.
    pub dry_run: Option<bool>,
}

/// The answer of DeleteKeyPair: a success even if there was none.
#[derive(Clone, Debug, Default, PartialEq, Shape)]
pub struct DeleteKeyPairResponse {
    /// Always true.
    pub r#return: bool,
    /// The one deleted.
    pub key_pair_id: Option<String>,
}
