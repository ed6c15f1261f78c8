//! Starts, finds and ends the process of a VM.
//!
//! A process is held by a pidfd, which never comes to mean another process. It is found, by an agent that did not
//! start it, among all processes of the machine by the pid file's path on its command line: so that an agent that
//! died between starting a VM and noting that finds it too.

use super::command::{self, Accelerator};
use super::files;
use crate::card::{self, Card, CardError, Vnet};
use crate::image::{Image, ImageError};
use crate::isolation::{self, Credentials, IsolationError, UidRange};
use base::ids::InstanceId;
use contract::VmSpec;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

const QEMU: &str = "qemu-system-x86_64";
const QEMU_IMG: &str = "qemu-img";

/// Choosing a user id looks at the directories of all VMs, and takes effect when this one's is given to it.
static UID_CHOICE: Mutex<()> = Mutex::new(());

/// Why a VM's process does not start, or is not found.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It cannot have its network cards.
    #[error(transparent)]
    Card(#[from] CardError),
    /// It cannot be isolated.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// A file cannot be made.
    #[error("cannot {action} {path}")]
    File {
        /// `write`, `make`...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program cannot be executed.
    #[error("cannot execute {program}; is it installed?")]
    Execute {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VM had a disk, and has none: a fresh one would pass for it.
    #[error("its disk is gone: {0} does not exist")]
    DiskGone(PathBuf),
    /// The overlay cannot be made.
    #[error("qemu-img cannot make the disk: {0}")]
    Disk(String),
    /// The process cannot be held.
    #[error("cannot hold the process {pid}")]
    Hold {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ProcessError + 'a {
    move |source| ProcessError::File { action, path: path.to_owned(), source }
}

/// Where and as whom this host's VMs run.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory of all VMs' directories, absolute.
    pub vms: PathBuf,
    /// The images.
    pub images: PathBuf,
    /// What the host shares with its switch.
    pub vnet: Vnet,
    /// The users of the VMs; `None` without root.
    pub uids: Option<UidRange>,
}

impl Place {
    /// The VM's directory.
    pub fn directory(&self, vm: InstanceId) -> PathBuf {
        self.vms.join(vm.to_string())
    }
}

/// A VM's process, started or found.
#[derive(Debug)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    /// Its parent's handle, where this agent started it: otherwise nobody would collect its end.
    child: Option<Child>,
}

/// A process just started.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub process: Process,
    /// Its user, if it has one of its own.
    pub uid: Option<u32>,
    /// See [`isolation::Cgroup::summary`].
    pub cgroup: String,
}

impl Process {
    /// Holds the process `pid`, or says that there is none.
    fn hold(pid: u32, child: Option<Child>) -> Result<Self, ProcessError> {
        let error = |source| ProcessError::Hold { pid, source };
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| error(io::Error::other("not a process id")))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|e| error(e.into()))?;
        // SAFETY: the descriptor is open, and moves into the `AsyncFd`, which owns it to its end.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) };
        let pidfd = watched.map_err(|e| error(e.into()))?;
        Ok(Process { pid, pidfd, child })
    }

    /// Waits for its end, and says how it came about as far as that can be known. Can be dropped and called again.
    pub async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return match child.wait().await {
                Ok(status) => status.to_string(),
                Err(e) => format!("its end cannot be read: {e}"),
            };
        }
        // A pidfd becomes readable when its process ends.
        match self.pidfd.readable().await {
            Ok(_) => String::from("the process has ended"),
            Err(e) => format!("the process cannot be watched: {e}"),
        }
    }

    /// Kills it, for sure. A process that is gone already is no error.
    pub fn kill(&self) {
        if let Err(error) = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(pid = self.pid, %error, "cannot kill a VM's process");
        }
    }
}

/// What a start came to.
#[derive(Debug)]
pub enum Start {
    /// The process runs.
    Started(Box<Started>),
    /// Its QEMU would wait for these, and answer nobody until then.
    Waiting {
        /// Its network cards.
        cards: Vec<Card>,
    },
}

