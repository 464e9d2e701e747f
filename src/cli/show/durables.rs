//! `stanby durable list` and `show`. Queue groups without a durable's name have positions, too, and are listed.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::look::{LookFlags, find_channel, unknown};
use super::{Column, Grid, duration, facts, or_dash, shown, width};
use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::store::Store;
use crate::store::views::{Durable, InFlight, Policy};

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only those of this channel
    #[arg(value_name = "CHANNEL", default_value = "", hide_default_value = true)]
    channel: String,

    /// Only those whose name, channel, queue group or client has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Only those that are behind by so many messages
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        hide_default_value = true
    )]
    lag: i64,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Name of the channel
    channel: String,

    /// Name of the durable; not needed for a queue group without one. "": the queue group that has none
    #[arg(required_unless_present = "queue_group")]
    durable: Option<String>,

    /// In this queue group
    #[arg(long, value_name = "GROUP")]
    queue_group: Option<String>,

    /// That of this client, where several have one of this name
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// Messages in flight that are listed, the oldest first
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    in_flight: u32,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    durable: Durable,
    /// How often messages are delivered, and what says so.
    policy: Option<Policy>,
    /// The oldest of them.
    in_flight_messages: Vec<InFlight>,
}

pub(in crate::cli) async fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let read = async {
        if !args.channel.is_empty() {
            find_channel(&store, &args.channel).await?;
        }
        store.durables(&args.channel).await.map_err(read_failure)
    };
    let durables = read.await;
    store.close().await;
    let mut durables = durables?;
    durables.retain(|durable| durable.lag >= args.lag && has(durable, &args.filter));
    args.look.print_rows(&durables, "no durables", table)
}

/// Whether one of its names has the text in it.
pub(in crate::cli) fn has(durable: &Durable, text: &str) -> bool {
    let names = [
        Some(&durable.channel),
        Some(&durable.durable),
        durable.queue_group.as_ref(),
        durable.clients.as_ref(),
    ];
    names.into_iter().flatten().any(|name| name.contains(text))
}

pub(in crate::cli) async fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let read = read(&store, args).await;
    store.close().await;
    args.look.print(&read?, |durables| {
        let texts: Vec<String> = durables.iter().map(text).collect();
        texts.join("\n\n")
    })
}

async fn read(store: &Store, args: &ShowArgs) -> Result<Vec<Shown>, Failure> {
    find_channel(store, &args.channel).await?;
    let mut all = store.durables(&args.channel).await.map_err(read_failure)?;
    pick_named(&mut all, args)?;
    if let Some(client) = &args.client_id {
        let is_one = |it: &Durable| {
            it.clients
                .as_ref()
                .is_some_and(|clients| clients.split(", ").any(|one| one == client))
        };
        let clients = all.iter().filter_map(|it| it.clients.as_deref());
        let names: Vec<String> = clients
            .flat_map(|it| it.split(", "))
            .map(str::to_owned)
            .collect();
        all.retain(is_one);
        if all.is_empty() {
            return Err(unknown("client with this durable", client, &names));
        }
    }
    let policies = store.policies(&args.channel).await.map_err(read_failure)?;
    let mut found = Vec::new();
    for durable in all {
        let is_its = |policy: &&Policy| {
            policy.durable.as_deref().unwrap_or_default() == durable.durable
                && policy.queue_group == durable.queue_group
                && policy.clients == durable.clients
        };
        let policy = policies.iter().find(is_its).cloned();
        let in_flight_messages = store
            .in_flight(&durable, args.in_flight)
            .await
            .map_err(read_failure)?;
        found.push(Shown {
            durable,
            policy,
            in_flight_messages,
        });
    }
    Ok(found)
}

/// Keeps those of the name and the queue group that are asked for. A group can do without a durable's name.
fn pick_named(all: &mut Vec<Durable>, args: &ShowArgs) -> Result<(), Failure> {
    if let Some(durable) = args.durable.as_ref() {
        let names: Vec<String> = all.iter().map(|it| it.durable.clone()).collect();
        all.retain(|it| {
            it.durable == *durable && (!durable.is_empty() || it.queue_group.is_some())
        });
        if all.is_empty() {
            let names: Vec<String> = names.into_iter().filter(|it| !it.is_empty()).collect();
            return Err(unknown(
                &format!("durable on channel {:?}", shown(&args.channel)),
                durable,
                &names,
            ));
        }
    }
    let Some(group) = &args.queue_group else {
        return Ok(());
    };
    let names: Vec<String> = all.iter().filter_map(|it| it.queue_group.clone()).collect();
    all.retain(|it| it.queue_group.as_ref() == Some(group));
    if all.is_empty() {
        let what = match args.durable.as_deref() {
            None => format!("queue group on channel {:?}", shown(&args.channel)),
            Some("") => "queue group without a durable name".to_owned(),
            Some(_) => "queue group with this durable".to_owned(),
        };
        return Err(unknown(&what, group, &names));
    }
    Ok(())
}

