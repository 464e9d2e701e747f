//! All channels: what they keep, how full they are, and how they grew in the last day.

use axum::response::Response;
use maud::{Markup, html};

use super::list::{List, ListQuery, ROWS};
use super::parts::{badge, channel_link, table};
use super::plot;
use super::principal::Principal;
use super::query::QueryParams;
use super::verbs::action;
use super::words::{bytes, duration, grouped, shown, time, unsigned, until};
use crate::store::views::{Channel, Growth};

const LIST: List = List {
    title: "Channels",
    path: "/channels",
    query: "channels",
    sorts: &["name", "lag", "messages", "bytes", "published"],
    search: "With this in the name",
    none: "No channel has this in its name.",
    nothing: "There is no channel yet: one comes with the first publish or subscription.",
};

/// A channel, and how it grows. `None`: it is being deleted.
type Row = (Channel, Option<Growth>);

pub(super) async fn page(user: Principal, QueryParams(query): QueryParams<ListQuery>) -> Response {
    let part = LIST.part(&query);
    let read = user.read(async |store| {
        let channels = store.channel_page(part).await?;
        let mut growth = store.growth(channels.iter().take(ROWS)).await?;
        let rows = channels.into_iter().map(|channel| {
            let growth = growth.remove(&channel.id());
            (channel, growth)
        });
        Ok(rows.collect())
    });
    let read = read.await;
    let create = html! {
        ul.verbs { (action(&user, "channel create", "Create a channel…", &[])) }
    };
    let note = html! {
        p.note {
            "Full in: until the limit of messages or bytes, at the rate of the last hour. Last day: about how many messages came in "
            "each hour. Lag and behind: of the durable or subscription that is furthest behind."
        }
    };
    LIST.page(&user, &query, read, rows, &create, &note)
}

fn rows(channels: &[Row]) -> Markup {
    const COLUMNS: [&str; 11] = [
        "Channel",
        "#Messages",
        "#Bytes",
        "Of its limit",
        "#Full in",
        "#Oldest",
        "Last day",
        "#Subscriptions",
        "#Lag",
        "#Behind",
        "Published",
    ];
    let rows = html! {
        @for (it, growth) in channels {
            tr {
                th scope="row" {
                    (channel_link(&it.channel))
                    @if it.status != "open" { " " (badge(&it.status)) }
                }
                td.n { (grouped(it.messages)) }
                td.n { (bytes(it.bytes)) }
                (growth_cells(it, growth.as_ref()))
                td.n { (it.subscriptions) }
                td.n { (grouped(unsigned(it.lag))) }
                td.n { (duration(it.behind_seconds)) }
                td { (time(it.last_published_at.as_deref())) }
            }
        }
    };
    table(LIST.title, &COLUMNS, &rows)
}

fn growth_cells(channel: &Channel, growth: Option<&Growth>) -> Markup {
    let Some(growth) = growth else {
        return html! { td { "–" } td.n { "–" } td.n { "–" } td { "–" } };
    };
    let (messages, bytes) = (growth.max_msgs_percent, growth.max_bytes_percent);
    let fullest = if bytes > messages {
        bytes.map(|percent| (percent, "bytes"))
    } else {
        messages.map(|percent| (percent, "messages"))
    };
    let per_hour = growth.per_hour();
    let sum: f64 = per_hour.iter().sum();
    html! {
        td {
            @if let Some((percent, of)) = fullest {
                meter min="0" max="100" value=(percent) aria-label=(format!("Of the limit of {of}")) {}
                " " span.share { (format!("{percent:.0}")) " % of " (of) }
            } @else { "no limit" }
        }
        td.n {
            @match growth.seconds_to_full {
                Some(seconds) if seconds <= 0.0 => "full",
                Some(seconds) => (until(seconds)),
                None => "–",
            }
        }
        td.n { @match growth.oldest_seconds { Some(seconds) => (duration(seconds)), None => "–" } }
        td {
            @if sum > 0.0 {
                (plot::bars(&per_hour, &format!("About {sum:.0} messages on {} in the last 24 hours", shown(&channel.channel))))
            } @else { "none" }
        }
    }
}
