//! Restoring a backup, and verifying a store that nobody uses: what the operator's command line does to directories.
//!
//! ```text
//!   DIR/.store.restored    the new store, made and verified; of no meaning until it is in its place
//!   DIR/store              it, put there in one step
//!   DIR/store.before-7     what was there before the restore that made incarnation 7: never removed
//! ```
//!
//! Invariant: a crash leaves either the former store or the restored one in the directory, whole.
//! Invariant: a restored store's incarnation is higher than the backup's and than that of whatever was in the
//! directory, so nothing that it says can be taken for older than what the lost store has said. (A store that was
//! restored before, and then lost with its whole directory, can only be known to the operator: see
//! [`RestoreOptions::incarnation_min`].)

use super::backup::{BackupFileError, BackupReader, BackupSummary};
use super::format::{FileKind, HEAD_BYTES, Head};
use super::lease::Leases;
use super::recovery::{Found, OpenError, Recovery, examine, io_error, store_make};
use super::snapshot::SnapshotWriter;
use super::thread::{LOCK, lock, lock_shared};
use crate::contract::Revision;
use base::disk::{Disk, RealDisk};
use base::generation::INCARNATION_MAX;
use rustix::fs::RenameFlags;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How to restore.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreOptions {
    /// A store that is in the directory is moved aside; else it is refused.
    pub replace: bool,
    /// The restored store's incarnation is at least this. To be given if a store was lost, directory and all, that
    /// had been restored itself.
    pub incarnation_min: u64,
}

/// What a restore has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub backup: BackupSummary,
    /// The restored store's incarnation.
    pub incarnation: u64,
    /// Where the store is that was in the directory before.
    pub former: Option<PathBuf>,
}

