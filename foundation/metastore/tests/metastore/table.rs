//! Typed tables and the cached read model: against a recomputation, and behind a store that lets its watchers lag.

use metastore::cache::{Cache, Changed, Follower, Groups, Index};
use metastore::table::golden::{self, GoldenError};
use metastore::table::{Record, Row, Table, TableCommit, TableEvent};
use metastore::{
    Commit, CommitError, EngineOptions, Key, Op, Revision, Store, StoreOptions, Value, WatchEnd,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A machine in a rack, by number.
#[derive(Clone, Debug, PartialEq)]
struct Machine {
    rack: u8,
}

impl Record for Machine {
    const PREFIX: &'static str = "machine/";
    type Id = u8;

    fn key(id: &u8) -> Key {
        format!("machine/{id:03}").into_bytes()
    }

    fn id(key: &[u8]) -> Result<u8, String> {
        let text = std::str::from_utf8(key).map_err(|e| e.to_string())?;
        let number = text.strip_prefix(Self::PREFIX).ok_or("another table's")?;
        number.parse().map_err(|e: std::num::ParseIntError| e.to_string())
    }

    fn encode(&self) -> Value {
        vec![self.rack]
    }

    fn decode(_: &u8, bytes: &[u8]) -> Result<Self, String> {
        // Before racks a machine was an empty record.
        match bytes {
            [] => Ok(Machine { rack: 0 }),
            [rack] => Ok(Machine { rack: *rack }),
            _ => Err(String::from("it is too long")),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct ByRack(Groups<u8, u8>);

impl Index<Machine> for ByRack {
    fn change(&mut self, before: Option<&Row<Machine>>, after: Option<&Row<Machine>>) {
        let rack = |row: &Row<Machine>| row.record.rack;
        if let Some(row) = before.or(after) {
            self.0.change(row.id, before.map(rack), after.map(rack));
        }
    }
}

type Racks = Cache<Machine, ByRack>;

/// What the index must be.
fn recomputed(rows: &BTreeMap<u8, (u8, Revision)>) -> BTreeMap<u8, BTreeSet<u8>> {
    let mut racks: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
    for (id, (rack, _)) in rows {
        racks.entry(*rack).or_default().insert(*id);
    }
    racks
}

fn row(id: u8, rack: u8, modified: Revision) -> Row<Machine> {
    Row { id, record: Arc::new(Machine { rack }), modified }
}

#[derive(Clone, Debug)]
enum Doing {
    /// One commit: what becomes of some machines.
    Commit(BTreeMap<u8, Option<u8>>),
    /// The same, and the watch misses it.
    Missed(BTreeMap<u8, Option<u8>>),
    /// The table is read anew.
    Relist,
    /// A commit that was seen comes again.
    Again,
}

fn doing() -> impl Strategy<Value = Doing> {
    let changes = || prop::collection::btree_map(0..12u8, prop::option::of(0..4u8), 1..5);
    prop_oneof![
        6 => changes().prop_map(Doing::Commit),
        2 => changes().prop_map(Doing::Missed),
        2 => Just(Doing::Relist),
        1 => Just(Doing::Again),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rows_index_and_changes_agree_with_a_recomputation(doings in prop::collection::vec(doing(), 1..60)) {
        let mut cache = Racks::default();
        let mut stored: BTreeMap<u8, (u8, Revision)> = BTreeMap::new();
        let mut told: BTreeMap<u8, (u8, Revision)> = BTreeMap::new();
        let mut revision = Revision(0);
        let mut behind = false;
        let mut last: Option<TableCommit<Machine>> = None;
        for doing in doings.into_iter().chain([Doing::Relist]) {
            let changes = match doing {
                Doing::Commit(changes) | Doing::Missed(changes) if behind => {
                    // Behind a gap a watch gives nothing more.
                    revision.0 += 1;
                    stored_change(&mut stored, &changes, revision);
                    Vec::new()
                }
                Doing::Missed(changes) => {
                    revision.0 += 1;
                    stored_change(&mut stored, &changes, revision);
                    behind = true;
                    Vec::new()
                }
                Doing::Commit(changes) => {
                    revision.0 += 1;
                    stored_change(&mut stored, &changes, revision);
                    let event = |(id, rack): (&u8, &Option<u8>)| match rack {
                        Some(rack) => TableEvent::Put(row(*id, *rack, revision)),
                        None => TableEvent::Deleted(*id),
                    };
                    let commit = TableCommit { revision, events: changes.iter().map(event).collect() };
                    last = Some(commit.clone());
                    cache.apply(commit)
                }
                Doing::Again => match last.clone() {
                    Some(commit) => {
                        let changes = cache.apply(commit);
                        prop_assert!(changes.is_empty());
                        changes
                    }
                    None => Vec::new(),
                },
                Doing::Relist => {
                    behind = false;
                    let rows = stored.iter().map(|(id, (rack, modified))| row(*id, *rack, *modified));
                    cache.load(rows.collect(), revision)
                }
            };
            for Changed { before, after } in changes {
                let id = before.as_ref().or(after.as_ref()).map(|row| row.id).unwrap();
                let was = before.map(|row| (row.record.rack, row.modified));
                prop_assert_eq!(told.get(&id).copied(), was, "the change begins where the last one ended");
                match after {
                    Some(row) => drop(told.insert(id, (row.record.rack, row.modified))),
                    None => drop(told.remove(&id)),
                }
            }
            let rows: BTreeMap<u8, (u8, Revision)> =
                cache.rows().map(|row| (row.id, (row.record.rack, row.modified))).collect();
            prop_assert_eq!(&rows, &told, "the changes given lead to the rows");
            let index: BTreeMap<u8, BTreeSet<u8>> =
                cache.index().0.iter().map(|(rack, ids)| (*rack, ids.clone())).collect();
            prop_assert_eq!(index, recomputed(&rows));
            if !behind {
                prop_assert_eq!(&rows, &stored);
                prop_assert_eq!(cache.revision(), revision);
            }
        }
    }
}

fn stored_change(
    stored: &mut BTreeMap<u8, (u8, Revision)>,
    changes: &BTreeMap<u8, Option<u8>>,
    revision: Revision,
) {
    for (id, rack) in changes {
        match rack {
            Some(rack) => drop(stored.insert(*id, (*rack, revision))),
            None => drop(stored.remove(id)),
        }
    }
}

fn commit_of(steps: Vec<metastore::table::Step>) -> Commit {
    let (conditions, ops) = steps.into_iter().unzip();
    Commit { conditions, ops }
}

#[tokio::test]
async fn a_change_is_conditional_on_what_was_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let insert = || commit_of(vec![Table::insert(&7, &Machine { rack: 1 })]);
    let first = store.commit(insert()).await.unwrap();
    assert!(matches!(store.commit(insert()).await, Err(CommitError::Conflict { .. })), "an id is unique");
    let read = Table::<Machine>::get(&store, &7).await.unwrap().unwrap();
    assert_eq!((read.record.rack, read.modified), (1, first));
    let mut watch = Table::<Machine>::watch(&store, first).await.unwrap();
    let second = store.commit(commit_of(vec![Table::replace(&read, &Machine { rack: 2 })])).await.unwrap();
    let late = store.commit(commit_of(vec![Table::replace(&read, &Machine { rack: 3 })])).await;
    assert!(matches!(late, Err(CommitError::Conflict { .. })), "no update is lost");
    assert!(store.commit(commit_of(vec![Table::delete(&read)])).await.is_err());
    let read = Table::<Machine>::get(&store, &7).await.unwrap().unwrap();
    store.commit(commit_of(vec![Table::delete(&read)])).await.unwrap();
    assert_eq!(Table::<Machine>::get(&store, &7).await.unwrap(), None);
    let put = TableCommit { revision: second, events: vec![TableEvent::Put(row(7, 2, second))] };
    assert_eq!(watch.next().await.unwrap(), put);
    assert_eq!(watch.next().await.unwrap().events, [TableEvent::Deleted(7)]);
}

#[tokio::test]
async fn what_is_no_record_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let op = Op::Put(b"machine/007".to_vec(), b"long".to_vec());
    store.commit(Commit { conditions: Vec::new(), ops: vec![op] }).await.unwrap();
    let error = Table::<Machine>::scan(&store).await.unwrap_err();
    assert_eq!(error.to_string(), "the stored record machine/007 cannot be read: it is too long");
}

/// Watchers of this store lag as soon as two commits wait for them.
fn hasty(directory: &std::path::Path) -> Store {
    let engine = EngineOptions { watch_queue_commits: 1, ..EngineOptions::default() };
    Store::open_with(directory, StoreOptions { engine, ..StoreOptions::default() }).unwrap()
}

#[tokio::test]
async fn a_follower_that_lagged_reads_anew_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = hasty(directory.path());
    store.commit(commit_of(vec![Table::insert(&0, &Machine { rack: 9 })])).await.unwrap();
    let told: Arc<Mutex<BTreeMap<u8, u8>>> = Arc::default();
    let teller = told.clone();
    let consume = move |changes: &[Changed<Machine>]| {
        let mut told = teller.lock().unwrap();
        for change in changes {
            match (&change.before, &change.after) {
                (_, Some(row)) => drop(told.insert(row.id, row.record.rack)),
                (Some(row), None) => drop(told.remove(&row.id)),
                (None, None) => unreachable!("a change of nothing"),
            }
        }
    };
    let follower = Follower::<Machine, ByRack>::start(store.clone(), consume).await.unwrap();
    assert_eq!(*told.lock().unwrap(), BTreeMap::from([(0, 9)]));
    let mut beside = store.watch(b"machine/", store.revision().await.unwrap()).await.unwrap();
    let commits: Vec<_> = (1..=200)
        .map(|id| store.commit(commit_of(vec![Table::insert(&id, &Machine { rack: id % 3 })])))
        .collect();
    let mut newest = Revision(0);
    for commit in commits {
        newest = commit.await.unwrap();
    }
    // One batch of many commits is more than a watcher's queue takes.
    let end = loop {
        if let Err(end) = beside.next().await {
            break end;
        }
    };
    assert_eq!(end, WatchEnd::Lagged);
    follower.wait_for(newest).await.unwrap();
    let (rows, third) = follower.read(|cache| (cache.rows().count(), cache.index().0.get(&0).count()));
    assert_eq!((rows, third), (201, 66));
    assert_eq!(told.lock().unwrap().len(), 201);
    assert_eq!(follower.progress().behind, "");
}

#[tokio::test]
async fn a_follower_of_a_closed_store_says_so_and_serves_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = hasty(directory.path());
    let revision = store.commit(commit_of(vec![Table::insert(&1, &Machine { rack: 9 })])).await.unwrap();
    let follower = Follower::<Machine>::start(store.clone(), |_| ()).await.unwrap();
    let op = Op::Put(b"machine/not-a-number".to_vec(), Vec::new());
    store.commit(Commit { conditions: Vec::new(), ops: vec![op] }).await.unwrap();
    let stuck = follower.wait_for(Revision(revision.0 + 1)).await.unwrap_err();
    assert_eq!(stuck.revision, revision);
    assert!(stuck.why.contains("machine/not-a-number"), "{stuck}");
    assert!(follower.progress().ended);
    assert_eq!(follower.read(|cache| cache.rows().count()), 1);
}

#[test]
fn golden_files_are_read_for_ever_and_changes_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Machine { rack: 4 };
    let missing = golden::check(folder.path(), "machine", &1, &sample).unwrap_err();
    assert!(matches!(&missing, GoldenError::Changed { newest: None, .. }), "{missing}");
    std::fs::write(folder.path().join("machine.1.bin"), b"").unwrap();
    let changed = golden::check(folder.path(), "machine", &1, &sample).unwrap_err();
    assert!(changed.to_string().contains("machine.2.bin"), "{changed}");
    std::fs::write(folder.path().join("machine.2.bin"), [4]).unwrap();
    let read = golden::check(folder.path(), "machine", &1, &sample).unwrap();
    assert_eq!(read, [Machine { rack: 0 }, sample.clone()]);
    std::fs::write(folder.path().join("machine.1.bin"), b"long").unwrap();
    let unreadable = golden::check(folder.path(), "machine", &1, &sample).unwrap_err();
    assert!(matches!(unreadable, GoldenError::Unreadable { .. }), "{unreadable}");
}
