//! What all runs found, as one table: medians, and ratios to this build with its standby.

use std::fmt::Write;

use serde_json::Value;

use crate::loads::Load;
use crate::servers::Contestant;

type Rate = fn(&Row<'_>) -> Option<f64>;

/// The contestant that the ratios are about.
pub(crate) const THIS: &str = "this stanby, with standby";

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    server: String,
    /// Only what was given by name is compared with by `--at-least`.
    is_named: bool,
    load: &'static str,
    published: f64,
    delivered: Option<f64>,
    /// Of publishes that wait for their acks one by one, in microseconds.
    latency: Option<(f64, f64)>,
    /// Microseconds per message of each process.
    cpu: Vec<(String, f64)>,
}

impl Run {
    pub(crate) fn of(contestant: &Contestant, load: &'static Load, found: &Value) -> Self {
        let number = |path: &str| found.pointer(path).and_then(Value::as_f64);
        let processes = found["processes"].as_array();
        let cpu = processes.into_iter().flatten().map(|process| {
            let pid = process["pid"].as_u64();
            let named = contestant.processes.iter();
            let named = named.clone().find(|(_, its)| Some(u64::from(*its)) == pid);
            let name = named.map_or("load", |(name, _)| name);
            let micros = process["cpu_per_message"].as_f64().unwrap_or(0.0);
            (name.to_owned(), micros)
        });
        let latency = number("/publish/latency/p50").zip(number("/publish/latency/p99"));
        Self {
            server: contestant.name.clone(),
            is_named: contestant.is_named,
            load: load.what,
            published: number("/publish/per_second").unwrap_or(0.0),
            delivered: number("/deliver/per_second"),
            latency: latency.filter(|_| load.window == 1),
            cpu: cpu.collect(),
        }
    }

    /// For whoever waits.
    pub(crate) fn line(&self) -> String {
        let delivered = self
            .delivered
            .map(|rate| format!(", {rate:.0} delivered/s"));
        format!(
            "{}: {}: {:.0}/s{}",
            self.load,
            self.server,
            self.published,
            delivered.unwrap_or_default()
        )
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    runs: Vec<Run>,
}

/// All runs of a load on a server.
struct Row<'a> {
    load: &'a str,
    server: &'a str,
    is_named: bool,
    runs: Vec<&'a Run>,
}

impl Table {
    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for run in &self.runs {
            let known = rows
                .iter_mut()
                .find(|row| row.load == run.load && row.server == run.server);
            if let Some(row) = known {
                row.runs.push(run);
                continue;
            }
            rows.push(Row {
                load: run.load,
                server: &run.server,
                is_named: run.is_named,
                runs: vec![run],
            });
        }
        rows
    }

    /// A row per load and server; in brackets, how many times the rate of that server this one has.
    pub(crate) fn text(&self) -> String {
        let rows = self.rows();
        let mut text = String::from(
            "| load | server | published/s (lowest–highest) | this ÷ it | delivered/s | this ÷ it | one at a time: p50, p99 ms | CPU µs per message | together |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &rows {
            let this = rows
                .iter()
                .find(|other| other.load == row.load && other.server == THIS);
            let ratio = |of: fn(&Row<'_>) -> Option<f64>| {
                let ratio = this.and_then(of).zip(of(row)).map(|(this, it)| this / it);
                ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
            };
            let rates: Vec<f64> = row.runs.iter().map(|run| run.published).collect();
            let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let high = rates.iter().copied().fold(0.0, f64::max);
            let deliveries = delivered(row).map(thousands).unwrap_or_default();
            let latency = row
                .latency()
                .map(|(p50, p99)| format!("{:.2}, {:.2}", p50 / 1000.0, p99 / 1000.0));
            let cpu = row.cpu();
            let each: Vec<String> = cpu
                .iter()
                .map(|(name, micros)| format!("{name} {micros:.1}"))
                .collect();
            let all: f64 = cpu.iter().map(|(_, micros)| micros).sum();
            writeln!(
                text,
                "| {} | {} | {} ({}–{}) | {} | {deliveries} | {} | {} | {} | {all:.1} |",
                row.load,
                row.server,
                thousands(published(row).unwrap_or(0.0)),
                thousands(low),
                thousands(high),
                ratio(published),
                ratio(delivered),
                latency.unwrap_or_default(),
                each.join(", "),
            )
            .expect("a string takes everything");
        }
        text
    }

    /// Where this build has less than `least` times the rate of a named program, a sentence each.
    pub(crate) fn below(&self, least: f64) -> Vec<String> {
        let rows = self.rows();
        let mut failures = Vec::new();
        for row in rows.iter().filter(|row| row.is_named) {
            let this = rows
                .iter()
                .find(|other| other.load == row.load && other.server == THIS);
            let rates: [(&str, Rate); 2] = [("published", published), ("delivered", delivered)];
            for (what, of) in rates {
                let ratio = this.and_then(of).zip(of(row)).map(|(this, it)| this / it);
                if let Some(ratio) = ratio.filter(|&ratio| ratio < least) {
                    failures.push(format!(
                        "{}, {what}: {ratio:.2} times the rate of {}, not {least}",
                        row.load, row.server
                    ));
                }
            }
        }
        failures
    }
}

fn published(row: &Row<'_>) -> Option<f64> {
    median(row.runs.iter().map(|run| run.published).collect())
}

fn delivered(row: &Row<'_>) -> Option<f64> {
    median(row.runs.iter().filter_map(|run| run.delivered).collect())
}

impl Row<'_> {
    fn latency(&self) -> Option<(f64, f64)> {
        let found: Vec<_> = self.runs.iter().filter_map(|run| run.latency).collect();
        let p50 = median(found.iter().map(|(p50, _)| *p50).collect());
        p50.zip(median(found.iter().map(|(_, p99)| *p99).collect()))
    }

    fn cpu(&self) -> Vec<(&str, f64)> {
        let first = self.runs.first().map(|run| run.cpu.as_slice());
        let names = first
            .unwrap_or_default()
            .iter()
            .map(|(name, _)| name.as_str());
        names
            .map(|name| {
                let each = self.runs.iter().flat_map(|run| &run.cpu);
                let each = each
                    .filter(|(its, _)| its == name)
                    .map(|(_, micros)| *micros);
                (name, median(each.collect()).unwrap_or(0.0))
            })
            .collect()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[values.len() / 2 - 1], upper))
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
