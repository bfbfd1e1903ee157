#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| signaling::fuzz::run("signal_request", data));
