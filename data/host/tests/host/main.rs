//! The whole agent, over a real link to a cell that is a test: with simulated VMs always, with real guests under
//! the feature `guest-tests`.

// Helpers of tests are tests: a panic is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cell;
#[cfg(feature = "guest-tests")]
mod guests;
#[cfg(feature = "guest-tests")]
mod switch;

use cell::{Cell, until};
use contract::{Phase, StopCause, Target};
use host::config::HostConfig;
use host::serve::{HostError, serve};
use std::path::Path;

const VM: &str = "i-0123456789abcdef0";

fn config(directory: &Path) -> HostConfig {
    let at = directory.display();
    toml::from_str(&format!(
        r#"
        host_id = "h1"
        rack_id = "r1"
        zone = "z1"
        cell_id = "c1"
        cell = {{ file = "{at}/cell" }}
        credentials = "{at}/h1"
        directory = "{at}/host"
        images = "{at}/images"
        vcpus = 8
        memory_mib = 8192
        vmm = "simulated"
        "#
    ))
    .unwrap()
}

fn status_json(directory: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(directory.join("host/status.json")).ok()?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_vm_lives_through_the_agents_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut cell = Cell::start(directory.path()).await;
    let agent = tokio::spawn(serve(config(directory.path())));
    cell.intend(VM, Target::Running, |_| {});
    cell.reaches(VM, Phase::Running).await;
    cell.console_shows(VM, &format!("simulated console of {VM}")).await;
    until("status.json says so", &Default::default(), || {
        let status = status_json(directory.path())?;
        (status["vms"][VM]["phase"] == "running" && status["accelerator"] == "simulated").then_some(())
    })
    .await;

    agent.abort();
    let _ = agent.await;
    cell.host_lost().await;
    let agent = tokio::spawn(serve(config(directory.path())));
    cell.reaches(VM, Phase::Running).await;
    assert_eq!(cell.phases(VM), [Phase::Running], "adopted, not started again");

    cell.intend(VM, Target::Stopped, |_| {});
    assert_eq!(cell.reaches(VM, Phase::Stopped).await.stop_cause(), StopCause::ShutDown);
    cell.intend(VM, Target::Running, |assignment| assignment.attempt = 2);
    cell.reaches(VM, Phase::Running).await;
    cell.intend(VM, Target::Destroyed, |_| {});
    cell.reaches(VM, Phase::Destroyed).await;
    assert!(host::vmm::simulated::machines(&directory.path().join("host/vms")).is_empty());
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_never_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _cell = Cell::start(directory.path()).await;
    let first = tokio::spawn(serve(config(directory.path())));
    until("the first agent runs", &Default::default(), || status_json(directory.path())).await;
    let second = serve(config(directory.path())).await;
    assert!(matches!(second, Err(HostError::Locked(_))), "{second:?}");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_cannot_start_says_why_and_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut cell = Cell::start(directory.path()).await;
    let mut config = config(directory.path());
    config.vmm = host::config::VmmChoice::Qemu;
    config.accelerator = host::accelerator::AcceleratorChoice::Tcg;
    let agent = tokio::spawn(serve(config));
    cell.intend(VM, Target::Running, |assignment| {
        assignment.spec.as_mut().unwrap().image_id = "ami-00000000000000009".into();
    });
    let stopped = cell.reaches(VM, Phase::Stopped).await;
    assert_eq!(stopped.stop_cause(), StopCause::Failed);
    assert!(stopped.message.contains("the image ami-00000000000000009 is not on this host"), "{stopped:?}");
    agent.abort();
}
