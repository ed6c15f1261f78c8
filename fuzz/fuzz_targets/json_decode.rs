//! See `fuzzing::json_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::json_decode::fuzz(data));
