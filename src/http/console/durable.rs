//! One durable, or queue group without a durable name: how far it is, why no further, and what is in flight.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout;
use super::parts::{
    badge, bar, channel_link, client_link, durable_key, empty, figure, kind, members, names, sql,
    table,
};
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::verbs::action;
use super::words::{duration, grouped, shown, time, unsigned};
use crate::store::views::{Channel, Durable, InFlight};

const IN_FLIGHT_MAX: u32 = 100;

/// How many durables of one name on one channel are looked at; queue group and client say which is meant.
const NAMESAKES_MAX: i64 = 1000;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    channel: String,
    #[serde(default)]
    durable: String,
    #[serde(default)]
    queue_group: String,
    #[serde(default)]
    client_id: String,
}

impl Asked {
    fn is(&self, durable: &Durable) -> bool {
        let group = durable.queue_group.as_deref().unwrap_or_default();
        let clients = durable.clients.as_deref().unwrap_or_default();
        durable.durable == self.durable
            && group == self.queue_group
            && (self.client_id.is_empty() || clients.split(", ").any(|it| it == self.client_id))
    }
}

pub(super) async fn page(user: Principal, QueryParams(asked): QueryParams<Asked>) -> Response {
    let read = user.read(async |store| {
        let (channel, name, group) = (&asked.channel, &asked.durable, &asked.queue_group);
        let all = store.durables_of(channel, name, group, NAMESAKES_MAX);
        let all = all.await?;
        let Some(durable) = all.into_iter().find(|it| asked.is(it)) else {
            return Ok(None);
        };
        let in_flight = store.in_flight(&durable, IN_FLIGHT_MAX).await?;
        let channel = store.channel_named(channel).await?;
        Ok(channel.map(|channel| (durable, in_flight, channel)))
    });
    let (durable, in_flight, channel) = match read.await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let Asked {
                channel,
                durable,
                queue_group,
                ..
            } = &asked;
            let why = if durable.is_empty() {
                format!(
                    "Channel {channel:?} has no queue group {queue_group:?} without a durable name."
                )
            } else {
                format!(
                    "Channel {channel:?} has no durable {durable:?} of this queue group and client."
                )
            };
            let notice = (
                "There is no such durable",
                why.as_str(),
                "Look for it among the durables: it may have been removed.",
            );
            return layout::no_page(&user, StatusCode::NOT_FOUND, "/durables", notice);
        }
        Err(answer) => return answer,
    };
    let body = body(&user, &durable, &in_flight, &channel);
    let title = format!("{} {}", kind(&durable), names(&durable));
    layout::page(&user, &title, "/durables", &body)
}

fn body(user: &Principal, durable: &Durable, in_flight: &[InFlight], channel: &Channel) -> Markup {
    let given = [
        ("channel", durable.channel.as_str()),
        ("durable", durable.durable.as_str()),
        (
            "queue_group",
            durable.queue_group.as_deref().unwrap_or_default(),
        ),
    ];
    let (about, of_in_flight) = if durable.durable.is_empty() {
        ("queue-group", "in-flight-of-group")
    } else {
        ("durable", "in-flight")
    };
    let about = sql(about, &given);
    let oldest = in_flight.first().map(|it| it.sequence);
    let wanted = durable.paused_for.or(oldest);
    let wanted = wanted.map_or_else(String::new, |sequence| sequence.to_string());
    html! {
        h1 {
            (kind(durable)) " " (names(durable)) " on " (channel_link(&durable.channel))
        }
        p.why { (badge(&durable.status)) " " (shown(&durable.why)) ". " (advice(durable)) }
        @let key = durable_key(durable);
        ul.verbs {
            (action(user, "durable seek", "Set to another place…", &key))
            (action(user, "durable skip", "Skip messages…", &with_message(key, &wanted)))
            @if durable.durable.is_empty() {
                // It ends with its last member, and cannot be paused.
            } @else if durable.paused_since.is_none() {
                (action(user, "durable pause", "Pause…", &key))
            } @else {
                (action(user, "durable resume", "Resume…", &key))
            }
            (action(user, "durable remove", "Remove…", &key))
        }
        (bar(channel.first_sequence, channel.last_sequence, &[
            ("acked", durable.acked_floor),
            ("sent", durable.last_sent),
        ]))
        dl.figures {
            (figure("Lag", grouped(unsigned(durable.lag)), &about))
            (figure("Behind", duration(durable.behind_seconds), &about))
            (figure("In flight", format!("{} of {}", durable.in_flight, durable.max_in_flight), &about))
            (figure("Yet to be sent", grouped(unsigned(durable.unsent)), &about))
            (figure("Oldest not acked", time(durable.oldest_unacked_at.as_deref()), &about))
            (figure("Members", members(durable), &about))
        }
        @if let Some(clients) = &durable.clients {
            p {
                @if durable.members == 0 { "Left by " } @else { "Clients: " }
                @for (index, client) in clients.split(", ").take(50).enumerate() {
                    @if index > 0 { ", " }
                    (client_link(client))
                }
            }
        }
        h2 { "In flight " (sql(of_in_flight, &given)) }
        @if in_flight.is_empty() {
            (empty("Nothing: what was sent is acked."))
        } @else {
            (in_flight_rows(&durable.channel, in_flight))
        }
    }
}

fn in_flight_rows(channel: &str, in_flight: &[InFlight]) -> Markup {
    const COLUMNS: [&str; 5] = ["#Sequence", "With", "#Age", "Published", "By"];
    let rows = html! {
        @for it in in_flight {
            @let sequence = it.sequence.to_string();
            tr {
                th.n scope="row" {
                    a href=(link("/message", &[("channel", channel), ("sequence", &sequence)])) { (sequence) }
                }
                td { @match &it.client_id { Some(id) => (client_link(id)), None => "–" } }
                td.n { (duration(it.age_seconds)) }
                td { (time(it.published_at.as_deref())) }
                td { (client_link(&it.publisher)) }
            }
        }
    };
    table("Messages in flight", &COLUMNS, &rows)
}

/// The message that is most likely not digested.
fn with_message<'a>(key: [(&'a str, &'a str); 4], wanted: &'a str) -> [(&'a str, &'a str); 5] {
    let [channel, durable, group, client] = key;
    [channel, durable, group, client, ("sequence", wanted)]
}

/// What to do about what `why` says.
fn advice(durable: &Durable) -> &'static str {
    match durable.status.as_str() {
        "stalled" => {
            "Its members have as many messages as they may, and get no more until they ack. If the same message stays the \
             oldest, the application cannot process that one: check it, or skip the message. If not, it is slower than messages \
             come."
        }
        "offline" if durable.lag > 0 => {
            "Messages are kept for it until it comes back. Start the application, or remove the durable if it \
             is no longer needed."
        }
        "paused" if durable.paused_since.is_some() => {
            "Resume it when the reason is gone: until then it gets no messages."
        }
        "paused" => {
            "Fix the application and seek to the message, or skip the message that it cannot process."
        }
        "behind" => "Messages come faster than they are acked, or it is catching up.",
        _ => "There is nothing to do.",
    }
}
