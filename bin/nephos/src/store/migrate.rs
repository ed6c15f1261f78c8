//! `nephos store migrate`: moves all stores of a cloud, the region's and every cell's, to another engine.
//!
//! ```text
//!   look      what there is, is; the target is another one, answers and is empty     nothing is changed
//!   stop      the supervisor alone, whose lock is ours from then on; region, cells, store
//!   copy      each store; read back
//!   seal      all are there, no source has changed: incarnations raised; directories in their places
//!   switch    cloud.toml                                           this decides
//!   settle    the new stores lose their marks, a former etcd says that it is one     [`super::settle`], or `nephos up`
//!   tidy      the former directories aside
//! ```
//!
//! Zones, hosts and guests are left as they are: hosts find the new leaders where they found the old ones, and take
//! them for newer by their incarnation.
//!
//! Invariant: until `cloud.toml` is replaced, the cloud is what it was, whenever this ends and however. From then on it
//! has its new stores, and `nephos up` does what is left.
//! Invariant: this can be done again after it was cut off anywhere before that, also when the cloud was up meanwhile,
//! because a store in an etcd that was not settled is emptied. Nothing of a former store is removed.
//! Invariant: all stores get the same incarnation, above all that any of them ever had. So a shared store's own and
//! those of the namespaces in it stay the same number, and a restore of an older one raises them by enough.

use super::engine::{self, Engine, MIGRATING, Namespace};
use super::settle;
use crate::arguments::At;
use crate::cloud::{self, Cloud, Moving};
use crate::error::Error;
use crate::{down, process, supervisor};
use base::error::chain;
use base::generation::INCARNATION_MAX;
use base::random::Random;
use contract::trust::Role;
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
    let (moved, cloud, next) = moved(at, to, runtime, signals)
        .map_err(|error| Error::Said(format!("{}. {}", chain(&error), as_it_stands(at, &next))))?;
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

/// What has become of a cloud whose migration has failed: `cloud.toml` may have been replaced by then.
fn as_it_stands(at: &At, next: &Cloud) -> String {
    let dir = crate::shell::quoted_path(&next.dir);
    match Cloud::open(at) {
        Ok(now) if now.topology.store == next.topology.store => format!(
            "The cloud has its store {} by now: `nephos up --dir {dir}` does what is left of the move, and starts its \
             control plane with that",
            now.store_text()
        ),
        Ok(_) => format!(
            "The cloud is as it was: `nephos up --dir {dir}` starts its control plane again, with the store that it had"
        ),
        Err(error) => format!("And what the cloud has now cannot be read: {}", chain(&error)),
    }
}

