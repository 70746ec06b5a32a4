//! libFuzzer's way to the rules of `feedgate_fuzz::packument`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| feedgate_fuzz::packument::check(input));
