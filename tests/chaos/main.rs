//! Chaos on real processes: a group of servers with clients at work, faults of every kind, and a checker that judges
//! what was recorded against the tables. `scripts/chaos` runs single faults, given seeds, and for as long as one likes.

#[path = "../node/applications.rs"]
mod applications;
mod checks;
mod checks_notice;
mod clients;
mod copies;
mod database_faults;
mod disk;
mod faults;
mod ground;
mod history;
mod hostile;
mod log_pipe;
mod member;
mod nats_cluster;
mod nats_faults;
mod needs;
mod network_faults;
mod node_clients;
#[path = "../node/pair.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod pair;
mod patroni;
mod patroni_runs;
mod process_faults;
mod proxy;
mod read_faults;
mod refusal_faults;
#[path = "../simulation/rng.rs"]
mod rng;
mod runs;
#[path = "../clients/script.rs"]
#[expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]
mod script;
mod sql;
#[path = "../node/stan.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod stan;
#[path = "../support/mod.rs"]
mod support;
#[path = "../node/tables.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod tables;
#[path = "../node/watch.rs"]
mod watch;
mod world;
