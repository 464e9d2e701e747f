//! `stanby channel list` and `show`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::look::{LookFlags, find_channel};
use super::{Column, Grid, bytes, duration, facts, or_dash, shown, width};
use crate::amounts::until;
use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::store::views::{Channel, ChannelDetails, Durable, Publisher};

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only channels whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the channel
    channel: String,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    channel: Channel,
    #[serde(flatten)]
    details: Option<ChannelDetails>,
    publishers: Vec<Publisher>,
    durables: Vec<Durable>,
}

pub(in crate::cli) async fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let channels = store.channels("").await;
    store.close().await;
    let mut channels = channels.map_err(read_failure)?;
    channels.retain(|channel| channel.channel.contains(&args.filter));
    args.look.print_rows(&channels, "no channels", table)
}

pub(in crate::cli) async fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let read = async {
        let channel = find_channel(&store, &args.channel).await?;
        let details = store
            .channel_details(&args.channel)
            .await
            .map_err(read_failure)?;
        let publishers = store
            .publishers(&args.channel)
            .await
            .map_err(read_failure)?;
        let durables = store.durables(&args.channel).await.map_err(read_failure)?;
        Ok::<_, Failure>(Shown {
            channel,
            details,
            publishers,
            durables,
        })
    };
    let read = read.await;
    store.close().await;
    args.look.print(&read?, text)
}

fn table(channels: &[Channel]) -> String {
    let columns = [
        Column::text("CHANNEL"),
        Column::number("MESSAGES"),
        Column::number("BYTES"),
        Column::number("LAST"),
        Column::number("SUBS"),
        Column::number("LAG"),
        Column::number("BEHIND"),
        Column::word("PUBLISHED"),
    ];
    let rows = channels.iter().map(|channel| {
        let deleting = if channel.status == "open" {
            ""
        } else {
            " (deleting)"
        };
        [
            format!("{}{deleting}", shown(&channel.channel)),
            channel.messages.to_string(),
            bytes(channel.bytes),
            channel.last_sequence.to_string(),
            channel.subscriptions.to_string(),
            channel.lag.to_string(),
            duration(channel.behind_seconds),
            // Without the fraction of a second.
            channel.last_published_at.as_deref().map_or_else(
                || "-".to_owned(),
                |at| at.get(..19).unwrap_or(at).to_owned(),
            ),
        ]
    });
    Grid::new(columns, rows).text(width())
}

fn text(shown_channel: &Shown) -> String {
    let Shown {
        channel,
        details,
        publishers,
        durables,
    } = shown_channel;
    let mut lines = vec![
        format!("channel    {}", shown(&channel.channel)),
        format!(
            "messages   {} (sequences {} to {}), {} bytes",
            channel.messages, channel.first_sequence, channel.last_sequence, channel.bytes
        ),
        format!("created    {}", or_dash(channel.created_at.as_deref())),
        format!(
            "published  {}",
            or_dash(channel.last_published_at.as_deref())
        ),
        format!(
            "subscribed {} subscriptions, lag {} messages, behind {}",
            channel.subscriptions,
            channel.lag,
            duration(channel.behind_seconds)
        ),
    ];
    if let Some(details) = details {
        lines.push(format!(
            "oldest     {}",
            or_dash(details.oldest_at.as_deref())
        ));
        lines.push(format!(
            "rate       {}/s in a minute, {}/s in an hour, {} messages in 24 hours",
            details.per_second_1m, details.per_second_1h, details.last_24h
        ));
        lines.push(format!(
            "disk       about {} ({} % of all channels)",
            bytes(details.disk_bytes),
            details.share_percent
        ));
        for (index, limits) in limits(details).iter().enumerate() {
            let name = if index == 0 { "limits" } else { "" };
            lines.push(format!("{name:<10} {limits}"));
        }
        let keeps = if details.keep_until_acked {
            ", and keeps what a durable has not acked"
        } else {
            ""
        };
        lines.push(format!(
            "when full  {}{keeps} ({})",
            details.when_full,
            shown(&details.policy)
        ));
    }
    let mut parts = vec![facts(&lines)];
    if !publishers.is_empty() {
        let columns = [
            Column::text("PUBLISHER"),
            Column::number("MESSAGES"),
            Column::number("BYTES"),
            Column::number("LAST"),
            Column::word("PUBLISHED"),
        ];
        let rows = publishers.iter().map(|publisher| {
            [
                shown(&publisher.publisher),
                publisher.messages.to_string(),
                bytes(publisher.bytes),
                publisher.last_sequence.to_string(),
                or_dash(publisher.last_published_at.as_deref()),
            ]
        });
        parts.push(Grid::new(columns, rows).text(width()));
    }
    if !durables.is_empty() {
        parts.push(super::durables::table(durables));
    }
    parts.join("\n\n")
}

/// `messages 12 % of 1000, bytes 3 % of 1.0G; full in 3h`, and below it age and subscriptions: both fit 80 columns.
fn limits(details: &ChannelDetails) -> Vec<String> {
    let share = |name: &str, limit: Option<String>, percent: Option<f64>| {
        let (limit, percent) = (limit?, percent.unwrap_or_default());
        Some(format!("{name} {percent} % of {limit}"))
    };
    let of_messages = [
        share(
            "messages",
            details.max_msgs.map(|limit| limit.to_string()),
            details.max_msgs_percent,
        ),
        share(
            "bytes",
            details.max_bytes.map(bytes),
            details.max_bytes_percent,
        ),
    ];
    let others = [
        share(
            "age",
            details.max_age_seconds.map(duration),
            details.max_age_percent,
        ),
        share(
            "subscriptions",
            details.max_subscriptions.map(|limit| limit.to_string()),
            details.max_subscriptions_percent,
        ),
    ];
    let mut lines = Vec::new();
    for shares in [of_messages, others] {
        let shares: Vec<String> = shares.into_iter().flatten().collect();
        if !shares.is_empty() {
            lines.push(shares.join(", "));
        }
    }
    if let (Some(first), Some(seconds)) = (lines.first_mut(), details.seconds_to_full) {
        first.push_str("; full in ");
        first.push_str(&until(seconds));
    }
    if lines.is_empty() {
        lines.push("none".to_owned());
    }
    lines
}
