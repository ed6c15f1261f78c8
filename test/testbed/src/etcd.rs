//! One etcd beside a cloud, of Debian's package, on ports of the system's choosing; gone with the test.

use crate::wait::{LONG, wait};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A cluster of one.
pub struct Etcd {
    child: Option<Child>,
    client: String,
    peer: String,
    /// The data of its first life, of its second...
    directory: tempfile::TempDir,
    life: u32,
}

impl Etcd {
    /// Starts it, and waits until it listens.
    pub fn start() -> Etcd {
        let directory = tempfile::tempdir().expect("a directory");
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let (client, peer) = (format!("127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
        let mut etcd = Etcd { child: None, client, peer, directory, life: 1 };
        etcd.begin();
        etcd
    }

    fn data(&self) -> String {
        self.directory.path().join(self.life.to_string()).display().to_string()
    }

    fn begin(&mut self) {
        let (client, peer) = (format!("http://{}", self.client), &self.peer);
        let mut command = Command::new("etcd");
        command.args(["--data-dir", &self.data(), "--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client, "--listen-peer-urls", peer]);
        command.args(["--initial-advertise-peer-urls", peer, "--initial-cluster"]);
        command.arg(format!("default={peer}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("etcd, of the package etcd-server, can be started"));
        wait("etcd listens", LONG, || TcpStream::connect(&self.client).ok().map(drop));
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Saves a snapshot of all that it holds.
    pub fn snapshot(&self) -> PathBuf {
        let path = self.directory.path().join("snapshot");
        self.ctl(&["snapshot", "save", &path.display().to_string()]);
        path
    }

    /// Loses what it holds, and goes on with the snapshot, as etcd's manual says.
    pub fn restore(&mut self, snapshot: &Path) {
        self.end();
        self.life += 1;
        let (cluster, snapshot) = (format!("default={}", self.peer), snapshot.display().to_string());
        self.ctl(&[
            "snapshot",
            "restore",
            &snapshot,
            "--data-dir",
            &self.data(),
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            &self.peer,
        ]);
        self.begin();
    }

    /// The URL of a cloud's stores under this prefix.
    pub fn url(&self, prefix: &str) -> String {
        format!("etcd://{}/{prefix}", self.client)
    }

    /// `etcdctl` on it: what it printed. It must succeed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.client]).args(arguments);
        let output = command.output().expect("etcdctl, of the package etcd-client, can be started");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.end();
    }
}
