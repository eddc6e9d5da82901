#![no_main]

#[allow(dead_code, reason = "one target each")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::json(data));
