//! A cell's and a zone's processes over real links: mutual TLS, ports of the system's choosing, a store on disk.
//! The region and the host are links of the test's own.

// The test's own fixtures may fail as loudly as its tests.
#![allow(clippy::unwrap_used)]

use base::config::Address;
use base::ids::{CellId, ZoneName};
use cell::serve::{CellConfig, CellError, serve_until};
use contract::cell_for_hosts_client::CellForHostsClient;
use contract::cell_for_region_client::CellForRegionClient;
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{Authority, Credentials, Identity, Role};
use contract::zone_for_region_client::ZoneForRegionClient;
use contract::{
    FromCell, FromHost, Generation, HostDocument, HostHello, HostStatus, Phase, RegionToZone, Target, ToCell,
    ToHost, VmIntent, VmReport, VmSpec, VmStatus, ZoneSummary, from_cell, from_host, to_cell, to_host,
};
use metastore::StorePlace;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(30);
const INSTANCE: &str = "i-0000000000000000a";

/// A cloud's directory: certificates, address files, the store.
struct Cloud(tempfile::TempDir);

impl Cloud {
    fn new() -> Cloud {
        let cloud = Cloud(tempfile::tempdir().unwrap());
        let authority = Authority::open(cloud.0.path()).unwrap();
        for (role, instance) in
            [(Role::Zone, "z1"), (Role::Cell, "c1"), (Role::Region, "r1"), (Role::Host, "h1")]
        {
            authority.issue(&Identity::new(role, instance), &cloud.path(instance)).unwrap();
        }
        cloud
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn credentials(&self, name: &str) -> Arc<Credentials> {
        Arc::new(Credentials::open(&self.path(name)).unwrap())
    }

    fn cell_config(&self) -> CellConfig {
        CellConfig {
            cell_id: "c1".parse::<CellId>().unwrap(),
            zone: "z1".parse::<ZoneName>().unwrap(),
            listen: "127.0.0.1:0".into(),
            address_file: self.path("c1.address"),
            credentials: self.path("c1"),
            store: StorePlace::Embedded(self.path("c1.store")),
            state_bytes_max: metastore::EngineOptions::STATE_BYTES_MAX,
            process: "c1".into(),
            standing_file: self.path("c1.standing"),
            zone_address: Address::File(self.path("z1.address")),
            crash_at: None,
        }
    }

    fn cell(&self) -> Process<CellError> {
        let config = self.cell_config();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve_until(config, async move { drop(stopped.await) }));
        Process { stop, task }
    }

    fn zone(&self) -> Process<zone::ZoneError> {
        let config = zone::ZoneConfig {
            zone: "z1".parse().unwrap(),
            listen: "127.0.0.1:0".into(),
            address_file: self.path("z1.address"),
            credentials: self.path("z1"),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(zone::serve::serve_until(config, async move { drop(stopped.await) }));
        Process { stop, task }
    }

    /// The certificate of `me` dials the cell as a region does.
    fn region(&self, me: &str) -> Peer<ToCell, FromCell> {
        let open = |channel, out: ReceiverStream<ToCell>| async move {
            CellForRegionClient::new(channel).link(out).await
        };
        let (events, heard) = mpsc::channel(1000);
        let peer = Identity::new(Role::Cell, "c1");
        let address = Address::File(self.path("c1.address"));
        let task = tokio::spawn(link::keep(address, self.credentials(me), peer, open, events, |event| event));
        Peer { heard, outbox: None, task }
    }

    fn host(&self, me: &str) -> Peer<FromHost, ToHost> {
        let open = |channel, out: ReceiverStream<FromHost>| async move {
            CellForHostsClient::new(channel).link(out).await
        };
        let (events, heard) = mpsc::channel(1000);
        let peer = Identity::new(Role::Cell, "c1");
        let address = Address::File(self.path("c1.address"));
        let task = tokio::spawn(link::keep(address, self.credentials(me), peer, open, events, |event| event));
        Peer { heard, outbox: None, task }
    }

    fn region_to_zone(&self) -> Peer<RegionToZone, ZoneSummary> {
        let open = |channel, out: ReceiverStream<RegionToZone>| async move {
            ZoneForRegionClient::new(channel).link(out).await
        };
        let (events, heard) = mpsc::channel(1000);
        let peer = Identity::new(Role::Zone, "z1");
        let address = Address::File(self.path("z1.address"));
        let task =
            tokio::spawn(link::keep(address, self.credentials("r1"), peer, open, events, |event| event));
        Peer { heard, outbox: None, task }
    }
}

struct Process<E> {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), E>>,
}

