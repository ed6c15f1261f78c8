//! What the ledger's directory holds after each kind of crash, damage and full disk.

use super::super::{StopRecord, VmRecord};
use super::*;
use base::generation::{Generation, Term};
use contract::{StopCause, VmAssignment, VmSpec};

fn vm(number: u128) -> InstanceId {
    InstanceId::from_bits(number)
}

fn record(number: u128, restarts: u64) -> VmRecord {
    let spec = VmSpec { instance_id: vm(number).to_string(), reboots: restarts, ..VmSpec::default() };
    let mut record = VmRecord::new(VmAssignment { spec: Some(spec), attempt: 3, ..VmAssignment::default() });
    record.stopped = Some(StopRecord {
        generation: Generation::new(1, 7),
        cause: StopCause::Guest,
        message: "the guest powered itself off".into(),
    });
    record
}

fn change(revision: u64, vms: &[(u128, Option<u64>)]) -> LedgerChange {
    let document_generation = Generation::new(1, revision);
    let host = HostRecord { term: Term(4), document_generation, going_down: revision % 2 == 1 };
    let vms = vms.iter().map(|(number, n)| (vm(*number), n.map(|n| record(*number, n))));
    LedgerChange { host: Some(host), vms: vms.collect() }
}

fn changes() -> [LedgerChange; 4] {
    [
        change(1, &[(1, Some(0)), (2, Some(0))]),
        LedgerChange { host: None, ..change(1, &[(1, Some(1))]) },
        change(3, &[(2, None), (3, Some(0))]),
        change(4, &[]),
    ]
}

fn read(directory: &Path) -> Ledger {
    LedgerDirectory::open(directory).unwrap().1
}

/// The ledger after each of [`changes`], none included.
fn states() -> Vec<Ledger> {
    let mut states = vec![Ledger::default()];
    for change in changes() {
        let mut next = states[states.len() - 1].clone();
        next.apply(&change);
        states.push(next);
    }
    states
}

#[test]
fn what_was_written_is_read_and_what_was_forgotten_is_not() {
    let directory = tempfile::tempdir().unwrap();
    for (change, expected) in changes().into_iter().zip(&states()[1..]) {
        LedgerDirectory::open(directory.path()).unwrap().0.write(change).unwrap();
        assert_eq!(read(directory.path()), *expected);
    }
    let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
    disk.snapshot_write().unwrap();
    assert!(disk.journal.is_empty());
    assert_eq!(read(directory.path()), ledger);
    disk.write(change(9, &[(3, Some(5))])).unwrap();
    assert_eq!(read(directory.path()).vms[&vm(3)], record(3, 5));
}

#[test]
fn the_files_stay_in_proportion_to_the_state() {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, mut expected) = LedgerDirectory::open(directory.path()).unwrap();
    for revision in 0..2_500 {
        let change = change(revision, &[(u128::from(revision % 10), Some(revision))]);
        expected.apply(&change);
        disk.write(change).unwrap();
        assert!(disk.journal.bytes < 2 * JOURNAL_BYTES_MIN);
    }
    assert!((100..10_000).contains(&disk.snapshot_bytes), "{}", disk.snapshot_bytes);
    assert_eq!(read(directory.path()), expected);
}

/// A ledger's directory of the four changes, with a machine of every VM that ever was.
fn written(with_snapshot: bool) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, _) = LedgerDirectory::open(directory.path()).unwrap();
    changes().into_iter().for_each(|change| disk.write(change).unwrap());
    if with_snapshot {
        disk.snapshot_write().unwrap();
    }
    for number in [1, 3] {
        std::fs::create_dir_all(directory.path().join("vms").join(vm(number).to_string()).join("machine"))
            .unwrap();
    }
    directory
}

/// The files of [`written`], as they stand after the four changes.
fn files(directory: &Path) -> Files {
    files_read(directory).unwrap()
}

/// Makes `directory` hold exactly `files`.
fn put(directory: &Path, files: &Files) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    if let Some(bytes) = &files.snapshot {
        std::fs::write(directory.join(SNAPSHOT), bytes).unwrap();
    }
    for (number, bytes) in &files.journals {
        std::fs::write(journal::path(directory, *number), bytes).unwrap();
    }
}

