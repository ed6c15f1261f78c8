//! The roles' processes: config, log, runtime, and the role itself.

use crate::error::Error;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::path::Path;
use tokio::runtime::{Builder, Runtime};

/// `nephos region`
pub fn region(config: &Path) -> Result<(), Error> {
    run("region", config, region::serve::serve)
}

/// `nephos zone`
pub fn zone(config: &Path) -> Result<(), Error> {
    run("zone", config, zone::serve)
}

/// `nephos cell`
pub fn cell(config: &Path) -> Result<(), Error> {
    run("cell", config, cell::serve)
}

/// `nephos host`
pub fn host(config: &Path) -> Result<(), Error> {
    run("host", config, host::serve::serve)
}

fn run<Config, Serve, Serving, E>(role: &'static str, path: &Path, serve: Serve) -> Result<(), Error>
where
    Config: DeserializeOwned,
    Serve: FnOnce(Config) -> Serving,
    Serving: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    // Guests' users must be able to read what is meant for them, whatever the operator's shell has set.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // A session of its own: ctrl-C in the terminal is for the supervisor, which stops roles in order. Under the
    // supervisor it fails: the process leads a group of its own already, which is as good.
    let _ = rustix::process::setsid();
    let filter = tracing_subscriber::EnvFilter::try_from_env("NEPHOS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let config: Config = toml::from_str(&text)
        .map_err(|error| Error::Content { path: path.to_owned(), why: error.to_string() })?;
    let runtime = runtime(role == "region")
        .map_err(|source| Error::Process { what: format!("start the {role}'s runtime"), source })?;
    let serving = runtime.spawn(serve(config));
    let ended =
        runtime.block_on(serving).unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()));
    // A thread that waits for a disk or a guest must not keep a process alive that is told to stop.
    runtime.shutdown_background();
    ended.map_err(|error| {
        tracing::error!(error = base::error::chain(&error), "the {role} ends");
        Error::Role { role, source: Box::new(error) }
    })
}

/// The region answers customers on all processors. Any other role is one task between links, to which a thread more
/// would only mean a switch of threads for each message.
fn runtime(on_all_processors: bool) -> io::Result<Runtime> {
    let mut builder = match on_all_processors {
        true => Builder::new_multi_thread(),
        false => Builder::new_current_thread(),
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
    builder.worker_threads(threads).enable_all().build()
}
