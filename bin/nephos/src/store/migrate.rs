//! `nephos store migrate`: moves all stores of a cloud, the region's and every cell's, to another engine.
//!
//! ```text
//!   look      the target is another one, answers and is empty      nothing is stopped yet
//!   stop      the supervisor alone, whose lock is ours from then on; region, cells, store
//!   copy      each store; read back; the former ones unchanged     the new ones are not finished
//!   finish    incarnations raised, directories in their places
//!   switch    cloud.toml                                           this decides
//!   tidy      the former directories aside
//! ```
//!
//! Zones, hosts and guests are left as they are: hosts find the new leaders where they found the old ones, and take
//! them for newer by their incarnation.
//!
//! Invariant: until `cloud.toml` is replaced, the cloud is what it was, whenever this ends and however.
//! Invariant: this can be done again after it was cut off anywhere, and nothing of a former store is removed.
//! Invariant: all stores get the same incarnation, above all that any of them ever had. So a shared store's own and
//! those of the namespaces in it stay the same number, and a restore of an older one raises them by enough.

use super::engine::{self, Engine, MIGRATING, Namespace};
use crate::arguments::At;
use crate::cloud::Cloud;
use crate::error::Error;
use crate::{down, process, supervisor};
use base::error::chain;
use base::generation::INCARNATION_MAX;
use metastore::{Copied, Migrated, Migration, RangeQuery, Store, UNFINISHED};
use std::fs::{self, File};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often to say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What was moved.
struct Moved {
    incarnation: u64,
    stores: Vec<(String, Migrated)>,
}

/// `nephos store migrate`
pub fn migrate(at: &At, to: &str) -> Result<(), Error> {
    let cloud = Cloud::open(at)?;
    let next = cloud.moved_to(to)?;
    let failed = |source| Error::Process { what: "start a runtime".into(), source };
    let runtime = Runtime::new().map_err(failed)?;
    runtime.block_on(look(&cloud, &next))?;
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    say!("Stopping the control plane of the cloud in {}; hosts and guests go on ...", cloud.dir.display());
    let _lock = supervisor::take_over(&cloud)?;
    let (moved, cloud, next) = moved(at, to, runtime, signals).map_err(|error| {
        let dir = crate::shell::quoted_path(&cloud.dir);
        Error::Said(format!(
            "{}. The cloud is as it was: `nephos up --dir {dir}` starts its control plane again, with the store that \
             it had",
            chain(&error)
        ))
    })?;
    for (owner, done) in &moved.stores {
        say!("{owner}: {} keys, {} bytes, incarnation {}", done.entries, done.bytes, done.incarnation);
    }
    tidy(&cloud, &next, moved.incarnation);
    say!(
        "The cloud in {} has its store {} now; `nephos up` starts it.",
        cloud.dir.display(),
        next.store_text()
    );
    Ok(())
}

/// What can be known before anything is stopped.
async fn look(cloud: &Cloud, next: &Cloud) -> Result<(), Error> {
    let runs = process::supervisor(cloud).is_some()
        || !process::running(cloud, &engine::processes(cloud)?).is_empty();
    if engine::lies_inside(next, cloud)? {
        let why = "the new store's keys would lie among those of the present one: name another prefix";
        return Err(Error::Said(why.into()));
    }
    for namespace in Namespace::all(cloud)? {
        if engine::is_etcd(cloud) {
            namespace.open(cloud).await?;
        }
        if engine::is_etcd(next) {
            let target = namespace.open(next).await?;
            let read = |error| namespace.wrong(&format!("the store {}", next.store_text()), &error);
            let unfinished = target.get(UNFINISHED).await.map_err(read)?.is_some();
            let first = target.range(&RangeQuery::prefix("").limit(1)).await.map_err(read)?;
            // With nothing that runs, it may be what a migration left that was cut off at its very end.
            if let Some(entry) = first.entries.first().filter(|_| runs && !unfinished) {
                return Err(Error::Said(format!(
                    "{}: the store {} is not empty: it has the key {}. Name another prefix, or empty it; nothing was \
                     stopped",
                    namespace.owner(),
                    next.store_text(),
                    entry.key.escape_ascii()
                )));
            }
        }
    }
    Ok(())
}

/// All from stop to switch, under the lock.
fn moved(at: &At, to: &str, runtime: Runtime, mut signals: Signals) -> Result<(Moved, Cloud, Cloud), Error> {
    // It may have changed while nobody here had the lock.
    let cloud = Cloud::open(at)?;
    let mut next = cloud.moved_to(to)?;
    let processes = engine::processes(&cloud)?;
    down::control_end(&cloud, &processes);
    if let Some((member, process)) = process::running(&cloud, &processes).first() {
        return Err(Error::Said(format!("{} (pid {}) does not end", member.label(), process.pid())));
    }
    down::processes_forget(&cloud, &processes);
    next.certificates_ensure(engine::processes(&next)?)?;
    let moved = runtime.block_on(async {
        tokio::select! {
            biased;
            () = signals.any() => Err(Error::Said("it was told to stop".into())),
            moved = copy_all(&cloud, &next) => moved,
        }
    });
    // With it go the last handles of stores that were served here.
    drop(runtime);
    // What was made in vain would only fill the disk.
    let moved = moved.inspect_err(|_| drop(engine::made_remove(&next)))?;
    let highest = moved.stores.iter().map(|(_, done)| done.incarnation).max().unwrap_or_default();
    next.topology.incarnation = highest.max(moved.incarnation);
    switch(&next, moved.incarnation)?;
    Ok((moved, cloud, next))
}

