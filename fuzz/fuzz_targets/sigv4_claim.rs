//! See `fuzzing::sigv4_claim`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::sigv4_claim::fuzz(data));
