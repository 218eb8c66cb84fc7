#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe_user::command::fuzz::parse("btf", bytes));
