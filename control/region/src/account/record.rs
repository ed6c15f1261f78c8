//! What is stored of an account.

/// An account with its access key. The secret is stored as it is, because SigV4 needs it to verify a signature;
/// the store's directory is readable by its owner only.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AccountRecord {
    /// Twelve digits.
    #[prost(string, tag = "1")]
    pub account_id: String,
    /// For people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Creating twice with the same token makes one account.
    #[prost(string, tag = "3")]
    pub client_token: String,
    /// `AKIA...`
    #[prost(string, tag = "4")]
    pub access_key_id: String,
    /// 40 characters.
    #[prost(string, tag = "5")]
    pub secret_access_key: String,
    /// When it was made.
    #[prost(uint64, tag = "6")]
    pub created_unix_ms: u64,
    /// It has got its first network. Accounts from before there were networks get theirs when they are first swept.
    #[prost(bool, tag = "7")]
    pub network_made: bool,
}
