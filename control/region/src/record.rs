//! What the region stores: one key and one encoded record for each thing that it must remember.
//!
//! ```text
//!   a/0/ACCOUNT/account
//!   a/0/ACCOUNT/instance/i-...
//!   a/0/ACCOUNT/key-pair/key-...
//!   a/0/ACCOUNT/reservation/r-...
//!   a/0/ACCOUNT/tags/RESOURCE
//!   a/0/ACCOUNT/token/OPERATION/TOKEN
//!   region/cursor-secret, region/leader, region/term
//! ```
//!
//! `a/0` is the shard (`metastore::shard`): an account's is fixed, and there is one until a region needs more. Records
//! are prost messages (numbered fields, so that old bytes are read by new code), each written beside its resource.

use crate::account::record::AccountRecord;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::key_pair::record::KeyPairRecord;
use crate::tag::record::TagsRecord;
use base::ids::{AccountId, InstanceId, KeyPairId, ReservationId};
use metastore::shard::{Shard, account_key};
use metastore::{Key, Value};
use prost::Message;
use std::sync::Arc;

/// Where all accounts are.
const SHARD: Shard = Shard(0);
/// The key of the term.
pub const TERM_KEY: &str = "region/term";
/// The key that exists while a process leads, where several share the store.
pub const LEADER_KEY: &str = "region/leader";
/// The key of the secret that cursors are signed with.
pub const CURSOR_SECRET_KEY: &str = "region/cursor-secret";

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
        format!("{}{rest}", SHARD.account_prefix(account)).into_bytes()
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

/// Reads a stored record. `None`: the key is the region's own and no account's. A key that this version does not
/// know is an error: the store is another role's, or a newer version's.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<(AccountId, Name, Record)>, RecordError> {
    let text = String::from_utf8_lossy(key);
    let error = |why: &dyn std::fmt::Display| RecordError { key: text.to_string(), why: why.to_string() };
    if [TERM_KEY, LEADER_KEY, CURSOR_SECRET_KEY].contains(&&*text) {
        return Ok(None);
    }
    let owned = account_key(key).map_err(|e| error(&e))?;
    let owned = owned.ok_or_else(|| error(&"its key is unknown to this version"))?;
    if owned.shard != SHARD {
        return Err(error(&"its shard is unknown to this version"));
    }
    let account: AccountId = owned.account.parse().map_err(|e| error(&e))?;
    let rest = std::str::from_utf8(owned.rest).map_err(|e| error(&e))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_version_does_not_know_is_refused_by_name() {
        let account: AccountId = "123456789012".parse().unwrap();
        let key = Name::Tags("vpc-1".into()).key(account);
        assert_eq!(key, b"a/0/123456789012/tags/vpc-1");
        let (of, name, _) = decode(&key, &[]).unwrap().unwrap();
        assert_eq!((of, name), (account, Name::Tags("vpc-1".into())));
        assert_eq!(decode(TERM_KEY.as_bytes(), &[]).unwrap(), None);
        for unknown in ["s0/123456789012/account", "cell/term", "a/1/123456789012/account", "a/0/12/account"]
        {
            assert_eq!(decode(unknown.as_bytes(), &[]).unwrap_err().key, unknown);
        }
    }
}
