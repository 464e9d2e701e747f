//! What a run comes to, as the part of docs/soak.md that tells of it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::facts::Counts;
use crate::samples::Sample;

pub(crate) struct Run<'a> {
    pub(crate) program: &'a str,
    pub(crate) lasts: Duration,
    pub(crate) postgres: &'a str,
    pub(crate) counts: &'a Counts,
    pub(crate) samples: &'a [Sample],
    /// Of the verdict.
    pub(crate) table: &'a str,
    pub(crate) wrong: &'a [String],
}

pub(crate) fn text(run: &Run<'_>) -> String {
    let counts = run.counts;
    let mut text = String::new();
    let mut paragraph = |line: String| {
        text += &line;
        text.push_str("\n\n");
    };
    paragraph(format!(
        "{} of {}, Postgres {} with `fsync`, {}.",
        length(run.lasts),
        first_line(run.program, &["version"]),
        run.postgres.split(' ').next().unwrap_or_default(),
        first_line("date", &["-u", "+%Y-%m-%d"]),
    ));
    paragraph(format!(
        "- Over NATS {} messages were published and acked, in SQL {} published and {} acked; {} deliveries, and {} again.\n\
         - {} takeovers, {} clients that came back, {} imports, {} refusals at limits, {} pages, {} events of live figures.\n\
         - All processes of the run together took {} of the machine's CPU time ({} cores, and others worked on it, too).",
        grouped(counts.acked),
        grouped(counts.published_in_sql),
        grouped(counts.acked_in_sql),
        grouped(counts.delivered),
        grouped(counts.delivered_again),
        grouped(counts.takeovers),
        grouped(counts.reconnects),
        grouped(counts.imports),
        grouped(counts.refusals),
        grouped(counts.pages),
        grouped(counts.live_events),
        share_of_machine(run),
        cores(),
    ));
    paragraph(if run.wrong.is_empty() {
        "Nothing was lost, nothing was stored twice, and nothing grew beyond its bound:".to_owned()
    } else {
        let sentences: Vec<String> = run.wrong.iter().map(|it| format!("- {it}\n")).collect();
        format!("What was wrong:\n\n{}", sentences.concat())
    });
    text + run.table
}

fn length(lasts: Duration) -> String {
    let minutes = lasts.as_secs() / 60;
    if minutes.is_multiple_of(60) && minutes > 0 {
        format!("{} hours", minutes / 60)
    } else {
        format!("{minutes} minutes")
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[expect(clippy::cast_precision_loss, reason = "cores are few")]
fn share_of_machine(run: &Run<'_>) -> String {
    let cpu = run.samples.last().map_or(0.0, |it| it.all_cpu_s);
    let most = run.lasts.as_secs_f64() * cores() as f64;
    format!("{:.0} %", cpu / most * 100.0)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        write!(text, "{digit}").unwrap();
    }
    text
}
