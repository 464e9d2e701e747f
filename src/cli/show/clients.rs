//! `stanby client list` and `show`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::look::{LookFlags, unknown};
use super::{Column, Grid, duration, or_dash, shown, width};
use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::store::Store;
use crate::store::views::{Client, Subscription};

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only clients whose ID has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Client ID
    client_id: String,

    #[command(flatten)]
    look: LookFlags,
}

#[derive(Serialize)]
struct Shown {
    client_id: String,
    /// `None`: it is not connected, and durables wait for it.
    connection: Option<Client>,
    subscriptions: Vec<Subscription>,
}

pub(in crate::cli) async fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let clients = store.clients("").await;
    store.close().await;
    let mut clients = clients.map_err(read_failure)?;
    clients.retain(|client| client.client_id.contains(&args.filter));
    args.look.print_rows(&clients, "no clients", table)
}

pub(in crate::cli) async fn show(args: &ShowArgs) -> Result<ExitCode, Failure> {
    let store = args.look.store()?;
    let read = read(&store, &args.client_id).await;
    store.close().await;
    args.look.print(&read?, text)
}

async fn read(store: &Store, client_id: &str) -> Result<Shown, Failure> {
    let connection = store.clients(client_id).await.map_err(read_failure)?;
    let connection = connection.into_iter().find(|it| it.client_id == client_id);
    let subscriptions = store.subscriptions(client_id).await.map_err(read_failure)?;
    if connection.is_none() && subscriptions.is_empty() {
        let all = store.clients("").await.map_err(read_failure)?;
        let names: Vec<String> = all.into_iter().map(|it| it.client_id).collect();
        return Err(unknown("client", client_id, &names));
    }
    Ok(Shown {
        client_id: client_id.to_owned(),
        connection,
        subscriptions,
    })
}

fn table(clients: &[Client]) -> String {
    let columns = [
        Column::text("CLIENT"),
        Column::word("STATUS"),
        Column::number("MISSED"),
        Column::number("SUBS"),
        Column::word("CONNECTED"),
    ];
    let rows = clients.iter().map(|client| {
        [
            shown(&client.client_id),
            client.status.clone(),
            client.missed_heartbeats.to_string(),
            client.subscriptions.to_string(),
            or_dash(client.connected_at.as_deref()),
        ]
    });
    Grid::new(columns, rows).text(width())
}

fn text(it: &Shown) -> String {
    let mut lines = vec![format!("client     {}", shown(&it.client_id))];
    match &it.connection {
        Some(client) => {
            lines.push(format!(
                "status     {}, protocol {}",
                client.status, client.protocol
            ));
            lines.push(format!(
                "connected  {}",
                or_dash(client.connected_at.as_deref())
            ));
            lines.push(format!(
                "heartbeat  {}, {} missed in a row",
                or_dash(client.last_heartbeat_at.as_deref()),
                client.missed_heartbeats
            ));
        }
        None => lines.push("status     not connected; its durables wait for it".to_owned()),
    }
    let mut parts = vec![lines.join("\n")];
    if !it.subscriptions.is_empty() {
        let columns = [
            Column::text("CHANNEL"),
            Column::text("DURABLE"),
            Column::text("QUEUE"),
            Column::word("STATUS"),
            Column::number("LAG"),
            Column::number("FLIGHT"),
            Column::number("BEHIND"),
            Column::text("WHY"),
        ];
        let rows = it.subscriptions.iter().map(|subscription| {
            [
                shown(&subscription.channel),
                or_dash(subscription.durable.as_deref()),
                or_dash(subscription.queue_group.as_deref()),
                subscription.status.clone(),
                subscription.lag.to_string(),
                subscription.in_flight.to_string(),
                duration(subscription.behind_seconds),
                shown(&subscription.why),
            ]
        });
        parts.push(Grid::new(columns, rows).text(width()));
    }
    parts.join("\n\n")
}
