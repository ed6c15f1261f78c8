//! Opening: from the files of a disk, whatever a crash left there, to the state and the log that goes on.
//!
//! The newest snapshot is read, and then the log from the segment that contains its revision. A record that is
//! not whole is one of two things. If anything proves that it was durable once (a later record's mark, a later
//! segment, a snapshot, the identity), it is corruption: the store refuses to open and says where. Otherwise it is
//! the torn tail of a batch that was never acknowledged: it is cut off, and that is reported.
//!
//! What cannot be told: damage to the last batch before a crash. Whether that batch was acknowledged is written
//! nowhere but in what comes after it, and to write it with every batch would cost a second sync. An orderly stop
//! writes it, and so does the next batch, and so does the next start.
//!
//! First all is read and nothing changed, which is also how a store is verified; then what a crash left is mended.
//! The state is read from its snapshot block by block, and the log a segment at a time: neither is ever in memory
//! whole beside the state.
//!
//! Invariant: what was read is made durable before anybody sees it, because it may have been in the operating
//! system's memory only. A sync is not enough for that: if one has failed before, the kernel takes what it could
//! not write for written, and the next succeeds without effect. So the newest segment, the only one of which any
//! part may not be durable, is written anew and installed by rename.

use super::format::{
    Fields, FileKind, Frame, HEAD_BYTES, Head, HeadError, StreamError, commit_decode, frame_begin,
    frame_decode, frame_find, frame_seal,
};
use super::log::{IDENTITY, IDENTITY_NEW, Log, Segment, identity_write, segment_create, segment_name};
use super::map::MultiVersionMap;
use super::snapshot::{SNAPSHOT_NEW, snapshot_name, snapshot_read};
use crate::contract::Revision;
use base::disk::Disk;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// There is no store, where one should be read and not made.
    #[error("there is no store in {directory}", directory = directory.display())]
    Absent {
        /// The directory.
        directory: PathBuf,
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

impl OpenError {
    pub(crate) fn reserved(key: Vec<u8>) -> Self {
        OpenError::Reserved { key: key.escape_ascii().to_string() }
    }
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

/// Reads the store on the disk and mends what a crash left, or makes an empty one.
pub(crate) fn recover(disk: &mut dyn Disk) -> Result<Recovered, OpenError> {
    match examine(disk)? {
        Some(found) => found.mend(disk),
        None => create(disk),
    }
}

/// A store as its files say, which are as they were.
pub(crate) struct Found {
    pub map: MultiVersionMap,
    pub report: Recovery,
    pub incarnation: u64,
    /// Files of no meaning.
    leftovers: Vec<String>,
    /// The segment that the identity names.
    named: Revision,
    /// What is whole of the segments that count.
    segments: VecDeque<Segment>,
    /// The newest segment's bytes, as far as they are whole.
    newest: Vec<u8>,
    /// Whether these prove themselves durable.
    ends_in_mark: bool,
}

/// Reads the store on the disk, all of it, and changes nothing; `None` if there is no store.
pub(crate) fn examine(disk: &dyn Disk) -> Result<Option<Found>, OpenError> {
    let names = disk.list().map_err(io_error("list the store's files"))?;
    let mut segments = revisions(&names, ".log");
    let snapshots = revisions(&names, ".snapshot");
    if !names.iter().any(|name| name == IDENTITY) {
        return absent(disk, &segments, &snapshots).map(|()| None);
    }
    let Head { incarnation, revision: named, .. } =
        head_decode(FileKind::Identity, IDENTITY, &read(disk, IDENTITY)?)?;
    let is_temporary = |name: &&String| [SNAPSHOT_NEW, IDENTITY_NEW, SEGMENT_NEW].contains(&name.as_str());
    let mut leftovers: Vec<String> = names.iter().filter(is_temporary).cloned().collect();

    let snapshot = snapshots.last().copied().unwrap_or_default();
    let mut map = MultiVersionMap::default();
    if snapshot > Revision::default() {
        map = snapshot_read(disk, incarnation, snapshot).map_err(stream_error(&snapshot_name(snapshot)))?;
    }
    let mut proven = snapshot.max(named);
    if let Some(&last) = segments.last().filter(|last| **last > named)
        && segment_is_unmade(disk, last)?
    {
        proven = last;
        leftovers.push(segment_name(last));
        segments.pop();
    }
    if !segments.contains(&named) {
        return Err(corrupt(&segment_name(named), 0, "the segment of the log is missing"));
    }
    let mut found = replay(disk, map, incarnation, snapshot, &segments, proven)?;
    // What a crash left between a snapshot's installation and the removal of what it replaced.
    let counted = found.segments[0].base;
    leftovers.extend(segments.iter().filter(|base| **base < counted).map(|base| segment_name(*base)));
    leftovers.extend(snapshots.iter().filter(|older| **older < snapshot).map(|older| snapshot_name(*older)));
    (found.named, found.leftovers) = (named, leftovers);
    Ok(Some(found))
}

/// Whether there is no store, which is so until its identity is written, and not when that was lost.
fn absent(disk: &dyn Disk, segments: &[Revision], snapshots: &[Revision]) -> Result<(), OpenError> {
    let nothing = match segments {
        [] => true,
        [Revision(0)] => read(disk, &segment_name(Revision(0)))?.len() <= HEAD_BYTES,
        _ => false,
    };
    match nothing && snapshots.is_empty() {
        true => Ok(()),
        false => Err(corrupt(IDENTITY, 0, "the file is missing beside files that hold commits")),
    }
}

/// An empty store. Its first segment is made before its identity, so that an identity without a log is a loss.
fn create(disk: &mut dyn Disk) -> Result<Recovered, OpenError> {
    let names = disk.list().map_err(io_error("list the store's files"))?;
    let (incarnation, base) = (1, Revision::default());
    let unfinished = [segment_name(base), SNAPSHOT_NEW.into(), IDENTITY_NEW.into()];
    for name in names.iter().filter(|name| unfinished.contains(name)) {
        disk.remove(name).map_err(io_error(format!("remove {name}")))?;
    }
    let segment = store_make(disk, incarnation, base).map_err(io_error("make an empty store"))?;
    let log = Log { incarnation, segments: VecDeque::from([segment]) };
    Ok(Recovered { map: MultiVersionMap::default(), log, report: Recovery::default() })
}

/// Makes the store whose state at `base` is there already, as a snapshot or because it is empty.
pub(crate) fn store_make(disk: &mut dyn Disk, incarnation: u64, base: Revision) -> io::Result<Segment> {
    let segment = segment_create(disk, incarnation, base)?;
    identity_write(disk, incarnation, base)?;
    Ok(segment)
}

impl Found {
    /// Bytes of the log that count.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Removes what has no meaning, and makes durable what was read.
    fn mend(self, disk: &mut dyn Disk) -> Result<Recovered, OpenError> {
        let incarnation = self.incarnation;
        for name in &self.leftovers {
            disk.remove(name).map_err(io_error(format!("remove {name}")))?;
        }
        let mut log = Log { incarnation, segments: self.segments };
        let reached = self.map.revision();
        if let Some(segment) = log.segments.back_mut() {
            let proof = (!self.ends_in_mark).then_some(reached);
            segment_renew(disk, incarnation, segment, self.newest, proof)
                .map_err(io_error("write the newest segment anew"))?;
            if segment.base != self.named {
                identity_write(disk, incarnation, segment.base).map_err(io_error("write the identity"))?;
            }
        }
        Ok(Recovered { map: self.map, log, report: self.report })
    }
}

/// Reads the log after the snapshot. `proven` is a revision known to have been durable.
fn replay(
    disk: &dyn Disk,
    map: MultiVersionMap,
    incarnation: u64,
    snapshot: Revision,
    segments: &[Revision],
    proven: Revision,
) -> Result<Found, OpenError> {
    let Some(first) = segments.iter().rposition(|base| *base <= snapshot) else {
        let why = "the segment of the log is missing";
        return Err(corrupt(&segment_name(snapshot), 0, why));
    };
    let report = Recovery { snapshot, ..Recovery::default() };
    let proven = segments.iter().copied().fold(proven.max(snapshot), Revision::max);
    let mut reader =
        LogReader { map, incarnation, proven, reached: segments[first], ends_in_mark: false, report };
    let mut newest = Vec::new();
    let mut counted = VecDeque::new();
    for (position, base) in segments.iter().enumerate().skip(first) {
        let is_last = position + 1 == segments.len();
        let name = segment_name(*base);
        newest.clear();
        let bytes = read(disk, &name)?;
        let whole = reader.segment(&name, &bytes, *base, is_last)?;
        newest = bytes;
        newest.truncate(whole);
        counted.push_back(Segment { base: *base, bytes: whole as u64 });
    }
    let reached = reader.reached;
    if reached < proven {
        let file = segment_name(segments[segments.len() - 1]);
        let why = format!("the log ends at revision {} of {}", reached.0, proven.0);
        return Err(corrupt(&file, newest.len() as u64, &why));
    }
    Ok(Found {
        map: reader.map,
        report: reader.report,
        incarnation,
        leftovers: Vec::new(),
        named: Revision::default(),
        segments: counted,
        newest,
        ends_in_mark: reader.ends_in_mark,
    })
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

/// What an image's reader says of this file.
pub(crate) fn stream_error(name: &str) -> impl FnOnce(StreamError) -> OpenError {
    move |error| match error {
        StreamError::Corrupt { offset, why } => corrupt(name, offset, why),
        StreamError::TooNew { version } => OpenError::TooNew { version },
        StreamError::Io(source) => io_error(format!("read {name}"))(source),
    }
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
