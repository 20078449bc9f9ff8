//! No crate depends upwards: the table of `ARCHITECTURE.md`, checked against the manifests.
#![allow(clippy::unwrap_used, reason = "helpers of a test fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// What each crate of the workspace may use of the others. A crate that is missing here may use none, and fails the test
/// until somebody has decided on which layer it lives.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("pitaya-protocol", &[]),
    ("pitaya-fixtures", &[]),
    ("pitaya-macros", &[]),
    ("pitaya-core", &["pitaya-protocol"]),
    ("pitaya-client", &["pitaya-protocol"]),
    ("pitaya-etcd", &["pitaya-core"]),
    ("pitaya-nats", &["pitaya-core"]),
    ("pitaya-server", &["pitaya-core", "pitaya-protocol"]),
    ("pitaya", &["pitaya-core", "pitaya-etcd", "pitaya-macros", "pitaya-nats", "pitaya-server"]),
    ("pitaya-test", &["pitaya", "pitaya-client"]),
    ("chat", &["pitaya"]),
    ("tested-game", &["pitaya"]),
    ("first-server", &["pitaya"]),
    ("settings", &["pitaya"]),
    ("e2e", &["pitaya"]),
    ("pitaya-bench", &["pitaya", "pitaya-fixtures"]),
    ("xtask", &[]),
];

/// Crates that a layer must never see, whoever brings them.
const FOREIGN: [(&str, &[&str]); 2] = [
    // No I/O, no clock, no runtime.
    ("pitaya-protocol", &["tokio", "tokio-util", "futures-util", "mio", "socket2"]),
    // The engine names no type of a cluster's parts.
    ("pitaya-server", &["async-nats", "tonic", "redis", "prometheus", "etcd-client"]),
];

#[test]
fn no_crate_depends_upwards() {
    let used = dependencies();
    let known: BTreeMap<_, _> = MAY_USE.into_iter().collect();
    let crates: BTreeSet<_> = used.keys().map(String::as_str).collect();
    assert_eq!(crates, known.keys().copied().collect(), "the table has exactly the crates of the workspace");
    for (name, dependencies) in &used {
        let upwards: Vec<_> = dependencies
            .iter()
            .filter(|used| crates.contains(used.as_str()) && !known[name.as_str()].contains(&used.as_str()))
            .collect();
        assert!(upwards.is_empty(), "{name} must not depend on {upwards:?}");
    }
}

#[test]
fn no_layer_uses_what_it_must_not_know() {
    let used = dependencies();
    for (name, foreign) in FOREIGN {
        let found: Vec<_> = foreign.iter().filter(|foreign| used[name].contains(**foreign)).collect();
        assert!(found.is_empty(), "{name} must not depend on {found:?}");
    }
}

/// The normal and build dependencies of each crate of the workspace; what only its tests use is not a layer's business.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (text(&package["name"]), used_by(package))).collect()
}

fn used_by(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies.iter().filter(|used| used["kind"] != "dev").map(|used| text(&used["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
