//! What each request means, who may ask it, and how it is refused.

use crate::server::{LONG, Server, absent, delete_op, get, get_op, put, put_op, txn, unchanged};
use contract::trust::Role;
use std::time::Duration;
use store::etcdserverpb as pb;
use store::etcdserverpb::response_op::Response as Answered;
use store::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

const OURS: &str = "cell/us-east-1a-c1/";

fn ours(name: &str) -> String {
    format!("{OURS}{name}")
}

#[tokio::test]
async fn a_transaction_happens_if_its_conditions_hold_and_says_what_is_there_if_not() {
    let server = Server::start().await;
    let mut kv = server.kv(Role::Cell, "us-east-1a-c1").await;
    let (a, b) = (ours("a"), ours("b"));
    let made = kv.txn(txn(vec![absent(&a)], vec![put_op(&a, "1"), put_op(&b, "1")], vec![])).await;
    let made = made.unwrap().into_inner();
    assert!(made.succeeded);
    assert_eq!(made.responses.len(), 2);
    let at = made.header.unwrap().revision;
    let again = kv.txn(txn(vec![absent(&a)], vec![put_op(&a, "2")], vec![get_op(&a)])).await;
    let again = again.unwrap().into_inner();
    assert!(!again.succeeded);
    let Some(Answered::ResponseRange(found)) = &again.responses[0].response else { panic!("{again:?}") };
    assert_eq!((found.kvs[0].value.as_ref(), found.kvs[0].mod_revision), (b"1".as_slice(), at));
    let changed = kv.txn(txn(vec![unchanged(&a, at)], vec![put_op(&a, "2"), delete_op(&b)], vec![])).await;
    let changed = changed.unwrap().into_inner();
    assert!(changed.succeeded);
    assert_eq!(changed.header.unwrap().revision, at + 1);
    let both = pb::RangeRequest { range_end: ours("z").into(), ..get(&a) };
    let now = kv.range(both.clone()).await.unwrap().into_inner();
    assert_eq!((now.kvs.len(), now.kvs[0].value.as_ref(), now.count), (1, b"2".as_slice(), 1));
    let before = kv.range(pb::RangeRequest { revision: at, ..both.clone() }).await.unwrap().into_inner();
    assert_eq!((before.kvs.len(), before.header.unwrap().revision), (2, at));
    let first = kv.range(pb::RangeRequest { revision: at, limit: 1, ..both }).await.unwrap().into_inner();
    assert_eq!((first.kvs.len(), first.more), (1, true));
}

#[tokio::test]
async fn errors_are_the_ones_that_clients_of_etcd_know() {
    let server = Server::start().await;
    let mut kv = server.kv(Role::Cell, "us-east-1a-c1").await;
    let a = ours("a");
    for value in ["1", "2", "3"] {
        kv.put(put(&a, value)).await.unwrap();
    }
    let newest = kv.range(get(&a)).await.unwrap().into_inner().header.unwrap().revision;
    let mut fails = async |asked: pb::TxnRequest, code, text: &str| {
        let status = kv.txn(asked).await.unwrap_err();
        assert_eq!((status.code(), status.message().contains(text)), (code, true), "{status}");
    };
    let many = (0..129).map(|i| put_op(&ours(&i.to_string()), "")).collect();
    fails(txn(vec![], many, vec![]), Code::InvalidArgument, "too many operations in txn request").await;
    fails(txn(vec![], vec![put_op("", "")], vec![]), Code::InvalidArgument, "key is not provided").await;
    let half = "x".repeat(500 * 1024);
    let large = ["a", "b", "c"].map(|name| put_op(&ours(name), &half)).to_vec();
    fails(txn(vec![], large, vec![]), Code::InvalidArgument, "request is too large").await;
    let twice = vec![put_op(&a, "1"), put_op(&a, "2")];
    fails(txn(vec![], twice, vec![]), Code::InvalidArgument, "twice").await;
    let mut leased = put(&a, "1");
    leased.lease = 4711;
    let status = kv.put(leased).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));
    let future = kv.range(pb::RangeRequest { revision: newest + 5, ..get(&a) }).await.unwrap_err();
    assert_eq!(future.code(), Code::OutOfRange);
    assert_eq!(future.message(), "etcdserver: mvcc: required revision is a future revision");
    kv.compact(pb::CompactionRequest { revision: newest, physical: true }).await.unwrap();
    let old = kv.range(pb::RangeRequest { revision: 1, ..get(&a) }).await.unwrap_err();
    assert_eq!(old.code(), Code::OutOfRange);
    assert_eq!(old.message(), "etcdserver: mvcc: required revision has been compacted");
    let mut valued = absent(&a);
    valued.set_target(pb::compare::CompareTarget::Value);
    for (value, succeeds) in [("3", true), ("3", false), ("4", true)] {
        valued.target_union = Some(pb::compare::TargetUnion::Value(value.into()));
        let answer = kv.txn(txn(vec![valued.clone()], vec![put_op(&a, "4")], vec![])).await.unwrap();
        assert_eq!(answer.into_inner().succeeded, succeeds, "{value}");
    }
    valued.set_result(pb::compare::CompareResult::Greater);
    let status = kv.txn(txn(vec![valued], vec![put_op(&a, "1")], vec![])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_caller_reaches_its_own_keys_only() {
    let server = Server::start().await;
    let mut cell = server.kv(Role::Cell, "us-east-1a-c1").await;
    cell.put(put(&ours("a"), "1")).await.unwrap();
    let mut other = server.kv(Role::Cell, "us-east-1b-c1").await;
    let denied = |status: tonic::Status| assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    denied(other.range(get(&ours("a"))).await.unwrap_err());
    denied(other.put(put(&ours("a"), "2")).await.unwrap_err());
    denied(other.txn(txn(vec![absent(&ours("x"))], vec![], vec![])).await.unwrap_err());
    let everything = pb::RangeRequest { key: vec![0], range_end: vec![0], ..pb::RangeRequest::default() };
    denied(other.range(everything).await.unwrap_err());
    let from = pb::RangeRequest { range_end: vec![0], ..get("cell/us-east-1b-c1/") };
    denied(other.range(from).await.unwrap_err());
    denied(server.kv(Role::Host, "us-east-1a-c1-h1").await.range(get(&ours("a"))).await.unwrap_err());
    // Two processes of one role are one caller.
    let mut second = server.kv(Role::Cell, "us-east-1a-c1").await;
    assert_eq!(second.range(get(&ours("a"))).await.unwrap().into_inner().count, 1);
}

/// A stream of watches.
struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn open(server: &Server) -> Watching {
        let channel = server.channel(Role::Cell, "us-east-1a-c1").await;
        let (requests, queue) = mpsc::channel(16);
        let mut client = pb::watch_client::WatchClient::new(channel);
        let answers = client.watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Watching { requests, answers }
    }

    async fn ask(&self, union: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(union) }).await.unwrap();
    }

    async fn create(&self, key: &str, end: &str, start_revision: i64) {
        let (key, range_end) = (key.into(), end.into());
        let create = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        self.ask(RequestUnion::CreateRequest(create)).await;
    }

    async fn next(&mut self) -> pb::WatchResponse {
        tokio::time::timeout(LONG, self.answers.message()).await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test]
