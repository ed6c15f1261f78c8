//! scratch
use crate::server::Server;
use contract::trust::{Identity, Role};
use metastore::{Commit, EtcdOptions, Op, Store};
use std::time::{Duration, Instant};

async fn run(name: &str, store: &Store, clients: usize) -> f64 {
    let end = Instant::now() + Duration::from_secs(3);
    let mut set = tokio::task::JoinSet::new();
    let began = Instant::now();
    for client in 0..clients {
        let store = store.clone();
        set.spawn(async move {
            let (mut count, mut lat) = (0u64, Vec::new());
            while Instant::now() < end {
                let key = format!("k/{client}/{}", count % 64).into_bytes();
                let at = Instant::now();
                store
                    .commit(Commit { conditions: vec![], ops: vec![Op::Put(key, vec![7; 512])] })
                    .await
                    .unwrap();
                lat.push(at.elapsed());
                count += 1;
            }
            (count, lat)
        });
    }
    let (mut total, mut all) = (0, Vec::new());
    while let Some(done) = set.join_next().await {
        let (count, lat) = done.unwrap();
        total += count;
        all.extend(lat);
    }
    all.sort();
    let rate = total as f64 / began.elapsed().as_secs_f64();
    eprintln!(
        "{name} {clients}: {rate:.0}/s p50 {:?} p99 {:?}",
        all[all.len() / 2],
        all[all.len() * 99 / 100]
    );
    rate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn rate() {
    let server = Server::start().await;
    let cert = server.certificate(Role::Region, "us-east-1");
    let d = cert.display();
    let name = Identity::new(Role::Store, "us-east-1").dns_name();
    let url = format!(
        "etcd://{}/region/us-east-1?ca={d}/ca.pem&cert={d}/cert.pem&key={d}/key.pem&name={name}",
        server.address()
    );
    let ours = Store::etcd(EtcdOptions::parse(&url).unwrap()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = std::process::Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args([
            "--listen-client-urls",
            "http://127.0.0.1:42379",
            "--advertise-client-urls",
            "http://127.0.0.1:42379",
            "--listen-peer-urls",
            "http://127.0.0.1:42380",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:42380",
            "--initial-cluster",
            "default=http://127.0.0.1:42380",
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let theirs = loop {
        if let Ok(s) = Store::etcd(EtcdOptions::parse("etcd://127.0.0.1:42379/x").unwrap()).await {
            break s;
        }
    };
    for clients in [1, 16, 64] {
        for _ in 0..3 {
            let a = run("nephos", &ours, clients).await;
            let b = run("etcd", &theirs, clients).await;
            eprintln!("  ratio {:.2}", a / b);
        }
    }
    etcd.kill().unwrap();
    etcd.wait().unwrap();
}
