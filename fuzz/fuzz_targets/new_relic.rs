#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| katonic_log_fuzz::new_relic(bytes));
