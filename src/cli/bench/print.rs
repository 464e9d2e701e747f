//! What a run found, as text.

use std::fmt::Write;

use super::result::{Ceiling, Database, Flow, Latency, Outcome, Settings, Usage};

pub(super) fn text(outcome: &Outcome) -> String {
    let mut lines = vec![title(&outcome.settings)];
    if outcome.interrupted {
        lines.push("interrupted: figures of what came until then".to_owned());
    }
    lines.push(flow("published", "ack", &outcome.publish));
    if let Some(deliver) = &outcome.deliver {
        lines.push(flow("delivered", "end to end", deliver));
        if outcome.redelivered > 0 {
            lines.push(format!(
                "              {} were redeliveries",
                outcome.redelivered
            ));
        }
    }
    lines.push(processes(&outcome.processes));
    if let Some(database) = &outcome.database {
        lines.push(stored(database));
    }
    if let Some(found) = &outcome.ceiling {
        lines.push(ceiling(found, outcome));
    }
    let machine = &outcome.machine;
    lines.push(format!(
        "machine       {} cores, load average {} before, {} after",
        machine.cores, machine.load_before, machine.load_after
    ));
    lines.join("\n")
}

/// One line that distinguishes a run from others.
pub(super) fn title(settings: &Settings) -> String {
    let mut title = format!(
        "{} x {} B, {}",
        settings.count,
        settings.size,
        many(settings.publishers, "publisher")
    );
    if settings.window == 1 {
        title.push_str(" (sync)");
    } else {
        write!(title, " (window {})", settings.window).expect("a string takes everything");
    }
    if settings.subscribers > 0 {
        let what = match (&settings.queue_group, settings.replay) {
            (Some(_), _) => "queue member",
            (None, true) => "replaying subscriber",
            (None, false) => "subscriber",
        };
        title.push_str(", ");
        title.push_str(&many(settings.subscribers, what));
    }
    if settings.channels > 1 {
        title.push_str(", ");
        title.push_str(&many(settings.channels, "channel"));
    }
    if settings.idle_clients > 0 {
        title.push_str(", ");
        title.push_str(&many(settings.idle_clients, "idle client"));
    }
    title
}

fn many(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

fn flow(verb: &str, what: &str, flow: &Flow) -> String {
    let mut text = format!(
        "{verb:<13} {:.0} msg/s, {} MB/s: {} in {} s",
        flow.per_second, flow.megabytes_per_second, flow.messages, flow.seconds
    );
    if let Some(found) = &flow.latency {
        write!(text, "\n  {what:<11} {}", latency(found)).expect("a string takes everything");
    }
    text
}

fn latency(latency: &Latency) -> String {
    let ms = |micros: f64| format!("{:.3}", micros / 1000.0);
    format!(
        "p50 {} ms, p90 {}, p99 {}, p99.9 {}, max {}",
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p999),
        ms(latency.max)
    )
}

fn processes(processes: &[Usage]) -> String {
    let mut lines = vec!["CPU           us/message   share   resident".to_owned()];
    for usage in processes {
        lines.push(format!(
            "  {:<16} {:>6.2} {:>6.1} % {:>6.1} MiB",
            usage.name,
            usage.cpu_per_message,
            usage.share * 100.0,
            usage.resident_mib
        ));
    }
    lines.join("\n")
}

fn stored(database: &Database) -> String {
    let mut text = format!(
        "WAL           {} bytes per message\nstored        {} acked, {} in the table",
        database.wal_bytes_per_message, database.acked, database.stored
    );
    if database.distinct != database.stored {
        write!(text, " ({} different)", database.distinct).expect("a string takes everything");
    }
    if database.sequences > database.stored {
        let dropped = database.sequences - database.stored;
        write!(text, ", {dropped} dropped by limits").expect("a string takes everything");
    }
    write!(
        text,
        ", {} commits of {} messages",
        database.commits, database.messages_per_commit
    )
    .expect("a string takes everything");
    text
}

fn ceiling(ceiling: &Ceiling, outcome: &Outcome) -> String {
    let of = |per_second: f64| {
        let reached = outcome.publish.per_second;
        let share = super::result::ratio(reached, per_second);
        format!("{:.0} %", share * 100.0)
    };
    let mut lines = vec![format!(
        "ceiling       {:.0} rows/s inserted in batches of {} ({} reached), {:.0} requests/s echoed by NATS ({} reached)",
        ceiling.inserts_per_second,
        ceiling.insert_batch,
        of(ceiling.inserts_per_second),
        ceiling.echoes_per_second,
        of(ceiling.echoes_per_second)
    )];
    let flows = [
        ("published", Some(&outcome.publish)),
        ("delivered", outcome.deliver.as_ref()),
    ];
    for (name, flow) in flows {
        if let Some(flow) = flow {
            let share = super::result::ratio(flow.per_second, ceiling.per_second);
            lines.push(format!(
                "  {name:<11} {:.0} % of the lower one",
                share * 100.0
            ));
        }
    }
    let commit = ceiling.commit.as_ref();
    let echo = ceiling.echo.as_ref();
    for (name, found) in [("commit", commit), ("echo", echo)] {
        if let Some(found) = found {
            lines.push(format!("  {name:<11} {}", latency(found)));
        }
    }
    lines.join("\n")
}
