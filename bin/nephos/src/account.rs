//! Accounts: making them, and the default one's keys.

use crate::arguments::{Account, AccountCommand};
use crate::cloud::Cloud;
use crate::error::Error;
use crate::operator;
use contract::{AccountCreateRequest, AccountCreateResponse};
use serde::{Deserialize, Serialize};

/// An account with its access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Twelve digits.
    pub account_id: String,
    /// For people.
    pub name: String,
    /// `AKIA...`
    pub access_key_id: String,
    /// Given here and nowhere else.
    pub secret_access_key: String,
}

/// `nephos account`
pub fn account(arguments: &Account) -> Result<(), Error> {
    let AccountCommand::Create { name, at } = &arguments.command;
    let keys = create(&Cloud::open(at)?, name, "")?;
    say!("{}", json(&keys)?);
    Ok(())
}

/// The keys of the account that everybody starts with, made at the first start.
pub fn default_ensure(cloud: &Cloud) -> Result<Keys, Error> {
    let keys = create(cloud, "default", "default")?;
    let path = cloud.credentials_file();
    base::disk::file_replace(&path, json(&keys)?.as_bytes(), 0o600).map_err(Error::file("write", &path))?;
    Ok(keys)
}

/// The keys of the account that everybody starts with.
pub fn default_read(cloud: &Cloud) -> Result<Keys, Error> {
    let path = cloud.credentials_file();
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::Denied(cloud.dir.clone()),
        _ => Error::NotUp(cloud.dir.clone()),
    })?;
    serde_json::from_str(&text).map_err(|error| Error::Content { path, why: error.to_string() })
}

fn create(cloud: &Cloud, name: &str, client_token: &str) -> Result<Keys, Error> {
    let request = AccountCreateRequest { name: name.to_owned(), client_token: client_token.to_owned() };
    let answer: AccountCreateResponse =
        operator::ask(cloud, |mut region| async move { region.account_create(request).await })?;
    Ok(Keys {
        account_id: answer.account_id,
        name: answer.name,
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key,
    })
}

fn json(keys: &Keys) -> Result<String, Error> {
    serde_json::to_string_pretty(keys).map_err(|error| Error::Said(error.to_string()))
}
