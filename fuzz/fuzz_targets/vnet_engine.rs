//! See `fuzzing::vnet_engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::vnet_engine::fuzz(data));
