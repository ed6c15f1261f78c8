//! See `fuzzing::vnet_vhost_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::vnet_vhost_message::fuzz(data));