async fn watches_tell_whole_commits_in_order_from_any_revision_kept() {
    let server = Server::start().await;
    let mut kv = server.kv(Role::Cell, "us-east-1a-c1").await;
    let at = |answer: pb::PutResponse| answer.header.unwrap().revision;
    let first = at(kv.put(put(&ours("a"), "1")).await.unwrap().into_inner());
    let mut watching = Watching::open(&server).await;
    watching.create(OURS, "cell/us-east-1a-c10", first).await;
    let created = watching.next().await;
    assert!(created.created && !created.canceled, "{created:?}");
    let told = watching.next().await;
    assert_eq!((told.events.len(), told.header.unwrap().revision), (1, first));
    kv.txn(txn(vec![], vec![put_op(&ours("b"), "1"), delete_op(&ours("a"))], vec![])).await.unwrap();
    let both = watching.next().await;
    let kinds: Vec<i32> = both.events.iter().map(|event| event.r#type).collect();
    assert_eq!(kinds, [0, 1]);
    // One key, from now on, on the same stream.
    watching.create(&ours("c"), "", 0).await;
    let second = watching.next().await;
    assert!(second.created && second.watch_id != created.watch_id);
    kv.put(put(&ours("c2"), "1")).await.unwrap();
    kv.put(put(&ours("c"), "1")).await.unwrap();
    let (mut wide, mut narrow) = (0, 0);
    while wide < 2 || narrow < 1 {
        let told = watching.next().await;
        let count = if told.watch_id == second.watch_id { &mut narrow } else { &mut wide };
        *count += told.events.len();
    }
    assert_eq!((wide, narrow), (2, 1));
    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let newest = kv.range(get(&ours("c"))).await.unwrap().into_inner().header.unwrap().revision;
    for _ in 0..2 {
        let progress = watching.next().await;
        assert!(progress.events.is_empty() && progress.header.unwrap().revision == newest, "{progress:?}");
    }
    let cancel = pb::WatchCancelRequest { watch_id: second.watch_id };
    watching.ask(RequestUnion::CancelRequest(cancel)).await;
    let canceled = watching.next().await;
    assert!(canceled.canceled && canceled.watch_id == second.watch_id && canceled.compact_revision == 0);
    kv.compact(pb::CompactionRequest { revision: newest, physical: false }).await.unwrap();
    watching.create(OURS, "cell/us-east-1a-c10", 1).await;
    let created = watching.next().await;
    assert!(created.created && !created.canceled, "{created:?}");
    let refused = watching.next().await;
    assert!(!refused.created && refused.canceled && refused.compact_revision == newest, "{refused:?}");
    // The oldest revision that is left can be watched from, and what comes after it is told.
    watching.create(OURS, "cell/us-east-1a-c10", newest).await;
    let created = watching.next().await;
    assert!(created.created && !created.canceled, "{created:?}");
    kv.put(put(&ours("d"), "1")).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let answer = watching.next().await;
        if answer.watch_id == created.watch_id {
            told.extend(answer.events.into_iter().filter_map(|event| event.kv));
        }
    }
    let told: Vec<_> = told.iter().map(|kv| (kv.key.as_ref(), kv.mod_revision)).collect();
    assert_eq!(told, [(ours("c").as_bytes(), newest), (ours("d").as_bytes(), newest + 1)]);
    // The first watch was told of it too.
    watching = Watching::open(&server).await;
    watching.create("cell/us-east-1b-c1/", "", 0).await;
    let refused = watching.next().await;
    assert!(refused.canceled && refused.cancel_reason.contains("permission denied"), "{refused:?}");
}

