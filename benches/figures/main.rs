//! Figures that anyone can reproduce: how much goes through, how that changes when things grow, what the tables take,
//! what much state costs, and how fast a file store of nats-streaming-server comes over. How long takeovers take is measured in `benches/takeover`.
//! `scripts/figures` builds and runs it. It judges nothing; tests do.

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../../tests/clients/pair.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests of the clients"
)]
mod pair;

mod ground;
mod growth;
mod import;
mod mirror;
mod own_postgres;
mod plot;
mod runs;
mod scale;
mod storage;
mod table;
mod throughput;

use std::process::ExitCode;

use ground::Ground;
use runs::Effort;
use table::Table;

const ALL: [&str; 6] = [
    "throughput",
    "growth",
    "storage",
    "scale",
    "import",
    "mirror",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|name| name == what);
    if let Some(other) = wanted.iter().find(|name| !ALL.contains(&name.as_str())) {
        eprintln!("there are no figures called {other:?}: {}", ALL.join(", "));
        return Ok(ExitCode::from(2));
    }

    let effort = Effort::of_environment()?;
    let ground = Ground::start().await?;
    let mut table = Table::default();
    table.line(&machine("before"));
    table.line(&ground.settings().await?);
    table.head();
    if wants("throughput") {
        throughput::measure(&ground, effort, &mut table).await?;
    }
    if wants("growth") {
        growth::measure(&ground, effort, &mut table).await?;
    }
    if wants("storage") {
        storage::measure(&ground, effort, &mut table).await?;
    }
    if wants("scale") {
        scale::measure(&ground, &mut table).await?;
    }
    if wants("import") {
        import::measure(&ground, effort, &mut table).await?;
    }
    if wants("mirror") {
        mirror::measure(&ground, effort, &mut table).await?;
    }
    table.line(&machine("after"));
    let mut output = std::io::stdout();
    std::io::Write::write_all(&mut output, table.text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What else ran decides much on a small machine.
fn machine(when: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!("{cores} cores, load average {when}: {}", load.join(" "))
}
