//! Opening: from the files of a disk, whatever a crash left there, to the state and the log that goes on.
//!
//! The newest snapshot is read, and then the log from the segment that contains its revision. A record that is
//! not whole is one of two things. If anything proves that it was durable once (a later record's mark, a later
//! segment, a snapshot), it is corruption: the store refuses to open and says where. Otherwise it is the torn
//! tail of a batch that was never acknowledged: it is cut off, and that is reported.
//!
//! Invariant: what was read is made durable before anybody sees it, because it may have been in the operating
//! system's memory only. A sync is not enough for that: if one has failed before, the kernel takes what it could
//! not write for written, and the next succeeds without effect. So the newest segment, the only one of which any
//! part may not be durable, is written anew and installed by rename.

use super::format::{
    Fields, FileKind, Frame, HEAD_BYTES, Head, HeadError, commit_decode, frame_begin, frame_decode,
    frame_find, frame_seal,
};
use super::log::{Log, Segment, segment_create, segment_name};
use super::map::MultiVersionMap;
use super::snapshot::{SNAPSHOT_NEW, SnapshotError, snapshot_decode, snapshot_name};
use crate::contract::Revision;
use base::disk::Disk;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// The file that says which store this is.
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
/// The newest segment, being written anew; of no meaning until it is renamed.
const SEGMENT_NEW: &str = "segment.new";

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the directory.
    #[error("the store is in use by {}", pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// That process, as it wrote itself down.
        pid: Option<u32>,
    },
    /// Something that was durable cannot be read any more. Restore a backup, or the file from another disk.
    #[error("the store is corrupt: {file}, offset {offset}: {why}")]
    Corrupt {
        /// The file's name, within the store's directory.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// Written by a newer version of the program.
    #[error("the store's format is version {version}, which is newer than this program's")]
    TooNew {
        /// The version of the file's format.
        version: u32,
    },
    /// A key that is reserved for the engine holds what this version does not know; perhaps a newer one does.
    #[error("the store holds a reserved key that this version does not understand: {key}")]
    Reserved {
        /// The key.
        key: String,
    },
    /// The disk failed.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: String,
        /// The disk's answer.
        source: io::Error,
    },
}

/// A batch that was being written at a crash and was never acknowledged: cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file's name.
    pub file: String,
    /// Where the tail began, in bytes.
    pub offset: u64,
    /// How long it was.
    pub bytes: u64,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The revision of the snapshot that was read; 0: there was none.
    pub snapshot: Revision,
    /// Commits that were read from the log after it.
    pub commits: u64,
    /// What was cut off.
    pub torn: Option<TornTail>,
}

/// A store, read.
pub(crate) struct Recovered {
    pub map: MultiVersionMap,
    pub log: Log,
    pub report: Recovery,
}

/// Reads the store on the disk, or makes an empty one.
pub(crate) fn recover(disk: &mut dyn Disk) -> Result<Recovered, OpenError> {
    let names = disk.list().map_err(io_error("list the store's files"))?;
    for name in [SNAPSHOT_NEW, IDENTITY_NEW, SEGMENT_NEW] {
        if names.iter().any(|there| there == name) {
            disk.remove(name).map_err(io_error(format!("remove {name}")))?;
        }
    }
    let mut segments = revisions(&names, ".log");
    let snapshots = revisions(&names, ".snapshot");
    if !names.iter().any(|name| name == IDENTITY) {
        return create(disk, &segments, &snapshots);
    }
    let head = head_decode(FileKind::Identity, IDENTITY, &read(disk, IDENTITY)?)?;
    let incarnation = head.incarnation;

    let snapshot = snapshots.last().copied().unwrap_or_default();
    let mut map = MultiVersionMap::default();
    if snapshot > Revision::default() {
        map = snapshot_read(disk, incarnation, snapshot)?;
    }
    if let Some(&last) = segments.last()
        && segments.len() > 1
        && segment_is_unmade(disk, last)?
    {
        let name = segment_name(last);
        disk.remove(&name).map_err(io_error(format!("remove {name}")))?;
        segments.pop();
        replay(disk, map, incarnation, snapshot, &segments, last)
    } else {
        replay(disk, map, incarnation, snapshot, &segments, snapshot)
    }
}

