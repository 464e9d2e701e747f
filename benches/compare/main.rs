//! Servers side by side on one machine, in turn, under the same load: programs that are named (any STAN server), JetStream of
//! the installed nats-server, and this build alone and with a standby. `scripts/compare` builds and runs it.
//! It judges nothing unless `--at-least` says what is too slow.

mod jetstream;
mod loads;
mod options;
#[path = "../figures/own_postgres.rs"]
mod own_postgres;
mod processes;
mod servers;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use loads::{LOADS, Load};
use options::Options;
use servers::{Contestant, Ground};
use table::{Run, Table};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let options = match Options::of_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}\n\n{}", options::USAGE);
            return Ok(ExitCode::from(2));
        }
    };
    let ground = Ground::start().await?;
    eprintln!("{}", ground.settings().await?);
    eprintln!("{}", machine("before"));
    let contestants = ground.contestants(&options).await?;
    let place = directory()?;
    let mut table = Table::default();
    for load in LOADS.iter().filter(|load| options.wants(load)) {
        for round in 1..=options.rounds {
            for contestant in &contestants {
                let found = Box::pin(contestant.run(load, options.count(load))).await;
                let found = found
                    .with_context(|| format!("{}: {}", contestant.name, ground.logs(contestant)))?;
                let run = Run::of(contestant, load, &found);
                eprintln!("round {round}: {}", run.line());
                keep(&place, contestant, load, &found)?;
                table.add(run);
            }
        }
    }
    eprintln!("{}", machine("after"));
    std::io::stdout().write_all(table.text().as_bytes())?;
    let failures = options
        .at_least
        .map(|ratio| table.below(ratio))
        .unwrap_or_default();
    for failure in &failures {
        eprintln!("{failure}");
    }
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn directory() -> anyhow::Result<PathBuf> {
    let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/compare");
    std::fs::create_dir_all(&place)?;
    let path = place.join("runs.json");
    if path.exists() {
        std::fs::rename(&path, place.join("runs-before.json"))?;
    }
    Ok(path)
}

/// One line per run: what `stanby bench --json` prints, with whose it is.
fn keep(path: &Path, contestant: &Contestant, load: &Load, found: &Value) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    let line = json!({ "server": contestant.name, "load": load.name, "run": found });
    writeln!(file, "{line}")?;
    Ok(())
}

/// What else ran decides much on a small machine.
fn machine(when: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!("{cores} cores, load average {when}: {}", load.join(" "))
}