async fn copy_all(cloud: &Cloud, next: &Cloud) -> Result<Moved, Error> {
    let namespaces = Namespace::all(cloud)?;
    let from = Engine::begin(cloud).await?;
    let mut sources = Vec::new();
    for namespace in &namespaces {
        sources.push(from.open(namespace).await?);
    }
    let above = incarnation_above(cloud, &sources, 0)?;
    let to = Engine::make(next, above).await?;
    let (mut stores, mut unfinished) = (Vec::new(), Vec::new());
    for (namespace, source) in namespaces.iter().zip(&sources) {
        let target = to.open_made(namespace).await?;
        let copied = copy(namespace, source, &target, above).await?;
        match engine::is_etcd(next) {
            // Its stores are in their places already: they are finished when all are there.
            true => unfinished.push((namespace, source, target, copied)),
            false => {
                stores.push((namespace.owner(), finish(namespace, source, &target, above, copied).await?))
            }
        }
    }
    for (namespace, source, target, copied) in unfinished {
        stores.push((namespace.owner(), finish(namespace, source, &target, above, copied).await?));
    }
    drop(sources);
    to.end().await?;
    from.end().await?;
    Ok(Moved { incarnation: above + 1, stores })
}

/// The incarnation above which the stores' next one is: the highest that is known.
pub fn incarnation_above(cloud: &Cloud, stores: &[Store], above: u64) -> Result<u64, Error> {
    let highest = stores.iter().map(Store::incarnation).max().unwrap_or_default();
    let above = highest.max(cloud.topology.incarnation).max(above);
    if above >= INCARNATION_MAX {
        return Err(Error::Said(format!(
            "an incarnation above {above} is too high: at most {INCARNATION_MAX}, one higher than the last will do"
        )));
    }
    Ok(above)
}

async fn copy(namespace: &Namespace, from: &Store, to: &Store, above: u64) -> Result<Copied, Error> {
    let left_out = |key: &[u8]| namespace.says_who_leads(key);
    let migration = Migration { from, to, left_out: &left_out, incarnation_above: above };
    let mut said = Instant::now();
    let mut progress = |done: Migrated| {
        if said.elapsed() > PROGRESS_EVERY {
            let (owner, mib) = (namespace.owner(), done.bytes >> 20);
            eprintln!("{owner}: {} keys ({mib} MiB) copied, {} read back", done.entries, done.verified);
            said = Instant::now();
        }
    };
    migration.copy(&mut progress).await.map_err(|error| namespace.wrong("it is not copied", &error))
}

async fn finish(
    namespace: &Namespace,
    from: &Store,
    to: &Store,
    above: u64,
    copied: Copied,
) -> Result<Migrated, Error> {
    let migration = Migration { from, to, left_out: &|_| false, incarnation_above: above };
    migration.finish(copied).await.map_err(|error| namespace.wrong("its copy is not finished", &error))
}

/// Puts what was made into its place, and makes it the cloud's.
fn switch(next: &Cloud, incarnation: u64) -> Result<(), Error> {
    for directory in engine::directories(next)? {
        if directory.exists() {
            // The cloud has another engine: it is a former one's, or of a migration that was cut off just here.
            set_aside(&directory, incarnation)?;
        }
        let made = directory.with_file_name(MIGRATING);
        fs::rename(&made, &directory).map_err(Error::file("put into its place", &directory))?;
        let parent = directory.parent().unwrap_or(&directory);
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::file("sync", parent))?;
    }
    next.save()
}

/// What the switch has left. A failure is said; the next migration does it again.
fn tidy(cloud: &Cloud, next: &Cloud, incarnation: u64) {
    let directories = engine::directories(cloud).unwrap_or_default();
    for directory in directories.iter().filter(|directory| directory.exists()) {
        if let Err(error) = set_aside(directory, incarnation) {
            eprintln!("nephos: {}; nothing uses it any more", chain(&error));
        }
    }
    if engine::is_etcd(cloud) {
        say!("What the former store held stays {}; nothing uses it any more.", cloud.store_text());
    }
    // Of processes that there will not be.
    let stay = next.members().unwrap_or_default();
    for member in engine::processes(cloud).unwrap_or_default() {
        if !stay.contains(&member) {
            let _ = fs::remove_file(cloud.config_file(&member));
            let _ = cloud.hold_remove(&member);
        }
    }
}

fn set_aside(directory: &std::path::Path, incarnation: u64) -> Result<(), Error> {
    let aside = metastore::set_aside(directory, incarnation).map_err(|error| {
        Error::Said(format!("cannot move {} aside: {}", directory.display(), chain(&error)))
    })?;
    say!("What was in {} is in {}.", directory.display(), aside.display());
    Ok(())
}

/// What tells this to stop.
struct Signals([Signal; 2]);

impl Signals {
    fn listen() -> Result<Signals, Error> {
        let on = |kind| {
            signal(kind).map_err(|source| Error::Process { what: "listen for signals".into(), source })
        };
        Ok(Signals([on(SignalKind::interrupt())?, on(SignalKind::terminate())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
