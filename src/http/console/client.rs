//! One client, and what it subscribes to.

use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::layout;
use super::parts::{badge, channel_link, empty, figure, sql};
use super::principal::Principal;
use super::query::QueryParams;
use super::verbs::action;
use super::words::{duration, grouped, or_dash, shown, time, unsigned};

/// Further subscriptions are not shown.
const SUBSCRIPTIONS_MAX: usize = 500;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    id: String,
}

pub(super) async fn page(
    user: Principal,
    QueryParams(Asked { id }): QueryParams<Asked>,
) -> Response {
    let read = user.read(async |store| {
        let client = store.clients(&id).await?.into_iter().next();
        Ok((client, store.subscriptions(&id).await?))
    });
    let (client, mut subscriptions) = match read.await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    if id.is_empty() || client.is_none() && subscriptions.is_empty() {
        let why = format!("No client {id:?} is connected, and no durable was left by one.");
        let notice = (
            "There is no such client",
            why.as_str(),
            "Look for it among the clients: it may have another ID by now.",
        );
        return layout::no_page(&user, StatusCode::NOT_FOUND, "/clients", notice);
    }
    let more = subscriptions.len().saturating_sub(SUBSCRIPTIONS_MAX);
    subscriptions.truncate(SUBSCRIPTIONS_MAX);
    let about = sql("client", &[("client", &id)]);
    let body = html! {
        h1 { "Client " (shown(&id)) }
        @if let Some(client) = &client {
            ul.verbs { (action(&user, "client kick", "Close it…", &[("client_id", &id)])) }
            @if client.missed_heartbeats > 0 {
                p.warn {
                    "It has missed " (client.missed_heartbeats) " heartbeats in a row. Either its process hangs, or NATS cannot "
                    "reach it. The server closes it after too many; its durables stay."
                }
            }
            dl.figures {
                (figure("Answers", badge(&client.status), &about))
                (figure("Connected", time(client.connected_at.as_deref()), &about))
                (figure("Last heartbeat", time(client.last_heartbeat_at.as_deref()), &about))
                (figure("Missed heartbeats", client.missed_heartbeats, &about))
                (figure("Protocol", client.protocol, &about))
            }
        } @else {
            p.warn { "It is not connected. What it left behind waits for it." }
        }
        h2 { "Subscriptions " (sql("subscriptions", &[("client", &id)])) }
        @if subscriptions.is_empty() {
            (empty("It subscribes to nothing: it only publishes."))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Subscriptions" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Channel" }
                            th scope="col" { "Durable" }
                            th scope="col" { "Queue group" }
                            th scope="col" { "Status" }
                            th.n scope="col" { "Lag" }
                            th.n scope="col" { "In flight" }
                            th.n scope="col" { "Behind" }
                            th scope="col" { "Why" }
                        }
                    }
                    tbody {
                        @for it in &subscriptions {
                            tr {
                                td { (channel_link(&it.channel)) }
                                td { (or_dash(it.durable.as_deref())) }
                                td { (or_dash(it.queue_group.as_deref())) }
                                td { (badge(&it.status)) }
                                td.n { (grouped(unsigned(it.lag))) }
                                td.n { (it.in_flight) " of " (it.max_in_flight) }
                                td.n { (duration(it.behind_seconds)) }
                                td { (shown(&it.why)) }
                            }
                        }
                    }
                }
            }
            @if more > 0 { p.note { "And " (more) " more; the query shows all." } }
        }
    };
    layout::page(&user, &format!("Client {id}"), "/clients", &body)
}
