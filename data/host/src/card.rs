//! The network cards of a VM, and how QEMU and the switch come together over them.
//!
//! ```text
//!   HOST/vnet/attachments/eni-…    a PortAttachment: this VM's user may speak for the interface   agent's, 0600
//!       /vnet/sockets/eni-…        the switch listens, QEMU connects        the switch's; the VM's user's, 0600
//!       /vms/i-…/ports/eni-…       ─► the socket: what this VM has attachments for, and a path that is short
//!                                  enough for a socket's address wherever the host's directory lies
//! ```
//!
//! Neither the agent nor the switch waits for the other; a QEMU is started only once somebody listens, because it
//! answers nobody while it waits for its cards itself. Attachments go with the VM, not with its process.
//!
//! Called by [`crate::qemu`]; blocks for as long as files take. Deliberately absent: addresses, rules, anything of
//! what the switch does with a card.
//!
//! Invariant: an attachment exists only beside its link in `ports/`, so that whoever destroys a VM finds all of them.

use crate::isolation::Credentials;
use base::ids::{IdError, InstanceId, NetworkInterfaceId};
use contract::prost::Message;
use contract::{PortAttachment, VmInterface, VmSpec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A VM has no more cards than this; EC2's largest instances have 15 (AWS: "IP addresses per network interface").
pub const CARDS_MAX: usize = 16;
/// In a VM's directory: see the file's header.
pub(crate) const PORTS: &str = "ports";

/// A card of a VM, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The interface.
    pub interface: NetworkInterfaceId,
    /// Its address on the wire.
    pub mac: [u8; 6],
    /// Which card it is, from 0.
    pub device_index: u32,
    /// What it says it carries, in bytes; 0: it does not say.
    pub mtu: u32,
}

/// What is wrong with a VM's cards.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Not six bytes, or a group's.
    #[error("{0} has no MAC address that a card can have")]
    Mac(NetworkInterfaceId),
    /// Two cards in one place, or one in two, or too many.
    #[error("{0} cannot be the card {1} of this VM")]
    Place(NetworkInterfaceId, u32),
    /// A file cannot be used.
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
}

fn file_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CardError + 'a {
    move |source| CardError::File { action, path: path.to_owned(), source }
}

impl Card {
    /// The cards that a spec names, by device index.
    pub fn list(interfaces: &[VmInterface]) -> Result<Vec<Card>, CardError> {
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        let mut cards = Vec::new();
        for interface in interfaces {
            let id: NetworkInterfaceId = interface.interface_id.parse()?;
            let mac: Option<[u8; 6]> = interface.mac.as_slice().try_into().ok();
            let mac = mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]).ok_or(CardError::Mac(id))?;
            let device_index = interface.device_index;
            let fits = usize::try_from(device_index).is_ok_and(|index| index < CARDS_MAX);
            if !fits || !ids.insert(id) || !places.insert(device_index) {
                return Err(CardError::Place(id, device_index));
            }
            cards.push(Card { interface: id, mac, device_index, mtu: interface.mtu });
        }
        cards.sort_by_key(|card| card.device_index);
        Ok(cards)
    }

    /// Its MAC address as people and QEMU write it.
    pub fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Where QEMU connects, relative to its VM's directory.
    pub fn socket(&self) -> String {
        format!("{PORTS}/{}", self.interface)
    }
}

/// Pairs of queues of each of a VM's cards: one for each virtual processor that can use it.
pub fn queue_pairs(spec: &VmSpec, translated: bool) -> u32 {
    // Under a translator a packet costs its guest far more than waiting for a queue does.
    if translated { 1 } else { spec.vcpus.clamp(1, 8) }
}

/// What a host and its switch share.
#[derive(Clone, Debug)]
pub struct Vnet(PathBuf);

impl Vnet {
    /// At this directory, absolute.
    pub fn at(directory: PathBuf) -> Vnet {
        Vnet(directory)
    }

    /// Where the switch's sockets are.
    pub fn sockets(&self) -> PathBuf {
        self.0.join("sockets")
    }

    fn attachments(&self) -> PathBuf {
        self.0.join("attachments")
    }

