//! What the host remembers across its own restarts and reboots: the term and the document generation that it holds,
//! and one record a VM. The agent asks for a [`LedgerChange`], and acts on it only once it is durable.
//!
//! ```text
//!   DIRECTORY/host.pb                 HostRecord
//!   DIRECTORY/vms/i-…/vm.pb           VmRecord
//!   DIRECTORY/vms/i-…/machine/        the VMM's own files (not the ledger's)
//!
//!   each .pb file:  "NPHL" | version u32 | crc32c u32 | length u32 | protobuf (all numbers little-endian)
//! ```
//!
//! A change is written in this order: a higher term, then the VMs, then the document's generation. A crash in
//! between leaves the older generation, so that the cell's document is taken again, whole.
//!
//! A damaged file is reported and left where it is; the agent goes on without it (see [`Ledger::damaged`]).

use base::generation::{Attempt, Generation, Term};
use base::ids::InstanceId;
use contract::{StopCause, Target, VmAssignment};
use prost::Message;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"NPHL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
/// A record is an assignment (user data of at most 16 KiB) and a few facts: anything larger is damage.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the host holds from its cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRecord {
    /// The highest leader's term seen.
    pub term: Term,
    /// Of the document that the VM records come from.
    pub document_generation: Generation,
    /// The host was told to power its guests off: what went down since then went down with it.
    pub going_down: bool,
}

/// What the host knows of one VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRecord {
    /// What the VM shall be, as the newest document said (or the last one that named it).
    pub assignment: VmAssignment,
    /// Set while the VM is stopped, whoever stopped it: it stays so for every assignment that is not newer.
    pub stopped: Option<StopRecord>,
    /// The spec's `reboots` that the last start took care of.
    pub reboots_done: u64,
    /// The VM and its files are gone. Kept while the document carries the tombstone.
    pub destroyed: bool,
    /// The document that the host holds does not name this VM.
    pub orphan: bool,
}

/// Why, and for which intent, a VM is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRecord {
    /// Of the assignment under which it stopped.
    pub generation: Generation,
    /// Who or what stopped it.
    pub cause: StopCause,
    /// For people; may be empty.
    pub message: String,
}

impl VmRecord {
    /// The record of a VM that is new here.
    pub fn new(assignment: VmAssignment) -> Self {
        let reboots_done = assignment.spec.as_ref().map_or(0, |spec| spec.reboots);
        VmRecord { assignment, stopped: None, reboots_done, destroyed: false, orphan: false }
    }

    /// What the VM shall be.
    pub fn target(&self) -> Target {
        self.assignment.target()
    }

    /// The placement that the assignment belongs to.
    pub fn attempt(&self) -> Attempt {
        Attempt(self.assignment.attempt)
    }

    /// Of the assignment, in the region's numbering.
    pub fn generation(&self) -> Generation {
        contract::convert::generation(self.assignment.generation)
    }

    /// The reboots asked for so far.
    pub fn reboots(&self) -> u64 {
        self.assignment.spec.as_ref().map_or(0, |spec| spec.reboots)
    }

    /// Stopped under this very assignment (or a newer one), so that it does not start again for it.
    pub fn stopped_for_good(&self) -> bool {
        self.stopped.as_ref().is_some_and(|stopped| stopped.generation >= self.generation())
    }
}

/// A whole ledger, as read at start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Term and document generation.
    pub host: HostRecord,
    /// The VMs, destroyed ones included while the document names them.
    pub vms: BTreeMap<InstanceId, VmRecord>,
    /// VMs whose record cannot be read, and why. Their files, and they themselves if they run, are left alone.
    pub damaged: BTreeMap<InstanceId, String>,
    /// Not empty: `host.pb` cannot be read, and why. The term and the document's generation then start from zero;
    /// each VM's own attempt and generation still refuse what is old.
    pub host_damaged: String,
}

/// What to make durable, all of it before any of it is acted on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LedgerChange {
    /// The new host record.
    pub host: Option<HostRecord>,
    /// New VM records; `None` forgets the VM.
    pub vms: BTreeMap<InstanceId, Option<VmRecord>>,
}

impl Ledger {
    /// The ledger after a change: what a simulated disk holds.
    pub fn apply(&mut self, change: &LedgerChange) {
        if let Some(host) = change.host {
            self.host = host;
        }
        for (id, record) in &change.vms {
            self.damaged.remove(id);
            match record {
                Some(record) => self.vms.insert(*id, record.clone()),
                None => self.vms.remove(id),
            };
        }
    }
}

/// What can be wrong with the ledger's directory.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write`...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LedgerError + 'a {
    move |source| LedgerError::File { action, path: path.to_owned(), source }
}

