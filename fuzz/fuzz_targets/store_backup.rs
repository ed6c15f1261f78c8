//! See `fuzzing::store_backup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::store_backup::fuzz(data));
