//! The store's process behind the handle that the control plane holds: the same suite as every engine's.

use crate::server::Server;
use base::config::Address;
use contract::trust::{Identity, Role};
use metastore::conformance::{Extent, run};
use metastore::{Commit, EtcdOptions, EtcdTls, Op, Revision, Store, WatchEnd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The store of one cell, which has a namespace of its own.
fn options(server: &Server, cell: &str) -> EtcdOptions {
    let files = server.certificate(Role::Cell, cell);
    let mut options = EtcdOptions::new(vec![Address::Fixed(server.address())], &format!("cell/{cell}"));
    options.tls = Some(Arc::new(move || {
        Ok(EtcdTls {
            ca: Some(std::fs::read(files.join("ca.pem"))?),
            identity: Some((std::fs::read(files.join("cert.pem"))?, std::fs::read(files.join("key.pem"))?)),
            server_name: Some(Identity::new(Role::Store, "us-east-1").dns_name()),
        })
    }));
    options.watch_queue_commits = 1024;
    options
}

#[test]
fn the_stores_process_keeps_the_contract() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let stores = AtomicU64::new(0);
    let fresh = || {
        let cell = format!("cell-{}", stores.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(Store::etcd(options(&server, &cell))).unwrap()
    };
    run(&runtime, &fresh, Extent { cases: 25, steps: 60, histories: 12 });
}

#[tokio::test]
async fn a_watch_begins_at_the_oldest_revision_and_not_before_it() {
    let server = Server::start().await;
    let store = Store::etcd(options(&server, "one")).await.unwrap();
    let put = |value: &str| {
        let op = Op::Put(b"watched".to_vec(), value.as_bytes().to_vec());
        store.commit(Commit { conditions: Vec::new(), ops: vec![op] })
    };
    put("first").await.unwrap();
    let newest = put("second").await.unwrap();
    store.compact(newest).await.unwrap();
    let mut watch = store.watch(b"watched", newest).await.unwrap();
    let third = put("third").await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, third);
    // What is compacted ends the watch, wherever it is noticed; it never stays silent.
    if let Ok(mut watch) = store.watch(b"watched", Revision(newest.0 - 1)).await {
        assert_eq!(watch.next().await.unwrap_err(), WatchEnd::Lagged);
    }
}
