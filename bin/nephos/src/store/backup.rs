//! `nephos store backup`: a running process takes a backup of its store, and streams it into a file here.
//!
//! Invariant: a file of the backup's name is a whole one: it has that name only when it was read and found to be.

use super::{backup_read, backup_text};
use crate::cloud::{Cloud, Member};
use crate::error::Error;
use crate::{commands, process};
use base::config::Address;
use base::random::Random;
use contract::backup_client::BackupClient;
use contract::link;
use contract::trust::{Credentials, Role};
use contract::{BackupPiece, BackupTakeRequest};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the process has for its next word.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How often to say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// `nephos store backup`
pub fn backup(cloud: &Cloud, target: &str, to: &Path) -> Result<(), Error> {
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
    // Under a name of its own until it is known to be whole.
    let mut partial = to.as_os_str().to_owned();
    partial.push(format!(".{:016x}.partial", Random::from_os().u64()));
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

/// A new file for secrets, as a store holds accounts' keys.
fn file_make(path: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(Error::file("make", path))
}

/// Gives the file its name, unless that has been taken meanwhile, durably.
fn put_in_place(partial: &Path, to: &Path) -> Result<(), Error> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, partial, cwd, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => put_in_place_by_claim(partial, to)?,
        put => put.map_err(|error| Error::file("make", to)(error.into()))?,
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::file("sync", parent))
}

/// The same where the file system cannot rename so (NFS): the name is taken by an empty file, which is then replaced.
/// A crash in between leaves that, which is no backup.
fn put_in_place_by_claim(partial: &Path, to: &Path) -> Result<(), Error> {
    drop(file_make(to)?);
    fs::rename(partial, to).map_err(|error| {
        let _ = fs::remove_file(to);
        Error::file("make", to)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_taken_meanwhile_is_left_to_whoever_took_it() {
        let directory = tempfile::tempdir().unwrap();
        for put in [put_in_place, put_in_place_by_claim] {
            let (partial, to) = (directory.path().join("partial"), directory.path().join("backup"));
            fs::write(&partial, "ours").unwrap();
            put(&partial, &to).unwrap();
            assert!(!partial.exists());
            fs::write(&partial, "another").unwrap();
            assert!(put(&partial, &to).is_err());
            assert_eq!(fs::read_to_string(&to).unwrap(), "ours");
            assert!(partial.exists());
            fs::remove_file(&to).unwrap();
        }
    }
}
