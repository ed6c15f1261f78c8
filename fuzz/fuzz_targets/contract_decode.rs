//! See `fuzzing::contract_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::contract_decode::fuzz(data));
