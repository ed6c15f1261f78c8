//! See `fuzzing::vnet_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::vnet_packet::fuzz(data));