    /// Lets the VM in `directory`, which runs as `credentials` or else as the agent's user, speak for a card.
    pub fn attach(
        &self,
        directory: &Path,
        vm: InstanceId,
        card: &Card,
        credentials: Option<Credentials>,
        queue_pairs: u32,
    ) -> Result<(), CardError> {
        let (attachments, sockets, ports) = (self.attachments(), self.sockets(), directory.join(PORTS));
        for (path, mode) in [(&self.0, 0o711), (&attachments, 0o700), (&sockets, 0o711), (&ports, 0o711)] {
            match std::fs::DirBuilder::new().mode(mode).create(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(file_error("make", path)(e));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let name = card.interface.to_string();
        let (link, socket) = (ports.join(&name), sockets.join(&name));
        if std::fs::read_link(&link).ok().as_ref() != Some(&socket) {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&socket, &link).map_err(file_error("make", &link))?;
            directory_sync(&ports)?;
        }
        let own = Credentials {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let Credentials { uid, gid } = credentials.unwrap_or(own);
        let attachment = PortAttachment {
            interface_id: name.clone(),
            instance_id: vm.to_string(),
            uid,
            gid,
            device_index: card.device_index,
            mac: card.mac.to_vec(),
            queue_pairs,
        };
        let (path, bytes) = (attachments.join(&name), attachment.encode_to_vec());
        // The switch looks at every change; the same again is none.
        if std::fs::read(&path).ok().as_ref() == Some(&bytes) {
            return Ok(());
        }
        base::disk::file_replace(&path, &bytes, 0o600).map_err(file_error("write", &path))
    }

    /// The interfaces that the VM in `directory` has attachments for.
    pub fn attached(&self, directory: &Path) -> Result<Vec<NetworkInterfaceId>, CardError> {
        let ports = directory.join(PORTS);
        let entries = match std::fs::read_dir(&ports) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(file_error("list", &ports))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(file_error("list", &ports))?.file_name();
            found.extend(name.to_str().and_then(|name| name.parse::<NetworkInterfaceId>().ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Takes an interface from the VM in `directory`. One that another VM of this host has by now stays that one's.
    pub fn detach(
        &self,
        directory: &Path,
        vm: InstanceId,
        interface: NetworkInterfaceId,
    ) -> Result<(), CardError> {
        let attachments = self.attachments();
        let path = attachments.join(interface.to_string());
        let held = match std::fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            bytes => Some(bytes.map_err(file_error("read", &path))?),
        };
        let of_another = |bytes: &Vec<u8>| {
            let holder = PortAttachment::decode(bytes.as_slice()).map(|held| held.instance_id);
            holder.is_ok_and(|holder| holder != vm.to_string())
        };
        if held.as_ref().is_some_and(|bytes| !of_another(bytes)) {
            std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
            directory_sync(&attachments)?;
        }
        let link = directory.join(PORTS).join(interface.to_string());
        match std::fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error("remove", &link)(e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes everything from the VM in `directory` but what `keep` names.
    pub fn detach_others(&self, directory: &Path, vm: InstanceId, keep: &[Card]) -> Result<(), CardError> {
        for interface in self.attached(directory)? {
            if !keep.iter().any(|card| card.interface == interface) {
                self.detach(directory, vm, interface)?;
            }
        }
        Ok(())
    }

    /// The first of these cards on whose socket nobody listens, and why that is. A connection is made and dropped
    /// again: a switch that was killed leaves its sockets' names behind, so that these prove nothing.
    pub fn silent(&self, cards: &[Card]) -> Option<String> {
        cards.iter().find_map(|card| {
            let why = knock(&self.sockets(), &card.interface.to_string()).err()?;
            Some(format!("the host's switch does not serve {} yet ({why})", card.interface))
        })
    }
}

fn knock(sockets: &Path, name: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // As in `qmp`: a socket's address holds 108 bytes, and a path through the open directory is short.
    let directory = std::fs::File::open(sockets)?;
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // Somebody listens, and has others waiting.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn directory_sync(path: &Path) -> Result<(), CardError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(file_error("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn interface(number: u32) -> VmInterface {
        VmInterface {
            interface_id: format!("eni-{number:017x}"),
            mac: vec![2, 0, 0, 0, 0, 1],
            device_index: number,
            mtu: 9001,
        }
    }

    #[test]
    fn cards_that_cannot_be_are_refused() {
        let cards = Card::list(&[interface(1), interface(0)]).unwrap();
        assert_eq!(cards.iter().map(|card| card.device_index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cards[0].mac_text(), "02:00:00:00:00:01");
        assert_eq!(cards[1].socket(), "ports/eni-00000000000000001");
        type Change = fn(&mut VmInterface);
        let changes: [Change; 6] = [
            |wrong| wrong.interface_id = "eni-../../etc".into(),
            |wrong| wrong.mac = vec![2; 5],
            |wrong| wrong.mac = vec![1, 0, 0, 0, 0, 1],
            |wrong| wrong.device_index = 0,
            |wrong| wrong.device_index = 16,
            |wrong| wrong.interface_id = "eni-00000000000000000".into(),
        ];
        for change in changes {
            let mut wrong = interface(1);
            change(&mut wrong);
            assert!(Card::list(&[interface(0), wrong.clone()]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_attachment_goes_with_its_vm_and_no_other() {
        let host = tempfile::tempdir().unwrap();
        let vnet = Vnet::at(host.path().join("vnet"));
        let cards = Card::list(&[interface(0), interface(1)]).unwrap();
        let directories = ["vm-a", "vm-b"].map(|name| host.path().join(name));
        let vms = [1, 2].map(InstanceId::from_bits);
        for (directory, vm) in directories.iter().zip(vms) {
            std::fs::create_dir(directory).unwrap();
            assert!(vnet.attached(directory).unwrap().is_empty());
            vnet.attach(directory, vm, &cards[1], None, 2).unwrap();
        }
        vnet.attach(&directories[0], vms[0], &cards[0], Some(Credentials { uid: 7, gid: 8 }), 2).unwrap();
        let read = |card: &Card| {
            let bytes = std::fs::read(host.path().join("vnet/attachments").join(card.interface.to_string()));
            PortAttachment::decode(bytes.ok()?.as_slice()).ok()
        };
        let first = read(&cards[0]).unwrap();
        assert_eq!((first.uid, first.gid, first.queue_pairs, first.device_index), (7, 8, 2, 0));
        assert_eq!((first.instance_id, first.mac), (vms[0].to_string(), cards[0].mac.to_vec()));

        // The second card has gone over to the other VM.
        vnet.detach_others(&directories[0], vms[0], &[]).unwrap();
        assert!(vnet.attached(&directories[0]).unwrap().is_empty());
        assert_eq!(read(&cards[0]), None);
        assert_eq!(read(&cards[1]).unwrap().instance_id, vms[1].to_string());
        vnet.detach_others(&directories[1], vms[1], &cards[1..]).unwrap();
        assert_eq!(vnet.attached(&directories[1]).unwrap(), [cards[1].interface]);
        vnet.detach_others(&directories[1], vms[1], &[]).unwrap();
        assert_eq!(read(&cards[1]), None);
    }

    #[test]
    fn a_socket_that_a_dead_switch_left_is_silent() {
        let host = tempfile::tempdir().unwrap();
        // Longer than a socket's address.
        let long = host.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let vnet = Vnet::at(long.join("vnet"));
        let cards = Card::list(&[interface(0)]).unwrap();
        vnet.attach(host.path(), InstanceId::from_bits(1), &cards[0], None, 1).unwrap();
        assert!(vnet.silent(&cards).unwrap().contains("No such file"), "{:?}", vnet.silent(&cards));
        let short = host.path().join("s");
        let listener = UnixListener::bind(&short).unwrap();
        std::fs::rename(&short, vnet.sockets().join(cards[0].interface.to_string())).unwrap();
        assert_eq!(vnet.silent(&cards), None);
        // Also through the VM's own directory, as QEMU goes.
        assert!(host.path().join(cards[0].socket()).exists());
        drop(listener);
        assert!(vnet.silent(&cards).unwrap().contains("refused"), "{:?}", vnet.silent(&cards));
    }
}
