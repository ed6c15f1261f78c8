//! See `fuzzing::vnet_virtio_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::vnet_virtio_ring::fuzz(data));
