//! A cell that is a test: holds one document, and keeps what its host says.

use base::generation::Generation;
use contract::cell_for_hosts_server::{CellForHosts, CellForHostsServer};
use contract::link::{self, LinkEvent, Outbox};
use contract::trust::{Authority, Credentials, Identity, Role};
use contract::{
    ConsoleRead, FromHost, HostDocument, HostStatus, Phase, Target, ToHost, VmAssignment, VmSpec, VmStatus,
    from_host, to_host,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How long anything may take before the test fails. Translated guests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cell {
    state: Arc<Mutex<State>>,
    revision: u64,
    assignments: BTreeMap<String, VmAssignment>,
}

#[derive(Default)]
struct State {
    outbox: Option<Outbox<ToHost>>,
    status: Option<HostStatus>,
    phases: BTreeMap<String, Vec<Phase>>,
    consoles: BTreeMap<u64, Vec<u8>>,
    document: Option<HostDocument>,
}

impl State {
    fn push(&self) {
        if let (Some(outbox), Some(document)) = (&self.outbox, &self.document) {
            outbox.send(ToHost { term: 1, message: Some(to_host::Message::Document(document.clone())) });
        }
    }

    fn hear(&mut self, message: from_host::Message) {
        match message {
            from_host::Message::Hello(_) => {}
            from_host::Message::Status(status) => {
                for vm in &status.vms {
                    let phases = self.phases.entry(vm.instance_id.clone()).or_default();
                    if phases.last() != Some(&vm.phase()) {
                        phases.push(vm.phase());
                    }
                }
                self.status = Some(match self.status.take() {
                    Some(mut before) if status.partial => {
                        let news = |vm: &VmStatus| status.vms.iter().any(|n| n.instance_id == vm.instance_id);
                        before.vms.retain(|vm| !news(vm));
                        before.vms.extend(status.vms.iter().cloned());
                        HostStatus { vms: before.vms, ..status }
                    }
                    Some(_) | None => status,
                });
            }
            from_host::Message::Console(console) => {
                self.consoles.insert(console.request_id, console.data);
            }
        }
    }
}

struct Service {
    events: mpsc::Sender<LinkEvent<ToHost, FromHost>>,
}

#[tonic::async_trait]
impl CellForHosts for Service {
    type LinkStream = ReceiverStream<Result<ToHost, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<FromHost>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        link::accept(request, self.events.clone(), |event| event).await
    }
}

impl Cell {
    /// A cell `c1` with credentials for itself and its host `h1` under `directory`, its address in the file
    /// `directory/cell`.
    pub async fn start(directory: &Path) -> Cell {
        let authority = Authority::open(directory).unwrap();
        for (role, name) in [(Role::Cell, "c1"), (Role::Host, "h1")] {
            authority.issue(&Identity::new(role, name), &directory.join(name)).unwrap();
        }
        let credentials = Credentials::open(&directory.join("c1")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        std::fs::write(directory.join("cell"), listener.local_addr().unwrap().to_string()).unwrap();
        let (events, mut queue) = mpsc::channel(64);
        let service = CellForHostsServer::new(Service { events });
        let server = link::server(&credentials).unwrap().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let state = Arc::new(Mutex::new(State::default()));
        let heard = Arc::clone(&state);
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                let mut state = heard.lock().unwrap();
                match event {
                    LinkEvent::Up(outbox) => {
                        state.outbox = Some(outbox);
                        state.push();
                    }
                    LinkEvent::Message(FromHost { message: Some(message) }) => state.hear(message),
                    LinkEvent::Message(FromHost { message: None }) => {}
                    // What it knew of the host is old now.
                    LinkEvent::Down(_) => state.status = None,
                }
            }
        });
        Cell { state, revision: 0, assignments: BTreeMap::new() }
    }

    /// Changes one VM's assignment, under a newer generation, and pushes the document.
    pub fn intend(&mut self, vm: &str, target: Target, change: impl FnOnce(&mut VmAssignment)) {
        self.revision += 1;
        let spec = VmSpec {
            instance_id: vm.into(),
            instance_type: "t3.nano".into(),
            zone: "z1".into(),
            vcpus: 1,
            memory_mib: 192,
            ..VmSpec::default()
        };
        let fresh = VmAssignment { spec: Some(spec), attempt: 1, ..VmAssignment::default() };
        let assignment = self.assignments.entry(vm.into()).or_insert(fresh);
        assignment.generation = Some(Generation::new(1, self.revision).into());
        assignment.target = target.into();
        change(assignment);
        let mut state = self.state.lock().unwrap();
        state.document = Some(HostDocument {
            generation: Some(Generation::new(1, self.revision).into()),
            vms: self.assignments.values().cloned().collect(),
            ..HostDocument::default()
        });
        state.push();
    }

    /// Waits until the host says that the VM is in `phase` under the newest assignment.
    pub async fn reaches(&self, vm: &str, phase: Phase) -> VmStatus {
        self.waits(vm, &format!("{vm} reaches {phase:?}"), |status| status.phase() == phase).await
    }

    pub async fn waits(&self, vm: &str, what: &str, wanted: impl Fn(&VmStatus) -> bool) -> VmStatus {
        let generation = self.assignments[vm].generation;
        let last = RefCell::new(String::new());
        let seen = || {
            let state = self.state.lock().unwrap();
            *last.borrow_mut() = format!("{:?}", state.status);
            let status = state.status.as_ref()?.vms.iter().find(|status| status.instance_id == vm)?;
            (status.generation == generation && wanted(status)).then(|| status.clone())
        };
        until(what, &last, seen).await
    }

    /// Waits until the link to the host is down; what the host says from then on is news.
    pub async fn host_lost(&self) {
        let down = || self.state.lock().unwrap().status.is_none().then_some(());
        until("the host is gone", &RefCell::default(), down).await;
        self.phases_forget();
    }

    pub fn phases_forget(&self) {
        self.state.lock().unwrap().phases.clear();
    }

    pub fn phases(&self, vm: &str) -> Vec<Phase> {
        self.state.lock().unwrap().phases.get(vm).cloned().unwrap_or_default()
    }

    /// Waits until the VM's console holds `text`; returns the console.
    pub async fn console_shows(&self, vm: &str, text: &str) -> String {
        let last = RefCell::new(String::new());
        let ask = || {
            let mut state = self.state.lock().unwrap();
            let console = state.consoles.values().next_back().cloned().unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            last.borrow_mut().clone_from(&console);
            if console.contains(text) {
                return Some(console);
            }
            let request_id = state.consoles.keys().next_back().map_or(1, |last| last + 1);
            let read = ConsoleRead { request_id, instance_id: vm.into(), bytes_max: 64 * 1024 };
            if let Some(outbox) = &state.outbox {
                outbox.send(ToHost { term: 1, message: Some(to_host::Message::ConsoleRead(read)) });
            }
            state.consoles.retain(|id, _| id + 8 > request_id);
            None
        };
        until(&format!("the console of {vm} shows {text:?}"), &last, ask).await
    }
}

/// The first thing that `look` finds; it looks again and again until it does, within a bound. `last` is what it saw
/// last, for the failure.
pub async fn until<T>(what: &str, last: &RefCell<String>, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("waited for {PATIENCE:?} in vain: {what}; last: {}", last.borrow()),
    }
}