/// The ledger on disk.
#[derive(Debug)]
pub struct LedgerDirectory {
    directory: PathBuf,
    host: HostRecord,
}

impl LedgerDirectory {
    /// Reads the ledger of `directory`, which is made if it does not exist.
    pub fn open(directory: &Path) -> Result<(Self, Ledger), LedgerError> {
        let mut ledger = Ledger::default();
        match read_record::<StoredHost>(&directory.join("host.pb"))? {
            Read::Record(stored) => ledger.host = stored.into(),
            Read::Absent => {}
            Read::Damaged(why) => ledger.host_damaged = why,
        }
        let vms = directory.join("vms");
        std::fs::create_dir_all(&vms).map_err(file_error("make", &vms))?;
        for entry in std::fs::read_dir(&vms).map_err(file_error("list", &vms))? {
            let entry = entry.map_err(file_error("list", &vms))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()) else {
                continue;
            };
            match read_record::<StoredVm>(&entry.path().join("vm.pb"))? {
                Read::Record(stored) => match stored.try_into() {
                    Ok(record) => drop(ledger.vms.insert(id, record)),
                    Err(why) => drop(ledger.damaged.insert(id, why)),
                },
                // A crash between the directory and its first record; the machine directory tells otherwise.
                Read::Absent if !entry.path().join("machine").exists() => {}
                Read::Absent => drop(ledger.damaged.insert(id, "vm.pb is missing".into())),
                Read::Damaged(why) => drop(ledger.damaged.insert(id, why)),
            }
        }
        Ok((LedgerDirectory { directory: directory.to_owned(), host: ledger.host }, ledger))
    }

    /// Makes a change durable. After an error any part of it may be; the same change can be written again.
    pub fn write(&mut self, change: &LedgerChange) -> Result<(), LedgerError> {
        if let Some(host) = change.host.filter(|host| host.term > self.host.term) {
            self.write_host(HostRecord { term: host.term, ..self.host })?;
        }
        for (id, record) in &change.vms {
            match record {
                Some(record) => self.write_vm(*id, record)?,
                None => self.forget_vm(*id)?,
            }
        }
        match change.host {
            Some(host) if host != self.host => self.write_host(host),
            Some(_) | None => Ok(()),
        }
    }

    fn write_host(&mut self, host: HostRecord) -> Result<(), LedgerError> {
        write_record(&self.directory.join("host.pb"), &StoredHost::from(host))?;
        self.host = host;
        Ok(())
    }

    fn write_vm(&self, id: InstanceId, record: &VmRecord) -> Result<(), LedgerError> {
        use std::os::unix::fs::DirBuilderExt;
        let vms = self.directory.join("vms");
        let directory = vms.join(id.to_string());
        match std::fs::DirBuilder::new().mode(0o711).create(&directory) {
            Ok(()) => sync_directory(&vms)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(file_error("make", &directory)(e)),
        }
        write_record(&directory.join("vm.pb"), &StoredVm::from(record.clone()))
    }

    fn forget_vm(&self, id: InstanceId) -> Result<(), LedgerError> {
        let vms = self.directory.join("vms");
        let directory = vms.join(id.to_string());
        match std::fs::remove_dir_all(&directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &directory)(e)),
            Ok(()) | Err(_) => sync_directory(&vms),
        }
    }
}

fn sync_directory(path: &Path) -> Result<(), LedgerError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

enum Read<T> {
    Record(T),
    Absent,
    Damaged(String),
}

fn read_record<T: Message + Default>(path: &Path) -> Result<Read<T>, LedgerError> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => {
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file_error("read", path))?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Read::Absent),
        Err(e) => return Err(file_error("read", path)(e)),
    };
    Ok(match decode(&bytes) {
        Ok(record) => Read::Record(record),
        Err(why) => Read::Damaged(format!("{} {why}", path.display())),
    })
}

fn write_record(path: &Path, record: &impl Message) -> Result<(), LedgerError> {
    base::disk::file_replace(path, &encode(record), 0o600).map_err(file_error("write", path))
}

