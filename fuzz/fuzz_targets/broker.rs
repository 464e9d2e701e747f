//! `cargo +nightly fuzz run broker`: the entry point that `tests/hostile` feeds from seeds.

#![no_main]

#[path = "../../tests/hostile/facts.rs"]
mod facts;
#[path = "../../tests/hostile/input.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod input;
#[path = "../../tests/hostile/life.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod life;
#[path = "../../tests/support/memory_store.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod memory_store;
#[path = "../../tests/hostile/payloads.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod payloads;
#[path = "../../tests/hostile/pools.rs"]
mod pools;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    life::play(bytes);
});
