//! What could not be stored or delivered, by reason.

use axum::response::Response;
use maud::{Markup, html};

use super::layout;
use super::parts::{channel_link, empty, sql, table};
use super::principal::Principal;
use super::query::link;
use super::verbs::action;
use super::words::{grouped, or_dash, shown, time};
use crate::store::views::{DeadGroup, RefusedGroup, UnreadableGroup};

pub(super) async fn page(user: Principal) -> Response {
    let read = user.read(async |store| {
        Ok((
            store.dead_groups().await?,
            store.refused_groups().await?,
            store.unreadable_groups().await?,
        ))
    });
    let (dead, refused, unreadable) = match read.await {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    let body = html! {
        h1 { "Dead letters" }
        h2 { "Given up after the maximum number of deliveries " (sql("dead", &[])) }
        (given_up(&user, &dead))
        h2 { "Published in SQL but not stored " (sql("refused", &[])) }
        (refused_publishes(&refused))
        h2 { "Stored but skipped, because they cannot be read " (sql("unreadable", &[])) }
        (unreadable_messages(&unreadable))
    };
    layout::page(&user, "Dead letters", "/dead-letters", &body)
}

fn refused_publishes(refused: &[RefusedGroup]) -> Markup {
    const COLUMNS: [&str; 6] = [
        "Reason",
        "Channel",
        "Publisher",
        "#Messages",
        "#Rows",
        "Last",
    ];
    if refused.is_empty() {
        return empty(
            "None: everything that was published in SQL is stored, or waits for its time.",
        );
    }
    let rows = html! {
        @for it in refused {
            tr {
                th scope="row" { (shown(&it.reason)) }
                td { (channel_link(&it.channel)) }
                td { (or_dash(Some(&it.publisher))) }
                td.n { (grouped(it.messages)) }
                td.n { (it.first_id) "–" (it.last_id) }
                td { (time(it.last_at.as_deref())) }
            }
        }
    };
    html! {
        p { "Fix the cause, then put them back with " (sql("retry-refused", &[])) "." }
        (table("Publishes that were refused", &COLUMNS, &rows))
        p.note { "Of the newest 10,000." }
    }
}

fn unreadable_messages(unreadable: &[UnreadableGroup]) -> Markup {
    const COLUMNS: [&str; 5] = ["Reason", "Channel", "#Messages", "#Sequences", "Noticed"];
    if unreadable.is_empty() {
        return empty("None.");
    }
    let rows = html! {
        @for it in unreadable {
            tr {
                th scope="row" { (shown(&it.why)) }
                td { (channel_link(&it.channel)) }
                td.n { (grouped(it.messages)) }
                td.n { (it.first_sequence) "–" (it.last_sequence) }
                td { (time(it.noticed_at.as_deref())) }
            }
        }
    };
    html! {
        p { "Give the servers the missing key, or restore the rows; then seek the durables back to them." }
        (table("Messages that cannot be read", &COLUMNS, &rows))
    }
}

fn given_up(user: &Principal, dead: &[DeadGroup]) -> Markup {
    const COLUMNS: [&str; 7] = [
        "Reason",
        "From",
        "Durable",
        "Publisher",
        "#Messages",
        "Kept in",
        "Last",
    ];
    if dead.is_empty() {
        return empty("None, or all were redriven.");
    }
    let rows = html! {
        @for it in dead {
            @let last = it.last_sequence.to_string();
            tr {
                th scope="row" { (or_dash(Some(&it.reason))) }
                td { (channel_link(&it.origin_channel)) }
                td {
                    (or_dash(it.durable.as_deref()))
                    @if let Some(group) = &it.queue_group { "/" (shown(group)) }
                }
                td { (or_dash(Some(&it.publisher))) }
                td.n {
                    a href=(link("/messages", &[("channel", &it.channel), ("at", &last)])) { (grouped(it.messages)) }
                }
                td {
                    (channel_link(&it.channel)) " " (sql("redrive", &[("channel", &it.channel)]))
                    ul.verbs { (action(user, "dlq redrive", "Redrive…", &[("channel", &it.channel)])) }
                }
                td { (time(it.last_at.as_deref())) }
            }
        }
    };
    html! {
        p {
            "Fix the cause, then publish them again where they came from: with the button, or with the query beside the channel that "
            "keeps them."
        }
        (table("Dead letters", &COLUMNS, &rows))
    }
}