/// Makes the VM's files as far as they are missing, tells the switch of its cards, and starts its QEMU if the switch is
/// there. Needs a tokio runtime; blocks for some tens of milliseconds.
pub fn start(
    place: &Place,
    vm: InstanceId,
    spec: &VmSpec,
    accelerator: Accelerator,
) -> Result<Start, ProcessError> {
    let image = Image::open(&place.images, &spec.image_id)?;
    let cards = Card::list(&spec.interfaces)?;
    let directory = place.directory(vm);
    make_directory(&directory, 0o711)?;
    let credentials = prepare(place, vm, spec, &image, accelerator)?;
    place.vnet.detach_others(&directory, vm, &cards)?;
    for card in &cards {
        let pairs = card::queue_pairs(spec, accelerator == Accelerator::Tcg);
        place.vnet.attach(&directory, vm, card, credentials, pairs)?;
    }
    if let (Some(Credentials { uid, .. }), false) = (credentials, cards.is_empty()) {
        isolation::reachable(&place.vnet.sockets(), uid)?;
    }
    if place.vnet.silent(&cards).is_some() {
        return Ok(Start::Waiting { cards });
    }
    let log = directory.join(files::LOG);
    // For appending, so that it can be emptied while QEMU writes it: see `log_bound`.
    let output = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let output = output.map_err(file_error("write", &log))?;
    output.set_len(0).map_err(file_error("empty", &log))?;
    let cgroup = isolation::cgroup_ensure(vm, spec);

    let mut command = Command::new(QEMU);
    command.args(command::arguments(vm, spec, &cards, &image, accelerator, &directory));
    command.current_dir(&directory).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(std::process::Stdio::null());
    command.stdout(output.try_clone().map_err(file_error("write", &log))?).stderr(output);
    if let Some(Credentials { uid, gid }) = credentials {
        command.uid(uid).gid(gid);
    }
    detach(&mut command, cgroup.joins);
    let child = command.spawn().map_err(|source| ProcessError::Execute { program: QEMU, source })?;
    let pid = child.id().unwrap_or_default();
    let process = Process::hold(pid, Some(child))?;
    let uid = credentials.map(|credentials| credentials.uid);
    Ok(Start::Started(Box::new(Started { process, uid, cgroup: cgroup.summary })))
}

/// Lets the process join its control groups and leave the agent's session before it becomes QEMU.
fn detach(command: &mut Command, joins: Vec<OwnedFd>) {
    let enter = move || {
        for join in &joins {
            // "0" is the writer itself. The right to move it is the opener's, the agent's.
            rustix::io::write(join, b"0")?;
        }
        rustix::process::setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two kinds of system call, directly, on descriptors that were
    // opened before the fork; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

/// Makes what QEMU is started on. Returns the ids it gets, if it gets its own.
fn prepare(
    place: &Place,
    vm: InstanceId,
    spec: &VmSpec,
    image: &Image,
    accelerator: Accelerator,
) -> Result<Option<Credentials>, ProcessError> {
    let directory = place.directory(vm);
    make_directory(&directory, 0o711)?;
    sync_directory(&place.vms)?;
    let machine = directory.join(files::MACHINE);
    let credentials = match place.uids {
        None => {
            make_directory(&machine, 0o700)?;
            None
        }
        Some(range) => {
            let _choice = UID_CHOICE.lock();
            let uid = isolation::uid_choose(&place.vms, vm, range)?;
            let gid = device_group(accelerator).unwrap_or(uid);
            make_directory(&machine, 0o700)?;
            own(&machine, uid, gid)?;
            Some(Credentials { uid, gid })
        }
    };
    disk_ensure(&directory, image, credentials)?;
    for (name, bytes) in [
        (files::META_DATA, command::meta_data(vm, spec).as_bytes()),
        (files::USER_DATA, spec.user_data.as_slice()),
    ] {
        let path = directory.join(name);
        base::disk::file_replace(&path, bytes, 0o400).map_err(file_error("write", &path))?;
        if let Some(Credentials { uid, .. }) = credentials {
            // The VM's alone: its group may be that of /dev/kvm, which all VMs share.
            own(&path, uid, uid)?;
        }
    }
    if let Some(Credentials { uid, .. }) = credentials {
        isolation::reachable(&machine, uid)?;
        for path in [&image.kernel, &image.initrd, &image.disk] {
            let whole = path.canonicalize().map_err(file_error("read", path))?;
            isolation::reachable(&whole, uid)?;
        }
    }
    // Of an earlier process; QEMU would replace the socket, and a stale one must not look ready.
    for name in [files::QMP_SOCKET, files::PID] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    Ok(credentials)
}

/// The group through which `/dev/kvm` is opened, where it has one.
pub(crate) fn device_group(accelerator: Accelerator) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    if accelerator == Accelerator::Tcg {
        return None;
    }
    let device = Path::new("/dev/kvm").metadata().ok()?;
    (device.mode() & 0o066 == 0o060).then_some(device.gid())
}

/// The VM's disk: an overlay, made beside and moved into place whole.
fn disk_ensure(
    directory: &Path,
    image: &Image,
    credentials: Option<Credentials>,
) -> Result<(), ProcessError> {
    let disk = directory.join(files::DISK);
    let made = directory.join(files::DISK_MADE);
    match (disk.symlink_metadata().is_ok(), made.exists()) {
        (true, true) => return Ok(()),
        // A crash between the two.
        (true, false) => return made_note(directory, &made),
        (false, true) => return Err(ProcessError::DiskGone(disk)),
        (false, false) => {}
    }
    let fresh = directory.join("disk.new");
    let output = std::process::Command::new(QEMU_IMG)
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([image.disk.as_os_str(), fresh.as_os_str()])
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| ProcessError::Execute { program: QEMU_IMG, source })?;
    if !output.status.success() {
        return Err(ProcessError::Disk(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .map_err(file_error("protect", &fresh))?;
    if let Some(Credentials { uid, gid }) = credentials {
        own(&fresh, uid, gid)?;
    }
    std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(file_error("sync", &fresh))?;
    std::fs::rename(&fresh, &disk).map_err(file_error("make", &disk))?;
    sync_directory(&directory.join(files::MACHINE))?;
    made_note(directory, &made)
}

/// Notes durably that the VM has a disk, before anything writes to it.
fn made_note(directory: &Path, note: &Path) -> Result<(), ProcessError> {
    std::fs::File::create(note).map_err(file_error("write", note))?;
    sync_directory(directory)
}

fn sync_directory(path: &Path) -> Result<(), ProcessError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

fn own(path: &Path, uid: u32, gid: u32) -> Result<(), ProcessError> {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(file_error("give away", path))
}

fn make_directory(path: &Path, mode: u32) -> Result<(), ProcessError> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(file_error("make", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Every process that runs a VM of this host, by VM.
pub fn find(place: &Place) -> io::Result<Vec<(InstanceId, Process)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Some(vm) = vm_of(pid, &place.vms) else { continue };
        // Held first and looked at again: the number may have come to mean another process in between.
        if let Ok(process) = Process::hold(pid, None)
            && vm_of(pid, &place.vms) == Some(vm)
        {
            found.push((vm, process));
        }
    }
    found.sort_by_key(|(vm, _)| *vm);
    Ok(found)
}

/// The VM of this host that the process runs, by its command line.
fn vm_of(pid: u32, vms: &Path) -> Option<InstanceId> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    words.find(|word| *word == b"-pidfile")?;
    let path = Path::new(std::ffi::OsStr::from_bytes(words.next()?));
    let vm: InstanceId = path.strip_prefix(vms).ok()?.iter().next()?.to_str()?.parse().ok()?;
    (path == vms.join(vm.to_string()).join(files::PID)).then_some(vm)
}

/// Removes everything of a VM whose process has ended.
pub fn remove(place: &Place, vm: InstanceId) -> Result<(), ProcessError> {
    let directory = place.directory(vm);
    place.vnet.detach_others(&directory, vm, &[])?;
    files_remove(&directory).map_err(file_error("remove", &directory))
}

/// Removes every file of a VM.
pub fn files_remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => match directory.parent() {
            Some(vms) => std::fs::File::open(vms)?.sync_all(),
            None => Ok(()),
        },
    }
}

