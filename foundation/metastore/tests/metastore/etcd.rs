//! The store in a real etcd: what only this engine has.

use crate::server::{Member, wait};
use metastore::{
    Commit, CommitError, Condition, EtcdError, EtcdOptions, LeaseError, Op, RangeQuery, ReadError, Revision,
    Store, WatchEnd,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::time::{Duration, Instant};

fn put(key: &str, value: &str) -> Commit {
    Commit { conditions: vec![], ops: vec![Op::Put(key.into(), value.into())] }
}

fn open(url: &str) -> Store {
    wait(Store::etcd(EtcdOptions::parse(url).unwrap())).unwrap()
}

#[test]
fn two_stores_in_one_cluster_do_not_see_each_other() {
    let member = Member::start();
    let (one, two) = (open(&member.url("one")), open(&member.url("two/deep")));
    let whole = open(&member.url(""));
    wait(async {
        let mut watch = one.watch(b"", one.revision().await.unwrap()).await.unwrap();
        two.commit(put("key", "two")).await.unwrap();
        let revision = one.commit(put("key", "one")).await.unwrap();
        let seen = watch.next().await.unwrap();
        assert_eq!((seen.revision, &seen.changes[0].key[..], seen.changes.len()), (revision, &b"key"[..], 1));
        assert_eq!(two.get(b"key").await.unwrap().unwrap().value, b"two");
        let (entries, _) = one.list(b"").await.unwrap();
        assert_eq!((entries.len(), entries[0].modified), (1, revision));
        let (entries, _) = whole.list(b"").await.unwrap();
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.escape_ascii().to_string()).collect();
        assert_eq!(keys, ["one/\\x00incarnation", "one/key", "two/deep/\\x00incarnation", "two/deep/key"]);
        assert_eq!(whole.get(b"\0incarnation").await.unwrap(), None);
    });
}

#[test]
fn who_opens_first_makes_it_and_a_raised_incarnation_ends_old_handles() {
    let mut member = Member::start();
    let stores: Vec<Store> = (0..4).map(|_| open(&member.url("cell"))).collect();
    assert!(stores.iter().all(|store| store.incarnation() == 1));
    assert_eq!(wait(stores[0].incarnation_raise(7)), Ok(8));
    assert_eq!(open(&member.url("cell")).incarnation(), 8);
    // The others notice it at their next connection.
    member.restart();
    assert!(matches!(wait(stores[1].commit(put("key", "value"))), Err(CommitError::Failed(_))));
    assert!(matches!(wait(stores[1].get(b"key")), Err(ReadError::Failed(_))));
}

#[test]
fn a_short_break_is_waited_out_and_a_long_one_is_told() {
    let mut member = Member::start();
    let mut options = EtcdOptions::parse(&member.url("cell")).unwrap();
    let store = wait(Store::etcd(options.clone())).unwrap();
    wait(store.commit(put("key", "1"))).unwrap();
    let mut watch = wait(async { store.watch(b"", store.revision().await.unwrap()).await }).unwrap();
    member.kill();
    let began = Instant::now();
    let waiting = store.commit(put("key", "2"));
    member.start_again();
    // It was not sent, or it was not answered: never lost, and never twice.
    let second = wait(waiting);
    println!("after a restart: {second:?} in {:?}", began.elapsed());
    let third = wait(store.commit(put("key", "3"))).unwrap();
    assert_eq!(wait(store.get(b"key")).unwrap().unwrap().modified, third);
    let mut seen = wait(watch.next()).unwrap().revision;
    while seen < third {
        seen = wait(watch.next()).unwrap().revision;
    }
    options.patience = Duration::from_millis(500);
    let store = wait(Store::etcd(options.clone())).unwrap();
    member.kill();
    let began = Instant::now();
    let refused = wait(store.commit(put("key", "4")));
    // The first to find the connection broken cannot know whether it was sent.
    assert!(matches!(refused, Err(CommitError::Unavailable(_) | CommitError::Failed(_))), "{refused:?}");
    assert!(matches!(wait(store.commit(put("key", "4"))), Err(CommitError::Unavailable(_))));
    assert!(matches!(wait(store.get(b"key")), Err(ReadError::Unavailable(_))));
    assert!(matches!(wait(watch.next()), Err(WatchEnd::Interrupted(_))));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let gone = wait(Store::etcd(options));
    assert!(matches!(gone, Err(EtcdError::Unavailable(_))), "{gone:?}");
}

