//! Backups: taken while commits go on, verified, damaged, restored onto disks and into directories.

use crate::model::{small, state_of};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use metastore::{
    Backup, BackupError, BackupFileError, Commit, CommitError, Engine, EngineOptions, Op, OpenError,
    RestoreError, RestoreOptions, Revision, Store, backup_verify, restore, restore_disk, verify,
};
use std::fs;

const TAKEN: Timestamp = Timestamp::from_unix_ms(1_700_000_000_123);

fn put(key: &str, value: Vec<u8>) -> Commit {
    Commit { conditions: vec![], ops: vec![Op::Put(key.into(), value)] }
}

fn commit(engine: &mut Engine, key: &str, value: Vec<u8>) {
    engine.stage(put(key, value)).unwrap();
    assert!(engine.flush()[0].1.is_ok());
}

fn all(mut backup: Backup) -> Result<Vec<u8>, BackupError> {
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next_piece()? {
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// An engine with some keys and a lease.
fn filled(disk: &MemoryDisk) -> Engine {
    let mut engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    for number in 0..20u8 {
        commit(&mut engine, &format!("key/{number:02}"), vec![number; 50]);
    }
    let (_, lease) = engine.lease_grant(std::time::Duration::from_secs(5), TAKEN).unwrap();
    engine
        .stage(Commit { conditions: vec![], ops: vec![Op::PutLeased("leader".into(), b"me".into(), lease)] })
        .unwrap();
    engine.flush();
    engine
}

#[test]
fn a_backup_holds_its_revision_whatever_is_committed_meanwhile() {
    let disk = MemoryDisk::new();
    let mut engine = filled(&disk);
    // Three pieces at least.
    for number in 0..6u8 {
        commit(&mut engine, &format!("large/{number}"), vec![number; 400_000]);
    }
    let (revision, state) = (engine.revision(), state_of(&engine));
    let mut backup = engine.reader().backup(TAKEN).unwrap();
    let mut bytes = Vec::new();
    let mut pieces = 0u8;
    while let Some(piece) = backup.next_piece().unwrap() {
        bytes.extend(piece);
        pieces += 1;
        commit(&mut engine, &format!("large/{}", pieces % 6), vec![99; 10]);
        commit(&mut engine, &format!("a/0/123456789012/{pieces}"), vec![]);
        engine
            .stage(Commit { conditions: vec![], ops: vec![Op::Delete(format!("key/{pieces:02}").into())] })
            .unwrap();
        engine.flush();
        engine.compact(engine.revision()).unwrap();
    }
    drop(backup);
    assert!(pieces > 4, "{pieces}");
    assert_eq!(engine.compact(engine.revision()), Ok(engine.revision()), "history is kept no longer");
    let summary = backup_verify(&bytes[..]).unwrap();
    assert_eq!((summary.incarnation, summary.revision, summary.taken), (1, revision, TAKEN));
    // The lease and what is attached to it are two more.
    assert_eq!((summary.entries, summary.bytes), (state.len() as u64 + 2, bytes.len() as u64));

    let restored = MemoryDisk::new();
    assert_eq!(restore_disk(&bytes[..], &mut *restored.mount(), 7).unwrap(), summary);
    let mut engine = Engine::open(restored.mount(), EngineOptions::default()).unwrap();
    assert_eq!((engine.incarnation(), engine.revision(), state_of(&engine)), (7, revision, state));
    commit(&mut engine, "goes on", vec![]);
    assert_eq!(engine.revision().0, revision.0 + 1);
    assert!(engine.lease_next().is_some(), "the lease is there, and its time begins anew");
}

#[test]
fn an_empty_store_is_backed_up_and_restored() {
    let engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    let bytes = all(engine.reader().backup(TAKEN).unwrap()).unwrap();
    assert_eq!(backup_verify(&bytes[..]).unwrap().entries, 0);
    let disk = MemoryDisk::new();
    restore_disk(&bytes[..], &mut *disk.mount(), 2).unwrap();
    let engine = Engine::open(disk.mount(), EngineOptions::default()).unwrap();
    assert_eq!((engine.incarnation(), engine.revision()), (2, Revision(0)));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_backup_is_found() {
    let bytes = all(filled(&MemoryDisk::new()).reader().backup(TAKEN).unwrap()).unwrap();
    for byte in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1 << (byte % 8);
        match backup_verify(&damaged[..]) {
            Err(BackupFileError::Corrupt { offset, .. }) => assert!(offset <= byte as u64),
            other => panic!("byte {byte}: {other:?}"),
        }
        let cut = backup_verify(&bytes[..byte]);
        assert!(matches!(cut, Err(BackupFileError::Corrupt { .. })), "{byte}: {cut:?}");
        let disk = MemoryDisk::new();
        assert!(matches!(restore_disk(&damaged[..], &mut *disk.mount(), 2), Err(RestoreError::Backup(_))));
        assert!(!disk.files().contains_key("identity"), "what is half restored is no store");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(backup_verify(&longer[..]), Err(BackupFileError::Corrupt { .. })));
}

#[test]
fn commits_do_not_wait_for_a_slow_backup_and_memory_is_bounded() {
    let mut engine = Engine::open(MemoryDisk::new().mount(), small()).unwrap();
    commit(&mut engine, "key", vec![0; 100]);
    let mut slow = engine.reader().backup(TAKEN).unwrap();
    slow.next_piece().unwrap();
    for number in 0..400u16 {
        commit(&mut engine, "key", number.to_le_bytes().repeat(50));
        engine.maintain();
    }
    assert_eq!(slow.next_piece(), Err(BackupError::Overtaken));
    let history = engine.watch(b"", slow.revision());
    assert!(history.is_err(), "what it would have needed is forgotten");
    // The next is quicker.
    backup_verify(&all(engine.reader().backup(TAKEN).unwrap()).unwrap()[..]).unwrap();
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn committed(store: &Store, key: &str) -> Result<Revision, CommitError> {
    wait(store.commit(put(key, key.into())))
}

#[test]
fn a_directory_is_restored_in_one_step_and_what_was_there_is_moved_aside() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("region/store");
    let store = Store::open(&directory).unwrap();
    committed(&store, "one").unwrap();
    let bytes = all(store.backup().unwrap()).unwrap();
    committed(&store, "two").unwrap();
    let replace = RestoreOptions { replace: true, ..RestoreOptions::default() };
    // In use.
    let refused = restore(&bytes[..], &directory, replace);
    assert!(matches!(refused, Err(RestoreError::Store(OpenError::Locked { .. }))), "{refused:?}");
    assert!(matches!(verify(&directory), Err(OpenError::Locked { .. })));
    drop(store);
    let found = verify(&directory).unwrap();
    assert_eq!((found.incarnation, found.revision, found.entries), (1, Revision(2), 2));
    // Not empty, and nobody said that it may go; nor for a backup that is none.
    let refused = restore(&bytes[..], &directory, RestoreOptions::default());
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })), "{refused:?}");
    assert!(restore(&bytes[..50], &directory, replace).is_err());
    assert_eq!(verify(&directory).unwrap(), found);

    let restored = restore(&bytes[..], &directory, replace).unwrap();
    let aside = root.path().join("region/store.before-2");
    assert_eq!((restored.incarnation, restored.former.as_ref()), (2, Some(&aside)));
    assert_eq!(verify(&aside).unwrap(), found);
    let store = Store::open(&directory).unwrap();
    assert_eq!((store.incarnation(), committed(&store, "other two")), (2, Ok(Revision(2))));
    assert_eq!(wait(store.get(b"two")), Ok(None));
    drop(store);
    // The same backup again: the incarnation goes on rising.
    assert_eq!(restore(&bytes[..], &directory, replace).unwrap().incarnation, 3);
    // A directory that is gone, with all that it knew.
    fs::remove_dir_all(&directory).unwrap();
    let options = RestoreOptions { incarnation_min: 9, ..RestoreOptions::default() };
    let restored = restore(&bytes[..], &directory, options).unwrap();
    assert_eq!((restored.incarnation, restored.former), (9, None));
    assert_eq!(Store::open(&directory).unwrap().incarnation(), 9);
    let names = fs::read_dir(directory.parent().unwrap()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["store", "store.before-2", "store.before-3"]);
}

