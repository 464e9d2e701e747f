//! Hostile input by the million. A short share runs with every `cargo test`;
//! `HOSTILE_INPUTS=10000000 cargo test --release --test hostile -- --nocapture` is a long one, from the seed after
//! `HOSTILE_SEED`. The same entry points are the targets of `cargo fuzz` under `fuzz/`.

#[expect(dead_code, reason = "others ask more of it")]
#[path = "../support/memory_store.rs"]
mod memory_store;

mod config;
mod crowds;
mod decoders;
mod facts;
mod floods;
mod found;
mod frames;
mod hoards;
mod input;
mod life;
mod payloads;
mod pools;
mod sparse_acks;

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use input::bytes_of;

/// Of one payload, and of one life.
const PAYLOAD_BYTES: usize = 600;
const LIFE_BYTES: usize = 3000;

/// Where a panic shows all that is wrong, a few of them say more than the first.
const PANICS_MAX: u64 = 5;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Feeds seed after seed until enough inputs were made of them.
fn run(what: &str, short: u64, length: usize, feed: fn(&[u8]) -> u64) {
    let wanted = number("HOSTILE_INPUTS").unwrap_or(short);
    let mut seed = number("HOSTILE_SEED").unwrap_or(0);
    let (mut inputs, mut panics) = (0, 0);
    while inputs < wanted && panics < PANICS_MAX {
        seed += 1;
        if let Ok(fed) = catch_unwind(|| feed(&bytes_of(seed, length))) {
            inputs += fed;
        } else {
            panics += 1;
            eprintln!("{what}: seed {seed} ended in a panic");
        }
    }
    eprintln!("{what}: {inputs} inputs of {seed} seeds, panics: {panics}");
    assert_eq!(panics, 0);
}

#[test]
fn decoders_understand_refuse_or_drop_any_payload() {
    run("decoders", 20_000, PAYLOAD_BYTES, |bytes| {
        decoders::feed(bytes);
        1
    });
}

#[test]
fn what_a_nats_server_says_is_frames_or_an_error_however_it_is_cut() {
    run("frames", 20_000, PAYLOAD_BYTES, |bytes| {
        frames::feed(bytes);
        1
    });
}

#[test]
fn configuration_files_are_understood_or_refused_whatever_is_in_them() {
    run("config", 10_000, PAYLOAD_BYTES, |bytes| {
        config::feed(bytes);
        1
    });
}

#[test]
fn a_broker_holds_its_facts_whatever_happens_to_it() {
    run("broker", 20_000, LIFE_BYTES, |bytes| {
        life::play(bytes).inputs
    });
}

#[test]
fn a_few_lives_see_every_kind_of_message_leave() {
    let mut seen = BTreeSet::new();
    for seed in 1..=30 {
        seen.extend(life::play(&bytes_of(seed, LIFE_BYTES)).seen);
    }

    let kinds = [
        "client closed",
        "close refused",
        "connect refused",
        "connected",
        "delivery",
        "leave refused",
        "left",
        "ping refused",
        "pong",
        "probe",
        "publish refused",
        "published",
        "redelivery",
        "stored earlier",
        "subscribe refused",
        "subscribed",
    ];
    assert!(seen.iter().eq(&kinds), "{seen:?}");
}
