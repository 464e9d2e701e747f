//! How long clients wait for acks when the active is killed, stopped, frozen or cut off, or Postgres restarts: a
//! hundred clients, six of them publishing all the time, in the world of `tests/chaos`, whose checker judges each run.
//! `scripts/figures takeover` builds and runs it.

mod figures;

#[path = "../../tests/chaos/checks.rs"]
mod checks;
#[path = "../../tests/chaos/clients.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod clients;
#[path = "../../tests/chaos/copies.rs"]
mod copies;
#[path = "../../tests/chaos/disk.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod disk;
#[path = "../../tests/chaos/ground.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod ground;
#[path = "../../tests/chaos/history.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod history;
#[path = "../../tests/chaos/log_pipe.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod log_pipe;
#[path = "../../tests/chaos/member.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod member;
#[path = "../../tests/chaos/nats_cluster.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod nats_cluster;
#[path = "../../tests/chaos/needs.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod needs;
#[path = "../../tests/node/pair.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod pair;
#[path = "../../tests/chaos/patroni.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod patroni;
#[path = "../../tests/chaos/proxy.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod proxy;
#[path = "../../tests/node/stan.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod stan;
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../figures/table.rs"]
mod table;
#[path = "../../tests/node/tables.rs"]
#[expect(dead_code, reason = "shared with the tests of nodes")]
mod tables;
#[path = "../../tests/node/watch.rs"]
mod watch;
#[path = "../../tests/chaos/world.rs"]
#[expect(dead_code, reason = "shared with the tests of chaos")]
mod world;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    Box::pin(figures::measure(
        &std::env::args().skip(1).collect::<Vec<_>>(),
    ))
    .await
}
