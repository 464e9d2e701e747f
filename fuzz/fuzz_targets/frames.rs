//! `cargo +nightly fuzz run frames`: the entry point that `tests/hostile` feeds from seeds.

#![no_main]

#[path = "../../tests/hostile/frames.rs"]
mod frames;
#[path = "../../tests/hostile/input.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| frames::feed(bytes));