fn encode(record: &impl Message) -> Vec<u8> {
    let payload = record.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&checksum(&payload).to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

/// Reads one file's bytes. Errors complete the sentence "FILE ...".
fn decode<T: Message + Default>(bytes: &[u8]) -> Result<T, String> {
    let number = |at: usize| {
        let field = bytes.get(at..at + 4).and_then(|field| <[u8; 4]>::try_from(field).ok());
        field.map(u32::from_le_bytes).ok_or_else(|| String::from("is cut off"))
    };
    if bytes.get(..4) != Some(MAGIC) {
        return Err("is not a ledger file".into());
    }
    let version = number(4)?;
    if version != VERSION {
        return Err(format!("has version {version}; this agent reads version {VERSION}"));
    }
    let payload = bytes.get(HEADER_BYTES..).ok_or("is cut off")?;
    if payload.len() != number(12)? as usize {
        return Err("is cut off".into());
    }
    if checksum(payload) != number(8)? {
        return Err("fails its checksum".into());
    }
    T::decode(payload).map_err(|e| format!("cannot be decoded: {e}"))
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[derive(Clone, PartialEq, Message)]
struct StoredHost {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(message, optional, tag = "2")]
    document_generation: Option<contract::Generation>,
    #[prost(bool, tag = "3")]
    going_down: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredVm {
    #[prost(message, optional, tag = "1")]
    assignment: Option<VmAssignment>,
    #[prost(message, optional, tag = "2")]
    stopped: Option<StoredStop>,
    #[prost(uint64, tag = "3")]
    reboots_done: u64,
    #[prost(bool, tag = "4")]
    destroyed: bool,
    #[prost(bool, tag = "5")]
    orphan: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredStop {
    #[prost(message, optional, tag = "1")]
    generation: Option<contract::Generation>,
    #[prost(enumeration = "StopCause", tag = "2")]
    cause: i32,
    #[prost(string, tag = "3")]
    message: String,
}

impl From<HostRecord> for StoredHost {
    fn from(host: HostRecord) -> Self {
        let HostRecord { term, document_generation, going_down } = host;
        StoredHost { term: term.0, document_generation: Some(document_generation.into()), going_down }
    }
}

impl From<StoredHost> for HostRecord {
    fn from(stored: StoredHost) -> Self {
        let document_generation = contract::convert::generation(stored.document_generation);
        HostRecord { term: Term(stored.term), document_generation, going_down: stored.going_down }
    }
}

impl From<VmRecord> for StoredVm {
    fn from(record: VmRecord) -> Self {
        let VmRecord { assignment, stopped, reboots_done, destroyed, orphan } = record;
        let stopped = stopped.map(|stopped| StoredStop {
            generation: Some(stopped.generation.into()),
            cause: stopped.cause.into(),
            message: stopped.message,
        });
        StoredVm { assignment: Some(assignment), stopped, reboots_done, destroyed, orphan }
    }
}

impl TryFrom<StoredVm> for VmRecord {
    type Error = String;
    fn try_from(stored: StoredVm) -> Result<Self, String> {
        let StoredVm { assignment, stopped, reboots_done, destroyed, orphan } = stored;
        let assignment = assignment.filter(|a| a.spec.is_some()).ok_or("the record has no assignment")?;
        let stopped = stopped.map(|stopped| StopRecord {
            generation: contract::convert::generation(stopped.generation),
            cause: stopped.cause(),
            message: stopped.message,
        });
        Ok(VmRecord { assignment, stopped, reboots_done, destroyed, orphan })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::VmSpec;

    const ID: &str = "i-0123456789abcdef0";

    fn record() -> VmRecord {
        let spec = VmSpec { instance_id: ID.into(), reboots: 2, ..VmSpec::default() };
        let mut record =
            VmRecord::new(VmAssignment { spec: Some(spec), attempt: 3, ..VmAssignment::default() });
        record.stopped = Some(StopRecord {
            generation: Generation::new(1, 7),
            cause: StopCause::Guest,
            message: "the guest powered itself off".into(),
        });
        record
    }

    fn change(record: Option<VmRecord>) -> LedgerChange {
        let host = HostRecord { term: Term(4), document_generation: Generation::new(1, 9), going_down: true };
        LedgerChange { host: Some(host), vms: BTreeMap::from([(ID.parse().unwrap(), record)]) }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_forgotten_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, mut expected) = LedgerDirectory::open(directory.path()).unwrap();
        assert_eq!(expected, Ledger::default());
        for change in [change(Some(record())), change(None)] {
            disk.write(&change).unwrap();
            expected.apply(&change);
            assert_eq!(LedgerDirectory::open(directory.path()).unwrap().1, expected);
        }
    }

    #[test]
    fn a_damaged_record_is_reported_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (mut disk, _) = LedgerDirectory::open(directory.path()).unwrap();
        disk.write(&change(Some(record()))).unwrap();
        let path = directory.path().join("vms").join(ID).join("vm.pb");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(decode::<StoredVm>(&bytes).is_err(), "byte {at}");
            assert!(decode::<StoredVm>(&whole[..at]).is_err(), "cut at {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (_, ledger) = LedgerDirectory::open(directory.path()).unwrap();
        assert!(ledger.vms.is_empty());
        assert!(ledger.damaged[&ID.parse().unwrap()].contains("is cut off"), "{:?}", ledger.damaged);
        assert!(path.exists());
    }
}
