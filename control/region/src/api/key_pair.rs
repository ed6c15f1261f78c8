//! CreateKeyPair, ImportKeyPair, DescribeKeyPairs and DeleteKeyPair.

use super::filter::{Filtered, Filters};
use super::{Api, errors, parse, tag, unexpected};
use crate::key_pair::generate::{GeneratedKey, ed25519_generate, rsa_generate};
use crate::key_pair::public_key::PublicKey;
use crate::key_pair::record::KeyPairRecord;
use crate::model::Account;
use crate::refusal::Refusal;
use crate::request::{Answer as Done, Request};
use crate::tag::record::TagRecord;
use aws::ec2::*;
use aws::{ApiError, Caller, codes};
use base::clock::Timestamp;
use base::ids::KeyPairId;
use base::random::Random;
use std::sync::Arc;

/// The most characters of a name. Source: Amazon EC2 API Reference, CreateKeyPair.
const NAME_CHARS_MAX: usize = 255;

/// CreateKeyPair.
pub async fn key_pair_create(
    api: &Api,
    caller: &Caller,
    input: CreateKeyPairRequest,
) -> Result<KeyPair, ApiError> {
    name_check(&input.key_name)?;
    let key_type = input.key_type.as_deref().unwrap_or("rsa");
    let key_type = parse::word("KeyType", key_type, &["rsa", "ed25519"])?;
    let format = input.key_format.as_deref().unwrap_or("pem");
    if parse::word("KeyFormat", format, &["pem", "ppk"])? == "ppk" {
        return Err(errors::unsupported("The key format ppk is not supported by Nephos yet; pem is."));
    }
    let tags = tag::specified(&input.tag_specifications, "key-pair")?;
    name_is_free(api, caller, &input.key_name)?;
    parse::dry_run(input.dry_run)?;
    let key = generate(api, key_type, input.key_name.clone()).await?;
    let record = record_of(&key.public, input.key_name, key.fingerprint, tags);
    let made = store(api, caller, record).await?;
    Ok(KeyPair { key_material: Some(key.private_pem), ..told(&made) })
}

/// Makes a key on a thread that may take its time; only a few at once, for each takes a core.
async fn generate(api: &Api, key_type: &'static str, name: String) -> Result<GeneratedKey, ApiError> {
    let _turn = api.key_generation.acquire().await.map_err(|_| ApiError::internal())?;
    let made = tokio::task::spawn_blocking(move || match key_type {
        "rsa" => rsa_generate(),
        _ => ed25519_generate(&mut Random::from_os(), &name),
    });
    let made = made.await.map_err(|error| error.to_string());
    made.and_then(|made| made.map_err(|error| error.to_string())).map_err(|error| {
        tracing::error!(%error, key_type, "a key pair cannot be made");
        ApiError::internal()
    })
}

/// ImportKeyPair.
pub async fn key_pair_import(
    api: &Api,
    caller: &Caller,
    input: ImportKeyPairRequest,
) -> Result<KeyPair, ApiError> {
    name_check(&input.key_name)?;
    let public = PublicKey::parse(&input.public_key_material.0)
        .map_err(|error| ApiError::new(codes::INVALID_KEY_FORMAT, error.to_string()))?;
    let tags = tag::specified(&input.tag_specifications, "key-pair")?;
    name_is_free(api, caller, &input.key_name)?;
    parse::dry_run(input.dry_run)?;
    let fingerprint = public.fingerprint();
    let made = store(api, caller, record_of(&public, input.key_name, fingerprint, tags)).await?;
    Ok(told(&made))
}

fn record_of(public: &PublicKey, name: String, fingerprint: String, tags: Vec<TagRecord>) -> KeyPairRecord {
    KeyPairRecord {
        key_type: public.key_type().to_owned(),
        fingerprint,
        public_key: public.line(&name),
        key_name: name,
        tags,
        ..KeyPairRecord::default()
    }
}

async fn store(api: &Api, caller: &Caller, record: KeyPairRecord) -> Result<Arc<KeyPairRecord>, ApiError> {
    match api.change(caller, Request::KeyPairCreate(Box::new(record))).await? {
        Done::KeyPair(record) => Ok(record),
        other => Err(unexpected(&other)),
    }
}

fn told(record: &KeyPairRecord) -> KeyPair {
    KeyPair {
        key_pair_id: record.key_pair_id.clone(),
        key_name: record.key_name.clone(),
        key_fingerprint: record.fingerprint.clone(),
        key_material: None,
        tags: tag::shapes(&record.tags),
    }
}

