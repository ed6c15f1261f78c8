//! The two servers: `nephos store`, and etcd as Debian ships it, one node each, with certificates of one authority.

use crate::Place;
use crate::cloud::port_free;
use crate::process::Process;
use anyhow::{Context, Result, bail};
use base::config::Address;
use contract::trust::{Authority, Identity, Role};
use metastore::Store;
use metastore::{EtcdOptions, EtcdTls};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The peer's name in reports.
pub const PEER: &str = "etcd";
const START_WAIT: Duration = Duration::from_secs(120);
/// The namespace that our server gives the client's certificate.
const NAMESPACE: &str = "region/bench";

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `nephos store`
    Ours,
    /// etcd
    Etcd,
}

/// A server in a directory of its own; it is killed when this is dropped, as by a crash.
pub struct Server {
    kind: Kind,
    nephos: PathBuf,
    directory: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts one on what is in `directory`, and waits until it answers a read.
    pub async fn start(place: &Place, kind: Kind, directory: &Path) -> Result<Server> {
        let authority = Authority::open(directory)?;
        authority.issue(&server_identity(), &directory.join("server"))?;
        authority.issue(&Identity::new(Role::Region, "bench"), &directory.join("client"))?;
        let port = port_free()?;
        let child = spawn(&place.nephos, kind, directory, port)?;
        let nephos = place.nephos.clone();
        let mut server = Server { kind, nephos, directory: directory.to_owned(), port, child };
        server.answer_wait().await?;
        Ok(server)
    }

    /// Kills it and starts it again; gives how long it took from the start to the first answer.
    pub async fn restart(&mut self) -> Result<Duration> {
        self.kill();
        let began = Instant::now();
        self.child = spawn(&self.nephos, self.kind, &self.directory, self.port)?;
        self.answer_wait().await?;
        Ok(began.elapsed())
    }

    /// A handle with a connection of its own.
    pub async fn store(&self) -> Result<Store> {
        let mut options =
            EtcdOptions::new(vec![Address::Fixed(format!("127.0.0.1:{}", self.port))], NAMESPACE);
        let files = self.directory.join("client");
        options.tls = Some(Arc::new(move || {
            Ok(EtcdTls {
                ca: Some(fs::read(files.join("ca.pem"))?),
                identity: Some((fs::read(files.join("cert.pem"))?, fs::read(files.join("key.pem"))?)),
                server_name: Some(server_identity().dns_name()),
            })
        }));
        Store::etcd(options).await.context("cannot open the store")
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    async fn answer_wait(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("{:?} ended: {status}: {log}", self.kind);
            }
            let Err(error) = self.answers().await else { return Ok(()) };
            if began.elapsed() > START_WAIT {
                return Err(error.context(format!("{:?} does not answer", self.kind)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers(&self) -> Result<()> {
        // Refused at once while nobody listens; the handle's own patience would count whole seconds.
        tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await?;
        let store = self.store().await?;
        store.get(b"bench/none").await?;
        Ok(())
    }

    fn kill(&mut self) {
        // That it has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn server_identity() -> Identity {
    Identity::new(Role::Store, "bench")
}

fn spawn(nephos: &Path, kind: Kind, directory: &Path, port: u16) -> Result<Child> {
    let tls = directory.join("server");
    let data = directory.join("data");
    let mut command = match kind {
        Kind::Ours => {
            let config = directory.join("store.toml");
            let text = format!(
                "name = \"bench\"\nlisten = \"127.0.0.1:{port}\"\naddress_file = {:?}\ncredentials = {:?}\n\
                 directory = {:?}\n",
                directory.join("address"),
                tls,
                data
            );
            fs::write(&config, text)?;
            let mut command = Command::new(nephos);
            command.arg("store").arg("--config").arg(config);
            command
        }
        Kind::Etcd => {
            let mut command = Command::new("etcd");
            let url = format!("https://127.0.0.1:{port}");
            let peers = format!("http://127.0.0.1:{}", port_free()?);
            command.args(["--name", "bench", "--log-level", "error", "--logger", "zap"]);
            command.arg("--data-dir").arg(data);
            command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.args(["--initial-cluster", &format!("bench={peers}")]);
            // Its default is 2 GiB; a state of 1 GB with its history comes near it.
            command.args(["--quota-backend-bytes", "8589934592", "--client-cert-auth"]);
            command.arg("--trusted-ca-file").arg(tls.join("ca.pem"));
            command.arg("--cert-file").arg(tls.join("cert.pem")).arg("--key-file").arg(tls.join("key.pem"));
            command
        }
    };
    let log = File::create(directory.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))
}
