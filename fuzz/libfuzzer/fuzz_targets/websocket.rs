//! `websocket` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fanfare_fuzz::targets::run("websocket", bytes);
});
