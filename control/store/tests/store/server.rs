//! One store for a test, on a port and in a directory of its own.

use base::config::Address;
use contract::link;
use contract::trust::{Authority, Credentials, Identity, Role};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::etcdserverpb::kv_client::KvClient;
use store::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use store::{StoreConfig, StoreError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Long enough for a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Server {
    pub directory: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), StoreError>>,
}

impl Server {
    pub async fn start() -> Server {
        Server::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(directory: tempfile::TempDir) -> Server {
        std::fs::create_dir_all(directory.path().join("authority")).unwrap();
        let authority = Authority::open(&directory.path().join("authority")).unwrap();
        authority.issue(&identity(), &directory.path().join("tls")).unwrap();
        let address_file = directory.path().join("address");
        let _ = std::fs::remove_file(&address_file);
        let config = StoreConfig {
            name: "us-east-1".into(),
            listen: "127.0.0.1:0".into(),
            address_file: address_file.clone(),
            credentials: directory.path().join("tls"),
            directory: directory.path().join("store"),
            state_bytes_max: metastore::EngineOptions::STATE_BYTES_MAX,
        };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(store::serve_until(config, async {
            let _ = stopped.await;
        }));
        let began = std::time::Instant::now();
        while !address_file.exists() {
            assert!(!serving.is_finished() && began.elapsed() < LONG, "the store does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Server { directory, stop, serving }
    }

    /// Stops it; what is left is its directory.
    pub async fn stop(self) -> tempfile::TempDir {
        drop(self.stop);
        self.serving.await.unwrap().unwrap();
        self.directory
    }

    pub fn address(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("address")).unwrap()
    }

    /// The directory of a certificate for this caller.
    pub fn certificate(&self, role: Role, instance: &str) -> PathBuf {
        let into = self.directory.path().join(format!("{role}-{instance}"));
        let authority = Authority::open(&self.directory.path().join("authority")).unwrap();
        authority.issue(&Identity::new(role, instance), &into).unwrap();
        into
    }

    pub async fn channel(&self, role: Role, instance: &str) -> Channel {
        let credentials = Credentials::open(&self.certificate(role, instance)).unwrap();
        link::dial(&Address::Fixed(self.address()), &credentials, &identity()).await.unwrap()
    }

    pub async fn kv(&self, role: Role, instance: &str) -> KvClient<Channel> {
        KvClient::new(self.channel(role, instance).await)
    }

    /// `etcdctl` as this caller.
    pub fn etcdctl(&self, certificate: &Path) -> std::process::Command {
        let mut command = std::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        let endpoint = format!("--endpoints=https://{}", self.address());
        // It would look for the address in the certificate, which names a role.
        command.args([endpoint.as_str(), "--insecure-skip-tls-verify", "--cert"]);
        command.arg(certificate.join("cert.pem")).arg("--key").arg(certificate.join("key.pem"));
        command
    }
}

fn identity() -> Identity {
    Identity::new(Role::Store, "us-east-1")
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

pub fn put_op(key: &str, value: &str) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestPut(put(key, value))) }
}

pub fn delete_op(key: &str) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

pub fn get_op(key: &str) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(get(key))) }
}

pub fn absent(key: &str) -> Compare {
    let mut compare = Compare { key: key.into(), ..Compare::default() };
    compare.set_target(compare::CompareTarget::Create);
    compare.target_union = Some(compare::TargetUnion::CreateRevision(0));
    compare
}

pub fn unchanged(key: &str, revision: i64) -> Compare {
    let mut compare = Compare { key: key.into(), ..Compare::default() };
    compare.set_target(compare::CompareTarget::Mod);
    compare.target_union = Some(compare::TargetUnion::ModRevision(revision));
    compare
}

pub fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare, success, failure }
}
