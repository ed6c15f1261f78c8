//! etcd's own command line (Debian's package etcd-client) as the client.

use crate::server::Server;
use contract::trust::Role;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the command printed; it must succeed.
fn said(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_puts_gets_compares_watches_and_leases() {
    let server = Server::start().await;
    let certificate = server.certificate(Role::Region, "us-east-1");
    let blocking = tokio::task::spawn_blocking(move || {
        puts_and_gets(&server, &certificate);
        compares(&server, &certificate);
        watches(&server, &certificate);
        leases(&server, &certificate);
        server
    });
    blocking.await.unwrap().stop().await;
}

fn puts_and_gets(server: &Server, certificate: &Path) {
    let run = |arguments: &[&str]| said(server.etcdctl(certificate).args(arguments), "");
    assert_eq!(run(&["put", "region/us-east-1/a", "one"]), "OK\n");
    assert_eq!(run(&["put", "region/us-east-1/b", "two"]), "OK\n");
    assert_eq!(run(&["get", "region/us-east-1/a"]), "region/us-east-1/a\none\n");
    let both = run(&["get", "--prefix", "region/us-east-1/"]);
    assert_eq!(both, "region/us-east-1/a\none\nregion/us-east-1/b\ntwo\n");
    assert_eq!(run(&["del", "region/us-east-1/b"]), "1\n");
    assert_eq!(run(&["del", "region/us-east-1/b"]), "0\n");
    let elsewhere = server.etcdctl(certificate).args(["get", "cell/us-east-1a-c1/a"]).output().unwrap();
    assert!(!elsewhere.status.success());
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("permission denied"), "{elsewhere:?}");
    let status = run(&["endpoint", "status", "-w", "json"]);
    assert!(status.contains("\"revision\":"), "{status}");
}

fn compares(server: &Server, certificate: &Path) {
    let script =
        "create(\"region/us-east-1/c\") = \"0\"\n\nput region/us-east-1/c new\n\nget region/us-east-1/c\n\n";
    let first = said(server.etcdctl(certificate).arg("txn"), script);
    assert_eq!(first, "SUCCESS\n\nOK\n");
    let second = said(server.etcdctl(certificate).arg("txn"), script);
    assert_eq!(second, "FAILURE\n\nregion/us-east-1/c\nnew\n");
}

fn watches(server: &Server, certificate: &Path) {
    let mut command = server.etcdctl(certificate);
    command.args(["watch", "--prefix", "region/us-east-1/w/", "--rev", "1"]).stdout(Stdio::piped());
    let mut watching = command.spawn().unwrap();
    said(server.etcdctl(certificate).args(["put", "region/us-east-1/w/1", "x"]), "");
    said(server.etcdctl(certificate).args(["put", "region/us-east-1/v", "x"]), "");
    said(server.etcdctl(certificate).args(["del", "region/us-east-1/w/1"]), "");
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let told: Vec<String> = lines.take(5).map(Result::unwrap).collect();
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(told, ["PUT", "region/us-east-1/w/1", "x", "DELETE", "region/us-east-1/w/1"]);
}

fn leases(server: &Server, certificate: &Path) {
    let run = |arguments: &[&str]| said(server.etcdctl(certificate).args(arguments), "");
    let granted = run(&["lease", "grant", "60"]);
    let id = granted.split(' ').nth(1).unwrap();
    run(&["put", "--lease", id, "region/us-east-1/leader", "me"]);
    let kept = run(&["lease", "keep-alive", "--once", id]);
    assert!(kept.contains("keepalived with TTL(60)"), "{kept}");
    assert_eq!(run(&["lease", "revoke", id]), format!("lease {id} revoked\n"));
    assert_eq!(run(&["get", "region/us-east-1/leader"]), "");
}
