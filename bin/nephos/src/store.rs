//! `nephos store`: the role ([`crate::roles`]), and backups of the metadata stores. A backup is taken by the process
//! that owns the store, while it runs; restoring and verifying work on files and directories, while it does not.

use crate::arguments::{Store, StoreCommand};
use crate::cloud::{Cloud, Member};
use crate::commands;
use crate::error::Error;
use crate::{process, roles};
use base::config::Address;
use base::error::chain;
use contract::backup_client::BackupClient;
use contract::link;
use contract::trust::{Credentials, Role};
use contract::{BackupPiece, BackupTakeRequest};
use metastore::{BackupSummary, RestoreOptions, StoreSummary};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the process has for its next word.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often to say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// `nephos store`
pub fn store(store: &Store) -> Result<(), Error> {
    match (&store.command, &store.config) {
        (Some(StoreCommand::Backup { target, to, at }), _) => backup(&Cloud::open(at)?, target, to),
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

fn backup(cloud: &Cloud, target: &str, to: &Path) -> Result<(), Error> {
    let members = commands::select(cloud, target)?;
    let [member, others @ ..] = &members[..] else {
        return Err(Error::Said(format!("`{target}` names no process")));
    };
    // Processes that share an identity are one for this.
    if others.iter().any(|other| other.identity != member.identity) {
        return Err(Error::Said(format!("`{target}` names {} processes: name one", members.len())));
    }
    let address = match member.identity.role {
        Role::Region | Role::Cell if cloud.store_identity().is_some() => {
            return Err(Error::Said(
                "the region and the cells share a store: `nephos store backup store`".into(),
            ));
        }
        Role::Region => cloud.operator_address_file(),
        Role::Cell | Role::Store => cloud.address_file(&member.identity),
        Role::Zone | Role::Host | Role::Vswitch | Role::Operator => {
            return Err(Error::Said(format!(
                "{} has no metadata store; the region and the cells do",
                member.label()
            )));
        }
    };
    if to.exists() {
        return Err(Error::Said(format!("{} is there already: it is not written over", to.display())));
    }
    // Under another name until it is known to be whole.
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let taken = take(cloud, member, &Address::File(address), partial)
        .and_then(|()| backup_read(partial))
        .and_then(|summary| put_in_place(partial, to).map(|()| summary));
    match taken {
        Ok(summary) => {
            say!("{}: {}", to.display(), backup_text(&summary));
            Ok(())
        }
        Err(error) => {
            let _ = fs::remove_file(partial);
            Err(error)
        }
    }
}

/// Has the process take a backup, into the file.
fn take(cloud: &Cloud, member: &Member, address: &Address, path: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Process { what: "start a runtime".into(), source })?;
    let credentials = Credentials::open(&cloud.operator_dir())?;
    let mut file = file_make(path)?;
    let label = member.label();
    let answered = runtime.block_on(async {
        let silent = |why: &str| {
            Error::Silent(format!("{label} does not answer ({why}); `nephos status` shows whether it runs"))
        };
        let late = |_| Error::Silent(format!("{label} did not answer within {} s", ANSWER_WAIT.as_secs()));
        let refused = |status: tonic::Status| Error::Said(format!("{label}: {}", status.message()));
        let asked = async {
            let channel =
                link::dial(address, &credentials, &member.identity).await.map_err(|why| silent(&why))?;
            let mut client = BackupClient::new(channel).max_decoding_message_size(link::message_bytes_max());
            client.take(BackupTakeRequest {}).await.map_err(refused)
        };
        let mut pieces = tokio::time::timeout(ANSWER_WAIT, asked).await.map_err(late)??.into_inner();
        let (mut written, mut said) = (0, Instant::now());
        while let Some(BackupPiece { bytes, bytes_expected }) =
            tokio::time::timeout(ANSWER_WAIT, pieces.message()).await.map_err(late)?.map_err(refused)?
        {
            file.write_all(&bytes).map_err(Error::file("write", path))?;
            written += bytes.len() as u64;
            if said.elapsed() > PROGRESS_EVERY {
                eprintln!("{label}: {} of about {} MiB", written >> 20, bytes_expected >> 20);
                said = Instant::now();
            }
        }
        file.sync_all().map_err(Error::file("sync", path))
    });
    match answered {
        Err(Error::Silent(_)) if process::supervisor(cloud).is_none() => Err(Error::NotUp(cloud.dir.clone())),
        answered => answered,
    }
}

/// A file for secrets, as a store holds accounts' keys.
fn file_make(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.map_err(Error::file("write", path))
}

/// Gives the file its name, unless that has been taken meanwhile, durably.
fn put_in_place(partial: &Path, to: &Path) -> Result<(), Error> {
    fs::hard_link(partial, to).map_err(Error::file("make", to))?;
    fs::remove_file(partial).map_err(Error::file("remove", partial))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::file("sync", parent))
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
