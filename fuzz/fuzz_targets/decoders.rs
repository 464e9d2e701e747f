//! `cargo +nightly fuzz run decoders`: the entry point that `tests/hostile` feeds from seeds.

#![no_main]

#[path = "../../tests/hostile/decoders.rs"]
mod decoders;
#[path = "../../tests/hostile/input.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod input;
#[path = "../../tests/hostile/payloads.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod payloads;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoders::feed(bytes));
