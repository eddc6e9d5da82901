#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::soak::fuzz::feed("request", data));