/// An empty store. Its first segment is made before its identity, so that an identity without a log is a loss.
fn create(
    disk: &mut dyn Disk,
    segments: &[Revision],
    snapshots: &[Revision],
) -> Result<Recovered, OpenError> {
    let lost = corrupt(IDENTITY, 0, "the file is missing beside files that hold commits");
    let base = Revision::default();
    match segments {
        [] => {}
        [only] if *only == base => {
            if read(disk, &segment_name(base))?.len() > HEAD_BYTES {
                return Err(lost);
            }
            disk.remove(&segment_name(base)).map_err(io_error("remove an unfinished segment"))?;
        }
        _ => return Err(lost),
    }
    if !snapshots.is_empty() {
        return Err(lost);
    }
    let incarnation = 1;
    let make = |disk: &mut dyn Disk| {
        let segment = segment_create(disk, incarnation, base)?;
        disk.append(IDENTITY_NEW, &Head { kind: FileKind::Identity, incarnation, revision: base }.encode())?;
        disk.sync(IDENTITY_NEW)?;
        disk.rename(IDENTITY_NEW, IDENTITY)?;
        disk.sync_directory()?;
        Ok(segment)
    };
    let segment = make(disk).map_err(io_error("make an empty store"))?;
    let log = Log { incarnation, segments: VecDeque::from([segment]) };
    Ok(Recovered { map: MultiVersionMap::default(), log, report: Recovery::default() })
}

/// Reads the log after the snapshot. `proven` is a revision known to have been durable.
fn replay(
    disk: &mut dyn Disk,
    map: MultiVersionMap,
    incarnation: u64,
    snapshot: Revision,
    segments: &[Revision],
    proven: Revision,
) -> Result<Recovered, OpenError> {
    let Some(first) = segments.iter().rposition(|base| *base <= snapshot) else {
        let why = "the segment of the log is missing";
        return Err(corrupt(&segment_name(snapshot), 0, why));
    };
    let report = Recovery { snapshot, ..Recovery::default() };
    let proven = segments.iter().copied().fold(proven.max(snapshot), Revision::max);
    let mut reader =
        LogReader { map, incarnation, proven, reached: segments[first], ends_in_mark: false, report };
    let mut newest = Vec::new();
    let mut log = Log { incarnation, segments: VecDeque::new() };
    for (position, base) in segments.iter().enumerate().skip(first) {
        let is_last = position + 1 == segments.len();
        let name = segment_name(*base);
        let bytes = read(disk, &name)?;
        let whole = reader.segment(&name, &bytes, *base, is_last)?;
        newest = bytes;
        newest.truncate(whole);
        log.segments.push_back(Segment { base: *base, bytes: whole as u64 });
    }
    let reached = reader.reached;
    if reached < proven {
        let file = segment_name(segments[segments.len() - 1]);
        let end = log.active_bytes();
        return Err(corrupt(&file, end, &format!("the log ends at revision {} of {}", reached.0, proven.0)));
    }
    if let Some(segment) = log.segments.back_mut() {
        let proof = (!reader.ends_in_mark).then_some(reached);
        segment_renew(disk, incarnation, segment, newest, proof)
            .map_err(io_error("write the newest segment anew"))?;
    }
    remove_obsolete(disk, &segments[..first], snapshot)?;
    Ok(Recovered { map: reader.map, log, report: reader.report })
}

/// Puts a copy of the segment in its place, followed by a mark that proves it durable, if one is asked for.
fn segment_renew(
    disk: &mut dyn Disk,
    incarnation: u64,
    segment: &mut Segment,
    mut bytes: Vec<u8>,
    proof: Option<Revision>,
) -> io::Result<()> {
    if let Some(durable) = proof {
        let head = Head { kind: FileKind::Log, incarnation, revision: segment.base };
        let mut mark = Vec::new();
        frame_begin(&mut mark);
        frame_seal(&mut mark, &head, segment.bytes, durable.0, 0);
        bytes.append(&mut mark);
    }
    disk.append(SEGMENT_NEW, &bytes)?;
    disk.sync(SEGMENT_NEW)?;
    disk.rename(SEGMENT_NEW, &segment_name(segment.base))?;
    disk.sync_directory()?;
    segment.bytes = bytes.len() as u64;
    Ok(())
}

/// What a crash left between a snapshot's installation and the removal of what it replaced.
fn remove_obsolete(disk: &mut dyn Disk, segments: &[Revision], snapshot: Revision) -> Result<(), OpenError> {
    let names = disk.list().map_err(io_error("list the store's files"))?;
    let older = revisions(&names, ".snapshot").into_iter().filter(|revision| *revision < snapshot);
    for name in segments.iter().map(|base| segment_name(*base)).chain(older.map(snapshot_name)) {
        disk.remove(&name).map_err(io_error(format!("remove {name}")))?;
    }
    Ok(())
}

