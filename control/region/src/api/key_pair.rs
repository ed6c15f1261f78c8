//! CreateKeyPair, ImportKeyPair, DescribeKeyPairs and DeleteKeyPair.

use super::errors;
use crate::key_pair::record::KeyPairRecord;
use crate::model::Account;
use aws::ApiError;

/// The key pair of this name.
pub(super) fn find_by_name<'a>(account: &'a Account, name: &str) -> Result<&'a KeyPairRecord, ApiError> {
    let found = account.key_pairs.values().find(|record| record.key_name == name);
    found.map(AsRef::as_ref).ok_or_else(|| errors::key_pair_not_found(name))
}
