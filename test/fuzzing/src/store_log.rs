//! The files of a metadata store, damaged in every way: the engine opens them or says why not, and a store that
//! opens works and opens again with the same content.
//!
//! Input: whether checksums are mended afterwards (damage that they would catch tests only them), then changes to
//! the files of a small store: which file, what to do, where, with which bytes.

use crate::input::Input;
use base::disk::memory::MemoryDisk;
use metastore::{Commit, Engine, EngineOptions, Entry, Op};
use std::collections::BTreeMap;

pub(crate) const CHANGES_MAX: usize = 16;
const INSERTED_MAX: usize = 64;

/// The target.
pub fn fuzz(data: &[u8]) {
    let mut input = Input::new(data);
    let mend = input.u8() & 1 == 1;
    let mut files = store();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        change(&mut files, &mut input);
    }
    if mend {
        for bytes in files.values_mut() {
            checksums_mend(bytes);
        }
    }
    let disk = MemoryDisk::new();
    let mut writer = disk.mount();
    for (name, bytes) in &files {
        writer.append(name, bytes).expect("a simulated disk without faults takes everything");
        writer.sync(name).expect("a simulated disk without faults takes everything");
    }
    writer.sync_directory().expect("a simulated disk without faults takes everything");
    let Ok(engine) = Engine::open(writer, options()) else { return };
    works(engine, &disk);
}

pub(crate) fn works(mut engine: Engine, disk: &MemoryDisk) {
    let put = Commit { ops: vec![Op::Put(b"fuzz".to_vec(), b"1".to_vec())], ..Commit::default() };
    engine.stage(put).expect("a store that opened takes a commit");
    for (_, result) in engine.flush() {
        result.expect("a store that opened writes");
    }
    let (revision, before) = (engine.revision(), content(&engine));
    disk.kill();
    drop(engine);
    let engine = Engine::open(disk.mount(), options()).expect("a store that opened opens again");
    assert_eq!((engine.revision(), content(&engine)), (revision, before));
}

fn content(engine: &Engine) -> Vec<Entry> {
    engine.reader().list(b"").expect("the present can be read").0
}

/// Small sizes, so that few commits make several segments and a snapshot.
pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        segment_bytes: 256,
        snapshot_log_bytes_min: 512,
        snapshot_ratio: 1,
        snapshot_step_bytes: 128,
        ..EngineOptions::default()
    }
}

/// The files of a store with a snapshot and a log behind it, as they are after a kill.
pub(crate) fn store() -> BTreeMap<String, Vec<u8>> {
    let disk = MemoryDisk::new();
    let mut engine = Engine::open(disk.mount(), options()).expect("an empty disk holds a store");
    for number in 0..24u8 {
        let key = vec![b'k', number % 5];
        let op = if number % 7 == 6 { Op::Delete(key) } else { Op::Put(key, vec![number; 20]) };
        engine.stage(Commit { ops: vec![op], ..Commit::default() }).expect("a commit within bounds");
        engine.flush();
        while engine.maintain() {}
    }
    disk.kill();
    let reader = disk.mount();
    let names = disk.files().into_keys();
    names.map(|name| (name.clone(), reader.read(&name).unwrap_or_default())).collect()
}

pub(crate) fn change(files: &mut BTreeMap<String, Vec<u8>>, input: &mut Input<'_>) {
    let (which, what) = (usize::from(input.u8()), input.u8());
    let names: Vec<String> = files.keys().cloned().collect();
    let name = &names[which % names.len()];
    let Some(bytes) = files.get_mut(name) else { return };
    let at = usize::from(input.u16()) % (bytes.len() + 1);
    match what % 6 {
        0 => {
            let new = input.u8();
            let new = input.take(usize::from(new) % 9);
            let end = bytes.len().min(at + new.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        1 => bytes.truncate(at),
        2 => {
            let length = usize::from(input.u8()) % INSERTED_MAX;
            bytes.splice(at..at, input.take(length).iter().copied());
        }
        3 => {
            let end = bytes.len().min(at + usize::from(input.u8()));
            bytes.drain(at..end);
        }
        4 => drop(files.remove(name)),
        _ => {
            let copy = bytes.clone();
            files.insert(names[at % names.len()].clone(), copy);
        }
    }
}

/// Makes the checksums of a file right again, as far as its structure is still there (the layouts are drawn in
/// metastore's `format`): the head's over bytes 0..28; each frame's over incarnation, revision and offset, then
/// from its length on.
pub(crate) fn checksums_mend(bytes: &mut [u8]) {
    const HEAD: usize = 32;
    const FRAME: usize = 24;
    let Some(head) = bytes.get_mut(..HEAD) else { return };
    let checksum = crc_fast::crc32_iscsi(&head[..28]);
    head[28..].copy_from_slice(&checksum.to_le_bytes());
    let place: Vec<u8> = head[12..28].to_vec();
    let mut offset = HEAD;
    while let Some(frame) = bytes.get(offset..).filter(|rest| rest.len() >= FRAME) {
        let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
        let Some(checked) = frame.get(8..FRAME.saturating_add(length)) else { return };
        let all = [&place[..], &(offset as u64).to_le_bytes(), checked].concat();
        let checksum = crc_fast::crc32_iscsi(&all);
        bytes[offset + 4..offset + 8].copy_from_slice(&checksum.to_le_bytes());
        offset += FRAME + length;
    }
}
