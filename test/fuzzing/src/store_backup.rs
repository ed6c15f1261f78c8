//! A backup of a metadata store, damaged in every way: it is refused, or restored to a store that holds as many keys,
//! works, and opens again with the same content. Verifying and restoring agree.
//!
//! Input: as `store_log`'s, for one file.

use crate::input::Input;
use crate::store_log::{CHANGES_MAX, change, checksums_mend, options, works};
use base::clock::Timestamp;
use base::disk::memory::MemoryDisk;
use metastore::{Commit, Engine, LeaseId, Op, backup_verify, restore_disk, verify_disk};
use std::collections::BTreeMap;

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let mend = input.u8() & 1 == 1;
    let mut files = BTreeMap::from([("backup".to_owned(), backup())]);
    for _ in 0..CHANGES_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        change(&mut files, &mut input);
    }
    let mut bytes = files.remove("backup").unwrap_or_default();
    if mend {
        checksums_mend(&mut bytes);
    }
    let verified = backup_verify(&bytes[..]);
    let disk = MemoryDisk::new();
    let restored = restore_disk(&bytes[..], &mut *disk.mount(), 9);
    assert_eq!(verified.is_ok(), restored.is_ok(), "{verified:?}, {restored:?}");
    let Ok(summary) = verified else {
        assert!(!disk.files().contains_key("identity"), "what was refused is no store");
        return;
    };
    let store = verify_disk(&*disk.mount()).expect("what was restored is whole").expect("there is a store");
    assert_eq!((store.entries, store.revision, store.incarnation), (summary.entries, summary.revision, 9));
    disk.kill();
    let engine = Engine::open(disk.mount(), options()).expect("what was restored opens");
    works(engine, &disk);
}

/// A backup with a lease and keys that it holds.
fn backup() -> Vec<u8> {
    let mut engine = Engine::open(MemoryDisk::new().mount(), options()).expect("an empty disk holds a store");
    let now = Timestamp::from_unix_ms(1);
    let (_, lease) = engine.lease_grant(LeaseId::TTL_MIN, now).expect("there is room for a lease");
    for number in 0..24u8 {
        let key = vec![b'k', number % 9];
        let op = match number % 3 {
            0 => Op::PutLeased(key, vec![number; 20], lease),
            _ => Op::Put(key, vec![number; 20]),
        };
        engine.stage(Commit { ops: vec![op], ..Commit::default() }).expect("a commit within bounds");
        engine.flush();
    }
    let mut backup = engine.reader().backup(now).expect("an engine that works is backed up");
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next_piece().expect("nothing is committed meanwhile") {
        bytes.extend(piece);
    }
    bytes
}
