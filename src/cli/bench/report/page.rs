//! The page: what stands on it, in which order.

use std::collections::BTreeSet;

use super::plot::{Axis, Bar, Curve, bars, curves, escaped, legend, short};
use crate::cli::bench::print;
use crate::cli::bench::result::{Flow, Latency, Outcome, float, ratio};

const STYLE: &str = include_str!("page.css");

/// Latencies up to 99.999 %.
const PERCENTILE_DECADES: f64 = 5.0;

pub(super) fn page(runs: &[(String, Outcome)]) -> String {
    let mut body = vec![
        section("Rates", &rates(runs)),
        section(
            "Latency of publish acks",
            &latencies(runs, |run| run.publish.latency.as_ref()),
        ),
    ];
    if runs.iter().any(|(_, run)| run.deliver.is_some()) {
        let found = latencies(runs, deliver_latency);
        body.push(section("Latency from publish to delivery", &found));
    }
    body.push(section("Rate over time", &timelines(runs)));
    body.push(section("CPU per message", &cpu(runs)));
    body.push(section("Figures", &figures(runs)));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>stanby bench</title>\
         <style>{STYLE}</style></head><body><h1>stanby bench</h1>{}</body></html>",
        body.concat()
    )
}

fn deliver_latency(run: &Outcome) -> Option<&Latency> {
    run.deliver.as_ref()?.latency.as_ref()
}

fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{}</h2>{content}</section>", escaped(title))
}

fn rates(runs: &[(String, Outcome)]) -> String {
    let mut rows = Vec::new();
    for (name, run) in runs {
        let ceiling = run.ceiling.as_ref().map(|ceiling| ceiling.per_second);
        let mut row = |colour: usize, what: &str, flow: &Flow, ceiling: Option<f64>| {
            let share = ceiling.map_or_else(String::new, |ceiling| {
                let share = ratio(flow.per_second, ceiling) * 100.0;
                format!(", {share:.0} % of {}/s", short(ceiling))
            });
            rows.push(Bar {
                name: format!("{name}, {what}"),
                parts: vec![(colour, flow.per_second, print::title(&run.settings))],
                note: format!("{}/s{share}", short(flow.per_second)),
                mark: ceiling.map(|ceiling| (ceiling, "the lower ceiling".to_owned())),
            });
        };
        row(0, "published", &run.publish, ceiling);
        if let Some(flow) = &run.deliver {
            row(1, "delivered", flow, None);
        }
    }
    let text = "Messages per second. A line marks the lower of the two ceilings, where they were measured: what Postgres \
                takes and what NATS echoes without a server in between.";
    format!("{}<p>{text}</p>", bars(&rows))
}

fn latencies<'a>(
    runs: &'a [(String, Outcome)],
    latency: impl Fn(&'a Outcome) -> Option<&'a Latency>,
) -> String {
    let found = runs.iter().enumerate();
    let found = found.filter_map(|(number, (name, run))| Some((number, name, latency(run)?)));
    distribution(found.collect())
}

/// One curve per run: which share of the messages took no longer.
fn distribution(found: Vec<(usize, &String, &Latency)>) -> String {
    if found.is_empty() {
        return "<p>Nothing was measured.</p>".to_owned();
    }
    let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
    let mut lines = Vec::new();
    for (colour, name, latency) in found {
        let all: u64 = latency.histogram.iter().map(|(_, count)| count).sum();
        let mut seen = 0;
        let mut points = Vec::with_capacity(latency.histogram.len());
        for (micros, count) in &latency.histogram {
            let y = micros.max(1.0).log10();
            let left = |seen: u64| 1.0 - float(seen) / float(all);
            points.push((decades(left(seen)), y));
            seen += count;
            points.push((decades(left(seen)), y));
            lowest = lowest.min(y);
            highest = highest.max(y);
        }
        lines.push(Curve {
            name: name.clone(),
            colour,
            points,
        });
    }
    let marks = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let marks = (0..).map(f64::from).zip(marks.map(str::to_owned));
    let x = Axis {
        title: "of the messages took no longer",
        from: 0.0,
        to: PERCENTILE_DECADES,
        marks: marks.collect(),
    };
    let milliseconds = |micros: f64| format!("{} ms", micros / 1000.0);
    let y = Axis::logarithmic("", lowest, highest, milliseconds);
    curves(&x, &y, &lines)
}

