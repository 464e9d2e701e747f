//! What several pages show: badges, tables, links to things and to the queries behind figures.

use maud::{Markup, html};

use super::query::link;
use super::words::{count, duration, grouped, shown, unsigned};
use crate::store::views::Durable;

/// Colour never says it alone.
pub(super) fn badge(status: &str) -> Markup {
    let kind = match status {
        "online" | "open" | "responsive" | "active" | "done" => "good",
        "stalled" | "unresponsive" | "refused" => "bad",
        "offline" | "behind" | "paused" | "deleting" | "withdrawn" => "warn",
        _ => "plain",
    };
    html! { span.badge.(kind) { (shown(status)) } }
}

/// To the query that makes the figures beside it.
pub(super) fn sql(name: &str, given: &[(&str, &str)]) -> Markup {
    html! {
        a.sql href=(link(&format!("/sql/{name}"), given)) title="The query that makes these figures" { "SQL" }
    }
}

pub(super) fn channel_link(name: &str) -> Markup {
    html! { a href=(link("/channel", &[("name", name)])) { (shown(name)) } }
}

pub(super) fn client_link(id: &str) -> Markup {
    html! { a href=(link("/client", &[("id", id)])) { (shown(id)) } }
}

/// What tells a durable from all others.
pub(super) fn durable_key(durable: &Durable) -> [(&str, &str); 4] {
    let group = durable.queue_group.as_deref().unwrap_or_default();
    let client = durable.clients.as_deref().unwrap_or_default();
    [
        ("channel", &durable.channel),
        ("durable", &durable.durable),
        ("queue_group", group),
        ("client_id", if group.is_empty() { client } else { "" }),
    ]
}

pub(super) fn durable_link(durable: &Durable) -> Markup {
    html! {
        a href=(link("/durable", &durable_key(durable))) { (names(durable)) }
    }
}

/// What kind it is, to begin a sentence with.
pub(super) fn kind(durable: &Durable) -> &'static str {
    if durable.durable.is_empty() {
        "Queue group"
    } else {
        "Durable"
    }
}

pub(super) fn names(durable: &Durable) -> String {
    let name = shown(&durable.durable);
    match durable.queue_group.as_deref().map(shown) {
        Some(group) if name.is_empty() => group.into_owned(),
        Some(group) => format!("{name}/{group}"),
        None => name.into_owned(),
    }
}

/// A figure with what it is.
pub(super) fn figure(name: &str, value: impl maud::Render, sql: &Markup) -> Markup {
    html! {
        div.figure { dt { (name) " " (sql) } dd { (value) } }
    }
}

/// A table that is wider than a small screen scrolls by itself. Columns of numbers are named with a `#` before.
pub(super) fn table(name: &str, columns: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name) {
            table {
                thead {
                    tr {
                        @for column in columns {
                            @if let Some(column) = column.strip_prefix('#') {
                                th.n scope="col" { (column) }
                            } @else {
                                th scope="col" { (column) }
                            }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

pub(super) fn durable_rows(durables: &[Durable]) -> Markup {
    const COLUMNS: [&str; 8] = [
        "Name",
        "Channel",
        "Status",
        "#Lag",
        "#In flight",
        "#Behind",
        "Why",
        "Clients",
    ];
    let rows = html! {
        @for it in durables {
            tr {
                th scope="row" { (durable_link(it)) }
                td { (channel_link(&it.channel)) }
                td { (badge(&it.status)) }
                td.n { (grouped(unsigned(it.lag))) }
                td.n { (grouped(unsigned(it.in_flight))) }
                td.n { (duration(it.behind_seconds)) }
                td { (shown(&it.why)) }
                td { (shown(it.clients.as_deref().unwrap_or_default())) }
            }
        }
    };
    table("Durables", &COLUMNS, &rows)
}

/// How far something is between two ends, as a bar and in words.
pub(super) fn bar(first: u64, last: u64, marks: &[(&str, u64)]) -> Markup {
    let width = |sequence: u64| {
        let span = (last + 1).saturating_sub(first).max(1);
        let done = (sequence + 1).saturating_sub(first).min(span);
        u128::from(done) * 1000 / u128::from(span)
    };
    let description: Vec<String> = marks
        .iter()
        .map(|(name, sequence)| format!("{name} up to {sequence}"))
        .collect();
    html! {
        svg.bar viewBox="0 0 1000 24" preserveAspectRatio="none" role="img"
            aria-label=(format!("From {first} to {last}: {}", description.join(", "))) {
            rect.rest x="0" y="0" width="1000" height="24" {}
            @for (name, sequence) in marks.iter().rev() {
                rect.(name.split(' ').next().unwrap_or_default()) x="0" y="0" width=(width(*sequence)) height="24" {}
            }
        }
        p.note { (first) " to " (last) "; " (description.join(", ")) }
    }
}

pub(super) fn empty(what: &str) -> Markup {
    html! { p.empty { (what) } }
}

pub(super) fn members(durable: &Durable) -> String {
    count(
        durable.members,
        "member is attached",
        "members are attached",
    )
}
