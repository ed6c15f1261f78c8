//! See `fuzzing::vnet_service`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::vnet_service::fuzz(data));
