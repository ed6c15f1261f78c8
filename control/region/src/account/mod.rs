//! Accounts and their access keys. A region's own for now; the global identity service will own them later and
//! replicate them here, which is why nothing else asks where they come from.

pub mod record;

use crate::owner::Tx;
use crate::record::Record;
use base::ids::AccountId;
use record::AccountRecord;
use std::sync::Arc;

/// Alphabet of access key ids (RFC 4648 base 32) and of secrets (base 64 without what needs quoting).
const KEY_ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Makes the account `id` with one access key. `AKIA` and 16 characters, and a secret of 40, as AWS's are.
pub fn account_create(
    tx: &mut Tx<'_>,
    id: AccountId,
    name: String,
    client_token: String,
) -> Arc<AccountRecord> {
    let access_key_id: String = std::iter::once("AKIA".to_owned())
        .chain((0..16).map(|_| char::from(KEY_ID_ALPHABET[tx.random.below(32) as usize]).to_string()))
        .collect();
    let secret: String = (0..40).map(|_| char::from(SECRET_ALPHABET[tx.random.below(64) as usize])).collect();
    let record = Arc::new(AccountRecord {
        account_id: id.to_string(),
        name,
        client_token,
        access_key_id,
        secret_access_key: secret,
        created_unix_ms: tx.now.unix_ms(),
        network_made: false,
    });
    tx.put(crate::record::Name::Account, Record::Account(record.clone()));
    record
}
