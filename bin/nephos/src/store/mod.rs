//! `nephos store`: the role ([`crate::roles`]), and what operators do with the metadata stores.
//!
//! ```text
//!   backup        taken by the process that owns the store, while it runs
//!   migrate       all stores of a cloud to another engine, while the control plane does not run
//!   incarnation   raised in an etcd that was restored
//!   engine        stores as these two reach them
//! ```
//!
//! Restoring and verifying work on files and directories, while no process uses them.

mod backup;
mod engine;
mod incarnation;
mod migrate;

use crate::arguments::{Store, StoreCommand};
use crate::cloud::Cloud;
use crate::error::Error;
use crate::roles;
use base::error::chain;
use metastore::{BackupSummary, RestoreOptions, StoreSummary};
use serde_json::json;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// `nephos store`
pub fn store(store: &Store) -> Result<(), Error> {
    match (&store.command, &store.config) {
        (Some(StoreCommand::Backup { target, to, at }), _) => backup::backup(&Cloud::open(at)?, target, to),
        (Some(StoreCommand::Migrate { to, at }), _) => migrate::migrate(at, to),
        (Some(StoreCommand::Incarnation { above, at }), _) => incarnation::incarnation(at, *above),
        (Some(StoreCommand::Restore { backup, to, replace, incarnation }), _) => {
            let options = RestoreOptions { replace: *replace, incarnation_min: *incarnation };
            restore(backup, to, options)
        }
        (Some(StoreCommand::Verify { path, json }), _) => verify(path, *json),
        (None, Some(config)) => roles::store(config),
        // The command line asks for one of them.
        (None, None) => Err(Error::Said("there is nothing to do; see --help".into())),
    }
}

fn restore(backup: &Path, to: &Path, options: RestoreOptions) -> Result<(), Error> {
    let file = File::open(backup).map_err(Error::file("read", backup))?;
    let to = std::path::absolute(to).map_err(Error::file("use", to))?;
    let restored = metastore::restore(BufReader::new(file), &to, options).map_err(|error| {
        let hint = match &error {
            metastore::RestoreError::NotEmpty { .. } => "; --replace moves what is there aside",
            metastore::RestoreError::IncarnationUnknown { .. } => "; --incarnation does that",
            metastore::RestoreError::Store(metastore::OpenError::Locked { .. }) => {
                "; `nephos kill` stops the process that uses it"
            }
            _ => "",
        };
        Error::Said(format!("{} is not restored: {}{hint}", backup.display(), chain(&error)))
    })?;
    say!("{}: {}", to.display(), backup_text(&restored.backup));
    say!(
        "It is incarnation {} now. What was committed after the backup is gone from this store.",
        restored.incarnation
    );
    if let Some(former) = restored.former {
        say!("What was there before is in {}.", former.display());
    }
    Ok(())
}

fn verify(path: &Path, json: bool) -> Result<(), Error> {
    let (text, value) = if path.is_dir() {
        let summary = metastore::verify(path).map_err(|error| wrong(path, &error))?;
        (store_text(&summary), store_value(&summary))
    } else {
        let summary = backup_read(path)?;
        (backup_text(&summary), backup_value(&summary))
    };
    match json {
        true => say!("{value:#}"),
        false => say!("{}: {text}", path.display()),
    }
    Ok(())
}

fn backup_read(path: &Path) -> Result<BackupSummary, Error> {
    let file = File::open(path).map_err(Error::file("read", path))?;
    metastore::backup_verify(BufReader::new(file)).map_err(|error| wrong(path, &error))
}

fn wrong(path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Content { path: path.to_owned(), why: chain(error) }
}

fn backup_text(summary: &BackupSummary) -> String {
    let BackupSummary { incarnation, revision, taken, entries, bytes } = summary;
    let revision = revision.0;
    let taken = taken.iso8601();
    format!(
        "a whole backup of {taken}: incarnation {incarnation}, revision {revision}, {entries} keys, {bytes} bytes"
    )
}

fn backup_value(summary: &BackupSummary) -> serde_json::Value {
    json!({
        "kind": "backup", "incarnation": summary.incarnation, "revision": summary.revision.0,
        "taken": summary.taken.iso8601(), "keys": summary.entries, "bytes": summary.bytes,
    })
}

fn store_text(summary: &StoreSummary) -> String {
    let StoreSummary { incarnation, revision, entries, bytes, log_bytes, recovery } = summary;
    let torn = match &recovery.torn {
        None => String::new(),
        Some(torn) => format!(
            "; its last batch was never acknowledged and will be cut off ({}, offset {}, {} bytes)",
            torn.file, torn.offset, torn.bytes
        ),
    };
    format!(
        "a whole store: incarnation {incarnation}, revision {}, {entries} keys, {bytes} bytes, {log_bytes} bytes of log \
         after revision {}{torn}",
        revision.0, recovery.snapshot.0
    )
}

fn store_value(summary: &StoreSummary) -> serde_json::Value {
    let torn = summary.recovery.torn.as_ref();
    json!({
        "kind": "store", "incarnation": summary.incarnation, "revision": summary.revision.0,
        "keys": summary.entries, "bytes": summary.bytes, "log_bytes": summary.log_bytes,
        "snapshot": summary.recovery.snapshot.0,
        "torn": torn.map(|torn| json!({ "file": torn.file, "offset": torn.offset, "bytes": torn.bytes })),
    })
}