#[tokio::test]
async fn leases_belong_to_who_was_granted_them_and_take_their_keys_with_them() {
    let server = Server::start().await;
    let mut kv = server.kv(Role::Cell, "us-east-1a-c1").await;
    let channel = server.channel(Role::Cell, "us-east-1a-c1").await;
    let mut leases = pb::lease_client::LeaseClient::new(channel);
    let grant = |ttl| pb::LeaseGrantRequest { ttl, id: 0 };
    let lease = leases.lease_grant(grant(60)).await.unwrap().into_inner();
    let mut leased = put(&ours("leader"), "me");
    leased.lease = lease.id;
    kv.put(leased.clone()).await.unwrap();
    let other = server.channel(Role::Cell, "us-east-1b-c1").await;
    let mut others = pb::lease_client::LeaseClient::new(other.clone());
    let status = others.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    leased.key = "cell/us-east-1b-c1/leader".into();
    let status = pb::kv_client::KvClient::new(other).put(leased).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let asked = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: lease.id }]);
    let mut kept = leases.lease_keep_alive(asked).await.unwrap().into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 60);
    leases.lease_revoke(pb::LeaseRevokeRequest { id: lease.id }).await.unwrap();
    assert_eq!(kv.range(get(&ours("leader"))).await.unwrap().into_inner().count, 0);
    let asked = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: lease.id }]);
    let mut kept = leases.lease_keep_alive(asked).await.unwrap().into_inner();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl, 0);
    // One that nobody keeps ends by itself.
    let short = leases.lease_grant(grant(1)).await.unwrap().into_inner();
    let mut leased = put(&ours("leader"), "me");
    leased.lease = short.id;
    kv.put(leased).await.unwrap();
    let began = std::time::Instant::now();
    while kv.range(get(&ours("leader"))).await.unwrap().into_inner().count > 0 {
        assert!(began.elapsed() < LONG, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(500), "it ended before its time");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_revisions_go_on() {
    let server = Server::start().await;
    let mut kv = server.kv(Role::Region, "us-east-1").await;
    let before = kv.put(put("region/us-east-1/a", "1")).await.unwrap().into_inner().header.unwrap();
    let server = Server::start_in(server.stop().await).await;
    let mut kv = server.kv(Role::Region, "us-east-1").await;
    let found = kv.range(get("region/us-east-1/a")).await.unwrap().into_inner();
    assert_eq!(found.kvs[0].mod_revision, before.revision);
    let after = kv.put(put("region/us-east-1/a", "2")).await.unwrap().into_inner().header.unwrap();
    assert!(after.revision > before.revision);
    assert_eq!(after.raft_term, before.raft_term);
}

#[tokio::test]
async fn a_restored_store_is_another_incarnation_to_all_who_share_it() {
    let server = Server::start().await;
    let names = ["region/us-east-1/", "cell/us-east-1a-c1/", "cell/us-east-1b-c1/"];
    let incarnation = |name: &str| format!("{name}\0incarnation");
    for name in names {
        let (role, instance) = name.trim_end_matches('/').split_once('/').unwrap();
        let mut kv = server.kv(role.parse().unwrap(), instance).await;
        kv.put(put(&incarnation(name), "1")).await.unwrap();
        kv.put(put(&format!("{name}more"), "1")).await.unwrap();
    }
    let mut directory = server.stop().await;
    // Twice from one backup: the second restore must not look like the first.
    let file = directory.path().join("backup");
    let path = directory.path().join("store");
    std::fs::write(&file, backup(&path)).unwrap();
    let mut last = 1;
    for _ in 0..2 {
        let options = metastore::RestoreOptions { replace: true, incarnation_min: 0 };
        let restored = metastore::restore(std::fs::File::open(&file).unwrap(), &path, options).unwrap();
        let server = Server::start_in(directory).await;
        for name in names {
            let (role, instance) = name.trim_end_matches('/').split_once('/').unwrap();
            let mut kv = server.kv(role.parse().unwrap(), instance).await;
            let found = kv.range(get(&incarnation(name))).await.unwrap().into_inner();
            let number: u64 = String::from_utf8(found.kvs[0].value.to_vec()).unwrap().parse().unwrap();
            assert_eq!(number, restored.incarnation, "{name}");
            assert!(number > last);
        }
        last = restored.incarnation;
        directory = server.stop().await;
    }
}

fn backup(directory: &std::path::Path) -> Vec<u8> {
    let store = metastore::Store::open(directory).unwrap();
    let mut backup = store.backup().unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next_piece().unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}
