//! `stanby status`: reads the tables, so that it answers with or without a server.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::failure::Failure;
use super::output;
use super::show::{Column, Grid, bytes, duration, or_dash, shown, width, wrapped};
use super::signals::Signals;
use crate::config::TablesFlags;
use crate::config::duration::GoDuration;
use crate::store::status::{
    Channel, Client, Durable, EncryptionReport, LastTakeover, ROWS_MAX, Report, Standby, Unreadable,
};
use crate::store::{Error, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

const WATCH_MIN: Duration = Duration::from_millis(200);

/// What stands before each line of the summary.
const LABEL: usize = "encrypted ".len();

/// Channels that are named in one line.
const SERVED_MAX: usize = 20;

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Again and again, until Ctrl-C
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    watch: Option<GoDuration>,

    /// Only channels, durables and clients in whose names this is
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Only what is behind or does not answer
    #[arg(long)]
    problems: bool,

    #[command(flatten)]
    tables: TablesFlags,
}

pub async fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let (url, schema) = args.tables.read()?;
    let mut signals = Signals::listen()?;
    let store = Store::open(&url, &schema, "stanby/status", STATEMENT_TIMEOUT);
    let work = async {
        let Some(every) = &args.watch else {
            return args.print(store.report().await.map_err(read_failure)?);
        };
        let mut ticks = interval(every.to_std().max(WATCH_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !args.json && io::stdout().is_terminal() {
                // To the top, and nothing below.
                output::line("\u{1b}[H\u{1b}[2J\u{1b}[3J")?;
            }
            // A database that is away comes back.
            match store.report().await {
                Ok(report) => args.print(report)?,
                Err(error) => output::line(&shown(&error.to_string()))?,
            }
        }
    };
    let done = tokio::select! {
        done = signals.unless_stopped(work) => done,
        gone = output::reader_gone() => return Err(gone),
    };
    store.close().await;
    match done {
        Ok(done) => done.map(|()| ExitCode::SUCCESS),
        Err(stop) => Ok(stop.code()),
    }
}

impl StatusArgs {
    fn print(&self, mut report: Report) -> Result<(), Failure> {
        let has = |names: &[Option<&String>]| {
            let filter = self.filter.as_str();
            filter.is_empty() || names.iter().flatten().any(|name| name.contains(filter))
        };
        report
            .channels
            .retain(|it| has(&[Some(&it.name)]) && (!self.problems || it.furthest_behind > 0));
        report.durables.retain(|it| {
            has(&[
                Some(&it.durable_name),
                Some(&it.channel),
                it.queue_group.as_ref(),
                it.clients.as_ref(),
            ]) && (!self.problems || it.lag > 0)
        });
        report.clients.retain(|it| {
            has(&[Some(&it.client_id)]) && (!self.problems || it.missed_heartbeats > 0)
        });
        report.unreadable.retain(|it| has(&[Some(&it.channel)]));
        if self.json {
            output::json(&report)
        } else {
            output::line(&text(&report))
        }
    }
}

/// What it means for a command that the tables cannot be read.
pub(super) fn read_failure(error: Error) -> Failure {
    match error {
        Error::Unavailable(_) => Failure::Unreachable(error.into()),
        // As by `stanby doctor`: the URL is the wrong one.
        Error::Pooler(_) => Failure::Usage(error.into()),
        Error::Refused(_)
        | Error::OtherCluster(_)
        | Error::Key(_)
        | Error::Corrupt { .. }
        | Error::NotStored { .. }
        | Error::Failed(_) => Failure::Failed(error.into()),
    }
}

fn text(report: &Report) -> String {
    let mut parts = vec![summary(report)];
    if !report.channels.is_empty() {
        parts.push(channels(&report.channels));
    }
    if !report.durables.is_empty() {
        parts.push(durables(&report.durables));
    }
    if !report.clients.is_empty() {
        parts.push(clients(&report.clients));
    }
    if !report.unreadable.is_empty() {
        parts.push(unreadable(&report.unreadable));
    }
    parts.join("\n\n")
}

fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let cluster_id = match report.cluster_id.as_str() {
        "" => "none yet".to_owned(),
        id => shown(id),
    };
    let mut lines = vec![
        format!("cluster   {cluster_id} (schema {})", shown(&report.schema)),
        format!("active    {}", active(report)),
    ];
    if let Some(channels) = &report.serves {
        lines.insert(1, format!("serves    {}", serves(channels)));
    }
    if report.standbys.is_empty() {
        lines.push("standby   none: if the active fails, no server takes over".to_owned());
    }
    for standby in &report.standbys {
        lines.push(format!("standby   {}", waiting(standby)));
    }
    if let Some(takeover) = &report.last_takeover {
        lines.push(format!("takeover  {}", taken_over(takeover)));
    }
    if let Some(stranger) = &report.stranger {
        lines.push(format!("wrong     {}", shown(&stranger.to_string())));
    }
    for condition in &report.conditions {
        let since = or_dash(condition.since.as_deref());
        let (kind, reason) = (shown(&condition.kind), shown(&condition.reason));
        lines.push(format!("wrong     {kind} since {since}: {reason}"));
    }
    if !report.unread.is_empty() {
        let unread = report.unread.join(", ");
        lines.push(format!(
            "wrong     cannot be read, because another transaction holds a lock: {unread}"
        ));
    }
    lines.push(format!(
        "amounts   messages {} (bytes {}), channels {}, clients {}, subscriptions {}, durables {}",
        counts.messages,
        counts.bytes,
        counts.channels,
        counts.clients,
        counts.subscriptions,
        counts.durables
    ));
    lines.push(format!(
        "encrypted {}",
        encrypted(report.encryption.as_ref())
    ));
    let lines = lines.iter().map(|line| wrapped(line, LABEL));
    lines.collect::<Vec<_>>().join("\n")
}

/// By its server ID, as the active gets it, and as logs and takeovers name it.
fn waiting(standby: &Standby) -> String {
    let id = standby.name.rsplit('/').next().unwrap_or_default();
    let address = standby.address.as_deref();
    let address = address.map(|address| format!(" at {}", shown(address)));
    let since = standby.connected_since.as_deref().unwrap_or("-");
    format!(
        "{}{}, since {since}",
        shown(id),
        address.unwrap_or_default()
    )
}

/// Why there was one, and what clients noticed of it.
fn taken_over(takeover: &LastTakeover) -> String {
    let LastTakeover {
        epoch, at, from, ..
    } = takeover;
    let mut parts = vec![format!("epoch {epoch} at {}", or_dash(at.as_deref()))];
    if let Some(from) = from {
        parts.push(format!("from {}", shown(from)));
    }
    if let (Some(cause), Some(detail)) = (&takeover.cause, &takeover.detail) {
        parts.push(format!("{}: {}", shown(cause), shown(detail)));
    }
    if let Some(silence) = takeover.silence_ms {
        parts.push(format!("clients waited {silence} ms"));
    }
    if let Some(count @ 1..) = takeover.answered_from_memory {
        parts.push(format!("answered from memory: {count}"));
    }
    parts.join("; ")
}

fn encrypted(report: Option<&EncryptionReport>) -> String {
    let Some(report) = report else {
        return "no".to_owned();
    };
    let writing = match &report.writes_with {
        Some(key) => {
            let since = or_dash(key.first_used_at.as_deref());
            format!(
                "yes, with key {} ({}) since {since}",
                key.number,
                shown(&key.cipher)
            )
        }
        None => "no longer; what was encrypted still needs its key".to_owned(),
    };
    let others = report.keys - i64::from(report.writes_with.is_some());
    let others = match others {
        0 => String::new(),
        _ if report.writes_with.is_none() => format!("; keys needed to read: {others}"),
        _ => format!("; other keys needed to read: {others}"),
    };
    let plain = match report.plain_messages {
        Some(0) => "no message stands there unencrypted".to_owned(),
        Some(count) => format!("{count} messages stand there unencrypted"),
        None => {
            "messages that stand there unencrypted: too many to count within a second".to_owned()
        }
    };
    format!("{writing}{others}; {plain}")
}