/// What can be known before anything is stopped, without changing anything.
async fn look(cloud: &Cloud, next: &Cloud) -> Result<(), Error> {
    settle::settled(cloud)?;
    if engine::lies_inside(next, cloud)? {
        let why = "the new store's keys would lie among those of the present one: name another prefix";
        return Err(Error::Said(why.into()));
    }
    engine::shared_check(cloud)?;
    let running = process::running(cloud, &engine::processes(cloud)?);
    let answers =
        engine::is_etcd(cloud) || running.iter().any(|(member, _)| member.identity.role == Role::Store);
    for namespace in Namespace::all(cloud)? {
        match namespace.directory(cloud) {
            Some(directory) => drop(namespace.open_unless_used(cloud, &directory).await?),
            None if answers => drop(namespace.open(cloud, false).await?),
            // It is looked at as soon as it is served here.
            None => {}
        }
        if engine::is_etcd(next) {
            let target = namespace.look(next).await?;
            let read = |error| namespace.wrong(&format!("the store {}", next.store_text()), &error);
            let unfinished = target.get(UNFINISHED).await.map_err(read)?.is_some();
            let first = target.range(&RangeQuery::prefix("").limit(1)).await.map_err(read)?;
            if let Some(entry) = first.entries.first().filter(|_| !unfinished) {
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

/// All from stop to settle, under the locks.
fn moved(at: &At, to: &str, runtime: Runtime, mut signals: Signals) -> Result<(Moved, Cloud, Cloud), Error> {
    // It may have changed while nobody here had the lock.
    let _edit = supervisor::edit(&cloud::directory(at)?)?;
    let cloud = Cloud::open(at)?;
    settle::settled(&cloud)?;
    let mut next = cloud.moved_to(to)?;
    let name = format!("{:016x}", Random::from_os().u64());
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
            moved = copy_all(&cloud, &next, &name) => moved,
        }
    });
    // With it go the last handles of stores that were served here.
    drop(runtime);
    // What was made in vain would only fill the disk.
    let moved = moved.inspect_err(|_| drop(engine::made_remove(&next)))?;
    let highest = moved.stores.iter().map(|(_, done)| done.incarnation).max().unwrap_or_default();
    next.topology.incarnation = highest.max(moved.incarnation);
    if engine::is_etcd(&cloud) || engine::is_etcd(&next) {
        next.topology.moving = Some(Moving { name, from: cloud.topology.store.clone() });
    }
    switch(&next, moved.incarnation)?;
    let next = settle::finish(next)?;
    Ok((moved, cloud, next))
}

async fn copy_all(cloud: &Cloud, next: &Cloud, name: &str) -> Result<Moved, Error> {
    let namespaces = Namespace::all(cloud)?;
    let from = Engine::begin(cloud).await?;
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for namespace in &namespaces {
        sources.push(from.open(namespace).await?);
    }
    let in_etcd = engine::is_etcd(next);
    if in_etcd {
        for namespace in &namespaces {
            targets.push(namespace.make(next).await?);
        }
    }
    // What an earlier migration has left there may be higher.
    let above = incarnation_above(cloud, sources.iter().chain(&targets), 0)?;
    let to = Engine::make(next, above).await?;
    let (mut copied, mut sealed) = (Vec::new(), Vec::new());
    for (index, (namespace, from)) in namespaces.iter().zip(&sources).enumerate() {
        let target = match targets.get(index) {
            Some(target) => target.clone(),
            None => to.open_made(namespace).await?,
        };
        let one = Move { namespace, from, to: target, above, name };
        let copy = one.copy().await?;
        match in_etcd {
            true => copied.push((one, copy)),
            // It is not in its place yet, and takes memory while it is open.
            false => {
                let done = one.seal(copy).await?;
                metastore::settle(&one.to, name).await.map_err(|error| one.wrong(&error))?;
                sealed.push((namespace.owner(), done));
            }
        }
    }
    for (one, copy) in &copied {
        one.unchanged(&copy.done()).await?;
    }
    for ((namespace, from), (_, done)) in namespaces.iter().zip(&sources).zip(&sealed) {
        Move { namespace, from, to: from.clone(), above, name }.unchanged(done).await?;
    }
    for (one, copy) in copied {
        sealed.push((one.namespace.owner(), one.seal(copy).await?));
    }
    drop(sources);
    to.end().await?;
    from.end().await?;
    Ok(Moved { incarnation: above + 1, stores: sealed })
}

/// The incarnation above which the stores' next one is: the highest that is known.
pub fn incarnation_above<'a>(
    cloud: &Cloud,
    stores: impl Iterator<Item = &'a Store>,
    above: u64,
) -> Result<u64, Error> {
    let highest = stores.map(Store::incarnation).max().unwrap_or_default();
    let above = highest.max(cloud.topology.incarnation).max(above);
    if above >= INCARNATION_MAX {
        return Err(Error::Said(format!(
            "an incarnation above {above} is too high: at most {INCARNATION_MAX}, one higher than the last will do"
        )));
    }
    Ok(above)
}

/// One store's move.
struct Move<'a> {
    namespace: &'a Namespace,
    from: &'a Store,
    to: Store,
    above: u64,
    name: &'a str,
}

