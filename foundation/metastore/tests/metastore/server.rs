//! Debian's etcd, started for a test: its own directory, its own ports, gone with the test.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The runtime on which the stores of all tests live.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// Runs it to its end, which must come within two minutes.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let bounded = async { tokio::time::timeout(Duration::from_secs(120), future).await };
    runtime().block_on(bounded).expect("an answer within two minutes")
}

/// A port that was free a moment ago.
pub fn port_free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the member there says that it has a leader.
pub fn healthy(host: &str, port: u16) -> bool {
    let asked = (|| {
        let mut stream = TcpStream::connect((host, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    })();
    asked.is_ok_and(|answer: String| answer.contains(r#""health":"true""#))
}

/// A cluster of one.
pub struct Member {
    pub port: u16,
    peer_port: u16,
    pub directory: TempDir,
    child: Option<Child>,
    /// Arguments besides; with TLS, clients are served at `https`.
    more: Vec<String>,
}

impl Member {
    /// Starts it, and waits until it answers.
    pub fn start() -> Member {
        Self::start_with(|_| vec![])
    }

    /// Starts it with more arguments, for which files may be made in its directory.
    pub fn start_with(more: impl Fn(&Path) -> Vec<String>) -> Member {
        let directory = tempfile::tempdir().unwrap();
        let more = more(directory.path());
        let (port, peer_port) = (port_free(), port_free());
        let mut member = Member { port, peer_port, directory, child: None, more };
        member.start_again();
        member
    }

    /// The store of this prefix in it.
    pub fn url(&self, prefix: &str) -> String {
        format!("etcd://127.0.0.1:{}/{prefix}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it with what it has.
    pub fn start_again(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let scheme = if self.more.is_empty() { "http" } else { "https" };
        let client = format!("{scheme}://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let health = port_free();
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", "one", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{health}")])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(etcd.spawn().expect("etcd runs (Debian package etcd-server)"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !healthy("127.0.0.1", health) {
            if Instant::now() > deadline {
                panic!("etcd does not answer\n{}", std::fs::read_to_string(self.log()).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it and starts it with what it has.
    pub fn restart(&mut self) {
        self.start_again();
    }

    /// Kills it and starts it with nothing.
    pub fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
        self.start_again();
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
