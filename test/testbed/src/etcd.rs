//! One etcd beside a cloud, of Debian's package, on ports of the system's choosing; gone with the test.

use crate::wait::{LONG, wait};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A cluster of one.
pub struct Etcd {
    child: Child,
    client: String,
    _directory: tempfile::TempDir,
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
        let client_url = format!("http://{client}");
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(directory.path()).args(["--listen-client-urls", &client_url]);
        command.args(["--advertise-client-urls", &client_url, "--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster"]);
        command.arg(format!("default={peer}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("etcd, of the package etcd-server, can be started");
        wait("etcd listens", LONG, || TcpStream::connect(&client).ok().map(drop));
        Etcd { child, client, _directory: directory }
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
