//! Every target on every committed input, and on some thousand mutations of those, the same ones on each run.

#![allow(clippy::unwrap_used)]

use base::random::Random;
use fuzzing::{TARGETS, Target};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const MUTATIONS: usize = 3_000;
const MUTATED_BYTES_MAX: usize = 8 * 1024;

/// The committed inputs of a target, with their files.
fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut files = Vec::new();
    for folder in ["corpus", "regressions"] {
        let entries = fs::read_dir(fuzz.join(folder).join(target.name));
        files.extend(entries.into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn target(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "no input of {name} is committed");
    for (file, bytes) in &inputs {
        let ran = catch_unwind(|| (target.fuzz)(bytes));
        assert!(ran.is_ok(), "{} fails", file.display());
    }
    let mut random = Random::from_seed(1);
    for _ in 0..MUTATIONS {
        let bytes = mutation(&inputs, &mut random);
        let ran = catch_unwind(AssertUnwindSafe(|| (target.fuzz)(&bytes)));
        assert!(ran.is_ok(), "a mutation fails: {}", bytes.escape_ascii());
    }
}

/// An input with one to eight changes.
fn mutation(inputs: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let pick = |random: &mut Random| inputs[random.below(inputs.len() as u64) as usize].1.clone();
    let mut bytes = pick(random);
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let length = random.below(16) as usize;
        let end = bytes.len().min(at + length);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n'][random.below(6) as usize],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            4 => {
                let other = pick(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let mut drawn = vec![0; length];
                random.fill(&mut drawn);
                drop(bytes.splice(at..at, drawn));
            }
        }
    }
    bytes.truncate(MUTATED_BYTES_MAX);
    bytes
}

#[test]
fn contract_decode() {
    target("contract_decode");
}

#[test]
fn json_decode() {
    target("json_decode");
}

#[test]
fn qmp_reader() {
    target("qmp_reader");
}

#[test]
fn query_decode() {
    target("query_decode");
}

#[test]
fn sigv4_claim() {
    target("sigv4_claim");
}

#[test]
fn store_backup() {
    target("store_backup");
}

#[test]
fn store_log() {
    target("store_log");
}

#[test]
fn switch_documents() {
    target("switch_documents");
}

#[test]
fn vnet_engine() {
    target("vnet_engine");
}

#[test]
fn vnet_packet() {
    target("vnet_packet");
}

#[test]
fn vnet_service() {
    target("vnet_service");
}

#[test]
fn vnet_vhost_message() {
    target("vnet_vhost_message");
}

#[test]
fn vnet_virtio_ring() {
    target("vnet_virtio_ring");
}

#[test]
fn every_target_is_wrapped_for_libfuzzer_and_tested_here() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let here = include_str!("corpora.rs");
    for Target { name, .. } in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
        let wrapper = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap_or_default();
        assert!(wrapper.contains(&format!("fuzzing::{name}::fuzz(data)")), "fuzz_targets lacks {name}");
        assert!(here.contains(&format!("target(\"{name}\")")), "{name} has no test");
    }
}
