//! libFuzzer's way to the rules of `feedgate_fuzz::route`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| feedgate_fuzz::route::check(input));