#[test]
fn a_restore_that_was_cut_off_loses_nothing_when_it_is_done_again() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("store");
    let store = Store::open(&directory).unwrap();
    committed(&store, "one").unwrap();
    let bytes = all(store.backup().unwrap()).unwrap();
    committed(&store, "two").unwrap();
    drop(store);
    let found = verify(&directory).unwrap();
    // As a crash leaves it that comes after the exchange: the former store under the name of what is being made.
    fs::rename(&directory, root.path().join(".store.restored")).unwrap();
    let restored = restore(&bytes[..], &directory, RestoreOptions::default()).unwrap();
    assert_eq!(restored.former, None);
    assert_eq!(verify(&root.path().join("store.before-2")).unwrap(), found);
    // The directory is lost; what was moved aside says which incarnations there were.
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(restore(&bytes[..], &directory, RestoreOptions::default()).unwrap().incarnation, 3);
    let high = RestoreOptions { replace: true, incarnation_min: 20_261_122 };
    let refused = restore(&bytes[..], &directory, high);
    assert!(matches!(refused, Err(RestoreError::IncarnationTooHigh { .. })), "{refused:?}");
}

#[test]
fn a_directory_without_a_word_of_its_incarnation_needs_one() {
    let root = tempfile::tempdir().unwrap();
    let engine = Engine::open(MemoryDisk::new().mount(), EngineOptions::default()).unwrap();
    let bytes = all(engine.reader().backup(TAKEN).unwrap()).unwrap();
    let directory = root.path().join("store");
    fs::create_dir(&directory).unwrap();
    assert!(matches!(verify(&directory), Err(OpenError::Absent { .. })));
    fs::write(directory.join("00000000000000000000.log"), b"rubbish").unwrap();
    let mut options = RestoreOptions { replace: true, ..RestoreOptions::default() };
    let refused = restore(&bytes[..], &directory, options);
    assert!(matches!(refused, Err(RestoreError::IncarnationUnknown { .. })), "{refused:?}");
    options.incarnation_min = 4;
    assert_eq!(restore(&bytes[..], &directory, options).unwrap().incarnation, 4);
    assert_eq!(fs::read(root.path().join("store.before-4/00000000000000000000.log")).unwrap(), b"rubbish");
}
