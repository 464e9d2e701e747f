//! What several pages show: badges, lists in parts, links to things and to the queries behind figures.

use maud::{Markup, html};

use super::query::link;
use super::words::{count, duration, grouped, shown, unsigned};
use crate::store::look::{Channel, Durable, Part};

/// Rows of one part of a list.
pub(super) const ROWS: usize = 50;

/// How a list is asked for.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    pub(super) filter: String,
    #[serde(default)]
    pub(super) sort: String,
    /// Rows before the first one.
    #[serde(default)]
    pub(super) from: u32,
}

impl ListQuery {
    /// By the first of `sorts` unless another one of them was asked for.
    pub(super) fn part<'a>(&'a self, sorts: &[&'a str]) -> Part<'a> {
        Part {
            filter: self.filter.trim(),
            sort: self.sort(sorts),
            offset: i64::from(self.from),
            limit: i64::try_from(ROWS + 1).unwrap_or(i64::MAX),
        }
    }

    fn sort<'a>(&'a self, sorts: &[&'a str]) -> &'a str {
        let asked = sorts.iter().find(|sort| **sort == self.sort);
        asked.or(sorts.first()).copied().unwrap_or_default()
    }

    /// The field to search with, which finds while one types; without scripts Enter does.
    pub(super) fn search(&self, path: &str, sorts: &[&str], what: &str) -> Markup {
        let action = format!("/console{path}");
        html! {
            form.search role="search" action=(action) method="get"
                hx-get=(action) hx-trigger="input changed delay:300ms, submit" hx-target="#list" hx-select="#list"
                hx-swap="outerHTML" hx-push-url="true" hx-sync="this:replace" {
                label for="filter" { (what) }
                input #filter type="search" name="filter" value=(self.filter) autocomplete="off";
                label for="sort" { "Sorted by" }
                select #sort name="sort" {
                    @for sort in sorts {
                        option value=(sort) selected[*sort == self.sort(sorts)] { (sort) }
                    }
                }
                button type="submit" { "Search" }
            }
        }
    }

    /// To the parts before and after; `found` rows were read.
    pub(super) fn pager(&self, path: &str, found: usize) -> Markup {
        let rows = u32::try_from(ROWS).unwrap_or(u32::MAX);
        let at = |from: u32| {
            let from = if from == 0 {
                String::new()
            } else {
                from.to_string()
            };
            link(
                path,
                &[
                    ("filter", &self.filter),
                    ("sort", &self.sort),
                    ("from", &from),
                ],
            )
        };
        let shown = found.min(ROWS);
        html! {
            nav.pager aria-label="Parts of the list" {
                @if self.from > 0 {
                    a href=(at(self.from.saturating_sub(rows))) rel="prev" { "← before" }
                }
                span { (self.from + u32::from(shown > 0)) "–" (self.from as usize + shown) }
                @if found > shown {
                    a href=(at(self.from + rows)) rel="next" { "after →" }
                }
            }
        }
    }
}

/// Colour never says it alone.
pub(super) fn badge(status: &str) -> Markup {
    let kind = match status {
        "online" | "open" | "responsive" | "active" | "done" => "good",
        "stalled" | "unresponsive" | "refused" => "bad",
        "offline" | "behind" | "deleting" | "withdrawn" => "warn",
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
        a href=(link("/durable", &durable_key(durable))) {
            (shown(&durable.durable))
            @if let Some(group) = &durable.queue_group { "/" (shown(group)) }
        }
    }
}

/// A figure with what it is.
pub(super) fn figure(name: &str, value: impl maud::Render, sql: &Markup) -> Markup {
    html! {
        div.figure { dt { (name) " " (sql) } dd { (value) } }
    }
}

pub(super) fn channel_rows(channels: &[Channel]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Channels" {
            table {
                thead {
                    tr {
                        th scope="col" { "Channel" }
                        th.n scope="col" { "Messages" }
                        th.n scope="col" { "Bytes" }
                        th.n scope="col" { "Last" }
                        th.n scope="col" { "Subscriptions" }
                        th.n scope="col" { "Lag" }
                        th.n scope="col" { "Behind" }
                        th scope="col" { "Published" }
                    }
                }
                tbody {
                    @for it in channels {
                        tr {
                            th scope="row" {
                                (channel_link(&it.channel))
                                @if it.status != "open" { " " (badge(&it.status)) }
                            }
                            td.n { (grouped(it.messages)) }
                            td.n { (super::words::bytes(it.bytes)) }
                            td.n { (it.last_sequence) }
                            td.n { (it.subscriptions) }
                            td.n { (grouped(unsigned(it.lag))) }
                            td.n { (duration(it.behind_seconds)) }
                            td { (super::words::time(it.last_published_at.as_deref())) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn durable_rows(durables: &[Durable]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Durables" {
            table {
                thead {
                    tr {
                        th scope="col" { "Durable" }
                        th scope="col" { "Channel" }
                        th scope="col" { "Status" }
                        th.n scope="col" { "Lag" }
                        th.n scope="col" { "In flight" }
                        th.n scope="col" { "Behind" }
                        th scope="col" { "Why" }
                        th scope="col" { "Clients" }
                    }
                }
                tbody {
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
                }
            }
        }
    }
}

/// How far something is between two ends, as a bar and in words.
pub(super) fn bar(first: u64, last: u64, marks: &[(&str, u64)]) -> Markup {
    let width = |sequence: u64| {
        let span = (last + 1).saturating_sub(first).max(1);
        let done = (sequence + 1).saturating_sub(first).min(span);
        u128::from(done) * 1000 / u128::from(span)
    };
    let told: Vec<String> = marks
        .iter()
        .map(|(name, sequence)| format!("{name} up to {sequence}"))
        .collect();
    html! {
        svg.bar viewBox="0 0 1000 24" preserveAspectRatio="none" role="img"
            aria-label=(format!("From {first} to {last}: {}", told.join(", "))) {
            rect.rest x="0" y="0" width="1000" height="24" {}
            @for (name, sequence) in marks.iter().rev() {
                rect.(name.split(' ').next().unwrap_or_default()) x="0" y="0" width=(width(*sequence)) height="24" {}
            }
        }
        p.note { (first) " to " (last) "; " (told.join(", ")) }
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