/// Keeps what QEMU prints within a bound: a guest can make it complain for ever.
pub fn log_bound(directory: &Path) {
    const BYTES_MAX: u64 = 1 << 20;
    let log = directory.join(files::LOG);
    if log.metadata().is_ok_and(|metadata| metadata.len() > BYTES_MAX)
        && let Err(error) = OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0))
    {
        tracing::warn!(path = %log.display(), %error, "cannot empty a log");
    }
}

/// The end of what QEMU printed, on one line; empty if nothing.
pub fn log_tail(directory: &Path) -> String {
    let bytes = std::fs::File::open(directory.join(files::LOG)).and_then(|mut file| {
        use std::io::{Read, Seek, SeekFrom};
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(1024)))?;
        let mut bytes = Vec::new();
        file.take(1024).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_gone_is_never_replaced_by_a_fresh_one() {
        let directory = tempfile::tempdir().unwrap();
        let image = Image {
            kernel: "/none".into(),
            initrd: "/none".into(),
            disk: "/none".into(),
            cmdline: String::new(),
        };
        std::fs::create_dir(directory.path().join(files::MACHINE)).unwrap();
        let disk = directory.path().join(files::DISK);
        std::fs::write(&disk, "x").unwrap();
        disk_ensure(directory.path(), &image, None).unwrap();
        std::fs::remove_file(&disk).unwrap();
        let error = disk_ensure(directory.path(), &image, None).unwrap_err();
        assert!(error.to_string().starts_with("its disk is gone"), "{error}");
        files_remove(directory.path()).unwrap();
        assert!(!directory.path().exists());
    }

    #[test]
    fn files_go_with_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        let vm = directory.path().join("vm");
        std::fs::create_dir_all(vm.join("machine")).unwrap();
        for name in ["machine/disk.qcow2", "console.log"] {
            std::fs::write(vm.join(name), "x").unwrap();
        }
        files_remove(&vm).unwrap();
        assert!(!vm.exists());
        files_remove(&vm).unwrap();
    }
}
