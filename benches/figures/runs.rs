//! Runs of `stanby bench`, whose JSON is kept for `stanby bench report`.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::ground::Ground;
use crate::table::Table;

const LIMIT: Duration = Duration::from_mins(15);

/// How much is measured: `FIGURES_QUICK=1` is for trying whether everything works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    divisor: u64,
}

impl Effort {
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        let rounds = std::env::var("FIGURES_ROUNDS").ok();
        let rounds = rounds.map(|rounds| rounds.parse::<usize>());
        let rounds = rounds
            .transpose()
            .context("FIGURES_ROUNDS wants a number")?;
        let quick = std::env::var_os("FIGURES_QUICK").is_some();
        Ok(Self {
            rounds: rounds.unwrap_or(if quick { 1 } else { 5 }).max(1),
            divisor: if quick { 10 } else { 1 },
        })
    }

    pub(crate) fn count(self, messages: u64) -> u64 {
        messages / self.divisor
    }
}

/// Whom to load.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) ground: &'a Ground,
    /// Of the servers, and the name of their database.
    pub(crate) cluster_id: &'a str,
}

impl Target<'_> {
    fn command(self, flags: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
        command
            .args(["bench", "--json", "--local"])
            .args(["--nats-server", &self.ground.nats_url()])
            .args(["--cluster-id", self.cluster_id])
            .args(["--database-url", &self.ground.database_url(self.cluster_id)])
            .args(flags)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// One run, to its end. Fails unless every acked message is in the table, once.
    pub(crate) async fn run(self, name: &str, flags: &[String]) -> anyhow::Result<Value> {
        let output = timeout(LIMIT, self.command(flags).output()).await;
        let output = output.with_context(|| format!("{name}: no end after {LIMIT:?}"))??;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: stanby bench: {errors}");
        let found: Value = serde_json::from_slice(&output.stdout)?;
        let database = &found["database"];
        for count in ["sequences", "distinct", "stored"] {
            ensure!(database[count] == database["acked"], "{name}: {database}");
        }
        keep(name, &output.stdout)?;
        Ok(found)
    }

    /// One that goes on until it is interrupted.
    pub(crate) fn spawn(self, flags: &[String]) -> anyhow::Result<tokio::process::Child> {
        let mut command = self.command(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }
}

/// Where the JSON of the runs is, one line each.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/figures")
}

fn keep(name: &str, json: &[u8]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory())?;
    let path = directory().join(name).with_extension("json");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?;
    Ok(file.write_all(json)?)
}

/// Makes room for the JSON of these runs.
pub(crate) fn forget(name: &str) {
    std::fs::remove_file(directory().join(name).with_extension("json")).ok();
}

pub(crate) fn number(found: &Value, path: &[&str]) -> Option<f64> {
    let at = path.iter().try_fold(found, |value, key| value.get(key))?;
    at.as_f64()
}

/// A row of the table from one figure of each run; none where no run has it. Returns the median.
pub(crate) fn row(
    table: &mut Table,
    runs: &[Value],
    what: &str,
    unit: &str,
    path: &[&str],
) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|run| number(run, path)).collect();
    table.row(what, unit, &values)
}

/// As [`row`], for times, which runs give in microseconds.
pub(crate) fn row_ms(table: &mut Table, runs: &[Value], what: &str, path: &[&str]) {
    let values = runs.iter().filter_map(|run| number(run, path));
    let values: Vec<f64> = values.map(|micros| micros / 1000.0).collect();
    table.row(what, "ms", &values);
}

/// What a process took per message.
pub(crate) fn cpu(table: &mut Table, runs: &[Value], what: &str) {
    const NAMES: [&str; 5] = [
        "stanby active",
        "stanby standby",
        "nats-server",
        "postgres",
        "stanby bench",
    ];
    for name in NAMES {
        let values = runs
            .iter()
            .filter_map(|run| usage(run, name, "cpu_per_message"));
        let values: Vec<f64> = values.collect();
        table.row(&format!("{what}: CPU of {name}"), "us/msg", &values);
    }
}

/// A figure of the process of that name.
pub(crate) fn usage(found: &Value, name: &str, figure: &str) -> Option<f64> {
    let processes = found["processes"].as_array()?;
    let usage = processes.iter().find(|usage| usage["name"] == name)?;
    usage[figure].as_f64()
}

pub(crate) fn flags(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