/// A name ends up at the end of a line of `authorized_keys`: no character of it may end that line.
fn name_check(name: &str) -> Result<(), ApiError> {
    let printable = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !printable {
        let reason = format!("A name has 1 to {NAME_CHARS_MAX} printable ASCII characters.");
        return Err(errors::invalid_value("KeyName", &name, &reason));
    }
    Ok(())
}

/// Refuses a name that is taken, before work is done for it. The owner looks again.
fn name_is_free(api: &Api, caller: &Caller, name: &str) -> Result<(), ApiError> {
    api.read(caller, |account| match find_by_name(account, name) {
        Ok(_) => Err(Refusal::KeyPairExists(name.to_owned()).into()),
        Err(_) => Ok(()),
    })
}

/// The key pair of this name.
pub(super) fn find_by_name<'a>(account: &'a Account, name: &str) -> Result<&'a KeyPairRecord, ApiError> {
    let found = account.tables.key_pairs.values().find(|record| record.key_name == name);
    found.map(AsRef::as_ref).ok_or_else(|| errors::key_pair_not_found(name))
}

/// DescribeKeyPairs.
pub fn key_pairs_describe(
    api: &Api,
    caller: &Caller,
    input: DescribeKeyPairsRequest,
) -> Result<DescribeKeyPairsResponse, ApiError> {
    let filters = Filters::read::<KeyPairRecord>(&input.filters)?;
    let with_key = input.include_public_key.unwrap_or(false);
    parse::dry_run(input.dry_run)?;
    api.read(caller, |account| {
        for name in &input.key_names {
            find_by_name(account, name)?;
        }
        for id in &input.key_pair_ids {
            let known = id.parse().is_ok_and(|id: KeyPairId| account.tables.key_pairs.contains_key(&id));
            if !known {
                return Err(errors::key_pair_not_found(id));
            }
        }
        let all = input.key_names.is_empty() && input.key_pair_ids.is_empty();
        let named = |record: &KeyPairRecord| {
            all || input.key_names.contains(&record.key_name)
                || input.key_pair_ids.contains(&record.key_pair_id)
        };
        let records =
            account.tables.key_pairs.values().filter(|record| named(record) && filters.hold(record.as_ref()));
        let key_pairs = records.map(|record| KeyPairDescription {
            key_pair_id: record.key_pair_id.clone(),
            key_name: record.key_name.clone(),
            key_type: record.key_type.clone(),
            key_fingerprint: record.fingerprint.clone(),
            public_key: with_key.then(|| record.public_key.clone()),
            create_time: Timestamp::from_unix_ms(record.created_unix_ms),
            tags: tag::shapes(&record.tags),
        });
        Ok(DescribeKeyPairsResponse { key_pairs: key_pairs.collect() })
    })
}

impl Filtered for KeyPairRecord {
    const NAMES: &'static [&'static str] = &["fingerprint", "key-name", "key-pair-id"];
    const TAGGED: bool = true;

    fn any(&self, name: &str, is: &dyn Fn(&str) -> bool) -> Option<bool> {
        Some(match name {
            "fingerprint" => is(&self.fingerprint),
            "key-name" => is(&self.key_name),
            "key-pair-id" => is(&self.key_pair_id),
            _ => return None,
        })
    }

    fn tags(&self) -> &[TagRecord] {
        &self.tags
    }
}

/// DeleteKeyPair: a success even if there is none.
pub async fn key_pair_delete(
    api: &Api,
    caller: &Caller,
    input: DeleteKeyPairRequest,
) -> Result<DeleteKeyPairResponse, ApiError> {
    if input.key_name.is_none() && input.key_pair_id.is_none() {
        let message = "The request must contain the parameter KeyName or KeyPairId";
        return Err(ApiError::new(codes::MISSING_PARAMETER, message));
    }
    let id = input.key_pair_id.as_deref().map(|text| {
        text.parse::<KeyPairId>().map_err(|_| {
            errors::invalid_value("KeyPairId", &text, "A key pair's id is expected: key- and 17 digits.")
        })
    });
    let id = id.transpose()?;
    parse::dry_run(input.dry_run)?;
    match api.change(caller, Request::KeyPairDelete { name: input.key_name, id }).await? {
        Done::KeyPairGone(gone) => {
            Ok(DeleteKeyPairResponse { r#return: true, key_pair_id: gone.map(|id| id.to_string()) })
        }
        other => Err(unexpected(&other)),
    }
}