/// Why a backup was not restored. What was in the directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no such incarnation.
    #[error(
        "{incarnation} is too high for an incarnation: at most {INCARNATION_MAX}, one higher than the last will do"
    )]
    IncarnationTooHigh {
        /// The one that the restored store would have.
        incarnation: u64,
    },
    /// There are files in the directory, and nobody said that they may be replaced.
    #[error("{directory} is not empty", directory = directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
    },
    /// There are files in the directory, and none says which incarnation it was.
    #[error(
        "nothing in {directory} can be read that says which incarnation its store had: give one that is higher than \
         any before",
        directory = directory.display()
    )]
    IncarnationUnknown {
        /// The directory.
        directory: PathBuf,
    },
    /// The backup cannot be used.
    #[error("the backup cannot be restored")]
    Backup(#[from] BackupFileError),
    /// The directory's store is in use, or what was made of the backup does not open.
    #[error("the store cannot be restored")]
    Store(#[from] OpenError),
    /// The directory cannot be written.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// Makes the directory a store that holds what the backup does, and goes on from there.
pub fn restore(
    backup: impl Read,
    directory: &Path,
    options: RestoreOptions,
) -> Result<Restored, RestoreError> {
    let mut backup = BackupReader::open(backup)?;
    let (parent, name) = parts(directory)?;
    fs::create_dir_all(&parent).map_err(failed("make", &parent))?;
    let exists = directory.is_dir();
    // Held to the end, so that nobody opens what is about to be moved aside.
    let _lock = exists.then(|| lock(directory)).transpose()?;
    let former = if exists { former(directory)? } else { Former::Nothing };
    let former_incarnation = match former {
        Former::Nothing => 0,
        _ if !options.replace => return Err(RestoreError::NotEmpty { directory: directory.to_owned() }),
        Former::Incarnation(incarnation) => incarnation,
        Former::Unreadable if options.incarnation_min > 0 => 0,
        Former::Unreadable => {
            return Err(RestoreError::IncarnationUnknown { directory: directory.to_owned() });
        }
    };
    let used = backup.head().incarnation.max(former_incarnation).max(moved_aside(&parent, &name)?);
    let incarnation = used.saturating_add(1).max(options.incarnation_min);
    if incarnation > INCARNATION_MAX {
        return Err(RestoreError::IncarnationTooHigh { incarnation });
    }

    let made = parent.join(format!(".{name}.restored"));
    if made.join(LOCK).exists() {
        // A store that somebody has opened: an earlier restore was cut off after it had put its own in the place.
        let aside = aside(&parent, &name, incarnation);
        fs::rename(&made, &aside).map_err(failed("move the former store to", &aside))?;
    } else if made.exists() {
        fs::remove_dir_all(&made).map_err(failed("remove what an earlier restore has left:", &made))?;
    }
    let mut disk = RealDisk::open(&made).map_err(failed("make", &made))?;
    let summary = restore_onto(&mut backup, &mut disk, incarnation)?;
    drop(disk);
    let put = if exists {
        rustix::fs::renameat_with(rustix::fs::CWD, &made, rustix::fs::CWD, directory, RenameFlags::EXCHANGE)
            .map_err(io::Error::from)
    } else {
        fs::rename(&made, directory)
    };
    put.map_err(failed("put the restored store into", directory))?;
    let mut moved = None;
    if let Former::Nothing = former {
        if exists {
            fs::remove_dir_all(&made).map_err(failed("remove the empty", &made))?;
        }
    } else {
        let aside = aside(&parent, &name, incarnation);
        fs::rename(&made, &aside).map_err(failed("move the former store to", &aside))?;
        moved = Some(aside);
    }
    fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(failed("sync", &parent))?;
    Ok(Restored { backup: summary, incarnation, former: moved })
}

/// Moves a store that another one, of this incarnation, has replaced elsewhere aside, as [`restore`] does: where it is
/// now. Refused while somebody uses it.
pub fn set_aside(directory: &Path, incarnation: u64) -> Result<PathBuf, RestoreError> {
    let (parent, name) = parts(directory)?;
    let _lock = lock(directory)?;
    let to = aside(&parent, &name, incarnation);
    fs::rename(directory, &to).map_err(failed("move the former store to", &to))?;
    fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(failed("sync", &parent))?;
    Ok(to)
}

/// The highest incarnation that a store beside this one had when it was put in the place of one that was moved aside.
fn moved_aside(parent: &Path, name: &str) -> Result<u64, RestoreError> {
    let begin = format!("{name}.before-");
    let mut highest = 0;
    for entry in fs::read_dir(parent).map_err(failed("list", parent))? {
        let entry = entry.map_err(failed("list", parent))?.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_prefix(&begin));
        let number = number.and_then(|number| number.split('.').next()?.parse().ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest)
}

/// A name that is free, for the store that one of this incarnation replaces.
fn aside(parent: &Path, name: &str, incarnation: u64) -> PathBuf {
    let first = parent.join(format!("{name}.before-{incarnation}"));
    let more = (2..).map(|turn: u32| parent.join(format!("{name}.before-{incarnation}.{turn}")));
    std::iter::once(first).chain(more).find(|path| !path.exists()).unwrap_or_default()
}

/// [`restore`] onto any disk, which must be empty, with an incarnation of the caller's choice.
pub fn restore_disk(
    backup: impl Read,
    disk: &mut dyn Disk,
    incarnation: u64,
) -> Result<BackupSummary, RestoreError> {
    restore_onto(&mut BackupReader::open(backup)?, disk, incarnation)
}

/// Makes an empty disk the store that the backup holds, and reads it back.
fn restore_onto(
    backup: &mut BackupReader<impl Read>,
    disk: &mut dyn Disk,
    incarnation: u64,
) -> Result<BackupSummary, RestoreError> {
    let revision = backup.head().revision;
    let write = |source| RestoreError::Io { what: "write the restored store".into(), source };
    let mut snapshot = SnapshotWriter::begin(disk, incarnation, revision).map_err(write)?;
    let summary = loop {
        let mut written = Ok(());
        let read = backup.block(|body, count| {
            snapshot.copy(body);
            written = snapshot.write(disk, count);
        })?;
        written.map_err(write)?;
        if let Some(summary) = read {
            break summary;
        }
    };
    snapshot.copy(&[]);
    snapshot.write(disk, 0).map_err(write)?;
    // The identity comes last: a disk with a snapshot and without it is refused.
    let install = match revision > Revision::default() {
        true => snapshot.install(disk),
        false => snapshot.discard(disk),
    };
    install.and_then(|()| store_make(disk, incarnation, revision)).map_err(write)?;
    let found = found(disk)?.ok_or_else(|| write(io::Error::other("it is not there")))?;
    match (found.incarnation, found.map.revision(), found.map.live_entries()) {
        read if read == (incarnation, revision, summary.entries) => Ok(summary),
        read => Err(write(io::Error::other(format!("it was read back as {read:?}")))),
    }
}

/// What is in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSummary {
    /// 1 for a new store; raised by a restore.
    pub incarnation: u64,
    /// The last revision.
    pub revision: Revision,
    /// Keys, the engine's own included.
    pub entries: u64,
    /// Their size in a snapshot, about.
    pub bytes: u64,
    /// The log behind the snapshot.
    pub log_bytes: u64,
    /// What a start would find.
    pub recovery: Recovery,
}

/// Reads all of a store that no process uses, changes nothing, and says what is in it or what is wrong where.
pub fn verify(directory: &Path) -> Result<StoreSummary, OpenError> {
    let absent = || OpenError::Absent { directory: directory.to_owned() };
    if !directory.is_dir() {
        return Err(absent());
    }
    let _lock = lock_shared(directory)?;
    let disk = RealDisk::open(directory).map_err(io_error(format!("open {}", directory.display())))?;
    verify_disk(&disk)?.ok_or_else(absent)
}

/// [`verify`] over any disk; `None`: there is no store.
pub fn verify_disk(disk: &dyn Disk) -> Result<Option<StoreSummary>, OpenError> {
    Ok(found(disk)?.map(|found| StoreSummary {
        incarnation: found.incarnation,
        revision: found.map.revision(),
        entries: found.map.live_entries(),
        bytes: found.map.live_bytes(),
        log_bytes: found.log_bytes(),
        recovery: found.report,
    }))
}

/// Reads a store as opening does, leases included.
fn found(disk: &dyn Disk) -> Result<Option<Found>, OpenError> {
    let found = examine(disk)?;
    if let Some(found) = &found {
        Leases::load(&found.map).map_err(OpenError::reserved)?;
    }
    Ok(found)
}

/// What is in a directory before a restore.
enum Former {
    Nothing,
    /// Files, the highest incarnation of which is this.
    Incarnation(u64),
    /// Files that do not say.
    Unreadable,
}

fn former(directory: &Path) -> Result<Former, RestoreError> {
    let disk = RealDisk::open(directory).map_err(failed("open", directory))?;
    let mut names = disk.list().map_err(failed("list", directory))?;
    names.retain(|name| name != LOCK);
    let has_others = fs::read_dir(directory).map_err(failed("list", directory))?.count() > names.len() + 1;
    if names.is_empty() && !has_others {
        return Ok(Former::Nothing);
    }
    let mut highest = None;
    for name in &names {
        let mut bytes = [0; HEAD_BYTES];
        let read = disk.read_at(name, 0, &mut bytes).unwrap_or_default();
        for kind in [FileKind::Identity, FileKind::Log, FileKind::Snapshot] {
            if let Ok(head) = Head::decode(kind, &bytes[..read]) {
                highest = highest.max(Some(head.incarnation));
            }
        }
    }
    Ok(highest.map_or(Former::Unreadable, Former::Incarnation))
}

/// The directory that a directory is in, and its name there.
fn parts(directory: &Path) -> Result<(PathBuf, String), RestoreError> {
    let name = directory.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let unnamed = || io::Error::from(io::ErrorKind::InvalidInput);
    let name = name.ok_or_else(unnamed).map_err(failed("use the name of", directory))?;
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name))
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let what = format!("{what} {}", path.display());
    move |source| RestoreError::Io { what, source }
}
