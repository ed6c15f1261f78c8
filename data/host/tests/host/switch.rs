//! A switch that is a test: it serves a host's attachments so far that QEMU and the guest's driver set their cards up,
//! and carries no packet. (QEMU's `docs/interop/vhost-user.rst`.)

use contract::PortAttachment;
use contract::prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
/// VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF, VHOST_USER_F_PROTOCOL_FEATURES.
const FEATURES: u64 = 1 << 32 | 1 << 15 | 1 << 30;

/// Serves until it is dropped; then its sockets are left behind, as by a switch that was killed.
pub struct Switch {
    stop: Arc<AtomicBool>,
    connected: Arc<Mutex<BTreeSet<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Switch {
    /// Over the directory `vnet` of a host.
    pub fn start(vnet: PathBuf) -> Switch {
        let stop = Arc::new(AtomicBool::new(false));
        let connected = Arc::default();
        let (stopped, of) = (Arc::clone(&stop), Arc::clone(&connected));
        let thread = std::thread::spawn(move || serve(&vnet, &stopped, &of));
        Switch { stop, connected, thread: Some(thread) }
    }

    /// The interfaces whose guest's driver has accepted features.
    pub fn connected(&self) -> Vec<String> {
        self.connected.lock().unwrap().iter().cloned().collect()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(vnet: &Path, stop: &AtomicBool, connected: &Mutex<BTreeSet<String>>) {
    let mut ports: BTreeMap<String, (UnixListener, Option<UnixStream>)> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let attachments = attachments(vnet);
        ports.retain(|name, _| attachments.iter().any(|attachment| attachment.interface_id == *name));
        for attachment in &attachments {
            ports
                .entry(attachment.interface_id.clone())
                .or_insert_with(|| (listen(&vnet.join("sockets"), attachment), None));
        }
        for (name, (listener, stream)) in &mut ports {
            if stream.is_none() {
                *stream = listener.accept().ok().map(|(stream, _)| stream);
            }
            let Some(open) = stream else { continue };
            open.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            match converse(open) {
                Some(Some(SET_FEATURES)) => {
                    connected.lock().unwrap().insert(name.clone());
                }
                Some(_) => {}
                None => {
                    connected.lock().unwrap().remove(name);
                    *stream = None;
                }
            }
        }
        connected.lock().unwrap().retain(|name| ports.contains_key(name));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the agent has attached.
pub fn attachments(vnet: &Path) -> Vec<PortAttachment> {
    let entries = std::fs::read_dir(vnet.join("attachments")).into_iter().flatten().flatten();
    let whole = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    whole
        .filter_map(|entry| PortAttachment::decode(std::fs::read(entry.path()).ok()?.as_slice()).ok())
        .collect()
}

fn listen(sockets: &Path, attachment: &PortAttachment) -> UnixListener {
    let (path, fresh) = (sockets.join(&attachment.interface_id), sockets.join("new"));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&fresh, mode).unwrap();
    std::os::unix::fs::chown(&fresh, Some(attachment.uid), Some(attachment.gid)).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    listener
}

/// Answers one message if one is there. The outer `None`: the front end is gone.
fn converse(stream: &mut UnixStream) -> Option<Option<u32>> {
    let mut header = [0u8; 12];
    match stream.read(&mut header) {
        Ok(12) => {}
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(None),
        Err(_) => return None,
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let (request, length) = (word(0), word(8));
    let mut payload = vec![0u8; length as usize];
    stream.read_exact(&mut payload).ok()?;
    let answer = match request {
        GET_FEATURES => FEATURES.to_le_bytes().to_vec(),
        GET_PROTOCOL_FEATURES => 0u64.to_le_bytes().to_vec(),
        GET_QUEUE_NUM => 1u64.to_le_bytes().to_vec(),
        // The index comes back, at position 0: nothing was taken from it.
        GET_VRING_BASE => [&payload[..4], &[0; 4]].concat(),
        _ => return Some(Some(request)),
    };
    let mut message = Vec::new();
    // Version 1, and it is an answer.
    for word in [request, 1 | 1 << 2, answer.len() as u32] {
        message.extend(word.to_le_bytes());
    }
    message.extend(answer);
    stream.write_all(&message).ok()?;
    Some(Some(request))
}
