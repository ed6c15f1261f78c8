//! What the region stores: one key and one encoded record for each thing that it must remember.
//!
//! ```text
//!   s0/ACCOUNT/account
//!   s0/ACCOUNT/instance/i-...
//!   s0/ACCOUNT/key-pair/key-...
//!   s0/ACCOUNT/reservation/r-...
//!   s0/ACCOUNT/tags/RESOURCE
//!   s0/ACCOUNT/token/OPERATION/TOKEN
//!   region/cursor-secret, region/term
//! ```
//!
//! `s0` is the shard: an account's is fixed, and there is one until a region needs more. Records are prost
//! messages (numbered fields, so that old bytes are read by new code), each written beside its resource.

use crate::account::record::AccountRecord;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::key_pair::record::KeyPairRecord;
use crate::tag::record::TagsRecord;
use base::ids::{AccountId, InstanceId, KeyPairId, ReservationId};
use metastore::{Key, Value};
use prost::Message;
use std::sync::Arc;

const SHARD: &str = "s0";

/// The name of a record within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// The account itself.
    Account,
    /// An instance.
    Instance(InstanceId),
    /// A key pair.
    KeyPair(KeyPairId),
    /// A launch.
    Reservation(ReservationId),
    /// The tags of a resource that has no record of its own.
    Tags(String),
    /// An idempotency token of an operation.
    Token(String),
}

impl Name {
    /// The store's key.
    pub fn key(&self, account: AccountId) -> Key {
        let rest = match self {
            Name::Account => "account".to_owned(),
            Name::Instance(id) => format!("instance/{id}"),
            Name::KeyPair(id) => format!("key-pair/{id}"),
            Name::Reservation(id) => format!("reservation/{id}"),
            Name::Tags(resource) => format!("tags/{resource}"),
            Name::Token(token) => format!("token/{token}"),
        };
        format!("{SHARD}/{account}/{rest}").into_bytes()
    }
}

/// A record of an account.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The account itself.
    Account(Arc<AccountRecord>),
    /// An instance.
    Instance(Arc<InstanceRecord>),
    /// A key pair.
    KeyPair(Arc<KeyPairRecord>),
    /// A launch.
    Reservation(Arc<ReservationRecord>),
    /// The tags of a resource that has no record of its own.
    Tags(Arc<TagsRecord>),
    /// An idempotency token.
    Token(Arc<TokenRecord>),
}

impl Record {
    /// How many bytes [`Record::encode`] gives.
    pub fn encoded_len(&self) -> usize {
        match self {
            Record::Account(record) => record.encoded_len(),
            Record::Instance(record) => record.encoded_len(),
            Record::KeyPair(record) => record.encoded_len(),
            Record::Reservation(record) => record.encoded_len(),
            Record::Tags(record) => record.encoded_len(),
            Record::Token(record) => record.encoded_len(),
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Value {
        match self {
            Record::Account(record) => record.encode_to_vec(),
            Record::Instance(record) => record.encode_to_vec(),
            Record::KeyPair(record) => record.encode_to_vec(),
            Record::Reservation(record) => record.encode_to_vec(),
            Record::Tags(record) => record.encode_to_vec(),
            Record::Token(record) => record.encode_to_vec(),
        }
    }
}

/// A stored record that cannot be read: corruption, or a store of a newer version.
#[derive(Debug, thiserror::Error)]
#[error("the stored record {key} cannot be read: {why}")]
pub struct RecordError {
    /// Its key.
    pub key: String,
    /// Why.
    pub why: String,
}

/// Reads a stored record. `None`: the key is not an account's.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<(AccountId, Name, Record)>, RecordError> {
    let text = String::from_utf8_lossy(key);
    let error = |why: &dyn std::fmt::Display| RecordError { key: text.to_string(), why: why.to_string() };
    let Some((account, rest)) =
        text.strip_prefix(SHARD).and_then(|r| r.strip_prefix('/')).and_then(|r| r.split_once('/'))
    else {
        return Ok(None);
    };
    let account: AccountId = account.parse().map_err(|e| error(&e))?;
    let (table, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, record) = match table {
        "account" => (Name::Account, AccountRecord::decode(value).map(|r| Record::Account(Arc::new(r)))),
        "instance" => (
            Name::Instance(name.parse().map_err(|e| error(&e))?),
            InstanceRecord::decode(value).map(|r| Record::Instance(Arc::new(r))),
        ),
        "key-pair" => (
            Name::KeyPair(name.parse().map_err(|e| error(&e))?),
            KeyPairRecord::decode(value).map(|r| Record::KeyPair(Arc::new(r))),
        ),
        "reservation" => (
            Name::Reservation(name.parse().map_err(|e| error(&e))?),
            ReservationRecord::decode(value).map(|r| Record::Reservation(Arc::new(r))),
        ),
        "tags" => (Name::Tags(name.to_owned()), TagsRecord::decode(value).map(|r| Record::Tags(Arc::new(r)))),
        "token" => {
            (Name::Token(name.to_owned()), TokenRecord::decode(value).map(|r| Record::Token(Arc::new(r))))
        }
        _ => return Err(error(&"its table is unknown to this version")),
    };
    Ok(Some((account, name, record.map_err(|e| error(&e))?)))
}
