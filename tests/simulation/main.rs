//! Seeded worlds: the real core on several nodes, with a database, a NATS and clients that fail in every way
//! that a seed can think of, and checkers that say which promise was broken. `SEED=7 cargo test --test
//! simulation one_seed -- --nocapture` replays a seed (`SIM_TRACE=1` prints all of it); `SIM_SEEDS=100000`
//! looks for new ones.

#[path = "../support/memory_store.rs"]
mod memory_store;

mod checks;
mod client;
mod database;
mod faults;
mod nats;
mod node;
mod plan;
mod rng;
mod world;

use plan::Sabotage;
use world::World;

/// Seeds that once showed a mistake, with what they showed.
const FOUND: &[(u64, &str)] = &[];

fn run(seed: u64) {
    if let Err(failure) = World::new(seed, None).run() {
        panic!("{failure}");
    }
}

#[test]
#[ignore]
fn survey() {
    let from = number("FROM").unwrap_or(0);
    let mut kinds = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for seed in from..from + number("SIM_SEEDS").unwrap_or(200) {
        let result = std::panic::catch_unwind(|| World::new(seed, None).run());
        let kind = match result {
            Ok(Ok(_)) => "ok".to_owned(),
            Ok(Err(f)) => f
                .fact
                .split(':')
                .next()
                .unwrap()
                .split(" to inbox")
                .next()
                .unwrap()
                .to_owned(),
            Err(p) => format!("panic {:?}", p.downcast_ref::<String>()),
        };
        kinds.entry(kind).or_default().push(seed);
    }
    for (k, v) in kinds {
        eprintln!("SURVEY {} {k}: {:?}", v.len(), &v[..v.len().min(8)]);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

#[test]
fn one_seed() {
    run(number("SEED").unwrap_or(1));
}

#[test]
fn fixed_seeds_hold() {
    for seed in 0..200 {
        run(seed);
    }
}