fn with_journal(files: &Files, bytes: Vec<u8>) -> Files {
    let number = *files.journals.keys().next().unwrap();
    Files { journals: [(number, bytes)].into(), ..files.clone() }
}

/// Which of [`states`] the files hold.
fn moment(files: &Files) -> usize {
    let replay = Replay::read(files).unwrap();
    assert_eq!(replay.damage, Vec::<String>::new());
    let vms: BTreeMap<_, _> = replay.vms.into_iter().map(|(id, (record, _))| (id, record)).collect();
    states().iter().position(|state| state.vms == vms && state.host == replay.host).unwrap()
}

#[test]
fn a_journal_cut_anywhere_and_filled_to_any_length_is_that_of_an_earlier_moment() {
    let directory = written(false);
    let files = files(directory.path());
    let whole = files.journals.values().next().unwrap();
    let mut last = 0;
    for cut in FILE_HEAD_BYTES..=whole.len() {
        let now = moment(&with_journal(&files, whole[..cut].to_vec()));
        assert!(now >= last, "cut at {cut}");
        last = now;
        for fill in [0, 0xa5] {
            for length in (cut..whole.len() + 40).step_by(13) {
                let mut torn = whole[..cut].to_vec();
                torn.resize(length, fill);
                // The fill may happen to be what was written.
                let filled = moment(&with_journal(&files, torn));
                assert!(filled == now || filled == now + 1, "cut at {cut}, {length} bytes of {fill}");
            }
        }
    }
    assert_eq!(last, 4);
}

#[test]
fn a_torn_journal_is_gone_on_from() {
    let directory = written(false);
    let files = files(directory.path());
    let whole = files.journals.values().next().unwrap();
    for cut in (FILE_HEAD_BYTES..whole.len()).step_by(29) {
        let mut torn = whole[..cut].to_vec();
        torn.resize(whole.len(), 0);
        put(directory.path(), &with_journal(&files, torn));
        let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
        assert_eq!(ledger.host_damaged, "", "cut at {cut}");
        disk.write(change(9, &[(4, Some(1))])).unwrap();
        assert_eq!(read(directory.path()).vms.len(), ledger.vms.len() + 1, "cut at {cut}");
    }
}

#[test]
fn a_flip_anywhere_is_reported_and_nothing_false_or_old_is_believed() {
    for with_snapshot in [false, true] {
        let directory = written(with_snapshot);
        let (files, newest) = (files(directory.path()), &states()[4]);
        let journal = files.journals.values().next().unwrap();
        let whole = if with_snapshot { files.snapshot.as_ref().unwrap() } else { journal };
        let last_frame = Replay::read(&with_journal(&files, journal[..journal.len() - 1].to_vec())).unwrap();
        let end = if with_snapshot { whole.len() } else { last_frame.tail.unwrap().torn_at };
        for at in (0..end).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let flipped = match with_snapshot {
                true => Files { snapshot: Some(bytes), ..files.clone() },
                false => with_journal(&files, bytes),
            };
            put(directory.path(), &flipped);
            let ledger = read(directory.path());
            assert!(ledger.host_damaged.contains("damaged at byte"), "byte {at}: {}", ledger.host_damaged);
            assert_eq!(ledger.host.document_generation, Generation::ZERO, "byte {at}");
            for number in [1, 3] {
                let known = ledger.vms.get(&vm(number));
                assert!(known.is_none_or(|known| *known == newest.vms[&vm(number)]), "byte {at}");
                assert_eq!(known.is_none(), ledger.damaged.contains_key(&vm(number)), "byte {at}");
            }
            // It goes on from there, and does not complain again.
            let (mut disk, again) = LedgerDirectory::open(directory.path()).unwrap();
            assert_eq!(again, Ledger { host_damaged: String::new(), ..ledger.clone() });
            disk.write(change(9, &[(1, Some(7))])).unwrap();
            assert_eq!(read(directory.path()).vms[&vm(1)], record(1, 7));
            assert!(directory.path().join(format!("{SNAPSHOT}.damaged-1")).exists());
        }
    }
}

