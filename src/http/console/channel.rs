//! One channel: what it holds, who publishes, who is behind.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout;
use super::parts::{badge, client_link, durable_rows, empty, figure, sql, table};
use super::plot;
use super::principal::Principal;
use super::query::{QueryParams, link};
use super::verbs::action;
use super::words::{bytes, duration, grouped, shown, time, unsigned, until};
use crate::store::views::{Channel, ChannelDetails, Durable, Hour, Publisher};

/// Further durables are among all durables.
const DURABLES_MAX: i64 = 100;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    name: String,
}

struct Found {
    channel: Channel,
    details: Option<ChannelDetails>,
    publishers: Vec<Publisher>,
    durables: Vec<Durable>,
    hours: Vec<Hour>,
}

pub(super) async fn page(
    user: Principal,
    QueryParams(Asked { name }): QueryParams<Asked>,
) -> Response {
    let read = user.read(async |store| {
        let Some(channel) = store.channel_named(&name).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            channel,
            details: store.channel_details(&name).await?,
            publishers: store.publishers(&name).await?,
            durables: store.durables_of(&name, "", "", DURABLES_MAX).await?,
            hours: store.hours(&name).await?,
        }))
    });
    let found = match read.await {
        Ok(Some(found)) => found,
        Ok(None) => return no_such(&user, &name),
        Err(answer) => return answer,
    };
    let body = body(&user, &found);
    layout::page(&user, &format!("Channel {name}"), "/channels", &body)
}

pub(super) fn no_such(user: &Principal, name: &str) -> Response {
    let why = format!("Nothing was ever published to a channel {name:?}, or it was deleted.");
    let notice = (
        "There is no such channel",
        why.as_str(),
        "Look for it among the channels.",
    );
    layout::no_page(user, StatusCode::NOT_FOUND, "/channels", notice)
}

fn body(user: &Principal, found: &Found) -> Markup {
    let Found {
        channel,
        details,
        publishers,
        durables,
        hours,
    } = found;
    let given = [("channel", channel.channel.as_str())];
    let about = sql("channel", &given);
    let missing = (channel.last_sequence + 1).saturating_sub(channel.first_sequence);
    let missing = missing.saturating_sub(channel.messages);
    html! {
        h1 { "Channel " (shown(&channel.channel)) @if channel.status != "open" { " " (badge(&channel.status)) } }
        ul.verbs {
            li { a.button href=(link("/messages", &given)) { "Messages" } }
            (action(user, "channel limits", "Limits…", &given))
            (action(user, "channel purge", "Purge…", &given))
            (action(user, "channel delete", "Delete…", &given))
        }
        dl.figures {
            (figure("Messages", grouped(channel.messages), &about))
            (figure("Sequences", sequences(channel), &about))
            (figure("Missing in between", grouped(missing), &about))
            (figure("Bytes", bytes(channel.bytes), &about))
            @if let Some(details) = details {
                (figure("Per second, last minute", details.per_second_1m, &about))
                (figure("Per second, last hour", details.per_second_1h, &about))
                (figure("In 24 hours", grouped(unsigned(details.last_24h)), &about))
                (figure("Oldest message", time(details.oldest_at.as_deref()), &about))
                (figure("On disk, about", bytes(details.disk_bytes), &about))
            }
            (figure("Last published", time(channel.last_published_at.as_deref()), &about))
            (figure("Largest lag", grouped(unsigned(channel.lag)), &about))
            (figure("Behind", duration(channel.behind_seconds), &about))
        }
        h2 { "The last day " (sql("hours", &given)) }
        (day(channel, hours))
        @if let Some(details) = details {
            h2 { "Limits " (sql("limits", &given)) }
            (kept(channel, details))
        }
        h2 { "Durables and queue groups " (sql("durables-of-channel", &given)) }
        @if durables.is_empty() {
            (empty("No durable and no queue group is on this channel: nothing waits for a client that is away."))
        } @else {
            (durable_rows(durables))
        }
        h2 { "Publishers " (sql("publishers", &given)) }
        @if publishers.is_empty() {
            (empty("Of the newest 10,000 sequences none is left."))
        } @else {
            (publisher_rows(&channel.channel, publishers))
            p.note { "Of the newest 10,000 sequences." }
        }
    }
}