#[test]
fn a_member_that_does_not_answer_is_left_for_one_that_does() {
    let member = Member::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = crate::server::port_free();
    let url =
        format!("etcd://127.0.0.1:{closed},{},127.0.0.1:{}/cell", silent.local_addr().unwrap(), member.port);
    let store = open(&url);
    let began = Instant::now();
    wait(store.commit(put("key", "value"))).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_store_that_has_gone_back_is_not_the_store() {
    let mut member = Member::start();
    let store = open(&member.url("cell"));
    wait(store.commit(put("key", "1"))).unwrap();
    member.restart_empty();
    wait(async {
        assert!(matches!(store.get(b"key").await, Err(ReadError::Failed(_))));
        assert!(matches!(store.commit(put("key", "2")).await, Err(CommitError::Failed(_))));
    });
}

#[test]
fn what_is_compacted_and_what_is_not_there_yet_are_told_by_number() {
    let member = Member::start();
    let store = open(&member.url("cell"));
    wait(async {
        let first = store.commit(put("key", "1")).await.unwrap();
        let second = store.commit(put("key", "2")).await.unwrap();
        assert_eq!(store.get_at(b"key", Revision(0)).await, Ok(None));
        assert_eq!(store.compact(Revision(0)).await, Ok(Revision(0)));
        let future = Err(ReadError::Future { newest: second });
        assert_eq!(store.get_at(b"key", Revision(second.0 + 1)).await, future);
        assert!(matches!(store.watch(b"", Revision(u64::MAX)).await, Err(ReadError::Future { .. })));
        assert_eq!(store.compact(second).await, Ok(second));
        assert_eq!(store.compact(first).await, Ok(second));
        let compacted = ReadError::Compacted { oldest: second };
        assert_eq!(store.get_at(b"key", first).await, Err(compacted.clone()));
        assert_eq!(store.range(&RangeQuery::prefix("").at(Revision(0))).await, Err(compacted.clone()));
        assert_eq!(store.watch(b"", first).await.unwrap_err(), compacted);
        let mut watch = store.watch(b"", second).await.unwrap();
        let third = store.commit(Commit { conditions: vec![], ops: vec![Op::Delete("key".into())] }).await;
        assert_eq!(watch.next().await.unwrap().revision, third.unwrap());
    });
}

#[test]
fn the_refusal_names_the_condition_and_the_lease() {
    let member = Member::start();
    let store = open(&member.url("cell"));
    wait(async {
        let revision = store.commit(put("held", "1")).await.unwrap();
        let conditions = vec![
            Condition::Absent("free".into()),
            Condition::Unchanged("held".into(), revision),
            Condition::Unchanged("gone".into(), Revision(0)),
        ];
        let refused = store.commit(Commit { conditions, ..put("key", "value") }).await;
        assert_eq!(refused, Err(CommitError::Conflict { key: "gone".into() }));
        let kept = store.lease_grant(Duration::from_secs(60)).await.unwrap();
        let ended = store.lease_grant(Duration::from_secs(60)).await.unwrap();
        store.lease_revoke(ended).await.unwrap();
        assert_eq!(store.lease_keep_alive(ended).await, Err(LeaseError::Expired(ended)));
        let leased = |key: &str, id| Op::PutLeased(key.into(), "value".into(), id);
        let both = Commit { conditions: vec![], ops: vec![leased("one", kept), leased("two", ended)] };
        assert_eq!(store.commit(both).await, Err(CommitError::LeaseExpired(ended)));
        assert_eq!(store.get(b"one").await, Ok(None));
    });
}

/// An authority, and what it has signed for a name: certificate and key, as files.
fn certificates(directory: &Path) -> Vec<String> {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(directory.join("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::from_params(&authority, &authority_key);
    for name in ["store.nephos", "client"] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let signed = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), signed.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("--cert-file={}", file("store.nephos.pem")),
        format!("--key-file={}", file("store.nephos.key")),
        format!("--trusted-ca-file={}", file("ca.pem")),
        "--client-cert-auth".to_owned(),
    ]
}

#[test]
fn both_sides_prove_who_they_are() {
    let member = Member::start_with(certificates);
    let file = |name: &str| member.directory.path().join(name).display().to_string();
    let ca = format!("{}?ca={}", member.url("tls"), file("ca.pem"));
    let identity = format!("cert={}&key={}", file("client.pem"), file("client.key"));
    let store = open(&format!("{ca}&{identity}&name=store.nephos"));
    let revision = wait(store.commit(put("key", "value"))).unwrap();
    assert_eq!(wait(store.get(b"key")).unwrap().unwrap().modified, revision);
    for (wrong, why) in [
        (format!("{ca}&{identity}"), "not valid for name"),
        // TLS 1.3 tells it after the handshake, so that it may look like a break.
        (format!("{ca}&name=store.nephos"), ""),
        (format!("{}?tls=true&{identity}&name=store.nephos", member.url("tls")), "UnknownIssuer"),
        (format!("{ca}&cert=/nowhere&key=/nowhere"), "/nowhere"),
        (member.url("tls"), ""),
    ] {
        let mut options = EtcdOptions::parse(&wrong).unwrap();
        options.patience = Duration::ZERO;
        let refused = wait(Store::etcd(options)).unwrap_err().to_string();
        assert!(refused.contains(why), "{wrong}: {refused}");
    }
}

#[test]
fn etcds_own_users_are_signed_in() {
    let member = Member::start();
    wait(async {
        let address = format!("127.0.0.1:{}", member.port);
        let mut admin = etcd_client::Client::connect([address], None).await.unwrap();
        for user in ["root", "cell"] {
            admin.user_add(user, "secret", None).await.unwrap();
            admin.role_add(user).await.unwrap();
            admin.user_grant_role(user, user).await.unwrap();
        }
        let own = etcd_client::Permission::read_write("cell/").with_prefix();
        admin.role_grant_permission("cell", own).await.unwrap();
        admin.auth_enable().await.unwrap();
        let url = |user: &str, prefix: &str| format!("etcd://{user}127.0.0.1:{}/{prefix}", member.port);
        let store = Store::etcd(EtcdOptions::parse(&url("cell:secret@", "cell")).unwrap()).await.unwrap();
        store.commit(put("key", "value")).await.unwrap();
        let (entries, revision) = store.list(b"").await.unwrap();
        assert_eq!(entries.len(), 1);
        let mut watch = store.watch(b"", revision).await.unwrap();
        store.commit(put("key", "other")).await.unwrap();
        watch.next().await.unwrap();
        for (user, prefix) in [("", "cell"), ("cell:wrong@", "cell"), ("cell:secret@", "region")] {
            let mut options = EtcdOptions::parse(&url(user, prefix)).unwrap();
            options.patience = Duration::ZERO;
            let refused = Store::etcd(options).await;
            assert!(matches!(refused, Err(EtcdError::Unavailable(_))), "{user} {prefix}: {refused:?}");
        }
    });
}