#[test]
fn a_file_that_is_gone_is_reported_and_what_it_held_is_not_made_up() {
    for (lost, with_snapshot) in
        [("journal", false), ("journal", true), ("snapshot", false), ("snapshot", true)]
    {
        let directory = written(with_snapshot);
        let mut files = files(directory.path());
        match lost {
            "journal" => files.journals.clear(),
            _ => files.snapshot = None,
        }
        put(directory.path(), &files);
        let ledger = read(directory.path());
        assert!(ledger.host_damaged.contains(&format!("ledger.{lost}")), "{}", ledger.host_damaged);
        assert!(ledger.host_damaged.contains("gone"), "{}", ledger.host_damaged);
        assert_eq!(ledger.host.document_generation, Generation::ZERO);
        assert_eq!(read(directory.path()).host_damaged, "");
    }
}

#[test]
fn a_crash_between_a_journal_and_the_snapshot_that_names_it_changes_nothing() {
    let directory = written(false);
    let mut files = files(directory.path());
    let number = *files.journals.keys().next().unwrap();
    for next in [&[][..], &frame::file_begin(FileKind::Journal, 5)] {
        files.journals.insert(number + 1, next.to_vec());
        put(directory.path(), &files);
        assert_eq!(read(directory.path()).vms, states()[4].vms);
        // Nor does one before the very first snapshot.
        put(directory.path(), &Files { snapshot: None, journals: [(1, next.to_vec())].into() });
        assert_eq!(
            read(directory.path()),
            Ledger { damaged: read(directory.path()).damaged, ..Ledger::default() }
        );
    }
}

#[test]
fn what_was_read_from_a_journal_is_in_a_snapshot_before_it_is_acted_on() {
    use std::os::unix::fs::MetadataExt;
    let directory = written(false);
    let before = std::fs::metadata(directory.path().join(SNAPSHOT)).unwrap().ino();
    let (disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
    assert!(disk.journal.is_empty());
    assert_ne!(std::fs::metadata(directory.path().join(SNAPSHOT)).unwrap().ino(), before);
    let files = files(directory.path());
    assert_eq!((moment(&files), files.journals.len()), (4, 1));
    assert_eq!(ledger.vms, states()[4].vms);
}

#[test]
fn changes_go_on_while_no_snapshot_can_be_written_up_to_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (mut disk, mut expected) = LedgerDirectory::open(directory.path()).unwrap();
    // A snapshot cannot be written where a directory is.
    let obstacle = directory.path().join(SNAPSHOT_NEW);
    std::fs::create_dir(&obstacle).unwrap();
    let large = |revision: u64| {
        let mut change = change(revision, &[(1, Some(revision))]);
        let message = "m".repeat(100 * 1024);
        let record = change.vms.get_mut(&vm(1)).unwrap().as_mut().unwrap();
        record.stopped.as_mut().unwrap().message = message;
        change
    };
    for revision in 0..10 {
        expected.apply(&large(revision));
        disk.write(large(revision)).unwrap();
    }
    drop(disk);
    // A restart goes on too.
    let (mut disk, ledger) = LedgerDirectory::open(directory.path()).unwrap();
    assert_eq!(ledger, expected);
    let failed = (10..100).find(|revision| {
        let written = disk.write(large(*revision));
        written.inspect(|()| expected.apply(&large(*revision))).is_err()
    });
    assert!(failed.is_some());
    assert!(disk.journal.bytes < (JOURNAL_GROWTH_MAX + 2) * JOURNAL_BYTES_MIN);
    assert_eq!(read(directory.path()), expected);
    std::fs::remove_dir(&obstacle).unwrap();
    disk.write(large(200)).unwrap();
    expected.apply(&large(200));
    assert!(disk.journal.bytes < JOURNAL_BYTES_MIN);
    assert_eq!(read(directory.path()), expected);
}

#[test]
fn damaged_files_are_kept_beside_each_other() {
    let directory = written(false);
    for kept in 1..=DAMAGED_MAX + 2 {
        let damaged = vec![kept as u8; 50];
        put_snapshot(directory.path(), &damaged);
        assert!(!read(directory.path()).host_damaged.is_empty());
        let name = directory.path().join(format!("{SNAPSHOT}.damaged-{kept}"));
        assert_eq!(std::fs::read(name).ok(), (kept <= DAMAGED_MAX).then_some(damaged));
    }
}

fn put_snapshot(directory: &Path, bytes: &[u8]) {
    let path = directory.join(SNAPSHOT);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_older_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("host.pb"), "x").unwrap();
    let error = LedgerDirectory::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("another version of nephos"), "{error}");
}