/// From the oldest message to the newest, which they lead to.
fn sequences(channel: &Channel) -> Markup {
    let message = |sequence: u64| {
        let sequence = sequence.to_string();
        let given = [
            ("channel", channel.channel.as_str()),
            ("sequence", &sequence),
        ];
        html! { a href=(link("/message", &given)) { (sequence) } }
    };
    html! {
        @if channel.messages == 0 {
            (channel.first_sequence) " to " (channel.last_sequence)
        } @else {
            (message(channel.first_sequence)) " to " (message(channel.last_sequence))
        }
    }
}

/// Those with the most messages first; what each published last leads to its messages.
fn publisher_rows(channel: &str, publishers: &[Publisher]) -> Markup {
    const COLUMNS: [&str; 5] = ["Client ID", "#Messages", "#Bytes", "#Last", "Published"];
    let rows = html! {
        @for it in publishers.iter().take(100) {
            @let last = it.last_sequence.to_string();
            @let given = [("channel", channel), ("at", last.as_str()), ("publisher", it.publisher.as_str())];
            tr {
                th scope="row" { (client_link(&it.publisher)) }
                td.n { (grouped(it.messages)) }
                td.n { (bytes(it.bytes)) }
                td.n { a href=(link("/messages", &given)) { (last) } }
                td { (time(it.last_published_at.as_deref())) }
            }
        }
    };
    table("Publishers", &COLUMNS, &rows)
}

/// Each hour as a bar, which leads to its messages.
fn day(channel: &Channel, hours: &[Hour]) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    let values: Vec<f64> = hours.iter().map(|it| it.messages as f64).collect();
    let sum: u64 = hours.iter().map(|it| it.messages).sum();
    html! {
        (plot::bars(&values, &format!("Messages in each of the last 24 hours, {} in all", grouped(sum))))
        details {
            summary { "The hours as a list" }
            ol.hours {
                @for it in hours {
                    @let last = (it.first_sequence + it.messages).saturating_sub(1).to_string();
                    li {
                        (time(it.at.as_deref())) ": "
                        @if it.messages > 0 {
                            a href=(link("/messages", &[("channel", &channel.channel), ("at", &last)])) { (grouped(it.messages)) }
                        } @else { "none" }
                    }
                }
            }
        }
    }
}

/// What is kept against what may be, and when that is reached.
fn kept(channel: &Channel, details: &ChannelDetails) -> Markup {
    html! {
        ul.limits {
            li { (share("messages", channel.messages, details.max_msgs, grouped)) }
            li { (share("bytes", channel.bytes, details.max_bytes, bytes)) }
            li { (share("subscriptions", channel.subscriptions, details.max_subscriptions, grouped)) }
            li {
                @match details.max_age_seconds {
                    Some(age) => { "messages are dropped when they are older than " (duration(age)) },
                    None => { "messages may be of any age" },
                }
            }
            @match details.seconds_to_full {
                Some(seconds) if seconds <= 0.0 => li {
                    "It is full: "
                    @if details.when_full == "reject" { "publishes are refused until there is room." }
                    @else { "the oldest message goes with each new one." }
                },
                Some(seconds) => li { "Full in " (until(seconds)) " at the rate of the last hour." },
                None => {},
            }
        }
        p.note { "The query shows which of them an operator has set, and which come from the configuration." }
    }
}

fn share(what: &str, kept: u64, limit: Option<u64>, text: fn(u64) -> String) -> Markup {
    html! {
        @if let Some(limit) = limit {
            meter min="0" max=(limit) value=(kept) aria-label=(what) {}
            " " (text(kept)) " of " (text(limit)) " " (what)
        } @else {
            (text(kept)) " " (what) ", without limit"
        }
    }
}
