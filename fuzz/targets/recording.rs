#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| iovascope::command::fuzz::parse("recording", bytes));
