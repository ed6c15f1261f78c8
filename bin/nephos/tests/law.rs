//! The law of the tree: the data plane never depends on the control plane, on the metadata store, or on the AWS
//! protocol, directly or through others. Read from Cargo's own resolution.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Normal and build dependencies of each workspace crate on other workspace crates, and each crate's folder.
fn workspace() -> (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut dependencies = BTreeMap::new();
    let mut folders = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().unwrap().to_owned();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap().strip_prefix(root).unwrap();
        folders.insert(name.clone(), folder.to_str().unwrap().to_owned());
        let ours = package["dependencies"].as_array().unwrap().iter().filter(|dependency| {
            // In a test, anything may be compared with anything.
            dependency["kind"] != "dev" && dependency["path"].is_string()
        });
        let ours = ours.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        dependencies.insert(name, ours);
    }
    (dependencies, folders)
}

fn reached(from: &str, dependencies: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from.to_owned()];
    while let Some(name) = left.pop() {
        for dependency in &dependencies[&name] {
            if reached.insert(dependency.clone()) {
                left.push(dependency.clone());
            }
        }
    }
    reached
}

#[test]
fn the_data_plane_depends_on_nothing_of_the_control_plane() {
    let (dependencies, folders) = workspace();
    let data: Vec<&String> =
        folders.iter().filter(|(_, f)| f.starts_with("data/")).map(|(name, _)| name).collect();
    assert!(!data.is_empty(), "no crate under data/: the test looks in the wrong place");
    for name in data {
        for other in reached(name, &dependencies) {
            let folder = &folders[&other];
            let forbidden =
                folder.starts_with("control/") || other == "metastore" || other.starts_with("aws");
            assert!(!forbidden, "{name} reaches {other} ({folder})");
        }
    }
}

#[test]
fn the_foundation_depends_on_no_plane() {
    let (dependencies, folders) = workspace();
    for (name, _) in folders.iter().filter(|(_, folder)| folder.starts_with("foundation/")) {
        for other in reached(name, &dependencies) {
            assert!(folders[&other].starts_with("foundation/"), "{name} reaches {other}");
        }
    }
}

#[test]
fn a_folder_is_named_as_its_crate() {
    let (_, folders) = workspace();
    for (name, folder) in folders {
        assert!(folder == name || folder.ends_with(&format!("/{name}")), "{name} is in {folder}");
    }
}