struct LogReader {
    map: MultiVersionMap,
    incarnation: u64,
    /// Known to have been durable from elsewhere than the segment that is being read.
    proven: Revision,
    /// The last revision that was read.
    reached: Revision,
    /// Whether the last record read, or else the segment's head, proves all before it durable.
    ends_in_mark: bool,
    report: Recovery,
}

impl LogReader {
    /// Applies a segment; returns how many of its bytes are whole.
    fn segment(
        &mut self,
        name: &str,
        bytes: &[u8],
        base: Revision,
        is_last: bool,
    ) -> Result<usize, OpenError> {
        let head = head_decode(FileKind::Log, name, bytes)?;
        if head.incarnation != self.incarnation || head.revision != base {
            return Err(corrupt(name, 0, "the segment is another store's, or was renamed"));
        }
        if base != self.reached {
            let why = format!("the log before the segment ends at revision {}", self.reached.0);
            return Err(corrupt(name, 0, &why));
        }
        self.ends_in_mark = true;
        let mut offset = HEAD_BYTES;
        while offset < bytes.len() {
            match frame_decode(&head, bytes, offset) {
                Ok(frame) => {
                    self.batch(&frame).map_err(|why| corrupt(name, offset as u64, why))?;
                    offset = frame.end;
                }
                Err(why) => {
                    // A whole record behind it was written after it was durable.
                    let later = frame_find(&head, bytes, offset).is_some();
                    if !is_last || later || self.reached < self.proven {
                        return Err(corrupt(name, offset as u64, why));
                    }
                    let torn = (bytes.len() - offset) as u64;
                    self.report.torn =
                        Some(TornTail { file: name.to_owned(), offset: offset as u64, bytes: torn });
                    return Ok(offset);
                }
            }
        }
        Ok(offset)
    }

    fn batch(&mut self, frame: &Frame<'_>) -> Result<(), &'static str> {
        if frame.mark != self.reached.0 {
            return Err("a record follows another than the one before it");
        }
        self.ends_in_mark = frame.count == 0;
        let mut fields = Fields(frame.body);
        for _ in 0..frame.count {
            let revision = Revision(self.reached.0 + 1);
            let events = commit_decode(&mut fields, revision).ok_or("a commit cannot be read")?;
            self.reached = revision;
            if revision > self.map.revision() {
                self.map.apply(Arc::new(events));
                self.report.commits += 1;
            }
        }
        match fields.0.is_empty() {
            true => Ok(()),
            false => Err("a record is longer than its commits"),
        }
    }
}

/// Whether a crash cut the segment's making short: records are only written after its head is durable.
fn segment_is_unmade(disk: &dyn Disk, base: Revision) -> Result<bool, OpenError> {
    let bytes = read(disk, &segment_name(base))?;
    Ok(bytes.len() <= HEAD_BYTES && matches!(Head::decode(FileKind::Log, &bytes), Err(HeadError::Damaged(_))))
}

fn snapshot_read(
    disk: &dyn Disk,
    incarnation: u64,
    revision: Revision,
) -> Result<MultiVersionMap, OpenError> {
    let name = snapshot_name(revision);
    let bytes = read(disk, &name)?;
    snapshot_decode(&bytes, incarnation, revision).map_err(|error| match error {
        SnapshotError::Corrupt { offset, why } => corrupt(&name, offset, why),
        SnapshotError::TooNew { version } => OpenError::TooNew { version },
    })
}

fn head_decode(kind: FileKind, name: &str, bytes: &[u8]) -> Result<Head, OpenError> {
    Head::decode(kind, bytes).map_err(|error| match error {
        HeadError::Damaged(why) => corrupt(name, 0, why),
        HeadError::TooNew(version) => OpenError::TooNew { version },
    })
}

/// The revisions in the names that end in `suffix`, ascending; other names are not ours and are left alone.
fn revisions(names: &[String], suffix: &str) -> Vec<Revision> {
    let mut revisions: Vec<Revision> = names
        .iter()
        .filter_map(|name| name.strip_suffix(suffix))
        .filter(|digits| digits.len() == 20)
        .filter_map(|digits| digits.parse().ok().map(Revision))
        .collect();
    revisions.sort_unstable();
    revisions
}

fn read(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, OpenError> {
    disk.read(name).map_err(io_error(format!("read {name}")))
}

fn corrupt(file: &str, offset: u64, why: &str) -> OpenError {
    OpenError::Corrupt { file: file.to_owned(), offset, why: why.to_owned() }
}

pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |source| OpenError::Io { what, source }
}
