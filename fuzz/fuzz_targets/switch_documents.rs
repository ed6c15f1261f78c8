//! See `fuzzing::switch_documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::switch_documents::fuzz(data));
