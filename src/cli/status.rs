//! `stanby status`: reads the tables, so that it answers with or without a server.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::failure::Failure;
use super::output;
use crate::config::TablesFlags;
use crate::store::status::{
    Channel, Client, Durable, EncryptionReport, LastTakeover, ROWS_MAX, Report, Standby, Unreadable,
};
use crate::store::{Error, Store};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Channels that are named in one line.
const SERVED_MAX: usize = 20;

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tables: TablesFlags,
}

pub async fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let (url, schema) = args.tables.read()?;
    let store = Store::open(&url, &schema, "stanby/status", STATEMENT_TIMEOUT);
    let report = store.report().await;
    store.close().await;
    let report = report.map_err(read_failure)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::line(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What it means for a command that the tables cannot be read.
pub(super) fn read_failure(error: Error) -> Failure {
    match error {
        Error::Unavailable(_) => Failure::Unreachable(error.into()),
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
        lines.push("standby   none: if the active ends, nobody takes over".to_owned());
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
    lines.join("\n")
}

/// By its server ID, as the active is told, and as logs and takeovers name it.
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
    let mut text = format!("epoch {epoch} at {}", or_dash(at.as_deref()));
    if let Some(from) = from {
        text.push_str(&format!(", from {}", shown(from)));
    }
    if let (Some(cause), Some(detail)) = (&takeover.cause, &takeover.detail) {
        text.push_str(&format!("; {}: {}", shown(cause), shown(detail)));
    }
    if let Some(silence) = takeover.silence_ms {
        text.push_str(&format!("; clients waited {silence} ms"));
    }
    if let Some(count @ 1..) = takeover.answered_from_memory {
        text.push_str(&format!("; answered from memory: {count}"));
    }
    text
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
        "CHANNEL",
        "STATUS",
        "FIRST",
        "LAST",
        "MESSAGES",
        "BYTES",
        "SUBSCRIPTIONS",
        "BEHIND",
        "LAST PUBLISHED",
    ];
    let rows = channels.iter().map(|channel| {
        [
            shown(&channel.name),
            shown(&channel.status),
            channel.first_sequence.to_string(),
            channel.last_sequence.to_string(),
            channel.messages.to_string(),
            channel.bytes.to_string(),
            channel.subscriptions.to_string(),
            channel.furthest_behind.to_string(),
            or_dash(channel.last_published_at.as_deref()),
        ]
    });
    table(columns, rows, 2..=7)
}

fn durables(durables: &[Durable]) -> String {
    let columns = [
        "DURABLE", "CHANNEL", "QUEUE", "CLIENTS", "STATUS", "SENT", "ACKED", "UNACKED", "LAG",
        "WHY",
    ];
    let rows = durables.iter().map(|durable| {
        [
            shown(&durable.durable_name),
            shown(&durable.channel),
            or_dash(durable.queue_group.as_deref()),
            or_dash(durable.clients.as_deref()),
            shown(&durable.status),
            durable.last_sent.to_string(),
            durable.acked_floor.to_string(),
            durable.unacked.to_string(),
            durable.lag.to_string(),
            shown(&durable.why),
        ]
    });
    table(columns, rows, 5..=8)
}

fn clients(clients: &[Client]) -> String {
    let columns = [
        "CLIENT",
        "STATUS",
        "CONNECTED",
        "LAST HEARTBEAT",
        "MISSED",
        "SUBSCRIPTIONS",
    ];
    let rows = clients.iter().map(|client| {
        [
            shown(&client.client_id),
            shown(&client.status),
            or_dash(client.connected_at.as_deref()),
            or_dash(client.last_heartbeat_at.as_deref()),
            client.missed_heartbeats.to_string(),
            client.subscriptions.to_string(),
        ]
    });
    table(columns, rows, 4..=5)
}

fn unreadable(unreadable: &[Unreadable]) -> String {
    let columns = ["UNREADABLE MESSAGE OF", "SEQUENCE", "NOTICED", "WHY"];
    let rows = unreadable.iter().map(|row| {
        [
            shown(&row.channel),
            row.sequence.to_string(),
            or_dash(row.noticed_at.as_deref()),
            shown(&row.why),
        ]
    });
    table(columns, rows, 1..=1)
}

/// `numbers` are the columns that stand to the right.
pub(super) fn table<const N: usize>(
    columns: [&str; N],
    rows: impl ExactSizeIterator<Item = [String; N]>,
    numbers: std::ops::RangeInclusive<usize>,
) -> String {
    let cut = i64::try_from(rows.len()).is_ok_and(|count| count >= ROWS_MAX);
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(columns)
        .add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    let more = if cut {
        format!("\n(only the first {ROWS_MAX} are shown)")
    } else {
        String::new()
    };
    format!("{}{more}", lines.join("\n"))
}

fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), shown)
}

/// Names were chosen by clients.
fn shown(text: &str) -> String {
    output::name_from_outside(text)
}
