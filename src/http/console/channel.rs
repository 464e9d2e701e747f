//! One channel: what it holds, who publishes, who is behind.

use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout;
use super::parts::{badge, client_link, durable_rows, empty, figure, sql};
use super::plot;
use super::query::link;
use super::verbs::action;
use super::visitor::Visitor;
use super::words::{bytes, duration, grouped, shown, time, unsigned};
use crate::core::ids::ChannelName;
use crate::core::limits::ChannelLimits;
use crate::store::look::{Channel, ChannelDetails, Durable, Hour, Publisher};

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

pub(super) async fn page(visitor: Visitor, Query(Asked { name }): Query<Asked>) -> Response {
    let console = match visitor.console() {
        Ok(console) => console,
        Err(answer) => return answer,
    };
    let read = console.looks.read(async |store| {
        let Some(channel) = store.channel_named(&name).await? else {
            return Ok(None);
        };
        Ok(Some(Found {
            channel,
            details: store.channel_details(&name).await?,
            publishers: store.publishers(&name).await?,
            durables: store.durables_of(&name, "", DURABLES_MAX).await?,
            hours: store.hours(&name).await?,
        }))
    });
    let found = match read.await {
        Ok(Some(found)) => found,
        Ok(None) => return no_such(&name),
        Err(why) => return layout::unread(&why),
    };
    let limits = ChannelName::parse(name.clone().into());
    let limits = limits.map(|name| visitor.source.view().status.limits.of(&name));
    let body = body(&visitor, &found, limits);
    layout::page(&visitor, &format!("Channel {name}"), "/channels", &body)
}

pub(super) fn no_such(name: &str) -> Response {
    layout::plain(
        StatusCode::NOT_FOUND,
        "There is no such channel",
        &format!("Nothing was ever published to a channel {name:?}, or it was deleted."),
        "Look for it among the channels.",
    )
}

fn body(visitor: &Visitor, found: &Found, limits: Option<ChannelLimits>) -> Markup {
    let Found {
        channel,
        details,
        publishers,
        durables,
        hours,
    } = found;
    let given = [("channel", channel.channel.as_str())];
    let about = sql("channel", &given);
    html! {
        h1 { "Channel " (shown(&channel.channel)) @if channel.status != "open" { " " (badge(&channel.status)) } }
        ul.verbs {
            li { a.button href=(link("/messages", &given)) { "Messages" } }
            (action(visitor, "channel limits", "Limits…", &given))
            (action(visitor, "channel purge", "Purge…", &given))
            (action(visitor, "channel delete", "Delete…", &given))
        }
        dl.figures {
            (figure("Messages", grouped(channel.messages), &about))
            (figure("Sequences", format!("{} to {}", channel.first_sequence, channel.last_sequence), &about))
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
        @if let Some(limits) = limits {
            h2 { "Limits " (sql("limits", &given)) }
            (kept(channel, details.as_ref(), limits))
        }
        h2 { "Durables " (sql("durables-of-channel", &given)) }
        @if durables.is_empty() {
            (empty("No durable is on this channel: nothing waits for a client that is away."))
        } @else {
            (durable_rows(durables))
        }
        h2 { "Publishers " (sql("publishers", &given)) }
        @if publishers.is_empty() {
            (empty("Of the newest 10,000 sequences none is left."))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Publishers" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Client ID" }
                            th.n scope="col" { "Messages" }
                            th.n scope="col" { "Bytes" }
                            th.n scope="col" { "Last" }
                            th scope="col" { "Published" }
                        }
                    }
                    tbody {
                        @for it in publishers.iter().take(100) {
                            tr {
                                th scope="row" { (client_link(&it.publisher)) }
                                td.n { (grouped(it.messages)) }
                                td.n { (bytes(it.bytes)) }
                                td.n { (it.last_sequence) }
                                td { (time(it.last_published_at.as_deref())) }
                            }
                        }
                    }
                }
            }
            p.note { "Of the newest 10,000 sequences." }
        }
    }
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
fn kept(channel: &Channel, details: Option<&ChannelDetails>, limits: ChannelLimits) -> Markup {
    let rate = details.map_or(0.0, |details| details.per_second_1h);
    html! {
        ul.limits {
            li { (share("messages", channel.messages, limits.messages, grouped)) (full(channel.messages, limits.messages, rate)) }
            li { (share("bytes", channel.bytes, limits.bytes, bytes)) }
            li { (share("subscriptions", channel.subscriptions, limits.subscriptions.map(|max| max as u64), grouped)) }
            li {
                @match limits.age {
                    Some(age) => { "messages are dropped when they are older than " (duration(age.as_secs_f64())) },
                    None => { "messages may be of any age" },
                }
            }
        }
        p.note {
            "As configured at this server; what operators have set for the channel goes before it."
        }
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

fn full(kept: u64, limit: Option<u64>, rate: f64) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "it is for people")]
    let left = limit.map(|limit| limit.saturating_sub(kept) as f64);
    html! {
        @match left {
            Some(left) if left < 1.0 => { ": the oldest goes with each new one" },
            Some(left) if rate > 0.0 => { ": full in " (duration(left / rate)) " at the rate of the last hour" },
            Some(_) | None => {},
        }
    }
}