impl Move<'_> {
    fn migration<'a>(&'a self, left_out: &'a (dyn Fn(&[u8]) -> bool + Sync)) -> Migration<'a> {
        let Move { from, to, above, name, .. } = self;
        Migration { from, to, name, left_out, incarnation_above: *above }
    }

    async fn copy(&self) -> Result<Copied, Error> {
        let left_out = |key: &[u8]| self.namespace.says_who_leads(key);
        let mut said = Instant::now();
        let mut progress = |done: Migrated| {
            if said.elapsed() > PROGRESS_EVERY {
                let (owner, mib) = (self.namespace.owner(), done.bytes >> 20);
                eprintln!("{owner}: {} keys ({mib} MiB) copied, {} read back", done.entries, done.verified);
                said = Instant::now();
            }
        };
        self.migration(&left_out).copy(&mut progress).await.map_err(|error| self.wrong(&error))
    }

    async fn unchanged(&self, done: &Migrated) -> Result<(), Error> {
        let left_out = |key: &[u8]| self.namespace.says_who_leads(key);
        self.migration(&left_out).unchanged(done).await.map_err(|error| self.wrong(&error))
    }

    async fn seal(&self, copied: Copied) -> Result<Migrated, Error> {
        self.migration(&|_| false).seal(copied).await.map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &metastore::MigrateError) -> Error {
        self.namespace.wrong("it is not moved", error)
    }
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
        say!("What the former store held stays {}; nothing starts with it any more.", cloud.store_text());
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use metastore::election::{Election, TTL};
    use metastore::{Commit, Op};
    use std::path::Path;

    /// A cloud of one cell that was never up.
    fn cloud(dir: &Path) -> (At, Cloud) {
        let at = At { dir: Some(dir.to_owned()) };
        Cloud::directory_prepare(&at).unwrap();
        let words = ["nephos", "up", "--small", "--port", "0", "--dir", dir.to_str().unwrap()];
        let crate::arguments::Command::Up(up) = crate::arguments::Arguments::parse_from(words).command else {
            panic!("it is an `up`")
        };
        (at, Cloud::ensure(&up).unwrap())
    }

    fn lead(namespace: &Namespace, directory: &Path) {
        let election = Election {
            leader_key: b"leader".to_vec(),
            term_key: namespace.term_key().into(),
            owner: namespace.owner(),
            who: "me".into(),
            ttl: TTL,
        };
        let store = Store::open(directory).unwrap();
        Runtime::new().unwrap().block_on(election.lead_alone(&store)).unwrap();
    }

    fn commit(directory: &Path, op: Op) {
        let store = Store::open(directory).unwrap();
        let commit = store.commit(Commit { conditions: vec![], ops: vec![op] });
        Runtime::new().unwrap().block_on(commit).unwrap();
    }

    #[test]
    fn a_store_that_was_lost_is_not_moved_as_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let (at, was) = cloud(directory.path());
        let namespaces = Namespace::all(&was).unwrap();
        let places: Vec<_> = namespaces.iter().map(|one| one.directory(&was).unwrap()).collect();
        let refused = |to: &str, why: &str| {
            let before = Cloud::open(&at).unwrap().topology;
            let error = migrate(&at, to).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(Cloud::open(&at).unwrap().topology, before);
        };
        refused("shared", "there is no store");
        assert!(!places[0].exists());
        places.iter().for_each(|place| drop(Store::open(place).unwrap()));
        refused("shared", "nobody has ever led with it");
        lead(&namespaces[0], &places[0]);
        refused("shared", "cell/us-east-1a-c1");
        lead(&namespaces[1], &places[1]);
        commit(&places[1], Op::Put(UNFINISHED.into(), vec![]));
        refused("shared", "is not whole");
        commit(&places[1], Op::Delete(UNFINISHED.into()));
        migrate(&at, "shared").unwrap();
        let now = Cloud::open(&at).unwrap();
        assert_eq!(
            (&now.topology.store[..], now.topology.incarnation, &now.topology.moving),
            ("shared", 2, &None)
        );
        let (shared, lost) = (directory.path().join("store/store"), directory.path().join("lost"));
        fs::rename(&shared, &lost).unwrap();
        refused("embedded", "there is no store");
        assert!(!shared.exists());
        fs::rename(&lost, &shared).unwrap();
        migrate(&at, "embedded").unwrap();
    }

    #[test]
    fn who_has_failed_says_what_the_cloud_has_now() {
        let directory = tempfile::tempdir().unwrap();
        let (at, was) = cloud(directory.path());
        let next = was.moved_to("shared").unwrap();
        assert!(as_it_stands(&at, &next).starts_with("The cloud is as it was"));
        // As if only the directory's sync had failed.
        next.save().unwrap();
        let text = as_it_stands(&at, &next);
        assert!(text.starts_with("The cloud has its store in a process of its own by now"), "{text}");
    }
}