/// 0 for all that is left, 1 for a tenth, 2 for a hundredth.
fn decades(left: f64) -> f64 {
    if left <= 0.0 {
        PERCENTILE_DECADES
    } else {
        (-left.log10()).clamp(0.0, PERCENTILE_DECADES)
    }
}

fn timelines(runs: &[(String, Outcome)]) -> String {
    let mut lines = Vec::new();
    for (name, run) in runs {
        let flows = [
            ("published", Some(&run.publish)),
            ("delivered", run.deliver.as_ref()),
        ];
        for (what, flow) in flows {
            if let Some(flow) = flow {
                lines.push(Curve {
                    name: format!("{name}, {what}"),
                    colour: lines.len(),
                    points: timeline(flow),
                });
            }
        }
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let longest = all().map(|(seconds, _)| *seconds).fold(0.1, f64::max);
    let highest = all().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let x = Axis::linear("seconds", longest);
    let y = Axis::linear("messages/s", highest * 1.05);
    curves(&x, &y, &lines)
}

/// Rates, over several steps at once where the line would have more points than the page has dots.
fn timeline(flow: &Flow) -> Vec<(f64, f64)> {
    const POINTS_MAX: usize = 400;
    let width = flow.timeline.len().div_ceil(POINTS_MAX).max(1);
    let step = flow.timeline_step_seconds;
    let mut at = 0.0;
    let mut points = Vec::new();
    for steps in flow.timeline.chunks(width) {
        let messages: u64 = steps.iter().sum();
        let seconds = float(steps.len() as u64) * step;
        let rate = float(messages) / seconds;
        points.push((at, rate));
        at += seconds;
        points.push((at, rate));
    }
    points
}

fn cpu(runs: &[(String, Outcome)]) -> String {
    let names: BTreeSet<&str> = runs
        .iter()
        .flat_map(|(_, run)| &run.processes)
        .map(|usage| usage.name.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let colour = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let row = |(name, run): &(String, Outcome)| {
        let sum: f64 = run
            .processes
            .iter()
            .map(|usage| usage.cpu_per_message)
            .sum();
        let parts = run.processes.iter().map(|usage| {
            let what = format!("{}: {} µs", usage.name, usage.cpu_per_message);
            (colour(&usage.name), usage.cpu_per_message, what)
        });
        Bar {
            name: name.clone(),
            parts: parts.collect(),
            note: format!("{sum:.1} µs"),
            mark: None,
        }
    };
    let rows: Vec<Bar> = runs.iter().map(row).collect();
    bars(&rows) + &legend(names.into_iter().enumerate())
}

fn figures(runs: &[(String, Outcome)]) -> String {
    let mut rows = String::new();
    for (name, run) in runs {
        let ms = |latency: Option<&Latency>, of: fn(&Latency) -> f64| {
            latency.map_or_else(
                || "-".to_owned(),
                |found| format!("{:.2}", of(found) / 1000.0),
            )
        };
        let ack = run.publish.latency.as_ref();
        let delivery = deliver_latency(run);
        let rate = |flow: Option<&Flow>| {
            flow.map_or_else(|| "-".to_owned(), |flow| format!("{:.0}", flow.per_second))
        };
        let database = run.database.as_ref();
        let cells = [
            name.clone(),
            run.at.clone(),
            print::title(&run.settings),
            rate(Some(&run.publish)),
            rate(run.deliver.as_ref()),
            ms(ack, |found| found.p50),
            ms(ack, |found| found.p99),
            ms(delivery, |found| found.p50),
            ms(delivery, |found| found.p99),
            database.map_or_else(
                || "-".to_owned(),
                |found| format!("{:.0}", found.wal_bytes_per_message),
            ),
            run.ceiling.as_ref().map_or_else(
                || "-".to_owned(),
                |found| format!("{:.0} %", found.share * 100.0),
            ),
            format!("{} / {}", run.machine.load_before, run.machine.load_after),
        ];
        rows.push_str("<tr>");
        for cell in cells {
            rows.push_str("<td>");
            rows.push_str(&escaped(&cell));
            rows.push_str("</td>");
        }
        rows.push_str("</tr>");
    }
    let heads = [
        "run",
        "at",
        "what",
        "published/s",
        "delivered/s",
        "ack p50 ms",
        "ack p99 ms",
        "delivery p50 ms",
        "delivery p99 ms",
        "WAL B/message",
        "of the ceiling",
        "load before / after",
    ];
    let heads: String = heads.map(|head| format!("<th>{head}</th>")).concat();
    format!("<div class=\"wide\"><table><tr>{heads}</tr>{rows}</table></div>")
}