impl<E: std::fmt::Debug> Process<E> {
    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// The test's end of a link.
struct Peer<O, I> {
    heard: mpsc::Receiver<LinkEvent<O, I>>,
    outbox: Option<Outbox<O>>,
    task: JoinHandle<()>,
}

impl<O, I> Drop for Peer<O, I> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<O: std::fmt::Debug, I: std::fmt::Debug> Peer<O, I> {
    /// Waits for a message of which `wanted` makes something.
    async fn hears<T>(&mut self, mut wanted: impl FnMut(I) -> Option<T>) -> T {
        let found = async {
            loop {
                match self.heard.recv().await.expect("the link is kept up") {
                    LinkEvent::Message(message) => {
                        if let Some(found) = wanted(message) {
                            return found;
                        }
                    }
                    LinkEvent::Up(outbox) => self.outbox = Some(outbox),
                    LinkEvent::Down(_) => self.outbox = None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the message comes in time")
    }

    /// Waits for a new link.
    async fn is_up(&mut self) {
        let up = async {
            loop {
                if let LinkEvent::Up(outbox) = self.heard.recv().await.expect("the link is kept up") {
                    self.outbox = Some(outbox);
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("the link comes up in time");
    }

    fn says(&self, message: O) {
        self.outbox.as_ref().expect("the link is up").send(message);
    }
}

fn report(message: FromCell) -> Option<VmReport> {
    match message.message {
        Some(from_cell::Message::Report(report)) => Some(report),
        _ => None,
    }
}

fn document(message: ToHost) -> Option<(u64, HostDocument)> {
    match message.message {
        Some(to_host::Message::Document(document)) => Some((message.term, document)),
        _ => None,
    }
}

fn hello() -> FromHost {
    let hello = HostHello {
        host_id: "h1".into(),
        rack_id: "k1".into(),
        vcpus: 4,
        memory_mib: 4096,
        accelerator: "simulated".into(),
    };
    FromHost { message: Some(from_host::Message::Hello(hello)) }
}

fn intent(revision: u64, target: Target) -> ToCell {
    let spec = VmSpec {
        instance_id: INSTANCE.into(),
        account_id: "000000000042".into(),
        vcpus: 1,
        memory_mib: 1024,
        // As large as a customer's may be, so that a document of many is larger than gRPC's default.
        user_data: vec![b'x'; 16 * 1024],
        ..VmSpec::default()
    };
    let intent = VmIntent {
        generation: Some(Generation { incarnation: 1, revision }),
        attempt: 1,
        target: target.into(),
        spec: Some(spec),
        ..VmIntent::default()
    };
    ToCell { term: 1, message: Some(to_cell::Message::Intent(intent)) }
}

#[tokio::test]
async fn a_launch_over_real_links_survives_a_restart() {
    let cloud = Cloud::new();
    let zone = cloud.zone();
    let cell = cloud.cell();
    let (mut region, mut host) = (cloud.region("r1"), cloud.host("h1"));
    let mut region_to_zone = cloud.region_to_zone();

    let (first_term, empty) = host.hears(document).await;
    assert_eq!(empty.vms, []);
    host.says(hello());
    // The cell's capacity arrives at the region through the zone.
    region_to_zone
        .hears(|summary| {
            summary.cells.iter().any(|cell| cell.cell_id == "c1" && cell.vcpus_free == 4).then_some(())
        })
        .await;

    region.is_up().await;
    region.says(intent(10, Target::Claimed));
    let claimed = region.hears(report).await;
    assert_eq!((claimed.phase(), claimed.host_id.as_str()), (Phase::Claimed, "h1"));
    region.says(intent(11, Target::Running));
    let (_, launched) = host.hears(|message| document(message).filter(|(_, d)| !d.vms.is_empty())).await;
    assert_eq!(launched.vms[0].target(), Target::Running);

    cell.stop().await;
    let cell = cloud.cell();
    let again = host.hears(|message| document(message).filter(|(term, _)| *term > first_term)).await.1;
    assert_eq!(again.vms, launched.vms);
    host.says(hello());
    let status = HostStatus {
        document_generation: again.generation,
        vms: vec![VmStatus {
            instance_id: INSTANCE.into(),
            attempt: 1,
            generation: launched.vms[0].generation,
            phase: Phase::Running.into(),
            ..VmStatus::default()
        }],
        ..HostStatus::default()
    };
    host.says(FromHost { message: Some(from_host::Message::Status(status)) });
    let running =
        region.hears(|message| report(message).filter(|report| report.phase() == Phase::Running)).await;
    assert_eq!(running.attempt, 1);
    cell.stop().await;
    zone.stop().await;
}

#[tokio::test]
async fn a_newer_link_of_a_host_replaces_the_older() {
    let cloud = Cloud::new();
    let cell = cloud.cell();
    let mut old = cloud.host("h1");
    old.hears(document).await;
    let mut new = cloud.host("h1");
    new.hears(document).await;
    // The old one was cut, dials again and now replaces the new one: each time there is exactly one, and the
    // newest is served.
    old.is_up().await;
    old.hears(document).await;
    drop(new);
    cell.stop().await;
}

#[tokio::test]
async fn who_may_not_call_is_refused() {
    let cloud = Cloud::new();
    let cell = cloud.cell();
    // The cell listens from when its address is there.
    cloud.host("h1").hears(document).await;
    let cell_identity = Identity::new(Role::Cell, "c1");
    let address = Address::File(cloud.path("c1.address"));
    let channel = link::dial(&address, &cloud.credentials("h1"), &cell_identity).await.unwrap();
    let refused = CellForRegionClient::new(channel).link(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let channel = link::dial(&address, &cloud.credentials("r1"), &cell_identity).await.unwrap();
    let refused = CellForHostsClient::new(channel).link(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    // Another cloud's certificate does not get as far as a call.
    let stranger = Cloud::new();
    let dialled = link::dial(&address, &stranger.credentials("r1"), &cell_identity).await;
    assert!(dialled.is_err());
    cell.stop().await;
}

#[tokio::test]
async fn a_store_of_another_cell_is_refused() {
    let cloud = Cloud::new();
    let cell = cloud.cell();
    cloud.host("h1").hears(document).await;
    cell.stop().await;
    let config = CellConfig { cell_id: "c2".parse().unwrap(), ..cloud.cell_config() };
    let refused = serve_until(config, std::future::pending()).await.unwrap_err();
    let why = base::error::chain(&refused);
    assert!(why.contains("the store is that of cell/c1"), "{why}");
}

#[test]
fn unknown_configuration_is_refused() {
    let text = |more: &str| {
        format!(
            "cell_id = 'c1'\nzone = 'z1'\nlisten = '127.0.0.1:0'\naddress_file = 'a'\ncredentials = 'c'\n\
             store = {{ embedded = 's' }}\nprocess = 'c1'\nstanding_file = 'l'\nzone_address = {{ file = 'z' }}\n{more}"
        )
    };
    let config: CellConfig = toml::from_str(&text("")).unwrap();
    assert_eq!(config.zone_address, Address::File(Path::new("z").to_owned()));
    let crash: CellConfig =
        toml::from_str(&text("crash_at = { step = 'claim-committed', marker = 'm' }")).unwrap();
    assert_eq!(crash.crash_at.unwrap().step, "claim-committed");
    assert!(toml::from_str::<CellConfig>(&text("colour = 'red'")).is_err());
}
