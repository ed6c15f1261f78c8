//! See `fuzzing::qmp_reader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::qmp_reader::fuzz(data));
