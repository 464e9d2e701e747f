//! Servers under a load that breathes, for hours: takeovers, clients that come back, limits, imports, SQL, an open console. What grows
//! is sampled, drawn and judged. `scripts/soak HOURS` runs it.

mod beginnings;
mod browser;
mod events;
mod facts;
#[path = "../node/pair.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod pair;
#[path = "../../benches/figures/plot.rs"]
mod plot;
mod report;
mod run;
mod samples;
#[path = "../node/stan.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod stan;
#[path = "../node/stores.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod stores;
#[path = "../support/mod.rs"]
mod support;
#[path = "../node/tables.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod tables;
mod traffic;
mod verdict;