fn serves(channels: &[String]) -> String {
    let names = channels
        .iter()
        .take(SERVED_MAX)
        .map(|channel| shown(channel));
    let names = names.collect::<Vec<_>>().join(", ");
    match channels.len().saturating_sub(SERVED_MAX) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn active(report: &Report) -> String {
    let Some(active) = &report.active else {
        return "none yet".to_owned();
    };
    let host = active
        .host
        .as_deref()
        .map(|host| format!(" on {}", shown(host)))
        .unwrap_or_default();
    let pid = active
        .pid
        .map(|pid| format!(", pid {pid}"))
        .unwrap_or_default();
    let since = active.since.as_deref().unwrap_or("-");
    let who = format!(
        "{}{host}{pid}, epoch {}, since {since}",
        shown(&active.holder),
        active.epoch
    );
    if active.holds_lock {
        who
    } else {
        format!("none right now; the last was {who}")
    }
}

fn channels(channels: &[Channel]) -> String {
    let columns = [
        Column::text("CHANNEL"),
        Column::word("STATUS"),
        Column::number("FIRST"),
        Column::number("LAST"),
        Column::number("MESSAGES"),
        Column::number("BYTES"),
        Column::number("SUBS"),
        Column::number("LAG"),
        Column::number("PUBLISHED"),
    ];
    let now = Timestamp::now();
    let rows = channels.iter().map(|channel| {
        [
            shown(&channel.name),
            shown(&channel.status),
            count(channel.first_sequence),
            count(channel.last_sequence),
            count(channel.messages),
            count(channel.bytes),
            channel.subscriptions.to_string(),
            count(channel.furthest_behind),
            ago(channel.last_published_at.as_deref(), now),
        ]
    });
    table(columns, rows)
}

/// Large ones in few digits; JSON has all of them.
fn count(number: i64) -> String {
    match u64::try_from(number) {
        Ok(number @ 100_000..) => bytes(number),
        Ok(_) | Err(_) => number.to_string(),
    }
}

fn ago(time: Option<&str>, now: Timestamp) -> String {
    let time = time.and_then(|time| time.parse::<Timestamp>().ok());
    time.map_or_else(
        || "never".to_owned(),
        |time| format!("{} ago", duration(now.duration_since(time).as_secs_f64())),
    )
}

fn durables(durables: &[Durable]) -> String {
    let columns = [
        Column::text("DURABLE"),
        Column::text("CHANNEL"),
        Column::text("QUEUE"),
        Column::text("CLIENTS"),
        Column::word("STATUS"),
        Column::number("LAG"),
        Column::number("UNACKED"),
        Column::number("BEHIND"),
        Column::text("WHY"),
    ];
    let rows = durables.iter().map(|durable| {
        [
            shown(&durable.durable_name),
            shown(&durable.channel),
            or_dash(durable.queue_group.as_deref()),
            or_dash(durable.clients.as_deref()),
            shown(&durable.status),
            count(durable.lag),
            count(durable.unacked),
            duration(durable.behind_seconds),
            shown(&durable.why),
        ]
    });
    table(columns, rows)
}

fn clients(clients: &[Client]) -> String {
    let columns = [
        Column::text("CLIENT"),
        Column::word("STATUS"),
        Column::number("CONNECTED"),
        Column::number("LAST HEARTBEAT"),
        Column::number("MISSED"),
        Column::number("SUBS"),
    ];
    let now = Timestamp::now();
    let rows = clients.iter().map(|client| {
        [
            shown(&client.client_id),
            shown(&client.status),
            ago(client.connected_at.as_deref(), now),
            ago(client.last_heartbeat_at.as_deref(), now),
            client.missed_heartbeats.to_string(),
            client.subscriptions.to_string(),
        ]
    });
    table(columns, rows)
}

fn unreadable(unreadable: &[Unreadable]) -> String {
    let columns = [
        Column::text("UNREADABLE MESSAGE OF"),
        Column::number("SEQUENCE"),
        Column::number("NOTICED"),
        Column::text("WHY"),
    ];
    let now = Timestamp::now();
    let rows = unreadable.iter().map(|row| {
        [
            shown(&row.channel),
            row.sequence.to_string(),
            // In one word.
            ago(row.noticed_at.as_deref(), now).replace(' ', "-"),
            shown(&row.why),
        ]
    });
    table(columns, rows)
}

fn table<const N: usize>(
    columns: [Column; N],
    rows: impl ExactSizeIterator<Item = [String; N]>,
) -> String {
    let cut = i64::try_from(rows.len()).is_ok_and(|count| count >= ROWS_MAX);
    let more = if cut {
        format!("\n(only the first {ROWS_MAX} are shown)")
    } else {
        String::new()
    };
    format!("{}{more}", Grid::new(columns, rows).text(width()))
}
