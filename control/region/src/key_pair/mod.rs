//! Key pairs: the public halves that guests let in.

pub mod generate;
pub mod public_key;
pub mod record;
#[cfg(test)]
mod tests;
mod wire;

use crate::owner::Tx;
use crate::record::{Name, Record};
use crate::refusal::Refusal;
use base::ids::KeyPairId;
use record::KeyPairRecord;
use std::sync::Arc;

/// Stores a key pair under an id of its own; its name must be free in the account.
pub fn key_pair_create(tx: &mut Tx<'_>, mut record: KeyPairRecord) -> Result<Arc<KeyPairRecord>, Refusal> {
    if tx.all::<KeyPairRecord>().any(|(_, other)| other.key_name == record.key_name) {
        return Err(Refusal::KeyPairExists(record.key_name));
    }
    let id = KeyPairId::random(tx.random);
    record.key_pair_id = id.to_string();
    record.created_unix_ms = tx.now.unix_ms();
    let record = Arc::new(record);
    tx.put(Name::KeyPair(id), Record::KeyPair(record.clone()));
    Ok(record)
}

/// Removes a key pair, by name or by id; says which it was. One that does not exist is no error, as in AWS.
pub fn key_pair_delete(tx: &mut Tx<'_>, name: Option<&str>, id: Option<KeyPairId>) -> Option<KeyPairId> {
    let found = tx.all::<KeyPairRecord>().find(|(key_pair, record)| {
        id.is_none_or(|id| id == *key_pair) && name.is_none_or(|name| name == record.key_name)
    });
    let (id, _) = found?;
    tx.remove::<KeyPairRecord>(id);
    Some(id)
}
