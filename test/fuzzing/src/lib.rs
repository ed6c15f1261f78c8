//! The fuzz targets: everything that reads bytes which somebody hostile, or a failing disk, may have written.
//!
//! Each target is a plain function that panics on a finding. `fuzz/` wraps them for libFuzzer
//! (`cargo xtask fuzz NAME`); `cargo test` runs them on every committed input and on mutations of those, so that a
//! finding once made is looked for on every machine, without a nightly toolchain.
//!
//! Invariant: a target is deterministic and keeps nothing from one input to the next.

pub mod contract_decode;
mod input;
pub mod json_decode;
pub mod qmp_reader;
pub mod query_decode;
pub mod sigv4_claim;
pub mod store_backup;
pub mod store_log;
pub mod switch_documents;
pub mod vnet_engine;
pub mod vnet_packet;
pub mod vnet_service;
pub mod vnet_vhost_message;
pub mod vnet_virtio_ring;

/// One target.
pub struct Target {
    /// Its name, and that of its folders under `fuzz/corpus` and `fuzz/regressions`.
    pub name: &'static str,
    /// Takes one input; panics if it finds something.
    pub fuzz: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "contract_decode", fuzz: contract_decode::fuzz },
    Target { name: "json_decode", fuzz: json_decode::fuzz },
    Target { name: "qmp_reader", fuzz: qmp_reader::fuzz },
    Target { name: "query_decode", fuzz: query_decode::fuzz },
    Target { name: "sigv4_claim", fuzz: sigv4_claim::fuzz },
    Target { name: "store_backup", fuzz: store_backup::fuzz },
    Target { name: "store_log", fuzz: store_log::fuzz },
    Target { name: "switch_documents", fuzz: switch_documents::fuzz },
    Target { name: "vnet_engine", fuzz: vnet_engine::fuzz },
    Target { name: "vnet_packet", fuzz: vnet_packet::fuzz },
    Target { name: "vnet_service", fuzz: vnet_service::fuzz },
    Target { name: "vnet_vhost_message", fuzz: vnet_vhost_message::fuzz },
    Target { name: "vnet_virtio_ring", fuzz: vnet_virtio_ring::fuzz },
];
