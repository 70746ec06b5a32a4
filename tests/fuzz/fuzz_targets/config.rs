//! libFuzzer's way to the rules of `feedgate_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| feedgate_fuzz::config::check(input));
