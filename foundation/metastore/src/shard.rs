//! Whose key a key is. An account's records live in one shard, the shard is in every key, and a commit touches one
//! account: so a shard can move to a store of its own without any transaction across stores. Asked by
//! `Commit::check` in every engine, and by whoever makes keys.
//!
//! ```text
//!   a/SHARD/ACCOUNT/TABLE/...     a record of an account, for example a/0/123456789012/instance/i-...
//!   anything else                 the store's owner's own: terms, leaders, claims
//!   \0...                         reserved for engines: no commit may name it, and nobody reads it
//! ```
//!
//! Deliberately absent: which shard an account is in. The region decides that; there is one until it needs more.

use base::ids::AccountId;

/// All accounts' keys begin with this.
pub const ACCOUNTS: &str = "a/";

/// A part of a region's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// What the keys of all its accounts begin with.
    pub fn prefix(self) -> String {
        format!("{ACCOUNTS}{}/", self.0)
    }

    /// What the keys of one account in it begin with.
    pub fn account_prefix(self, account: AccountId) -> String {
        format!("{ACCOUNTS}{}/{account}/", self.0)
    }
}

/// Whose a key is, and what follows in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountKey<'a> {
    /// The shard.
    pub shard: Shard,
    /// The account, as it stands in the key.
    pub account: &'a str,
    /// The rest: table and name.
    pub rest: &'a [u8],
}

/// A key under [`ACCOUNTS`] that does not go on as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key under {ACCOUNTS:?} goes on with a shard's number, an account and a name")]
pub struct Malformed;

/// Reads a key; `None` if it is no account's.
pub fn account_key(key: &[u8]) -> Result<Option<AccountKey<'_>>, Malformed> {
    let Some(rest) = key.strip_prefix(ACCOUNTS.as_bytes()) else { return Ok(None) };
    let (shard, rest) = part(rest).ok_or(Malformed)?;
    let (account, rest) = part(rest).ok_or(Malformed)?;
    // One spelling of a number only, so that one shard is one range of keys.
    let number: u16 = shard.parse().map_err(|_| Malformed)?;
    if number.to_string() != shard || rest.is_empty() {
        return Err(Malformed);
    }
    Ok(Some(AccountKey { shard: Shard(number), account, rest }))
}

/// What stands before the next slash, if it is something, and what follows.
fn part(key: &[u8]) -> Option<(&str, &[u8])> {
    let slash = key.iter().position(|byte| *byte == b'/').filter(|slash| *slash > 0)?;
    Some((std::str::from_utf8(&key[..slash]).ok()?, &key[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_key_is_read_back() {
        let account: AccountId = "123456789012".parse().unwrap();
        let key = format!("{}instance/i-1", Shard(7).account_prefix(account));
        assert_eq!(key, "a/7/123456789012/instance/i-1");
        let read = AccountKey { shard: Shard(7), account: "123456789012", rest: b"instance/i-1" };
        assert_eq!(account_key(key.as_bytes()), Ok(Some(read)));
        assert!(key.starts_with(&Shard(7).prefix()));
    }

    #[test]
    fn what_is_not_under_accounts_is_nobodys_and_what_is_must_be_whole() {
        for key in ["region/term", "a", "ab/0/1/2", "/a/0/1/2"] {
            assert_eq!(account_key(key.as_bytes()), Ok(None), "{key}");
        }
        for key in ["a/", "a/0", "a/0/1", "a/0/1/", "a//1/2", "a/0//2", "a/00/1/2", "a/x/1/2", "a/65536/1/2"]
        {
            assert_eq!(account_key(key.as_bytes()), Err(Malformed), "{key}");
        }
        assert_eq!(account_key(b"a/0/\xff/2"), Err(Malformed));
    }
}