pub(super) fn table(durables: &[Durable]) -> String {
    let columns = [
        Column::text("DURABLE"),
        Column::text("CHANNEL"),
        Column::word("STATUS"),
        Column::number("LAG"),
        Column::number("FLIGHT"),
        Column::number("BEHIND"),
        Column::text("WHY"),
    ];
    let rows = durables.iter().map(|durable| {
        [
            name(durable),
            shown(&durable.channel),
            durable.status.clone(),
            durable.lag.to_string(),
            durable.in_flight.to_string(),
            duration(durable.behind_seconds),
            shown(&durable.why),
        ]
    });
    Grid::new(columns, rows).text(width())
}

/// With its queue group; of one without a durable the group alone.
pub(in crate::cli) fn name(durable: &Durable) -> String {
    match &durable.queue_group {
        Some(group) if durable.durable.is_empty() => shown(group),
        Some(group) => format!("{}/{}", shown(&durable.durable), shown(group)),
        None => shown(&durable.durable),
    }
}

fn text(it: &Shown) -> String {
    let durable = &it.durable;
    let mut lines = vec![
        format!(
            "{} {} on {}",
            if durable.durable.is_empty() {
                "group     "
            } else {
                "durable   "
            },
            name(durable),
            shown(&durable.channel)
        ),
        format!(
            "clients    {} ({} attached)",
            or_dash(durable.clients.as_deref()),
            durable.members
        ),
        format!("status     {}: {}", durable.status, shown(&durable.why)),
        format!(
            "lag        {} messages: {} in flight (of {} allowed), {} unsent",
            durable.lag, durable.in_flight, durable.max_in_flight, durable.unsent
        ),
        format!("behind     {}", duration(durable.behind_seconds)),
        format!(
            "sequences  acked up to {}, sent up to {}",
            durable.acked_floor, durable.last_sent
        ),
    ];
    if let (Some(sequence), Some(at)) = (durable.oldest_unacked, &durable.oldest_unacked_at) {
        lines.push(format!("oldest     message {sequence}, published {at}"));
    }
    if let Some(policy) = &it.policy {
        lines.push(format!("policy     {}", in_words(policy)));
    }
    let mut parts = vec![facts(&lines)];
    if !it.in_flight_messages.is_empty() {
        let columns = [
            Column::number("IN FLIGHT"),
            Column::text("WITH"),
            Column::number("TRIES"),
            Column::number("AGE"),
            Column::word("PUBLISHED"),
            Column::text("BY"),
        ];
        let rows = it.in_flight_messages.iter().map(|message| {
            [
                message.sequence.to_string(),
                or_dash(message.client_id.as_deref()),
                message
                    .deliveries
                    .map_or_else(|| "-".to_owned(), |count| count.to_string()),
                duration(message.age_seconds),
                or_dash(message.published_at.as_deref()),
                shown(&message.publisher),
            ]
        });
        parts.push(Grid::new(columns, rows).text(width()));
    }
    parts.join("\n\n")
}

/// `at most 5 deliveries, 1 s, 5 s apart, then to channel dead (policy 7 for orders, durable billing)`
fn in_words(policy: &Policy) -> String {
    let mut words = Vec::new();
    match policy.max_deliveries {
        Some(max) => words.push(format!("at most {max} deliveries")),
        None => words.push("delivered until it is acked".to_owned()),
    }
    let pauses = policy.backoff_seconds.iter().flatten().copied();
    let pauses: Vec<String> = pauses.map(duration).collect();
    if !pauses.is_empty() {
        words.push(format!("acks are waited for {}", pauses.join(", ")));
    }
    if policy.max_deliveries.is_some() {
        words.push(match (policy.poison.as_deref(), &policy.dead_letter) {
            (_, Some(channel)) => format!("then it goes to channel {}", shown(channel)),
            (Some("pause"), None) => "then the subscription waits".to_owned(),
            (_, None) => "then it is passed over".to_owned(),
        });
    }
    if let Some(sequence) = policy.waits_for {
        words.push(format!("message {sequence} was delivered so often"));
    }
    format!("{} ({})", words.join("; "), shown(&policy.source))
}
