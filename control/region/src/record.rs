//! What the region stores: one key and one encoded record for each thing that it must remember.
//!
//! ```text
//!   a/0/ACCOUNT/account
//!   a/0/ACCOUNT/instance/i-...
//!   a/0/ACCOUNT/key-pair/key-...
//!   a/0/ACCOUNT/reservation/r-...
//!   a/0/ACCOUNT/tags/RESOURCE
//!   a/0/ACCOUNT/token/OPERATION/TOKEN
//!   region/cursor-secret, region/term
//! ```
//!
//! `a/0` is the shard (`metastore::shard`): an account's is fixed, and there is one until a region needs more. Records are prost
//! messages (numbered fields, so that old bytes are read by new code), each written beside its resource.

use crate::account::record::AccountRecord;
use crate::instance::record::{InstanceRecord, ReservationRecord, TokenRecord};
use crate::key_pair::record::KeyPairRecord;
use crate::tag::record::TagsRecord;
use base::ids::{AccountId, IdError, InstanceId, KeyPairId, ReservationId};
use metastore::shard::{Shard, account_key};
use metastore::table::{self, TableError};
use metastore::{Key, Value};
use prost::Message;
use std::sync::Arc;

/// Where all accounts are.
const SHARD: Shard = Shard(0);
/// The key of the term.
pub const TERM_KEY: &str = "region/term";
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

impl table::Record for Record {
    const PREFIX: &'static str = metastore::shard::ACCOUNTS;
    type Id = (AccountId, Name);

    fn key((account, name): &(AccountId, Name)) -> Key {
        name.key(*account)
    }

    fn id(key: &[u8]) -> Result<(AccountId, Name), String> {
        let owned = account_key(key).map_err(|error| error.to_string())?;
        let owned = owned.ok_or("its key is unknown to this version")?;
        if owned.shard != SHARD {
            return Err("its shard is unknown to this version".into());
        }
        let account: AccountId = owned.account.parse().map_err(|error: IdError| error.to_string())?;
        let rest = std::str::from_utf8(owned.rest).map_err(|error| error.to_string())?;
        let (table, name) = rest.split_once('/').unwrap_or((rest, ""));
        let name = match table {
            "account" => Ok(Name::Account),
            "instance" => name.parse().map(Name::Instance),
            "key-pair" => name.parse().map(Name::KeyPair),
            "reservation" => name.parse().map(Name::Reservation),
            "tags" => Ok(Name::Tags(name.to_owned())),
            "token" => Ok(Name::Token(name.to_owned())),
            _ => return Err("its table is unknown to this version".into()),
        };
        Ok((account, name.map_err(|error: IdError| error.to_string())?))
    }

    fn encode(&self) -> Value {
        Record::encode(self)
    }

    fn decode((_, name): &(AccountId, Name), bytes: &[u8]) -> Result<Record, String> {
        let record = match name {
            Name::Account => AccountRecord::decode(bytes).map(|record| Record::Account(Arc::new(record))),
            Name::Instance(_) => {
                InstanceRecord::decode(bytes).map(|record| Record::Instance(Arc::new(record)))
            }
            Name::KeyPair(_) => KeyPairRecord::decode(bytes).map(|record| Record::KeyPair(Arc::new(record))),
            Name::Reservation(_) => {
                ReservationRecord::decode(bytes).map(|record| Record::Reservation(Arc::new(record)))
            }
            Name::Tags(_) => TagsRecord::decode(bytes).map(|record| Record::Tags(Arc::new(record))),
            Name::Token(_) => TokenRecord::decode(bytes).map(|record| Record::Token(Arc::new(record))),
        };
        record.map_err(|error| error.to_string())
    }
}

/// Reads an entry of the region's store. `None`: the key is the region's own and no account's. A key that this
/// version does not know is an error: the store is another role's, or a newer version's.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Option<(AccountId, Name, Record)>, TableError> {
    if [TERM_KEY, CURSOR_SECRET_KEY].map(str::as_bytes).contains(&key) {
        return Ok(None);
    }
    let error = |why| TableError { key: key.escape_ascii().to_string(), why };
    let id = <Record as table::Record>::id(key).map_err(error)?;
    let record = <Record as table::Record>::decode(&id, value).map_err(error)?;
    Ok(Some((id.0, id.1, record)))
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
